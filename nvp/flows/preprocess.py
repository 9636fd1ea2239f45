"""From pixels to the real line: uniform dequantisation, then a logit (section 4.1)."""

from __future__ import annotations

import math
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from nvp.flows.bijection import Bijection, sum_over_image

LEVELS = 256


def uniform_noise(
    images: Tensor, dtype: torch.dtype, generator: torch.Generator | None = None
) -> Tensor:
    """u ~ U[0, 1), of the shape of `images`, drawn on the generator's device (or the CPU)."""
    device = "cpu" if generator is None else generator.device
    noise = torch.rand(images.shape, generator=generator, dtype=dtype, device=device)
    return noise.to(images.device)


def dequantise(images: Tensor, noise: Tensor) -> Tensor:
    """(x + u) / 256 in [0, 1): uint8 images and noise of one shape -> floats of the noise's type.

    A density p of the result bounds the probability of the image from below:
    log P(x) >= E_u[log p((x + u) / 256)] - D log 256.
    """
    return (images.to(noise.dtype) + noise) / LEVELS


class LogitForm(StrEnum):
    """Where the logit keeps clear of infinity.

    SYMMETRIC  logit(alpha + (1 - 2 alpha) x): the official code's, bounded at both ends
    PAPER      logit(alpha + (1 - alpha) x): as printed in section 4.1. It has no bound as x -> 1:
               white pixels come near infinity, and rounding to float32 would take some there
    """

    SYMMETRIC = "symmetric"
    PAPER = "paper"


class Logit(Bijection):
    """y = logit(alpha + (1 - k alpha) x), x in [0, 1); k is 2 if symmetric, 1 for the paper's."""

    def __init__(self, form: LogitForm = LogitForm.SYMMETRIC, alpha: float = 0.05) -> None:
        super().__init__()
        self.alpha = alpha
        self.slope = 1 - (2 if form is LogitForm.SYMMETRIC else 1) * alpha

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # The clamp binds only where (255 + u) / 256 was rounded to 1 under the paper's form.
        p = (self.alpha + self.slope * x).clamp(max=1 - torch.finfo(x.dtype).eps / 2)
        y = torch.logit(p)
        return y, sum_over_image(self._log_derivative(y))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        x = (torch.sigmoid(z) - self.alpha) / self.slope
        return x, -sum_over_image(self._log_derivative(z))

    def _log_derivative(self, y: Tensor) -> Tensor:
        # dy/dx = slope / (p (1 - p)), and -log(p (1 - p)) = softplus(y) + softplus(-y).
        return F.softplus(y) + F.softplus(-y) + math.log(self.slope)
