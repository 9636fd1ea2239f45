"""Boxes, circles and arrows: the parts of the book's diagrams."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from nvp_book import figures

Point = tuple[float, float]


def canvas(axes: Axes, width: float, height: float) -> None:
    """Make `axes` an empty sheet of width x height, in units that are as long as they are high."""
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.set_axis_off()


def sheet(width: float, height: float) -> Axes:
    """A new figure as wide as the page, with a canvas of width x height in it."""
    size = (figures.WIDTH, figures.WIDTH * height / width)
    _, axes = plt.subplots(figsize=size)
    canvas(axes, width, height)
    return axes


def box(
    axes: Axes, centre: Point, size: Point, text: str, *, fill: str = "white", fontsize: float = 10
) -> None:
    """A box with round corners and a text in its middle."""
    (x, y), (width, height) = centre, size
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.08"
    patch = FancyBboxPatch(corner, width, height, style, fc=fill, ec=figures.INK, lw=1, zorder=2)
    axes.add_patch(patch)
    ink = figures.ink_on(fill)
    axes.text(x, y, text, ha="center", va="center", color=ink, fontsize=fontsize, zorder=3)


def circle(axes: Axes, centre: Point, text: str, *, radius: float = 0.2) -> None:
    """An operation, such as a sum."""
    axes.add_patch(Circle(centre, radius, fc="white", ec=figures.INK, lw=1, zorder=2))
    axes.text(*centre, text, ha="center", va="center_baseline", fontsize=11, zorder=3)


def arrow(axes: Axes, *points: Point, colour: str = figures.INK, head: bool = True) -> None:
    """A line through `points`, with a head at its end."""
    line: dict[str, Any] = {"color": colour, "lw": 1.2, "zorder": 1}
    if len(points) > 2:
        axes.plot(*zip(*points[:-1], strict=True), solid_joinstyle="miter", **line)
    style: dict[str, Any] = {"arrowstyle": "-|>" if head else "-", "mutation_scale": 10}
    axes.add_patch(FancyArrowPatch(points[-2], points[-1], shrinkA=0, shrinkB=0, **style, **line))


def arrows(axes: Axes, y: float, *spans: Point) -> None:
    """Arrows on one line at the height `y`, each from a start to an end."""
    for start, end in spans:
        arrow(axes, (start, y), (end, y))


def label(axes: Axes, at: Point, text: str, *, size: float = 9.5, align: str = "center") -> None:
    """Words beside the diagram."""
    axes.text(*at, text, ha=align, va="center", fontsize=size, zorder=3)
