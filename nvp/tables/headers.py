"""The expected score of a configuration: lines at the head of `configs/NAME.yaml`."""

from __future__ import annotations

import textwrap
from pathlib import Path

from nvp.config import differences, load_config
from nvp.ledger.entry import Run
from nvp.tables.cells import length, score_cell

MARK = "#: "  # begins every generated line


def with_expectation(path: Path, run: Run | None) -> str:
    """The text of a configuration under what its recorded run scored, and how long it took.

    Without a recorded run there is no such line.
    """
    kept = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#:")]
    return "\n".join([*([] if run is None else _expectation(path, run)), *kept]) + "\n"


def _expectation(path: Path, run: Run) -> list[str]:
    epochs = f"{run.record.epochs:.3g} epochs"
    if run.fresh_model.fitted_in_closed_form:
        epochs = "fitted in closed form"
    took = f"{length(run)}, {epochs}, on {run.record.hardware}"
    told = f"Has no likelihood, and was trained for {took}."
    if run.has_likelihood:
        unit = "" if run.is_binary else " bits/dim"
        told = f"Expect {score_cell(run, unit=True)}{unit} on the test images, after {took}."
    changed = [key for key in differences(run.config, load_config(path)) if key != "name"]
    if changed:
        told = f"Recorded with other settings ({', '.join(changed)}): {told}"
    told += f" From the ledger ({run.name}), by `nvp tables`."
    return textwrap.wrap(told, 98, initial_indent=MARK, subsequent_indent=MARK)
