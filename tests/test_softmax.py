"""The compiled softmax of a level against the formula in float64."""

import pytest
import torch
from torch import Tensor

from nvp import PixelRNN, PixelRNNConfig
from nvp.autoregressive import softmax as operator
from nvp.autoregressive.output import Softmax
from nvp.autoregressive.softmax import log_softmax_at
from nvp.model import native

ROUNDING = 2**-8  # of bfloat16, relative


@pytest.fixture(autouse=True)
def built(compiler: None) -> None:
    """A machine with a compiler must be able to build the operator."""
    assert operator.compiled(torch.zeros(1, 1, 1, 1, 32, dtype=torch.bfloat16))


def inputs(levels: int, shape: tuple[int, ...] = (3, 3, 5, 4)) -> tuple[Tensor, Tensor, Tensor]:
    """Logits with channels last, as a network leaves them, a level of each, and a gradient."""
    draw = torch.Generator().manual_seed(levels)
    n, colours, height, width = shape
    logits = 4 * torch.randn(n, height, width, colours, levels, generator=draw) + 50
    images = torch.randint(levels, shape, generator=draw).to(torch.uint8)
    logits = logits.bfloat16().permute(0, 3, 1, 2, 4)
    return logits.requires_grad_(), images, torch.randn(shape, generator=draw)


@pytest.mark.parametrize("levels", [32, 64, 256])
def test_equals_the_formula(levels: int) -> None:
    logits, images, grad = inputs(levels)
    exact_logits = logits.detach().double().requires_grad_()
    exact = exact_logits.log_softmax(-1).gather(-1, images.long().unsqueeze(-1)).squeeze(-1)
    found = log_softmax_at(logits, images)
    assert found.dtype is torch.float32
    assert (found - exact).abs().max() < 1e-5
    (slope,) = torch.autograd.grad(found, logits, grad)
    (wanted,) = torch.autograd.grad(exact, exact_logits, grad.double())
    assert slope.stride() == logits.stride()
    assert ((slope - wanted).abs() <= ROUNDING * wanted.abs() + 1e-6).all()


def test_other_shapes_are_left_to_pytorch() -> None:
    """`Output.log_prob` promises any shape, the operator takes that of images."""
    logits, images, _ = inputs(32)
    whole = Softmax(32).log_prob(logits, images, None)
    few = Softmax(32).log_prob(logits[0, 0, 0], images[0, 0, 0], None)
    assert few.shape == (4,)
    assert (few - whole[0, 0, 0]).abs().max() < 1e-5


def test_far_logits_stay_finite() -> None:
    """At a level that is nearly certain, and at one that is nearly impossible."""
    logits = torch.zeros(2, 1, 1, 1, 32, dtype=torch.bfloat16)
    logits[:, ..., 7] = 3e4
    images = torch.tensor([7, 6], dtype=torch.uint8).view(2, 1, 1, 1)
    assert log_softmax_at(logits, images).flatten().tolist() == [0.0, pytest.approx(-3e4, rel=1e-2)]


def test_a_level_that_is_none_is_refused() -> None:
    logits, images, _ = inputs(32)
    with pytest.raises(IndexError, match="level 32 of 32 levels"):
        log_softmax_at(logits, images * 0 + 32)
    with pytest.raises(RuntimeError, match="60 levels for 180 sub-pixels"):
        log_softmax_at(logits, images[:1])


def test_in_the_network_it_is_the_softmax(monkeypatch) -> None:
    """Under autocast alone; float32, other numbers of levels and NVP_PLAIN=1 are plain."""
    model = PixelRNN(PixelRNNConfig(kind="pixelcnn", image_shape=(3, 6, 5), num_layers=1, hidden=6))
    images = torch.randint(256, (2, 3, 6, 5)).to(torch.uint8)
    calls: list[int] = []
    run = operator._LogSoftmaxAt.apply
    monkeypatch.setattr(operator._LogSoftmaxAt, "apply", lambda *a: calls.append(1) or run(*a))

    def loss(*, bf16: bool) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return model.loss(images).item()

    fast = loss(bf16=True)
    assert len(calls) == 1
    assert not operator.compiled(torch.zeros(1, 1, 1, 1, 200, dtype=torch.bfloat16))
    loss(bf16=False)
    monkeypatch.setenv("NVP_PLAIN", "1")
    monkeypatch.setattr(native, "_build", lambda *_: pytest.fail("built all the same"))
    assert loss(bf16=True) == pytest.approx(fast, rel=1e-6)
    assert len(calls) == 1
