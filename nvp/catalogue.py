"""What data there is: here, to download, or for a user to bring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nvp.data import EMBEDDED, MissingData, data_root, find
from nvp.errors import NVPError

State = Literal["present", "incomplete", "damaged", "missing", "bring your own"]


@dataclass(frozen=True)
class Entry:
    """One row of `nvp data list`. `image_shape` is (C, H, W); `train` and `test` count images.

    For a set that is here the counts are those of the files; else those published, if known.
    `note` says where the set is or, if it is not usable, how to get it.
    """

    name: str
    image_shape: tuple[int, int, int] | None
    train: int | None
    test: int | None
    state: State
    note: str


@dataclass(frozen=True)
class Known:
    """What is published about a set: (C, H, W), images in train and test, how to get it."""

    image_shape: tuple[int, int, int]
    train: int | None
    test: int | None
    how: str


DOWNLOADS = {
    "mnist": Known((1, 28, 28), 60_000, 10_000, "nvp data get mnist"),
    "fashion-mnist": Known((1, 28, 28), 60_000, 10_000, "nvp data get fashion-mnist"),
    "cifar10": Known((3, 32, 32), 50_000, 10_000, "nvp data get cifar10"),
}

_IMAGENET = "https://image-net.org/download-images.php"
_CELEBA = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
_LSUN = "https://github.com/fyu/lsun"
# The papers' larger sets. Their terms, or their size, leave the fetching to the user.
BRING_YOUR_OWN = {
    "imagenet32": Known((3, 32, 32), None, None, _IMAGENET),
    "imagenet64": Known((3, 64, 64), None, None, _IMAGENET),
    "celeba": Known((3, 64, 64), None, None, _CELEBA),
    "lsun-bedroom": Known((3, 64, 64), None, None, _LSUN),
    "lsun-tower": Known((3, 64, 64), None, None, _LSUN),
    "lsun-church-outdoor": Known((3, 64, 64), None, None, _LSUN),
}


def survey(root: str | Path | None = None) -> list[Entry]:
    """Every set known by name, then every other folder of .npy files under the data root.

    Reads headers and sizes, not pixels: an altered pixel shows only when the set is loaded.
    """
    embedded = Known((1, 28, 28), None, None, f"git checkout -- data/{EMBEDDED}")
    known = {EMBEDDED: embedded, **DOWNLOADS, **BRING_YOUR_OWN}
    entries = [_entry(name, facts, root) for name, facts in known.items()]
    folders = {path.parent.name for path in data_root(root).glob("*/*_images.npy")}
    return entries + [_entry(name, None, root) for name in sorted(folders - set(known))]


def _entry(name: str, known: Known | None, root: str | Path | None) -> Entry:
    found, damage = {}, ""
    for split in ("train", "test"):
        try:
            found[split] = find(name, split, root)
        except MissingData:
            pass
        except NVPError as error:
            damage = str(error)
    counts = {split: len(stored.images) for split, stored in found.items()}
    if found:
        stored = next(iter(found.values()))
        height, width, channels = stored.images.shape[1:]
        shape: tuple[int, int, int] | None = (channels, height, width)
        note = str(stored.place)
    elif known:
        counts = {s: n for s, n in (("train", known.train), ("test", known.test)) if n}
        shape, note = known.image_shape, known.how
    else:
        shape, note = None, ""
    state: State
    if damage:
        state, note = "damaged", damage
    elif found:
        state = "present" if len(found) == 2 else "incomplete"
    else:
        state = "bring your own" if name in BRING_YOUR_OWN else "missing"
    return Entry(name, shape, counts.get("train"), counts.get("test"), state, note)
