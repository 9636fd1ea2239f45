# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (row-lstm)=
# # Row LSTM
#
# A stack of convolutions sees as far as it is deep. How can a pixel see all the way up to the first row? The **Row
# LSTM** has a memory, and reads an image from top to bottom, a whole row at once. After this chapter you can write
# the layer in twenty lines, keep its colours apart, and say exactly what it sees.
#
# ```{admonition} In the paper
# Sections 3.1, 3.3 and 5.4 of {cite:t}`oord2016pixelrnn`: equation 3, figure 4 (middle), figure 5
# (right), and tables 2 and 3.
# ```

# %% tags=["parameters", "remove-cell"]
profile = "laptop"

# %% tags=["hide-input"]
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import figures
from nvp_book.figures import contexts, layers
from nvp_book.figures.contexts import receptive_field
from nvp_book.figures.samples import plot_rows
from torch import nn

import nvp.autoregressive.row_lstm as package
from nvp import PixelRNN, PixelRNNConfig
from nvp.data import EMBEDDED, EMBEDDED_BINARY, load
from nvp.ledger import runs
from nvp.tables.published import published

figures.use_style()
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # so that a check can be strict

# %% [markdown]
# ## An LSTM in six lines
#
# How can a network remember over many steps? An LSTM {cite}`hochreiter1997lstm` carries two vectors
# of $h$ numbers from step to step: a **cell** $c$, its memory, and a **hidden state**, its output.
# Each step computes four **gates** of $h$ numbers from the last hidden state and the new input.
# Forget $f$ (added later, {cite:t}`gers2000forget`), input $i$ and output $o$ lie between 0 and 1.
# The fourth, $g$, is new content between −1 and 1:


# %%
def lstm_cell(gates, c):
    """Gates (N, 4h, ...) and the old cell (N, h, ...) -> new h and c."""
    o, f, i, g = gates.chunk(4, dim=1)
    o, f, i, g = o.sigmoid(), f.sigmoid(), i.sigmoid(), g.tanh()
    c = f * c + i * g  # forget some, write some
    return o * c.tanh(), c  # show some


# %% mystnb={"figure": {"caption": "One step of an LSTM, as the Row LSTM uses it. The gates are a sum of two convolutions, which the next section explains. The cell, orange, passes a product and a sum, and nothing else.", "name": "fig-lstm-cell"}, "image": {"alt": "A diagram. Arrows lead from h of the row above and from x of this row, through one box each, to a sum. The boxes are state to state, without a mask, and input to state, with mask B. From the sum lines lead up to four boxes: f, i and o with a logistic, g with a tanh. An orange line runs along the top from the old cell to the new one. On its way are a product with f and a sum with i times g. Below it, the tanh of the new cell times o is the new h."}} tags=["hide-input"]
layers.plot_lstm_cell()
plt.show()

# %% [markdown]
# Along the orange line the old cell is only multiplied by $f$, and so is its gradient on the way
# back. Over 28 rows $f = 0.99$ leaves $0.99^{28} = 0.75$ of both, and $f = 0.5$ leaves
# $4 \cdot 10^{-9}$. So the bias of the forget gates starts at 1 here, not at 0: $f$ is about 0.73,
# not 0.5. The paper does not say how its gates start.
#
# ## Equation 3
#
# How does an LSTM read an image? In the Row LSTM, time runs down it. Let $x_r$ be row $r$ of the
# layer's input, with all its channels. Each of the $n$ pixels of a row has a hidden state and a
# cell. (As in the paper, $h$ is the state and its size.) Let
# $\circledast$ be a convolution along the row, $k$ pixels wide, and $\odot$ a product of elements. Then
#
# $$
# [o_r, f_r, i_r, g_r] &= \sigma\bigl(K^{ss} \circledast h_{r-1} + K^{is} \circledast x_r\bigr), \\
# c_r &= f_r \odot c_{r-1} + i_r \odot g_r, \\
# h_r &= o_r \odot \tanh(c_r),
# $$ (eq:row-lstm)
#
# where $\sigma$ is logistic for $o$, $f$ and $i$, and $\tanh$ for $g$. The bias, not written, is part of $K^{is}
# \circledast x_r$. The two kernels do different work:
#
# * **Input to state**, $K^{is}$, reads the row itself, so it has **mask B**. One convolution computes it for all rows
#   at once.
# * **State to state**, $K^{ss}$, reads the states of the row above. All belong to earlier pixels, so it has **no
#   mask**.
#
# Both are convolutions, so all columns share one set of weights. Neither reads a state of its own row, so all pixels
# of a row are computed together.

# %% mystnb={"figure": {"caption": "One pixel of one row, orange, $k = 3$. Its gates read three states of the row above, blue. Through mask B they read the input map at its own place and left of it, green. Its old cell comes from straight above.", "name": "fig-row-step"}, "image": {"alt": "Three rows of seven cells. From three neighbouring cells of the upper row, the states of the row above, arrows lead down to one cell of the middle row. From two cells of the lower row, the input at the same place and left of it, arrows lead up to the same cell."}} tags=["hide-input"]
contexts.plot_row_step(kernel=3, width=7, column=3)
plt.show()

# %% [markdown]
# With $k = 3$ the gates read three states above, and the input at two places.
#
# The masked convolution of {doc}`09_pixel_by_pixel` gets one more argument. A *unit* is one of the $h$ numbers of a
# state. `gates=4` makes four outputs for each, all of the unit's colour.


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


# %% [markdown]
# And here is the Row LSTM, whole:


# %%
class RowLSTM(nn.Module):
    """Equation 3: (N, features, H, W) -> (N, h, H, W), a row at a time."""

    def __init__(self, features, h, shape, k=3):
        super().__init__()
        colours, _, width = shape  # of the images
        self.input_to_state = MaskedConv(
            "B", features, h, (1, k), colours, gates=4
        )
        self.input_to_state.bias.data[h : 2 * h] = 1  # forget gates: open
        self.state_to_state = nn.Conv1d(
            h, 4 * h, k, padding="same", bias=False
        )
        self.first = nn.Parameter(torch.zeros(2, 1, h, width))

    def forward(self, x):
        h, c = self.first.expand(-1, len(x), -1, -1)  # (N, h, W) each
        rows = []
        for row in self.input_to_state(x).unbind(2):  # (N, 4h, W) each
            h, c = lstm_cell(row + self.state_to_state(h), c)
            rows.append(h)
        return torch.stack(rows, dim=2)


# %% [markdown]
# The paper *learns* the state before row 0: `first` holds an $h$ and a $c$ for each column. With the same weights,
# the layer equals the package's:

# %%
torch.manual_seed(0)
shape = (3, 7, 9)
theirs = package.RowLSTM(10, 5, num_colours=3, kernel_size=3, width=9)
nn.init.normal_(theirs.initial)  # zeros when new

mine = RowLSTM(10, 5, shape)
mine.input_to_state.load_state_dict(theirs.input_to_state.state_dict())
mine.state_to_state.weight.data = theirs.state_to_state[0].permute(2, 1, 0)
mine.first.data = theirs.initial[0].transpose(1, 2)[:, None]

x = torch.randn(2, 10, 7, 9)
assert torch.allclose(mine(x), theirs(x))

# %% [markdown]
# ````{dropdown} The package's version
# On a CPU it runs the loop in a compiled function, elsewhere as `scan_rows`.
#
# ```{literalinclude} ../nvp/autoregressive/row_lstm.py
# :pyobject: RowLSTM
# ```
#
# ```{literalinclude} ../nvp/autoregressive/row_lstm.py
# :pyobject: scan_rows
# ```
# ````
#
# The loop is the price of memory: its $n$ steps wait for each other, in training and scoring.
#
# ## The colours of gates: a trap
#
# Mask B needs the colour of every gate. The four gates of a unit are $h$ outputs apart. Suppose
# that red, green and blue take turns over all $4h$ outputs. Then the gates of a unit belong to
# *different* colours, unless 3 divides $h$. At $h = 128$, the width of the paper's CIFAR-10 models,
# the gates of unit 0 have three:

# %%
h = 128
over_all = (torch.arange(4 * h) % 3).reshape(4, h)
per_gate = (torch.arange(h) % 3).repeat(4).reshape(4, h)
for name, colour in {"over all 4h": over_all, "per gate": per_gate}.items():
    print(f"{name}: unit 0 is", *("RGB"[c] for c in colour[:, 0]))

# %% [markdown]
# Unit 0 counts as red, but its forget gate may read what a blue unit may, and its input gate what a green one may.
# The next layer treats the unit as red, and so passes later colours on to red outputs. (The paper does not say how it
# splits 128 maps in three.)
#
# The table counts leaks, pairs of an output and an input that moves it but does not come earlier:


# %%
def count_leaks(network, shape):
    """Derivatives that must be 0 and are not; `network` keeps `shape`."""
    x, size = torch.randn(1, *shape), math.prod(shape)
    jacobian = torch.autograd.functional.jacobian(network, x)[0, :, :, :, 0]
    # Outputs and inputs both in raster order, colours innermost.
    moved = jacobian.permute(1, 2, 0, 4, 5, 3).reshape(size, size) != 0
    return int(moved.triu().sum())  # the input is no earlier


shape, rows = (3, 2, 3), []
for h in (4, 5, 6, 7, 8):
    right, wrong = RowLSTM(h, h, shape), RowLSTM(h, h, shape)
    wrong.input_to_state = MaskedConv("B", h, 4 * h, (1, 3), colours=3)
    leaks = []
    for layer in (right, wrong):
        first = MaskedConv("A", 3, h, 3, colours=3)
        last = MaskedConv("B", h, 3, 1, colours=3)
        model = nn.Sequential(first, layer, last)
        leaks.append(count_leaks(model, shape))
    assert leaks[0] == 0
    assert (leaks[1] > 0) == (h % 3 != 0)
    rows.append([h, *leaks])
header = ["h", "leaks, colours per gate", "leaks, colours over 4h"]
figures.show_table(header, rows)

# %% [markdown]
# With 6 units both assignments are right, so a test at a width that 3 divides never sees the mistake.
#
# ## What it sees: a triangle
#
# Which places of the input can a state depend on?
#
# ```{prf:proposition} Receptive field of a Row LSTM layer
# :label: prop-row-field
#
# Let $k = 2m + 1$ and $0 \le d \le r$. The state at row $r$ and column $j$ can depend on row
# $r - d$ of the input, in exactly the image's columns among
#
# $$
# j - (d + 1)\, m, \;\; \dots, \;\; j + d\, m.
# $$ (eq:triangle)
# ```
#
# ```{prf:proof}
# By induction over $d$. For $d = 0$ only $K^{is}$ reads row $r$, and mask B leaves it the columns $j - m$ to
# $j$. For $d > 0$ all paths go through the states of row $r - 1$ at the columns $j - m$ to $j + m$.
# (The cell comes down from $j$, which is among them.) These states see row $r - d$, which is
# $d - 1$ rows above them, from $(j - m) - dm$ to $(j + m) + (d - 1) m$, and without gaps.
# ```
#
# To measure it, differentiate a state with respect to the whole input, and look where the derivative is not zero.
#
# ````{dropdown} How a receptive field is measured
# ```{literalinclude} ../book/nvp_book/figures/contexts.py
# :pyobject: receptive_field
# ```
# ````

# %% mystnb={"figure": {"caption": "After figure 4 of {cite:t}`oord2016pixelrnn`, middle: the receptive field of one pixel of the state, by differentiation. The third board has two layers.", "name": "fig-triangle"}, "image": {"alt": "Three boards of 15 by 15. One layer, k = 3: a triangle that widens by one column a row on both sides and stands one column further left. k = 5: twice as wide. Two layers: the first triangle with one more column on the left in each row, and the same edge on the right."}} tags=["hide-input"]
SIDE, PLACE = 15, (11, 6)


def triangle(m, num_layers=1, side=SIDE, place=PLACE):
    """The proposition, and what more layers make of it."""
    down = place[0] - torch.arange(side)[:, None]
    across = torch.arange(side) - place[1]
    inside = (across <= down * m) & (across >= -(down + num_layers) * m)
    return (down >= 0) & inside


def row_lstms(k, count, side=SIDE):
    """`count` Row LSTM layers, one on the other."""
    torch.manual_seed(1)
    inputs = [3] + [4] * (count - 1)
    return nn.Sequential(*(RowLSTM(n, 4, (1, side, side), k) for n in inputs))


settings = {
    "$k = 3$": (3, 1),
    "$k = 5$": (5, 1),
    "$k = 3$, two layers": (3, 2),
}
fields = {}
for name, (k, count) in settings.items():
    seen = receptive_field(row_lstms(k, count), (3, SIDE, SIDE), PLACE)
    assert torch.equal(seen, triangle(k // 2, count))
    fields[name] = seen
contexts.plot_fields(fields, PLACE, own=True)
plt.show()

# %% [markdown]
# The triangle opens by $m$ columns a row on each side. Its lowest row ends at the pixel's own place. That is no leak:
# the layer's input is a map behind mask A. A second layer adds $m$ columns on the left and none on the right.
#
# With $k = 3$ a path to the right must go up one row for each column, in whichever layer. So $L$ layers see row $r -
# d$ from $j - (d + L)$ to $j + d$. The wedge on the right stays hidden at any depth. The 7 × 7 convolution with mask
# A, with which a whole model begins, reaches three columns right for one row up. So for $d \ge 1$ the edge moves
# once, to $j + d + 2$:

# %% mystnb={"figure": {"caption": "The first convolution and Row LSTM layers on 28 × 28 pixels: what the prediction of one pixel depends on. Left, one layer; middle, seven; right, the first convolution alone.", "name": "fig-row-model"}, "image": {"alt": "Three boards of 28 by 28 with a pixel low in the middle. The Row LSTM of one layer sees a wide triangle up to the upper edge; that of seven layers also more columns on its left. What lies to the right of the triangle is grey. The first convolution alone sees three rows of seven columns and three pixels on the left."}} tags=["hide-input"]
SIDE, PLACE = 28, (20, 13)
shape = (1, SIDE, SIDE)
torch.manual_seed(0)
first = MaskedConv("A", 1, 3, 7)
fields = {}
for count in (1, 7):
    network = nn.Sequential(first, *row_lstms(3, count, SIDE))
    seen = receptive_field(network, shape, PLACE)
    down = PLACE[0] - torch.arange(SIDE)[:, None]
    across = torch.arange(SIDE) - PLACE[1]
    right = torch.where(down > 0, down + 2, -1)
    expected = (across <= right) & (across >= -(down + count + 3))
    assert torch.equal(seen, expected & (down >= 0))
    fields[f"{count} layer{'s' * (count > 1)}"] = seen
fields["first convolution"] = receptive_field(first, shape, PLACE)
contexts.plot_fields(fields, PLACE)
plt.show()

# %%
earlier = PLACE[0] * SIDE + PLACE[1]
for name, seen in fields.items():
    missed = 1 - seen.sum().item() / earlier
    print(f"{name}: misses {missed:.0%} of {earlier} earlier pixels")

# %% [markdown]
# One layer misses 19% of the earlier pixels, on both sides. Seven layers still miss 13%, nearly all on the right.
#
# ## Residual and skip connections
#
# How can twelve such layers be trained? A layer takes $2h$ maps and makes $h$. A 1 × 1 convolution with mask B makes
# $2h$ again, and the layer's input is added, as in a residual network {cite}`he2015residual`:

# %% mystnb={"figure": {"caption": "After figure 5 of {cite:t}`oord2016pixelrnn`, right: the residual connection around an LSTM layer, with the number of maps at each place.", "name": "fig-lstm-block"}, "image": {"alt": "From left to right: x with 2h features, an LSTM layer, h features, a 1 by 1 convolution with mask B, 2h features, a sum. A second path leads from x around both boxes to the sum."}} tags=["hide-input"]
layers.plot_lstm_block()
plt.show()

# %% [markdown]
# **Skip connections** lead from every layer straight to the head, the 1 × 1 convolutions that make the logits. The
# paper does not give their form; here each is one more 1 × 1 convolution. The head receives their sum plus the map of
# the last layer. In a forward pass both kinds are two lines:
#
#     y = layer(x)
#     x, to_head = x + up(y), to_head + skip(y)
#
# The paper compares all four combinations in a Row LSTM of twelve layers, and then the number of layers. Scores are
# bits/dim on validation images of CIFAR-10:

# %% tags=["hide-input"]
figure = {f.model: f for f in published("cifar10-validation")}
neither, skip, residual, both = (
    figure[f"12 layers, {name}"]
    for name in (
        "neither residual nor skip connections",
        "skip connections only",
        "residual connections only",
        "residual and skip connections",
    )
)
rows = [
    ["no residual connections", neither.cell, skip.cell],
    ["residual connections", residual.cell, both.cell],
]
header = ["table 2 of the paper", "no skip connections", "skip connections"]
figures.show_table(header, rows)

depths = {
    model.split(" layer")[0]: found.cell
    for model, found in figure.items()
    if model.endswith("residual and skip connections")
}
depths = dict(sorted(depths.items(), key=lambda pair: int(pair[0])))
header = ["table 3 of the paper: layers", *depths]
figures.show_table(header, [["bits/dim", *depths.values()]])
one, last = (neither.bits_per_dim - f.bits_per_dim for f in (residual, both))
print(f"residual connections gain {one}, both kinds together {last}")

# %% [markdown]
# Residual connections alone bring nearly the whole gain, and skip connections alone come close. Depth helps as well,
# with most of the gain in the first six layers.
#
# Is a vanishing gradient the reason? Measure the gradient of the loss at the first convolution,
# under twelve fresh layers:


# %%
def gradient_at_first(residual, skip, larger=1):
    """Norm of the gradient at the first weights of a fresh model."""
    torch.manual_seed(0)
    config = PixelRNNConfig(
        kind="row_lstm",
        image_shape=(1, 28, 28),
        levels=2,
        num_layers=12,
        hidden=8,
        residual=residual,
        skip=skip,
    )
    model = PixelRNN(config)
    for layer in model.layers:
        layer.up.weight.data *= larger
    model.loss(load(EMBEDDED_BINARY, "train").images[:4]).backward()
    return model.first.weight.grad.norm().item()


kinds = [(False, False), (False, True), (True, False), (True, True)]
norms = [gradient_at_first(*kind) for kind in kinds]
assert norms[0] < 1e-3 * norms[3]
assert gradient_at_first(False, False, larger=12) > norms[3]

# %% tags=["hide-input"]
rows = []
for kind, norm in zip(kinds, norms, strict=True):
    power = round(math.log10(norm / norms[3]))
    cells = ("yes" if has_it else "no" for has_it in kind)
    rows.append([*cells, f"$10^{{{power}}}$"])
header = ["residual", "skip", "gradient, in units of the last row"]
figures.show_table(header, rows)
assert norms[2] > norms[1] > 0.01 * norms[3]

# %% [markdown]
# With neither, almost no gradient reaches the first layer. Either connection repairs that. But larger weights in `up`
# repair it, too. So this gradient need not be the reason for table 2.
#
# ## A trained Row LSTM completes images
#
# What has a trained Row LSTM learned? The ledger has one, trained on 4,500 images of Fashion-MNIST
# {cite}`xiao2017fashion` with all 256 levels. Hide the lower half of real test images and let it
# draw the rest:

# %% mystnb={"figure": {"caption": "After figure 1 of {cite:t}`oord2016pixelrnn`: completions by a recorded Row LSTM of two layers. First row: test images. Below: the upper 14 rows are given, the lower 14 drawn, three times each. None was selected by hand.", "name": "fig-row-completions"}, "image": {"alt": "Four rows of seven grey images, a boot and six garments. The upper halves are alike in each column. The lower halves of the last three rows continue the garment, each in another way; edges go on for some rows, then many garments break off or spread sideways, and the boot becomes shapeless."}} tags=["hide-input"]
run = runs()["fashion-small-row-lstm-softmax"]
some = load(EMBEDDED, "test").images[:7]
generator = torch.Generator().manual_seed(0)
drawn = run.load_model("cpu").complete(some, 14, 3, generator=generator)
rows = {f"drawn {i + 1}": drawn[:, i] for i in range(3)}
plot_rows({"image": some, **rows})
plt.show()

# %% tags=["remove-cell"]
assert run.record.trained_on == 4500
model = run.config.model
assert (model.num_layers, model.levels) == (2, 256)

# %% [markdown]
# The model continues edges and textures for some rows. Then it often loses the shape: most trousers
# lose a leg, or end early.
#
# ## Summary
#
# * The Row LSTM computes a row at a time, in $n$ steps. It uses a masked convolution over the input and an unmasked one
#   over the states of the row above.
# * The four gates of a unit must have one colour.
# * One layer sees a triangle that opens upwards. More layers see no further to the right.
# * Residual connections alone bring nearly the whole gain of table 2.
#
# ## Exercises
#
# ```{exercise} A Row GRU
# :label: ex-row-gru
#
# A GRU {cite}`cho2014gru` has no cell, but two gates, $u$ and $z$, each a logistic of a sum as in {eq}`eq:row-lstm`.
# The GRU of PyTorch computes $h \leftarrow z \odot h$ $+\ (1 - z) \odot \tanh(x_n + u \odot h_n)$, where $x_n$ is a
# part of the input-to-state map and $h_n$ a part of $K^{ss} \circledast h$. (This $n$ stands for *new*.) Build a
# `RowGRU` with three outputs for each unit. It must see the triangle of {eq}`eq:triangle`, and `count_leaks` must find
# none in three colours, at $h = 4$. Train it on images of 8 × 8 pixels, until the loss is below 12 nats an image. Their
# first row is fair coins, and each pixel below copies the one above it. The first convolution reads its own row only,
# 1 × 3, so the state must bring the pixel above.
# ```
#
# ```{solution-start} ex-row-gru
# :class: dropdown
# ```
# Only the step changes. The copies have $8 \ln 2 = 5.5$ nats of entropy; a model that learns nothing pays 44.


# %%
class RowGRU(nn.Module):
    def __init__(self, features, h, shape, k=3):
        super().__init__()
        self.input_to_state = MaskedConv(
            "B", features, h, (1, k), shape[0], gates=3
        )
        self.state_to_state = nn.Conv1d(
            h, 3 * h, k, padding="same", bias=False
        )
        self.first = nn.Parameter(torch.zeros(1, h, shape[2]))

    def forward(self, x):
        h, rows = self.first.expand(len(x), -1, -1), []
        for row in self.input_to_state(x).unbind(2):
            x_u, x_z, x_n = row.chunk(3, dim=1)
            h_u, h_z, h_n = self.state_to_state(h).chunk(3, dim=1)
            u, z = (x_u + h_u).sigmoid(), (x_z + h_z).sigmoid()
            h = z * h + (1 - z) * (x_n + u * h_n).tanh()
            rows.append(h)
        return torch.stack(rows, dim=2)


first, last = MaskedConv("A", 3, 4, 3, 3), MaskedConv("B", 4, 3, 1, 3)
colours = nn.Sequential(first, RowGRU(4, 4, (3, 2, 3)), last)
assert count_leaks(colours, (3, 2, 3)) == 0
torch.manual_seed(0)
layer = RowGRU(3, 4, (1, 15, 15))
seen = receptive_field(layer, (3, 15, 15), (11, 6))
assert torch.equal(seen, triangle(1, side=15, place=(11, 6)))

first, last = MaskedConv("A", 1, 8, (1, 3)), MaskedConv("B", 8, 1, 1)
model = nn.Sequential(first, RowGRU(8, 8, (1, 8, 8)), nn.ReLU(), last)
optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
for _ in range(100):
    copies = torch.randint(2, (16, 1, 1, 8)).expand(-1, -1, 8, -1).double()
    logits = model(2 * copies - 1)
    loss = F.binary_cross_entropy_with_logits(logits, copies, reduction="sum")
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
assert loss / 16 < 12

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} How far the beginning reaches
# :label: ex-initial-reach
#
# Which entries of the learned first states does $h_r$ at column $j$ depend on? Check your answer by differentiation.
# ```
#
# ```{solution-start} ex-initial-reach
# :class: dropdown
# ```
# They are the states of row $-1$, which is $d = r + 1$ rows up: the columns $j - dm$ to $j + dm$. No mask
# stands in between, so the triangle is symmetric. The first cell goes straight down once and then spreads through the
# states, so it counts from $j - (d - 1)m$ to $j + (d - 1)m$.

# %%
layer = row_lstms(3, 1, 15)[0]
state = layer(torch.randn(1, 3, 15, 15))[0, :, 2, 7].sum()
(gradient,) = torch.autograd.grad(state, layer.first)
of_h, of_c = (gradient[:, 0].abs().sum(dim=1) > 0).unbind(0)
assert of_h.nonzero().flatten().tolist() == list(range(4, 11))
assert of_c.nonzero().flatten().tolist() == list(range(5, 10))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Why not a mask on the states?
# :label: ex-masked-states
#
# Let $k = 3$. Someone also sets the right tap of $K^{ss}$, that of the upper right neighbour, to
# zero, "to be safe". What does the layer see then?
# ```
#
# ```{solution-start} ex-masked-states
# :class: dropdown
# ```
# The field is $j - (d + 1)m$ to $j$: safe, but without the right half of the triangle.

# %%
layer = row_lstms(3, 1, 15)[0]
layer.state_to_state.weight.data[:, :, 2] = 0  # the tap on the right
seen = receptive_field(layer, (3, 15, 15), (11, 6))
field = triangle(1, side=15, place=(11, 6))
assert torch.equal(seen, field & (torch.arange(15) <= 6))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Turn the page
# :label: ex-two-readers
#
# Could a second Row LSTM, over the mirrored image, see the wedge on the right? What would it see of its own
# row, and how far must you shift its map to make it safe?
# ```
#
# ```{solution-start} ex-two-readers
# :class: dropdown
# ```
# Mirrored, the left neighbours of mask B are right neighbours: later pixels. Shift its map down by one row, and they
# are pixels of the row above, and safe. In row $r - d$ the first reader sees the columns from $j - (d + 1)m$ to $j +
# dm$. The second one, shifted, sees those from $j - (d - 1)m$ to $j + dm$: the same edge on the right. So the second
# reader adds nothing.

# %%
layer = row_lstms(3, 1, 15)[0]


def mirrored(x):
    out = layer(x.flip(-1)).flip(-1)
    return F.pad(out, (0, 0, 1, 0))[:, :, :-1]


seen = receptive_field(mirrored, (3, 15, 15), (11, 6))
up, right = 11 - torch.arange(15)[:, None], torch.arange(15) - 6
inside = (right <= up) & (right >= 1 - up)
assert torch.equal(seen, (up >= 1) & inside)
assert not (seen & ~triangle(1, side=15, place=(11, 6))).any()

# %% [markdown]
# ```{solution-end}
# ```
