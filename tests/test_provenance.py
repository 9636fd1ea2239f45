"""Where a run was made: its legs, and the commit of the code."""

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from nvp.runs import provenance
from nvp.runs.folder import RunFolder
from nvp.runs.provenance import Leg, current_leg, note_leg
from nvp.runs.tensors import load_tensors
from nvp.tables.cells import short


def note(legs: list[Leg], before: dict[str, Any] | None = None, step: int = 0, **now: Any) -> None:
    """Note this machine, for settings `now` after a checkpoint of the settings `before`."""
    settings = tiny.configuration(**now)
    began = settings if before is None else tiny.configuration(**before)
    note_leg(legs, current_leg(torch.device("cpu"), "fp32"), step, began, settings)


def test_legs_are_the_machines_in_order() -> None:
    legs: list[Leg] = []
    note(legs)
    note(legs)
    (here,) = legs
    settings = tiny.configuration()
    note_leg(legs, here.model_copy(update={"reopened_at": 5}), 5, settings, settings)
    assert [each.reopened_at for each in legs] == [None, 5]
    legs = [here.model_copy(update={"gpu": "a GPU"})]
    note(legs, step=1)
    assert [each.gpu for each in legs] == ["a GPU", None]
    changes = {"clip_norm": math.inf, "relative_step": 0.1}  # the first clips nothing
    note(legs, {"optimiser": "muon"}, optimiser="muon", **changes)
    assert legs[-1].changed == {f"training.{key}": value for key, value in changes.items()}


def test_the_hardware_of_a_leg() -> None:
    for processes, shared, several in ((1, "", ""), (4, " in 4 processes", "4 x ")):
        leg = current_leg(torch.device("cpu"), processes=processes)
        leg = leg.model_copy(update={"cpu": "a CPU", "cores": 2})
        assert leg.hardware == f"2 cores of a CPU{shared}"
        assert leg.model_copy(update={"gpu": "a GPU"}).hardware == f"{several}a GPU"
    assert current_leg(torch.device("mps")).hardware == "mps"  # and no core of a CPU


def test_a_change_is_noted_once() -> None:
    legs: list[Leg] = []
    for step, before, rate in ((0, 1e-3, 1e-3), (5, 1e-3, 1e-5), (6, 1e-5, 1e-5)):
        note(legs, {"learning_rate": before}, step, learning_rate=rate)
    assert [leg.changed for leg in legs] == [{}, {"training.learning_rate": 1e-5}]
    assert [leg.from_step for leg in legs] == [0, 5]


@pytest.mark.parametrize("setting", ["model.dropout", "training.weight_decay"])
def test_what_begins_later_against_overfitting_is_noted(setting: str, pixel_home: Path) -> None:
    run = pixel_home / "run"
    command = ("train", "--resume", run, "--data-root", pixel_home / "data")
    tiny.done(*command, "--set", "training.steps=4", "--set", f"{setting}=0.1")
    assert load_tensors(RunFolder(run).checkpoint)[1]["legs"][-1]["changed"] == {setting: 0.1}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch) -> Path:
    """A folder in the place of this repository, with the package in `nvp`, and no NVP_COMMIT."""
    (tmp_path / "nvp").mkdir()
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "nvp" / "provenance.py"))
    monkeypatch.setattr(provenance, "repository_root", lambda: tmp_path)
    monkeypatch.delenv("NVP_COMMIT", raising=False)
    return tmp_path


@pytest.mark.usefixtures("checkout")
def test_without_git_the_commit_comes_from_the_environment(monkeypatch) -> None:
    assert provenance.code_commit() is None
    monkeypatch.setenv("NVP_COMMIT", "abc")
    assert provenance.code_commit() == "abc"


def test_the_commit_of_other_code_is_not_noted(checkout: Path, monkeypatch) -> None:
    """For an installed package `repository_root()` may be any folder that one works in."""
    monkeypatch.setattr(provenance, "__file__", str(checkout / ".venv/site-packages/nvp/runs.py"))
    monkeypatch.setattr(provenance, "_git", lambda *_: "a commit of theirs")
    assert provenance.code_commit() is None


@pytest.mark.usefixtures("checkout")
def test_uncommitted_changes_to_the_code_are_noted(monkeypatch) -> None:
    status = ("status", "--porcelain", "--", "nvp", "examples")
    said = {("rev-parse", "HEAD"): "abc", status: ""}
    monkeypatch.setattr(provenance, "_git", lambda _, *what: said[what])
    assert provenance.code_commit() == "abc"
    said[status] = " M nvp/files.py"
    assert current_leg(torch.device("cpu")).commit == "abc+"
    assert short("0123456789abcd+") == "012345678+"
