"""The folders of the repository, the ledger and the data sets.

Notebooks run in other folders than scripts, so nothing here is relative.
"""

import os
from pathlib import Path

from nvp.errors import NVPError


def repository_root() -> Path:
    """The checkout that this package belongs to.

    That is the folder around an editable install; for a package installed elsewhere, the nearest
    checkout at or above the working folder; failing both, the working folder itself.
    """
    working = Path.cwd()
    for folder in (Path(__file__).resolve().parents[1], working, *working.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "nvp").is_dir():
            return folder
    return working


def results_root() -> Path:
    """`results/` of the repository: the ledger of recorded runs."""
    return repository_root() / "results"


def embedded_root() -> Path:
    """`data/` of the repository, where the embedded set is, whatever the data root."""
    return repository_root() / "data"


def data_root(root: str | Path | None = None) -> Path:
    """The data root: `root`, else the variable NVP_DATA, else `data/` of the repository."""
    chosen = root if root is not None else os.environ.get("NVP_DATA")
    return expanded(chosen).absolute() if chosen else embedded_root()


def expanded(path: str | Path) -> Path:
    """The path with "~" as a home folder. Raises `NVPError` where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise NVPError(f"cannot find the home folder of {str(path)!r}: write it out") from error
