"""Each score of a record is what its name says: of which weights, images, draws and statistics."""

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from ledgers import rename, rewrite
from PIL import Image

from nvp.data.sets import load
from nvp.data.splits import shuffled
from nvp.ledger.entry import runs
from nvp.ledger.pictures import write_pictures
from nvp.likelihood import evaluate, score_images
from nvp.model.protocol import batch_statistics
from nvp.runs.folder import RunFolder
from nvp.runs.load import load_run
from nvp.runs.tensors import load_tensors, part
from nvp.tables.build import table
from nvp.tables.cells import scored
from nvp.tables.published import read_published
from nvp.training.loop import prepare

ROUNDED = 2e-6  # figures of a record have six digits


def test_a_finished_model_is_the_average_with_new_statistics(trained: Path) -> None:
    tensors, _ = load_tensors(RunFolder(trained / "run").checkpoint)
    average, last = part("ema.module", tensors), part("model", tensors)
    model = load_run(trained / "run", data_root=trained / "data").model
    assert all(torch.equal(weight, average[name]) for name, weight in model.named_parameters())
    assert any(not torch.equal(average[name], last[name]) for name, _ in model.named_parameters())
    kernels = [weight for weight in model.parameters() if weight.ndim == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    moments = {name: m for name, m in model.named_buffers() if name.endswith("running_var")}
    assert moments
    assert not any(torch.equal(moment, average[name]) for name, moment in moments.items())


def test_the_validation_of_a_log_is_of_the_finished_model(root: Path, tmp_path: Path) -> None:
    """Both take the statistics of training images alone, here of equally many."""
    twice = {"validation_images": 6, "statistics_images": 12}
    config = tiny.configured(tiny.config_tree(), evaluation=twice)
    last = prepare(config, tmp_path, data_root=root).run()
    run = load_run(tmp_path, data_root=root)
    found = evaluate(run.model, run.training.data.validation, batch_size=10).bits_per_dim
    assert found == pytest.approx(last["validation"], abs=1e-6)
    batch = shuffled(run.training.data.validation, 10)
    with batch_statistics(run.model):
        found = score_images(run.model, batch, batch_size=10).mean().item()
    assert found == pytest.approx(last["validation_batch_statistics"], abs=1e-6)


def test_figures_of_a_record_are_those_of_their_kind(recorded: Path, trained: Path) -> None:
    run, scores = load_run(recorded / "runs" / "tiny"), runs(recorded)["tiny"].scores
    images = load("tiny", "test", root=trained / "data").images[:20]
    draws = score_images(run.model, images, num_draws=4, batch_size=10).mean().item()
    with batch_statistics(run.model):
        batches = score_images(run.model, images, batch_size=10).mean().item()
    assert scores.first_more_draws.bits_per_dim == pytest.approx(draws, abs=ROUNDED)
    assert scores.first_batch_statistics.bits_per_dim == pytest.approx(batches, abs=ROUNDED)
    assert len({round(bits, 4) for bits in (scores.first.bits_per_dim, draws, batches)}) == 3


def test_before_rounding_is_of_the_weights_as_trained(recorded: Path, trained: Path) -> None:
    scores = runs(recorded)["tiny"].scores
    model = load_run(trained / "run", data_root=trained / "data").model
    images = load("tiny", "test", root=trained / "data").images
    again = evaluate(model, images, batch_size=10).bits_per_dim
    assert scores.before_rounding.bits_per_dim == pytest.approx(again, abs=ROUNDED)
    assert scores.test.bits_per_dim != pytest.approx(again, abs=ROUNDED)


def test_the_validation_figure_is_of_the_images_for_validation(pixelrnn: Path) -> None:
    run = runs(pixelrnn / "results")["tiny-pixelrnn"]
    images = load("tiny-binary", "validation", root=pixelrnn / "data").images
    again = evaluate(run.load_model(), images, batch_size=10).bits_per_dim
    assert run.scores.validation.bits_per_dim == pytest.approx(again, abs=ROUNDED)


def test_real_images_are_spread_over_the_set(recorded: Path, tmp_path: Path) -> None:
    greys = torch.arange(0, 256, 2, dtype=torch.uint8)[:, None, None, None]
    images = greys.repeat(1, 1, 8, 8)
    write_pictures(load_run(recorded / "runs" / "tiny"), RunFolder(tmp_path), images)
    sheet = np.asarray(Image.open(tmp_path / "real.png"))
    assert sheet[sheet < 255].max() == 252


def test_a_row_scored_on_validation_images_shows_their_figure(own: Path) -> None:
    tables = read_published().tables.values()
    row = next(row for rows in tables for row in rows if row.split == "validation")
    run = runs(own)["tiny"]
    shown = f"{run.scores.validation.bits_per_dim:.3f}"
    assert scored(run, row).startswith(f"{shown} ± ")
    assert shown != f"{run.score.bits_per_dim:.3f}"


def test_table_1_prefers_the_run_of_its_own_configuration(own: Path) -> None:
    rename(own, "cifar10", copy=True)
    for name in ("tiny", "cifar10"):
        rewrite(own, "data.name", "cifar10", name)
    rewrite(own, "scores.test.bits_per_dim", runs(own)["tiny"].score.bits_per_dim - 1, "tiny")
    rows = {row[0]: row[-1] for row in table("table1", root=own).rows}
    assert "(`cifar10`)" in rows["CIFAR-10"]
    rename(own, "other", "cifar10")
    rewrite(own, "scores.validation.bits_per_dim", 0.5, "tiny")  # the better of two others
    rows = {row[0]: row[-1] for row in table("table1", root=own).rows}
    assert "(`tiny`)" in rows["CIFAR-10"]
