"""A diffusion model in continuous time, with its variational bound in nats (Kingma et al. 2021).

Sections and appendices below are those of "Variational Diffusion Models", arXiv 2107.00630.
"""

import functools
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from nvp.baselines.config import StridedConfig
from nvp.model.config import Depth
from nvp.model.dequantisation import as_levels, normal_noise, uniform_noise
from nvp.model.protocol import ImageModel, check_temperature, places


class DiffusionConfig(StridedConfig, family="diffusion"):
    """gamma(t), minus the log of the signal-to-noise ratio, runs from `gamma_0` to `gamma_1`.

    A sample takes `steps` passes of the network. A score is a mean over `times` values of t for
    each image.
    """

    width: int = Field(default=48, ge=8, le=65536, multiple_of=8)
    blocks: Depth = 2  # residual blocks before and behind the middle, which has twice as many
    # Those of published runs on CIFAR-10. Beyond the bounds, sigma or alpha is 0 in float32.
    gamma_0: float = Field(default=-13.3, ge=-80)
    gamma_1: float = Field(default=5.0, le=80)
    steps: int = Field(default=128, ge=1)
    times: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _noise_grows(self) -> Self:
        if self.gamma_0 >= self.gamma_1:
            raise ValueError(f"gamma_0 = {self.gamma_0} must be below gamma_1 = {self.gamma_1}")
        return self

    def build(self) -> "Diffusion":
        return Diffusion(self)


class Diffusion(ImageModel):
    """z_t = alpha_t x + sigma_t e, t in [0, 1]; a network finds the noise e in z_t (section 3).

    x has the levels in [-1, 1], sigma_t^2 = sigmoid(gamma(t)) and alpha_t^2 = sigmoid(-gamma(t)).
    gamma is linear between fixed ends. In continuous time the path between the ends changes only
    the noise of the bound's estimates, not the bound (section 5.1). So only the network is learned.
    The bound is minus the sum of three losses (section 3.5):

    * the prior loss, KL(q(z_1 | x) || N(0, I)), in closed form
    * the reconstruction loss, E[-log P(x | z_0)], P(x_i | z_0) proportional to q(z_0 | x_i)
    * the diffusion loss, 1/2 (gamma_1 - gamma_0) E ||e - network(z_t, gamma(t))||^2 (section 5)

    Only the last, over e and uniform t, needs the network. In the second, pixels are independent
    and all have the same noise, sigma_0 / alpha_0, so it is a table over the levels.
    """

    likelihood = "bound"
    averages_noise = True
    end_losses: Tensor  # (levels,), nats: the prior and the reconstruction loss of each level

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.image_shape = config.image_shape
        self.levels = config.levels
        self.network = Denoiser(config)
        losses = _end_losses(config.levels, config.gamma_0, config.gamma_1)
        losses = losses.to(torch.get_default_device(), torch.get_default_dtype(), copy=True)
        self.register_buffer("end_losses", losses, persistent=False)

    def loss(
        self,
        images: Tensor,
        generator: torch.Generator | None = None,
        *,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Minus the bound, at one time t for each image; the times are spread evenly over [0, 1].

        They are t_i = (u + i / N) mod 1 with one uniform u, which makes the mean less noisy
        (appendix I.1).
        """
        self.check_precision()
        images = self.check_images(images)
        self.condition(labels, len(images))
        t = (self._uniform(1, generator) + places(images)) % 1
        return self.losses(images, t, generator).flatten(1).sum(1).mean()

    def losses(self, images: Tensor, t: Tensor, generator: torch.Generator | None) -> Tensor:
        """The share of each sub-pixel in minus the bound at times t, (N,): (N, C, H, W), nats."""
        gamma_0, gamma_1 = self.config.gamma_0, self.config.gamma_1
        gamma = gamma_0 + (gamma_1 - gamma_0) * t
        x = from_levels(images.to(self.dtype), self.levels)
        e = self._noise(images.shape, generator)
        alpha, sigma = _alpha_sigma(gamma[:, None, None, None])
        error = e - self.network(alpha * x + sigma * e, gamma)
        return self.end_losses[images.int()] + 0.5 * (gamma_1 - gamma_0) * error.square()

    def _log_probs(
        self, images: Tensor, num_draws: int, generator: torch.Generator | None, y: Tensor | None
    ) -> Iterator[Tensor]:
        """The bound, at `times` values of t for each image, one in each part of [0, 1]."""
        parts = self.config.times
        for _ in range(num_draws):
            u = self._uniform(len(images), generator)
            losses = [self.losses(images, (u + i) / parts, generator) for i in range(parts)]
            yield -torch.stack(losses).mean(0).flatten(1).sum(1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        labels: Tensor | None = None,
    ) -> Tensor:
        """From z_1 ~ N(0, I) by `steps` draws of p(z_s | z_t), s < t (section 3.3), to z_0.

        uint8, (n, C, H, W): the levels nearest to z_0 / alpha_0. `temperature` scales all noise.
        """
        self.condition(labels, n)
        check_temperature(temperature)
        size, steps = (n, *self.image_shape), self.config.steps
        z = temperature * self._noise(size, generator)
        gammas = torch.linspace(self.config.gamma_1, self.config.gamma_0, steps + 1).to(z)
        for gamma_t, gamma_s in pairwise(gammas):
            (alpha_t, sigma_t), (alpha_s, sigma_s) = _alpha_sigma(gamma_t), _alpha_sigma(gamma_s)
            share = -torch.expm1(gamma_s - gamma_t)  # of the noise, lost on the way from t to s
            e = self.network(z, gamma_t.expand(n))
            z = alpha_s / alpha_t * (z - sigma_t * share * e)
            z = z + temperature * sigma_s * share.sqrt() * self._noise(size, generator)
        return as_levels(to_levels(z / alpha_s, self.levels).round(), self.levels)

    def _uniform(self, n: int, generator: torch.Generator | None) -> Tensor:
        return uniform_noise((n,), generator, self.dtype).to(self.device)

    def _noise(self, size: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        return normal_noise(size, generator, self.dtype).to(self.device)


def from_levels(level: Tensor, levels: int) -> Tensor:
    """The middle of a level's interval in [-1, 1], elementwise; floats."""
    return (2 * level + 1) / levels - 1


def to_levels(x: Tensor, levels: int) -> Tensor:
    """Undo `from_levels`, without rounding."""
    return ((x + 1) * levels - 1) / 2


def _alpha_sigma(gamma: Tensor) -> tuple[Tensor, Tensor]:
    return torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()


@functools.cache
def _end_losses(levels: int, gamma_0: float, gamma_1: float) -> Tensor:
    """Prior plus reconstruction loss of a sub-pixel of each level, (levels,), float64, nats.

    The latter is -E[log softmax_j(-(x_i + s e - x_j)^2 / 2 s^2)_i], e ~ N(0, 1) and
    s = sigma_0 / alpha_0; the term -e^2 / 2, common to all j, cancels.
    """
    kind: Any = {"dtype": torch.float64, "device": "cpu"}
    x = from_levels(torch.arange(levels, **kind), levels)
    gamma = torch.tensor([gamma_0, gamma_1], **kind)
    alpha, sigma = _alpha_sigma(gamma)
    prior = 0.5 * ((alpha[1] * x).square() + sigma[1].square() - 1) - sigma[1].log()
    e = torch.linspace(-8, 8, 65, **kind)  # the trapezium rule errs by 1e-7 or less
    weight = torch.softmax(-0.5 * e.square(), 0)
    far = (x[:, None] - x) / (sigma[0] / alpha[0])
    logits = -0.5 * far.square()[..., None] - far[..., None] * e
    reconstruction = (logits.logsumexp(1) * weight).sum(1)
    return prior + reconstruction


def _zero(conv: nn.Conv2d) -> None:
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)


class Block(nn.Module):
    """h + conv(act(norm(conv(act(norm(h))) + linear(noise level)))); the outer conv begins at 0."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.level = nn.Linear(embedding, width)
        _zero(self.conv2)

    def forward(self, h: Tensor, embedded: Tensor) -> Tensor:
        """(N, width, H, W) as is; `embedded` is (N, embedding)."""
        inner = self.conv1(F.silu(self.norm1(h))) + self.level(embedded)[..., None, None]
        return h + self.conv2(F.silu(self.norm2(inner)))


class Denoiser(nn.Module):
    """A small U-Net: (N, C, H, W) and gamma, (N,) -> the noise e, (N, C, H, W).

    The values of 2x2 pixels become the channels of one place. There are `blocks` residual blocks at
    H/2, then twice as many, and twice as wide, at H/4, and `blocks` at H/2 again. The paper's
    network gets sines of z, to show it the fine detail (section 3.4). Ours sees the noise that z
    would hold if a sub-pixel had the level nearest to z / alpha, or were black, or white.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.levels, self.ends = config.levels, (config.gamma_0, config.gamma_1)
        channels, width, wide = 4 * config.image_shape[0], config.width, 2 * config.width
        self.embed = nn.Sequential(
            nn.Linear(width, wide), nn.SiLU(), nn.Linear(wide, wide), nn.SiLU()
        )
        self.into = nn.Conv2d(4 * channels, width, 3, padding=1)
        self.before = nn.ModuleList(Block(width, wide) for _ in range(config.blocks))
        self.down = nn.Conv2d(width, wide, 2, stride=2)
        self.middle = nn.ModuleList(Block(wide, wide) for _ in range(2 * config.blocks))
        self.up = nn.Conv2d(wide, 4 * width, 1)
        self.after = nn.ModuleList(Block(width, wide) for _ in range(config.blocks))
        self.norm, self.out = nn.GroupNorm(8, width), nn.Conv2d(width, channels, 3, padding=1)
        _zero(self.out)

    def forward(self, z: Tensor, gamma: Tensor) -> Tensor:
        """The U-Net corrects a first guess: the noise if x were alpha^2 times the nearest level.

        That x is the level itself where z has almost no noise, and 0 where z is almost only noise.
        """
        alpha, sigma = _alpha_sigma(gamma[:, None, None, None])
        level = to_levels(z / alpha, self.levels).round().clamp(0, self.levels - 1)
        x, end = from_levels(level, self.levels), torch.full_like(z, 1 - 1 / self.levels)
        nearest, black, white = ((z - alpha * v) / sigma for v in (x, -end, end))
        seen = torch.cat([z, nearest, torch.tanh(black / 3), torch.tanh(white / 3)], dim=1)
        embedded = self.embed(self._waves((gamma - self.ends[0]) / (self.ends[1] - self.ends[0])))
        fine = self.into(F.pixel_unshuffle(seen, 2))
        for block in self.before:
            fine = block(fine, embedded)
        coarse = self.down(fine)
        for block in self.middle:
            coarse = block(coarse, embedded)
        fine = fine + F.pixel_shuffle(self.up(coarse), 2)
        for block in self.after:
            fine = block(fine, embedded)
        correction = F.pixel_shuffle(self.out(F.silu(self.norm(fine))), 2)
        return (z - alpha**3 * x) / sigma + correction.to(z.dtype)

    def _waves(self, t: Tensor) -> Tensor:
        """sin and cos of t in [0, 1] at frequencies from 1 to 1,000, (N, width)."""
        half = self.into.out_channels // 2
        frequencies = 1000 ** torch.linspace(0, 1, half, device=t.device, dtype=t.dtype)
        angles = t[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)
