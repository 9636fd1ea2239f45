"""How much a seed changes the families: `python -m benchmarks.seeds FOLDER ...`.

Each folder holds a finished run of a recorded configuration on Fashion-MNIST with another seed.
Scores it on all test images, measures its coverage, and adds both to results_seeds.json, which the
book reads.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.coverage import Coverage, samples
from benchmarks.processes import HERE
from nvp.config import differences
from nvp.data import EMBEDDED, load
from nvp.errors import NVPError
from nvp.files import write_text
from nvp.ledger import runs
from nvp.ledger.entry import Run
from nvp.ledger.scoring import score, scored_images
from nvp.likelihood import summarise
from nvp.runs.load import TrainedRun, load_run

FREE = {"training.minutes", "training.steps", "training.precision"}  # may differ; results say so


def check(run: TrainedRun, entries: Mapping[str, Run]) -> None:
    """Raise `NVPError` unless `run` is finished, and an entry has its settings and another seed."""
    config, training = run.config, run.training
    if training is None:
        raise NVPError(f"{config.name} is a recorded run: give the folder of a run by nvp train")
    where = training.checkpoint.path
    if config.name not in entries or not config.data.name.startswith("fashion-mnist"):
        raise NVPError(f"{where}: no run on Fashion-MNIST is recorded as {config.name}")
    recorded = entries[config.name].config
    other = differences(config, recorded).keys() - FREE - {"training.seed"}
    if other:
        raise NVPError(f"{where} has other settings than {config.name}: {', '.join(sorted(other))}")
    if config.training.seed == recorded.training.seed:
        raise NVPError(f"{where} has the seed of {config.name}: train it with another")
    if config.training.spent(training.header.step, training.header.minutes) < 1:
        raise NVPError(f"{where} is not finished: go on with nvp train --resume")
    if config.model.num_classes:
        raise NVPError(f"{where}: {config.name} is conditional, and samples here have no labels")


def describe(run: TrainedRun, coverage: Coverage) -> dict[str, Any]:
    """Score, coverage and origin of a run."""
    assert run.training is not None
    header, images = run.training.header, scored_images(run, "test")
    found: dict[str, Any] = {}
    if run.model.likelihood != "none":
        test = summarise(score(run, images, "test"))
        found |= {"bits_per_dim": test.bits_per_dim, "standard_error": test.standard_error}
    return found | {
        "coverage": [coverage(drawn) for drawn in samples(run.model)],
        "steps": header.step,
        "minutes": header.minutes,
        "precision": header.precision.value,
        "legs": [leg.model_dump() for leg in header.legs],
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeds", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="+", help="of a run by nvp train")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    coverage = Coverage(load(EMBEDDED, "test").images)
    file, entries = options.output / "results_seeds.json", runs()
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for folder in options.folder:
        try:
            run = load_run(folder)
            check(run, entries)
        except NVPError as error:
            parser.error(str(error))
        name, seed = run.config.name, str(run.config.training.seed)
        found = describe(run, coverage)
        results.setdefault(name, {})[seed] = found
        write_text(file, json.dumps(results, indent=1, sort_keys=True) + "\n")
        print(f"{name}, seed {seed}:", ", ".join(f"{share:.1%}" for share in found["coverage"]))
    print(f"written to {file}")


if __name__ == "__main__":
    main()
