"""The command line on tiny runs: what it makes, and one line for everything that goes wrong."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import yaml
from ledgers import content, rewrite
from PIL import Image
from tiny import fails
from torch import Tensor

from nvp.data import splits
from nvp.data.sets import Dataset, load
from nvp.ledger import enter, scoring
from nvp.ledger import entry as ledger
from nvp.runs import folder as folders
from nvp.runs import load as load_module
from nvp.runs.folder import RunFolder
from nvp.runs.load import load_run
from nvp.runs.log import read_log
from nvp.runs.provenance import read_legs
from nvp.runs.tensors import load_tensors, save_tensors
from nvp.training import loop


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ledger in place of the repository's."""
    for module in (ledger, enter, folders):
        monkeypatch.setattr(module, "results_root", lambda: tmp_path / "results")
    return tmp_path / "results"


@pytest.mark.parametrize("group", [(), ("data",)])
def test_help_says_in_a_line_what_a_command_does(group: tuple[str, ...]) -> None:
    lines = tiny.nvp(*group, "--help").output.splitlines()
    commands = lines[lines.index("Commands:") + 1 :]
    assert max(map(len, lines)) <= 80
    assert not [line for line in commands if line.endswith("...")]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("evaluate", "run", "--num-draws", -1), "'--num-draws'"),
        (("evaluate", "run", "--limit", 1), "'--limit'"),
        (("sample", "run", "--out", "a.png", "--temperature", "nan"), "'--temperature'"),
        (("sample", "run", "--out", "a.png", "--seed", 2**63), "'--seed'"),
        (("sample", "run", "--out", "a.png", "--seed", -1), "'--seed'"),
        (("evaluate",), "Missing argument"),
        (("data", "get"), "Missing argument"),
        (("evaluat",), "No such command 'evaluat'"),
        (("train", "--confg"), "No such option: --confg"),
        (("--confg",), "No such option: --confg"),
    ],
)
def test_a_bad_option_is_one_line(arguments: tuple[object, ...], match: str) -> None:
    line = fails(*arguments)
    assert match in line
    assert line.endswith(" --help`\n")


def test_without_arguments_there_is_help() -> None:
    for arguments in ((), ("data",)):
        result = tiny.nvp(*arguments)
        assert "--help" in result.output
        assert "nvp: " not in result.output


def test_the_same_command_goes_on_when_the_budget_grows(home: Path) -> None:
    where = ("--run-folder", home / "run", "--data-root", home / "data")
    command = ("train", home / "tiny.yaml", *where)
    assert tiny.nvp(*command, "--set", "training.steps=3").exit_code == 0
    assert [row["step"] for row in read_log(home / "run" / "log.csv")] == [1, 2, 3]
    assert "training.seed=0" in fails(*command, "--set", "training.seed=1")


def test_training_does_not_finish_a_model_that_nobody_asked_for(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nvp record` re-estimates batch statistics on many images; `nvp train` need not."""
    seen: list[int] = []

    def counted(_model: object, images: Tensor, **_: object) -> None:
        seen.append(len(images))

    for module in (load_module, loop):
        monkeypatch.setattr(module, "reestimate_statistics", counted)
    more = ("--data-root", home / "data", "--set", "training.steps=3")
    assert tiny.nvp("train", "--resume", home / "run", *more).exit_code == 0
    assert seen == [12]  # twice the images for validation, before the last one


@pytest.mark.parametrize(
    ("command", "options", "expected"),  # `validation` is asked for, and not there
    [
        ("evaluate", ("--split", "train"), ["train", "validation"]),
        ("record", ("--first", 20, "--num-draws", 2), ["test", "train", "validation"]),
    ],
)
def test_no_split_is_loaded_twice(
    command: str,
    options: tuple[object, ...],
    expected: list[str],
    trained: Path,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = []

    def counted(name: str, split: str, **options: object) -> Dataset:
        loaded.append((name, split))
        return load(name, split, **options)

    for module in (splits, scoring):
        monkeypatch.setattr(module, "load", counted)
    result = tiny.nvp(command, trained / "run", *options, "--data-root", trained / "data")
    assert result.exit_code == 0
    assert sorted(split for name, split in loaded if name == "tiny") == expected


def test_resume_goes_on_in_a_folder_that_was_moved(home: Path, tmp_path: Path) -> None:
    moved = home.joinpath("run").rename(tmp_path / "elsewhere")
    command = ("train", "--resume", moved, "--data-root", home / "data")
    assert tiny.nvp(*command, "--set", "training.steps=3").exit_code == 0
    assert len(read_log(moved / "log.csv")) == 3
    assert "model.width=4" in fails(*command, "--set", "model.width=8")


def test_a_run_that_diverged_goes_on_as_its_message_says(home: Path) -> None:
    reckless = ("--set", "training.steps=30", "--set", "training.learning_rate=1e30")
    result = tiny.nvp("train", "--resume", home / "run", *reckless, "--data-root", home / "data")
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]  # after those of the steps that went well
    advised = re.search(
        r"`nvp (train --resume \S+ --data-root \S+ --set training.learning_rate=)\.\.\.`", line
    )
    assert advised is not None
    steady = ("--set", "training.steps=3")
    result = tiny.nvp(*f"{advised[1]}1e-4".split(), *steady)
    assert result.exit_code == 0, result.output
    again = tiny.nvp(*f"{advised[1]}1e-2".split(), *steady)  # has nothing to do
    assert again.exit_code == 0, again.output
    assert again.output.startswith("nothing was trained, for the budget")
    kept = yaml.safe_load((home / "run" / "config.yaml").read_text())
    assert kept["training"]["learning_rate"] == 1e-4
    changed = [leg.changed for leg in read_legs(RunFolder(home / "run"))]
    assert changed == [{}, {"learning_rate": 1e-4}]  # no step by 1e30 was saved


def test_evaluate_shows_both_kinds_of_statistics(trained: Path) -> None:
    result = tiny.nvp("evaluate", trained / "run", "--data-root", trained / "data")
    run = load_run(trained / "run", data_root=trained / "data")
    images = scoring.scored_images(run, "test", trained / "data")
    for of_batches in (False, True):
        mean = scoring.score(run, images, "", of_batches=of_batches).mean()
        assert f"{mean:.4f} ±" in result.output
    assert result.output.splitlines()[-2].split()[-4:] == ["30", "│", "1", "│"]


def test_evaluate_takes_as_many_draws_as_the_run_says_or_the_command(tmp_path: Path) -> None:
    tree = tiny.config_tree()
    tree["evaluation"]["num_draws"] = 3
    command = ("evaluate", tiny.train(tmp_path, tree), "--data-root", tmp_path / "data")
    few = ("--num-draws", 4, "--limit", 5, "--split", "train")
    for options, images, draws in (((), "30", "3"), (few, "5", "4")):
        result = tiny.nvp(*command, *options)
        assert result.exit_code == 0, result.output
        assert f"tiny, {'train' if options else 'test'}" in result.output
        assert result.output.splitlines()[-2].split()[-4:] == [images, "│", draws, "│"]


def test_sample_is_a_sheet_that_seed_and_temperature_decide(trained: Path, tmp_path: Path) -> None:
    sheets = []
    for seed, temperature in ((1, 0.7), (1, 0.7), (2, 0.7), (1, 0.1)):
        out = tmp_path / f"{len(sheets)}.png"
        options = ("-n", 6, "--seed", seed, "--temperature", temperature, "--out", out)
        result = tiny.nvp("sample", trained / "run", *options, "--data-root", trained / "data")
        assert result.exit_code == 0
        sheets.append(np.array(Image.open(out)))
    assert sheets[0].shape[:2] == (2 * 10 + 2, 3 * 10 + 2)
    assert [(sheet == sheets[0]).all() for sheet in sheets] == [True, True, False, False]


def test_a_pixel_rnn_goes_on_and_is_evaluated_in_nats(
    pixelrnn: tuple[Path, Path], tmp_path: Path
) -> None:
    home = Path(shutil.copytree(pixelrnn[0].parent, tmp_path / "home"))
    root = ("--data-root", home / "data")
    result = tiny.nvp("train", "--resume", home / "run", *root, "--set", "training.steps=4")
    assert result.exit_code == 0
    told = re.search(r"\(([\d.]+) nats\) after step (\d)", result.output)
    assert told is not None
    row = read_log(home / "run" / "log.csv")[int(told[2]) - 1]
    assert told[1] == f"{64 * math.log(2) * row['validation']:.2f}"
    for split, count in (("test", 30), ("validation", 30), ("train", 60)):
        result = tiny.nvp("evaluate", home / "run", *root, "--split", split)
        run = load_run(home / "run", data_root=home / "data")
        images = scoring.scored_images(run, split, home / "data")
        assert len(images) == count
        nats = -run.model.log_prob(images).mean()
        assert result.output.count("±") == 2  # bits/dim and nats, once: it has no batch norm
        assert f"{nats:.2f} ±" in result.output
        assert "statistics" not in result.output
    outside = fails("evaluate", home / "run", "--data-root", greyer(home / "data"))
    assert "must have values in 0..1 for model.levels = 2, there is a 200" in outside


def greyer(root: Path) -> Path:
    """The binary test images with a grey pixel among them."""
    path = root / "tiny-binary" / "test_images.npy"
    images = np.load(path)
    images[3, 4, 4] = 200
    np.save(path, images)
    return root


def test_samples_of_two_levels_are_black_and_white(
    pixelrnn: tuple[Path, Path], tmp_path: Path
) -> None:
    data_root = pixelrnn[0]
    options = ("--out", tmp_path / "sheet.png", "-n", 9, "--data-root", data_root)
    assert tiny.nvp("sample", data_root.parent / "run", *options).exit_code == 0
    sheet = np.array(Image.open(tmp_path / "sheet.png"))
    assert set(np.unique(sheet)) == {0, 255}
    assert (sheet[2:10, 2:10] == 0).any()


def test_record_then_evaluate_by_name(trained: Path, recorded: Path, results: Path) -> None:
    shutil.copytree(recorded, results)
    command = ("record", trained / "run", "--data-root", trained / "data", "--first", 10)
    assert "--replace" in fails(*command)
    (results / "runs/tiny/filmstrip.png").touch()
    result = tiny.nvp(*command, "--replace", "--num-draws", 3)
    assert result.exit_code == 0
    assert "the filmstrip of tiny is left out" in result.output
    assert ledger.runs()["tiny"].scores.first_more_draws.num_draws == 3
    samples = ledger.runs()["tiny"].files.samples
    samples.unlink()
    assert tiny.nvp("pictures", "tiny", "--data-root", trained / "data").exit_code == 0
    assert samples.is_file()
    score = ledger.runs()["tiny"].score
    result = tiny.nvp("evaluate", "tiny", "--data-root", trained / "data")
    assert f"{score.bits_per_dim:.4f} ± {score.standard_error:.4f}" in result.output
    assert tiny.nvp("sample", "tiny", "--out", results / "sheet.png").exit_code == 0


def test_large_weights_are_left_out_unless_asked_for(
    trained: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enter, "MAX_BYTES", 1000)
    command = ("record", trained / "run", "--data-root", trained / "data", "--first", 10)
    assert "leave --weights out" in fails(*command, "--weights")
    result = tiny.nvp(*command, "--num-draws", 2)
    assert result.exit_code == 0
    assert result.stderr.count("they are left out") == 1
    assert ledger.runs()["tiny"].record.weights is None


def test_verify_fails_with_a_table_when_a_figure_was_altered(
    trained: Path, recorded: Path, results: Path
) -> None:
    root = ("--data-root", trained / "data")
    assert "nothing to verify" in tiny.nvp("verify", *root).output
    shutil.copytree(recorded, results)
    score = ledger.runs()["tiny"].score
    rewrite(results, "scores.test.bits_per_dim", score.bits_per_dim - 0.01)
    result = tiny.nvp("verify", *root)
    assert result.exit_code == 1
    assert "tiny, test set of tiny: differs\n" in result.output
    assert f"{score.bits_per_dim - 0.01:.4f}" in result.output
    assert f"{score.bits_per_dim:.4f}" in result.output
    shutil.copytree(results / "runs" / "tiny", results / "runs" / "other")
    rewrite(results, "name", "other", "other")
    result = tiny.nvp("verify", "other", "--quick", *root)
    assert result.exit_code == 0
    assert "other, probe images: agrees\n" in result.output
    assert "test set" not in result.output
    assert "tiny, " not in result.output


@pytest.mark.parametrize("end", [b"2,16,0.0,1e-", b"2,16", bytes(40), b"\xff"])
def test_a_last_line_that_was_torn_is_cut(end: bytes, home: Path) -> None:
    log = home / "run" / "log.csv"
    whole = log.read_bytes()
    log.write_bytes(whole[: whole.rindex(b"2,16,")] + end)
    command = ("train", "--resume", home / "run", "--data-root", home / "data")
    assert tiny.nvp(*command, "--set", "training.steps=3").exit_code == 0
    assert [row["step"] for row in read_log(log)] == [1, 3]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (b"\n2,16,", b"\n1e-,16,", "line 3 (could not convert string to float: '1e-')"),
        (b"\n2,16,", b"\n\0,16,", "line 3 (could not convert"),
        (b"\n2,16,", b"\n\xff,16,", "line 3 (could not convert"),
        (b"\n2,16,", b"\n2,16,16,", "line 3 (it has 10 cells, not 9)"),
        (b"\n2,16,", b"\n\r\n2,16,", "line 3 (it has 1 cells, not 9)"),
        (b"\n2,16,", b"\n,16,", "line 3 (its step is missing)"),
        (b"\n2,16,", b"\n1,16,", "line 3 (its step should be after 1)"),
        (b"\n2,16,", b"\nnan,16,", "line 3 (its step should be after 1)"),
        (b"step,", b"stop,", "line 1 (it should name the columns)"),
    ],
)
def test_a_damaged_log_is_named(old: bytes, new: bytes, match: str, home: Path) -> None:
    log = home / "run" / "log.csv"
    whole = log.read_bytes()
    assert old in whole
    log.write_bytes(whole.replace(old, new))
    before = content(home / "run")
    budget = ("--set", "training.steps=9")
    line = fails("train", "--resume", home / "run", "--data-root", home / "data", *budget)
    assert f"{log} is damaged in {match}" in line
    assert "restore the file, or remove it" in line
    assert before.items() <= content(home / "run").items()


@pytest.mark.parametrize("lines", [None, 0, 1, 2])
def test_a_finished_run_that_lost_its_log_can_be_recorded(lines: int | None, home: Path) -> None:
    log = home / "run" / "log.csv"
    whole = log.read_bytes()
    log.unlink()
    if lines is not None:
        log.write_bytes(b"".join(whole.splitlines(keepends=True)[:lines]))
    result = tiny.nvp("train", "--resume", home / "run", "--data-root", home / "data")
    assert result.exit_code == 0
    assert f"{log} lacks the row of its last validation; next: nvp record" in result.output


def test_the_end_of_a_run_is_not_told_by_an_older_row(home: Path) -> None:
    """A validation that is in the log may be of an earlier end, which the run has gone beyond."""
    path = RunFolder(home / "run").checkpoint
    tensors, header = load_tensors(path)
    save_tensors(path, tensors, {**header, "step": header["step"] + 1})
    result = tiny.nvp("train", "--resume", home / "run", "--data-root", home / "data")
    assert "lacks the row of its last validation; next: nvp record" in result.output


def test_train_needs_one_thing_to_train(trained: Path, tmp_path: Path) -> None:
    config, run = trained / "tiny.yaml", trained / "run"
    assert "name either a configuration" in fails("train")
    assert "name either a configuration" in fails("train", config, "--resume", run)
    assert "--run-folder" in fails("train", "--resume", run, "--run-folder", tmp_path)
    assert "nothing to go on with" in fails("train", "--resume", tmp_path)
    assert f"no run folder {Path.home()}" in fails("train", "--resume=~/no/run")
    assert "cannot read" in fails("train", tmp_path / "none.yaml")
    assert "no device" in fails("train", config, "--run-folder", tmp_path, "--device", "abacus")


def test_a_name_leads_to_its_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "repository_root", lambda: tmp_path)
    trained = folders.default_folder("only-trained")
    trained.mkdir(parents=True)
    assert f"no run folder only-trained: name {trained}" in fails("evaluate", "only-trained")


def test_evaluate_refuses_what_is_no_run(trained: Path, tmp_path: Path) -> None:
    assert "no run folder" in fails("evaluate", tmp_path / "none")
    assert "cannot read" in fails("evaluate", tmp_path)
    shutil.copy(trained / "run" / "config.yaml", tmp_path)
    assert "neither" in fails("evaluate", tmp_path)
    assert "unknown split" in fails(
        "evaluate", trained / "run", "--split", "tests", "--data-root", trained / "data"
    )
    assert "no data set" in fails("evaluate", trained / "run", "--data-root", tmp_path)


@pytest.mark.parametrize(
    ("command", "fault", "match"),
    [
        *((command, "damaged", "is damaged") for command in ("train", "evaluate")),
        *((command, "other images", "images") for command in ("train", "evaluate")),
        ("train", ("model", "width", 8), "was trained with model.width=4"),
        ("evaluate", ("training", "batch_size", 4), "was trained with training.batch_size=8"),
        ("record", ("training", "betas", [0.5, 0.9]), "was trained with training.betas="),
    ],
)
def test_a_checkpoint_that_does_not_fit(
    command: str, fault: str | tuple[str, str, object], match: str, home: Path
) -> None:
    """Nor is a configuration believed that was edited by hand."""
    run = RunFolder(home / "run")
    if fault == "damaged":
        run.checkpoint.write_bytes(run.checkpoint.read_bytes()[:-100])
    elif fault == "other images":
        shutil.rmtree(home / "data")
        tiny.write_data(home / "data", seed=1)
    else:
        section, key, value = fault
        tree = yaml.safe_load(run.config.read_text())
        tree[section][key] = value
        run.config.write_text(yaml.safe_dump(tree))
    where = ("--resume", run.path) if command == "train" else (run.path,)
    assert match in fails(command, *where, "--data-root", home / "data")


def test_images_of_another_shape(home: Path) -> None:
    shutil.rmtree(home / "data")
    tiny.write_data(home / "data", side=10)
    said = fails("evaluate", home / "run", "--data-root", home / "data")
    assert "holds [1, 10, 10] train images" in said
