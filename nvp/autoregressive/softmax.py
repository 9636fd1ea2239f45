"""The compiled softmax of a sub-pixel at its level: `softmax.cpp`, with its own backward pass."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nvp.model import native

SOURCE = Path(__file__).with_name("softmax.cpp")
VECTOR = 32  # the most numbers in bfloat16 that a processor's vector holds


def compiled(logits: Tensor) -> bool:
    """Whether `log_softmax_at` takes them: on a CPU, bfloat16, a multiple of 32 levels.

    In float32, convolutions take nearly all of the time, and PyTorch's own softmax will do.
    """
    known = logits.device.type == "cpu" and logits.dtype is torch.bfloat16
    fits = logits.ndim == 5 and logits.size(-1) % VECTOR == 0
    return known and fits and native.compiled(SOURCE, "the softmax of levels")


def log_softmax_at(logits: Tensor, images: Tensor) -> Tensor:
    """log softmax(logits) at each sub-pixel's level, float32, in nats; needs `compiled`.

    `logits` are bfloat16, (N, C, H, W, levels). `images` are uint8, (N, C, H, W), and the result
    has their shape.
    """
    # As a network with channels last leaves them: nothing is copied.
    rows = logits.permute(0, 2, 3, 1, 4).flatten(0, 3)
    by_pixel = images.permute(0, 2, 3, 1)
    log_p: Tensor = _LogSoftmaxAt.apply(rows, by_pixel.flatten())
    return log_p.view(by_pixel.shape).permute(0, 3, 1, 2)


class _LogSoftmaxAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, levels: Tensor) -> Tensor:
        logits, levels = logits.contiguous(), levels.contiguous()
        log_p, log_sum = torch.ops.nvp_softmax.forward(logits, levels)
        ctx.save_for_backward(logits, levels, log_sum)
        return log_p

    @staticmethod
    @native.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return torch.ops.nvp_softmax.backward(grads[0].contiguous(), *ctx.saved_tensors), None
