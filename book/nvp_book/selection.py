"""What the chapters on results show: the best run of each kind of images, and images to hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from nvp.data.sets import EMBEDDED, Dataset, MissingData, load
from nvp.errors import NVPError
from nvp.ledger.entry import Run, runs
from nvp.model.protocol import ImageModel
from nvp.tables.published import read_published

SUBSET = "-small"  # ends the name of a data set that is a part of another one
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def data_title(name: str) -> str:
    """A data set in words, such as Fashion-MNIST; its name where the published tables have none."""
    if name == EMBEDDED:
        return f"embedded {data_title(name.removesuffix(SUBSET))}"
    tables = read_published().tables.values()
    return {row.data: row.title for rows in tables for row in rows}.get(name, name)


def run_titles(ledger: Mapping[str, Run]) -> dict[str, str]:
    """The title of each run, with its name where two runs have the same title."""
    titles = {name: run.record.title for name, run in ledger.items()}
    count = Counter(titles.values())
    return {n: f"{title} ({n})" if count[title] > 1 else title for n, title in titles.items()}


def in_powers(number: str) -> str:
    """A formatted number with 2 × 10⁸ in place of 2e+08."""
    digits, _, exponent = number.partition("e")
    return f"{digits} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}" if exponent else number


def best_runs(ledger: Mapping[str, Run]) -> dict[str, Run]:
    """The run of the lowest test score of each kind of images, of those that keep their weights.

    Kinds are names of data sets, a set and its subset being one; the embedded kind comes first.
    Runs on a subset, whose test images are others, count only where there is none on the whole;
    runs without likelihood have no score and do not count.
    """
    best: dict[str, Run] = {}
    scored = [run for run in ledger.values() if run.has_likelihood and run.record.weights]
    for run in sorted(scored, key=_rank):
        best.setdefault(run.record.data.name.removesuffix(SUBSET), run)
    return dict(sorted(best.items(), key=lambda item: item[0] != EMBEDDED.removesuffix(SUBSET)))


def _rank(run: Run) -> tuple[bool, float]:
    return run.record.data.name.endswith(SUBSET), run.score.bits_per_dim


def images_for(run: Run, split: str, *, full: bool = False) -> Dataset | None:
    """Images of the kind that `run` was trained on: the embedded ones of that kind, if any.

    With `full`, the whole `split` of the data set, where it is here.
    """
    name = run.record.data.name
    if full:
        try:
            return load(name, split)
        except MissingData:
            pass
    return load(EMBEDDED, split) if name in (EMBEDDED, EMBEDDED.removesuffix(SUBSET)) else None


class BestModels(NamedTuple):
    """The best runs and their models by kind of images, and images of one kind to go with them."""

    runs: dict[str, Run]
    models: dict[str, ImageModel]  # in evaluation mode
    kind: str  # the first one, of which the images are
    train: Dataset
    test: Dataset


def best_models(
    ledger: Mapping[str, Run], device: torch.device, *, full: bool = False
) -> BestModels:
    """`best_runs` of those without labels, their models, and `images_for` the first of them.

    A run that is told labels scores something else, and stays out. Raises `NVPError` where no run
    is left, or no images of the first one's kind are here.
    """
    best = best_runs(
        {name: run for name, run in ledger.items() if not run.config.model.num_classes}
    )
    if not best:
        raise NVPError("no run without labels keeps its weights: make one and `nvp record` it")
    kind, run = next(iter(best.items()))
    train, test = (images_for(run, split, full=full) for split in ("train", "test"))
    if train is None or test is None:
        raise NVPError(f"{run.name} is the first of the runs, and no images of {kind} are here")
    models = {kind: run.load_model(str(device)) for kind, run in best.items()}
    return BestModels(best, models, kind, train, test)


def sheet_images(path: Path, side: int) -> torch.Tensor:
    """The images of a sheet of the ledger, such as samples.png, row by row: uint8, (N, 3, H, W).

    Images are squares of `side` pixels, 2 white pixels apart, at a zoom of 1 to 3.
    """
    with Image.open(path) as sheet:
        pixels = torch.from_numpy(np.array(sheet.convert("RGB"))).permute(2, 0, 1)
    step = side + 2
    zoom = next(k for k in (3, 2, 1) if (pixels.shape[2] - 2 * k) % (step * k) == 0)
    pixels = pixels[:, 2 * zoom :: zoom, 2 * zoom :: zoom]
    tiles = pixels.unfold(1, step, step).unfold(2, step, step)[..., :side, :side]
    return tiles.permute(1, 2, 0, 3, 4).flatten(0, 1)


def binary_digits() -> torch.Tensor:
    """Test images of binarised MNIST, uint8 0 and 1, (64, 1, 28, 28), sorted by digit.

    The set itself is not part of the book; these are the ones that the ledger shows.
    """
    images = sheet_images(runs()["binarized-mnist-diagonal-1"].files.real, 28)
    return images[:, :1] // 255
