"""Pictures of the families of models: one image under all, bounds, a discriminator, classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from torch import Tensor

from nvp_book.figures import BLUE, GREEN, INK, ORANGE, PALETTE, WIDTH
from nvp_book.figures.samples import colour_bar, image_axes

MOST_BITS = 12  # of a pixel, on the scale of colours


def plot_one_image(
    image: Tensor,
    totals: Mapping[str, float],
    maps: Mapping[str, Tensor],
    back: Mapping[str, Tensor],
) -> None:
    """An image, where each family has its bits, (H, W), and what comes back from latents.

    `totals` has the bits/dim of the whole image, also of families that have no map.
    """
    _, _, height, width = image.shape
    columns = 1 + len(totals)
    axes = image_axes(columns, (height, width), under=[0.1, 0], over=0.45, right=0.64)
    grey: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255}
    axes[0, 0].imshow(image[0, 0], **grey)
    axes[0, 0].set_title("image", fontsize=9.5)
    middle: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9}
    for (above, below), (family, total) in zip(axes.T[1:], totals.items(), strict=True):
        above.set_title(f"{family}\n{total:.2f}", fontsize=9.5)
        if family in maps:
            shown = above.imshow(maps[family], cmap="magma", vmin=0, vmax=MOST_BITS)
        else:
            above.text(0.5, 0.5, "no map", **middle)
        if family in back:
            below.imshow(back[family][0, 0], **grey)
        else:
            below.text(0.5, 0.5, "no image\nfrom a latent", **middle)
    axes[1, 0].text(0.95, 0.5, "from the\nlatent", ha="right", va="center")
    colour_bar(axes[0, -1], shown, "bits a pixel", extend="max")


def plot_bounds(bounds: Mapping[str, Mapping[int, float]], exact: Sequence[str]) -> None:
    """Bounds in bits/dim over the number of draws, each relative to one draw.

    Models with an `exact` likelihood are flat lines at zero.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 2.9))
    for (name, points), colour, marker in zip(bounds.items(), PALETTE, "osD^", strict=False):
        first = points[1]
        gains = [value - first for value in points.values()]
        ax.plot(list(points), gains, color=colour, marker=marker, ms=5, label=name)
    for name in exact:
        ax.axhline(0, color=INK, ls="--", lw=1.2, label=f"{name}: exact, no draws")
    ax.set_xscale("log", base=2)
    ax.set(xlabel="draws K for each image", ylabel="bits/dim, minus that of one draw")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.legend(fontsize=9.5)


def plot_discriminator(x: Tensor, data: Tensor, model: Tensor) -> None:
    """On a line: two densities, and what the best discriminator makes of them."""
    _, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.7))
    best = data / (data + model)
    left.plot(x, data, color=BLUE, label="$p$, the data")
    left.plot(x, model, color=ORANGE, label="$q$, what $G$ draws")
    left.set(xlabel="x", ylabel="density", ylim=(0, 0.4))
    left.legend(fontsize=9, loc="upper right")
    right.plot(x, best, color=GREEN)
    for place, colour, style, name in ((data, BLUE, ":", "$p$"), (best, GREEN, "--", "$D^*$")):
        peak = x[place.argmax()].item()
        right.plot([peak, peak], [0, 1], style, color=colour, label=f"where {name} is highest")
    right.set(xlabel="x", ylabel="$D^*(x)$", ylim=(0, 1.45), yticks=[0, 0.5, 1])
    right.legend(fontsize=9, loc="upper left")


def plot_classes(shares: Mapping[str, Sequence[float]], names: Sequence[str]) -> None:
    """The share of each class among the samples of each model; dashed: equal shares."""
    _, axes = plt.subplots(1, len(shares), figsize=(WIDTH, 2.6), sharey=True, sharex=True)
    for ax, (title, each) in zip(axes, shares.items(), strict=True):
        ax.barh(range(len(names)), each, color=BLUE, height=0.7)
        ax.axvline(1 / len(names), color=INK, ls="--", lw=1)
        ax.set_title(title, fontsize=9.5)
        ax.set_xticks([0, 0.1, 0.2], ["", "10%", ""])
    axes[0].set_yticks(range(len(names)), names, fontsize=9)
    axes[0].invert_yaxis()
    axes[0].figure.supxlabel("share of samples", fontsize=10.5)
