"""What the chapters on results choose to show."""

from dataclasses import replace

import pytest

from nvp.data import EMBEDDED
from nvp.ledger import RecordedDraw, Run, runs
from nvp.likelihood import Score
from nvp.shown import best_runs, images_for


def entry(name: str, data: str, bits: float, *, weights: bool = True) -> Run:
    """A recorded run under another name, on other data and with another test score."""
    run = runs()["fashion-mnist"]
    scores = run.scores.model_copy(update={"test": Score(bits, 0.1, 10, 1)})
    changes = {
        "name": name,
        "data": run.record.data.model_copy(update={"name": data}),
        "scores": scores,
        "weights": run.record.weights if weights else None,
    }
    return replace(run, record=run.record.model_copy(update=changes))


def without_likelihood(name: str, data: str) -> Run:
    """The same, with something drawn in place of scores."""
    run = entry(name, data, 0.0)
    drawn = RecordedDraw(mean=80.0, standard_deviation=90.0, num_images=64)
    return replace(run, record=run.record.model_copy(update={"scores": None, "draw": drawn}))


def test_the_best_run_of_each_kind() -> None:
    entries = [
        entry("a", "mnist", 1.2),
        entry("b", "fashion-mnist", 3.1),
        entry("c", "fashion-mnist-small", 2.9),
        entry("g", "fashion-mnist", 3.2),
        entry("h", "other-small", 2.0),
        entry("d", "mnist", 1.1),
        entry("e", "mnist", 1.0, weights=False),
        without_likelihood("f", "mnist"),
    ]
    best = best_runs({run.name: run for run in entries})
    assert [(kind, run.name) for kind, run in best.items()] == [
        ("fashion-mnist", "b"),
        ("mnist", "d"),
        ("other", "h"),
    ]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("data", "found"),
    [("fashion-mnist", EMBEDDED), (EMBEDDED, EMBEDDED), ("mnist", None)],
)
def test_images_at_hand(data, found, full, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("NVP_DATA", str(tmp_path))  # nothing was downloaded
    images = images_for(entry("a", data, 1.0), "test", full=full)
    assert (images and images.name) == found
    if images:
        assert (len(images), images.split) == (1000, "test")


def test_the_full_set_where_it_is(monkeypatch) -> None:
    monkeypatch.setattr("nvp.shown.load", lambda name, split: (name, split))
    assert images_for(entry("a", "mnist", 1.0), "train", full=True) == ("mnist", "train")
    assert images_for(entry("a", "mnist", 1.0), "train") is None
