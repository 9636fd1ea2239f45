"""The tables, made from the ledger of recorded runs and from the figures that papers print.

A cell is recorded (a run of this code, with its standard error), published (with its citation), or
not run (with the command that would run it, and its needs).
"""

import math
import textwrap
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from nvp.config import load_config
from nvp.errors import NVPError
from nvp.files import write
from nvp.ledger.entry import Run, runs
from nvp.model.protocol import batch_norms
from nvp.paths import repository_root, results_root
from nvp.tables.card import card
from nvp.tables.cells import (
    NO_LIKELIHOOD,
    Table,
    cite,
    comparable,
    deviation,
    length,
    linked,
    mark_note,
    mean_cell,
    not_run,
    provenance,
    schedule,
    score_cell,
    scored,
    text,
)
from nvp.tables.epochs import by_epochs
from nvp.tables.later_models import later_models
from nvp.tables.overview import glance, hardware
from nvp.tables.published import Published, published_figure, read_published
from nvp.tables.readme import readme_parts, with_parts
from nvp.tables.rows import paper_rows

__all__ = ["NAMES", "table", "tables", "write_tables"]

Make = Callable[[Published, dict[str, Run]], Table]

MASKED = "The parameters of a Pixel RNN include those that its masks hide."
FIGURES = (
    "test",
    "images for validation",
    "first test images",
    "the same, by statistics of each batch",
    "the same, with more sets of noise",
)


def table(name: str, *, root: str | Path | None = None) -> Table:
    """The table `name` from the ledger as it is now; citations are links.

    Raises `NVPError` for an unknown name, and lists those that there are.
    """
    if name not in _TABLES:
        raise NVPError(f"there is no table {name!r}: use {', '.join(NAMES)}")
    return tables([name], root=root)[0]


def tables(names: Iterable[str], *, root: str | Path | None = None) -> list[Table]:
    """The tables of these `names`, from one reading of the ledger; citations are links."""
    facts, ledger = read_published(root), runs(root)
    return [_TABLES[name](facts, ledger).changed(partial(linked, facts)) for name in names]


def write_tables(root: Path | None = None, repository: Path | None = None) -> list[Path]:
    """Write all that follows from the ledger, and return what changed.

    Under `root` these are tables/*.md for the book, and a card for each run. In the `repository`
    they are parts of the README, and the first lines of configurations that were run.
    """
    wanted = generated(root or results_root(), repository or repository_root())
    changed = [
        path
        for path, content in wanted.items()
        if not path.is_file() or path.read_text("utf-8", "surrogateescape") != content
    ]
    for path in changed:
        write(path, wanted[path].encode("utf-8", "surrogateescape"))
    return changed


def generated(root: Path, repository: Path) -> dict[Path, str]:
    """The text of every file that follows from the ledger."""
    facts, ledger, readme = read_published(root), runs(root), repository / "README.md"
    files = {
        root / "tables" / f"{name}.md": make(facts, ledger).markdown()
        for name, make in _TABLES.items()
    }
    if readme.is_file():
        parts = readme_parts(facts, ledger)
        files[readme] = with_parts(readme.read_text("utf-8"), parts)
    files |= {run.files.card: card(run) for run in ledger.values()}
    configs = (repository / "configs").glob("[!.]*.yaml")
    return files | {path: with_expectation(path, ledger.get(path.stem)) for path in configs}


def with_expectation(path: Path, run: Run | None) -> str:
    """The text of a configuration under what its recorded run scored, and how long it took.

    Without a recorded run there is no such line.
    """
    content = path.read_text("utf-8", "surrogateescape")  # a user's need not be UTF-8
    kept = [line for line in content.splitlines(keepends=True) if not line.startswith("#:")]
    told = [] if run is None else [f"{line}\n" for line in _expectation(path, run)]
    return "".join([*told, *kept])


def _expectation(path: Path, run: Run) -> list[str]:
    told = "Has no likelihood."
    if run.has_likelihood:
        unit = "" if run.is_binary else " bits/dim"
        told = f"Expect {mean_cell(run, run.score)}{unit} on the test images."
    told += f" The recorded run: {length(run)}{schedule(run)}, on {run.record.hardware}."
    if changed := deviation(run, load_config(path)):
        told = f"Recorded{changed}: {told}"
    told += f" From the ledger ({run.name}), by `nvp tables`."
    return textwrap.wrap(
        told, 98, initial_indent="#: ", subsequent_indent="#: ", break_on_hyphens=False
    )


def _listing(
    name: str, caption: str, *, unit: str = "bits/dim", autoregressive: bool = False
) -> Make:
    """A table of one score a row, by data set: recorded runs, planned runs, published figures.

    With `autoregressive`, runs are of autoregressive models, and figures those of Pixel RNN.
    """

    def make(facts: Published, ledger: dict[str, Run]) -> Table:
        rows: list[tuple[str, ...]] = []
        sources = ["oord2016pixelrnn"] if autoregressive else list(facts.sources)
        titles = dict.fromkeys(row.title for row in facts.rows(name))
        for title in titles:
            reported = [row for row in facts.rows(name) if row.title == title]
            data = reported[0].data
            here = [run for run in ledger.values() if comparable(run, reported[0])]
            if autoregressive:
                here = [run for run in here if run.fresh_model.autoregressive]
            # The best first; one without likelihood comes last.
            here.sort(key=lambda run: run.score.bits_per_dim if run.has_likelihood else math.inf)
            for run in here:
                model = f"**{text(run.record.title)}, this code**"
                rows.append((title, model, score_cell(run), provenance(run)))
            for row in reported:
                if row.config not in {run.name for run in here}:
                    rows.append((title, f"{row.model}, this code", *not_run(row)))
            for figure in facts.figures:
                if figure.data == data and figure.source in sources:
                    draws = f", {figure.draws} sets of noise an image" if figure.draws else ""
                    place = f"published: {cite(figure)}{draws}"
                    rows.append((title, figure.model, figure.cell, place))
            rows += [(title, "others", "–", row.remark) for row in reported if row.remark]
        first = 0 if len(titles) > 1 else 1  # rows of one set need no column that names it
        header = ("data", "model", unit, "what it is")[first:]
        return Table(caption + mark_note(rows), header, [row[first:] for row in rows])

    return make


def _variants(facts: Published, ledger: dict[str, Run]) -> Table:
    rows: list[tuple[str, ...]] = []
    for row in facts.rows("pixelrnn-variants"):
        figure = published_figure(facts, row)
        if figure is None:
            raise NVPError(f"published.yaml has no figure of {row.beside} on {row.data}: add it")
        here = f"not run: `{row.config}`"
        if row.config in ledger:
            run = ledger[row.config]
            score = score_cell(run, run.scores.validation)
            here = f"{score} ({run.name}{deviation(run, row.planned)})"
        rows.append((figure.model, here, figure.cell, cite(figure)))
    caption = (
        "Row LSTM, CIFAR-10, bits/dim on images held out for validation: what connections between "
        "layers, depth, and the kind of output are worth, ± the standard error over images. Rows "
        "that are not run take `nvp data get cifar10` and a GPU: `nvp train configs/NAME.yaml`."
    )
    return Table(caption, ("model", "this code", "published", "by"), rows)


def _table_1(facts: Published, ledger: dict[str, Run]) -> Table:
    models = ("PixelRNN", "Real NVP", "Conv DRAW", "IAF-VAE")
    printed = [figure for figure in facts.figures if figure.source == "dinh2017realnvp"]
    rows = []
    for row in facts.rows("table1"):
        cells = {figure.model: figure.cell for figure in printed if figure.data == row.data}
        found = [run for run in ledger.values() if comparable(run, row)]
        found = [run for run in found if not run.config.model.num_classes]
        flows = [run for run in found if run.config.model.family == "realnvp"]
        flows.sort(key=lambda run: (run.name != row.config, run.scores.validation.bits_per_dim))
        here = ": ".join(not_run(row))
        if flows:
            other = deviation(flows[0], row.planned) if flows[0].name == row.config else ""
            here = f"{scored(flows[0], row)}{other}; {provenance(flows[0])}"
        rows.append((row.title, *(cells.get(model, "–") for model in models), here))
    caption = (
        f"Bits/dim; columns two to five as published in {cite(printed[0])}: test "
        "images for CIFAR-10, validation images for the others, training images in parentheses, "
        "and < for bounds. The last column is this code: the run of the row's configuration, else "
        "the one with the best validation score."
    )
    return Table(caption, ("data", *models, "recorded here"), rows)


def _table_runs(_facts: Published, ledger: dict[str, Run]) -> Table:
    rows = [(f"`{name}`", *_figures(run)) for name, run in ledger.items()]
    caption = (
        "Every recorded run; likelihoods in bits/dim or, for binary images, in nats an image. The "
        "last three columns are on the first test images only, to compare with each other, and – "
        "stands where nothing could differ."
    )
    return Table(caption, ("run", *FIGURES), rows)


def _figures(run: Run) -> tuple[str, ...]:
    """The scores of a run, one for each of `FIGURES`."""
    if not run.has_likelihood:
        return (NO_LIKELIHOOD,) * len(FIGURES)
    scores, model = run.scores, run.fresh_model
    first, draws = scores.first, scores.first_more_draws
    of_batches, of_draws = mean_cell(run, scores.first_batch_statistics), mean_cell(run, draws)
    return (
        score_cell(run, unit=True),
        mean_cell(run, scores.validation),
        f"{mean_cell(run, first)} ({first.num_images:,})",
        of_batches if batch_norms(model) else "–",
        f"{of_draws} ({draws.num_draws})" if model.likelihood != "exact" else "–",
    )


_TABLES: dict[str, Make] = {
    "28x28": _listing(
        "28x28",
        "Test images, 8 bits a pixel, bits/dim. Runs of this code: ± the standard error over "
        "images; a bound is of one set of noise an image. Scores on the embedded images cannot be "
        f"compared with the others. {MASKED}",
    ),
    "binarized-mnist": _listing(
        "binarized-mnist",
        "MNIST binarised once and for all, in the published files: negative log-likelihood of the "
        "test images, nats an image, ± the standard error over images for runs of this code; < for "
        f"bounds, ≈ for estimates. {MASKED}",
        unit="nats",
    ),
    "table1": _table_1,
    "pixelrnn": _listing(
        "pixelrnn",
        "Bits/dim: test images for CIFAR-10, validation images for ImageNet, training images in "
        f"parentheses; ± the standard error over images for runs of this code. {MASKED}",
        autoregressive=True,
    ),
    "pixelrnn-variants": _variants,
    "after": later_models,
    "epochs": by_epochs,
    "runs": _table_runs,
    "glance": glance,
    "hardware": hardware,
    "rows": paper_rows,
}
NAMES = tuple(_TABLES)
