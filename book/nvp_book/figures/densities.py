"""Pictures of changes of variables, on the line and in the plane (section 3.1, figure 1)."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.image import AxesImage
from torch import Tensor

from nvp_book import figures

Map = Callable[[Tensor], Tensor]
NUM_SLABS = 8


def plot_map(x: Tensor, z: Tensor, density_x: Tensor, density_z: Tensor) -> None:
    """z = f(x) with p_Z to its left and p_X below it, both cut into slabs of equal probability.

    All are (N,), over increasing x, from a range that holds nearly all of the mass.
    """
    figure = plt.figure(figsize=(figures.WIDTH, 4.4))
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 2.6], height_ratios=[2.2, 1])
    centre = figure.add_subplot(grid[0, 1])
    left = figure.add_subplot(grid[0, 0], sharey=centre)
    below = figure.add_subplot(grid[1, 1], sharex=centre)

    edges = torch.special.ndtri(torch.linspace(0, 1, NUM_SLABS + 1, dtype=z.dtype))
    slab = torch.bucketize(z, edges[1:-1])
    for i in range(NUM_SLABS):
        # One more point on the right, so that neighbouring slabs touch.
        inside = torch.nonzero(slab == i).flatten()
        span = slice(int(inside[0]), int(inside[-1]) + 2)
        colour = figures.BLUE if i % 2 else figures.SKY
        below.fill_between(x[span], density_x[span], color=colour, lw=0)
        left.fill_betweenx(z[span], density_z[span], color=colour, lw=0)
        if i:
            here, there = x[inside[0]], z[inside[0]]
            centre.plot([x[0], here, here], [there, there, z[0]], color="#b0b0b0", lw=0.8)
    centre.plot(x, z, color=figures.INK)
    centre.set(xlim=(x[0], x[-1]), ylim=(z[0], z[-1]), title="$z = f(x)$")
    left.plot(density_z, z, color=figures.INK, lw=1.2)
    left.set(xlabel="$p_Z(z)$", ylabel="$z$", ylim=(z[0], z[-1]))
    left.invert_xaxis()
    left.set_xlim(right=0)
    below.plot(x, density_x, color=figures.INK, lw=1.2)
    below.set(xlabel="$x$", ylabel="$p_X(x)$")
    below.set_ylim(bottom=0)
    for axes in (left, centre):
        axes.tick_params(labelbottom=axes is left, labelleft=axes is left)


def plot_density(flow_log_prob: Map, data: Tensor, samples: Tensor, limit: float) -> None:
    """Data (N, 2), the density that was fitted to it, and samples (M, 2) of that density."""
    _, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 2.7), sharex=True, sharey=True)
    _scatter(axes[0], data, figures.INK)
    axes[0].set_title("data")
    show_density(axes[1], flow_log_prob, limit, 240)
    axes[1].set_title("$p_X$, fitted")
    _scatter(axes[2], samples, figures.BLUE)
    axes[2].set_title("samples $g(z)$")
    for one in axes:
        set_plane(one, limit)


def plot_spaces(
    f: Map, g: Map, data: Tensor, noise: Tensor, *, data_limit: float, latent_limit: float
) -> None:
    """Figure 1: data x and z = f(x) above, noise z and x = g(z) below, each with its grid.

    Points (N, 2) are coloured by their direction in the square of their row that is not warped.
    """
    x, z = _grid(data_limit), _grid(latent_limit)
    rows = [
        ("inference: $x \\sim$ data", data, x, "$z = f(x)$", f),
        ("generation: $z \\sim p_Z$", noise, z, "$x = g(z)$", g),
    ]
    _, axes = plt.subplots(2, 2, figsize=(figures.WIDTH, 7.2))
    for row, (start, points, lines, end, move) in enumerate(rows):
        # Data space stands on the left in both rows, as in the paper.
        before, after = axes[row] if row == 0 else axes[row][::-1]
        colour = _colour_wheel(points)
        with torch.no_grad():
            moved = move(points)
            warped = [move(line) for line in lines]
        straight = [line[[0, -1]] for line in lines]
        for one, here, curves, title in (
            (before, points, straight, start),
            (after, moved, warped, end),
        ):
            net = LineCollection([line.numpy() for line in curves], color="#b8b8b8", lw=0.6)
            one.add_collection(net)
            one.scatter(here[:, 0], here[:, 1], s=4, c=colour, lw=0, zorder=2)
            one.set_title(title)
        set_plane(axes[row][0], data_limit)
        set_plane(axes[row][1], latent_limit)


def plot_trace(data: Tensor, steps: Sequence[Tensor]) -> None:
    """Where points (N, 2) are before the first coupling and after each; at most seven couplings."""
    colour = _colour_wheel(data)
    limit = 1.05 * max(float(points.abs().max()) for points in (data, *steps))
    _, axes = plt.subplots(2, 4, figsize=(figures.WIDTH, 3.9), sharex=True, sharey=True)
    for one in axes.flat[1 + len(steps) :]:
        one.set_axis_off()
    for i, points in enumerate([data, *steps]):
        one = axes.flat[i]
        one.scatter(points[:, 0], points[:, 1], s=2, c=colour, lw=0, rasterized=True)
        one.set_title("data" if i == 0 else f"after {i}")
        set_plane(one, limit)


def _scatter(axes: Axes, points: Tensor, colour: str) -> None:
    axes.scatter(points[:, 0], points[:, 1], s=2, color=colour, lw=0, alpha=0.7, rasterized=True)


def show_density(axes: Axes, log_density: Map, limit: float, side: int) -> None:
    """The density over [-limit, limit]^2, at side x side points."""
    line = torch.linspace(-limit, limit, side)
    with torch.no_grad():
        density = log_density(torch.cartesian_prod(line, line)).exp().reshape(side, side)
    show_map(axes, density, -limit, limit)


def show_map(axes: Axes, values: Tensor, low: float, high: float, **style: Any) -> AxesImage:
    """Values (n, n) over [low, high]^2, first coordinate first."""
    style = {"cmap": figures.SEQUENTIAL, **style}
    # imshow wants the second coordinate along the rows.
    return axes.imshow(values.T, origin="lower", extent=(low, high, low, high), **style)


def set_plane(axes: Axes, limit: float) -> None:
    """A square piece of the plane around the origin, without ticks, in a pale frame."""
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=figures.PALE)


def _grid(limit: float) -> list[Tensor]:
    """The 26 lines of a square grid, each (1000, 2): first the vertical ones."""
    along = torch.linspace(-limit, limit, 1000)  # fewer, and steep maps make lines cross
    across = torch.linspace(-limit, limit, 13)
    vertical = [torch.stack([c.expand(1000), along], dim=1) for c in across]
    return vertical + [line.flip(1) for line in vertical]


def _colour_wheel(points: Tensor) -> np.ndarray:
    """A colour for each point, (N, 4), by its direction from the origin."""
    wheel = [figures.BLUE, figures.GREEN, figures.ORANGE, figures.VERMILION, figures.PURPLE]
    angle = torch.atan2(points[:, 1], points[:, 0])
    turn = (angle / (2 * torch.pi) + 0.5).numpy()
    colours = LinearSegmentedColormap.from_list("wheel", [*wheel, wheel[0]])(turn)
    # Purple, above, and green, below, look alike to some readers: so what is above is darker.
    colours[:, :3] *= 1 - 0.6 * angle.sin().clamp(min=0).numpy()[:, None]
    return colours
