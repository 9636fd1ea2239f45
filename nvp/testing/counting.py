"""Distributions over so few images that all of them can be counted."""

from itertools import product

import torch
from torch import Tensor


def all_images(shape: tuple[int, int, int], levels: int) -> Tensor:
    """Every image of `shape` (C, H, W), the last sub-pixel changing first: uint8, (K, C, H, W)."""
    size = shape[0] * shape[1] * shape[2]
    values = list(product(range(levels), repeat=size))
    return torch.tensor(values, dtype=torch.uint8).unflatten(1, shape)


def counts(images: Tensor, levels: int) -> Tensor:
    """How often each of the K `all_images` occurs in `images`, (N, C, H, W): float64, (K,)."""
    flat = images.flatten(1).long()
    powers = levels ** torch.arange(flat.shape[1]).flip(0)
    return (flat * powers).sum(1).bincount(minlength=levels ** flat.shape[1]).double()


def p_value(observed: Tensor, probabilities: Tensor) -> float:
    """Pearson's chi-square: how probable a larger deviation is, if `probabilities` are right.

    `observed` are counts and `probabilities` sum to 1, both (K,). Outcomes that are expected fewer
    than five times are counted together.
    """
    expected = observed.sum() * probabilities
    if observed[expected == 0].any():
        return 0.0
    rare = expected < 5
    observed = torch.cat([observed[~rare], observed[rare].sum().unsqueeze(0)])
    expected = torch.cat([expected[~rare], expected[rare].sum().unsqueeze(0)])
    kept = expected > 0  # what is rare may be empty
    statistic = ((observed - expected)[kept].square() / expected[kept]).sum()
    freedom = kept.sum().double() - 1
    if freedom == 0:  # a single outcome
        return 1.0
    return torch.special.gammaincc(freedom / 2, statistic / 2).item()
