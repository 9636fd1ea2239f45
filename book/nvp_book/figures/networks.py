"""Pictures of the chapter on networks and training."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch

from nvp_book.figures import BELOW, BLUE, GREEN, GREY, INK, SKY, VERMILION, WIDTH

TERMS = {
    "flow": (VERMILION, "-"),
    "logit": (GREY, "-"),
    "prior 1": (BLUE, "-"),
    "prior 2": (SKY, "--"),
    "prior 3": (GREEN, "-."),
}


def plot_terms(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """The terms of the likelihood, and their sum, over the steps of each run, in bits/dim."""
    _, axes = plt.subplots(1, len(runs), figsize=(WIDTH, 3.4), sharey=True)
    for ax, (title, history) in zip(axes, runs.items(), strict=True):
        steps = range(1, 1 + len(history))
        for name, (colour, style) in TERMS.items():
            ax.plot(steps, [step[name] for step in history], style, color=colour, label=name)
        total = [sum(step.values()) for step in history]
        ax.plot(steps, total, color=INK, lw=2.4, label="sum")
        ax.axhline(0, color=GREY, lw=0.8)
        ax.set(title=title, xlabel="step", ylim=(-4, 9))
    axes[0].set_ylabel("bits/dim")
    axes[0].figure.legend(*axes[0].get_legend_handles_labels(), **{**BELOW, "ncols": 3})


def plot_blow_up(gains: Sequence[float], largest: Mapping[str, Sequence[float]]) -> None:
    """The largest |z| over the gain of the last convolutions; infinity is plotted at the top."""
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
    ax.set_yticks([1, 1e10, 1e20, 1e30])
    ax.set(xlabel="gain of the last convolution, times its initial value", ylabel="largest |z|")
    ax.legend(loc="center left")
