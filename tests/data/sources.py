"""Sources for `nvp data import`, in their publishers' formats."""

import hashlib
import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tiny import refusal

from nvp.data.sets import load
from nvp.errors import NVPError


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


def archive(path: Path, members: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> Path:
    """A .zip of these files, or a .tar, which packs nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", packing) as file:
            for name, content in members.items():
                file.writestr(name, content)
        return path
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def photographs(folder: Path, number: int = 20, size: tuple[int, int] = (6, 6)) -> list[np.ndarray]:
    """`number` PNG files named 00.png and so on; returns their pixels."""
    images = [pixels(*size, seed) for seed in range(number)]
    for index, image in enumerate(images):
        write(folder / f"{index:02d}.png", encoded(image))
    return images


BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]  # of CIFAR-10


def refused(match: str, *args, error: type[NVPError] = NVPError, **kwargs) -> None:
    """`load` refuses these arguments with one line that says `match`."""
    with refusal(match, error):
        load(*args, **kwargs)


def write_cifar10(root: Path, monkeypatch) -> dict[str, np.ndarray]:
    """CIFAR-10's pickled batches of two images, which count as the published ones; their rows."""
    from torchvision.datasets import CIFAR10

    rows, contents, md5 = {}, {"batches.meta": {"label_names": ["plane"]}}, {}
    for number, name in enumerate(BATCHES):
        rows[name] = pixels(2, 1024, number).reshape(2, 3072)
        contents[name] = {"data": rows[name], "labels": [number, 9]}
    for name, content in contents.items():
        path = write(root / CIFAR10.base_folder / name, pickle.dumps(content, protocol=2))
        md5[name] = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5.pop("batches.meta")})
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5.pop("test_batch")]])
    monkeypatch.setattr(CIFAR10, "train_list", list(map(list, md5.items())))
    return rows
