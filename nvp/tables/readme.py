"""The parts of README.md that follow from the ledger: its pictures, and two of the tables."""

from nvp.errors import NVPError
from nvp.ledger.entry import Run
from nvp.tables.cells import length, linked, score_cell
from nvp.tables.epochs import by_epochs
from nvp.tables.overview import glance
from nvp.tables.published import Published

COLOUR = "cifar10-small"  # the run whose samples are shown


def with_parts(text: str, parts: dict[str, str]) -> str:
    """`text` with each part between its two markers; a part without markers is left out."""
    for name, part in parts.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        before, found, rest = text.partition(begin)
        if not found:
            continue
        _, found, after = rest.partition(end)
        if not found:
            raise NVPError(f"README.md has {begin} but no {end}: put it after the part")
        text = f"{before}{begin}\n\n{part}\n{end}{after}"
    return text


def readme_parts(facts: Published, ledger: dict[str, Run]) -> dict[str, str]:
    """The parts by the names of their markers; no pictures from a ledger without the run."""
    parts = {
        "results": linked(facts, glance(facts, ledger).markdown()),
        "epochs": by_epochs(facts, ledger).markdown(),
    }
    if COLOUR in ledger:
        parts["pictures"] = _pictures(facts, ledger[COLOUR])
    return parts


def _pictures(facts: Published, run: Run) -> str:
    """Samples in colour beside real images, and how far they are from the paper's."""
    sheets = (run.files.real.name, run.files.samples.name)
    paper = next(f for f in facts.figures if (f.data, f.model) == ("cifar10", "Real NVP"))
    names = ("Test images of CIFAR-10", "Images sampled from the model")
    pictures = " ".join(
        f'<img src="results/runs/{run.name}/{sheet}" width="400" alt="{name}, in a square sheet">'
        for sheet, name in zip(sheets, names, strict=True)
    )
    machine = "a GPU" if any(leg.gpu for leg in run.record.legs) else "a processor, without a GPU"
    return (
        f"{pictures}\n\nCIFAR-10: test images on the left, samples of the recorded run "
        f"`{run.name}` on the right. It scores {score_cell(run)} bits/dim after {length(run)} on "
        f"{machine}; the paper's larger model scores {paper.cell}.\n"
    )
