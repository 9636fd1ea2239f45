"""Each row of the papers' tables: the whole way is rehearsed.

A rehearsal takes the row's own configuration with few features, two steps at a small batch, on
generated images of the row's shape, under the name and in the layout that an import makes. The rows
on LSUN differ in names alone, so one of them is rehearsed.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ledgers import rename
from tiny import refusal

from nvp import PixelRNN, RealNVPConfig
from nvp.autoregressive.config import MultiScaleConfig
from nvp.autoregressive.multiscale import MultiScalePixelRNN
from nvp.config import RunConfig, parse_config
from nvp.data.splits import load_split
from nvp.likelihood import evaluate
from nvp.runs.load import load_run
from nvp.tables import rows
from nvp.tables.build import table
from nvp.tables.published import TableRow, read_published
from nvp.tables.rows import TABLES, read_costs
from nvp.training.cost import count_step
from nvp.training.loop import prepare

FACTS = read_published()
ROWS = [row for name in TABLES for row in FACTS.rows(name)]
FIRST_LSUN, *OTHER_LSUN = (row for row in ROWS if row.data.startswith("lsun-"))
REHEARSED = [row for row in ROWS if row not in OTHER_LSUN]


def few_features(model: Any) -> Any:
    """The same layers, few in a row, with two or three features."""
    match model:
        case RealNVPConfig():
            return model.model_copy(update={"width": 2, "num_blocks": 0})
        case MultiScaleConfig():
            narrow = {"small": few_features(model.small), "large": few_features(model.large)}
            return model.model_copy(update={**narrow, "width": 2})
    sizes = {"hidden": 3, "head": 3, "num_layers": min(2, model.num_layers)}
    return model.model_copy(update=sizes)


def rehearsal(config: RunConfig) -> RunConfig:
    """Two steps of a narrow model; binarised MNIST is a folder of data, without its checksums."""
    tree = config.model_copy(update={"model": few_features(config.model)}).model_dump(mode="json")
    tree["data"]["name"] = config.data.name.replace("binarized-mnist", "binarized")
    tree["training"] |= {"steps": 2, "minutes": None, "batch_size": 2, "precision": "fp32"}
    tree["evaluation"] |= {"batch_size": 2, "validation_images": 2, "statistics_images": 4}
    return parse_config(tree, config.name)


def write_images(root: Path, config: RunConfig) -> None:
    """Twenty training images, two for validation and two to score, of the configuration's shape.

    Where training crops, they are larger, and differ in size.
    """
    rng = np.random.default_rng(0)
    channels, side, _ = config.model.image_shape
    folder = root / config.data.name
    folder.mkdir()
    for split, number in (("train", 20), ("validation", 2), ("test", 2)):
        shape: Any = (number, side, side, channels)
        if config.data.crop:
            sizes = np.array([(96, 96 + 8 * index) for index in range(number)], np.int32)
            np.save(folder / f"{split}_sizes.npy", sizes)
            shape = channels * sizes.prod(axis=1).sum()
        images = rng.integers(0, config.model.levels, shape, dtype=np.uint8)
        np.save(folder / f"{split}_images.npy", images)


@pytest.mark.parametrize("content", ["<<<<<<< HEAD", '{"cifar10": {"flops": 1}}', "[]"])
def test_counts_that_are_damaged(content: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(rows, "results_root", lambda: tmp_path)
    (tmp_path / rows.COSTS).write_text(content)
    with refusal("costs.json is damaged"):
        rows.read_costs()


@pytest.mark.parametrize("row", OTHER_LSUN, ids=lambda row: row.config)
def test_the_rows_on_lsun_differ_in_names_alone(row: TableRow) -> None:
    one, other = FIRST_LSUN.planned, row.planned
    names = {"name": other.name, "title": other.title}
    data = one.data.model_copy(update={"name": row.data})
    assert other == one.model_copy(update={**names, "data": data})
    assert row.split == FIRST_LSUN.split
    assert read_costs()[row.config] == read_costs()[FIRST_LSUN.config]


@pytest.mark.slow
@pytest.mark.parametrize("row", REHEARSED, ids=lambda row: row.config)
def test_a_rehearsal(row: TableRow, tmp_path: Path) -> None:
    config = rehearsal(row.planned)
    write_images(tmp_path, config)
    last = prepare(config, tmp_path / "run", data_root=tmp_path).run()
    assert last["step"] == 2
    run = load_run(tmp_path / "run", data_root=tmp_path)
    score = evaluate(run.model, load_split(config, row.split, tmp_path).images, batch_size=2)
    assert 0 < score.bits_per_dim < 30
    if isinstance(run.model, PixelRNN):  # a step for each sub-pixel: the last row alone
        black = torch.zeros(1, *run.model.image_shape, dtype=torch.uint8)
        drawn = run.model.complete(black, black.shape[2] - 1, 1)[:, 0]
    elif isinstance(run.model, MultiScalePixelRNN):  # its small image alone
        drawn = run.model.small.sample(1)
    else:
        drawn = run.model.sample(1)
    assert drawn.shape[:2] == (1, config.model.image_shape[0])


def test_a_steps_arithmetic_is_that_of_its_convolutions() -> None:
    """Each convolution takes 2 N H W C_in C_out kH kW, three times.

    That is forward, for its weights, and for its input, which the first layer has no need of.
    """
    config = next(row.planned for row in ROWS if row.config == "binarized-mnist-pixelcnn")
    model = config.build_model()
    sizes = [tuple(p.shape) for p in model.parameters() if p.ndim == 4]
    places = config.training.batch_size * 28 * 28
    forward = [2 * places * int(np.prod(size)) for size in sizes]
    cost = count_step(config)
    assert cost.flops == 3 * sum(forward) - forward[0]
    assert cost == read_costs()["binarized-mnist-pixelcnn"]


def test_a_run_with_other_settings_than_its_row_says_so(own: Path) -> None:
    rename(own, "cifar10")
    here = {row[0]: row[2] for row in table("rows", root=own).rows}["Real NVP on CIFAR-10"]
    assert re.search(r", recorded with other settings \(.*, training.steps.*\)$", here)
    assert ", name," not in here
    rename(own, "cifar10-small", "cifar10")
    ((_, model, *_),) = table("glance", root=own).rows
    assert re.fullmatch(r"Real NVP.* with other settings \(.*, training.steps.*\)", model)
