"""Real NVP with learned noise: variational dequantisation (Ho et al. 2019, arXiv 1902.00275).

Uniform noise spreads an image v evenly over the cube of all v + u, and that is hard to model. Here
a second flow bends the noise within the cube; it sees v, and learns what the first flow models
best.
"""

from __future__ import annotations

from itertools import cycle, islice

import torch
from pydantic import Field
from torch import Tensor, nn

from nvp.flows.bijection import Composition, sum_over_image
from nvp.flows.config import RealNVPConfig
from nvp.flows.coupling import CheckerboardCoupling
from nvp.flows.masks import Parity
from nvp.flows.realnvp import RealNVP
from nvp.model.dequantisation import dequantise, inverse_logit, logit, uniform_noise
from nvp.runs.load import load_run


class LearnedNoiseConfig(RealNVPConfig):
    """A Real NVP whose noise goes through `noise_couplings`, each a network of `noise_width` maps.

    Training begins with the weights of the recorded run `start`, if one is named.
    """

    noise_couplings: int = Field(default=4, ge=1)
    noise_width: int = Field(default=32, ge=1)
    start: str | None = None

    def build(self) -> LearnedNoiseRealNVP:
        return LearnedNoiseRealNVP(self)


class NoiseNet(nn.Module):
    """From the kept squares of the noise and features of v to t and s, zeros before training."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.hidden = two_convolutions(channels + width, width)
        self.out = nn.Conv2d(width, 2 * channels, 1)
        for weight in self.out.parameters():
            nn.init.zeros_(weight)

    def forward(self, kept: Tensor, features: Tensor) -> Tensor:
        return self.out(self.hidden(torch.cat([kept, features], dim=1)))


def two_convolutions(channels: int, width: int) -> nn.Sequential:
    """(N, channels, H, W) -> (N, width, H, W)."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
    )


class LearnedNoiseRealNVP(RealNVP):
    """log P(v) >= E_q[log p_X~((v + u) / 256) - log q(u | v)] - D log 256.

    u = sigmoid(h(logit(e), v)), e uniform; h is the identity before training, and q uniform.
    """

    def __init__(self, config: LearnedNoiseConfig) -> None:
        super().__init__(config)
        self.start = config.start
        channels, width = config.image_shape[0], config.noise_width
        self.features = two_convolutions(channels, width)
        self.noise = Composition(
            CheckerboardCoupling(kept, NoiseNet(channels, width), scale_init=1.0)
            for kept in islice(cycle(Parity), config.noise_couplings)
        )

    def initialise(self, images: Tensor) -> None:
        if self.start is not None:
            self.load_state_dict(load_run(self.start).model.state_dict(), strict=False)

    def draw_noise(
        self, images: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """u ~ q(u | v), of the shape of the images v, and -log q(u | v), (N,), nats."""
        e = uniform_noise(images.shape, generator, self.dtype).to(self.device)
        wide, widened = logit(e.clamp(min=2**-25), alpha=0, slope=1)  # e = 0 would be at -infinity
        bent, log_det = self.noise(wide, self.features(images.to(self.dtype) / 127.5 - 1))
        u, narrowed = inverse_logit(bent, alpha=0, slope=1)
        return u, log_det + sum_over_image(widened + narrowed)

    def _logits(self, images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """x for one set of noise u, and log|dx/dx~| - log q(u | v), (N,), nats."""
        u, log_volume = self.draw_noise(images, generator)
        x, log_det = self.logit(dequantise(images, u))
        return x, log_det + log_volume
