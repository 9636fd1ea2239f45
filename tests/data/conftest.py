"""Small data sets in the formats of their publishers, which count as the published ones."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from nvp.data import named


@pytest.fixture(autouse=True)
def no_data_root_from_outside(monkeypatch) -> None:
    monkeypatch.delenv("NVP_DATA", raising=False)


@pytest.fixture
def idx_root(tmp_path: Path, monkeypatch) -> Path:
    """Four small IDX files, which count as the published MNIST and as Fashion-MNIST."""
    rng, md5 = np.random.default_rng(0), {}
    for prefix, count in (("train", 60), ("t10k", 20)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            body = rng.integers(0, 10, shape, dtype=np.uint8).tobytes()
            content = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape) + body
            md5[f"{prefix}-{kind}-ubyte"] = hashlib.md5(content).hexdigest()
            for kept_in in ("MNIST", "FashionMNIST"):
                (folder := tmp_path / kept_in / "raw").mkdir(parents=True, exist_ok=True)
                (folder / f"{prefix}-{kind}-ubyte").write_bytes(content)
    for name, kept_in in (("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")):
        monkeypatch.setitem(named.NAMED, name, named.idx(name, kept_in, md5))
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


@pytest.fixture
def amat_root(tmp_path: Path, monkeypatch) -> Path:
    """Three small text files that count as the published ones: 30, 10 and 20 images."""
    rng, folder, md5 = np.random.default_rng(0), tmp_path / "binarized_mnist", {}
    folder.mkdir()
    for file, count in zip(named.BINARIZED_MNIST_MD5, (30, 10, 20), strict=True):
        rows = rng.integers(0, 2, (count, 784), dtype=np.uint8)
        content = "".join(" ".join(map(str, row)) + "\n" for row in rows).encode()
        (folder / file).write_bytes(content)
        md5[file] = hashlib.md5(content).hexdigest()
    monkeypatch.setitem(named.NAMED, "binarized-mnist", named.binarized_mnist(md5))
    return tmp_path
