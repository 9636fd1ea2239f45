"""Roles of parameters, the steps that each takes, and the average of the weights."""

from typing import Any

import pytest
import tiny
import torch
from tiny import batch, configuration, fresh_state, images_of, pixelrnn_configuration, refusal
from torch import Tensor

from nvp import RealNVP, RealNVPConfig
from nvp.autoregressive.config import Kind
from nvp.config import TrainingConfig
from nvp.flows.resnet import WeightNormConv2d
from nvp.model.roles import Role, parameter_roles
from nvp.training.loop import training_step
from nvp.training.optimiser import (
    Muon,
    exponential_average,
    make_optimiser,
    orthogonal,
    orthogonal_each,
)


def test_roles_of_a_real_nvp() -> None:
    model = RealNVP(RealNVPConfig.paper((1, 8, 8), num_blocks=1, width=4))
    roles = parameter_roles(model)
    expected = {"v": Role.DIRECTION, "g": Role.GAIN, "scale": Role.TANH_SCALE}
    for name, parameter in model.named_parameters():
        assert roles[parameter] is expected.get(name.rpartition(".")[2], Role.BIAS), name
    plain = RealNVP(model.config.model_copy(update={"weight_norm": False}))
    assert set(parameter_roles(plain).values()) == {Role.KERNEL, Role.TANH_SCALE, Role.BIAS}


def test_tanh_scales_have_a_rate_of_their_own() -> None:
    state = fresh_state(tanh_scale_rate=20.0)
    training_step(state, batch(), configuration(tanh_scale_rate=20.0).training, 0.0)
    others, scales = state.optimiser.param_groups
    assert (others["lr"], scales["lr"]) == (1e-3, 2e-2)
    assert len(scales["params"]) == 10
    assert all(scale.numel() == 1 for scale in scales["params"])


@pytest.mark.parametrize(
    ("name", "kind", "constants"),
    [
        ("adam", torch.optim.Adam, {"betas": (0.5, 0.9)}),
        ("adamax", torch.optim.Adamax, {"betas": (0.5, 0.9)}),
        ("muon", Muon, {"betas": (0.5, 0.9)}),
        ("rmsprop", torch.optim.RMSprop, {"alpha": 0.9}),
    ],
)
def test_an_optimiser_takes_its_constants_from_the_configuration(name, kind, constants) -> None:
    optimiser = fresh_state(optimiser=name, epsilon=1e-5, **constants).optimiser
    assert type(optimiser) is kind
    for group in optimiser.param_groups:
        assert group.items() >= {**constants, "eps": 1e-5}.items()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (1, 8), (3, 6, 40), (2, 40, 6)])
def test_orthogonal_keeps_the_directions_and_levels_their_sizes(shape, half) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        turned = orthogonal(matrix)
    sizes = u.mT @ turned @ v.mT
    levelled = sizes.diagonal(dim1=-2, dim2=-1)
    assert levelled.min() > 0.6
    assert levelled.max() < 1.3
    assert (sizes - levelled.diag_embed()).abs().max() < (0.05 if half else 1e-4)
    assert torch.equal(orthogonal(torch.zeros(shape)), torch.zeros(shape))


def one_step(kind: Kind, **changes: Any) -> tuple[dict[str, Tensor], ...]:
    """The parameters of a tiny Pixel RNN before and after one step; `changes` are of training."""
    training = {"optimiser": "muon", **changes}
    config = tiny.configured(tiny.pixelrnn_tree(), model={"kind": kind}, training=training)
    state = fresh_state(config)
    before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    training_step(state, images_of(state.model), config.training, 0.0)
    return before, {name: p.detach() for name, p in state.model.named_parameters()}


def test_matrices_of_one_shape_are_made_orthogonal_together_and_keep_their_places() -> None:
    matrices = [torch.randn(shape) for shape in [(4, 9), (3, 2), (4, 9), (2, 4, 9), (3, 2)]]
    for step, matrix in zip(orthogonal_each(matrices), matrices, strict=True):
        assert torch.allclose(step, orthogonal(matrix), atol=1e-4)


@pytest.mark.parametrize("kind", Kind)
def test_muon_turns_and_shrinks_kernels_and_moves_the_rest_as_adam_does(kind: Kind) -> None:
    before, by_muon = one_step(kind)
    _, by_adam = one_step(kind, optimiser="adam")
    _, decayed = one_step(kind, weight_decay=0.1)
    for name, parameter in by_muon.items():
        if name.endswith(("bias", "initial")):
            assert torch.equal(parameter, by_adam[name])
            assert torch.equal(parameter, decayed[name])
            continue
        shrunk = -0.1 * TrainingConfig(steps=1).learning_rate * before[name]
        torch.testing.assert_close(decayed[name] - parameter, shrunk, atol=1e-7, rtol=1e-2)
        moved = parameter - before[name]
        if name.endswith("state_to_state"):  # (directions, taps, h, 4h)
            matrices = [direction.flatten(0, 1).T for direction in moved]
            assert len(matrices) == {"row_lstm": 1, "diagonal_bilstm": 2}[kind]
        else:
            matrices = [moved.flatten(1)]
        for matrix in matrices:
            rows, columns = matrix.shape
            sizes = torch.linalg.svdvals(matrix) / max(1, rows / columns) ** 0.5
            assert 0.6e-3 < sizes.max() < 1.3e-3
            # Of a convolution many may be 0: a map that ReLU closes has no gradient.
            assert sizes.median() > 0.5e-3 or not name.endswith("state_to_state")


def test_muon_passes_over_what_has_no_gradient() -> None:
    state = fresh_state(pixelrnn_configuration(optimiser="muon"))
    frozen = state.model.get_parameter("first.weight").requires_grad_(False)
    before = frozen.clone()
    training_step(state, images_of(state.model), pixelrnn_configuration().training, 0.0)
    assert torch.equal(frozen, before)


@pytest.mark.parametrize(("rate", "relative_step"), [(1e-3, 0.02), (1e-2, 0.02), (1e-3, 0.1)])
def test_muon_turns_a_direction_by_its_relative_step(rate: float, relative_step: float) -> None:
    """||step|| / ||v|| is `relative_step`, whatever the rate, as far as `orthogonal` is exact."""
    conv = WeightNormConv2d(8, 6, 3, magnitude=True, bias=True)
    settings = {"optimiser": "muon", "learning_rate": rate, "relative_step": relative_step}
    optimiser = make_optimiser(conv, TrainingConfig(steps=1, **settings))
    for group in optimiser.param_groups:
        group["lr"] = group["factor"] * rate
    for parameter in conv.parameters():
        parameter.grad = torch.randn_like(parameter)
    v, gradient, g = conv.v.detach().clone(), conv.v.grad.clone(), conv.g.detach().clone()
    optimiser.step()
    assert 0.65 < (conv.v - v).norm() / v.norm() / relative_step < 1.2
    turned = orthogonal(gradient.flatten(1)).reshape(v.shape) / 6**0.5
    moved = v - relative_step * v.norm() * turned
    assert torch.allclose(conv.v, moved * (v.norm() / moved.norm()), atol=1e-6)
    assert torch.allclose((conv.g - g).abs(), torch.tensor(rate), rtol=1e-3)  # Adam's first step


def test_the_length_of_a_direction_has_no_effect() -> None:
    outputs = []
    for length in (1.0, 1e4):
        torch.manual_seed(0)
        conv = WeightNormConv2d(8, 6, 3, magnitude=True, bias=True)
        conv.v.data.mul_(length)
        optimiser = make_optimiser(conv, TrainingConfig(steps=1, optimiser="muon"))
        x = torch.randn(4, 8, 5, 5)
        for _ in range(5):
            optimiser.zero_grad()
            conv(x).square().mean().backward()
            optimiser.step()
        outputs.append(conv(x))
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("configure", "optimiser", "setting", "complaint"),
    [
        (configuration, "adam", {"weight_decay": 0.1}, "weight_decay is for .*optimiser: muon"),
        (configuration, "muon", {"alpha": 0.9}, "alpha is for .*optimiser: rmsprop"),
        (configuration, "rmsprop", {"betas": (0.5, 0.9)}, "betas is .*: adam or adamax or muon"),
        (pixelrnn_configuration, "muon", {"tanh_scale_rate": 9}, r"PixelRNN has .* \(tanh scale\)"),
        (pixelrnn_configuration, "muon", {"relative_step": 0.1}, r"has no .* \(direction\): rem"),
        (configuration, "muon", {"weight_decay": 0.1}, r"has no .* \(kernel or recurrent\): rem"),
    ],
)
def test_a_setting_that_nothing_uses_is_refused(configure, optimiser, setting, complaint) -> None:
    with refusal(complaint):
        fresh_state(configure(optimiser=optimiser, **setting))


def test_the_average_forgets_its_start() -> None:
    """It keeps 2/11 of itself at the first step, 3/12 at the second, and in the end the decay."""
    update = exponential_average(0.9)
    kept = []
    for n in (1, 2, 79, 80, 1000):
        average = torch.ones(())
        update([average], [torch.zeros(())], torch.tensor(n))
        kept.append(average.item())
    assert kept == pytest.approx([2 / 11, 3 / 12, 80 / 89, 0.9, 0.9])
