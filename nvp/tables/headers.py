"""The expected score of a configuration: lines at the head of `configs/NAME.yaml`."""

from __future__ import annotations

import textwrap
from pathlib import Path

from nvp.config import differences, load_config
from nvp.ledger.entry import Run
from nvp.tables.cells import length, schedule, score_cell

MARK = "#: "  # begins every generated line


def with_expectation(path: Path, run: Run | None) -> str:
    """The text of a configuration under what its recorded run scored, and how long it took.

    Without a recorded run there is no such line.
    """
    kept = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#:")]
    return "\n".join([*([] if run is None else _expectation(path, run)), *kept]) + "\n"


def _expectation(path: Path, run: Run) -> list[str]:
    told = "Has no likelihood."
    if run.has_likelihood:
        unit = "" if run.is_binary else " bits/dim"
        told = f"Expect {score_cell(run, unit=True)}{unit} on the test images."
    told += f" The recorded run: {length(run)}{schedule(run)}, on {run.record.hardware}."
    changed = [key for key in differences(run.config, load_config(path)) if key != "name"]
    if changed:
        told = f"Recorded with other settings ({', '.join(changed)}): {told}"
    told += f" From the ledger ({run.name}), by `nvp tables`."
    return textwrap.wrap(told, 98, initial_indent=MARK, subsequent_indent=MARK)
