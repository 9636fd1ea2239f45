"""Pictures of latents: walks between images, larger images, and what a label changes.

Every function plots one new figure and returns nothing. Images are uint8, (N, C, H, W).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from nvp_book.figures import ABOVE, ORANGE, PALETTE, STYLES, WIDTH, ink_on
from nvp_book.figures.samples import GAP, sheet_axes, side_by_side, tile


def plot_along(
    shares: Tensor, sizes: Mapping[str, Tensor], bits: Mapping[str, tuple[Tensor, Tensor]]
) -> None:
    """|z|^2 / D, and bits/dim with standard errors, over the share of the way, (steps,)."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.9))
    colours = dict(zip(bits, PALETTE, strict=False))
    for name, values in sizes.items():
        axes[0].plot(shares, values, "o-", ms=3.5, color=colours[name])
    for i, (name, (mean, error)) in enumerate(bits.items()):
        beside = [share + 0.008 * (i - (len(bits) - 1) / 2) for share in shares]
        axes[1].errorbar(
            beside, mean, error, fmt="o-", ms=3.5, elinewidth=1, color=colours[name], label=name
        )
    axes[0].set(xlabel="share of the way", ylabel="|z|² / D", ylim=(0, 1.1))
    axes[1].set(xlabel="share of the way", ylabel="bits/dim")
    figure.legend(loc="outside upper left", ncols=len(bits), fontsize=9)


def plot_lengths(lengths: Mapping[str, Tensor]) -> None:
    """Histograms of |z| / sqrt(D), (N,) under each name."""
    _, ax = plt.subplots(figsize=(WIDTH, 2.4))
    values = torch.cat(list(lengths.values()))
    bins = np.linspace(values.min().item() - 0.02, values.max().item() + 0.02, 50).tolist()
    shape: dict[str, Any] = {"density": True, "histtype": "step", "lw": 1.8}
    for (name, each), colour, style in zip(lengths.items(), PALETTE, STYLES, strict=False):
        ax.hist(each.numpy(), bins, color=colour, ls=style, label=name, **shape)
    ax.set(xlabel="|z| / √D", ylabel="density", yticks=[])
    ax.legend(fontsize=9.5, loc="upper center", bbox_to_anchor=(0.45, 1.05))


def plot_to_scale(sheets: Mapping[str, tuple[Tensor, int]], part: float = 1.0) -> None:
    """Sheets of images, each with its number of columns, side by side, at one whole-number zoom.

    They take up that `part` of the width of a page, or less.
    """
    tiled = {name: tile(images, columns) for name, (images, columns) in sheets.items()}
    side_by_side(tiled, part * WIDTH, fontsize=9.5, loc="left")


def plot_border(shares: Mapping[str, Tensor]) -> None:
    """The share of black pixels over the distance from the nearest border, from 0 on."""
    _, ax = plt.subplots(figsize=(WIDTH, 2.7))
    for (name, share), colour, style in zip(shares.items(), PALETTE, STYLES, strict=False):
        ax.plot(range(len(share)), share, style, color=colour, label=name)
    ax.set(xlabel="pixels to the nearest border", ylabel="share of black pixels", ylim=(0, 1))
    ax.legend(**ABOVE)


def plot_by_class(
    rows: Sequence[Tensor], columns: Sequence[str], marked: Sequence[int] | None = None
) -> None:
    """Rows of images under slanted names of their columns; `marked` has a column for each row."""
    images = torch.cat(list(rows))
    height, width = images.shape[2] + GAP, images.shape[3] + GAP
    ax = sheet_axes(tile(images, len(columns)))
    ax.xaxis.tick_top()
    centres = [(width - GAP) / 2 + i * width for i in range(len(columns))]
    ax.set_xticks(centres, columns, rotation=30, ha="left", fontsize=9.5)
    for row, column in enumerate(marked or ()):
        corner = (column * width - 1.5, row * height - 1.5)
        box = Rectangle(corner, width, height, fill=False, edgecolor=ORANGE, lw=2.2, clip_on=False)
        ax.add_patch(box)


def plot_confusion(shares: Tensor, names: Sequence[str]) -> None:
    """Which class was chosen (columns) for images of each class (rows): shares, (K, K)."""
    _, ax = plt.subplots(figsize=(0.62 * WIDTH, 0.56 * WIDTH))
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
    for row, column in shares.nonzero().tolist():
        share = shares[row, column].item()
        colour = ink_on(plt.get_cmap("Blues")(share / 1.15))
        ax.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8, color=colour)
    ax.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=9.5)
    ax.set_yticks(range(len(names)), names, fontsize=9.5)
    ax.set(xlabel="class chosen", ylabel="class of the image")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
