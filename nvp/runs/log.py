"""The log of a run: `log.csv`, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from nvp.errors import NVPError
from nvp.runs.files import write_text
from nvp.runs.folder import RunFolder

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
FILLED = COLUMNS[:5]  # in every row


class RunLog:
    """Appends rows to the log of `folder`, beginning after `step`.

    Rows past it are dropped: a resumed run writes them again. So is an unfinished last line, left
    by a crash. `last` is the latest row, empty where there is none.
    """

    def __init__(self, folder: RunFolder, step: int) -> None:
        self.path = folder.log
        _cut_torn_line(self.path)
        kept = [row for row in read_log(self.path) if row["step"] <= step]
        self.last = kept[-1] if kept else {}
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
            self.board = SummaryWriter(folder.tensorboard)

    def write(self, row: dict[str, float]) -> None:
        """Append one row; columns that it lacks stay empty. Raises `NVPError` on a full disk."""
        try:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, COLUMNS).writerow(row)
        except OSError as error:
            raise NVPError(f"cannot write {self.path} ({error}): free some space") from error
        self.last = row
        if self.board is not None:
            for key in row.keys() - {"step"}:
                self.board.add_scalar(key, row[key], int(row["step"]))


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a log.csv, empty cells left out; no rows where there is no file.

    Raises `NVPError` for a line that is not as it was written.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.reader(file)
        try:
            if next(reader, list(COLUMNS)) != list(COLUMNS):
                raise ValueError("it should name the columns")
            return [_row(cells) for cells in reader]
        except (ValueError, csv.Error) as error:
            raise NVPError(
                f"{path} is damaged in line {reader.line_num} ({error}): restore the file, or "
                "remove it, and with it the curve so far"
            ) from error


def _row(cells: list[str]) -> dict[str, float]:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"it has {len(cells)} cells, not {len(COLUMNS)}")
    row = {key: float(cell) for key, cell in zip(COLUMNS, cells, strict=True) if cell}
    for key in FILLED:
        if key not in row:
            raise ValueError(f"its {key} is missing")
    return row


def _cut_torn_line(path: Path) -> None:
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
