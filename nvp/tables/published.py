"""The figures that papers print: `results/published.yaml`."""

import functools
from decimal import Decimal
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from nvp.config import RunConfig, load_config
from nvp.errors import NVPError, first_fault
from nvp.files import read, read_yaml
from nvp.model.config import Section
from nvp.paths import repository_root, results_root

UNVERIFIED = "†"  # marks a figure that was not seen in print
UNVERIFIED_NOTE = f" {UNVERIFIED} unverified: no print of it was at hand."
UNLIKE = "‡"  # marks a figure on other images than those of its column


class Source(Section):
    """Where figures were printed; its key is that of book/references.bib."""

    text: str
    url: str


class TableRow(Section):
    """A run that a table reports, its data set, and what it needs."""

    data: str
    title: str
    model: str = "Real NVP"
    config: str
    needs: str
    remark: str = ""
    split: Literal["test", "validation"] = "test"  # the split of the data set that the paper scores
    beside: str = ""  # the published model shown next to it, in tables that compare one with one

    @functools.cached_property
    def planned(self) -> RunConfig:
        """Its configuration, that of this checkout, wherever the ledger is."""
        return load_config(repository_root() / "configs" / f"{self.config}.yaml")


class Figure(Section):
    """A published figure in bits/dim or in nats an image, with the digits that were printed."""

    data: str
    model: str
    bits_per_dim: Decimal | None = None
    nats: Decimal | None = None
    train: Decimal | None = None
    bound: bool = False
    estimate: bool = False  # the paper gives it as an approximation
    below: bool = False  # the source says only that it is less
    unverified: bool = False  # from memory: no print of it was seen
    unlike: bool = False  # on the other downsampling of ImageNet, or on an unnamed one
    draws: int | None = None  # sets of noise an image, where it is known not to be one
    source: str
    where: str

    @model_validator(mode="after")
    def _has_one_unit(self) -> Self:
        if (self.bits_per_dim is None) == (self.nats is None):
            raise ValueError(f"{self.data}, {self.model}: give bits_per_dim or nats, one of them")
        return self

    @property
    def cell(self) -> str:
        """As in the paper: "< 4.40 (4.35)", the figure on training images in parentheses."""
        return f"{self._sign}{self.digits}"

    @property
    def cell_with_unit(self) -> str:
        """`cell`, with its unit where that is nats."""
        return f"{self._sign}{self._written(' nats' if self.nats is not None else '')}"

    @property
    def digits(self) -> str:
        """`cell` without a sign for the kind of figure."""
        return self._written("")

    @property
    def _sign(self) -> str:
        return "< " if self.bound else "≈ " if self.estimate else ""

    def _written(self, unit: str) -> str:
        value = self.nats if self.bits_per_dim is None else self.bits_per_dim
        train = "" if self.train is None else f" ({self.train})"
        marks = ((self.unverified, UNVERIFIED), (self.unlike, UNLIKE))
        marked = "".join(f" {mark}" for applies, mark in marks if applies)
        return f"{'below ' if self.below else ''}{value}{train}{unit}{marked}"


class Model(Section):
    """One of the two papers' models, or one that came before or after; its figures name it."""

    family: Literal["flow", "autoregressive", "latent", "diffusion"]
    preprint: str = Field(pattern=r"^20\d\d-[01]\d$")  # year and month of the first one
    kind: Literal[  # of its figures
        "exact", "uniform noise", "learned noise", "variational", "sampled", "ode", "series"
    ]
    augmented: bool = False  # trained on more than the training images


class Curve(Section):
    """What others published by epoch of training, for Real NVP on CIFAR-10."""

    name: str
    of: str  # what was scored: test images, or the loss of training
    url: str
    points: dict[int, float] = Field(min_length=1)  # bits/dim by epochs


class Published(Section):
    """results/published.yaml."""

    sources: dict[str, Source]
    tables: dict[str, list[TableRow]]
    models: dict[str, Model]
    figures: list[Figure] = Field(min_length=1)
    curves: list[Curve]

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for figure in self.figures:
            if figure.source not in self.sources:
                raise ValueError(f"{figure.data}, {figure.model}: no source {figure.source}")
        if nameless := self.models.keys() - {figure.model for figure in self.figures}:
            raise ValueError(f"no figure names {', '.join(sorted(nameless))}")
        return self

    def rows(self, table: str) -> list[TableRow]:
        """The rows of one table. Raises `NVPError` where it has none."""
        if table not in self.tables:
            raise NVPError(f"published.yaml has no rows under tables.{table}: add them")
        return self.tables[table]


@functools.cache  # it takes a tenth of a second, and every table asks
def _parsed(text: str) -> Published:
    return Published.model_validate(read_yaml(text))


def read_published(root: str | Path | None = None) -> Published:
    """The published figures; `root` is `results/` by default.

    Raises `NVPError` where the file is missing or damaged.
    """
    path = Path(root or results_root()) / "published.yaml"
    content = read(path)
    try:
        return _parsed(content.decode())
    except ValueError as error:
        raise NVPError(
            f"{path} is damaged: {first_fault(error)}; restore it with git checkout, or correct "
            "your change"
        ) from error


def published_figure(facts: Published, row: TableRow) -> Figure | None:
    """The published figure that a row is compared with, if there is one."""
    model = row.beside or row.model
    return next((f for f in facts.figures if (f.data, f.model) == (row.data, model)), None)


def published(data: str | None = None, model: str | None = None) -> list[Figure]:
    """Figures that papers print, of one data set or one model if named."""
    return [
        figure
        for figure in read_published().figures
        if data in (None, figure.data) and model in (None, figure.model)
    ]
