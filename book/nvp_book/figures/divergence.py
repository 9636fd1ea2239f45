"""Pictures of the chapter on training that fails."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from torch import Tensor

from nvp_book.figures import ABOVE, BLUE, GREEN, GREY, INK, ORANGE, SKY, STYLES, VERMILION, WIDTH
from nvp_book.figures.densities import show_map


def plot_losses(
    curves: Mapping[str, Sequence[float]],
    marks: Mapping[str, float] | None = None,
    *,
    limits: tuple[float, float] | None = None,
    at: int | None = None,
    every: int = 1,
    colours: Sequence[str] = (BLUE, VERMILION, ORANGE, SKY),
) -> None:
    """Bits/dim over steps, horizontal lines to compare with, and `at`, a step to point to.

    A loss stands for `every` steps, of which it is plotted at the last.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 3.0))
    for (name, losses), colour, style in zip(curves.items(), colours, STYLES, strict=False):
        steps = range(every - 1, every * len(losses), every)
        ax.plot(steps, losses, style, color=colour, lw=1.4, label=name)
    for name, height in (marks or {}).items():
        ax.axhline(height, color=INK, lw=1.2, label=name)
    if at is not None:
        ax.axvline(at, color=GREY, lw=1)
    ax.set(xlabel="step", ylabel="bits/dim", ylim=limits)
    ax.legend(**ABOVE)


def plot_collapse(densities: Mapping[str, Tensor], limits: tuple[float, float]) -> None:
    """Log-densities (n, n) of pairs over a square [low, high]^2, to one scale of colours."""
    figure, axes = plt.subplots(1, len(densities), figsize=(WIDTH, 3.2))
    for ax, (title, log_density) in zip(axes, densities.items(), strict=True):
        image = show_map(ax, log_density / math.log(10), *limits, vmin=-2, vmax=2)
        ax.set(title=title, xlabel="left pixel", xticks=[0, 1, 2], yticks=[0, 1, 2])
        for level in (0, 1, 2):
            ax.axhline(level, color="white", lw=0.6, ls=":")
            ax.axvline(level, color="white", lw=0.6, ls=":")
    axes[0].set_ylabel("right pixel")
    figure.colorbar(image, ax=axes, label="log10 density", shrink=0.85, extend="both")


def plot_alpha_floor(alphas: Tensor, bits: Tensor, limits: tuple[float, float]) -> None:
    """The cost of a black pixel over alpha, in bits, and its two limits."""
    _, ax = plt.subplots(figsize=(0.75 * WIDTH, 2.7))
    ax.semilogx(alphas, bits, color=BLUE)
    ax.plot(0.05, limits[0], "o", color=BLUE)
    ax.text(0.05, limits[0] + 0.02, "paper", fontsize=9, ha="center", va="bottom")
    ends = (alphas[-1].item(), alphas[0].item())
    places = ((ends[0], "uniform noise", "right"), (ends[1], "exponential", "left"))
    for height, (place, name, side) in zip(limits, places, strict=True):
        ax.axhline(height, color=INK, ls="--", lw=1.2)
        ax.text(place, height + 0.01, name, fontsize=9, ha=side, va="bottom")
    ax.invert_xaxis()
    ax.set(xlabel="margin λ of the logit", ylabel="bits for a black pixel", ylim=(0.2, 0.7))


def plot_stale(
    steps: Sequence[int], losses: Sequence[float], scores: Mapping[str, Sequence[float]]
) -> None:
    """Training loss of each step, and held-out scores at some of them, all in bits/dim."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.0))
    ax.semilogy(losses, color=GREY, lw=0.9, label="loss of the batch")
    for (name, bits), colour, marker in zip(
        scores.items(), (VERMILION, BLUE, GREEN), "so^", strict=False
    ):
        ax.semilogy(steps, bits, marker + "-", color=colour, label=name, ms=5)
    ticks = (5, 10, 20, 40)
    ax.set_yticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.set(xlabel="step", ylabel="bits/dim")
    ax.legend(fontsize=9)


def plot_inverse_errors(errors: Mapping[str, Tensor], data: Tensor, limit: float) -> None:
    """Maps (n, n) of |g(f(x)) - x| over [-limit, limit]^2, and the training data (N, 2)."""
    figure, axes = plt.subplots(1, len(errors), figsize=(WIDTH, 2.6))
    for ax, (title, error) in zip(axes, errors.items(), strict=True):
        shown = error.nan_to_num(math.inf).clamp(1e-8, 1e4).log10()
        image = show_map(ax, shown, -limit, limit, vmin=-8, vmax=4)
        ax.scatter(*data.T, s=0.3, color=VERMILION, lw=0)
        ax.set(title=title, xticks=[], yticks=[])
    figure.colorbar(image, ax=axes, label="log10 of the error", shrink=0.85, extend="both")
