"""A convolution and an addition as one operation of oneDNN: total + conv(x)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nvp.model import native


def fused(x: Tensor) -> bool:
    """Whether `conv_add` can run: x in bfloat16 on a CPU whose oneDNN takes it, no NVP_PLAIN=1.

    A separate addition reads and writes whole maps. In float32, convolutions take nearly all of the
    time, so there is nothing to gain.
    """
    on_cpu = x.device.type == "cpu" and x.dtype is torch.bfloat16 and native.wanted()
    here = on_cpu and torch.backends.mkldnn.is_available()  # oneDNN's old name
    return here and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def conv_add(total: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """total + conv(x), which replaces the values of `total`; zero padding keeps height and width.

    x is (N, i, H, W) and `total` (N, o, H, W), both in bfloat16. `weight` is (o, i, k, k) with k
    odd, `bias` (o,). It needs `fused`.
    """
    return _ConvAdd.apply(total, x, weight.to(x.dtype), bias.to(x.dtype))


class _ConvAdd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, total: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = [side // 2 for side in weight.shape[2:]]
        ctx.mark_dirty(total)
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            *(total, x, weight, bias, ctx.padding, [1, 1], [1, 1], 1, "add", None, None, [], None)
        )

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        size, needed = [len(weight)], ctx.needs_input_grad[1:]
        return grad, *torch.ops.aten.convolution_backward(
            *(grad, x, weight, size, [1, 1], ctx.padding, [1, 1], False, [0, 0], 1, needed)
        )
