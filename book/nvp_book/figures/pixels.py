"""Pictures of the PixelCNN, of two scales, and of what a Pixel RNN says of single pixels."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, NullFormatter
from torch import Tensor

from nvp_book.figures import (
    ABOVE,
    BELOW,
    GREY,
    INK,
    MARKERS,
    ORANGE,
    PALE,
    PALETTE,
    SKY,
    WIDTH,
    YELLOW,
)
from nvp_book.figures.contexts import paint_board
from nvp_book.figures.samples import colour_bar, image_axes, over_images

NEVER, LATER = -1, -2  # in place of a number of layers
HATCH = "////"
WAITING = (191, 219, 238)  # a pixel that is not drawn yet: a colour that no grey image has


def undrawn(images: Tensor, share: float) -> Tensor:
    """Images as they were when `share` of the pixels were drawn: uint8, (N, 3, H, W)."""
    _, _, height, width = images.shape
    done = torch.arange(height * width).reshape(height, width) < share * height * width
    waiting = torch.tensor(WAITING, dtype=torch.uint8)[:, None, None]
    return torch.where(done, images, waiting)


def plot_depths(depths: Tensor, pixel: tuple[int, int], seen: Tensor) -> None:
    """How many layers it takes until `pixel` sees each place, (H, W), or `NEVER` or `LATER`.

    `seen`, bool (H, W), is what a stack of some depth sees; its outline is plotted.
    """
    figure, ax = plt.subplots(figsize=(0.9 * WIDTH, 4.6))
    shown = np.ma.masked_less(depths.numpy(), 0)
    cells: dict[str, Any] = {"edgecolor": "white", "lw": 0.3, "rasterized": True}
    image = ax.pcolormesh(shown, cmap="viridis_r", vmin=0, **cells)
    blind = np.ma.masked_not_equal(depths.numpy(), NEVER)
    ax.pcolormesh(blind, cmap=ListedColormap([PALE]), rasterized=True)
    for row, column in (depths == NEVER).nonzero().tolist():
        cell = Rectangle((column, row), 1, 1, fc="none", ec=GREY, lw=0, hatch=HATCH)
        ax.add_patch(cell).set_rasterized(True)
    _outline(ax, seen)
    ax.add_patch(Rectangle((pixel[1], pixel[0]), 1, 1, fc="white", ec=INK, lw=2.2))
    ax.set_ylim(pixel[0] + 1.1, -0.1)  # nothing below is earlier
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    figure.colorbar(image, ax=ax, label="layers until the pixel sees it")
    handles = [
        Patch(fc="white", ec=INK, lw=2.2, label="the pixel that looks"),
        Patch(fc=PALE, ec=GREY, hatch=HATCH, label="seen at no depth"),
    ]
    figure.legend(handles=handles, **BELOW)


def plot_two_scales(
    large: Tensor, small: Mapping[str, Tensor], factor: int, pixel: tuple[int, int]
) -> None:
    """Figure 2, middle: what `pixel` sees of the image (H, W) and of the small one (h, w), bools.

    A board for each name in `small`. The small image's pixels are circles in the middle of the
    places that they were taken from.
    """
    figure, axes = plt.subplots(1, len(small), figsize=(WIDTH, WIDTH / len(small) + 0.7))
    for ax, (name, seen) in zip(axes, small.items(), strict=True):
        paint_board(ax, large, ["white", SKY])
        for row, line in enumerate(seen.tolist()):
            for column, is_seen in enumerate(line):
                at = (factor * column + 0.5, factor * row + 0.5)
                colour = ORANGE if is_seen else "white"
                ax.plot(*at, "o", ms=6, mfc=colour, mec=INK, mew=0.8)
        ax.add_patch(Rectangle((pixel[1], pixel[0]), 1, 1, fc="none", ec=INK, lw=2.4, zorder=3))
        ax.set_title(name)
    dot: dict[str, Any] = {"marker": "o", "ls": "", "mec": INK, "ms": 7}
    handles = [
        Patch(fc="white", ec=INK, lw=2.2, label="the pixel that looks"),
        Patch(fc=SKY, ec=GREY, label="image: seen"),
        Line2D([], [], mfc=ORANGE, label="small image: seen", **dot),
        Line2D([], [], mfc="white", label="small image: not seen", **dot),
    ]
    figure.legend(handles=handles, **BELOW)


def plot_bills(bills: Mapping[str, Mapping[str, float]]) -> None:
    """Costs in nats an image, one bar for each name, of parts that add up."""
    figure, ax = plt.subplots(figsize=(WIDTH, 0.55 * len(bills) + 1.2))
    parts = dict.fromkeys(part for bill in bills.values() for part in bill)
    fills = dict(zip(parts, (PALE, ORANGE, YELLOW, SKY), strict=False))
    for row, bill in enumerate(bills.values()):
        left = 0.0
        for part, nats in bill.items():
            ax.barh(row, nats, left=left, color=fills[part], ec=INK, lw=0.8)
            if nats > 0.04 * sum(bill.values()):
                ax.text(left + nats / 2, row, f"{nats:.0f}", ha="center", va="center")
            left += nats
    ax.set_yticks(range(len(bills)), list(bills))
    handles = [Patch(fc=fill, ec=INK, lw=0.8, label=part) for part, fill in fills.items()]
    figure.legend(handles=handles, **BELOW)
    ax.set(xlabel="nats an image")
    ax.invert_yaxis()


def _outline(axes: Axes, seen: Tensor) -> None:
    """A line around the places (H, W) that are True."""
    padded = torch.nn.functional.pad(seen.int(), (1, 1, 1, 1))
    for row, column in (padded[:, 1:] != padded[:, :-1]).nonzero().tolist():
        axes.plot([column, column], [row - 1, row], color=INK, lw=1.6, zorder=4)
    for row, column in (padded[1:] != padded[:-1]).nonzero().tolist():
        axes.plot([column - 1, column], [row, row], color=INK, lw=1.6, zorder=4)


def plot_curves(
    curves: Mapping[str, list[dict[str, float]]], published: Mapping[str, float], factor: float
) -> None:
    """Nats an image over images seen: the rows of each run's log, and the paper's figure for it.

    Lines are the training loss, a running mean over a fiftieth of the run. Marks are images for
    validation, which a log has in bits/dim, of `factor` nats each. Dashes at the right are what the
    paper reports, if it does.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 4.0))
    last = max(rows[-1]["images"] for rows in curves.values())
    first, low, high = last / 40, np.inf, 0.0
    for (name, rows), colour, mark in zip(curves.items(), PALETTE, MARKERS, strict=False):
        seen, losses = over_images(rows, "loss")
        width = max(1, len(losses) // 50)
        images = np.diff(seen, prepend=0)  # a row after a resumed step stands for few of them
        sums = (np.convolve(each, np.ones(width), "valid") for each in (losses * images, images))
        means = np.divide(*sums)
        some = slice(None, None, max(1, width // 5))
        ax.plot(seen[width - 1 :][some], means[some], color=colour, lw=1.2)
        at, bits = over_images(rows, "validation")
        style: dict[str, Any] = {"color": colour, "ms": 6, "mec": "white"}
        ax.plot(at, [factor * b for b in bits], mark, zorder=3, **style)
        ax.plot([], [], f"-{mark}", label=name, **style)
        low = min(low, published.get(name, factor * bits[-1]))
        if name in published:
            paper = [1.03 * last, 1.3 * last], 2 * [published[name]]
            ax.plot(*paper, f"--{mark}", lw=1.6, markevery=[1], clip_on=False, **style)
        high = max(high, *(y for x, y in zip(seen[width - 1 :], means, strict=True) if x > first))
    ax.set(xscale="log", xlabel="training images seen", ylabel="nats an image")
    ax.set(xlim=(first, 1.32 * last), ylim=(low - 2.5, min(low + 14, high + 0.5)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.legend(**ABOVE)


def plot_nats_maps(images: Tensor, nats: Tensor) -> None:
    """Images, uint8 (N, C, H, W), and below each the nats that each of its pixels cost, (N, H, W).

    The scale is the same for all; pixels of at most a hundredth of a nat are white.
    """
    count, _, height, width = images.shape
    axes = image_axes(count, (height, width), under=[0.06, 0.3], right=0.64)
    paint = plt.get_cmap("viridis_r").with_extremes(under="white")
    for (above, below), image, cost in zip(axes.T, images, nats, strict=True):
        above.imshow(image.permute(1, 2, 0), cmap="gray")
        shown = below.imshow(cost, cmap=paint, vmin=0.01, vmax=float(nats.max()))
        below.set_xlabel(f"{float(cost.sum()):.0f} nats", fontsize=9.5)
        below.spines[:].set(visible=True, color=PALE)
    colour_bar(axes[1, -1], shown, "nats a pixel", ticks=MaxNLocator(3, integer=True))


def plot_distributions(
    rows: Mapping[str, Tensor], columns: Sequence[str], truth: Sequence[int]
) -> None:
    """Figure 6: probabilities of the levels, (pixels, levels) under each name; below, the true one.

    A row for each model, a column for each pixel.
    """
    size = (WIDTH, 1.9 * len(rows) + 0.5)
    _, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False, sharex=True)
    for line, (name, probabilities), colour in zip(axes, rows.items(), PALETTE, strict=False):
        for ax, p, level in zip(line, probabilities, truth, strict=True):
            ax.stairs(p.numpy(), np.arange(len(p) + 1) - 0.5, fill=True, color=colour)
            ax.plot(level, 0, "^", color=INK, ms=7, clip_on=False, zorder=3)
            ax.set(xlim=(-4, len(p) + 3), ylim=(0, None), yticks=[])
            ax.set_yscale("function", functions=(np.sqrt, np.square))
        line[0].set_ylabel(f"{name}:\nprobability")
    for ax, title in zip(axes[0], columns, strict=True):
        ax.set_title(title)
    for ax in axes[-1]:
        ax.set(xlabel="level", xticks=[0, 128, 255])
