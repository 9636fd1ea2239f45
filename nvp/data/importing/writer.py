"""Arrays that grow on disk, and the journal by which an import that was killed goes on."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from nvp.data.importing.source import Picture
from nvp.errors import NVPError
from nvp.files import LOCK, empty, replace_folder, write_text

HEADER = 128  # bytes, of a .npy file
JOURNAL, PART = "journal.json", ".part"
SYNC_SECONDS = 2.0  # of work that a kill may cost
SIZES, LABELS = "<i4", ("<i8", "<f4")  # of an image; of a class, of attributes


@dataclass
class Journal:
    """How far an import is: what `Columns` and a source need to go on, and facts for the note."""

    what: dict[str, Any]
    position: int = 0  # of the next image of the source
    lengths: dict[str, int] = field(default_factory=dict)  # bytes of each column
    counts: dict[str, int] = field(default_factory=dict)  # images of each split
    shape: list[int] | None = None  # (H, W, C) of the first image
    label_shape: list[int] | None = None
    unreadable: list[str] = field(default_factory=list)
    enlarged: int = 0


class Columns:
    """The unfinished set in `folder`: for each split images, their sizes and labels.

    Each is a .npy file that grows by rows. Its header is written last, when its shape is known.
    """

    def __init__(self, folder: Path, what: dict[str, Any]) -> None:
        self.folder, self.ragged = folder, what["crop"] == "none"
        self.journal = _read_journal(folder, what)
        self.files: dict[str, IO[bytes]] = {}
        self.synced = time.monotonic()

    def add(self, picture: Picture, image: np.ndarray) -> None:
        """Add an image, (H, W, C) uint8. Raises `NVPError` where it differs from those before."""
        journal, split, label = self.journal, picture.split, picture.label
        shape, label_shape = list(image.shape), None if label is None else list(np.shape(label))
        if not journal.counts:
            journal.shape, journal.label_shape = shape, label_shape
        if shape != journal.shape and not self.ragged:
            was, now = ("{1}x{0}".format(*each) for each in (journal.shape or [], shape))
            raise NVPError(
                f"{picture.name}: it has {now} pixels where others have {was}: give a --size"
            )
        if label_shape != journal.label_shape:
            raise NVPError(
                f"{picture.name}: it has a label where others have none, or no label where others "
                "have one: give every image a label, or none of them"
            )
        self.append(f"{split}_images.npy", image)
        self.append(f"{split}_sizes{PART}", np.array(shape[:2], SIZES))
        if label is not None:
            self.append(f"{split}_labels.npy", np.asarray(label, LABELS[bool(label_shape)]))
        journal.counts[split] = journal.counts.get(split, 0) + 1
        # Only whole images count: a full disk may have taken a part of this one.
        journal.lengths |= {name: file.tell() - HEADER for name, file in self.files.items()}

    def append(self, name: str, array: np.ndarray) -> None:
        """Add these values at the end of a file, in C order."""
        self._file(name).write(array.tobytes())

    def _file(self, name: str) -> IO[bytes]:
        if name not in self.files:
            path = self.folder / name
            path.touch()
            file = self.files[name] = path.open("r+b")
            file.truncate(HEADER + self.journal.lengths.get(name, 0))
            file.seek(0, os.SEEK_END)
        return self.files[name]

    def sync(self, *, now: bool = False) -> None:
        """Write data, then journal, to the disk: every `SYNC_SECONDS` or, if `now`, at once."""
        if not now and time.monotonic() - self.synced < SYNC_SECONDS:
            return
        for file in self.files.values():
            _sync(file)
        write_text(self.folder / JOURNAL, json.dumps(self.journal.__dict__))
        self.synced = time.monotonic()

    def finish(self) -> None:
        """Write the headers, which makes the files of a data set; it may be done again."""
        journal = self.journal
        for split, number in journal.counts.items():
            images, sizes = f"{split}_images.npy", f"{split}_sizes{PART}"
            self._close(sizes, SIZES, (number, 2))
            noted, shape = np.load(self.folder / sizes), (number, *(journal.shape or ()))
            if (noted != shape[1:3]).any():
                shape = (journal.lengths[images],)
                np.save(self.folder / f"{split}_sizes.npy", noted)
            self._close(images, "|u1", shape)
            if (each := journal.label_shape) is not None:
                self._close(f"{split}_labels.npy", LABELS[bool(each)], (number, *each))

    def _close(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        """Write the header of a file, and close it."""
        facts = {"descr": dtype, "fortran_order": False, "shape": shape}
        with self._file(name) as file:
            file.seek(0)
            np.lib.format.write_array_header_1_0(file, facts)
            assert file.tell() == HEADER
            _sync(file)


def _sync(file: IO[bytes]) -> None:
    """Force all that was written so far to the disk."""
    file.flush()
    os.fsync(file.fileno())


def _read_journal(folder: Path, what: dict[str, Any]) -> Journal:
    """The journal of the same import, or a fresh one; removes what another import left behind."""
    try:
        journal = Journal(**json.loads((folder / JOURNAL).read_text()))
        whole = all(
            (folder / name).stat().st_size >= HEADER + length
            for name, length in journal.lengths.items()
        )
        if whole and journal.what == what:
            return journal
    except (OSError, ValueError, TypeError):
        pass
    empty(folder)
    return Journal(what)


def put_in_place(folder: Path, target: Path) -> None:
    """Rename `folder` to `target`, so that the whole set appears at once.

    A kill after the renaming leaves journal, lock and sizes in the set. Nothing reads them.
    """
    replace_folder(folder, target)
    for path in (target / LOCK, *target.glob(f"*{PART}"), target / JOURNAL):
        path.unlink(missing_ok=True)
