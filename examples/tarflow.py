"""TarFlow (Zhai et al. 2025, arXiv 2412.06329): a stack of autoregressive flows over patches.

A coupling of Real NVP conditions one half of an image on the other. A block of this flow conditions
each patch on all patches before it, by a causal Transformer. The next block reads the patches from
the other end. Noise, logit, prior and every constant are those of Real NVP (section 4.1), so
the two models differ in the flow alone. The authors' Gaussian noise, denoising and guidance are
left out: they improve samples, and give up the likelihood of the integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from nvp.flows.bijection import Bijection, Composition
from nvp.flows.preprocess import Logit
from nvp.flows.prior import GaussianPrior
from nvp.model import ImageModel, ModelConfig
from nvp.model.dequantisation import dequantise, quantise, uniform_noise
from nvp.model.protocol import check_temperature

# The bound of |alpha|, which the authors leave free. On all of Fashion-MNIST the loss was then
# infinite or nan within 500 steps: at rates of 0.005 and 0.01, and at 0.002 with one layer in each
# block (results/trials-tarflow.csv).
BOUND = 3.0


class TarFlowConfig(ModelConfig):
    """`blocks` flows on patches of `patch` x `patch` pixels, a Transformer of `layers` in each."""

    num_classes: Literal[0] = 0  # it takes no labels
    patch: int = Field(default=4, ge=1)
    width: int = Field(default=64, ge=1)
    heads: int = Field(default=2, ge=1)
    layers: int = Field(default=2, ge=1)
    blocks: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _sizes_divide(self) -> Self:
        _, height, width = self.image_shape
        if height % self.patch or width % self.patch:
            raise ValueError(f"the sides of {height}x{width} must be divisible by patch: change it")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be divisible by heads: change one")
        return self

    @property
    def tokens(self) -> tuple[int, int]:
        """Number of patches of an image, T, and of sub-pixels of a patch, S."""
        size = self.image_shape[0] * self.patch**2
        return math.prod(self.image_shape) // size, size

    def build(self) -> TarFlow:
        return TarFlow(self)


class Layer(nn.Module):
    """A layer of a causal Transformer, its norms first: a token sees itself and those before it.

    h <- h + Attention(LN(h)), then h <- h + MLP(LN(h)).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, h: Tensor, kept: list[Tensor] | None = None) -> Tensor:
        """(N, T, W) -> the same shape. With `kept`, h is only the next token, (N, 1, W).

        `kept` holds keys and values of the tokens before it, and those of h are added.
        """
        number, length, width = h.shape
        parts = (number, length, 3, self.heads, width // self.heads)
        q, k, v = self.to_qkv(self.norm1(h)).view(parts).permute(2, 0, 3, 1, 4)
        if kept:
            k, v = (torch.cat(each, dim=2) for each in zip(kept, (k, v), strict=True))
        if kept is not None:
            kept[:] = k, v
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=kept is None)
        h = h + self.out(seen.transpose(1, 2).reshape(h.shape))
        return h + self.mlp(self.norm2(h))


class Block(Bijection):
    """z_i = (x_i - mu_i) exp(-alpha_i), alpha_i and mu_i being functions of x_1, ..., x_{i-1}.

    The equation of MAF (Papamakarios et al. 2017), where x_i is a patch of S numbers; x and z are
    (N, T, S). With `backwards`, the last patch is x_1.
    """

    def __init__(self, config: TarFlowConfig, *, backwards: bool) -> None:
        super().__init__()
        self.backwards = backwards
        number, size = config.tokens
        self.into = nn.Linear(size, config.width)
        self.place = nn.Parameter(0.02 * torch.randn(number, config.width))
        self.layers = nn.ModuleList(Layer(config.width, config.heads) for _ in range(config.layers))
        self.out = nn.Linear(config.width, 2 * size)
        nn.init.zeros_(self.out.weight)  # alpha = mu = 0: training starts at the identity
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All patches at once; log|det dz/dx| = -sum_i alpha_i."""
        x = self._in_order(x)
        h = self.into(x) + self.place
        for layer in self.layers:
            h = layer(h)
        # Output i has seen patch i, so it is for patch i + 1; the first has alpha = mu = 0.
        # Whatever precision the network ran in, the affine map and its sums keep that of x.
        alpha, mu = _alpha_and_mu(F.pad(self.out(h)[:, :-1], (0, 0, 1, 0)).to(x.dtype))
        z = (x - mu) * torch.exp(-alpha)
        return self._in_order(z), -alpha.sum(dim=(1, 2))

    def inverse(self, z: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x_i = z_i exp(alpha_i) + mu_i, one patch after another."""
        patches: list[Tensor] = []
        log_det = z.new_zeros(len(z))
        alpha = mu = torch.zeros_like(z[:, :1])
        kept: list[list[Tensor]] = [[] for _ in self.layers]
        for i, z_i in enumerate(self._in_order(z).split(1, dim=1)):
            if i:  # the first patch has alpha = mu = 0
                h = self.into(patches[-1]) + self.place[i - 1]
                for layer, before in zip(self.layers, kept, strict=True):
                    h = layer(h, before)
                alpha, mu = _alpha_and_mu(self.out(h).to(z.dtype))
            patches.append(z_i * torch.exp(alpha) + mu)
            log_det = log_det + alpha.sum(dim=(1, 2))
        return self._in_order(torch.cat(patches, dim=1)), log_det

    def _in_order(self, x: Tensor) -> Tensor:
        return x.flip(1) if self.backwards else x


def _alpha_and_mu(output: Tensor) -> tuple[Tensor, Tensor]:
    """Log-scale and shift, (N, T, S) each, of a block's output, (N, T, 2 S)."""
    alpha, mu = output.chunk(2, dim=-1)
    return BOUND * torch.tanh(alpha / BOUND), mu


class TarFlow(ImageModel):
    """log P(x) >= E_u[log N(z; 0, I) + log|det dz/dy| + log|dy/dx~|] - D log levels.

    As for Real NVP, x~ = (x + u) / levels, u ~ U[0, 1), and y = logit(0.05 + 0.9 x~).
    The flow sees (y - mean) / deviation, with the moments of each sub-pixel over 2,000 training
    images and noise. This is our choice: Real NVP has batch norm, Glow its first batch's moments.
    """

    likelihood = "bound"
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: TarFlowConfig) -> None:
        super().__init__()
        self.config = config
        self.image_shape, self.levels = config.image_shape, config.levels
        self.logit, self.prior = Logit(), GaussianPrior()
        self.register_buffer("mean", torch.zeros(config.image_shape))
        self.register_buffer("deviation", torch.ones(config.image_shape))
        self.flow = Composition(Block(config, backwards=i % 2 == 1) for i in range(config.blocks))

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """Set mean and deviation of each sub-pixel's logit by 2,000 of the `images` and noise.

        A deviation is at least 0.3.
        """
        y, _ = self._logits(self.check_images(images[:2000]), torch.Generator().manual_seed(0))
        self.mean.copy_(y.mean(0))
        # A rare bright value of a pixel that is nearly always black must not lie too far out.
        self.deviation.copy_(y.std(0, correction=0).clamp(min=0.3))

    def _log_probs(
        self, images: Tensor, num_draws: int, generator: torch.Generator | None, y: Tensor | None
    ) -> Iterator[Tensor]:
        fixed = self.deviation.log().sum() + self.num_dimensions * math.log(self.levels)
        for _ in range(num_draws):
            logits, logit_log_det = self._logits(images, generator)
            z, flow_log_det = self.flow(self.to_patches(logits))
            yield self.prior.log_prob(z) + flow_log_det + logit_log_det - fixed

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        labels: Tensor | None = None,
    ) -> Tensor:
        """x = g(temperature z), z ~ N(0, I): uint8, (n, C, H, W), in T steps for each block."""
        self.condition(labels, n)
        check_temperature(temperature)
        z = temperature * self.prior.sample((n, *self.config.tokens), generator)
        patches, _ = self.flow.inverse(z.to(self.mean))
        return quantise(self.logit.inverse(self.to_image(patches))[0], self.levels)

    def to_patches(self, y: Tensor) -> Tensor:
        """Logits, (N, C, H, W), to what the flow sees, (N, T, S), in raster order."""
        patch = self.config.patch
        return F.unfold((y - self.mean) / self.deviation, patch, stride=patch).mT

    def to_image(self, patches: Tensor) -> Tensor:
        """The inverse of `to_patches`."""
        patch = self.config.patch
        image = F.fold(patches.mT, self.image_shape[1:], patch, stride=patch)
        return image * self.deviation + self.mean

    def _logits(self, images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        noise = uniform_noise(images.shape, generator, self.dtype)
        return self.logit(dequantise(images, noise, self.levels))
