"""Pictures of the families of models side by side, of bounds, of a discriminator, of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor

from nvp_book.figures import BLUE, GREEN, GREY, INK, ORANGE, PALETTE, WIDTH
from nvp_book.figures.samples import GAP, clean, tile

GUTTER = 14  # white pixels between the blocks of a row


def draw_families(
    rows: Mapping[str, Sequence[Tensor | str]], titles: Sequence[str], columns: Sequence[int]
) -> None:
    """One row for each name, of blocks of `columns` images, uint8, (N, 1, H, W), N <= columns.

    A block may be a text instead, which says why there are no images.
    """
    height, width = next(
        block.shape[2:] for row in rows.values() for block in row if not isinstance(block, str)
    )
    widths = [count * (width + GAP) - GAP for count in columns]
    lefts = [sum(widths[:i]) + i * GUTTER for i in range(len(widths))]
    step = height + 2 * GAP
    whole = np.full((len(rows) * step, lefts[-1] + widths[-1], 3), 255, np.uint8)
    figure, ax = plt.subplots(figsize=(WIDTH, (WIDTH - 1.0) * len(whole) / whole.shape[1] + 0.4))
    for top, row in zip(range(0, len(whole), step), rows.values(), strict=True):
        for left, across, count, block in zip(lefts, widths, columns, row, strict=True):
            if isinstance(block, str):
                style: dict[str, Any] = {
                    "ha": "center",
                    "va": "center",
                    "color": GREY,
                    "fontsize": 8.5,
                }
                ax.text(left + across / 2, top + height / 2, block, **style)
                continue
            sheet = tile(block, count)
            whole[top : top + height, left : left + sheet.shape[1]] = sheet
    clean(ax)
    ax.imshow(whole)
    ax.set_yticks([height / 2 + i * step for i in range(len(rows))], list(rows), fontsize=9)
    for left, across, title in zip(lefts, widths, titles, strict=True):
        ax.text(left + across / 2, -5, title, ha="center", va="bottom", fontsize=9.5)
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 0.95))


def draw_bounds(
    bounds: Mapping[str, Mapping[int, float]], exact: Mapping[str, float], bits: str
) -> None:
    """Bounds in bits/dim over the number of draws, each relative to one draw; and exact figures.

    `bits` names the unit on the axis. Exact figures are flat lines at zero.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 2.9))
    for (name, points), colour, marker in zip(bounds.items(), PALETTE, "osD^", strict=False):
        first = points[1]
        gains = [value - first for value in points.values()]
        ax.plot(list(points), gains, color=colour, marker=marker, ms=5, label=name)
    for name in exact:
        ax.axhline(0, color=INK, ls="--", lw=1.2, label=f"{name}: exact, no draws")
    ax.set_xscale("log", base=2)
    ax.set(xlabel="draws K for each image", ylabel=bits)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.legend(fontsize=9.5)


def draw_discriminator(x: Tensor, data: Tensor, model: Tensor) -> None:
    """On a line: two densities, and what the best discriminator makes of them."""
    _, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.7))
    best = data / (data + model)
    left.plot(x, data, color=BLUE, label="$p$, the data")
    left.plot(x, model, color=ORANGE, label="$q$, what $G$ draws")
    left.set(xlabel="x", ylabel="density", ylim=(0, 0.4))
    left.legend(fontsize=9, loc="upper right")
    right.plot(x, best, color=GREEN)
    for place, colour, name in ((data, BLUE, "$p$"), (best, GREEN, "$D^*$")):
        peak = x[place.argmax()].item()
        right.plot([peak, peak], [0, 1], color=colour, ls=":", label=f"where {name} is highest")
    right.set(xlabel="x", ylabel="$D^*(x)$", ylim=(0, 1.45), yticks=[0, 0.5, 1])
    right.legend(fontsize=9, loc="upper left")


def draw_classes(shares: Mapping[str, Sequence[float]], names: Sequence[str]) -> None:
    """The share of each class among the samples of each model; dashed: equal shares."""
    _, axes = plt.subplots(1, len(shares), figsize=(WIDTH, 2.6), sharey=True, sharex=True)
    for ax, (title, each) in zip(axes, shares.items(), strict=True):
        ax.barh(range(len(names)), each, color=BLUE, height=0.7)
        ax.axvline(1 / len(names), color=INK, ls="--", lw=1)
        ax.set_title(title, fontsize=9.5)
        ax.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes[0].set_yticks(range(len(names)), names, fontsize=9)
    axes[0].invert_yaxis()
