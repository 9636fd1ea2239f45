"""What the chapters on results choose to show."""

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from nvp_book.selection import (
    best_models,
    best_runs,
    binary_digits,
    data_title,
    images_for,
    in_powers,
    run_titles,
    sheet_images,
)

from nvp.data.sets import EMBEDDED, FASHION_CLASSES, load
from nvp.errors import NVPError
from nvp.ledger.entry import RecordedDraw, Run, runs
from nvp.likelihood import Score
from nvp.runs.sheet import encode, sheet


def any_run(*, conditional: bool = False) -> Run:
    """A recorded run that keeps its weights."""
    return next(
        run
        for run in runs().values()
        if run.has_likelihood
        and run.record.weights
        and bool(run.config.model.num_classes) == conditional
    )


def entry(name: str, data: str, bits: float, *, weights: bool = True) -> Run:
    """A recorded run under another name, on other data and with another test score."""
    run = any_run()
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


def test_the_full_set_where_it_is(monkeypatch, tmp_path) -> None:
    tiny.write_data(tmp_path, "mine")
    monkeypatch.setenv("NVP_DATA", str(tmp_path))
    images = images_for(entry("a", "mine", 1.0), "train", full=True)
    assert (images.name, images.split, len(images)) == ("mine", "train", 60)
    assert images_for(entry("a", "mine", 1.0), "train") is None


def test_the_models_that_both_chapters_show(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("NVP_DATA", str(tmp_path))
    plain, other = entry("plain", "fashion-mnist", 3.0), entry("other", "mnist", 1.0)
    told = replace(any_run(conditional=True), record=entry("told", "mnist", 0.5).record)
    ledger = {run.name: run for run in (other, told, plain)}
    best, models, kind, train, test = best_models(ledger, torch.device("cpu"), full=True)
    assert best == {"fashion-mnist": plain, "mnist": other}
    assert kind == "fashion-mnist"
    assert models.keys() == best.keys()
    assert not any(model.training for model in models.values())
    assert [(each.name, each.split) for each in (train, test)] == [
        (EMBEDDED, "train"),
        (EMBEDDED, "test"),
    ]


@pytest.mark.parametrize(
    ("conditional", "message"),
    [(True, "no run without labels"), (False, "no images of mnist are here")],
)
def test_nothing_to_show(conditional, message, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("NVP_DATA", str(tmp_path))
    run = replace(any_run(conditional=conditional), record=entry("a", "mnist", 1.0).record)
    with pytest.raises(NVPError, match=message):
        best_models({"a": run}, torch.device("cpu"), full=True)


def test_the_classes_have_their_names() -> None:
    embedded = load(EMBEDDED, "train")
    assert len(set(FASHION_CLASSES)) == len(embedded.labels.unique()) == 10
    taller = {}  # how many more rows than columns are bright, in the mean of a class
    for label, name in enumerate(FASHION_CLASSES):
        mean = embedded.images[embedded.labels == label, 0].float().mean(dim=0)
        taller[name] = int((mean.mean(dim=1) > 20).sum() - (mean.mean(dim=0) > 20).sum())
    by_height = sorted(taller, key=taller.__getitem__)
    assert by_height[:2] == ["sneaker", "sandal"]
    assert by_height[-2:] == ["dress", "trousers"]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("mnist", "MNIST"),
        (EMBEDDED, "embedded Fashion-MNIST"),
        ("of-my-own", "of-my-own"),
    ],
)
def test_data_in_words(name: str, title: str) -> None:
    assert data_title(name) == title


def test_equal_titles_are_told_apart_by_name() -> None:
    a, b = entry("a", "mnist", 1.0), entry("b", "mnist", 1.0)
    other = replace(a, record=a.record.model_copy(update={"title": "another"}))
    titles = run_titles({"a": a, "b": b, "c": other})
    assert titles["c"] == "another"
    assert titles["a"] == f"{a.record.title} (a)" != titles["b"]


@pytest.mark.parametrize(
    ("number", "text"), [("2e+08", "2 × 10⁸"), ("1.8e-15", "1.8 × 10⁻¹⁵"), ("0.5", "0.5")]
)
def test_powers_of_ten(number: str, text: str) -> None:
    assert in_powers(number) == text


def test_digits_at_hand_cost_their_model_what_test_digits_do() -> None:
    """A cut at the wrong pixel, or a turned image, would cost it far more."""
    run, digits = runs()["binarized-mnist-diagonal-1"], binary_digits()
    with torch.no_grad():
        nats = -run.load_model("cpu").log_prob(digits).mean()
    assert digits.shape == (64, 1, 28, 28)
    assert abs(nats - run.nats[0]) < 6


@pytest.mark.parametrize("zoom", [1, 2, 3])
@pytest.mark.parametrize(("side", "columns"), [(28, 8), (32, 5)])
def test_images_are_cut_out_of_a_sheet(side: int, columns: int, zoom: int, tmp_path: Path) -> None:
    images = torch.randint(256, (2 * columns, 3, side, side)).byte()
    (tmp_path / "sheet.png").write_bytes(encode(sheet(images, columns, zoom)))
    assert torch.equal(sheet_images(tmp_path / "sheet.png", side), images)
