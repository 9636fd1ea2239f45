"""The density of the two half moons of the toy data, as a mixture of Gaussians."""

import math

import torch
from torch import Tensor


def log_moons(x: Tensor) -> Tensor:
    """Log-density of `ToyData.MOONS` at points (N, 2), in nats, (N,).

    The points lie evenly along two half circles, with Gaussian noise. The density is approximated
    by a mixture of Gaussians whose centres lie on the half circles, 200 of them on each.
    """
    arcs = 200
    angle = math.pi * (torch.arange(arcs, dtype=x.dtype) + 0.5) / arcs
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    centres, width = 1.5 * torch.cat([upper, -upper]), 1.5 * 0.08
    squares = torch.cdist(x, centres).square() / width**2
    constant = math.log(2 * arcs) + math.log(2 * math.pi * width**2)
    return torch.logsumexp(-squares / 2, dim=1) - constant
