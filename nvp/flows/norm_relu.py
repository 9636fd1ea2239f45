"""The compiled norm and rectifier of the networks: `norm_relu.cpp`, with its own backward pass."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nvp.model import native

SOURCE = Path(__file__).with_name("norm_relu.cpp")


def compiled(x: Tensor, beta: Tensor) -> bool:
    """Whether the norm of the map x can run compiled: on a CPU, x in bfloat16, beta in float32.

    In float32, convolutions take nearly all of the time, and PyTorch's own norm is fast enough. One
    value per channel has no variance, and a beta of another length does not fit: PyTorch's norm is
    then called, since it raises an error.
    """
    types = x.dtype is torch.bfloat16 and beta.dtype is torch.float32
    can = x.device.type == "cpu" and types and len(beta) == x.size(1) < x.numel()
    return can and native.compiled(SOURCE, "the batch norm of flows")


def norm_relu(x: Tensor, beta: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """max(0, (x - mean) / sqrt(variance + epsilon) + beta), x, the mean, and the variance (biased).

    x is (N, C, H, W) in bfloat16, the moments are (C,) in float32 and pass no gradient on. The
    norm's backward pass also adds the gradient of the x that is returned. It needs `compiled`.
    """
    return _NormReLU.apply(x, beta, epsilon)


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, beta: Tensor, epsilon: float) -> tuple[Tensor, ...]:
        x, beta = x.contiguous(memory_format=torch.channels_last), beta.contiguous()
        out, mean, variance = torch.ops.nvp_norm_relu.forward(x, beta, epsilon)
        ctx.save_for_backward(x, beta, mean, variance)
        ctx.epsilon = epsilon
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)
        return out, x, mean, variance

    @staticmethod
    @native.once_differentiable
    def backward(
        ctx: Any, grad: Tensor | None, beside: Tensor | None, *_: None
    ) -> tuple[Tensor | None, ...]:
        if grad is None:  # only x went on
            return beside, None, None
        grads = [
            each if each is None else each.contiguous(memory_format=torch.channels_last)
            for each in (grad, beside)
        ]
        return *torch.ops.nvp_norm_relu.backward(*grads, *ctx.saved_tensors, ctx.epsilon), None
