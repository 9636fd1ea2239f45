"""The tables, made from the ledger of recorded runs and from the figures that papers print.

Each cell is one of: recorded (a run of this code, with its standard error), published (with its
citation), or not run (with the command that would run it and what it needs).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nvp.checkpoint import write_text
from nvp.errors import NVPError
from nvp.ledger import Run, runs
from nvp.likelihood import Score, nats_per_bit
from nvp.paths import repository_root, results_root
from nvp.published import UNVERIFIED, Figure, Published, Row, published, read_published

__all__ = ["NAMES", "Run", "published", "runs", "table", "table_markdown", "write_tables"]

README_TABLES = ("28x28", "binarized-mnist")
NO_LIKELIHOOD = "no likelihood"
FIGURES = (
    "test",
    "images for validation",
    "first test images",
    "the same, by statistics of each batch",
    "the same, with more draws",
)
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


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

    def without_first_column(self) -> Table:
        """For rows that all begin alike."""
        return Table(self.caption, self.header[1:], [row[1:] for row in self.rows])

    def plain(self) -> Table:
        """The same without marks of Markdown, for a terminal."""

        def strip(text: str) -> str:
            return re.sub(r"\[(.*?)\]\(.*?\)", r"\1", text).replace("**", "").replace("`", "")

        return Table(
            strip(self.caption), self.header, [tuple(map(strip, row)) for row in self.rows]
        )


def table_markdown(name: str, *, roles: bool = False, root: Path | None = None) -> str:
    """The table `name`, one of `NAMES`, with links for citations or, for the book, `roles`."""
    return table(name, roles=roles, root=root).markdown()


def table(name: str, *, roles: bool = False, root: Path | None = None) -> Table:
    """The table `name`, one of `NAMES`, from the ledger as it is now."""
    if name not in _TABLES:
        raise NVPError(f"there is no table {name!r}: use {', '.join(NAMES)}")
    return _TABLES[name](read_published(root), runs(root), roles)


def write_tables(root: Path | None = None, readme: Path | None = None) -> list[Path]:
    """Write `root`/tables/*.md for the book, and the README's tables; returns what changed."""
    wanted = {
        (root or results_root()) / "tables" / f"{name}.md": table_markdown(
            name, roles=True, root=root
        )
        for name in NAMES
    }
    readme = readme or repository_root() / "README.md"
    if readme.is_file() and BEGIN in (text := readme.read_text()):
        wanted[readme] = with_table(text, readme_tables(root))
    changed = [p for p, text in wanted.items() if not p.is_file() or p.read_text() != text]
    for path in changed:
        write_text(path, wanted[path])
    return changed


def readme_tables(root: Path | None = None) -> str:
    """The tables that the README shows, one below the other."""
    return "\n".join(table_markdown(name, root=root) for name in README_TABLES)


def with_table(text: str, markdown: str) -> str:
    """`text` with what stands between the two markers replaced."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise NVPError(f"README.md has {BEGIN} but no {END}: put it after the table")
    return f"{before}{BEGIN}\n\n{markdown}\n{END}{after}"


def _listing(
    name: str, caption: str, *, unit: str = "bits/dim", source: str | None = None
) -> Callable[[Published, dict[str, Run], bool], Table]:
    """A table of one figure a row, by data set: runs of this code, those to come, published ones.

    Of the published figures only those of `source`, if it is named.
    """

    def make(facts: Published, ledger: dict[str, Run], roles: bool) -> Table:
        rows: list[tuple[str, ...]] = []
        marked = ""
        titles = dict.fromkeys(row.title for row in facts.tables[name])
        for title in titles:
            reported = [row for row in facts.tables[name] if row.title == title]
            data = reported[0].data
            here = [run for run in ledger.values() if run.record.data.name == data]
            rows += [
                (title, f"**{run.record.title}, this code**", _recorded(run), _provenance(run))
                for run in sorted(here, key=_rank)
            ]
            rows += [
                (title, f"{row.model}, this code", *_not_run(row))
                for row in reported
                if row.config not in {run.name for run in here}
            ]
            for figure in facts.figures:
                if figure.data == data and source in (None, figure.source):
                    rows.append(
                        (title, figure.model, figure.cell, _publication(facts, figure, roles))
                    )
                    if figure.unverified:
                        marked = f" {UNVERIFIED} unverified: no print of it was at hand."
            rows += [(title, "others", "–", row.remark) for row in reported if row.remark]
        whole = Table(caption + marked, ("data", "model", unit, "what it is"), rows)
        return whole if len(titles) > 1 else whole.without_first_column()

    return make


def _publication(facts: Published, figure: Figure, roles: bool) -> str:
    draws = f", {figure.draws} draws an image" if figure.draws else ""
    return f"published: {_cite(facts, figure, roles)}{draws}"


def _table_1(facts: Published, ledger: dict[str, Run], roles: bool) -> Table:
    models = ("PixelRNN", "Real NVP", "Conv DRAW", "IAF-VAE")
    rows = []
    for row in facts.tables["table1"]:
        printed = [f for f in facts.figures if (f.data, f.source) == (row.data, "dinh2017realnvp")]
        cells = {figure.model: figure.cell for figure in printed}
        found = [
            run
            for run in ledger.values()
            if run.record.data.name == row.data and run.config.model.family == "realnvp"
        ]
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
        "Every recorded run; likelihoods in bits/dim or, for binary images, in nats an image; "
        "minutes of training steps; + after a commit says that changes to it were not committed. "
        "The last three rows are on the first test images only, to compare with each other."
    )
    return Table(caption, ("run", *columns), rows)


def _particulars(run: Run) -> dict[str, str]:
    entry = run.record
    chosen = entry.chosen_step
    commits = dict.fromkeys(leg.commit for leg in entry.legs)
    weights = entry.weights
    return {
        "data": f"{entry.data.name}, {entry.data.train_images:,} training images",
        "parameters": f"{entry.parameters:,}",
        "steps": f"{entry.steps:,}",
        "weights chosen": "of the last step" if chosen is None else f"of step {chosen:,}",
        "images seen": f"{entry.images:,}",
        "minutes": f"{entry.minutes:.0f}",
        "hardware": f"{entry.hardware}; networks in {entry.precision}",
        "state": _state(run),
        "code": ", ".join(map(_short, filter(None, commits))) or "not noted",
        "weights": f"{weights.precision}, {weights.bytes / 1e6:.1f} MB" if weights else "not kept",
        **_figures(run),
    }


def _figures(run: Run) -> dict[str, str]:
    if not run.has_likelihood:
        return dict.fromkeys(FIGURES, NO_LIKELIHOOD)
    scores = run.scores
    first, draws = scores.first, scores.first_more_draws
    cells = (
        _recorded(run) + (" nats" if run.is_binary else ""),
        _in_unit(run, scores.validation),
        f"{_in_unit(run, first)} ({first.num_images:,})",
        _in_unit(run, scores.first_batch_statistics),
        f"{_in_unit(run, draws)} ({draws.num_draws})",
    )
    return dict(zip(FIGURES, cells, strict=True))


def _in_unit(run: Run, score: Score) -> str:
    """A mean in the run's unit, which is named where it is nats."""
    if run.is_binary:
        return f"{nats_per_bit(run.config.model.image_shape) * score.bits_per_dim:.2f} nats"
    return f"{score.bits_per_dim:.3f}"


def _short(commit: str) -> str:
    """A commit in nine digits, and a "+" where the code had uncommitted changes."""
    return commit[:9] + ("+" if commit.endswith("+") else "")


def _rank(run: Run) -> float:
    """For sorting, best first; a run without likelihood comes last."""
    return run.score.bits_per_dim if run.has_likelihood else math.inf


def _recorded(run: Run) -> str:
    if not run.has_likelihood:
        return NO_LIKELIHOOD
    if run.is_binary:
        mean, error = run.nats
        return f"{mean:.2f} ± {error:.2f}"
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
    "28x28": _listing(
        "28x28",
        "Test images, 8 bits a pixel, bits/dim. Runs of this code: ± the standard error over "
        "images; Real NVP, Gaussian and VAE are bounds, with one draw an image. Figures on the "
        "embedded images compare with no others.",
    ),
    "binarized-mnist": _listing(
        "binarized-mnist",
        "MNIST binarised once and for all, in the published files: negative log-likelihood of the "
        "test images, nats an image, ± the standard error over images for runs of this code; < for "
        "bounds, ≈ for estimates.",
        unit="nats",
    ),
    "table1": _table_1,
    "pixelrnn": _listing(
        "pixelrnn",
        "Bits/dim: test images for CIFAR-10, validation images for ImageNet, training images in "
        "parentheses; ± the standard error over images for runs of this code.",
        source="oord2016pixelrnn",
    ),
    "pixelrnn-variants": _listing(
        "pixelrnn-variants",
        "Row LSTM, CIFAR-10, bits/dim on images held out for validation: what connections between "
        "layers, depth, and the kind of output are worth.",
    ),
    "runs": _table_runs,
}
NAMES = tuple(_TABLES)
