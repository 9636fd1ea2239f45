"""The Pixel RNNs: the probabilities, the draws and the completions agree; bad input; sizes."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from pixels import OUTPUTS, VARIANTS, config, generator, noise, randomised, small_flow
from tiny import refusal, two_threads
from torch import Tensor

from nvp import PixelRNN
from nvp.autoregressive.config import Kind
from nvp.autoregressive.lstm import input_to_state, state_to_state
from nvp.autoregressive.masked_conv import MaskedConv2d, colour_groups
from nvp.autoregressive.output import Mixture, Softmax
from nvp.autoregressive.pixelcnn import PixelCNNBlock
from nvp.testing import fill_by_definition
from nvp.testing.counting import all_images, counts, p_value


def softened(model: PixelRNN, images: Tensor, temperature: float) -> Tensor:
    """log p of images whose sub-pixels are drawn with logits / temperature."""
    logs = torch.log_softmax(model.logits(images) / temperature, dim=-1)
    return logs.gather(-1, images.long().unsqueeze(-1)).flatten(1).sum(1)


@pytest.mark.parametrize("kind", Kind)
def test_a_fresh_model_takes_about_8_bits(kind: Kind) -> None:
    model = PixelRNN(config(kind, (3, 4, 4), levels=256, hidden=8, head=16)).eval()
    images = noise(50, 3, 4, 4)
    with torch.no_grad():
        bits = -model.log_prob(images).mean().item() / (48 * math.log(2))
    assert bits == pytest.approx(8, abs=0.1)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(("shape", "levels"), [((1, 2, 2), 3), ((1, 2, 3), 2), ((3, 1, 2), 2)])
def test_probabilities_of_all_images_sum_to_one(kind, shape, levels) -> None:
    model = randomised(PixelRNN(config(kind, shape, levels=levels, num_layers=2)))
    images = all_images(shape, levels)
    with torch.no_grad():
        logs = model.log_prob(images)
        assert abs(logs.exp().sum().item() - 1) < 1e-10
        assert (logs - softened(model, images, 1.0)).abs().max() < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "shape", "levels"),
    [("row_lstm", (1, 2, 2), 3), ("pixelcnn", (3, 1, 2), 2), ("diagonal_bilstm", (1, 2, 3), 2)],
)
def test_samples_are_as_frequent_as_they_are_probable(kind, shape, levels) -> None:
    model = randomised(PixelRNN(config(kind, shape, levels=levels, num_layers=2)))
    images = all_images(shape, levels)
    for temperature in (1.0, 0.8):
        drawn = model.sample(10_000, generator=generator(), temperature=temperature)
        with torch.no_grad():
            probabilities = softened(model, images, temperature).exp()
        # One right sampler in a thousand would fail by chance; the seed is fixed.
        assert p_value(counts(drawn, levels), probabilities) > 1e-3


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        *(pytest.param((3, 3, 3), each, marks=pytest.mark.slow) for each in VARIANTS),
        *(pytest.param((1, 4, 5), each, marks=pytest.mark.slow) for each in OUTPUTS),
        ((1, 5, 6), {"first_kernel": 7, "kernel_size": 5}),  # wider than what is there, in part
        ((1, 4, 1), {}),
        ((1, 1, 5), {}),
        ((1, 3, 3), {"levels": 256}),
        ((3, 1, 1), {"levels": 256}),
    ],
    ids=str,
)
def test_cached_draws_equal_those_by_definition(kind, shape, settings) -> None:
    model = randomised(PixelRNN(config(kind, shape, num_layers=2, **settings)))
    images, row = noise(2, *shape, levels=model.levels), shape[1] // 2

    def equal(drawn: Tensor, start: Tensor, row: int, seed: int) -> bool:
        how = {"generator": generator(seed), "temperature": 0.8}
        return torch.equal(drawn, fill_by_definition(model, start, row, **how))

    drawn = model.sample(3, generator=generator(1), temperature=0.8)
    assert equal(drawn, torch.zeros_like(drawn), 0, seed=1)
    completed = model.complete(images, row, 2, generator=generator(2), temperature=0.8)
    assert equal(completed.flatten(0, 1), images.repeat_interleave(2, dim=0), row, seed=2)


@pytest.mark.parametrize("kind", Kind)
def test_a_completion_of_nothing_is_the_image_which_stays_as_it_was(kind: Kind) -> None:
    model = randomised(PixelRNN(config(kind)))
    images = noise(2, 1, 3, 4, levels=2)
    before = images.clone()
    assert torch.equal(model.complete(images, 3, 2), images[:, None].expand(-1, 2, -1, -1, -1))
    model.complete(images, 0, 2)
    assert torch.equal(images, before)


def test_images_and_counts_that_do_not_fit_are_refused() -> None:
    model = PixelRNN(config("row_lstm"))
    good = torch.zeros(2, 1, 3, 4, dtype=torch.uint8)
    for call in (model.logits, lambda x: model.complete(x, 1, 1)):
        for images in (good.float(), good + 2, good[..., :2]):
            with refusal("images must"):
                call(images)
    for arguments in ((-1, 1), (4, 1), (1, 0), (1, -2), (1.5, 1), (1, 1.5)):
        with refusal():
            model.complete(good, *arguments)
    with refusal("n must be a whole number, got '3'"):
        model.sample("3")
    with refusal("generator must be a torch.Generator, got Tensor: pass"):
        model.loss(good, torch.zeros(2))


def test_drawing_takes_one_thread_and_gives_the_others_back(monkeypatch) -> None:
    """A few images are drawn on one thread, many times faster than on two that must wait."""
    model, seen, threads = PixelRNN(config("row_lstm")), set(), torch.get_num_threads
    draw = model.output.draw
    monkeypatch.setattr(model.output, "draw", lambda *a: seen.add(threads()) or draw(*a))
    with two_threads():
        model.sample(2)
        assert (seen, threads()) == ({1}, 2)
        monkeypatch.setattr(model.output, "draw", None)
        with pytest.raises(TypeError):
            model.sample(2)
        assert threads() == 2


def test_a_layer_that_sampling_does_not_know_is_refused() -> None:
    class WithElu(PixelCNNBlock):
        def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
            return torch.nn.functional.elu(super().forward(x, bias))

    model = PixelRNN(config("pixelcnn"))
    torch.nn.utils.parametrizations.weight_norm(model.first)
    model.sample(1)  # its forward is the same
    model.layers[0].core = WithElu(8, 4, 1, 3)
    with refusal("sampling does not know the layer WithElu"):
        model.sample(1)
    twice = {"parameters_of": lambda self, *given: 2 * PixelRNN.parameters_of(self, *given)}
    with refusal("sampling does not know the layer Twice"):
        type("Twice", (PixelRNN,), twice)(config("pixelcnn")).sample(1)


def test_memory_that_is_not_initialised_is_refused_where_masks_would_be() -> None:
    with torch.device("meta"):
        flow, model = small_flow(), PixelRNN(config("pixelcnn"))
    assert flow.to_empty(device="cpu").device.type == "cpu"
    with refusal("to_empty leaves first.mask random"):
        model.to_empty(device="cpu")


BINARY, COLOURED = {"levels": 2}, {"levels": 256}
MIXED = {"levels": 256, "output": "mixture", "num_components": 2, "num_scales": 2}


@pytest.mark.parametrize(
    ("kind", "plain", "output"),
    [
        *((kind, "0", output) for kind, output in product(Kind, [BINARY, COLOURED, MIXED])),
        *((kind, "1", COLOURED) for kind in (Kind.ROW_LSTM, Kind.DIAGONAL_BILSTM)),
    ],
    ids=str,
)
def test_bfloat16_is_near_float32(kind, plain, output, monkeypatch) -> None:
    """Loss, gradient and logits.

    The mixture is as narrow as training makes it where images are even: a fresh one hides faults.
    """
    monkeypatch.setenv("NVP_PLAIN", plain)
    tolerance = 0.01 if output is MIXED else 0.1  # of the gradient, over its length
    model = PixelRNN(config(kind, (1, 8, 8), num_layers=2, hidden=16, head=32, **output))
    images = noise(16, 1, 8, 8, levels=model.levels)
    if isinstance(model.output, Mixture):
        images = images % 4 + 178
        # Both means at 0.7, and scales of two levels and less.
        last = model.head.convs[-1]
        last.bias.data = torch.tensor([0.0] * 4 + [0.45, -0.05] + [-3.5] * 4)
        last.weight.data *= 0.01

    def run(in_bfloat16: bool) -> tuple[float, Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, in_bfloat16):
            loss, logs = model.loss(images, generator()), model.logits(images)
        assert logs.dtype is torch.float32
        gradients = torch.autograd.grad(loss, tuple(model.parameters()))
        return loss.item(), torch.cat([each.flatten() for each in gradients]), logs.log_softmax(-1)

    (loss, gradient, logs), (exact_loss, exact_gradient, exact_logs) = run(True), run(False)
    assert loss == pytest.approx(exact_loss, rel=1e-4)
    assert 0 < (gradient - exact_gradient).norm() < tolerance * exact_gradient.norm()
    assert (logs - exact_logs)[exact_logs > -10].abs().max() < 0.05


def test_a_mixture_with_weights_of_half_precision_is_scored() -> None:
    """Noise within a level is lost in bfloat16, and a narrow component then seems too good."""
    model = PixelRNN(config("row_lstm", levels=256, output="mixture"))
    images = torch.randint(128, 256, (4, *model.image_shape), generator=generator()).byte()
    parameters = torch.zeros(*images.shape, sum(model.output.sizes))
    parameters[..., -model.output.sizes[-1] :] = -4.0  # narrow
    both, score = (parameters.bfloat16(), parameters), model.output.log_prob
    found, exact = (score(each, images, generator()) for each in both)
    assert torch.allclose(found, exact, rtol=1e-4)
    assert model.bfloat16().log_prob(images).isfinite().all()


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: str(output["levels"]))
def test_draws_are_in_full_under_autocast(kind: Kind, output: dict[str, Any]) -> None:
    """As the scans and the mixture's head are in a forward pass."""
    model = randomised(PixelRNN(config(kind, num_layers=2, **output))).float()
    drawn = model.sample(400, generator=generator())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.sample(400, generator=generator()), drawn)


def test_what_has_no_probability_is_never_drawn(monkeypatch) -> None:
    """Nor by the largest number below 1: probabilities in float32 may sum to less."""
    logits = 3 * torch.randn(1000, 256, generator=generator())
    logits[:, 200:] = -200
    short = torch.softmax(logits, dim=-1).cumsum(dim=-1)[:, -1] < 1 - 2**-24
    assert short.any()
    largest = "nvp.autoregressive.output.uniform_noise"
    monkeypatch.setattr(largest, lambda size, *_: torch.full(size, 1 - 2**-24))
    assert (Softmax(256).draw(logits[short], None, 1.0) < 200).all()


def mixture() -> tuple[Mixture, Tensor]:
    """A mixture over 5 levels, a good part of it outside them, and its parameters, (1, size)."""
    output = Mixture(5, num_components=3, num_scales=2)
    parameters = 0.7 * torch.randn(1, output.size, generator=generator(), dtype=torch.float64)
    return output, parameters


def test_mixture_scores_a_lower_bound_on_its_mass() -> None:
    output, parameters = mixture()
    logs = output.logits(parameters)[0]
    assert 0.5 < logs.exp().sum().item() < 0.99
    levels, draws = torch.arange(5), 40_000
    scores = output.log_prob(parameters.expand(draws, 5, -1), levels.expand(draws, 5), generator())
    assert (scores.mean(0) < logs).all()
    # The mean of the density over a bin is its mass; 5 standard errors of the mean of the draws.
    ratios = (scores - logs).exp()
    assert ((ratios.mean(0) - 1).abs() < 5 * ratios.std(0) / draws**0.5).all()


def test_mixture_has_the_mass_of_its_tails() -> None:
    """In float32 as in float64, to both sides: a cumulative mass near 1 has no digits left."""
    output = Mixture(256, num_components=1, num_scales=1)
    parameters = torch.tensor([[0.0, -0.25, -2.0]])
    of_bins = [output.logits(each)[0] for each in (parameters, parameters.double())]
    assert of_bins[1][20] == pytest.approx(-18.8, abs=0.1)
    near = of_bins[1] > -80  # what float32 can hold
    assert near.sum() > 120
    torch.testing.assert_close(of_bins[0][near].double(), of_bins[1][near], rtol=1e-3, atol=1e-3)


def test_the_narrowest_mixture_scores_every_level() -> None:
    parameters = torch.tensor([[0.0, 0.0, -60.0]])
    score = Mixture(256, num_components=1, num_scales=1).log_prob
    assert score(parameters, torch.tensor([100]), generator()).isfinite().all()


def test_mixture_draws_what_lies_outside_at_the_ends() -> None:
    output, parameters = mixture()
    masses = output.logits(parameters)[0].exp()
    drawn = output.draw(parameters.expand(40_000, -1), generator(), 1.0)
    frequencies = drawn.long().bincount(minlength=5) / len(drawn)
    errors = (masses * (1 - masses) / len(drawn)).sqrt()
    assert ((frequencies - masses)[1:-1].abs() < 5 * errors[1:-1]).all()
    assert frequencies[0] > masses[0]
    assert frequencies[-1] > masses[-1]


def test_a_mixture_begins_spread_out_and_cools() -> None:
    """Each of two means has all eight scales, the most there are; a temperature multiplies them."""
    output = Mixture(256, num_components=2, num_scales=8)
    _, means, log_scales = output._parts(torch.zeros(1, output.size))
    assert means.tolist() == [[0.25] * 8 + [0.75] * 8]
    assert log_scales.tolist() == [[-1.5 - scale for scale in range(8)] * 2]
    drawn = Mixture(256, 1, 1).draw(torch.zeros(20_000, 3), generator(), 0.5).double()
    assert drawn.std().item() == pytest.approx(128 * log_scales[0, 0].exp().item(), rel=0.02)


@pytest.mark.parametrize("kind", Kind)
def test_dropout_leaves_out_whole_maps_in_training_alone(kind: Kind) -> None:
    model = randomised(PixelRNN(config(kind, (1, 6, 5), hidden=8, dropout=0.5)))
    images = noise(3, 1, 6, 5, levels=2)
    layer = model.layers[0]
    seen: list[Tensor] = []
    layer.up.register_forward_hook(lambda _module, given, _out: seen.append(given[0]))
    first, second = model.eval().log_prob(images), model.log_prob(images)
    assert torch.equal(first, second)
    model.train().log_prob(images)
    (whole, _, dropped) = seen
    left_out = (dropped == 0).all(dim=(2, 3))  # (N, h)
    assert 0 < left_out.sum() < left_out.numel()
    assert len({tuple(maps) for maps in left_out.tolist()}) == 3  # of each image anew
    torch.testing.assert_close(dropped, 2 * whole * (~left_out)[..., None, None])


def test_forget_gates_start_open() -> None:
    """Gates are in the order o, f, i, g, in each direction."""
    bias = input_to_state(6, 3, 1, 2, (1, 1)).bias.unflatten(0, (2, 4, 3))
    assert torch.equal(bias[:, 1], torch.ones(2, 3))
    assert (bias[:, [0, 2, 3]].abs() < 1).all()


def test_first_weights_are_scaled_by_the_inputs_that_are_there() -> None:
    conv = MaskedConv2d("B", colour_groups(6, 3), colour_groups(6, 3), (7, 7))
    used = conv.mask.flatten(1).sum(1).mean().item()
    assert conv.weight.abs().max().item() == pytest.approx(used**-0.5, rel=0.02)
    assert state_to_state(2, 3, 16).abs().max().item() == pytest.approx(48**-0.5, rel=0.02)


@pytest.mark.parametrize(("mask", "sides"), [("a", (3, 3)), ("B", (2, 3)), ("B", (3, 2))])
def test_a_mask_that_would_see_ahead_is_refused(mask: str, sides: tuple[int, int]) -> None:
    groups = colour_groups(3, 3)
    with refusal("a mask is 'A' or 'B' and has odd sides, got"):
        MaskedConv2d(mask, groups, groups, sides)


@pytest.mark.parametrize("kind", ["row_lstm", "diagonal_bilstm"])
@torch.no_grad()
def test_the_plain_scan_is_in_full_under_autocast(kind: str, monkeypatch) -> None:
    """Of what the layer does only the convolution before the scan is in half precision."""
    monkeypatch.setenv("NVP_PLAIN", "1")
    layer = PixelRNN(config(kind, (1, 6, 5), hidden=8)).layers[0].core
    x = torch.randn(3, 16, 6, 5, generator=generator())
    with torch.autocast("cpu", torch.bfloat16):
        half, states = layer.input_to_state(x), layer(x)
    assert half.dtype is torch.bfloat16
    assert states.dtype is torch.float32
    monkeypatch.setattr(layer.input_to_state, "forward", lambda _: half.float())
    assert torch.equal(states, layer(x))
