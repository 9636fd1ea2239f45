"""The parts of the README that follow from the ledger."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from nvp.ledger.entry import Run, runs
from nvp.paths import repository_root
from nvp.tables.published import read_published
from nvp.tables.readme import COLOUR, readme_parts


def pictures(ledger: dict[str, Run]) -> str:
    return readme_parts(read_published(), ledger)["pictures"]


def test_digits_stand_in_until_there_is_a_run_in_colour() -> None:
    shown = pictures({name: run for name, run in runs().items() if name != COLOUR})
    assert (repository_root() / "book" / "images" / "mnist_samples.png").is_file()
    assert 'src="book/images/mnist_samples.png"' in shown
    assert "No run on images in colour is recorded yet." in shown


def test_samples_in_colour_stand_beside_real_images(tmp_path: Path) -> None:
    recorded = runs()["mnist"]
    bare = shutil.copytree(
        recorded.folder, tmp_path / COLOUR, ignore=shutil.ignore_patterns("*.png")
    )
    run = replace(recorded, folder=Path(bare))
    (tmp_path / COLOUR / "real.png").touch()
    assert "No run on images in colour" in pictures({COLOUR: run})
    (tmp_path / COLOUR / "samples.png").touch()
    shown = pictures({COLOUR: run})
    assert shown.index("real.png") < shown.index("samples.png")
    score = run.score
    assert f"{score.bits_per_dim:.3f} ± {score.standard_error:.3f} bits/dim after" in shown
    assert shown.endswith("the paper's larger model scores 3.49.\n")
