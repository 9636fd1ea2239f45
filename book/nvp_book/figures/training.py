"""Bits/dim under several kinds of batch-norm statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt

from nvp_book.figures import BLUE, PALE, VERMILION, WIDTH


def draw_statistics(scores: Mapping[str, Sequence[float]], names: Sequence[str]) -> None:
    """Bits/dim under each kind of statistics in `names`, a colour for each moment of a run."""
    _, ax = plt.subplots(figsize=(WIDTH, 1.9))
    for (moment, bits), colour, marker in zip(
        scores.items(), (VERMILION, BLUE), "so", strict=False
    ):
        ax.plot(bits, range(len(names)), marker, color=colour, ms=8, label=moment)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", color=PALE)
    ax.set(xlabel="bits/dim")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
