"""What data there is: `nvp data list`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny import nvp

from nvp.data import catalogue, sets
from nvp.data.sets import EMBEDDED, EMBEDDED_BINARY
from nvp.tables.published import read_published


@pytest.mark.slow
def test_survey_tells_the_states_apart(idx_root: Path, npy_folder: Path) -> None:
    raw = idx_root / sets.IDX_FOLDERS["fashion-mnist"]
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"cut")
    shutil.copytree(npy_folder, idx_root / "celeba")
    (npy_folder / "test_images.npy").unlink()
    shutil.copy(idx_root / "celeba/test_images.npy", idx_root / "celeba/validation_images.npy")
    rows = {entry.name: entry for entry in catalogue.survey(idx_root)}
    assert rows[EMBEDDED_BINARY].state == "present"
    assert rows[EMBEDDED_BINARY].image_shape == (1, 28, 28)
    assert rows[EMBEDDED].state == "present"
    assert rows["mnist"].state == rows["celeba"].state == "incomplete"
    assert rows["mnist"].note.endswith("(published: 60,000 + 10,000 images)")
    assert rows["mnist"].images == {"train": 60, "test": 20}
    assert rows["celeba"].images == {"train": 40, "validation": 20, "test": 20}
    assert (rows["fashion-mnist"].state, rows["fashion-mnist"].images) == ("damaged", {"train": 60})
    assert (rows["cifar10"].state, rows["cifar10"].images["train"]) == ("missing", 50_000)
    assert (rows["binarized-mnist"].state, len(rows["binarized-mnist"].images)) == ("missing", 3)
    assert (rows["mine"].state, rows["mine"].images) == ("incomplete", {"train": 40})
    assert rows["mine"].image_shape == (3, 6, 5)
    assert rows["imagenet32"].state == "bring your own"
    assert rows["imagenet32"].note.startswith("nvp data import FOLDER imagenet32, where FOLDER")


def test_cli_list(npy_folder: Path) -> None:
    result = nvp("data", "list", "--data-root", npy_folder.parent)
    assert result.exit_code == 0
    rows = {line.split()[1]: line for line in result.stdout.splitlines() if "│" in line}
    assert "5,000" in rows[EMBEDDED]
    assert "present" in rows[EMBEDDED]
    assert "6x5x3" in rows["mine"]
    assert "nvp data get mnist" in rows["mnist"]
    assert "bring your own" in rows["lsun-tower"]
    assert "nvp data import FOLDER celeba" in result.stdout


def test_a_missing_set_of_the_papers_says_the_command_that_makes_it(tmp_path: Path) -> None:
    tables = read_published().tables
    wanted = {row.data for name in tables if name != "28x28" for row in tables[name]}
    notes = {entry.name: entry.note for entry in catalogue.survey(tmp_path)}
    for name in wanted - {"cifar10-validation"}:
        command = "nvp data get" if name in catalogue.DOWNLOADS else "nvp data import FOLDER"
        assert notes[name].startswith(f"{command} {name}")
