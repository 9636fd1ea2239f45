"""The data sets: here, to download, or for a user to bring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from nvp.data.formats import UNFINISHED
from nvp.data.sets import (
    EMBEDDED,
    EMBEDDED_BINARY,
    SPLITS,
    MissingData,
    NoValidationSplit,
    data_root,
    find,
)
from nvp.errors import NVPError

Availability = Literal[
    "present", "incomplete", "damaged", "missing", "bring your own", "import unfinished"
]


@dataclass(frozen=True)
class Entry:
    """One row of `nvp data list`. `image_shape` is (C, H, W); `images` counts them by split.

    For a set that is here the counts are those of the files; else those published, if known.
    `note` says where the set is or, if it is not usable, how to get it.
    """

    name: str
    image_shape: tuple[int, int, int] | None
    images: dict[str, int]
    state: Availability
    note: str


@dataclass(frozen=True)
class Known:
    """What is known of a set before it is here: (C, H, W), images by split, how to get it."""

    image_shape: tuple[int, int, int] | None
    images: dict[str, int]
    how: str


_MNIST = {"train": 60_000, "test": 10_000}
_BINARIZED = {"train": 50_000, "validation": 10_000, "test": 10_000}
DOWNLOADS = {
    "mnist": Known((1, 28, 28), _MNIST, "nvp data get mnist"),
    "fashion-mnist": Known((1, 28, 28), _MNIST, "nvp data get fashion-mnist"),
    "binarized-mnist": Known((1, 28, 28), _BINARIZED, "nvp data get binarized-mnist"),
    "cifar10": Known((3, 32, 32), {"train": 50_000, "test": 10_000}, "nvp data get cifar10"),
}

_CELEBA = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
_LSUN = "https://github.com/fyu/lsun"
_IMAGENET = "the downsampled set of the Pixel RNN paper, with 49,999 validation images"


def _imported(name: str, files: str) -> str:
    return f"nvp data import FOLDER {name}, where FOLDER holds {files}"


def _lsun(category: str) -> Known:
    """Smaller side 96; training cuts 64x64 (`data.crop`). Its 300 validation images are scored."""
    files = f"{category}_train_lmdb and {category}_val_lmdb of {_LSUN}"
    name = f"lsun-{category.replace('_', '-')}"
    return Known((3, 96, 96), {"test": 300}, _imported(name, files))


def _imagenet(side: int) -> Known:
    files = f"train_{side}x{side} and valid_{side}x{side} of {_IMAGENET}"
    return Known((3, side, side), {"test": 49_999}, _imported(f"imagenet{side}", files))


# The papers' larger sets. Their terms, or their size, leave the fetching to the user.
BRING_YOUR_OWN = {
    "imagenet32": _imagenet(32),
    "imagenet64": _imagenet(64),
    "celeba": Known(
        (3, 64, 64),
        {"validation": 19_867, "test": 19_962},
        _imported(
            "celeba",
            "img_align_celeba.zip, list_eval_partition.txt and list_attr_celeba.txt of " + _CELEBA,
        ),
    ),
    "lsun-bedroom": _lsun("bedroom"),
    "lsun-tower": _lsun("tower"),
    "lsun-church-outdoor": _lsun("church_outdoor"),
}
# Names that stand for one set each, so that a score is always of the images that its set names.
RESERVED = frozenset((*BRING_YOUR_OWN, "cifar10", "imagenet32-2017", "imagenet64-2017"))


def survey(root: str | Path | None = None) -> list[Entry]:
    """Every set known by name, then every other folder of .npy files under the data root.

    Checks headers and sizes, not pixels: an altered pixel shows only when the set is loaded. Only
    CIFAR-10's published batches are compared with their md5s at once.
    """
    embedded = Known((1, 28, 28), {}, f"git checkout -- data/{EMBEDDED}")
    known = {EMBEDDED: embedded, EMBEDDED_BINARY: embedded, **DOWNLOADS, **BRING_YOUR_OWN}
    entries = [_entry(name, facts, root) for name, facts in known.items()]
    under = data_root(root)
    folders = {path.parent.name for path in under.glob("[!.]*/*_images.npy")}
    folders |= {path.name[1 : -len(UNFINISHED)] for path in under.glob(f".*{UNFINISHED}")}
    others = sorted(folders - set(known))
    return entries + [_entry(name, Known(None, {}, ""), root) for name in others]


def _entry(name: str, known: Known, root: str | Path | None) -> Entry:
    found, damage, missing = {}, "", False
    for split in SPLITS:
        try:
            found[split] = find(name, split, root)
        except NoValidationSplit:
            pass
        except MissingData:
            missing = True
        except NVPError as error:
            damage = str(error)
    counts, shape, note = known.images, known.image_shape, known.how
    state: Availability = "bring your own" if name in BRING_YOUR_OWN else "missing"
    if found:
        counts = {split: len(stored.images) for split, stored in found.items()}
        stored = next(iter(found.values()))
        height, width, channels = stored.images.shape[1:]
        if stored.decode is not None:  # it changes the shape
            height, width, channels = stored.decode(np.asarray(stored.images[0])[None]).shape[1:]
        shape, note = (channels, height, width), str(stored.place)
        short = any(counts.get(split, n) != n for split, n in known.images.items())
        state = "incomplete" if missing or short else "present"
        if short:
            published = " + ".join(f"{n:,}" for n in known.images.values())
            note += f" (published: {published} images)"
    elif data_root(root).joinpath(f".{name}{UNFINISHED}").is_dir():
        state, note = (
            "import unfinished",
            "give the import command again, corrected if it was refused, to go on; or remove "
            f".{name}{UNFINISHED}",
        )
    if damage:
        state, note = "damaged", damage
    return Entry(name, shape, counts, state, note)
