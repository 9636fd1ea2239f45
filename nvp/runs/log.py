"""The log of a run: `log.csv`, and TensorBoard where it is installed.

Every row has `step`, `images` (seen so far), `minutes`, `rate` and `loss`. `loss` (nats an image),
`bits_per_dim` (the loss in bits/dim) and `gradient_norm` are means since the row before.
`validation` and `validation_batch_statistics`, where there, are bits/dim of the averaged model.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from nvp.errors import NVPError
from nvp.files import read, write
from nvp.runs.folder import RunFolder

FILLED = ("step", "images", "minutes", "rate", "loss")  # in every row
COLUMNS = (*FILLED, "bits_per_dim", "gradient_norm", "validation", "validation_batch_statistics")


class RunLog:
    """Appends rows to the log of `folder`, beginning after `step`.

    Rows past it are dropped: a resumed run writes them again. `last` is the latest row, empty where
    there is none.
    """

    def __init__(self, folder: RunFolder, step: int) -> None:
        self.path = folder.log
        write(self.path, log_until(self.path, step))
        self.last = (read_log(self.path) or [{}])[-1]
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.board = None
        else:
            self.board = SummaryWriter(folder.tensorboard, purge_step=step + 1)

    def write(self, row: dict[str, float]) -> None:
        """Append one row; columns that it lacks stay empty. Raises `NVPError` on a full disk."""
        try:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, COLUMNS).writerow(row)
        except OSError as error:
            raise NVPError(f"cannot write {self.path} ({error}): free some space") from error
        self.last = row
        if self.board is not None:
            for column in row.keys() - {"step"}:
                self.board.add_scalar(column, row[column], int(row["step"]))


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a log.csv, empty cells left out; no rows where there is no file.

    Raises `NVPError` for a line that is not as it was written.
    """
    return [row for _, row in _lines(path)]


def log_until(path: Path, step: int) -> bytes:
    """The log at `path`, as it was written, without what comes after `step`."""
    header = (",".join(COLUMNS) + "\r\n").encode()
    return header + b"".join(line for line, row in _lines(path) if row["step"] <= step)


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, float]]]:
    """Each line after the header, and its row; not a last line without an end, left by a crash."""
    content = read(path) if path.exists() else b""
    lines = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
    last = 0.0
    for number, line in enumerate(lines, start=1):
        cells = line.decode(errors="replace").rstrip("\r\n").split(",")
        try:
            if number == 1:
                if cells != list(COLUMNS):
                    raise ValueError("it should name the columns")
                continue
            row = _row(cells)
            if not row["step"] > last:
                raise ValueError(f"its step should be after {last:g}")
            last = row["step"]
        except ValueError as error:
            raise NVPError(
                f"{path} is damaged in line {number} ({error}): restore the file, or "
                "remove it; the curve so far is then lost"
            ) from error
        yield line, row


def _row(cells: list[str]) -> dict[str, float]:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"it has {len(cells)} cells, not {len(COLUMNS)}")
    row = {key: float(cell) for key, cell in zip(COLUMNS, cells, strict=True) if cell}
    for key in FILLED:
        if key not in row:
            raise ValueError(f"its {key} is missing")
    return row
