"""Pictures of the PixelCNN, of two scales, and of what a Pixel RNN says of single pixels."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from nvp.figures import GREY, INK, ORANGE, PALE, SKY, WIDTH
from nvp.figures.diagram import arrow, box, circle, label, sheet

NEVER, LATER = -1, -2  # in place of a number of blocks
HATCH = "////"


def draw_pixelcnn_block() -> None:
    """Figure 5, left: the residual block of the PixelCNN, widths on the arrows."""
    axes = sheet(14.2, 3.0)
    y, up = 1.0, 2.35
    label(axes, (0.4, y), "$x$", size=12)
    stages = (("1 × 1", PALE), ("3 × 3", ORANGE), ("1 × 1", PALE))
    places, widths = (3.1, 6.6, 10.1), ("$2h$", "$h$", "$h$", "$2h$")
    for at, (name, fill) in zip(places, stages, strict=True):
        box(axes, (at, y), (2.4, 1.1), f"ReLU,\n{name}, mask B", fill=fill)
    starts, ends = (0.7, *(at + 1.2 for at in places)), (*(at - 1.2 for at in places), 12.2)
    for start, end, width in zip(starts, ends, widths, strict=True):
        arrow(axes, (start, y), (end, y))
        label(axes, (end - 0.55, y + 0.3), width)
    circle(axes, (12.45, y), "+", radius=0.25)
    arrow(axes, (1.0, y), (1.0, up), (12.45, up), (12.45, y + 0.25))
    arrow(axes, (12.7, y), (13.7, y))
    label(axes, (13.15, y + 0.3), "$2h$")
    label(axes, (6.6, up + 0.3), "the input, unchanged")


def draw_depths(depths: Tensor, pixel: tuple[int, int], seen: Tensor) -> None:
    """How many blocks it takes until `pixel` sees each place, (H, W), or `NEVER` or `LATER`.

    `seen`, bool (H, W), is what a stack of some depth sees; its outline is drawn.
    """
    figure, ax = plt.subplots(figsize=(0.9 * WIDTH, 5.3))
    shown = np.ma.masked_less(depths.numpy(), 0)
    image = ax.pcolormesh(shown, cmap="viridis_r", vmin=0, edgecolor="white", lw=0.3)
    blind = np.ma.masked_not_equal(depths.numpy(), NEVER)
    ax.pcolormesh(blind, cmap=ListedColormap([PALE]))
    for row, column in (depths == NEVER).nonzero().tolist():
        cell = Rectangle((column, row), 1, 1, fc="none", ec=GREY, lw=0, hatch=HATCH)
        ax.add_patch(cell)
    _outline(ax, seen)
    ax.add_patch(Rectangle((pixel[1], pixel[0]), 1, 1, fc="white", ec=INK, lw=2.2))
    ax.invert_yaxis()
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    figure.colorbar(image, ax=ax, label="blocks until the pixel sees it")
    handles = [
        Patch(fc="white", ec=INK, lw=2.2, label="the pixel that looks"),
        Patch(fc=PALE, ec=GREY, hatch=HATCH, label="seen at no depth"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9.5)


def draw_two_scales(large: Tensor, small: Tensor, pixel: tuple[int, int]) -> None:
    """Figure 2, middle: what `pixel` sees of the image (H, W) and of the small one (h, w), bools.

    The small image's pixels are circles in the middle of the places that they were taken from.
    """
    factor = len(large) // len(small)
    figure, ax = plt.subplots(figsize=(0.75 * WIDTH, 0.75 * WIDTH + 0.4))
    paint = ListedColormap(["white", SKY])
    ax.pcolormesh(large.int(), cmap=paint, vmin=0, vmax=1, ec=GREY, lw=0.4, clip_on=False)
    for row, line in enumerate(small.tolist()):
        for column, is_seen in enumerate(line):
            at = (factor * column + 0.5, factor * row + 0.5)
            style: dict[str, Any] = {"mfc": ORANGE if is_seen else "white", "mec": INK, "mew": 0.8}
            ax.plot(*at, "o", ms=8, **style)
    ax.add_patch(Rectangle((pixel[1], pixel[0]), 1, 1, fill=False, ec=INK, lw=2.4, zorder=3))
    ax.invert_yaxis()
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    dot: dict[str, Any] = {"marker": "o", "ls": "", "mec": INK, "ms": 8}
    handles = [
        Patch(fc="white", ec=INK, lw=2.2, label="the pixel that looks"),
        Patch(fc=SKY, ec=GREY, label="seen of the image"),
        Line2D([], [], mfc=ORANGE, label="seen of the small image", **dot),
        Line2D([], [], mfc="white", label="not seen of it", **dot),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9.5)


def _outline(axes: Axes, seen: Tensor) -> None:
    """A line around the places (H, W) that are True."""
    padded = torch.nn.functional.pad(seen.int(), (1, 1, 1, 1))
    for row, column in (padded[:, 1:] != padded[:, :-1]).nonzero().tolist():
        axes.plot([column, column], [row - 1, row], color=INK, lw=1.6, zorder=4)
    for row, column in (padded[1:] != padded[:-1]).nonzero().tolist():
        axes.plot([column - 1, column], [row, row], color=INK, lw=1.6, zorder=4)
