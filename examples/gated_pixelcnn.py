"""Gated PixelCNN (van den Oord et al. 2016, arXiv 1606.05328), for images of one channel.

Two stacks of convolutions close the blind spot of PixelCNN. The vertical one sees rows above;
the horizontal one sees the pixels to the left in its own row, and the vertical one's features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Self, cast

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from nvp.errors import NVPError
from nvp.model import ImageModel, ModelConfig
from nvp.model.autocast import at_least_float32, without_autocast
from nvp.model.dequantisation import uniform_noise
from nvp.model.protocol import check_temperature


class GatedPixelCNNConfig(ModelConfig):
    """`layers` of `width` features in each stack; a kernel reaches `reach` pixels back."""

    num_classes: Literal[0] = 0  # it takes no labels
    width: int = Field(default=32, ge=1)
    layers: int = Field(default=7, ge=1)
    reach: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _has_one_channel(self) -> Self:
        if self.image_shape[0] != 1:
            raise ValueError(f"images must have one channel, not {self.image_shape[0]}")
        return self

    def build(self) -> GatedPixelCNN:
        return GatedPixelCNN(self)


class GatedLayer(nn.Module):
    """A layer of both stacks (figure 2), whose features v and h are (N, width, H, W).

    v sees its own row of the layer's input and those above, h its own pixel and those to the left.
    The first inputs are shifted, so this never includes the pixel that is predicted. No mask is
    needed, since nothing is padded below, nor on the right of h.
    """

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.vertical = nn.Conv2d(width, 2 * width, (reach + 1, 2 * reach + 1))
        self.horizontal = nn.Conv2d(width, 2 * width, (1, reach + 1))
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def look_up(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The next v, and what h reads of the rows above, (N, 2 width, H, W)."""
        above = self.vertical(F.pad(v, (self.reach, self.reach, self.reach, 0)))
        return gate(above), self.link(above)

    def look_left(self, h: Tensor, above: Tensor) -> Tensor:
        """The next h."""
        left = self.horizontal(F.pad(h, (self.reach, 0)))
        return h + self.out(gate(left + above))


def gate(x: Tensor) -> Tensor:
    """tanh(a) sigmoid(b), a and b being the halves of the features (eq 2)."""
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedPixelCNN(ImageModel):
    """P(x) = prod_i P(x_i | x_1, ..., x_{i-1}), each factor a softmax over the levels."""

    likelihood = "exact"
    autoregressive = True

    def __init__(self, config: GatedPixelCNNConfig) -> None:
        super().__init__()
        self.image_shape, self.levels = config.image_shape, config.levels
        width = config.width
        self.into_v, self.into_h = nn.Conv2d(1, width, 1), nn.Conv2d(1, width, 1)
        layers = nn.ModuleList(GatedLayer(width, config.reach) for _ in range(config.layers))
        self.layers = cast(Sequence[GatedLayer], layers)
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 1),
            nn.ReLU(),
            nn.Conv2d(2 * width, self.levels, 1),
        )

    def logits(self, images: Tensor) -> Tensor:
        """The logits of every pixel given those before it: (N, 1, H, W, levels); integers in."""
        return self._along_rows(images, self._from_above(images))

    def _centred(self, images: Tensor) -> Tensor:
        return 2 * images.to(self.dtype) / (self.levels - 1) - 1

    def _from_above(self, images: Tensor) -> list[Tensor]:
        """What each layer's h reads of the rows above."""
        x = self._centred(images)
        with without_autocast(x):  # bfloat16 would move the levels
            v = self.into_v(F.pad(x, (0, 0, 1, 0))[:, :, :-1])  # mask A, as a shift by one row
        read = []
        for layer in self.layers:
            v, above = layer.look_up(v)
            read.append(above)
        return read

    def _along_rows(self, images: Tensor, from_above: list[Tensor]) -> Tensor:
        """The logits; each row depends on itself and on what it reads from above."""
        x = self._centred(images)
        with without_autocast(x):
            h = self.into_h(F.pad(x, (1, 0))[:, :, :, :-1])  # and by one pixel
        for layer, above in zip(self.layers, from_above, strict=True):
            h = layer.look_left(h, above)
        return self.head(h).movedim(1, -1)[:, None]

    def _log_probs(
        self, images: Tensor, num_draws: int, generator: torch.Generator | None, y: Tensor | None
    ) -> Iterator[Tensor]:
        # A sum over so many pixels needs more digits than bfloat16 has.
        log_p = at_least_float32(self.logits(images)).log_softmax(dim=-1)
        yield log_p.gather(-1, images.long()[..., None]).flatten(1).sum(dim=1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Pixel after pixel: uint8, (n, 1, H, W). The vertical stack is computed once a row."""
        self.condition(labels, n)
        check_temperature(temperature)
        images = torch.zeros(n, *self.image_shape, dtype=torch.uint8, device=self.device)
        for row in range(images.shape[2]):
            from_above = [x[:, :, row:] for x in self._from_above(images[:, :, : row + 1])]
            for column in range(images.shape[3]):
                so_far = images[:, :, row : row + 1, : column + 1]
                above = [x[..., : column + 1] for x in from_above]
                logits = at_least_float32(self._along_rows(so_far, above)[:, 0, 0, column])
                if logits.isnan().any():
                    raise NVPError("a logit is nan: look for weights that are not finite")
                # The largest of logits plus Gumbel noise is a draw from their softmax.
                u = uniform_noise(logits.shape, generator, logits.dtype).to(logits.device)
                noise = -(-u.clamp(min=1e-12).log()).log()
                images[:, 0, row, column] = (logits + temperature * noise).argmax(1)
        return images
