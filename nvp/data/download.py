"""Fetch a published data set, check it, and only then put it in place."""

import contextlib
import errno
import io
import socket
import sys
import tempfile
import zlib
from http.client import HTTPException
from pathlib import Path

from nvp.data.formats import SPLITS, NoValidationSplit, is_npy_folder
from nvp.data.named import NAMED, Download
from nvp.data.sets import find, load
from nvp.errors import NVPError
from nvp.files import replace_folder
from nvp.paths import data_root

STALLED_SECONDS = 30

# Of the network, and of what it brought.
FAULTS = (OSError, HTTPException, RuntimeError, EOFError, zlib.error)


def get(name: str, root: str | Path | None = None) -> Path:
    """Download `name` into the data root, unless a sound copy is there; return its folder.

    torchvision fetches it from its mirrors or from the publisher, and compares its checksums. The
    files go to a temporary folder, are loaded once, and are then renamed into place, so an
    interrupted download never replaces a good copy. Ctrl-C leaves nothing behind, a kill leaves a
    folder .download-...

    Raises `NVPError`: a name that cannot be downloaded, no network, wrong checksums, a data root
    that cannot be written.
    """
    known, under = NAMED.get(name), data_root(root)
    if known is None or known.download is None:
        names = ", ".join(each for each, other in NAMED.items() if other.download)
        remedy = f"if it is missing, run {known.how}" if known else f"use {names}"
        raise NVPError(f"no download is known for {name!r}: {remedy}")
    target = under / known.download.folder
    try:
        return _verified(name, under)
    except NVPError as error:
        if isinstance(error.__cause__, OSError):
            raise
        # A missing or damaged download is fetched; the user must repair files of the user's own.
        if known.imported and is_npy_folder(under / name):
            raise
    if is_npy_folder(target):
        raise NVPError(
            f"{target} is a data set of your own, and the download would replace it: rename it"
        )
    try:
        under.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=under) as temporary:
            fetched = Path(temporary)
            _fetch(name, known.download, fetched, under)
            _verified(name, fetched)
            target.parent.mkdir(exist_ok=True)
            replace_folder(fetched / known.download.folder, target)
    except OSError as error:
        raise NVPError(
            f"cannot write {name} under {under} ({error}): free some space, or choose another "
            "place with --data-root"
        ) from error
    return target


def _verified(name: str, under: Path) -> Path:
    """The folder of a set after all its splits loaded, checksums included."""
    for split in SPLITS:
        with contextlib.suppress(NoValidationSplit):
            load(name, split, root=under)
    return find(name, "train", under).place


def _fetch(name: str, download: Download, into: Path, under: Path) -> None:
    import torchvision.datasets
    from torchvision.datasets.utils import download_url

    target, shown = into / download.folder, sys.stderr if sys.stderr.isatty() else io.StringIO()
    before = socket.getdefaulttimeout()
    # torchvision sets no timeout of its own, and a silent server would hang it for ever.
    socket.setdefaulttimeout(STALLED_SECONDS)
    try:
        with contextlib.redirect_stderr(shown):
            if download.torchvision:
                getattr(torchvision.datasets, download.torchvision)(str(into), download=True)
            for url, md5 in download.md5.items():
                download_url(url, str(target), md5=md5)
    except FAULTS as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # no fault of the network
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        raise NVPError(
            f"could not download {name} ({reason}): check the network and try again, or "
            f"{download.by_hand.format(root=under)}; {download.instead} needs no download"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    for archive in target.glob("*.gz"):
        archive.unlink()
