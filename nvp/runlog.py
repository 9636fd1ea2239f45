"""The log of a run: `log.csv`, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from nvp.checkpoint import write_text
from nvp.errors import NVPError

COLUMNS = (
    "step",
    "images",
    "minutes",
    "rate",
    "loss",
    "bits_per_dim",
    "gradient_norm",
    "validation",
    "validation_batch_statistics",
)


class RunLog:
    """Appends rows to `folder`/log.csv; those past `step`, which a resumed run repeats, are cut."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / "log.csv"
        kept = [row for row in read_log(self.path) if row["step"] <= step]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(kept)
        write_text(self.path, text.getvalue())
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.board = None
        else:
            self.board = SummaryWriter(folder / "tensorboard")

    def write(self, row: dict[str, float]) -> None:
        """Append one row; columns that it lacks stay empty. Raises `NVPError` on a full disk."""
        try:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, COLUMNS).writerow(row)
        except OSError as error:
            raise NVPError(f"cannot write {self.path} ({error}): free some space") from error
        if self.board is not None:
            for key in row.keys() - {"step"}:
                self.board.add_scalar(key, row[key], int(row["step"]))


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a log.csv, empty cells left out; no rows where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {key: float(value) for key, value in row.items() if value}
            for row in csv.DictReader(file)
        ]
