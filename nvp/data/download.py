"""Fetch a published data set, check it, and only then put it in place."""

from __future__ import annotations

import contextlib
import errno
import io
import socket
import sys
import tempfile
import zlib
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

from nvp.data.catalogue import BRING_YOUR_OWN
from nvp.data.formats import CIFAR10_FOLDER
from nvp.data.sets import (
    AMAT_FOLDER,
    AMAT_MD5,
    EMBEDDED,
    EMBEDDED_BINARY,
    IDX_FOLDERS,
    SPLITS,
    MissingData,
    NoValidationSplit,
    data_root,
    load,
)
from nvp.errors import NVPError
from nvp.files import replace_folder

STALLED_SECONDS = 30

BINARIZED_MNIST = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"

# The folder under the data root that a download fills, and torchvision's class for it.
TARGETS = {**IDX_FOLDERS, "binarized-mnist": AMAT_FOLDER, "cifar10": CIFAR10_FOLDER}
# Of an IDX set torchvision names the folder by its class.
TORCHVISION = {
    **{name: folder.split("/")[0] for name, folder in IDX_FOLDERS.items()},
    "cifar10": "CIFAR10",
}
# Of the network, and of what it brought.
FAULTS = (OSError, HTTPException, RuntimeError, EOFError, zlib.error)
MANUAL = {
    **{
        name: f"put the four decompressed IDX files in {{root}}/{folder}"
        for name, folder in IDX_FOLDERS.items()
    },
    "binarized-mnist": f"put {', '.join(AMAT_MD5)} of {BINARIZED_MNIST} in {{root}}/{AMAT_FOLDER}",
    "cifar10": "put the folder of the publisher's cifar-10-python.tar.gz in {root}",
}


def get(name: str, root: str | Path | None = None) -> Path:
    """Download `name` into the data root, unless a sound copy is there; return its folder.

    torchvision fetches it and compares its checksums; binarised MNIST comes from its publisher.
    The files go to a temporary folder, are loaded once, and are then renamed into place, so an
    interrupted download never replaces a good copy. Ctrl-C leaves nothing behind, a kill leaves a
    folder .download-...

    Raises `NVPError`: a name that cannot be downloaded, no network, wrong checksums, a data root
    that cannot be written.
    """
    if name not in TARGETS:
        raise NVPError(_not_downloadable(name))
    under = data_root(root)
    try:
        return _verified(name, under)
    except MissingData:
        pass
    except NVPError as error:
        if isinstance(error.__cause__, OSError):
            raise
        # A damaged download is fetched again; the user must repair files that the user put there.
        if name == "cifar10" and (under / "cifar10").is_dir():
            raise
    try:
        under.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=under) as temporary:
            fetched = Path(temporary)
            _fetch(name, fetched, under)
            _verified(name, fetched)
            target = under / TARGETS[name]
            target.parent.mkdir(exist_ok=True)
            replace_folder(fetched / TARGETS[name], target)
    except OSError as error:
        raise NVPError(
            f"cannot write {name} under {under} ({error}): free some space, or choose another "
            "place with --data-root"
        ) from error
    return _verified(name, under)


def _not_downloadable(name: str) -> str:
    if name in (EMBEDDED, EMBEDDED_BINARY):
        return f"{name} comes with the repository and needs no download"
    if name in BRING_YOUR_OWN:
        return (
            f"{name} is not downloaded for you: get its publisher's files, then run "
            f"{BRING_YOUR_OWN[name].how}"
        )
    return f"no download is known for {name!r}: use {', '.join(TARGETS)}"


def _verified(name: str, under: Path) -> Path:
    """The folder of a set after all its splits loaded, checksums included."""
    for split in SPLITS:
        with contextlib.suppress(NoValidationSplit):
            load(name, split, root=under)
    if name == "cifar10" and (under / "cifar10").is_dir():
        return under / "cifar10"
    return under / TARGETS[name]


def _fetch(name: str, into: Path, under: Path) -> None:
    import torchvision.datasets
    from torchvision.datasets.utils import download_url

    target, shown = into / TARGETS[name], sys.stderr if sys.stderr.isatty() else io.StringIO()
    try:
        with _stall_timeout(), contextlib.redirect_stderr(shown):
            if name in TORCHVISION:
                getattr(torchvision.datasets, TORCHVISION[name])(str(into), download=True)
            else:  # binarised MNIST, three text files of 110 MB in all
                for file, md5 in AMAT_MD5.items():
                    download_url(f"{BINARIZED_MNIST}/{file}", str(target), md5=md5)
    except FAULTS as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # no fault of the network
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        instead = EMBEDDED_BINARY if name == "binarized-mnist" else EMBEDDED
        raise NVPError(
            f"could not download {name} ({reason}): check the network and try again, or "
            f"{MANUAL[name].format(root=under)}; {instead} needs no download"
        ) from error
    for archive in target.glob("*.gz"):
        archive.unlink()


@contextlib.contextmanager
def _stall_timeout() -> Iterator[None]:
    """torchvision sets no timeout of its own, and a silent server would hang it for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALLED_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
