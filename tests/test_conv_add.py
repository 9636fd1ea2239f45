"""The convolution that oneDNN adds to a sum, against two operations in float64."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nvp.flows.conv_add import conv_add, fused
from nvp.flows.resnet import WeightNormConv2d, add_conv

ROUNDING = 2**-7  # of bfloat16, relative: of the convolution, and of the sum


@pytest.fixture(autouse=True)
def _has_bfloat16(monkeypatch) -> None:
    can = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if not can:
        pytest.skip("this CPU does not compute in bfloat16")
    monkeypatch.delenv("NVP_PLAIN", raising=False)
    assert fused(torch.zeros(1, dtype=torch.bfloat16))


def inputs(features: int, outputs: int, kernel: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A sum, what is convolved, filters and biases: values of bfloat16, in float64."""
    draw = torch.Generator().manual_seed(features + kernel)

    def values(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw).bfloat16().double().requires_grad_()

    filters = values(outputs, features, kernel, kernel)
    return values(3, outputs, 6, 5), values(3, features, 6, 5), filters, values(outputs)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("features", "outputs"), [(1, 2), (24, 24), (33, 7)])
def test_equals_the_formula(features: int, outputs: int, kernel: int) -> None:
    total, x, weight, bias = of_exact = inputs(features, outputs, kernel)
    exact = total + F.conv2d(x, weight, bias, padding=kernel // 2)
    types = (torch.bfloat16, torch.bfloat16, torch.float32, torch.float32)
    ours = [v.detach().to(t).requires_grad_() for v, t in zip(of_exact, types, strict=True)]
    found = conv_add(ours[0].clone(), *ours[1:])
    assert found.dtype is torch.bfloat16
    assert (found - exact).abs().max() < ROUNDING * exact.abs().max()
    grad = torch.randn(exact.shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    of_ours = torch.autograd.grad(found, ours, grad)
    for a, b in zip(of_ours, torch.autograd.grad(exact, of_exact, grad.double()), strict=True):
        assert (a - b).abs().max() < ROUNDING * b.abs().max()


@pytest.mark.parametrize("normed", [True, False])
def test_in_the_network_it_is_an_addition(normed: bool, monkeypatch) -> None:
    """Float32 and NVP_PLAIN=1 take the plain form."""
    conv = WeightNormConv2d(4, 4, 1, magnitude=True, bias=True) if normed else nn.Conv2d(4, 4, 1)
    total, x = (value.detach() for value in inputs(4, 4, 1)[:2])
    plain = add_conv(total.float(), conv, x.float())
    assert "ConvAdd" not in str(plain.grad_fn)
    with torch.autocast("cpu", torch.bfloat16):
        quick = add_conv(total.bfloat16(), conv, x.bfloat16())
        assert "ConvAdd" in str(quick.grad_fn)
        monkeypatch.setenv("NVP_PLAIN", "1")
        assert "ConvAdd" not in str(add_conv(total.bfloat16(), conv, x.bfloat16()).grad_fn)
    assert (quick - plain).abs().max() < 0.05
