"""The compiled LSTM scan: `scan.cpp`, with its own backward pass.

The layers call `raster_lstm` where `compiled(...)` allows it. Elsewhere they call their plain form
in PyTorch, which follows the paper's words more closely.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nvp.model import native

SOURCE = Path(__file__).with_name("scan.cpp")
DIAGONAL = 0  # in place of a kernel size: the taps of the Diagonal BiLSTM


def compiled(gates: Tensor) -> bool:
    """Whether the scan of these gates can run compiled: on a CPU, in float32 or float64."""
    can = gates.device.type == "cpu" and gates.dtype in (torch.float32, torch.float64)
    return can and native.compiled(SOURCE, "the LSTM scan")


def raster_lstm(gates: Tensor, weight: Tensor, initial: Tensor, kernel: int) -> Tensor:
    """The map of hidden states of eq 3, (N, H, W, h), both directions summed.

    `gates` is the input-to-state map, (N, H, W, directions, 4, h), in the order o, f, i, g;
    `weight` (directions, taps, h, 4h) maps the states of the neighbours to it; `initial`
    (directions, 2, L, h) holds the learned first h and c. `kernel` is the Row LSTM's k, or
    `DIAGONAL`: then the second direction is shifted down by one row.
    """
    return _RasterLSTM.apply(gates, weight, initial, kernel, torch.is_grad_enabled())


class _RasterLSTM(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, weight: Tensor, initial: Tensor, kernel: int, keep: bool
    ) -> Tensor:
        gates, weight, initial = gates.contiguous(), weight.contiguous(), initial.contiguous()
        out, states, activations = torch.ops.nvp_scan.forward(gates, weight, initial, kernel, keep)
        ctx.save_for_backward(weight, states, activations)
        ctx.kernel = kernel
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_gates, grad_weight, grad_initial = torch.ops.nvp_scan.backward(
            grads[0].contiguous(), *ctx.saved_tensors, ctx.kernel
        )
        return grad_gates, grad_weight, grad_initial, None, None
