"""What breaks when somebody breaks it on purpose: one line, and nothing that was good is lost."""

import errno
import math
import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import tiny
import torch
import yaml
from ledgers import content
from tiny import configuration, done, fails, going_on, pixelrnn_configuration, refusal

from nvp import RealNVP
from nvp.cli import terminal
from nvp.data.sets import load
from nvp.data.splits import hold_out
from nvp.errors import NVPError
from nvp.files import LOCK, locked
from nvp.ledger import entry as ledger
from nvp.ledger.enter import record
from nvp.runs.folder import RunFolder
from nvp.runs.load import read_config
from nvp.runs.log import read_log
from nvp.runs.tensors import load_tensors, save_tensors
from nvp.training import loop
from nvp.training.interrupt import stop_requests
from nvp.training.loop import prepare
from nvp.training.start import train


def test_a_second_run_in_one_folder_is_refused(pixel_home: Path) -> None:
    run = pixel_home / "run"
    (run / LOCK).write_text("process 1 on a machine that is gone")
    before = content(run)
    command = going_on(pixel_home, 4)
    where = ("--run-folder", run, "--data-root", pixel_home / "data")
    with locked(run):
        for each in (command, ("train", pixel_home / "tiny.yaml", *where)):
            assert f"is in use by process {os.getpid()} on " in fails(*each)
    del before[LOCK]
    assert before.items() <= content(run).items()
    done(*command)
    log = RunFolder(run).log  # whose rows stay as they were written
    assert log.read_bytes().startswith(before[log.name])


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "log.csv"])
def test_training_writes_over_nothing_that_it_did_not_write(name: str, pixel_home: Path) -> None:
    (folder := pixel_home / "mine").mkdir()
    (folder / name).write_text("mine")
    if name == "config.yaml":
        (folder / LOCK).touch()  # as a start that was refused leaves it
    before = content(folder)
    where = ("--run-folder", folder, "--data-root", pixel_home / "data")
    assert "name another --run-folder" in fails("train", pixel_home / "tiny.yaml", *where)
    with refusal("name another --run-folder"):
        prepare(pixelrnn_configuration(), folder, data_root=pixel_home / "data")
    assert content(folder) == before


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (NVPError("no finite likelihood"), "in validation after step 3, which is saved: no finite"),
        (torch.OutOfMemoryError("CUDA out of memory"), "^CUDA out of memory"),
    ],
)
def test_a_validation_that_fails_saves_first(error, message, root, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", Mock(side_effect=error))
        with pytest.raises(type(error), match=message):
            prepare(pixelrnn_configuration(steps=3), tmp_path, data_root=root).run()
    assert [row["step"] for row in read_log(RunFolder(tmp_path).log)] == [1, 2]
    last = prepare(pixelrnn_configuration(steps=4), tmp_path, data_root=root).run()
    assert (last["step"], "validation" in last) == (4, True)


def test_a_checkpoint_is_written_only_while_the_loss_is_finite(root: Path, tmp_path: Path) -> None:
    """The step that ruins the weights has a finite loss itself."""
    ruinous = {"learning_rate": 1e30, "clip_norm": math.inf, "checkpoint_minutes": 1e-9}
    with refusal("no checkpoint yet: give the same command with a lower"):
        prepare(configuration(steps=9, **ruinous), tmp_path / "a", data_root=root).run()
    assert not RunFolder(tmp_path / "a").checkpoint.exists()
    assert " after step 1; next: " in train(configuration(steps=1), tmp_path / "a", root)
    job = prepare(configuration(steps=9), tmp_path / "b", data_root=root)
    with torch.no_grad():
        next(job.state.model.parameters()).fill_(math.nan)
    with refusal("no step was made, so no rate is at fault"):
        job.run()


def test_a_log_without_rows_is_told(pixel_home: Path, tmp_path: Path, capsys) -> None:
    log, options = RunFolder(pixel_home / "run").log, {"first": 20, "num_draws": 2}
    log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])
    record(log.parent, data_root=pixel_home / "data", root=tmp_path / "results", **options)
    assert "log.csv has no rows: the entry has no curve\n" in capsys.readouterr().err


def test_a_damaged_log_is_not_recorded(home: Path, tmp_path: Path) -> None:
    log = RunFolder(home / "run").log
    log.write_bytes(log.read_bytes() + b"\0" * 20 + b"\n")
    with refusal(r"log\.csv is damaged in line 4"):
        record(home / "run", data_root=home / "data", root=tmp_path / "results")
    assert content(tmp_path / "results") == {}


def test_a_record_has_no_rows_after_its_checkpoint(pixel_home: Path, tmp_path: Path) -> None:
    log = RunFolder(pixel_home / "run").log
    before = log.read_bytes()
    log.write_bytes(before + before.splitlines(keepends=True)[-1].replace(b"3,24,", b"4,32,"))
    run = record(pixel_home / "run", data_root=pixel_home / "data", root=tmp_path, first=20)
    assert run.files.log.read_bytes() == before


def test_what_a_killed_recording_leaves_is_no_entry(pixel_home: Path) -> None:
    root = pixel_home / "results"
    entry = root / "runs" / "tiny-pixelrnn"
    for left in (".tiny-pixelrnn.part", ".tiny-pixelrnn.old"):
        shutil.copytree(entry, entry.with_name(left))
    assert list(ledger.runs(root)) == ["tiny-pixelrnn"]
    shutil.rmtree(entry)
    data = pixel_home / "data"
    for reader in (ledger.runs, partial(record, pixel_home / "run", data_root=data, first=20)):
        with refusal(r"\.tiny-pixelrnn\.old is the entry tiny-pixelrnn"):
            reader(root=root)


def test_two_recordings_of_one_name_do_not_mix(pixel_home: Path) -> None:
    root = pixel_home / "results"
    before, part = content(root), root / "runs" / ".tiny-pixelrnn.part"
    options = {"data_root": pixel_home / "data", "root": root, "first": 20, "replace": True}
    with locked(part), refusal("is in use by process"):
        record(pixel_home / "run", **options)
    assert content(root) == before
    part.mkdir()
    for name in ("weights.safetensors", ".weights.safetensors.123.part"):
        (part / name).write_text("of a killed process")
    entry = record(pixel_home / "run", **options)
    assert list((root / "runs").iterdir()) == [entry.folder]
    assert not list(entry.folder.glob(".*"))


def test_names_are_no_markup(tmp_path: Path) -> None:
    tree, name = tiny.pixelrnn_tree(), "a[bold]b"
    tree["data"]["name"] = str(tmp_path / name)
    tiny.write_binary_data(tmp_path, name)
    assert name in done("evaluate", tiny.train(tmp_path, tree)).replace("\n", "")


def test_what_cannot_be_is_one_line(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "n" * 300 in fails("evaluate", "n" * 300)
    assert ". is a folder: name a file in it" in fails("sample", "no run", "--out", ".")
    assert "a.jpg: samples are written as PNG" in fails("sample", "no run", "--out", "a.jpg")
    for empty in (("--run-folder", ""), ("--run-folder=",)):
        assert "an argument is empty" in fails("train", "tiny.yaml", *empty)


def test_too_little_memory_is_one_line(home: Path, monkeypatch) -> None:
    monkeypatch.setattr(RealNVP, "_log_probs", lambda *_, **__: torch.empty(1 << 50))
    line = fails("evaluate", home / "run", "--data-root", home / "data")
    assert line.startswith("nvp: out of memory: lower batch_size")
    monkeypatch.setattr(RealNVP, "_log_probs", Mock(side_effect=RuntimeError("a mistake")))
    with pytest.raises(RuntimeError, match="a mistake"):
        tiny.nvp("evaluate", home / "run", "--data-root", home / "data")


def test_one_image_has_no_standard_error(home: Path) -> None:
    images = home / "data" / "tiny" / "test_images.npy"
    np.save(images, np.load(images)[:1])
    line = fails("evaluate", home / "run", "--data-root", home / "data")
    assert "one image has no standard error" in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_output_that_is_full_is_one_line(monkeypatch, capsys) -> None:
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        full.write("something")
        with pytest.raises(SystemExit) as ended:
            terminal.flush()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"nvp: the output: {os.strerror(errno.ENOSPC)}\n"


@pytest.mark.parametrize("number", [1, 2, 3, 4, 10])
def test_a_small_set_holds_out_two_images_or_is_refused(number: int, root: Path) -> None:
    """`nvp record` would refuse to score a single one, after the training."""
    images = load("tiny", "train", root=root).images[:number]
    if number < 4:
        with refusal(f"of {number} training images of tiny .* needs 2"):
            hold_out(images, configuration(), root)
    else:
        kept, held_out = hold_out(images, configuration(), root)
        assert (len(kept), len(held_out)) == (number - 2, 2)


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (lambda self, *_, **__: 1.0, "must return a tensor without dimensions, got float"),
        (lambda self, *_, **__: torch.zeros(3), r"without dimensions, got \(3,\)"),
        (lambda self, *_, **__: torch.zeros(()), "loss has no gradient"),
    ],
)
def test_a_loss_that_is_none_is_named(loss, match, root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(RealNVP, "loss", loss)
    with refusal(match) as caught:
        prepare(configuration(steps=1), tmp_path, data_root=root).run()
    assert "learning_rate" not in str(caught.value)


def strangers_tree(code: Path, monkeypatch) -> dict[str, Any]:
    """A configuration whose family is in a module of somebody: to read it is to run that module."""
    (code / "strangers.py").write_text(
        "from pathlib import Path\n"
        "from nvp.baselines.gaussian import GaussianConfig\n"
        "Path(__file__).with_name('ran').touch()\n"
        "class Config(GaussianConfig): ...\n"
    )
    monkeypatch.syspath_prepend(str(code))
    monkeypatch.delitem(sys.modules, "strangers", raising=False)
    model = {"family": "strangers:Config", "image_shape": [1, 8, 8]}
    return tiny.config_tree() | {"model": model}


def test_the_code_of_a_stranger_needs_trust(tmp_path: Path, monkeypatch) -> None:
    run, ran = tiny.train(tmp_path, strangers_tree(tmp_path, monkeypatch)), tmp_path / "ran"
    monkeypatch.setattr("nvp.ledger.enter.results_root", lambda: tmp_path)
    where = ("--data-root", tmp_path / "data")
    for command in (
        *(("evaluate", run), ("record", run), ("pictures", tmp_path / "runs" / "tiny")),
        *(("train", "--resume", run), ("sample", run, "--out", tmp_path / "a.png")),
    ):
        monkeypatch.delitem(sys.modules, "strangers")
        ran.unlink()
        assert "pass --trust to run it" in fails(*command, *where)
        assert not ran.exists()
        done(*command, *where, "--trust")
        assert ran.exists()


def test_what_another_parser_refuses_hides_no_stranger(tmp_path: Path, monkeypatch) -> None:
    """PyYAML takes 0b_ for a number, of no digits."""
    tree = strangers_tree(tmp_path, monkeypatch) | {"title": "0b_"}
    files = RunFolder(tmp_path)
    files.config.write_text(yaml.safe_dump(tree).replace("'0b_'", "0b_"))
    with pytest.raises(ValueError, match="invalid literal"):
        yaml.safe_load(files.config.read_text())
    with refusal("pass --trust to run it"):
        read_config(files)


@pytest.mark.parametrize("place", ["build/runs/a", "data/a", "results/runs/a", "elsewhere"])
def test_a_run_in_the_checkout_may_be_a_strangers(place: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("nvp.runs.load.repository_root", lambda: tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    files = RunFolder(tmp_path / place)
    files.path.mkdir(parents=True)
    (files.path / "theirs.py").write_text("raise ImportError('it ran')")
    tree = tiny.config_tree()
    tree["model"]["family"] = f"{place.replace('/', '.')}.theirs:Config"
    files.config.write_text(yaml.safe_dump(tree))
    with refusal("pass --trust to run it"):
        read_config(files)
    (tmp_path / "pyproject.toml").touch()
    with refusal("it ran" if place == "elsewhere" else "--trust"):
        read_config(files)


@pytest.mark.parametrize(
    ("forge", "match"),
    [
        (lambda t, h: (t, None), "the whole"),
        (lambda t, h: (t, h | {"step": "x"}), "step"),
        (lambda t, h: (t, h | {"minutes": math.nan}), "minutes"),
        (lambda t, h: (t, h | {"precision": "fp8"}), "precision"),
        (lambda t, h: (t, h | {"config": {"model": "own"}}), "checkpoint.safetensors: "),
        # A module that was not vetted is not even imported, though there is one of that name.
        (lambda t, h: (t, h | {"config": {"model": {"family": "this:Zen"}}}), "family=this:Zen"),
        (lambda t, h: (t, h | {"window": [[1.0]]}), "window"),
        (lambda t, h: ({n: t[n] for n in t if n != "noise"}, h), "no training state"),
        (lambda t, h: (t | {"noise": t["noise"][:9]}, h), "is damaged (optimiser, order or noise)"),
        (lambda t, h: (t | {"noise": 0 * t["noise"]}, h), "is damaged (optimiser, order or noise)"),
        (lambda t, h: (t | {"order": t["order"] + 7}, h), "is damaged (optimiser, order or noise)"),
        (lambda t, h: (t | {"optimiser.x/step": t["order"]}, h), "is damaged (optimiser, order or"),
    ],
)
def test_a_forged_checkpoint_is_one_line(forge: Any, match: str, pixel_home: Path) -> None:
    path = RunFolder(pixel_home / "run").checkpoint
    save_tensors(path, *forge(*load_tensors(path)))
    assert match in fails(*going_on(pixel_home, 3))


@pytest.mark.usefixtures("handled")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_stops_at_once_whatever_its_kind(number: signal.Signals) -> None:
    former = signal.getsignal(number)
    with stop_requests() as stop:
        os.kill(os.getpid(), number)
        assert stop.is_set()
        assert signal.getsignal(number) is former
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("handled")
def test_a_signal_is_heard_where_nobody_reads() -> None:
    """A terminal that is closed sends one."""
    reader, writer = os.pipe()
    os.close(reader)
    former = os.dup(2)
    os.dup2(writer, 2)
    try:
        with stop_requests() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.is_set()
    finally:
        os.dup2(former, 2)
        os.close(former)
        os.close(writer)


@pytest.mark.usefixtures("handled")
def test_a_signal_that_is_ignored_stays_so() -> None:
    """Under nohup a closed terminal does not stop a run."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_requests() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.is_set()


def test_handlers_of_a_program_around_python_stay(monkeypatch) -> None:
    """As of R or Julia: Python cannot name them, so it could not put them back."""
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    monkeypatch.setattr(signal, "signal", changed := Mock())
    with stop_requests():
        pass
    changed.assert_not_called()
