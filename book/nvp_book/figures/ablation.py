"""Pictures of the chapter on paper and code: the norm of the code, and the ablation."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from torch import Tensor

from nvp_book.ablation import Comparison
from nvp_book.figures import BLUE, GREY, INK, ORANGE, PALE, WIDTH


def plot_norm(
    ratios: Tensor, curves: Mapping[str, Tensor], points: Mapping[str, Mapping[float, float]]
) -> None:
    """Moments of the changed half after the code's norm, over mean / deviation before it.

    `curves` are the formulas, `points` what a norm gave, ratio -> moment, under the same names.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 2.9))
    for (name, curve), colour, marker in zip(curves.items(), (BLUE, ORANGE), "os", strict=True):
        ax.plot(ratios, curve, color=colour, label=name)
        found = points[name]
        ax.plot(list(found), list(found.values()), marker, color=colour, mfc="none", ms=7)
    ax.axhline(1, color=GREY, lw=1, ls=":")
    ax.axhline(0, color=GREY, lw=1, ls=":")
    ax.set(xlabel="mean before, in standard deviations: $m / \\sqrt{v}$", ylabel="after the norm")
    ax.legend(loc="center right")


def plot_forest(comparisons: Sequence[Comparison]) -> None:
    """Differences to the baseline in test bits/dim, best on top: a dot, its interval, each seed.

    The interval is that of 95%; where it leaves out 0 the dot is filled.
    """
    ordered = sorted(comparisons, key=lambda each: each.difference.mean)
    _, ax = plt.subplots(figsize=(WIDTH, 0.34 * len(ordered) + 0.9))
    ax.axvline(0, color=INK, lw=1)
    for y, each in enumerate(ordered):
        mean, half = each.difference.mean, each.difference.half_width
        clear = each.difference.beyond_chance
        colour = BLUE if clear else GREY
        ax.axhline(y, color=PALE, lw=0.8, zorder=0)
        ax.plot([mean - half, mean + half], [y, y], color=colour, lw=1.8)
        ax.plot(each.differences, [y] * len(each.differences), "|", color=ORANGE, ms=13, mew=1.6)
        ax.plot(mean, y, "o", color=colour, mfc=colour if clear else "white", ms=7, zorder=3)
    ax.set_yticks(range(len(ordered)), [each.variant.title for each in ordered])
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="test bits/dim, minus those of the preset paper", ylim=(len(ordered) - 0.4, -0.6))
