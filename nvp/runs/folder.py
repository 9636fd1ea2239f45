"""The files of a run folder by name."""

import json
import shlex
from pathlib import Path

from nvp.errors import NVPError
from nvp.files import LOCK
from nvp.paths import repository_root, results_root

SCHEMA = 1  # of `run.json`; a change that old code would misread raises it


class RunFolder:
    """The files of a run at `path`, by name.

    Of training they are `config`, `log`, `checkpoint` and `tensorboard`. The ledger has `config`
    and `log`, too, and `record`, `weights`, `samples`, `real`, `completions`, `card` and
    `filmstrip`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"  # as it was trained
        self.log = path / "log.csv"  # the curve
        self.checkpoint = path / "checkpoint.safetensors"  # all that the next step depends on
        self.tensorboard = path / "tensorboard"

        self.record = path / "run.json"  # every number that tables and book show
        self.weights = path / "weights.safetensors"  # averaged, where they are small
        self.samples = path / "samples.png"  # 64 or fewer, at temperature 1
        self.real = path / "real.png"  # 64 test images or fewer
        self.completions = path / "completions.png"  # upper halves of test images completed
        self.card = path / "README.md"  # generated
        self.filmstrip = path / "filmstrip.png"  # samples from the same noise at several steps

    @property
    def quoted(self) -> str:
        """Its path, for a command that a reader copies."""
        return shlex.quote(str(self.path))

    def check_free(self) -> None:
        """Raise `NVPError` where training would overwrite an entry, or files of something else."""
        if self.is_recorded:
            raise NVPError(
                f"{self.path} is a recorded run: go on with it by --resume {self.quoted}, or "
                "name another --run-folder"
            )
        if self.checkpoint.exists() or ((self.path / LOCK).exists() and self.log.exists()):
            return  # training was here
        for path in (self.config, self.log):
            if path.exists():
                raise NVPError(
                    f"{path} was written by something else, and training would write over it: "
                    "name another --run-folder"
                )

    @property
    def is_recorded(self) -> bool:
        """Whether it is an entry of the ledger."""
        return self.record.is_file()

    def check_schema(self) -> None:
        """Raise `NVPError` for a record that newer code wrote; `read_run` names other faults."""
        try:
            schema = json.loads(self.record.read_bytes())["schema"]
            newer = schema > SCHEMA
        except (OSError, ValueError, TypeError, KeyError):
            return
        if newer:
            raise NVPError(
                f"{self.record} has schema {schema}, this code reads up to {SCHEMA}: use a newer "
                "version of this code"
            )


def default_folder(name: str) -> Path:
    """The folder in which a run of this name is trained, unless `--run-folder` names another."""
    return repository_root() / "build" / "runs" / name


def find_run(folder: Path) -> Path:
    """`folder` itself, or the recorded run of that name. Raises `NVPError` where neither is there.

    A folder without configuration, checkpoint and record gives way to a recorded run.
    """
    ledger = results_root() / "runs"
    here, recorded = RunFolder(folder), RunFolder(ledger / folder)
    if here.config.is_file() or here.checkpoint.is_file() or here.is_recorded:
        return folder
    if recorded.config.is_file() or recorded.is_recorded:
        return recorded.path
    if folder.is_file():
        raise NVPError(f"{folder} is a file: name the folder of a run")
    trained = default_folder(str(folder))
    found = RunFolder(trained).config.is_file()
    instead = f"name {trained}" if found else f"train one, or name a run of {ledger}"
    raise NVPError(f"there is no run in {folder}: {instead}")
