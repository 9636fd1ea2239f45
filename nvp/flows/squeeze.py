"""Squeezing: trading space for channels, s x s x c -> s/2 x s/2 x 4c (section 3.6, figure 3).

The figure shows one channel, and numbers a 2 x 2 block top-left, top-right, bottom-left,
bottom-right. For several channels two orders agree with it, and the official code factors out by a
third. Each is a permutation of the sub-pixels, so its log-determinant is 0.
"""

from enum import StrEnum

import torch.nn.functional as F
from torch import Tensor

DIAGONAL_ORDER = (0, 3, 1, 2)  # of the positions above, from 0
DIAGONAL_INVERSE = (0, 2, 3, 1)


class SqueezeOrder(StrEnum):
    """Order of the 4c channels that a squeeze makes. TLr is red of the top-left pixels."""

    # TLr TRr BLr BRr, TLg ...: the plain squeeze of the official code.
    CHANNEL_MAJOR = "channel_major"
    # TLr TLg TLb, TRr ...: the first half is the top row of every block, all colours, as figure 3
    # shows for one channel.
    POSITION_MAJOR = "position_major"
    # TLr TLg TLb, BRr ..., TRr ..., BLr ...: the "ordered" squeeze of the official code. Its first
    # half, top-left and bottom-right, is a checkerboard.
    DIAGONAL = "diagonal"


def squeeze(x: Tensor, order: SqueezeOrder) -> Tensor:
    """(N, c, H, W) -> (N, 4c, H/2, W/2). H and W must be even."""
    squeezed, order = F.pixel_unshuffle(x, 2), SqueezeOrder(order)
    if order == SqueezeOrder.CHANNEL_MAJOR:
        return squeezed
    blocks = squeezed.unflatten(1, (-1, 4)).transpose(1, 2)
    if order == SqueezeOrder.DIAGONAL:
        blocks = blocks[:, DIAGONAL_ORDER]
    return blocks.flatten(1, 2)


def unsqueeze(z: Tensor, order: SqueezeOrder) -> Tensor:
    """The inverse of `squeeze`: (N, 4c, H, W) -> (N, c, 2H, 2W)."""
    if SqueezeOrder(order) == SqueezeOrder.CHANNEL_MAJOR:
        return F.pixel_shuffle(z, 2)
    blocks = z.unflatten(1, (4, -1))
    if order == SqueezeOrder.DIAGONAL:
        blocks = blocks[:, DIAGONAL_INVERSE]
    return F.pixel_shuffle(blocks.transpose(1, 2).flatten(1, 2), 2)
