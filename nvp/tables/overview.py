"""Three tables of the ledger: all that is kept of a run, its score, and its cost."""

from __future__ import annotations

from nvp.data.named import NAMED
from nvp.ledger.entry import Run
from nvp.tables.cells import (
    Table,
    cite,
    code,
    deviation,
    how_it_ended,
    length,
    mark_note,
    minutes,
    schedule,
    score_cell,
    short,
    text,
)
from nvp.tables.published import Published
from nvp.tables.rows import published_figure


def full_ledger(_facts: Published, ledger: dict[str, Run], roles: bool) -> Table:
    """All that is kept of each run, a line for each kind; with `roles` its files as downloads."""
    rows: list[tuple[str, ...]] = []
    for run in ledger.values():
        entry, data, weights = run.record, run.record.data, run.record.weights
        commits = dict.fromkeys(short(leg.commit) for leg in entry.legs if leg.commit)
        torch = dict.fromkeys(leg.torch for leg in entry.legs)
        # What is fitted in closed form has taken in all images before the first step.
        seen = "all images" if run.fresh_model.fitted_in_closed_form else f"{entry.images:,} images"
        trained_on = f"{entry.trained_on:,} of {code(data.name)}, `{data.train_sha256[:12]}`"
        kept = "not kept"
        if weights:
            step = "the last step" if entry.chosen_step is None else f"step {entry.chosen_step:,}"
            size, digits = f"{weights.bytes / 1e6:.1f} MB", weights.sha256[:12]
            kept = f"of {step}; {weights.precision}, {size}, `{digits}`"
        scorer = short(entry.commit) if entry.commit else "not noted"
        folder = f"results/runs/{run.name}"
        files = f"`{folder}/`"
        if roles:
            names = (path.name for path in (run.files.record, run.files.config, run.files.log))
            files = ", ".join(f"{{download}}`{name} <../{folder}/{name}>`" for name in names)
        rows += [
            (f"**{run.name}**", f"**{text(entry.title)}: {score_cell(run, unit=True)}**"),
            ("network", f"{entry.parameters:,} parameters, {entry.precisions}"),
            ("training", f"{length(run)}{schedule(run)}, {how_it_ended(run)}; {seen} seen"),
            ("seed", f"{entry.seed}"),
            ("machine", f"{text(entry.hardware)}; torch {', '.join(torch) or 'not noted'}"),
            ("trained by", ", ".join(commits) or "not noted"),
            ("scored by", f"{scorer}, {entry.recorded}"),
            ("training images", trained_on),
            ("test images", f"{data.test_images:,}, `{data.test_sha256[:12]}`"),
            ("weights", kept),
            ("files", files),
            ("again", f"`nvp train {folder}/config.yaml`"),
        ]
    caption = (
        "Every recorded run, and its score on test images: bits/dim, or nats an image for binary "
        "images, ± the standard error over images. Minutes are those of training steps. Code is "
        "given as a commit, with a + where changes to it were not committed; images and weights "
        "by the first digits of their SHA-256, of which each run's record has all."
    )
    return Table(caption, ("run", "what it was"), rows)


def glance(facts: Published, ledger: dict[str, Run], roles: bool) -> Table:
    """The rows `glance` of published.yaml that were run, each beside its published figure, if any.

    The caption says which were scored on fewer test images than the published set has.
    """
    rows: list[tuple[str, ...]] = []
    fewer = {}
    for row in facts.rows("glance"):
        run = ledger.get(row.config)
        if run is None:
            continue
        printed = published_figure(facts, row)
        cells = ("–", row.remark)
        if printed is not None:
            cells = (printed.cell_with_unit, f"{printed.model}: {cite(facts, printed, roles)}")
        known = NAMED.get(run.record.data.name)
        if known is not None and run.score.num_images < (whole := known.images["test"]):
            fewer[row.title] = f" {row.title}: {run.score.num_images:,} of {whole:,} test images."
        model = row.model + deviation(run, row.planned)
        rows.append((row.title, model, score_cell(run, unit=True), *cells))
    caption = (
        "Test images; bits/dim, or nats an image for binary images, ± the standard error over "
        "images. Each of our scores is of one run with one seed; optimisers, schedules and most "
        "sizes are ours. On CIFAR-10 our networks are much smaller than the papers', and trained "
        "on a processor."
        f"{''.join(fewer.values())}{mark_note(rows)}"
    )
    return Table(caption, ("data", "model", "this code", "published", "by"), rows)


def hardware(_facts: Published, ledger: dict[str, Run], _roles: bool) -> Table:
    """For each machine the runs that it made, the quickest first."""
    ordered = sorted(ledger.values(), key=lambda run: (run.record.hardware, run.record.minutes))
    rows: list[tuple[str, ...]] = [
        (
            text(run.record.hardware),
            minutes(run),
            f"{run.record.parameters / 1e6:.2f} M",
            score_cell(run, unit=True),
            text(run.record.title),
        )
        for run in ordered
    ]
    caption = (
        "Every recorded run, by machine and minutes of training steps. Test images; bits/dim, or "
        "nats an image for binary images."
    )
    return Table(caption, ("machine", "minutes", "parameters", "test", "run"), rows)
