"""Going on with a recorded run: from its weights, its step and its minutes, in a folder anew."""

import shutil
from pathlib import Path

import pytest
import tiny
import torch
from ledgers import content, reopened

from nvp.data import splits
from nvp.data.sets import load
from nvp.ledger import enter as record
from nvp.ledger.entry import read_run
from nvp.runs.folder import RunFolder
from nvp.runs.log import read_log
from nvp.runs.tensors import load_tensors


@pytest.fixture
def entry(recorded: Path) -> Path:
    """The entry of the run in `trained`; do not change it."""
    return recorded / "runs" / "tiny"


def test_it_begins_where_the_record_ends(trained: Path, entry: Path, tmp_path: Path) -> None:
    state = reopened(entry, tmp_path, trained / "data").state
    recorded = read_run(entry)
    assert state.step == state.ema.n_averaged == 2
    assert state.minutes == state.validated == recorded.record.minutes
    weights = recorded.load_model().state_dict()
    for model in (state.model, state.average):
        torch.testing.assert_close(dict(model.state_dict()), weights, rtol=0, atol=0)
    # The images come in another order.
    before = load_tensors(RunFolder(trained / "run").checkpoint)[0]["order"]
    assert not torch.equal(state.order, before)
    assert torch.equal(state.order.sort().values, before.sort().values)


def test_training_goes_on_and_says_from_which_step(trained, entry, tmp_path, monkeypatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(splits, "load", lambda *a, **how: loaded.append(a[1]) or load(*a, **how))
    run = tmp_path / "run"
    command = ("train", "--resume", entry, "--run-folder", run, "--data-root", trained / "data")
    tiny.done(*command, "--set", "training.steps=4", "--set", "training.learning_rate=5e-4")
    assert sorted(loaded) == ["test", "train", "validation"]  # once each
    assert [row["step"] for row in read_log(run / "log.csv")] == [1, 2, 3, 4]
    legs = load_tensors(RunFolder(run).checkpoint)[1]["legs"]
    assert [(leg["reopened_at"], leg["from_step"]) for leg in legs] == [(None, 0), (2, 2)]
    assert legs[-1]["changed"] == {"training.learning_rate": 5e-4}
    again = record.record(run, data_root=trained / "data", first=20, root=tmp_path / "results")
    assert (again.record.steps, again.record.state) == (4, "finished")
    assert again.record.legs[-1].reopened_at == 2


def test_a_run_that_is_there_is_not_written_over(home: Path, entry: Path) -> None:
    before = content(home / "run")
    with tiny.refusal("holds a run already"):
        reopened(entry, home / "run", home / "data")
    assert content(home / "run") == before


@pytest.mark.parametrize(
    ("mistake", "complaint"),
    [
        (("--set", "training.stepz=4"), "stepz"),
        (("--set", "training.batch_size=3"), "a run that goes on may change only"),
        (("--set", "training.steps=4", "--device", "nothing"), "there is no device 'nothing'"),
        ((), "used up its budget, 2 steps in 0 minutes: raise it, as in --set training.steps=4"),
        (("--set", "training.steps=4", "--set", "training.minutes=1e-9"), "training.minutes=1"),
    ],
)
def test_what_is_refused_leaves_no_run(mistake, complaint, trained, entry, tmp_path: Path) -> None:
    where = ("--run-folder", tmp_path / "run", "--data-root", trained / "data")
    assert complaint in tiny.fails("train", "--resume", entry, *where, *mistake)
    assert not (tmp_path / "run").exists()


def test_other_training_images_are_refused(entry: Path, tmp_path: Path) -> None:
    tiny.write_data(tmp_path, seed=1)
    with tiny.refusal("the training images of tiny found here"):
        reopened(entry, tmp_path / "run", tmp_path)
    assert not (tmp_path / "run").exists()


def test_what_early_stopping_chose_stays_the_best(pixelrnn: Path, tmp_path: Path) -> None:
    """Of a run whose record has the weights of its second step of three."""
    data_root = pixelrnn / "data"
    entry = read_run(pixelrnn / "results" / "runs" / "tiny-pixelrnn")
    state = reopened(entry.folder, tmp_path, data_root).state
    _, second, _ = read_log(pixelrnn / "run" / "log.csv")
    assert dict(state.best) == {key: second[key] for key in ("step", "validation")}
    weights = entry.load_model().state_dict()
    torch.testing.assert_close(state.best_weights, weights, rtol=0, atol=0)
    bare = Path(shutil.copytree(entry.folder, tmp_path / entry.name))
    (bare / "log.csv").unlink()  # with the score of that step
    state = reopened(bare, tmp_path / "again", data_root).state
    assert (state.best.step, state.best.validation) == (2, entry.scores.validation.bits_per_dim)
    assert state.best_weights.keys() == weights.keys()
