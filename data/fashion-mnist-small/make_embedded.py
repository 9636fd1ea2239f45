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

from nvp.data.named import FASHION_CLASSES, FASHION_MNIST_MD5
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
    """The description of the set in `folder`; its context is that of the specification."""
    archive = (folder / "images.npz").read_bytes()
    classes = ", ".join(f"{number} {name}" for number, name in enumerate(FASHION_CLASSES))
    arrays = (
        ("image", "sc:ImageObject", "An array of shape (28, 28, 1), values 0 to 255."),
        ("label", "sc:Integer", f"The class: {classes}."),
    )
    return {
        "@context": {
            "@language": "en",
            "@vocab": "https://schema.org/",
            "citeAs": "cr:citeAs",
            "column": "cr:column",
            "conformsTo": "dct:conformsTo",
            "cr": "http://mlcommons.org/croissant/",
            "rai": "http://mlcommons.org/croissant/RAI/",
            "data": {"@id": "cr:data", "@type": "@json"},
            "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
            "dct": "http://purl.org/dc/terms/",
            "equivalentProperty": "cr:equivalentProperty",
            "examples": {"@id": "cr:examples", "@type": "@json"},
            "extract": "cr:extract",
            "field": "cr:field",
            "fileProperty": "cr:fileProperty",
            "fileObject": "cr:fileObject",
            "fileSet": "cr:fileSet",
            "format": "cr:format",
            "includes": "cr:includes",
            "isLiveDataset": "cr:isLiveDataset",
            "jsonPath": "cr:jsonPath",
            "key": "cr:key",
            "md5": "cr:md5",
            "parentField": "cr:parentField",
            "path": "cr:path",
            "recordSet": "cr:recordSet",
            "references": "cr:references",
            "regex": "cr:regex",
            "repeated": "cr:repeated",
            "replace": "cr:replace",
            "samplingRate": "cr:samplingRate",
            "sc": "https://schema.org/",
            "separator": "cr:separator",
            "source": "cr:source",
            "subField": "cr:subField",
            "transform": "cr:transform",
        },
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "fashion-mnist-small",
        "description": (
            "5,000 training and 1,000 test images of Fashion-MNIST, 28x28 pixels, one channel of 8 "
            "bits: of each of the ten classes the first 500 of the published training split and "
            "the first 100 of the published test split, in the published order."
        ),
        "license": "https://opensource.org/license/mit",
        "url": "https://github.com/zalandoresearch/fashion-mnist",
        "creator": {"@type": "sc:Organization", "name": "Zalando SE"},
        "datePublished": "2017-08-25",
        "version": "1.0.0",
        "citeAs": (
            "Xiao, Rasul and Vollgraf. Fashion-MNIST: a Novel Image Dataset for Benchmarking "
            "Machine Learning Algorithms. arXiv:1708.07747, 2017."
        ),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "images.npz",
                "name": "images.npz",
                "description": "A zip archive of NumPy arrays, unsigned bytes.",
                "contentUrl": "images.npz",
                "contentSize": f"{len(archive)} B",
                "encodingFormat": "application/zip",
                "sha256": hashlib.sha256(archive).hexdigest(),
            },
            *(
                {
                    "@type": "cr:FileObject",
                    "@id": f"{split}_{what}.npy",
                    "name": f"{split}_{what}.npy",
                    "contentUrl": f"{split}_{what}.npy",
                    "containedIn": {"@id": "images.npz"},
                    "encodingFormat": "application/octet-stream",
                }
                for split in PER_CLASS
                for what in ("images", "labels")
            ),
        ],
        "recordSet": [_records(split, *array) for split in PER_CLASS for array in arrays],
    }


def _records(split: str, what: str, kind: str, description: str) -> dict[str, Any]:
    """The entries of one array: the format joins arrays by a key, and theirs is the position."""
    name = f"{split}_{what}s"
    field = {
        "@type": "cr:Field",
        "@id": f"{name}/{what}",
        "name": f"{name}/{what}",
        "description": description,
        "dataType": kind,
        "source": {"fileObject": {"@id": f"{name}.npy"}, "extract": {"fileProperty": "content"}},
    }
    number = f"{10 * PER_CLASS[split]:,} {what}s, images and labels in the same order."
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": number,
        "field": [field],
    }


if __name__ == "__main__":
    make(HERE, sys.argv[1] if len(sys.argv) > 1 else None)
