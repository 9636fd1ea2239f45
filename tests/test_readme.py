"""The parts of the README that follow from the ledger."""

from __future__ import annotations

from nvp.ledger.entry import Run, runs
from nvp.tables.published import read_published
from nvp.tables.readme import COLOUR, readme_parts


def pictures(ledger: dict[str, Run]) -> str:
    return readme_parts(read_published(), ledger)["pictures"]


def test_samples_in_colour_stand_beside_real_images() -> None:
    run = runs()["mnist"]
    shown = pictures({COLOUR: run})
    assert shown.index("real.png") < shown.index("samples.png")
    score = run.score
    assert f"{score.bits_per_dim:.3f} ± {score.standard_error:.3f} bits/dim after" in shown
    assert shown.endswith("the paper's larger model scores 3.49.\n")


def test_a_ledger_without_the_run_in_colour_keeps_the_pictures() -> None:
    parts = readme_parts(read_published(), {"mnist": runs()["mnist"]})
    assert list(parts) == ["results", "epochs"]
