# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (not-everything)=
# # Likelihood is not everything
#
# ```{admonition} In the paper
# Both papers rank their models by likelihood: table 1 of {cite:t}`dinh2017realnvp`, tables 4 to 6 of
# {cite:t}`oord2016pixelrnn`. Neither measures what the number leaves out, nor makes a file of it. This chapter does
# both, after work by others.
# ```
#
# What does a good likelihood promise? Not that what a model finds likely looks like its data: the first half of the
# chapter shows a flow that prefers digits to the clothes that it was trained on, and models whose samples and
# likelihoods contradict each other. What it does promise is the length of a file, and the second half holds it to
# that, bit by bit.

# %% tags=["parameters"]
profile = "laptop"

# %%
import copy
import io
import math
import zlib
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

import constriction
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from nvp_book import figures
from nvp_book.figures import likelihoods as pictures
from nvp_book.figures.samples import draw_rows
from nvp_book.selection import images_for
from PIL import Image, ImageDraw, ImageFont

from nvp.autoregressive.coding import RESOLUTION, decode, encode, frequencies
from nvp.data import EMBEDDED, EMBEDDED_BINARY, load
from nvp.devices import pick_device
from nvp.likelihood import bits_per_dim, nats_per_bit, score_images
from nvp.tables.build import runs

figures.use_style()
torch.set_num_threads(1)  # sums in one order, however many cores
torch.set_grad_enabled(False)
full = profile == "paper"
device = pick_device("auto" if full else "cpu")
ledger = runs()

# %% [markdown]
# ## Likelier than the data
#
# {cite:t}`nalisnick2019know` trained flows, VAEs and PixelCNNs on one set of images and scored another. The other
# set often came out *likelier*: house numbers under a model of animals and vehicles, and MNIST under a model of
# Fashion-MNIST. Is it so for the recorded flow of this book? Its own test images first.


# %%
def some(images, count, seed=0):
    """`count` of the images, in random order."""
    generator = torch.Generator().manual_seed(seed)
    return images[torch.randperm(len(images), generator=generator)[:count]]


run = ledger["fashion-mnist"]
flow = run.load_model(str(device))
shape, D = flow.image_shape, flow.num_dimensions
train = load(EMBEDDED, "train").images
everything = images_for(run, "test", full=full).images
test = some(everything, 1000 if full else 100)
bits_of_test = score_images(flow, test)
print(f"{len(test)} test images: {bits_of_test.mean():.2f} bits/dim")

# %% [markdown]
# The others are made here: the ten numerals in fonts that come with matplotlib; draws of this book's flow of MNIST,
# since the set itself is not part of the book (its test images join under the `paper` profile, where they are at
# hand); test images darkened to a quarter, blurred, and turned into negatives; and images of grey and of noise.

# %%
FONTS = ["DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono"]
FONTS += ["STIXGeneral", "cmr10", "cmss10", "cmtt10"]
folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def typeset(numeral, font):
    """White on black, as in MNIST: (1, 28, 28)."""
    letters = ImageFont.truetype(str(folder / f"{font}.ttf"), 24)
    sheet = Image.new("L", (28, 28))
    place = {"xy": (14, 14), "anchor": "mm"}
    ImageDraw.Draw(sheet).text(text=numeral, fill=255, font=letters, **place)
    return torch.from_numpy(np.array(sheet))[None]


generator = torch.Generator().manual_seed(0)
few = test[:40]
greys = torch.linspace(0, 255, 32).round()
coarse = torch.rand(24, 1, 4, 4, generator=generator)
smooth = F.interpolate(coarse, size=shape[1:], mode="bicubic").clamp(0, 1)
mnist = images_for(ledger["mnist"], "test", full=full)
of_mnist = ledger["mnist"].load_model().sample(40, generator=generator)
elsewhere = {
    "typeset digits": torch.stack(
        [typeset(numeral, font) for font in FONTS for numeral in "0123456789"]
    ),
    "draws of the MNIST flow": of_mnist,
    "MNIST test": some(mnist.images, 1000) if mnist else None,
    "test, darkened": (few / 4).round().byte(),
    "test, blurred": F.avg_pool2d(few.float(), 5, 1, 2).round().byte(),
    "test, as a negative": 255 - few,
    "a constant grey": greys.byte().view(-1, 1, 1, 1).expand(-1, *shape),
    "smooth noise": (255 * smooth).round().byte(),
    "noise": torch.randint(256, (24, *shape), generator=generator).byte(),
}
sets = {"Fashion-MNIST test": test} | {
    name: images for name, images in elsewhere.items() if images is not None
}
bits = {name: score_images(flow, images) for name, images in sets.items()}

# %% mystnb={"figure": {"caption": "Eight images of each set. (No figure in the paper.)", "name": "fig-elsewhere"}, "image": {"alt": "Rows of eight images: clothes and shoes; numerals in several fonts; digits drawn by a flow; dark, blurred and inverted clothes; squares of one grey; grey clouds; grains of noise."}}
eight = 11 * torch.arange(8)  # a stride that meets all numerals and fonts
draw_rows({name: x[eight % len(x)] for name, x in sets.items()})
plt.show()

# %% mystnb={"figure": {"caption": "Bits/dim of single images under the flow that was trained on Fashion-MNIST. Dashed: the mean of its own test images; grey: the middle half of them. What is to the left is likelier than the data. (No figure in the paper; after {cite:t}`nalisnick2019know`.)", "name": "fig-elsewhere-scores"}, "image": {"alt": "Histograms, one below the other. The test images spread widely around the dashed line. Typeset digits and draws of the MNIST flow lie to its left, most of them left of the grey band. Darkened images lie a little to the left of the test images, blurred ones on them, negatives to the right. Constant greys gather right of the dashed line, but for one near zero; smooth noise lies further to the right, noise furthest."}}
pictures.draw_score_rows(bits)
plt.show()

# %% [markdown]
# Take one image of a set and one test image at random. How often is the former the likelier?


# %%
def likelier(these, those):
    """How often one of `these` has fewer bits than one of `those`."""
    return (these[:, None] < those).double().mean().item()


rows = [
    [name, f"{b.mean():.2f}", f"{likelier(b, bits_of_test):.0%}"]
    for name, b in bits.items()
]
figures.show_table(["images", "bits/dim", "likelier than a test image"], rows)

digits, drawn = "typeset digits", "draws of the MNIST flow"
factor = nats_per_bit(shape)  # nats in one bit/dim
gap = factor * (bits_of_test.mean() - bits[digits].mean())
assert likelier(bits[digits], bits_of_test) > 0.9
assert likelier(bits[drawn], bits_of_test) > 0.8
print(f"a digit is likelier than clothes by {gap:.0f} nats, on average")

# %% [markdown]
# So the finding holds here, by a factor of $e$ to that power, for digits that nobody wrote.
#
# ### Likely is not the same as near
#
# It does not say that digits are near to the model. Draw images from any distribution $q$; then, as in chapter
# {ref}`training`,
#
# $$
# \underbrace{\mathbb E_{x \sim q}[-\log P(x)]}_{\text{what they cost}}
# = {} &\underbrace{\mathbb E_{x \sim q}[-\log q(x)]}_{\text{the entropy of } q} \\
# &+ \underbrace{D_{\mathrm{KL}}(q \,\|\, P)}_{\text{how far } q \text{ is from } P} .
# $$ (eq:cost)
#
# A set of little variety may be as far away as it likes and still cost less {cite}`caterini2021entropic`. For the
# typeset digits we can do the sum: a draw from a list of $n$ images has an entropy of $\log n$ at most.

# %%
entropy = math.log2(len(sets[digits])) / D
divergence = bits[digits].mean().item() - entropy
assert divergence > 0.95 * bits[digits].mean()
print(f"a typeset digit costs {bits[digits].mean():.3f} bits/dim:", end=" ")
print(f"{entropy:.3f} of entropy, {divergence:.3f} of distance")

# %% [markdown]
# (What a flow states is a bound on the cost, {eq}`eq:dequantisation`, and some of the distance may be its slack.)
# The digits are about as far away as they can be at this price. Of what clothes cost nobody knows how much is
# entropy; but being a set without end they have some.
#
# ### What is cheap
#
# What is there to say? We compare with a coder that knows nothing of clothes, the PNG file of each image, and with
# plain blackness.


# %%
def file_size(picture, kind, **options):
    """Bytes of a grey picture, uint8 (H, W), as a file; read back."""
    file, image = io.BytesIO(), Image.fromarray(picture)
    if set(np.unique(picture)) == {0, 255}:
        image = image.convert("1")  # one bit a pixel, where a format can
    image.save(file, kind, **options)
    back = Image.open(file).convert("L")
    assert np.array_equal(np.array(back), picture)
    return file.tell()


def png(images):
    """Bits/dim of each image as a PNG of its own."""
    sizes = [file_size(x[0].numpy(), "PNG", optimize=True) for x in images]
    return 8 * torch.tensor(sizes) / images[0].numel()


causes = {
    "bits/dim as a PNG": {name: png(images) for name, images in sets.items()},
    "share of pixels below 8": {
        name: (images < 8).double().mean(dim=(1, 2, 3))
        for name, images in sets.items()
    },
}


def rank_correlation(a, b):
    """Spearman's, ties in order of appearance."""
    ranks = torch.stack([a, b]).double().argsort(dim=1).argsort(dim=1)
    return torch.corrcoef(ranks.double())[0, 1].item()


rows = []
for title, names in {
    "test images only": ["Fashion-MNIST test"],
    "all sets": list(sets),
    "all sets but constant greys": [n for n in sets if "constant" not in n],
}.items():
    ours = torch.cat([bits[name] for name in names])
    cells = [
        f"{rank_correlation(ours, torch.cat([of[n] for n in names])):+.2f}"
        for of in causes.values()
    ]
    rows.append([title, *cells])
figures.show_table(["rank correlation of bits/dim with", *causes], rows)
assert float(rows[0][1]) > 0.85
assert float(rows[1][2]) < -0.75

negatives = (bits["test, as a negative"] - score_images(flow, few)).mean()
black = causes["share of pixels below 8"]["Fashion-MNIST test"].mean()
described = [png(few), causes["bits/dim as a PNG"]["test, as a negative"]]
assert negatives > 1.5
assert abs(described[0].mean() / described[1].mean() - 1) < 0.05
assert black > 0.5
print(f"a negative costs {negatives:.1f} bits/dim more than its original")
print(f"{black:.0%} of the pixels of test images are black, or nearly so")

# %% mystnb={"figure": {"caption": "Bits/dim under the flow over the size of the image as a PNG file (left) and over the share of pixels that are black or nearly so (right). (No figure in the paper; the left panel is after {cite:t}`serra2020complexity`.)", "name": "fig-causes"}, "image": {"alt": "Two scatter plots. Left: most sets lie along one rising band, from digits at the lower left to clothes at the upper right, with noise far above. Negatives lie on a band of their own, higher up; constant greys lie in a column at the left edge. Right: bits fall as the share of black pixels rises."}}
pictures.draw_causes(bits, causes)
plt.show()

# %% [markdown]
# Among test images, the flow and PNG nearly agree in their order: most of an image's likelihood says how much there
# is to describe, whoever describes it. {cite:t}`serra2020complexity` found this across data sets. It is not the
# whole story, as two sets show. A negative is as long to describe as its original, and the flow finds it far
# dearer. And nothing is shorter as a PNG than a constant grey, yet only black is cheap. What this flow has learned
# to be cheap is black, the greater part of the pixels of clothes.

# %% mystnb={"figure": {"caption": "Constant images under the flow. Black is the likeliest of all images of this page; most greys are dearer than the average of the clothes. (No figure in the paper.)", "name": "fig-constants"}, "image": {"alt": "Bits per dimension over grey level. The curve begins near zero at black, jumps to the dashed line that marks the mean of the test images, rises above it in the middle and falls below it near white. A grey band spans all test images, from the cheapest to the dearest."}}
constant = bits["a constant grey"]
pictures.draw_constants(greys, constant, bits_of_test)
plt.show()

floor = 0.5 * math.log2(math.pi * math.e / 6)
assert constant[0] == min(b.min() for b in bits.values())
assert constant[0] > floor
assert (constant > bits_of_test.mean()).double().mean() > 0.5
print(f"black: {constant[0]:.2f} bits/dim, of which the noise: {floor:.2f}")

# %% [markdown]
# (The last figure is {eq}`eq:floor`, what an affine step under a Gaussian prior pays for the noise on a certain pixel.)
# {cite:t}`nalisnick2019know` come to a kindred conclusion, for flows of constant volume, by an expansion to second
# order: mean and variance of a set, against the curvature of the model, explain which set is likelier.
#
# ## Typical, not likely
#
# Why does nobody see these likely images among the *samples* of a flow? A density counts per volume, and images
# that are likely one by one can have hardly any volume together. In high dimensions that is the rule. The prior
# shows it ({ref}`ex-norm` has its lengths):
#
# ```{prf:proposition} The shell of a Gaussian
# :label: prop-shell
#
# For $z \sim \mathcal N(0, I)$ in $D$ dimensions, the mean, the standard deviation and the minimum of
# $-\log p(z) = \tfrac D2 \log 2\pi + \tfrac12 |z|^2$ are
#
# $$
# \text{mean} &= \tfrac D2 \log 2\pi e, \\
# \text{s.d.} &= \sqrt{D/2}, \\
# \text{min.} &= \tfrac D2 \log 2\pi .
# $$ (eq:shell)
# ```
#
# ```{prf:proof}
# $|z|^2$ is a sum of $D$ independent squares $z_i^2$, each of mean $1$ and variance $\mathbb E z_i^4 - 1 = 2$. The
# minimum is at $z = 0$.
# ```
#
# So the likeliest point beats a draw by $D/2$ nats, while draws differ from each other by $\sqrt{D/2}$: the mode is
# $\sqrt{D/2}$ standard deviations away from what is drawn.

# %%
z = torch.randn(4000, D, generator=torch.Generator().manual_seed(0))
nats = 0.5 * (D * math.log(2 * math.pi) + z.double().square().sum(dim=1))
least = D / 2 * math.log(2 * math.pi)
assert abs(nats.mean() - D / 2 * math.log(2 * math.pi * math.e)) < 1.5
assert abs(nats.std() - math.sqrt(D / 2)) < 1
assert nats.min() > least + 0.8 * D / 2
away = (nats.mean() - least) / nats.std()
print(f"D = {D}: the mode is {away:.0f} standard deviations from a draw")

# %% mystnb={"figure": {"caption": "Bits per dimension of draws of a unit Gaussian, {eq}`eq:shell`, in ever more dimensions. Dashed: the mean, which is the entropy. Triangle: the mode. (No figure in the paper.)", "name": "fig-shells"}, "image": {"alt": "Four histograms. In one dimension draws pile up at the mode, at 1.3 bits. In 10 dimensions they spread around 2, in 100 they gather in a hump around 2.05, in 784 in a narrow one, far to the right of the triangle."}}
pictures.draw_shells((1, 10, 100, D))
plt.show()

# %% [markdown]
# Where $-\log P$ is a sum of many terms that hang together weakly, draws of a model have it close to its mean, and
# neither far above *nor below*. That is the model's **typical set**. In a second paper,
# {cite:t}`nalisnick2019typicality` therefore call images foreign if their bits are too few *or* too many. Here are
# three rules, each with a threshold that calls one training image, or one group of them, in twenty foreign: the
# naive one, which minds too many bits only; the two-sided one; and this for ten images at once, whose mean must
# fit.

# %%
own = score_images(flow, some(train, 200, seed=1))


def tens(scores):
    """Means of 400 random groups of ten scores."""
    generator = torch.Generator().manual_seed(2)
    picks = torch.randint(len(scores), (400, 10), generator=generator)
    return scores[picks].mean(dim=1)


def foreign(statistic, of_own):
    """The share beyond what 95% of training images stay below."""
    limit = torch.quantile(of_own, 0.95)
    return (statistic > limit).double().mean().item()


def distance(scores):
    """How far from the mean of training images, in bits/dim."""
    return (scores - own.mean()).abs()


def verdicts(scores):
    """Three shares: too dear, not typical, not typical as tens."""
    return (
        foreign(scores, own),
        foreign(distance(scores), distance(own)),
        foreign(distance(tens(scores)), distance(tens(own))),
    )


judged = {name: verdicts(b) for name, b in bits.items()}
header = ["called foreign", "too dear", "not typical", "ten at once"]
rows = [[name, *(f"{v:.0%}" for v in j)] for name, j in judged.items()]
figures.show_table(header, rows)
assert max(judged[digits][0], judged[drawn][0]) < 0.05
assert judged[digits][1] > 0.5
assert min(judged[digits][2], judged[drawn][2]) > 0.95
assert judged["test, blurred"][2] < 0.2
assert judged["Fashion-MNIST test"][1] > 0.05

# %% [markdown]
# The naive rule calls hardly a digit foreign. The two-sided rule, for single images, finds most of the typeset ones;
# of the drawn ones, the share is in the table. Those that pass do so because clothes differ so much that some are as
# cheap as a digit. Ten at once are another matter; their mean varies less, and digits are found out. Blurred images
# pass all the same, as their bits are just those of clothes. To be typical in one number is a necessary condition,
# and a weak one. (Of test images, too, more than one in twenty are called foreign: the flow was not fitted to them.)
#
# The latents have more to say. Under the prior $|z|^2 / D$ is 1, give or take $\sqrt{2 / D}$:

# %%
rows = []
noise = torch.Generator().manual_seed(0)
for name, images in sets.items():
    z = flow.encode(images[:30].to(device), noise).cpu().flatten(1)
    size = z.square().mean(dim=1)
    rows.append([name, f"{size.mean():.2f}", f"{size.std():.2f}"])
figures.show_table(["squared length of z / D", "mean", "spread"], rows)
spread = math.sqrt(2 / D)
print(f"for draws of the prior: 1.00 and {spread:.2f}")
assert float(rows[0][2]) > 1.5 * spread
assert abs(float(rows[0][1]) - 1) < 0.05

# %% [markdown]
# Blurred images are inside the shell. But test images do not lie *on* it either: they are right on average, as
# training sees to, and one by one their lengths vary more than those of draws. The flow is not that good a model.
#
# ## Good likelihood, bad samples, and the reverse
#
# {cite:t}`theis2016note` have an argument that needs no measurement. Mix the model with anything at all,
#
# $$
# P'(x) &= \tfrac1{100} P(x) + \tfrac{99}{100}\, Q(x), \\
# -\log P'(x) &\le -\log P(x) + \log 100 .
# $$ (eq:mixture)
#
# Ninety-nine draws of a hundred come from $Q$, and the likelihood loses at most $\log 100 \approx 4.6$ nats. Let
# $Q$ be uniform noise:


# %%
def mixed(log_p, log_q):
    """log of 0.01 P + 0.99 Q, nats."""
    return torch.logaddexp(log_p + math.log(0.01), log_q + math.log(0.99))


log_p = -factor * bits_of_test  # a lower bound, one draw of the noise
log_noise = torch.full_like(log_p, -D * math.log(256))
log_mixed = mixed(log_p, log_noise)
lost = (log_p - log_mixed).max()
assert lost <= math.log(100) + 1e-9
assert lost < 0.005 * -log_p.mean()
print(f"lost: {lost:.2f} of {-log_p.mean():.0f} nats,", end=" ")
print(f"or {lost / factor:.4f} bits/dim")

# %% [markdown]
# The other way round, let $Q$ be a list of training images, each as probable as the others, and $P$ noise. Then 99
# samples of 100 are photographs, and an image outside the list gains nothing from it. The samples are better than
# those of any model in this book, the likelihood worse than that of no model at all. And a hundredth of the flow
# with 99 of copies has both, a good likelihood and perfect samples, all of it borrowed.

# %%
seen = {x.numpy().tobytes() for x in train}
assert not any(x.numpy().tobytes() in seen for x in test)
nowhere = torch.full_like(log_p, -math.inf)  # Q of an image not in the list
generator = torch.Generator().manual_seed(0)
chosen = torch.rand(10, 1, 1, 1, generator=generator) < 0.01  # who draws P
static = torch.randint(256, (10, *shape), generator=generator).byte()
copies = some(train, 10)
drawn_here = flow.sample(10, generator=generator).cpu()
models = {
    "the flow": (log_p, drawn_here),
    "1% flow, 99% noise": (
        log_mixed,
        torch.where(chosen, drawn_here, static),
    ),
    "1% noise, 99% copies": (
        mixed(log_noise, nowhere),
        torch.where(chosen, static, copies),
    ),
    "1% flow, 99% copies": (
        mixed(log_p, nowhere),
        torch.where(chosen, drawn_here, copies),
    ),
}
sheets = {}
for name, (log_prob, samples) in models.items():
    score = bits_per_dim(log_prob, shape).mean().item()
    sheets[f"{name}: {score:.2f}"] = samples
assert score < bits_of_test.mean() + 0.01

# %% mystnb={"figure": {"caption": "Four models, their bits/dim on test images, and ten samples of each. None is chosen. (No figure in the paper; after {cite:t}`theis2016note`.)", "name": "fig-mixtures"}, "image": {"alt": "Four rows of ten images, each with its score. The flow: rough clothes. One per cent flow and 99 noise, with hardly more bits: grains of noise. One per cent noise and 99 copies, with by far the most bits: real clothes. One per cent flow and 99 copies, with as few as the second: real clothes."}}
draw_rows(sheets)
plt.show()

# %% [markdown]
# So neither number nor sheet tells of the other. Among models that are made in one way they do go together,
# loosely; no threshold on one guarantees the other.
#
# ## Bits that can be counted
#
# What a likelihood does guarantee is a file. As in {prf:ref}`prop-code`, if every $x$ has a file of $L(x)$ bits, and
# no file is the beginning of another, then $\sum_x 2^{-L(x)} \le 1$ (Kraft): lengths are probabilities. And from
# probabilities come files:
#
# ```{prf:proposition} Arithmetic coding
# :label: prop-coding
#
# Let $P$ be given by its conditionals $p(x_i \mid x_{<i})$. There is a code, computed one $x_i$ at a time, with
#
# $$
# -\log_2 P(x) \;\le\; L(x) \;<\; -\log_2 P(x) + 2 \quad \text{bits.}
# $$ (eq:length)
#
# On average over $x \sim P$ no such code is shorter than the entropy $\mathbb E[-\log_2 P(x)]$.
# ```
#
# ```{prf:proof}
# Start with $[0, 1)$. For each $i$ split the interval in the ratios of $p(\cdot \mid x_{<i})$ and keep the part of
# $x_i$. What is left has width $P(x)$, and different $x$ have disjoint intervals. Take the least $\ell$ with
# $2^{-\ell} \le P(x) / 2$. The least multiple of $2^{-\ell}$ in the interval, written with $\ell$ binary digits, is
# the file: whatever digits follow, the number stays inside. And $\ell < -\log_2 P(x) + 2$. For the second claim:
# $\mathbb E[L(x)]$ exceeds the entropy by $\mathbb E[\log_2 (P(x) / 2^{-L(x)})]$, by Kraft's inequality a
# divergence or more.
# ```

# %% mystnb={"figure": {"caption": "The message *abca*, with probabilities $\\frac12$, $\\frac14$ and $\\frac14$ at each step: each symbol keeps its share of the interval. (No figure in the paper.)", "name": "fig-intervals"}, "image": {"alt": "Four bars, one below the other, each split into parts a, b and c. One part of each is blue and opens into the bar below; the ends of the bars are labelled: 0 and 1, 0 and 0.5, 0.25 and 0.375, 0.3438 and 0.375."}}
pictures.draw_intervals({"a": 0.5, "b": 0.25, "c": 0.25}, "abca")
plt.show()

# %% [markdown]
# Here it is in exact integers. The interval is from `low / whole` to `(low + width) / whole`, and a row of `counts`
# has the ratios for one symbol.


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
# A Pixel RNN is made for this: by the chain rule it gives all the conditionals. (In a real decoder a row of
# `counts` is computed when the symbols before it are known.) We take the recorded Row LSTM and a test image of the
# set that it was trained on. `frequencies`, of `nvp.autoregressive.coding`, has its conditionals as integers; why integers, in a
# moment.

# %%
run = ledger["fashion-small-row-lstm-softmax"]
model = run.load_model()
coded = some(load(EMBEDDED, "test").images, 200 if full else 40)


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
assert promise[0] <= len(file) < promise[0] + 2
print(f"-log2 P = {promise[0]:.1f}, the file has {len(file)} bits")

# %% [markdown]
# Numbers of a thousand digits are for a page only. A **range coder** keeps a window of 64 bits and hands out words
# of 32 as they become certain; another design, ANS, does the like with a stack. Those used here are of the package
# [constriction](https://bamler-lab.github.io/constriction/) {cite}`bamler2022ans`.

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
assert overhead.min() > -0.1
assert overhead.max() < 64
print(f"a file of one image: {overhead.mean():.0f} bits more than promised")

# %% [markdown]
# Words of 32 bits are coarse for one image. For many it does not matter, as a stream ends only once. `encode` of
# the package puts all images into one:

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
# That the integers cost next to nothing is in it too: the last line compares with the model's own likelihood. And
# back again, one pixel of all images after the other, 784 in a row:

# %%
assert torch.equal(decode(model, archive, len(coded)), coded)
print(f"{len(coded)} of {len(coded)} images come back exactly")

# %% [markdown]
# ### The same numbers on both sides
#
# A decoder that is told a slightly different probability takes a wrong turn, and all that follows is lost. That is
# more delicate than it seems. Sums of floating-point numbers depend on their order, and the order on the size of
# the batch, the number of threads, the library, the machine. *Scoring* images in one pass and *stepping* through
# their pixels are two orders already. How far apart do they end up?


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
# In single precision a decoder would soon be lost. `nvp.autoregressive.coding` takes three measures:
#
# * encoder and decoder are the same code: both *sample*, the encoder with an oracle in place of the dice, the
#   decoder with the file;
# * they compute in float64, on the CPU, whatever the model was trained in;
# * each probability is rounded to a multiple of $2^{-20}$, plus one so that nothing is impossible. The errors of
#   float64 are near $10^{-14}$, and move an integer only if it was that close to a half.
#
# The last makes a disagreement rare, about one in $10^8$ pixels, not impossible; only integer arithmetic throughout
# would be proof. Here is where the dice are exchanged:
#
# ```{literalinclude} ../nvp/autoregressive/coding.py
# :pyobject: _sample
# ```
#
# How small an error is too large? Change one weight of the decoder's model by a part in a million.

# %%
three = coded[:3]
files = [encode(model, x[None]) for x in three]
other = copy.deepcopy(model)
other.layers[0].up.weight.view(-1)[5] *= 1 + 1e-6
wrong = torch.cat([decode(other, file, 1) for file in files])
missed = (in_order(wrong) != in_order(three)).double().mean(dim=0)
assert missed.max() > 0
print(f"pixels lost: {', '.join(f'{share:.0%}' for share in missed)}")

# %% mystnb={"figure": {"caption": "Three images, and their files decoded by a model of which a single weight differs in the seventh digit. (No figure in the paper.)", "name": "fig-wrong-decoder"}, "image": {"alt": "Two rows of three images: a shirt, a sandal, a bag. Below, the shirt keeps its collar and turns into folds that do not fit; the sandal is as above; the bag keeps its upper half."}}
draw_rows({"written": three, "read": wrong})
plt.show()

# %% [markdown]
# From the first disagreement on, the rest of the file is so many random numbers, and what a decoder makes of random
# numbers is a *sample*. No pixel looks suspicious. A format for real use needs a checksum.
#
# ### Beside PNG
#
# How do these files compare with those that everybody has? The rivals are zlib on the raw bytes, PNG with Pillow's
# `optimize`, and lossless WebP with its slowest method (at a `quality` of 99; 100 takes far longer and gains
# little): each image as a file of its own, and all in one tall picture, one below the other, so that headers count
# once.

# %%
RIVALS = {
    "PNG": {"optimize": True},
    "WebP": {"lossless": True, "quality": 99, "method": 6},
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


sizes = rival_sizes(coded)
least = min(together for _, together in sizes.values())
assert len(archive) < 0.9 * least
assert all((alone < each).double().mean() > 0.9 for each, _ in sizes.values())
sizes[run.config.title] = alone, len(archive)
show_sizes(sizes, len(coded), D)

# %% mystnb={"figure": {"caption": "Files of single images over the length that the likelihood promises. (No figure in the paper.)", "name": "fig-promises"}, "image": {"alt": "A scatter plot. The files of the Row LSTM lie on the diagonal. Those of zlib, WebP and PNG rise beside it, nearly all above, PNG the highest."}}
pictures.draw_promises(
    promise / 8, {name: each for name, (each, _) in sizes.items()}
)
plt.show()

# %% [markdown]
# The promise is kept, image by image. The rivals are at a disadvantage: they are made for pictures of any size and
# kind, and know nothing of clothes. The network does, and its decoder needs the weights. If they have to be sent
# along, how many images does it take until they pay for themselves?

# %%
weights = run.record.weights.bytes
saved = (least - len(archive)) / len(coded)
enough = weights / saved
assert 100 < enough < 10_000
print(f"trained for {run.record.minutes:.0f} minutes on", end=" ")
print(f"{run.record.data.train_images} images: {weights} bytes of weights")
print(f"{saved:.0f} saved an image: {round(enough, -2):.0f} pay for them")

# %% [markdown]
# For the 10,000 test images of Fashion-MNIST it is worth it, for an album of a hundred it is not. Time is another
# cost: the network takes its 784 steps one after the other, to write and to read.
#
# ### Two levels
#
# For binary images the files are smaller by far. The recorded Diagonal BiLSTM of chapter {ref}`pixelrnn-results`
# was trained on binarised digits; they are not part of the book, so two stand-ins: draws of the model itself, for
# which no code is shorter on average than its own, and the binarised clothes of the embedded set, which it has
# never seen.

# %%
of_digits = ledger["binarized-mnist-diagonal-1"]
digit_model = of_digits.load_model()
number = 200 if full else 30
generator = torch.Generator().manual_seed(0)
ours, least_of = {}, {}
for name, images in {
    "Draws of the model": digit_model.sample(number, generator=generator),
    "Binarised clothes": some(load(EMBEDDED_BINARY, "test").images, number),
}.items():
    counts_of = frequencies(digit_model, images)
    bits_of = promised(counts_of, images)
    file = encode(digit_model, images)
    assert -0.1 < 8 * len(file) - bits_of.sum() < 64
    assert torch.equal(decode(digit_model, file, number), images)
    sizes = rival_sizes(255 * images)
    ours[name] = len(file)
    least_of[name] = min(together for _, together in sizes.values())
    sizes[of_digits.config.title] = range_coded(counts_of, images), len(file)
    display(Markdown(f"*{name}*: promised, {bits_of.mean() / 8:.1f} bytes"))
    show_sizes(sizes, number, D // 8)
assert ours["Draws of the model"] < 0.5 * least_of["Draws of the model"]
assert ours["Binarised clothes"] > least_of["Binarised clothes"]

# %% [markdown]
# On its own ground the model is far ahead. With clothes it is behind the best of the three: the wrong model costs its
# distance from the data, {eq}`eq:cost`, in bytes. Alone in a file, a digit costs the rivals about twice as much as
# among others, or more, and us a few bytes.
#
# ### And flows?
#
# A flow has no probability of an integer to tell a coder, but a density, and its bits/dim is a bound,
# {eq}`eq:dequantisation`. Can one make a file of the bound? Yes, by getting **bits back**
# {cite}`townsend2019bbans`. To send $x$, choose the noise $u$ and code $x + u$ to a precision of $\delta$ in each
# dimension. It costs
#
# $$
# -\log_2 p(x + u) + D \log_2 \tfrac1\delta \quad \text{bits,}
# $$ (eq:bits-back)
#
# too many by the second term. But $u$ is free to be anything. So it is not drawn, it is *read*, as if it had been
# coded, from the file as it is so far, which thereby gets shorter by $D \log_2 (1/\delta)$ bits. The receiver
# decodes $x + u$, splits it into the integer and the noise, and puts the noise back as the bits that it came from.
# Net, on average, this is the bound. It takes a coder that works like a stack (ANS), and a file that has some bits
# to begin with. Another difficulty is that $f$ in floating-point numbers is not exactly a bijection;
# {cite:t}`ho2019localbitsback` solve it for flows like this one, and {cite:t}`hoogeboom2019idf` avoid it, with
# couplings that map integers to integers. This book has code for neither.
#
# ## Summary
#
# * A flow of Fashion-MNIST finds digits likelier than clothes. What images cost is their entropy plus their
#   distance from the model, {eq}`eq:cost`; a simple set can be cheap and far away.
# * For this flow cheap means short to describe, and black.
# * Draws of a model are typical, not likeliest: too few bits are as suspicious as too many. As a test for single
#   images this is weak.
# * A mixture with a hundredth of a model has its likelihood but for $\log 100$ nats, and any samples one likes.
# * $-\log_2 P(x)$ is the length of a file, within two bits; a real coder adds a word or so. Decoder and encoder
#   must agree on every number exactly.
# * The recorded Row LSTM writes smaller files than PNG and WebP, if its weights need not be sent along.
#
# ## Exercises
#
# ```{exercise} Take away what anyone would pay
# :label: ex-complexity
#
# {cite:t}`serra2020complexity` judge an image by its bits under the model *minus* its bits under a general coder.
# Do so with PNG. How often does an image from elsewhere have a larger difference than a test image?
# ```
#
# ```{solution-start} ex-complexity
# :class: dropdown
# ```
# Now every set is on the right side of one half, digits and greys included: PNG takes them for even simpler than
# the flow does. It is a ratio of two likelihoods, and the second model cancels what both would pay.

# %%
excess = {
    name: bits[name] - causes["bits/dim as a PNG"][name] for name in sets
}
usual = excess["Fashion-MNIST test"]
rows = [[n, f"{likelier(usual, e):.0%}"] for n, e in excess.items()]
figures.show_table(["images", "larger than that of a test image"], rows)
assert all(likelier(usual, excess[name]) > 0.6 for name in list(sets)[1:])

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Cheaper than real
# :label: ex-cheaper
#
# Samples of the flow at a temperature of 0.7 look smoother than those at 1. Which are likelier under the flow, and
# which are typical?
# ```
#
# ```{solution-start} ex-cheaper
# :class: dropdown
# ```
# Those at 0.7 are likelier than those at 1, and than test images: $|z|^2$ is half of what the prior expects. As
# tens they are called foreign more often than not, now on the cheap side.

# %%
costs = {}
for t in (0.7, 1.0):
    generator = torch.Generator().manual_seed(0)
    images = flow.sample(40, generator=generator, temperature=t)
    costs[t] = score_images(flow, images)
    print(f"T = {t}: {costs[t].mean():.2f} bits/dim,", end=" ")
    print(f"tens called foreign: {verdicts(costs[t])[2]:.0%}")
assert costs[0.7].mean() < bits_of_test.mean() < costs[1.0].mean()
assert verdicts(costs[0.7])[2] > 0.5

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} How coarse may the integers be?
# :label: ex-coarse
#
# Round the probabilities to multiples of $2^{-k}$, plus one, for $k = 8, 10, \dots, 20$. What does an image lose,
# and why does anybody want a small $k$?
# ```
#
# ```{solution-start} ex-coarse
# :class: dropdown
# ```
# The plus one takes a share of about $256 / 2^k$ from all that is probable, so the loss is at most about $784 \cdot
# 256 / (2^k \ln 2)$ bits; up to $k = 12$ it hurts. At $k = 16$ it is a gain: the model was a little too sure of
# itself on test images. A small $k$ makes disagreements rarer, in proportion to $2^k$.

# %%
p = (counts - 1) / RESOLUTION
lost = {}
for k in range(8, 22, 2):
    coarser = (2**k * p.double()).round() + 1
    lost[k] = (promised(coarser, coded) - promise).mean().item()
rows = [[f"k = {k}", f"{b:.1f}"] for k, b in lost.items()]
figures.show_table(["multiples", "bits lost an image"], rows)
assert abs(lost[20]) < 1e-6
assert lost[8] > lost[10] > lost[12] > 10
assert lost[16] < 0
assert all(b < D * 256 / (2**k * math.log(2)) for k, b in lost.items())

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Nothing for nothing
# :label: ex-nothing
#
# Can a code make every image shorter? Try yours on noise.
# ```
#
# ```{solution-start} ex-nothing
# :class: dropdown
# ```
# No: there are $256^{784}$ images, and fewer files than that which are shorter than $784$ bytes. What a model saves
# on clothes it pays for elsewhere, and on noise most of all.

# %%
grains = sets["noise"][:4]
size = len(encode(model, grains)) / len(grains)
assert size > D
print(f"{D} bytes of noise become {size:.0f}")

# %% [markdown]
# ```{solution-end}
# ```
