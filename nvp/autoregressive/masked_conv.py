"""Masked convolutions: masks A and B of section 3.4 (Figure 2, right)."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nvp.errors import NVPError

Mask = Literal["A", "B"]


def colour_groups(features: int, num_colours: int) -> Tensor:
    """The colour that each feature belongs to, (features,): R, G, B, R, G, B, ...

    Cycling works for widths that three does not divide. Every layer must assign its features by
    the same rule, or blue leaks into red one layer later.
    """
    # On the CPU under any default device: on "meta" a mask has no entries to count.
    return torch.arange(features, device="cpu") % num_colours


def conv_mask(
    mask: Mask, out_groups: Tensor, in_groups: Tensor, kernel_size: tuple[int, int]
) -> Tensor:
    """1 where a weight may be used, else 0: (out, in, kH, kW), in the default floating-point type.

    Weights above the centre, or left of it in its row, connect all colours. Those at the centre
    connect a colour to the ones before it (A), or also to itself (B). All later ones are 0. Raises
    `NVPError` for another letter, and for a kernel with an even side, which has no centre.
    """
    height, width = kernel_size
    if mask not in get_args(Mask) or height % 2 == 0 or width % 2 == 0:
        raise NVPError(f"a mask is 'A' or 'B' and has odd sides, got {mask!r}, {height}x{width}")
    row, column = height // 2, width // 2
    allowed = torch.zeros(len(out_groups), len(in_groups), height, width, device=in_groups.device)
    allowed[:, :, :row] = 1
    allowed[:, :, row, :column] = 1
    before, own = in_groups[None, :], out_groups[:, None]
    allowed[:, :, row, column] = before < own if mask == "A" else before <= own
    return allowed


class MaskedConv2d(nn.Module):
    """A convolution that keeps the raster order: (N, in, H, W) -> (N, out, H, W).

    `in_groups` and `out_groups` give each feature's colour, as `colour_groups` does. Zero padding
    keeps height and width. The mask multiplies the weights at every use, so no step of an
    optimiser can bring a forbidden weight back.
    """

    mask: Tensor

    def __init__(
        self,
        mask: Mask,
        in_groups: Tensor,
        out_groups: Tensor,
        kernel_size: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        self.letter = mask
        allowed = conv_mask(mask, out_groups, in_groups, kernel_size)
        # As PyTorch initialises a convolution, with the inputs that are really there.
        fan_in = max(1.0, allowed.flatten(1).sum(1).mean().item())
        bound = 1 / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.empty(allowed.shape).uniform_(-bound, bound))
        self.register_buffer("mask", allowed.to(self.weight.device), persistent=False)
        self.bias = nn.Parameter(torch.empty(len(out_groups)).uniform_(-bound, bound))
        self.padding = (kernel_size[0] // 2, kernel_size[1] // 2)

    def extra_repr(self) -> str:
        out_features, in_features, height, width = self.weight.shape
        return f"mask {self.letter}, {in_features}, {out_features}, kernel={height}x{width}"

    def masked_weight(self) -> Tensor:
        """The weights in use, (out, in, kH, kW)."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.masked_weight(), self.bias, padding=self.padding)
