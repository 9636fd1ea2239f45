"""The compiled LSTM scan: `scan.cpp`, with its own backward pass.

The layers call `scan`. Where `raster_lstm` cannot run, `scan` calls their plain form in PyTorch,
which follows the paper's words more closely.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nvp.model import native
from nvp.model.autocast import without_autocast

SOURCE = Path(__file__).with_name("scan.cpp")
DIAGONAL = 0  # in place of a kernel size: the taps of the Diagonal BiLSTM

Scan = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def scan(plain: Scan, gates: Tensor, weight: Tensor, initial: Tensor, kernel: int) -> Tensor:
    """`raster_lstm` where it can run, else `plain`, which takes and gives the same.

    A recurrence loses too much in half precision, so under autocast the plain scan runs in full
    precision. The compiled one may take bfloat16: it keeps its sums, gates and cells in float32.
    """
    if not compiled(gates):
        gates = gates.to(initial.dtype)
    run = raster_lstm if compiled(gates) else plain
    with without_autocast(gates):
        return run(gates, weight, initial, kernel)


def compiled(gates: Tensor) -> bool:
    """Whether the scan of these gates can run compiled, which it does on a CPU.

    The gates must be float32 or float64, or bfloat16 where the processor has a unit for bfloat16
    matrices. The first use compiles or loads the library.
    """
    known = gates.dtype in (torch.float32, torch.float64, torch.bfloat16)
    if not (known and gates.device.type == "cpu" and native.compiled(SOURCE, "the LSTM scan")):
        return False
    return gates.dtype is not torch.bfloat16 or torch.ops.nvp_scan.tiles()


def raster_lstm(gates: Tensor, weight: Tensor, initial: Tensor, kernel: int) -> Tensor:
    """The map of hidden states of eq 3, (N, H, W, h), both directions summed; needs `compiled`.

    `gates` is the input-to-state map, (N, H, W, directions, 4, h), in the order o, f, i, g.
    `weight`, (directions, taps, h, 4h), maps the states of the neighbours to the gates. `initial`,
    (directions, 2, L, h), holds the learned first h and c; L is W for the Row LSTM, else H.
    `kernel` is the Row LSTM's k, or 0 (`DIAGONAL`): the second direction is then shifted down by
    one row. The map is of the gates' type.
    """
    if gates.dtype is torch.bfloat16:
        weight, initial = weight.float(), initial.float()
    return _RasterLSTM.apply(gates, weight, initial, kernel, torch.is_grad_enabled())


class _RasterLSTM(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, weight: Tensor, initial: Tensor, kernel: int, keep: bool
    ) -> Tensor:
        gates, weight, initial = gates.contiguous(), weight.contiguous(), initial.contiguous()
        out, *states = torch.ops.nvp_scan.forward(gates, weight, initial, kernel, keep)
        ctx.save_for_backward(weight, *states)
        ctx.kernel = kernel
        return out

    @staticmethod
    @native.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0].contiguous()
        return *torch.ops.nvp_scan.backward(grad, *ctx.saved_tensors, ctx.kernel), None, None
