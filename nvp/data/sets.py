"""Data sets -> uint8 image tensors, checked on every load: a set with a name, or a folder.

A folder of .npy files holds `train_images.npy` and `test_images.npy`, uint8, (N, H, W, C) with
one or three channels. Optional are `validation_images.npy`, and `train_labels.npy` and so on:
classes as integers, (N,), or attributes as floats, (N, K). `nvp data import` writes such
folders. `nvp.data.named` says where the sets with a name lie.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from nvp.data.formats import SPLITS, MissingData, NoValidationSplit, Stored, is_npy_folder, read_npy
from nvp.data.named import NAMED
from nvp.data.on_disk import RaggedRows, StoredImages, fingerprint, fingerprint_rows, nchw
from nvp.errors import NVPError
from nvp.model.protocol import check_count
from nvp.paths import data_root, expanded

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
    images: Tensor = field(repr=False)
    labels: Tensor | None = field(repr=False)
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
    """Read a split of the data set `name`: one of `nvp data list`, or a folder of .npy files.

    A folder is given as a path, or by its name under the data root. `limit` keeps the first images;
    the checksum that an import noted of all is then not compared. Splits are the publisher's:
    `train`, `test` and, in a few sets, `validation`; else `nvp.data.splits.hold_out` takes the last
    training images. A split of more than 1 GiB (`IN_MEMORY`), or one to `crop`, stays on disk. Its
    images are `StoredImages`. `nvp.likelihood.evaluate` takes them, and `images[:100].to("cpu")`
    reads a hundred for a model.

    Raises `NVPError`: an unknown name or split, a wrong `limit` or `crop`, files that are missing,
    damaged or altered; `NoValidationSplit` where there is no validation split.
    """
    if split not in SPLITS:
        raise NVPError(f"unknown split {split!r}: use one of {', '.join(SPLITS)}")
    for key, value in (("limit", limit), ("crop", crop)):
        if value is not None:
            check_count(key, value)
    stored = find(name, split, root)
    stored.verify()
    number = min(len(stored.images), limit or len(stored.images))
    images, checksum = _images(stored, number, crop)
    if number == len(stored.images):
        _compare("images", stored, split, stored.noted.get("sha256"), checksum)
    labels, labels_checksum = None, None
    if stored.labels is not None:
        kind = np.float32 if stored.labels.dtype.kind == "f" else np.int64
        labels = torch.from_numpy(stored.labels.astype(kind))
        _compare("labels", stored, split, stored.noted.get("labels_sha256"), fingerprint(labels))
        labels = labels[:number]
        labels_checksum = fingerprint(labels)
    return Dataset(str(name), split, images, labels, checksum, labels_checksum)


def _images(stored: Stored, number: int, crop: int | None) -> tuple[Tensor, str]:
    """The first images, and their fingerprint before they are cut."""
    rows = stored.images
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
    """Open a split of a data set: headers and sizes are checked, not pixels.

    `split` is train, validation or test. Raises `MissingData` when it is not there, `NVPError` when
    its files are damaged or unreadable.
    """
    try:
        return _find(name, split, data_root(root))
    except OSError as error:
        raise NVPError(f"cannot read {name} ({error}): check its permissions") from error


def _find(name: str | Path, split: str, under: Path) -> Stored:
    named = NAMED.get(name) if isinstance(name, str) else None  # a path is a folder
    if named is None:
        for folder in (under / name, expanded(name)):
            if is_npy_folder(folder):
                return read_npy(folder, split)
        raise MissingData(
            f"no data set {str(name)!r}: use one of `nvp data list`, or a folder that holds "
            "train_images.npy and test_images.npy, as a path or by its name under --data-root "
            f"{under}{', which does not exist' * (not under.is_dir())}; `nvp data import "
            "FOLDER NAME --size 32` makes one of your own images"
        )
    if named.imported and is_npy_folder(under / name):  # it goes before what was downloaded
        return read_npy(under / name, split)
    if named.read is None:
        raise MissingData(
            f"{name} is missing under {under}: point --data-root or NVP_DATA at it, or run "
            f"{named.how}"
        )
    if split not in named.images:
        raise NoValidationSplit(str(name))
    try:
        return named.read(under, split)
    except MissingData as error:
        if named.download is None:
            raise
        raise MissingData(
            f"{error}: run `{named.how}` with the same --data-root, if any, or point "
            f"--data-root or NVP_DATA at it, or use the embedded {named.download.instead}"
        ) from error
