"""The ledger seen from four sides: where each run comes from, its files, what it is worth, and
what it took.
"""

from __future__ import annotations

from nvp.ledger import RECORD, Run
from nvp.published import UNVERIFIED, Published
from nvp.tables import Table, cite, recorded_in, short, state


def origins(_facts: Published, ledger: dict[str, Run], _roles: bool) -> Table:
    """Machine, seed, time and commits of every run, and the command that makes it again."""
    rows: list[tuple[str, ...]] = []
    for run in ledger.values():
        entry = run.record
        trained = dict.fromkeys(leg.commit for leg in entry.legs)
        torch = dict.fromkeys(leg.torch for leg in entry.legs)
        rows.append(
            (
                f"{entry.title} (`{run.name}`)",
                recorded_in(run),
                f"{entry.steps:,} steps, {entry.minutes:.0f} minutes, {state(run)}",
                f"{entry.seed}",
                f"{entry.hardware}; torch {', '.join(torch) or 'not noted'}",
                ", ".join(short(each) for each in trained if each) or "not noted",
                f"{short(entry.commit) if entry.commit else 'not noted'}, {entry.recorded}",
                f"`nvp train results/runs/{run.name}/config.yaml`",
            )
        )
    caption = (
        "Every recorded run. Test images; bits/dim, or nats an image for binary images, ± the "
        "standard error over images. Minutes are those of training steps; + after a commit says "
        "that changes to it were not committed."
    )
    header = ("run", "test", "training", "seed", "machine", "trained by", "scored by", "again")
    return Table(caption, header, rows)


def checksums(_facts: Published, ledger: dict[str, Run], roles: bool) -> Table:
    """What a run was trained on and scored on, and its files; with `roles`, to be downloaded."""
    rows: list[tuple[str, ...]] = []
    for run in ledger.values():
        data, weights = run.record.data, run.record.weights
        folder = f"results/runs/{run.name}"
        files = f"`{folder}/`"
        if roles:
            names = (RECORD, "config.yaml", "log.csv")
            files = ", ".join(f"{{download}}`{name} <../{folder}/{name}>`" for name in names)
        rows.append(
            (
                f"`{run.name}`",
                f"{data.name}: {data.train_images:,}, `{data.train_sha256[:12]}`",
                f"{data.test_images:,}, `{data.test_sha256[:12]}`",
                f"{weights.precision}, `{weights.sha256[:12]}`" if weights else "not kept",
                files,
            )
        )
    caption = (
        "How many images, and the first digits of their SHA-256 and of that of the weights. "
        f"`{RECORD}` has all digits."
    )
    return Table(caption, ("run", "training images", "test images", "weights", "files"), rows)


def glance(facts: Published, ledger: dict[str, Run], roles: bool) -> Table:
    """Recorded runs that have a published figure of their kind, or that the list names anyway."""
    rows: list[tuple[str, ...]] = []
    marked = ""
    for row in facts.tables["glance"]:
        run = ledger.get(row.config)
        if run is None:
            continue
        printed = next(
            (f for f in facts.figures if (f.data, f.model) == (row.data, row.beside)), None
        )
        cells = ("–", row.remark)
        if printed is not None:
            unit = " nats" if printed.nats is not None else ""
            cells = (printed.cell + unit, f"{printed.model}: {cite(facts, printed, roles)}")
            if printed.unverified:
                marked = f" {UNVERIFIED} unverified: no print of it was at hand."
        rows.append((row.title, row.model, recorded_in(run), *cells))
    caption = (
        "Test images; bits/dim, or nats an image for binary images, ± the standard error over "
        f"images.{marked}"
    )
    return Table(caption, ("data", "model", "this code", "published", "by"), rows)


def hardware(_facts: Published, ledger: dict[str, Run], _roles: bool) -> Table:
    """For each machine the runs that it made, the quickest first."""
    ordered = sorted(ledger.values(), key=lambda run: (run.record.hardware, run.record.minutes))
    rows: list[tuple[str, ...]] = [
        (
            run.record.hardware,
            f"{run.record.minutes:.0f}",
            run.record.title,
            f"{run.record.parameters / 1e6:.2f} M",
            recorded_in(run),
        )
        for run in ordered
    ]
    caption = (
        "Every recorded run, by machine and minutes of training steps. Test images; bits/dim, or "
        "nats an image for binary images."
    )
    return Table(caption, ("machine", "minutes", "run", "parameters", "test"), rows)
