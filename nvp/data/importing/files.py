"""The files of a source: a folder, or an archive that is read where it lies.

Nothing is unpacked, so no name in an archive can lead anywhere. In a folder a link is refused
unless it leads to a file there. A tar with a link is refused; in a zip a link is unreadable.
"""

import errno
import hashlib
import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from nvp.data.formats import DAMAGED_NPY
from nvp.errors import NVPError, first_fault

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
LARGEST_FILE = 1 << 28  # bytes of one image, as a zip unpacks it
# Errors of reading a damaged or locked archive, table or database.
BROKEN = (*DAMAGED_NPY, OSError, IndexError, tarfile.TarError, zlib.error, lzma.LZMAError)


class Unreadable(Exception):
    """One image of a source that cannot be used, and why."""


@contextmanager
def reading(place: Path | str, *errors: type[Exception]) -> Iterator[None]:
    """In this block `errors`, and those of damaged files, become an `NVPError` naming `place`."""
    try:
        yield
    except NVPError:
        raise
    except BROKEN + errors as error:
        # These are the system's, but for EINVAL: a damaged archive leads to an invalid offset.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise NVPError(
                f"cannot read {place} ({error.strerror}): fix its permissions, or its disk"
            ) from error
        raise NVPError(f"{place} is damaged ({first_fault(error)}): download it again") from error


class File(NamedTuple):
    """A file of a source, by its name there, with "/" between folders.

    All files of a folder or of an archive share one `opener`, since there may be a million files.
    """

    name: str
    size: int
    opener: Callable[[Any], IO[bytes]]  # takes the key
    key: Any
    changed: int = 0  # when, in nanoseconds, of a file that is in no archive

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(self.name)

    def open(self) -> IO[bytes]:
        """Its bytes, seekable."""
        return self.opener(self.key)

    def read(self) -> bytes:
        """All of its bytes. Raises `Unreadable` where it cannot be read, or is too large."""
        if self.size > LARGEST_FILE:
            raise Unreadable(f"it holds {self.size:,} bytes, too many for an image")
        try:
            with self.open() as file:
                return file.read(self.size + 1)  # to the end, where a zip compares its checksum
        except BROKEN as error:
            raise Unreadable(first_fault(error)) from error


class Files:
    """All files of a source, ascending by name. A folder without images adds those of its archives.

    Raises `NVPError` for links out of the folder or to folders.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.opened: list[File] = []  # archives in a folder, whose files are listed beside them
        if source.is_file() and source.suffix.lower() == ".parquet":
            self.all = [_on_disk(source, source.parent)]
        elif source.is_file():
            self.all = list(_archive(source, ""))
        else:
            self.all = list(_folder(source.resolve()))
            if not self.ending(*IMAGES):
                self.opened = self.ending(".zip", ".tar")
                for file in self.opened:
                    self.all += _archive(file.key, file.name + "/")
        self.all.sort(key=lambda file: file.name)

    def ending(self, *suffixes: str) -> list[File]:
        """The files that have one of these suffixes."""
        return [file for file in self.all if file.path.suffix.lower() in suffixes]

    def named(self, name: str) -> list[File]:
        """The files of this name, in whatever folder."""
        return [file for file in self.all if file.path.name == name]

    @property
    def identity(self) -> str:
        """SHA-256 of all names, sizes and times of change.

        It tells whether an import that goes on has the same source again.
        """
        # That of an archive. A folder's changes with hidden files, too.
        changed = 0 if self.source.is_dir() else self.source.stat().st_mtime_ns
        digest = hashlib.sha256(f"{changed}".encode())
        for file in self.all:
            line = f"{file.name}\0{file.size}\0{file.changed}\n"
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()


def _on_disk(path: Path, root: Path) -> File:
    found = path.stat()
    name = path.relative_to(root).as_posix()
    return File(name, found.st_size, _open, path, found.st_mtime_ns)


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _folder(root: Path) -> Iterator[File]:
    for folder, folders, names in os.walk(root, onerror=_refuse):
        folders[:] = sorted(name for name in folders if _wanted(name))
        for name in (*folders, *filter(_wanted, names)):
            path = Path(folder, name)
            if path.is_symlink() and not (path.is_file() and path.resolve().is_relative_to(root)):
                raise NVPError(
                    f"{path} is a link to nothing, to a folder or out of {root}: put the images "
                    "themselves there, or remove it"
                )
            if path.is_file():
                yield _on_disk(path, root)


def _refuse(error: OSError) -> None:
    raise NVPError(
        f"cannot read {error.filename} ({error.strerror}): fix its permissions, or move it away"
    )


def _wanted(name: str) -> bool:
    return name == ".." or (not name.startswith(".") and name != "__MACOSX")


def _archive(path: Path, prefix: str) -> Iterator[File]:
    with reading(path):
        # A tar whose last file is a zip passes for a zip.
        is_zip = zipfile.is_zipfile(path) and not tarfile.is_tarfile(path)
        for file in _zip(path) if is_zip else _tar(path):
            if all(map(_wanted, file.path.parts)):
                yield file._replace(name=prefix + file.name)


def _zip(path: Path) -> Iterator[File]:
    try:  # many programs write UTF-8 and do not say so
        archive = zipfile.ZipFile(path, metadata_encoding="utf-8")
    except UnicodeDecodeError:
        archive = zipfile.ZipFile(path)
    opener = archive.open
    for info in archive.infolist():
        if not info.is_dir():
            name = info.filename.replace("\\", "/")  # as old programs on Windows write it
            yield File(name, info.file_size, opener, info)


def _tar(path: Path) -> Iterator[File]:
    """The files of a tar. Each keeps the place of its bytes, no header: there may be a million."""
    try:
        archive = tarfile.open(path, "r:")  # noqa: SIM115 - closed below
    except tarfile.ReadError as error:
        raise NVPError(
            f"{path} is no whole .zip or plain .tar: unpack it first, download again, or name one"
        ) from error
    opener = partial(_part, path)
    with archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]
            if member.isreg():
                yield File(member.name, member.size, opener, (member.offset_data, member.size))
            elif not member.isdir():
                raise NVPError(f"{path} holds a link, {member.name!r}: unpack it yourself")


def _part(path: Path, place: tuple[int, int]) -> IO[bytes]:
    start, size = place
    with path.open("rb") as file:
        file.seek(start)
        return io.BytesIO(file.read(size))
