"""A folder that one process at a time may write to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nvp.errors import NVPError

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder`, which is made if it is not there, until the end of the block.

    The system lets go of it when the process ends, however that is. Raises `NVPError` where
    another process holds it. A folder that is empty in the end is removed.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise NVPError(
            f"cannot write {folder} ({error}): nothing was written; name another folder"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise NVPError(
                f"{folder} is in use by {file.read() or 'another process'}: wait until it ends, or "
                "name another folder"
            ) from error
        except OSError as error:  # some network file systems have no locks
            print(
                f"nvp: {folder} cannot be locked ({error}): use it once at a time", file=sys.stderr
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                if os.listdir(folder) == [LOCK]:
                    path.unlink()
                    folder.rmdir()
