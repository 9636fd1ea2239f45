# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (two-scales)=
# # Two scales
#
# A Pixel RNN begins in the upper left corner, before it knows what it is going to draw. A painter begins with a sketch.
# The **multi-scale Pixel RNN** does so, too: one network draws a small image, a second one draws the large image around
# it. After this chapter you can condition any Pixel RNN on another image, train the pair, and say what its likelihood
# means.
#
# ```{admonition} In the paper
# Section 3.6 of {cite:t}`oord2016pixelrnn`, and figure 2 (middle).
# ```

# %% tags=["parameters"]
profile = "laptop"

# %% tags=["hide-input"]
import itertools
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import figures
from nvp_book.figures import layers, pixels
from nvp_book.figures.samples import plot_rows
from torch import nn

from nvp import MultiScaleConfig, MultiScalePixelRNN
from nvp.data import EMBEDDED, load

figures.use_style()
torch.set_num_threads(1)

# %% [markdown]
# ## The sketch comes first
#
# How is the sketch made? Take every fourth row and column of the image's $n \times n$ pixels. These
# pixels, the *grid*, form the **small image** $s$. One Pixel RNN models $s$. Another models the
# large image *given* $s$:
#
# $$
# p(x, s) &= p(s)\; p(x \mid s), \\
# p(x \mid s) &= \prod_{i=1}^{n^2} p(x_i \mid x_{<i}, s).
# $$ (eq:two-scales)
#
# Our data are the embedded images of Fashion-MNIST {cite}`xiao2017fashion` with eight grey levels. The small
# image has 7 × 7 pixels.


# %%
def eight_levels(split):
    """28 x 28 pixels of 8 levels: integers, (N, 1, 28, 28)."""
    return load(EMBEDDED, split).images.long() // 32


def shrink(x, factor=4):
    """Every `factor`-th row and column: the small image."""
    return x[:, :, ::factor, ::factor]


images, test = eight_levels("train"), eight_levels("test")[:200]


# %% mystnb={"figure": {"caption": "Test images and their small images, each pixel of which is enlarged to 4 × 4.", "name": "fig-small-images"}, "image": {"alt": "Two rows of eight grey images. Above: a boot, a pullover, trousers and other garments. Below: the same as 7 by 7 blocks, in which trousers and tops can still be told apart."}} tags=["hide-input"]
def grey(images):
    """Levels as they are shown."""
    return (images * 255 // 7).byte()


def blocks(small, side=28):
    """A small image, as large as the large one."""
    times = side // small.shape[2]
    return small.repeat_interleave(times, 2).repeat_interleave(times, 3)


plot_rows({"image": grey(test[:8]), "small": grey(blocks(shrink(test[:8])))})
plt.show()

# %% [markdown]
# The small image still says where the garment is and, roughly, what it is.
#
# ## Conditioning on an image
#
# How does the second network read $s$? All of $s$ comes first, so no mask is needed. The paper
# enlarges $s$ to a map of $c$ features and $n \times n$ places by a convolutional network with
# *deconvolutions* (transposed convolutions). For each layer a 1 × 1 convolution of this map is
# **added to the layer's own map**: in the LSTMs to the input-to-state map.

# %% mystnb={"figure": {"caption": "The conditional network. The small image is known before the first pixel, so nothing in the upper path is masked.", "name": "fig-told"}, "image": {"alt": "Above, from left to right: the small image s; convolutions without a mask; deconvolutions, each of which doubles the side; c maps of n by n. From there an arrow through a 1 by 1 convolution leads down into each of the layers 1 to L. Below: the image x, a 7 by 7 convolution with mask A, and the layers."}} tags=["hide-input"]
layers.plot_conditioning()
plt.show()

# %% [markdown]
# The small image enters at each of the $L$ layers, and nowhere else. Section 3.6 gives neither $c$ nor the number of
# deconvolutions. Here each one doubles the side. With deconvolutions alone a pixel knows only the near part of the
# small image. So we put two convolutions of 7 × 7 before them. Together they reach six pixels in each direction, which
# is all of a 7 × 7 image from any corner:


# %%
class Upsampler(nn.Module):
    """Small (N, C, h, w) -> one map (N, maps, H, W) for each layer."""

    def __init__(self, colours, factor, maps, num_layers, width=16, wide=2):
        super().__init__()
        body, features = [], colours
        for _ in range(wide):  # to see the whole small image
            conv = nn.Conv2d(features, width, 7, padding="same")
            body, features = [*body, conv, nn.ReLU()], width
        while factor > 1:  # twice the height and width
            conv = nn.ConvTranspose2d(features, width, 4, stride=2, padding=1)
            body, features = [*body, conv, nn.ReLU()], width
            factor //= 2
        self.body = nn.Sequential(*body)
        self.biases = nn.ModuleList(
            nn.Conv2d(width, maps, 1) for _ in range(num_layers)
        )

    def forward(self, small):
        features = self.body(small)
        return [bias(features) for bias in self.biases]


# %% [markdown]
# The layers of {doc}`12_pixelcnn` take the map as one more argument. The paper conditions LSTMs only. In the PixelCNN
# we add the map after the 3 × 3 convolution. A `RowLSTM` takes $4h$ maps for each layer, a `DiagonalBiLSTM` $4h$ for
# each direction, mirrored for the second.


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


# %%
class PixelCNN(nn.Module):
    """A layer of it: (N, features, H, W) -> (N, h, H, W), all at once."""

    def __init__(self, features, h, shape, k=3):
        super().__init__()
        self.reduce = MaskedConv("B", features, h, 1, shape[0])
        self.conv = MaskedConv("B", h, h, k, shape[0])

    def forward(self, x, bias=0):
        y = self.reduce(F.relu(x))
        return F.relu(self.conv(F.relu(y)) + bias)


def centred(images, levels):
    """Levels as numbers from -1 to 1."""
    return 2 * images / (levels - 1) - 1


class PixelRNN(nn.Module):
    """Integers (N, C, H, W) -> logits (N, levels, C, H, W)."""

    def __init__(self, layer, shape, levels=256, depth=3, h=16, head=32):
        super().__init__()
        C, self.levels, self.shape = shape[0], levels, shape

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

    def forward(self, images, biases=None):
        x, to_head = self.first(centred(images, self.levels)), 0
        biases = biases or [0] * len(self.layers)
        parts = zip(self.layers, self.up, self.skip, biases, strict=True)
        for layer, up, skip, bias in parts:
            y = layer(x, bias)  # the bias is new
            x, to_head = x + up(y), to_head + skip(y)
        return self.head(x + to_head).unflatten(1, (self.levels, -1))


# %% [markdown]
# ## The pair
#
# How is a pair trained? It has two costs, $-\log p(s)$ and $-\log p(x \mid s)$. The second network
# is told the true small image, like the true earlier pixels (teacher forcing). To sample, draw $s$
# and then $x$. By {prf:ref}`prop-pixelcnn-field` a pixel sees $L + 3$ rows above its own, so
# `predict` computes no others:


# %%
def nats(logits, images):
    """-log p of every sub-pixel, (N, C, H, W)."""
    return F.cross_entropy(logits, images, reduction="none")


def predict(model, images, row, column, biases=None):
    """Probabilities of the levels of one pixel, from what it sees."""
    top = max(0, row - 3 - len(model.layers))
    maps = biases and [bias[:, :, top : row + 1] for bias in biases]
    logits = model(images[:, :, top : row + 1], maps)
    return logits[:, :, 0, -1, column].softmax(dim=1)


@torch.no_grad()
def sample(model, count, biases=None):
    """Draw every pixel, for images of one colour."""
    images = torch.zeros(count, *model.shape, dtype=torch.long)
    _, height, width = model.shape
    for row, column in itertools.product(range(height), range(width)):
        p = predict(model, images, row, column, biases)
        images[:, 0, row, column] = torch.multinomial(p, 1)[:, 0]
    return images


class TwoScales(nn.Module):
    """p(s) p(x | s), for s every `factor`-th row and column of x."""

    def __init__(self, shape, factor, levels, depth=3, h=16, **upsampler):
        super().__init__()
        C, height, width = shape
        small = C, height // factor, width // factor
        self.factor, self.levels = factor, levels
        self.small = PixelRNN(PixelCNN, small, levels, depth, h)
        self.large = PixelRNN(PixelCNN, shape, levels, depth, h)
        self.upsampler = Upsampler(C, factor, h, depth, **upsampler)

    def told(self, s):
        """The maps that the large network is given."""
        return self.upsampler(centred(s, self.levels))

    def forward(self, x):
        """The two costs: nats of s and of x given s, by pixel."""
        s = shrink(x, self.factor)
        return nats(self.small(s), s), nats(self.large(x, self.told(s)), x)

    def sample(self, count):
        """Small images, and large ones."""
        s = sample(self.small, count)
        return s, sample(self.large, count, self.told(s))


# %% [markdown]
# With the package's weights copied over, both costs agree:

# %% tags=["hide-input"]


def copy_weights(mine, theirs):
    """Give a PixelRNN of one colour the weights of the package's."""
    pairs = [(mine.first, theirs.first)]
    pairs += zip(mine.head[1::2], theirs.head.convs, strict=True)
    parts = zip(mine.layers, mine.up, mine.skip, theirs.layers, strict=True)
    for core, up, skip, layer in parts:
        pairs += [(core, layer.core), (up, layer.up), (skip, layer.skip)]
    for one, other in pairs:
        one.load_state_dict(other.state_dict())


# %%
sizes = {"kind": "pixelcnn", "levels": 5, "num_layers": 3, "hidden": 8}
theirs = MultiScalePixelRNN(
    MultiScaleConfig(
        small={**sizes, "image_shape": (1, 7, 7)},
        large={**sizes, "image_shape": (1, 28, 28)},
        width=6,
    )
)
mine = TwoScales((1, 28, 28), factor=4, levels=5, h=8, width=6)
copy_weights(mine.small, theirs.small)
copy_weights(mine.large, theirs.large)
mine.upsampler.load_state_dict(theirs.upsampler.state_dict())

x = torch.randint(5, (2, 1, 28, 28))
of_s, of_x = (cost.flatten(1).sum(1) for cost in mine(x))
assert torch.allclose(-(of_s + of_x), theirs.log_prob(x.byte()), rtol=1e-4)

# %% [markdown]
# ````{dropdown} The package's version
# ```{literalinclude} ../nvp/autoregressive/multiscale.py
# :pyobject: Upsampler
# ```
#
# ```{literalinclude} ../nvp/autoregressive/multiscale.py
# :pyobject: MultiScalePixelRNN._log_probs
# :dedent: 4
# ```
# ````
#
# Is the whole small image seen? Differentiate one prediction with respect to both images:


# %% mystnb={"figure": {"caption": "After figure 2 of {cite:t}`oord2016pixelrnn`, middle: what the prediction of one pixel depends on, by differentiation. Circles are the pixels of the small image, at their places in the large one. The three layers of PixelCNN see six rows above the pixel.", "name": "fig-two-scales"}, "image": {"alt": "Two boards of 28 by 28 with a pixel near the middle; blue, a region of its own row and the six above. Circles on a regular grid, every fourth row and column. On the left only the nine circles nearest to the pixel are orange, on the right all of them."}} tags=["hide-input"]
def seen(model, place):
    """What the prediction at `place` sees of x and of s: bools."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(8, (8, 1, 28, 28), generator=generator).float()
    s = centred(shrink(x), 8).requires_grad_()
    x.requires_grad_()
    out = model.large(x, model.upsampler(s))[:, :, 0, *place]
    total = (out * torch.randn(8, 8, generator=generator)).sum()
    by_x, by_s = torch.autograd.grad(total, (x, s))
    return [(g != 0).any(dim=0)[0] for g in (by_x, by_s)]


place = (13, 14)
of_small = {}
for title, wide in {
    "deconvolutions alone": 0,
    "two convolutions before them": 2,
}.items():
    torch.manual_seed(0)
    model = TwoScales((1, 28, 28), factor=4, levels=8, wide=wide)
    of_large, of_small[title] = seen(model, place)
    print(f"{title}, {int(of_small[title].sum())} of 49 pixels are seen")
assert of_small["two convolutions before them"].all()
pixels.plot_two_scales(of_large, of_small, 4, place)
plt.show()

# %% tags=["remove-cell"]
first, last = (seen(model, at)[1] for at in ((0, 0), (27, 27)))
assert first.all()
assert last.all()
assert not of_large[place[0], place[1] :].any()  # the order holds
assert not of_large[place[0] + 1 :].any()
reached = of_large.any(dim=1).nonzero().flatten().tolist()
assert reached == list(range(place[0] - 6, place[0] + 1))
with torch.no_grad():
    maps = model.told(shrink(test[:2]))
    whole = model.large(test[:2], maps)[:, :, 0, *place].softmax(dim=1)
    shown = predict(model.large, test[:2], *place, maps)
assert torch.allclose(shown, whole, atol=1e-6)

# %% [markdown]
# With deconvolutions alone this pixel sees nine of the 49. With the convolutions before them every pixel sees all.
#
# ## What the number means
#
# The pair's cost is $-\log p(s) - \log p(x \mid s)$. Is that $-\log p(x)$?
#
# ```{prf:proposition} The likelihood of a pair
# :label: prop-pair
#
# Let $s(x)$ be the small image of $x$. Then $\log p(s(x)) + \log p(x \mid s(x))$ $\le \log p(x)$, where $p(x)$ is the
# probability that the model draws $x$. The two are equal exactly when $p(x \mid s') = 0$ for every other $s'$ that the
# small network can draw.
# ```
#
# ```{prf:proof}
# The model draws $x$ by way of any small image, so $p(x) = \sum_{s'} p(s')\, p(x \mid s')$. The pair's probability is
# one term of this sum, and no term is negative. So the sum is at least this term, and equals it exactly when $p(s')\,
# p(x \mid s') = 0$ for every other $s'$. Where $p(s') > 0$, that means $p(x \mid s') = 0$. The logarithm keeps the
# order.
# ```
#
# So the pair's cost is an upper bound on the cost of $x$. The bound has a gap because our large network draws *all*
# pixels again, and need not repeat what it was told. {ref}`ex-copy-the-grid` makes the bound exact.
#
# ## Plain against two scales
#
# What does the small image add? Train one PixelCNN of three layers, and a pair. (Steps on 7 × 7
# pixels are cheap: the small network gets three times as many.) Three layers see six rows above a
# pixel, few on purpose.


# %%
def train(model, cost, images, steps, rate=0.01, batch=8):
    """Minimise `cost`, a function from images to nats, by Adam."""
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), rate, fused=True)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0, steps)
    for _ in range(steps):
        some = images[torch.randint(len(images), (batch,))]
        optimiser.zero_grad()
        (cost(some) / batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 100)
        optimiser.step()
        decay.step()


torch.manual_seed(0)
plain = PixelRNN(PixelCNN, (1, 28, 28), levels=8)
pair = TwoScales((1, 28, 28), factor=4, levels=8)
steps = 3000 if profile == "paper" else 140
train(plain, lambda x: nats(plain(x), x).sum(), images, steps)
grids = shrink(images, pair.factor)
train(pair.small, lambda s: nats(pair.small(s), s).sum(), grids, 3 * steps)
train(pair, lambda x: pair(x)[1].sum(), images, steps)

# %%
with torch.no_grad():
    of_plain = nats(plain(test), test).sum() / len(test)
    of_s, of_x = pair(test)
    of_grid = shrink(of_x, pair.factor).sum() / len(test)
    of_others = of_x.sum() / len(test) - of_grid
    of_s = of_s.sum() / len(test)

# %% mystnb={"figure": {"caption": "Nats for a test image, on average. The pair pays for the pixels of the grid twice: once in the small image, and once more in the large one.", "name": "fig-two-scales-nats"}, "image": {"alt": "Two horizontal bars. One PixelCNN: a single part of about 540 nats. Two scales: about 590 in all, of which about 45 for the small image, about 30 for the grid again and about 510 for all other pixels."}} tags=["hide-input"]
bills = {
    "one PixelCNN": {"all pixels": of_plain.item()},
    "two scales": {
        "small image": of_s.item(),
        "its pixels again": of_grid.item(),
        "all others": of_others.item(),
    },
}
pixels.plot_bills(bills)
plt.show()

# %% tags=["remove-cell"]
total = of_s + of_grid + of_others
least = 0.95 if profile == "paper" else 1.0  # long training evens it out
assert least < total / of_plain < 1.1
assert of_s + of_others < 1.05 * of_plain
assert profile == "paper" or of_s + of_others > 0.95 * of_plain
assert profile == "paper" or of_grid > (total - of_plain) / 2
assert of_grid < 0.8 * of_s
found = of_plain, total, of_s, of_grid, of_others
told = 540, 590, 45, 30, 510  # by the alt text
assert profile == "paper" or all(
    abs(one - other) < 8 for one, other in zip(found, told, strict=True)
)

# %% [markdown]
# After so few steps the pair costs more, by less than a tenth. It pays twice for the 49 pixels of the small image.
# Without the second payment the two cost about the same.
#
# If the pair draws better, is the sketch the reason? The upsampler also tells a pixel its *place*, by the zeros beyond
# the border. A third model gets the place alone: a learned map for each layer, the same for all images.

# %%
torch.manual_seed(0)
placed = PixelRNN(PixelCNN, (1, 28, 28), levels=8)  # starts as `plain` did
zeros = (torch.zeros(1, 16, 28, 28) for _ in placed.layers)
placed.maps = nn.ParameterList(zeros)
train(placed, lambda x: nats(placed(x, placed.maps), x).sum(), images, steps)
with torch.no_grad():
    of_placed = nats(placed(test, placed.maps), test).sum() / len(test)
saved = round((of_plain - of_placed).item(), -1)  # to tens
print(f"saved by the place alone: about {saved:.0f} nats")
assert profile == "paper" or of_placed < of_plain - 10

# %% [markdown]
# With these maps, and no sketch, the PixelCNN costs less than both models, in one short run of each. Does it draw
# better, too?

# %%
torch.manual_seed(1)
alone = sample(plain, 8)
sketches, drawn = pair.sample(8)
by_place = sample(placed, 8, placed.maps)

# %% mystnb={"figure": {"caption": "Test images, and samples of the three models that this page trained. The last two rows belong together: the pair's small images, and the large image that it drew around each. None was selected by hand.", "name": "fig-two-scales-samples"}, "image": {"alt": "Five rows of eight grey images. First row: test images. Second: samples of one PixelCNN, patches of cloth in the wrong places. Third: samples with learned maps, patches nearer to the middle. Fourth: small images of 7 by 7 blocks, most with one bright region in the middle. Fifth: images drawn around them, most with the outline of one garment in the middle."}} tags=["hide-input"]
rows = {
    "test image": test[:8],
    "one PixelCNN": alone,
    "with its place": by_place,
    "small image": blocks(sketches),
    "around it": drawn,
}
plot_rows({name: grey(row) for name, row in rows.items()})
plt.show()

# %% [markdown]
# The PixelCNN alone draws parts that do not make a whole: it sees six rows above a pixel, and not where the pixel is.
# Learned maps move the cloth to the middle. With the sketch, most images also have the outline of one garment.
#
# On ImageNet at 64 × 64 pixels the paper reports about the same likelihood for the multi-scale network, and samples
# that are globally more coherent. We found no number for it. A log-likelihood is a sum over pixels. Layout is a small
# part of this sum, so a better layout may hardly change it.
#
# ## Summary
#
# * One Pixel RNN draws a small image, another the large image given the small one.
# * The conditional network gets a map for each layer, without a mask. The upsampler decides how much of the small image
#   a pixel knows.
# * The sum of the two costs bounds the cost of the large image.
# * Samples become coherent. Maps of the place alone do a part of this. Here the pair costs more nats, mostly
#   because it pays for the grid twice.
#
# ## Exercises
#
# ```{exercise} Copy the grid
# :label: ex-copy-the-grid
#
# Let the large network *copy* the pixels of the grid instead of drawing them. Write the cost of $x$ under this model,
# and its sampler. Why is the cost now exactly $-\log p(x)$?
# ```
#
# ```{solution-start} ex-copy-the-grid
# :class: dropdown
# ```
# A copied pixel has probability 1 and costs nothing. So leave the grid out of the second sum. By {prf:ref}`prop-pair`
# the bound is exact: no other $s'$ can lead to $x$, as its grid would differ.


# %%
def exact(pair, x):
    """-log p(x), nats an image, of the model that copies the grid."""
    of_s, of_x = pair(x)
    others = torch.ones_like(of_x)
    others[:, :, :: pair.factor, :: pair.factor] = 0
    return of_s.flatten(1).sum(1) + (of_x * others).flatten(1).sum(1)


@torch.no_grad()
def sample_exactly(pair, count):
    """Draw s, and around it what is not in s."""
    s = sample(pair.small, count)
    biases, k = pair.told(s), pair.factor
    x = torch.zeros(count, *pair.large.shape, dtype=torch.long)
    _, height, width = pair.large.shape
    for row, column in itertools.product(range(height), range(width)):
        if row % k or column % k:
            p = predict(pair.large, x, row, column, biases)
            x[:, 0, row, column] = torch.multinomial(p, 1)[:, 0]
        else:
            x[:, 0, row, column] = s[:, 0, row // k, column // k]
    return s, x


with torch.no_grad():
    by_copy = exact(pair, test).mean()
assert torch.allclose(by_copy, of_s + of_others, rtol=1e-4)
torch.manual_seed(0)
tiny = TwoScales((1, 2, 2), factor=2, levels=2, depth=1, h=4)
for weight in tiny.parameters():
    nn.init.normal_(weight, std=0.3)
every = torch.tensor(list(itertools.product((0, 1), repeat=4)))
every = every.reshape(-1, 1, 2, 2)
with torch.no_grad():
    p = (-exact(tiny, every)).exp()
assert torch.allclose(p.sum(), torch.tensor(1.0), atol=1e-4)
s, x = sample_exactly(tiny, 4000)
assert torch.equal(shrink(x, 2), s)
which = (x.flatten(1) * torch.tensor([8, 4, 2, 1])).sum(dim=1)
assert (which.bincount(minlength=16) / 4000 - p).abs().max() < 0.03

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The gap
# :label: ex-pair-gap
#
# Let the large network of `tiny`, from the last solution, draw all pixels again. Its images have 2 × 2 pixels with two
# levels, so few that all can be listed. How large is the gap of {prf:ref}`prop-pair`, on average over images that this
# model draws?
# ```
#
# ```{solution-start} ex-pair-gap
# :class: dropdown
# ```
# Sum $p(s')\, p(x \mid s')$ over both values of the one pixel of $s'$: this gives $p(x)$. The gap of an image is
# $\log p(x)$ minus the logarithm of its pair's probability.

# %%
with torch.no_grad():
    bound, p = 0, 0
    for value in (0, 1):
        s = torch.full((16, 1, 1, 1), value)
        first = nats(tiny.small(s), s).flatten(1).sum(1)
        other = nats(tiny.large(every, tiny.told(s)), every).flatten(1).sum(1)
        term = (-first - other).exp()
        p = p + term
        bound = bound + term * (shrink(every, 2) == s).flatten()
assert (bound <= p).all()
assert torch.allclose(p.sum(), torch.tensor(1.0), atol=1e-4)
gap = (p * (p / bound).log()).sum()
print(f"the pairs' probabilities sum to {bound.sum():.1f}, the images' to 1")
print(f"the gap is {gap:.1f} nats, in the mean over images that are drawn")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Three scales
# :label: ex-three-scales
#
# Write {eq}`eq:two-scales` for three scales of 4, 8 and 16 pixels. Which networks can be trained at the same time?
# Build the model for any number of scales, and train it on the middle of the garments, 16 × 16 pixels.
# ```
#
# ```{solution-start} ex-three-scales
# :class: dropdown
# ```
# With $s_1 = s(s_2)$, $s_2 = s(x)$ at half the side: $p(x, s_2, s_1) = p(s_1)\, p(s_2 \mid s_1)\, p(x \mid s_2)$. All
# three can be trained at the same time: each is told true images only, and no parameter is shared. Leaving $s_1$ out of
# the last factor loses nothing, since $s_1$ is a part of $s_2$.


# %%
def middle(images):
    return images[:, :, 6:22, 6:22]


class Scales(TwoScales):
    """The small network is again of this class, while `scales` > 2."""

    def __init__(self, shape, levels, scales):
        wide = math.ceil((shape[1] // 2 - 1) / 3)  # to see all of s
        super().__init__(shape, factor=2, levels=levels, wide=wide)
        if scales > 2:
            self.small = Scales(self.small.shape, levels, scales - 1)

    def forward(self, x):
        """The costs in nats by pixel, smallest image first."""
        if not isinstance(self.small, Scales):
            return super().forward(x)
        s = shrink(x, self.factor)
        return *self.small(s), nats(self.large(x, self.told(s)), x)

    def sample(self, count):
        """Images of all scales, smallest first."""
        if not isinstance(self.small, Scales):
            return super().sample(count)
        smaller = self.small.sample(count)
        maps = self.told(smaller[-1])
        return *smaller, sample(self.large, count, maps)


torch.manual_seed(0)
three = Scales((1, 16, 16), levels=8, scales=3)
train(three, lambda x: sum(c.sum() for c in three(x)), middle(images), 140)
with torch.no_grad():
    costs = [cost.sum().item() / len(test) for cost in three(middle(test))]
uniform = [math.log(8) * side**2 for side in (4, 8, 16)]
assert all(a < 0.9 * b for a, b in zip(costs, uniform, strict=True))
assert [x.shape[2] for x in three.sample(2)] == [4, 8, 16]

# %% [markdown]
# ```{solution-end}
# ```
