# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (diagonal-bilstm)=
# # Diagonal BiLSTM
#
# ```{admonition} In the paper
# Section 3.2 of {cite:t}`oord2016pixelrnn`: figure 3 and figure 4 (right).
# ```
#
# The Row LSTM loses a wedge on its right, because no path runs along a row. Let one. If a pixel reads the state
# of its *left* neighbour and of the pixel *above*, and those read theirs, it has seen the whole rectangle to
# its upper left; a second pass from the other side sees the upper right. Together that is everything. Two
# things need care: which pixels can be computed at the same time, and where the second pass stands in the
# order.

# %% tags=["parameters"]
profile = "laptop"

# %%
import itertools
import os
from unittest import mock

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import figures
from nvp_book.figures import architecture, contexts
from nvp_book.figures.contexts import receptive_field
from torch import nn

from nvp import PixelRNN, PixelRNNConfig
from nvp.autoregressive import diagonal_bilstm
from nvp.autoregressive.diagonal_bilstm import (
    DiagonalBiLSTM,
    scan_diagonals,
    shift_down,
    skew,
    unskew,
)
from nvp.autoregressive.lstm import lstm_cell, split_gates
from nvp.autoregressive.row_lstm import RowLSTM
from nvp.autoregressive.scan import DIAGONAL, compiled, raster_lstm

figures.use_style()
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # so that a check can be strict

# %% [markdown]
# ## Skewing
#
# A pixel at row $r$ and column $j$ waits for $(r, j - 1)$ and $(r - 1, j)$. Both have $r + j$ smaller by one.
# So all pixels of one diagonal, $r + j = t$, can be computed together, and the diagonals follow each other.
# Convolutions do not run along diagonals. The paper's trick is to **skew** the map: shift row $r$ to the right
# by $r$ places. Then the diagonals are columns (figure 3).
#
# ```{literalinclude} ../nvp/autoregressive/diagonal_bilstm.py
# :pyobject: skew
# ```
#
# No index is computed. Make every row longer by $H$ places; lay the rows end to end; cut the line again, into
# rows that are shorter by one. Each begins one place later than the one before.

# %% mystnb={"figure": {"caption": "After figure 3 of {cite:t}`oord2016pixelrnn`: skewing an image of 4 × 5 pixels, each with the number of its diagonal, $r + j$. Padded rows of 9 places are cut again into rows of 8; equal numbers end up below each other.", "name": "fig-skewing"}, "image": {"alt": "Three boards. The image, 4 by 5, its numbers growing from 0 in the upper left to 7 in the lower right, equal along diagonals. The same with four empty places behind each row. And the skewed map, 4 by 8, each row one place further to the right, equal numbers in columns."}}
H, W = 4, 5
numbers = torch.arange(H)[:, None] + torch.arange(W)
padded = F.pad(numbers + 1, (0, H)) - 1  # empty places are -1
skewed = skew(numbers + 1) - 1
contexts.draw_boards(
    {"the image": numbers, "padded": padded, "skewed": skewed}
)
plt.show()

for t, column in enumerate(skewed.T):
    assert set(column.tolist()) <= {t, -1}
assert torch.equal(unskew(skewed), numbers)

# %% [markdown]
# ## A step of the scan
#
# **Input to state** is a 1 × 1 convolution with mask B; at 1 × 1 only the colours of the mask matter. **State
# to state** is a convolution of size 2 × 1 over the column before, two rows high. Place $(r, t)$ of the skewed
# map is pixel $(r, t - r)$, so the two taps are
#
# $$
# (r,\; t - 1) &\;\to\; \text{pixel } (r,\; j - 1), \\
# (r - 1,\; t - 1) &\;\to\; \text{pixel } (r - 1,\; j),
# $$ (eq:taps)
#
# with $j = t - r$: the left neighbour and the pixel above. The gates are those of {eq}`eq:row-lstm`; the cell comes from the same
# row, so from the left.

# %% mystnb={"figure": {"caption": "Four steps of the left-to-right scan, in the skewed map and in the image. A column of the one is a diagonal of the other. (No figure in the paper.)", "name": "fig-diagonal-scan"}, "image": {"alt": "Two rows of four boards. Above, the skewed map: the column computed now is orange, the column before, which it reads, is blue, those before that grey. Below, the image: the same colours lie on diagonals that move from the upper left to the lower right."}}
columns = torch.where(skewed >= 0, skewed - torch.arange(H)[:, None], -1)
contexts.draw_scan(columns, [1, 3, 4, 6], taps=[(0, -1), (-1, -1)])
plt.show()

# %% [markdown]
# In the package, both directions go through one loop, the second one on the mirrored image, with weights of its
# own:
#
# ```{literalinclude} ../nvp/autoregressive/diagonal_bilstm.py
# :pyobject: scan_diagonals
# ```
#
# Two details. A row's turn begins at its first pixel, at step $r$. Until then its state is held at the learned
# initial one, so the zeros around the skewed map are never read. And the missing row above the first is padded
# *at the top*. A library that pads an even kernel below would read row $r + 1$: {ref}`ex-pad-below`.
#
# ## Any order that respects the neighbours
#
# The scan by diagonals is one way to evaluate a recurrence. Written as a recurrence, it has no skewing in it.
# Here it is, for any set of neighbours, in the plainest order there is: pixel after pixel, as one reads.


# %%
def in_raster_order(gates, weight, start, taps, cell, backwards=False):
    """Eq 3 with the states of some neighbours: (N, H, W, 4h) -> (N, H, W, h).

    `taps` and `cell` are (row, column) offsets; `start` has h and c at
    places outside of the image. What is in neither counts as zero.
    """
    _, height, width, _ = gates.shape
    states = dict(start)
    for r in range(height):
        for step in range(width):
            j = width - 1 - step if backwards else step
            total = gates[:, r, j]
            for (down, across), w in zip(taps, weight, strict=True):
                if (r + down, j + across) in states:
                    total = total + states[r + down, j + across][0] @ w
            _, c = states[r + cell[0], j + cell[1]]
            states[r, j] = lstm_cell(total, c)
    rows = [[states[r, j][0] for j in range(width)] for r in range(height)]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


LEFT, RIGHT, ABOVE = (0, -1), (0, 1), (-1, 0)


def two_directions(layer, x):
    """Both maps of a Diagonal BiLSTM, (N, h, H, W), the second not shifted."""
    gates = split_gates(layer.input_to_state(x), 2).flatten(4)
    images, height, width = gates.shape[:3]
    maps = []
    for d, beside in enumerate((LEFT, RIGHT)):
        outside = width if d else -1
        first = layer.initial[d].unsqueeze(2).expand(-1, -1, images, -1)
        start = {(r, outside): first[:, r] for r in range(height)}
        maps.append(
            in_raster_order(
                gates[:, :, :, d],
                layer.state_to_state[d],
                start,
                taps=(beside, ABOVE),
                cell=beside,
                backwards=d == 1,
            )
        )
    return [states.permute(0, 3, 1, 2) for states in maps]


torch.manual_seed(0)
layer = DiagonalBiLSTM(6, 5, num_colours=1, height=7)
nn.init.normal_(layer.initial)  # zeros when new
x = torch.randn(2, 6, 7, 9)
to_right, to_left = two_directions(layer, x)
gates = split_gates(layer.input_to_state(x), 2)
by_diagonals = scan_diagonals(
    gates, layer.state_to_state, layer.initial, DIAGONAL
).permute(0, 3, 1, 2)
assert (to_right + shift_down(to_left) - by_diagonals).abs().max() < 1e-10

# %% [markdown]
# Skewed, by diagonals, and not skewed, by pixels: the same numbers. It must be so. The recurrence says what
# each state is made of; an *order* of evaluation is right if every pixel comes after its neighbours, and then
# all orders give the same. For pixels that read their left neighbour and the one above, both the diagonals and
# the reading order will do:

# %% mystnb={"figure": {"caption": "When a pixel is computed. Row LSTM: a row a step. Diagonal BiLSTM, left to right: a diagonal a step. The reading order, which respects the neighbours of both. (No figure in the paper.)", "name": "fig-schedules"}, "image": {"alt": "Three boards of 5 by 5 numbers. By rows: all of row r have number r. By diagonals: r plus column, from 0 to 8. By pixels: 0 to 24 in reading order."}}
n = 5
r, j = torch.arange(n)[:, None], torch.arange(n)[None]
schedules = {
    "by rows": r.expand(n, n),
    "by diagonals": r + j,
    "by pixels": n * r + j,
}
ROW_TAPS = ((-1, -1), (-1, 0), (-1, 1))
DIAGONAL_TAPS = (LEFT, ABOVE)


def respects(schedule, taps):
    """Whether each pixel comes after all neighbours that it reads."""
    inside = range(len(schedule))
    return all(
        schedule[a + down, b + across] < schedule[a, b]
        for a, b in itertools.product(inside, inside)
        for down, across in taps
        if a + down in inside and b + across in inside
    )


verdicts = {
    name: [respects(schedule, taps) for taps in (ROW_TAPS, DIAGONAL_TAPS)]
    for name, schedule in schedules.items()
}
assert verdicts == {
    "by rows": [True, False],
    "by diagonals": [False, True],
    "by pixels": [True, True],
}
contexts.draw_boards(schedules)
plt.show()

# %% [markdown]
# So the two LSTM layers of the paper are *one* recurrence with different neighbours:
#
# | layer | states that a pixel reads (row, column) | cell | reads a row |
# |:--|:--|:--|:--|
# | Row LSTM, $k = 3$ | $(-1, -1)$, $(-1, 0)$, $(-1, +1)$ | $(-1, 0)$ | in any order |
# | Diagonal, to the right | $(0, -1)$, $(-1, 0)$ | $(0, -1)$ | forwards |
# | Diagonal, to the left | $(0, +1)$, $(-1, 0)$ | $(0, +1)$ | backwards |
#
# The compiled scan of the package is this function, for all three: it goes through the pixels as one reads,
# with many images side by side, and never skews a map. Skewing is for machines that want wide steps; one
# processor core is content with small ones.

# %%
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
assert (states.permute(0, 3, 1, 2) - row_layer(x)).abs().max() < 1e-10

if compiled(gates):
    leaves = [gates, layer.state_to_state, layer.initial]
    weights = torch.randn(2, 7, 9, 5)  # of some loss
    slow, fast = (
        torch.autograd.grad((weights * scan(*leaves, DIAGONAL)).sum(), leaves)
        for scan in (scan_diagonals, raster_lstm)
    )
    for one, other in zip(slow, fast, strict=True):
        assert (one - other).abs().max() < 1e-10

# %% [markdown]
# ## The other direction, and why it moves down
#
# The second direction mirrors the image, does the same, and mirrors back. Its state at $(r, j)$ has seen the
# rectangle to the upper right, *with the row $r$ itself*: pixels $j + 1, j + 2, \dots$, which come later. To
# add it there would be a leak. But one row further down, the same pixels are all in the past. So its map is
# **shifted down by one row**, zeros enter at the top, and only then it is added:
#
# $$
# h_{r, j} = h^{\rightarrow}_{r, j} + h^{\leftarrow}_{r - 1, j}.
# $$ (eq:both)
#
# Differentiate, as in chapter {ref}`row-lstm`, and look.

# %%
SHAPE, PLACE = (8, 11), (5, 5)
torch.manual_seed(1)
layer = DiagonalBiLSTM(3, 4, num_colours=1, height=SHAPE[0])
parts = {
    "to the right": lambda a, b: a,
    "to the left, shifted": lambda a, b: shift_down(b),
    "sum, not shifted": lambda a, b: a + b,
    "sum, shifted": lambda a, b: a + shift_down(b),
}
fields = {
    name: receptive_field(
        lambda x, join=join: join(*two_directions(layer, x)),
        (3, *SHAPE),
        PLACE,
    )
    for name, join in parts.items()
}

# %% mystnb={"figure": {"caption": "After figure 4 of {cite:t}`oord2016pixelrnn`, right: what the state of one pixel depends on, by differentiation. Each direction sees a rectangle. Without the shift the sum sees the rest of its own row; with it, exactly the past and its own place.", "name": "fig-diagonal-fields"}, "image": {"alt": "Four boards of 8 by 11. To the right: the rectangle to the upper left, own row included. To the left, shifted: the rectangle to the upper right, own row excluded. Sum, not shifted: all earlier pixels, and all pixels to the right in the own row marked as leaks. Sum, shifted: all earlier pixels and nothing else."}}
contexts.draw_fields(fields, PLACE, own=True, columns=2)
plt.show()

index = torch.arange(8 * 11).reshape(SHAPE)
whole_past = index <= index[PLACE]
assert torch.equal(fields["sum, shifted"], whole_past)
leak = fields["sum, not shifted"] & ~whole_past
assert leak.sum() == 5
assert leak[PLACE[0], PLACE[1] + 1 :].all()
assert torch.equal(receptive_field(layer, (3, *SHAPE), PLACE), whole_past)

# %% [markdown]
# Reimplementations have lost the shift, or made it to no effect: a
# [known one](https://github.com/carpedm20/pixel-rnn-tensorflow/issues/16) drops the last row and appends zeros
# at the *bottom*, which leaves every row where it was. A model without the shift is told part of what it is to
# predict. Its likelihoods come out too good, and its "probabilities" do not sum to 1:

# %%
values = itertools.product(range(2), repeat=6)
everything = torch.tensor(list(values), dtype=torch.uint8).reshape(-1, 1, 2, 3)
config = PixelRNNConfig(
    kind="diagonal_bilstm",
    image_shape=(1, 2, 3),
    levels=2,
    num_layers=2,
    hidden=6,
    head=6,
    first_kernel=3,
)
torch.manual_seed(0)
model = PixelRNN(config).requires_grad_(False)
for weight in model.parameters():
    nn.init.normal_(weight, std=0.5)
right = model.log_prob(everything).exp().sum()
with (
    mock.patch.object(diagonal_bilstm, "shift_down", lambda x: x),
    mock.patch.dict(os.environ, NVP_PLAIN_SCAN="1"),
):
    wrong = model.log_prob(everything).exp().sum()
assert abs(right - 1) < 1e-10
assert abs(wrong - 1) > 1e-2
print(
    f"sum over all 64 images: {right:.2f} with the shift, {wrong:.2f} without"
)

# %% [markdown]
# ## The whole past, in one layer
#
# A single layer sees the whole past of its input map. That is what the paper means by a global receptive field,
# and why larger kernels are of no use here. Now put the mask A convolution before it, and ask a whole model.
# The derivative says which pixels are seen, and how much they count.


# %%
def influence(kind, place, side=28):
    """|derivative| of one fresh prediction by each pixel, (H, W)."""
    torch.manual_seed(0)
    config = PixelRNNConfig(
        kind=kind,
        image_shape=(1, side, side),
        levels=2,
        num_layers=1,
        hidden=8,
    )
    model = PixelRNN(config)
    x = torch.zeros(1, 1, side, side, requires_grad=True)
    features, _ = model.layers[0](model.first(x))
    out = features[0, :, *place]
    (gradient,) = torch.autograd.grad(out @ torch.randn(len(out)), x)
    return gradient[0, 0].abs()


PLACE = (20, 10)
maps = {
    "Row LSTM": influence("row_lstm", PLACE),
    "Diagonal BiLSTM": influence("diagonal_bilstm", PLACE),
}
earlier = PLACE[0] * 28 + PLACE[1]
seen = {name: int((g > 0).sum()) for name, g in maps.items()}
for name, count in seen.items():
    print(f"{name}: {count} of {earlier} earlier pixels")

index = torch.arange(28**2).reshape(28, 28)
missed = (index < earlier) & (maps["Diagonal BiLSTM"] == 0)
print("missed by the latter (row, column):", *missed.nonzero().tolist())
assert missed.nonzero().tolist() == [[PLACE[0] - 1, 27]]

# %% [markdown]
# All but *one*: the last pixel of the row above. Nobody passes it on. The features at its own place do not know
# it, by mask A; no place is to its right; and of the places below, those whose 7 × 7 kernel reaches it come
# later than our pixel, unless that is within three columns of the edge. (With three colours it is only the last
# colour of that pixel.) The layer sees the whole past of its features, and the features' past ends one pixel
# short. It is the price of a mask A that serves both directions, and a small one.

# %% mystnb={"figure": {"caption": "How much one prediction of a fresh model, one layer, changes with each pixel. White is not seen at all. The Diagonal BiLSTM sees every earlier pixel but the last one of the row above; what is far away counts for little until training makes it count. (No figure in the paper.)", "name": "fig-influence"}, "image": {"alt": "Two maps of 28 by 28. Row LSTM: bright near the pixel and fading upwards within a triangle, white outside. Diagonal BiLSTM: bright near the pixel, fading quickly upwards and slowly along the rows, and only one earlier pixel white, at the right edge of the row above."}}
architecture.draw_reach(maps)
plt.show()

# %% [markdown]
# Both fade least in the direction in which the cell runs, for there it is multiplied by nothing but forget
# gates: up the columns in the Row LSTM, along the rows here.
#
# ## What it costs
#
# A layer waits for its steps, one after the other. In multiplications the two are of one size: with $h$ units,
# $4h$ gates and so many taps, the states cost $4h^2$ a tap and pixel. The input, of $2h$ features, costs another
# $24h^2$ in the Row LSTM (three taps) and $16h^2$ in the Diagonal BiLSTM (one tap, two directions).

# %%
rows = []
for n in (28, 32, 64):
    steps = skew(torch.zeros(n, n)).shape[1]
    assert steps == 2 * n - 1
    empty = 1 - n * n / (n * steps)
    rows.append([f"{n} × {n}", n, steps, f"{empty:.0%}"])
header = ["image", "Row LSTM, steps", "Diagonal, steps", "its map empty"]
figures.show_table(header, rows)

products = {
    "Row LSTM, k = 3": row_layer.state_to_state.shape,
    "Diagonal BiLSTM": layer.state_to_state.shape,
}
rows = [
    [name, directions, taps, f"{4 * directions * taps} h²"]
    for name, (directions, taps, *_) in products.items()
]
header = ["layer", "directions", "taps each", "multiplications a pixel"]
figures.show_table(header, rows)

# %% [markdown]
# The two directions do not wait for each other, so a device with room computes both in one scan of $2n - 1$
# steps, each over a column of the skewed map, of which nearly half is empty. In reading order nothing is empty,
# and there are $n^2$ small steps. Which is faster depends on the machine: wide steps for a GPU, small ones for
# a core with a cache.
#
# ## Summary
#
# * Skewing turns diagonals into columns, so that an LSTM over columns reads, for each pixel, its left neighbour
#   and the one above.
# * A mirrored second direction sees the other side. It is shifted down by one row, or it would see the rest of
#   its own.
# * One layer sees exactly the whole past of its input map; behind mask A that is every earlier pixel but one.
# * Row LSTM and Diagonal BiLSTM are one recurrence with different neighbours; reading order respects both.
# * A scan of the Diagonal BiLSTM takes $2n - 1$ steps, one of the Row LSTM takes $n$.
#
# ## Exercises
#
# ```{exercise} Padded on the wrong side
# :label: ex-pad-below
#
# A library that keeps the size of a map under a 2 × 1 convolution may add its row of zeros at the bottom. Which
# pixel does the second tap read then? Change one line of the scan and measure.
# ```
#
# ```{solution-start} ex-pad-below
# :class: dropdown
# ```
# The taps are $(r, t - 1)$ and $(r + 1, t - 1)$; the latter is pixel $(r + 1, j - 2)$, a row *below*: later.
# And the row above is never read.

# %%
torch.manual_seed(0)
W_left, W_other = torch.randn(2, 4, 16)


def scan_padded_below(x):
    """(N, 16, H, W) gates -> (N, 4, H, W), padded at the bottom."""
    h = c = torch.zeros(len(x), x.shape[2], 4)
    states = []
    for column in skew(x).permute(3, 0, 2, 1):  # (N, H, 4h) each
        other = F.pad(h, (0, 0, 0, 1))[:, 1:]
        h, c = lstm_cell(column + h @ W_left + other @ W_other, c)
        states.append(h)
    return unskew(torch.stack(states, dim=-1).permute(0, 2, 1, 3))


seen = receptive_field(scan_padded_below, (16, 9, 9), (4, 5))
assert seen[5, 3]
assert not seen[:4].any()

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Two layers, one direction
# :label: ex-one-direction
#
# Do two layers that both run to the right see more than one? What if the second one runs to the left?
# ```
#
# ```{solution-start} ex-one-direction
# :class: dropdown
# ```
# No: a path may go right and down only, in either layer, so the upper left rectangle it is. If the second one
# runs to the left, and is shifted, a path can end with steps to the left, after steps to the right further up.
# Then everything *above* is seen, but of the own row nothing. The sum of two directions needs no second layer,
# and sees the row.

# %%
torch.manual_seed(0)
one, two = (DiagonalBiLSTM(4, 4, num_colours=1, height=9) for _ in range(2))


def both_right(x):
    return two_directions(two, two_directions(one, x)[0])[0]


def right_then_left(x):
    return shift_down(two_directions(two, two_directions(one, x)[0])[1])


seen = receptive_field(both_right, (4, 9, 9), (5, 4))
assert seen[:6, :5].all()
assert seen.sum() == 30
seen = receptive_field(right_then_left, (4, 9, 9), (5, 4))
assert seen[:5].all()
assert not seen[5:].any()

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A taller kernel
# :label: ex-tall-kernel
#
# Give state to state a third tap, at $(r - 2, t - 1)$. Which pixel is that? Is it safe, and in which order of
# evaluation? Does the layer see more?
# ```
#
# ```{solution-start} ex-tall-kernel
# :class: dropdown
# ```
# Pixel $(r - 2, j + 1)$: up two rows and to the right. It is earlier, and on diagonal $t - 1$, so both the
# diagonals and the reading order respect it. One direction sees a little more than its rectangle; the sum saw
# all of it before.

# %%
taps = (LEFT, ABOVE, (-2, 1))
assert respects(schedules["by diagonals"], taps)
assert respects(schedules["by pixels"], taps)
# Pixel (2, 3) has step t = 5; two rows up, at t = 4, is pixel (0, 4).
assert (columns[2, 5], columns[0, 4]) == (3, 4)

# %% [markdown]
# ```{solution-end}
# ```
