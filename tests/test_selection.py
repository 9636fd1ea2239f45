"""What the chapters on results choose to show."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from nvp_book.figures.samples import tile
from nvp_book.selection import binary_digits, images_for, in_powers, paces, sheet_images

from nvp.data import EMBEDDED, FASHION_CLASSES, load
from nvp.ledger.entry import Run, runs
from nvp.runs.sheet import encode, sheet


def trained_on(data: str) -> Run:
    """A recorded run, as if on this data set."""
    run = next(iter(runs().values()))
    changed = run.record.data.model_copy(update={"name": data})
    return replace(run, record=run.record.model_copy(update={"data": changed}))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("data", "found"), [("fashion-mnist", EMBEDDED), (EMBEDDED, EMBEDDED), ("mnist", None)]
)
def test_images_at_hand(data, found, full, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("NVP_DATA", str(tmp_path))  # nothing was downloaded
    images = images_for(trained_on(data), "test", full=full)
    assert (images and images.name) == found
    if images:
        assert (len(images), images.split) == (1000, "test")


def test_the_full_set_where_it_is(monkeypatch, tmp_path) -> None:
    tiny.write_data(tmp_path, "mine")
    monkeypatch.setenv("NVP_DATA", str(tmp_path))
    images = images_for(trained_on("mine"), "train", full=True)
    assert (images.name, images.split, len(images)) == ("mine", "train", 60)
    assert images_for(trained_on("mine"), "train") is None


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
    # As a figure shows them, without the white border.
    shown = np.asarray(sheet(images, columns))[2:-2, 2:-2]
    assert np.array_equal(tile(images, columns), shown)


def test_pace_compares_the_ends_of_budgets(monkeypatch) -> None:
    at_rest = {50: 4.5, 100: 4.0, 200: 3.9, 390: 3.7, 400: 3.6}
    log = [{"images": n, "validation": bits, "rate": 0.0} for n, bits in at_rest.items()]
    log.insert(3, {"images": 320, "validation": 2.0, "rate": 1e-3})
    monkeypatch.setattr(Run, "log", lambda run: [*log, {"images": 1000, "rate": 0.0}])
    assert paces(trained_on("mine")) == pytest.approx([0.5, 0.1, 0.3])  # of 50, 100, 200, 400
    log[1:] = []
    assert paces(trained_on("mine")) == []
