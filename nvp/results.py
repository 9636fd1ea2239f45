"""The tables, made from the ledger of recorded runs and from the figures that papers print.

Each cell is one of: recorded (a run of this code, with its standard error), published (with its
citation), or not run (with the command that would run it and what it needs).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nvp.checkpoint import write_text
from nvp.errors import NVPError
from nvp.ledger import Run, runs
from nvp.paths import repository_root, results_root

__all__ = ["NAMES", "Run", "published", "runs", "table", "table_markdown", "write_tables"]

README_TABLE = "28x28"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Entry):
    """Where figures were printed; its key is that of book/references.bib."""

    text: str
    url: str


class Row(_Entry):
    """A data set that a table reports, and what a run on it needs."""

    data: str
    title: str
    config: str
    needs: str
    remark: str = ""


class Figure(_Entry):
    """A published figure in bits/dim, with the digits that were printed."""

    data: str
    model: str
    bits_per_dim: Decimal
    train: Decimal | None = None
    bound: bool = False
    draws: int | None = None  # noise draws an image, where it is known not to be one
    source: str
    where: str

    @property
    def cell(self) -> str:
        """As in the paper: "< 4.40 (4.35)", the figure on training images in parentheses."""
        train = "" if self.train is None else f" ({self.train})"
        return f"{'< ' if self.bound else ''}{self.bits_per_dim}{train}"


class Published(_Entry):
    """results/published.yaml."""

    sources: dict[str, Source]
    tables: dict[str, list[Row]]
    figures: list[Figure] = Field(min_length=1)

    @model_validator(mode="after")
    def _sources_are_known(self) -> Published:
        for figure in self.figures:
            if figure.source not in self.sources:
                raise ValueError(f"{figure.data}, {figure.model}: no source {figure.source}")
        return self


@dataclass(frozen=True)
class Table:
    """Rows of cells in Markdown, under a header, with a caption."""

    caption: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        """A table that GitHub, Jupyter and the book all read."""
        lines = [self.header, tuple("---" for _ in self.header), *self.rows]
        text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
        return f"{text}\n\n{self.caption}\n"

    def plain(self) -> Table:
        """The same without marks of Markdown, for a terminal."""

        def strip(text: str) -> str:
            return re.sub(r"\[(.*?)\]\(.*?\)", r"\1", text).replace("**", "").replace("`", "")

        return Table(
            strip(self.caption), self.header, [tuple(map(strip, row)) for row in self.rows]
        )


def read_published(root: Path | None = None) -> Published:
    """The published figures; `root` is `results/` by default."""
    path = (root or results_root()) / "published.yaml"
    try:
        return Published.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise NVPError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValidationError) as error:
        raise NVPError(f"{path} is not as it should be: {error}") from error


def published(data: str | None = None, model: str | None = None) -> list[Figure]:
    """Figures that papers print, of one data set or one model if named."""
    return [
        figure
        for figure in read_published().figures
        if data in (None, figure.data) and model in (None, figure.model)
    ]


def table_markdown(name: str, *, roles: bool = False, root: Path | None = None) -> str:
    """The table `name`, one of `NAMES`, with links for citations or, for the book, `roles`."""
    return table(name, roles=roles, root=root).markdown()


def table(name: str, *, roles: bool = False, root: Path | None = None) -> Table:
    """The table `name`, one of `NAMES`, from the ledger as it is now."""
    if name not in _TABLES:
        raise NVPError(f"there is no table {name!r}: use {', '.join(NAMES)}")
    return _TABLES[name](read_published(root), runs(root), roles)


def write_tables(root: Path | None = None, readme: Path | None = None) -> list[Path]:
    """Write `root`/tables/*.md for the book, and the README's table; returns what changed."""
    wanted = {
        (root or results_root()) / "tables" / f"{name}.md": table_markdown(
            name, roles=True, root=root
        )
        for name in NAMES
    }
    readme = readme or repository_root() / "README.md"
    if readme.is_file() and BEGIN in (text := readme.read_text()):
        wanted[readme] = with_table(text, table_markdown(README_TABLE, root=root))
    changed = [p for p, text in wanted.items() if not p.is_file() or p.read_text() != text]
    for path in changed:
        write_text(path, wanted[path])
    return changed


def with_table(text: str, markdown: str) -> str:
    """`text` with what stands between the two markers replaced."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise NVPError(f"README.md has {BEGIN} but no {END}: put it after the table")
    return f"{before}{BEGIN}\n\n{markdown}\n{END}{after}"


def _table_28x28(facts: Published, ledger: dict[str, Run], roles: bool) -> Table:
    rows: list[tuple[str, ...]] = []
    for row in facts.tables["28x28"]:
        here = [run for run in ledger.values() if run.record.data.name == row.data]
        rows += [
            (row.title, f"**{run.record.title}, this code**", _recorded(run), _provenance(run))
            for run in sorted(here, key=lambda run: run.score.bits_per_dim)
        ]
        if not here:
            rows.append((row.title, "Real NVP, this code", *_not_run(row)))
        for figure in (figure for figure in facts.figures if figure.data == row.data):
            draws = f", {figure.draws} draws an image" if figure.draws else ""
            citation = _cite(facts, figure, roles)
            rows.append((row.title, figure.model, figure.cell, f"published: {citation}{draws}"))
        if row.remark:
            rows.append((row.title, "others", "–", row.remark))
    caption = (
        "Test images, 8 bits a pixel, bits/dim. Runs of this code: one noise draw an image, ± the "
        "standard error over images. Figures on the embedded images compare with no others."
    )
    return Table(caption, ("data", "model", "bits/dim", "what it is"), rows)


def _table_1(facts: Published, ledger: dict[str, Run], roles: bool) -> Table:
    models = ("PixelRNN", "Real NVP", "Conv DRAW", "IAF-VAE")
    rows = []
    for row in facts.tables["table1"]:
        cells = {figure.model: figure.cell for figure in facts.figures if figure.data == row.data}
        found = [run for run in ledger.values() if run.record.data.name == row.data]
        if found:
            run = min(found, key=lambda run: (run.name != row.config, run.score.bits_per_dim))
            here = f"{_recorded(run)}; {_provenance(run)}"
        else:
            here = ": ".join(_not_run(row))
        rows.append((row.title, *(cells.get(model, "–") for model in models), here))
    first = next(figure for figure in facts.figures if figure.data == "cifar10")
    caption = (
        f"Bits/dim; columns two to five as published in {_cite(facts, first, roles)}: test images "
        "for CIFAR-10, validation images for the others, training images in parentheses, and < "
        "for bounds. The last column is this code."
    )
    return Table(caption, ("data", *models, "recorded here"), rows)


def _table_runs(_facts: Published, ledger: dict[str, Run], _roles: bool) -> Table:
    columns = {name: _particulars(run) for name, run in ledger.items()}
    properties = list(next(iter(columns.values()), {"no run is recorded": ""}))
    rows = [(key, *(column[key] for column in columns.values())) for key in properties]
    caption = (
        "Every recorded run; likelihoods in bits/dim, minutes of training steps; + after a "
        "commit says that changes to it were not committed. The last three rows are on the first "
        "test images only, to compare with each other."
    )
    return Table(caption, ("run", *columns), rows)


def _particulars(run: Run) -> dict[str, str]:
    entry, scores = run.record, run.record.scores
    commits = dict.fromkeys(leg.commit for leg in entry.legs)
    weights = entry.weights
    return {
        "data": f"{entry.data.name}, {entry.data.train_images:,} training images",
        "parameters": f"{entry.parameters:,}",
        "steps": f"{entry.steps:,}",
        "images seen": f"{entry.images:,}",
        "minutes": f"{entry.minutes:.0f}",
        "hardware": f"{entry.hardware}; networks in {entry.precision}",
        "state": _state(run),
        "code": ", ".join(map(_short, filter(None, commits))) or "not noted",
        "weights": f"{weights.precision}, {weights.bytes / 1e6:.1f} MB" if weights else "not kept",
        "test": _recorded(run),
        "held-out training images": f"{scores.validation.bits_per_dim:.3f}",
        "first test images": f"{scores.first.bits_per_dim:.3f} ({scores.first.num_images:,})",
        "the same, by statistics of each batch": (
            f"{scores.first_batch_statistics.bits_per_dim:.3f}"
        ),
        "the same, with more draws": (
            f"{scores.first_more_draws.bits_per_dim:.3f} ({scores.first_more_draws.num_draws})"
        ),
    }


def _short(commit: str) -> str:
    """A commit in nine digits, and a "+" where the code had uncommitted changes."""
    return commit[:9] + ("+" if commit.endswith("+") else "")


def _recorded(run: Run) -> str:
    return f"{run.score.bits_per_dim:.3f} ± {run.score.standard_error:.3f}"


def _provenance(run: Run) -> str:
    entry = run.record
    return (
        f"recorded ({run.name}): {entry.parameters / 1e6:.2f} M parameters, {entry.steps:,} steps, "
        f"{entry.minutes:.0f} minutes on {entry.hardware}, {_state(run)}"
    )


def _state(run: Run) -> str:
    entry = run.record
    share = "" if entry.state == "finished" else f" at {entry.share_of_budget:.0%} of its budget"
    return entry.state + share


def _not_run(row: Row) -> tuple[str, str]:
    return "not run", f"`nvp train configs/{row.config}.yaml` (needs {row.needs})"


def _cite(facts: Published, figure: Figure, roles: bool) -> str:
    source = facts.sources[figure.source]
    link = f"{{cite:t}}`{figure.source}`" if roles else f"[{source.text}]({source.url})"
    return f"{link}, {figure.where}"


_TABLES: dict[str, Callable[[Published, dict[str, Run], bool], Table]] = {
    "28x28": _table_28x28,
    "table1": _table_1,
    "runs": _table_runs,
}
NAMES = tuple(_TABLES)
