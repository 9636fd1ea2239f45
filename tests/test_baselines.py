"""The Gaussian, the VAE and the GAN: a proper likelihood or, for the last, one clear line."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from nvp_book.baselines import STEPS, recorded, score, table_bits
from pixels import generator, noise, perturb
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

from nvp import GAN, GANConfig
from nvp.baselines.gaussian import Gaussian, GaussianConfig
from nvp.baselines.vae import VAE, VAEConfig
from nvp.config import RunConfig
from nvp.data import EMBEDDED, load
from nvp.likelihood import reestimate_statistics
from nvp.runs.load import load_run
from nvp.runs.log import read_log
from nvp.testing.counting import all_images
from nvp.training.loop import prepare
from nvp.training.start import train

MODELS: dict[str, dict[str, Any]] = {
    "gaussian": {"family": "gaussian"},
    "vae": {"family": "vae", "latent": 3, "width": 4},
    "gan": {"family": "gan", "latent": 3, "width": 4},
}


def configuration(family: str, side: int = 8, **training: Any) -> RunConfig:
    tree = tiny.config_tree() | {"model": {**MODELS[family], "image_shape": [1, side, 8]}}
    return tiny.configured(tree, training=training)


def fit(shape: tuple[int, int, int], images: Tensor, levels: int = 256, **more: Any) -> Gaussian:
    model = Gaussian(GaussianConfig(image_shape=shape, levels=levels, **more)).double()
    model.initialise(images)
    return model


@pytest.mark.parametrize("levels", [2, 256])
def test_the_gaussian_agrees_with_pytorch(levels: int) -> None:
    model = fit((2, 2, 2), noise(100, 2, 2, 2, levels=levels), levels, alpha=0.1)
    perturb(model)
    images = noise(6, 2, 2, 2, levels=levels, seed=2)
    u = torch.rand(images.shape, generator=generator(3), dtype=torch.float64)
    v = ((images + u) / levels).flatten(1).requires_grad_()
    y = torch.logit(0.1 + 0.8 * v)
    (slopes,) = torch.autograd.grad(y.sum(), v)
    factor = model.log_diagonal.exp().diag()
    factor[*torch.tril_indices(8, 8, -1)] = model.below
    density = MultivariateNormal(model.mean, scale_tril=factor).log_prob(y)
    expected = density + slopes.log().sum(1) - 8 * math.log(levels)
    assert torch.allclose(model.log_prob(images, generator=generator(3)), expected)


def test_the_gaussian_is_fitted_to_images_and_noise_alike() -> None:
    """The closed form has the moments of many draws, and the gradient vanishes there."""
    images = noise(40, 1, 2, 2, levels=4)
    model = fit((1, 2, 2), images, levels=4)
    many = images.repeat(5000, 1, 1, 1)
    y = torch.logit(0.05 + 0.9 * (many + torch.rand(many.shape, generator=generator())) / 4)
    y = y.flatten(1).double()
    factor = model._factor()
    assert torch.allclose(model.mean, y.mean(0), atol=5e-3)
    assert torch.allclose(factor @ factor.T, y.T.cov(correction=0), atol=0.01)
    model.loss(many, generator(1)).backward()
    assert max(p.grad.abs().max() for p in model.parameters()) < 0.05


def test_one_image_is_enough_for_a_gaussian() -> None:
    model = fit((1, 2, 2), torch.tensor([0, 100, 200, 255], dtype=torch.uint8).view(1, 1, 2, 2))
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert (model.below.abs() < 1e-12).all()


def test_gaussian_latents_are_white_and_invert() -> None:
    images = noise(30000, 1, 2, 2, levels=60)
    images[:, :, 1] = images[:, :, 0]
    model = fit((1, 2, 2), images, alpha=0.1)
    z = model.encode(images, generator=generator())
    assert z.shape == images.shape
    assert z.mean(0).abs().max() < 0.05
    assert torch.allclose(z.flatten(1).T.cov(), torch.eye(4, dtype=z.dtype), atol=0.05)
    assert torch.equal(model.decode(z), images)
    with torch.autocast("cpu", torch.bfloat16):  # a caller's
        assert (model.float().decode(z) == images).double().mean() > 0.999


def small_vae(levels: int) -> VAE:
    """Of 4x4 images: its pixels depend on its one z, and q(z | x) is wider than the prior."""
    model = VAE(VAEConfig(image_shape=(1, 4, 4), levels=levels, latent=1, width=2)).double()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(2)
        model.encoder[-1].bias[1:] = 0.7
    return model


@pytest.mark.parametrize("levels", [2, 3, 256])
def test_a_pixel_of_the_vae_is_a_distribution(levels: int) -> None:
    """Sums to 1 over the levels in every tail, and no level's logarithm or gradient is infinite."""
    model = small_vae(levels)
    perturb(model, 3.0)
    images = torch.arange(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4)
    for size in (0.1, 1.0, 100.0):
        z = torch.full((levels, 1), size, dtype=torch.float64)
        mu, log_scale = (t[:1, 0, 0, 0] for t in model.pixels(z))
        assert torch.isfinite(model.log_likelihood(images, z)).all()
        x = torch.arange(levels, dtype=torch.float64)
        upper = torch.sigmoid((x[:-1] + 0.5 - mu) / log_scale.exp())
        p = torch.cat([upper.new_zeros(1), upper, upper.new_ones(1)]).diff()
        alone = images[:1].repeat(levels, 1, 1, 1)
        alone[:, 0, 0, 0] = torch.arange(levels)  # the other pixels keep one level
        relative = model.log_likelihood(alone, z)
        assert torch.allclose(relative.softmax(0), p, atol=1e-9)
    model.log_likelihood(images, z).sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_bound_of_the_vae_lies_below_the_integral_over_its_latent() -> None:
    """With one latent a grid gives log P(x): above the ELBO, and the limit of many draws."""
    model = small_vae(4)
    images = noise(4, 1, 4, 4, levels=4)
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)
    prior = Normal(0.0, 1.0).log_prob(grid) + math.log(16 / 800)
    pairs = images.repeat_interleave(801, dim=0), grid.repeat(4)[:, None]
    exact = (model.log_likelihood(*pairs).unflatten(0, (4, 801)) + prior).logsumexp(1)
    with torch.no_grad():
        draws = torch.stack([model.log_prob(images, generator=generator(i)) for i in range(100)])
        many = model.log_prob(images, num_draws=1000, generator=generator())
    assert (draws.mean(0) < exact).all()
    assert torch.allclose(many, exact, atol=0.05)


@torch.no_grad()
def test_vae_samples_follow_its_pixels() -> None:
    model = small_vae(8)
    z = torch.zeros(4000, 1)
    drawn = model.decode(z, generator=generator(), temperature=1.0)
    levels = torch.arange(8, dtype=torch.uint8)
    frequencies = torch.stack([(drawn[:, 0, 0, 0] == level).double().mean() for level in levels])
    images = drawn[:1].expand(8, 1, 4, 4).clone()
    images[:, 0, 0, 0] = levels
    p = model.log_likelihood(images, z[:8].double()).softmax(0)
    assert torch.allclose(frequencies, p, atol=0.03)
    mu, log_scale = model.pixels(z.double())
    u = torch.rand(mu.shape, generator=generator(), dtype=mu.dtype)
    cool = (mu + 0.5 * log_scale.exp() * torch.logit(u)).round().clamp(0, 7).byte()
    assert torch.equal(model.decode(z, generator=generator(), temperature=0.5), cool)
    still = model.decode(z, generator=generator(), temperature=1e-6)
    assert torch.equal(still, model.pixels(z.double())[0].round().byte())
    assert torch.equal(model.decode(z[:1]), still[:1])
    assert model.encode(drawn[:3]).shape == (3, 1)


def test_autocast_leaves_levels_and_losses_in_float32() -> None:
    """In bfloat16 the levels of a VAE from 128 on would be whole numbers."""
    vae, gan = (configuration(family).build_model() for family in ("vae", "gan"))
    images = noise(4, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        parts = [*vae.posterior(images), *vae.pixels(torch.zeros(4, 3)), gan.loss(images)]
    assert {part.dtype for part in parts} == {torch.float32}


def test_vae_samples_have_latents_of_the_prior() -> None:
    model, draw = small_vae(8), generator()
    z = 0.5 * torch.randn(9, 1, generator=draw)
    expected = model.decode(z, generator=draw, temperature=0.5)
    assert torch.equal(model.sample(9, generator=generator(), temperature=0.5), expected)


def test_each_player_of_the_gan_has_its_own_gradient() -> None:
    model = configuration("gan").build_model()
    images = noise(8, 1, 8, 8)
    z = torch.randn(8, 3, generator=generator())
    loss = model.loss(images, generator())
    loss.backward()
    real, drawn = 2 * images.float() / 255 - 1, model.G(z)
    probability, of_drawn = torch.sigmoid(model.D(real)), torch.sigmoid(model.D(drawn))
    of_d = -(probability.log() + (1 - of_drawn).log()).mean()
    of_g = -of_drawn.log().mean()
    assert loss.item() == pytest.approx((of_d + of_g).item(), rel=1e-5)
    for player, own in ((model.D, of_d), (model.G, of_g)):
        weights = list(player.parameters())
        gradients = torch.autograd.grad(own, weights, retain_graph=True)
        torch.testing.assert_close([w.grad for w in weights], gradients, rtol=1e-5, atol=1e-5)


def test_the_ends_of_tanh_are_black_and_white() -> None:
    model = GAN(GANConfig(image_shape=(1, 8, 8), width=2))
    last = model.G[-2]
    nn.init.zeros_(last.weight)
    for bias, level in ((-20.0, 0), (20.0, 255)):
        nn.init.constant_(last.bias, bias)
        assert (model.decode(torch.zeros(1, 64)) == level).all()


def test_a_gan_trains_without_a_score(gan: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(gan / "run", tmp_path / "run"))
    changes = ("--set", "training.steps=3", "--set", "training.log_every=5")
    output = tiny.done("train", "--resume", run, "--data-root", gan / "data", *changes)
    assert f"no likelihood; next: nvp sample {run} --out samples.png --data-root {gan}" in output
    rows = read_log(run / "log.csv")
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert {"loss", "gradient_norm"} <= row.keys()
        assert not {"bits_per_dim", "validation"} & row.keys()


def test_a_gan_is_sampled_and_recorded_not_scored(gan: Path, tmp_path: Path, monkeypatch) -> None:
    root, run = gan / "data", gan / "run"
    line = tiny.fails("evaluate", run, "--data-root", root)
    assert line.startswith("nvp: a GAN has no likelihood, so it cannot be scored: look at what it")
    monkeypatch.setattr("nvp.ledger.enter.results_root", lambda: tmp_path)
    recorded = tiny.done("record", run, "--data-root", root)
    assert "a-gan: no likelihood, finished" in recorded
    tiny.done("sample", run, "--out", tmp_path / "sheet.png", "-n", 4, "--data-root", root)


def test_batch_norms_of_a_gan_are_estimated() -> None:
    model = GAN(GANConfig(image_shape=(1, 8, 8), width=2))
    norm = nn.BatchNorm2d(1)
    model.D = nn.Sequential(norm, model.D)
    reestimate_statistics(model, noise(8, 1, 8, 8))
    assert norm.running_var.item() != 1


@pytest.mark.parametrize("family", MODELS)
def test_shapes_that_do_not_fit_are_refused(family: str) -> None:
    model = configuration(family).build_model()
    with tiny.refusal(r"z must be \(N, .*\), got \(4, 1, 2, 32\)"):
        model.decode(torch.randn(4, 1, 2, 32))
    with tiny.refusal(r"z must be a torch.Tensor, got ndarray"):
        model.decode(torch.zeros(4, 8).numpy())
    if family != "gaussian":
        with tiny.refusal("6x8 must be divisible by 4"):
            configuration(family, side=6)


def test_the_first_step_of_a_gaussian_starts_at_its_fit(root: Path, tmp_path: Path) -> None:
    config = configuration("gaussian", steps=1, learning_rate=1e-12)
    prepare(config, tmp_path, data_root=root).run()
    model = load_run(tmp_path, data_root=root).model
    expected = Gaussian(GaussianConfig(image_shape=(1, 8, 8)))
    expected.initialise(load("tiny", "train", root=root).images[:54])
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=1e-5, atol=1e-6)


def test_a_model_without_likelihood_cannot_stop_early(root: Path, tmp_path: Path) -> None:
    config = configuration("gan", early_stopping=True)
    with tiny.refusal("early_stopping must be off: tiny has no likelihood"):
        train(config, tmp_path / "run", root)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_probabilities_under_a_table_of_counts_sum_to_one(steps: int) -> None:
    train = torch.randint(256, (20, 1, 1, 2), dtype=torch.uint8)
    bits = table_bits(train, all_images((1, 1, 2), 256), steps)
    assert torch.isclose((-2 * bits).exp2().sum(), torch.ones((), dtype=torch.float64))


def test_the_recorded_scores_come_back() -> None:
    here = score(load(EMBEDDED, "train").images, load(EMBEDDED, "test").images)
    for name, kept in recorded()[EMBEDDED].items():
        assert here[name].bits_per_dim == pytest.approx(kept.bits_per_dim, abs=1e-5)
        assert here[name].standard_error == pytest.approx(kept.standard_error, abs=1e-5)
        assert here[name].num_images == kept.num_images
