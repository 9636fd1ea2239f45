"""CelebA: the aligned images, the official split file and the attributes."""

from collections.abc import Iterator

import numpy as np

from nvp.data.importing.files import File, Files, reading
from nvp.data.importing.pixels import central_face
from nvp.data.importing.source import Part, Picture, Source
from nvp.errors import NVPError

SPLITS_FILE, LABELS_FILE = "list_eval_partition.txt", "list_attr_celeba.txt"
PARTITIONS = {"0": "train", "1": "validation", "2": "test"}


def read_celeba(files: Files) -> Source:
    """The aligned images, by the official split file; the 40 attributes become labels, 0 or 1."""
    with reading(SPLITS_FILE, KeyError):
        partition = [(name, PARTITIONS[number]) for name, number in _rows(files, SPLITS_FILE)]
    with reading(LABELS_FILE):
        _, names, *rows = _rows(files, LABELS_FILE)
    attributes = {name: values for name, *values in rows}
    images: dict[str, File] = {}
    for file in files.ending(".jpg"):
        other = images.setdefault(file.path.name, file)
        if other is not file:  # the images in the wild have the same names
            raise NVPError(
                f"{files.source} holds {other.name} and {file.name}: leave only the aligned images "
                "there"
            )
    for name, _ in partition:
        if name not in images or len(attributes.get(name, ())) != len(names):
            raise NVPError(
                f"{files.source} lacks {name}, or its attributes: it should hold img_align_celeba "
                f"(a folder or .zip), {SPLITS_FILE} and {LABELS_FILE}, all whole"
            )

    def pictures(start: int) -> Iterator[Picture]:
        for name, split in partition[start:]:
            label = np.array([value == "1" for value in attributes[name]], np.float32)
            yield Picture(split, name, images[name].read, label)

    return Source(
        kind="CelebA",
        parts=[Part(len(partition), pictures)],
        identity=files.identity,
        published="celeba",
        prepare=central_face,
        facts={"attributes": names, "cut": "rows 40 to 187, columns 15 to 162", "side": 64},
    )


def _rows(files: Files, name: str) -> list[list[str]]:
    """The words of each line of the file `name` that is not blank."""
    found = files.named(name)
    if len(found) != 1:
        raise NVPError(f"{files.source} should hold one {name}: get it from the set's publisher")
    with found[0].open() as file:
        return [row for line in file if (row := line.decode(errors="replace").split())]
