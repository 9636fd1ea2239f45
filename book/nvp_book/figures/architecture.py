"""Pictures of masks, squeezes, the multi-scale architecture and the network of a coupling."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from nvp_book import figures
from nvp_book.figures.contexts import COLOURS, paint_board
from nvp_book.figures.diagram import Point, arrow, arrows, box, circle, label, sheet

KEPT, CHANGED = "#404040", "white"


def plot_figure_3(numbers: Tensor, mask: Tensor, sheets: Tensor, sheet_mask: Tensor) -> None:
    """Figure 3: numbers (H, W) under a checkerboard, and squeezed to sheets (4, H/2, W/2).

    Squares with b = 1 are dark: `mask` is (H, W), `sheet_mask` (4,), both bool.
    """
    height, width = numbers.shape
    axes = sheet(11.6, height + 1.1)
    _cells(axes, (0.1, 0.1), numbers, mask)
    label(axes, (0.1 + width / 2, height + 0.55), "checkerboard")
    arrow(axes, (4.4, 2.1), (5.3, 2.1))
    label(axes, (4.85, 2.4), "squeeze")
    for i in range(4):
        # Two by two, in the places that the channels' squares have in their block.
        corner = (5.6 + 3.2 * (i % 2), 2.35 - 2.25 * (i // 2))
        _cells(axes, corner, sheets[i], sheet_mask[i].expand(sheets[i].shape))
        label(axes, (corner[0] + 2.15, corner[1] + 1), f"channel\n{i + 1}", align="left")
    label(axes, (8.6, height + 0.75), "channel-wise mask")


def _cells(axes: Axes, corner: Point, numbers: Tensor, mask: Tensor) -> None:
    """A board of numbered squares of side 1, its lower left corner at `corner`."""
    height, width = numbers.shape
    for row in range(height):
        for column in range(width):
            x, y = corner[0] + column, corner[1] + height - 1 - row
            fill = KEPT if mask[row, column] else CHANGED
            axes.add_patch(Rectangle((x, y), 1, 1, fc=fill, ec=figures.INK, lw=1))
            text = str(int(numbers[row, column]))
            ink = figures.ink_on(fill)
            axes.text(x + 0.5, y + 0.5, text, color=ink, ha="center", va="center_baseline")


def plot_halves(halves: Mapping[str, Tensor]) -> None:
    """Where the first half of the squeezed channels comes from: bool maps (3, H, W) by order."""
    _, axes = plt.subplots(3, len(halves), figsize=(figures.WIDTH, 5.4))
    for column, (name, half) in enumerate(halves.items()):
        for row, (channel, colour) in enumerate(COLOURS):
            one = axes[row, column]
            paint_board(one, half[row], ["white", colour], lw=0.5)
            if row == 0:
                one.set_title(name)
            if column == 0:
                one.set_ylabel(channel)


def plot_factoring_out(dimensions: Sequence[int]) -> None:
    """Figure 4(b): half of the dimensions leave after each scale but the last.

    `dimensions` are those of z^1, ..., z^L; heights are in proportion to them.
    """
    total = sum(dimensions)
    unit = 4 / total
    scales = len(dimensions)
    axes = sheet(2.6 * scales + 2.4, 5.6)
    end = 2.6 * scales + 1.3
    top = 4.8
    for i in range(scales):
        x = 0.7 + 2.6 * i
        alive = unit * sum(dimensions[i:])
        name = "x" if i == 0 else f"h^{{({i})}}"
        box(axes, (x, top - alive / 2), (0.7, alive), f"${name}$", fill=figures.PALE)
        share = f"{100 * sum(dimensions[i:]) / total:.3g}%"
        label(axes, (x, top + 0.3), share)
        arrow(axes, (x + 0.35, top - alive / 2), (x + 0.7, top - alive / 2))
        box(axes, (x + 1.1, top - alive / 2), (0.8, 0.5), f"$f^{{({i + 1})}}$")
        # The lower half leaves for good, the upper half goes on.
        height = unit * dimensions[i]
        middle = top - alive + height / 2
        split = (x + 1.5, top - alive / 2)
        if i < scales - 1:
            arrow(axes, split, (x + 1.9, top - alive / 2), (x + 1.9, top - alive / 4))
            arrow(axes, (x + 1.9, top - alive / 4), (x + 2.25, top - alive / 4))
            arrow(axes, (x + 1.9, top - alive / 2), (x + 1.9, middle), head=False)
            arrow(axes, (x + 1.9, middle), (end - 0.35, middle))
        else:
            arrow(axes, split, (end - 0.35, middle))
        colour = figures.PALETTE[i % len(figures.PALETTE)]
        box(axes, (end, middle), (0.7, height), f"$z^{{({i + 1})}}$", fill=colour)
        label(axes, (end + 0.45, middle), f"{dimensions[i]}", align="left")
    label(axes, (end, top + 0.3), "$z$")


def plot_scale(coupling: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    """One image in one scale: maps (1, c, H, W) of a coupling, and what comes after it.

    Maps called s and t are signed. Several channels stand as sheets in one square.
    """
    figure = plt.figure(figsize=(figures.WIDTH, 3.5))
    rows = figure.add_gridspec(2, 1)
    for row, panels in enumerate((coupling, after)):
        places = rows[row].subgridspec(1, len(coupling))
        for place, (title, maps) in enumerate(panels.items()):
            sheets = maps[0]
            down = 2 if len(sheets) > 1 else 1
            inner = places[place].subgridspec(down, len(sheets) // down, wspace=0.05, hspace=0.05)
            signed = title in ("$s$", "$t$")
            limit = float(sheets.abs().max())
            low, high = (-limit, limit) if signed else (float(sheets.min()), limit)
            for k, one in enumerate(sheets):
                axes = figure.add_subplot(inner[k])
                paint = figures.DIVERGING if signed else "gray"
                axes.imshow(one, cmap=paint, vmin=low, vmax=high)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set(visible=True, color=figures.PALE)
                if k == 0:
                    axes.set_title(title, loc="left", fontsize=10)


def plot_reach(gradients: Mapping[str, Tensor], pixel: tuple[int, int]) -> None:
    """|derivative| of the output at `pixel` by every input (H, W); white where it is zero."""
    figure, axes = plt.subplots(1, len(gradients), figsize=(figures.WIDTH, 3.4))
    high = max(gradient.max().log10().item() for gradient in gradients.values())
    for one, (title, gradient) in zip(axes, gradients.items(), strict=True):
        shown = torch.where(gradient > 0, gradient.log10(), torch.nan)
        image = one.imshow(shown, cmap=figures.SEQUENTIAL, vmin=high - 8, vmax=high)
        corner = (pixel[1] - 0.5, pixel[0] - 0.5)
        one.add_patch(Rectangle(corner, 1, 1, fill=False, ec=figures.INK, lw=2))
        one.set(title=title, xticks=[], yticks=[])
        one.spines[:].set(visible=True, color=figures.PALE)
    figure.colorbar(image, ax=axes, shrink=0.7, label="log10 of the |derivative|", extend="min")


def plot_network() -> None:
    """The network of a coupling, and one of its residual blocks (section 4.1)."""
    axes = sheet(15.4, 9)
    label(axes, (0.2, 8.7), "the network of a coupling", size=11, align="left")
    trunk, skips, total = 4.2, 5.9, 7.5
    box(axes, (0.9, trunk), (1.2, 0.8), "$b \\odot x$", fill=figures.SKY)
    box(axes, (3.1, trunk), (2.1, 1.6), "batch norm\n$[h, -h, b]$\nReLU", fill=figures.PALE)
    box(axes, (5.4, trunk), (1.3, 0.8), "3 × 3")
    box(axes, (7.9, trunk), (1.7, 0.8), "block 1", fill=figures.ORANGE)
    box(axes, (10.8, trunk), (1.7, 0.8), "block $B$", fill=figures.ORANGE)
    arrows(axes, trunk, (1.5, 2.05), (4.15, 4.75), (6.05, 7.05), (9.6, 9.95))
    arrow(axes, (8.75, trunk), (9.1, trunk), head=False)
    label(axes, (9.35, trunk), "…", size=13)
    # Every output on the trunk is also added, through a 1 x 1 convolution, to one sum.
    taps = (6.45, 9.0, 12.1)
    arrow(axes, (11.65, trunk), (12.1, trunk), head=False)
    for x in taps:
        arrow(axes, (x, trunk), (x, skips - 0.4))
        box(axes, (x, skips), (1.1, 0.8), "1 × 1")
    arrow(axes, (6.45, skips + 0.4), (6.45, total), (8.75, total))
    for x in taps[1:]:
        arrow(axes, (x, skips + 0.4), (x, total - 0.25))
        circle(axes, (x, total), "+", radius=0.25)
    arrow(axes, (9.25, total), (10.2, total), head=False)
    label(axes, (10.5, total), "…", size=13)
    arrow(axes, (10.8, total), (11.85, total))
    arrow(axes, (12.35, total), (14.2, total), (14.2, 6.4))
    box(axes, (14.2, 5.6), (2, 1.6), "batch norm\nReLU\n1 × 1", fill=figures.PALE)
    arrow(axes, (14.2, 4.8), (14.2, 4.0))
    label(axes, (13.9, 3.6), "$t,\\;\\; s = a\\,\\tanh(\\cdot)$", size=10.5)

    label(axes, (0.2, 2.3), "a residual block", size=11, align="left")
    block = 1.0
    label(axes, (0.6, block), "$h$", size=12)
    for x in (3.6, 7.6):
        box(axes, (x, block), (3, 1), "batch norm\nReLU, 3 × 3", fill=figures.PALE)
    arrows(axes, block, (0.9, 2.1), (5.1, 6.1), (9.1, 10.05), (10.55, 11.6))
    circle(axes, (10.3, block), "+", radius=0.25)
    arrow(axes, (1.5, block), (1.5, block + 0.85), (10.3, block + 0.85), (10.3, block + 0.25))
