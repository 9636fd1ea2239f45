"""Every picture the book shows, and the one style in which they are drawn.

Pictures stand on white, also in the dark theme, and are as wide as the text of a page, so that
their letters come out at one size. The colours are those of Okabe and Ito, which keep apart for
readers who do not see all of them, and in print.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import matplotlib as mpl
from cycler import cycler

BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
YELLOW = "#F0E442"
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW)

INK = "#1a1a1a"
GREY = "#767676"  # the lightest grey that is still legible on white (contrast 4.5)
PALE = "#e6e6e6"  # for fills and rules, never for text

# Maps from numbers to colour: for densities and magnitudes, and for signed values.
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"

WIDTH = 7.2  # inches, the text of a page


def use_style() -> None:
    """Make matplotlib draw in the style of the book, for the rest of this process."""
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "figure.figsize": (WIDTH, 3.2),
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "font.size": 10.5,
            "axes.titlesize": 11,
            "axes.labelsize": 10.5,
            "axes.labelcolor": INK,
            "text.color": INK,
            "axes.edgecolor": GREY,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=PALETTE),
            "lines.linewidth": 1.8,
            "legend.frameon": False,
            "image.interpolation": "nearest",
            "mathtext.fontset": "dejavusans",
        }
    )


def show_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Show a table in the page: names in the first column; columns of figures are flush right."""
    from IPython.display import Markdown, display  # only a notebook needs it, and has it

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(map(_set, cells)) + " |"

    _, *columns = zip(*rows, strict=True)
    aligned = [":--", *("--:" if _has_figures(column) else ":--" for column in columns)]
    display(Markdown("\n".join([line(header), line(aligned), *map(line, rows)])))


def _set(cell: object) -> str:
    """A cell with a minus for a hyphen, no sign before zero, and no breaks within a figure."""
    text = re.sub(r"^-(?=\d)", "−", str(cell))
    text = re.sub(r"^−(?=0(\.0*)?$)", "", text)
    text = re.sub(r"(?<=\w) ([±×=]) (?=\d)", "\u00a0\\1\u00a0", text)
    return re.sub(r"(?<=\d) (?=%|M\b)|(?<=^±) ", "\u00a0", text)


def _has_figures(column: Sequence[object]) -> bool:
    """Whether a column holds figures, and dashes or nothing beside them."""
    figures = [re.match(r"[<≈]? ?[+−-]?\d", str(cell)) is not None for cell in column]
    rest = (str(cell) for cell, figure in zip(column, figures, strict=True) if not figure)
    return any(figures) and all(cell in ("", "–") for cell in rest)
