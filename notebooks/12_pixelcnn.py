# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (pixelcnn)=
# # PixelCNN, and two scales
#
# ```{admonition} In the paper
# Sections 3.5 and 3.6 of {cite:t}`oord2016pixelrnn`: table 1, figure 5 (left), figure 4 (left), and the middle
# of figure 2.
# ```
#
# The LSTM layers of the last two chapters remember, and pay for it with steps that wait for each other. This
# chapter gives up memory. A **PixelCNN** is a stack of masked convolutions and nothing else: all pixels are
# computed at once, in training and in scoring. What it gives up can be said exactly, so we derive what a pixel
# sees, find a wedge that no depth ever reaches, measure it, and watch a network fail because of it. The end of
# the chapter puts two Pixel RNNs in a row, one for a small image and one for the rest.

# %% tags=["parameters"]
profile = "laptop"

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import figures
from nvp_book.figures import contexts, layers, pixels
from nvp_book.figures.contexts import receptive_field

from nvp import MultiScaleConfig, MultiScalePixelRNN, PixelRNN, PixelRNNConfig
from nvp.autoregressive.masked_conv import MaskedConv2d, conv_mask
from nvp.config import load_config
from nvp.paths import repository_root

figures.use_style()
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # so that a check can be strict
full = profile == "paper"

# %% [markdown]
# ## The layers
#
# Table 1 of the paper lists the layers of all its networks. Only the middle differs from model to model:
#
# | stage | PixelCNN | mask |
# |:--|:--|:-:|
# | first | 7 × 7 convolution to $2h$ features | A |
# | middle | residual blocks of figure 5, with a 3 × 3 convolution each | B |
# | head | twice: ReLU, 1 × 1 convolution (1024 features; 32 for MNIST) | B |
# | output | 1 × 1 convolution to 256 logits a colour; for MNIST one sigmoid | B |
#
# There is no pooling and no stride: every map has the sides of the image. Whether the second 1 × 1 convolution
# of the head *is* the output or comes before it we could not determine; the package has the output as a third.

# %% mystnb={"figure": {"caption": "After figure 5 of {cite:t}`oord2016pixelrnn`, left: the residual block of the PixelCNN. The wide map is made narrow for the one convolution that looks around.", "name": "fig-pixelcnn-block"}, "image": {"alt": "From left to right: x with 2h features, a box with a ReLU and a 1 by 1 convolution, h features, a box with a ReLU and a 3 by 3 convolution, h features, a box with a ReLU and a 1 by 1 convolution, 2h features, a sum. A second path leads from x around the boxes to the sum."}}
layers.draw_pixelcnn_block()
plt.show()

# %% [markdown]
# The 1 × 1 convolutions have mask B too: one that mixed the colours' features would tell red of blue. The block
# in the package leaves the last of them, and the sum, to the class that does the same for the LSTMs:
#
# ```{literalinclude} ../nvp/autoregressive/pixelcnn.py
# :pyobject: PixelCNNBlock.forward
# :dedent: 4
# ```
#
# Here is the whole network once more in a few lines, with the weights of a model. The first argument of `conv`
# is a layer, of which it takes weights and mask; there is nothing else in it.


# %%
def conv(layer, x):
    """A masked convolution that keeps the sides."""
    side = layer.weight.shape[-1]
    kernel = layer.weight * layer.mask
    return F.conv2d(x, kernel, layer.bias, padding=side // 2)


def pixelcnn(model, images):
    """Table 1: (N, C, H, W) uint8 -> (N, C * 256, H, W) logits."""
    x = conv(model.first, images / 127.5 - 1)
    to_head = 0
    for layer in model.layers:
        y = conv(layer.core.reduce, F.relu(x))
        y = F.relu(conv(layer.core.conv, F.relu(y)))
        to_head = to_head + conv(layer.skip, y)
        x = x + conv(layer.up, y)
    x = x + to_head
    for layer in model.head.convs:
        x = conv(layer, F.relu(x))
    return x


torch.manual_seed(0)
config = PixelRNNConfig(
    kind="pixelcnn",
    image_shape=(3, 8, 8),
    num_layers=3,
    hidden=8,
    head=12,
)
model = PixelRNN(config).requires_grad_(False)
images = torch.randint(256, (2, 3, 8, 8)).byte()
by_hand = pixelcnn(model, images).unflatten(1, (3, 256))
assert torch.allclose(by_hand.movedim(2, -1), model.logits(images))

# %% [markdown]
# `skip` is the connection from each layer to the head, as in chapter {ref}`row-lstm`.
#
# ### What it buys
#
# Count the operations that wait for each other in one pass over an image of 32 × 32: layers of the networks for
# CIFAR-10, one for each convolution, one for each step of a scan.

# %%
n = 32
folder = repository_root() / "configs"
models = {
    kind: load_config(folder / f"cifar10-{name}.yaml").model
    for kind, name in (
        ("PixelCNN", "pixelcnn"),
        ("Row LSTM", "row-lstm"),
        ("Diagonal BiLSTM", "diagonal-bilstm"),
    )
}
steps = {"PixelCNN": 3, "Row LSTM": 2 + n, "Diagonal BiLSTM": 2 + 2 * n - 1}
around = 1 + 3  # the first convolution, and those of the head
rows = [
    [kind, config.num_layers, around + config.num_layers * steps[kind]]
    for kind, config in models.items()
]
figures.show_table(["model", "layers", "operations in sequence"], rows)
assert rows[0][-1] < rows[1][-1] / 5

# %% [markdown]
# On hardware that does many things at once this is what training takes. *Sampling* gains nothing: a pixel must
# be drawn before the next one can be given it, whatever the layers.
#
# ## What a pixel sees
#
# Write a place by its offset $(d, \delta)$ from the pixel: $d$ rows up, $\delta$ columns to the right. A mask
# is a set of offsets, those of the taps that it keeps. For one colour:


# %%
def offsets(mask, side):
    """The taps of a mask as (rows up, columns right)."""
    grey = torch.zeros(1)
    kept = conv_mask(mask, grey, grey, (side, side))[0, 0].nonzero()
    m = side // 2
    return {(m - row, column - m) for row, column in kept.tolist()}


A, B = offsets("A", 7), offsets("B", 3)
above = {(d, across) for d in (1, 2, 3) for across in range(-3, 4)}
assert A - above == {(0, -3), (0, -2), (0, -1)}
assert B - above == {(0, -1), (0, 0)}
assert above < A
assert B & above == {(1, -1), (1, 0), (1, 1)}

# %% [markdown]
# Two convolutions, one after the other, see every sum of an offset of one and an offset of the other. A
# residual block may be gone around, which is the offset $(0, 0)$, and $B$ has that already. So a PixelCNN of
# $L$ blocks sees
#
# $$
# S_L = A \oplus \underbrace{B \oplus \dots \oplus B}_{L \text{ times}},
# \qquad P \oplus Q = \{p + q : p \in P,\; q \in Q\}.
# $$ (eq:minkowski)


# %%
def add(first, second):
    """All sums of an offset of each."""
    return {(d + e, a + b) for d, a in first for e, b in second}


def seen_by(blocks, first=A, block=B):
    """S_L: the offsets that a PixelCNN of so many blocks sees."""
    seen = first
    for _ in range(blocks):
        seen = add(seen, block)
    return seen


# %% [markdown]
# ```{prf:proposition} Receptive field of the PixelCNN
# :label: prop-pixelcnn-field
#
# With a first convolution of 7 × 7 and $L$ blocks of 3 × 3, a pixel sees exactly
#
# $$
# S_L = {} & \{ d = 0,\; -L - 3 \le \delta \le -1 \} \;\cup \\
#   & \{ 1 \le d \le L + 3,\; -L - 3 \le \delta \le \min(d + 2,\, L + 3) \} .
# $$ (eq:wedge)
#
# No offset with $d \ge 1$ and $\delta \ge d + 3$ is in any $S_L$.
# ```
#
# ```{prf:proof}
# The sum of $L$ copies of $B$ is $\{0 \le d \le L,\; -L \le \delta \le d\}$: go up in $d$ of the blocks, by
# $-1$, 0 or 1 to the side in each, and by $-1$ or 0 in the $L - d$ others. Add $A$. Its row $0$ gives $0 \le d
# \le L$ and $-L - 3 \le \delta \le d - 1$. A row $a \in \{1, 2, 3\}$ of it gives $a \le d \le L + a$ and $-L -
# 3 \le \delta \le (d - a) + 3$, which reaches furthest to the right for the smallest $a$ that there is,
# $\max(1, d - L)$: to $d + 2$, but not past $L + 3$. The union is {eq}`eq:wedge`, and has no gaps.
# ```
#
# In words: a step to the right costs a step up, in every block. Only the first convolution is better off; its
# wide kernel takes three columns at once, with the first row. Left, down the rows and in its own row the pixel
# sees as far as the stack is deep. To the upper right it never sees more than two columns past the diagonal.


# %%
def wedge(blocks):
    """The proposition."""
    far = blocks + 3
    own = {(0, across) for across in range(-far, 0)}
    return own | {
        (d, across)
        for d in range(1, far + 1)
        for across in range(-far, min(d + 2, far) + 1)
    }


for blocks in range(16):
    assert seen_by(blocks) == wedge(blocks)

# %% [markdown]
# ### Measured
#
# That was paper. Now differentiate the output of real networks, with random weights, by every pixel of the
# image, and look where the derivative is not zero, as in chapter {ref}`row-lstm`. At one image a ReLU may be closed
# that is open at another; so the function takes several.

# %%
SIDE, PIXEL = 28, (21, 9)


def tiny(blocks, side=SIDE):
    """A grey PixelCNN with random weights."""
    torch.manual_seed(0)
    config = PixelRNNConfig(
        kind="pixelcnn",
        image_shape=(1, side, side),
        levels=2,
        num_layers=blocks,
        hidden=6,
        head=8,
    )
    return PixelRNN(config)


def prediction(model):
    """The network from pixels, (N, 1, H, W), to what it says of each."""
    return lambda x: model.parameters_of(x)[:, 0].movedim(-1, 1)


def board(seen, place, side=SIDE):
    """A set of offsets as a map (H, W), cut off at the edges."""
    up = place[0] - torch.arange(side)[:, None].expand(side, side)
    right = (torch.arange(side) - place[1]).expand(side, side)
    pairs = zip(up.flatten().tolist(), right.flatten().tolist(), strict=True)
    return torch.tensor([p in seen for p in pairs]).reshape(side, side)


# %% mystnb={"figure": {"caption": "After figure 4 of {cite:t}`oord2016pixelrnn`, left: the receptive field of a PixelCNN, measured by differentiation, for 1, 4 and 15 blocks on 28 × 28 pixels. It is the set of {eq}`eq:wedge`. Depth brings rows and columns; the edge on the upper right stays.", "name": "fig-wedges"}, "image": {"alt": "Three boards of 28 by 28 with a pixel low on the left. Blue: for one block a region of four rows; for four blocks one of seven rows; for fifteen blocks all rows up to the third but with a staircase as its right edge. To the right of the staircase all is grey, in all three boards."}}
fields = {}
for blocks in (1, 4, 15):
    network = prediction(tiny(blocks))
    seen = receptive_field(network, (1, SIDE, SIDE), PIXEL)
    assert torch.equal(seen, board(wedge(blocks), PIXEL))
    fields[f"{blocks} block{'s' * (blocks > 1)}"] = seen
contexts.draw_fields(fields, PIXEL)
plt.show()

# %% [markdown]
# The wedge that stays grey is called the **blind spot**. How many blocks does it take to see what can be seen?

# %% mystnb={"figure": {"caption": "The number of blocks after which the pixel sees a place; the outline is that of fifteen. The hatched wedge is the blind spot. (No figure in the paper.)", "name": "fig-depths"}, "image": {"alt": "A board of 28 by 28 with a pixel low on the left. Places near it are light, those further up and right are darker, up to 18 blocks. A hatched wedge lies right of a diagonal staircase that rises from the pixel to the upper right."}}
index = torch.arange(SIDE**2).reshape(SIDE, SIDE)
earlier = index < index[PIXEL]
depths = torch.where(earlier, pixels.NEVER, pixels.LATER)
for blocks in reversed(range(2 * SIDE)):
    depths[board(wedge(blocks), PIXEL)] = blocks
blind = depths == pixels.NEVER

down = PIXEL[0] - torch.arange(SIDE)[:, None]
right = torch.arange(SIDE) - PIXEL[1]
assert torch.equal(blind, (down >= 1) & (right >= down + 3))
pixels.draw_depths(depths, PIXEL, board(wedge(15), PIXEL))
plt.show()

# %% [markdown]
# Averaged over all pixels of an image, how much of the context does a network see? The rest is of two kinds:
# what more blocks would show, and what none would.


# %%
def shares(blocks, side):
    """Of all pairs (pixel, earlier pixel): seen, and seen at no depth."""
    within = wedge(blocks)
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
    for blocks in (0, 1, 4, 7, 15, 31):
        seen, blind = shares(blocks, side)
        later = max(0, 1 - seen - blind)
        cells = [f"{share:.0%}" for share in (seen, later, blind)]
        rows.append([f"{side} × {side}", blocks, *cells])
    assert later < 1e-12  # 31 blocks see all that can be seen
header = ["images", "blocks", "seen", "deeper would", "blind spot"]
figures.show_table(header, rows)

# %% [markdown]
# The Row LSTM with its first convolution has the *same* right edge, $d + 2$ (chapter {ref}`row-lstm`), and sees
# all rows above at once. The Diagonal BiLSTM sees all but one pixel. On CIFAR-10 the paper's likelihoods have the
# three in this order.
#
# ### Does it matter?
#
# Let us make data for which it does. The first row of a 12 × 12 image is fair coins; from then on each pixel
# copies the one in the row above, $s$ columns to the right, or is another coin where there is none. For $s = 3$
# the copied pixel is just inside of what a PixelCNN sees, for $s = 4$ just outside:

# %%
side = 12
for blocks in (1, 7, 100):
    assert (1, 3) in wedge(blocks)
    assert (1, 4) not in wedge(blocks)


def copies(count, shift, generator):
    """Images of 0 and 1, (N, 1, 12, 12), each row copied from above."""
    size = (count, 1, side, side)
    images = torch.randint(2, size, generator=generator).byte()
    for row in range(1, side):
        images[:, :, row, :-shift] = images[:, :, row - 1, shift:]
    return images


def entropy(shift):
    """Of the coins that are thrown for one image, nats."""
    return (side + (side - 1) * shift) * math.log(2)


# %% mystnb={"figure": {"caption": "Two PixelCNNs of two blocks learn images whose rows are copies, one column closer or one further. Dotted and dashed: the entropies. The copy at 3 is learned within a few dozen steps; that at 4, never. (No figure in the paper.)", "name": "fig-copies"}, "image": {"alt": "Nats per image over 120 steps. Both curves start near 100. The one for a shift of 3 falls to its entropy, 31. The one for a shift of 4 stays at 100, far above its entropy, 39."}}
curves, marks = {}, {}
for shift in (3, 4):
    model = tiny(2, side).float()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(2)
    nats = []
    for _ in range(120):
        loss = model.loss(copies(32, shift, generator))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        nats.append(loss.item())
    curves[f"from {shift} columns to the right"] = nats
    marks[f"entropy for {shift}"] = entropy(shift)
contexts.draw_nats(curves, marks)
plt.legend(loc="upper right", bbox_to_anchor=(1, 0.95))
plt.show()

near, far = curves.values()
assert near[-1] < entropy(3) + 5
assert min(far) > side**2 * math.log(2) - 1

# %% [markdown]
# Fair coins for every pixel would be $144 \ln 2 = 99.8$ nats, and the second network does no better: nothing
# else that it sees tells of the copied pixel. Images are kinder. What lies in the wedge is also, in part, in
# its surroundings. But some likelihood is lost, and a later paper {cite}`oord2016gated` takes the trouble of
# mending it with two stacks of convolutions; that is the first exercise.
#
# ## "Fifteen layers"
#
# The introduction of the paper calls the PixelCNN a network of fifteen layers. Of what? We do not know, and
# have found no place that says it. Other people's code reads it as fifteen residual blocks, and so do the
# configurations here; it stays *unverified*. Three readings, and what each means for CIFAR-10 with $h = 128$:


# %%
def weights(module):
    """Numbers in all, and those that the masks leave in use."""
    numbers = used = 0
    for layer in module.modules():
        if isinstance(layer, MaskedConv2d):
            biases = len(layer.bias)
            numbers += layer.weight.numel() + biases
            used += int(layer.mask.sum()) + biases
    return numbers, used


config = models["PixelCNN"]
readings = {
    "15 residual blocks": 15,
    "15 convolutions wider than 1 × 1: the first and 14 blocks": 14,
    "15 convolutions: the first, 4 blocks of 3, 2 of the head": 4,
}
rows = []
for reading, blocks in readings.items():
    changed = config.model_copy(update={"num_layers": blocks})
    numbers = sum(p.numel() for p in PixelRNN(changed).parameters())
    seen = wedge(blocks)
    rows_seen = max(d for d, _ in seen) + 1
    share, _ = shares(blocks, 32)
    cells = [f"{numbers / 1e6:.1f} M", rows_seen, f"{share:.0%}"]
    rows.append([reading, *cells])
header = ["reading", "parameters", "rows seen", "of the context"]
figures.show_table(header, rows)

# %% [markdown]
# The first two are nearly one model. The third sees little and is small.
#
# ### Where the parameters are
#
# The first reading, part by part, with the numbers that the masks leave in use:

# %%
model = PixelRNN(config)
parts = {
    "first convolution": [model.first],
    "blocks: 1 × 1 down": [layer.core.reduce for layer in model.layers],
    "blocks: 3 × 3": [layer.core.conv for layer in model.layers],
    "blocks: 1 × 1 up": [layer.up for layer in model.layers],
    "head": list(model.head.convs[:2]),
    "output": [model.head.convs[2]],
}
counted = {
    name: torch.tensor([weights(layer) for layer in layers]).sum(dim=0)
    for name, layers in parts.items()
}
total = sum(counted.values())
rows = [
    [name, *(f"{number:,}" for number in pair.tolist())]
    for name, pair in {**counted, "all": total}.items()
]
figures.show_table(["part", "parameters", "in use under the masks"], rows)

h, maps, L = config.hidden, config.head, config.num_layers
blocks = sum(n[0] for name, n in counted.items() if "block" in name)
head = counted["head"][0] + counted["output"][0]
assert blocks == L * ((2 * h * h + h) + (9 * h * h + h) + (2 * h * h + 2 * h))
assert head == (2 * h + 1) * maps + (maps + 1) * maps + (maps + 1) * 768
assert total[0] == sum(p.numel() for p in model.parameters())

# %% [markdown]
# The head of 1024 maps, which looks at single pixels only, takes more than a third. A mask B of 3 × 3 keeps
# four taps of nine and of its centre, with three colours, two thirds of the connections: a bit more than half.
#
# ## Two scales
#
# Section 3.6 splits the work. Take a **small image**, every $k$-th row and column of the large one. One Pixel
# RNN models it; a second one models the large image *given* the small one:
#
# $$
# p(x, s) = p(s)\; p(x \mid s), \qquad
# p(x \mid s) = \prod_{i=1}^{n^2} p(x_i \mid x_{<i}, s).
# $$ (eq:two-scales)
#
# The small image settles the layout; the conditional network, which knows it from its first pixel on, fills in.
# How does a network take $s$? Deconvolutions enlarge it to a map of $c$ features and $n \times n$ places; for
# every layer an *unmasked* 1 × 1 convolution of that map is added to the layer's input-to-state map, which has
# $4h$ features for a Row LSTM. No mask, as $s$ is known in full. The paper's $k$, $c$ and number of
# deconvolutions we did not find; here each deconvolution doubles the side.
#
# ```{literalinclude} ../nvp/autoregressive/multiscale.py
# :pyobject: Upsampler.forward
# :dedent: 4
# ```

# %%
n, factor = 24, 4
shape = {"kind": "row_lstm", "levels": 2, "num_layers": 2, "hidden": 6}
two_scales = MultiScaleConfig(
    small={**shape, "image_shape": (1, n // factor, n // factor)},
    large={**shape, "image_shape": (1, n, n)},
    width=8,
)
torch.manual_seed(0)
model = MultiScalePixelRNN(two_scales).requires_grad_(False)
x = torch.randint(2, (1, 1, n, n)).byte()
s = model.subsample(x)
assert torch.equal(s, x[:, :, ::factor, ::factor])
maps = model.upsampler(model.small.centred(s))
rows = [
    ["image x", tuple(x.shape[1:])],
    ["small image s", tuple(s.shape[1:])],
    ["after the deconvolutions", (two_scales.width, n, n)],
    [f"added to each of {len(maps)} layers", tuple(maps[0].shape[1:])],
]
figures.show_table(["map", "features, rows, columns"], rows)
assert maps[0].shape[1] == 4 * two_scales.large.hidden

# %% [markdown]
# Does it condition? Change one pixel of $s$ and see which predictions of the large network move; then change
# the pixel of $x$ that it was taken from.


# %%
def predictions(x, s):
    """Parameters of p(x | s) at every place: (H, W)."""
    maps = model.upsampler(model.small.centred(s))
    return model.large.parameters_of(x, maps)[0, 0, :, :, 0]


row, column = 2, 1
place = row * factor, column * factor
before = predictions(x, s)
other_s, other_x = s.clone(), x.clone()
other_s[0, 0, row, column] ^= 1
other_x[0, 0, *place] ^= 1
by_s = predictions(x, other_s) != before
by_x = predictions(other_x, s) != before

index = torch.arange(n * n).reshape(n, n)
not_later = index <= index[place]
assert not by_x[not_later].any()  # the order of the large image holds
assert by_s[not_later].any()  # and the small one is known beforehand
print(f"pixel {place} of x moves no prediction before or at its place")
print(f"its copy in s moves {int(by_s[not_later].sum())} of them")

# %% [markdown]
# The other way round: what does one prediction know, of $x$ and of $s$? Circles are the pixels of $s$, drawn at
# the places that they come from.

# %% mystnb={"figure": {"caption": "After figure 2 of {cite:t}`oord2016pixelrnn`, middle: what the prediction of one pixel depends on, measured by differentiation. Of the image, earlier pixels; of the small image, also pixels to come.", "name": "fig-two-scales"}, "image": {"alt": "A board of 24 by 24 with a pixel near its middle; blue, a triangle above it. Thirty-six circles on a regular grid, every fourth row and column. Those in and beside the triangle are orange, and so are two below the pixel; the others, further down, are white."}}
centre = (9, 10)
x_real = x.double().requires_grad_()
s_real = (2 * s.double() - 1).requires_grad_()
output = model.large.parameters_of(x_real, model.upsampler(s_real))
of_x, of_s = torch.autograd.grad(output[0, 0, *centre].sum(), (x_real, s_real))
of_x, of_s = (g[0, 0] != 0 for g in (of_x, of_s))
later = index[::factor, ::factor] >= index[centre]
assert not (of_x & (index >= index[centre])).any()
assert (of_s & later).any()
pixels.draw_two_scales(of_x, of_s, centre)
plt.show()

# %% [markdown]
# How far ahead it sees is up to the deconvolutions: ours have kernels of 4 × 4, and reach the next pixels of
# $s$, no more. Further ones it does not know of, though it might.
#
# Two remarks on likelihoods. Since $s$ is a part of $x$, {eq}`eq:two-scales` is the probability of the *pair*;
# the conditional model also gives probability to images that do not contain $s$, so $\log p(s) + \log p(x \mid
# s)$ is a lower bound on the $\log p(x)$ of the images drawn. And the paper reports that samples of 64 × 64
# pixels look more coherent this way, at about the same likelihood; its figure for that we did not find.

# %%
nats = model.small.log_prob(s) + model.log_prob_given(x, s)
assert torch.allclose(model.log_prob(x), nats)
drawn = model.sample(3, generator=torch.Generator().manual_seed(0))
assert drawn.shape == (3, 1, n, n)

# %% [markdown]
# ## Summary
#
# * A PixelCNN is a 7 × 7 convolution with mask A, residual blocks around 3 × 3 convolutions with mask B, and a
#   head of 1 × 1s. It scores in about fifty steps, and samples as slowly as the others.
# * What it sees is a sum of sets: rows and columns grow by one with each block; the right edge stays at
#   $d + 2$.
# * Beyond lies the blind spot, between a sixth and a fifth of the context of these image sizes, at any depth.
# * In the network for CIFAR-10 more than a third of the parameters are in the head.
# * Two Pixel RNNs in a row make an image from coarse to fine; the second one is biased by the small image,
#   without a mask.
#
# ## Exercises
#
# ```{exercise} Two stacks
# :label: ex-two-stacks
#
# Cure the blind spot. Let a **vertical** stack of convolutions two rows high and three columns wide, without a
# mask in them, see only rows above, and a **horizontal** stack of 1 × 3 convolutions with masks A and then B
# the own row. In each layer the horizontal stack gets the output of the vertical one. Show that nothing in the
# rows that are reached is missed.
# ```
#
# ```{solution-start} ex-two-stacks
# :class: dropdown
# ```
# The first vertical kernel covers the two rows above the pixel. Each later one covers its own row and the one
# above, of features that know only what is above *them*. After $l$ layers that is $1 \le d \le l + 1$ and
# $|\delta| \le l$: a rectangle, as a path may go *right* within a row. {cite:t}`oord2016gated` do this.

# %%
first_v = {(d, across) for d in (1, 2) for across in (-1, 0, 1)}
later_v = {(d, across) for d in (0, 1) for across in (-1, 0, 1)}
vertical = first_v
horizontal = {(0, -1)} | vertical
for _ in range(6):
    vertical = add(vertical, later_v)
    horizontal = add(horizontal, {(0, -1), (0, 0)}) | vertical
above = {(d, across) for d in range(1, 8) for across in range(-7, 8)}
assert above <= horizontal
assert all(d > 0 or across < 0 for d, across in horizontal)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Wider kernels
# :label: ex-wider-kernels
#
# Does a PixelCNN of 5 × 5 blocks have a blind spot? Where is its edge?
# ```
#
# ```{solution-start} ex-wider-kernels
# :class: dropdown
# ```
# Yes. A row up now buys two columns, so the edge is less steep: $\delta \le 2d + 1$. For any width of the
# kernel there is a slope, and behind it a wedge; in the row above the pixel it begins at four columns to the
# right, as before.

# %%
wide = seen_by(6, block=offsets("B", 5))
for d in range(1, 7):
    assert max(across for e, across in wide if e == d) == 2 * d + 1

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Deep enough
# :label: ex-deep-enough
#
# How many blocks does it take on $n \times n$ pixels until every pixel sees all that it can ever see?
# ```
#
# ```{solution-start} ex-deep-enough
# :class: dropdown
# ```
# The pixel furthest from its context is in the last row. It needs $L + 3 \ge n - 1$ rows, and as many columns
# on the left if it is at the right edge. So $L = n - 4$: 24 for MNIST, 28 for CIFAR-10. Fifteen do not suffice.

# %%
for n in (28, 32):
    enough = min(
        blocks for blocks in range(n) if 1 - sum(shares(blocks, n)) < 1e-12
    )
    assert enough == n - 4

# %% [markdown]
# ```{solution-end}
# ```
