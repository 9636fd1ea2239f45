"""The scripts of the pipeline, and a rehearsal of the run on a rented GPU."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import Mock

import nbformat
import pytest
import tiny
from nbclient.exceptions import DeadKernelError

from nvp.data.named import NAMED
from nvp.ledger import entry as ledger
from nvp.runs.folder import RunFolder
from nvp.runs.load import load_run
from workflow import execute as executor

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = """\
# %% tags=["parameters"]
profile = "laptop"

# %%
print(profile)
assert profile != "broken", "broken on purpose"
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "01_small.py"
    path.write_text(NOTEBOOK)
    return path


def execute(source: Path, *parameters: str) -> int:
    return executor.main([str(source), str(source.with_suffix(".ipynb")), *parameters])


def test_a_parameter_reaches_the_notebook(source: Path) -> None:
    assert execute(source, "profile=paper") == 0
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert notebook.cells[-1].outputs[0].text == "paper\n"
    assert [cell.id for cell in notebook.cells] == ["cell-0", "cell-1", "cell-2"]
    assert "remove-cell" in notebook.cells[1].metadata.tags
    assert not any({"papermill", "execution"} & cell.metadata.keys() for cell in notebook.cells)
    assert str(source.parent) not in source.with_suffix(".ipynb").read_text()


def test_what_cannot_be_executed_is_one_line(source: Path, capsys, monkeypatch) -> None:
    assert execute(source, "profil=paper") == 1
    assert "has no parameter profil; it has: profile" in capsys.readouterr().err
    assert execute(source.with_name("none.py")) == 1
    assert re.fullmatch(r".*none\.py.*\n", capsys.readouterr().err)
    with pytest.raises(SystemExit, match="2"):
        execute(source, "paper")
    assert "paper is no name=value" in capsys.readouterr().err
    dead = Mock(side_effect=DeadKernelError("Kernel died"))
    monkeypatch.setattr(executor.papermill, "execute_notebook", dead)
    assert execute(source) == 1
    assert capsys.readouterr().err == f"{source}: Kernel died\n"
    assert not source.with_suffix(".ipynb").exists()


def test_a_cell_that_fails_is_an_error(source: Path, capsys) -> None:
    assert execute(source, "profile=broken") == 1
    assert re.search(r"In \[\d+\]: .*broken on purpose", capsys.readouterr().err)
    assert not source.with_suffix(".ipynb").exists()
    assert source.with_suffix(".failed.ipynb").exists()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """An empty checkout with a space in its path, where `nvp` writes down what it is asked for."""
    checkout = tmp_path / "my checkout"
    for folder in ("bin", "configs", "data", "notebooks", "workflow"):
        (checkout / folder).mkdir(parents=True)
    (checkout / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    stand_in(checkout / "bin" / "nvp", 'printf "%s\\n" "$@" >> arguments')
    return checkout


def make(checkout: Path, *arguments: str) -> str:
    """What `nvp` has been asked for in that checkout, once Snakemake ran with these arguments."""
    snakefile = ROOT / "workflow" / "Snakefile"
    command = [checkout / "bin" / "python", "-m", "snakemake", "--snakefile", snakefile]
    command += ["--cores", "1", *arguments]
    packages = {"PYTHONPATH": sysconfig.get_path("purelib"), "NVP_DATA": str(checkout / "data")}
    variables = {**os.environ, **packages}
    result = subprocess.run(command, cwd=checkout, env=variables, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    return (checkout / "arguments").read_text()


def test_names_are_quoted(checkout: Path) -> None:
    """A checkout with a space in its path trains, and the name of a file is no command."""
    (checkout / "configs" / "x$(touch broken).yaml").touch()
    shorter = ("--config", 'set=["training.steps=3"]')
    folders = ("build/runs/x$(touch broken)", "build/seeds/x$(touch broken)/7")
    asked = make(checkout, *shorter, "--", *(f"{folder}/finished" for folder in folders))
    _, *runs = asked.split("train\n")
    first, seventh = sorted(run.splitlines() for run in runs)
    command = ["configs/x$(touch broken).yaml", "--run-folder"]
    assert first == [*command, folders[0], "--set", "training.steps=3"]
    changes = ["--set", "training.steps=3", "--set", "training.seed=7"]
    assert seventh == [*command, folders[1], *changes]
    assert not (checkout / "broken").exists()


def test_a_run_that_is_recorded_again_once_is_not_recorded_every_time(checkout: Path) -> None:
    (checkout / "configs" / "one.yaml").touch()
    once = make(checkout, "--config", "replace=true", "--", "build/runs/one/recorded")
    assert once.endswith("record\nbuild/runs/one\n--replace\n")
    assert make(checkout, "--", "build/runs/one/recorded") == once


def test_a_notebook_of_full_sets_runs_again_where_there_is_another(checkout: Path) -> None:
    (checkout / "notebooks" / "01_small.py").touch()
    script = 'import sys\n[open(name, "a").write("run ") for name in ("arguments", sys.argv[2])]'
    (checkout / "workflow" / "execute.py").write_text(script)
    target = ("--config", "profile=paper", "--", "build/notebooks/01_small.ipynb")
    assert make(checkout, *target) == "run "
    (checkout / "data" / "mnist").mkdir()
    assert make(checkout, *target) == "run run "


def test_a_notebook_runs_again_when_what_it_reads_changes() -> None:
    """The files of each list in the Snakefile are inputs; one of each stands for the others.

    A run gets its images first, where they can be downloaded.
    """
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--cores"]
    targets = ("build/notebooks/07_results.ipynb", "build/runs/mnist/finished")
    command += ["1", "--filegraph", "--", *targets]
    graph = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert graph.returncode == 0, graph.stderr
    inputs = """
        nvp/config.py nvp/autoregressive/scan.cpp examples/tarflow.py book/nvp_book/selection.py
        configs/ablation/base.yaml workflow/seeds.yaml workflow/execute.py results/published.yaml
        results/runs/mnist/weights.safetensors benchmarks/results_pixelrnn.json
        data/fashion-mnist-small/images.npz
    """
    for path in inputs.split():
        assert (ROOT / path).is_file()
        assert f"{path}<" in graph.stdout, path
    assert "build/data/{name}<" in graph.stdout  # of which mnist is one
    (listed,) = re.findall(r"^DOWNLOADS = (.*)", (ROOT / "workflow/Snakefile").read_text(), re.M)
    assert ast.literal_eval(listed) == tuple(n for n, known in NAMED.items() if known.download)


@pytest.fixture
def rented(tmp_path: Path) -> Path:
    """A copy of the code without git, where cifar10 is a tiny model on tiny images."""
    for folder in ("nvp", "workflow"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    tiny.write_data(tmp_path / "data")
    (tmp_path / "data" / "fashion-mnist-small").symlink_to(ROOT / "data" / "fashion-mnist-small")
    (tmp_path / "configs").mkdir()
    tree = {**tiny.config_tree(), "name": "cifar10"}
    tiny.write_config(tmp_path / "configs" / "cifar10.yaml", tree)
    return tmp_path


def train_on_gpu(rented: Path, *options: str, **environment: str) -> CompletedProcess[str]:
    own = {"PYTHON": sys.executable, "NVP_DATA": str(rented / "data"), **environment}
    command = ["bash", rented / "workflow" / "gpu_cifar10.sh", "22", *options]
    variables = {**os.environ, **own}
    return subprocess.run(command, text=True, capture_output=True, env=variables, cwd="/")


def stand_in(path: Path, command: str) -> str:
    """A program in the place of Python, which takes no time to start."""
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.nightly
def test_the_run_on_a_gpu_is_recorded_and_packed(rented: Path) -> None:
    result = train_on_gpu(rented, "--set", "training.steps=2", NVP_COMMIT="abc")
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("recorded: see build/gpu\n")
    run, out = ledger.runs(rented / "results")["cifar10"], rented / "build" / "gpu"
    assert (run.record.steps, run.record.commit, run.record.weights) == (2, "abc", None)
    assert run.config.training.minutes == 22
    names = {"run.json", "config.yaml", "log.csv", "samples.png", "real.png", "weights.part-aa"}
    assert {path.name for path in out.iterdir()} == names
    (out / "weights.part-aa").rename(RunFolder(out).weights)
    assert load_run(out).config == run.config


STOPPED = "stopped after 0.1 seconds: call again to go on\n"


@pytest.mark.parametrize(
    ("training", "seconds", "log", "status", "said"),
    [
        ("exec sleep 60", "0.1", None, 0, STOPPED),
        ("exec sleep 60", "0.1", "step 6\nstep 7\n", 0, f"step 7\n{STOPPED}"),
        ("exit 2", "60", None, 2, ""),
    ],
)
def test_the_run_on_a_gpu_stops_or_fails(training, seconds, log, status, said, rented) -> None:
    run = rented / "build" / "runs" / "cifar10"
    if log is not None:
        run.mkdir(parents=True)
        (run / "log.csv").write_text(log)
    python = stand_in(rented / "python", training)
    result = train_on_gpu(rented, PYTHON=python, PIECE_SECONDS=seconds)
    assert (result.returncode, result.stdout) == (status, said), result.stderr
    assert not (rented / "results").exists()
