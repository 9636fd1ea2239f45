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
# How can a network that is no bijection say how probable an image is? Put the pixels in an order, predict each one
# from those before it, and multiply. The result is an exact probability, without noise or a bound. The network must
# not look ahead. After this chapter you can build the **masked convolution** that prevents this, train and sample
# from such networks, and detect one that looks ahead.
#
# ```{admonition} In the paper
# Sections 2 and 3.4 of {cite:t}`oord2016pixelrnn`: equations 1 and 2, figure 2, and what section 3.5 says of
# training and sampling.
# ```

# %% tags=["parameters", "remove-cell"]
profile = "laptop"

# %% tags=["hide-input"]
import itertools
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import figures
from nvp_book.figures import contexts, pixels
from nvp_book.figures.samples import plot_rows
from torch import nn

from nvp.autoregressive.masked_conv import MaskedConv2d, colour_groups
from nvp.ledger import runs

figures.use_style()
torch.set_num_threads(1)

# %% mystnb={"figure": {"caption": "Four images while they are sampled. A trained Diagonal BiLSTM ({doc}`11_diagonal_bilstm`) draws every pixel from its predicted distribution, from the upper left to the lower right. Blue pixels are not drawn yet.", "name": "fig-being-drawn"}, "image": {"alt": "Four rows of five small pictures, headed 0, 25, 50, 75 and 100% of the pixels. The first column is blue. In the others a handwritten digit appears from the top downwards, white on black; the last column shows four whole digits."}} tags=["hide-input"]
run = runs()["binarized-mnist-diagonal-7"]
generator = torch.Generator().manual_seed(1)
digits = 255 * run.load_model("cpu").sample(4, generator=generator)
shares = (0, 0.25, 0.5, 0.75, 1)
stages = torch.stack([pixels.undrawn(digits, share) for share in shares], 1)
plot_rows(
    {f"image {i + 1}": row for i, row in enumerate(stages)},
    titles=[f"{share:.0%}" for share in shares],
)
plt.show()

# %% [markdown]
# Of the first 25% of the pixels nearly all are black. From 50% on, the model finishes the digit that it has begun.
#
# ## The chain rule, over pixels and colours
#
# How do predictions of pixels give the probability of an image? Take its $n^2$ pixels row by row,
# each row from left to right: *raster order*. The chain rule is equation 1 of the paper:
#
# $$
# p(x) = \prod_{i=1}^{n^2} p(x_i \mid x_1, \dots, x_{i-1}).
# $$ (eq:pixel-chain)
#
# A pixel of a colour image is three numbers. The rule continues inside the pixel, red before green before blue
# (equation 2):
#
# $$
# p(x_i \mid x_{<i}) = {} & p(x_{i,R} \mid x_{<i})\; p(x_{i,G} \mid x_{<i}, x_{i,R}) \\
# & \times p(x_{i,B} \mid x_{<i}, x_{i,R}, x_{i,G}).
# $$ (eq:colours)

# %% mystnb={"figure": {"caption": "After figure 2 of {cite:t}`oord2016pixelrnn`, left. The context of a pixel is everything before it in raster order, blue here. Within the pixel, each colour also has the earlier colours as context.", "name": "fig-context"}, "image": {"alt": "A board of 7 by 7 pixels. All rows above the fourth and the pixels left of the middle of the fourth are blue; the pixel in the middle is orange. An arrow leads from it to three boxes, red, green and blue, one below the other, with the conditional probability of each."}} tags=["hide-input"]
contexts.plot_context(7, 7, (3, 3))
plt.show()

# %% [markdown]
# The pixel in the middle has 24 pixels as its context. Neither equation assumes anything. Is such a product a
# distribution? For two pixels, each black (0) or white (1), choose any two tables of conditional probabilities and
# multiply:

# %%
first = {0: 0.3, 1: 0.7}  # p(x1)
second = {0: {0: 0.8, 1: 0.2}, 1: {0: 0.1, 1: 0.9}}  # p(x2 | x1)
p = {(a, b): first[a] * second[a][b] for a in (0, 1) for b in (0, 1)}
for image, probability in p.items():
    print(image, f"{probability:.2f}")
assert abs(sum(p.values()) - 1) < 1e-12

# %% [markdown]
# The products sum to 1. Each row of the last pixel's table sums to 1, which leaves the sum over the
# first pixel. The same argument works for 3,072 sub-pixels, without a determinant or a partition
# function.
#
# ### Earlier models of this kind
#
# {cite:t}`frey1996wakesleep` predict each binary pixel by a logistic regression on the pixels before it,
# {cite:t}`bengio2000discrete` each discrete variable by a network. **NADE** {cite}`larochelle2011nade` has one hidden
# layer. All predictions share the weights into that layer, and each has output weights of its own. **MADE**
# {cite}`germain2015made` takes any autoencoder and sets weights to zero, so that output $i$ sees only inputs before
# $i$: one pass then gives all conditionals. None of the four knows which pixels are neighbours. Two-dimensional
# recurrent networks do ({doc}`11_diagonal_bilstm`). The paper makes such networks deep and fast, and predicts a
# distribution over integers instead of a density.
#
# ## A softmax, and the loss
#
# How does a network predict a sub-pixel? For each of the 256 levels it has one output, the level's
# **logit**, and a **softmax** turns these into probabilities. (In {doc}`05_integers_to_bits` the
# logit is a map of pixels.) Training minimises $-\log p(x)$, by the chain rule a sum of
# cross-entropies, one for each sub-pixel:


# %%
def nats(logits, images):
    """-log p(x): (N, levels, C, H, W) and integers (N, C, H, W) -> (N,)."""
    costs = F.cross_entropy(logits, images.long(), reduction="none")
    return costs.flatten(1).sum(1)


generator = torch.Generator().manual_seed(0)
images = torch.randint(256, (2, 3, 8, 8), generator=generator)
untrained = torch.zeros(2, 256, 3, 8, 8)  # all levels alike
bits = nats(untrained, images) / (3 * 8 * 8 * math.log(2))
assert torch.allclose(bits, torch.full((2,), 8.0))

# %% [markdown]
# A network that knows nothing gives each level $1/256$, which costs 8 bits a dimension. Look at this number first in
# a new model.
#
# The softmax must learn that level 17 lies next to level 18. In return it can have several peaks,
# and puts no probability outside 0 to 255. Its bits per dimension may be compared with those of a
# flow: the probability of an integer $v$ is also a density, constant over $[v, v + 1)$
# ({doc}`05_integers_to_bits`).
#
# ## Masks
#
# How do we keep a convolution from looking ahead? Section 3.4 sets weights to zero. A *tap* is one place of the
# kernel, whose centre lies on the predicted pixel. Taps below the centre, and right of it in its row, would read
# later pixels, so they are zero. Whether the centre is zero depends on the colours. Split the maps (channels) of every
# layer into three groups, one for each colour. The green group serves the prediction of green, so it may know only the
# red of its own pixel. Under **mask A** an output map reads, at the centre, only the colours *before* its own. Under
# **mask B** it also reads its *own*: behind a mask A, green maps do not know the green of their pixel.
#
# | tap | mask A | mask B |
# |:--|:-:|:-:|
# | rows above the centre | all colours | all colours |
# | centre row, left | all colours | all colours |
# | the centre | earlier colours | earlier colours and its own |
# | centre row, right; rows below | none | none |
#
# Mask A is for the first layer, of 7 × 7 in the paper, and mask B for all others. In the class below, the maps belong
# to red, green and blue in turn, in every layer alike:


# %%
class MaskedConv(nn.Conv2d):
    """Mask A or B: (N, inputs, H, W) -> (N, outputs, H, W)."""

    def __init__(self, mask, inputs, outputs, size, colours=1):
        super().__init__(inputs, outputs, size, padding="same")
        read = torch.arange(inputs) % colours  # R, G, B, R, G, B, ...
        own = torch.arange(outputs)[:, None] % colours
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
# With the same weights it equals the package's layer:

# %%
theirs = MaskedConv2d("B", colour_groups(8, 3), colour_groups(10, 3), (5, 5))
mine = MaskedConv("B", 8, 10, 5, colours=3)
mine.load_state_dict(theirs.state_dict())
x = torch.randn(2, 8, 7, 7, generator=generator)
assert torch.allclose(mine(x), theirs(x), atol=1e-6)

# %% [markdown]
# The paper multiplies the weights by the mask after each update. Here the mask multiplies them at every use, with the
# same result; the gradient of a forbidden weight is 0.
#
# ````{dropdown} The package's version
# It takes the colour of every map as an argument.
#
# ```{literalinclude} ../nvp/autoregressive/masked_conv.py
# :pyobject: conv_mask
# ```
#
# ```{literalinclude} ../nvp/autoregressive/masked_conv.py
# :pyobject: MaskedConv2d
# ```
# ````

# %% mystnb={"figure": {"caption": "The masks that the layer computes for kernels of 5 × 5: a row for each output colour, a column for each colour that it reads. Painted taps are used; the centre is framed.", "name": "fig-mask-taps"}, "image": {"alt": "Two tables of three by three small boards. In every board the two upper rows and the left half of the middle row are painted. The centre is painted below the diagonal of the table in both, and on the diagonal only under mask B."}} tags=["hide-input"]
masks = {f"mask {m}": MaskedConv(m, 3, 3, 5, colours=3).mask for m in "AB"}
contexts.plot_masks(masks)
plt.show()

# %% tags=["hide-input"]
centres = {name: mask[:, :, 2, 2] for name, mask in masks.items()}
assert torch.equal(centres["mask A"], torch.ones(3, 3).tril(-1))
assert torch.equal(centres["mask B"], torch.ones(3, 3).tril())

# %% [markdown]
# The two masks differ only in the three centres on the diagonal. Seen as a 3 × 3 matrix over colours, the centre of
# mask B is lower triangular and that of mask A strictly so. A product of lower-triangular matrices is lower
# triangular, strictly so if one factor is. So one mask A followed by any number of masks B never lets a colour see
# itself.

# %% mystnb={"figure": {"caption": "After figure 2 of {cite:t}`oord2016pixelrnn`, right. Connections between the colours of one pixel, upwards: mask A in the first layer, mask B in all others. Every map may also read all colours of earlier pixels.", "name": "fig-connections"}, "image": {"alt": "Three rows of boxes, red, green and blue, the image at the bottom, two layers above it. Mask A: from red to green and blue, from green to blue. Mask B: the same arrows, and one from each colour to itself. From the box of earlier pixels arrows lead to all three colours."}} tags=["hide-input"]
contexts.plot_connections(list(centres.items()))
plt.show()

# %% [markdown]
# Mask A has three arrows; mask B has six, since each colour also reads itself.
#
# ## Trained in parallel, sampled in sequence
#
# Must training go pixel by pixel? Three masked convolutions are a model, here for colour images of
# four levels, with random weights:

# %%
torch.manual_seed(0)
levels, colours = 4, 3
network = nn.Sequential(
    MaskedConv("A", colours, 12, 5, colours),
    nn.Tanh(),
    MaskedConv("B", 12, 12, 3, colours),
    nn.Tanh(),
    MaskedConv("B", 12, levels * colours, 1, colours),
)


def predict(images):
    """Logits of all sub-pixels: (N, C, H, W) -> (N, levels, C, H, W)."""
    centred = 2 * images / (levels - 1) - 1
    return network(centred).unflatten(1, (levels, colours))


# %% [markdown]
# When we **score** an image, all of it is known, so one forward pass gives all $D$ conditionals. Training is as
# parallel, since every prediction is told the true earlier pixels (*teacher forcing*). Is that the chain rule?
# Compute the factors one at a time, with random levels in place of the predicted sub-pixel and all later ones:


# %%
def in_order(shape):
    """(row, column, colour) of the sub-pixels, first to last."""
    channels, height, width = shape
    return itertools.product(range(height), range(width), range(channels))


def nats_in_sequence(predict, images):
    """Equations 1 and 2, factor by factor: (N, C, H, W) -> (N,)."""
    known = torch.randint_like(images, levels)  # nothing so far
    total = torch.zeros(len(images))
    for row, column, colour in in_order(images.shape[1:]):
        logits = predict(known)[:, :, colour, row, column]
        truth = images[:, colour, row, column]
        total += F.cross_entropy(logits, truth, reduction="none")
        known[:, colour, row, column] = truth
    return total


images = torch.randint(levels, (2, colours, 4, 5), generator=generator)
with torch.no_grad():
    parallel = nats(predict(images), images)
    sequence = nats_in_sequence(predict, images)
assert torch.allclose(parallel, sequence)

# %% [markdown]
# Both ways agree, since no prediction reads the random levels. **Sampling** must take the second
# way: a sub-pixel must be drawn before the next is conditioned on it. (A *temperature* $T$ divides
# the logits before the softmax.) Started at a later row, the same loop **completes** an image:


# %%
@torch.no_grad()
def sample(predict, images, first_row=0):
    """Draw every sub-pixel from `first_row` on; the rows above are given."""
    images = images.clone()
    for row, column, colour in in_order(images.shape[1:]):
        if row >= first_row:
            logits = predict(images)[:, :, colour, row, column]
            drawn = torch.multinomial(logits.softmax(1), 1)[:, 0]
            images[:, colour, row, column] = drawn
    return images


drawn = sample(predict, images, first_row=2)
assert torch.equal(drawn[:, :, :2], images[:, :, :2])

# %% [markdown]
# A sample takes 784 passes for MNIST, 3,072 for CIFAR-10 and 12,288 for ImageNet 64 × 64. Real NVP takes one. Each
# pass predicts every sub-pixel and uses one prediction; {ref}`fast-scans` computes only that one, in as many steps.
#
# ## Ask the network what a pixel sees
#
# One wrong line of code defeats a mask. So test the network: change *one* sub-pixel of the input and see which
# outputs move. The inputs that move an output are its **receptive field**. One batch does it for all sub-pixels:


# %%
def sees(network, shape, place):
    """Inputs that move the outputs at `place`: bool, (outputs, C, H, W)."""
    size = math.prod(shape)
    base = torch.randn(1, *shape, generator=torch.Generator().manual_seed(3))
    changed = base + torch.eye(size).reshape(size, *shape)
    with torch.no_grad():
        moved = network(changed.double()) - network(base.double())
    return (moved[:, :, *place].abs() > 1e-12).T.reshape(-1, *shape)


def stack(masks, side=3, maps=12, colours=1):
    """Convolutions with these masks, tanh between them."""
    torch.manual_seed(0)
    sizes = itertools.pairwise([colours] + [maps] * len(masks))
    layers = []
    for mask, (inputs, outputs) in zip(masks, sizes, strict=True):
        conv = MaskedConv(mask, inputs, outputs, side, colours)
        layers += [conv, nn.Tanh()]
    return nn.Sequential(*layers[:-1]).double()


# %% mystnb={"figure": {"caption": "What one pixel sees through one, two and three masked convolutions of 3 × 3, found by changing every pixel in turn. Blue pixels move the output; grey ones come earlier but do not.", "name": "fig-depth"}, "image": {"alt": "Three boards of 13 by 13. The blue region grows from the four earlier neighbours to three rows above and three pixels on the left. In the top row it reaches up to three columns right. Pixels to the upper right beyond the diagonal stay grey."}} tags=["hide-input"]
SIDE, CENTRE = 13, (9, 6)


def field(masks):
    """The receptive field of a grey stack: bool, (SIDE, SIDE)."""
    return sees(stack(masks), (1, SIDE, SIDE), CENTRE).any(dim=0)[0]


fields = {
    "1 layer: A": field("A"),
    "2 layers: A, B": field("AB"),
    "3 layers: A, B, B": field("ABB"),
}
contexts.plot_fields(fields, CENTRE)
plt.show()

# %%
pixel = CENTRE[0] * SIDE + CENTRE[1]
earlier = torch.arange(SIDE**2).reshape(SIDE, SIDE) < pixel
assert not any((seen & ~earlier).any() for seen in fields.values())
print("pixels seen:", *(int(seen.sum()) for seen in fields.values()))

# %% [markdown]
# No later pixel moves anything. But not every earlier pixel does: three layers see 21 of 123. Each layer adds a row
# above and a column on the left. A kernel reads to the right only in rows above, so each step to the right costs a step
# up. Pixels below a diagonal stay hidden at any depth. {doc}`12_pixelcnn` measures this *blind spot*.
#
# ### Why mask A, and why only once
#
# Behind mask A the maps at a pixel know only what came *before* it. So later layers may read their own centre, which
# is mask B. Other combinations fail, in opposite ways:

# %% mystnb={"figure": {"caption": "Three layers each. A, B, B is right. With B first, the pixel sees itself. With A throughout, nothing leaks, but near pixels are lost.", "name": "fig-wrong-masks"}, "image": {"alt": "Three boards. A, B, B: the earlier pixels of the last figure. B, B, B: the pixel itself is marked as a leak. A, A, A: no leak, but of the pixels on the left only the third is blue; the two nearest are grey, as is the pixel directly above."}} tags=["hide-input"]
fields = {", ".join(masks): field(masks) for masks in ("ABB", "BBB", "AAA")}
contexts.plot_fields(fields, CENTRE)
plt.show()

# %% tags=["remove-cell"]
row, column = CENTRE
assert fields["B, B, B"][CENTRE]
nearest = fields["A, A, A"][row, column - 3 : column]
assert nearest.tolist() == [True, False, False]
assert not fields["A, A, A"][row - 1, column]
reached = [fields[masks].sum().item() for masks in ("A, B, B", "A, A, A")]
assert reached == [21, 16]

# %% [markdown]
# Under A, A, A five of the 21 pixels are lost, among them the two nearest on the left and the one directly above. A
# shortcut around the mask A convolution would be as wrong as B, B, B, so residual connections start after it.
#
# Within a pixel, the table shows which of its own colours each output saw through A, B, B:

# %% tags=["hide-input"]
seen = sees(stack("ABB", colours=3), (3, 5, 5), (2, 2))[:3, :, 2, 2]
rows = [
    [name, *("yes" if s else "–" for s in seen[i].tolist())]
    for i, name in enumerate(["red", "green", "blue"])
]
figures.show_table(["output", "own red", "own green", "own blue"], rows)
assert torch.equal(seen, torch.ones(3, 3).tril(-1).bool())

# %% [markdown]
# ## A leak looks like success
#
# A **leak** is a path from a sub-pixel to its own prediction, or to an earlier one. It raises no error, and can lower
# the loss. Train two networks, A, B, B and B, B, B, on fair coins: images of 6 × 6 pixels, each 0 or 1. No model can
# expect less than $36 \ln 2 = 24.95$ nats, the entropy of the coins:


# %%
def learn_coins(layers, steps=60):
    """A network trained on new coins in every step, and its loss in nats."""
    head = MaskedConv("B", 12, 2, 1)  # two logits for the two levels
    model = nn.Sequential(layers, nn.Tanh(), head)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        coins = torch.randint(2, (32, 1, 6, 6))
        logits = model(2.0 * coins - 1).unflatten(1, (2, 1))
        loss = nats(logits, coins).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return model, losses


entropy = 36 * math.log(2)
trained = {
    ", ".join(masks): learn_coins(stack(masks).float())
    for masks in ("ABB", "BBB")
}
curves = {masks: losses for masks, (_, losses) in trained.items()}
assert max(curves["B, B, B"][20:]) < 1
assert entropy - 0.5 < min(curves["A, B, B"])
assert max(curves["A, B, B"][20:]) < entropy + 0.5

# %% mystnb={"figure": {"caption": "Two networks learn fair coins, 36 an image, new ones in every step. The loss of B, B, B, whose first mask lets each pixel see itself, falls below the entropy.", "name": "fig-coins"}, "image": {"alt": "Nats per image over 60 steps. The curve of A, B, B stays on the dotted line of the entropy, at 25. The curve of B, B, B starts there and falls to nearly zero."}} tags=["hide-input"]
contexts.plot_nats(curves, {"entropy of the coins": entropy})
plt.show()

# %% [markdown]
# Within 20 steps the leaking network is below 1 nat. If it defined a distribution, the
# probabilities of all 64 images of 2 × 3 pixels would sum to 1:

# %%
everything = torch.tensor(list(itertools.product((0, 1), repeat=6)))
everything = everything.reshape(-1, 1, 2, 3)
for masks, (model, _) in trained.items():
    with torch.no_grad():
        logits = model(2.0 * everything - 1).unflatten(1, (2, 1))
    total = (-nats(logits, everything)).exp().sum().item()
    print(f"{masks}: the probabilities sum to {total:.0f}")
    assert (abs(total - 1) < 1e-4) == (masks == "A, B, B")

# %% tags=["remove-cell"]
logits = stack("BBB", maps=2)(2.0 * everything.double() - 1)
costs = nats(logits.unflatten(1, (2, 1)), everything)
assert 1e-4 < abs((-costs).exp().sum() - 1) < 0.1

# %% [markdown]
# The leaking network is sure of every one of the 64 images. Two tests need no data: change the input and watch the
# output; sum over all small images. (Print many digits: the sum of an untrained leaking network is close to 1.) A third
# compares with published scores: distrust a likelihood that is *too good*.
#
# ## Summary
#
# * The chain rule over pixels and colours makes a distribution out of any network that keeps the order.
# * The loss is a sum of cross-entropies. Scoring takes one pass; sampling takes as many as there are sub-pixels.
# * Mask A stands in the first layer, mask B in all others.
# * A leak raises no error and can lower the loss. Perturb the input to find leaks and pixels that are never seen; on
#   tiny images, sum all probabilities.
#
# ## Exercises
#
# ```{exercise} A masked convolution without a mask
# :label: ex-shifted-conv
#
# About half of the products of a masked convolution are with zero. For one colour, build
# mask A of side $2m + 1$ from two ordinary convolutions. One, of $m \times (2m + 1)$, reads the
# rows above. The other, of $1 \times m$, reads the pixels on the left. Pad the input so that each
# sees what it should. Fill in `forward`; `sees` must find the same pixels as for
# `MaskedConv("A", …)`. (It computes in float64, so call `.double()` on your layer.) Then train it,
# with 12 outputs, by `learn_coins`. Does the loss fall below the entropy?
#
#     class ShiftedConv(nn.Module):
#         def __init__(self, inputs, outputs, m):
#             super().__init__()
#             self.above = nn.Conv2d(inputs, outputs, (m, 2 * m + 1))
#             self.left = nn.Conv2d(inputs, outputs, (1, m))
#             self.m = m
# ```
#
# ```{solution-start} ex-shifted-conv
# :class: dropdown
# ```
# For the rows above, pad $m$ rows at the top and $m$ columns at both sides, and drop the last row of the output. For
# the pixels on the left, pad $m$ columns there, and drop the last column. The loss falls to the entropy and stays
# there.


# %%
class ShiftedConv(nn.Module):
    def __init__(self, inputs, outputs, m):
        super().__init__()
        self.above = nn.Conv2d(inputs, outputs, (m, 2 * m + 1))
        self.left = nn.Conv2d(inputs, outputs, (1, m))
        self.m = m

    def forward(self, x):
        above = self.above(F.pad(x, (self.m, self.m, self.m, 0)))[:, :, :-1]
        left = self.left(F.pad(x, (self.m, 0, 0, 0)))[:, :, :, :-1]
        return above + left


for m in (1, 2, 3):
    shifted = ShiftedConv(1, 4, m).double()
    masked = MaskedConv("A", 1, 4, 2 * m + 1).double()
    one, other = (sees(c, (1, 9, 9), (5, 4)) for c in (shifted, masked))
    assert torch.equal(one, other)

torch.manual_seed(0)
_, losses = learn_coins(ShiftedConv(1, 12, 2))
assert entropy - 0.5 < min(losses)
assert max(losses[-10:]) < entropy + 0.5

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Another order
# :label: ex-another-order
#
# Equation {eq}`eq:pixel-chain` holds for every order of the pixels. Turn a model into one that goes through the
# image from the lower right to the upper left, with one line and no new masks. `sees` must find only later pixels. Is
# it the same distribution?
# ```
#
# ```{solution-start} ex-another-order
# :class: dropdown
# ```
# Turn the images by half a turn before they go in, and the logits when they come out. The result is a distribution,
# but another one: the same weights now predict each pixel from those after it.

# %%
model = stack("ABB", maps=2)


def turned(x):
    return model(x.flip(-1, -2)).flip(-1, -2)


def probability(network):
    logits = network(2.0 * everything.double() - 1).unflatten(1, (2, 1))
    return (-nats(logits, everything)).exp()


backwards = probability(turned)
assert abs(backwards.sum() - 1) < 1e-10
assert (probability(model) - backwards).abs().max() > 1e-4
later = sees(turned, (1, 5, 5), (2, 2)).any(dim=0).flatten()
assert later.nonzero().min() == 13  # the first one on the right of place 12

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Normalise with care
# :label: ex-batch-norm
#
# Put a batch normalisation in training mode after the first convolution. Which pixels does a pixel see now, and
# why? What does a layer norm over the channels of a pixel do to three colours?
# ```
#
# ```{solution-start} ex-batch-norm
# :class: dropdown
# ```
# It sees all pixels except the very last, of *every image in the batch*. The mean of a channel is taken over all
# places of all images, so it depends on every pixel that the first convolution reads. Under mask A no place reads the
# last pixel. A layer norm over channels stays within its pixel but mixes the colours. Red would learn of its own red
# and green, and green of its own green. (No map after mask A reads its own blue.) Normalise within a pixel *and* a
# colour, or not at all.

# %%
first, *others = stack("AB")
norm = nn.BatchNorm2d(12, track_running_stats=False).double()
normed = nn.Sequential(first, norm, *others)
x = torch.randn(2, 1, 5, 5, dtype=torch.float64)
jacobian = torch.autograd.functional.jacobian(normed, x)
for seen in jacobian[0, 0, 2, 2].abs().squeeze(1) > 1e-12:
    assert seen.flatten()[:-1].all()
    assert not seen[-1, -1]


class ChannelNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


first, *others = stack("AB", colours=3)
mixed = nn.Sequential(first, ChannelNorm(12).double(), *others)
own = sees(mixed, (3, 5, 5), (2, 2))[:3, :, 2, 2]  # of red, green, blue
assert own[:, :2].all()
assert not own[:, 2].any()

# %% [markdown]
# ```{solution-end}
# ```
