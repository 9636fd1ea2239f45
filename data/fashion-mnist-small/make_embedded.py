"""Make the embedded set again, from the full Fashion-MNIST: the same pixels every time.

    python data/fashion-mnist-small/make_embedded.py [DATA_ROOT]

Beside the images stands `croissant.json`, their description in the format Croissant 1.0 of
MLCommons, by which tools and search engines know a data set.

The rule: of each of the ten classes, the first 500 images of the published training split and the
first 100 of the published test split, kept in the published order.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from nvp.data.named import FASHION_MNIST_MD5
from nvp.data.on_disk import fingerprint
from nvp.data.sets import load
from nvp.files import write_text

HERE = Path(__file__).resolve().parent
PER_CLASS = {"train": 500, "test": 100}


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Positions, ascending, of the first `count` images of every class."""
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(10)]))


def make(folder: Path, root: str | None = None) -> None:
    """Write `images.npz`, `checksums.json` and `croissant.json` into `folder`."""
    arrays: dict[str, np.ndarray] = {}
    checksums: dict[str, object] = {
        "rule": "the first images of each class, in the published order",
        "made_from_md5": FASHION_MNIST_MD5,
    }
    for split, count in PER_CLASS.items():
        full = load("fashion-mnist", split, root=root)
        assert full.labels is not None
        chosen = first_of_each_class(full.labels.numpy(), count)
        images = full.images[chosen]
        arrays[f"{split}_images"] = images.permute(0, 2, 3, 1).numpy()
        arrays[f"{split}_labels"] = full.labels[chosen].numpy().astype(np.uint8)
        checksums[split] = {
            "images": len(images),
            "per_class": count,
            "sha256": fingerprint(images),
        }
    np.savez_compressed(folder / "images.npz", **arrays)
    write_text(folder / "checksums.json", json.dumps(checksums, indent=2) + "\n")
    write_text(folder / "croissant.json", json.dumps(croissant(folder), indent=2) + "\n")


def croissant(folder: Path) -> dict[str, Any]:
    """The description that is kept here, with the size and the checksum of the set in `folder`."""
    described: dict[str, Any] = json.loads((HERE / "croissant.json").read_text())
    archive = (folder / "images.npz").read_bytes()
    described["distribution"][0] |= {
        "contentSize": f"{len(archive)} B",
        "sha256": hashlib.sha256(archive).hexdigest(),
    }
    return described


if __name__ == "__main__":
    make(HERE, sys.argv[1] if len(sys.argv) > 1 else None)
