"""`make test-slow`: processes that are killed at random moments, and a disk that fills.

Each test runs real commands. What they leave is compared, bit for bit, with what nobody disturbed.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch
from ledgers import content

from nvp.ledger.entry import runs
from nvp.paths import repository_root, results_root
from nvp.runs.folder import RunFolder
from nvp.runs.log import read_log
from nvp.runs.tensors import load_tensors

pytestmark = pytest.mark.nightly
KILLS = 20
STEPS = 200


def start(
    *arguments: object, root: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Begin a command of `nvp`, of the checkout at `root`."""
    root = root or repository_root()
    command = [sys.executable, "-m", "nvp.cli", *map(str, arguments)]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)} | environment
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=root, env=variables, **streams)


def finish(*arguments: object, root: Path | None = None, **environment: str) -> float:
    """Run a command to its end, which must be good; the seconds that it took."""
    started = time.monotonic()
    process = start(*arguments, root=root, **environment)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return time.monotonic() - started


def kill_at_random(seconds: float, *arguments: object, root: Path | None = None) -> None:
    """Kill a command somewhere in the `seconds` that it usually takes."""
    process = start(*arguments, root=root)
    try:
        process.wait(random.uniform(0.3, 1.0) * seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Data, and a configuration that saves and validates at each step."""
    random.seed(0)
    tiny.write_data(tmp_path / "data")
    tiny.write_binary_data(tmp_path / "data")
    for name, tree in (("tiny", tiny.config_tree()), ("tiny-pixelrnn", tiny.pixelrnn_tree())):
        often = {"steps": STEPS, "checkpoint_minutes": 1e-9, "validate_minutes": 1e-9}
        tree["training"] |= often | {"early_stopping": name != "tiny"}
        tiny.write_config(tmp_path / f"{name}.yaml", tree)
    return tmp_path


@pytest.mark.parametrize("name", ["tiny", "tiny-pixelrnn"])
def test_training_that_is_killed_ends_as_if_it_were_not(name: str, home: Path) -> None:
    def command(folder: str) -> tuple[object, ...]:
        where = ("--run-folder", home / folder, "--data-root", home / "data")
        return ("train", home / f"{name}.yaml", *where)

    finish(*command("whole"))
    log = RunFolder(home / "killed").log
    for _ in range(KILLS):
        wanted = len(read_log(log)) + random.randint(1, 5)
        process = start(*command("killed"))
        while len(read_log(log)) < wanted:
            assert process.poll() is None
            time.sleep(random.uniform(0, 0.05))  # anywhere in a step, or in its checkpoint
        process.kill()
        process.communicate()
    finish(*command("killed"))
    whole, killed = RunFolder(home / "whole"), RunFolder(home / "killed")
    (tensors, header), (again, after) = (load_tensors(f.checkpoint) for f in (whole, killed))
    assert after["step"] == header["step"] == STEPS
    assert [key for key in tensors if not torch.equal(tensors[key], again[key])] == []
    assert tiny.losses(killed.path) == tiny.losses(whole.path)


def test_recording_that_is_killed_leaves_an_entry_or_none(home: Path) -> None:
    where = ("--data-root", home / "data")
    run = home / "run"
    finish("train", home / "tiny.yaml", "--run-folder", run, *where)
    fork = home / "fork"  # a checkout of its own, so that this one's ledger stays as it is
    fork.mkdir()
    for name in ("nvp", "data", "configs", "pyproject.toml"):
        source = repository_root() / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, fork / name)
    shutil.copytree(results_root(), fork / "results", ignore=shutil.ignore_patterns("runs"))
    command = ("record", run, "--first", 20, "--replace", *where)
    seconds = finish(*command, root=fork)
    whole = content(fork / "results" / "runs" / "tiny")
    assert whole
    for _ in range(KILLS):
        kill_at_random(seconds, *command, root=fork)
        for entry in runs(fork / "results").values():
            assert entry.record.scores is not None
            assert entry.load_model().num_dimensions == 64
    finish(*command, root=fork)
    assert content(fork / "results" / "runs" / "tiny") == whole
    seconds = finish("tables", root=fork)
    tables = content(fork / "results" / "tables")
    for _ in range(KILLS):
        for table in (fork / "results" / "tables").glob("*.md"):
            table.write_text("old")
        kill_at_random(seconds, "tables", root=fork)
        for table in (fork / "results" / "tables").glob("*.md"):
            assert table.read_bytes() in (b"old", tables[table.name])
    finish("tables", root=fork)
    kept = {p: c for p, c in content(fork / "results" / "tables").items() if p.endswith(".md")}
    assert kept == tables


@pytest.mark.usefixtures("handled")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_scheduler_stops_a_run_and_nothing_is_lost(number: signal.Signals, home: Path) -> None:
    where = ("--run-folder", home / "run", "--data-root", home / "data")
    more = ("--set", "training.steps=100000", "--set", "training.checkpoint_minutes=.inf")
    process = start("train", home / "tiny.yaml", *where, *more)
    log = RunFolder(home / "run").log
    while len(read_log(log)) < 5:
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 2
    assert "which is saved: go on with" in errors
    _, header = load_tensors(RunFolder(home / "run").checkpoint)
    assert header["step"] == read_log(log)[-1]["step"]


def test_a_disk_that_fills_keeps_the_last_checkpoint(home: Path) -> None:
    disk = home / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    try:
        run = RunFolder(disk / "run")
        command = ("train", home / "tiny.yaml", "--run-folder", run.path)
        finish(*command, "--data-root", home / "data", "--set", "training.steps=2")
        good = run.checkpoint.read_bytes()
        ballast = disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
        process = start(*command, "--data-root", home / "data")
        _, errors = process.communicate()
        assert process.returncode == 2
        assert "No space left on device" in errors
        assert errors.strip().splitlines()[-1].startswith("nvp: ")
        assert run.checkpoint.read_bytes() == good
        ballast.unlink()
        finish(*command, "--data-root", home / "data")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_output_that_knows_ascii_alone(tmp_path: Path) -> None:
    finish("data", "list", "--data-root", tmp_path, PYTHONIOENCODING="ascii", LC_ALL="C")
