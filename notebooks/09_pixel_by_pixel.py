# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (pixel-by-pixel)=
# # One pixel at a time
#
# ```{admonition} In the paper
# Sections 2 and 3.4 of {cite:t}`oord2016pixelrnn`: equations 1 and 2, figure 2, and what section 3.5 says of
# training and sampling.
# ```
#
# Real NVP asks for a bijection, and pays for it with layers that leave half of their input alone. The second
# paper asks for nothing but an *order*. Number the pixels; predict each from those before it, with any network
# whatever; multiply. What comes out is a probability of the image, exact, with no noise added and no bound. Two
# things are left to see to: that the network does not look ahead, which is this chapter, and that it sees all
# it may, which is the next three.

# %% tags=["parameters"]
profile = "laptop"

# %%
import itertools
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import figures
from nvp_book.figures import contexts
from nvp_book.selection import in_powers
from torch import nn

from nvp import PixelRNN, PixelRNNConfig
from nvp.autoregressive.masked_conv import (
    MaskedConv2d,
    colour_groups,
    conv_mask,
)
from nvp.likelihood import bits_per_dim

figures.use_style()
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # so that a check can be strict

# %% [markdown]
# ## The chain rule, over pixels and colours
#
# Take the $n^2$ pixels of an image row by row, each row from left to right. The chain rule of probability is
# equation 1:
#
# $$
# p(x) = \prod_{i=1}^{n^2} p(x_i \mid x_1, \dots, x_{i-1}).
# $$ (eq:pixel-chain)
#
# A pixel of a colour image is three numbers, and the rule goes on inside it, red before green before blue
# (equation 2):
#
# $$
# p(x_i \mid x_{<i}) = {} & p(x_{i,R} \mid x_{<i})\; p(x_{i,G} \mid x_{<i}, x_{i,R}) \\
# & \times p(x_{i,B} \mid x_{<i}, x_{i,R}, x_{i,G}).
# $$ (eq:colours)

# %% mystnb={"figure": {"caption": "After figure 2 of {cite:t}`oord2016pixelrnn`, left. The context of a pixel is all that comes before it in raster order, blue here. Within the pixel each colour has those before it as context, too.", "name": "fig-context"}, "image": {"alt": "A board of 7 by 7 pixels. All rows above the fourth and the pixels left of the middle of the fourth are blue; the pixel in the middle is orange. An arrow leads from it to three boxes, red, green and blue, one below the other, with the conditional probability of each."}}
contexts.draw_context(7, 7, (3, 3))
plt.show()

# %% [markdown]
# Neither equation assumes anything. The model begins where each factor becomes a **softmax over the 256
# levels** of a sub-pixel (one sigmoid where there are two levels), computed by a network that all positions
# share. A softmax sums to 1 by construction, so the whole sums to 1: sum over the last sub-pixel first, then
# over the one before it, and so on. No determinant, no partition function.
#
# The models of the package are one class with three kinds of layers, which the coming chapters take apart. Here
# they are black boxes, small ones with random weights.


# %%
def tiny(kind, shape, levels, hidden=6, layers=2):
    """A small model with fixed random weights."""
    torch.manual_seed(0)
    config = PixelRNNConfig(
        kind=kind,
        image_shape=shape,
        levels=levels,
        num_layers=layers,
        hidden=hidden,
        head=6,
        first_kernel=3,
    )
    model = PixelRNN(config)
    for weight in model.parameters():  # nothing may be zero by chance
        nn.init.normal_(weight, std=0.5)
    return model.requires_grad_(False)


def all_images(shape, levels):
    """Every image there is, (levels^D, C, H, W)."""
    values = itertools.product(range(levels), repeat=math.prod(shape))
    return torch.tensor(list(values), dtype=torch.uint8).reshape(-1, *shape)


KINDS = {
    "pixelcnn": "PixelCNN",
    "row_lstm": "Row LSTM",
    "diagonal_bilstm": "Diagonal BiLSTM",
}
binary = all_images((1, 2, 3), levels=2)
rows = []
for kind, title in KINDS.items():
    p = tiny(kind, (1, 2, 3), levels=2).log_prob(binary).exp()
    assert abs(p.sum() - 1) < 1e-10
    least = in_powers(f"{p.min():.2g}")
    rows.append([title, len(p), least, f"{p.max():.4f}", f"{p.sum():.4f}"])
header = ["model", "images of 2 × 3", "least p", "greatest p", "sum of all p"]
figures.show_table(header, rows)

# %% [markdown]
# ## Trained in parallel, sampled in sequence
#
# To score an image, all of it is known, so all $D$ conditionals are computed *at once*: one forward pass in,
# $D$ distributions out. The class does no more than this:


# %%
def log_prob(model, images):
    """Equations 1 and 2 in one pass: (N, C, H, W) -> (N,), nats."""
    logs = torch.log_softmax(model.logits(images), dim=-1)
    chosen = logs.gather(-1, images.long().unsqueeze(-1))
    return chosen.flatten(1).sum(dim=1)


generator = torch.Generator().manual_seed(1)
model = tiny("diagonal_bilstm", (3, 3, 4), levels=5)
images = torch.randint(5, (2, 3, 3, 4), generator=generator).byte()
assert torch.allclose(log_prob(model, images), model.log_prob(images))

# %% [markdown]
# The same, one factor at a time, as the chain rule has it. When a sub-pixel is predicted, it and all later ones
# are not known yet; random levels stand in for them. The two agree only if no prediction reads what stands
# there.


# %%
def in_order(shape):
    """(row, column, colour) of the sub-pixels, first to last."""
    channels, height, width = shape
    return itertools.product(range(height), range(width), range(channels))


def log_prob_in_sequence(model, images):
    known = torch.randint_like(images, model.levels)  # nothing, so far
    total = torch.zeros(len(images))
    for row, column, colour in in_order(model.image_shape):
        here = (slice(None), colour, row, column)
        logs = torch.log_softmax(model.logits(known)[here], dim=-1)
        total += logs[range(len(images)), images[here].long()]
        known[here] = images[here]
    return total


for kind in KINDS:
    model = tiny(kind, (3, 3, 4), levels=5)
    difference = log_prob_in_sequence(model, images) - log_prob(model, images)
    assert difference.abs().max() < 1e-10

# %% [markdown]
# **Sampling** has to take the second way, for every kind of layer, PixelCNN included: a pixel must be drawn
# before the next one can be given it.


# %%
def sample(model, n, generator):
    """One forward pass for each sub-pixel."""
    images = torch.zeros(n, *model.image_shape, dtype=torch.uint8)
    for row, column, colour in in_order(model.image_shape):
        logits = model.logits(images)[:, colour, row, column]
        below = torch.softmax(logits, dim=-1).cumsum(dim=-1)
        u = torch.rand(n, 1, generator=generator)
        images[:, colour, row, column] = (below <= u).sum(dim=-1).byte()
    return images


for kind in KINDS:
    model = tiny(kind, (3, 3, 4), levels=5)
    plain = sample(model, 4, torch.Generator().manual_seed(2))
    fast = model.sample(4, generator=torch.Generator().manual_seed(2))
    assert torch.equal(plain, fast)

# %% [markdown]
# The loop calls a network that computes every pixel, and uses one. `model.sample` keeps the features and states
# of earlier pixels and computes only what is new; the images are the same, draw for draw. It is still a
# sequence:

# %%
rows = []
for name, shape in {
    "MNIST": (1, 28, 28),
    "CIFAR-10": (3, 32, 32),
    "ImageNet 64 × 64": (3, 64, 64),
}.items():
    rows.append([name, 1, f"{math.prod(shape):,}", 1])
header = ["images", "passes to score", "to sample", "Real NVP, to sample"]
figures.show_table(header, rows)

# %% [markdown]
# ## Masks
#
# How does one keep a convolution from looking ahead? By setting weights to zero (section 3.4). A kernel has its
# centre at the pixel that is predicted; taps below it, and right of it in its row, would read later pixels, and
# go. At the centre it depends on the colours. Split the features of every layer in three groups, one a colour.
# **Mask A** lets the centre read the colours *before* its own; **mask B** also its *own*.
#
# ```{literalinclude} ../nvp/autoregressive/masked_conv.py
# :pyobject: conv_mask
# ```
#
# Rule by rule:
#
# | tap | mask A | mask B |
# |:--|:-:|:-:|
# | rows above the centre | all colours | all colours |
# | centre row, left | all colours | all colours |
# | the centre | earlier colours | earlier colours and its own |
# | centre row, right; rows below | none | none |

# %% mystnb={"figure": {"caption": "The same as the function computes it, for kernels of 5 × 5: a row for each output colour, a column for each colour that it reads. Painted taps may be used; the centre is framed. The two masks differ in the three centres of the diagonal. (No figure in the paper.)", "name": "fig-mask-taps"}, "image": {"alt": "Two tables of three by three small boards. In every board the two upper rows and the left half of the middle row are painted. The centre is painted below the diagonal of the table in both, and on the diagonal only under mask B."}}
three = colour_groups(3, num_colours=3)
masks = {f"mask {m}": conv_mask(m, three, three, (5, 5)) for m in ("A", "B")}
contexts.draw_masks(masks)
plt.show()

centres = {name: mask[:, :, 2, 2] for name, mask in masks.items()}
assert torch.equal(centres["mask A"], torch.ones(3, 3).tril(-1))
assert torch.equal(centres["mask B"], torch.ones(3, 3).tril())

# %% [markdown]
# The centres are triangular matrices, strictly and not: the same triangle that made the Jacobian of a coupling
# cheap, there over dimensions, here over colours. And with it all composition is easy: a product of triangular
# matrices is triangular, and strictly so if one factor is.

# %% mystnb={"figure": {"caption": "After figure 2 of {cite:t}`oord2016pixelrnn`, right. What the colours of one pixel get, upwards: mask A in the first layer, mask B in all others. Every feature may also read all colours of earlier pixels.", "name": "fig-connections"}, "image": {"alt": "Three rows of boxes, red, green and blue, the image at the bottom, two layers above it. Mask A: from red to green and blue, from green to blue. Mask B: the same arrows, and one from each colour to itself. From the box of earlier pixels arrows lead to all three colours."}}
contexts.draw_connections(
    [("mask A", centres["mask A"]), ("mask B", centres["mask B"])]
)
plt.show()

# %% [markdown]
# The paper multiplies the weights by the mask after each update. `MaskedConv2d` does so at every use, which no
# momentum of an optimiser can undo.
#
# ## What a pixel sees: ask the network
#
# A mask is a claim, and it takes one line to be wrong. So ask the network: change *one* sub-pixel of the input,
# and see whether the output moves. For all sub-pixels it is one batch.


# %%
def sees(network, shape, place):
    """Which inputs (C, H, W) move the outputs at `place` (row, column).

    Returns bool, (outputs, C, H, W).
    """
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(1, *shape, generator=generator)
    size = base.numel()
    changed = base + torch.eye(size).reshape(size, *shape)
    with torch.no_grad():
        moved = network(changed) - network(base)
    moved = moved[:, :, *place].abs() > 1e-12
    return moved.T.reshape(-1, *shape)


def stack(masks, side=3, features=12, colours=1):
    """Convolutions with these masks, tanh between them."""
    torch.manual_seed(0)
    layers, groups = [], torch.arange(colours)
    for mask in masks:
        wide = colour_groups(features, colours)
        layers += [MaskedConv2d(mask, groups, wide, (side, side)), nn.Tanh()]
        groups = wide
    return nn.Sequential(*layers[:-1])


SIDE, CENTRE = 13, (9, 6)


def field(masks, side=3):
    """The receptive field of a grey stack: bool, (SIDE, SIDE)."""
    seen = sees(stack(masks, side), (1, SIDE, SIDE), CENTRE)
    return seen.any(dim=0)[0]


# %% mystnb={"figure": {"caption": "What one pixel sees through one, two and three masked convolutions of 3 × 3, found by changing every pixel in turn. Blue moves the output; grey is earlier, and does not. (No figure in the paper.)", "name": "fig-depth"}, "image": {"alt": "Three boards of 13 by 13. The blue region grows from the four earlier neighbours to a shape that is three rows high and reaches three columns left and up to three right in the top row. Pixels to the upper right beyond the diagonal stay grey."}}
fields = {
    f"{len(masks)} layer{'s' * (len(masks) > 1)}: {', '.join(masks)}": field(
        masks
    )
    for masks in ("A", "AB", "ABB")
}
contexts.draw_fields(fields, CENTRE)
plt.show()

index = torch.arange(SIDE**2).reshape(SIDE, SIDE)
earlier = index < index[CENTRE]
for seen in fields.values():
    assert not (seen & ~earlier).any()
print("pixels seen:", *(int(seen.sum()) for seen in fields.values()))

# %% [markdown]
# No later pixel moves anything. And not every earlier pixel does: the region grows by a row and a column with
# each layer, and on the upper right it has an edge. A step to the right costs a row upwards, so what lies
# flatter than the diagonal is out of reach, *at any depth*. The next chapters will meet this edge again.
#
# ### Why mask A, and why only once
#
# Behind mask A the features at a pixel know only what came *before* it. So every later layer may read its own
# centre freely, which is mask B. Other combinations are wrong, in opposite ways:

# %% mystnb={"figure": {"caption": "Three layers each. A, B, B is right. With B first the pixel sees itself. With A throughout nothing leaks, but every layer after the first one loses a left neighbour, the pixels that say most. (No figure in the paper.)", "name": "fig-wrong-masks"}, "image": {"alt": "Three boards. A, B, B: the earlier pixels of the last figure. B, B, B: the pixel itself is marked as a leak. A, A, A: the two nearest pixels on the left are grey, and only the third one is blue."}}
fields = {", ".join(masks): field(masks) for masks in ("ABB", "BBB", "AAA")}
contexts.draw_fields(fields, CENTRE)
plt.show()

row, column = CENTRE
assert fields["B, B, B"][CENTRE]
nearest = fields["A, A, A"][row, column - 3 : column]
assert nearest.tolist() == [True, False, False]

# %% [markdown]
# The same holds for whatever else reads the image: a shortcut from the raw input around the mask A convolution
# would hand the pixel to its own prediction. Residual connections start behind it.
#
# Within a pixel, the colours. One row for each output, and which colours of its *own* pixel it saw:

# %%
network = stack("ABB", colours=3)
seen = sees(network, (3, 5, 5), (2, 2))[:3, :, 2, 2]  # outputs R, G, B
rows = [
    [name, *("yes" if s else "–" for s in seen[i].tolist())]
    for i, name in enumerate(["red", "green", "blue"])
]
figures.show_table(["output", "own red", "own green", "own blue"], rows)
assert torch.equal(seen, torch.ones(3, 3).tril(-1).bool())

# %% [markdown]
# ## A trap: the gates of an LSTM
#
# Features belong to colours by a rule, and the package cycles: red, green, blue, red, … Any rule will do, as
# long as what one layer puts out by it the next one takes in by it. An LSTM of $h$ units has a convolution with
# $4h$ outputs, four gates for each unit: unit $j$ has the features $j$, $j + h$, $j + 2h$, $j + 3h$. Cycle over
# all $4h$ of them, and if 3 does not divide $h$ the four gates of one unit belong to *different* colours. For
# the $h = 128$ of the paper's CIFAR-10 models:

# %%
h = 128
cycled = colour_groups(4 * h, 3).reshape(4, h)
per_gate = colour_groups(h, 3).repeat(4).reshape(4, h)
letters = [
    " ".join("RGB"[colour] for colour in groups[:, 0].tolist())
    for groups in (cycled, per_gate)
]
print("colours of the four gates of unit 0:", letters[0], "|", letters[1])
assert (per_gate == per_gate[0]).all()
assert not (cycled == cycled[0]).all()

# %% [markdown]
# In the order o, f, i, g: unit 0 is red by its place, but its forget gate reads as blue and its input gate as
# green. The next layer takes the unit for red, and hands what it knows to red outputs. (How 128 features are
# split in three the paper does not say.) Count what that does to whole models. A **leak** is a pair of a
# sub-pixel and a logit that it moves, though it does not come before it.


# %%
def count_leaks(model):
    """Pairs of an input and an output that moved and must not have."""
    channels, height, width = model.image_shape
    size = channels * height * width
    generator = torch.Generator().manual_seed(4)
    base = torch.randint(2, (1, *model.image_shape), generator=generator)
    flips = torch.eye(size).reshape(size, *model.image_shape)
    images = (base + flips.long()).remainder(2).byte()
    moved = model.logits(images) - model.logits(base.byte())
    moved = moved.abs().amax(dim=-1) > 1e-12  # (inputs, C, H, W)
    # Both sides in raster order, colours innermost.
    moved = moved.permute(0, 2, 3, 1).reshape(channels, height, width, size)
    moved = moved.permute(1, 2, 0, 3).reshape(size, size)
    return int(moved.tril().sum())  # input no earlier than output


def cycle_over_all_gates(model):
    """The mistake, on purpose: new masks for input to state."""
    for layer in model.layers:
        conv = layer.core.input_to_state
        wide = colour_groups(conv.mask.shape[1], 3)
        wrong = colour_groups(conv.mask.shape[0], 3)
        conv.mask = conv_mask("B", wrong, wide, conv.mask.shape[2:])


rows = []
for h in (4, 5, 6, 7, 8):
    leaks = []
    for spoil in (False, True):
        model = tiny("row_lstm", (3, 2, 3), levels=2, hidden=h)
        if spoil:
            cycle_over_all_gates(model)
        leaks.append(count_leaks(model))
    assert leaks[0] == 0
    assert (leaks[1] > 0) == (h % 3 != 0)
    rows.append([h, *leaks])
header = ["h", "leaks, colours per gate", "leaks, cycled over 4h"]
figures.show_table(header, rows)

# %% [markdown]
# With 6 units both agree. A test at a width that three divides would never have seen the mistake.
#
# ## What a leak looks like
#
# It does not look like an error. It looks like success. Give two networks fair coins to learn: images of 6 × 6
# pixels, each 0 or 1 with probability one half. Whatever a model does, it cannot expect less than
# $36 \ln 2 = 24.95$ nats, the entropy of the coins. One network has masks A, B, B; the other one has B, B, B.

# %% mystnb={"figure": {"caption": "Two networks learn fair coins, 36 an image, new ones in every step. No model can do better than the entropy. The one whose first mask lets each pixel see itself does, and within a few steps. (No figure in the paper.)", "name": "fig-coins"}, "image": {"alt": "Nats per image over 60 steps. The curve of A, B, B stays on the dotted line of the entropy, at 25. The curve of B, B, B starts there and falls to nearly zero."}}
entropy = 36 * math.log(2)


def learn_coins(masks, steps=60):
    torch.manual_seed(0)
    output = MaskedConv2d("B", colour_groups(12, 1), torch.arange(1))
    network = nn.Sequential(stack(masks), nn.Tanh(), output)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    nats = []
    for _ in range(steps):
        coins = torch.randint(2, (32, 1, 6, 6)).double()
        loss = F.binary_cross_entropy_with_logits(
            network(2 * coins - 1), coins, reduction="sum"
        )
        loss = loss / len(coins)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        nats.append(loss.item())
    return nats


curves = {", ".join(masks): learn_coins(masks) for masks in ("ABB", "BBB")}
contexts.draw_nats(curves, {"entropy of the coins": entropy})
plt.show()
assert min(curves["A, B, B"]) > entropy - 0.5
assert curves["B, B, B"][-1] < 1

# %% [markdown]
# A model that leaks is no distribution. Sum what it calls the probabilities of all images: for the right masks
# 1, for the wrong ones anything. So there are two tests that need no data, and a third for when there is some:
# likelihoods that are *too good*. Published figures are a yardstick for it.

# %%
model = tiny("row_lstm", (3, 2, 2), levels=2, hidden=4)
everything = all_images((3, 2, 2), levels=2)
right = model.log_prob(everything).exp().sum()
cycle_over_all_gates(model)
wrong = model.log_prob(everything).exp().sum()
assert abs(right - 1) < 1e-10
assert abs(wrong - 1) > 1e-4
print(f"sum over all {len(everything)} images: {right:.4f} and {wrong:.4f}")

# %% [markdown]
# With random weights the gates leak little, and only a strict tolerance notices. Training is what makes a leak
# large: it pays.

# %% [markdown]
# ## Eight bits
#
# With 256 levels a softmax does not know that 17 is next to 18, and has to learn it. The paper does so
# deliberately: no shape is ruled out, and no probability is spent outside of 0 to 255. A network before
# training knows nothing, so each level gets about $1/256$, and the score is about $\log_2 256 = 8$ bits a
# dimension, whatever the images. It is the first number to look at in a new model.

# %%
rows = []
noise = torch.randint(256, (8, 3, 8, 8), generator=generator).byte()
for kind, title in KINDS.items():
    torch.manual_seed(0)
    config = PixelRNNConfig(
        kind=kind, image_shape=(3, 8, 8), num_layers=2, hidden=16, head=32
    )
    fresh = PixelRNN(config)
    with torch.no_grad():
        bits = bits_per_dim(fresh.log_prob(noise), (3, 8, 8)).mean().item()
    assert abs(bits - 8) < 0.1
    rows.append([title, f"{bits:.1f}"])
figures.show_table(["fresh model", "bits/dim"], rows)

# %% [markdown]
# ## Summary
#
# * The chain rule over pixels and colours makes a model of images out of any network that keeps the order; it
#   is normalised by construction.
# * Scoring takes one pass, sampling as many steps as there are sub-pixels.
# * Mask A in the first layer, mask B in all others; the groups of colours must agree from layer to layer, and
#   for an LSTM gate by gate.
# * Perturb the input and watch the output: that finds leaks, and shows what is never seen.
# * A likelihood that is too good is a leak until shown otherwise.
#
# ## Exercises
#
# ```{exercise} Another order
# :label: ex-another-order
#
# Equation {eq}`eq:pixel-chain` holds for every order of the pixels. Make a model that goes through the image
# from the lower right to the upper left, with one line and no new masks. Is it the same distribution?
# ```
#
# ```{solution-start} ex-another-order
# :class: dropdown
# ```
# Turn the images by half a turn before they go in. It is a distribution, but another one: the same weights now
# predict each pixel from those after it. A network that could represent every conditional would reach the same
# likelihood in both orders; real ones differ.

# %%
model = tiny("pixelcnn", (1, 2, 3), levels=2)
p = model.log_prob(binary).exp()
backwards = model.log_prob(binary.flip(-1, -2)).exp()
assert abs(backwards.sum() - 1) < 1e-10
assert (p - backwards).abs().max() > 1e-3

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Normalise with care
# :label: ex-batch-norm
#
# Put a batch normalisation in training mode behind the first convolution. Which pixels does a pixel see now,
# and why? What about a layer norm over the channels of a pixel, with three colours?
# ```
#
# ```{solution-start} ex-batch-norm
# :class: dropdown
# ```
# All but the very last: the mean is taken over the whole map, and every pixel is in it that some feature reads.
# (Behind mask A none reads the last one.) A layer norm over channels stays within its pixel, but mixes the
# colours: red would learn of blue. Normalise within a pixel *and* a colour, or not at all.

# %%
torch.manual_seed(0)
first, *others = stack("AB")
norm = nn.BatchNorm2d(12, track_running_stats=False)
network = nn.Sequential(first, norm, *others)
shape = (1, 5, 5)
image = torch.randn(1, *shape)
jacobian = torch.autograd.functional.jacobian(network, image)
seen = jacobian[0, 0, 2, 2, 0, 0].abs() > 1e-12
assert seen.flatten()[:-1].all()
assert not seen[-1, -1]

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The size of what is seen
# :label: ex-count-seen
#
# How many pixels does a pixel see, far from the borders, through one convolution of side $2m + 1$ with mask A
# and $L - 1$ of 3 × 3 with mask B? Check it for the paper's 7 × 7.
# ```
#
# ```{solution-start} ex-count-seen
# :class: dropdown
# ```
# Left in its own row: $m + L - 1$. In row $d$ above it, for $d = 1, \dots, m + L - 1$: as many columns on the
# left, and on the right $m + L - 1$, but no more than the edge allows. That edge is at $d + m - 1$, if
# $d \ge 1$: one row for the first step, which takes $m$ columns at once, and one row for each further column.

# %%
SIDE, CENTRE = 21, (12, 10)
for m, num_layers in ((1, 3), (3, 1), (3, 3), (3, 5)):
    torch.manual_seed(0)
    first = MaskedConv2d(
        "A", torch.arange(1), colour_groups(12, 1), (2 * m + 1, 2 * m + 1)
    )
    rest = stack("B" * num_layers, features=12)[2:]  # without its first
    seen = sees(
        nn.Sequential(first, nn.Tanh(), *rest), (1, SIDE, SIDE), CENTRE
    )
    far = m + num_layers - 1
    rows = [far + 1 + min(far, d + m - 1) for d in range(1, far + 1)]
    assert seen.any(dim=0).sum() == far + sum(rows)

# %% [markdown]
# ```{solution-end}
# ```
