"""Pictures of what a pixel depends on: masks, receptive fields, skewing (Figures 2 to 4)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from nvp_book.figures import (
    ABOVE,
    BELOW,
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PALETTE,
    SKY,
    STYLES,
    VERMILION,
    WIDTH,
    ink_on,
)
from nvp_book.figures.diagram import Point, arrow, box, canvas, label, sheet

COLOURS = (("red", VERMILION), ("green", GREEN), ("blue", BLUE))
LATER, HIDDEN, SEEN, LEAK = range(4)
FIELD = {
    SEEN: ("seen", SKY),
    HIDDEN: ("earlier, and not seen", PALE),
    LATER: ("later", "white"),
    LEAK: ("seen though not earlier: a leak", VERMILION),
}
DONE, NOW, STATE = PALE, ORANGE, SKY
MANY = 300  # cells of a board; more of them are dots inside a drawing, which stays small


def plot_context(height: int, width: int, pixel: tuple[int, int]) -> None:
    """Figure 2, left: the context of a pixel, and the order of the colours within it."""
    axes = sheet(11.6, height + 0.9)
    index = torch.arange(height * width).reshape(height, width)
    here = int(index[pixel])
    _cells(axes, (0.1, 0.1), (index < here).float().where(index != here, 2), ["white", SKY, NOW])
    for text, place in (("1", (0, 0)), ("i", pixel), ("n^2", (height - 1, width - 1))):
        at = (0.6 + place[1], 0.6 + height - 1 - place[0])
        label(axes, at, f"$x_{{{text}}}$", size=11)
    label(axes, (0.1 + width / 2, height + 0.5), "the image, row by row", size=11)
    # The pixel, enlarged: a factor for each colour, each with one more condition.
    left, unit = 0.1 + width + 1.3, 1.15
    middle = 0.1 + height / 2
    corner = (0.1 + pixel[1] + 1, 0.6 + height - 1 - pixel[0])
    arrow(axes, corner, (left - 0.1, middle + unit))
    for i, (name, colour) in enumerate(COLOURS):
        y = middle + unit * (1 - i)
        box(axes, (left + 0.6, y), (1.1, 0.75), name, fill=colour)
        if i:
            arrow(axes, (left + 0.6, y + unit - 0.38), (left + 0.6, y + 0.38))
        given = ", ".join(["x_{<i}", "x_{i,R}", "x_{i,G}"][: i + 1])
        label(axes, (left + 1.35, y), f"$p(x_{{i,{'RGB'[i]}}} | {given})$", size=11, align="left")
    label(axes, (left + 1.9, height + 0.5), "the pixel, colour by colour", size=11)


def plot_masks(masks: Mapping[str, Tensor]) -> None:
    """Each mask (out, in, k, k) as a table: a row for each output colour, a column for each input.

    Taps that may be used have the colour of what they read; the centre is framed.
    """
    _, axes = plt.subplots(1, len(masks), figsize=(WIDTH, WIDTH / len(masks) + 0.1))
    for ax, (title, mask) in zip(axes, masks.items(), strict=True):
        outputs, inputs, side, _ = mask.shape
        step = side + 1.2
        width, height = 2.0 + inputs * step, 1.6 + outputs * step
        canvas(ax, width, height)
        for o in range(outputs):
            middle = height - 1.6 - o * step - side / 2
            label(ax, (1.7, middle), COLOURS[o][0], align="right")
            for i in range(inputs):
                corner = (2.0 + i * step, height - 1.6 - o * step - side)
                _cells(ax, corner, mask[o, i], ["white", COLOURS[i][1]])
                centre = (corner[0] + side // 2, corner[1] + side // 2)
                ax.add_patch(Rectangle(centre, 1, 1, fill=False, ec=INK, lw=2.2, zorder=3))
        for i in range(inputs):
            label(ax, (2.0 + i * step + side / 2, height - 1.1), f"from {COLOURS[i][0]}")
        ax.set_title(title)


def plot_connections(centre_taps: Sequence[tuple[str, Tensor]]) -> None:
    """Figure 2, right: which colours of a pixel reach which, from the centres of masks, bottom up.

    Each layer is its name and the centre tap (3, 3), output by input, of its mask.
    """
    step = 1.7
    axes = sheet(10, step * len(centre_taps) + 1.0)
    xs = (4.4, 6.3, 8.2)
    for layer in range(len(centre_taps) + 1):
        y = 0.4 + step * layer
        name = "the image" if layer == 0 else f"layer {layer}"
        label(axes, (0.1, y), name, align="left")
        box(axes, (2.5, y), (1.8, 0.6), "earlier pixels", fill=PALE, fontsize=9)
        for x, (colour, fill) in zip(xs, COLOURS, strict=True):
            box(axes, (x, y), (1.1, 0.6), colour, fill=fill)
    for layer, (name, allowed) in enumerate(centre_taps):
        low, high = 0.7 + step * layer, 0.1 + step * (layer + 1)
        label(axes, (9.9, (low + high) / 2), name, align="right")
        for o, x in enumerate(xs):
            arrow(axes, (2.7 + 0.2 * o, low), (x - 0.35, high), colour=GREY)
            for i in range(len(xs)):
                if allowed[o, i]:
                    arrow(axes, (xs[i], low), (x, high), colour=COLOURS[i][1])


def receptive_field(
    network: Callable[[Tensor], Tensor], shape: tuple[int, int, int], place: tuple[int, int]
) -> Tensor:
    """Which places of the input move the output at `place`: bool (H, W), as Figure 4 has it.

    By differentiation, at four random inputs of `shape` (C, H, W), since a ReLU may be closed at
    one. `network` takes (N, C, H, W) to (N, features, H, W), and treats every image alone.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, *shape, generator=generator).requires_grad_()
    output = network(x)[:, :, *place]
    weights = torch.randn(output.shape[1], generator=generator)  # no two features cancel
    (gradient,) = torch.autograd.grad((output @ weights).sum(), x)
    return (gradient != 0).any(dim=1).any(dim=0)


def plot_fields(
    fields: Mapping[str, Tensor], pixel: tuple[int, int], *, own: bool = False, columns: int = 3
) -> None:
    """The pixels that `pixel` was found to depend on: bool maps (H, W), each under its name.

    Pixels after it that it depends on are marked as leaks; so is the pixel itself unless `own`
    allows it, as it does for the hidden maps behind mask A.
    """
    rows = -(-len(fields) // columns)
    tall, across = next(iter(fields.values())).shape
    size = (WIDTH, rows * (WIDTH / columns * tall / across + 0.25) + 0.4)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    present = set()
    for ax in axes.flat[len(fields) :]:
        ax.set_axis_off()
    for ax, (title, seen) in zip(axes.flat, fields.items(), strict=False):
        index = torch.arange(seen.numel()).reshape(seen.shape)
        earlier = index < index[pixel] + own
        kinds = torch.where(earlier, seen.int() + HIDDEN, LEAK * seen.int())
        paint_board(ax, kinds, [FIELD[k][1] for k in range(4)])
        for row, column in (kinds == LEAK).nonzero().tolist():
            ax.plot(column + 0.5, row + 0.5, "x", color="white", ms=5, mew=1.4)
        corner = (pixel[1], pixel[0])
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, ec=INK, lw=2.2, zorder=3))
        ax.set_title(title)
        present |= set(kinds.unique().tolist())
    handles: list[Patch | Line2D] = [
        Patch(fc="white", ec=INK, lw=2.2, label="the pixel that looks"),
        *(Patch(fc=c, ec=GREY, label=name) for k, (name, c) in FIELD.items() if k in present),
    ]
    figure.legend(handles=handles, **BELOW)


def plot_boards(boards: Mapping[str, Tensor]) -> None:
    """Boards (H, W) of numbers side by side, to one scale; negative cells are left empty.

    Of diagonals' numbers, before and after skewing, they are Figure 3.
    """
    widths = [board.shape[1] for board in boards.values()]
    height = WIDTH * max(len(board) for board in boards.values()) / (sum(widths) + len(widths))
    _, axes = plt.subplots(1, len(boards), figsize=(WIDTH, height + 0.4), width_ratios=widths)
    for ax, (title, board) in zip(axes, boards.items(), strict=True):
        top = max(int(board.max()), 1)
        shades = plt.get_cmap("viridis_r")(torch.linspace(0.05, 0.95, top + 1).numpy())
        fills = ["white", *map(to_hex, shades)]
        paint_board(ax, board.clamp(min=-1) + 1, fills, empty=board < 0)
        for row, column in (board >= 0).nonzero().tolist():
            number = int(board[row, column])
            style: dict[str, Any] = {"color": ink_on(shades[number]), "fontsize": 9.5}
            ax.text(column + 0.5, row + 0.5, f"{number}", ha="center", va="center", **style)
        ax.set_title(title)


def plot_scan(skewed: Tensor, steps: Sequence[int], taps: Sequence[tuple[int, int]]) -> None:
    """Steps of a scan over the columns of a skewed map; below, the same pixels in the image.

    `skewed` (H, W') holds the column of each place in the image, negative where there is none;
    `taps` are the neighbours, as (row, column) offsets in the skewed map, that a pixel reads.
    """
    height, width = skewed.shape
    image_width = int(skewed.max()) + 1
    ratios = (1 / width, 1 / image_width)  # of the heights of two boards of one width
    size = (WIDTH, WIDTH / len(steps) * height * sum(ratios) + 0.8)
    _, axes = plt.subplots(2, len(steps), figsize=size, height_ratios=ratios)
    for step, (upper, lower) in zip(steps, axes.T, strict=True):
        place = torch.arange(width).expand(height, -1)
        kinds = (place < step).int() + 2 * (place == step).int()
        read = torch.zeros_like(skewed, dtype=torch.bool)
        for row, column in (place == step).nonzero().tolist():
            for down, across in taps:
                if skewed[row, column] >= 0 and row + down >= 0 and column + across >= 0:
                    read[row + down, column + across] = True
        kinds[read] = 3
        kinds[skewed < 0] = 0
        colours = ["white", DONE, NOW, STATE]
        paint_board(upper, kinds, colours, empty=skewed < 0)
        rows, columns = (skewed >= 0).nonzero(as_tuple=True)
        image = torch.zeros(height, image_width, dtype=torch.int)
        image[rows, skewed[rows, columns]] = kinds[rows, columns]
        paint_board(lower, image, colours)
        upper.set_title(f"step {step}")
    axes[0, 0].set_ylabel("skewed")
    axes[1, 0].set_ylabel("in the image")
    names = {NOW: "computed now", STATE: "read", DONE: "computed before"}
    handles = [Patch(fc=colour, ec=GREY, label=name) for colour, name in names.items()]
    axes[0, 0].figure.legend(handles=handles, **BELOW)


def plot_row_step(kernel: int, width: int, column: int) -> None:
    """One step of the Row LSTM: what the state of a pixel is made of (eq 3)."""
    axes = sheet(11, 4.6)
    half = kernel // 2
    left = 3.0
    for y, name, first, last, colour in (
        (3.4, "$h_{r-1},\\ c_{r-1}$", column - half, column + half, SKY),
        (1.9, "$h_r,\\ c_r$", column, column, ORANGE),
        (0.3, "input map, row $r$", column - half, column, GREEN),
    ):
        label(axes, (left - 0.3, y + 0.4), name, size=11, align="right")
        board = torch.zeros(1, width)
        board[0, first : last + 1] = 1
        _cells(axes, (left, y), board, ["white", colour], side=0.8)
    at = left + 0.8 * (column + 0.5)
    for offset in range(-half, half + 1):
        x = left + 0.8 * (column + offset + 0.5)
        arrow(axes, (x, 3.4), (at + 0.2 * offset, 2.72))
        if offset <= 0:
            arrow(axes, (x, 1.1), (at + 0.2 * offset, 1.88))
    right = left + 0.8 * width + 0.2
    label(axes, (right, 3.06), "$K^{ss}$: the row above,\nno mask", align="left")
    label(axes, (right, 1.5), "$K^{is}$: the row itself,\nmask B", align="left")


def plot_nats(curves: Mapping[str, Sequence[float]], marks: Mapping[str, float]) -> None:
    """Nats per image over steps, and horizontal lines to compare with."""
    _, ax = plt.subplots(figsize=(WIDTH, 2.9))
    for (name, nats), colour, dashes in zip(curves.items(), PALETTE, STYLES, strict=False):
        ax.plot(nats, color=colour, ls=dashes, label=name)
    for (name, value), dashes in zip(marks.items(), (":", "--"), strict=False):
        ax.axhline(value, color=INK, ls=dashes, lw=1.2, label=name)
    ax.set(xlabel="step", ylabel="nats per image", ylim=(0, None))
    ax.legend(**ABOVE)


def _cells(axes: Axes, corner: Point, kinds: Tensor, fills: Sequence[str], side: float = 1) -> None:
    """A board on a canvas, its lower left corner at `corner`."""
    height, _ = kinds.shape
    for row, line in enumerate(kinds.int().tolist()):
        for column, kind in enumerate(line):
            place = (corner[0] + side * column, corner[1] + side * (height - 1 - row))
            axes.add_patch(Rectangle(place, side, side, fc=fills[kind], ec=GREY, lw=0.6))


def paint_board(
    axes: Axes,
    kinds: Tensor,
    colours: Sequence[str],
    *,
    empty: Tensor | None = None,
    lw: float = 0.4,
) -> None:
    """A board that fills its axes, row 0 at the top; cells that are `empty` have no frame."""
    shown = kinds.float() if empty is None else kinds.float().masked_fill(empty, torch.nan)
    colormap = ListedColormap(list(colours))
    style: dict[str, Any] = {"ec": GREY, "lw": lw, "clip_on": False}
    style["rasterized"] = kinds.numel() > MANY
    axes.pcolormesh(shown, cmap=colormap, vmin=-0.5, vmax=len(colours) - 0.5, **style)
    axes.invert_yaxis()
    axes.set(aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
