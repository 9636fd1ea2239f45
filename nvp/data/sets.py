"""Named data sets -> uint8 image tensors, checked on every load.

What is read, under the data root (`nvp.paths.data_root`):

    MNIST/raw, FashionMNIST/raw    the published IDX files, uncompressed, as torchvision keeps them
    binarized_mnist/               Larochelle's text files, 784 binary values a line
    cifar10/                       a folder of .npy files; without it cifar-10-batches-py/,
                                   torchvision's layout
    NAME/                          a folder of .npy files, imported or of your own

A folder of .npy files holds `train_images.npy` and `test_images.npy`, uint8, (N, H, W, C) with
one or three channels. Optional are `validation_images.npy`, and `train_labels.npy` and so on:
classes as integers, (N,), or attributes as floats, (N, K). `nvp data import` writes such
folders. The embedded set is always read from the repository itself. Pixels of binary
images are 0 and 1.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from nvp.data.formats import (
    DAMAGED_NPY,
    SPLITS,
    MissingData,
    NoValidationSplit,
    Stored,
    is_npy_folder,
    read_amat,
    read_cifar10,
    read_idx,
    read_npy,
)
from nvp.data.on_disk import RaggedRows, StoredImages, fingerprint, fingerprint_rows, nchw
from nvp.errors import NVPError
from nvp.paths import data_root, embedded_root, expanded

EMBEDDED = "fashion-mnist-small"
EMBEDDED_BINARY = f"{EMBEDDED}-binarized"
NAMES = ("mnist", "fashion-mnist", "binarized-mnist", "cifar10", EMBEDDED, EMBEDDED_BINARY)

IDX_FOLDERS = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw"}
# md5 of the published files once decompressed, so that any compression of them will do.
IDX_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
AMAT_FOLDER = "binarized_mnist"
AMAT_MD5 = {
    "binarized_mnist_train.amat": "db28b1a6ae0fe70cbd3da91acf46e477",
    "binarized_mnist_valid.amat": "bf37822a04e94123630de6a7dfd9c9ef",
    "binarized_mnist_test.amat": "14e41ae11040adba6ab8cb291eda0dd8",
}
# The classes 0 to 9 of Fashion-MNIST and of its embedded subset: the published list, shortened.
FASHION_CLASSES = (
    *("T-shirt", "trousers", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)
IN_MEMORY = 1 << 30  # bytes; a larger split stays on disk


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images, and what identifies them.

    `images` are uint8, (N, C, H, W): a tensor or, of a large or cropped set, a `StoredImages`.
    `labels` are int64, (N,), or float32, (N, K), or None. `checksum` is the `fingerprint` of the
    images as stored, which recorded runs keep; `labels_checksum` is that of the labels.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor | None
    checksum: str
    labels_checksum: str | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


def load(
    name: str | Path,
    split: str,
    *,
    root: str | Path | None = None,
    limit: int | None = None,
    crop: int | None = None,
) -> Dataset:
    """Read a split of the data set `name`: one of `NAMES`, or a folder of .npy files.

    A folder is given as a path, or by its name under the data root. `limit` keeps the first
    images only. Splits are those of the publisher: `train`, `test` and, for a few sets,
    `validation`. For the other sets training holds out its last images for validation
    (`nvp.data.splits.hold_out`).
    A split of more than `IN_MEMORY` bytes, or one to `crop`, stays on disk (`StoredImages`).

    Raises `NVPError`: an unknown name or split, a `limit` or `crop` below 1, a `crop` larger than
    the smallest image, a missing set, a truncated or altered file, images that are not uint8 or not
    (N, H, W, C); `NoValidationSplit` where there is no validation split.
    """
    check_split(split)
    if limit is not None and limit < 1:
        raise NVPError(f"limit must be at least 1 image, got {limit}")
    if crop is not None and crop < 1:
        raise NVPError(f"crop must be at least 1 pixel, got {crop}")
    stored = find(name, split, root)
    stored.verify()
    number = min(len(stored.images), limit or len(stored.images))
    images, checksum = _images(stored, number, crop)
    labels = None
    if stored.labels is not None:
        kind = np.float32 if stored.labels.dtype.kind == "f" else np.int64
        labels = torch.from_numpy(stored.labels.astype(kind))
    if number == len(stored.images):
        _compare("images", stored, split, stored.noted.get("sha256"), checksum)
    if labels is not None:
        _compare("labels", stored, split, stored.noted.get("labels_sha256"), fingerprint(labels))
        labels = labels[:number]
    labels_checksum = None if labels is None else fingerprint(labels)
    return Dataset(str(name), split, images, labels, checksum, labels_checksum)


def check_split(split: str) -> None:
    """Raise `NVPError` unless it is one of `SPLITS`."""
    if split not in SPLITS:
        raise NVPError(f"unknown split {split!r}: use one of {', '.join(SPLITS)}")


def _images(stored: Stored, number: int, crop: int | None) -> tuple[Tensor, str]:
    """The first images, and their fingerprint before they are cut."""
    rows = stored.images
    if stored.decode is not None:
        assert not isinstance(rows, RaggedRows)
        rows = stored.decode(rows[:number])
    size = number * math.prod(rows.shape[1:])
    if crop is None and not isinstance(rows, RaggedRows) and size <= IN_MEMORY:
        images = torch.from_numpy(nchw(rows[:number]))
        return images, fingerprint(images)
    # It is sliced, indexed, counted and moved as a tensor is, which is all that loops do.
    images = cast(Tensor, StoredImages(rows, crop)[:number])
    return images, fingerprint_rows(rows, number)


def _compare(what: str, stored: Stored, split: str, noted: str | None, found: str) -> None:
    if noted not in (None, found):
        raise NVPError(
            f"the {split} {what} in {stored.place} changed after they were imported, or the disk "
            "is at fault: import the set again with --replace"
        )


def find(name: str | Path, split: str, root: str | Path | None = None) -> Stored:
    """Open `split` (one of `SPLITS`) of a data set: headers and sizes are checked, not pixels.

    Raises `MissingData` when it is not there, `NVPError` when its files are damaged or unreadable.
    """
    try:
        return _find(name, split, data_root(root))
    except OSError as error:
        raise NVPError(f"cannot read {name} ({error}): check its permissions") from error


def _find(name: str | Path, split: str, under: Path) -> Stored:
    if split == "validation" and name in NAMES and name != "binarized-mnist":
        raise NoValidationSplit(str(name))
    if name == EMBEDDED:
        return _embedded(embedded_root() / EMBEDDED, split)
    if name == EMBEDDED_BINARY:
        return replace(_embedded(embedded_root() / EMBEDDED, split), decode=_binarise(split))
    instead = EMBEDDED_BINARY if name == "binarized-mnist" else EMBEDDED
    remedy = (
        f"run `nvp data get {name}`, or point --data-root or NVP_DATA at it, or use the embedded "
        f"{instead}"
    )
    if name in IDX_FOLDERS:
        name = str(name)
        return read_idx(name, under / IDX_FOLDERS[name], split, IDX_MD5[name], remedy)
    if name == "binarized-mnist":
        return read_amat(name, under / AMAT_FOLDER, split, AMAT_MD5, remedy)
    if name == "cifar10":
        return read_cifar10(under, split, remedy)
    for folder in (under / name, expanded(name)):
        if is_npy_folder(folder):
            return read_npy(folder, split)
    raise MissingData(
        f"no data set {str(name)!r}: use {', '.join(NAMES)}, or a folder that holds "
        f"train_images.npy and test_images.npy, as a path or by its name under {under}; "
        "`nvp data get NAME` gets a published one or says how, and `nvp data import FOLDER NAME "
        "--size 32` makes one of your own images"
    )


def _binarise(split: str) -> Callable[[np.ndarray], np.ndarray]:
    """Each pixel 1 with probability pixel / 255, by the raw numbers of one seed a split.

    NumPy keeps the streams of its bit generators as they are, so the images stay the same.
    """

    def decode(images: np.ndarray) -> np.ndarray:
        raw = np.random.PCG64(SPLITS.index(split)).random_raw(images.size)
        return (raw.reshape(images.shape) % 255 < images).astype(np.uint8)

    return decode


def _embedded(folder: Path, split: str) -> Stored:
    """The embedded set: the arrays of a folder of .npy files, compressed into one file."""
    remedy = f"restore it with `git checkout -- data/{EMBEDDED}`"
    path = folder / "images.npz"
    if not path.is_file():
        raise MissingData(
            f"the embedded set is missing (no {path}): run this in a checkout of the repository; "
            f"if this is one, {remedy}"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            images, labels = archive[f"{split}_images"], archive[f"{split}_labels"]
        expected = json.loads((folder / "checksums.json").read_text())[split]["sha256"]
    except (zlib.error, KeyError, OSError, *DAMAGED_NPY) as error:
        raise NVPError(f"{path} or its checksums are damaged ({error}): {remedy}") from error

    def verify() -> None:
        if fingerprint(torch.from_numpy(nchw(images))) != expected:
            raise NVPError(f"{path} was altered, its pixels miss their SHA-256: {remedy}")

    return Stored(images, labels, path, verify)
