"""A table in Markdown, and the text of its cells."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nvp.config import RunConfig, differences
from nvp.ledger.entry import Run
from nvp.likelihood import Score
from nvp.tables.published import UNVERIFIED, UNVERIFIED_NOTE, Figure, Published, TableRow

NO_LIKELIHOOD = "no likelihood"


@dataclass(frozen=True)
class Table:
    """Rows of cells in Markdown, under a header, with a caption."""

    caption: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        """A table that GitHub, Jupyter and the book all read.

        Names are in the first column; columns of figures are flush right.
        """
        columns = [[row[i] for row in self.rows] for i in range(1, len(self.header))]
        aligned = (":--", *("--:" if _has_figures(column) else ":--" for column in columns))
        lines = (tuple(map(unbroken, self.header)), aligned, *(map(unbroken, r) for r in self.rows))
        text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
        return f"{text}\n\n{self.caption}\n" if self.caption else text

    def plain(self) -> "Table":
        """The same without marks of Markdown, for a terminal."""

        def strip(cell: str) -> str:
            # An escaped character is no mark, and of a link the text stays.
            mark = r"\\(.)|\[(.*?)\]\(.*?\)|\*\*|`"
            return re.sub(mark, lambda found: found[1] or found[2] or "", cell)

        return self.changed(strip)

    def changed(self, change: Callable[[str], str]) -> "Table":
        """The same, with the caption and every cell changed."""
        rows = [tuple(map(change, row)) for row in self.rows]
        return Table(change(self.caption), self.header, rows)


def mark_note(rows: list[tuple[str, ...]]) -> str:
    """The end of a caption: what the mark of unverified figures means, where a row has it."""
    return UNVERIFIED_NOTE * any(UNVERIFIED in cell for row in rows for cell in row)


def text(words: str) -> str:
    """Words of a user, which Markdown then shows as they are, in one line."""
    return re.sub(r"([\\`*_\[\]<>|~${}])", r"\\\1", " ".join(words.split()))


def code(words: str) -> str:
    """Words of a user as code in Markdown, in one line; a backtick becomes an apostrophe."""
    return f"`{' '.join(words.replace('`', chr(39)).split())}`".replace("|", "\\|")


def unbroken(cell: str) -> str:
    """A cell with a minus for a hyphen, no sign before zero, and no breaks within a figure."""
    text = re.sub(r"^-(?=\d)", "−", cell)
    text = re.sub(r"^−(?=0(\.0*)?(?![\d.]))", "", text)
    text = re.sub(r"(?<=\w) ([±×=]) (?=\d)", "\u00a0\\1\u00a0", text)
    gap = r"(?<=^[<≈±]) (?=\d)|(?<=\d) (?=†|%|nats|M\b)|(?<=nats) (?=†)"
    return re.sub(gap, "\u00a0", text)


def _has_figures(column: Sequence[str]) -> bool:
    """Whether a column has more figures than words, all of them short; dashes do not count."""
    figures = [c for c in column if re.match(r"[<≈]? ?[+−-]?\d", c) and ": " not in c]
    words = [cell for cell in column if cell not in figures and cell not in ("", "–")]
    return len(figures) > len(words) and all(len(cell) <= len(NO_LIKELIHOOD) for cell in words)


def mean_cell(run: Run, score: Score) -> str:
    """A mean in the unit of the run, which is named where it is nats."""
    if run.is_binary:
        return f"{score.nats(run.config.model.image_shape)[0]:.2f} nats"
    return f"{score.bits_per_dim:.3f}"


def score_cell(run: Run, score: Score | None = None, *, unit: bool = False) -> str:
    """The `score`, else the test score, ± its standard error, in the unit of the run.

    With `unit` nats are named.
    """
    if not run.has_likelihood:
        return NO_LIKELIHOOD
    score = score or run.score
    if run.is_binary:
        return score.cells(run.config.model.image_shape)[1] + " nats" * unit
    return f"{score.bits_per_dim:.3f} ± {score.standard_error:.3f}"


def short(commit: str) -> str:
    """A commit in nine digits, and a "+" where the code had uncommitted changes."""
    return commit[:9] + ("+" if commit.endswith("+") else "")


def scored(run: Run, row: TableRow) -> str:
    """The figure on the split that the paper scores, in the unit of the run, ± its standard error.

    That is the set's own validation split where `row` says so, as for CelebA.
    """
    return score_cell(run, run.scores.validation if row.split == "validation" else None)


def comparable(run: Run, row: TableRow) -> bool:
    """Whether a run has the data set and the crop, if any, of a row."""
    return run.record.data.name == row.data and run.config.data.crop == row.planned.data.crop


def deviation(run: Run, config: RunConfig) -> str:
    """The settings in which a run differs from its configuration in configs/, if there are any."""
    changed = [key for key in differences(run.config, config) if key != "name"]
    return f" with other settings ({', '.join(changed)})" * bool(changed)


def provenance(run: Run) -> str:
    """A run in one line: its size, length, machine and state."""
    entry = run.record
    kind = ", a bound" if run.fresh_model.likelihood == "bound" else ""
    kind += ", given labels" if run.config.model.num_classes else ""
    return (
        f"recorded (`{run.name}`){kind}: {entry.parameters / 1e6:.2f} M parameters, {length(run)} "
        f"on {text(entry.hardware)}, {how_it_ended(run)}"
    )


def length(run: Run) -> str:
    """Steps, epochs and minutes of a run."""
    entry = run.record
    if run.fresh_model.fitted_in_closed_form:
        return "fitted in closed form"
    whole = minutes(run)
    took = f"{whole} minute{'s' * (whole != '1')}" if entry.minutes >= 1 else "seconds"
    return f"{entry.steps:,} step{'s' * (entry.steps > 1)}, {entry.epochs:.3g} epochs, {took}"


def schedule(run: Run) -> str:
    """Where the budget of a run was extended, if it was: its rate rose again."""
    if not run.extended_at:
        return ""
    after = " and ".join(f"{step:,}" for step in run.extended_at)
    return f", budget extended after step{'s' * (len(run.extended_at) > 1)} {after}"


def minutes(run: Run) -> str:
    """The minutes of training steps, whole ones."""
    return f"{run.record.minutes:.0f}" if run.record.minutes >= 1 else "< 1"


def how_it_ended(run: Run) -> str:
    """Whether the budget was spent, or how much of it."""
    entry = run.record
    if entry.state == "finished":
        return entry.state
    return f"{entry.state} at {min(entry.share_of_budget, 0.99):.0%} of its budget"  # not at 100%


def not_run(row: TableRow) -> tuple[str, str]:
    """Two cells: that there is no such run, and the command that would make it."""
    return "not run", f"`nvp train configs/{row.config}.yaml` (needs {row.needs})"


def cite(figure: Figure) -> str:
    """Where a figure was printed, as the book cites it."""
    return f"{{cite:t}}`{figure.source}`, {figure.where}"


def linked(facts: Published, words: str) -> str:
    """Markdown with a link for each citation of the book."""
    links = {key: f"[{source.text}]({source.url})" for key, source in facts.sources.items()}
    return re.sub(r"\{cite:t\}`(\w+)`", lambda found: links[found[1]], words)
