"""Parts of pages, as MyST: sheets of images, a run's log, the ledger's entries, the reference."""

import io
import re
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr
from textwrap import fill

from nvp.ledger.entry import Run
from nvp.paths import repository_root
from nvp.progress import shown
from nvp.tables.cells import (
    Table,
    code,
    how_it_ended,
    length,
    schedule,
    score_cell,
    short,
    text,
    unbroken,
)
from nvp.training.reporter import Reporter

ENTRIES = (
    "Every recorded run, and its score on test images: bits/dim, or nats an image for binary "
    "images, ± the standard error over images. Minutes are those of training steps. Code is "
    "given as a commit, with a + where changes to it were not committed; images and weights "
    "by the first digits of their SHA-256, of which each run's record has all."
)
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
        shown.append((ledger[name].files.samples, f"Samples of a {kind}, none selected."))
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


def folded_entries(ledger: Mapping[str, Run]) -> str:
    """Training, images, weights and files of each run, folded under its title and test score."""
    folded = []
    for run in ledger.values():
        title = f"{text(run.record.title)}: {score_cell(run, unit=True)}"
        whole = Table("", ("entry", f"`{run.name}`"), _entry_lines(run)).markdown()
        folded.append(f":::{{dropdown}} {unbroken(title)}\n{whole}\n:::\n")
    return "\n".join([f"{ENTRIES}\n", *folded])


def _entry_lines(run: Run) -> list[tuple[str, ...]]:
    """The rows of an entry; its files are downloads."""
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
    names = (path.name for path in (run.files.record, run.files.config, run.files.log))
    files = ", ".join(f"{{download}}`{name} <../{folder}/{name}>`" for name in names)
    return [
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
