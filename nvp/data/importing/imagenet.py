"""The two downsampled ImageNets, of the Pixel RNN paper and of 2017, told apart.

The first has 49,999 validation images; the second, by Chrabaszcz, Loshchilov and Hutter
(arXiv:1707.08819), was downsampled in another way and has 50,000. Bits/dim on one do not compare
with bits/dim on the other. The papers score the validation images, which become the split `test`.
"""

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO

import numpy as np

from nvp.data.importing.files import IMAGES, File, Files, reading
from nvp.data.importing.source import Part, Picture, Source, held
from nvp.data.named import NAMED
from nvp.errors import NVPError

# The number of validation images, and how the names of the two sets end.
VALIDATION_IMAGES = {NAMED[f"imagenet32{end}"].images["test"]: end for end in ("", "-2017")}
SPLIT_OF = {"train": "train", **dict.fromkeys(("val", "valid", "validation"), "test")}


def is_imagenet(files: Files) -> bool:
    """Whether there are tables or folders that are named as the two sets name them."""
    return bool(_tables(files)) or any(map(_split_and_side, files.all))


def read_imagenet(files: Files) -> Source:
    """A downsampled ImageNet: .npz files, or folders of PNG files, or archives of either."""
    # Of each part the split and the pixels a side.
    found = [_table(*table) for table in _tables(files)] or list(_folders(files))
    sides = sorted({side for _, side, _ in found})
    if len(sides) > 1:
        raise NVPError(f"{files.source} has images of {sides} pixels a side: import one size alone")
    validation = sum(part.number for split, _, part in found if split == "test")
    if validation not in VALIDATION_IMAGES:
        known = " or ".join(f"{known:,}" for known in VALIDATION_IMAGES)
        raise NVPError(
            f"{files.source} holds {validation:,} validation images, a downsampled ImageNet has "
            f"{known}: download the rest, unpack archives that lie beside images or, for images of "
            "your own, name the folders train and val"
        )
    return Source(
        kind=f"the downsampled ImageNet with {validation:,} validation images",
        parts=[part for *_, part in found],
        identity=files.identity,
        published=f"imagenet{found[0][1]}{VALIDATION_IMAGES[validation]}",
    )


def _tables(files: Files) -> list[tuple[str, File]]:
    """The files train_data_batch_1.npz and so on, then val_data.npz, with their splits."""
    found = []
    for file in files.ending(".npz"):
        if match := re.fullmatch(r"(train|val)_data(?:_batch_(\d+))?\.npz", file.path.name):
            found.append((match[1], int(match[2] or 0), file))
    return [(SPLIT_OF[name], file) for name, _, file in sorted(found)]


def _table(split: str, file: File) -> tuple[str, int, Part]:
    """(split, side, part) of an .npz file: `data`, (N, 3 side^2), by rows, and `labels`, whole."""
    with _member(file, "data") as member:
        number, columns = _header(file, member)
    side = round((columns / 3) ** 0.5)
    with _member(file, "labels") as member:
        labels = np.lib.format.read_array(member, allow_pickle=False)
    if labels.shape != (number,) or labels.dtype.kind not in "iu":
        raise NVPError(f"{file.name} holds labels {labels.shape} for {number} images: get it again")

    def pictures(start: int) -> Iterator[Picture]:
        with _member(file, "data") as member:
            _header(file, member)
            for index, label in enumerate(labels.tolist()):
                row = member.read(columns)
                if index >= start:
                    pixels = np.frombuffer(row, np.uint8).reshape(3, side, side).transpose(1, 2, 0)
                    place = f"row {index} ({file.name})"
                    yield Picture(split, place, held(pixels), label - 1)  # theirs begin at 1
            member.read(1)  # the end, where a zip compares its checksum

    return split, side, Part(number, pictures)


@contextmanager
def _member(file: File, name: str) -> Iterator[IO[bytes]]:
    """The array `name` of an .npz file. An error while it is read names the file."""
    with reading(file.name, KeyError), zipfile.ZipFile(file.open()).open(f"{name}.npy") as member:
        yield member


def _header(file: File, member: IO[bytes]) -> tuple[int, int]:
    """(N, columns) of uint8 in C order: all that the published files hold."""
    np.lib.format.read_magic(member)
    (number, columns), fortran, dtype = np.lib.format.read_array_header_1_0(member)
    if fortran or dtype != np.uint8:
        raise NVPError(f"{file.name} holds {dtype}, pixels must be uint8 rows: download it again")
    return number, columns


def _folders(files: Files) -> Iterator[tuple[str, int, Part]]:
    """Folders, or tar archives, train_32x32 and valid_32x32 of PNG files."""

    def pictures(split: str, members: list[File], start: int) -> Iterator[Picture]:
        for file in members[start:]:
            yield Picture(split, file.name, file.read)

    members: dict[tuple[str, int], list[File]] = {}
    for file in files.ending(*IMAGES):
        if found := _split_and_side(file):
            members.setdefault(found, []).append(file)
    for (split, side), each in members.items():
        yield split, side, Part(len(each), partial(pictures, split, each))


def _split_and_side(file: File) -> tuple[str, int] | None:
    """The split and side of a file below train_32x32, or in train_32x32.tar: "train" and 32."""
    found = re.search(r"(?:^|/)(train|val|valid|validation)_(\d+)x\2.*/", file.name.lower())
    return (SPLIT_OF[found[1]], int(found[2])) if found else None
