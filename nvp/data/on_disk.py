"""Images that stay on disk: rows of a file, read when they are asked for.

They are read with `pread`, not through a memory map. A file that another process cuts short is then
an error in one line; under a map it would end this process by SIGBUS. The workers of a `DataLoader`
may share the open file, and so they must not share a place in it.
"""

import hashlib
import itertools
import os
import weakref
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nvp.errors import NVPError

BLOCK = 1 << 22  # bytes of one read, when a whole file is read


class Rows:
    """An array (N, ...) of uint8 in a file; the array begins at the byte `offset`."""

    def __init__(self, path: Path, shape: tuple[int, ...], offset: int = 0) -> None:
        self.path, self.shape, self.offset = path, shape, offset
        self.stride = int(np.prod(shape[1:], dtype=np.int64))
        # The file stays open: if another file takes its name, we still read the old one.
        self._file = path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)

    def __reduce__(self) -> Any:
        return Rows, (self.path, self.shape, self.offset)  # a copy opens the file itself

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: int | slice) -> np.ndarray:
        """One row, or those from the start to the stop of a slice without a step."""
        if not isinstance(which, slice):
            return self._read(int(which), 1)[0]
        start, stop, _ = which.indices(len(self))
        return self._read(start, max(0, stop - start))

    def _read(self, first: int, number: int) -> np.ndarray:
        array = np.empty((number, *self.shape[1:]), np.uint8)
        left, place = array.reshape(-1).data, self.offset + first * self.stride
        try:
            while left.nbytes:
                got = os.pread(self._file.fileno(), min(left.nbytes, BLOCK), place)
                if not got:
                    raise NVPError(f"{self.path} was cut short while it was read: restore it")
                left[: len(got)] = got
                left, place = left[len(got) :], place + len(got)
        except OSError as error:
            raise NVPError(f"cannot read {self.path} ({error.strerror}): restore it") from error
        return array


class RaggedRows:
    """Images of different sizes, one after the other in a file: image i is (H_i, W_i, C).

    `sizes` holds H and W of each, (N, 2); `shape` is (N, H, W, C) of the smallest sides.
    """

    def __init__(self, pixels: Rows, sizes: np.ndarray, channels: int) -> None:
        self.pixels, self.sizes, self.channels = pixels, sizes, channels
        self.ends = np.cumsum(sizes.astype(np.int64).prod(axis=1) * channels)
        height, width = sizes.min(axis=0)
        self.shape = (len(sizes), int(height), int(width), channels)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, which: int) -> np.ndarray:
        height, width = map(int, self.sizes[which])
        end = int(self.ends[which])
        pixels = self.pixels[end - height * width * self.channels : end]
        return pixels.reshape(height, width, self.channels)


Stack: TypeAlias = np.ndarray | Rows  # (N, H, W, C)


class StoredImages:
    """Images on disk that a loop uses as it would a tensor, (N, C, H, W) uint8.

    A slice is a view; an index by numbers, and `to`, read images into memory. With `crop` each
    is cut to a square of that side: at its centre, or by `at_random` at a random place.
    """

    def __init__(
        self, rows: Stack | RaggedRows, crop: int | None = None, which: range | None = None
    ) -> None:
        self.rows, self.crop = rows, crop
        self.which = range(len(rows)) if which is None else which
        height, width, channels = rows.shape[1:]
        if crop is not None and crop > min(height, width):
            raise NVPError(
                f"data.crop {crop} exceeds the smallest side of the images, "
                f"{min(height, width)} pixels: lower data.crop, or import larger images"
            )
        if crop is None and isinstance(rows, RaggedRows):
            raise NVPError(
                "the images differ in size: set data.crop to the side of the squares to cut"
            )
        sides = (height, width) if crop is None else (crop, crop)
        self.shape = (len(self.which), channels, *sides)

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, which: int | slice | Tensor) -> "StoredImages | Tensor":
        if isinstance(which, slice):
            return StoredImages(self.rows, self.crop, self.which[which])
        if isinstance(which, Integral):  # as a DataLoader does, and `for image in images`
            return self._read(torch.tensor([int(which)]), torch.full((2, 1), 0.5))[0]
        which = torch.as_tensor(which)  # a list and a NumPy array are as good
        if which.dtype is torch.bool:
            which = which.nonzero().flatten()
        return self._read(which, torch.full((2, len(which)), 0.5))

    def to(self, device: torch.device | str) -> Tensor:
        """All images in memory, on `device`: uint8, (N, C, H, W)."""
        return self[torch.arange(len(self))].to(device)

    def at_random(self, which: Tensor, generator: torch.Generator) -> Tensor:
        """The images numbered `which`, (n, C, crop, crop), each cut at a random place."""
        return self._read(which, torch.rand(2, len(which), generator=generator))

    def _read(self, which: Tensor, places: Tensor) -> Tensor:
        """The images `which`; `places`, (2, n) in [0, 1), is how far down and right each is cut."""
        images = np.empty((len(which), *self.shape[2:], self.shape[1]), np.uint8)
        for i, index in enumerate(which.tolist()):
            image = self.rows[self.which[index]]
            if self.crop is not None:
                top, left = (
                    int(place * (side - self.crop + 1))
                    for place, side in zip(places[:, i].tolist(), image.shape, strict=False)
                )
                image = image[top : top + self.crop, left : left + self.crop]
            images[i] = image
        return torch.from_numpy(nchw(images))


def nchw(images: np.ndarray) -> np.ndarray:
    """(N, H, W, C) -> (N, C, H, W), a copy of our own."""
    return np.array(images.transpose(0, 3, 1, 2), order="C")


def fingerprint(array: Tensor) -> str:
    """SHA-256, in hex, of the shape, such as "N,C,H,W", and of the values in that order."""
    return _sha256(array.shape, [array.contiguous().numpy()])


def fingerprint_rows(rows: Stack | RaggedRows, number: int) -> str:
    """`fingerprint` of the first `number` images, without holding them all in memory.

    Of images of different sizes it is the SHA-256 of "N,C", the sizes as int32, and the pixels.
    """
    if isinstance(rows, RaggedRows):
        end = int(rows.ends[number - 1])
        flat = (rows.pixels[i : min(i + BLOCK, end)] for i in range(0, end, BLOCK))
        sizes = rows.sizes[:number].astype("<i4")
        return _sha256((number, rows.channels), itertools.chain([sizes], flat))
    height, width, channels = rows.shape[1:]
    step = max(1, BLOCK // (height * width * channels))
    blocks = (nchw(rows[i : min(i + step, number)]) for i in range(0, number, step))
    return _sha256((number, channels, height, width), blocks)


def _sha256(shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256(",".join(map(str, shape)).encode())
    for block in blocks:
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
