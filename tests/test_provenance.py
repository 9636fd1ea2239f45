"""Where a run was made: its legs, and the commit of the code."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from nvp.runs import provenance
from nvp.runs.folder import RunFolder
from nvp.training.start import start


def note(
    folder: RunFolder, before: dict[str, Any] | None = None, step: int = 0, **now: Any
) -> None:
    """Note this machine, for settings `now` after a checkpoint of the settings `before`."""
    settings = tiny.configuration(**now)
    began = settings if before is None else tiny.configuration(**before)
    leg = provenance.current_leg(torch.device("cpu"), "fp32")
    provenance.note_leg(folder, leg, step, began, settings)


def test_legs_are_the_machines_in_order(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert provenance.read_legs(folder) == []
    note(folder)
    note(folder)
    (here,) = provenance.read_legs(folder)
    elsewhere = here.model_copy(update={"gpu": "a GPU"})
    path = folder.legs
    path.write_text(json.dumps([elsewhere.model_dump()]))
    note(folder, step=1)
    assert [each.gpu for each in provenance.read_legs(folder)] == ["a GPU", None]
    changes = {"clip_norm": math.inf, "relative_step": 0.1}  # the first clips nothing
    note(folder, {"optimiser": "muon"}, optimiser="muon", **changes)
    expected = {f"training.{key}": value for key, value in changes.items()}
    assert provenance.read_legs(folder)[-1].changed == expected
    path.write_text("[")
    with tiny.refusal("damaged"):
        provenance.read_legs(folder)


def test_legs_before_the_first_checkpoint_trained_nothing(root: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    lost = provenance.current_leg(torch.device("cpu"), "bf16").model_copy(update={"gpu": "a GPU"})
    provenance.write_legs(folder, [lost])
    start(tiny.write_config(tmp_path / "tiny.yaml"), None, folder.path, data_root=root)
    (here,) = provenance.read_legs(folder)
    assert here.precision == "fp32"


@pytest.mark.parametrize(
    ("gpu", "processes", "hardware"),
    [
        (None, 1, "2 cores of a CPU"),
        (None, 4, "2 cores of a CPU in 4 processes"),
        ("a GPU", 1, "a GPU"),
        ("a GPU", 8, "8 x a GPU"),
    ],
)
def test_the_hardware_of_a_leg(gpu: str | None, processes: int, hardware: str) -> None:
    here = provenance.current_leg(torch.device("cpu"), processes=processes)
    leg = here.model_copy(update={"cpu": "a CPU", "cores": 2, "gpu": gpu})
    assert leg.hardware == hardware


def test_a_change_is_noted_once_and_against_the_checkpoint(tmp_path: Path) -> None:
    """Of the legs from step 5 on only the last reached a checkpoint; the others trained nothing."""
    folder = RunFolder(tmp_path)
    for step, rate in ((0, 1e-3), (5, 1e-4), (5, 1e-4), (5, 1e-3), (5, 1e-5), (6, 1e-5)):
        note(folder, {"learning_rate": 1e-5 if step == 6 else 1e-3}, step, learning_rate=rate)
    first, last = provenance.read_legs(folder)
    assert (first.changed, last.changed) == ({}, {"training.learning_rate": 1e-5})
    assert provenance.legs_until(folder, 5) == [first]
    assert provenance.legs_until(folder, 6) == [first, last]


def test_a_change_is_noted_by_the_machine_that_goes_on_with_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step, rate in ((0, 1e-3), (5, 1e-4)):
        note(folder, {"learning_rate": 1e-3}, step, learning_rate=rate)
    first, lost = provenance.read_legs(folder)
    provenance.write_legs(folder, [first, lost.model_copy(update={"cpu": "that was killed"})])
    note(folder, {"learning_rate": 1e-3}, 5, learning_rate=1e-4)
    _, here = provenance.read_legs(folder)
    assert (here.cpu, here.changed) == (lost.cpu, lost.changed)


def test_dropout_that_begins_later_is_noted(pixel_home: Path) -> None:
    run = pixel_home / "run"
    command = ("train", "--resume", run, "--data-root", pixel_home / "data")
    tiny.done(*command, "--set", "training.steps=4", "--set", "model.dropout=0.1")
    assert provenance.read_legs(RunFolder(run))[-1].changed == {"model.dropout": 0.1}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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


@pytest.mark.parametrize(
    ("folder", "place"), [("nvp", "../site-packages/nvp"), ("other", ".venv/site-packages/nvp")]
)
def test_the_commit_of_other_code_is_not_noted(
    folder: str, place: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For an installed package `repository_root()` may be any folder that one works in."""
    (checkout / "nvp").rename(checkout / folder)
    monkeypatch.setattr(provenance, "__file__", str(checkout / place / "provenance.py"))
    monkeypatch.setattr(provenance, "_git", lambda *_: "a commit of theirs")
    assert provenance.code_commit() is None


@pytest.mark.usefixtures("checkout")
def test_uncommitted_changes_to_the_code_are_noted(monkeypatch) -> None:
    said = {"rev-parse": "abc", "status": ""}
    monkeypatch.setattr(provenance, "_git", lambda _, what, *__: said[what])
    assert provenance.code_commit() == "abc"
    said["status"] = " M nvp/files.py"
    assert provenance.code_commit() == "abc+"
