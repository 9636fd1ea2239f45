"""The compiled norm and rectifier against the formula in float64."""

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from nvp.flows import norm_relu as operator
from nvp.flows.batchnorm import EPSILON
from nvp.flows.norm_relu import norm_relu
from nvp.flows.resnet import ShiftedBatchNorm
from nvp.model import native

ROUNDING = 2**-8  # of bfloat16, relative


@pytest.fixture(autouse=True)
def built(compiler: None) -> None:
    """A machine with a compiler must be able to build the operator."""
    x, beta = torch.zeros(2, 1, 1, 1, dtype=torch.bfloat16), torch.zeros(1)
    assert operator.compiled(x, beta)
    assert not operator.compiled(x, beta.bfloat16())
    assert not operator.compiled(x, torch.zeros(2))


def inputs(channels: int, n: int = 3, side: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """A map with a mean far from 0, beta, and the gradient of the output."""
    draw = torch.Generator().manual_seed(channels)
    shape = n, channels, side, side + 1
    x = (3 * torch.randn(shape, generator=draw) + 7).bfloat16()
    grad = torch.randn(shape, generator=draw).bfloat16()
    x, grad = (a.contiguous(memory_format=torch.channels_last) for a in (x, grad))
    return x.requires_grad_(), torch.randn(channels, generator=draw).requires_grad_(), grad


def assert_rounded(found: Tensor, exact: Tensor) -> None:
    assert found.shape == exact.shape
    assert ((found - exact).abs() <= ROUNDING * exact.abs() + 2e-5 * exact.abs().max()).all()


@pytest.mark.parametrize("channels", [1, 15, 16, 24, 32, 33, 70])
@pytest.mark.parametrize(("n", "side"), [(1, 2), (3, 5), (9, 16)], ids=["few", "some", "chunks"])
def test_equals_the_formula(channels: int, n: int, side: int) -> None:
    x, beta, grad = inputs(channels, n, side)
    out, same, mean, variance = norm_relu(x, beta, EPSILON)
    exact_x, exact_beta = (a.detach().double().requires_grad_() for a in (x, beta))
    options = {"bias": exact_beta, "training": True, "eps": EPSILON}
    exact = F.relu(F.batch_norm(exact_x, None, None, **options))
    assert_rounded(out, exact)
    moments = torch.var_mean(exact_x, (0, 2, 3), correction=0)
    assert torch.allclose(variance.double(), moments[0], rtol=1e-4)
    assert torch.allclose(mean.double(), moments[1], rtol=1e-5)
    assert torch.equal(same, x)
    beside = grad.roll(1, 2).contiguous()  # in another layout: the gradient of x on its way around
    (alone,) = torch.autograd.grad(same, [x], beside, retain_graph=True)
    assert torch.equal(alone, beside)
    for ours, theirs in (([out], [exact]), ([out, same], [exact, exact_x])):
        grads = [grad, beside][: len(ours)]
        found = torch.autograd.grad(ours, [x, beta], grads, retain_graph=True)
        exact_grads = [each.double() for each in grads]
        wanted = torch.autograd.grad(theirs, [exact_x, exact_beta], exact_grads, retain_graph=True)
        for a, b in zip(found, wanted, strict=True):
            assert_rounded(a, b)


def test_a_channel_that_is_not_finite_has_no_variance() -> None:
    x, beta, _ = inputs(3)
    with torch.no_grad():
        x[0, 1, 0, 0] = torch.inf
    *_, variance = norm_relu(x, beta, EPSILON)
    assert variance.isnan().tolist() == [False, True, False]


def test_small_variance_far_from_zero() -> None:
    x = (1000 + 8 * torch.arange(2.0).repeat(300)).reshape(2, 1, 15, 20).bfloat16()
    *_, mean, variance = norm_relu(x, torch.zeros(1), EPSILON)
    assert mean.item() == pytest.approx(1004)
    assert variance.item() == pytest.approx(16)


def test_layout_changes_no_bit() -> None:
    x, beta, _ = inputs(33, 9, 16)
    layouts = (x, beta), (x.contiguous(), beta.repeat_interleave(2)[::2])
    assert torch.equal(*(norm_relu(*each, EPSILON)[0] for each in layouts))


def test_one_value_a_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        ShiftedBatchNorm(4).rectified(torch.zeros(1, 4, 1, 1, dtype=torch.bfloat16))


@pytest.mark.parametrize("training", [True, False])
def test_the_plain_norm_has_second_derivatives(training: bool) -> None:
    x, beta, _ = (a.detach().double().requires_grad_() for a in inputs(2))
    norm = ShiftedBatchNorm(2).double().train(training)

    def moved(x: Tensor, beta: Tensor) -> Tensor:
        return functional_call(norm, {"beta": beta}, x)

    assert torch.autograd.gradgradcheck(moved, (x, beta))


def test_in_the_network_it_is_the_norm_and_a_rectifier(monkeypatch) -> None:
    """With running averages, which evaluation uses; float32 and NVP_PLAIN=1 take the plain form."""
    x, _, _ = inputs(6)
    assert "NormReLU" not in str(ShiftedBatchNorm(6).rectified(x.float()).grad_fn)
    norms = [ShiftedBatchNorm(6) for _ in range(2)]
    fast = norms[0].rectified(x)
    assert "NormReLU" in str(fast.grad_fn)
    monkeypatch.setenv("NVP_PLAIN", "1")
    monkeypatch.setattr(native, "_build", lambda *_: pytest.fail("built all the same"))
    assert (fast - norms[1].rectified(x)).abs().max() < 0.02
    for name, average in norms[0].state_dict().items():
        assert torch.allclose(average, norms[1].state_dict()[name], rtol=1e-5), name
    monkeypatch.undo()
    outputs = (each.eval().rectified(x.float()) for each in norms)
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
