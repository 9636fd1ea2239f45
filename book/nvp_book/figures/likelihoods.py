"""Pictures of what likelihoods are and are not: images from elsewhere, typical sets, files.

Every function plots one new figure and returns nothing. Scores are in bits/dim.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from nvp_book.figures import BELOW, BLUE, GREY, INK, MARKERS, ORANGE, PALE, PALETTE, SKY, WIDTH

COLOURS = (*PALETTE, INK, GREY, PALE)  # as many as there are markers


def plot_score_rows(scores: Mapping[str, Tensor]) -> None:
    """A histogram of bits/dim, (N,), for each name, one below the other.

    The first is the reference: its middle half is a band, its mean a dashed line through all.
    """
    reference, *_ = scores.values()
    ends = torch.cat(list(scores.values()))
    bins = np.linspace(math.floor(ends.min().item()), math.ceil(ends.max().item()), 61)
    _, ax = plt.subplots(figsize=(WIDTH, 0.44 * len(scores) + 0.7))
    middle = torch.quantile(reference, torch.tensor([0.25, 0.75], dtype=reference.dtype))
    ax.axvspan(*middle.tolist(), color=PALE, lw=0)
    ax.axvline(reference.mean().item(), color=INK, ls="--", lw=1.2)
    colours = COLOURS[: len(scores)]
    for row, (bits, colour) in enumerate(zip(scores.values(), colours, strict=True)):
        counts, _ = np.histogram(bits, bins)
        foot = np.full(len(counts), -float(row))
        tops = foot + 0.85 * counts / max(counts)
        ax.stairs(tops, bins, baseline=foot, fill=True, fc=colour, ec=INK, lw=0.5)
        ax.axhline(-row, color=GREY, lw=0.5)
    ax.set_yticks([0.2 - row for row in range(len(scores))], list(scores))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set(xlabel="bits/dim of an image", xlim=(bins[0], bins[-1]), ylim=(0.9 - len(scores), 1))


def plot_constants(levels: Tensor, bits: Tensor, reference: Tensor) -> None:
    """Bits/dim over the grey level of a constant image, and the range of reference images."""
    figure, ax = plt.subplots(figsize=(WIDTH, 2.9))
    low, mean, high = (f(reference).item() for f in (torch.min, torch.mean, torch.max))
    ax.axhspan(low, high, color=PALE, lw=0, label="test images, from least to most")
    ax.axhline(mean, color=INK, ls="--", lw=1.2, label="their mean")
    ax.plot(levels, bits, "o-", color=BLUE, ms=4, label="a constant image")
    ax.set(xlabel="grey level", ylabel="bits/dim", ylim=(0, None), xlim=(-4, 259))
    figure.legend(**BELOW)


def plot_causes(scores: Mapping[str, Tensor], causes: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Bits/dim of images over each cause (a name for its axis -> set -> (N,)); a panel each."""
    figure, axes = plt.subplots(1, len(causes), figsize=(WIDTH, 4.7), sharey=True)
    for ax, (cause, values) in zip(axes, causes.items(), strict=True):
        for (name, bits), colour, marker in zip(scores.items(), COLOURS, MARKERS, strict=False):
            style = {"fc": colour, "marker": marker, "s": 20, "lw": 0.3, "ec": INK}
            ax.scatter(values[name], bits, label=name, **style)
        ax.set_xlabel(cause)
    axes[0].set_ylabel("bits/dim of the flow")
    figure.legend(*axes[0].get_legend_handles_labels(), **BELOW)


def plot_shells(dimensions: Sequence[int]) -> None:
    """-log2 p of draws of a unit Gaussian, per dimension, in several numbers of dimensions.

    Dashes mark the mean, the triangle the mode: the least that any point costs.
    """
    _, axes = plt.subplots(len(dimensions), 1, figsize=(WIDTH, 4.2), sharex=True)
    least, mean = 0.5 * math.log2(2 * math.pi), 0.5 * math.log2(2 * math.pi * math.e)
    rng = np.random.default_rng(0)
    bins = np.linspace(least - 0.03, 4.0, 200)
    for ax, size in zip(axes, dimensions, strict=True):
        bits = least + rng.chisquare(size, 20_000) / (2 * size * math.log(2))
        ax.hist(bits, bins, density=True, color=BLUE)
        ax.axvline(mean, color=INK, ls="--", lw=1.2)
        ax.plot(least, 0, "^", color=ORANGE, ms=9, clip_on=False, zorder=3)
        ax.set(yticks=[])
        ax.set_ylabel(f"D = {size}", rotation=0, ha="right")
        ax.spines["left"].set_visible(False)
    axes[-1].set_xlabel(r"bits per dimension, $-\log_2 p(z)\,/\,D$")


def plot_promises(promised: Tensor, sizes: Mapping[str, Tensor]) -> None:
    """Bytes of single files, (N,) under each name, over -log2 P of the images in bytes."""
    _, ax = plt.subplots(figsize=(0.85 * WIDTH, 4.0))
    end = 1.05 * max(values.max().item() for values in sizes.values())
    ax.plot([0, end], [0, end], color=GREY, lw=1, zorder=0, label="a file as long as promised")
    for (name, values), colour, marker in zip(sizes.items(), PALETTE, "osD^", strict=False):
        ax.scatter(promised, values, s=18, color=colour, marker=marker, lw=0, label=name)
    ax.set(xlabel="promised: −log₂ P, in bytes", ylabel="bytes of the file")
    ax.set(xlim=(0, 1.05 * promised.max().item()), ylim=(0, end))
    ax.legend(fontsize=9, loc="upper left")


def plot_intervals(shares: Mapping[str, float], message: str) -> None:
    """Arithmetic coding: each symbol of `message` keeps its share of the interval so far.

    Every interval has full width, under its ends in [0, 1); the part that is kept is blue.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 0.78 * len(message) + 0.5))
    borders = np.cumsum([0.0, *shares.values()])
    low, width = 0.0, 1.0
    for row, symbol in enumerate(message):
        for name, (start, stop) in zip(shares, pairwise(borders), strict=True):
            kept = name == symbol
            colour = SKY if kept else "white"
            ax.broken_barh([(start, stop - start)], (-row, 0.42), fc=colour, ec=INK, lw=0.8)
            ax.text((start + stop) / 2, -row + 0.2, name, ha="center", va="center")
            if kept and row + 1 < len(message):
                for place, corner in ((start, 0), (stop, 1)):
                    ax.plot([place, corner], [-row, -row - 0.58], color=BLUE, lw=1, ls=":")
        for x, end, side in ((0, low, "left"), (1, low + width, "right")):
            style: dict[str, Any] = {"bbox": {"fc": "white", "ec": "none", "pad": 1}, "zorder": 3}
            ax.text(x, -row + 0.46, f"{end:.4g}", ha=side, va="bottom", fontsize=9, **style)
        i = list(shares).index(symbol)
        low, width = low + width * borders[i], width * shares[symbol]
    ax.set(xlim=(-0.01, 1.01), ylim=(-len(message) + 0.95, 0.75))
    ax.axis("off")
