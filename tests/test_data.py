"""Data: what loads, what is refused and how, and the embedded set."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from nvp import paths
from nvp.cli import app
from nvp.data import catalogue, download
from nvp.data import sets as data
from nvp.data.sets import EMBEDDED, EMBEDDED_BINARY, MissingData, NoValidationSplit, load
from nvp.errors import NVPError

EMBEDDED_FOLDER = paths.embedded_root() / EMBEDDED


@pytest.fixture(autouse=True)
def no_data_root_from_outside(request: pytest.FixtureRequest, monkeypatch) -> None:
    if "full_root" not in request.fixturenames:
        monkeypatch.delenv("NVP_DATA", raising=False)


@pytest.fixture
def full_root() -> Path:
    """A data root with all of Fashion-MNIST."""
    root = paths.data_root()
    if not (root / "FashionMNIST/raw/train-images-idx3-ubyte").is_file():
        pytest.skip(f"the full Fashion-MNIST is not under {root}: nvp data get fashion-mnist")
    return root


@pytest.fixture
def idx_root(tmp_path: Path, monkeypatch) -> Path:
    """Four small IDX files, which count as the published MNIST and as Fashion-MNIST."""
    rng, md5 = np.random.default_rng(0), {}
    for prefix, count in (("train", 60), ("t10k", 20)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            body = rng.integers(0, 10, shape, dtype=np.uint8).tobytes()
            content = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape) + body
            md5[f"{prefix}-{kind}-ubyte"] = hashlib.md5(content).hexdigest()
            for folder in data.IDX_FOLDERS.values():
                (tmp_path / folder).mkdir(parents=True, exist_ok=True)
                (tmp_path / folder / f"{prefix}-{kind}-ubyte").write_bytes(content)
    monkeypatch.setattr(data, "IDX_MD5", dict.fromkeys(data.IDX_FOLDERS, md5))
    monkeypatch.setattr(download, "IDX_MD5", data.IDX_MD5)
    return tmp_path


@pytest.fixture
def npy_folder(tmp_path: Path) -> Path:
    """A user's own set: 40 and 20 colour images of 6x5 pixels."""
    folder, rng = tmp_path / "mine", np.random.default_rng(0)
    folder.mkdir()
    for split, count in (("train", 40), ("test", 20)):
        images = rng.integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)
        np.save(folder / f"{split}_images.npy", images)
        np.save(folder / f"{split}_labels.npy", np.arange(count, dtype=np.uint8))
    return folder


def refused(match: str, *args, error: type[NVPError] = NVPError, **kwargs) -> None:
    """`load` refuses with one line that says `match`."""
    with pytest.raises(error, match=match) as caught:
        load(*args, **kwargs)
    assert "\n" not in str(caught.value)


# The embedded set.


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


def test_embedded_set_is_small_and_carries_its_licence() -> None:
    assert sum(path.stat().st_size for path in EMBEDDED_FOLDER.iterdir()) < 3_000_000
    licence = (EMBEDDED_FOLDER / "LICENSE").read_text(encoding="utf-8")
    assert "The MIT License (MIT) Copyright © 2017 Zalando SE" in licence
    assert "Permission is hereby granted, free of charge" in licence


def make_embedded() -> ModuleType:
    path = EMBEDDED_FOLDER / "make_embedded.py"
    spec = importlib.util.spec_from_file_location("make_embedded", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_subset_rule_takes_the_first_of_each_class_in_order() -> None:
    labels = np.arange(40) * 3 % 10
    chosen = make_embedded().first_of_each_class(labels, 2)
    assert chosen.tolist() == list(range(20))
    assert make_embedded().first_of_each_class(labels[::-1], 1).tolist() == list(range(10))


def test_embedded_set_is_made_again_bit_for_bit(full_root: Path, tmp_path: Path) -> None:
    make_embedded().make(tmp_path, str(full_root))
    kept, made = (
        json.loads((f / "checksums.json").read_text()) for f in (EMBEDDED_FOLDER, tmp_path)
    )
    assert kept == made
    with np.load(EMBEDDED_FOLDER / "images.npz") as a, np.load(tmp_path / "images.npz") as b:
        assert sorted(a) == sorted(b)
        assert all(np.array_equal(a[key], b[key]) for key in a)


def test_damaged_embedded_set(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / EMBEDDED
    shutil.copytree(EMBEDDED_FOLDER, folder)
    monkeypatch.setattr(data, "embedded_root", lambda: tmp_path)
    archive = folder / "images.npz"
    whole = archive.read_bytes()

    with np.load(archive) as arrays:
        altered = {key: arrays[key].copy() for key in arrays}
    altered["test_images"][0, 14, 14, 0] ^= 1
    np.savez_compressed(archive, **altered)
    refused("was altered, its pixels miss their SHA-256", EMBEDDED, "test")

    archive.write_bytes(whole[:100_000])
    refused("damaged .*: restore it with `git checkout", EMBEDDED, "test")
    archive.write_bytes(whole[:100_000] + bytes(100) + whole[100_100:])
    refused("damaged .*: restore it with `git checkout", EMBEDDED, "train")
    archive.unlink()
    refused("the embedded set is missing", EMBEDDED, "train", error=MissingData)


# Splits and the checksum.


def test_limit_keeps_the_first_images_and_their_own_checksum() -> None:
    few, all_ = load(EMBEDDED, "test", limit=7), load(EMBEDDED, "test")
    assert torch.equal(few.images, all_.images[:7])
    assert torch.equal(few.labels, all_.labels[:7])
    assert few.checksum == data.fingerprint(all_.images[:7]) != all_.checksum
    assert len(load(EMBEDDED, "test", limit=5000)) == 1000


def test_checksum_is_of_shape_and_pixels() -> None:
    images = torch.arange(24, dtype=torch.uint8).reshape(1, 2, 3, 4)
    assert data.fingerprint(images) == hashlib.sha256(b"1,2,3,4" + bytes(range(24))).hexdigest()
    assert data.fingerprint(images.reshape(2, 1, 3, 4)) != data.fingerprint(images)


def test_unknown_split_and_bad_limit() -> None:
    refused("unknown split 'valid': use one of train, validation, test", EMBEDDED, "valid")
    refused("limit must be at least 1 image, got 0", EMBEDDED, "test", limit=0)


def test_sets_without_a_validation_split_say_so(idx_root: Path, npy_folder: Path) -> None:
    for name in ("mnist", "fashion-mnist", "cifar10", EMBEDDED, EMBEDDED_BINARY, npy_folder):
        match = "has no validation split: use train or test; training holds the last"
        refused(match, name, "validation", root=idx_root, error=NoValidationSplit)
    shutil.copy(npy_folder / "test_images.npy", npy_folder / "validation_images.npy")
    assert len(load(npy_folder, "validation")) == 20


# Binary images.


@pytest.fixture
def amat_root(tmp_path: Path, monkeypatch) -> Path:
    """Three small text files that count as the published ones: 30, 10 and 20 images."""
    rng, folder, md5 = np.random.default_rng(0), tmp_path / data.AMAT_FOLDER, {}
    folder.mkdir()
    for file, count in zip(data.AMAT_MD5, (30, 10, 20), strict=True):
        rows = rng.integers(0, 2, (count, 784), dtype=np.uint8)
        content = "".join(" ".join(map(str, row)) + "\n" for row in rows).encode()
        (folder / file).write_bytes(content)
        md5[file] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(data, "AMAT_MD5", md5)
    monkeypatch.setattr(download, "AMAT_MD5", md5)
    return tmp_path


@pytest.mark.parametrize(("split", "count"), [("train", 30), ("validation", 10), ("test", 20)])
def test_amat_is_read_as_numpy_reads_it(split: str, count: int, amat_root: Path) -> None:
    dataset = load("binarized-mnist", split, root=amat_root)
    file = f"binarized_mnist_{'valid' if split == 'validation' else split}.amat"
    expected = np.loadtxt(amat_root / data.AMAT_FOLDER / file)
    assert dataset.images.shape == (count, 1, 28, 28)
    assert dataset.images.dtype == torch.uint8
    assert np.array_equal(dataset.images.reshape(count, 784).numpy(), expected)
    assert dataset.labels is None
    few = load("binarized-mnist", split, root=amat_root, limit=3)
    assert torch.equal(few.images, dataset.images[:3])


def test_damaged_amat_files(amat_root: Path) -> None:
    path = amat_root / data.AMAT_FOLDER / "binarized_mnist_valid.amat"
    whole = path.read_bytes()
    remedy = "run `nvp data get binarized-mnist` to replace it"
    for broken in (whole[:-1], b"", b"0 1\n"):
        path.write_bytes(broken)
        match = f"{path} is truncated or damaged.*{remedy}"
        refused(match, "binarized-mnist", "validation", root=amat_root)
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    match = f"{path} was altered: its md5 is .*{remedy}"
    refused(match, "binarized-mnist", "validation", root=amat_root)
    path.unlink()
    match = f"the validation split is missing .*embedded {EMBEDDED_BINARY}"
    refused(match, "binarized-mnist", "validation", root=amat_root, error=MissingData)


def test_the_embedded_set_is_binarised_by_its_pixels() -> None:
    grey, binary = load(EMBEDDED, "train"), load(EMBEDDED_BINARY, "train")
    assert binary.images.shape == grey.images.shape
    assert torch.equal(binary.labels, grey.labels)
    assert set(binary.images.unique().tolist()) == {0, 1}
    # P(1) = pixel / 255: never for 0, always for 255, and in between as a coin would have it.
    assert not binary.images[grey.images == 0].any()
    assert binary.images[grey.images == 255].all()
    for low, high in ((1, 85), (85, 170), (170, 255)):
        some = (grey.images >= low) & (grey.images < high)
        expected = grey.images[some].double() / 255
        error = (expected * (1 - expected)).sum().sqrt() / some.sum()
        assert abs(binary.images[some].double().mean() - expected.mean()) < 4 * error


@pytest.mark.parametrize(("split", "start"), [("train", "79cbd299108e"), ("test", "77b7ae9b2848")])
def test_the_binarised_images_are_always_the_same(split: str, start: str) -> None:
    images = load(EMBEDDED_BINARY, split)
    assert images.checksum.startswith(start)
    few = load(EMBEDDED_BINARY, split, limit=5)
    assert torch.equal(few.images, images.images[:5])


# IDX files.


@pytest.mark.parametrize("name", list(data.IDX_FOLDERS))
def test_idx_round_trip(idx_root: Path, name: str) -> None:
    dataset = load(name, "test", root=idx_root)
    raw = (idx_root / data.IDX_FOLDERS[name] / "t10k-images-idx3-ubyte").read_bytes()
    assert dataset.images.shape == (20, 1, 28, 28)
    assert dataset.images.numpy().tobytes() == raw[16:]
    assert len(dataset.labels) == 20


def test_idx_is_read_as_torchvision_reads_it(idx_root: Path) -> None:
    from torchvision.datasets import MNIST

    ours, theirs = load("mnist", "train", root=idx_root), MNIST(str(idx_root), train=True)
    assert torch.equal(ours.images[:, 0], theirs.data)
    assert torch.equal(ours.labels, theirs.targets)


def test_published_md5s_are_the_sets_themselves(full_root: Path) -> None:
    dataset = load("fashion-mnist", "test", root=full_root)
    assert dataset.images.shape == (10_000, 1, 28, 28)
    assert dataset.labels.bincount().tolist() == [1000] * 10


def test_damaged_idx_files(idx_root: Path) -> None:
    path = idx_root / "MNIST/raw/train-images-idx3-ubyte"
    whole = path.read_bytes()
    remedy = "run `nvp data get mnist` to replace it"
    path.write_bytes(whole[:-1])
    refused(
        f"{path} is truncated or damaged: its header declares 47040 bytes of data, the file holds "
        f"47039: {remedy}",
        *("mnist", "train"),
        root=idx_root,
    )
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(f"{path} was altered: its md5 is .*: {remedy}", "mnist", "train", root=idx_root)
    for broken in (b"", whole[:10], b"\x1f\x8b" + whole[2:]):
        path.write_bytes(broken)
        refused(f"{path} is not an IDX file", "mnist", "train", root=idx_root)
    path.unlink()
    refused("mnist: the train split is missing", "mnist", "train", root=idx_root, error=MissingData)


# Folders of .npy files.


def test_npy_round_trip_by_path_and_by_name(npy_folder: Path, monkeypatch) -> None:
    stored = np.load(npy_folder / "train_images.npy")
    for dataset in (load(npy_folder, "train"), load("mine", "train", root=npy_folder.parent)):
        assert dataset.image_shape == (3, 6, 5)
        assert np.array_equal(dataset.images.permute(0, 2, 3, 1).numpy(), stored)
        assert dataset.labels.tolist() == list(range(40))
    monkeypatch.chdir(npy_folder.parent)
    assert load("mine", "test", root="elsewhere").checksum == load(npy_folder, "test").checksum


def test_labels_are_optional_but_must_fit(npy_folder: Path) -> None:
    labels = npy_folder / "test_labels.npy"
    for wrong in (np.zeros(19, np.int64), np.zeros(20), np.zeros((20, 1), np.uint8)):
        np.save(labels, wrong)
        refused("one integer for each of the 20 images", npy_folder, "test")
    labels.unlink()
    assert load(npy_folder, "test").labels is None


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (
            np.zeros((4, 8, 8, 3), np.float32),
            "holds float32 values, images must be uint8 in 0..255",
        ),
        (np.zeros((4, 8, 8, 3), np.int64), "holds int64 values"),
        (np.zeros((4, 8, 8), np.uint8), r"has shape \(4, 8, 8\), images must be \(N, H, W, C\)"),
        (np.zeros((4, 3, 8, 8), np.uint8), "with 1 or 3 channels"),
        (np.zeros((4, 8, 8, 4), np.uint8), "with 1 or 3 channels"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"has shape \(0, 8, 8, 3\)"),
        (np.array([{}], dtype=object), "no .npy file of plain numbers"),
    ],
)
def test_npy_files_of_the_wrong_kind(npy_folder: Path, images: np.ndarray, match: str) -> None:
    np.save(npy_folder / "test_images.npy", images)
    refused(match, npy_folder, "test")


def test_damaged_npy_files(npy_folder: Path) -> None:
    path = npy_folder / "test_images.npy"
    whole = path.read_bytes()
    for broken in (whole[:-1], whole[:50], b"", b"no array"):
        path.write_bytes(broken)
        refused(f"{path} is truncated, damaged, or no .npy file", npy_folder, "test")
    with path.open("wb") as file:
        np.savez(file, images=np.zeros((4, 8, 8, 3), np.uint8))
    refused("it is an archive", npy_folder, "test")
    path.unlink()
    refused("mine: the test split is missing", npy_folder, "test", error=MissingData)


@pytest.mark.parametrize("file", ["test_images.npy", "test_labels.npy"])
def test_npy_headers_with_a_wrong_bit(npy_folder: Path, file: str) -> None:
    """What is read is a set of images, or it is refused: never an error of NumPy's own."""
    path = npy_folder / file
    whole, refusals = path.read_bytes(), 0
    for bit in range(8 * 128):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        try:
            load(npy_folder, "test")
        except NVPError:
            refusals += 1
    assert refusals > 900


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(20,", b"'20,"),  # a string that does not end
        (b"'|u1'", b"'|01'"),  # no literal of Python
        (b"(20, 6, 5, 3), }          ", b"(99999999999999999999,), }"),
    ],
)
def test_damaged_npy_headers(old: bytes, new: bytes, npy_folder: Path) -> None:
    path = npy_folder / "test_images.npy"
    whole = path.read_bytes()
    assert old in whole
    path.write_bytes(whole.replace(old, new))
    refused(f"{path} is truncated, damaged, or no .npy file", npy_folder, "test")


def test_unreadable_file(npy_folder: Path, monkeypatch) -> None:
    def denied(*args, **kwargs) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "load", denied)
    refused(f"cannot read {npy_folder} .*Permission denied", npy_folder, "test")


def test_missing_sets_say_what_to_do(tmp_path: Path) -> None:
    for name in ("mnist", "fashion-mnist", "cifar10"):
        remedy = f"run `nvp data get {name}`.*embedded {EMBEDDED}"
        refused(remedy, name, "test", root=tmp_path, error=MissingData)
    refused("no data set 'mnits': use mnist, .* or a folder", "mnits", "test", root=tmp_path)


# CIFAR-10.


def test_cifar10_from_npy_files_goes_first(npy_folder: Path) -> None:
    npy_folder.rename(npy_folder.with_name("cifar10"))
    assert len(load("cifar10", "train", root=npy_folder.parent)) == 40


def write_torchvision_cifar10(root: Path, monkeypatch) -> np.ndarray:
    """A small set in torchvision's layout, listed with its md5s; returns the training images."""
    import pickle

    from torchvision.datasets import CIFAR10

    folder = root / CIFAR10.base_folder
    folder.mkdir()
    rows = np.random.default_rng(0).integers(0, 256, (4, 3 * 32 * 32), dtype=np.uint8)
    batches = {
        "data_batch_1": {"data": rows, "labels": [3, 1, 4, 1]},
        "test_batch": {"data": rows[:2], "labels": [5, 9]},
        "batches.meta": {"label_names": ["plane"]},
    }
    md5 = {}
    for file, content in batches.items():
        (folder / file).write_bytes(pickle.dumps(content))
        md5[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", md5["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5["batches.meta"]})
    return rows.reshape(4, 3, 32, 32)


def test_cifar10_from_torchvisions_layout(tmp_path: Path, monkeypatch) -> None:
    images = write_torchvision_cifar10(tmp_path, monkeypatch)
    dataset = load("cifar10", "train", root=tmp_path)
    assert np.array_equal(dataset.images.numpy(), images)
    assert dataset.labels.tolist() == [3, 1, 4, 1]
    with (tmp_path / "cifar-10-batches-py/data_batch_1").open("ab") as file:
        file.write(b"!")
    refused("its md5s are not the published ones", "cifar10", "train", root=tmp_path)


# Where things are.


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


# What there is.


def test_survey_tells_the_states_apart(idx_root: Path, npy_folder: Path) -> None:
    raw = idx_root / data.IDX_FOLDERS["fashion-mnist"]
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"cut")
    shutil.copytree(npy_folder, idx_root / "celeba")
    (npy_folder / "test_images.npy").unlink()
    shutil.copy(idx_root / "celeba/test_images.npy", idx_root / "celeba/validation_images.npy")
    rows = {entry.name: entry for entry in catalogue.survey(idx_root)}
    assert rows[EMBEDDED_BINARY].state == "present"
    assert rows[EMBEDDED].state == rows["mnist"].state == rows["celeba"].state == "present"
    assert rows["mnist"].images == {"train": 60, "test": 20}
    assert rows["celeba"].images == {"train": 40, "validation": 20, "test": 20}
    assert (rows["fashion-mnist"].state, rows["fashion-mnist"].images) == ("damaged", {"train": 60})
    assert (rows["cifar10"].state, rows["cifar10"].images["train"]) == ("missing", 50_000)
    assert (rows["binarized-mnist"].state, len(rows["binarized-mnist"].images)) == ("missing", 3)
    assert (rows["mine"].state, rows["mine"].images) == ("incomplete", {"train": 40})
    assert rows["mine"].image_shape == (3, 6, 5)
    assert rows["imagenet32"].state == "bring your own"
    assert rows["imagenet32"].note.startswith("https://image-net.org/")


# Downloads, with the network played by these tests.


@pytest.fixture
def no_network(monkeypatch) -> None:
    def refuse(*args, **kwargs) -> None:
        raise OSError("no network here")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", refuse)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", refuse)
    monkeypatch.setattr(download, "DEBIAN_FOLDER", Path("/nowhere/fashion-mnist"))
    monkeypatch.setattr(shutil, "which", lambda name: None)


@pytest.fixture
def debian(idx_root: Path, tmp_path_factory, no_network, monkeypatch) -> Path:
    """An installed dataset-fashion-mnist that holds the files of `idx_root`."""
    folder = tmp_path_factory.mktemp("debian")
    for file in data.IDX_MD5["fashion-mnist"]:
        content = (idx_root / "FashionMNIST/raw" / file).read_bytes()
        (folder / f"{file}.gz").write_bytes(gzip.compress(content))
    monkeypatch.setattr(download, "DEBIAN_FOLDER", folder)
    return folder


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "binarized-mnist", "cifar10"])
@pytest.mark.usefixtures("no_network")
def test_failed_download_says_what_to_do_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(NVPError, match=f"could not download {name} .*no network here") as caught:
        download.get(name, tmp_path)
    assert "\n" not in str(caught.value)
    assert "or put " in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_fashion_mnist_falls_back_to_debians_package(debian: Path, tmp_path: Path) -> None:
    root = tmp_path / "new" / "root"
    assert download.get("fashion-mnist", root) == root / "FashionMNIST/raw"
    assert len(load("fashion-mnist", "train", root=root)) == 60
    assert [path.name for path in root.iterdir()] == ["FashionMNIST"]


def serve(monkeypatch, source: Path) -> list[str]:
    """Answer torchvision's downloads from a folder; returns the addresses as they are asked for."""
    asked: list[str] = []

    def retrieve(url: str, filename: str, *args, **kwargs) -> None:
        asked.append(url)
        shutil.copy(source / Path(url).name, filename)

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **kwargs: url)
    return asked


def test_binarised_mnist_comes_from_its_publisher(
    amat_root: Path, tmp_path_factory, monkeypatch
) -> None:
    root = tmp_path_factory.mktemp("new") / "root"
    asked = serve(monkeypatch, amat_root / data.AMAT_FOLDER)
    assert download.get("binarized-mnist", root) == root / "binarized_mnist"
    where = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/binarized_mnist_"
    assert asked == [f"{where}{part}.amat" for part in ("train", "valid", "test")]
    assert len(load("binarized-mnist", "validation", root=root)) == 10
    assert [path.name for path in root.iterdir()] == ["binarized_mnist"]
    download.get("binarized-mnist", root)
    assert len(asked) == 3


def test_an_altered_download_of_binarised_mnist_is_refused(
    amat_root: Path, tmp_path_factory, monkeypatch
) -> None:
    root = tmp_path_factory.mktemp("new")
    path = amat_root / data.AMAT_FOLDER / "binarized_mnist_test.amat"
    path.write_bytes(path.read_bytes()[:-2] + b"2\n")
    serve(monkeypatch, path.parent)
    with pytest.raises(NVPError, match=r"could not download binarized-mnist .*corrupted"):
        download.get("binarized-mnist", root)
    assert list(root.iterdir()) == []


def test_download_replaces_a_damaged_copy_and_keeps_a_sound_one(
    debian: Path, idx_root: Path
) -> None:
    path = idx_root / "FashionMNIST/raw/train-images-idx3-ubyte"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    download.get("fashion-mnist", idx_root)
    assert path.read_bytes() == whole
    shutil.rmtree(debian)
    download.get("fashion-mnist", idx_root)


def test_altered_package_is_not_put_in_place(debian: Path, tmp_path: Path) -> None:
    file = debian / "t10k-labels-idx1-ubyte.gz"
    content = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(content[:-1] + bytes([content[-1] ^ 1])))
    with pytest.raises(NVPError, match="was altered"):
        download.get("fashion-mnist", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_download_with_apt(debian: Path, tmp_path: Path, monkeypatch) -> None:
    def run(command: list[str], *, cwd: Path, **kwargs) -> None:
        if command[0] == "apt-get":
            (cwd / "package.deb").touch()
        else:
            assert command[2].endswith("package.deb")
            shutil.copytree(debian, cwd / "elsewhere/fashion-mnist")

    monkeypatch.setattr(download, "DEBIAN_FOLDER", Path("/elsewhere/fashion-mnist"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", lambda command, **kwargs: run(list(command), **kwargs))
    download.get("fashion-mnist", tmp_path / "new")
    assert len(load("fashion-mnist", "test", root=tmp_path / "new")) == 20


def test_data_root_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NVPError, match="cannot write mnist under"):
        download.get("mnist", tmp_path / "file" / "root")


def test_a_users_own_damaged_cifar10_is_not_replaced(npy_folder: Path) -> None:
    own = npy_folder.rename(npy_folder.with_name("cifar10"))
    (own / "test_images.npy").write_bytes(b"cut")
    with pytest.raises(NVPError, match=r"write it again with numpy\.save"):
        download.get("cifar10", own.parent)


# The command line.


def test_cli_list(npy_folder: Path) -> None:
    result = CliRunner().invoke(app, ["data", "list", "--data-root", str(npy_folder.parent)])
    assert result.exit_code == 0
    rows = {line.split()[1]: line for line in result.stdout.splitlines() if "│" in line}
    assert "5,000" in rows[EMBEDDED]
    assert "present" in rows[EMBEDDED]
    assert "6x5x3" in rows["mine"]
    assert "nvp data get mnist" in rows["mnist"]
    assert "bring your own" in rows["lsun-tower"]
    assert "train_images.npy" in result.stdout


@pytest.mark.parametrize(
    ("name", "match"),
    [
        (
            "nothing",
            "no download is known for 'nothing': use mnist, fashion-mnist, binarized-mnist",
        ),
        ("celeba", "get it from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"),
        (EMBEDDED, "comes with the repository and needs no download"),
        (EMBEDDED_BINARY, "comes with the repository and needs no download"),
    ],
)
def test_cli_get_of_what_cannot_be_got(name: str, match: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["data", "get", name, "--data-root", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("nvp: ")
    assert match in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_cli_get(debian: Path, tmp_path: Path) -> None:
    root = tmp_path / "new"
    result = CliRunner().invoke(app, ["data", "get", "fashion-mnist", "--data-root", str(root)])
    assert result.exit_code == 0
    assert result.stdout == f"fashion-mnist is ready in {root / 'FashionMNIST/raw'}\n"


def test_cli_as_a_process_has_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nvp.cli", "data", "get", "mnist"]
    (tmp_path / "file").touch()
    result = subprocess.run(
        [*command, "--data-root", str(tmp_path / "file")],
        capture_output=True,
        text=True,
        cwd=paths.repository_root(),
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"nvp: cannot write mnist under {tmp_path / 'file'}")
    assert len(result.stderr.splitlines()) == 1
