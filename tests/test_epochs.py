"""Scores by epoch, and where a run's budget was extended: read from its log."""

import math
from pathlib import Path

import pytest
from ledgers import rewrite

from nvp.ledger.entry import Run, runs
from nvp.runs.log import FILLED, RunLog
from nvp.tables.build import table
from nvp.tables.card import card
from nvp.tables.epochs import EPOCHS, held_out_after
from nvp.tables.published import read_published


def with_log(root: Path, rows: list[dict[str, float]]) -> Run:
    """The entry "tiny", with a log of these rows; what they lack of a row is 1."""
    run = runs(root)["tiny"]
    log = RunLog(run.files, step=0)
    for row in rows:
        log.write(dict.fromkeys(FILLED, 1.0) | row)
    return run


def test_between_validations_a_score_is_linear_in_the_logarithm(own: Path) -> None:
    epoch = runs(own)["tiny"].record.trained_on
    points = {epoch: 4.0, 2 * epoch: 3.5, 8 * epoch: 3.0}
    rows = [{"step": i, "images": n, "validation": v} for i, (n, v) in enumerate(points.items(), 1)]
    run = with_log(own, [*rows, {"step": 4, "images": 20 * epoch}])
    assert held_out_after(run, 1) == 4.0
    assert held_out_after(run, 4) == pytest.approx(3.25)
    assert math.isnan(held_out_after(run, 0.5))
    assert math.isnan(held_out_after(run, 20))  # no validation is as late
    assert math.isnan(held_out_after(with_log(own, []), 1))  # stopped before its first one


@pytest.mark.parametrize(
    ("rates", "steps"),
    [([1, 2, 2, 1, 0], []), ([1, 2, 1, 0, 2, 1, 0], [4]), ([2, 1, 2, 0, 1, 1], [2, 4]), ([], [])],
)
def test_a_rate_that_rises_after_it_fell_is_a_budget_extended(rates, steps, own: Path) -> None:
    run = with_log(own, [{"step": i, "rate": rate} for i, rate in enumerate(rates, 1)])
    assert run.extended_at == steps
    told = "budget extended after step"
    assert (told in card(run)) == bool(steps)
    if len(steps) == 2:
        assert f"{told}s 2 and 4" in card(run)


def test_the_table_has_a_row_for_each_run_in_colour_and_each_published_curve(own: Path) -> None:
    rewrite(own, "data.name", "cifar10")
    first, *others = table("epochs", root=own).rows
    assert first[:2] == ("A tiny Real NVP", "held-out images")
    assert first[2:] == ("–",) * len(EPOCHS)  # its one validation is within the first epoch
    curves = read_published(own).curves
    assert [row[1] for row in others] == [curve.of for curve in curves]
    (slower,) = (row for row in others if "f1ad5e8" in row[0])
    assert slower[2:] == ("4.54", "–", "3.78 (11)", "3.78 (21)")
