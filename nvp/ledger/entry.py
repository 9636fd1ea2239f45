"""The ledger: the folder `results/runs/NAME/` says what one run was, and what it scored.

`run.json` is a `Record`; `nvp.runs.folder.RunFolder` names the other files.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import Field, ValidationError, model_validator

from nvp.config import RunConfig, load_config
from nvp.errors import NVPError, first_fault
from nvp.files import read
from nvp.likelihood import Score
from nvp.model.config import Section
from nvp.model.protocol import ImageModel
from nvp.paths import results_root
from nvp.runs.folder import SCHEMA, RunFolder
from nvp.runs.load import load_run
from nvp.runs.log import read_log
from nvp.runs.provenance import Leg


class RecordedData(Section):
    """The images of a run. Checksums are `nvp.data.on_disk.fingerprint`.

    With `data.limit`, number and checksums are those of the training images within the limit.
    """

    name: str
    train_images: int
    held_out: int  # of them, for validation; none where the data set has a split for it
    train_sha256: str
    train_labels_sha256: str | None = None  # of a conditional model; older records have none
    test_images: int
    test_sha256: str


class RecordedWeights(Section):
    """The weights file that lies beside the record."""

    precision: Literal["float16", "float32"]
    bytes: int
    sha256: str


class RecordedScores(Section):
    """Bits/dim in float32 arithmetic, with statistics re-estimated on training images.

    `test` is the full test set under the weights that are kept, with one set of noise for each
    image. The others have one set too, and evaluation-mode statistics, unless a comment says
    otherwise.
    """

    test: Score
    before_rounding: Score  # `test`, with weights in float32
    validation: Score  # the validation split, or training images that were held out
    first: Score  # the first test images, to compare the next two with
    first_batch_statistics: Score  # batch norms by the statistics of each batch
    first_more_draws: Score  # from more sets of noise: the importance-weighted bound, or the mean
    probe: Score  # `nvp.ledger.scoring.score_probe`, in float64


class RecordedDraw(Section):
    """`nvp.ledger.scoring.describe_draw`: the fingerprint of a model that has no likelihood."""

    mean: float
    standard_deviation: float
    num_images: int


class Record(Section):
    """The content of `run.json`. A model has scores or, without a likelihood, a `draw`."""

    version: int = Field(default=SCHEMA, alias="schema", ge=1, le=SCHEMA)  # `schema` in the file
    name: str
    title: str
    recorded: str  # UTC date
    state: Literal["finished", "interrupted"]
    share_of_budget: float
    steps: int
    chosen_step: int | None = None  # whose weights early stopping kept; None: the last step's
    images: int  # seen in training, repeats included
    minutes: float
    precision: str  # of the networks in training, at its end
    seed: int
    parameters: int
    legs: list[Leg]  # machines and commits that trained it
    commit: str | None  # of the code that scored it
    data: RecordedData
    scores: RecordedScores | None
    draw: RecordedDraw | None = None
    weights: RecordedWeights | None
    film: tuple[int, ...] = ()  # images that each column of the filmstrip had seen

    @model_validator(mode="after")
    def _has_one_of_two(self) -> Self:
        if (self.scores is None) == (self.draw is None):
            raise ValueError("give scores or draw, one of them")
        return self

    @property
    def trained_on(self) -> int:
        """The number of images that it learned from."""
        return self.data.train_images - self.data.held_out

    @property
    def epochs(self) -> float:
        """How often it saw each of the images that it learned from, on average."""
        return self.images / self.trained_on

    @property
    def hardware(self) -> str:
        """Every machine that trained it, in order."""
        names = dict.fromkeys(leg.hardware for leg in self.legs)
        return ", then ".join(names) or "not noted"

    @property
    def precisions(self) -> str:
        """Every precision that its networks were trained in, in order."""
        noted = dict.fromkeys(leg.precision for leg in self.legs if leg.precision)
        return ", then ".join(noted) or self.precision


@dataclass(frozen=True)
class Run:
    """One entry of the ledger; `config` and models run the code of a family `module:Class`."""

    folder: Path
    record: Record

    @property
    def files(self) -> RunFolder:
        """Its files by name."""
        return RunFolder(self.folder)

    @property
    def name(self) -> str:
        """Its name in the ledger, which is that of its folder."""
        return self.record.name

    @property
    def has_likelihood(self) -> bool:
        """Whether there are scores."""
        return self.record.scores is not None

    @property
    def scores(self) -> RecordedScores:
        """All its scores. Raises `NVPError` for a model without likelihood."""
        if self.record.scores is None:
            raise NVPError(f"{self.name} has no likelihood and no score: look at what it draws")
        return self.record.scores

    @property
    def score(self) -> Score:
        """Bits/dim on the full test set, one set of noise an image."""
        return self.scores.test

    @property
    def is_binary(self) -> bool:
        """Whether its unit is nats an image."""
        return self.config.is_binary

    @property
    def nats(self) -> tuple[float, float]:
        """`score` and its standard error, in nats an image."""
        return self.score.nats(self.config.model.image_shape)

    @cached_property
    def config(self) -> RunConfig:
        """The configuration that it was trained with."""
        return load_config(self.files.config)

    @cached_property
    def fresh_model(self) -> ImageModel:
        """A model of the same configuration with random weights, to ask for its kind."""
        with torch.random.fork_rng(devices=[]):
            return self.config.build_model()

    @property
    def extended_at(self) -> list[int]:
        """The steps after which the rate, annealed by then, rose again: the budget was extended."""
        rows = self.log()
        return [
            int(row["step"])
            for before, row, after in zip(rows, rows[1:], rows[2:], strict=False)
            if before["rate"] > row["rate"] < after["rate"]
        ]

    def log(self) -> list[dict[str, float]]:
        """The curve: rows with the columns of `nvp.runs.log`."""
        return read_log(self.files.log)

    def load_model(self, device: str = "cpu") -> ImageModel:
        """The recorded model, in evaluation mode. Raises `NVPError` if no weights are kept."""
        return load_run(self.folder, device=device, trust=True).model


def read_run(folder: str | Path) -> Run:
    """The entry in `folder`. Raises `NVPError` where its record is not as it was written."""
    files = RunFolder(Path(folder))
    path = files.record
    try:
        record = Record.model_validate_json(read(path))
    except ValidationError as error:
        files.check_schema()  # newer code may have written it
        raise NVPError(
            f"{path} is damaged: {first_fault(error)}; restore it, or move its folder away"
        ) from error
    if record.name != files.path.resolve().name:  # within it, the folder is "."
        raise NVPError(f"{path} is the record of {record.name}: rename the folder to that")
    return Run(files.path, record)


def entry_folders(root: str | Path | None = None) -> list[Path]:
    """The folder of every recorded run, in alphabetical order; `root` is `results/` by default.

    Raises `NVPError` where one is out of place, since `nvp record --replace` was killed.
    """
    ledger = Path(root or results_root()) / "runs"
    for old in ledger.glob(".*.old"):
        name = old.name.removeprefix(".").removesuffix(".old")
        if not (ledger / name).exists():
            raise NVPError(
                f"{old} is the entry {name}, which was being replaced: rename it to {name}"
            )
    folders = ledger.glob("[!.]*")
    return sorted(folder for folder in folders if RunFolder(folder).is_recorded)


def runs(root: str | Path | None = None) -> dict[str, Run]:
    """Every recorded run by name, in alphabetical order; `root` is `results/` by default."""
    return {folder.name: read_run(folder) for folder in entry_folders(root)}


def record_text(record: Record) -> str:
    """The record as it is written, as JSON.

    Numbers keep six decimals, since more are noise; those below a thousandth, such as a rate of
    1.25e-05, keep six significant digits.
    """

    def shorter(digits: str) -> float:
        value = float(digits)
        return round(value, 6) if value >= 1e-3 else float(f"{value:.6g}")

    text = json.dumps(record.model_dump(mode="json", by_alias=True))
    return json.dumps(json.loads(text, parse_float=shorter), indent=2) + "\n"
