"""Checks that hold for any model or bijection."""

from __future__ import annotations

import torch
from torch import Tensor

from nvp.autoregressive.pixelrnn import PixelRNN


def fill_by_definition(
    model: PixelRNN,
    images: Tensor,
    first_row: int,
    *,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """The same as `nvp.autoregressive.sampling.fill`, by a forward pass for every sub-pixel.

    It takes C H W times the work, and needs no caches: a reference to compare with.
    """
    images = images.clone()
    _, colours, height, width = images.shape
    for row in range(first_row, height):
        for column in range(width):
            for colour in range(colours):
                parameters = model.parameters_of(images)[:, colour, row, column]
                drawn = model.output.draw(parameters, generator, temperature)
                images[:, colour, row, column] = drawn
    return images
