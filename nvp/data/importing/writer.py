"""Arrays that grow on disk, and the journal by which an import that was killed goes on."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nvp.data.formats import UNFINISHED
from nvp.data.importing.source import Picture
from nvp.errors import NVPError
from nvp.files import LOCK, empty, locked, replace_folder, write_text

HEADER = 128  # bytes, of a .npy file
JOURNAL, PART = "journal.json", ".part"
SYNC_SECONDS = 2.0  # of work that a kill may cost


class Column:
    """A .npy file that grows by rows. Its header is written last, when its shape is known."""

    def __init__(self, path: Path, dtype: str, kept: int) -> None:
        self.dtype = np.dtype(dtype)
        path.touch()
        self.file = path.open("r+b")
        self.file.truncate(HEADER + kept)
        self.file.seek(0, os.SEEK_END)
        self.length = kept

    def append(self, array: np.ndarray) -> None:
        """Add these values at the end, in C order."""
        content = np.ascontiguousarray(array, self.dtype).tobytes()
        self.file.write(content)
        self.length += len(content)

    def sync(self) -> None:
        """Have all that was added on the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def finish(self, shape: tuple[int, ...]) -> None:
        """Write the header and close the file."""
        header = io.BytesIO()
        facts = {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, facts)
        assert len(header.getvalue()) == HEADER
        self.file.seek(0)
        self.file.write(header.getvalue())
        self.sync()
        self.file.close()


@dataclass
class Journal:
    """How far an import is: all that `Columns` and a source need to go on, and what was met."""

    what: dict[str, Any]
    position: int = 0  # of the next image of the source
    lengths: dict[str, int] = field(default_factory=dict)  # bytes of each column
    counts: dict[str, int] = field(default_factory=dict)  # images of each split
    shape: list[int] | None = None  # (H, W, C) of the first image
    label_shape: list[int] | None = None
    unreadable: list[str] = field(default_factory=list)
    enlarged: int = 0


class Columns:
    """The unfinished set in `folder`: for each split images, sizes where they vary, labels."""

    def __init__(self, folder: Path, what: dict[str, Any], ragged: bool) -> None:
        self.folder, self.ragged = folder, ragged
        self.journal = _read_journal(folder, what)
        self.columns: dict[str, Column] = {}
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
                f"{picture.name}: it has a label where others have none, or the other way round"
            )
        self._column(split, "images").append(image)
        self._column(split, "sizes").append(np.array(shape[:2]))
        if label is not None:
            self._column(split, "labels").append(np.asarray(label))
        journal.counts[split] = journal.counts.get(split, 0) + 1
        # Only whole images count: a full disk may have taken a part of this one.
        journal.lengths |= {name: column.length for name, column in self.columns.items()}

    def _column(self, split: str, what: Literal["images", "sizes", "labels"]) -> Column:
        # Of sizes a file is left only where they vary, so these grow under another name.
        name = f"{split}_sizes{PART}" if what == "sizes" else f"{split}_{what}.npy"
        if name not in self.columns:
            labels = "<f4" if self.journal.label_shape else "<i8"
            dtype = {"images": "|u1", "sizes": "<i4", "labels": labels}[what]
            kept = self.journal.lengths.get(name, 0)
            self.columns[name] = Column(self.folder / name, dtype, kept)
        return self.columns[name]

    def sync(self, *, now: bool = False) -> None:
        """Note how far this is, once in a while or `now`: after the data, which it counts."""
        if not now and time.monotonic() - self.synced < SYNC_SECONDS:
            return
        for column in self.columns.values():
            column.sync()
        write_text(self.folder / JOURNAL, json.dumps(self.journal.__dict__))
        self.synced = time.monotonic()

    def finish(self) -> None:
        """Write the headers, which makes the files of a data set; it may be done again."""
        height, width, channels = self.journal.shape or (0, 0, 0)
        for split, number in self.journal.counts.items():
            images = self._column(split, "images")
            self._column(split, "sizes").finish((number, 2))
            sizes = np.load(self.folder / f"{split}_sizes{PART}")
            if (sizes == (height, width)).all():
                images.finish((number, height, width, channels))
            else:
                images.finish((images.length,))
                np.save(self.folder / f"{split}_sizes.npy", sizes)
            if self.journal.label_shape is not None:
                self._column(split, "labels").finish((number, *self.journal.label_shape))


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


@contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` for the unfinished set, which one process at a time may use."""
    folder = target.with_name(f".{target.name}{UNFINISHED}")
    with locked(folder):
        yield folder


def put_in_place(folder: Path, target: Path) -> None:
    """Rename: from one moment to the next the set is there, whole.

    A kill after that leaves journal, lock and sizes in it, which nothing reads.
    """
    replace_folder(folder, target)
    for path in (target / LOCK, *target.glob(f"*{PART}"), target / JOURNAL):
        path.unlink(missing_ok=True)
