"""Pictures of the chapter on the networks s and t, and on batch normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from nvp_book.figures import BLUE, GREEN, GREY, INK, ORANGE, PALETTE, SKY, VERMILION, WIDTH


def draw_trunk(squares: Tensor, per_block: float) -> None:
    """Mean square along the trunk of fresh networks, (networks, 1 + B), and what was derived."""
    blocks = torch.arange(squares.shape[1])
    mean = squares.mean(dim=0)
    _, ax = plt.subplots(figsize=(0.75 * WIDTH, 2.7))
    for i, one in enumerate(squares):
        ax.plot(blocks, one, color=GREY, lw=0.7, label=None if i else "one network")
    ax.plot(blocks, mean, "o-", color=BLUE, label="mean of the networks")
    derived = mean[0] + per_block * blocks
    ax.plot(blocks, derived, "--", color=INK, lw=1.2, label=f"derived: {per_block:g} a block")
    ax.set(xlabel="blocks passed", ylabel="mean square", ylim=(0, None))
    ax.legend()


def draw_learned_scales(runs: Mapping[str, Sequence[tuple[str, float]]], start: float) -> None:
    """The learned scale of tanh in each coupling: for each run (kind of coupling, alpha), in order.

    All began at `start`.
    """
    _, axes = plt.subplots(1, len(runs), figsize=(WIDTH, 2.8), sharey=True)
    colours = {"checkerboard": BLUE, "channel-wise": ORANGE}
    for ax, (name, couplings) in zip(axes, runs.items(), strict=True):
        for kind, colour in colours.items():
            places = [i for i, (of, _) in enumerate(couplings, start=1) if of == kind]
            heights = [abs(alpha) for of, alpha in couplings if of == kind]
            ax.bar(places, heights, color=colour, label=kind)
        ax.axhline(start, color=INK, ls="--", lw=1.2)
        ax.text(len(couplings) + 0.5, start, "start", ha="right", va="bottom", fontsize=9)
        ax.set(title=name, xlabel="coupling, from data to latents", xticks=range(1, 17, 3))
    axes[0].set_ylabel("|α|")
    axes[-1].legend(fontsize=9)


def draw_blow_up(gains: Sequence[float], largest: Mapping[str, Sequence[float]]) -> None:
    """The largest |z| over the gain of the last convolutions; infinity is drawn at the top."""
    limit = torch.finfo(torch.float32).max
    _, ax = plt.subplots(figsize=(WIDTH, 2.9))
    for (name, values), colour in zip(largest.items(), (VERMILION, BLUE), strict=True):
        finite = [min(value, limit) for value in values]
        ax.loglog(gains, finite, "o-", color=colour, label=name, ms=4)
    ax.axhline(limit, color=INK, ls="--", lw=1.2)
    ax.text(gains[0], limit / 10, "largest float32", va="top", fontsize=9)
    ax.set_xscale("log", base=2)
    ax.set_xticks(gains, [f"{gain:g}" for gain in gains])
    ax.minorticks_off()
    ax.set(xlabel="gain of the last convolution, times its initial value", ylabel="largest |z|")
    ax.legend(loc="center left")


def draw_saturation(x: Tensor, normalised: Mapping[str, Tensor], bounds: Sequence[float]) -> None:
    """A scalar x against what batch normalisation makes of it; dotted lines at +-`bounds`."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.1))
    colours = (INK, BLUE, GREEN, VERMILION)
    styles = ("--", "-", "-", "-")
    for (name, z), colour, style in zip(normalised.items(), colours, styles, strict=False):
        ax.plot(x, z, style, color=colour, label=name)
    for bound, colour in zip(bounds, colours[1:], strict=False):
        for sign in (-1, 1):
            ax.axhline(sign * bound, color=colour, ls=":", lw=1)
    high = 1.25 * max(bounds)
    ax.set(xlabel="x, in standard deviations of the other images", ylabel="normalised")
    ax.set(xlim=(x[0].item(), x[-1].item()), ylim=(-high, high))
    ax.legend(loc="upper left", fontsize=9, frameon=True, facecolor="white", edgecolor="white")


def draw_gradient_errors(
    sizes: Sequence[int], errors: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> None:
    """For each kind of norm its (standard deviations, biases) by batch size, relative."""
    _, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.8))
    for (name, both), colour, marker in zip(errors.items(), (BLUE, ORANGE), "os", strict=True):
        for ax, values in zip(axes, both, strict=True):
            ax.plot(sizes, values, marker + "-", color=colour, label=name)
    for ax, title in zip(axes, ("noise", "bias"), strict=True):
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.minorticks_off()
        ax.set(title=title, xlabel="images in a batch", ylim=(0, None))
    axes[0].set_ylabel("relative to the gradient")
    axes[0].legend(fontsize=9)


def draw_reestimation(
    counts: Sequence[int], bits: Sequence[float], averages: Mapping[int, float], recorded: float
) -> None:
    """Bits/dim of a run by the images seen: re-estimated, and moving averages from a fresh start.

    `averages` goes from the number of images to bits/dim; `recorded` has the recorded statistics.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 2.9))
    ax.loglog(
        list(averages),
        list(averages.values()),
        "s-",
        color=VERMILION,
        label="moving averages, from 0 and 1",
        ms=4,
    )
    ax.loglog(counts, bits, "o-", color=BLUE, label="re-estimated", ms=4)
    ax.axhline(recorded, color=INK, ls="--", lw=1.2, label="as recorded")
    ax.set(xlabel="training images seen", ylabel="bits/dim")
    ax.set_xticks(counts, [str(count) for count in counts])
    ticks = (3, 10, 30, 100, 300)
    ax.set_yticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.legend(fontsize=9)


def draw_parameters(parts: Mapping[str, Mapping[str, int]]) -> None:
    """Stacked bars: millions of parameters of each kind (inner keys) in each part of a model."""
    _, ax = plt.subplots(figsize=(WIDTH, 2.4))
    kinds = list(next(iter(parts.values())))
    places = range(len(parts))
    left = torch.zeros(len(parts))
    for kind, colour in zip(kinds, (BLUE, SKY, ORANGE, GREEN, VERMILION), strict=False):
        widths = torch.tensor([part[kind] / 1e6 for part in parts.values()])
        ax.barh(places, widths, left=left, color=colour, label=kind)
        left = left + widths
    ax.set_yticks(places, list(parts))
    ax.invert_yaxis()
    ax.set(xlabel="million parameters")
    ax.legend(fontsize=9, loc="upper right")


def draw_effective_reach(shares: Mapping[int, Tensor]) -> None:
    """Shares (distance + 1,) of the squared gradient within each distance, by the number of blocks.

    The limit 1 + 2 B of each network is marked.
    """
    _, ax = plt.subplots(figsize=(0.8 * WIDTH, 2.8))
    for (blocks, share), colour in zip(shares.items(), PALETTE, strict=False):
        ax.plot(share, "o-", color=colour, ms=3, label=f"B = {blocks}")
        ax.axvline(1 + 2 * blocks, color=colour, ls=":", lw=1.4)
    ax.set(xlabel="distance in pixels", ylabel="share within it", ylim=(0, 1.05))
    ax.set_xticks(range(0, 21, 4))
    ax.legend(loc="center", bbox_to_anchor=(0.62, 0.4), fontsize=9)
