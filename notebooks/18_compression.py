# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (compression)=
# # Compression
#
# A likelihood promises the length of a file: $-\log_2 P(x)$ bits for the image $x$. Can a real coder keep the promise?
#
# You will write an arithmetic coder in 25 lines, and code an image with a recorded Pixel RNN. Then you compare the
# files with those of zlib, PNG and WebP.
#
# ```{admonition} In the papers
# Both papers report bits per dimension, the length of a file that neither of them writes. This chapter writes it.
# ```

# %% tags=["parameters"]
profile = "laptop"

# %% tags=["hide-input"]
import copy
import io
import math
import zlib
from bisect import bisect_right
from itertools import accumulate

import constriction
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from nvp_book import baselines, figures
from nvp_book.figures import likelihoods as pictures
from nvp_book.figures.samples import plot_rows
from PIL import Image

from nvp.autoregressive.coding import RESOLUTION, decode, encode, frequencies
from nvp.data import EMBEDDED, EMBEDDED_BINARY, load
from nvp.data.splits import shuffled
from nvp.ledger import runs

figures.use_style()
torch.set_num_threads(1)  # sums in one order, however many cores
torch.set_grad_enabled(False)
full = profile == "paper"
ledger = runs()

# %% [markdown]
# ## From probabilities to bits
#
# How short can files be? Suppose that every $x$ has one, of $L(x)$ bits. No file is the beginning
# of another (a **prefix code**), so a decoder sees where one ends. Then $\sum_x 2^{-L(x)} \le 1$
# (Kraft, {prf:ref}`prop-code`). So lengths give probabilities $2^{-L}$, up to a factor. Conversely,
# probabilities give lengths:
#
# ```{prf:proposition} Arithmetic coding
# :label: prop-coding
#
# Let $P$ be given by its conditionals $p(x_i \mid x_{<i})$. The $x$ with $P(x) > 0$ have a code, computed one $x_i$ at
# a time, in which no file is the beginning of another, with
#
# $$
# -\log_2 P(x) + 1 \;\le\; L(x) \;<\; -\log_2 P(x) + 2 \quad \text{bits.}
# $$ (eq:length)
#
# On average over $x \sim P$ no such code is shorter than the entropy $\mathbb E[-\log_2 P(x)]$.
# ```
#
# ```{prf:proof}
# This is arithmetic coding {cite}`rissanen1976arithmetic` with exact intervals. Start with $[0, 1)$. For each $i$
# split the interval in the ratios of $p(\cdot \mid x_{<i})$ and keep the part of $x_i$. The last
# interval has width $P(x)$, and different $x$ have disjoint intervals. Take the least $\ell$ with
# $2^{-\ell} \le P(x) / 2$. The least multiple of $2^{-\ell}$ in the interval, written with $\ell$ binary digits, is
# the file. It is less than $2^{-\ell}$ above the lower end, so whatever digits follow, the number stays inside. Hence
# no file is the beginning of another. By its choice $-\log_2 P(x) + 1 \le \ell < -\log_2 P(x) + 2$.
# For the second claim:
# $\mathbb E[L(x)]$ exceeds the entropy by $\mathbb E[\log_2 (P(x) / 2^{-L(x)})]$. By Kraft's inequality the numbers
# $2^{-L(x)}$ have a sum $s \le 1$. With $q = 2^{-L} / s$ the excess is $\mathrm{KL}(P \,\|\, q)$ (in bits) plus
# $-\log_2 s$, and neither is negative.
# ```

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The message *abca*, with probabilities $\\frac12$, $\\frac14$ and $\\frac14$ at each step. Each symbol keeps its share of the interval (blue), and the next bar is that share, stretched; the ends are above each bar. The last share, from 0.3438 to 0.3594, is $1/64$ wide.", "name": "fig-intervals"}, "image": {"alt": "Four bars, one below the other, each split into parts a, b and c. From the top, the parts a, b, c and a are blue. Each of the first three opens into the bar below. The ends of the bars are labelled: 0 and 1, 0 and 0.5, 0.25 and 0.375, 0.3438 and 0.375."}}
pictures.plot_intervals({"a": 0.5, "b": 0.25, "c": 0.25}, "abca")
plt.show()

# %% [markdown]
# Each symbol narrows the interval by its probability. The next cell does this in exact integers. The interval is from
# `low / whole` to `(low + width) / whole`, and a row of `counts` has the ratios for one symbol.


# %%
def write(counts, symbols):
    """The file of a message, as a string of 0 and 1."""
    low, width, whole = 0, 1, 1
    for row, symbol in zip(counts, symbols, strict=True):
        total, below = sum(row), sum(row[:symbol])
        low, whole = low * total + width * below, whole * total
        width = width * row[symbol]
    length = ((2 * whole - 1) // width).bit_length()
    return f"{-(-(low << length) // whole):0{length}b}"


def read(counts, file):
    """The message of a file."""
    number, scale = int(file, 2), 2 ** len(file)
    low, width, whole, symbols = 0, 1, 1, []
    for row in counts:
        total, borders = sum(row), [0, *accumulate(row)]
        inside = (number * whole - low * scale) * total // (width * scale)
        symbol = bisect_right(borders, inside) - 1
        low, whole = low * total + width * borders[symbol], whole * total
        width = width * row[symbol]
        symbols.append(symbol)
    return symbols


ratios, message = [[2, 1, 1]] * 4, [0, 1, 2, 0]
file = write(ratios, message)
assert read(ratios, file) == message
print(f"abca, of probability 1/64: {file}")

# %% [markdown]
# A message of probability $1/64$ takes 7 bits, one more than $\log_2 64$. The code of
# {prf:ref}`prop-code` would take 6, but it needs a list of all messages. An arithmetic coder needs
# one symbol at a time.
#
# ## A Pixel RNN writes a file
#
# A Pixel RNN gives all the conditionals, by the chain rule. We take the recorded Row LSTM and test images of its data
# set. `frequencies` gives the conditionals as integers; the next section says why. A real decoder
# computes a row of
# `counts` when it has the symbols before it.

# %%
run = ledger["fashion-small-row-lstm-softmax"]
model = run.load_model()
coded = shuffled(load(EMBEDDED, "test").images, 200 if full else 40)


def in_order(images):
    """The levels in the order in which they are coded, (D, N)."""
    return images.permute(2, 3, 1, 0).flatten(0, 2)


def promised(counts, images):
    """-log2 P of each image, as the integers have it: (N,) bits."""
    shares = counts / counts.sum(dim=-1, keepdim=True).double()
    levels = in_order(images).long().unsqueeze(-1)
    return -shares.gather(-1, levels)[..., 0].log2().sum(dim=0)


counts = frequencies(model, coded)
promise = promised(counts, coded)
first, message = counts[:, 0].tolist(), in_order(coded)[:, 0].tolist()
file = write(first, message)
assert read(first, file) == message
assert promise[0] + 1 <= len(file) < promise[0] + 2
print(f"-log2 P = {promise[0]:.1f}, the file has {len(file)} bits")

# %% [markdown]
# The file is within two bits of the promise, but integers of nearly five thousand digits are slow. A **range coder**
# keeps a window (here of 64 bits) and writes words (of 32) as they become certain. We use that of
# [constriction](https://bamler-lab.github.io/constriction/) {cite}`bamler2022ans`. Another design,
# ANS {cite}`duda2009ans`, is a stack: it reads what was written last, and removes it.

# %%
family = constriction.stream.model.Categorical(perfect=False)


def range_coded(counts, images):
    """One range-coded file for each image: bytes of each."""
    sizes = []
    for i, levels in enumerate(in_order(images).T):
        coder = constriction.stream.queue.RangeEncoder()
        told = counts[:, i].float().numpy()
        coder.encode(levels.int().numpy(), family, told)
        sizes.append(coder.num_bits() // 8)
    return torch.tensor(sizes)


alone = range_coded(counts, coded)
overhead = 8 * alone - promise
print(f"a file of one image: {overhead.mean():.0f} bits more than promised")

# %% tags=["remove-cell"]
assert overhead.min() > -0.1
assert overhead.max() < 64

# %% [markdown]
# Words of 32 bits are coarse for one image. `encode` of the package puts all images into one stream, which ends only
# once:

# %%
archive = encode(model, coded)
total = promise.sum().item()
assert -0.1 < 8 * len(archive) - total < 64
exact = -model.log_prob(coded).double().sum().item() / math.log(2)
assert abs(total - exact) < 1e-3 * exact
over = 8 * len(archive) - exact
print(f"{len(coded)} images: -log2 P = {exact:.0f} bits,", end=" ")
print(f"the file has {over:+.0f}")

# %% [markdown]
# The last line compares with the model's own likelihood: rounding to integers costs almost nothing. Decoding takes
# 784 steps, one pixel of every image in each:

# %%
assert torch.equal(decode(model, archive, len(coded)), coded)
print(f"{len(coded)} of {len(coded)} images come back exactly")

# %% [markdown]
# ## The same numbers on both sides
#
# A decoder that computes a slightly different probability may take a wrong turn, and then loses everything that
# follows. Sums of floating-point numbers depend on their order, and the order on the batch, the threads, the library
# and the machine. *Scoring* images in one pass and *stepping* through their pixels already are two
# orders. The integers in `counts` are from steps in float64, with all images in one batch. At how
# many pixels does another computation change one of the 256? Each row of the table compares two
# images.


# %%
def whole_pass(model, images):
    """Frequencies from one pass over whole images, for comparison."""
    p = torch.softmax(model.logits(images).double(), dim=-1)
    p = p.permute(2, 3, 1, 0, 4).flatten(0, 2)
    return (RESOLUTION * p).round().int() + 1


pair, stepped = coded[:2], counts[:, :2]
in_double = copy.deepcopy(model).double()
differ = {
    name: (stepped != others).any(dim=-1).double().mean().item()
    for name, others in {
        "one pass, float32": whole_pass(model, pair),
        "one pass, float64": whole_pass(in_double, pair),
        "steps, float64, two images only": frequencies(model, pair),
    }.items()
}
rows = [[name, f"{share:.0%}"] for name, share in differ.items()]
figures.show_table(["against steps in float64", "pixels that differ"], rows)
in_single, *others = differ.values()
assert in_single > 0.05
assert others == [0, 0]

# %% [markdown]
# After coding by one pass in float32 a decoder would soon be lost. `nvp.autoregressive.coding` takes three measures:
#
# * Encoder and decoder are the same code. Both *sample*: the encoder's random numbers are replaced by the image, the
#   decoder's by the file.
# * They compute in float64, on the CPU.
# * Each probability is rounded to a whole number of units of $2^{-20}$, plus one unit so that nothing is impossible.
#   An error of float64 is about $10^{-8}$ of a unit at most. It changes this integer only if the number before
#   rounding is that close to a half.
#
# So a disagreement is rare, not impossible. Integer arithmetic throughout would exclude it.
#
# ````{dropdown} The package's version: sampling with a coder in place of random numbers
# ```{literalinclude} ../nvp/autoregressive/coding.py
# :pyobject: _sample
# ```
# ````
#
# How small an error is too large? We change one weight of the decoder's model by a part in a million.

# %%
three = coded[:3]
files = [encode(model, x[None]) for x in three]
other = copy.deepcopy(model)
other.layers[0].up.weight.view(-1)[5] *= 1 + 1e-6
wrong = torch.cat([decode(other, file, 1) for file in files])
missed = (in_order(wrong) != in_order(three)).double().mean(dim=0)
assert missed.max() > 0
print(f"pixels lost: {', '.join(f'{share:.0%}' for share in missed)}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Three images, and below them their files, decoded by a model of which a single weight differs by a part in a million.", "name": "fig-wrong-decoder"}, "image": {"alt": "Two rows of three images: a shirt, a sandal, a bag. Below, the shirt keeps only its collar and turns into folds that do not fit; the sandal is as above; the bag keeps its upper half, and its lower half is torn."}}
plot_rows({"written": three, "read": wrong})
plt.show()

# %% [markdown]
# Up to the first disagreement every pixel is right. (The sandal meets none.) After it, the rest of the file is random
# numbers to the decoder. From these it makes a *sample*, in which no single pixel looks suspicious. A format for real
# use needs a checksum.
#
# ## Beside PNG and WebP
#
# Are these files shorter than those of rivals: zlib, PNG and lossless WebP? Each image is a file;
# then all are one tall picture, so that headers count once.


# %% tags=["hide-input"]
def file_size(picture, kind, **options):
    """Bytes of a grey picture, uint8 (H, W), as a file; read back."""
    file, image = io.BytesIO(), Image.fromarray(picture)
    if set(np.unique(picture)) == {0, 255}:
        image = image.convert("1")  # one bit a pixel, where a format can
    image.save(file, kind, **options)
    size = file.tell()  # before the file is read back
    back = Image.open(file).convert("L")
    assert np.array_equal(np.array(back), picture)
    return size


RIVALS = {
    "PNG": {"optimize": True},
    "WebP": {"lossless": True, "quality": 100, "method": 6},
}


def packed(picture):
    """Bytes under zlib; of two levels, eight pixels go into a byte."""
    two = set(np.unique(picture)) <= {0, 255}
    return len(zlib.compress(np.packbits(picture) if two else picture, 9))


def rival_sizes(images):
    """Bytes of each image alone, and of all in one, for each rival."""
    sheets = [*images[:, 0].numpy(), images.flatten(0, 2).numpy()]
    sizes = {"zlib": [packed(sheet) for sheet in sheets]}
    for kind, options in RIVALS.items():
        sizes[kind] = [file_size(sheet, kind, **options) for sheet in sheets]
    return {name: (torch.tensor(s[:-1]), s[-1]) for name, s in sizes.items()}


def show_sizes(sizes, count, raw):
    """A table of bytes an image, alone and together."""
    rows = [["raw", raw, raw, f"{8 * raw / D:.2f}"]]
    for name, (each, together) in sizes.items():
        share = together / count
        cells = f"{each.double().mean():.0f}", f"{share:.1f}"
        rows.append([name, *cells, f"{8 * share / D:.2f}"])
    header = ["bytes an image", "alone", "in one file", "bits/dim of that"]
    figures.show_table(header, rows)


# %%
D = coded[0].numel()
sizes = rival_sizes(coded)
least = min(together for _, together in sizes.values())
assert len(archive) < 0.9 * least
sizes[run.config.title] = alone, len(archive)
show_sizes(sizes, len(coded), D)
table = baselines.recorded()["fashion-mnist-small"]["two neighbours"]
print(f"two neighbours, counted on clothes: {table.bits_per_dim:.2f} bits/dim")

# %% tags=["remove-cell"]
*rivals, _ = sizes.values()
assert all((alone < each).double().mean() > 0.9 for each, _ in rivals)
halfway = (least + len(archive)) / 2 / len(coded)
assert abs(table.bits_per_dim * D / 8 - halfway) < 10
above = torch.stack([each - promise / 8 for each, _ in rivals])
assert full or (above < 10).sum(dim=1).tolist() == [1, 0, 0]
assert ((above > 50) & (above < 200)).double().mean() > 0.6
assert (above.argmax(dim=0) == 1).double().mean() > 0.8

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Lengths of files of single images over the length that the likelihood promises. Each image has four marks, one above the other, one for each coder.", "name": "fig-promises"}, "image": {"alt": "A scatter plot. The files of the Row LSTM lie on the diagonal. Those of zlib, WebP and PNG lie above it, except for one of zlib, mostly by 50 to 200 bytes. PNG is mostly the highest."}}
pictures.plot_promises(
    promise / 8, {name: each for name, (each, _) in sizes.items()}
)
plt.show()

# %% [markdown]
# The promise is kept, image by image. In one file the network needs over a tenth fewer bytes than any rival. But the
# rivals know nothing of clothes. The network does, and its decoder needs the weights. (A table of two neighbours,
# counted on clothes, comes halfway from WebP to the network.) After how many images do the weights pay?

# %%
weights = run.record.weights.bytes
saved = (least - len(archive)) / len(coded)
enough = weights / saved
print(f"trained for {run.record.minutes:.0f} minutes on", end=" ")
print(f"{run.record.trained_on} images: {weights} bytes of weights")
print(f"{saved:.0f} saved an image: {round(enough, -2):.0f} pay for them")

# %% tags=["remove-cell"]
assert 100 < enough < 10_000
assert full or 1800 < enough < 2500

# %% [markdown]
# So it pays to send the weights with the 10,000 test images of Fashion-MNIST, but not with an album of a hundred. (A
# coder that learns as it goes is a stronger rival: {ref}`ex-adaptive`.)
#
# ### The right model, and a wrong one
#
# What does a wrong model cost? The Diagonal BiLSTM of chapter {ref}`pixelrnn-results` was trained on binarised digits.
# It codes two sets:
#
# * samples of the model itself, for which no code is shorter on average than the promised bits;
# * the binarised clothes of the embedded set, which it has never seen.

# %%
of_digits = ledger["binarized-mnist-diagonal-1"]
digit_model = of_digits.load_model()
number = 200 if full else 30
generator = torch.Generator().manual_seed(0)
to_best = {}
for name, images in {
    "Samples of the model": digit_model.sample(number, generator=generator),
    "Binarised clothes": shuffled(
        load(EMBEDDED_BINARY, "test").images, number
    ),
}.items():
    counts_of = frequencies(digit_model, images)
    bits_of = promised(counts_of, images)
    file = encode(digit_model, images)
    assert -0.1 < 8 * len(file) - bits_of.sum() < 64
    assert torch.equal(decode(digit_model, file, number), images)
    found = rival_sizes(255 * images)
    best = min(together for _, together in found.values())
    to_best[name] = len(file) / best
    found[of_digits.config.title] = range_coded(counts_of, images), len(file)
    figures.show_text(f"*{name}*: promised, {bits_of.mean() / 8:.1f} bytes")
    show_sizes(found, number, D // 8)

# %% tags=["remove-cell"]
assert to_best["Samples of the model"] < 0.5
assert to_best["Binarised clothes"] > 1

# %% [markdown]
# On its own samples the model is far ahead. In one file of clothes it is behind the best of the three rivals. A wrong
# model pays its distance from the data, {eq}`eq:cost`, in bytes.
#
# ## Flows: getting bits back
#
# A flow gives only a bound for an integer image, {eq}`eq:dequantisation`. Can a file be as short as the bound? Yes,
# by getting **bits back** {cite}`hinton1993bits,townsend2019bbans`. To send $x$, choose the noise $u$ and code
# $x + u$ to a precision of $\delta$ in each dimension. That costs
#
# $$
# -\log_2 p(x + u) + D \log_2 \tfrac1\delta \quad \text{bits,}
# $$ (eq:bits-back)
#
# which exceeds the bound by the second term. But $u$ may be anything. So the sender *decodes* $u$ from the file as
# written so far, which makes the file shorter by $D \log_2 (1/\delta)$ bits. The receiver decodes $x + u$, splits it
# into integer and noise, and encodes the noise to recover the bits. On average, the net length is the bound. This
# takes a coder that works like a stack (ANS), and a file that has some bits to begin with. The next cell counts the
# bits for a flow with one dimension.

# %%
levels, cells_of_u = 4, 2**10  # x in 0..3, and u to ten binary digits
places = torch.arange(levels * cells_of_u, dtype=torch.double)
noisy = (places + 0.5) / cells_of_u  # x + u
flow = torch.distributions.Normal(1.7, 0.8)  # z = (noisy - 1.7) / 0.8
mass = flow.cdf(noisy + 0.5 / cells_of_u) - flow.cdf(noisy - 0.5 / cells_of_u)
sent = -mass.log2().view(levels, cells_of_u)  # bits for each (x, u)
net = sent.mean(1) - math.log2(cells_of_u)  # u was read from the file
density = flow.log_prob(noisy).view(levels, cells_of_u).mean(1)
bound = -density / math.log(2)
exact = -(flow.cdf(torch.arange(1, 5)) - flow.cdf(torch.arange(4))).log2()
assert torch.allclose(net, bound)
assert (net > exact).all()
rows = [
    [f"x = {x}", *(f"{each[x]:.2f}" for each in (sent.mean(1), net, exact))]
    for x in range(levels)
]
figures.show_table(
    ["bits", "for $x + u$", "after bits are back", r"$-\log_2 P(x)$"], rows
)

# %% [markdown]
# The net cost equals the bound, which lies a little above $-\log_2 P(x)$: uniform noise is not the best choice of
# $u$. For images a flow is not exactly a bijection in floating-point numbers.
# {cite:t}`ho2019localbitsback` solve this
# for flows like Real NVP, and {cite:t}`hoogeboom2019idf` avoid it by couplings that map integers to integers. (This
# book has code for neither.) VAEs and diffusion models are coded in the same way, with $z$ in place of $u$
# {cite}`townsend2019bbans,kingma2021vdm`.
#
# ## Summary
#
# * $-\log_2 P(x)$ is the length of a file, to within two bits. A real coder adds a word or so.
# * Encoder and decoder must agree on every probability exactly.
# * The recorded Row LSTM writes smaller files than PNG and WebP. Against these its weights pay from about 2,000 images
#   on, against a coder that learns as it goes from about twice as many.
# * A flow, a VAE or a diffusion model reaches its bound by getting bits back.
#
# ## Exercises
#
# ```{exercise} Build a coder that learns as it goes
# :label: ex-adaptive
#
# Predict a pixel from its left and upper neighbours, each rounded down to one of sixteen greys. A missing neighbour
# counts as a seventeenth. Count how often each level has followed such a pair so far: start all counts at 1, and let
# each observation add 8. Build `counts_as_it_goes(images)`: one row of counts for each pixel, in order. The decoder
# must have the same rows. So change the second image: no row up to its first pixel may change. How does one file of
# all images compare with those of zlib and PNG?
# ```
#
# ```{solution-start} ex-adaptive
# :class: dropdown
# ```
# No weights are sent, because the decoder collects the same counts. Forty images are enough to beat zlib and PNG.
# With thousands of images the file comes to about 345 bytes an image.


# %%
def counts_as_it_goes(images):
    """A row of integer counts for each pixel in turn."""
    seen = np.ones((17, 17, 256), dtype=np.int64)  # 16: no neighbour
    rows = []
    for image in images[:, 0].int().numpy():
        greys = np.pad(image // 16, ((1, 0), (1, 0)), constant_values=16)
        for (row, column), level in np.ndenumerate(image):
            counts = seen[greys[row + 1, column], greys[row, column + 1]]
            rows.append(counts.copy())
            counts[level] += 8
    return np.stack(rows)


learned = counts_as_it_goes(coded)
symbols = coded.flatten().int().numpy()
other = counts_as_it_goes(torch.cat([coded[:1], 255 - coded[:1]]))
assert (other[: D + 1] == learned[: D + 1]).all()  # no row knows its pixel
share = learned[np.arange(len(symbols)), symbols] / learned.sum(axis=1)
size = -np.log2(share).sum() / 8
assert size < min(sizes[kind][1] for kind in ("zlib", "PNG"))
print(f"{size / len(coded):.0f} bytes an image")


# %% tags=["remove-cell"]
def learned_size(images):
    """Bytes by these counts; the order of the images does not matter."""
    greys = F.pad(images.int() // 16, (1, 0, 1, 0), value=16)
    pairs = 17 * greys[..., 1:, :-1] + greys[..., :-1, 1:]
    places = (256 * pairs + images).flatten()
    seen = torch.bincount(places, minlength=289 * 256).view(289, 256)
    one, row = torch.tensor([1 / 8, 256 / 8]).double()
    nats = (seen.sum(dim=1) + row).lgamma().sum() - 289 * row.lgamma()
    nats -= ((seen + one).lgamma() - one.lgamma()).sum()
    return nats.item() / math.log(2) / 8


assert abs(learned_size(coded) - size) < 50
each = learned_size(load(EMBEDDED, "train").images[:4000]) / 4000
assert 340 < each < 350
assert 3500 < weights / (each - len(archive) / len(coded)) < 5000

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} How coarse may the integers be?
# :label: ex-coarse
#
# Round the probabilities of the Row LSTM to units of $2^{-k}$, plus one unit, for
# $k = 8, 10, \dots, 20$. (`counts` has them for $k = 20$.) How many bits does an image lose against
# $k = 20$, and why might one want a small $k$?
# ```
#
# ```{solution-start} ex-coarse
# :class: dropdown
# ```
# The plus one takes a share of about $256 / 2^k$ from all that is probable. So the loss is at most about
# $784 \cdot 256 / (2^k \ln 2)$ bits, and it hurts up to $k = 14$. At 16 and 18 the plus one is a small gain: the
# model was a little too sure of itself. A small $k$ makes disagreements rarer, in proportion to $2^k$.

# %%
p = (counts - 1) / RESOLUTION
lost = {}
for k in range(8, 22, 2):
    coarser = (2**k * p.double()).round() + 1
    lost[k] = (promised(coarser, coded) - promise).mean().item()
rows = [[f"k = {k}", f"{b:.1f}"] for k, b in lost.items()]
figures.show_table(["units", "bits lost an image"], rows)
assert abs(lost[20]) < 1e-6
assert lost[8] > lost[10] > lost[12] > 10 > lost[14] > 1
assert all(-2 < lost[k] < 0 for k in (16, 18))
assert all(b < D * 256 / (2**k * math.log(2)) for k, b in lost.items())

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} No code shortens everything
# :label: ex-nothing
#
# Can a code make every image shorter? Try that of the Row LSTM on noise.
# ```
#
# ```{solution-start} ex-nothing
# :class: dropdown
# ```
# No: there are $256^{784}$ images, and fewer files than that are shorter than $784$ bytes. A model that saves bytes on
# clothes loses them elsewhere, for example on noise.

# %%
generator = torch.Generator().manual_seed(0)
grains = torch.randint(256, (4, 1, 28, 28), generator=generator).byte()
size = len(encode(model, grains)) / len(grains)
assert size > D
print(f"{D} bytes of noise become {size:.0f}")

# %% [markdown]
# ```{solution-end}
# ```
