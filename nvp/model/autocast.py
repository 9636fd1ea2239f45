"""Helpers that keep parts of a model in full precision while training multiplies in bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def in_full(x: Tensor) -> AbstractContextManager[object]:
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
