"""The data sets: here, to download, or for a user to bring."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nvp.data.formats import SPLITS, UNFINISHED, MissingData, NoValidationSplit, is_npy_folder
from nvp.data.named import NAMED
from nvp.data.sets import find
from nvp.errors import NVPError
from nvp.paths import data_root

Availability = Literal[
    "present", "incomplete", "damaged", "missing", "bring your own", "import unfinished"
]


@dataclass(frozen=True)
class Row:
    """One row of `nvp data list`. `image_shape` is (C, H, W); `images` counts the images by split.

    For a set that is here the counts are those of the files; else those published, if known.
    `note` says where the set is, what is damaged, or how to get the set.
    """

    name: str
    image_shape: tuple[int, int, int] | None
    images: dict[str, int]
    state: Availability
    note: str


def survey(root: str | Path | None = None) -> list[Row]:
    """Every named set, then other folders of .npy files and unfinished imports at the data root.

    Checks headers and sizes, not pixels: an altered pixel shows only when the set is loaded. The
    embedded images and binarised MNIST are read whole; CIFAR-10's batches must have their md5s.
    """
    under = data_root(root)
    folders = {path.name for path in under.glob("[!.]*") if is_npy_folder(path)}
    folders |= {path.name[1 : -len(UNFINISHED)] for path in under.glob(f".*{UNFINISHED}")}
    return [row(name, under) for name in (*NAMED, *sorted(folders - NAMED.keys()))]


def row(name: str, under: Path) -> Row:
    """The row of one set, under the data root `under`."""
    known, found, damage, missing = NAMED.get(name), {}, "", False
    for split in SPLITS:
        try:
            found[split] = find(name, split, under)
        except NoValidationSplit:
            pass
        except MissingData:
            missing = True
        except NVPError as error:
            damage = str(error)
    published = known.images if known else {}
    counts, shape = published, known.image_shape if known else None
    note = known.how if known else ""
    state: Availability = "bring your own" if known and not known.read else "missing"
    if found:
        counts = {split: len(stored.images) for split, stored in found.items()}
        stored = next(iter(found.values()))
        height, width, channels = stored.images.shape[1:]
        shape = channels, height, width
        note = str(stored.place)
        short = any(counts.get(split, n) != n for split, n in published.items())
        state = "incomplete" if missing or short else "present"
        if short and known:
            numbers = " + ".join(f"{n:,}" for n in published.values())
            note += f" (published: {numbers}; for all, rename this folder, then run {known.how})"
    elif under.joinpath(f".{name}{UNFINISHED}").is_dir():
        state, note = (
            "import unfinished",
            "give the import command again, corrected if it was refused, to go on; or remove "
            f".{name}{UNFINISHED}",
        )
    if damage:
        state, note = "damaged", damage
    return Row(name, shape, counts, state, note)
