"""Sources for `nvp data import`, in their publishers' formats."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def pixels(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """(H, W, C) noise."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """An image file."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def write(path: Path, content: bytes) -> Path:
    """Write a file, and its folder before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def photographs(folder: Path, number: int = 20, size: tuple[int, int] = (6, 6)) -> list[np.ndarray]:
    """`number` PNG files named 00.png and so on; returns their pixels."""
    images = [pixels(*size, seed) for seed in range(number)]
    for index, image in enumerate(images):
        write(folder / f"{index:02d}.png", encoded(image))
    return images
