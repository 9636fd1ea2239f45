"""Named sets: what loads, what is refused and how, and the embedded set."""

import json
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sources import refused
from tiny import done

from nvp import paths
from nvp.data import EMBEDDED, EMBEDDED_BINARY, MissingData, catalogue, load
from nvp.data.formats import NoValidationSplit
from nvp.data.named import NAMED
from nvp.data.on_disk import fingerprint
from nvp.tables.published import read_published

EMBEDDED_FOLDER = paths.embedded_root() / EMBEDDED
FULL_ROOT = paths.data_root()  # that of NVP_DATA, which the tests themselves do not see


@pytest.mark.parametrize(("split", "count"), [("train", 5000), ("test", 1000)])
def test_embedded_set_is_balanced_and_has_its_checksum(split: str, count: int) -> None:
    dataset = load(EMBEDDED, split)
    recorded = json.loads((EMBEDDED_FOLDER / "checksums.json").read_text())[split]
    assert dataset.images.dtype == torch.uint8
    assert dataset.image_shape == (1, 28, 28)
    assert dataset.labels.dtype == torch.int64
    assert dataset.labels.bincount().tolist() == [count // 10] * 10
    assert dataset.checksum == recorded["sha256"]
    assert len(dataset) == recorded["images"] == count


def make_embedded() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(EMBEDDED_FOLDER / "make_embedded.py")))


@pytest.mark.skipif(
    not (FULL_ROOT / "FashionMNIST/raw/train-images-idx3-ubyte").is_file(),
    reason=f"the full Fashion-MNIST is not under {FULL_ROOT}: nvp data get fashion-mnist",
)
def test_embedded_set_is_made_again_bit_for_bit(tmp_path: Path) -> None:
    """From both splits of the published set, whose md5s are compared as they are loaded."""
    make_embedded().make(tmp_path, str(FULL_ROOT))
    kept, made = (folder / "checksums.json" for folder in (EMBEDDED_FOLDER, tmp_path))
    assert made.read_text() == kept.read_text()
    with np.load(EMBEDDED_FOLDER / "images.npz") as a, np.load(tmp_path / "images.npz") as b:
        np.testing.assert_equal(dict(b), dict(a))


def test_damaged_embedded_set(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / EMBEDDED
    shutil.copytree(EMBEDDED_FOLDER, folder)
    monkeypatch.setattr("nvp.data.named.embedded_root", lambda: tmp_path)
    archive = folder / "images.npz"
    whole = archive.read_bytes()

    with np.load(archive) as arrays:
        altered = {key: arrays[key].copy() for key in arrays}
    altered["test_images"][0, 14, 14, 0] ^= 1
    np.savez(archive, **altered)
    refused("was altered, its pixels miss their SHA-256", EMBEDDED, "test")

    archive.write_bytes(whole[:100_000])
    refused("damaged .*: restore it with `git checkout", EMBEDDED, "test")
    archive.write_bytes(whole[:100_000] + bytes(100) + whole[100_100:])
    refused("damaged .*: restore it with `git checkout", EMBEDDED, "train")
    archive.unlink()
    refused("the embedded set is missing", EMBEDDED, "train", error=MissingData)


def test_limit_keeps_the_first_images_and_labels_and_their_own_checksums() -> None:
    few, all_ = load(EMBEDDED, "test", limit=7), load(EMBEDDED, "test")
    assert torch.equal(few.images, all_.images[:7])
    assert torch.equal(few.labels, all_.labels[:7])
    assert few.checksum == fingerprint(all_.images[:7]) != all_.checksum
    assert few.labels_checksum == fingerprint(all_.labels[:7]) != all_.labels_checksum
    assert len(load(EMBEDDED, "test", limit=5000)) == 1000


def test_splits_limits_and_places_that_cannot_be() -> None:
    refused("unknown split 'valid': use one of train, validation, test", EMBEDDED, "valid")
    refused("limit must be at least 1, got 0", EMBEDDED, "test", limit=0)
    refused("crop must be at least 1, got 0", EMBEDDED, "test", crop=0)
    refused("limit must be a whole number, got 1.5", EMBEDDED, "test", limit=1.5)
    place = "~nosuchuser/images"
    for name, root in (("mine", place), (place, "/nowhere")):
        refused("cannot find the home folder of '~nosuchuser", name, "test", root=root)
    refused("(cannot read|no data set) '?x{300}", "x" * 300, "test")  # before Python 3.14, or since


def test_sets_without_a_validation_split_say_so(idx_root: Path, npy_folder: Path) -> None:
    for name in ("mnist", "fashion-mnist", "cifar10", EMBEDDED, EMBEDDED_BINARY, npy_folder):
        match = "has no validation split: use train or test; training holds the last"
        refused(match, name, "validation", root=idx_root, error=NoValidationSplit)
    shutil.copy(npy_folder / "test_images.npy", npy_folder / "validation_images.npy")
    assert len(load(npy_folder, "validation")) == 20


@pytest.mark.parametrize(("split", "start"), [("train", "79cbd299108e"), ("test", "77b7ae9b2848")])
def test_binarised_images_follow_their_pixels_and_stay_alike(split: str, start: str) -> None:
    grey, binary = load(EMBEDDED, split), load(EMBEDDED_BINARY, split)
    assert binary.checksum.startswith(start)
    assert torch.equal(load(EMBEDDED_BINARY, split, limit=5).images, binary.images[:5])
    assert torch.equal(binary.labels, grey.labels)
    # P(1) = pixel / 255: never for 0, always for 255, and in between as a coin would have it.
    assert not binary.images[grey.images == 0].any()
    assert (binary.images[grey.images == 255] == 1).all()
    for low, high in ((1, 85), (85, 170), (170, 255)):
        some = (grey.images >= low) & (grey.images < high)
        expected = grey.images[some].double() / 255
        error = (expected * (1 - expected)).sum().sqrt() / some.sum()
        assert abs(binary.images[some].double().mean() - expected.mean()) < 4 * error


def test_missing_sets_say_what_to_do(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)  # only the extra `cli` brings it
    for name in ("mnist", "fashion-mnist", "cifar10"):
        remedy = f"run `nvp data get {name}`.*embedded {EMBEDDED}"
        refused(remedy, name, "test", root=tmp_path, error=MissingData)
    remedy = "no data set 'mnits': use one of `nvp data list`, or a folder .*; `nvp data import"
    refused(remedy, "mnits", "test", root=tmp_path)
    refused("by its name under .*gone, which does not exist;", "x", "test", root=tmp_path / "gone")
    remedy = "celeba is missing under .*, or run nvp data import FOLDER celeba, where .* img_align"
    refused(remedy, "celeba", "test", root=tmp_path, error=MissingData)


def test_data_root_order(tmp_path: Path, monkeypatch) -> None:
    assert paths.data_root() == paths.repository_root() / "data"
    monkeypatch.setenv("NVP_DATA", str(tmp_path))
    assert paths.data_root() == tmp_path
    assert paths.data_root("~/elsewhere") == Path.home() / "elsewhere"
    monkeypatch.chdir(tmp_path)
    assert paths.data_root("here") == tmp_path / "here"


def test_repository_is_found_from_any_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.results_root() == paths.repository_root() / "results"
    assert (paths.repository_root() / "pyproject.toml").is_file()
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages/nvp/paths.py"))
    assert paths.repository_root() == tmp_path
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "nvp").mkdir()
    (tmp_path / "deep/down").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep/down")
    assert paths.repository_root() == tmp_path


def test_the_description_is_of_the_files_here_and_has_what_croissant_1_requires() -> None:
    """By the specification, sections on schema.org/Dataset, resources and record sets."""
    recorded = json.loads((EMBEDDED_FOLDER / "croissant.json").read_text())
    assert recorded == make_embedded().croissant(EMBEDDED_FOLDER)
    inside = {each["contentUrl"] for each in recorded["distribution"] if "containedIn" in each}
    with np.load(EMBEDDED_FOLDER / "images.npz") as arrays:
        assert inside == {f"{name}.npy" for name in arrays}
    required = ("@context", "@type", "conformsTo", "description", "license", "name", "url")
    assert all(recorded[key] for key in (*required, "creator", "datePublished"))
    assert recorded["@type"] == "sc:Dataset"
    assert recorded["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    files = {each["@id"]: each for each in recorded["distribution"]}
    for file in files.values():
        assert {"@type", "@id", "name", "contentUrl", "encodingFormat"} <= file.keys()
        assert ("sha256" in file) != ("containedIn" in file)
    for records in recorded["recordSet"]:
        for field in records["field"]:
            assert field["@id"].startswith(f"{records['@id']}/")
            assert field["dataType"].startswith("sc:")
            assert field["source"]["fileObject"]["@id"] in files


@pytest.mark.slow
def test_survey_tells_the_states_apart(idx_root: Path, npy_folder: Path) -> None:
    raw = idx_root / "FashionMNIST/raw"
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"cut")
    shutil.copytree(npy_folder, idx_root / "celeba")
    (npy_folder / "test_images.npy").unlink()
    shutil.copy(idx_root / "celeba/test_images.npy", idx_root / "celeba/validation_images.npy")
    rows = {entry.name: entry for entry in catalogue.survey(idx_root)}
    assert rows[EMBEDDED_BINARY].state == "present"
    assert rows[EMBEDDED_BINARY].image_shape == (1, 28, 28)
    assert rows["mnist"].state == rows["celeba"].state == "incomplete"
    remedy = "60,000 + 10,000; for all, rename this folder, then run nvp data get mnist)"
    assert rows["mnist"].note.endswith(remedy)
    assert rows["mnist"].images == {"train": 60, "test": 20}
    assert rows["celeba"].images == {"train": 40, "validation": 20, "test": 20}
    assert (rows["fashion-mnist"].state, rows["fashion-mnist"].images) == ("damaged", {"train": 60})
    assert (rows["cifar10"].state, rows["cifar10"].images["train"]) == ("missing", 50_000)
    assert (rows["binarized-mnist"].state, len(rows["binarized-mnist"].images)) == ("missing", 3)
    assert (rows["mine"].state, rows["mine"].images) == ("incomplete", {"train": 40})


def test_cli_list(npy_folder: Path) -> None:
    lines = done("data", "list", "--data-root", npy_folder.parent).splitlines()
    rows = {line.split()[1]: line for line in lines if "│" in line}
    assert "5,000" in rows[EMBEDDED]
    assert "present" in rows[EMBEDDED]
    assert "6x5x3" in rows["mine"]
    assert "bring your own" in rows["lsun-tower"]


def test_a_missing_set_of_the_papers_says_the_command_that_makes_it(tmp_path: Path) -> None:
    tables = read_published().tables
    wanted = {row.data for name in tables if name != "28x28" for row in tables[name]}
    notes = {entry.name: entry.note for entry in catalogue.survey(tmp_path)}
    for name in wanted - {"cifar10-validation"}:
        command = "nvp data get" if NAMED[name].download else "nvp data import FOLDER"
        assert notes[name].startswith(f"{command} {name}")
