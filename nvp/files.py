"""Files that outlive a full disk or a lost machine, folders that one process writes to, and YAML.

Every write goes to a file beside the target, is flushed to disk, and then takes its place.
"""

import contextlib
import fcntl
import glob
import hashlib
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from nvp.errors import NVPError

LOCK = ".lock"
STALE_SECONDS = 3600  # a half-written file that is older was left by a process that was killed


def read(path: Path) -> bytes:
    """The content of a file. Raises `NVPError` where it cannot be read."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", error)
        raise NVPError(f"cannot read {path}: {reason}: restore it, or check its name") from error


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
    except (OSError, ValueError, RuntimeError) as error:  # a name of no file; a loop of links
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink()
        kept = "the old one is untouched; " if os.path.exists(path) else ""
        raise NVPError(
            f"cannot write {path} ({error}): {kept}free some space, make the folder writable, or "
            "name another folder"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write(path, text.encode())


def replace_folder(folder: Path, target: Path) -> None:
    """Rename `folder` to `target`, and remove the folder that was there.

    Where that raises `OSError`, the old folder stays. A kill between the two renames leaves it
    beside `target`, as `.NAME.old`.
    """
    old = target.with_name(f".{target.name}.old")
    try:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(target, old)
        os.replace(folder, target)
    finally:
        if old.exists() and not target.exists():
            os.replace(old, target)
    shutil.rmtree(old, ignore_errors=True)


def empty(folder: Path) -> None:
    """Remove all files of a folder but its lock; a missing folder is no error."""
    for path in folder.glob("*"):
        if path.name != LOCK:
            path.unlink()


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


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder`, which is made if it is not there, until the end of the block.

    The system releases the folder when the process ends, even if it is killed. An empty folder is
    removed at the end. Raises `NVPError` where the folder cannot be written, or another process
    holds it or has just removed it. Without locks, as on some network file systems, it only warns.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise NVPError(
            f"cannot write {folder} ({error}): nothing was written; name another folder"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().decode(errors="replace") or "another process"
            raise NVPError(
                f"{folder} is in use by {holder}: wait until it ends, or name another folder"
            ) from error
        except OSError as error:  # some network file systems have no locks
            print(
                f"nvp: {folder} cannot be locked ({error}): run one process there", file=sys.stderr
            )
        try:  # another process may have removed the lock between our opening and locking it
            ours = os.path.samestat(path.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            ours = False
        if not ours:
            raise NVPError(f"another process has just ended its work in {folder}: try again")
        with contextlib.suppress(OSError):  # on a full disk the next file that is written says so
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                if os.listdir(folder) == [LOCK]:
                    path.unlink()
                    folder.rmdir()


_NUMBERS = {
    "int": r"[-+]?(0|[1-9][0-9]*)$",
    "float": r"[-+]?((\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))$"
    r"|\.(nan|NaN|NAN)$",
}


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which PyYAML takes the last.

    Decimal numbers are those of YAML 1.2. PyYAML would take 4:30 for 270, and 010 for 8.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys: list[Any] = [key.value for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                mark = node.value[i][0].start_mark
                raise yaml.MarkedYAMLError(problem=f"{key} is given twice", problem_mark=mark)
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in those if tag.split(":")[-1] not in _NUMBERS]
    for first, those in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), list("-+.0123456789")
    )


def read_yaml(text: str) -> Any:
    """The plain values of a text. Raises `ValueError`, in one line, where it is not YAML."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        fault = " ".join(str(error).split())
        raise ValueError(fault.replace(' in "<unicode string>",', " at")) from error
