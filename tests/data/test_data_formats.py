"""Formats of files: read as others read them, and refused when damaged."""

import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from sources import refused, write_cifar10

from nvp.data import EMBEDDED_BINARY, MissingData, load


@pytest.mark.parametrize(("split", "count"), [("train", 30), ("validation", 10), ("test", 20)])
def test_amat_is_read_as_numpy_reads_it(split: str, count: int, amat_root: Path) -> None:
    dataset = load("binarized-mnist", split, root=amat_root)
    file = f"binarized_mnist_{'valid' if split == 'validation' else split}.amat"
    expected = np.loadtxt(amat_root / "binarized_mnist" / file)
    assert dataset.images.shape == (count, 1, 28, 28)
    assert dataset.images.dtype == torch.uint8
    assert np.array_equal(dataset.images.reshape(count, 784).numpy(), expected)
    assert dataset.labels is None


def test_damaged_amat_files(amat_root: Path) -> None:
    path = amat_root / "binarized_mnist" / "binarized_mnist_valid.amat"
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


def test_idx_is_read_as_torchvision_reads_it(idx_root: Path) -> None:
    from torchvision.datasets import MNIST, FashionMNIST

    for name, reader in (("mnist", MNIST), ("fashion-mnist", FashionMNIST)):
        for split in ("train", "test"):
            ours = load(name, split, root=idx_root)
            theirs = reader(str(idx_root), train=split == "train")
            assert torch.equal(ours.images[:, 0], theirs.data)
            assert torch.equal(ours.labels, theirs.targets)


def test_damaged_idx_files(idx_root: Path) -> None:
    path = idx_root / "MNIST/raw/train-images-idx3-ubyte"
    whole = path.read_bytes()
    remedy = "run `nvp data get mnist` to replace it"
    path.write_bytes(whole[:-1])
    sizes = "its header declares 47040 bytes of data, the file holds 47039"
    refused(f"{path} is truncated or damaged: {sizes}: {remedy}", "mnist", "train", root=idx_root)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(f"{path} was altered: its md5 is .*: {remedy}", "mnist", "train", root=idx_root)
    for broken in (b"", whole[:10], b"\x1f\x8b" + whole[2:]):
        path.write_bytes(broken)
        refused(f"{path} is not an IDX file", "mnist", "train", root=idx_root)
    path.unlink()
    refused("mnist: the train split is missing", "mnist", "train", root=idx_root, error=MissingData)


def test_npy_round_trip_by_path_and_by_name(npy_folder: Path, monkeypatch) -> None:
    stored = np.load(npy_folder / "train_images.npy")
    for dataset in (load(npy_folder, "train"), load("mine", "train", root=npy_folder.parent)):
        assert dataset.image_shape == (3, 6, 5)
        assert np.array_equal(dataset.images.permute(0, 2, 3, 1).numpy(), stored)
        assert dataset.labels.tolist() == list(range(40))
    np.save(npy_folder / "train_images.npy", np.asfortranarray(stored))
    monkeypatch.chdir(npy_folder.parent)
    assert load("mine", "train", root="elsewhere").checksum == dataset.checksum
    npy_folder.rename("celeba")  # a name of a published set is no path
    refused("celeba is missing under", "celeba", "train", root="elsewhere", error=MissingData)


def test_labels_are_optional_but_must_fit(npy_folder: Path) -> None:
    labels = npy_folder / "test_labels.npy"
    for wrong in (np.zeros(19, np.int64), np.zeros(20), np.zeros((20, 1), np.uint8)):
        np.save(labels, wrong)
        refused("one integer for each of the 20 images", npy_folder, "test")
    vectors = np.zeros((20, 2))
    for wrong in (vectors + 1e300, vectors - np.inf, np.full(20, 2**63, np.uint64)):
        np.save(labels, wrong)
        refused("test_labels.npy holds NaN or infinity, or a number beyond", npy_folder, "test")
    np.save(labels, vectors - 0.5)  # attributes
    assert (load(npy_folder, "test").labels == -0.5).all()
    labels.unlink()
    assert load(npy_folder, "test").labels is None


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (np.zeros((4, 8, 8, 3), np.int64), "holds int64 values, images must be uint8 in 0..255"),
        (np.zeros((4, 8, 8), np.uint8), r"has shape \(4, 8, 8\), images must be \(N, H, W, C\)"),
        (np.zeros((4, 3, 8, 8), np.uint8), "with 1 or 3 channels"),
        (np.zeros((0, 8, 8, 3), np.uint8), "N at least 1"),
        (np.array([{}], dtype=object), "no .npy file of plain numbers"),
    ],
)
def test_npy_files_of_the_wrong_kind(npy_folder: Path, images: np.ndarray, match: str) -> None:
    np.save(npy_folder / "test_images.npy", images)
    refused(match, npy_folder, "test")


def test_damaged_npy_files(npy_folder: Path) -> None:
    path = npy_folder / "test_images.npy"
    whole = path.read_bytes()
    headers = [
        whole.replace(old, new)
        for old, new in (
            (b"(20,", b"'20,"),  # a string that does not end
            (b"'|u1'", b"'|01'"),  # no literal of Python
            (b"(20, 6, 5, 3), }          ", b"(99999999999999999999,), }"),
        )
    ]
    assert whole not in headers
    ends = (whole[:-1], whole[:50], b"", b"no array", b"PK\x03\x04 and no more")
    for broken in (*headers, *ends):
        path.write_bytes(broken)
        refused(f"{path} is truncated, damaged, or no .npy file", npy_folder, "test")
    path.write_text("no array")
    refused(r"data[^.]*\): write it again", npy_folder, "test")  # not: load it unsafely
    with path.open("wb") as file:
        np.savez(file, images=np.zeros((4, 8, 8, 3), np.uint8))
    refused("it is an archive", npy_folder, "test")
    path.unlink()
    refused("mine: the test split is missing", npy_folder, "test", error=MissingData)


def test_unreadable_file(npy_folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(np, "load", Mock(side_effect=PermissionError(13, "Permission denied")))
    refused(f"cannot read {npy_folder} .*Permission denied", npy_folder, "test")


def test_cifar10_from_torchvisions_layout(npy_folder: Path, tmp_path: Path, monkeypatch) -> None:
    rows = write_cifar10(tmp_path, monkeypatch)
    dataset = load("cifar10", "train", root=tmp_path)
    assert np.array_equal(dataset.images[2].flatten().numpy(), rows["data_batch_2"][0])
    assert dataset.labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    test = load("cifar10", "test", root=tmp_path)
    assert np.array_equal(test.images.flatten(1).numpy(), rows["test_batch"])
    assert test.labels.tolist() == [5, 9]
    with (tmp_path / "cifar-10-batches-py/data_batch_1").open("ab") as file:
        file.write(b"!")
    refused("its md5s are not the published ones", "cifar10", "train", root=tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torchvision.datasets", None)
        refused(r"pip install '\.\[cli\]'", "cifar10", "train", root=tmp_path)
    own = npy_folder.rename(tmp_path / "cifar10")  # which goes first, in all splits
    assert len(load("cifar10", "train", root=tmp_path)) == 40
    (own / "test_images.npy").rename(own / "validation_images.npy")
    assert len(load("cifar10", "validation", root=tmp_path)) == 20
