"""The baselines of chapter 1, for the chapters that quote them: bits/dim from tables of counts.

`python -m nvp_book.baselines` scores them on every data set that is here and records the figures
in results/baselines.csv.
"""

import argparse

import torch
from torch import Tensor
from torch.nn import functional as F

from nvp.data import EMBEDDED, MissingData, load
from nvp.files import write_text
from nvp.likelihood import Score, summarise
from nvp.paths import results_root
from nvp_book.ablation import trials

# In how many steps a neighbour is seen. With a single step the neighbours say nothing.
STEPS = {"one histogram": 1, "two neighbours": 16}
DATA = (EMBEDDED, "mnist", "fashion-mnist", "cifar10")
COLUMNS = "data,model,bits_per_dim,standard_error,images"
BATCH = 1000  # images at a time, to keep memory small


def context(images: Tensor, steps: int) -> Tensor:
    """The pair of left and upper neighbour, each rounded to one of `steps` levels; 0 outside.

    uint8 (N, C, H, W) -> int64, the same shape, below steps^2.
    """
    rounded = F.pad(images.long() * steps // 256, (1, 0, 1, 0))
    return rounded[..., 1:, :-1] * steps + rounded[..., :-1, 1:]


def table_bits(train: Tensor, test: Tensor, steps: int) -> Tensor:
    """Bits/dim of each test image by p(level | pair), counted in `train`; float64, (N,).

    Each colour has a table of its own. Its counts begin at one, so that no level is impossible.
    """
    bits = torch.zeros(len(test), dtype=torch.float64)
    for seen, new in zip(train.split(1, dim=1), test.split(1, dim=1), strict=True):
        counts = torch.ones(steps**2 * 256, dtype=torch.float64)
        for batch in seen.split(BATCH):
            cells = context(batch, steps) * 256 + batch
            counts += cells.flatten().bincount(minlength=len(counts))
        table = counts.view(-1, 256)
        log2 = (table / table.sum(dim=1, keepdim=True)).log2()
        scores = [log2[context(batch, steps), batch.long()] for batch in new.split(BATCH)]
        bits -= torch.cat([batch.flatten(1).sum(dim=1) for batch in scores])
    return bits / test[0].numel()


def score(train: Tensor, test: Tensor) -> dict[str, Score]:
    """Both baselines, fitted to `train` and scored on `test`; uint8, (N, C, H, W)."""
    return {name: summarise(table_bits(train, test, steps)) for name, steps in STEPS.items()}


def recorded() -> dict[str, dict[str, Score]]:
    """The recorded figures on whole test sets: data set -> baseline -> score."""
    found: dict[str, dict[str, Score]] = {}
    for row in trials("baselines.csv"):
        figures = float(row["bits_per_dim"]), float(row["standard_error"]), int(row["images"])
        found.setdefault(row["data"], {})[row["model"]] = Score(*figures, num_draws=1)
    return found


def record() -> None:
    """Score the data sets that are here; the figures of the others stay."""
    path = results_root() / "baselines.csv"
    scores = recorded() if path.exists() else {}
    for name in DATA:
        try:
            scores[name] = score(load(name, "train").images, load(name, "test").images)
        except MissingData as missing:
            print(missing)
    lines = [COLUMNS]
    for name, models in scores.items():
        for model, one in models.items():
            figures = f"{one.bits_per_dim:.6f},{one.standard_error:.6f},{one.num_images}"
            lines.append(f"{name},{model},{figures}")
    write_text(path, "\n".join(lines) + "\n")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    record()
