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
# The Row LSTM never sees a wedge on its right, because nothing is passed along a row. Can one layer see the whole
# past? The **Diagonal BiLSTM** passes its state along the rows, too. A pixel that reads its left neighbour and the
# pixel above has seen the whole rectangle to its upper left. A second pass from the other side sees the upper right.
# After this chapter you can write both passes, say which pixels are computed together, and find the one earlier pixel
# that a prediction misses.
#
# ```{admonition} In the paper
# Section 3.2 of {cite:t}`oord2016pixelrnn`: figure 3 and figure 4 (right).
# ```

# %% tags=["parameters", "remove-cell"]
profile = "laptop"

# %% tags=["hide-input"]
import itertools

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import figures
from nvp_book.figures import architecture, contexts
from nvp_book.figures.contexts import receptive_field
from nvp_book.figures.samples import plot_rows
from nvp_book.selection import binary_digits
from torch import nn

import nvp.autoregressive.diagonal_bilstm as package
from nvp.data import EMBEDDED_BINARY, load
from nvp.ledger import runs

figures.use_style()
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # so that a check can be strict

# %% [markdown]
# ## Skewing
#
# Which pixels can be computed together? The pixel at row $r$ and column $j$ waits for $(r, j - 1)$ and $(r - 1, j)$.
# Both have a sum of row and column that is smaller by one. So all pixels of one diagonal, $r + j = t$, can be
# computed at once. But a convolution does not run along diagonals, so the paper **skews** the map. It shifts row $r$
# to the right by $r$ places, and the diagonals become columns.


# %%
def skew(x):
    """Row r moves right by r: (N, C, H, W) -> (N, C, H, W + H - 1)."""
    last = x.shape[2] - 1
    rows = [F.pad(row, (r, last - r)) for r, row in enumerate(x.unbind(2))]
    return torch.stack(rows, dim=2)


def unskew(x):
    """The inverse of `skew`."""
    width = x.shape[3] - x.shape[2] + 1
    rows = [row[..., r : r + width] for r, row in enumerate(x.unbind(2))]
    return torch.stack(rows, dim=2)


x = torch.randn(2, 3, 4, 5)
assert torch.equal(unskew(skew(x)), x)

# %% tags=["remove-cell"]
assert torch.equal(skew(x), package.skew(x))

# %% [markdown]
# ````{dropdown} The package's version, without a loop
# Appendix {ref}`fast-scans` explains how it works.
#
# ```{literalinclude} ../nvp/autoregressive/diagonal_bilstm.py
# :pyobject: skew
# ```
# ````

# %% mystnb={"figure": {"caption": "After figure 3 of {cite:t}`oord2016pixelrnn`: an image of 4 × 5 pixels and its skewed map. Each pixel has the number of its diagonal, $r + j$.", "name": "fig-skewing"}, "image": {"alt": "Two boards. The image, 4 by 5, its numbers growing from 0 in the upper left to 7 in the lower right, equal along diagonals. And the skewed map, 4 by 8, each row one place further to the right, equal numbers in columns."}} tags=["hide-input"]
H, W = 4, 5
numbers = torch.arange(H)[:, None] + torch.arange(W)
skewed = skew(numbers[None, None] + 1)[0, 0] - 1  # empty places are -1
contexts.plot_boards({"the image": numbers, "skewed": skewed})
plt.show()

# %% tags=["remove-cell"]
for t, column in enumerate(skewed.T):
    assert set(column.tolist()) <= {t, -1}

# %% [markdown]
# Equal numbers stand below each other: the 20 pixels take 8 steps.
#
# ## One direction, one column at a time
#
# Which column of the skewed map has the left neighbour and the pixel above? Place $(r, t)$ is pixel
# $(r, t - r)$, so with $j = t - r$ both are in the one before:
#
# $$
# (r,\; t - 1) &\;\to\; \text{pixel } (r,\; j - 1), \\
# (r - 1,\; t - 1) &\;\to\; \text{pixel } (r - 1,\; j).
# $$ (eq:taps)
#
# **State to state** is a 2 × 1 convolution over that column. Both taps come earlier, so no mask is
# needed. **Input to state** is a 1 × 1 convolution with mask B. The gates are those of
# {eq}`eq:row-lstm`; the cell comes from the left.

# %% mystnb={"figure": {"caption": "Four steps of the left-to-right scan, in the skewed map and in the image. A column of the one is a diagonal of the other.", "name": "fig-diagonal-scan"}, "image": {"alt": "Two rows of four boards, for the steps 1, 3, 4 and 6. Above, the skewed map: the column computed now is orange, the column before, which it reads, is blue, those before that grey. Below, the image: the same colours lie on diagonals that move from the upper left to the lower right."}} tags=["hide-input"]
columns = torch.where(skewed >= 0, skewed - torch.arange(H)[:, None], -1)
contexts.plot_scan(columns, [1, 3, 4, 6], taps=[(0, -1), (-1, -1)])
plt.show()

# %% [markdown]
# A step reads only the states of the blue diagonal. The paper gives two reasons for so small a kernel. A larger one
# would not let the layer see more ({ref}`ex-tall-kernel`), and a small one makes the whole computation highly
# non-linear.
#
# The folded cell repeats two parts of {doc}`10_row_lstm`. Then comes the layer:


# %% tags=["hide-input"]
class MaskedConv(nn.Conv2d):
    """Mask A or B: (N, inputs, H, W) -> (N, gates * outputs, H, W)."""

    def __init__(self, mask, inputs, outputs, size, colours=1, gates=1):
        super().__init__(inputs, gates * outputs, size, padding="same")
        read = torch.arange(inputs) % colours  # R, G, B, R, G, B, ...
        own = (torch.arange(outputs) % colours).repeat(gates)[:, None]
        allowed = torch.zeros_like(self.weight)
        row, column = self.kernel_size[0] // 2, self.kernel_size[1] // 2
        allowed[:, :, :row] = 1  # the rows above
        allowed[:, :, row, :column] = 1  # the centre row, left
        centre = read < own if mask == "A" else read <= own
        allowed[:, :, row, column] = centre.to(allowed)
        self.register_buffer("mask", allowed, persistent=False)

    def forward(self, x):
        weight = self.weight * self.mask
        return F.conv2d(x, weight, self.bias, padding="same")


def lstm_cell(gates, c):
    """Gates (N, 4h, ...) and the old cell (N, h, ...) -> new h and c."""
    o, f, i, g = gates.chunk(4, dim=1)
    o, f, i, g = o.sigmoid(), f.sigmoid(), i.sigmoid(), g.tanh()
    c = f * c + i * g  # forget some, write some
    return o * c.tanh(), c  # show some


# %%
class DiagonalLSTM(nn.Module):
    """Left to right: (N, features, H, W) -> (N, h, H, W), by diagonals."""

    padding = (1, 0)  # zeros above the first row, and none below the last

    def __init__(self, features, h, shape):
        super().__init__()
        colours, height, _ = shape  # of the images
        self.input_to_state = MaskedConv("B", features, h, 1, colours, gates=4)
        self.input_to_state.bias.data[h : 2 * h] = 1  # forget gates: open
        self.state_to_state = nn.Conv1d(h, 4 * h, 2, bias=False)
        self.first = nn.Parameter(torch.zeros(2, 1, h, height))

    def forward(self, x):
        h, c = self.first.expand(-1, len(x), -1, -1)  # (N, h, H) each
        row = torch.arange(x.shape[2])
        columns = []
        for t, column in enumerate(skew(self.input_to_state(x)).unbind(3)):
            above_and_left = self.state_to_state(F.pad(h, self.padding))
            new_h, new_c = lstm_cell(column + above_and_left, c)
            h = torch.where(row <= t, new_h, h)  # row r begins at step r
            c = torch.where(row <= t, new_c, c)
            columns.append(h)
        return unskew(torch.stack(columns, dim=3))


# %% [markdown]
# Zeros stand for the row above the first, so the padding is *at the top*. Row $r$ begins at step $r$. Until then it
# keeps its learned first state, read as the left neighbour of its first pixel.
#
# ## Both directions, and the shift
#
# How does a pixel see what lies to its upper right? The second direction mirrors the image, runs the same scan with
# weights of its own, and mirrors back. At $(r, j)$ it has seen the rectangle to the upper right, *with row $r$ itself*:
# pixels $j + 1, j + 2, \dots$, which come later. One row further down, all of them belong to the past. So the paper
# **shifts its map down by one row**, with zeros at the top, and then adds:
#
# $$
# h_{r, j} = h^{\rightarrow}_{r, j} + h^{\leftarrow}_{r - 1, j}.
# $$ (eq:both)


# %%
def shift_down(x):
    return F.pad(x, (0, 0, 1, 0))[:, :, :-1]


class DiagonalBiLSTM(nn.Module):
    """Both directions: (N, features, H, W) -> (N, h, H, W)."""

    def __init__(self, features, h, shape):
        super().__init__()
        self.to_right = DiagonalLSTM(features, h, shape)
        self.to_left = DiagonalLSTM(features, h, shape)

    def forward(self, x):
        from_the_right = self.to_left(x.flip(3)).flip(3)
        return self.to_right(x) + shift_down(from_the_right)


# %% [markdown]
# With the package's weights copied over, the layers agree:

# %%
torch.manual_seed(0)
theirs = package.DiagonalBiLSTM(10, 5, num_colours=3, height=7)
nn.init.normal_(theirs.initial)  # zeros when new
mine = DiagonalBiLSTM(10, 5, (3, 7, 9))
weights, biases = (p.chunk(2) for p in theirs.input_to_state.parameters())
for d, direction in enumerate((mine.to_right, mine.to_left)):
    direction.input_to_state.weight.data = weights[d]
    direction.input_to_state.bias.data = biases[d]
    left_above = theirs.state_to_state[d]  # (2, h, 4h)
    direction.state_to_state.weight.data = left_above.flip(0).permute(2, 1, 0)
    direction.first.data = theirs.initial[d].transpose(1, 2)[:, None]

x = torch.randn(2, 10, 7, 9)
assert torch.allclose(mine(x), theirs(x))

# %% [markdown]
# ````{dropdown} The package's version
# `scan_diagonals` runs both directions in one loop. On a CPU a compiled function takes its place ({ref}`fast-scans`).
#
# ```{literalinclude} ../nvp/autoregressive/diagonal_bilstm.py
# :pyobject: DiagonalBiLSTM
# ```
#
# ```{literalinclude} ../nvp/autoregressive/diagonal_bilstm.py
# :pyobject: scan_diagonals
# ```
# ````
#
# To check the shift, differentiate a state with respect to every input, for each direction and for their sum:

# %% mystnb={"figure": {"caption": "After figure 4 of {cite:t}`oord2016pixelrnn`, right: what the state of one pixel depends on, by differentiation. Each direction sees a rectangle. Without the shift the sum sees the rest of its own row; with it, exactly the past and its own place.", "name": "fig-diagonal-fields"}, "image": {"alt": "Four boards of 8 by 11. To the right: the rectangle to the upper left, own row included. To the left, shifted: the rectangle to the upper right, own row excluded. Sum, not shifted: all earlier pixels, and all pixels to the right in the own row marked as leaks. Sum, shifted: all earlier pixels and nothing else."}} tags=["hide-input"]
SHAPE, PLACE = (8, 11), (5, 5)
torch.manual_seed(1)
layer = DiagonalBiLSTM(3, 4, (1, *SHAPE))


def backwards(x):
    return layer.to_left(x.flip(3)).flip(3)


parts = {
    "to the right": layer.to_right,
    "to the left, shifted": lambda x: shift_down(backwards(x)),
    "sum, not shifted": lambda x: layer.to_right(x) + backwards(x),
    "sum, shifted": layer,
}
fields = {
    name: receptive_field(part, (3, *SHAPE), PLACE)
    for name, part in parts.items()
}
contexts.plot_fields(fields, PLACE, own=True, columns=2)
plt.show()

# %%
index = torch.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE)
past = index <= index[PLACE]
assert torch.equal(fields["sum, shifted"], past)
leaks = (fields["sum, not shifted"] & ~past).sum().item()
print("later pixels that the sum without a shift sees:", leaks)

# %% [markdown]
# Without the shift the sum sees all 5 pixels to the right in its own row. [An issue of
# pixel-rnn-tensorflow](https://github.com/carpedm20/pixel-rnn-tensorflow/issues/16) reports a shift
# that drops the last row and appends zeros at the *bottom*: no row moves. Chapter
# {ref}`pixel-by-pixel` shows what such a leak does to the probabilities.
#
# ## The whole past, in one layer
#
# One layer sees the whole past of its input map: a *global* receptive field. Now put the mask A convolution in front.
# The derivative says which of 28 × 28 pixels a prediction sees, and how much each counts. The folded cell repeats the
# Row LSTM, to compare with:

# %% tags=["hide-input"]
IMAGE, PIXEL = (1, 28, 28), (20, 10)


class RowLSTM(nn.Module):
    """Of the chapter before, to compare with."""

    def __init__(self, features, h, shape, k=3):
        super().__init__()
        self.input_to_state = MaskedConv("B", features, h, (1, k), gates=4)
        self.input_to_state.bias.data[h : 2 * h] = 1
        self.state_to_state = nn.Conv1d(
            h, 4 * h, k, padding="same", bias=False
        )
        self.first = nn.Parameter(torch.zeros(2, 1, h, shape[2]))

    def forward(self, x):
        h, c = self.first.expand(-1, len(x), -1, -1)
        rows = []
        for row in self.input_to_state(x).unbind(2):
            h, c = lstm_cell(row + self.state_to_state(h), c)
            rows.append(h)
        return torch.stack(rows, dim=2)


# %%
def influence(kind, pixel=PIXEL):
    """|derivative| of one fresh prediction by each pixel, (H, W)."""
    torch.manual_seed(0)
    network = nn.Sequential(MaskedConv("A", 1, 16, 7), kind(16, 8, IMAGE))
    x = torch.zeros(1, *IMAGE, requires_grad=True)
    features = network(x)[0, :, *pixel]
    (gradient,) = torch.autograd.grad(features @ torch.randn(8), x)
    return gradient[0, 0].abs()


maps = {
    "Row LSTM": influence(RowLSTM),
    "Diagonal BiLSTM": influence(DiagonalBiLSTM),
}
earlier = PIXEL[0] * IMAGE[2] + PIXEL[1]
for name, gradient in maps.items():
    seen = int((gradient > 0).sum())
    print(f"{name}: sees {seen} of {earlier} earlier pixels")

# %% mystnb={"figure": {"caption": "How much one prediction of a fresh model of one layer changes with each pixel: the size of the derivative. The darkest pixels count at most $10^{-8}$ times as much as the brightest. White pixels are not seen at all, or come later than the one in the frame.", "name": "fig-influence"}, "image": {"alt": "Two maps of 28 by 28. Row LSTM: a triangle that opens upwards, bright in the columns above the pixel, fading slowly upwards and quickly to both sides, white outside. Diagonal BiLSTM: bright near the pixel, fading quickly upwards and slowly along the rows. Only one earlier pixel is white, at the right edge of the row above."}} tags=["hide-input"]
architecture.plot_reach(maps, PIXEL)
plt.show()

# %% [markdown]
# Both fields fade least along the path of the cell, which is multiplied by forget gates only. That path goes up the
# columns in the Row LSTM, and along the rows in the Diagonal BiLSTM. There the top rows are seen,
# but hardly count. Which pixel is not seen at all?

# %%
index = torch.arange(IMAGE[1] * IMAGE[2]).reshape(IMAGE[1:])
row, last = PIXEL[0], IMAGE[2] - 1
for column in (PIXEL[1], last - 4, last - 3):  # 7 x 7 reaches 3 columns
    seen = influence(DiagonalBiLSTM, (row, column)) > 0
    missed = ((index < index[row, column]) & ~seen).nonzero().tolist()
    print(f"from column {column} the layer misses", *missed or ["none"])
    assert missed == ([[row - 1, last]] if column < last - 3 else [])

# %% [markdown]
# On images of one colour the Diagonal BiLSTM misses *one* earlier pixel, the last of the row above. Under mask A a
# pixel is read only by places to its right and below. This one has none to its right. In the row below, the last four
# places read it through the 7 × 7 kernel. They come later than the predicted pixel, unless it is
# one of them.
#
# ## A trained layer completes digits
#
# A model of a single layer is one of the paper's entries on binarised MNIST {cite}`salakhutdinov2008dbn`, digits of
# black and white pixels ({ref}`pixelrnn-results`). Ours has $h = 32$ and fewer than 50,000 parameters. Hide the lower
# half of real test digits and let it draw the rest:

# %% mystnb={"figure": {"caption": "After figure 1 of {cite:t}`oord2016pixelrnn`: completions by a recorded Diagonal BiLSTM of one layer. First row: test digits. Below: the upper 14 rows are given, the lower 14 drawn, three times each. The digits were not chosen for their completions.", "name": "fig-diagonal-completions"}, "image": {"alt": "Four rows of seven binary digits. The upper halves are alike in each column. The lower halves of the last three rows mostly finish a legible digit, sometimes another digit than the first row has."}} tags=["hide-input"]
run = runs()["binarized-mnist-diagonal-1"]
assert run.config.model.hidden == 32
assert run.record.parameters < 50_000
some = binary_digits()[4::9]  # the set is sorted by digit
generator = torch.Generator().manual_seed(0)
drawn = run.load_model("cpu").complete(some, 14, 3, generator=generator)
rows = {f"drawn {i + 1}": 255 * drawn[:, i] for i in range(3)}
plot_rows({"image": 255 * some, **rows})
plt.show()

# %% [markdown]
# Most of the 21 completions are legible. Where the upper half leaves the digit open, they differ: one of the
# completed 7s became a 2.
#
# ## The cost
#
# What does the whole past cost? A scan takes $2n - 1$ steps, the Row LSTM's $n$. Both directions
# fit in one scan ({ref}`ex-one-scan`). Nearly half of the skewed map is empty:

# %% tags=["hide-input"]
rows = []
for n in (28, 32, 64):
    steps = skew(torch.zeros(1, 1, n, n)).shape[3]
    assert steps == 2 * n - 1
    rows.append([f"{n} × {n}", n, steps, f"{1 - n / steps:.0%}"])
header = ["image", "Row LSTM, steps", "Diagonal, steps", "its map empty"]
figures.show_table(header, rows)

# %% [markdown]
# The arithmetic of a pixel hardly differs. From state to state the Row LSTM with $k = 3$ needs $12h^2$ multiplications,
# the Diagonal BiLSTM $16h^2$. From the $2h$ input maps they need $24h^2$ (with masked weights) and $16h^2$.

# %% tags=["remove-cell"]
h = 4
for layer, state, inputs in (
    (RowLSTM(2 * h, h, (1, 5, 5)), 12, 24),
    (DiagonalBiLSTM(2 * h, h, (1, 5, 5)), 16, 16),
):
    weights = {name: p.numel() for name, p in layer.named_parameters()}
    counted = [
        sum(n for name, n in weights.items() if f"{part}.weight" in name)
        for part in ("state_to_state", "input_to_state")
    ]
    assert counted == [state * h**2, inputs * h**2]

# %% [markdown]
# ## Earlier LSTMs in two dimensions
#
# Is this layer new? In a **multidimensional LSTM** {cite}`graves2007multidimensional` each pixel
# reads the states of its left and upper neighbours, with one forget gate for each.
# {cite:t}`graves2009multidimensional` read handwriting with it. **RIDE** {cite}`theis2015spatial`,
# a generative model, stacks *spatial LSTMs* in one direction and predicts a pixel by a mixture of
# densities. The **Grid LSTM** {cite}`kalchbrenner2016grid` treats depth as one more dimension. The
# Diagonal BiLSTM has a single forget gate, computes a diagonal at a time, and adds a second
# direction without looking ahead.
#
# ## Summary
#
# * Skewing turns diagonals into columns. An LSTM over the columns reads, for each pixel, its left neighbour and the
#   pixel above.
# * A mirrored second direction sees the other side. Without a shift down by one row it leaks.
# * One layer sees exactly the past of its input map; after mask A that is every earlier pixel but one.
# * A scan takes $2n - 1$ steps. {ref}`fast-scans` makes it fast.
#
# ## Exercises
#
# ```{exercise} Both directions in one scan
# :label: ex-one-scan
#
# The two directions do not wait for each other. Build a layer with the weights of a `DiagonalBiLSTM` that runs both
# together: $2n - 1$ steps in all, each for a batch of $2N$ maps. It must equal the original. *Hint*:
# `nn.functional.conv1d` with `groups=2` applies one set of weights to each half of its input channels.
# ```
#
# ```{solution-start} ex-one-scan
# :class: dropdown
# ```
# Stack the two maps of gates. In each step fold the directions into the channels for the convolution, and into the
# batch for the cell.


# %%
class OneScan(DiagonalBiLSTM):
    def forward(self, x):
        parts = (self.to_right, self.to_left)
        maps = zip(parts, (x, x.flip(3)), strict=True)
        gates = torch.stack([part.input_to_state(y) for part, y in maps], 1)
        columns = skew(gates.flatten(0, 1)).unbind(3)  # (2N, 4h, H) each
        weight = torch.cat([part.state_to_state.weight for part in parts])
        first = torch.stack([part.first for part in parts], dim=2)
        h, c = first.expand(-1, len(x), -1, -1, -1).flatten(1, 2)  # (2N, h, H)
        row, states = torch.arange(x.shape[2]), []
        for t, column in enumerate(columns):
            both = F.pad(h, (1, 0)).unflatten(0, (-1, 2)).flatten(1, 2)
            both = F.conv1d(both, weight, groups=2)
            new_h, new_c = lstm_cell(column + both.view_as(column), c)
            h = torch.where(row <= t, new_h, h)
            c = torch.where(row <= t, new_c, c)
            states.append(h)
        states = unskew(torch.stack(states, dim=3)).unflatten(0, (-1, 2))
        return states[:, 0] + shift_down(states[:, 1].flip(3))


together = OneScan(10, 5, (3, 7, 9))
together.load_state_dict(mine.state_dict())
x = torch.randn(2, 10, 7, 9)
assert torch.allclose(together(x), mine(x))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Padded on the wrong side
# :label: ex-pad-below
#
# A library that keeps the size of a map under a 2 × 1 convolution may add its row of zeros at the bottom. Which pixels
# do the two taps read then? Change one line of the scan and measure. Then build a network: the
# paper's first convolution (7 × 7, mask A), the layer in one direction, and a 1 × 1 with mask B.
# Train this network on every second row and column of `load(EMBEDDED_BINARY, "train").images`, with
# and without the mistake. Which loss is lower, and why is that no success?
# ```
#
# ```{solution-start} ex-pad-below
# :class: dropdown
# ```
# The taps are $(r, t - 1)$ and $(r + 1, t - 1)$. The first is the left neighbour. The second is pixel $(r + 1, j -
# 2)$, in a row *below*, so it comes later. The row above is never read.
#
# The loss with the mistake falls far below the other. The features at $(r + 1, j - 2)$ have seen pixel $(r, j)$
# through the 7 × 7 kernel, so the network copies the pixel. (A first convolution of 3 × 3 does not reach that far.
# The loss is then no lower, though the layer still reads later pixels.)


# %%
class PaddedBelow(DiagonalLSTM):
    padding = (0, 1)


layer = PaddedBelow(3, 4, (1, 9, 9))
seen = receptive_field(layer, (3, 9, 9), (4, 5))
assert seen[5, 3]
assert not seen[:4].any()

# %%
digits = load(EMBEDDED_BINARY, "train").images[:, :, ::2, ::2].double()
losses = {}
for size, kind in itertools.product((3, 7), (DiagonalLSTM, PaddedBelow)):
    torch.manual_seed(0)
    network = nn.Sequential(
        MaskedConv("A", 1, 16, size),
        kind(16, 8, (1, 14, 14)),
        MaskedConv("B", 8, 1, 1),
    )
    adam = torch.optim.Adam(network.parameters(), lr=2e-2)
    for _ in range(80):
        x = digits[torch.randint(len(digits), (32,))]
        loss = F.binary_cross_entropy_with_logits(
            network(2 * x - 1), x, reduction="sum"
        )
        adam.zero_grad()
        (loss / len(x)).backward()
        adam.step()
    losses[size, kind] = loss.item() / len(x)  # nats an image
assert losses[7, PaddedBelow] < 0.6 * losses[7, DiagonalLSTM]
assert losses[3, PaddedBelow] >= losses[3, DiagonalLSTM]
for size in (3, 7):
    first = MaskedConv("A", 3, 4, size)
    reader = nn.Sequential(first, PaddedBelow(4, 4, (1, 9, 9)))
    field = receptive_field(reader, (3, 9, 9), (4, 5))
    assert field[4, 5] == (size == 7)
    assert field[5:].any()

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Two layers, one direction
# :label: ex-one-direction
#
# Do two layers that both run to the right see more than one such layer does? What if the second one runs to the left,
# and its map is shifted down by one row?
# ```
#
# ```{solution-start} ex-one-direction
# :class: dropdown
# ```
# No: a path may only go right and down, in either layer, so the field is the upper left rectangle. If the second
# layer runs to the left, and is shifted, a path can go right first, and left further down. Then everything *above* is
# seen, but nothing of its own row.

# %%
one, two = (DiagonalLSTM(4, 4, (1, 9, 9)) for _ in range(2))
seen = receptive_field(nn.Sequential(one, two), (4, 9, 9), (5, 4))
assert seen[:6, :5].all()
assert seen.sum() == 30


def right_then_left(x):
    return shift_down(two(one(x).flip(3)).flip(3))


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
# Give state to state a third tap, at $(r - 2, t - 1)$. Which pixel is that? Is it safe? Does one direction see more, and
# does the whole layer?
# ```
#
# ```{solution-start} ex-tall-kernel
# :class: dropdown
# ```
# It is pixel $(r - 2, j + 1)$, which comes earlier, so it is safe. One direction sees a little more than its
# rectangle: one more column on the right for every two rows up. The whole layer, which saw all of this before, sees
# no more.


# %%
class TallKernel(DiagonalLSTM):
    padding = (2, 0)

    def __init__(self, features, h, shape):
        super().__init__(features, h, shape)
        self.state_to_state = nn.Conv1d(h, 4 * h, 3, bias=False)


seen = receptive_field(TallKernel(3, 4, (1, 9, 9)), (3, 9, 9), (6, 3))
up, right = 6 - torch.arange(9)[:, None], torch.arange(9) - 3
assert torch.equal(seen, (up >= 0) & (right <= up // 2))
whole = DiagonalBiLSTM(3, 4, (1, 9, 9))
whole.to_right = TallKernel(3, 4, (1, 9, 9))
whole.to_left = TallKernel(3, 4, (1, 9, 9))
index = torch.arange(81).reshape(9, 9)
seen = receptive_field(whole, (3, 9, 9), (6, 3))
assert torch.equal(seen, index <= index[6, 3])

# %% [markdown]
# ```{solution-end}
# ```
