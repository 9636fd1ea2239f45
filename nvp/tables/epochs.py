"""Scores after so many epochs: the runs on CIFAR-10, beside what others published for Real NVP."""

import numpy as np

from nvp.ledger.entry import Run
from nvp.tables.cells import Table, text
from nvp.tables.published import Curve, Published

EPOCHS = (1, 5, 10, 20)


def held_out_after(run: Run, epochs: float) -> float:
    """The validation score in bits/dim after so many epochs; nan before the first, past the last.

    Between two validations it is linear in the logarithm of the images seen.
    """
    rows = [row for row in run.log() if "validation" in row]
    if not rows:  # of a run that was stopped early
        return float("nan")
    seen = np.log([row["images"] for row in rows])
    bits = [row["validation"] for row in rows]
    wanted = np.log(epochs * run.record.trained_on)
    return float(np.interp(wanted, seen, bits, left=np.nan, right=np.nan))


def by_epochs(facts: Published, ledger: dict[str, Run]) -> Table:
    """A row for each recorded run on whole images of CIFAR-10 without labels, and each curve."""
    rows = []
    for run in ledger.values():
        whole = run.record.data.name == "cifar10" and run.config.data.crop is None
        if whole and run.has_likelihood and not run.config.model.num_classes:
            found = [held_out_after(run, epochs) for epochs in EPOCHS]
            cells = ("–" if np.isnan(bits) else f"{bits:.2f}" for bits in found)
            rows.append((text(run.record.title), "held-out images", *cells))
    for curve in facts.curves:
        told = f"Real NVP, [{curve.name}]({curve.url})"
        rows.append((told, curve.of, *(_nearest(curve, epochs) for epochs in EPOCHS)))
    caption = (
        "CIFAR-10: bits/dim after 1, 5, 10 and 20 epochs. Rows without a link are recorded runs, "
        "under averaged weights, interpolated between two validations. At some of these epochs the "
        "rate had just been annealed, at others it was still high, so a column does not rank the "
        "runs. An epoch in parentheses is the nearest published one."
    )
    counted = (f"{epochs} epoch{'s' * (epochs > 1)}" for epochs in EPOCHS)
    return Table(caption, ("model", "of", *counted), rows)


def _nearest(curve: Curve, epochs: int) -> str:
    """The published figure nearest to so many epochs, a dash if none is within a tenth of them."""
    nearest = min(curve.points, key=lambda epoch: abs(epoch - epochs))
    if abs(nearest - epochs) > epochs / 10:
        return "–"
    return f"{curve.points[nearest]:.2f}" + f" ({nearest})" * (nearest != epochs)
