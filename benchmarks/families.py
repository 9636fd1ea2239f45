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
from nvp.config import RunConfig, load_config
from nvp.data import EMBEDDED, load
from nvp.files import write_text
from nvp.paths import repository_root
from nvp.training.allocator import keep_freed_memory
from nvp.training.loop import training_step
from nvp.training.state import begin

CONFIGS = (
    "fashion-mnist-gaussian",
    "fashion-mnist-vae",
    "fashion-mnist-gan",
    "fashion-mnist",
    "fashion-mnist-diagonal-bilstm",
    "fashion-mnist-diffusion",
)
BATCH, REPEATS = 64, 5

Work = tuple[Callable[[], object], int]  # what to call, and for how many images


def prepare(config: RunConfig, images: Tensor) -> dict[str, Work]:
    """The work to time, each for so many images: training, scoring (no GAN) and sampling."""
    state = begin(config, torch.device("cpu"), len(images))
    model, settings, few = state.average, config.training, images[:BATCH]
    work: dict[str, Work] = {"train": (lambda: training_step(state, few, settings, 0), BATCH)}
    if model.fitted_in_closed_form:
        work["train"] = (lambda: state.model.initialise(images), len(images))
    if model.likelihood != "none":
        work["score"] = (lambda: model.log_prob(few), BATCH)
    work["sample"] = (lambda: model.sample(BATCH), BATCH)
    model.eval()
    return work


def measure() -> dict[str, Any]:
    """Seconds of each repeat, divided by the images that it took; the families take turns.

    The first call of everything is not counted. A Gaussian trains on all images at once.
    """
    images = load(EMBEDDED, "train").images
    configs = {name: load_config(repository_root() / f"configs/{name}.yaml") for name in CONFIGS}
    work = {name: prepare(config, images) for name, config in configs.items()}
    times: dict[str, dict[str, list[float]]] = {
        name: {what: [] for what in those} for name, those in work.items()
    }
    for turn in range(REPEATS + 1):
        for name, those in work.items():
            for what, (call, count) in those.items():
                started = time.process_time()
                with torch.set_grad_enabled(what == "train"):
                    call()
                took = time.process_time() - started
                if turn:
                    times[name][what].append(took / count)
    return {"batch": BATCH, "machine": machine(), "seconds_an_image": times}


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
