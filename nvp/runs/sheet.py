"""Sheets of images, as PNG files."""

import io
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nvp.errors import NVPError
from nvp.files import write
from nvp.model.autocast import full_float32
from nvp.model.protocol import ImageModel, check_count
from nvp.progress import counting

if TYPE_CHECKING:  # only the extra `cli` brings it
    from PIL import Image

SHEET_BATCH = 100


def write_samples(
    model: ImageModel,
    path: str | Path,
    number: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    label: int | None = None,
) -> None:
    """Write a sheet of samples as a PNG, as square as can be, the highest level white.

    A conditional model samples the class `label`; without one it samples all classes in turn, on a
    sheet with a column for each. Raises `NVPError` as `check_path` and `draw` do, and for a `label`
    that the model does not take.
    """
    path = Path(path)
    check_path(path)
    if label is not None and not model.num_classes:
        raise NVPError("this model takes no labels: leave --label out")
    labels = None if label is None else torch.tensor([label] * number)
    images = draw(model, number, temperature=temperature, seed=seed, labels=labels)
    columns = (label is None and model.num_classes) or math.ceil(math.sqrt(number))
    write(path, encode(sheet(greys(images, model.levels), columns)))


def check_path(path: Path) -> None:
    """Raise `NVPError` for a path that names another format than PNG, or a folder."""
    if path.suffix.lower() not in ("", ".png"):
        raise NVPError(f"{path}: samples are written as PNG, name a file that ends in .png")
    if os.path.isdir(path):
        raise NVPError(f"{path} is a folder: name a file in it that ends in .png")


@full_float32()
def draw(
    model: ImageModel,
    number: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    labels: Tensor | None = None,
) -> Tensor:
    """Samples from the noise of `seed`, (number, C, H, W) uint8 on the CPU, drawn in batches.

    Without `labels`, (number,) or (number, K), a conditional model samples all classes in turn.
    Call `model.eval()` first: in training mode batch norms would use, and store, the statistics of
    these samples. Raises `NVPError` for a weight that is not finite, and for samples of another
    type or shape.
    """
    check_count("number", number)
    if not all(p.isfinite().all() for p in model.parameters()):
        raise NVPError("a weight of the model is not finite, so it has no samples: train it again")
    if labels is None and model.num_classes:
        labels = torch.arange(number) % model.num_classes
    generator = torch.Generator().manual_seed(seed)
    drawn: list[Tensor] = []
    with counting("samples", number) as progress:
        # Batches of nearly one size, at most SHEET_BATCH.
        for batch in torch.arange(number).tensor_split(math.ceil(number / SHEET_BATCH)):
            given = {} if labels is None else {"labels": labels[batch]}
            images = model.sample(len(batch), generator=generator, temperature=temperature, **given)
            shape = (len(batch), *model.image_shape)
            if images.dtype != torch.uint8 or images.shape != shape:
                raise NVPError(
                    f"{type(model).__name__}.sample must give uint8 {shape}, got {images.dtype} "
                    f"{tuple(images.shape)}: fix the model"
                )
            drawn.append(images.cpu())
            progress(sum(map(len, drawn)))
    return torch.cat(drawn)


def greys(images: Tensor, levels: int) -> Tensor:
    """Images with values 0..levels-1, scaled to 0..255 to be shown: uint8, the same shape."""
    return (images.int() * 255 // (levels - 1)).byte()


def sheet(images: Tensor, columns: int, zoom: int = 1) -> "Image.Image":
    """Images, (N, 1 or 3, H, W) uint8, side by side on white, pixels as squares of side `zoom`."""
    from PIL import Image
    from torchvision.utils import make_grid

    grid = make_grid(images, nrow=columns, pad_value=255)[: images.shape[1]]
    grid = grid.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)
    return Image.fromarray(grid.permute(1, 2, 0).squeeze(2).numpy())


def encode(picture: "Image.Image") -> bytes:
    """A picture as a PNG file."""
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue()
