"""Shared by chapters: data sets and numbers in words, measurements, and images at hand."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from nvp.data import EMBEDDED, Dataset, MissingData, load
from nvp.ledger.entry import Run, runs
from nvp.paths import repository_root
from nvp.tables.published import read_published

SUBSET = "-small"  # ends the name of a data set that is a part of another one
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def data_title(name: str) -> str:
    """A data set in words, such as Fashion-MNIST; its name where the published tables have none."""
    if name == EMBEDDED:
        return f"embedded {data_title(name.removesuffix(SUBSET))}"
    tables = read_published().tables.values()
    return {row.data: row.title for rows in tables for row in rows}.get(name, name)


def cost(run: Run) -> str:
    """How long a run trained, and on what, such as "12.7 epochs: 7.1 hours on 2 cores"."""
    record = run.record
    cores = [leg.cores for leg in record.legs]
    fewest, most = min(cores), max(cores)
    number = f"{most}" if fewest == most else f"{fewest} to {most}"
    on = next((leg.gpu for leg in record.legs if leg.gpu), f"{number} core{'s' * (most > 1)}")
    return f"{record.epochs:.1f} epochs: {record.minutes / 60:.1f} hours on {on}"


def paces(run: Run) -> list[float]:
    """Falls of held-out bits/dim per doubling of the epochs, between scores at a rate of 0.

    Those are the ends of a run's budgets. One is left out if it has over 0.6 times the images of
    the next that is kept. The order is that of training; a run of one budget has no pace.
    """
    low = 1e-3 * run.config.training.learning_rate
    ends = {
        row["images"]: row["validation"]
        for row in run.log()
        if "validation" in row and row["rate"] < low
    }
    kept = [max(ends)]
    for images in sorted(ends, reverse=True):
        if images <= 0.6 * kept[0]:
            kept.insert(0, images)
    return [(ends[a] - ends[b]) / math.log2(b / a) for a, b in pairwise(kept)]


def in_powers(number: str) -> str:
    """A formatted number with 2 × 10⁸ in place of 2e+08."""
    digits, _, exponent = number.partition("e")
    return f"{digits} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}" if exponent else number


def benchmark_results(name: str) -> dict[str, Any]:
    """What a benchmark wrote: benchmarks/results_NAME.json."""
    return json.loads((repository_root() / "benchmarks" / f"results_{name}.json").read_text())


def images_for(run: Run, split: str, *, full: bool = False) -> Dataset | None:
    """Images of the data set of `run`: those of the embedded subset, or None if it has none.

    With `full`, the whole `split` of the data set, if it is on this machine.
    """
    name = run.record.data.name
    if full:
        try:
            return load(name, split)
        except MissingData:
            pass
    return load(EMBEDDED, split) if name in (EMBEDDED, EMBEDDED.removesuffix(SUBSET)) else None


def sheet_images(path: Path, side: int) -> torch.Tensor:
    """The images of a sheet of the ledger, such as samples.png, row by row: uint8, (N, 3, H, W).

    Images are squares of `side` pixels, 2 white pixels apart, at a zoom of 1 to 3.
    """
    with Image.open(path) as file:
        pixels = torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1)
    step = side + 2
    zoom = next(k for k in (3, 2, 1) if (pixels.shape[2] - 2 * k) % (step * k) == 0)
    pixels = pixels[:, 2 * zoom :: zoom, 2 * zoom :: zoom]
    tiles = pixels.unfold(1, step, step).unfold(2, step, step)[..., :side, :side]
    return tiles.permute(1, 2, 0, 3, 4).flatten(0, 1)


def sheet(run: Run, path: Path, columns: int, rows: int | None = None) -> torch.Tensor:
    """The first columns and rows of a sheet of `run`, eight images wide: uint8, (N, 3, H, W)."""
    tiles = sheet_images(path, run.config.model.image_shape[1])
    return tiles.unflatten(0, (-1, 8))[:rows, :columns].flatten(0, 1)


def binary_digits() -> torch.Tensor:
    """Test images of binarised MNIST, uint8 0 and 1, (64, 1, 28, 28), sorted by digit.

    The set itself is not part of the book; these are the ones that the ledger shows.
    """
    images = sheet_images(runs()["binarized-mnist-diagonal-1"].files.real, 28)
    return images[:, :1] // 255
