"""Pictures of the chapter on a model of one's own: channels of an image, mixed by a matrix."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from torch import Tensor

from nvp_book.figures import DIVERGING, PALE, WIDTH


def plot_channels(rows: Mapping[str, Tensor], kept: int) -> None:
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
