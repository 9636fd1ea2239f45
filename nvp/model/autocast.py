"""Helpers that keep parts of a model, or all of it, in full precision."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from operator import attrgetter

import torch
from torch import Tensor

# The parts of PyTorch that may round the factors of float32.
ROUNDING = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A block without autocast on the device of x: operations keep the type of their inputs."""
    device = x.device.type
    known = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if known else nullcontext()


def as_multiplied(x: Tensor) -> Tensor:
    """x in the type in which autocast multiplies; x itself where autocast is off."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return x.to(torch.get_autocast_dtype(device))
    return x


def at_least_float32(x: Tensor) -> Tensor:
    """x, in float32 where it was in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@contextmanager
def full_float32() -> Iterator[None]:
    """Within this block convolutions and matrix products in float32 use full precision.

    Otherwise an NVIDIA GPU rounds the factors of a convolution to 10 bits (TF32), and autocast
    or a caller's settings may allow fewer. Within the block, to read `allow_tf32` may be an error.
    Its end restores each setting, but an inherited one no longer follows
    `torch.backends.fp32_precision`.
    """
    parts = attrgetter(*ROUNDING)(torch.backends)
    before = [part.fp32_precision for part in parts]
    try:
        for part in parts:
            part.fp32_precision = "ieee"
        with ExitStack() as stack:
            for device in ("cpu", "cuda", "mps", "xpu"):
                stack.enter_context(torch.autocast(device, enabled=False))
            yield
    finally:
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision
