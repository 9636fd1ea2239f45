"""From pixels to the real line and back, elementwise: uniform dequantisation, then a logit.

Section 4.1 of Real NVP, for every model that gives integers a density.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nvp.errors import NVPError

LEVELS = 256


def device_of(generator: torch.Generator | None) -> torch.device:
    """The device of a generator; the CPU for None, PyTorch's global one."""
    if not isinstance(generator, torch.Generator | None):
        raise NVPError(
            f"generator must be a torch.Generator, got {type(generator).__name__}: pass "
            "torch.Generator().manual_seed(0), and labels as labels=..."
        )
    return torch.device("cpu") if generator is None else generator.device


def uniform_noise(
    size: tuple[int, ...],
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """u ~ U[0, 1) of this size, on the generator's device (or the CPU)."""
    return torch.rand(size, generator=generator, dtype=dtype, device=device_of(generator))


def normal_noise(
    size: tuple[int, ...],
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """z ~ N(0, I) of this size, on the generator's device (or the CPU).

    Another `dtype` gives other draws for the same seed.
    """
    return torch.randn(size, generator=generator, dtype=dtype, device=device_of(generator))


def dequantise(images: Tensor, noise: Tensor, levels: int = LEVELS) -> Tensor:
    """(v + u) / levels in [0, 1): uint8 images v and noise u of one shape -> floats of u's type.

    The noise may be on another device; the result is on that of the images.

    A density p of the result bounds P(v): log P(v) >= E_u[log p((v + u) / levels)] - D log levels.
    In float32 about one result in 130,000 is rounded up to the next level, for the levels from 128
    to 255. White is then exactly 1.
    """
    return (images.to(noise.dtype) + noise.to(images.device)) / levels


def quantise(x: Tensor, levels: int = LEVELS) -> Tensor:
    """Undo `dequantise`: the level, uint8, in whose interval x lies, or else the nearest level."""
    return as_levels(levels * x, levels)


def as_levels(values: Tensor, levels: int = LEVELS) -> Tensor:
    """Numbers rounded down to a level, uint8 in 0..levels-1; raises `NVPError` where one is nan."""
    if values.isnan().any():  # `to` would turn nan into level 0
        raise NVPError(
            "a value of an image is nan: look for weights or latents that are not finite"
        )
    return values.clamp(0, levels - 1).to(torch.uint8)


def logit(x: Tensor, alpha: float, slope: float) -> tuple[Tensor, Tensor]:
    """y = log(p / (1 - p)), p = alpha + slope x, x in [0, 1), and log dy/dx; both like x."""
    # The clamp acts only where p is rounded to 1: at white, if slope is 1 - alpha or alpha is tiny.
    p = (alpha + slope * x).clamp(max=1 - torch.finfo(x.dtype).eps / 2)
    y = torch.logit(p)
    return y, _log_derivative(y, slope)


def inverse_logit(y: Tensor, alpha: float, slope: float) -> tuple[Tensor, Tensor]:
    """x = (sigmoid(y) - alpha) / slope, and log dx/dy; both like y."""
    return (torch.sigmoid(y) - alpha) / slope, -_log_derivative(y, slope)


def _log_derivative(y: Tensor, slope: float) -> Tensor:
    # dy/dx = slope / (p (1 - p)), and -log(p (1 - p)) = softplus(y) + softplus(-y).
    return F.softplus(y) + F.softplus(-y) + math.log(slope)
