"""What data there is: here, to download, or for a user to bring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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

State = Literal["present", "incomplete", "damaged", "missing", "bring your own"]


@dataclass(frozen=True)
class Entry:
    """One row of `nvp data list`. `image_shape` is (C, H, W); `images` counts them by split.

    For a set that is here the counts are those of the files; else those published, if known.
    `note` says where the set is or, if it is not usable, how to get it.
    """

    name: str
    image_shape: tuple[int, int, int] | None
    images: dict[str, int]
    state: State
    note: str


@dataclass(frozen=True)
class Known:
    """What is published about a set: (C, H, W), images by split where known, how to get it."""

    image_shape: tuple[int, int, int]
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

_IMAGENET = "https://image-net.org/download-images.php"
_CELEBA = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
_LSUN = "https://github.com/fyu/lsun"
# The papers' larger sets. Their terms, or their size, leave the fetching to the user.
BRING_YOUR_OWN = {
    "imagenet32": Known((3, 32, 32), {}, _IMAGENET),
    "imagenet64": Known((3, 64, 64), {}, _IMAGENET),
    "celeba": Known((3, 64, 64), {}, _CELEBA),
    "lsun-bedroom": Known((3, 64, 64), {}, _LSUN),
    "lsun-tower": Known((3, 64, 64), {}, _LSUN),
    "lsun-church-outdoor": Known((3, 64, 64), {}, _LSUN),
}


def survey(root: str | Path | None = None) -> list[Entry]:
    """Every set known by name, then every other folder of .npy files under the data root.

    Reads headers and sizes, not pixels: an altered pixel shows only when the set is loaded.
    """
    embedded = Known((1, 28, 28), {}, f"git checkout -- data/{EMBEDDED}")
    known = {EMBEDDED: embedded, EMBEDDED_BINARY: embedded, **DOWNLOADS, **BRING_YOUR_OWN}
    entries = [_entry(name, facts, root) for name, facts in known.items()]
    folders = {path.parent.name for path in data_root(root).glob("*/*_images.npy")}
    return entries + [_entry(name, None, root) for name in sorted(folders - set(known))]


def _entry(name: str, known: Known | None, root: str | Path | None) -> Entry:
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
    counts = {split: len(stored.images) for split, stored in found.items()}
    if found:
        stored = next(iter(found.values()))
        height, width, channels = stored.images.shape[1:]
        shape: tuple[int, int, int] | None = (channels, height, width)
        note = str(stored.place)
    elif known:
        counts, shape, note = known.images, known.image_shape, known.how
    else:
        shape, note = None, ""
    state: State
    if damage:
        state, note = "damaged", damage
    elif found:
        state = "incomplete" if missing else "present"
    else:
        state = "bring your own" if name in BRING_YOUR_OWN else "missing"
    return Entry(name, shape, counts, state, note)
