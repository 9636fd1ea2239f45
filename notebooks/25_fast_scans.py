# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (fast-scans)=
# # Fast scans
#
# The layers of {doc}`10_row_lstm` and {doc}`11_diagonal_bilstm` are written to be read. How does the package run them
# several times faster? This appendix finds out which orders of computation are allowed. It skews without a loop and runs
# both directions at once. Then it shows the compiled scan, and sampling with kept states.
#
# ```{admonition} In the paper
# Sections 3.1, 3.2 and 3.5 of {cite:t}`oord2016pixelrnn` say what an LSTM layer computes, and that sampling is
# sequential. The fast implementation is ours.
# ```

# %% tags=["parameters", "remove-cell"]
profile = "laptop"

# %% tags=["hide-input"]
import itertools
import os
import textwrap
from statistics import median
from unittest.mock import patch

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import figures
from nvp_book.figures import contexts
from nvp_book.selection import benchmark_results
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nvp import PixelRNN, PixelRNNConfig
from nvp.autoregressive.diagonal_bilstm import (
    DiagonalBiLSTM,
    scan_diagonals,
    shift_down,
)
from nvp.autoregressive.lstm import lstm_cell, split_gates
from nvp.autoregressive.row_lstm import RowLSTM
from nvp.autoregressive.scan import DIAGONAL, compiled, raster_lstm

figures.use_style()
torch.set_num_threads(1)
torch.set_grad_enabled(False)
torch.set_default_dtype(torch.float64)  # so that a check can be strict

# %% [markdown]
# ## Any order that respects the neighbours
#
# In which orders may the pixels of a recurrence be computed? A pixel reads the hidden states of
# some neighbours, at the **taps** of its kernel, and the cell of one. The next cell does this for
# any taps, one pixel after another in raster order:


# %%
def in_raster_order(gates, weight, start, taps, cell, backwards=False):
    """Equation 3: gates (N, H, W, 4h) -> hidden states (N, H, W, h).

    `taps` and `cell` are (row, column) offsets; `start` has h and c at
    places outside the image. What is in neither counts as zero.
    """
    _, height, width, _ = gates.shape
    states = dict(start)
    for r, step in itertools.product(range(height), range(width)):
        j = width - 1 - step if backwards else step
        total = gates[:, r, j]
        for (down, across), w in zip(taps, weight, strict=True):
            if (r + down, j + across) in states:
                total = total + states[r + down, j + across][0] @ w
        _, c = states[r + cell[0], j + cell[1]]
        states[r, j] = lstm_cell(total, c)
    rows = [[states[r, j][0] for j in range(width)] for r in range(height)]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


# %% [markdown]
# The Diagonal BiLSTM is this function twice. The package's scan by diagonals gives the same numbers:

# %%
LEFT, RIGHT, ABOVE = (0, -1), (0, 1), (-1, 0)


def by_pixels(layer, x):
    """A `DiagonalBiLSTM` in raster order: (N, h, H, W)."""
    gates = split_gates(layer.input_to_state(x), 2).flatten(4)
    images, height, width = gates.shape[:3]
    maps = []
    for d, beside in enumerate((LEFT, RIGHT)):
        outside = width if d else -1
        first = layer.initial[d].unsqueeze(2).expand(-1, -1, images, -1)
        states = in_raster_order(
            gates[:, :, :, d],
            layer.state_to_state[d],
            start={(r, outside): first[:, r] for r in range(height)},
            taps=(beside, ABOVE),
            cell=beside,
            backwards=d == 1,
        )
        maps.append(states.permute(0, 3, 1, 2))
    return maps[0] + shift_down(maps[1])


torch.manual_seed(0)
layer = DiagonalBiLSTM(6, 5, num_colours=1, height=7)
nn.init.normal_(layer.initial)  # zeros when new
x = torch.randn(2, 6, 7, 9)
gates = split_gates(layer.input_to_state(x), 2)  # (N, H, W, 2, 4, h)
scan = gates, layer.state_to_state, layer.initial, DIAGONAL
by_diagonals = scan_diagonals(*scan).permute(0, 3, 1, 2)
assert torch.allclose(by_pixels(layer, x), by_diagonals)

# %% [markdown]
# They must agree. An order of evaluation is right if every pixel comes after its taps, and all right orders give the
# same states. Which of three orders are right for which layer?

# %% mystnb={"figure": {"caption": "The step in which a pixel is computed, in three orders.", "name": "fig-schedules"}, "image": {"alt": "Three boards of 5 by 5 numbers. By rows: all of row r have number r. By diagonals: r plus column, from 0 to 8. By pixels: 0 to 24 in raster order."}} tags=["hide-input"]
n = 5
r, j = torch.arange(n)[:, None], torch.arange(n)[None]
schedules = {
    "by rows": r.expand(n, n),
    "by diagonals": r + j,
    "by pixels": n * r + j,
}
contexts.plot_boards(schedules)
plt.show()


# %%
def respects(schedule, taps):
    """Whether each pixel comes after all taps that it reads."""
    inside = range(len(schedule))
    return all(
        schedule[a + down, b + across] < schedule[a, b]
        for a, b in itertools.product(inside, inside)
        for down, across in taps
        if a + down in inside and b + across in inside
    )


ROW_TAPS, DIAGONAL_TAPS = ((-1, -1), (-1, 0), (-1, 1)), (LEFT, ABOVE)
rows = []
for name, schedule in schedules.items():
    right = [respects(schedule, taps) for taps in (ROW_TAPS, DIAGONAL_TAPS)]
    rows.append([name, *("yes" if each else "no" for each in right)])
header = ["right for", "Row LSTM", "Diagonal BiLSTM, to the right"]
figures.show_table(header, rows)

# %% [markdown]
# Raster order is right for both. So one function serves all three scans. They differ in their taps, and in the
# direction in which they read a row:
#
# | layer | taps (row, column) | cell | reads a row |
# |:--|:--|:--|:--|
# | Row LSTM, $k = 3$ | $(-1, -1)$, $(-1, 0)$, $(-1, +1)$ | $(-1, 0)$ | in any order |
# | Diagonal, to the right | $(0, -1)$, $(-1, 0)$ | $(0, -1)$ | forwards |
# | Diagonal, to the left | $(0, +1)$, $(-1, 0)$ | $(0, +1)$ | backwards |

# %% tags=["remove-cell"]
row_layer = RowLSTM(6, 5, num_colours=1, kernel_size=3, width=9)
nn.init.normal_(row_layer.initial)
row_gates = split_gates(row_layer.input_to_state(x), 1).flatten(3)
first = row_layer.initial[0].unsqueeze(2).expand(-1, -1, len(x), -1)
states = in_raster_order(
    row_gates,
    row_layer.state_to_state[0],
    start={(-1, place): first[:, place] for place in range(9)},
    taps=ROW_TAPS,
    cell=ABOVE,
)
assert torch.allclose(states.permute(0, 3, 1, 2), row_layer(x))

# %% [markdown]
# ## Wide steps: skewing, and both directions at once
#
# A GPU wants few wide steps. The Diagonal BiLSTM takes $2n - 1$ of them, one for each diagonal. Two ideas make them
# cheap.
#
# **Skew without a loop.** Make every row longer by $H$ places and lay the rows end to end. Cut the line again into rows
# that are shorter by one. Each row then begins one place later than the row before it.


# %%
def skew(x):
    """Row r moves right by r: (..., H, W) -> (..., H, W + H - 1)."""
    height, width = x.shape[-2:]
    line = F.pad(x, (0, height)).flatten(-2)
    skewed = line[..., : height * (width + height - 1)]
    return skewed.unflatten(-1, (height, -1))


# %% mystnb={"figure": {"caption": "Skewing an image of 4 × 5 pixels, each with the number of its diagonal. Padded rows of 9 places are laid end to end, without the last 4 places, and cut again into rows of 8. Equal numbers end up below each other.", "name": "fig-skewing-fast"}, "image": {"alt": "Three boards. The image, 4 by 5, its numbers growing from 0 in the upper left to 7 in the lower right, equal along diagonals. The same with four empty places behind each row. And the skewed map, 4 by 8, each row one place further to the right, equal numbers in columns."}} tags=["hide-input"]
numbers = torch.arange(4)[:, None] + torch.arange(5)
padded = F.pad(numbers + 1, (0, 4)) - 1  # empty places are -1
skewed = skew(numbers + 1) - 1
contexts.plot_boards(
    {"the image": numbers, "padded": padded, "skewed": skewed}
)
plt.show()

# %%
for t, column in enumerate(skewed.T):
    assert set(column.tolist()) <= {t, -1}
assert (skewed >= 0).sum() == numbers.numel()  # and none is lost

# %% [markdown]
# **Run both directions in one loop.** The second direction does not wait for the first. So mirror its gates, stack
# the two along a new dimension, and let a batched matrix product (`baddbmm`) do one step of both. The loop has as
# many steps as before, each twice as wide.
#
# ````{dropdown} The package's version
# ```{literalinclude} ../nvp/autoregressive/diagonal_bilstm.py
# :pyobject: scan_diagonals
# ```
# ````
#
# The price is work on empty places: nearly half of a skewed map is empty ({ref}`diagonal-bilstm`).
#
# ## Small steps: the compiled scan
#
# What suits a core of a CPU? It wants the opposite: small steps whose numbers stay in its cache. For it
# `nvp/autoregressive/scan.cpp` is the function `in_raster_order` in C++. No map is ever skewed, so nothing is empty.
#
# * **Eight images go through a pixel together.** A tap is then a matrix product, whose sums stay in registers.
# * **Blocks of images and directions go to different threads.**
# * **Its own backward pass.** It walks through the pixels in the opposite order.
# * **Matrix units.** Where the processor multiplies matrices of bfloat16, so does the scan when a network trains in
#   bfloat16. Sums, gates and cells stay float32.
#
# It is compiled on first use. Where there is no compiler, on a GPU, and with `NVP_PLAIN=1`, the layers run loops
# in PyTorch. Both must give the same states and the same gradients:

# %%
if compiled(gates):
    leaves = [t.clone().requires_grad_() for t in scan[:3]]
    loss_weights = torch.randn(2, 7, 9, 5)
    with torch.enable_grad():
        slow, fast = (
            torch.autograd.grad(
                (loss_weights * run(*leaves, DIAGONAL)).sum(), leaves
            )
            for run in (scan_diagonals, raster_lstm)
        )
    for one, other in zip(slow, fast, strict=True):
        assert torch.allclose(one, other)
    assert torch.allclose(scan_diagonals(*scan), raster_lstm(*scan))

# %% [markdown]
# ````{dropdown} A block of images in C++
# ```{literalinclude} ../nvp/autoregressive/scan.cpp
# :language: cpp
# :start-at: void forward_block
# :end-before: // Two rows of a gradient
# ```
# ````
#
# These times were measured on the machine that is named below them (`benchmarks/results_pixelrnn.json`):

# %% tags=["hide-input"]
kinds = {
    "row_lstm": "Row LSTM",
    "diagonal_bilstm": "Diagonal BiLSTM",
    "pixelcnn": "PixelCNN",
}
records = benchmark_results("pixelrnn")
record = records["small"]


def middle(run, key, size="small"):
    """The median of all rounds, in seconds."""
    parts = records[size]["measured"][run]
    return median(t for part in parts for t in part[key])


ways = {
    "as in public code": "plain fp32 NCHW",
    "in PyTorch": "nvp fp32, scan in PyTorch",
    "compiled": "nvp fp32",
    "compiled, bfloat16": "nvp bf16",
}
rows, faster = [], {}
for kind in ("row_lstm", "diagonal_bilstm"):
    times = [middle(f"{kind}/{way}", "step") for way in ways.values()]
    public, plain, quick, _ = times
    faster[kind] = public / quick, plain / quick
    rows.append([kinds[kind], *(f"{time:.2f} s" for time in times)])
figures.show_table(
    [f"a training step of {record['batch']} images", *ways], rows
)
what = record["what"].replace(" = ", "\u00a0=\u00a0")  # on one line
print(textwrap.fill(what, 79), record["machine"]["cpu"], sep="\n")

# %% tags=["remove-cell"]
assert faster["row_lstm"][0] > 3 > faster["row_lstm"][1] > 2
assert faster["diagonal_bilstm"][0] > 25 > 9 > faster["diagonal_bilstm"][1] > 7
in_colour = []
for kind in faster:
    runs = (f"{kind}/{way}" for way in ways.values())
    public, plain, quick, _ = (middle(run, "step", "cifar10") for run in runs)
    in_colour += [round(public / quick, 1), round(plain / quick, 1)]
assert in_colour == [2.5, 1.8, 13.8, 4.5]

# %% [markdown]
# Public code calls a convolution for every row or column, in each direction. At this size our compiled step of the Row
# LSTM is three times as fast, and that of the Diagonal BiLSTM over 25 times. The latter had the most to gain. Its
# public form takes 110 steps where the Row LSTM takes 28, and nearly half of its work is on empty places. Compared
# with our own scans in PyTorch, the compiled scan alone is more than twice and seven times as fast. At the size of our
# runs on CIFAR-10 all four factors are smaller.
#
# ## Sampling with kept states
#
# {doc}`09_pixel_by_pixel` samples by one pass for each pixel, and uses one pixel of its output. Because of the masks,
# the features of earlier pixels cannot change any more. So keep them {cite}`ramachandran2017fast`: each layer computes
# *one* pixel, from the features and states that it kept. The second direction of the Diagonal BiLSTM is shifted down by
# one row, so a pixel reads it from the row above. It is computed for a whole row when that row is complete.
#
# ````{dropdown} The package's version, for one pixel of a Diagonal BiLSTM
# ```{literalinclude} ../nvp/autoregressive/sampling.py
# :pyobject: _DiagonalBiLSTM
# ```
# ````
#
# How much does it save? Count the multiply-adds that are executed for one image of 5 × 5 pixels, grey and in colour:


# %%
def multiply_adds(function, *arguments):
    """Executed while `function` runs, in the plain form of the scans."""
    counter = FlopCounterMode(display=False)
    with patch.dict(os.environ, NVP_PLAIN="1"), counter:
        function(*arguments)
    return counter.get_total_flops() // 2


def network(kind, shape):
    """A small network of this kind."""
    torch.manual_seed(0)
    config = PixelRNNConfig(
        kind=kind, image_shape=shape, levels=8, num_layers=3, hidden=12
    )
    return PixelRNN(config)


rows = []
for kind, title in kinds.items():
    for colours in (1, 3):
        shape = (colours, 5, 5)
        model = network(kind, shape)
        blank = torch.zeros(1, *shape, dtype=torch.uint8)
        one_pass = multiply_adds(model.logits, blank)
        kept = multiply_adds(model.sample, 1)
        rows.append([title, colours, colours * 25, f"{kept / one_pass:.1f}"])
        assert kept < 1.5 * colours * one_pass
figures.show_table(
    ["network", "colours", "by definition, passes", "with kept states"], rows
)

# %% [markdown]
# A sample costs about one pass for each colour, since green is drawn given red. It can cost less, because kept states
# skip the masked half of each kernel, and the empty places of a skewed map. In time the gain is smaller, because a
# small step costs calls, not only arithmetic:

# %% tags=["hide-input"]
rows = []
for kind, title in kinds.items():
    sampling = record["measured"][f"{kind}/sampling"]
    one_pass = median(
        r["by_definition"] / r["passes_by_definition"] for r in sampling
    )
    assert not any(r["differ"] for r in sampling)
    kept = middle(f"{kind}/sampling", "sample")
    pixels = sampling[0]["sub_pixels"]
    cells = [f"{1000 * one_pass:.0f} ms", f"{pixels * one_pass:.0f} s"]
    rows.append([title, *cells, f"{kept:.2f} s"])
    assert kept < pixels * one_pass / 50
figures.show_table(
    [
        f"{record['batch']} images of 28 × 28",
        "one pass",
        "784 passes (estimated)",
        "with kept states",
    ],
    rows,
)

# %% [markdown]
# Both ways drew the same last row of these images, pixel for pixel.
#
# ## Summary
#
# * An order of computation is right if every pixel comes after its taps. Raster order is right for both LSTM layers,
#   with backward rows for the direction to the left.
# * Few wide steps suit a GPU: skewed columns, both directions in one product.
# * On a CPU many small steps are fast: a compiled scan in raster order, eight images side by side.
# * Sampling with kept states takes the arithmetic of about one pass for each colour, in as many steps as before.
#
# ## Exercises
#
# ```{exercise} Skew back
# :label: ex-fast-unskew
#
# Write `unskew` without a loop: lay the rows of the skewed map end to end, lengthen the line, and cut it again.
# ```
#
# ```{solution-start} ex-fast-unskew
# :class: dropdown
# ```
# The line lost its last $H$ places in `skew`. Give them back, and cut rows of $W + H$ places, of which the first $W$
# are the row.


# %%
def unskew(x):
    """The inverse of `skew`."""
    height = x.shape[-2]
    width = x.shape[-1] - height + 1
    line = F.pad(x.flatten(-2), (0, height))
    return line.unflatten(-1, (height, -1))[..., :width]


maps = torch.randn(2, 3, 4, 5)
assert torch.equal(unskew(skew(maps)), maps)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Another order
# :label: ex-two-cores
#
# Two cores compute one direction of a Diagonal BiLSTM. One takes the even rows, the other the odd rows, each from
# left to right. When may the second core compute pixel $(1, j)$? How many steps do $n \times n$ pixels take?
# ```
#
# ```{solution-start} ex-two-cores
# :class: dropdown
# ```
# As soon as $(0, j)$ is done, one step after the first core. The first core may begin row 2 when it has finished row 0.
# By then only the last pixel of row 1 is missing, and it is done in the next step. Two rows take
# $n$ steps, so all of them take $n^2 / 2 + 1$ for even $n$. For odd $n$ the last row has no
# partner, and all rows take $n (n + 1) / 2$.

# %%
for n in (5, 6):
    row = torch.arange(n)
    start = n * (row // 2) + row % 2
    schedule = start[:, None] + row
    assert respects(schedule, DIAGONAL_TAPS)
    steps = n * (n + 1) // 2 if n % 2 else n * n // 2 + 1
    assert schedule.max() + 1 == steps
    earlier = schedule - (row % 2)[:, None]  # both at once
    assert not respects(earlier, DIAGONAL_TAPS)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Without waiting
# :label: ex-prefix
#
# A recurrence that is linear, $c_j = f_j\, c_{j-1} + u_j$ with $c_{-1} = 0$, need not go from left to right. Compute
# all $c_j$ of a row of $n$ numbers in $\lceil \log_2 n \rceil$ steps, each over the whole row at once. Why does this
# not work for the cell of an LSTM?
#
#     def linear_scan(f, u):
#         shift = 1
#         while shift < u.shape[-1]:
#             ...  # (f, u) of the last `shift` places, then of twice as many
#             shift *= 2
#         return u
# ```
#
# ```{solution-start} ex-prefix
# :class: dropdown
# ```
# One place maps $c$ to $f_j c + u_j$. Two such maps, one after the other, are a map of the same form: $f_j f_{j-1}\,
# c + f_j u_{j-1} + u_j$. Each step doubles the number of places that a pair stands for. In an LSTM $f_j$ and $u_j$
# depend on $h_{j-1}$, and so on $c_{j-1}$. They are not known beforehand.


# %%
def linear_scan(f, u):
    """All c_j of c_j = f_j c_(j-1) + u_j, along the last dimension."""
    shift = 1
    while shift < u.shape[-1]:
        u = u + f * F.pad(u[..., :-shift], (shift, 0))
        f = f * F.pad(f[..., :-shift], (shift, 0))
        shift *= 2
    return u


f, u = torch.rand(3, 28), torch.randn(3, 28)
c, slow = torch.zeros(3), []
for j in range(28):
    c = f[:, j] * c + u[:, j]
    slow.append(c)
assert torch.allclose(linear_scan(f, u), torch.stack(slow, dim=-1))

# %% [markdown]
# ```{solution-end}
# ```
