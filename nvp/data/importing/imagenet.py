"""The two downsampled ImageNets, of the Pixel RNN paper and of 2017, told apart.

The first has 49,999 validation images; the second, by Chrabaszcz, Loshchilov and Hutter
(arXiv:1707.08819), was downsampled in another way and has 50,000. Bits/dim on one do not compare
with bits/dim on the other. What the papers score, the validation images, becomes the split `test`.
"""

from __future__ import annotations

import itertools
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeAlias, cast

import numpy as np

from nvp.data.importing.files import BROKEN, IMAGES, File, Files, check_growth, reading
from nvp.data.importing.source import Picture, Source, held
from nvp.errors import NVPError

VALIDATION_IMAGES = {49_999: "", 50_000: "-2017"}  # and how the names of the two sets end
# How many images, how they are read, how many of each split, pixels a side.
_Found: TypeAlias = tuple[int, Callable[[int], Iterator[Picture]], Counter[str], int]
SPLITS = {"train": "train", **dict.fromkeys(("val", "valid", "validation"), "test")}


def is_imagenet(files: Files) -> bool:
    """Whether there are tables or folders that are named as the two sets name them."""
    return bool(_tables(files)) or any(map(_split_and_side, files))


def read_imagenet(files: Files) -> Source:
    """A downsampled ImageNet: .npz files, or folders of PNG files, or archives of either."""
    arrays = [_Npz(split, file) for split, file in _tables(files)]
    number, pictures, counts, side = _from_arrays(arrays) if arrays else _from_files(files)
    validation = counts["test"]
    if validation not in VALIDATION_IMAGES:
        known = " or ".join(f"{known:,}" for known in VALIDATION_IMAGES)
        raise NVPError(
            f"{files.source} holds {validation:,} validation images, a downsampled ImageNet has "
            f"{known}: download the rest or, for images of your own, name the folders train and val"
        )
    return Source(
        kind=f"the downsampled ImageNet with {validation:,} validation images",
        number=number,
        pictures=pictures,
        identity=files.identity,
        published=f"imagenet{side}{VALIDATION_IMAGES[validation]}",
    )


def _tables(files: Files) -> list[tuple[str, File]]:
    """The files train_data_batch_1.npz and so on, and val_data.npz, with their splits."""
    name = re.compile(r"(train|val)_data(_batch_\d+)?\.npz")
    named = [(name.fullmatch(file.path.name), file) for file in files.ending(".npz")]
    return [(SPLITS[match[1]], file) for match, file in named if match]


class _Npz:
    """The array `data` of an .npz file, (N, 3 side^2), and `labels`, read a row at a time."""

    def __init__(self, split: str, file: File) -> None:
        self.split, self.file = split, file
        with self._member("data") as member:
            self.number, columns = self._header(member)
        self.side = round((columns / 3) ** 0.5)
        if 3 * self.side**2 != columns:
            raise NVPError(f"{file.name} holds rows of {columns} values, which are no square image")
        self.labels = self._labels()

    def __iter__(self) -> Iterator[np.ndarray]:
        """(side, side, 3) each."""
        with self._member("data") as member:
            self._header(member)
            for _ in range(self.number):
                row = member.read(3 * self.side**2)
                if len(row) < 3 * self.side**2:
                    raise NVPError(f"{self.file.name} is cut short: download it again")
                channels = np.frombuffer(row, np.uint8).reshape(3, self.side, self.side)
                yield channels.transpose(1, 2, 0)
            member.read(1)  # the end, where a zip compares its checksum

    def _member(self, name: str) -> BinaryIO:
        with reading(self.file.name):
            archive = zipfile.ZipFile(self.file.open())
            if f"{name}.npy" not in archive.namelist():
                raise NVPError(f"{self.file.name} holds no array {name!r}: download it again")
            info = archive.getinfo(f"{name}.npy")
            check_growth(self.file.name, info)
            return cast(BinaryIO, archive.open(info))

    def _header(self, member: BinaryIO) -> tuple[int, int]:
        """(N, columns) of uint8 in C order: all that the published files hold."""
        try:
            version = np.lib.format.read_magic(member)
            read = getattr(np.lib.format, f"read_array_header_{version[0]}_{version[1]}")
            (number, columns), fortran, dtype = read(member)
        except (*BROKEN, AttributeError, TypeError) as error:
            raise NVPError(f"{self.file.name} holds no plain table of pixels ({error})") from error
        if fortran or dtype != np.uint8:
            raise NVPError(f"{self.file.name} holds {dtype}, pixels must be uint8 in rows")
        return number, columns

    def _labels(self) -> np.ndarray:
        with self._member("labels") as member:
            try:
                labels = np.lib.format.read_array(member, allow_pickle=False)
            except BROKEN as error:
                raise NVPError(
                    f"{self.file.name} holds labels that are no numbers ({error})"
                ) from error
        if labels.shape != (self.number,) or labels.dtype.kind not in "iu":
            raise NVPError(f"{self.file.name} holds labels {labels.shape} for {self.number} images")
        return labels


def _from_arrays(arrays: list[_Npz]) -> _Found:
    arrays = sorted(arrays, key=lambda rows: (rows.split != "train", _batch_number(rows.file)))

    def pictures(start: int) -> Iterator[Picture]:
        for rows in arrays:
            for index, pixels in enumerate(itertools.islice(rows, start, None), start):
                label = int(rows.labels[index]) - 1  # theirs begin at 1
                yield Picture(rows.split, f"row {index} ({rows.file.name})", held(pixels), label)
            start = max(0, start - rows.number)

    counts = Counter({"test": 0})
    for rows in arrays:
        counts[rows.split] += rows.number
    return sum(counts.values()), pictures, counts, _one_side({rows.side for rows in arrays})


def _batch_number(file: File) -> int:
    digits = file.path.stem.rsplit("_", 1)[-1]
    return int(digits) if digits.isdecimal() else 0


def _from_files(files: Files) -> _Found:
    """Folders, or tar archives, train_32x32 and valid_32x32 of PNG files."""
    chosen = [(*found, file) for file in files.ending(*IMAGES) if (found := _split_and_side(file))]

    def pictures(start: int) -> Iterator[Picture]:
        for split, _, file in chosen[start:]:
            yield Picture(split, file.name, file.read)

    counts = Counter({"test": 0, **Counter(split for split, *_ in chosen)})
    return len(chosen), pictures, counts, _one_side({side for _, side, _ in chosen})


def _one_side(sides: set[int]) -> int:
    if len(sides) != 1:
        raise NVPError(
            f"there are images of {sorted(sides)} pixels a side: import one set at a time"
        )
    return sides.pop()


def _split_and_side(file: File) -> tuple[str, int] | None:
    """The split and side of a file below train_32x32, or in train_32x32.tar: "train" and 32."""
    for part in file.path.parts[:-1]:
        found = re.match(r"(train|val|valid|validation)_(\d+)x\2", part.lower())
        if found:
            return SPLITS[found[1]], int(found[2])
    return None
