"""Sheets of images, as PNG files."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from nvp.errors import NVPError
from nvp.likelihood import full_float32
from nvp.model.protocol import ImageModel
from nvp.runs.tensors import write_atomically

SHEET_BATCH = 100


@full_float32()
def write_samples(
    model: ImageModel,
    path: Path,
    number: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    label: int | None = None,
) -> None:
    """Write a square sheet of samples as a PNG, the highest level white.

    Of a conditional model they are all of class `label` or, without one, of all classes in turn, a
    column for each.
    """
    if label is not None and not model.num_classes:
        raise NVPError("this model takes no labels: leave --label out")
    columns = math.ceil(math.sqrt(number))
    labels = torch.full((number,), label or 0)
    if label is None and model.num_classes:
        columns = model.num_classes
        labels = torch.arange(number) % columns
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for batch in labels.tensor_split(math.ceil(number / SHEET_BATCH)):  # of about one size
        given = {"labels": batch} if model.num_classes else {}
        drawn.append(
            model.sample(len(batch), generator=generator, temperature=temperature, **given).cpu()
        )
    picture = sheet(torch.cat(drawn), model.levels, columns)
    write_atomically(path, lambda to: picture.save(to, format="PNG"))


def sheet(images: Tensor, levels: int, columns: int) -> Image.Image:
    """Images, (N, C, H, W) of values below `levels`, side by side on white, a gap between them."""
    grey = (images.int() * 255 // (levels - 1)).byte()
    grid = make_grid(grey, nrow=columns, pad_value=255)
    return Image.fromarray(grid.permute(1, 2, 0).numpy())
