"""The worth of single choices: variants of one configuration, and their recorded scores.

`workflow/ablation.py` makes the runs.
"""

import csv
import hashlib
import io
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field

from nvp.config import RunConfig, load_config
from nvp.errors import NVPError, first_fault
from nvp.files import read, read_yaml, write_text
from nvp.model.config import Section
from nvp.paths import repository_root, results_root


class Variant(Section):
    """The base configuration with the changes `set`, written as "model.width=4".

    `seeds` are those of the ablation where the variant has none of its own.
    """

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    title: str
    set: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


class Ablation(Section):
    """A base configuration, variants of it, the baseline first, and the seeds of each."""

    base: Path
    seeds: tuple[int, ...] = Field(min_length=1)
    variants: tuple[Variant, ...] = Field(min_length=1)

    @property
    def baseline(self) -> Variant:
        return self.variants[0]

    @property
    def runs(self) -> dict[tuple[str, int], Variant]:
        """The variant of each run, by its name and the seed."""
        return {(v.name, seed): v for v in self.variants for seed in v.seeds or self.seeds}

    def config(self, variant: Variant, seed: int) -> RunConfig:
        """One run: the variant's model, with the seed for weights, data order and noise."""
        named = [f"name={variant.name}-{seed}", f"training.seed={seed}"]
        return load_config(self.base, [*variant.set, *named])

    def settings(self, variant: Variant) -> str:
        """A short hash of a variant's settings, stored in each of its rows."""
        asked = [read_yaml(read(self.base).decode()), variant.set]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]


class VariantRun(Section):
    """One run. Scores are bits/dim with one set of noise; `train` is the loss, penalty included.

    `train_halfway` and `train` are means over the last steps up to half of all steps, and up to the
    end; `standard_error` is that of `test` over its images; `seconds` are those of the steps.
    `curve` holds the means of the loss over each `training.log_every` steps, separated by spaces.
    """

    variant: str
    seed: int
    steps: int
    seconds: float
    train_halfway: float
    train: float
    validation: float
    test: float
    standard_error: float
    parameters: int
    settings: str
    commit: str
    hardware: str
    torch: str
    finished: str  # UTC date
    curve: str = ""
    precision: str = ""  # of the networks; empty: not noted


def load_ablation(path: Path) -> Ablation:
    """Read a YAML file; `base` is relative to it. Raises `NVPError` where it is not an ablation."""
    try:
        ablation = Ablation.model_validate(read_yaml(path.read_text()))
    except (OSError, ValueError) as error:
        raise NVPError(f"{path} is no ablation: {first_fault(error)}: fix it") from error
    if len({variant.name for variant in ablation.variants}) < len(ablation.variants):
        raise NVPError(f"{path}: two variants have one name: give each its own")
    return ablation.model_copy(update={"base": path.parent / ablation.base})


def read_rows(path: Path, ablation: Ablation) -> list[VariantRun]:
    """The recorded runs of `ablation`; none where there is no file.

    Raises `NVPError` for a damaged file, and for a row that is not of this ablation: one table
    holds one experiment.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as file:
            rows = [VariantRun.model_validate(row) for row in csv.DictReader(file)]
    except (ValueError, csv.Error) as error:
        raise NVPError(f"{path} is damaged: {first_fault(error)}: restore it") from error
    wanted = {job: ablation.settings(variant) for job, variant in ablation.runs.items()}
    for row in rows:
        if wanted.get((row.variant, row.seed)) != row.settings:
            raise NVPError(
                f"{path}: the row of {row.variant}, seed {row.seed}, was made with other "
                "settings: move the file away, or name another --output"
            )
    return rows


def experiment(name: str = "ablation") -> tuple[Ablation, list[VariantRun]]:
    """The ablation of workflow/NAME.yaml, and its rows in results/NAME.csv."""
    ablation = load_ablation(repository_root() / "workflow" / f"{name}.yaml")
    return ablation, read_rows(results_root() / f"{name}.csv", ablation)


def trials(name: str) -> list[dict[str, str]]:
    """The rows of a table of trials, the file `name` of `results/`."""
    with (results_root() / name).open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(rows: Iterable[VariantRun], path: Path) -> None:
    """Write recorded runs, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(VariantRun.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in rows)
    write_text(path, text.getvalue())


# Student's t is within these bounds with a probability of 95%, for 2, 3, ... values. For more than
# ten the last bound serves, which is a little too wide.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Mean:
    """A mean over seeds, its standard error, and half of its 95% interval; nan for a single seed.

    The interval is that of Student's t, with one degree of freedom fewer than there are seeds.
    """

    mean: float
    error: float
    half_width: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        mean, n = statistics.fmean(values), len(values)
        error = statistics.stdev(values) / math.sqrt(n) if n > 1 else math.nan
        return cls(mean, error, STUDENT[min(n - 2, len(STUDENT) - 1)] * error)

    @property
    def beyond_chance(self) -> bool:
        """Whether the 95% interval leaves out 0."""
        return abs(self.mean) > self.half_width


@dataclass(frozen=True)
class Comparison:
    """A variant beside the baseline: its rows by seed, and test bits/dim minus the baseline's.

    The two runs of a pair have one seed. So they have the same order of images, the same noise, and
    the same initial weights up to the first weight of another shape. `differences` is empty for the
    baseline itself.
    """

    variant: Variant
    rows: tuple[VariantRun, ...]
    differences: tuple[float, ...]
    halfway: tuple[float, ...]  # of `train_halfway`

    @property
    def test(self) -> Mean:
        return Mean.of([row.test for row in self.rows])

    @property
    def difference(self) -> Mean:
        return Mean.of(self.differences)


def compare(ablation: Ablation, rows: Iterable[VariantRun]) -> dict[str, Comparison]:
    """Variants that have a row beside one of the baseline, by name: the baseline first."""
    found = {(row.variant, row.seed): row for row in rows}
    base = {seed: row for (name, seed), row in found.items() if name == ablation.baseline.name}
    comparisons = {}
    for variant in ablation.variants:
        own = tuple(found[variant.name, seed] for seed in base if (variant.name, seed) in found)
        if not own:
            continue
        pairs = [(row, base[row.seed]) for row in own if variant is not ablation.baseline]
        differences = tuple(row.test - beside.test for row, beside in pairs)
        halfway = tuple(row.train_halfway - beside.train_halfway for row, beside in pairs)
        comparisons[variant.name] = Comparison(variant, own, differences, halfway)
    return comparisons
