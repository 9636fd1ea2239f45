"""One import from beginning to end: find the reader, write the arrays, check, put in place."""

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import nvp
from nvp.config import NAME, NAME_RULE
from nvp.data.formats import NOTE, SPLITS, UNFINISHED, is_npy_folder, read_npy
from nvp.data.importing.celeba import SPLITS_FILE, read_celeba
from nvp.data.importing.cifar10 import read_cifar10
from nvp.data.importing.files import Files, Unreadable
from nvp.data.importing.folder import read_folder
from nvp.data.importing.imagenet import is_imagenet, read_imagenet
from nvp.data.importing.lsun import read_lsun
from nvp.data.importing.options import Options
from nvp.data.importing.parquet import read_parquet
from nvp.data.importing.pixels import Preparation, Resize, decode
from nvp.data.importing.source import Source
from nvp.data.importing.writer import JOURNAL, Columns, put_in_place
from nvp.data.named import NAMED
from nvp.data.on_disk import fingerprint, fingerprint_rows
from nvp.errors import NVPError
from nvp.files import locked, write_text
from nvp.paths import data_root, expanded
from nvp.progress import counting

SHOWN = 10  # names of unreadable images, or of classes, in a message


@dataclass(frozen=True)
class Imported:
    """The result of an import."""

    folder: Path
    images: dict[str, int]
    shape: tuple[int, int, int]  # (C, H, W); of images that differ in size, of the smallest sides
    ragged: bool
    note: dict[str, Any]  # the content of its import.json

    def summary(self) -> str:
        """A few lines: the images of the new set, and the settings of a configuration for it."""
        (channels, height, width), note = self.shape, self.note
        counts = ", ".join(f"{self.images[s]:,} {s}" for s in SPLITS if s in self.images)
        lines = [f"{self.folder.name}: {counts} images are in {self.folder}"]
        if skipped := len(note["unreadable"]):
            lines.append(f"{skipped:,} could not be read and are left out: see {NOTE} there")
        if others := note.get("other files"):
            kinds = ", ".join(sorted(kind or "without a suffix" for kind in others))
            lines.append(f"other files left out: {sum(others.values()):,} ({kinds})")
        if more := note.get("other columns of images"):
            lines.append(f"the images are those of the column {note['column']}, not of {more[0]}")
        for name in note.get("untrained", ())[:SHOWN]:
            lines.append(f"no training image has the class {name}: is that folder a class?")
        for name in note.get("in no subfolder", ()):
            lines.append(f"no labels are kept: {name} lies in no subfolder")
        known = NAMED.get(self.folder.name)
        for split, number in known.images.items() if known else ():
            if (here := self.images.get(split, 0)) != number:
                lines.append(f"{here:,} {split} images are here, {number:,} are published")
        if note["enlarged"]:
            lines.append(
                f"{note['enlarged']:,} were smaller than the size asked for and were enlarged: "
                "they are blurred, and blurred images cost fewer bits"
            )
        shape = f"model.image_shape: [{channels}, {height}, {width}]"
        if self.ragged:
            shape = (
                f"data.crop: S and model.image_shape: [{channels}, S, S], with S at most "
                f"{min(height, width)}"
            )
        data = yaml.safe_dump({"data.name": self.folder.name}).strip()  # 2024 needs quotes
        lines.append(f"in a configuration: {data}, {shape}")
        if classes := note.get("classes", ()):
            lines[-1] += f"; with labels, for a Real NVP: model.num_classes: {len(classes)}"
            named = ", ".join(f"{n} {name}" for n, name in enumerate(classes[:SHOWN]))
            lines.append(f"labels: {named}{', ...' if len(classes) > SHOWN else ''}")
        return "\n".join(lines)


def import_set(
    source: str | Path, name: str, options: Options | None = None, *, root: str | Path | None = None
) -> Imported:
    """Make the data set `name`, a folder under the data root, of what lies in `source`.

    Memory does not grow with the pixels; the list of files takes 1 KB for each. An import that was
    killed goes on where it was when it is started again in the same way; the set appears when it is
    whole. Beside the arrays lies a note, import.json: where they come from, how they were made, and
    the checksums that `load` compares.

    Raises `NVPError` for a source that is missing or of no known kind, and for a full disk. It does
    so, too, for unreadable images without `skip_unreadable`, and for a taken name without
    `replace`.
    """
    options = options or Options()
    place, target = expanded(source), data_root(root) / name
    _check_name(name, target, options.replace)
    if not place.exists():
        raise NVPError(f"there is no {place}: name a folder or an archive")
    if place.resolve().is_relative_to(target.resolve()):
        raise NVPError(f"{place} lies in {target}, which would be replaced: move it out of there")
    opened = open_source(place, name, options)
    chosen = replace(options, skip_unreadable=False, replace=False)
    if opened.published and chosen != Options():
        raise NVPError(
            f"{name} is made by the papers' rule: leave --size, --crop, --gray, --validation, "
            "--test and --seed out"
        )
    prepare = opened.prepare if options.size is None else Resize(options.size, options.crop)
    crop = prepare.crop if isinstance(prepare, Resize) else options.crop
    what = {
        "source": str(place.absolute()),
        "identity": opened.identity,
        "size": options.size,
        "gray": options.gray,
        "fractions": {key: getattr(options, key) for key in ("validation", "test", "seed")},
        "crop": crop,
    }
    folder = target.with_name(f".{name}{UNFINISHED}")
    try:
        with locked(folder):  # one process at a time may use it
            # To list a source takes minutes, in which another import may have made the set.
            _check_name(name, target, options.replace)
            columns = Columns(folder, what)
            refused = columns.journal.unreadable and columns.journal.position == opened.number
            if refused and not options.skip_unreadable:  # a chmod may help, unseen by `identity`
                (folder / JOURNAL).unlink()
                columns = Columns(folder, what)
            _write(opened, columns, prepare, options.gray)
            _check_whole(opened, columns, options)
            columns.finish()
            note = _note(opened, columns, folder)
            write_text(folder / NOTE, json.dumps(note, indent=2) + "\n")
            put_in_place(folder, target)
    except OSError as error:
        raise NVPError(
            f"cannot write {target} ({error.strerror or error}): free some space, make the folder "
            "writable, or name another --data-root; the same command goes on where it was"
        ) from error
    shapes = [each["shape"] for each in note["splits"].values()]
    height, width, channels = map(min, zip(*shapes, strict=True))
    ragged = shapes.count(shapes[0]) < len(shapes) or any(target.glob("*_sizes.npy"))
    return Imported(target, columns.journal.counts, (channels, height, width), ragged, note)


def open_source(source: Path, name: str, options: Options) -> Source:
    """The images in `source`, by the reader for its kind.

    Raises `NVPError` where `name` is that of another set (`nvp.data.named.NAMED`), and as the
    reader does.
    """
    if source.is_dir() and any(source.glob("*_train_lmdb*")):
        opened = read_lsun(source, name)
    elif name == "cifar10":
        opened = read_cifar10(source)
    elif (files := Files(source)).named(SPLITS_FILE):
        opened = read_celeba(files)
    elif is_imagenet(files):
        opened = read_imagenet(files)
    elif files.ending(".parquet"):
        opened = read_parquet(files, options)
    else:
        opened = read_folder(files, options)
    if name in NAMED and name != opened.published:
        another = opened.published or "another name"
        raise NVPError(
            f"{source} holds {opened.kind}, not {name}: import it as {another}; scores on the two "
            "cannot be compared"
        )
    return opened


def _check_name(name: str, target: Path, replace: bool) -> None:
    if not re.fullmatch(NAME, name):
        raise NVPError(f"{name!r} cannot name a data set: {NAME_RULE}")
    if name in NAMED and not NAMED[name].imported:
        raise NVPError(f"{name} is read from its publisher's own files: choose another name")
    if target.exists() and not replace:
        raise NVPError(f"{target} is there already: pass --replace, or choose another name")
    if target.is_symlink():
        raise NVPError(f"{target} is a link: remove it, or choose another name")
    if target.exists() and not is_npy_folder(target):
        raise NVPError(f"{target} is no data set: move it away, or choose another name")


def _write(source: Source, columns: Columns, prepare: Preparation | None, gray: bool) -> None:
    """Add what is left of the source's images."""
    journal = columns.journal
    with counting("images", source.number, journal.position) as progress:
        for picture in source.pictures(journal.position):
            try:
                pixels = picture.content()
                if isinstance(pixels, bytes):
                    image = decode(pixels, gray=gray)
                    prepared = image if prepare is None else prepare(image)
                    pixels = np.atleast_3d(np.asarray(prepared))  # gray images, too, have channels
                    if isinstance(prepare, Resize) and min(image.size) < prepare.size:
                        journal.enlarged += 1
            except Unreadable as error:
                journal.unreadable.append(f"{picture.name}: {error}")
            else:
                columns.add(picture, pixels)
            journal.position += 1
            columns.sync()  # here alone, as Ctrl-C may part an image from its place in the journal
            progress(journal.position)
    columns.sync(now=True)


def _check_whole(source: Source, columns: Columns, options: Options) -> None:
    journal = columns.journal
    if journal.unreadable and not options.skip_unreadable:
        shown = "; ".join(journal.unreadable[:SHOWN])
        more = len(journal.unreadable) - SHOWN
        raise NVPError(
            f"{len(journal.unreadable)} of {source.number:,} images cannot be read: {shown}"
            f"{f'; and {more} more' if more > 0 else ''}: fix or remove them, or give the same "
            "command with --skip-unreadable"
        )
    for split in SPLITS:
        number = journal.counts.get(split, 0)
        if number < 2 and (split, number) not in (("train", 1), ("validation", 0)):
            unreadable = len(journal.unreadable)
            left_out = f"{unreadable} could not be read: remove those; " if unreadable else ""
            if split == "test" and not options.test:
                left_out += "--test 0 draws none: leave it out; "
            raise NVPError(
                f"the number of images for {split} is {number}: a set needs images to train on and "
                f"two or more to score; {left_out}add images, to the folders train/ and test/ if "
                "there are such folders"
            )


def _note(source: Source, columns: Columns, folder: Path) -> dict[str, Any]:
    """Where the set comes from, how it was made, and its checksums, of what is on the disk."""
    from PIL import __version__ as pillow

    journal, splits, done = columns.journal, {}, 0
    with counting("checksums", source.number) as progress:
        for split in filter(journal.counts.get, SPLITS):
            stored, number = read_npy(folder, split), journal.counts[split]
            splits[split] = {
                "images": number,
                "shape": list(stored.images.shape[1:]),
                "sha256": fingerprint_rows(stored.images, number),
            }
            if stored.labels is not None:
                splits[split]["labels_sha256"] = fingerprint(torch.from_numpy(stored.labels))
            done += number
            progress(done)
    return {
        "format": 1,
        "kind": source.kind,
        **journal.what,
        **source.facts,
        "splits": splits,
        "unreadable": journal.unreadable,
        "enlarged": journal.enlarged,
        "imported": datetime.now(UTC).date().isoformat(),
        "versions": {"nvp": nvp.__version__, "pillow": pillow},
    }
