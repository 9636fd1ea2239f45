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
# ```{admonition} In the paper
# Sections 3.1 and 3.3 of {cite:t}`oord2016pixelrnn`: equation 3, figure 4 (middle) and figure 5.
# ```
#
# A stack of convolutions sees as far as it is deep. A recurrent network has a memory, and a memory has no fixed
# reach. The first recurrent layer of the paper reads an image as one reads a page, from top to bottom, but
# takes in a whole row at a glance: a *convolutional* LSTM whose time runs down the image. This chapter builds
# it, derives what it sees and what it never does, and trains a small one.

# %% tags=["parameters"]
profile = "laptop"

# %%
import math

import matplotlib.pyplot as plt
import torch
from nvp_book import figures
from nvp_book.figures import contexts
from nvp_book.figures.contexts import receptive_field
from nvp_book.figures.samples import draw_rows

from nvp import PixelRNN, PixelRNNConfig
from nvp.autoregressive.lstm import lstm_cell, split_gates
from nvp.autoregressive.row_lstm import RowLSTM, scan_rows
from nvp.autoregressive.scan import compiled, raster_lstm
from nvp.data import load

figures.use_style()
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # so that a check can be strict
full = profile == "paper"

# %% [markdown]
# ## Equation 3
#
# Let $x_r$ be row $r$ of the layer's input, a map of $n$ pixels with some features each. The layer keeps, for
# each pixel of a row, a hidden state $h$ and a cell $c$, each of $h$ numbers (the paper has one letter for the state
# and for its size). With $\circledast$ for a convolution along the row, $k$ pixels wide, and $\odot$ for a product of
# elements,
#
# $$
# [o_r, f_r, i_r, g_r] &= \sigma\bigl(K^{ss} \circledast h_{r-1} + K^{is} \circledast x_r\bigr), \\
# c_r &= f_r \odot c_{r-1} + i_r \odot g_r, \\
# h_r &= o_r \odot \tanh(c_r),
# $$ (eq:row-lstm)
#
# where $\sigma$ is logistic for the gates $o$, $f$ and $i$, and $\tanh$ for the content $g$. There are two
# kernels:
#
# * **Input to state**, $K^{is}$, reads the row itself, so it has **mask B**. It does not depend on the
#   recurrence: one convolution computes it for all rows at once, $4h$ features a pixel.
# * **State to state**, $K^{ss}$, reads the states of the row above. All of them belong to earlier pixels, so it
#   has **no mask**.

# %% mystnb={"figure": {"caption": "One pixel of one row, $k = 3$. Its gates read three states of the row above and, through mask B, its own and the left place of the input map. The cell comes straight down. (No figure in the paper.)", "name": "fig-row-step"}, "image": {"alt": "Three rows of nine cells. From three neighbouring cells of the upper row, the states of the row above, arrows lead down to one cell of the middle row. From two cells of the lower row, the input at the same place and left of it, arrows lead up to the same cell."}}
contexts.draw_row_step(kernel=3, width=7, column=3)
plt.show()

# %% [markdown]
# The gates and the cell, in the paper's order of gates:
#
# ```{literalinclude} ../nvp/autoregressive/lstm.py
# :pyobject: lstm_cell
# ```
#
# and the scan over rows. `gates` is the input-to-state map, computed before; each turn of the loop adds what
# comes from the row above:
#
# ```{literalinclude} ../nvp/autoregressive/row_lstm.py
# :pyobject: scan_rows
# ```
#
# Line by line: the map is cut into rows; the weights, stored tap by tap, become a 1-D convolution; $h$ and $c$
# start at learned values, one for each column, the same for all images; then, row for row,
# $K^{ss} \circledast h_{r-1}$, the cell of {eq}`eq:row-lstm`, and on. The convolution pads the row above with
# zeros at both ends.
#
# To check it, write {eq}`eq:row-lstm` once more without any convolution, pixel by pixel and tap by tap.

# %%
torch.manual_seed(0)
N, FEATURES, HIDDEN, HEIGHT, WIDTH, K = 2, 6, 5, 7, 9, 3
layer = RowLSTM(FEATURES, HIDDEN, 1, K, WIDTH)
torch.nn.init.normal_(layer.initial)  # zeros when new
x = torch.randn(N, FEATURES, HEIGHT, WIDTH)


def pixel_by_pixel(layer, x):
    """Equation 3 as sums: (N, features, H, W) -> (N, h, H, W)."""
    m = K // 2
    K_is = layer.input_to_state.masked_weight()[:, :, 0]  # (4h, features, k)
    K_ss = layer.state_to_state[0]  # (k, h, 4h)
    h, c = layer.initial[0]  # of row -1: (W, h) each
    h, c = ([state.expand(N, -1) for state in row] for row in (h, c))
    rows = []
    for r in range(HEIGHT):
        new_h, new_c = [], []
        for j in range(WIDTH):
            gates = layer.input_to_state.bias
            for tap in range(K):
                place = j + tap - m
                if 0 <= place < WIDTH:
                    gates = gates + x[:, :, r, place] @ K_is[:, :, tap].T
                    gates = gates + h[place] @ K_ss[tap]
            h_j, c_j = lstm_cell(gates, c[j])
            new_h.append(h_j)
            new_c.append(c_j)
        h, c = new_h, new_c
        rows.append(torch.stack(h, dim=-1))
    return torch.stack(rows, dim=2)


assert (pixel_by_pixel(layer, x) - layer(x)).abs().max() < 1e-10

# %% [markdown]
# ### The same, compiled
#
# The loop over rows is the price: $n$ steps that wait for each other, each a small convolution and a dozen
# small operations. On a CPU the package runs the whole scan, and its backward pass, in one compiled function
# (`nvp/autoregressive/scan.cpp`). It has to give the same map and the same gradients, or the plain form would
# explain something else than what was trained.

# %%
gates = split_gates(layer.input_to_state(x), 1).detach()
leaves = [
    t.detach().clone().requires_grad_()
    for t in (gates, layer.state_to_state, layer.initial)
]
weights = torch.randn(N, HEIGHT, WIDTH, HIDDEN)  # of some loss
results = []
for scan in (scan_rows, raster_lstm if compiled(gates) else scan_rows):
    states = scan(*leaves, K)
    grads = torch.autograd.grad((weights * states).sum(), leaves)
    results.append([states, *grads])
for plain, fast in zip(*results, strict=True):
    assert (plain - fast).abs().max() < 1e-10

# %% [markdown]
# Where no compiler is found the package says so, once, and runs the plain form; then the check above compares
# it with itself.
#
# ### The first row
#
# Row 0 has no row above it. The paper *learns* the states before it. Here they are a tensor with an $h$ and a
# $c$ for each column, zeros when new, and trained like all weights. They cannot leak: they are the same for
# every image.

# %%
print("initial states:", tuple(layer.initial.shape), "= 1 scan, h and c, W, h")
layer(x).sum().backward()
assert (layer.initial.grad.abs().sum(dim=-1) > 0).all()
layer.zero_grad()

# %% [markdown]
# ## What it sees: a triangle
#
# ```{prf:proposition} Receptive field of a Row LSTM layer
# :label: prop-row-field
#
# Let $k = 2m + 1$. The state at row $r$ and column $j$ depends on the input at row $r - d$, for each $d \ge 0$,
# exactly in the columns
#
# $$
# j - (d + 1)\, m, \;\; \dots, \;\; j + d\, m.
# $$ (eq:triangle)
# ```
#
# ```{prf:proof}
# By induction over $d$. For $d = 0$ only $K^{is}$ reads row $r$, and mask B leaves it the columns $j - m$ to
# $j$. For $d > 0$ all paths go through the states of row $r - 1$ at the columns $j - m$ to $j + m$ (the cell
# comes down from $j$, which is among them). Those see row $r - d$, which is $d - 1$ rows above them, from
# $(j - m) - dm$ to $(j + m) + (d - 1) m$, and without gaps.
# ```
#
# Derived on paper; now measured. Differentiate a state by the whole input, and look where the derivative is not zero.
# One backward pass does it for all inputs. The features of the state are mixed at random first, as the sum of two
# derivatives could be zero and a random mixture of them is not.
#
# ```{literalinclude} ../book/nvp_book/figures/contexts.py
# :pyobject: receptive_field
# ```


# %%
def triangle(height, width, place, m, layers=1):
    """The proposition, and what more layers make of it."""
    row, column = place
    down = row - torch.arange(height)[:, None]
    across = torch.arange(width) - column
    return (
        (down >= 0) & (across <= down * m) & (across >= -(down + layers) * m)
    )


SIDE, PLACE = 15, (11, 6)


def row_lstms(k, count, width=15):
    """`count` Row LSTM layers, one on the other."""
    torch.manual_seed(1)
    sizes = [3] + [4] * count
    return torch.nn.Sequential(
        *(RowLSTM(sizes[i], 4, 1, k, width) for i in range(count))
    )


# %% mystnb={"figure": {"caption": "After figure 4 of {cite:t}`oord2016pixelrnn`, middle: the receptive field of one pixel of the state, measured by differentiation, for $k = 3$, for $k = 5$, and for two layers with $k = 3$. A second layer widens the triangle on the left, and never on the right.", "name": "fig-triangle"}, "image": {"alt": "Three boards of 15 by 15. One layer, k = 3: a triangle that widens by one column a row on both sides and stands one column further left. k = 5: twice as wide. Two layers: the first triangle with one more column on the left in each row, and the same edge on the right."}}
settings = {
    "$k = 3$": (3, 1),
    "$k = 5$": (5, 1),
    "$k = 3$, two layers": (3, 2),
}
fields = {}
for name, (k, count) in settings.items():
    seen = receptive_field(row_lstms(k, count), (3, SIDE, SIDE), PLACE)
    assert torch.equal(seen, triangle(SIDE, SIDE, PLACE, k // 2, count))
    fields[name] = seen
contexts.draw_fields(fields, PLACE, own=True)
plt.show()

# %% [markdown]
# The state may see its own pixel's *features*: behind mask A they know nothing of the pixel itself.
#
# What is grey stays grey. To get one column to the right a path must go up one row, in whichever layer it does
# so; so $L$ layers of $k = 3$ see row $r - d$ from $j - (d + L)$ to $j + d$. Depth buys columns on the left,
# one for each layer, where nearly everything has been seen anyway. On the right, the wedge below the diagonal
# is lost to every Row LSTM. And the whole model? The first convolution, mask A and 7 × 7, reaches 3 columns to
# the right in the row above, once: its right edge is at $j + d + 2$.

# %% mystnb={"figure": {"caption": "Whole models with random weights on 28 × 28 pixels: what the prediction of one pixel depends on. Left, one layer; middle, seven; right, the first convolution alone. (No figure in the paper.)", "name": "fig-row-model"}, "image": {"alt": "Three boards of 28 by 28 with a pixel low in the middle. The Row LSTM of one layer sees a wide triangle up to the upper edge; that of seven layers also more columns on its left. What lies to the right of the triangle is grey. The first convolution alone sees three rows of seven columns and three pixels on the left."}}
SIDE, PLACE, FIRST = 28, (20, 13), 3


def row_model(layers):
    """An untrained Row LSTM on 28 x 28 pixels."""
    torch.manual_seed(0)
    config = PixelRNNConfig(
        kind="row_lstm",
        image_shape=(1, SIDE, SIDE),
        levels=2,
        num_layers=layers,
        hidden=6,
        head=8,
    )
    return PixelRNN(config)


def prediction(model):
    """The network from centred pixels, (N, 1, H, W), to its last features."""

    def network(x):
        x = model.first(x)
        for layer in model.layers:
            x, _ = layer(x)
        return x

    return network


shape = (1, SIDE, SIDE)
fields = {}
for count in (1, 7):
    seen = receptive_field(prediction(row_model(count)), shape, PLACE)
    fields[f"{count} layer{'s' * (count > 1)}"] = seen
    down = PLACE[0] - torch.arange(SIDE)[:, None]
    across = torch.arange(SIDE) - PLACE[1]
    right = torch.where(down > 0, down - 1 + FIRST, -1)
    expected = (across <= right) & (across >= -(down + count + FIRST))
    assert torch.equal(seen, expected & (down >= 0))
first_alone = receptive_field(row_model(1).first, shape, PLACE)
fields["first convolution"] = first_alone
contexts.draw_fields(fields, PLACE)
plt.show()

earlier = PLACE[0] * SIDE + PLACE[1]
for name, seen in fields.items():
    print(f"{name}: {int(seen.sum())} of {earlier} earlier pixels")

# %% [markdown]
# One layer misses many of the earlier pixels, seven layers still a good part of them, nearly all on the right.
# The {doc}`next chapter <11_diagonal_bilstm>` is about a recurrence that misses next to nothing.
#
# ## Residual and skip connections
#
# The deepest networks of the paper have twelve such layers. A layer takes $2h$ features and makes $h$; a 1 × 1
# convolution with mask B takes those back up to $2h$, and the layer's input is added (figure 5). So a gradient
# has a way around every layer {cite}`he2016identity`.

# %% mystnb={"figure": {"caption": "After figure 5 of {cite:t}`oord2016pixelrnn`, right: the residual connection around an LSTM layer, with the number of features at each place.", "name": "fig-lstm-block"}, "image": {"alt": "From left to right: x with 2h features, an LSTM layer, h features, a 1 by 1 convolution with mask B, 2h features, a sum. A second path leads from x around both boxes to the sum."}}
contexts.draw_lstm_block()
plt.show()

# %% [markdown]
# **Skip connections** lead from every layer to the head. In the package they are one more 1 × 1 convolution of
# each layer, and their results are summed before the head; the paper's wiring may differ, which we could not
# determine. Both kinds can be switched off.
#
# ```{literalinclude} ../nvp/autoregressive/pixelrnn.py
# :pyobject: ResidualLayer.forward
# :dedent: 4
# ```
#
# What does the sum do for training? Take twelve layers, fresh, and measure the gradient of the loss at the very
# first convolution.

# %%
images = load("fashion-mnist-small-binarized", "train").images
test_images = load("fashion-mnist-small-binarized", "test").images


def gradient_at_first(residual, skip):
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
    model.loss(images[:4]).backward()
    return model.first.weight.grad.norm().item()


norms = {
    (residual, skip): gradient_at_first(residual, skip)
    for residual in (False, True)
    for skip in (False, True)
}
whole = norms[True, True]
rows = [
    [
        "yes" if residual else "no",
        "yes" if skip else "no",
        f"$10^{{{round(math.log10(norm / whole))}}}$",
    ]
    for (residual, skip), norm in norms.items()
]
header = ["residual", "skip", "gradient, in units of the last row"]
figures.show_table(header, rows)
assert norms[False, False] < 1e-3 * whole
assert norms[True, False] > norms[False, True] > 0.01 * whole

# %% [markdown]
# With neither, next to nothing arrives at the first layer when training begins. Either connection repairs that, the
# residual one more fully.
#
# ## A short training run
#
# Enough of random weights. The embedded images of Fashion-MNIST {cite}`xiao2017fashion` have 28 × 28 pixels;
# binarised once and for all, each pixel 1 with probability of its brightness, they are data like the paper's
# binarised MNIST, and smaller numbers. Take 400 images, two layers of 16 units, and 120 steps.

# %% mystnb={"figure": {"caption": "Training on 400 binarised images of Fashion-MNIST. Lines to compare with, on test images: a fair coin for each pixel, and a coin of its own for each, the best model of independent pixels, fitted to all embedded training images. (No figure in the paper.)", "name": "fig-row-training"}, "image": {"alt": "Nats per image over 120 steps. The curve starts at the line of fair coins, at 543, falls below that of independent pixels, at about 380, within ten steps, and goes on to about 250."}}
torch.manual_seed(0)
steps = 400 if full else 120
config = PixelRNNConfig(
    kind="row_lstm", image_shape=(1, 28, 28), levels=2, num_layers=2, hidden=16
)
model = PixelRNN(config).float()
optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
decay = torch.optim.lr_scheduler.LambdaLR(
    optimiser, lambda step: min(1, 2 * (1 - step / steps))
)
generator = torch.Generator().manual_seed(0)
nats = []
for _ in range(steps):
    batch = images[torch.randint(400, (16,), generator=generator)]
    loss = model.loss(batch)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 100)
    optimiser.step()
    decay.step()
    nats.append(loss.item())

fair = 784 * math.log(2)
p = images.double().mean(dim=0).clamp(1e-3, 1 - 1e-3)
one = test_images.double()
independent = -(one * p.log() + (1 - one) * (1 - p).log()).flatten(1).sum(1)
marks = {"fair coins": fair, "independent pixels": independent.mean().item()}
contexts.draw_nats({"Row LSTM, batch of 16": nats}, marks)
plt.show()

# %%
with torch.no_grad():
    held_out = -model.log_prob(test_images[:200]).mean().item()
gain = independent.mean() - held_out
assert gain > 100
print(f"test images: about {gain / 100:.0f}00 nats under independent pixels")

# %% [markdown]
# No validation, no averaging, a few seconds: an illustration, and no result. (The recorded runs of this book
# are in their own chapter.) Yet it has learned something of clothes. Hide the lower half of some test images
# and let it draw the rest, from the first hidden pixel on:

# %% mystnb={"figure": {"caption": "After figure 1 of {cite:t}`oord2016pixelrnn`: the upper 14 rows are given, the lower 14 drawn by the model, three times each. First row: the images as they were.", "name": "fig-row-completions"}, "image": {"alt": "Four rows of eight binary images of clothes and shoes. The upper halves are alike in each column; the lower halves of the last three rows go on in rough outline, each in another way."}}
some = test_images[:8]
drawn = model.complete(some, 14, 3, generator=torch.Generator().manual_seed(0))
assert torch.equal(
    drawn[:, :, :, :14], some[:, None, :, :14].expand(-1, 3, -1, -1, -1)
)
rows = {"image": 255 * some}
for i in range(3):
    rows[f"drawn {i + 1}"] = 255 * drawn[:, i]
draw_rows(rows)
plt.show()

# %% [markdown]
# ## Summary
#
# * The Row LSTM computes a row at a time: a masked convolution over the input, an unmasked one over the states
#   of the row above, $n$ steps in all.
# * One layer sees a triangle that opens upwards, and left neighbours as far as mask B; more layers see no
#   further to the right.
# * Its first states are learned. The compiled scan equals the plain one in values and gradients.
# * Residual and skip connections are what lets a gradient through twelve layers.
#
# ## Exercises
#
# ```{exercise} How far the beginning reaches
# :label: ex-initial-reach
#
# Which entries of the learned initial states does $h_r$ at column $j$ depend on? Check it.
# ```
#
# ```{solution-start} ex-initial-reach
# :class: dropdown
# ```
# They are the states of row $-1$, which is $d = r + 1$ rows up: the columns $j - dm$ to $j + dm$. No mask
# stands in between, so the triangle is symmetric. The cell comes down its own column.

# %%
layer = row_lstms(3, 1)[0]
x = torch.randn(1, 3, 15, 15)
state = layer(x)[0, :, 2, 7].sum()
(gradient,) = torch.autograd.grad(state, layer.initial)
reached = (gradient[0].abs().sum(dim=-1) > 0).nonzero()
of_h, of_c = (reached[reached[:, 0] == i, 1].tolist() for i in (0, 1))
assert of_h == list(range(4, 11))
assert set(of_c) <= set(of_h)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Why not a mask on the states?
# :label: ex-masked-states
#
# Someone masks $K^{ss}$ as well, "to be safe", with mask B in the row above. What does the layer see then?
# ```
#
# ```{solution-start} ex-masked-states
# :class: dropdown
# ```
# Nothing on its right at all: the field is $j - (d + 1)m$ to $j$. Safe, and half blind; in the row above, the
# pixel to the upper right is one of the four nearest.

# %%
SIDE = 15
layer = row_lstms(3, 1)[0]
with torch.no_grad():
    layer.state_to_state[0, 2] = 0  # the tap on the right
seen = receptive_field(layer, (3, SIDE, SIDE), (11, 6))
assert not seen[:, 7:].any()
assert seen[:12, 6].all()

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Turn the page
# :label: ex-two-readers
#
# Could a second Row LSTM, over the mirrored image, see the wedge on the right? What would it see of its own
# row, and how far would you have to shift its map to make it safe?
# ```
#
# ```{solution-start} ex-two-readers
# :class: dropdown
# ```
# Mirrored, the left neighbours of mask B are right neighbours: later pixels. Shift its map down by one row, and
# they are pixels of the row above, and safe. In row $r - d$ the first reader sees the columns from
# $j - (d + 1)m$ to $j + dm$, and the second one, shifted, those from $j - (d - 1)m$ to $j + dm$. That is the same
# edge on the right, so the second reader adds nothing! A triangle is a triangle from both sides. What is missing
# is a path that runs *along* a row, and that is the idea of the diagonal.

# %%
layer = row_lstms(3, 1)[0]


def mirrored(x):
    out = layer(x.flip(-1)).flip(-1)
    return torch.cat([torch.zeros_like(out[:, :, :1]), out[:, :, :-1]], dim=2)


seen = receptive_field(mirrored, (3, SIDE, SIDE), (11, 6))
one_way = triangle(SIDE, SIDE, (11, 6), m=1)
assert not seen[11:].any()
assert not (seen & ~one_way).any()

# %% [markdown]
# ```{solution-end}
# ```
