"""A variational auto-encoder with a proper distribution over discrete pixels."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nvp.baselines.config import StridedConfig
from nvp.model.dequantisation import device_of, uniform_noise
from nvp.model.protocol import ImageModel, check_count

# Of a pixel, in levels: from a twentieth, when all but 1e-4 of the mass is in one, to thousands.
LOG_SCALES = (-3.0, 10.0)


class VAEConfig(StridedConfig):
    """`latent` dimensions of z; convolutions of stride 2 to it, and transposed ones from it."""

    family: Literal["vae"] = "vae"


class VAE(ImageModel):
    """z ~ N(0, I), x | z independent pixels, q(z | x) a diagonal Gaussian (Kingma & Welling 2014).

    A sub-pixel is a discretised logistic: P(x) = F((x + 1/2 - mu) / s) - F((x - 1/2 - mu) / s), F
    the logistic function, open-ended at the first and the last level. So P sums to 1 over levels
    and the bound is one on discrete images, in the same bits/dim as every other model here.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.image_shape = config.image_shape
        self.levels = config.levels
        channels, height, width = config.image_shape
        few, many = config.width, 2 * config.width
        small = (many, height // 4, width // 4)
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, few, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(few, many, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(many, many, 3, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(math.prod(small), 2 * config.latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.latent, math.prod(small)),
            nn.Unflatten(1, small),
            nn.Conv2d(many, many, 3, padding=1),
            nn.SiLU(),
            nn.ConvTranspose2d(many, few, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.ConvTranspose2d(few, few, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(few, 2 * channels, 3, padding=1),
        )

    def log_prob(
        self, images: Tensor, *, num_draws: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """A lower bound on log P(x), (N,), nats: log (1/K) sum_k p(x | z_k) p(z_k) / q(z_k | x).

        With one draw its expectation is the ELBO, with more the importance-weighted bound.
        """
        check_count("num_draws", num_draws)
        mean, log_std = self.posterior(images)
        draws = []
        for _ in range(num_draws):
            e = torch.randn(
                mean.shape, generator=generator, dtype=mean.dtype, device=device_of(generator)
            ).to(mean.device)
            z = mean + log_std.exp() * e
            ratio = 0.5 * (e.square() - z.square()) + log_std  # log p(z) - log q(z | x)
            draws.append(self.log_likelihood(images, z) + ratio.sum(1))
        return torch.logsumexp(torch.stack(draws), dim=0) - math.log(num_draws)

    def loss(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Minus the ELBO, mean nats per image."""
        return -self.log_prob(images, generator=generator).mean()

    def sample(
        self, n: int, *, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> Tensor:
        """z ~ N(0, I), then x ~ p(x | z): uint8, (n, C, H, W). `temperature` scales both noises."""
        check_count("n", n)
        size, device = (n, self.config.latent), device_of(generator)
        z = temperature * torch.randn(size, generator=generator, device=device)
        return self.decode(z, generator=generator, temperature=temperature)

    def encode(self, images: Tensor) -> Tensor:
        """The mean of q(z | x), (N, latent). uint8 in."""
        return self.posterior(images)[0]

    @torch.no_grad()
    def decode(
        self, z: Tensor, *, generator: torch.Generator | None = None, temperature: float = 0.0
    ) -> Tensor:
        """A draw from p(x | z), its noise times `temperature`; 0 gives mu, rounded to a level.

        (N, latent) -> uint8, (N, C, H, W).
        """
        mu, log_scale = self.pixels(z.to(next(self.parameters())))
        # Away from 0 and 1, where the logit is infinite.
        u = uniform_noise(mu, mu.dtype, generator).clamp(1e-6, 1 - 1e-6)
        x = mu + temperature * log_scale.exp() * torch.logit(u)
        return x.round().clamp(0, self.levels - 1).to(torch.uint8)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(z | x), each (N, latent). uint8 in."""
        self.check_images(images)
        dtype = next(self.parameters()).dtype
        x = 2 * images.to(dtype) / (self.levels - 1) - 1
        mean, log_std = self.encoder(x).to(dtype).chunk(2, dim=1)
        return mean, log_std

    def pixels(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log s of p(x | z), in levels, each (N, C, H, W)."""
        mean, log_scale = self.decoder(z).to(z.dtype).chunk(2, dim=1)
        mu = (mean + 1) * (self.levels - 1) / 2
        return mu, (log_scale + math.log(self.levels / 8)).clamp(*LOG_SCALES)

    def log_likelihood(self, images: Tensor, z: Tensor) -> Tensor:
        """log p(x | z), (N,), nats."""
        mu, log_scale = self.pixels(z)
        x = images.to(mu.dtype)
        inverse = torch.exp(-log_scale)
        above = F.logsigmoid((x + 0.5 - mu) * inverse)
        below = F.logsigmoid(-(x - 0.5 - mu) * inverse)
        # F(b) - F(a) = F(b) F(-a) (1 - exp(a - b)), exact in every tail.
        within = above + below + torch.log(-torch.expm1(-inverse))
        log_p = torch.where(x == 0, above, torch.where(x == self.levels - 1, below, within))
        return log_p.flatten(1).sum(1)
