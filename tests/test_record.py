"""Recording: what an entry of the ledger keeps, and what is refused."""

import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ledgers import content, states
from tiny import refusal

from nvp.config import load_config
from nvp.data.sets import load
from nvp.ledger import enter, scoring, verify
from nvp.ledger import entry as ledger
from nvp.ledger.enter import record
from nvp.likelihood import Score
from nvp.paths import repository_root
from nvp.runs.load import TrainedRun, load_run
from nvp.runs.tensors import load_tensors, save_tensors
from nvp.tables.card import card
from nvp.training.loop import prepare


@pytest.fixture
def options(pixel_home: Path) -> dict[str, Any]:
    """Of a recording of the run in `pixel_home` into the ledger beside it."""
    return {"data_root": pixel_home / "data", "root": pixel_home / "results", "first": 20}


def test_a_record_says_what_the_run_was(recorded: Path, trained: Path) -> None:
    entry = ledger.runs(recorded)["tiny"].record
    run = load_run(trained / "run", data_root=trained / "data")
    assert (entry.state, entry.steps, entry.images, entry.seed) == ("finished", 2, 16, 0)
    assert entry.minutes == pytest.approx(run.training.header.minutes, abs=1e-6)
    assert scoring.in_float64(run).dtype is torch.float64
    assert scoring.probe_images((3, 4, 7)).shape == (scoring.PROBE_IMAGES, 3, 4, 7)
    assert (entry.data.train_images, entry.data.test_images) == (60, 30)
    assert entry.trained_on == len(run.training.data.images) < 60
    assert entry.data.test_sha256 == load("tiny", "test", root=trained / "data").checksum
    assert entry.legs[0].torch == torch.__version__
    assert entry.legs[0].precision == entry.precision == entry.precisions
    assert entry.hardware == entry.legs[0].hardware
    assert entry.scores.first_more_draws.num_draws == 4
    assert entry.scores.first_batch_statistics.num_images == 20
    assert entry.weights.precision == "float16"
    weights = ledger.runs(recorded)["tiny"].files.weights
    assert entry.weights.bytes == weights.stat().st_size
    halves = {name: each.detach().half() for name, each in run.model.named_parameters()}
    expected = {**run.model.state_dict(), **halves}
    torch.testing.assert_close(load_tensors(weights)[0], expected, rtol=0, atol=0)


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
    trained: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(scoring, "TOLERANCE", -1.0)
    run = record(trained / "run", data_root=trained / "data", first=20, root=tmp_path)
    assert run.record.weights.precision == "float32"
    assert run.score == run.record.scores.before_rounding
    checks = verify.verify(quick=True, root=tmp_path)
    assert states(checks) == {"weights": "agrees", "probe": "agrees"}
    # A change for the better is one, too.
    worse, images = torch.full((30,), 99.0), load("tiny", "test", root=trained / "data").images
    assert enter.round_weights(load_run(run.folder), images, worse) is worse


@pytest.mark.parametrize(("bytes_each", "how"), [(1, "in half precision"), (2, "in float32")])
def test_large_weights_are_left_out_unless_asked_for(
    bytes_each: int, how: str, pixel_home: Path, options, tmp_path: Path, monkeypatch, capsys
) -> None:
    (before,) = ledger.runs(pixel_home / "results").values()
    monkeypatch.setattr(enter, "MAX_BYTES", bytes_each * before.record.parameters)
    monkeypatch.setattr(scoring, "BINARY_TOLERANCE", -1.0)
    options |= {"root": tmp_path / "empty"}
    with refusal(f"{how}.*--no-weights"):
        record(pixel_home / "run", keep_weights=True, **options)
    assert content(tmp_path / "empty") == {}
    run = record(pixel_home / "run", **options)
    assert "are kept: they are left out\n" in capsys.readouterr().err
    assert run.record.weights is None
    assert not (run.folder / "weights.safetensors").exists()
    with refusal(r"there is no .*: restore it with git checkout, if run\.json has weights, else"):
        run.load_model()
    assert states(verify.verify(root=tmp_path / "empty")) == {"test": "not checked"}


def test_an_interrupted_run_says_how_far_it_came(pixel_home: Path, options, monkeypatch) -> None:
    monkeypatch.setattr(enter, "code_commit", lambda: "abc")
    checkpoint = pixel_home / "run" / "checkpoint.safetensors"
    tensors, header = load_tensors(checkpoint)
    header["config"]["training"] |= {"steps": None, "minutes": header["minutes"] / 0.998}
    save_tensors(checkpoint, tensors, header | {"precision": "bf16"})
    run = record(pixel_home / "run", name="half", keep_weights=False, **options)
    assert run.record.weights is None  # though they are small
    assert (run.record.commit, run.record.precision) == ("abc", "bf16")
    assert (run.name, run.record.state) == ("half", "interrupted")
    assert run.record.share_of_budget == pytest.approx(0.998)
    assert "interrupted at 99% of its budget" in card(run)  # never at 100%


def test_an_entry_has_the_settings_of_the_checkpoint(pixel_home: Path, options) -> None:
    """Those of `config.yaml` trained nothing where they differ; its title may."""
    (before,) = ledger.runs(pixel_home / "results").values()
    config = pixel_home / "run" / "config.yaml"
    tree = yaml.safe_load(config.read_text())
    tree["training"] |= {"steps": 8, "learning_rate": 0.5}
    config.write_text(yaml.safe_dump(tree | {"title": "Another"}))
    run = record(pixel_home / "run", replace=True, **options)
    assert run.config == before.config.model_copy(update={"title": "Another"})
    assert (run.record.state, run.record.title) == ("finished", "Another")
    assert load_tensors(run.files.weights)[1]["config"] == run.config.model_dump(mode="json")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../runs/tiny-pixelrnn", "Tiny", "tiny\n"])
def test_a_name_must_do_for_a_folder(name: str, pixel_home: Path, options) -> None:
    before = content(options["root"])
    with refusal("cannot name a folder of the ledger"):
        record(pixel_home / "run", name=name, replace=True, **options)
    assert content(options["root"]) == before


def test_only_an_entry_is_replaced(pixel_home: Path, options) -> None:
    folder, run = pixel_home / "results" / "runs" / "notes", pixel_home / "run"
    folder.mkdir()
    (folder / "notes.txt").write_text("not to be lost")
    with refusal("no entry to replace: remove it yourself"):
        record(run, name="notes", replace=True, **options)
    assert (folder / "notes.txt").read_text() == "not to be lost"


def test_a_name_that_was_taken_meanwhile_is_refused(pixel_home: Path, options, monkeypatch) -> None:
    runs = pixel_home / "results" / "runs"

    def slowly(*arguments: Any, **options: Any) -> TrainedRun:
        shutil.copytree(runs / "tiny-pixelrnn", runs / "new")
        return load_run(*arguments, **options)

    monkeypatch.setattr("nvp.ledger.enter.load_run", slowly)
    with refusal("--replace"):
        record(pixel_home / "run", name="new", **options)
    new, old = ((runs / name / "run.json").read_bytes() for name in ("new", "tiny-pixelrnn"))
    assert new == old


def test_an_entry_that_cannot_be_replaced_is_kept(pixel_home: Path, options, monkeypatch) -> None:
    before, move = content(pixel_home / "results"), os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name == ".tiny-pixelrnn.part":  # all is written, and cannot be put there
            raise PermissionError("no")
        move(source, target)

    monkeypatch.setattr("nvp.files.os.replace", refuse)
    with refusal("nothing was recorded"):
        record(pixel_home / "run", replace=True, **options)
    assert content(pixel_home / "results") == before


def test_a_pixel_rnn_is_recorded_with_the_step_that_was_chosen(pixelrnn: Path) -> None:
    run = ledger.runs(pixelrnn / "results")["tiny-pixelrnn"]
    entry = run.record
    assert (entry.steps, entry.chosen_step) == (3, 2)
    assert entry.data.train_images == entry.trained_on == 60
    assert entry.scores.first_more_draws.bits_per_dim == entry.scores.first.bits_per_dim
    assert entry.scores.first_batch_statistics == entry.scores.first
    images = load("tiny-binary", "test", root=pixelrnn / "data").images
    nats = -run.load_model().log_prob(images).double()
    mean, error = run.nats
    assert mean == pytest.approx(nats.mean().item(), abs=1e-3)
    assert error == pytest.approx(nats.std().item() / 30**0.5, abs=1e-3)


def test_a_score_only_a_leak_explains_is_refused(pixel_home: Path, options, monkeypatch) -> None:
    (run,) = ledger.runs(options["root"]).values()
    options |= {"root": pixel_home / "empty"}
    monkeypatch.setitem(enter.FLOORS, "tiny-binary", run.nats[0] + 0.1)
    with refusal(r"nats on tiny-binary, below .*check_model"):
        record(pixel_home / "run", **options)
    assert content(options["root"]) == {}
    monkeypatch.setitem(enter.FLOORS, "tiny-binary", run.nats[0] - 0.1)
    assert record(pixel_home / "run", **options).name == "tiny-pixelrnn"


def test_floors_on_cifar10() -> None:
    config = load_config(repository_root() / "configs" / "cifar10.yaml")
    for bits, autoregressive, match in (
        (2.81, True, None),
        (2.79, True, r"scores 2\.79 .*, below 2\.8, as if"),
        (1.0, False, None),  # a flow has none
        (-0.1, False, "probabilities above 1"),
    ):
        with refusal(match) if match else nullcontext():
            enter.check_floor(config, Score(bits, 0.0, 10, 1), autoregressive=autoregressive)


def test_a_model_without_likelihood_is_recorded_by_what_it_draws(gan: Path) -> None:
    run = ledger.runs(gan / "results")["a-gan"]
    assert run.record.scores is None
    assert not run.has_likelihood
    with refusal("a-gan has no likelihood"):
        _ = run.score
    assert run.record.draw.num_images == scoring.PROBE_IMAGES
    assert run.record.weights.precision == "float32"


def test_what_is_refused_is_refused_before_scoring(pixel_home: Path, options, monkeypatch) -> None:
    options |= {"root": pixel_home / "empty"}
    monkeypatch.setattr("nvp.data.named.embedded_root", lambda: pixel_home / "nowhere")
    monkeypatch.setattr(enter, "score", lambda *_: pytest.fail("scored"))
    with refusal("run this in a checkout"):
        record(pixel_home / "run", **options)
    with refusal(r"first must be 2 or more, .*, got 1"):
        record(pixel_home / "run", **options | {"first": 1})
    with refusal("num_draws must be at least 1, got 0"):
        record(pixel_home / "run", num_draws=0, **options)
    assert content(options["root"]) == {}
