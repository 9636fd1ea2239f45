"""A generative adversarial network: samples, and no likelihood at all."""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from nvp.baselines.config import StridedConfig
from nvp.errors import NVPError
from nvp.model.config import Width
from nvp.model.dequantisation import as_levels, normal_noise
from nvp.model.protocol import ImageModel, check_latents, check_temperature

SLOPE = 0.2  # of the leaky rectifiers


class GANConfig(StridedConfig, family="gan"):
    """z has `latent` dimensions. D has convolutions of stride 2, G transposed ones."""

    latent: Width = 64

    def build(self) -> "GAN":
        return GAN(self)


class GAN(ImageModel):
    """x = G(z), z ~ N(0, I), trained against D(x) (Goodfellow et al. 2014).

    The images of G fill a surface of `latent` dimensions in a space of C H W. So almost every image
    has density zero, and G has no inverse: `log_prob` raises `NVPError`, and there is no `encode`.
    Both networks have strided convolutions, as in DCGAN, but normalise within each image (group
    norm with one group), not over the batch: no image then depends on another, and no statistics
    have to be estimated.
    """

    likelihood = "none"

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.config = config
        self.image_shape = config.image_shape
        self.levels = config.levels
        channels, height, width = config.image_shape
        few, many = config.width, 2 * config.width
        small = (many, height // 4, width // 4)
        self.G = nn.Sequential(
            nn.Linear(config.latent, math.prod(small)),
            nn.Unflatten(1, small),
            nn.GroupNorm(1, many),
            nn.ReLU(),
            nn.ConvTranspose2d(many, few, 4, stride=2, padding=1),
            nn.GroupNorm(1, few),
            nn.ReLU(),
            nn.ConvTranspose2d(few, channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )
        self.D = nn.Sequential(
            nn.Conv2d(channels, few, 4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(few, many, 4, stride=2, padding=1),
            nn.GroupNorm(1, many),
            nn.LeakyReLU(SLOPE),
            nn.Flatten(),
            nn.Linear(math.prod(small), 1),
        )

    def _log_probs(
        self, images: Tensor, num_draws: int, generator: torch.Generator | None, y: Tensor | None
    ) -> list[Tensor]:
        raise NVPError(
            "a GAN has no likelihood, so it cannot be scored: look at what it draws with "
            "`nvp sample`, or train another family"
        )

    def loss(
        self,
        images: Tensor,
        generator: torch.Generator | None = None,
        *,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Both players' losses in one sum, each with a gradient for its own player only; nats.

        D's is -log D(x) - log(1 - D(G(z))); G's is the non-saturating -log D(G(z)), seen through a
        D that is held fixed. One step on the sum is one simultaneous step of both. The sum is
        3 log 2 where D cannot tell the two apart; it need not fall as the samples improve.
        """
        images = self.check_images(images)
        self.condition(labels, len(images))
        z = normal_noise((len(images), self.config.latent), generator).to(self.device, self.dtype)
        drawn = self.G(z).to(z.dtype)  # whatever G computes in
        real = 2 * images.to(drawn.dtype) / (self.levels - 1) - 1
        on_real, on_drawn = self.D(torch.cat([real, drawn.detach()])).chunk(2)
        fixed = {name: p.detach() for name, p in self.D.named_parameters()}
        through = functional_call(self.D, fixed, drawn)
        of_d = F.softplus(-on_real.to(drawn.dtype)) + F.softplus(on_drawn.to(drawn.dtype))
        return of_d.mean() + F.softplus(-through.to(drawn.dtype)).mean()

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        labels: Tensor | None = None,
    ) -> Tensor:
        """x = G(temperature z), z ~ N(0, I): uint8, (n, C, H, W)."""
        self.condition(labels, n)
        check_temperature(temperature)
        return self.decode(temperature * normal_noise((n, self.config.latent), generator))

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """x = G(z) rounded to a level: (N, latent) -> uint8, (N, C, H, W)."""
        check_latents(z, (self.config.latent,))
        z = z.to(self.device, self.dtype)
        x = (self.G(z).to(z.dtype) + 1) * (self.levels - 1) / 2
        return as_levels(x.round(), self.levels)
