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
# Does a good likelihood mean that samples look right? Does a high likelihood mean that an image looks like the data?
# Both answers are no. This chapter shows
#
# * a flow that finds digits likelier than the clothes that it was trained on;
# * why its recorded samples show no such image;
# * models whose likelihoods and samples contradict each other.
#
# A likelihood does promise the length of a file. Chapter {ref}`compression` keeps that promise.
#
# ```{admonition} In the papers
# Both papers rank their models by likelihood: table 1 of {cite:t}`dinh2017realnvp`, tables 4 to 6 of
# {cite:t}`oord2016pixelrnn`. Section 4.2 of the first says why samples can still be bad.
# ```

# %% tags=["parameters"]
profile = "laptop"

# %% tags=["hide-input"]
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import figures
from nvp_book.figures import likelihoods as pictures
from nvp_book.figures.samples import plot_rows
from nvp_book.selection import images_for, sheet_images
from PIL import Image

from nvp.data import EMBEDDED, load
from nvp.data.splits import shuffled
from nvp.devices import pick_device
from nvp.ledger import runs
from nvp.likelihood import bits_per_dim, nats_per_bit, score_images
from nvp.runs.sheet import encode

figures.use_style()
torch.set_num_threads(1)  # sums in one order, however many cores
torch.set_grad_enabled(False)
full = profile == "paper"
device = pick_device("auto" if full else "cpu")
ledger = runs()

# %% [markdown]
# ## Likelier than the data
#
# {cite:t}`nalisnick2019know` trained flows, VAEs and PixelCNNs on one set of images and scored images of another,
# which are *out of distribution*. Often these came out *likelier*: house numbers under a model of animals and
# vehicles, and MNIST under a model of Fashion-MNIST. Does the recorded flow of this book do the same? We score its
# own test images first:

# %%
run = ledger["fashion-mnist"]
flow = run.load_model(str(device))
shape, D = flow.image_shape, flow.num_dimensions
train = load(EMBEDDED, "train").images
everything = images_for(run, "test", full=full).images
test = shuffled(everything, 1000 if full else 100)  # so many, at random
bits_of_test = score_images(flow, test)
print(f"{len(test)} test images: {bits_of_test.mean():.2f} bits/dim")

# %% [markdown]
# The other images are test images of MNIST, samples of this book's flow of MNIST, changed test images, constant
# greys and noise:

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Eight images of each set.", "name": "fig-elsewhere"}, "image": {"alt": "Rows of eight images: clothes and shoes; digits of MNIST; digits drawn by a flow; dark, blurred and inverted clothes; squares of one grey; grey clouds; grains of noise."}}
generator = torch.Generator().manual_seed(0)
few = test[:40]
greys = torch.linspace(0, 255, 32).round()
coarse = torch.rand(24, 1, 4, 4, generator=generator)
smooth = F.interpolate(coarse, size=shape[1:], mode="bicubic").clamp(0, 1)
mnist = images_for(ledger["mnist"], "test", full=full)
kept = sheet_images(ledger["mnist"].files.real, 28)[:, :1]
of_mnist = ledger["mnist"].load_model().sample(40, generator=generator)
sets = {
    "Fashion-MNIST test": test,
    "MNIST test": shuffled(mnist.images, 1000) if mnist else kept,
    "samples of the MNIST flow": of_mnist,
    "test, darkened": (few / 4).round().byte(),
    "test, blurred": F.avg_pool2d(few.float(), 5, 1, 2).round().byte(),
    "test, as a negative": 255 - few,
    "a constant grey": greys.byte().view(-1, 1, 1, 1).expand(-1, *shape),
    "smooth noise": (255 * smooth).round().byte(),
    "noise": torch.randint(256, (24, *shape), generator=generator).byte(),
}
bits = {name: score_images(flow, images) for name, images in sets.items()}
plot_rows({name: x[:: len(x) // 8][:8] for name, x in sets.items()})
plt.show()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Bits/dim of single images under the flow that was trained on Fashion-MNIST. Dashed: the mean of its own test images; grey: the middle half of them. Each histogram has a height of its own. Images left of the dashed line are likelier than the average test image. (After {cite:t}`nalisnick2019know`.)", "name": "fig-elsewhere-scores"}, "image": {"alt": "Nine histograms, one below the other. The test images spread widely around the dashed line, at 3. MNIST test images and samples of the MNIST flow lie to its left, most of them left of the grey band. Darkened images lie a little to the left of the test images, blurred ones on them. Constant greys lie within one bit of the dashed line, but for one near zero. Smooth noise, near 4.7, and negatives, near 5.3, lie to the right, and noise, near 9, furthest."}}
pictures.plot_score_rows(bits)
plt.show()

# %% [markdown]
# All digits lie left of the dashed line. How often is an image of a set likelier than a test image, both taken at
# random?


# %%
def likelier(these, those):
    """How often one of `these` has fewer bits than one of `those`."""
    return (these[:, None] < those).double().mean().item()


rows = [
    [name, f"{b.mean():.2f}", f"{likelier(b, bits_of_test):.0%}"]
    for name, b in bits.items()
]
figures.show_table(["images", "bits/dim", "likelier than a test image"], rows)

digits, drawn = "MNIST test", "samples of the MNIST flow"
factor = nats_per_bit(shape)  # nats in one bit/dim
gap = factor * (bits_of_test.mean() - bits[digits].mean())
print(f"a digit is likelier than clothes by {gap:.0f} nats, on average")

# %% tags=["remove-cell"]
for name in (digits, drawn):
    assert full or bits[name].max() < bits_of_test.mean()
assert likelier(bits[digits], bits_of_test) > 0.9
assert likelier(bits[drawn], bits_of_test) > 0.8

# %% [markdown]
# So digits are likelier than clothes here, too.
#
# ### Likely is not the same as near
#
# Has the flow then learned digits? Not necessarily. Draw images from any distribution $q$.
# As in {eq}`eq:projection`,
#
# $$
# \underbrace{\mathbb E_{x \sim q}[-\log P(x)]}_{\text{their cost under } P}
# = {} &\underbrace{\mathbb E_{x \sim q}[-\log q(x)]}_{\text{the entropy of } q} \\
# &+ \underbrace{\mathrm{KL}(q \,\|\, P)}_{\text{how far } q \text{ is from } P} .
# $$ (eq:cost)
#
# The divergence is the *distance* of a set from a model. A set with little variety has a small entropy, so it can be
# far from the model and still cost less {cite}`caterini2021entropic`. The next cell prints both terms in bits/dim.
# The cost of samples under their own flow bounds their entropy, as $\mathrm{KL} = 0$ for $q = P$.

# %%
lists = digits, "Fashion-MNIST test"
entropy = {name: math.log2(len(sets[name])) / D for name in lists}
entropy["noise"] = 8
cost = {name: bits[name].mean().item() for name in entropy}
digit_flow = ledger["mnist"].load_model(str(device))
for number, scorer in ((cost, flow), (entropy, digit_flow)):
    scores = score_images(scorer, sets[drawn], num_draws=8)
    number[drawn] = scores.mean().item()
divergence = {name: cost[name] - h for name, h in entropy.items()}
for name, h in entropy.items():
    print(f"{name}: {h:.1f} of entropy, {divergence[name]:.1f} of distance")

# %% tags=["remove-cell"]
assert divergence[drawn] < entropy[drawn]
assert 0.05 < (bits_of_test < bits[drawn].mean()).double().mean() < 0.15
assert 150 < divergence[drawn] * D < 300

# %% [markdown]
# For the samples of the MNIST flow, most of the cost is entropy. Still their distance, 0.3 bits/dim, is about 200
# bits for each image. Cost and entropy are bounds, {eq}`eq:dequantisation`, so this distance may err either way. (The
# two test sets are lists. A list of $n$ images has an entropy of at most $\log n$, so nearly all of
# its cost is distance, even for clothes.)
#
# ### Which images need few bits?
#
# Compare the flow's bits with two numbers that need no model: the size of the image as a PNG,
# and its share of black pixels. The last lines print how much more a negative costs than its
# original, and how many pixels of test images are black.


# %% tags=["hide-input"]
def png(images):
    """Bits/dim of each image as a PNG of its own."""
    sizes = [len(encode(Image.fromarray(x.numpy()))) for x in images[:, 0]]
    return 8 * torch.tensor(sizes) / images[0].numel()


as_png = {name: png(images) for name, images in sets.items()}
causes = {
    "bits/dim as a PNG": as_png,
    "share of pixels below 8": {
        name: (images < 8).double().mean(dim=(1, 2, 3))
        for name, images in sets.items()
    },
}


def rank_correlation(a, b):
    """Spearman's: equal numbers share the mean of their ranks."""
    ranks = torch.stack(
        [(x[:, None] > x).sum(1) + (x[:, None] >= x).sum(1) for x in (a, b)]
    )
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

# %%
negatives = (bits["test, as a negative"] - score_images(flow, few)).mean()
black = causes["share of pixels below 8"]["Fashion-MNIST test"].mean()
print(f"a negative costs {negatives:.1f} bits/dim more than its original")
print(f"{black:.0%} of the pixels of test images are black, or nearly so")

# %% tags=["remove-cell"]
assert float(rows[0][1]) > 0.85
assert float(rows[1][2]) < -0.75
assert negatives > 1.5
assert abs(png(few).mean() / as_png["test, as a negative"].mean() - 1) < 0.05
assert black > 0.5
most = as_png["a constant grey"].max()
assert all(most < s.min() for n, s in as_png.items() if "grey" not in n)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Bits/dim under the flow. Left: over the size of the image as a PNG file. Right: over the share of pixels that are black or nearly so. (The left panel is after {cite:t}`serra2020complexity`.)", "name": "fig-causes"}, "image": {"alt": "Two scatter plots. Left: most sets lie along one rising band, from digits at the lower left to clothes at the upper right, with noise far above. Negatives lie on a band of their own, higher up; constant greys lie in a column at the left edge. Right: bits fall as the share of black pixels rises."}}
pictures.plot_causes(bits, causes)
plt.show()

# %% [markdown]
# Among test images, the flow and PNG rank images in nearly the same order. So most of an image's likelihood says
# how much there is to describe. {cite:t}`serra2020complexity` found this across data sets.
#
# In the left panel negatives, greys and noise leave the band. A negative is as long to describe as its original,
# and the flow needs far more bits for it. A constant grey has the smallest PNG of all, yet only black needs few bits.
# This flow has learned that most pixels of clothes are black.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Constant images under the flow. Black is the likeliest of all images of this page; middle greys need more bits than clothes do on average.", "name": "fig-constants"}, "image": {"alt": "Bits per dimension over grey level. The curve begins near zero at black, and jumps towards the dashed line, the mean of the test images. It rises above this line in the middle, and falls below it near white. A grey band spans all test images, from the fewest bits to the most."}}
constant = bits["a constant grey"]
pictures.plot_constants(greys, constant, bits_of_test)
plt.show()


# %% tags=["remove-cell"]
assert constant[0] == min(b.min() for b in bits.values())
assert (constant[10:20] > bits_of_test.mean()).all()  # the middle
assert constant[1:].min() > 2
assert (constant[1:] - bits_of_test.mean()).abs().max() < 1
assert constant[-1] < bits_of_test.mean()

# %% [markdown]
# Every grey but black needs more than 2 bits/dim, and the middle ones more than the mean of the test images.
#
# Why do images of another set need fewer bits? For flows of constant volume, {cite:t}`nalisnick2019know` explain it
# by the means and variances of the pixels of both sets, and by the curvature of the log-density.
# {cite:t}`kirichenko2020fail` find that coupling flows learn local correlations of pixels, which many sets share,
# rather than the content of the images.
#
# ## Typical, not likely
#
# The 64 recorded *samples* of the flow show no digit, although the average sampled digit is likelier than nine test
# images in ten. Why? By {eq}`eq:cost` the flow gives such a digit about $2^{-200}$ of the
# probability that the flow of MNIST gives it.
# The probability of a set is its density times its volume. The likeliest images have hardly any volume, as the prior
# shows:
#
# ```{prf:proposition} The shell of a Gaussian
# :label: prop-shell
#
# For $z \sim \mathcal N(0, I)$ in $D$ dimensions, the mean, the standard deviation and the minimum of
# $-\log p(z) = \tfrac D2 \log 2\pi + \tfrac12 \lVert z \rVert^2$ are
#
# $$
# \text{mean} &= \tfrac D2 \log 2\pi e, \\
# \text{s.d.} &= \sqrt{D/2}, \\
# \text{min.} &= \tfrac D2 \log 2\pi .
# $$ (eq:shell)
# ```
#
# ```{prf:proof}
# $\lVert z \rVert^2$ is a sum of $D$ independent squares $z_i^2$, each of mean $1$ and variance $\mathbb E z_i^4 - 1
# = 2$. The minimum is at $z = 0$.
# ```
#
# The likeliest point needs $D/2$ nats less than the average sample, or $\sqrt{D/2}$ of the standard deviations in
# {eq}`eq:shell`:

# %%
z = torch.randn(4000, D, generator=torch.Generator().manual_seed(0))
nats = 0.5 * (D * math.log(2 * math.pi) + z.double().square().sum(dim=1))
least = D / 2 * math.log(2 * math.pi)
away = (nats.mean() - least) / nats.std()
print(f"D = {D}: the mode is {away:.0f} standard deviations from a sample")

# %% tags=["remove-cell"]
assert abs(nats.mean() - D / 2 * math.log(2 * math.pi * math.e)) < 1.5
assert abs(nats.std() - math.sqrt(D / 2)) < 1
assert nats.min() > least + 0.8 * D / 2

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Bits per dimension of 20,000 samples of a unit Gaussian, {eq}`eq:shell`; each panel has its own height. Dashed: the mean, which is the entropy. Triangle: the mode. For $D = 1$ one sample in twenty lies beyond the right end.", "name": "fig-shells"}, "image": {"alt": "Four histograms. In one dimension samples pile up at the mode, at 1.3 bits. In 10 dimensions they spread around 2, in 100 they gather in a hump around 2.05. In 784 they gather in a narrow hump, far to the right of the triangle."}}
pictures.plot_shells((1, 10, 100, D))
plt.show()

# %% [markdown]
# The mean stays $\tfrac12 \log_2 e = 0.72$ bits/dim above the mode, and the hump around it narrows with $D$. Such a
# hump narrows wherever $-\log P$ is a sum of many weakly dependent terms. Then the samples of a model have values of
# $-\log P$ close to the mean, neither far above *nor below*. The images with such values form the **typical set**.
#
# {cite:t}`nalisnick2019typicality` therefore call an image out of distribution if its bits are too few *or* too
# many. The next cell tries three rules. Training images stand in for the model's own samples: each threshold
# rejects one in twenty of them, or of their groups.
#
# * one-sided: too many bits;
# * two-sided: too far from the mean of the training images;
# * two-sided for ten images at once, by the mean of their bits.

# %%
order = torch.randperm(len(train), generator=torch.Generator().manual_seed(1))
own = score_images(flow, train[order[:200]])


def tens(scores):
    """Means of 400 random groups of ten scores."""
    generator = torch.Generator().manual_seed(2)
    picks = torch.randint(len(scores), (400, 10), generator=generator)
    return scores[picks].mean(dim=1)


def rejected(statistic, of_own):
    """The share beyond what 95% of training images stay below."""
    limit = torch.quantile(of_own, 0.95)
    return (statistic > limit).double().mean().item()


def distance(scores):
    """How far from the mean of training images, in bits/dim."""
    return (scores - own.mean()).abs()


def verdicts(scores):
    """Three shares: too many bits, not typical, not typical as tens."""
    return (
        rejected(scores, own),
        rejected(distance(scores), distance(own)),
        rejected(distance(tens(scores)), distance(tens(own))),
    )


judged = {name: verdicts(b) for name, b in bits.items()}
header = ["rejected", "too many bits", "not typical", "ten at once"]
rows = [[name, *(f"{v:.0%}" for v in j)] for name, j in judged.items()]
figures.show_table(header, rows)

# %% tags=["remove-cell"]
assert max(judged[digits][0], judged[drawn][0]) < 0.05
assert max(judged[digits][1], judged[drawn][1]) < 0.35
assert min(judged[digits][2], judged[drawn][2]) > 0.95
assert judged["test, blurred"][2] < 0.2
assert judged["a constant grey"][2] < 0.2
assert full or 0.08 < judged["Fashion-MNIST test"][1] < 0.14
assert factor * bits_of_test.std() > 300

# %% [markdown]
# The one-sided rule rejects almost none of the digits, and the two-sided rule a minority. The others pass, because
# the costs of clothes spread by hundreds of nats, not by $\sqrt{D/2} = 20$: their pixels depend strongly on each
# other.
#
# The mean of ten images varies less, so the third rule rejects digits. Blurred images and constant greys still pass,
# because their bits are those of clothes. ({ref}`ex-cheaper` tries the flow's own samples.) The
# second rule rejects about one test image in ten, with a standard error of 3%. So a test by one
# number can reject an image, but passing it says little.
#
# The latents give another number. Under the prior, $\lVert z \rVert^2 / D$ has mean 1 and standard deviation
# $\sqrt{2 / D}$: the thin shell of chapter {ref}`latents`. The next cell applies the second rule to it, and to the
# share of black pixels:

# %%
generator = torch.Generator().manual_seed(0)
some = {name: images[:30] for name, images in sets.items()}
some["training"] = train[order[:200]]
itself = torch.Generator().manual_seed(1)
some["samples of this flow"] = flow.sample(30, generator=itself).cpu()
size, black = {}, {}
for name, images in some.items():
    z = flow.encode(images.to(device), generator).cpu().flatten(1)
    size[name] = z.square().mean(dim=1)
    black[name] = (images < 8).double().mean(dim=(1, 2, 3))
usual = [each.pop("training") for each in (size, black)]
rows = []
for name, s in size.items():
    cells = [f"{s.mean():.2f}", f"{s.std():.2f}"]
    for each, seen in zip((s, black[name]), usual, strict=True):
        off, limit = ((x - seen.mean()).abs() for x in (each, seen))
        cells.append(f"{rejected(off, limit):.0%}")
    rows.append([name, *cells])
header = ["images", "‖z‖² / D", "spread", "rejected by length", "by black"]
figures.show_table(header, rows)
spread = math.sqrt(2 / D)
print(f"for samples of the prior: 1.00 and {spread:.2f}")

# %% tags=["remove-cell"]
off = {row[0]: float(row[3][:-1]) / 100 for row in rows}
assert off["Fashion-MNIST test"] < 0.2
assert float(rows[0][2]) > 1.5 * spread
assert abs(float(rows[0][1]) - 1) < 0.05
by_black = {row[0]: float(row[4][:-1]) / 100 for row in rows}
for name in ("test, blurred", "a constant grey", drawn):
    assert off[name] > 0.6
    assert by_black[name] > 0.6 or "blurred" in name
assert full or 0.4 < by_black["test, blurred"] < 0.65
assert off["samples of this flow"] > 0.2 > by_black["samples of this flow"]

# %% [markdown]
# Latents of test images vary more in length than samples of the prior. The length rejects most
# blurred images, greys and sampled digits. Most of these pass by their bits. But the length also
# rejects many of the flow's own samples. The share of black pixels, which needs no flow, rejects
# few of these. It rejects most greys and sampled digits, and half of the blurred images.
#
# ## Good likelihood, bad samples, and the reverse
#
# {cite:t}`theis2016note` have an argument that needs no measurement. Mix the model $P$ with anything, $Q$:
#
# $$
# P'(x) &= \tfrac1{100} P(x) + \tfrac{99}{100}\, Q(x), \\
# -\log P'(x) &\le -\log P(x) + \log 100 .
# $$ (eq:mixture)
#
# Of a hundred samples, 99 come from $Q$ on average, and the log-likelihood loses at most $\log 100 \approx 4.6$ nats.
# First let $Q$ be uniform noise:


# %%
def mixed(log_p, log_q):
    """log of 0.01 P + 0.99 Q, nats."""
    return torch.logaddexp(log_p + math.log(0.01), log_q + math.log(0.99))


log_p = -factor * bits_of_test  # a lower bound, one draw of the noise
log_noise = torch.full_like(log_p, -D * math.log(256))
log_mixed = mixed(log_p, log_noise)
lost = (log_p - log_mixed).max()
assert lost <= math.log(100) + 1e-9
print(f"lost: {lost:.2f} of {-log_p.mean():.0f} nats,", end=" ")
print(f"or {lost / factor:.4f} bits/dim")

# %% [markdown]
# The reverse is possible, too. Let $Q$ be a list of training images, all equally probable, and let $P$ be
# noise. Then 99 samples of 100 are photographs. But an image outside the list gains nothing from it, so the
# likelihood is close to that of pure noise. With 1% flow and 99% copies, the flow gives a good likelihood, and the
# list perfect samples.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Four models, their bits/dim on test images, and ten samples of each. None was selected by hand. (After {cite:t}`theis2016note`.)", "name": "fig-mixtures"}, "image": {"alt": "Four rows of ten images, each with its score. The flow: rough clothes. One per cent flow and 99 noise, with hardly more bits: grains of noise. One per cent noise and 99 copies, with by far the most bits: real clothes. One per cent flow and 99 copies, with as few as the second: real clothes."}}
seen = {x.numpy().tobytes() for x in train}
assert not any(x.numpy().tobytes() in seen for x in test)
nowhere = torch.full_like(log_p, -math.inf)  # Q of an image not in the list
generator = torch.Generator().manual_seed(0)
chosen = torch.rand(10, 1, 1, 1, generator=generator) < 0.01  # who draws P
static = torch.randint(256, (10, *shape), generator=generator).byte()
copies = shuffled(train, 10)
drawn_here = flow.sample(10, generator=generator).cpu()
models = {
    "the flow": (log_p, drawn_here),
    "1% flow, 99% noise": (log_mixed, torch.where(chosen, drawn_here, static)),
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
    sheets[f"{name}\n{score:.2f} bits/dim"] = samples
plot_rows(sheets)
plt.show()

# %% tags=["remove-cell"]
assert score < bits_of_test.mean() + 0.01
assert lost < 0.005 * -log_p.mean()

# %% [markdown]
# The second and the last row have nearly the same bits/dim, and their samples could hardly differ more. So a
# likelihood does not tell how samples look, and samples do not tell the likelihood.
#
# Diffusion models show the same. {cite:t}`ho2020ddpm` trained one network in two ways. On the variational bound it
# reached 3.70 bits/dim on CIFAR-10. On a loss with less weight on fine detail it reached 3.75, but its samples were
# far better. Their Fréchet Inception distance {cite}`heusel2017fid`, between features of samples and real images, was
# 3.2, against 13.5 for the bound; lower is better.
#
# ## Summary
#
# * A flow of Fashion-MNIST finds digits likelier than clothes. The cost of a set is its entropy plus its distance
#   from the model, {eq}`eq:cost`. So a simple set can be likely and still hundreds of bits away.
# * This flow needs few bits for clothes that are short to describe, and for black, but not for every simple image.
# * Samples of a model are typical, not likeliest: too few bits are as suspicious as too many. For single images
#   this test is weak.
# * A mixture with 1% of a model loses at most $\log 100$ nats. 99% of its samples can be anything.
#
# ## Exercises
#
# ```{exercise} Build a judge from two flows
# :label: ex-two-flows
#
# Build `is_digit(images)`, which tells digits from clothes by the scores of the two flows. Check it on test images
# of both sets, and on the digits that the flow of MNIST drew.
# ```
#
# ```{solution-start} ex-two-flows
# :class: dropdown
# ```
# Compare the two likelihoods: this is Bayes' rule with equal odds. Bits that both flows need cancel. Of the digits
# that the flow of MNIST drew only about six in ten are found: the scores are bounds, and loose here. With eight
# sets of noise for each image ({eq}`eq:draws`) nine in ten are found.


# %%
def is_digit(images, num_draws=1):
    """Whether the flow of MNIST needs fewer bits than that of clothes."""
    theirs, ours = (
        score_images(each, images, num_draws=num_draws)
        for each in (digit_flow, flow)
    )
    return theirs < ours


found = is_digit(sets[digits]).double().mean()
mistaken = is_digit(test).double().mean()
assert found > 0.9
assert mistaken < 0.05
print(f"digits found: {found:.0%}; clothes taken for digits: {mistaken:.0%}")
one, eight = (is_digit(sets[drawn], k).double().mean() for k in (1, 8))
assert full or (abs(one - 0.6) < 0.1 and abs(eight - 0.9) < 0.06)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Subtract what any coder would pay
# :label: ex-complexity
#
# {cite:t}`serra2020complexity` judge an image by its bits under the model *minus* its bits under a general coder.
# Do so with PNG. How often does an image of another set have a larger difference than a test image?
# ```
#
# ```{solution-start} ex-complexity
# :class: dropdown
# ```
# With PNG, every other set has the larger difference in most pairs. PNG needs fewer bits for digits
# than for clothes, and the difference accounts for that.

# %%
excess = {name: bits[name] - as_png[name] for name in sets}
usual = excess["Fashion-MNIST test"]
rows = [[n, f"{likelier(usual, e):.0%}"] for n, e in excess.items()]
figures.show_table(["images", "larger than that of a test image"], rows)
assert all(likelier(usual, excess[name]) > 0.6 for name in list(sets)[1:])
assert as_png[digits].mean() < 0.8 * as_png["Fashion-MNIST test"].mean()

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Likelier than real
# :label: ex-cheaper
#
# Samples of the flow at a temperature of 0.7 look smoother than those at 1. Which are likelier under the flow? Which
# pass the third rule above, ten images at once?
# ```
#
# ```{solution-start} ex-cheaper
# :class: dropdown
# ```
# Those at 0.7 are likelier than those at 1, and than test images. Ten at a time, nearly all of them pass for test
# images. At 1, about half of the groups fail, since they need too many bits. On average the latents at 0.7 are too
# short, and those at 1 too long.

# %%
costs = {}
for t, low in ((0.7, 0.7), (1.0, 1.1)):
    generator = torch.Generator().manual_seed(0)
    images = flow.sample(40, generator=generator, temperature=t)
    costs[t] = score_images(flow, images)
    z = flow.encode(images, generator)
    assert low < z.square().mean() < low + 0.1
    print(f"T = {t}: {costs[t].mean():.2f} bits/dim,", end=" ")
    print(f"|z|² / D = {z.square().mean():.2f},", end=" ")
    print(f"tens rejected: {verdicts(costs[t])[2]:.0%}")
assert costs[0.7].mean() < bits_of_test.mean() < costs[1.0].mean()
assert verdicts(costs[0.7])[2] < 0.2
assert 0.3 < verdicts(costs[1.0])[2] < 0.7

# %% [markdown]
# ```{solution-end}
# ```
