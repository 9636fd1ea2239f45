"""A full-covariance Gaussian over the logits of dequantised images: a baseline for any flow."""

import math
from collections.abc import Iterator
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from nvp.model.autocast import full_float32
from nvp.model.config import ModelConfig
from nvp.model.dequantisation import (
    dequantise,
    inverse_logit,
    logit,
    normal_noise,
    quantise,
    uniform_noise,
)
from nvp.model.protocol import ImageModel, check_latents, check_temperature

CELLS = 256  # places within a level at which noise is integrated
CHUNK = 1000  # images
MOST_DIMENSIONS = 20_000  # whose covariance takes 3.2 GB


class GaussianConfig(ModelConfig, family="gaussian"):
    """The Gaussian has one choice, the alpha of the logit, which defaults to Real NVP's."""

    num_classes: Literal[0] = 0
    alpha: float = Field(default=0.05, gt=0, lt=0.5)

    def build(self) -> "Gaussian":
        return Gaussian(self)

    @model_validator(mode="after")
    def _covariance_fits(self) -> Self:
        size = math.prod(self.image_shape)
        if size > MOST_DIMENSIONS:
            raise ValueError(
                f"images of {size} sub-pixels have a covariance of {size} x {size}: use smaller "
                f"ones, of at most {MOST_DIMENSIONS}"
            )
        return self


class Gaussian(ImageModel):
    """y = logit(alpha + (1 - 2 alpha) x~), x~ = (v + u) / levels, u ~ U[0, 1); y ~ N(m, L L^T).

    It is Real NVP with the flow replaced by one triangular matrix: the bound on log P(v) has the
    same terms. A Gaussian over x~ itself would put mass outside [0, 1), more of it the closer
    pixels are to black and white.

    `initialise` is the fit, in closed form; before it the model is N(0, I). Row i of L^-1 predicts
    pixel i from those before it: this is also the best linear autoregressive model.
    """

    likelihood = "bound"
    fitted_in_closed_form = True

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.config = config
        self.image_shape = config.image_shape
        self.levels = config.levels
        self.slope = 1 - 2 * config.alpha
        d = self.num_dimensions
        self.mean = nn.Parameter(torch.zeros(d))
        self.log_diagonal = nn.Parameter(torch.zeros(d))  # of L
        self.below = nn.Parameter(torch.zeros(d * (d - 1) // 2))  # L's strict lower half, by rows

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """Maximum likelihood: m and L L^T become mean and covariance of y over `images` and noise.

        `images` are uint8, (N, C, H, W); others raise `NVPError`. The noise is not drawn: y of a
        level has a mean and a variance over u. Noise of different pixels is independent, so it adds
        to the diagonal alone, and makes the covariance positive for any number of images.
        """
        images = self.check_images(images).cpu()
        levels = torch.arange(self.levels, dtype=torch.float64)[:, None]
        cells = (torch.arange(CELLS, dtype=torch.float64) + 0.5) / CELLS
        y, _ = logit((levels + cells) / self.levels, self.config.alpha, self.slope)
        variances, means = torch.var_mean(y, dim=1, correction=0)
        d = self.num_dimensions
        total, noise = (torch.zeros(d, dtype=torch.float64) for _ in range(2))
        products = torch.zeros(d, d, dtype=torch.float64)
        centre = means[images[:CHUNK].long().flatten(1)].mean(0)  # against cancellation
        for chunk in images.split(CHUNK):
            x = chunk.long().flatten(1)
            y = means[x] - centre
            total += y.sum(0)
            products += y.T @ y
            noise += variances[x].sum(0)
        offset = total / len(images)
        covariance = (products + noise.diag()) / len(images) - offset.outer(offset)
        factor = torch.linalg.cholesky(covariance)
        rows, columns = torch.tril_indices(d, d, -1)
        self.mean.copy_(centre + offset)
        self.log_diagonal.copy_(factor.diagonal().log())
        self.below.copy_(factor[rows, columns])

    def _log_probs(
        self, images: Tensor, num_draws: int, generator: torch.Generator | None, y: Tensor | None
    ) -> Iterator[Tensor]:
        normal = MultivariateNormal(self.mean, scale_tril=self._factor(), validate_args=False)
        change = self.num_dimensions * math.log(self.levels)
        for _ in range(num_draws):
            logits, log_det = self._dequantise(images, generator)
            yield normal.log_prob(logits) + log_det - change

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        labels: Tensor | None = None,
    ) -> Tensor:
        """y = m + L temperature z, z ~ N(0, I): uint8, (n, C, H, W)."""
        self.condition(labels, n)
        check_temperature(temperature)
        z = normal_noise((n, *self.image_shape), generator)
        return self.decode(temperature * z)

    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """z = L^-1 (y - m), (N, C, H, W): N(0, I) if the logits y were N(m, L L^T). uint8 in."""
        self.check_precision()
        y, _ = self._dequantise(self.check_images(images), generator)
        z = torch.linalg.solve_triangular(self._factor(), (y - self.mean).T, upper=False).T
        return z.unflatten(1, self.image_shape)

    @torch.no_grad()
    @full_float32()  # with the rounding of autocast, `decode` would not undo `encode`
    def decode(self, z: Tensor) -> Tensor:
        """y = m + L z, back to uint8: (N, C, H, W) -> (N, C, H, W)."""
        check_latents(z, self.image_shape)
        y = self.mean + z.to(self.mean).flatten(1) @ self._factor().T
        scaled, _ = inverse_logit(y, self.config.alpha, self.slope)
        return quantise(scaled, self.levels).unflatten(1, self.image_shape)

    def _factor(self) -> Tensor:
        """L, (D, D)."""
        d = self.num_dimensions
        under = torch.ones(d, d, dtype=torch.bool, device=self.mean.device).tril(-1)
        return self.log_diagonal.exp().diag().masked_scatter(under, self.below)

    def _dequantise(
        self, images: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """y, (N, D), of one draw of u, and log|dy/dx~|, (N,)."""
        scaled = dequantise(images, uniform_noise(images.shape, generator, self.dtype), self.levels)
        y, log_derivative = logit(scaled.flatten(1), self.config.alpha, self.slope)
        return y, log_derivative.sum(1)
