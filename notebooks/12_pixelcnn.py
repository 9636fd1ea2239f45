# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (pixelcnn)=
# # PixelCNN, and the whole network
#
# The LSTM layers remember, and pay for it with steps that wait for each other. What if we give up memory? A
# **PixelCNN** is a stack of masked convolutions, which computes all pixels at once. After this chapter you can say
# exactly what it never sees. You can put any of the three layers into *one network of about twenty lines*, train and
# sample it, and complete real images.
#
# ```{admonition} In the paper
# Sections 3.5 and 4 of {cite:t}`oord2016pixelrnn`: table 1, figure 4 (left) and figure 5 (left).
# ```

# %% tags=["parameters"]
profile = "laptop"

# %% tags=["hide-input"]
import math

import matplotlib.pyplot as plt
from nvp_book import figures
from nvp_book.figures import contexts, layers, pixels
from nvp_book.figures.contexts import receptive_field
from nvp_book.figures.samples import plot_rows

import nvp
from nvp import PixelRNNConfig
from nvp.autoregressive.pixelcnn import PixelCNNBlock
from nvp.config import load_config
from nvp.data import EMBEDDED, load
from nvp.paths import repository_root

figures.use_style()

# %% [markdown]
# ## The layer
#
# What replaces the memory? Three masked convolutions do. A 1 × 1 makes the wide map narrow, a 3 × 3
# looks around, and a 1 × 1 widens it again. A ReLU stands *before* each, as in
# {cite:t}`he2016identity`:

# %% mystnb={"figure": {"caption": "After figure 5 of {cite:t}`oord2016pixelrnn`, left: the residual block of the PixelCNN. The wide map is made narrow for the one convolution that looks around.", "name": "fig-pixelcnn-block"}, "image": {"alt": "From left to right: x with 2h features, three boxes, and a sum. Each box has a ReLU and a convolution: 1 by 1, 3 by 3, and 1 by 1. After the first and the second box there are h features, after the third 2h. A second path leads from x around the boxes to the sum."}} tags=["hide-input"]
layers.plot_pixelcnn_block()
plt.show()

# %% [markdown]
# The block goes from $2h$ features to $h$, and back to $2h$. The 1 × 1 convolutions have mask B, too. The folded cell
# has the classes of the last three chapters, to copy. Like the LSTM layers, the new layer leaves the last 1 × 1 and the
# sum to the network:


# %% tags=["hide-input"]
import itertools

import torch
import torch.nn.functional as F
from torch import nn

torch.set_num_threads(1)  # sums in one order, however many cores


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
        h, c = self.first.expand(-1, len(x), -1, -1)
        rows = []
        for row in self.input_to_state(x).unbind(2):  # (N, 4h, W) each
            h, c = lstm_cell(row + self.state_to_state(h), c)
            rows.append(h)
        return torch.stack(rows, dim=2)


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


class DiagonalLSTM(nn.Module):
    """Left to right: (N, features, H, W) -> (N, h, H, W), by diagonals."""

    def __init__(self, features, h, shape):
        super().__init__()
        colours, height, _ = shape  # of the images
        self.input_to_state = MaskedConv("B", features, h, 1, colours, gates=4)
        self.input_to_state.bias.data[h : 2 * h] = 1  # forget gates: open
        self.state_to_state = nn.Conv1d(h, 4 * h, 2, bias=False)
        self.first = nn.Parameter(torch.zeros(2, 1, h, height))

    def forward(self, x):
        rows = x.shape[2]  # a sampler may leave out the last ones
        first = self.first[..., :rows]
        h, c = first.expand(-1, len(x), -1, -1)  # (N, h, rows) each
        row = torch.arange(rows)
        columns = []
        for t, column in enumerate(skew(self.input_to_state(x)).unbind(3)):
            above_and_left = self.state_to_state(F.pad(h, (1, 0)))
            new_h, new_c = lstm_cell(column + above_and_left, c)
            h = torch.where(row <= t, new_h, h)  # row r begins at step r
            c = torch.where(row <= t, new_c, c)
            columns.append(h)
        return unskew(torch.stack(columns, dim=3))


class DiagonalBiLSTM(nn.Module):
    """Both directions: (N, features, H, W) -> (N, h, H, W)."""

    def __init__(self, features, h, shape):
        super().__init__()
        self.to_right = DiagonalLSTM(features, h, shape)
        self.to_left = DiagonalLSTM(features, h, shape)

    def forward(self, x):
        from_the_right = self.to_left(x.flip(3)).flip(3)
        shifted = F.pad(from_the_right, (0, 0, 1, 0))[:, :, :-1]
        return self.to_right(x) + shifted


# %%
class PixelCNN(nn.Module):
    """A layer of it: (N, features, H, W) -> (N, h, H, W), all at once."""

    def __init__(self, features, h, shape, k=3):
        super().__init__()
        self.reduce = MaskedConv("B", features, h, 1, shape[0])
        self.conv = MaskedConv("B", h, h, k, shape[0])

    def forward(self, x):
        y = self.reduce(F.relu(x))
        return F.relu(self.conv(F.relu(y)))


# %% [markdown]
# With the same weights, it equals the package's layer:

# %%
torch.manual_seed(0)
theirs = PixelCNNBlock(10, 5, num_colours=3, kernel_size=3)
mine = PixelCNN(10, 5, (3, 7, 9))
mine.load_state_dict(theirs.state_dict())
x = torch.randn(2, 10, 7, 9)
assert torch.allclose(mine(x), theirs(x), atol=1e-6)

# %% [markdown]
# ````{dropdown} The package's version
# Its `bias` conditions the layer on a small image ({doc}`13_two_scales`).
#
# ```{literalinclude} ../nvp/autoregressive/pixelcnn.py
# :pyobject: PixelCNNBlock
# ```
# ````
#
# ## What a pixel sees
#
# How far does a stack of such layers see? A kernel reads to the right only in the rows above. So a layer goes to the
# right only by going up. A wedge at the upper right stays hidden at any depth: the **blind spot** ({doc}`../book/live`
# shows it). Where is its edge? Write a place by its offset $(d, \delta)$ from the pixel: $d$ rows up and $\delta$
# columns to the right. A mask is the set of offsets that it keeps. For one colour they are:

# %%
A = {(d, across) for d in (1, 2, 3) for across in range(-3, 4)}
A |= {(0, -3), (0, -2), (0, -1)}  # 7 x 7, mask A
B = {(1, -1), (1, 0), (1, 1), (0, -1), (0, 0)}  # 3 x 3, mask B


# %% tags=["hide-input"]
def offsets(mask, side):
    """The taps of a mask as (rows up, columns right)."""
    kept = MaskedConv(mask, 1, 1, side).mask[0, 0].nonzero()
    m = side // 2
    return {(m - row, column - m) for row, column in kept.tolist()}


assert offsets("A", 7) == A
assert offsets("B", 3) == B

# %% [markdown]
# Two convolutions, one after the other, see every sum of an offset of one and an offset of the other. The path around a
# layer is the offset $(0, 0)$, which $B$ contains. So a PixelCNN of $L$ layers sees
#
# $$
# S_L = A \oplus \underbrace{B \oplus \dots \oplus B}_{L \text{ times}},
# \qquad P \oplus Q = \{p + q : p \in P,\; q \in Q\}.
# $$ (eq:minkowski)


# %%
def add(first, second):
    """All sums of an offset of each."""
    return {(d + e, a + b) for d, a in first for e, b in second}


def seen_by(num_layers, layer=B):
    """S_L, the offsets that a PixelCNN of so many layers sees."""
    seen = A
    for _ in range(num_layers):
        seen = add(seen, layer)
    return seen


# %% [markdown]
# ```{prf:proposition} Receptive field of the PixelCNN
# :label: prop-pixelcnn-field
#
# With a first convolution of 7 × 7 and $L \ge 0$ layers of 3 × 3, on images of one colour, let
# $m = L + 3$. A pixel can see exactly those offsets that lie in the image and in
#
# $$
# S_L = {} & \{ d = 0,\; -m \le \delta \le -1 \} \;\cup \\
#   & \{ 1 \le d \le m,\\
#   & \quad -m \le \delta \le \min(d + 2,\, m) \} .
# $$ (eq:wedge)
#
# No offset with $d \ge 1$ and $\delta \ge d + 3$ is in any $S_L$.
# ```
#
# ```{prf:proof}
# The sum of $L$ copies of $B$ is $\{0 \le d \le L,\; -L \le \delta \le d\}$. (Go up in $d$ of the layers, and move by
# $-1$, 0 or 1 to the side in each. In the $L - d$ others move by $-1$ or 0.) Add $A$. Its row $0$ gives $0 \le d
# \le L$ and $-L - 3 \le \delta \le d - 1$. A row $a \in \{1, 2, 3\}$ of it gives $a \le d \le L + a$ and $-L -
# 3 \le \delta \le (d - a) + 3$. This reaches furthest to the right for the smallest possible $a$, which is
# $\max(1, d - L)$: to $d + 2$, but not past $L + 3$. The union is {eq}`eq:wedge`, and has no gaps.
# ```
#
# Differentiation finds the same field:

# %% mystnb={"figure": {"caption": "After figure 4 of {cite:t}`oord2016pixelrnn`, left: the receptive field of a PixelCNN, measured by differentiation, for 1, 4 and 15 layers on 28 × 28 pixels.", "name": "fig-wedges"}, "image": {"classes": "whole", "alt": "Three boards of 28 by 28 with a pixel low on the left. Blue: for one layer its own row and four rows above; for four layers seven rows above; for fifteen layers all rows above but the upper three, with a staircase as the right edge. To the right of the staircase all is grey, in all three boards."}} tags=["hide-input"]
SIDE, PIXEL = 28, (21, 9)


def wedge(num_layers):
    """The proposition."""
    far = num_layers + 3
    own = {(0, across) for across in range(-far, 0)}
    return own | {
        (d, across)
        for d in range(1, far + 1)
        for across in range(-far, min(d + 2, far) + 1)
    }


def board(seen, place, side=SIDE):
    """A set of offsets as a map (H, W), cut off at the edges."""
    up = place[0] - torch.arange(side)[:, None].expand(side, side)
    right = (torch.arange(side) - place[1]).expand(side, side)
    pairs = zip(up.flatten().tolist(), right.flatten().tolist(), strict=True)
    return torch.tensor([p in seen for p in pairs]).reshape(side, side)


class Residual(nn.Module):
    """A PixelCNN layer, its 1 x 1, and the sum."""

    def __init__(self, h, side):
        super().__init__()
        self.layer = PixelCNN(2 * h, h, (1, side, side))
        self.up = MaskedConv("B", h, 2 * h, 1)

    def forward(self, x):
        return x + self.up(self.layer(x))


def stack(num_layers, side=SIDE, h=6):
    """Mask A, and so many residual layers, with random weights."""
    torch.manual_seed(0)
    first = MaskedConv("A", 1, 2 * h, 7)
    return nn.Sequential(
        first, *(Residual(h, side) for _ in range(num_layers))
    )


assert all(seen_by(count) == wedge(count) for count in range(16))
fields = {}
for count in (1, 4, 15):
    seen = receptive_field(stack(count), (1, SIDE, SIDE), PIXEL)
    assert torch.equal(seen, board(wedge(count), PIXEL))
    fields[f"{count} layer{'s' * (count > 1)}"] = seen
contexts.plot_fields(fields, PIXEL)
plt.show()

# %% [markdown]
# From 1 to 15 layers the field grows by 14 rows and, where the image has room, by 14 columns on either side. Its edge
# on the upper right stays where it was. How many layers does it take to see a place?

# %% mystnb={"figure": {"caption": "The number of layers after which the pixel sees a place; the outline is that of fifteen. The hatched wedge is the blind spot.", "name": "fig-depths"}, "image": {"alt": "A board of 28 columns and 22 rows with a pixel on the left of the last row. Places near it are light, those further up and right are darker, up to 18 layers. A hatched wedge lies right of a diagonal staircase that rises from the pixel to the upper right."}} tags=["hide-input"]
index = torch.arange(SIDE**2).reshape(SIDE, SIDE)
depths = torch.where(index < index[PIXEL], pixels.NEVER, pixels.LATER)
for count in reversed(range(2 * SIDE)):
    depths[board(wedge(count), PIXEL)] = count
down = PIXEL[0] - torch.arange(SIDE)[:, None]
right = torch.arange(SIDE) - PIXEL[1]
assert torch.equal(depths == pixels.NEVER, (down >= 1) & (right >= down + 3))
assert (depths[0] == 18).all()
pixels.plot_depths(depths, PIXEL, board(wedge(15), PIXEL))
plt.show()

# %% [markdown]
# The top row takes 18 layers, and the wedge is seen at no depth. The table divides all pairs of a pixel and an
# earlier one into three parts:

# %% tags=["hide-input"]


def shares(num_layers, side):
    """Of all pairs (pixel, earlier pixel): seen, and seen at no depth."""
    within = wedge(num_layers)
    seen = blind = 0
    for d in range(side):
        for across in range(-side + 1, side):
            pairs = (side - d) * (side - abs(across))
            seen += pairs * ((d, across) in within)
            blind += pairs * (d >= 1 and across >= d + 3)
    pairs = side**2 * (side**2 - 1) // 2
    return seen / pairs, blind / pairs


rows = []
for side in (28, 32):
    for count in (1, 4, 15, 31):
        seen, blind = shares(count, side)
        later = max(0, 1 - seen - blind)
        cells = [f"{share:.0%}" for share in (seen, later, blind)]
        rows.append([f"{side} × {side}", count, *cells])
    assert later < 1e-12  # 31 layers see all that can be seen
header = ["images", "layers", "seen", "seen if deeper", "blind spot"]
figures.show_table(header, rows)
seen, blind = shares(15, 32)
assert [round(seen, 2), round(1 - seen - blind, 2)] == [0.56, 0.25]

# %% [markdown]
# The blind spot takes 18 to 19% of the context at any depth. On 32 × 32 pixels the paper's fifteen
# layers see 56% on average, and more layers could add 25%. The Row LSTM has the *same* right edge,
# but sees all rows above at once; the Diagonal BiLSTM misses one pixel. On CIFAR-10 the paper's
# likelihoods improve in this order.
#
# ### Does it matter?
#
# Here are data for which the blind spot matters. The first row of a 12 × 12 image is fair coins. Each further pixel
# copies the one in the row above, $\delta$ columns to the right; where there is none, it is another coin. For
# $\delta = 3$ the copied pixel lies just inside a PixelCNN's field, for $\delta = 4$ just outside. Two PixelCNNs of two
# layers learn one kind each:

# %% mystnb={"figure": {"caption": "Two PixelCNNs learn images whose rows are copies from 3 or from 4 columns to the right. Dotted and dashed: the entropies of the two kinds of images.", "name": "fig-copies"}, "image": {"alt": "Nats per image over 120 steps. Both curves start near 100. The one for a shift of 3 falls to its entropy, 31. The one for a shift of 4 stays at 100, far above its entropy, 39."}} tags=["hide-input"]
side = 12
assert all((1, 3) in wedge(count) for count in (1, 7, 100))
assert not any((1, 4) in wedge(count) for count in (1, 7, 100))


def copies(count, shift, generator):
    """Images of 0 and 1, (N, 1, 12, 12), each row copied from above."""
    images = torch.randint(2, (count, 1, side, side), generator=generator)
    for row in range(1, side):
        images[:, :, row, :-shift] = images[:, :, row - 1, shift:]
    return images.float()


curves, marks = {}, {}
for shift in (3, 4):
    model = nn.Sequential(stack(2, side), nn.ReLU(), MaskedConv("B", 12, 1, 1))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(2)
    nats = []
    for _ in range(120):
        images = copies(16, shift, generator)
        loss = F.binary_cross_entropy_with_logits(
            model(2 * images - 1), images, reduction="sum"
        )
        optimiser.zero_grad()
        (loss / 16).backward()
        optimiser.step()
        nats.append(loss.item() / 16)
    curves[f"from {shift} columns to the right"] = nats
    coins = side + (side - 1) * shift
    marks[f"entropy for {shift}"] = coins * math.log(2)


contexts.plot_nats(curves, marks)
plt.show()

# %% tags=["remove-cell"]
near, far = curves.values()
assert near[-1] < (side + (side - 1) * 3) * math.log(2) + 5
assert max(near[36:]) < (side + (side - 1) * 3) * math.log(2) + 8
fair = side**2 * math.log(2)
assert fair - 1 < min(far)
assert max(far[36:]) < fair + 2

# %% [markdown]
# The copy at 3 is learned within a few dozen steps, the copy at 4 never. There no pixel that the network sees carries
# information about the predicted one. The loss stays at $144 \ln 2 = 99.8$ nats, that of a fair coin for every pixel.
# On real images less is lost, since pixels near the wedge say something about it. {cite:t}`oord2016gated` remove the
# blind spot with two stacks of convolutions ({ref}`ex-two-stacks`). With gates as well, their PixelCNN scores 3.03
# bits/dim on CIFAR-10, near the 3.00 of the Diagonal BiLSTM.
#
# ## One network for all three layers
#
# Everything outside the layers is common to the three networks of the paper:

# %% mystnb={"figure": {"caption": "The whole Pixel RNN with the shapes of its maps. Each layer is one of the three; the grey convolutions have mask B. For MNIST the head has 32 maps, and one sigmoid takes the place of the softmax.", "name": "fig-pixel-rnn"}, "image": {"alt": "Above, from left to right: the image, C by H by W; a 7 by 7 convolution with mask A to 2h maps; layer 1 to layer L, each from 2h to 2h; a sum with skip connections from all layers; three boxes of a ReLU and a 1 by 1 convolution, with 1024 maps between them and 256 C at the end; a 256-way softmax for each colour. Below, one layer: x with 2h maps goes into a Row LSTM, Diagonal BiLSTM or PixelCNN, which gives h maps. A 1 by 1 convolution takes them to 2h, and x is added. Another leads to the head."}} tags=["hide-input"]
layers.plot_pixel_rnn()
plt.show()

# %% [markdown]
# Only one convolution has mask A, the first. For the layers, sections 3 and 4 give these convolutions:
#
# | convolution | PixelCNN | Row LSTM | Diagonal BiLSTM |
# |:--|:--|:--|:--|
# | over the input | 3 × 3, mask B | 3 × 1, mask B | 1 × 1, mask B |
# | over the states | none | 3 × 1, no mask | 2 × 1, no mask |
#
# Here 3 × 1 lies along the row, and 2 × 1 stands upright in the skewed map. There is no pooling and no stride. The
# head has a ReLU and a 1 × 1 twice; the paper does not say whether the second *is* the output. We read a third. The
# input is scaled and centred; the targets stay integers.


# %%
class PixelRNN(nn.Module):
    """Integers (N, C, H, W) -> logits (N, levels, C, H, W)."""

    def __init__(self, layer, shape, levels=256, depth=2, h=16, head=32):
        super().__init__()
        C, self.levels = shape[0], levels

        def conv(inputs, outputs):
            return MaskedConv("B", inputs, outputs, 1, C)

        self.first = MaskedConv("A", C, 2 * h, 7, C)
        middle = [layer(2 * h, h, shape) for _ in range(depth)]
        self.layers = nn.ModuleList(middle)
        self.up = nn.ModuleList(conv(h, 2 * h) for _ in middle)
        self.skip = nn.ModuleList(conv(h, 2 * h) for _ in middle)
        sizes = (2 * h, head, head, levels * C)
        pairs = [(nn.ReLU(), conv(a, b)) for a, b in itertools.pairwise(sizes)]
        self.head = nn.Sequential(*itertools.chain(*pairs))

    def forward(self, images):
        x = self.first(2 * images / (self.levels - 1) - 1)
        to_head = 0
        parts = zip(self.layers, self.up, self.skip, strict=True)
        for layer, up, skip in parts:
            y = layer(x)
            x, to_head = x + up(y), to_head + skip(y)
        return self.head(x + to_head).unflatten(1, (self.levels, -1))


# %% [markdown]
# The first argument is a class: `RowLSTM`, `DiagonalBiLSTM` or `PixelCNN`. For all three, the package's network of
# the same weights gives the same logits on colour images of five levels:

# %% tags=["hide-input"]


def copy_scan(mine, theirs, direction, directions):
    """Weights of one scan of the package."""
    kernels = (each.input_to_state.parameters() for each in (mine, theirs))
    for own, both in zip(*kernels, strict=True):
        own.data = both.chunk(directions)[direction]
    taps = theirs.state_to_state[direction]  # (taps, h, 4h)
    if directions == 2:
        taps = taps.flip(0)  # the package has the left one first
    mine.state_to_state.weight.data = taps.permute(2, 1, 0)
    mine.first.data = theirs.initial[direction].transpose(1, 2)[:, None]


def copy_weights(mine, theirs):
    """Give our PixelRNN the weights of the package's."""
    pairs = [(mine.first, theirs.first)]
    pairs += zip(mine.head[1::2], theirs.head.convs, strict=True)
    parts = zip(mine.layers, mine.up, mine.skip, theirs.layers, strict=True)
    for ours, up, skip, layer in parts:
        pairs += [(up, layer.up), (skip, layer.skip)]
        if isinstance(ours, PixelCNN):
            ours.load_state_dict(layer.core.state_dict())
        elif isinstance(ours, RowLSTM):
            copy_scan(ours, layer.core, 0, directions=1)
        else:
            copy_scan(ours.to_right, layer.core, 0, directions=2)
            copy_scan(ours.to_left, layer.core, 1, directions=2)
    for one, other in pairs:
        one.load_state_dict(other.state_dict())
    # Its logits are red's, green's, blue's; ours take turns.
    for parameter in mine.head[-1].parameters():
        of_colours = parameter.data.unflatten(0, (-1, mine.levels))
        parameter.data = of_colours.transpose(0, 1).flatten(0, 1)


# %%
kinds = {
    DiagonalBiLSTM: "diagonal_bilstm",
    RowLSTM: "row_lstm",
    PixelCNN: "pixelcnn",
}
shape, sizes = (3, 6, 7), {"levels": 5, "head": 12}
images = torch.randint(5, (2, *shape))
for layer, kind in kinds.items():
    config = PixelRNNConfig(
        kind=kind, image_shape=shape, num_layers=2, hidden=8, **sizes
    )
    theirs = nvp.PixelRNN(config).double()
    mine = PixelRNN(layer, shape, depth=2, h=8, **sizes).double()
    copy_weights(mine, theirs)
    logits = theirs.logits(images.byte())  # (N, C, H, W, levels)
    by_hand = mine(images.double()).permute(0, 2, 3, 4, 1)
    assert torch.allclose(by_hand, logits)

# %% [markdown]
# ````{dropdown} The package's version
# ```{literalinclude} ../nvp/autoregressive/layers.py
# :pyobject: ResidualLayer
# ```
#
# ```{literalinclude} ../nvp/autoregressive/layers.py
# :pyobject: Head
# ```
#
# ```{literalinclude} ../nvp/autoregressive/pixelrnn.py
# :pyobject: PixelRNN.parameters_of
# :dedent: 4
# ```
# ````
#
# ## Train it, sample it, let it finish a picture
#
# Is half a minute of training enough? The data are the embedded images of Fashion-MNIST
# {cite}`xiao2017fashion`, at half the side and with eight levels.


# %%
def small(split):
    """14 x 14 pixels of 8 levels: integers, (N, 1, 14, 14)."""
    images = load(EMBEDDED, split).images.float()
    return (F.avg_pool2d(images, 2) / 32).long()


shape, images, test = (1, 14, 14), small("train"), small("test")

# %% [markdown]
# The loop minimises the cross-entropy of {doc}`09_pixel_by_pixel`:


# %%
def train(model, images, steps, rate=0.02, batch=8):
    """Minimise -log p(x) by Adam; returns the losses in nats an image."""
    optimiser = torch.optim.Adam(model.parameters(), rate, fused=True)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0, steps)
    losses = []
    for _ in range(steps):
        some = images[torch.randint(len(images), (batch,))]
        costs = F.cross_entropy(model(some), some, reduction="sum")
        loss = costs / batch
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 100)
        optimiser.step()
        decay.step()
        losses.append(loss.item())
    return losses


torch.manual_seed(0)
model = PixelRNN(RowLSTM, shape, levels=8)
losses = train(model, images, steps=2000 if profile == "paper" else 300)

# %% [markdown]
# How good is it? We compare its test score with two baselines. One is a histogram of the levels for each pixel, the
# other a table of the levels given the left and the upper pixel.

# %% tags=["hide-input"]
counts = 1 + F.one_hot(images, 8).sum(0)  # (1, 14, 14, 8)
histograms = (counts / counts.sum(-1, keepdim=True)).log()
expected = histograms.expand(len(test), -1, -1, -1, -1).movedim(-1, 1)
independent = F.nll_loss(expected, test).item()


def neighbours(x):
    """The levels on the left and above, as one number."""
    return 8 * F.pad(x, (1, -1)) + F.pad(x, (0, 0, 1, -1))


triples = (8 * neighbours(images) + images).flatten()
table = 1 + torch.bincount(triples, minlength=512).view(64, 8)
table = (table / table.sum(1, keepdim=True)).log()
by_table = F.nll_loss(table[neighbours(test)].movedim(-1, 1), test).item()

# %%
with torch.no_grad():
    cost = F.cross_entropy(model(test), test).item()  # nats a dimension
saved = [(independent - each) / math.log(2) for each in (cost, by_table)]
found = "below the histograms: network {:.1f}, table {:.1f} bits/dim"
print(found.format(*saved))
assert saved[0] > saved[1] + 0.1

# %% [markdown]
# The network beats both. Sampling is the loop of {doc}`09_pixel_by_pixel`. The network sees no row below the pixel, so
# it gets none:


# %%
@torch.no_grad()
def sample(model, images, first_row=0):
    """Draw every pixel from `first_row` on; the rows above are given."""
    images = images.clone()
    _, colours, height, width = images.shape
    for row in range(first_row, height):
        for column, c in itertools.product(range(width), range(colours)):
            logits = model(images[:, :, : row + 1])[:, :, c, row, column]
            drawn = torch.multinomial(logits.softmax(1), 1)[:, 0]
            images[:, c, row, column] = drawn
    return images


drawn = sample(model, torch.zeros(18, *shape, dtype=torch.long))
three = test[:9].repeat(3, 1, 1, 1)
completed = sample(model, three, first_row=7).unflatten(0, (3, 9))


# %% mystnb={"figure": {"caption": "Samples of the Row LSTM that this page trained, beside test images of the same size. None was selected by hand.", "name": "fig-page-samples"}, "image": {"alt": "Three rows of nine grey images of 14 by 14 pixels. The first row shows real clothes and shoes. The other two show shapes, many of which look like shirts, coats or trousers, and some like none."}} tags=["hide-input"]
def grey(images):
    """Levels as they are shown."""
    return (images * 255 // 7).byte()


plot_rows(
    {
        "test image": grey(test[9:18]),
        "samples 1": grey(drawn[:9]),
        "samples 2": grey(drawn[9:]),
    }
)
plt.show()

# %% mystnb={"figure": {"caption": "Completions by the same model. First row: test images. Below: the upper 7 rows are given, the lower 7 drawn, three times each.", "name": "fig-page-completions"}, "image": {"alt": "Four rows of nine grey images of 14 by 14 pixels, test images in the first. The upper halves of a column are alike. In the last three rows about half of the shirts and coats go on to the lower edge; some trousers stay whole, others lose a leg or become a blot, and so does the sandal."}} tags=["hide-input"]
finished = {f"completion {i + 1}": grey(c) for i, c in enumerate(completed)}
plot_rows({"image": grey(test[:9]), **finished})
plt.show()

# %% [markdown]
# After 2,400 images about half of the samples look like clothes. About half of the shirts and coats go on sensibly.
# To use another layer, change one word. Here are 30 steps of each:

# %%
curves = {}
for name, layer in {
    "Diagonal BiLSTM": DiagonalBiLSTM,
    "Row LSTM": RowLSTM,
    "PixelCNN": PixelCNN,
}.items():
    torch.manual_seed(0)
    network = PixelRNN(layer, shape, levels=8)
    curves[name] = train(network, images, steps=30)

# %% mystnb={"figure": {"caption": "The three layers in the same network: loss on training batches of 8 over 30 steps. Dotted: test images under a histogram for each pixel. Dashed: under the table of two neighbours.", "name": "fig-any-layer"}, "image": {"alt": "Nats per image over 30 steps. Three noisy curves fall from about 400 to about 200. They first cross the dotted line of the histograms, at about 275, within seven steps, and stay below it from step 11 on. They end above the line of the table, at about 167."}} tags=["hide-input"]
baseline = independent * 14 * 14  # nats an image
per_image = by_table * 14 * 14
lines = {"a histogram for each pixel": baseline, "the table": per_image}
contexts.plot_nats(curves, lines)
plt.show()

# %% tags=["remove-cell"]
ends = [sum(losses[-10:]) / 10 for losses in curves.values()]
assert per_image < min(ends)
assert max(ends) < baseline
for losses in curves.values():
    assert min(losses[:8]) < baseline
    assert max(losses[11:]) < baseline
assert abs(baseline - 275) < 3
assert abs(per_image - 167) < 3
for layer in kinds:  # a sampler may leave out the rows below
    fresh = PixelRNN(layer, shape, levels=8)
    whole, cut = fresh(test[:1]), fresh(test[:1, :, :5])
    assert torch.allclose(whole[..., :5, :], cut, atol=1e-4)

# %% [markdown]
# All three beat the histograms within 30 steps, and not yet the table. One short run of each says nothing about their
# order; {ref}`pixelrnn-results` has longer ones.
#
# ## The paper's networks
#
# How large are the paper's networks, and how much of a pass must wait? The table has the sizes, the parameters, and the
# operations in one pass that wait for each other. Masks set some of the parameters to zero: for CIFAR-10 39% of the
# PixelCNN's, 30% of the Row LSTM's and 22% of the Diagonal BiLSTM's.

# %% tags=["hide-input"]
names = {
    "cifar10-pixelcnn": "CIFAR-10: PixelCNN",
    "cifar10-row-lstm": "CIFAR-10: Row LSTM",
    "cifar10-diagonal-bilstm": "CIFAR-10: Diagonal BiLSTM",
    "imagenet32-row-lstm": "ImageNet 32 × 32: Row LSTM",
    "imagenet64-row-lstm": "ImageNet 64 × 64: Row LSTM",
    "binarized-mnist-diagonal-7": "binarised MNIST: Diagonal BiLSTM",
    "binarized-mnist-diagonal-1": "binarised MNIST: Diagonal BiLSTM",
}
folder = repository_root() / "configs"
models = {name: load_config(folder / f"{name}.yaml").model for name in names}


def steps_of(config):
    """Operations in sequence: convolutions, and the steps of scans."""
    n = config.image_shape[1]
    layer = {"pixelcnn": 3, "row_lstm": 2 + n, "diagonal_bilstm": 1 + 2 * n}
    return 1 + config.num_layers * layer[config.kind] + 3


def parameters(config):
    """How many numbers the network has, those that a mask hides as well."""
    with torch.device("meta"):  # shapes, and no numbers
        return sum(p.numel() for p in nvp.PixelRNN(config).parameters())


rows = []
for name, config in models.items():
    sizes = config.num_layers, config.hidden, config.head
    millions = f"{parameters(config) / 1e6:.2f} M"
    rows.append([names[name], *sizes, millions, steps_of(config)])
header = ["network", "layers", "h", "head maps", "parameters", "in sequence"]
figures.show_table(header, rows)
assert not models["imagenet64-row-lstm"].residual

# %% [markdown]
# For CIFAR-10 the PixelCNN has 49 operations in sequence, the Row LSTM more than eight times as many, the Diagonal
# BiLSTM sixteen times. *Sampling* stays sequential: every network draws one sub-pixel after the other.
#
# The width of the one-layer network, 32, is unverified. The network for 64 × 64 images has no residual connections.
# We read that all others have both kinds. The introduction calls the PixelCNN a network of **fifteen layers**. The
# paper does not say what it counts; we read fifteen residual blocks, as reimplementations do.

# %% tags=["remove-cell"]
unused = {"pixelcnn": 0.39, "row-lstm": 0.3, "diagonal-bilstm": 0.22}
pixelcnn, row, diagonal = (
    steps_of(models[f"cifar10-{kind}"]) for kind in unused
)
for kind, share in unused.items():
    network = nvp.PixelRNN(models[f"cifar10-{kind}"])
    zeros = sum(int((mask == 0).sum()) for mask in network.buffers())
    assert round(zeros / parameters(network.config), 2) == share
assert pixelcnn == 49
assert 8 < row / pixelcnn < 9
assert 15.5 < diagonal / pixelcnn < 16.5

# %% [markdown]
# ## Summary
#
# * A PixelCNN layer is a 3 × 3 convolution with mask B between two 1 × 1s. It computes all pixels at once.
# * Its field grows with each layer, but the right edge stays at $d + 2$. The blind spot beyond it takes 18% of the
#   context on 28 × 28 pixels, 19% on 32 × 32.
# * One network takes any of the three layers, between a 7 × 7 with mask A and a head of 1 × 1s.
# * Sampling and completion are one loop, one sub-pixel after the other.
#
# ## Exercises
#
# ```{exercise} A gated layer
# :label: ex-gated-layer
#
# The layer of the *Gated PixelCNN* {cite}`oord2016gated` has no ReLUs. Its 3 × 3 convolution makes $a$ and $b$, $h$
# maps each. The output is $\tanh(a) \odot \sigma(b)$. Build the layer, with one colour for both maps of a unit. In
# three colours no output may see itself or a later sub-pixel. Then train it in `PixelRNN` for 40 steps on the grey
# images, to a loss below that of the histograms.
# ```
#
# ```{solution-start} ex-gated-layer
# :class: dropdown
# ```
# `gates=2` makes the two maps. The network does not change.


# %%
class Gated(nn.Module):
    def __init__(self, features, h, shape, k=3):
        super().__init__()
        self.reduce = MaskedConv("B", features, h, 1, shape[0])
        self.conv = MaskedConv("B", h, h, k, shape[0], gates=2)

    def forward(self, x):
        a, b = self.conv(self.reduce(x)).chunk(2, dim=1)
        return a.tanh() * b.sigmoid()


torch.manual_seed(0)
losses = train(PixelRNN(Gated, shape, levels=8), images, steps=40)
assert sum(losses[-20:]) / 20 < baseline
tiny = PixelRNN(Gated, (3, 2, 3), levels=2, depth=1, h=4, head=6)
x = torch.rand(1, 3, 2, 3)
jacobian = torch.autograd.functional.jacobian(lambda x: tiny(x).sum(1), x)
in_order = jacobian[0, :, :, :, 0].permute(1, 2, 0, 4, 5, 3).reshape(18, 18)
assert in_order.any()
assert not in_order.triu().any()

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Two stacks
# :label: ex-two-stacks
#
# Cure the blind spot by two stacks. The **vertical** one sees only rows above: its convolutions are two rows high and
# three columns wide, and need no mask. The first covers the two rows above the pixel, each later one its own row of
# features and the row above. The **horizontal** one sees its own row, by 1 × 3 convolutions with masks A and then B.
# In each layer it also sees the output of the vertical one. The first pair of convolutions counts as a layer. Which
# offsets do $L$ layers see? Show that those in the rows above form a rectangle.
# ```
#
# ```{solution-start} ex-two-stacks
# :class: dropdown
# ```
# The later vertical kernels read maps that know only what is above *them*. After $L$ layers the vertical stack sees
# $1 \le d \le L + 1$ and $|\delta| \le L$: a rectangle, as a path may go *right* within a row. The left steps of the
# horizontal stack stay within it, since the vertical one widens as fast. In the pixel's own row
# the horizontal stack sees $-L \le \delta \le -1$.

# %%
later_v = {(d, across) for d in (0, 1) for across in (-1, 0, 1)}
vertical = {(d, across) for d in (1, 2) for across in (-1, 0, 1)}
horizontal = {(0, -1)} | vertical
for L in range(1, 8):
    sides = range(-L, L + 1)
    above = {(d, across) for d in range(1, L + 2) for across in sides}
    assert horizontal == above | {(0, across) for across in range(-L, 0)}
    vertical = add(vertical, later_v)
    horizontal = add(horizontal, {(0, -1), (0, 0)}) | vertical

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Wider kernels
# :label: ex-wider-kernels
#
# Give the layers of a PixelCNN kernels of 5 × 5, after the same first convolution of 7 × 7. Is there a blind spot, and
# where is its edge?
# ```
#
# ```{solution-start} ex-wider-kernels
# :class: dropdown
# ```
# Yes. Each row up now allows two columns to the right, so the edge is less steep:
# $\delta \le 2d + 1$.

# %%
wide = seen_by(6, layer=offsets("B", 5))
for d in range(1, 7):
    assert max(across for e, across in wide if e == d) == 2 * d + 1

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Deep enough
# :label: ex-deep-enough
#
# Take the PixelCNN of {prf:ref}`prop-pixelcnn-field` on $n \times n$ pixels. How many layers does
# it take until every pixel sees all that it can ever see?
# ```
#
# ```{solution-start} ex-deep-enough
# :class: dropdown
# ```
# The pixel with the furthest context is in the last row. It needs $L + 3 \ge n - 1$ rows, and as many columns on the
# left if it is at the right edge. So $L = n - 4$: 24 for $n = 28$, 28 for $n = 32$.

# %%
for n in (28, 32):
    enough = [1 - sum(shares(count, n)) < 1e-12 for count in range(n)]
    assert enough.index(True) == n - 4

# %% [markdown]
# ```{solution-end}
# ```
