"""Priors p_Z over latents z, (N, ...). The paper uses a unit Gaussian, and allows others."""

import math
from abc import ABC, abstractmethod
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvp.flows.bijection import sum_over_image
from nvp.model.dequantisation import normal_noise, uniform_noise


class Prior(nn.Module, ABC):
    """A distribution over z, (N, ...)."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats, (N,)."""

    @abstractmethod
    def sample(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Draw z of `shape`, (N, ...), float32, on the generator's device (or the CPU)."""


class GaussianPrior(Prior):
    """p_Z = N(0, I) (section 4.1)."""

    def log_prob(self, z: Tensor) -> Tensor:
        return sum_over_image(-0.5 * (z.square() + math.log(2 * math.pi)))

    def sample(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        return normal_noise(shape, generator)


class LogisticPrior(Prior):
    """A standard logistic in every dimension, as in NICE: heavier tails than the Gaussian's."""

    def log_prob(self, z: Tensor) -> Tensor:
        return sum_over_image(-F.softplus(z) - F.softplus(-z))

    def sample(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        return torch.logit(uniform_noise(shape, generator), eps=1e-6)


class PriorName(StrEnum):
    """The priors that a configuration can name."""

    GAUSSIAN = "gaussian"
    LOGISTIC = "logistic"

    def build(self) -> Prior:
        """The prior of this name."""
        match self:
            case PriorName.GAUSSIAN:
                return GaussianPrior()
            case PriorName.LOGISTIC:
                return LogisticPrior()
