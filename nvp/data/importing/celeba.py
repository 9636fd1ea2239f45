"""CelebA: the aligned images, the official split file and the attributes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nvp.data.importing.files import File, Files, Unreadable
from nvp.data.importing.pixels import central_face
from nvp.data.importing.source import Part, Picture, Source
from nvp.errors import NVPError

SPLITS_FILE, LABELS_FILE = "list_eval_partition.txt", "list_attr_celeba.txt"
PARTITIONS = ("train", "validation", "test")  # 0, 1 and 2 in its file


def read_celeba(files: Files) -> Source:
    """The aligned images, by the official split file; the 40 attributes become labels, 0 or 1."""
    partition = [line.split() for line in _text(files, SPLITS_FILE, 1)]
    images: dict[str, File] = {}
    for file in files.ending(".jpg"):
        other = images.setdefault(file.path.name, file)
        if other is not file:  # the images in the wild have the same names
            raise NVPError(
                f"{files.source} holds {other.name} and {file.name}: leave only the aligned images "
                "there"
            )
    _, header, *rows = _text(files, LABELS_FILE, 2)
    names, attributes = header.split(), {row.split()[0]: row.split()[1:] for row in rows}
    if any(len(row) != 2 or row[1] not in ("0", "1", "2") for row in partition):
        raise NVPError(f"{SPLITS_FILE} should give each image 0, 1 or 2: download it again")
    for name, _ in partition:
        if name not in images or len(attributes.get(name, ())) != len(names):
            raise NVPError(
                f"{files.source} lacks {name}, or its attributes: it should hold img_align_celeba "
                f"(a folder or .zip), {SPLITS_FILE} and {LABELS_FILE}, all whole"
            )

    def pictures(start: int) -> Iterator[Picture]:
        for name, part in partition[start:]:
            label = np.array([value == "1" for value in attributes[name]], np.float32)
            yield Picture(PARTITIONS[int(part)], name, images[name].read, label)

    return Source(
        kind="CelebA",
        parts=[Part(len(partition), pictures)],
        identity=files.identity,
        published="celeba",
        prepare=central_face,
        facts={"attributes": names, "cut": "rows 40 to 187, columns 15 to 162", "side": 64},
    )


def _text(files: Files, name: str, least: int) -> list[str]:
    """The lines of the file `name` that are not blank. Raises `NVPError` for fewer than `least`."""
    found = files.named(name)
    if len(found) != 1:
        raise NVPError(f"{files.source} should hold one {name}: get it from the set's publisher")
    try:
        lines = found[0].read().decode(errors="replace").splitlines()
    except Unreadable as error:
        raise NVPError(f"{found[0].name} is damaged ({error}): download it again") from error
    lines = [line for line in lines if line.strip()]
    if len(lines) < least:
        raise NVPError(f"{found[0].name} is cut short: download it again")
    return lines
