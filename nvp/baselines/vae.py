"""A variational auto-encoder with a proper distribution over discrete pixels."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nvp.baselines.config import StridedConfig
from nvp.model.config import Width
from nvp.model.dequantisation import as_levels, normal_noise, uniform_noise
from nvp.model.protocol import ImageModel, check_latents, check_temperature

# Bounds of log s. s is from 1/20 level, with all but 1e-4 of the mass on one level, to 22,000.
LOG_SCALES = (-3.0, 10.0)


class VAEConfig(StridedConfig, family="vae"):
    """z has `latent` dimensions. Encoder and decoder have (transposed) convolutions of stride 2."""

    latent: Width = 32

    def build(self) -> "VAE":
        return VAE(self)


class VAE(ImageModel):
    """z ~ N(0, I), x | z independent pixels, q(z | x) a diagonal Gaussian (Kingma & Welling 2014).

    A sub-pixel is a discretised logistic: P(x) = F((x + 1/2 - mu) / s) - F((x - 1/2 - mu) / s), F
    the logistic function. The first and the last level are open-ended, so P sums to 1 over levels.
    The bound then holds for discrete images, in the same bits/dim as every other model here. The
    networks are `encoder` and `decoder`.
    """

    likelihood = "bound"

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

    def _log_probs(
        self, images: Tensor, num_draws: int, generator: torch.Generator | None, y: Tensor | None
    ) -> Iterator[Tensor]:
        """log p(x | z) p(z) / q(z | x): in expectation the ELBO."""
        mean, log_std = self.posterior(images)
        for _ in range(num_draws):
            e = normal_noise(mean.shape, generator, mean.dtype).to(mean.device)
            z = mean + log_std.exp() * e
            ratio = 0.5 * (e.square() - z.square()) + log_std  # log p(z) - log q(z | x)
            yield self.log_likelihood(images, z) + ratio.sum(1)

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        labels: Tensor | None = None,
    ) -> Tensor:
        """z ~ N(0, I), then x ~ p(x | z): uint8, (n, C, H, W). `temperature` scales both noises."""
        self.condition(labels, n)
        z = temperature * normal_noise((n, self.config.latent), generator)
        return self.decode(z, generator=generator, temperature=temperature)

    def encode(self, images: Tensor) -> Tensor:
        """The mean of q(z | x), (N, latent). uint8 in."""
        return self.posterior(images)[0]

    @torch.no_grad()
    def decode(
        self, z: Tensor, *, generator: torch.Generator | None = None, temperature: float = 0.0
    ) -> Tensor:
        """A sample of p(x | z), its noise times `temperature`; 0 gives mu, rounded to a level.

        (N, latent) -> uint8, (N, C, H, W).
        """
        check_temperature(temperature)
        check_latents(z, (self.config.latent,))
        mu, log_scale = self.pixels(z.to(self.device, self.dtype))
        if temperature:
            u = uniform_noise(mu.shape, generator, mu.dtype).to(mu.device)
            mu = mu + temperature * log_scale.exp() * torch.logit(u, eps=1e-6)
        return as_levels(mu.round(), self.levels)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(z | x), each (N, latent). uint8 in."""
        x = 2 * self.check_images(images).to(self.dtype) / (self.levels - 1) - 1
        mean, log_std = self.encoder(x).to(self.dtype).chunk(2, dim=1)
        return mean, log_std

    def pixels(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log s of p(x | z), in levels, each (N, C, H, W)."""
        mean, log_scale = self.decoder(z).to(z.dtype).chunk(2, dim=1)
        mu = (mean + 1) * (self.levels - 1) / 2
        return mu, (log_scale + math.log(self.levels / 8)).clamp(*LOG_SCALES)

    def log_likelihood(self, images: Tensor, z: Tensor) -> Tensor:
        """log p(x | z), (N,), nats."""
        mu, log_scale = self.pixels(z)
        x = self.check_images(images).to(mu)
        inverse = torch.exp(-log_scale)
        above = F.logsigmoid((x + 0.5 - mu) * inverse)
        below = F.logsigmoid(-(x - 0.5 - mu) * inverse)
        # F(b) - F(a) = F(b) F(-a) (1 - exp(a - b)), exact in every tail.
        within = above + below + torch.log(-torch.expm1(-inverse))
        log_p = torch.where(x == 0, above, torch.where(x == self.levels - 1, below, within))
        return log_p.flatten(1).sum(1)
