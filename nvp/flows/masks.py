"""The two masks of section 3.4 (figure 3). Where b = 1, x is kept, and s and t see it."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from nvp.errors import NVPError


class Parity(StrEnum):
    """Which squares of the checkerboard have b = 1, by the parity of row + column."""

    ODD = "odd"
    EVEN = "even"

    @property
    def other(self) -> Parity:
        """The parity of the squares that this one leaves."""
        return Parity.EVEN if self == Parity.ODD else Parity.ODD


class Half(StrEnum):
    """Which half of the channels has b = 1."""

    FIRST = "first"
    SECOND = "second"


def checkerboard_mask(
    height: int, width: int, kept: Parity = Parity.ODD, device: torch.device | None = None
) -> Tensor:
    """Spatial checkerboard b, bool, shape (1, 1, height, width).

    All channels of a pixel share its bit. The paper has b = 1 where row + column is odd.
    """
    rows, columns = (torch.arange(side, device=device) for side in (height, width))
    odd = (rows[:, None] + columns) % 2 == 1
    return (odd if Parity(kept) == Parity.ODD else ~odd)[None, None]


def channel_mask(
    channels: int, kept: Half = Half.FIRST, device: torch.device | None = None
) -> Tensor:
    """Channel-wise mask b, bool, shape (1, channels, 1, 1): one half of the channels is kept.

    Raises `NVPError` for an odd number of channels.
    """
    if channels % 2:
        raise NVPError(f"a channel-wise mask halves the channels, got {channels}: squeeze first")
    first = torch.arange(channels, device=device) < channels // 2
    return (first if Half(kept) == Half.FIRST else ~first)[None, :, None, None]
