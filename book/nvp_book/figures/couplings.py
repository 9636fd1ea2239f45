"""Pictures of coupling layers, their Jacobians and their composition (sections 3.2 to 3.5)."""

import math
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from torch import Tensor

from nvp_book import figures
from nvp_book.figures.diagram import arrow, box, canvas, circle, label, sheet

KEPT, CHANGED = figures.SKY, figures.ORANGE


def plot_graphs() -> None:
    """Figure 2: the computation of a coupling layer, forward and inverse."""
    _, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.1))
    _graph(axes[0], "forward, equations 4 and 5", "x", "y", "×", "+")
    _graph(axes[1], "inverse, equation 8", "y", "x", "−", "÷")


def _graph(axes: Axes, title: str, start: str, end: str, first: str, second: str) -> None:
    """Upwards: the kept half on the left, the changed half on the right, s and t between."""
    canvas(axes, 5.2, 4.4)
    left, middle, right = 0.7, 2.5, 4.4
    # The operation that comes first is the lower one: s forward, t in the inverse.
    lower, upper = ("s", "t") if first == "×" else ("t", "s")
    for y, name in ((0.4, start), (3.5, end)):
        box(axes, (left, y), (1, 0.6), f"${name}_{{1:d}}$", fill=KEPT)
        box(axes, (right, y), (1.3, 0.6), f"${name}_{{d+1:D}}$", fill=CHANGED)
    arrow(axes, (left, 0.7), (left, 3.2))
    label(axes, (left - 0.2, 1.9), "=")
    for low, high in ((0.7, 1.2), (1.6, 2.2), (2.6, 3.2)):
        arrow(axes, (right, low), (right, high))
    for height, name, sign in ((1.4, lower, first), (2.4, upper, second)):
        arrow(axes, (left, height), (middle - 0.35, height))
        box(axes, (middle, height), (0.7, 0.6), f"${name}$")
        arrow(axes, (middle + 0.35, height), (right - 0.2, height))
        circle(axes, (right, height), sign)
        if name == "s":
            label(axes, (3.5, height + 0.2), "$\\exp$")
    label(axes, (2.55, 4.2), title, size=11)


def plot_matrices(matrices: Mapping[str, Tensor]) -> None:
    """Square matrices as heat maps; white is zero, and only zero is quite white."""
    _, axes = plt.subplots(1, len(matrices), figsize=(figures.WIDTH, 2.7))
    for one, (title, matrix) in zip(axes, matrices.items(), strict=True):
        shade = matrix.abs()
        # A square root brings small entries out; the eye is to tell zero from not zero.
        shown = matrix.sign() * (0.12 + 0.88 * (shade / shade.max()).sqrt())
        shown[shade == 0] = torch.nan  # left out, so the white ground shows
        one.imshow(shown, cmap=figures.DIVERGING, vmin=-1, vmax=1)
        one.set(title=title, xlabel="input", xticks=[], yticks=[])
        one.spines[:].set(visible=True, color=figures.PALE)
    axes[0].set_ylabel("output")


def plot_areas(vertices: Mapping[str, Tensor]) -> None:
    """Grids of vertices (n, n, 2), each cell coloured by the logarithm of its area.

    Areas are measured against those of the first grid.
    """
    grids = list(vertices.values())
    unit = _areas(grids[0]).mean()
    size = (figures.WIDTH, 2.7)
    figure, axes = plt.subplots(1, len(grids), figsize=size, sharex=True, sharey=True)
    for one, (title, grid) in zip(axes, vertices.items(), strict=True):
        corners = [grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]]
        cells = torch.stack(corners, dim=2).reshape(-1, 4, 2).numpy()
        style: dict[str, Any] = {"cmap": figures.DIVERGING, "ec": figures.GREY, "lw": 0.5}
        shown = (_areas(grid) / unit).log()
        collection = PolyCollection(list(cells), array=shown, clim=(-0.7, 0.7), **style)
        one.add_collection(collection)
        one.set(title=title, aspect="equal", xticks=[], yticks=[])
        one.autoscale_view()
        one.spines[:].set_visible(False)
    bar = figure.colorbar(collection, ax=axes, label="change in area", shrink=0.8)
    factors = (0.6, 1, 1.7)
    bar.set_ticks([math.log(k) for k in factors], labels=[f"× {k}" for k in factors])


def _areas(grid: Tensor) -> Tensor:
    """Areas of the cells, by the cross product of their diagonals."""
    down, across = grid[1:, 1:] - grid[:-1, :-1], grid[:-1, 1:] - grid[1:, :-1]
    return 0.5 * (down[..., 0] * across[..., 1] - down[..., 1] * across[..., 0]).abs().flatten()


def plot_alternation() -> None:
    """Figure 4(a): what one coupling keeps, the next one changes."""
    axes = sheet(7.9, 5.7)
    left, centre, right = 1.2, 3.1, 5.0
    for layer, name in enumerate(("x", "h^{(1)}", "h^{(2)}", "z")):
        y = 0.5 + 1.5 * layer
        # The first coupling changes half 2, the second half 1.
        for half, x, changed_by in ((1, left, 2), (2, right, 1)):
            fill = CHANGED if layer >= changed_by else KEPT
            box(axes, (x, y), (1.5, 0.6), f"${name}_{half}$", fill=fill)
    for layer in range(3):
        y = 0.5 + 1.5 * layer
        # From the kept half to the changed one it goes to the right (1) or to the left (-1).
        kept, changed, way = (left, right, 1) if layer % 2 == 0 else (right, left, -1)
        arrow(axes, (kept, y + 0.3), (kept, y + 1.2))
        label(axes, (kept - 0.25 * way, y + 0.75), "=")
        arrow(axes, (changed, y + 0.3), (changed, y + 0.55))
        arrow(axes, (changed, y + 0.95), (changed, y + 1.2))
        circle(axes, (changed, y + 0.75), "×+")
        box(axes, (centre, y + 0.75), (1.1, 0.5), "$s,\\, t$")
        arrow(axes, (kept, y + 0.75), (centre - 0.55 * way, y + 0.75))
        arrow(axes, (centre + 0.55 * way, y + 0.75), (changed - 0.2 * way, y + 0.75))
        label(axes, (6.9, y + 0.75), f"coupling {layer + 1}")
