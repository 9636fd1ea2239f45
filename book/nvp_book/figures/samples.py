"""Pictures of results: sheets of images, curves of learning, scores and latents (figures 5 and 6).

Every function draws one new figure and returns nothing. Images are uint8, (N, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from nvp_book.figures import BLUE, INK, ORANGE, PALETTE, WIDTH

GAP = 2  # white pixels between the images of a sheet


def tile(images: Tensor, columns: int) -> np.ndarray:
    """One picture of many, row by row: uint8, (height, width, 3); what is left over is white."""
    count, channels, height, width = images.shape
    rows = math.ceil(count / columns)
    step_y, step_x = height + GAP, width + GAP
    sheet = np.full((rows * step_y - GAP, columns * step_x - GAP, 3), 255, np.uint8)
    pixels = images.expand(-1, 3, -1, -1) if channels == 1 else images
    for i, image in enumerate(pixels.permute(0, 2, 3, 1).cpu().numpy()):
        top, left = i // columns * step_y, i % columns * step_x
        sheet[top : top + height, left : left + width] = image
    return sheet


def draw_sheets(rows: Mapping[str, Mapping[str, Tensor | None]], *, columns: int) -> None:
    """Rows of sheets, such as one for each run, each sheet under its name (figure 5).

    All rows have the same sheets, in one order; None leaves a place empty.
    """
    across = len(next(iter(rows.values())))
    sides = [
        tile(images, columns).shape
        for row in rows.values()
        for images in row.values()
        if images is not None
    ]
    ratio = max(height / width for height, width, _ in sides)
    size = (WIDTH, len(rows) * WIDTH / across * ratio + 0.3)
    _, axes = plt.subplots(
        len(rows), across, figsize=size, squeeze=False, gridspec_kw={"wspace": 0.06}
    )
    for number, (line, (name, row)) in enumerate(zip(axes, rows.items(), strict=True)):
        for ax, (title, images) in zip(line, row.items(), strict=True):
            clean(ax)
            if images is not None:
                ax.imshow(tile(images, columns))
            if number == 0:
                ax.set_title(title.replace(", ", ",\n"), fontsize=9.5)
        line[0].set_ylabel(name, fontsize=9.5)


def draw_manifolds(grids: Mapping[str, Tensor], marked: Mapping[tuple[int, int], str]) -> None:
    """Square grids of decoded latents (figure 6); `marked` names places by (row, column)."""
    _, axes = plt.subplots(
        1, len(grids), figsize=(WIDTH, max(WIDTH / len(grids), 0.6 * WIDTH)), squeeze=False
    )
    for ax, (title, images) in zip(axes[0], grids.items(), strict=True):
        height, width = images.shape[2:]
        clean(ax)
        ax.imshow(tile(images, math.isqrt(len(images))))
        ax.set_title(title)
        for (row, column), name in marked.items():
            left, top = column * (width + GAP), row * (height + GAP)
            corner = (left - 1, top - 1)
            box = Rectangle(corner, width + 1, height + 1, fill=False, edgecolor=ORANGE, lw=2)
            ax.add_patch(box)
            rim = [withStroke(linewidth=2, foreground="black")]  # on bright images, too
            label = {"color": ORANGE, "fontsize": 9, "va": "top", "weight": "bold"}
            label["path_effects"] = rim
            ax.text(left + 1.5, top + 1.5, name, **label)


def draw_learning_curves(
    curves: Mapping[str, Mapping[str, list[dict[str, float]]]],
    yardsticks: Mapping[str, Mapping[str, float]],
) -> None:
    """Bits/dim over images seen: data set -> run -> rows of its log, and published figures.

    Lines are the loss of training, penalty included; dots are held-out images under averaged
    weights.
    """
    _, axes = plt.subplots(
        1, len(curves), figsize=(WIDTH, 4.0), squeeze=False, sharex=len(curves) > 1
    )
    for ax, (data, logs) in zip(axes[0], curves.items(), strict=True):
        lows, highs = [], []
        for (name, rows), colour in zip(logs.items(), PALETTE, strict=False):
            seen = [row["images"] for row in rows]
            bits = [row["bits_per_dim"] for row in rows]
            ax.plot(seen, bits, color=colour, lw=1, label=name)
            dots = [(row["images"], row["validation"]) for row in rows if "validation" in row]
            ax.plot(*zip(*dots, strict=True), "o", color=colour, ms=4)
            lows.append(min(bits))
            highs.append(bits[min(len(bits) - 1, 4 + len(bits) // 50)])
        for (name, value), dashes in zip(
            yardsticks.get(data, {}).items(), ("--", ":", "-."), strict=False
        ):
            ax.axhline(value, color=INK, ls=dashes, lw=1.2, label=name)
            lows.append(value)
        spread = max(highs) - min(lows)
        ax.set(title=data, xscale="log", xlabel="training images seen")
        ax.set_ylim(min(lows) - 0.08 * spread, max(highs) + 0.08 * spread)
        ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.24))
    axes[0, 0].set_ylabel("bits/dim")


def draw_score_histograms(scores: Mapping[str, Tensor]) -> None:
    """How bits/dim, (N,) under each name, are spread over images; dashes mark means."""
    _, ax = plt.subplots(figsize=(WIDTH, 2.6))
    values = torch.cat(list(scores.values()))
    bins = np.linspace(values.min().item(), values.max().item(), 26).tolist()
    for (name, bits), colour in zip(scores.items(), PALETTE, strict=False):
        ax.hist(bits.numpy(), bins, density=True, histtype="step", color=colour, lw=1.8, label=name)
        ax.axvline(bits.mean().item(), color=colour, ls="--", lw=1.2)
    ax.set(xlabel="bits/dim of an image", ylabel="share of images, scaled", yticks=[])
    ax.legend()


def draw_ranked(images: Tensor, scores: Tensor, names: Sequence[str], count: int = 8) -> None:
    """The images of fewest and of most bits/dim, two rows, each image under its score."""
    order = scores.argsort()
    rows = (order[:count], order[-count:])
    _, axes = plt.subplots(2, count, figsize=(WIDTH, 2.5))
    for line, row, name in zip(axes, rows, names, strict=True):
        for ax, i in zip(line, row, strict=True):
            ax.imshow(tile(images[i : i + 1], 1))
            ax.set_title(f"{scores[i]:.2f}", fontsize=9)
            clean(ax)
        line[0].set_ylabel(name)


def draw_latent_histograms(latents: Mapping[str, Tensor]) -> None:
    """All latents of each name in one histogram, against the unit Gaussian."""
    _, axes = plt.subplots(1, len(latents), figsize=(WIDTH, 2.4), sharey=True, squeeze=False)
    grid = np.linspace(-4, 4, 200)
    for ax, (name, z) in zip(axes[0], latents.items(), strict=True):
        ax.hist(z.flatten().numpy(), np.linspace(-4, 4, 81), density=True, color=BLUE, alpha=0.5)
        ax.plot(grid, np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi), color=INK, lw=1.2)
        ax.set(title=name, xlabel="z")
    axes[0, 0].set_ylabel("density")


def draw_rows(rows: Mapping[str, Tensor], *, titles: Sequence[str] = ()) -> None:
    """Rows of images of one length, each with its name at the left; `titles` stand above columns.

    The zoom is a whole number, so that all pixels of an image are equally large.
    """
    first = next(iter(rows.values()))
    picture = tile(torch.cat(list(rows.values())), len(first))
    dots, margin = mpl.rcParams["figure.dpi"], 1.2
    zoom = max(1, int((WIDTH - margin) * dots / picture.shape[1]))
    height, width = (zoom * side / dots for side in picture.shape[:2])
    figure = plt.figure(figsize=(margin + width, height), layout="none")
    ax = figure.add_axes((margin / (margin + width), 0, width / (margin + width), 1))
    ax.imshow(picture)
    clean(ax)
    down, across = first.shape[2] + GAP, first.shape[3] + GAP
    ax.set_yticks([first.shape[2] / 2 + i * down for i in range(len(rows))], list(rows))
    ax.xaxis.tick_top()
    ax.set_xticks([first.shape[3] / 2 + i * across for i in range(len(titles))], titles)


def clean(ax: Axes) -> None:
    """Take away ticks and frame."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
