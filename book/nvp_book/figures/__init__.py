"""Every picture the book shows, and the one style in which they are plotted.

Pictures stand on white, also in the dark theme. They are as wide as the text of a page, so that
their letters come out at one size. The colours are those of Okabe and Ito, which keep apart for
readers who do not see all of them, and in print.
"""

import io
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from IPython.core.getipython import get_ipython
from IPython.core.pylabtools import print_figure, select_figure_formats
from IPython.display import Markdown, display
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.typing import ColorType
from PIL import Image

from nvp.runs.sheet import encode
from nvp.tables.cells import Table

BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
YELLOW = "#F0E442"
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW)
# Beside the colours: curves that touch, and sets of points, can be told apart without them.
STYLES = ("-", "--", "-.", ":") * 2
MARKERS = "osD^vP*Xhd"

INK = "#1a1a1a"
GREY = "#767676"  # the lightest grey that is still legible on white (contrast 4.5)
PALE = "#e6e6e6"  # for fills and rules, never for text

# Maps from numbers to colour: for densities and magnitudes, and for signed values.
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"

WIDTH = 7.2  # inches, the text of a page
DOTS = 220  # an inch, of what a line drawing holds as dots: densities, clouds of points
HEAVY = 100_000  # bytes: a larger SVG is shown as PNG, if the PNG is smaller
# A legend above the axes, at the left: the part of a wide picture that a phone shows first.
ABOVE: dict[str, Any] = {
    **{"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.3},
    **{"ncols": 2, "fontsize": 9, "columnspacing": 1},
}
BELOW: dict[str, Any] = {"loc": "outside lower left", "ncols": 2, "fontsize": 9}  # of a figure


def contrast(colour: ColorType, other: ColorType) -> float:
    """The contrast of WCAG 2, from 1 to 21: letters need 4.5."""

    def luminance(colour: ColorType) -> float:
        rgb = np.array(to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    darker, lighter = sorted((luminance(colour), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def ink_on(fill: ColorType) -> str:
    """The colour of letters on `fill`: white, or ink."""
    return max("white", INK, key=lambda ink: contrast(ink, fill))


def ink_of(colour: ColorType) -> str:
    """A colour of the palette, as dark as letters on white must be."""
    red, green, blue = to_rgb(colour)
    shades = (to_hex((k * red, k * green, k * blue)) for k in np.linspace(1, 0, 51))
    return next(shade for shade in shades if contrast(shade, "white") >= 4.5)


def use_style() -> None:
    """Make matplotlib plot in the style of the book, for the rest of this process.

    A notebook then shows a figure as SVG, and as PNG where it holds images (uint8), or where its
    SVG would be over `HEAVY` and the larger of both.
    """
    mpl.rcdefaults()  # a reader's own file of settings may ask for LaTeX
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
            "svg.hashsalt": "nvp",  # the same drawing gives the same file
        }
    )
    if (shell := get_ipython()) is not None:  # a script has none
        choose_formats(shell)


def choose_formats(shell: Any) -> None:
    """Let an IPython shell show each figure in the one format that suits it."""
    import matplotlib_inline.backend_inline  # noqa: F401 - it registers its own choice when imported

    select_figure_formats(shell, ())
    shell.display_formatter.mimebundle_formatter.for_type(Figure, shown)


def shown(figure: Figure) -> dict[str, Any] | tuple[dict[str, Any], dict[str, Any]]:
    """SVG or PNG by its MIME type, and what is to be known of it, if anything."""
    images = [image for axes in figure.axes for image in axes.get_images()]
    if any(np.asarray(image.get_array()).dtype == np.uint8 for image in images):
        return {"image/png": _smallest(print_figure(figure, "png"))}
    drawing = print_figure(figure, "svg", dpi=DOTS, metadata={"Date": None})
    # On one line: a notebook indents every line, and a path has one for each of its corners.
    drawing = drawing.replace("\n", " ")
    if len(drawing) <= HEAVY:
        return {"image/svg+xml": drawing}
    dots = _smallest(print_figure(figure, "png", dpi=DOTS))
    if len(drawing) < len(b64encode(dots)):
        return {"image/svg+xml": drawing}
    with Image.open(io.BytesIO(dots)) as picture:
        width = round(picture.width * 96 / DOTS)  # CSS pixels, as of an SVG
    return {"image/png": dots}, {"image/png": {"width": width}}


def _smallest(png: bytes) -> bytes:
    """The same picture in as few bytes as PNG needs: grey where it has no colour."""
    with Image.open(io.BytesIO(png)) as picture:
        whole = picture.convert("RGB")
    red, green, blue = whole.split()
    return encode(red if red == green == blue else whole)


def show_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Show a table in the page: names in the first column; columns of figures are flush right."""
    table = Table("", tuple(header), [tuple(map(str, row)) for row in rows])
    show_text(table.markdown())


def show_text(text: str) -> None:
    """Show Markdown in the page."""
    display(Markdown(text))
