"""Two tables of the ledger: scores beside published figures, and runs by machine."""

from nvp.data.named import NAMED
from nvp.ledger.entry import Run
from nvp.tables.cells import Table, cite, deviation, mark_note, minutes, score_cell, text
from nvp.tables.published import Published, published_figure


def glance(facts: Published, ledger: dict[str, Run]) -> Table:
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
            cells = (printed.cell_with_unit, f"{printed.model}: {cite(printed)}")
        known = NAMED.get(run.record.data.name)
        if known is not None and run.score.num_images < (whole := known.images["test"]):
            fewer[row.title] = f" {row.title}: {run.score.num_images:,} of {whole:,} test images."
        model = row.model + deviation(run, row.planned)
        rows.append((row.title, model, score_cell(run, unit=True), *cells))
    caption = (
        "Test images; bits/dim, or nats an image for binary images, ± the standard error over "
        "images. Each of our scores is of one run with one seed; optimisers, schedules and most "
        "sizes are ours. Most runs were extended after their test score was seen. Scores of Real "
        "NVP are bounds, ours by one set of noise. On CIFAR-10, models with a size in the name are "
        "much smaller than the papers'."
        f"{''.join(fewer.values())}{mark_note(rows)}"
    )
    return Table(caption, ("data", "model", "this code", "published", "by"), rows)


def hardware(_facts: Published, ledger: dict[str, Run]) -> Table:
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
