"""The cost of an image for each family of models: `python -m benchmarks.families`, in some minutes.

Writes results_families.json, which the book reads. Times are those of one processor core, as the
operating system counts them for this process: they hold on a machine that is not idle, too.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.processes import HERE, machine
from nvp.data import EMBEDDED, load
from nvp.files import write_text
from nvp.ledger import runs
from nvp.model.protocol import ImageModel
from nvp.training.allocator import keep_freed_memory

RUNS = (
    "fashion-mnist-gaussian",
    "fashion-mnist-vae",
    "fashion-mnist-gan",
    "fashion-mnist",
    "fashion-mnist-diagonal-bilstm",
    "fashion-mnist-diffusion",
)
BATCH, REPEATS = 64, 5


def prepare(model: ImageModel, images: Tensor) -> dict[str, Callable[[], object]]:
    """The work to time: scoring `images` (no GAN) and sampling as many."""
    work: dict[str, Callable[[], object]] = {"sample": lambda: model.sample(len(images))}
    if model.likelihood != "none":
        work["score"] = lambda: model.log_prob(images)
    return work


@torch.no_grad()
def measure() -> dict[str, Any]:
    """Seconds of each repeat, divided by the images that it took; the families take turns.

    The first call of everything is not counted.
    """
    conditions = machine()  # before any load of its own
    images = load(EMBEDDED, "test").images[:BATCH]
    recorded = runs()
    work = {name: prepare(recorded[name].load_model(), images) for name in RUNS}
    times: dict[str, dict[str, list[float]]] = {
        name: {what: [] for what in those} for name, those in work.items()
    }
    for turn in range(REPEATS + 1):
        for name, those in work.items():
            for what, call in those.items():
                started = time.process_time()
                call()
                took = time.process_time() - started
                if turn:
                    times[name][what].append(took / BATCH)
    return {"batch": BATCH, "machine": conditions, "seconds_an_image": times}


def main(arguments: list[str] | None = None) -> None:
    """Measure, print medians, and write every measurement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.families", description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    results = measure()
    for name, times in results["seconds_an_image"].items():
        shown = ", ".join(f"{what} {1000 * median(t):.3g} ms" for what, t in times.items())
        print(f"{name}: {shown} an image")
    file = options.output / "results_families.json"
    write_text(file, json.dumps(results, indent=1) + "\n")
    print(f"written to {file}")


if __name__ == "__main__":
    main()
