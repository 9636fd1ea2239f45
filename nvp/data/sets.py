"""Named data sets -> uint8 image tensors, checked on every load.

What is read, under the data root (`nvp.paths.data_root`):

    MNIST/raw, FashionMNIST/raw    the published IDX files, uncompressed, as torchvision keeps them
    binarized_mnist/               Larochelle's text files, 784 binary values a line
    cifar10/                       a folder of .npy files; without it cifar-10-batches-py/,
                                   torchvision's layout
    NAME/                          a folder of .npy files of your own

A folder of .npy files holds `train_images.npy` and `test_images.npy`, uint8, (N, H, W, C) with
one or three channels, and optionally `validation_images.npy`; labels, classes as integers, (N,),
or attributes as floats, (N, K), are `train_labels.npy` and so on, optional too. The embedded set
is always read from the repository itself. Pixels of binary images are 0 and 1.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nvp.errors import NVPError
from nvp.paths import data_root, embedded_root

__all__ = ["EMBEDDED", "NAMES", "SPLITS", "Dataset", "MissingData", "data_root", "load"]

EMBEDDED = "fashion-mnist-small"
EMBEDDED_BINARY = f"{EMBEDDED}-binarized"
NAMES = ("mnist", "fashion-mnist", "binarized-mnist", "cifar10", EMBEDDED, EMBEDDED_BINARY)
SPLITS = ("train", "validation", "test")

IDX_FOLDERS = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw"}
IDX_PREFIX = {"train": "train", "test": "t10k"}
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
AMAT_LINE = 2 * 28 * 28  # bytes: a digit, and then a space or the line's end
# What NumPy raises for a damaged .npy file: it parses the header as Python.
DAMAGED_NPY = (ValueError, EOFError, OverflowError, SyntaxError, tokenize.TokenError)


class MissingData(NVPError):
    """A data set, or one split of it, is not under the data root."""


class NoValidationSplit(MissingData):
    """The publisher of a data set made no validation split of it."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images in memory, and what identifies them.

    `images` are uint8, (N, C, H, W); `labels` int64, (N,), or float32, (N, K), or None; `checksum`
    is `fingerprint(images)`, which recorded runs keep.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor | None
    checksum: str

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True)
class Stored:
    """One split as it lies on disk: images (N, H, W, C), not read before they are used.

    `decode` turns what lies there into pixels.
    """

    images: np.ndarray
    labels: np.ndarray | None
    place: Path
    verify: Callable[[], None] = lambda: None
    decode: Callable[[np.ndarray], np.ndarray] = lambda stored: stored


def load(
    name: str | Path, split: str, *, root: str | Path | None = None, limit: int | None = None
) -> Dataset:
    """Read a split of the data set `name`: one of `NAMES`, or a folder of .npy files.

    A folder is given as a path, or by its name under the data root. `limit` keeps the first
    images only. Splits are those of the publisher: `train`, `test` and, of a few sets,
    `validation`; without that one training holds its last images out (`nvp.data.splits.hold_out`).

    Raises `NVPError`: an unknown name or split, a missing set, a truncated or altered file,
    images that are not uint8 or not (N, H, W, C); `NoValidationSplit` where there is none.
    """
    if split not in SPLITS:
        raise NVPError(f"unknown split {split!r}: use one of {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise NVPError(f"limit must be at least 1 image, got {limit}")
    stored = find(name, split, root)
    stored.verify()
    images = torch.from_numpy(_nchw(stored.decode(stored.images[:limit])))
    labels = None if stored.labels is None else stored.labels[:limit]
    if labels is not None:
        labels = labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64)
    return Dataset(
        name=str(name),
        split=split,
        images=images,
        labels=None if labels is None else torch.from_numpy(labels),
        checksum=fingerprint(images),
    )


def fingerprint(images: Tensor) -> str:
    """SHA-256, in hex, of the shape written as "N,C,H,W" and the pixels in that order."""
    digest = hashlib.sha256(",".join(map(str, images.shape)).encode())
    digest.update(images.contiguous().numpy().data)
    return digest.hexdigest()


def find(name: str | Path, split: str, root: str | Path | None = None) -> Stored:
    """Open `split` (one of `SPLITS`) of a data set: headers and sizes are checked, not pixels.

    Raises `MissingData` when it is not there, `NVPError` when it cannot be what it should be.
    """
    try:
        return _find(name, split, data_root(root))
    except OSError as error:
        raise NVPError(f"cannot read {name} ({error}): check its permissions") from error


def _find(name: str | Path, split: str, under: Path) -> Stored:
    if name == "binarized-mnist":
        return _amat(under / AMAT_FOLDER, split)
    if split == "validation" and name in NAMES:
        raise _no_validation(str(name))
    if name == EMBEDDED:
        return _embedded(embedded_root() / EMBEDDED, split)
    if name == EMBEDDED_BINARY:
        return replace(_embedded(embedded_root() / EMBEDDED, split), decode=_binarise(split))
    if name in IDX_FOLDERS:
        return _idx(str(name), under / IDX_FOLDERS[str(name)], split)
    if name == "cifar10":
        return _cifar10(under, split)
    for folder in (under / name, Path(name).expanduser()):
        if any((folder / f"{part}_images.npy").is_file() for part in ("train", "test")):
            return _npy(folder, split)
    raise MissingData(
        f"no data set {str(name)!r}: use {', '.join(NAMES)}, or a folder that holds "
        f"train_images.npy and test_images.npy, as a path or by its name under {under}"
    )


def _no_validation(name: str) -> NoValidationSplit:
    return NoValidationSplit(
        f"{name} has no validation split: use train or test; training holds the last of its "
        "images out"
    )


def _nchw(images: np.ndarray) -> np.ndarray:
    """(N, H, W, C) on disk -> (N, C, H, W) in memory, a copy of our own."""
    return np.array(images.transpose(0, 3, 1, 2), order="C")


def _idx(name: str, folder: Path, split: str) -> Stored:
    """MNIST's own format: a big-endian header of magic number and sizes, then the bytes."""
    paths = [folder / f"{IDX_PREFIX[split]}-{k}-ubyte" for k in ("images-idx3", "labels-idx1")]
    for path in paths:
        if not path.is_file():
            raise MissingData(
                f"{name}: the {split} split is missing (no {path}): run `nvp data get {name}`, "
                f"or point --data-root or NVP_DATA at it, or use the embedded {EMBEDDED}"
            )
    images, labels = (_idx_array(path, name) for path in paths)

    def verify() -> None:
        for path in paths:
            _compare_md5(path, IDX_MD5[name][path.name], name)

    return Stored(images[..., None], labels, folder, verify)


def _compare_md5(path: Path, published: str, name: str) -> None:
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 != published:
        raise NVPError(
            f"{path} was altered: its md5 is {md5}, the published file's is {published}: "
            f"run `nvp data get {name}` to replace it"
        )


def _idx_array(path: Path, name: str) -> np.ndarray:
    """Map an IDX file, (N, H, W) or (N,), after comparing its header with its length."""
    rank = 3 if "idx3" in path.name else 1
    with path.open("rb") as file:
        header = file.read(4 + 4 * rank)
    remedy = f"run `nvp data get {name}` to replace it"
    # The magic number is 0, 0, the type (8: unsigned bytes), the number of sizes that follow.
    if len(header) < 4 + 4 * rank or header[:4] != bytes((0, 0, 8, rank)):
        raise NVPError(f"{path} is not an IDX file of unsigned bytes with {rank} sizes: {remedy}")
    shape = struct.unpack(f">{rank}I", header[4:])
    held, declared = path.stat().st_size - len(header), int(np.prod(shape, dtype=np.int64))
    if held != declared or not declared:
        raise NVPError(
            f"{path} is truncated or damaged: its header declares {declared} bytes of data, "
            f"the file holds {held}: {remedy}"
        )
    return np.memmap(path, np.uint8, "r", len(header), shape)


def _amat(folder: Path, split: str) -> Stored:
    """MNIST as Larochelle binarised it: "0 1 ... 0" a line. Digits are every other byte."""
    name = "binarized-mnist"
    path = folder / f"binarized_mnist_{'valid' if split == 'validation' else split}.amat"
    if not path.is_file():
        raise MissingData(
            f"{name}: the {split} split is missing (no {path}): run `nvp data get {name}`, or "
            f"point --data-root or NVP_DATA at it, or use the embedded {EMBEDDED_BINARY}"
        )
    size = path.stat().st_size
    if size % AMAT_LINE or not size:
        raise NVPError(
            f"{path} is truncated or damaged: it holds {size} bytes, not a number of lines of "
            f"{AMAT_LINE}: run `nvp data get {name}` to replace it"
        )
    digits = np.memmap(path, np.uint8, "r").reshape(-1, 28, 28, 2)[..., :1]
    return Stored(
        digits,
        None,
        folder,
        lambda: _compare_md5(path, AMAT_MD5[path.name], name),
        lambda stored: stored & 1,  # of "0" and "1" the last bit is the value
    )


def _binarise(split: str) -> Callable[[np.ndarray], np.ndarray]:
    """Each pixel 1 with probability pixel / 255, by the raw numbers of one seed a split.

    NumPy keeps the streams of its bit generators as they are, so the images stay the same.
    """

    def decode(images: np.ndarray) -> np.ndarray:
        raw = np.random.PCG64(SPLITS.index(split)).random_raw(images.size)
        return (raw.reshape(images.shape) % 255 < images).astype(np.uint8)

    return decode


def _npy(folder: Path, split: str) -> Stored:
    """A folder of .npy files, mapped, so that a part of a large set is read without the rest."""
    path, labels_path = folder / f"{split}_images.npy", folder / f"{split}_labels.npy"
    if not path.is_file():
        if split == "validation":
            raise _no_validation(folder.name)
        raise MissingData(f"{folder.name}: the {split} split is missing (no {path}): add it")
    images = _npy_array(path)
    _check_images(images, path)
    labels = _npy_array(labels_path) if labels_path.is_file() else None
    if labels is not None:
        rank = {"i": 1, "u": 1, "f": 2}.get(labels.dtype.kind)
        if labels.ndim != rank or len(labels) != len(images):
            raise NVPError(
                f"{labels_path} holds {labels.dtype} {labels.shape}, it must hold one integer for "
                f"each of the {len(images)} images of {path.name}, or one vector of floats: "
                "save it so, or remove it"
            )
    return Stored(images, labels, folder)


def _npy_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive")
        return array
    except DAMAGED_NPY as error:
        raise NVPError(
            f"{path} is truncated, damaged, or no .npy file of plain numbers ({error}): "
            "write it again with numpy.save"
        ) from error


def _check_images(images: np.ndarray, path: Path) -> None:
    if images.dtype != np.uint8:
        raise NVPError(
            f"{path} holds {images.dtype} values, images must be uint8 in 0..255: "
            "save the pixels as they were published, the models scale them"
        )
    if images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
        raise NVPError(
            f"{path} has shape {images.shape}, images must be (N, H, W, C) with 1 or 3 channels: "
            "reshape or transpose them and save again"
        )


def _cifar10(under: Path, split: str) -> Stored:
    """CIFAR-10 from .npy files where they are, else from torchvision's layout."""
    if (under / "cifar10" / f"{split}_images.npy").is_file():
        return _npy(under / "cifar10", split)
    from torchvision.datasets import CIFAR10

    folder = under / CIFAR10.base_folder
    if not folder.is_dir():
        raise MissingData(
            f"cifar10: the {split} split is missing (no {under / 'cifar10'} and no {folder}): "
            "run `nvp data get cifar10`, or point --data-root or NVP_DATA at it, "
            f"or use the embedded {EMBEDDED}"
        )
    try:
        # Its pickles are opened only after their md5 agreed with torchvision's list.
        published = CIFAR10(str(under), train=split == "train")
    except RuntimeError as error:
        raise NVPError(
            f"{folder} was altered or is incomplete, its md5s are not the published ones: "
            "run `nvp data get cifar10` to replace it"
        ) from error
    return Stored(published.data, np.array(published.targets), folder)


def _embedded(folder: Path, split: str) -> Stored:
    """The embedded set: the arrays of a folder of .npy files, compressed into one file."""
    remedy = f"restore it with `git checkout -- data/{EMBEDDED}`"
    path = folder / "images.npz"
    if not path.is_file():
        raise MissingData(f"the embedded set is missing (no {path}): {remedy}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            images, labels = archive[f"{split}_images"], archive[f"{split}_labels"]
        expected = json.loads((folder / "checksums.json").read_text())[split]["sha256"]
    except (zipfile.BadZipFile, zlib.error, KeyError, OSError, *DAMAGED_NPY) as error:
        raise NVPError(f"{path} or its checksums are damaged ({error}): {remedy}") from error

    def verify() -> None:
        if fingerprint(torch.from_numpy(_nchw(images))) != expected:
            raise NVPError(f"{path} was altered, its pixels miss their SHA-256: {remedy}")

    return Stored(images, labels, path, verify)
