"""Published likelihoods over the years, by family of models."""

from collections.abc import Sequence
from itertools import pairwise
from operator import itemgetter

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from nvp.tables.later_models import APPROACHES, DATA, KINDS
from nvp.tables.published import Figure, Model, Published
from nvp_book.figures import BELOW, BLUE, GREEN, INK, PURPLE, STYLES, VERMILION, WIDTH, ink_of
from nvp_book.figures.samples import OFFSET

# Purple and green look alike to some readers, so each line has a style as well.
COLOURS = dict(zip(APPROACHES, (BLUE, VERMILION, PURPLE, GREEN), strict=True))
LINES = dict(zip(APPROACHES, STYLES[:4], strict=True))
SHAPES = {"exact": "o", "bound": "v", "estimate": "x"}
# Where a name may stand from its point, in points, first choice first, and how it is aligned.
PLACES = [(6, 3, "left"), (6, -10, "left"), (-6, 3, "right"), (-6, -10, "right")]
HEIGHTS = (9, -16, 20, -27, 31, 42, -38, -49)
PLACES += [(0, up, side) for up in HEIGHTS for side in ("left", "center", "right")]
NEAR = 10  # points: beyond, a line leads from a point to its name

Place = tuple[float, float, str]
# Axes, a name or nothing, date and bits/dim, colour.
Point = tuple[Axes, str, tuple[float, float], str]


def plot_years(facts: Published) -> None:
    """Bits/dim over the dates of preprints, a panel for each data set.

    A line joins the models that were the best of their family when they came; they carry their
    names. A score on other images has ‡ in its name, its mark is hollow unless it is a cross, and
    no line goes there.
    """
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 8.8), sharex=True)
    models = {name: model for name, model in facts.models.items() if not model.augmented}
    points: list[Point] = []
    for ax, data in zip(axes, ("cifar10", "imagenet64"), strict=True):
        printed = [f for f in facts.figures if f.data == data and f.model in models]
        printed.sort(key=lambda f: (models[f.model].preprint, f.bits_per_dim))
        for family in APPROACHES:
            theirs = [(f, models[f.model]) for f in printed if models[f.model].family == family]
            points += _plot_family(ax, theirs, COLOURS[family], LINES[family])
        ax.set(title=DATA[data], ylabel="bits/dim")
        ax.margins(y=0.15)
    axes[-1].set(xlim=(2013.5, 2027), xticks=range(2014, 2027))
    lines = [
        Line2D([], [], color=colour, ls=LINES[family], label=APPROACHES[family])
        for family, colour in COLOURS.items()
    ]
    lines += [Line2D([], [], color=INK, ls="", marker=m, label=k) for k, m in SHAPES.items()]
    figure.legend(handles=lines, **BELOW)
    figure.draw_without_rendering()
    _name(points)


def _plot_family(
    ax: Axes, figures: Sequence[tuple[Figure, Model]], colour: str, style: str
) -> list[Point]:
    """Plot the line of a family and all its points; only those that lead it have names."""
    line: list[tuple[float, float]] = []
    points: list[Point] = []
    for figure, model in figures:
        year, month = map(int, model.preprint.split("-"))
        at = (year + (month - 0.5) / 12, float(figure.bits_per_dim or 0))
        shape = SHAPES[KINDS[model.kind].split(",")[0]]
        leads = not line or at[1] < line[-1][1]
        face = "white" if figure.unlike else colour
        ax.plot(*at, shape, color=colour, mfc=face, ms=6.5 if leads else 4, alpha=0.4 + 0.6 * leads)
        name = f"{figure.model}, {figure.digits}" if figure.unlike else figure.model
        points.append((ax, name if leads else "", at, colour))
        if leads and not figure.unlike:
            line.append(at)
    for (x, y), (next_x, next_y) in pairwise(line):  # so that names keep off the line
        steps = [k / 12 for k in range(1, 12)]
        points += [(ax, "", (x + s * (next_x - x), y + s * (next_y - y)), colour) for s in steps]
    ax.plot(*zip(*line, strict=True), color=colour, ls=style, lw=1.2, alpha=0.6)
    return points


def _name(points: Sequence[Point]) -> None:
    """Write each name where it covers least of points, lines and the names before it."""
    taken = []
    for ax, _, at, _ in points:
        x, y = ax.transData.transform(at)
        taken.append((x - 4, y - 4, x + 4, y + 4))
    for ax, name, at, colour in points:
        if not name:
            continue
        ink, others = ink_of(colour), np.array(taken)
        paper = {"fc": "white", "ec": "none", "pad": 0}  # over lines to names beside it
        text = ax.annotate(name, at, (0, 0), fontsize=9, color=ink, zorder=4, bbox=paper, **OFFSET)
        start = ax.transData.transform(at)
        places = [(_covered(text, start, place, others), place) for place in PLACES]
        _, place = min(places, key=itemgetter(0))
        taken += _boxes(text, start, place).tolist()
        right, up, _ = place
        if abs(up) > NEAR:
            line = {"arrowstyle": "-", "lw": 0.6, "color": ink, "shrinkA": 0, "shrinkB": 3}
            ax.annotate("", at, (right, up if up > 0 else up + 9), arrowprops=line, **OFFSET)


def _boxes(text: Annotation, start: np.ndarray, place: Place) -> np.ndarray:
    """What a name covers at a place, and the line to it if it stands far from its point."""
    right, up, side = place
    text.set(position=(right, up), ha=side)
    box = text.get_window_extent()
    way = text.figure.dpi / 72 * np.array([right, up if up > 0 else up + 9])
    steps = [start + share * way for share in (0.3, 0.5, 0.7, 0.9)] if abs(up) > NEAR else []
    return np.array([(*box.min, *box.max), *((*(step - 3), *(step + 3)) for step in steps)])


def _covered(text: Annotation, start: np.ndarray, place: Place, others: np.ndarray) -> float:
    """The area of `others` that a name at a place covers."""
    own = _boxes(text, start, place)[:, None]
    low, high = np.maximum(others[:, :2], own[..., :2]), np.minimum(others[:, 2:], own[..., 2:])
    return float((high - low).clip(min=0).prod(axis=-1).sum())
