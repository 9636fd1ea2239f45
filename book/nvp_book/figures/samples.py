"""Pictures of results: sheets of images, curves of learning, scores and latents (figures 5 and 6).

Every `plot_` function plots one new figure and returns nothing. Images are uint8, (N, C, H, W), at
a whole-number zoom, so that all pixels of an image are equally large.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn import functional as F

from nvp.ledger.entry import Run
from nvp_book.figures import BLUE, INK, MARKERS, ORANGE, PALETTE, WIDTH, ink_of
from nvp_book.selection import sheet

OFFSET: dict[str, Any] = {"textcoords": "offset points"}
GAP = 2  # white pixels between the images of a sheet
CURVE_POINTS = 1000  # of a learning curve, at most: a page holds them all


def tile(images: Tensor, columns: int) -> np.ndarray:
    """One picture of many, row by row: uint8, (height, width, 3); what is left over is white."""
    tiles = F.pad(images.cpu().expand(-1, 3, -1, -1), (0, GAP, 0, GAP), value=255)
    left_over = tiles.new_full((-len(tiles) % columns, *tiles.shape[1:]), 255)
    rows = torch.cat([tiles, left_over]).unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2)
    return rows.flatten(2, 3).flatten(0, 1)[:-GAP, :-GAP].numpy()


def plot_beside(sheets: Mapping[str, Tensor], *, columns: int) -> None:
    """Sheets of images side by side, each under its name (figure 5), at a whole-number zoom."""
    tiled = {name: tile(images, columns) for name, images in sheets.items()}
    side_by_side(tiled, WIDTH, fontsize=13)  # a phone shrinks the whole picture


def plot_entry(run: Run, columns: int, rows: int | None = None) -> None:
    """Real images beside samples, the first columns and rows of two sheets of the ledger."""
    paths = {"test images": run.files.real, "samples": run.files.samples}
    sheets = {name: sheet(run, path, columns, rows) for name, path in paths.items()}
    plot_beside(sheets, columns=columns)


def side_by_side(pictures: Mapping[str, np.ndarray], most: float, **title: Any) -> None:
    """Pictures under their names, in a width of at `most` so many inches, at one whole zoom."""
    dots, gap, top = mpl.rcParams["figure.dpi"], 0.2, 0.3
    across = sum(picture.shape[1] for picture in pictures.values())
    gaps = gap * (len(pictures) - 1)
    zoom = max(1, int((most - gaps) * dots / across))
    height = zoom * max(picture.shape[0] for picture in pictures.values()) / dots + top
    width, left = zoom * across / dots + gaps, 0.0
    figure = plt.figure(figsize=(width, height), layout="none")
    for name, picture in pictures.items():
        high, wide = (zoom * side / dots for side in picture.shape[:2])
        box = (left / width, 1 - (top + high) / height, wide / width, high / height)
        ax = figure.add_axes(box)
        ax.imshow(picture)
        ax.set_title(name, **title)
        clean(ax)
        left += wide + gap


def sheet_axes(picture: np.ndarray, left: float = 0.0) -> Axes:
    """A figure of one picture at the largest whole zoom, with `left` inches free beside it."""
    dots = mpl.rcParams["figure.dpi"]
    zoom = max(1, int((WIDTH - left) * dots / picture.shape[1]))
    height, width = (zoom * side / dots for side in picture.shape[:2])
    figure = plt.figure(figsize=(left + width, height), layout="none")
    ax = figure.add_axes((left / (left + width), 0, width / (left + width), 1))
    ax.imshow(picture)
    clean(ax)
    return ax


def plot_manifold(images: Tensor, marked: Mapping[tuple[int, int], str]) -> None:
    """A square grid of decoded latents (figure 6) at a whole zoom; `marked` names some places."""
    ax = sheet_axes(tile(images, math.isqrt(len(images))))
    height, width = images.shape[2:]
    for (row, column), name in marked.items():
        left, top = column * (width + GAP), row * (height + GAP)
        box = Rectangle((left - 1, top - 1), width + 1, height + 1, fill=False, edgecolor=ORANGE)
        box.set(linewidth=2, clip_on=False)
        ax.add_patch(box)
        label = {"color": INK, "fontsize": 9, "va": "top", "weight": "bold"}
        ground = {"facecolor": ORANGE, "edgecolor": "none", "pad": 1.5}  # on bright images, too
        ax.text(left + 1, top + 1, name, label, bbox=ground)


def plot_learning_curves(
    title: str,
    logs: Mapping[str, list[dict[str, float]]],
    published: Mapping[str, Sequence[tuple[float, float]]],
    figures: Mapping[str, float],
    epoch: int,
) -> None:
    """Bits/dim of one data set over training images seen, of which an `epoch` has so many.

    Of our runs, whose `logs` these are, lines are the training loss, penalty included; marks are
    held-out images under averaged weights. One run has its name at its end, several have a legend.
    The first twentieth of a run, where the loss falls steeply, is left out. `published` has
    (images seen, bits/dim) by source, and `figures` are published scores of finished runs.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 3.7))
    lows, starts, handles = list(figures.values()), [], []
    for (name, rows), colour, mark in zip(logs.items(), PALETTE, MARKERS, strict=False):
        seen, bits = over_images(rows, "bits_per_dim")
        # A row after a resumed step stands for few images, and would be a spike.
        images = np.diff(seen, prepend=0)
        whole = np.flatnonzero(images > np.median(images) / 2)
        # Evenly spaced on the logarithmic axis; where rows are further apart, all of them.
        which = whole[np.unique(np.geomspace(1, len(whole), CURVE_POINTS).astype(int)) - 1]
        ax.plot(np.take(seen, which), np.take(bits, which), color=colour, lw=1)
        marks = over_images(rows, "validation")
        ax.plot(*marks, mark, color=colour, ms=4)
        handles.append(Line2D([], [], color=colour, marker=mark, ms=4, lw=1, label=name))
        if len(logs) == 1:
            end = (marks[0][-1], marks[1][-1])
            ax.annotate(name, end, (5, -1), color=ink_of(colour), va="bottom", **OFFSET)
        lows.append(marks[1][-1])
        starts.append((seen[len(seen) // 20], bits[len(seen) // 20]))
    for (name, points), colour in zip(published.items(), PALETTE[2:], strict=False):
        ax.plot(*zip(*points, strict=True), "s--", color=colour, ms=3, lw=1)
        ax.annotate(name, points[-1], (4, 3), color=ink_of(colour), **OFFSET)
        lows.append(points[-1][1])
        starts.append(points[0])
    for name, value in figures.items():
        ax.axhline(value, color=INK, lw=1)
        label, across = f"{name}: {value:.2f}", ax.get_yaxis_transform()
        ax.text(0.02, value, label, va="bottom", fontsize=9, transform=across)
    if len(logs) > 1:
        # Below the curves, where room is kept; above, a jump of a curve could meet it.
        ax.legend(handles=handles, loc="lower left", ncols=3, fontsize=9, borderaxespad=0)
    first, high = min(x for x, _ in starts), max(y for _, y in starts)
    pad = 0.08 * (high - min(lows))
    last = max(float(np.max(line.get_xdata())) for line in ax.lines)
    ax.set(title=title, xscale="log", xlabel="training images seen", ylabel="bits/dim")
    ax.set_ylim(min(lows) - 2 * pad, high + pad)  # below is room for a name
    ax.set_xlim(first * 0.8, last * (last / first) ** (0.35 if published else 0.05))
    there_and_back = (lambda x: np.divide(x, epoch), lambda x: np.multiply(x, epoch))
    epochs = ax.secondary_xaxis("top", functions=there_and_back)
    epochs.set_xlabel("epochs")
    epochs.xaxis.set_major_formatter("{x:g}")
    for axis in (ax.xaxis, epochs.xaxis):
        axis.set_minor_formatter("")


def over_images(rows: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    """The images seen, and the column `name` of a log, where that is filled in."""
    filled = [row for row in rows if name in row]
    return [row["images"] for row in filled], [row[name] for row in filled]


def plot_scored(rows: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Named rows of images of one length, each image over its bits/dim: (n, C, H, W) and (n,)."""
    count, _, height, width = next(iter(rows.values()))[0].shape
    axes = image_axes(count, (height, width), under=[0.3] * len(rows), left=0.3)
    for line, (name, (images, bits)) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(name)
        for ax, image, cost in zip(line, images, bits, strict=True):
            ax.imshow(tile(image[None], 1))
            ax.set_xlabel(f"{cost:.2f}", fontsize=9, labelpad=1)


def plot_latent_histograms(latents: Mapping[str, Tensor]) -> None:
    """All latents of each name in one histogram, against the unit Gaussian."""
    _, axes = plt.subplots(1, len(latents), figsize=(WIDTH, 2.4), sharey=True, squeeze=False)
    grid = np.linspace(-4, 4, 200)
    for ax, (name, z) in zip(axes[0], latents.items(), strict=True):
        style = {"histtype": "stepfilled", "color": BLUE, "alpha": 0.5}
        ax.hist(z.flatten().numpy(), np.linspace(-4, 4, 81), density=True, **style)
        ax.plot(grid, np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi), color=INK, lw=1.2)
        ax.set(title=name, xlabel="z")
    axes[0, 0].set_ylabel("density")


def plot_rows(rows: Mapping[str, Tensor], *, titles: Sequence[str] = ()) -> None:
    """Rows of images of one length, each with its name at the left; `titles` are above columns."""
    first = next(iter(rows.values()))
    picture = tile(torch.cat(list(rows.values())), len(first))
    ax = sheet_axes(picture, left=1.2)
    down, across = first.shape[2] + GAP, first.shape[3] + GAP
    ax.set_yticks([first.shape[2] / 2 + i * down for i in range(len(rows))], list(rows))
    ax.xaxis.tick_top()
    ax.set_xticks([first.shape[3] / 2 + i * across for i in range(len(titles))], titles)


def image_axes(
    columns: int,
    shape: tuple[int, int],
    *,
    under: Sequence[float],
    over: float = 0.0,
    left: float = 0.0,
    right: float = 0.0,
) -> np.ndarray:
    """Axes for images of `shape`, (rows, columns), at the largest whole-number zoom that fits.

    A row for each entry of `under`, the inches that stay free below it. `over`, `left` and `right`
    are those above, and at both sides.
    """
    (height, width), dots = shape, mpl.rcParams["figure.dpi"]
    zoom = max(1, int((WIDTH - left - right) * dots / (columns * (width + GAP))))
    high, wide, step = (zoom * side / dots for side in (height, width, width + GAP))
    whole = (left + columns * step + right, over + sum(under) + len(under) * high)
    figure = plt.figure(figsize=whole, layout="none")
    axes = np.empty((len(under), columns), dtype=object)
    for row, column in np.ndindex(*axes.shape):
        bottom = whole[1] - over - sum(under[:row]) - (row + 1) * high
        at = ((left + column * step) / whole[0], bottom / whole[1])
        axes[row, column] = ax = figure.add_axes((*at, wide / whole[0], high / whole[1]))
        clean(ax)
    return axes


def colour_bar(ax: Axes, shown: AxesImage, label: str, **options: Any) -> None:
    """The scale of colours of an image, at the right of its axes in the current figure."""
    figure, box = plt.gcf(), ax.get_position()
    inch = 1 / figure.get_figwidth()
    bar = figure.add_axes((box.x1 + 0.05 * inch, box.y0, 0.1 * inch, box.height))
    figure.colorbar(shown, cax=bar, label=label, **options)


def clean(ax: Axes) -> None:
    """Take away ticks and frame."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
