"""What stays in full precision where training multiplies in bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def in_full(x: Tensor) -> AbstractContextManager[object]:
    """A block in which operations on the device of x keep the precision of what they are given."""
    device = x.device.type
    known = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if known else nullcontext()


def as_multiplied(x: Tensor) -> Tensor:
    """x in the type in which autocast multiplies: as it is, where autocast is off."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return x.to(torch.get_autocast_dtype(device))
    return x


def at_least_float32(x: Tensor) -> Tensor:
    """x, in float32 where it was in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
