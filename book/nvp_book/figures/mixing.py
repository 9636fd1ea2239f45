"""Pictures of the chapter on a model of one's own: channels of an image, mixed by a matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from torch import Tensor

from nvp_book.figures import BLUE, DIVERGING, ORANGE, PALE, WIDTH


def draw_channels(rows: Mapping[str, Tensor], kept: int) -> None:
    """Rows of channels, each (C, H, W), of which a mask keeps the first `kept`.

    One scale of colours for all: red above 0, blue below, white at 0.
    """
    largest = max(channels.abs().max().item() for channels in rows.values())
    count = len(next(iter(rows.values())))
    size = (0.85 * WIDTH, 0.85 * WIDTH / count * len(rows))
    figure, axes = plt.subplots(len(rows), count, figsize=size, squeeze=False)
    for line, (name, channels) in zip(axes, rows.items(), strict=True):
        for ax, channel in zip(line, channels, strict=True):
            ax.imshow(channel, cmap=DIVERGING, vmin=-largest, vmax=largest)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(visible=True, color=PALE)
        line[0].set_ylabel(name)
    for number, ax in enumerate(axes[0]):
        ax.set_title(f"{number + 1}: {'kept' if number < kept else 'changed'}", fontsize=9.5)
    figure.align_ylabels(axes[:, 0])


def draw_weights(rows: Mapping[str, Sequence[Tensor]], titles: Sequence[str]) -> None:
    """Matrices as heat maps with their entries, a row under each name; red above 0, blue below."""
    count = len(titles)
    size = (WIDTH, WIDTH / count * len(rows))
    _, axes = plt.subplots(len(rows), count, figsize=size, squeeze=False)
    for line, (name, matrices) in zip(axes, rows.items(), strict=True):
        for ax, matrix in zip(line, matrices, strict=True):
            ax.imshow(matrix, cmap=DIVERGING, vmin=-1.5, vmax=1.5)
            for (i, j), value in zip(_places(matrix), matrix.flatten().tolist(), strict=True):
                text = f"{value:z.1f}".replace("-", "−")
                ax.text(j, i, text, ha="center", va="center", fontsize=8.5)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(visible=True, color=PALE)
        line[0].set_ylabel(name)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)


def draw_curves(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """The loss of two runs over their steps, in bits/dim, from the rows of their logs."""
    _, ax = plt.subplots(figsize=(WIDTH, 2.8))
    for (name, rows), colour in zip(logs.items(), (BLUE, ORANGE), strict=True):
        steps, bits = ([row[key] for row in rows] for key in ("step", "bits_per_dim"))
        ax.plot(steps, bits, color=colour, label=name)
    ax.set(xlabel="step", ylabel="bits/dim")
    ax.legend()


def _places(matrix: Tensor) -> list[tuple[int, int]]:
    return [(i, j) for i in range(matrix.shape[0]) for j in range(matrix.shape[1])]
