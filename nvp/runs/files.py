"""Writing files so that a full disk or a lost machine leaves the last good one as it was.

Every write goes to a file beside the target, is flushed to disk, and then takes its place.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import time
from pathlib import Path

from nvp.errors import NVPError

STALE_SECONDS = 3600  # a half-written file that is older was left by a process that was killed


def write(path: Path, content: bytes) -> None:
    """Write a file atomically.

    The target of a link is written, and the link stays; a device or a pipe is written to directly.
    Raises `NVPError` where that is not possible.
    """
    part = None
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        target = path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        kept = (
            "the one already there is untouched" if os.path.exists(path) else "nothing was written"
        )
        raise NVPError(
            f"cannot write {path} ({error}): {kept}; free some space or name another folder"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write(path, text.encode())


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sweep(target: Path) -> None:
    """Remove what killed processes left half-written beside `target`."""
    for part in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > STALE_SECONDS:
                part.unlink()
