"""The command line on tiny runs: what it makes, and one line for everything that goes wrong."""

import math
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import tiny
import yaml
from ledgers import content, rename, rewrite
from PIL import Image
from rich.console import Console
from tiny import done, fails, going_on
from typer.main import get_command

import nvp
from nvp.cli.main import app
from nvp.data import splits
from nvp.data.sets import load
from nvp.ledger import enter, scoring
from nvp.ledger import entry as ledger
from nvp.paths import results_root
from nvp.runs import folder as folders
from nvp.runs import load as load_module
from nvp.runs.folder import RunFolder
from nvp.runs.load import load_run
from nvp.runs.log import read_log
from nvp.runs.tensors import load_tensors, save_tensors
from nvp.tables import build
from nvp.training import loop


@pytest.fixture
def results(tmp_path: Path, monkeypatch) -> Path:
    """An empty ledger in place of the repository's."""
    for module in (ledger, enter, folders):
        monkeypatch.setattr(module, "results_root", lambda: tmp_path / "results")
    return tmp_path / "results"


@pytest.mark.parametrize("group", [(), ("data",)])
def test_help_says_in_a_line_what_a_command_does(group: tuple[str, ...]) -> None:
    lines = tiny.nvp(*group, "--help").output.splitlines()
    assert tiny.nvp(*group).output.splitlines() == lines
    commands = lines[lines.index("Commands:") + 1 :]
    assert max(map(len, lines)) <= 80
    assert not [line for line in commands if line.endswith("...")]


def test_every_option_says_what_it_is_for() -> None:
    root = get_command(app)
    commands = [*root.commands.values(), *root.commands["data"].commands.values()]
    assert not [f"{c.name} {p.name}" for c in commands for p in c.params if not p.help]


def test_the_version_is_that_of_the_package() -> None:
    assert done("--version") == f"nvp {nvp.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("evaluate", "run", "--num-draws", -1), "'--num-draws'"),
        (("evaluate", "run", "--limit", 1), "'--limit'"),
        (("evaluate", "run", "--split", "tset"), "'tset' is not one of 'test', 'train'"),
        (("sample", "run", "--out", "a.png", "--temperature", "nan"), "'--temperature'"),
        (("sample", "run", "--out", "a.png", "-n", 10**12), "'-n'"),
        (("sample", "run", "--out", "a.png", "--seed", 2**63), "'--seed'"),
        (("sample", "run", "--out", "a.png", "--label", 2**63), "'--label'"),
        (("data", "get"), "Missing argument"),
        (("evaluat",), "No such command 'evaluat'"),
        (("train", "--confg"), "No such option: --confg"),
    ],
)
def test_a_bad_option_is_one_line(arguments: tuple[object, ...], match: str) -> None:
    line = fails(*arguments)
    assert match in line
    assert line.endswith(" --help`\n")


def test_a_command_that_is_stopped_says_so(monkeypatch) -> None:
    monkeypatch.setattr("nvp.data.catalogue.survey", Mock(side_effect=KeyboardInterrupt))
    stopped = tiny.nvp("data", "list")
    assert (stopped.exit_code, stopped.stderr) == (130, "nvp: stopped\n")


def test_the_same_command_goes_on_when_the_budget_grows(home: Path) -> None:
    """It says so, and logs the first step and the last."""
    run = home / "run"
    command = ("train", home / "tiny.yaml", "--run-folder", run, "--data-root", home / "data")
    changes = ("steps=5", "log_every=50", "checkpoint_minutes=9", "validate_minutes=9")
    told = tiny.nvp(*command, *(f"--set=training.{each}" for each in changes)).stderr
    assert f"goes on after step 2 of {run}, whose budget was spent: an annealed rate" in told
    assert [row["step"] for row in read_log(run / "log.csv")] == [1, 2, 3, 5]
    assert "training.seed=0" in fails(*command, "--set", "training.seed=1")


def test_training_does_not_finish_a_model_that_nobody_asked_for(home: Path, monkeypatch) -> None:
    """`nvp record` re-estimates batch statistics on many images; `nvp train` need not."""
    counted = Mock()
    for module in (load_module, loop):
        monkeypatch.setattr(module, "reestimate_statistics", counted)
    done(*going_on(home, 3))
    (call,) = counted.call_args_list
    assert len(call.args[1]) == 12  # twice the images for validation, before the last one


def test_no_split_is_loaded_twice(trained: Path, results: Path, monkeypatch) -> None:
    counted = Mock(wraps=load)
    for module in (splits, scoring):
        monkeypatch.setattr(module, "load", counted)
    few = ("--first", 20, "--num-draws", 2, "--data-root", trained / "data")
    done("record", trained / "run", "--name", "mine", *few)
    assert list(ledger.runs()) == ["mine"]
    loaded = [call.args for call in counted.call_args_list]
    asked = sorted(split for name, split in loaded if name == "tiny")
    assert asked == ["test", "train", "validation"]  # which is not there


def test_a_run_that_diverged_goes_on_as_its_message_says(home: Path) -> None:
    result = tiny.nvp(*going_on(home, 30), "--set", "training.learning_rate=1e30")
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]  # after those of the steps that went well
    assert "the last good checkpoint is kept" in line
    advice = r"`nvp (train --resume \S+ --data-root \S+ --set training.learning_rate=)\.\.\.`"
    (advised,) = re.findall(advice, line)
    steady = ("--set", "training.steps=3")
    done(*f"{advised}1e-4".split(), *steady)
    again = done(*f"{advised}1e-2".split(), *steady)  # has nothing to do
    assert again.startswith("nothing was trained, because the budget")
    kept = yaml.safe_load((home / "run" / "config.yaml").read_text())
    assert kept["training"]["learning_rate"] == 1e-4
    legs = load_tensors(RunFolder(home / "run").checkpoint)[1]["legs"]
    changed = [leg["changed"] for leg in legs]
    assert changed == [{}, {"training.learning_rate": 1e-4}]  # no step by 1e30 was saved


def test_evaluate_takes_both_statistics_and_the_draws_that_are_asked_for(tmp_path: Path) -> None:
    tree = tiny.config_tree()
    tree["evaluation"]["num_draws"] = 3
    folder, root = tiny.train(tmp_path, tree), tmp_path / "data"
    told = done("evaluate", folder, "--data-root", root)
    assert "recorded run" not in told
    run = load_run(folder, data_root=root)
    assert len(scoring.scored_images(run, "train", root)) == 60  # with those held out
    images = scoring.scored_images(run, "test", root)
    for of_batches in (False, True):
        mean = scoring.score(run, images, "", num_draws=3, of_batches=of_batches).mean()
        assert f"{mean:.4f} ±" in told
    options = ("--num-draws", 4, "--limit", 5, "--split", "train", "--data-root", root)
    few = done("evaluate", folder, *options)
    for split, table, row in (("test", told, "30 │ 3"), ("train", few, "5 │ 4")):
        assert f"tiny, {split}" in table
        assert " ".join(table.splitlines()[-2].split()).endswith(f"{row} │")


def test_sample_is_a_sheet_that_seed_and_temperature_decide(trained: Path, tmp_path: Path) -> None:
    sheets = []
    for seed, temperature in ((1, 0.7), (1, 0.7), (2, 0.7), (1, 0.1)):
        out = tmp_path / f"{len(sheets)}.png"
        options = ("-n", 6, "--seed", seed, "--temperature", temperature, "--out", out)
        done("sample", trained / "run", *options, "--data-root", trained / "data")
        sheets.append(np.array(Image.open(out)))
    assert sheets[0].shape[:2] == (2 * 10 + 2, 3 * 10 + 2)
    assert [(sheet == sheets[0]).all() for sheet in sheets] == [True, True, False, False]


def test_a_pixel_rnn_goes_on_and_is_evaluated_in_nats_and_sampled(pixel_home: Path) -> None:
    run_folder, root = pixel_home / "run", pixel_home / "data"
    (told,) = re.findall(r"\(([\d.]+) nats\) after step (\d)", done(*going_on(pixel_home, 4)))
    row = read_log(run_folder / "log.csv")[int(told[1]) - 1]
    assert told[0] == f"{64 * math.log(2) * row['validation']:.2f}"
    for split, count in (("test", 30), ("validation", 30), ("train", 60)):
        told = done("evaluate", run_folder, "--data-root", root, "--split", split)
        run = load_run(run_folder, data_root=root)
        images = scoring.scored_images(run, split, root)
        assert len(images) == count
        nats = -run.model.log_prob(images).mean()
        assert told.count("±") == 2  # bits/dim and nats, once: it has no batch norm
        assert f"{nats:.2f} ±" in told
    done("sample", run_folder, "--out", pixel_home / "sheet.png", "--data-root", root)
    assert set(np.unique(Image.open(pixel_home / "sheet.png"))) == {0, 255}  # for two levels
    path = root / "tiny-binary" / "test_images.npy"
    images = np.load(path)
    images[3, 4, 4] = 200
    np.save(path, images)
    outside = fails("evaluate", run_folder, "--data-root", root)
    assert "must have values in 0..1 for model.levels = 2, there is a 200" in outside
    (root / "tiny-binary" / "train_images.npy").unlink()  # of which no batch norm is estimated
    done("sample", run_folder, "--out", pixel_home / "sheet.png", "--data-root", root)


def test_record_then_evaluate_by_name(trained, recorded, results: Path, monkeypatch) -> None:
    shutil.copytree(recorded, results)
    command = ("record", trained / "run", "--data-root", trained / "data", "--first", 10)
    assert "--replace" in fails(*command)
    with monkeypatch.context() as patch:
        patch.setattr(enter, "MAX_BYTES", 1000)
        assert "leave --weights out" in fails(*command, "--replace", "--weights")
    (results / "runs/tiny/filmstrip.png").touch()
    told = done(*command, "--replace", "--num-draws", 3)
    assert "the filmstrip of tiny is left out" in told
    draws = ledger.runs()["tiny"].scores.first_more_draws
    assert (draws.num_draws, draws.num_images) == (3, 10)
    score = ledger.runs()["tiny"].score
    told = done("evaluate", "tiny", "--data-root", trained / "data")
    assert "recorded run tiny on tiny, test" in told
    assert f"{score.bits_per_dim:.4f} ± {score.standard_error:.4f}" in told
    sample = ("sample", "tiny", "--out", results / "sheet.png")
    assert "of recorded run tiny: " in done(*sample)
    where = ("--data-root", trained / "data", "--device", "nothing")
    for each in (sample, ("verify", "tiny"), ("pictures", "tiny"), (*command, "--replace")):
        assert "there is no device 'nothing'" in fails(*each, *where)


def test_verify_fails_when_a_figure_was_altered(trained, recorded, results, monkeypatch) -> None:
    root = ("--data-root", trained / "data")
    assert "nothing to verify" in done("verify", *root)
    shutil.copytree(recorded, results)
    score = ledger.runs()["tiny"].score
    rewrite(results, "scores.test.bits_per_dim", score.bits_per_dim - 0.01)
    result = tiny.nvp("verify", *root)
    assert result.exit_code == 1
    assert "tiny, test set of tiny: differs\n" in result.output
    assert f"{score.bits_per_dim - 0.01:.4f}" in result.output
    assert f"{score.bits_per_dim:.4f}" in result.output
    rename(results, "other", copy=True)
    told = done("verify", results / "runs" / "other", "--quick", *root)
    assert "other, probe images: agrees\n" in told
    assert f"is called {recorded}/runs/tiny:" in fails("verify", recorded / "runs" / "tiny", *root)
    monkeypatch.chdir(results / "runs" / "other")
    assert done("verify", ".", "--quick", *root) == told
    assert "test set" not in told
    assert "tiny, " not in told


@pytest.mark.parametrize("end", [b"3,24,0.0,1e-", b"3,24", bytes(40), b"\xff"])
def test_a_last_line_that_was_torn_is_cut(end: bytes, pixel_home: Path) -> None:
    log = pixel_home / "run" / "log.csv"
    whole = log.read_bytes()
    log.write_bytes(whole[: whole.rindex(b"3,24,")] + end)
    done(*going_on(pixel_home, 4))
    assert [row["step"] for row in read_log(log)] == [1, 2, 4]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (b"\n2,16,", b"\n\xff,16,", "line 3 (could not convert"),
        (b"\n2,16,", b"\n2,16,16,", "line 3 (it has 10 cells, not 9)"),
        (b"\n2,16,", b"\n,16,", "line 3 (its step is missing)"),
        (b"\n2,16,", b"\n1,16,", "line 3 (its step should be after 1)"),
        (b"step,", b"stop,", "line 1 (it should name the columns)"),
    ],
)
def test_a_damaged_log_is_named(old: bytes, new: bytes, match: str, home: Path) -> None:
    log = home / "run" / "log.csv"
    whole = log.read_bytes()
    assert old in whole
    log.write_bytes(whole.replace(old, new))
    before = content(home / "run")
    assert f"{log} is damaged in {match}" in fails(*going_on(home, 9))
    assert before.items() <= content(home / "run").items()


@pytest.mark.parametrize("lines", [0, 1, 2, 3])
def test_a_finished_run_that_lost_its_last_row_can_be_recorded(lines: int, home: Path) -> None:
    """The validation in line 3 is of an earlier end, which the run has gone beyond."""
    run = RunFolder(home / "run")
    run.log.write_bytes(b"".join(run.log.read_bytes().splitlines(keepends=True)[:lines]))
    tensors, header = load_tensors(run.checkpoint)
    save_tensors(run.checkpoint, tensors, {**header, "step": header["step"] + 1})
    told = done(*going_on(home, 2))
    assert f"{run.log} lacks the row of its last validation; next: nvp record" in told


def test_train_needs_one_thing_to_train(trained: Path, tmp_path: Path) -> None:
    config, run = trained / "tiny.yaml", trained / "run"
    assert "name either a configuration" in fails("train")
    assert "name either a configuration" in fails("train", config, "--resume", run)
    assert "--run-folder" in fails("train", "--resume", run, "--run-folder", tmp_path)
    shutil.copy(config, tmp_path / "config.yaml")
    assert "nothing to go on with" in fails("train", "--resume", tmp_path)
    assert f"no run in {Path.home()}" in fails("train", "--resume=~/no/run")
    assert "name a file, such as" in fails("train", tmp_path / "none.yaml")
    assert f"go on with a run by --resume {run}" in fails("train", run)
    assert f"cannot write {config} (" in fails("train", config, "--run-folder", config)


def test_tables_in_a_terminal_cut_no_command(monkeypatch) -> None:
    read = Mock(wraps=build.runs)
    monkeypatch.setattr(build, "runs", read)
    monkeypatch.setattr(build, "write_tables", list)
    monkeypatch.setattr(build, "NAMES", ("28x28", "runs"))
    monkeypatch.setattr("nvp.cli.terminal.Console", lambda **_: Console(width=80))
    shown = done("tables", "--print")
    assert "MNIST" in shown
    assert "…" not in shown
    read.assert_called_once()  # for all tables


def test_a_name_leads_to_its_run_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(folders, "repository_root", lambda: tmp_path)
    trained = folders.default_folder("only-trained")
    trained.mkdir(parents=True)
    (trained / "config.yaml").touch()
    assert f"no run in only-trained: name {trained}" in fails("record", "only-trained")


def test_a_folder_without_a_run_hides_no_recorded_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mnist").mkdir()
    assert folders.find_run(Path("mnist")) == results_root() / "runs" / "mnist"
    assert load_run("quickstart").config.name == "quickstart"
    with tiny.refusal("there is no run in nothing: train one, or name"):
        load_run("nothing")
    Path("mnist/config.yaml").touch()
    assert folders.find_run(Path("mnist")) == Path("mnist")
    Path("mnist/config.yaml").rename("mnist/run.json")  # it has lost its configuration
    assert folders.find_run(Path("mnist")) == Path("mnist")


@pytest.mark.slow
def test_streams_may_be_closed_and_nobody_needs_to_read() -> None:
    command = f"{shlex.quote(sys.executable)} -m nvp.cli --version"
    assert subprocess.run(f"{command} 2>&- >&-", shell=True).returncode == 0
    piped = subprocess.run(f"{command} | true", shell=True, text=True, capture_output=True)
    assert piped.stderr == ""


def test_evaluate_refuses_what_is_no_run(trained: Path, tmp_path: Path) -> None:
    assert "no run in" in fails("evaluate", tmp_path)
    shutil.copy(trained / "run" / "config.yaml", tmp_path)
    assert "holds no checkpoint.safetensors yet" in fails("evaluate", tmp_path)
    assert "config.yaml is a file" in fails("evaluate", tmp_path / "config.yaml")
    (tmp_path / "config.yaml").rename(tmp_path / "checkpoint.safetensors")
    assert "config.yaml: copy it from where" in fails("evaluate", tmp_path)
    assert "no data set" in fails("evaluate", trained / "run", "--data-root", tmp_path)
    assert "no device 'meta'" in fails("evaluate", trained / "run", "--device", "meta")


@pytest.mark.usefixtures("results")  # where one that is believed would be recorded
@pytest.mark.parametrize(
    ("command", "change", "match"),
    [
        ("evaluate", None, "the training images of tiny found here are not those of"),
        ("train", ("model", "width", 8), "trained with model.width=4, the configuration says 8"),
        ("evaluate", ("training", "batch_size", 4), "was trained with training.batch_size=8"),
        ("record", ("training", "betas", [0.5, 0.9]), "was trained with training.betas="),
    ],
)
def test_a_checkpoint_that_does_not_fit(command, change, match, home: Path) -> None:
    """Nor is a configuration believed that was edited by hand."""
    run = RunFolder(home / "run")
    if change is None:
        shutil.rmtree(home / "data")
        tiny.write_data(home / "data", seed=1)
    else:
        section, key, value = change
        tree = yaml.safe_load(run.config.read_text())
        tree[section][key] = value
        tiny.write_config(run.config, tree)
    where = ("--resume", run.path) if command == "train" else (run.path,)
    assert match in fails(command, *where, "--data-root", home / "data")
