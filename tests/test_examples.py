"""The models of one's own in examples/: what the package demands of its own models."""

import math
from typing import Any

import pytest
import tiny
import torch
from pixels import generator, noise, perturb
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Normal
from torch.func import jacrev

from examples.gated_pixelcnn import GatedPixelCNN, GatedPixelCNNConfig
from examples.learned_noise import LearnedNoiseConfig
from examples.mixed_realnvp import InvertibleConv, MixedRealNVP, MixedRealNVPConfig
from examples.tarflow import Block, TarFlow, TarFlowConfig
from examples.unfactored_realnvp import UnfactoredRealNVP, UnfactoredRealNVPConfig
from nvp import RealNVP
from nvp.config import parse_config
from nvp.ledger import runs
from nvp.model.dequantisation import dequantise, quantise, uniform_noise
from nvp.model.roles import Role, parameter_roles
from nvp.testing import check_bijection, check_model

SHAPE = (2, 4, 6)  # six patches of eight numbers
SIZES: dict[str, Any] = {"patch": 2, "width": 8, "heads": 2, "layers": 2, "blocks": 3}
GATED: dict[str, Any] = {"width": 6, "layers": 2, "reach": 1}
MIXED: dict[str, Any] = {"preset": "paper", "num_blocks": 0, "width": 4}
UNFACTORED = "examples.unfactored_realnvp:UnfactoredRealNVPConfig"
MODELS = {
    "tarflow": {"family": "examples.tarflow:TarFlowConfig", **SIZES},
    "gated-pixelcnn": {"family": "examples.gated_pixelcnn:GatedPixelCNNConfig", **GATED},
    "mixed-realnvp": {"family": "examples.mixed_realnvp:MixedRealNVPConfig", **MIXED},
    "unfactored-realnvp": {"family": UNFACTORED, **MIXED},
    "learned-noise": {"family": "examples.learned_noise:LearnedNoiseConfig", **MIXED},
}


@pytest.fixture
def tarflow() -> TarFlow:
    """In float64, with random weights and statistics: nothing is the identity."""
    model = TarFlow(TarFlowConfig(image_shape=SHAPE, levels=16, **SIZES)).double()
    model.initialise(noise(20, *SHAPE, levels=16, seed=5))
    perturb(model, 0.1)
    return model


@pytest.mark.parametrize(
    ("name", "levels", "shape"),
    [
        *((name, 256, [1, 4, 6]) for name in MODELS),
        ("tarflow", 4, [1, 4, 6]),
        ("gated-pixelcnn", 3, [1, 2, 2]),  # of which all images can be counted
    ],
)
def test_a_model_keeps_the_protocol(name: str, levels: int, shape: list[int]) -> None:
    model = {**MODELS[name], "image_shape": shape, "levels": levels}
    model = parse_config({**tiny.config_tree(), "model": model}, "test").build_model()
    check_model(model, noise(6, *shape, levels=levels))
    still = model.sample(3, generator=generator(), temperature=0.0)
    assert (still == still[:1]).all()


def test_the_flow_is_a_bijection(tarflow: TarFlow) -> None:
    """Its inverse goes patch by patch with kept keys and values, the flow all at once."""
    check_bijection(tarflow.flow, torch.randn(3, 6, 8, dtype=torch.float64))


@pytest.mark.parametrize("backwards", [False, True])
def test_a_patch_depends_on_those_before_it_alone(backwards: bool) -> None:
    block = Block(TarFlowConfig(image_shape=SHAPE, **SIZES), backwards=backwards).double()
    perturb(block, 0.1)
    jacobian = jacrev(lambda x: block(x[None])[0][0])(torch.randn(6, 8, dtype=torch.float64))
    seen = jacobian.abs().amax(dim=(1, 3))  # of patch i by patch j
    triangle = torch.ones(6, 6).triu() if backwards else torch.ones(6, 6).tril()
    assert torch.equal(seen > 0, triangle.bool())
    within = torch.stack([jacobian[i, :, i] for i in range(6)])  # a scale for each number
    assert torch.equal(within != 0, torch.eye(8).bool().expand(6, 8, 8))


def test_a_block_keeps_its_sums_in_full_under_autocast() -> None:
    """Its network may multiply in bfloat16; log|det| is still that of the map it applied."""
    block = Block(TarFlowConfig(image_shape=SHAPE, **SIZES), backwards=False)
    perturb(block, 0.1)
    x = torch.randn(1, 6, 8)
    with torch.autocast("cpu", torch.bfloat16):
        log_det = block(x)[1]
        scales = jacrev(lambda x: block(x)[0])(x).reshape(48, 48).diagonal()
    assert torch.allclose(scales.log().sum(), log_det, atol=1e-4)


def test_the_bound_counts_every_constant(tarflow: TarFlow) -> None:
    """log N(z) and the whole Jacobian from the noisy image to z, less D log 16."""
    image = noise(1, *SHAPE, levels=16, seed=3)
    x = dequantise(image, uniform_noise(image.shape, generator(), torch.float64), 16)

    def to_z(x: Tensor) -> Tensor:
        return tarflow.flow(tarflow.to_patches(torch.logit(0.05 + 0.9 * x)))[0]

    log_det = jacrev(to_z)(x).reshape(48, 48).slogdet().logabsdet
    expected = Normal(0.0, 1.0).log_prob(to_z(x)).sum() + log_det - 48 * math.log(16)
    assert torch.allclose(tarflow.log_prob(image, generator=generator()), expected[None], atol=1e-9)


def test_samples_are_the_inverse_of_noise(tarflow: TarFlow) -> None:
    patches, _ = tarflow.flow.inverse(0.7 * torch.randn(4, 6, 8, generator=generator()).double())
    x = (torch.sigmoid(tarflow.to_image(patches)) - 0.05) / 0.9
    assert torch.equal(tarflow.sample(4, generator=generator(), temperature=0.7), quantise(x, 16))
    y = torch.randn(2, *SHAPE, dtype=torch.float64)
    assert torch.allclose(tarflow.to_image(tarflow.to_patches(y)), y)


def test_training_starts_at_the_identity_on_white_logits() -> None:
    model = TarFlow(TarFlowConfig(image_shape=(1, 4, 4), **SIZES))
    images = noise(500, 1, 4, 4)
    images[:, :, 0] = 0
    model.initialise(images)
    y = torch.logit(0.05 + 0.9 * dequantise(images, torch.rand(images.shape)))
    patches = model.to_patches(y)
    z, log_det = model.flow(patches)
    assert torch.equal(z, patches)
    assert not log_det.any()
    white, black = z[:, 2:].flatten(), z[:, :2, :2]  # below, and in the row that is always black
    assert abs(white.mean()) < 0.1
    assert abs(white.std() - 1) < 0.1
    assert black.std() < 0.1


@pytest.mark.parametrize("start", ["swap", "rotation"])
def test_learned_mixing_starts_as_real_nvp_or_as_rotations(start: str) -> None:
    sizes = {**MIXED, "image_shape": [3, 8, 8], "num_scales": 3, "start": start}
    models, scores = [], []
    for kind in (MixedRealNVP, RealNVP):
        torch.manual_seed(0)
        models.append(kind(MixedRealNVPConfig.model_validate(sizes)).eval())
        scores.append(models[-1].log_prob(noise(4, 3, 8, 8), generator=generator()))
    assert torch.equal(*scores) == (start == "swap")
    assert start == "swap" or (scores[0] - scores[1]).abs().min() > 1
    for module in models[0].modules():
        if isinstance(module, InvertibleConv):
            W = module.weight()
            assert torch.allclose(W @ W.T, torch.eye(len(W)), atol=1e-5)


def test_learned_mixing_is_a_bijection_that_autocast_leaves_alone() -> None:
    conv, x = InvertibleConv(torch.randn(4, 4)), torch.randn(2, 4, 3, 3)
    check_bijection(conv, x[:1])
    assert [*parameter_roles(conv).values()] == [Role.BIAS]  # of Muon's no kernel
    with torch.autocast("cpu", torch.bfloat16):
        z, _ = conv(x)
        back, _ = conv.inverse(z)
    assert torch.equal(z, conv(x)[0])
    assert torch.allclose(back, x, atol=1e-5)


def test_the_density_of_learned_noise_is_counted() -> None:
    """log|dx/dx~| - log q(u | v), q being the density of u as a function of uniform noise e."""
    model = LearnedNoiseConfig.model_validate({**MIXED, "image_shape": [1, 4, 4]}).build().double()
    perturb(model, 0.05)
    image = noise(1, 1, 4, 4)
    e = uniform_noise(image.shape, generator(), torch.float64)

    def to_u(e: Tensor) -> Tensor:
        wide = torch.logit(e)
        return torch.sigmoid(model.noise(wide, model.features(image.double() / 127.5 - 1))[0])

    log_q = -jacrev(to_u)(e).reshape(16, 16).slogdet().logabsdet
    expected, change = model.logit(dequantise(image, to_u(e)))
    x, log_det = model._logits(image, generator())
    assert torch.allclose(x, expected)
    assert torch.allclose(log_det, change - log_q)
    assert log_q.abs() > 0.1


def test_learned_noise_starts_as_the_recorded_run() -> None:
    recorded = runs()["mnist-small-margin"]
    sizes = {**recorded.config.model.model_dump(exclude={"family"}), "start": recorded.name}
    model = LearnedNoiseConfig.model_validate(sizes).build()
    images = noise(4, 1, 28, 28)
    model.initialise(images)
    models = (model, recorded.load_model())
    scores = [each.eval().log_prob(images, generator=generator()) for each in models]
    assert torch.allclose(*scores, rtol=1e-4)


@pytest.mark.parametrize(("networks", "width"), [("same", 16), ("proportion", 64)])
def test_nothing_leaves_a_flow_without_factoring_out(networks: str, width: int) -> None:
    """Its last scale has all numbers, as channels; its first is that of Real NVP."""
    sizes = {**MIXED, "image_shape": [3, 8, 8], "num_scales": 3, "networks": networks}
    models = []
    for kind in (UnfactoredRealNVP, RealNVP):
        torch.manual_seed(0)
        models.append(kind(UnfactoredRealNVPConfig.model_validate(sizes)).double().eval())
    ours, theirs = models
    first = zip(ours.flow.scales[0].parameters(), theirs.flow.scales[0].parameters(), strict=True)
    assert all(torch.equal(mine, other) for mine, other in first)
    net = ours.flow.scales[-1].checkerboard.bijections[0].net
    assert net.conv_in.v.shape[:2] == (width, 2 * 48 + 1)
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    check_bijection(ours.flow, x)
    (z,) = ours.latents_by_scale(ours.flow(x)[0])
    assert z.shape == (1, 48, 2, 2)


def test_the_gated_pixelcnn_draws_by_its_logits() -> None:
    """Those of the whole images, which see what each row and pixel was drawn from."""
    model = GatedPixelCNN(GatedPixelCNNConfig(image_shape=(1, 5, 6), **GATED)).double()
    perturb(model, 0.5)
    drawn = model.sample(4, generator=generator())
    again = generator()
    logits = model.logits(drawn).flatten(1, 3)
    for pixel, place in zip(drawn.flatten(1).unbind(1), logits.unbind(1), strict=True):
        u = uniform_noise(place.shape, again, place.dtype)
        assert torch.equal((place - (-u.log()).log()).argmax(1), pixel)
    # A sum over pixels in half precision would be a multiple of some nats.
    assert model.bfloat16().log_prob(drawn).dtype is torch.float32
    model.head[-1].bias.data.fill_(math.nan)
    with tiny.refusal("a logit is nan: look for weights"):
        model.sample(1)


def test_autocast_does_not_move_the_levels_of_the_gated_pixelcnn() -> None:
    model, seen = GatedPixelCNN(GatedPixelCNNConfig(image_shape=(1, 5, 6), **GATED)), []
    for conv in (model.into_v, model.into_h):
        conv.register_forward_hook(lambda *given: seen.append(given[-1]))
    for half in (True, False):
        with torch.autocast("cpu", torch.bfloat16, half):
            model.loss(noise(4, 1, 5, 6))
    assert all(map(torch.equal, seen[:2], seen[2:]))


def test_a_pixel_of_the_gated_pixelcnn_sees_all_before_it_and_nothing_else() -> None:
    """No blind spot, where the layers reach: the gradient finds every earlier pixel."""
    sizes = {**GATED, "layers": 5}
    model = GatedPixelCNN(GatedPixelCNNConfig(image_shape=(1, 5, 5), **sizes)).double()
    images = noise(1, 1, 5, 5)

    def logits(x: Tensor) -> Tensor:
        return model.logits(x)[0, 0].sum(-1)

    seen = jacrev(logits)(images.double()).reshape(25, 25) != 0
    assert torch.equal(seen, torch.ones(25, 25).tril(-1).bool())


@pytest.mark.parametrize(
    ("kind", "changes", "complaint"),
    [
        (TarFlowConfig, {"patch": 3}, "sides of 4x6 must be divisible by patch"),
        (TarFlowConfig, {"heads": 3}, "width 8 must be divisible by heads"),
        (TarFlowConfig, {"num_classes": 10}, "num_classes"),
        (GatedPixelCNNConfig, {}, "images must have one channel, not 2"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(kind, changes, complaint) -> None:
    sizes = SIZES if kind is TarFlowConfig else GATED
    with pytest.raises(ValidationError, match=complaint):
        kind(image_shape=SHAPE, **{**sizes, **changes})
