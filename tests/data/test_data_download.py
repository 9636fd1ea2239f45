"""Downloads, with the network played by these tests."""

import errno
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from tiny import done, fails, refusal

from nvp.data import EMBEDDED, EMBEDDED_BINARY, download, load
from nvp.data.named import NAMED


def network(monkeypatch, retrieve: Callable[..., None]) -> None:
    """Let torchvision fetch an address, and write it to a file, so."""
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **kwargs: url)


@pytest.mark.parametrize("name", [name for name, known in NAMED.items() if known.download])
def test_a_download_that_fails_leaves_nothing(name: str, tmp_path: Path, monkeypatch) -> None:
    for code, match in (
        (0, f"could not download {name} .*no network here.*or put "),
        (errno.ENOSPC, f"cannot write {name} under .*free some space"),
    ):
        network(monkeypatch, Mock(side_effect=OSError(code, "no network here")))
        with refusal(match):
            download.get(name, tmp_path)
        assert list(tmp_path.iterdir()) == []


def serve(monkeypatch, source: Path) -> list[str]:
    """Answer torchvision's downloads from a folder; returns the addresses as they are asked for."""
    asked: list[str] = []

    def retrieve(url: str, filename: str, *args, **kwargs) -> None:
        asked.append(url)
        shutil.copy(source / Path(url).name, filename)

    network(monkeypatch, retrieve)
    return asked


def test_binarised_mnist_is_fetched_once(amat_root: Path, tmp_path_factory, monkeypatch) -> None:
    """From its publisher, and again only where the copy is damaged."""
    root = tmp_path_factory.mktemp("new") / "root"
    asked = serve(monkeypatch, amat_root / "binarized_mnist")
    assert download.get("binarized-mnist", root) == root / "binarized_mnist"
    where = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/binarized_mnist_"
    assert asked == [f"{where}{part}.amat" for part in ("train", "valid", "test")]
    assert len(load("binarized-mnist", "validation", root=root)) == 10
    assert [path.name for path in root.iterdir()] == ["binarized_mnist"]
    path = root / "binarized_mnist" / "binarized_mnist_train.amat"
    whole = path.read_bytes()
    for held, downloads in ((whole, 3), (whole[:-5], 6), (whole, 6)):
        path.write_bytes(held)
        download.get("binarized-mnist", root)
        assert path.read_bytes() == whole
        assert len(asked) == downloads


def test_an_altered_download_is_refused(amat_root: Path, tmp_path_factory, monkeypatch) -> None:
    root = tmp_path_factory.mktemp("new")
    path = amat_root / "binarized_mnist" / "binarized_mnist_test.amat"
    path.write_bytes(path.read_bytes()[:-2] + b"2\n")
    serve(monkeypatch, path.parent)
    with refusal(r"could not download binarized-mnist .*corrupted"):
        download.get("binarized-mnist", root)
    assert list(root.iterdir()) == []


@pytest.fixture
def no_fetching(monkeypatch) -> None:
    monkeypatch.setattr(download, "_fetch", lambda *_: pytest.fail("fetched all the same"))


def test_a_users_own_damaged_cifar10_is_not_replaced(npy_folder: Path, no_fetching) -> None:
    own = npy_folder.rename(npy_folder.with_name("cifar10"))
    (own / "test_images.npy").write_bytes(b"cut")
    with refusal(r"write it again with numpy\.save"):
        download.get("cifar10", own.parent)
    (own / "test_images.npy").unlink()
    with refusal(r"the test split is missing .*: add it$"):
        download.get("cifar10", own.parent)


@pytest.mark.parametrize("folder", ["binarized_mnist", "cifar-10-batches-py"])
def test_a_set_in_the_place_of_a_download_stays(folder, npy_folder: Path, no_fetching) -> None:
    own = npy_folder.rename(npy_folder.with_name(folder))
    with refusal(f"{folder} is a data set of your own, .*: rename it"):
        download.get("cifar10" if "cifar" in folder else "binarized-mnist", own.parent)


def test_cli_get_of_what_cannot_be_got(tmp_path: Path) -> None:
    for name, match in {
        "nothing": "no download is known for 'nothing': use mnist, fashion-mnist, ",
        "celeba": "'celeba': if it is missing, run nvp data import FOLDER celeba, where",
        EMBEDDED_BINARY: f": if it is missing, run git checkout -- data/{EMBEDDED}",
    }.items():
        assert match in fails("data", "get", name, "--data-root", tmp_path)


def test_cli_get(amat_root: Path) -> None:
    told = done("data", "get", "binarized-mnist", "--data-root", amat_root)
    folder = amat_root / "binarized_mnist"
    assert told.startswith(f"binarized-mnist is incomplete: {folder} (published: 50,000 + 10,000")
    (file := amat_root / "file").touch()
    line = fails("data", "get", "binarized-mnist", "--data-root", file)
    assert f"cannot write binarized-mnist under {file}" in line


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_torchvision_fetches(name, kind, idx_root: Path, tmp_path_factory, monkeypatch) -> None:
    """By the right class, not for ever, and the archives go."""
    timeouts = []

    def fetch(root: str, *, download: bool) -> None:
        timeouts.append(socket.getdefaulttimeout())
        folder = f"{kind}/raw"
        (shutil.copytree(idx_root / folder, Path(root, folder)) / "images.gz").touch()

    for each in ("MNIST", "FashionMNIST"):
        monkeypatch.setattr(f"torchvision.datasets.{each}", fetch if each == kind else None)
    root = tmp_path_factory.mktemp("new")
    folder = download.get(name, root)
    assert len(load(name, "train", root=root)) == 60
    assert timeouts == [download.STALLED_SECONDS]
    assert socket.getdefaulttimeout() is None
    assert not list(folder.glob("*.gz"))


def test_a_copy_that_cannot_be_read_stays(idx_root: Path, no_fetching, monkeypatch) -> None:
    monkeypatch.setattr(Path, "open", Mock(side_effect=PermissionError(13, "denied")))
    with refusal("cannot read .*denied"):
        download.get("mnist", idx_root)
