"""Recording: what an entry of the ledger keeps, and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ledgers import content, states
from tiny import refusal

from nvp.config import load_config
from nvp.data.sets import load
from nvp.errors import NVPError
from nvp.ledger import enter, scoring, verify
from nvp.ledger import entry as ledger
from nvp.ledger.enter import record
from nvp.likelihood import Score, nats_per_bit
from nvp.paths import repository_root, results_root
from nvp.runs.load import TrainedRun, load_run
from nvp.runs.tensors import load_tensors, save_tensors
from nvp.tables import build as results
from nvp.training.loop import prepare

REPOSITORY = repository_root()


def test_a_record_says_what_the_run_was(recorded: Path, trained: Path) -> None:
    entry = ledger.runs(recorded)["tiny"].record
    run = load_run(trained / "run", data_root=trained / "data")
    assert (entry.state, entry.steps, entry.images, entry.seed) == ("finished", 2, 16, 0)
    assert entry.parameters == sum(p.numel() for p in run.model.parameters())
    assert (entry.data.train_images, entry.data.test_images) == (60, 30)
    assert entry.trained_on == len(run.training.data.images) < 60
    assert entry.epochs == 16 / entry.trained_on
    assert entry.data.test_sha256 == load("tiny", "test", root=trained / "data").checksum
    assert entry.legs[0].cores >= 1
    assert entry.legs[0].torch == torch.__version__
    assert entry.legs[0].precision == entry.precision == entry.precisions
    assert entry.hardware == entry.legs[0].hardware
    assert entry.scores.first_more_draws.num_draws == 4
    assert entry.scores.first_batch_statistics.num_images == 20
    assert entry.weights is not None
    assert entry.weights.precision == "float16"
    weights = ledger.runs(recorded)["tiny"].files.weights
    assert entry.weights.bytes == weights.stat().st_size


def test_a_path_may_be_a_string(recorded: Path, trained: Path, tmp_path: Path) -> None:
    run, data, ledgers = str(trained / "run"), str(trained / "data"), str(tmp_path / "results")
    config = load_config(f"{run}/config.yaml")
    assert prepare(config, str(tmp_path / "run"), data_root=data).config == config
    assert load_run(run, data_root=data).config == config
    entered = record(run, data_root=data, first=20, num_draws=4, root=ledgers)
    assert ledger.runs(ledgers) == {"tiny": entered}
    assert ledger.read_run(f"{ledgers}/runs/tiny") == entered
    assert entered.record.scores == ledger.runs(recorded)["tiny"].record.scores


def test_weights_that_rounding_would_hurt_stay_in_float32(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "TOLERANCE", -1.0)
    options = {"data_root": trained / "data", "first": 20, "num_draws": 2}
    run = record(trained / "run", root=tmp_path, **options)
    assert run.record.weights is not None
    assert run.record.weights.precision == "float32"
    assert run.score == run.record.scores.before_rounding
    assert states(verify.verify(quick=True, root=tmp_path)) == {
        "weights": "agrees",
        "probe": "agrees",
    }


@pytest.mark.parametrize(("bytes_each", "how"), [(1, "in half precision"), (2, "in float32")])
def test_large_weights_are_left_out_unless_asked_for(
    bytes_each: int,
    how: str,
    trained: Path,
    recorded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parameters = ledger.runs(recorded)["tiny"].record.parameters
    monkeypatch.setattr(enter, "MAX_BYTES", bytes_each * parameters)
    monkeypatch.setattr(scoring, "TOLERANCE", -1.0)
    options = {"data_root": trained / "data", "root": tmp_path, "first": 20, "num_draws": 2}
    with pytest.raises(NVPError, match=f"{how}.*--no-weights"):
        record(trained / "run", keep_weights=True, **options)
    assert content(tmp_path) == {}
    run = record(trained / "run", **options)
    assert "are kept: they are left out\n" in capsys.readouterr().err
    assert run.record.weights is None
    assert not (run.folder / "weights.safetensors").exists()
    with pytest.raises(NVPError, match="no weights are kept"):
        run.load_model()
    assert states(verify.verify(root=tmp_path)) == {"test": "not checked"}


def test_an_interrupted_run_says_how_far_it_came(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    tensors, header = load_tensors(folder / "checkpoint.safetensors")
    header["config"]["training"]["steps"] = 8
    save_tensors(folder / "checkpoint.safetensors", tensors, header)
    options = {"data_root": trained / "data", "first": 20, "num_draws": 2}
    run = record(folder, name="half", root=tmp_path, **options)
    assert (run.name, run.record.state, run.record.share_of_budget) == ("half", "interrupted", 0.25)
    shutil.copy(results_root() / "published.yaml", tmp_path)
    assert "interrupted at 25% of its budget" in results.table("ledger", root=tmp_path).markdown()


def test_an_entry_has_the_settings_of_the_checkpoint(
    recorded: Path, trained: Path, tmp_path: Path
) -> None:
    """Those of `config.yaml` trained nothing where they differ; its title may."""
    folder = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    tree["training"] |= {"steps": 8, "learning_rate": 0.5}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree | {"title": "Another"}))
    run = record(folder, data_root=trained / "data", root=tmp_path, first=20, num_draws=2)
    before = ledger.runs(recorded)["tiny"]
    assert run.config == before.config.model_copy(update={"title": "Another"})
    assert (run.record.state, run.record.title) == ("finished", "Another")
    assert load_tensors(run.files.weights)[1]["config"] == run.config.model_dump(mode="json")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../runs/tiny", "Tiny", "tiny\n"])
def test_a_name_must_do_for_a_folder_of_the_ledger(name: str, own: Path, trained: Path) -> None:
    before, options = content(own), {"data_root": trained / "data", "root": own, "replace": True}
    for bad in (name, str(own / "runs" / name)):
        with refusal("cannot name a folder of the ledger"):
            record(trained / "run", name=bad, **options)
    assert content(own) == before


def test_only_an_entry_is_replaced(own: Path, trained: Path) -> None:
    folder = own / "runs" / "notes"
    folder.mkdir()
    (folder / "notes.txt").write_text("not to be lost")
    options = {"data_root": trained / "data", "root": own, "replace": True}
    with pytest.raises(NVPError, match="no entry to replace: remove it yourself"):
        record(trained / "run", name="notes", **options)
    assert (folder / "notes.txt").read_text() == "not to be lost"
    again = record(trained / "run", name="tiny", first=20, num_draws=2, **options)
    assert again.name == "tiny"


def test_a_name_that_was_taken_meanwhile_is_refused(
    own: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*arguments: Any, **options: Any) -> TrainedRun:
        shutil.copytree(own / "runs" / "tiny", own / "runs" / "new")
        return load_run(*arguments, **options)

    monkeypatch.setattr("nvp.ledger.enter.load_run", slowly)
    options = {"data_root": trained / "data", "root": own, "first": 20, "num_draws": 2}
    with pytest.raises(NVPError, match="--replace"):
        record(trained / "run", name="new", **options)
    assert (own / "runs" / "new" / "run.json").read_bytes() == (
        own / "runs" / "tiny" / "run.json"
    ).read_bytes()


def test_an_entry_that_cannot_be_replaced_is_kept(
    own: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, move = content(own), os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name == ".tiny.part":  # all is written, and cannot be put in its place
            raise PermissionError("no")
        move(source, target)

    monkeypatch.setattr("nvp.files.os.replace", refuse)
    options = {"data_root": trained / "data", "first": 20, "num_draws": 2, "replace": True}
    with pytest.raises(NVPError, match="nothing was recorded"):
        record(trained / "run", root=own, **options)
    assert content(own) == before


def test_a_pixel_rnn_is_recorded_with_the_step_that_was_chosen(pixelrnn: tuple[Path, Path]) -> None:
    data_root, root = pixelrnn
    run = ledger.runs(root)["tiny-pixelrnn"]
    entry = run.record
    assert (entry.steps, entry.chosen_step) == (3, 2)
    assert entry.scores.validation.num_images == 30  # the whole split
    assert entry.data.train_images == entry.trained_on == 60
    assert entry.scores.first_more_draws.bits_per_dim == entry.scores.first.bits_per_dim
    images = load("tiny-binary", "test", root=data_root).images
    nats = -run.load_model().log_prob(images).double()
    mean, error = run.nats
    assert mean == pytest.approx(nats.mean().item(), abs=1e-3)
    assert error == pytest.approx(nats.std().item() / 30**0.5, abs=1e-3)


def test_a_figure_that_only_a_leak_explains_is_refused(
    pixelrnn: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_root, root = pixelrnn
    run = ledger.runs(root)["tiny-pixelrnn"]
    options = {"data_root": data_root, "root": tmp_path, "first": 20, "num_draws": 2}
    monkeypatch.setitem(enter.FLOORS, "tiny-binary", run.nats[0] + 0.1)
    with refusal(r"nats on tiny-binary, below .*test_causality"):
        record(data_root.parent / "run", **options)
    assert content(tmp_path) == {}
    monkeypatch.setitem(enter.FLOORS, "tiny-binary", run.nats[0] - 0.1)
    assert record(data_root.parent / "run", **options).name == "tiny-pixelrnn"


@pytest.mark.parametrize(
    ("name", "floor"), [("cifar10-pixelcnn", 2.8), ("binarized-mnist-row-lstm", 78.0)]
)
def test_the_floors_of_pixel_rnns(name: str, floor: float) -> None:
    config = load_config(REPOSITORY / "configs" / f"{name}.yaml")
    unit = nats_per_bit(config.model.image_shape) if config.model.levels == 2 else 1.0
    enter.check_floor(config, Score((floor + 0.01) / unit, 0.0, 10_000, 1), autoregressive=True)
    low = Score((floor - 0.01) / unit, 0.0, 10_000, 1)
    with pytest.raises(NVPError, match=rf"scores {floor - 0.01:.2f} .*, below {floor:g}, as if"):
        enter.check_floor(config, low, autoregressive=True)


def test_a_flow_has_no_floor() -> None:
    config = load_config(REPOSITORY / "configs" / "cifar10.yaml")
    enter.check_floor(config, Score(1.0, 0.0, 10_000, 1), autoregressive=False)
    with pytest.raises(NVPError, match="probabilities above 1"):
        enter.check_floor(config, Score(-0.1, 0.0, 10_000, 1), autoregressive=False)


def test_a_model_without_likelihood_is_recorded_by_what_it_draws(gan: tuple[Path, Path]) -> None:
    run = ledger.runs(gan[1])["a-gan"]
    assert run.record.scores is None
    assert not run.has_likelihood
    with pytest.raises(NVPError, match="a-gan has no likelihood"):
        _ = run.score
    levels = (
        run.load_model()
        .double()
        .sample(scoring.PROBE_IMAGES, generator=torch.manual_seed(0))
        .double()
    )
    assert run.record.draw is not None
    assert run.record.draw.num_images == scoring.PROBE_IMAGES
    assert run.record.draw.mean == pytest.approx(levels.mean().item(), abs=1e-5)
    assert run.record.draw.standard_deviation == pytest.approx(levels.std().item(), abs=1e-5)
    assert run.record.weights is not None
    assert run.record.weights.precision == "float32"


def test_a_missing_probe_is_noticed_before_scoring(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvp.data.sets.embedded_root", lambda: tmp_path / "data")
    monkeypatch.setattr(enter, "score", lambda *_: pytest.fail("scored"))
    with pytest.raises(NVPError, match="run this in a checkout"):
        record(trained / "run", data_root=trained / "data", root=tmp_path)
    assert content(tmp_path) == {}
