"""Pictures of the chapter on where the two papers meet: densities, and what a patch sees."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from torch import Tensor

from nvp_book.figures import BLUE, ORANGE, SKY, WIDTH
from nvp_book.figures.densities import set_plane, show_density
from nvp_book.figures.samples import clean


def plot_planes(
    data: Tensor, log_densities: Mapping[str, Callable[[Tensor], Tensor]], limit: float
) -> None:
    """Points (N, 2), and beside them densities of the plane, each under its name."""
    _, axes = plt.subplots(1, 1 + len(log_densities), figsize=(WIDTH, 2.2))
    axes[0].scatter(*data.T, s=1.5, lw=0, color=BLUE, rasterized=True)
    axes[0].set_title("data", fontsize=9.5)
    for ax, (name, log_density) in zip(axes[1:], log_densities.items(), strict=True):
        show_density(ax, log_density, limit, 160)
        ax.set_title(name, fontsize=9.5)
    for ax in axes:
        set_plane(ax, limit)


def plot_patches(image: Tensor, patch: int, index: int, titles: Sequence[str]) -> None:
    """An image (H, W) cut into patches: the one of `index`, and those before it in either order."""
    height, width = image.shape
    across = width // patch
    count = across * (height // patch)
    contexts = (range(index), range(index + 1, count))
    _, axes = plt.subplots(1, 2, figsize=(0.8 * WIDTH, 0.46 * WIDTH))
    for ax, title, context in zip(axes, titles, contexts, strict=True):
        ax.imshow(image, cmap="gray")
        for number in range(count):
            corner = (number % across * patch - 0.5, number // across * patch - 0.5)
            face = to_rgba(SKY, 0.5) if number in context else "none"
            square = Rectangle(corner, patch, patch, facecolor=face, edgecolor="#808080", lw=0.4)
            ax.add_patch(square)
        corner = (index % across * patch - 0.5, index // across * patch - 0.5)
        ax.add_patch(Rectangle(corner, patch, patch, fill=False, edgecolor=ORANGE, lw=2.5))
        ax.set_title(title, fontsize=10)
        clean(ax)
