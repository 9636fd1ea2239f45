"""Pictures of density estimation: divergences, train against test, and four families of models."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from nvp_book.figures import BLUE, GREEN, GREY, INK, ORANGE, PALE, VERMILION, WIDTH
from nvp_book.figures.densities import set_plane, show_map

Curve = tuple[Tensor, Tensor]


def plot_divergences(
    line: Tensor,
    target: Tensor,
    fits: Mapping[str, Sequence[MultivariateNormal]],
    side: Tensor,
    plane: Tensor,
    in_plane: Mapping[str, Sequence[MultivariateNormal]],
) -> None:
    """Gaussians fitted by either divergence, on the line (left) and in the plane (right).

    `target`, (N,), is a density at the points `line`, (N,); `plane`, (M, M), is one over
    side x side, first coordinate first. `fits` and `in_plane` have the same names.
    """
    _, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.3), width_ratios=(1.25, 1))
    axes[0].fill_between(line, target, color=PALE, lw=0, label="the target")
    low, high = float(side[0]), float(side[-1])
    show_map(axes[1], plane, low, high, cmap="Greys")
    for (name, found), colour in zip(fits.items(), (BLUE, VERMILION), strict=True):
        for i, gaussian in enumerate(found):
            density = gaussian.log_prob(line[:, None]).exp()
            axes[0].plot(line, density, color=colour, label=None if i else name)
        for gaussian in in_plane[name]:
            axes[1].plot(*_ellipse(gaussian).T, color=colour)
    axes[0].set(xlabel="$x$", ylabel="density", xlim=(line[0], line[-1]))
    axes[0].set_ylim(0, 1.35 * axes[0].get_ylim()[1])
    axes[0].legend(loc="upper right", fontsize=9.5)
    set_plane(axes[1], high)


def plot_train_and_test(
    sizes: Sequence[int],
    means: Mapping[str, Tensor],
    theory: Mapping[str, Curve],
    floor: float,
    table_sizes: Sequence[int],
    bits: Mapping[str, Sequence[float]],
) -> None:
    """`means` and `theory` over the number of training points, `bits` over `table_sizes`.

    The names of all three are the same, training first.
    """
    _, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.1))
    for (name, values), (x, y), colour, marker in zip(
        means.items(), theory.values(), (ORANGE, BLUE), "so", strict=True
    ):
        axes[0].plot(x, y, color=colour, lw=1.2)
        axes[0].plot(sizes, values, marker, color=colour, ms=5, label=name)
        axes[1].plot(table_sizes, bits[name], marker + "-", color=colour, ms=5, label=name)
    axes[0].axhline(floor, color=INK, ls="--", lw=1.2, label="entropy")
    axes[0].set(xscale="log", xlabel="training points $N$", ylabel="nats per point")
    axes[0].set_title("a fitted mean")
    axes[1].set(xscale="log", xlabel="numbers in the table", ylabel="bits/dim")
    axes[1].set_title("a pixel given two neighbours")
    for ax in axes:
        ax.legend(fontsize=9.5)


def plot_field(
    densities: Mapping[str, Tensor],
    samples: Mapping[str, Tensor],
    notes: Mapping[str, str],
    limit: float,
) -> None:
    """A column for each model: its density over [-limit, limit]^2, if any, and samples (N, 2).

    A density is (M, M), first coordinate first. `notes` stand below the names.
    """
    _, axes = plt.subplots(2, len(samples), figsize=(WIDTH, 3.15), squeeze=False)
    brightest = max(float(density.max()) for density in densities.values())
    for (name, points), above, below in zip(samples.items(), axes[0], axes[1], strict=True):
        if name in densities:
            show_map(above, densities[name], -limit, limit, vmin=0, vmax=brightest)
        else:
            above.text(0, 0, "no density", ha="center", va="center", color=GREY)
        below.scatter(points[:, 0], points[:, 1], s=1.5, color=GREEN, lw=0, rasterized=True)
        above.set_title(f"{name}\n{notes.get(name, '')}", fontsize=10)
        for ax in (above, below):
            set_plane(ax, limit)
    axes[0, 0].set_ylabel("density")
    axes[1, 0].set_ylabel("samples")


def _ellipse(gaussian: MultivariateNormal) -> Tensor:
    """The curve at two standard deviations of a Gaussian in the plane, (181, 2)."""
    angle = torch.linspace(0, 2 * torch.pi, 181, dtype=gaussian.mean.dtype)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    return gaussian.mean + 2 * circle @ gaussian.scale_tril.T
