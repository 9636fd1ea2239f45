"""Parts of pages that follow from the ledger, as MyST: sheets of images, a run's log, entries."""

import io
import re
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr
from textwrap import fill

from nvp.ledger.entry import Run
from nvp.paths import repository_root
from nvp.progress import shown
from nvp.tables.cells import Table, length, schedule, score_cell, unbroken
from nvp.training.reporter import Reporter

COLOUR = {
    "cifar10-small": "Real NVP",
    "cifar10-small-pixelcnn": "PixelCNN",
    "cifar10-small-diagonal-bilstm": "Diagonal BiLSTM",
}
SHEET = """:::{{grid-item}}
```{{figure}} ../{path}
:alt: Sixty-four small images in colour. {caption}
:class: sheet
:width: 274px
{caption}
```
:::
"""


def sheets(ledger: Mapping[str, Run]) -> str:
    """Samples of the runs in colour beside real images.

    Paths are seen from book/, where the page is that includes this.
    """
    shown = [(ledger["cifar10-small"].files.real, "Test images of CIFAR-10.")]
    for name, kind in COLOUR.items():
        shown.append((ledger[name].files.samples, f"Samples of a {kind}."))
    items = [
        SHEET.format(path=path.relative_to(repository_root()).as_posix(), caption=caption)
        for path, caption in shown
    ]
    return "::::{grid} 1 2 2 2\n" + "".join(items) + "::::\n"


def reference(overview: str) -> dict[str, str]:
    """The pages of book/api/: each section of book/api.md, with all that its modules describe."""
    section = r"\(api-(\w+)\)=\n#(# .+?)```\{eval-rst\}\n\.\. autosummary::\n\n(.+?)```"
    module = "## {0}\n\n```{{eval-rst}}\n.. automodule:: {0}\n```\n"
    return {
        name: "\n".join([text, *map(module.format, listed.split())])
        for name, text, listed in re.findall(section, overview, re.S)
    }


def progress(run: Run, minutes: Iterable[float]) -> str:
    """The lines that `nvp train` prints for `run`, made from its log, in MyST.

    There is a line for the validation nearest to each of `minutes`. A sentence below says what the
    run took, on which machine, and what it scored.
    """
    rows = [row for row in run.log() if "validation" in row]
    with redirect_stderr(io.StringIO()) as printed, shown(run.name) as show:
        reporter = Reporter(run.config, show)
        for wanted in minutes:
            row = min(rows, key=lambda row: abs(row["minutes"] - wanted))
            reporter.update(int(row["step"]), row["minutes"], row)
    lines = [fill(line, 79, subsequent_indent="  ") for line in printed.getvalue().splitlines()]
    return (
        "```text\n" + "\n".join(lines) + "\n```\n\n"
        f"The recorded run took {length(run)}{schedule(run)}, on {run.record.hardware}. It scores "
        f"{score_cell(run, unit=True)} on the test images.\n"
    )


def folded_entries(ledger: Table) -> str:
    """The entries of the table "ledger", folded: the name of a run, and behind it all lines.

    A line whose first cell is in bold begins a run, and its second cell says what it was.
    """
    runs: list[tuple[str, str, list[tuple[str, ...]]]] = []
    for line in ledger.rows:
        name, what = line
        if name.startswith("**"):
            runs.append((name.strip("*"), what.strip("*"), []))
        else:
            runs[-1][2].append(line)
    folded = []
    for name, what, lines in runs:
        whole = Table("", ("entry", f"`{name}`"), lines).markdown()
        folded.append(f":::{{dropdown}} {unbroken(what)}\n{whole}\n:::\n")
    return "\n".join([f"{ledger.caption}\n", *folded])
