"""CIFAR-10's published batches, pickled or binary."""

import hashlib
import pickle
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, cast

import numpy as np

from nvp.data.importing.files import reading
from nvp.data.importing.source import Part, Picture, Source, held
from nvp.errors import NVPError

BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
LARGEST = 1 << 25  # bytes that are read of a batch; the published ones have 31 MB


def read_cifar10(source: Path) -> Source:
    """The six batches in a folder, or in the publisher's .tar.gz.

    A pickle is opened only after its md5 agreed with torchvision's list of the published files.
    There is no such list of the binary files: we check only that their rows are whole.
    """
    files = _batches(source)
    pickled = not any(name.endswith(".bin") for name in files)
    parse, end = (_from_pickle, "") if pickled else (_from_binary, ".bin")
    names = [f"{name}{end}" for name in BATCHES]
    if missing := [name for name in names if name not in files]:
        raise NVPError(f"{source} lacks {', '.join(missing)} of CIFAR-10: download the rest")
    batches = {name: parse(name, files[name]) for name in names}

    def pictures(name: str, start: int) -> Iterator[Picture]:
        pixels, labels = batches[name]
        split = "test" if name.startswith("test") else "train"
        for index in range(start, len(labels)):
            image = pixels[index].reshape(3, 32, 32).transpose(1, 2, 0)
            yield Picture(split, f"image {index} ({name})", held(image), int(labels[index]))

    return Source(
        kind="CIFAR-10",
        parts=[Part(len(labels), partial(pictures, name)) for name, (_, labels) in batches.items()],
        identity=hashlib.sha256(b"".join(files[name] for name in names)).hexdigest(),
        published="cifar10",
        facts={"checked": "md5 of each batch" if pickled else "that rows are whole"},
    )


def _batches(source: Path) -> dict[str, bytes]:
    """The content of every file that is named as a batch, by that name."""
    with reading(source):
        if source.is_dir():
            paths = [path for path in source.rglob("*_batch*") if path.stem in BATCHES]
            return {path.name: path.read_bytes() for path in paths}
        if not tarfile.is_tarfile(source):
            raise NVPError(f"{source} is no .tar.gz: unpack it, and name the folder")
        with tarfile.open(source) as archive:
            return {
                path.name: cast(IO[bytes], archive.extractfile(member)).read(LARGEST)
                for member in archive
                if member.isreg() and (path := Path(member.name)).stem in BATCHES
            }


def _from_pickle(name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    from torchvision.datasets import CIFAR10

    published = dict(map(tuple, CIFAR10.train_list + CIFAR10.test_list))
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != published.get(name):
        raise NVPError(f"{name} is not CIFAR-10's published file, by its md5: download it again")
    batch = pickle.loads(content, encoding="latin1")
    return np.asarray(batch["data"]), np.asarray(batch["labels"])


def _from_binary(name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    with reading(name):
        rows = np.frombuffer(content, np.uint8).reshape(len(content) // 3073 or 1, 3073)
    return rows[:, 1:], rows[:, 0]
