"""The compiled LSTM scan: `scan.cpp`, built on first use, with its own backward pass.

The layers call `raster_lstm` where `compiled(...)` says that they can, and their plain form in
PyTorch, which the paper's words follow more closely, everywhere else.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

DIAGONAL = 0  # in place of a kernel size: the taps of the Diagonal BiLSTM


def compiled(gates: Tensor) -> bool:
    """Whether the scan of these gates can run compiled: on a CPU, where a compiler was found.

    The variable NVP_PLAIN_SCAN=1 says no, to compare or to debug.
    """
    wanted = os.environ.get("NVP_PLAIN_SCAN", "") != "1"
    return wanted and gates.device.type == "cpu" and _build()


def raster_lstm(gates: Tensor, weight: Tensor, initial: Tensor, kernel: int) -> Tensor:
    """The map of hidden states of eq 3, (N, H, W, h), both directions summed.

    `gates` is the input-to-state map, (N, H, W, directions, 4, h), in the order o, f, i, g;
    `weight` (directions, taps, h, 4h) maps the states of the neighbours to it; `initial`
    (directions, 2, L, h) holds the learned first h and c. `kernel` is the Row LSTM's k, or
    `DIAGONAL`: then the second direction is shifted down by one row.
    """
    return _RasterLSTM.apply(gates, weight, initial, kernel)


class _RasterLSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, initial: Tensor, kernel: int) -> Tensor:
        gates, weight, initial = gates.contiguous(), weight.contiguous(), initial.contiguous()
        out, states, activations = torch.ops.nvp_scan.forward(gates, weight, initial, kernel)
        ctx.save_for_backward(gates, weight, states, activations)
        ctx.kernel = kernel
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        gates, weight, states, activations = ctx.saved_tensors
        grad_gates, grad_weight, grad_initial = torch.ops.nvp_scan.backward(
            grads[0].contiguous(), gates, weight, states, activations, ctx.kernel
        )
        return grad_gates, grad_weight, grad_initial, None


@cache
def _build() -> bool:
    """Compile `scan.cpp` into PyTorch's cache of extensions, or load what is there."""
    capability = torch.backends.cpu.get_cpu_capability()
    # PyTorch's vector classes choose their width by these two.
    flags = ["-O3", "-march=native", f"-DCPU_CAPABILITY={capability}"]
    flags += [f"-DCPU_CAPABILITY_{capability}", "-fopenmp"]
    try:
        from torch.utils.cpp_extension import load

        load(
            "nvp_scan",
            [str(Path(__file__).with_name("scan.cpp"))],
            extra_cflags=flags,
            extra_ldflags=["-fopenmp"],
            is_python_module=False,
        )
    except (RuntimeError, OSError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        logger.warning("the LSTM scan runs uncompiled, several times slower (%s)", reason)
        return False
    return True
