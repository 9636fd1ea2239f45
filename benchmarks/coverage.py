"""How much of the test images samples of each family cover: `python -m benchmarks.coverage`.

Takes some minutes, and writes results_coverage.json, which the book reads. `--run NAME` measures
one recorded run and keeps what the file says of the others.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.processes import HERE
from nvp.data import EMBEDDED, load
from nvp.files import write_text
from nvp.ledger import runs
from nvp.model.protocol import ImageModel

RUNS = (
    *("fashion-mnist-vae", "fashion-mnist-gan", "fashion-mnist", "fashion-mnist-diagonal-bilstm"),
    *("fashion-mnist-diffusion", "fashion-mnist-gaussian", "fashion-mnist-tarflow"),
    *("fashion-small-diagonal-bilstm", "fashion-small-pixelcnn"),  # of 4,500 images
)
NEIGHBOUR = 5  # the one at which a ball ends
COUNT, SETS = 300, 3  # of samples


def small(images: Tensor) -> Tensor:
    """Means over 2x2 pixels, against grain: uint8 (N, 1, 28, 28) -> float64 in 0..1, (N, 196)."""
    return F.avg_pool2d(images.double() / 255, 2).flatten(1)


class Coverage:
    """The share of balls around test images that hold a sample (Naeem et al. 2020).

    A ball ends at the fifth nearest of the other test images.
    """

    def __init__(self, test: Tensor) -> None:
        self.centres = small(test)
        distances = torch.cdist(self.centres, self.centres)
        self.radii = distances.kthvalue(NEIGHBOUR + 1, dim=1).values  # the nearest is itself

    def __call__(self, images: Tensor) -> float:
        nearest = torch.cdist(self.centres, small(images)).amin(dim=1)
        return (nearest <= self.radii).double().mean().item()


def describe(
    sets: list[Tensor], coverage: Coverage, train: Tensor, labels: Tensor
) -> dict[str, Any]:
    """Of each set of images its coverage; of all, shares of classes and mean distance to `train`.

    The class of an image is that of the nearest training image.
    """
    nearest = torch.cdist(torch.cat([small(images) for images in sets]), small(train)).min(dim=1)
    shares = torch.bincount(labels[nearest.indices], minlength=10) / len(nearest.indices)
    return {
        "coverage": [coverage(images) for images in sets],
        "classes": shares.tolist(),
        "from_nearest_training_image": nearest.values.mean().item(),
    }


def samples(model: ImageModel) -> list[Tensor]:
    """`SETS` sets of `COUNT` samples, with seeds from 1."""
    seeds = range(1, SETS + 1)
    return [model.sample(COUNT, generator=torch.Generator().manual_seed(seed)) for seed in seeds]


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--run", choices=RUNS, action="append", help="repeatable; default: all")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    test, train = load(EMBEDDED, "test"), load(EMBEDDED, "train")
    assert train.labels is not None
    images, labels = train.images[:4500], train.labels[:4500]  # the rest is for validation
    coverage = Coverage(test.images)
    file = options.output / "results_coverage.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if (results.get("count"), results.get("seeds")) != (COUNT, SETS):
        results = {"count": COUNT, "seeds": SETS, "runs": {}}
    real = images[: COUNT * SETS].split(COUNT)
    of_test = describe([test.images], coverage, images, labels)
    results["real"] = of_test | {"coverage": [coverage(each) for each in real]}
    for name in options.run or RUNS:
        drawn = samples(runs()[name].load_model())
        results["runs"][name] = describe(drawn, coverage, images, labels)
        print(name, ", ".join(f"{share:.1%}" for share in results["runs"][name]["coverage"]))
        write_text(file, json.dumps(results, indent=1) + "\n")
    print(f"written to {file}")


if __name__ == "__main__":
    main()
