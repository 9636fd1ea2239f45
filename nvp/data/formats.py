"""How images lie on disk: IDX, text of zeros and ones, .npy, CIFAR-10's batches, one .npz.

Headers are compared with sizes. Pixels of IDX and .npy files are not read before they are used.
"""

import hashlib
import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nvp.data.on_disk import RaggedRows, Rows, Stack, fingerprint_rows
from nvp.errors import NVPError

SPLITS = ("train", "validation", "test")
IDX_PREFIX = {"train": "train", "test": "t10k"}
CIFAR10_FOLDER = "cifar-10-batches-py"  # by torchvision
AMAT_LINE = 2 * 28 * 28  # bytes: a digit, and then a space or the line's end
NOTE = "import.json"  # beside the files that `nvp data import` wrote
UNFINISHED = ".import"  # ends the name of the hidden folder of a set that is being written
# NumPy's errors for a damaged .npy file: NumPy reads the header as Python, or the file as a zip.
DAMAGED_NPY = (
    *(ValueError, EOFError, OverflowError, SyntaxError, RuntimeError),
    *(tokenize.TokenError, zipfile.BadZipFile),
)


class MissingData(NVPError):
    """A data set, or one split of it, is not under the data root."""


class NoValidationSplit(MissingData):
    """A data set has no validation split."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} has no validation split: use train or test; training holds the last of its "
            "images out"
        )


@dataclass(frozen=True)
class Stored:
    """One split as it lies on disk; its images are (N, H, W, C).

    `verify` raises `NVPError` where published checksums differ. `noted` holds those of an import:
    `sha256`, the `fingerprint_rows` of the images, and `labels_sha256`, `fingerprint` of labels.
    """

    images: Stack | RaggedRows
    labels: np.ndarray | None
    place: Path
    verify: Callable[[], None] = lambda: None
    noted: dict[str, str] = field(default_factory=dict)


def read_idx(name: str, folder: Path, split: str, md5: dict[str, str]) -> Stored:
    """MNIST's own format: a big-endian header of magic number and sizes, then the bytes.

    `md5` maps each published file to its MD5 sum.
    """
    paths = [folder / f"{IDX_PREFIX[split]}-{k}-ubyte" for k in ("images-idx3", "labels-idx1")]
    for path in paths:
        if not path.is_file():
            raise MissingData(f"{name}: the {split} split is missing (no {path})")
    images, labels = (_idx_rows(path, name) for path in paths)
    images.shape = (*images.shape, 1)

    def verify() -> None:
        for path in paths:
            _compare_md5(path, md5[path.name], name)

    return Stored(images, labels[:], folder, verify)


def _idx_rows(path: Path, name: str) -> Rows:
    """An IDX file, (N, H, W) or (N,), after comparing its header with its length."""
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
    return Rows(path, shape, len(header))


def _compare_md5(path: Path, published: str, name: str) -> None:
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 != published:
        raise NVPError(
            f"{path} was altered: its md5 is {md5}, the published file's is {published}: "
            f"run `nvp data get {name}` to replace it"
        )


def read_amat(name: str, folder: Path, split: str, md5: dict[str, str]) -> Stored:
    """MNIST as Larochelle binarised it: "0 1 ... 0" a line. Digits are every other byte."""
    path = folder / f"binarized_mnist_{'valid' if split == 'validation' else split}.amat"
    if not path.is_file():
        raise MissingData(f"{name}: the {split} split is missing (no {path})")
    text = np.fromfile(path, np.uint8)
    if text.size % AMAT_LINE or not text.size:
        raise NVPError(
            f"{path} is truncated or damaged: it holds {text.size} bytes, not a number of lines of "
            f"{AMAT_LINE}: run `nvp data get {name}` to replace it"
        )
    images = text.reshape(-1, 28, 28, 2)[..., :1] & 1  # of "0" and "1" the last bit is the value
    return Stored(images, None, folder, lambda: _compare_md5(path, md5[path.name], name))


def is_npy_folder(folder: Path) -> bool:
    """Whether `folder` holds train_images.npy or test_images.npy."""
    return any((folder / f"{split}_images.npy").is_file() for split in ("train", "test"))


def read_npy(folder: Path, split: str) -> Stored:
    """A split of a folder of .npy files, with the checksums that its import noted, if any."""
    path, labels_path, sizes_path = (
        folder / f"{split}_{what}.npy" for what in ("images", "labels", "sizes")
    )
    if not path.is_file():
        if split == "validation":
            raise NoValidationSplit(folder.name)
        raise MissingData(f"{folder.name}: the {split} split is missing (no {path}): add it")
    images = _ragged(path, sizes_path) if sizes_path.is_file() else _alike(path)
    labels = _npy_array(labels_path) if labels_path.is_file() else None
    if labels is not None:
        rank = {"i": 1, "u": 1, "f": 2}.get(labels.dtype.kind)
        if labels.ndim != rank or len(labels) != len(images):
            raise NVPError(
                f"{labels_path} holds {labels.dtype} {labels.shape}, it must hold one integer for "
                f"each of the {len(images)} images of {path.name}, or one vector of floats: "
                "save it so, or remove it"
            )
        largest = np.finfo(np.float32).max if rank == 2 else np.iinfo(np.int64).max
        if not (np.abs(labels) <= largest).all():  # in the type that `load` gives; false for NaN
            raise NVPError(
                f"{labels_path} holds NaN or infinity, or a number beyond {largest}: fix it, or "
                "remove it"
            )
    return Stored(images, labels, folder, noted=_noted(folder / NOTE, split))


def _noted(path: Path, split: str) -> dict[str, str]:
    """The note of an import on a split; empty for what someone saved by hand or added since."""
    if not path.is_file():
        return {}
    try:
        note = json.loads(path.read_text(encoding="utf-8"))["splits"].get(split, {})
        return {key: note[key] for key in ("sha256", "labels_sha256") if key in note}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NVPError(f"{path} is damaged: import the set again with --replace") from error


def _ragged(path: Path, sizes_path: Path) -> RaggedRows:
    pixels, sizes = _npy_rows(path), _npy_array(sizes_path)
    fits = sizes.ndim == 2 and sizes.shape[1] == 2 and sizes.dtype.kind == "i" and sizes.size
    if not isinstance(pixels, Rows) or len(pixels.shape) != 1 or not fits or sizes.min() < 1:
        raise NVPError(f"{path} and {sizes_path.name} are damaged: import the set again")
    # Products of damaged sizes would wrap in an integer. Floats are exact to 2^53.
    channels, rest = divmod(len(pixels), int(sizes.astype(np.float64).prod(axis=1).sum()))
    if rest or channels not in (1, 3):
        raise NVPError(
            f"{path} does not hold images of the sizes in {sizes_path.name}: import the set again"
        )
    return RaggedRows(pixels, sizes, channels)


def _npy_rows(path: Path) -> Stack:
    """The bytes of a .npy file; in C order only its header is read."""
    array = _npy_array(path, mapped=True)
    if array.dtype != np.uint8:
        raise NVPError(
            f"{path} holds {array.dtype} values, images must be uint8 in 0..255: "
            "save the pixels as they were published, the models scale them"
        )
    if isinstance(array, np.memmap) and array.flags.c_contiguous:
        return Rows(path, array.shape, array.offset)
    return _npy_array(path)


def _npy_array(path: Path, mapped: bool = False) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive")
        return array
    except DAMAGED_NPY as error:
        reason = str(error).partition(". ")[0]  # NumPy goes on to say how to load it unsafely
        raise NVPError(
            f"{path} is truncated, damaged, or no .npy file of plain numbers ({reason}): "
            "write it again with numpy.save"
        ) from error


def _alike(path: Path) -> Stack:
    images = _npy_rows(path)
    if len(images.shape) != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise NVPError(
            f"{path} has shape {images.shape}, images must be (N, H, W, C) with 1 or 3 channels, N "
            "at least 1: fix them and save again"
        )
    return images


def read_cifar10(under: Path, split: str) -> Stored:
    """CIFAR-10 in torchvision's layout."""
    folder = under / CIFAR10_FOLDER
    if not folder.is_dir():
        raise MissingData(
            f"cifar10: the {split} split is missing (no {under / 'cifar10'} and no {folder})"
        )
    try:
        from torchvision.datasets import CIFAR10
    except ImportError as error:
        raise NVPError("CIFAR-10's batches need torchvision: pip install '.[cli]'") from error
    try:
        # Its pickles are opened only after their md5 agreed with torchvision's list.
        published = CIFAR10(str(under), train=split == "train")
    except RuntimeError as error:
        raise NVPError(
            f"{folder} was altered or is incomplete, its md5s are not the published ones: "
            "run `nvp data get cifar10` to replace it"
        ) from error
    return Stored(published.data, np.array(published.targets), folder)


def read_embedded(folder: Path, split: str, binary: bool) -> Stored:
    """The embedded set: the arrays of a folder of .npy files, compressed into one file.

    `binary`: each pixel is 1 with probability pixel / 255, else 0, by the raw numbers of one seed a
    split. NumPy keeps the streams of its bit generators as they are, so the images stay the same.
    """
    remedy = f"restore it with `git checkout -- data/{folder.name}`"
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
        if fingerprint_rows(images, len(images)) != expected:
            raise NVPError(f"{path} was altered, its pixels miss their SHA-256: {remedy}")

    if not binary:
        return Stored(images, labels, path, verify)
    raw = np.random.PCG64(SPLITS.index(split)).random_raw(images.size)
    drawn = (raw.reshape(images.shape) % 255 < images).astype(np.uint8)
    return Stored(drawn, labels, path, verify)
