# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (density-estimation)=
# # Density estimation
#
# ```{admonition} In the paper
# Sections 1 and 2 of {cite:t}`dinh2017realnvp`, and the unit of its table 1. The two sections have no equation but
# the change of variables, which is the next chapter, and no figure for what follows here.
# ```
#
# Both papers of this book take one thing for granted: that a good way to learn what images look like is to make
# real images *probable*. This chapter asks why. It says what is being maximised and what that forgives, in which
# unit the result is counted and what the unit means, and why a model must be scored on images that it has never
# seen. On the way it builds the first models of the book, which need no network at all. The rest of the book has
# to beat them. At the end stands the question that both papers answer: how can a model be complex, and yet be
# trained?

# %% tags=["parameters"]
profile = "laptop"

# %%
import heapq
import math

import matplotlib.pyplot as plt
import torch
from nvp_book import figures
from nvp_book.figures import estimation
from nvp_book.figures.samples import draw_rows
from torch import nn
from torch.distributions import (
    Categorical,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)
from torch.nn import functional as F

from nvp import Gaussian, GaussianConfig
from nvp.data import EMBEDDED, load
from nvp.flows.toy import ToyData, ToyFlow, fit
from nvp.likelihood import score_images
from nvp.tables.build import published

figures.use_style()
torch.set_num_threads(1)  # sums in one order, however many cores

train = load(EMBEDDED, "train").images
test = load(EMBEDDED, "test").images
D = train[0].numel()

# %% [markdown]
# ## A probability for every image
#
# A grey image of 28 × 28 pixels is a list of $D = 784$ integers from 0 to 255. There are finitely many such
# images, so a **generative model** of them can be nothing very mysterious. It is a table, with a probability
# $P(x) \ge 0$ for every image $x$, and $\sum_x P(x) = 1$. It has two uses: to *score* an image, by looking its
# probability up, and to *make* one, by drawing from the table. A third is often wished for: to *describe* an image
# by a few numbers, its latents, from which it can be made again.
#
# The trouble is the size of the table.

# %%
digits = len(str(256**D))
print(f"the number of images of 28 × 28 pixels has {digits} digits")
assert digits > 1000

# %% [markdown]
# So no table. A model is a *recipe* that computes $P(x)$ from fewer numbers, which are found from data. The
# plainest recipe lets every pixel have a histogram of its own, and pretends that pixels know nothing of each
# other:
#
# $$
# P(x) = \prod_{i=1}^{D} p_i(x_i), \qquad
# p_i(v) = \frac{1 + \#\{n : x^{(n)}_i = v\}}{256 + N} .
# $$ (eq:histograms)
#
# But for the ones, $p_i(v)$ is the share of the $N$ training images that have the level $v$ at this pixel. That
# every count begins at one keeps a level that was never seen from being impossible. Here is the whole model: how
# it learns, scores and draws.

# %%
place = 256 * torch.arange(D)  # where the row of each pixel begins


def entries(images):
    """Where each pixel's level stands in a table of (D, 256): (N, D)."""
    return images.flatten(1).long() + place


counts = torch.bincount(entries(train).flatten(), minlength=256 * D)
p = (counts.view(D, 256) + 1) / (len(train) + 256)


def log2_histograms(images):
    """log2 P(x) under a histogram for each pixel, (N,)."""
    return p.log2().flatten()[entries(images)].sum(dim=1)


def draw_histograms(n, generator):
    levels = torch.multinomial(p, n, replacement=True, generator=generator)
    return levels.T.reshape(n, 1, 28, 28).byte()


generator = torch.Generator().manual_seed(0)
drawn = draw_histograms(2000, generator)
assert torch.allclose(p.sum(dim=1), torch.ones(D))
difference = drawn.float().mean(0) - train.float().mean(0)
assert difference.abs().max() < 15  # levels: the means of pixels agree
log2 = log2_histograms(test)
print(f"log2 P of a test image, on average: {log2.mean():.0f}")

# %% mystnb={"figure": {"caption": "Test images of the embedded subset of Fashion-MNIST {cite:p}`xiao2017fashion`, and images drawn from {eq}`eq:histograms`. The right share of every level in every place does not make an image. (The papers have no such figure.)", "name": "fig-first-model"}, "image": {"alt": "Two rows of ten images. Above, clothes and shoes. Below, noise that is dark at the sides and bright in the middle, in the vague shape of a shirt."}}
draw_rows({"test images": test[:10], "drawn": drawn[:10]})
plt.show()

# %% [markdown]
# It is a generative model in every sense of the word, and a bad one. To say *how* bad we need a measure, and the
# number that the cell printed is already one.
#
# ## Maximum likelihood
#
# Let $p_\theta$ be the probabilities that a recipe gives with parameters $\theta$. Call the data probable if their
# product is large, $\prod_n p_\theta(x^{(n)})$. This is the **likelihood** of $\theta$, and in logarithms, per
# image,
#
# $$
# \ell(\theta) = \frac1N \sum_{n=1}^N \log p_\theta\bigl(x^{(n)}\bigr).
# $$ (eq:average-log)
#
# Why this, and no other measure of fit? Let $\hat p$ be the *empirical distribution*: the share of each image
# among the data. For two distributions $p$ and $q$ on a finite set, define
#
# $$
# H(p) = -\sum_x p(x) \log p(x), \qquad
# \mathrm{KL}(p \,\|\, q) = \sum_x p(x) \log \frac{p(x)}{q(x)},
# $$ (eq:divergence)
#
# the **entropy** of $p$ and the **Kullback-Leibler divergence** of $q$ from $p$. (Terms with $p(x) = 0$ count as
# 0.)
#
# ```{prf:proposition} Maximum likelihood is a projection
# :label: prop-likelihood
#
# For every $\theta$,
#
# $$
# -\ell(\theta) = H(\hat p) + \mathrm{KL}(\hat p \,\|\, p_\theta), \qquad
# \mathrm{KL}(\hat p \,\|\, p_\theta) \ge 0,
# $$ (eq:projection)
#
# with equality if and only if $p_\theta = \hat p$. So the $\theta$ of greatest likelihood is the one whose
# $p_\theta$ is nearest to the data in this divergence. If the images are independent draws from a distribution
# $p^*$, the same holds for the mean of $-\log p_\theta(x)$ over $p^*$, with $p^*$ in place of $\hat p$.
# ```
#
# ```{prf:proof}
# Group equal images: $\ell(\theta) = \sum_x \hat p(x) \log p_\theta(x)$. Subtract and add
# $\sum_x \hat p(x) \log \hat p(x)$ to get the identity. For the inequality use $\log r \le r - 1$, where equality
# holds at $r = 1$ alone:
#
# $$
# -\mathrm{KL}(\hat p \,\|\, p_\theta)
#   = \sum_{\hat p(x) > 0} \hat p(x) \log \frac{p_\theta(x)}{\hat p(x)}
#   \le \sum_{\hat p(x) > 0} \bigl( p_\theta(x) - \hat p(x) \bigr) \le 0 .
# $$
#
# Both are equalities only if $p_\theta = \hat p$ wherever $\hat p > 0$, and then there is no probability left for
# other places. With $p^*$ in place of $\hat p$ each step is the same.
# ```
#
# The entropy does not depend on $\theta$. So a step that raises the likelihood of the data by some amount lowers
# the divergence by the same amount: the two have the same gradient. Let us check both on the grey levels of our
# images, with a recipe of three parameters,
# $p_\theta(v) \propto \exp(\theta_1 v + \theta_2 v^2 + \theta_3 [v = 0])$
# (a bracket is 1 if what it says is true, else 0).

# %%
levels = torch.arange(256, dtype=torch.double) / 255
features = torch.stack([levels, levels**2, (levels == 0).double()], dim=1)
pixels = train[::10].flatten().long()
p_hat = pixels.bincount(minlength=256).double() / len(pixels)
entropy = -torch.special.xlogy(p_hat, p_hat).sum()


def log_p(theta):
    return torch.log_softmax(features @ theta, dim=0)


def divergence(theta):
    """KL(p_hat || p_theta), nats."""
    return (torch.special.xlogy(p_hat, p_hat) - p_hat * log_p(theta)).sum()


torch.manual_seed(0)
for _ in range(20):
    theta = (3 * torch.randn(3, dtype=torch.double)).requires_grad_()
    nats = -log_p(theta)[pixels].mean()  # over the pixels, one by one
    kl = divergence(theta)
    assert abs(nats - kl - entropy) < 1e-9
    assert kl > 0
    (of_nats,) = torch.autograd.grad(nats, theta)
    (of_kl,) = torch.autograd.grad(kl, theta)
    assert torch.allclose(of_nats, of_kl, atol=1e-9)
print(f"at any theta: nats - KL = {entropy:.2f}, the entropy")

# %% [markdown]
# The proposition also says what {eq}`eq:histograms` is, but for the ones that it adds. A histogram can take any
# shape, so the most likely one makes the divergence zero: it *is* the data's. Counting is maximum likelihood.
#
# ## Two ways to be wrong
#
# A divergence is not a distance. $\mathrm{KL}(p \,\|\, q)$ asks, *at places that $p$ goes to*, whether $q$ goes
# there too. If $q$ forgets one of them, $\log (p/q)$ explodes. If $q$ goes to places where $p$ never is, that is
# paid for only by what is then missing elsewhere. The other order, $\mathrm{KL}(q \,\|\, p)$, asks the opposite.
# What that means shows when the recipe is too simple to be right. Take a target with two bumps and fit a Gaussian
# $q$ by gradient descent, on either divergence. The integrals are sums over a grid.


# %%
def approach(log_target, points, cell, start, forward, steps=200):
    """A Gaussian by gradient: KL(p || q) if forward, else KL(q || p)."""
    mean = start.clone().requires_grad_()
    raw = torch.zeros(len(start), len(start), dtype=start.dtype)
    raw.requires_grad_()
    optimiser = torch.optim.Adam([mean, raw], lr=0.05)
    for _ in range(steps):
        factor = raw.tril(-1) + raw.diagonal().exp().diag()
        q = MultivariateNormal(mean, scale_tril=factor)
        log_q = q.log_prob(points)
        a, b = (log_target, log_q) if forward else (log_q, log_target)
        divergence = (a.exp() * (a - b)).sum() * cell
        optimiser.zero_grad()
        divergence.backward()
        optimiser.step()
    return MultivariateNormal(mean.detach(), scale_tril=factor.detach())


line = torch.linspace(-6, 6, 601, dtype=torch.double)
two_bumps = MixtureSameFamily(
    Categorical(torch.tensor([0.6, 0.4], dtype=torch.double)),
    Normal(
        torch.tensor([-1.5, 2.0], dtype=torch.double),
        torch.tensor([0.5, 0.7], dtype=torch.double),
    ),
)
problem = two_bumps.log_prob(line), line[:, None], line[1] - line[0]
starts = torch.tensor([[-1.0], [1.5]], dtype=torch.double)
forward = [approach(*problem, start, True) for start in starts]
reverse = [approach(*problem, start, False) for start in starts]

# %% [markdown]
# For a Gaussian $q$ the forward answer is known. The gradient of $E_p[\log q]$ vanishes where $q$ has the mean and
# the variance of $p$, wherever one starts. The reverse has as many answers as there are bumps.

# %%
for q in forward:
    assert abs(q.mean - two_bumps.mean).item() < 0.01
    assert abs(q.variance - two_bumps.variance).item() < 0.02
left = [Normal(q.mean, q.stddev).cdf(torch.tensor(0.0)) for q in reverse]
assert left[0] > 0.98  # nearly all of it on the left bump
assert left[1] < 0.02  # nearly all of it on the right one
for name, fits in {"forward": forward, "reverse": reverse}.items():
    found = [f"N({q.mean.item():.1f}, {q.stddev.item():.1f}²)" for q in fits]
    print(f"{name}: from the left {found[0]}, from the right {found[1]}")

# %% [markdown]
# In the plane the same, for two half moons, the toy data of the next chapter. Since we made them we know their
# density: it is spread evenly along two half circles and blurred by a Gaussian.


# %%
def log_moons(x, arcs=200):
    """Log-density of `ToyData.MOONS`, nats: (N, 2) -> (N,)."""
    angle = math.pi * (torch.arange(arcs, dtype=x.dtype) + 0.5) / arcs
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    centres, width = 1.5 * torch.cat([upper, -upper]), 1.5 * 0.08
    squares = (x[:, None] - centres).square().sum(dim=-1) / width**2
    constant = math.log(2 * arcs) + math.log(2 * math.pi * width**2)
    return torch.logsumexp(-squares / 2, dim=1) - constant


side = torch.linspace(-2.8, 2.8, 71, dtype=torch.double)
plane = torch.cartesian_prod(side, side)
cell = (side[1] - side[0]) ** 2
log_target = log_moons(plane)
assert abs(log_target.exp().sum() * cell - 1) < 1e-3
corners = torch.tensor([[-0.5, 1.0], [0.5, -1.0]], dtype=torch.double)
covering = approach(log_target, plane, cell, corners[0], True)
seeking = [approach(log_target, plane, cell, c, False) for c in corners]


def mass_seen(q):
    """The share of the moons within two standard deviations of q."""
    z = torch.linalg.solve(q.scale_tril, (plane - q.mean).T)
    return (log_target.exp() * (z.square().sum(0) < 4)).sum() * cell


assert mass_seen(covering) > 0.9
assert all(mass_seen(q) < 0.6 for q in seeking)

# %% mystnb={"figure": {"caption": "A Gaussian fitted by gradient to what is not one, on the line and in the plane (there, ellipses of two standard deviations). Forward, $\\mathrm{KL}(p \\,\\|\\, q)$, which is maximum likelihood: all of the target is covered, and the gap in its middle too. Reverse, $\\mathrm{KL}(q \\,\\|\\, p)$, from two starts: one piece each, and nothing of the rest. (The papers have no such figure; {cite:t}`theis2016note` have a similar one.)", "name": "fig-two-divergences"}, "image": {"alt": "Left, a density with two bumps, the left one higher. A wide blue Gaussian spans both and is high over the valley between; a narrow, red one sits on the left bump, another on the right one. Right, two grey half moons; a large blue ellipse around both, and two slim red ones, each along a piece of one moon."}}
fits = {"forward: maximum likelihood": forward[:1], "reverse": reverse}
in_plane = {"forward: maximum likelihood": [covering], "reverse": seeking}
estimation.draw_divergences(
    line,
    two_bumps.log_prob(line).exp(),
    fits,
    side,
    log_target.exp().reshape(71, 71),
    in_plane,
)
plt.show()

# %% [markdown]
# So maximum likelihood **covers**. A model that is too small for its data does not leave some out. It spreads, and
# many of its samples then fall where there are no data. Keep this in mind when you look at samples in later
# chapters: an odd sample costs a likelihood model little, a forgotten image costs it much. A method that looks at
# samples only, and asks whether each is convincing, has the opposite temptation. (What the game of an adversarial
# network minimises, with an ideal opponent, is neither of the two, but a symmetric relative of both
# {cite}`goodfellow2014gan`.)
#
# ## Bits, and a floor
#
# What is $\log P$ worth? Take logarithms to the base 2, turn the sign and divide by the number of pixels, and of
# colours if there are any:
#
# $$
# \text{bits/dim}(x) = -\frac{\log_2 P(x)}{D} = -\frac{\log P(x)}{D \log 2} .
# $$ (eq:bits-per-dim)
#
# This is the unit of table 1 of the paper. It makes images of all sizes comparable, and it has a meaning that
# needs no model. Suppose we want to store images in files, as strings of 0 and 1 such that none is the beginning
# of another, so that strings can follow each other without a mark between. What follows is the beginning of
# information theory {cite}`shannon1948`.
#
# ```{prf:proposition} Codes are distributions
# :label: prop-code
#
# Let $x$ be drawn from $p^*$, and let a code as above give $x$ a string of $L(x)$ bits. Then the mean length is at
# least the entropy,
#
# $$
# E[L(x)] \ge H_2(p^*) = -\sum_x p^*(x) \log_2 p^*(x) .
# $$
#
# (With the index 2, logarithms are to base 2.) And for any distribution $P$ that is nowhere zero there is a code of
# $L(x) < -\log_2 P(x) + 1$ bits, whose mean length is then less than
#
# $$
# H_2(p^*) + \mathrm{KL}_2(p^* \,\|\, P) + 1 .
# $$ (eq:wrong-book)
# ```
#
# ```{prf:proof}
# Throw a fair coin for each bit of a string. The string of $x$ comes up with probability $2^{-L(x)}$, and as no
# string begins another, at most one comes up: $\sum_x 2^{-L(x)} \le 1$. So $q(x) = 2^{-L(x)}$ is a distribution,
# or less than one, and $E[L] - H_2(p^*) = \mathrm{KL}_2(p^* \,\|\, q) \ge 0$ by the proof of
# {prf:ref}`prop-likelihood`, which only needs $\sum_x q(x) \le 1$. Conversely let $L(x)$ be $-\log_2 P(x)$,
# rounded up, so that $\sum_x 2^{-L(x)} \le 1$. Hand out strings in the order of their lengths, each time the first
# that does not begin with one already given. The ones given before use up the share $\sum 2^{-L} < 1$ of all
# continuations, so one of the length wanted is always left. For the mean, use {eq}`eq:projection`.
# ```
#
# The 1 is for a whole image and so is next to nothing: bits/dim *is* the size of the file, for each pixel, that a
# model makes possible. And the three terms of {eq}`eq:wrong-book` are what there is to know about a likelihood: a
# **floor** that belongs to the data and that no model can pass, what the model lacks, and rounding. The floor of
# images is unknown. Every model that scores $b$ bits/dim on new images shows that it is no higher than $b$.
#
# A code can be made and weighed. {cite:t}`huffman1952` found the best of all codes for single symbols: join the
# two least probable, again and again. For the grey levels of our images:


# %%
def huffman(p):
    """The code of fewest bits on average: symbol -> string."""
    heap = [(float(w), x, {x: ""}) for x, w in enumerate(p)]
    heapq.heapify(heap)
    while len(heap) > 1:
        (v, _, a), (w, x, b) = heapq.heappop(heap), heapq.heappop(heap)
        joined = {y: "0" + s for y, s in a.items()}
        joined |= {y: "1" + s for y, s in b.items()}
        heapq.heappush(heap, (v + w, x, joined))
    return heap[0][2]


def decode(code, file):
    """The symbols of a file, read from its beginning."""
    symbols, book, word = [], {s: x for x, s in code.items()}, ""
    for bit in file:
        word += bit
        if word in book:
            symbols.append(book[word])
            word = ""
    return symbols


grey = torch.bincount(train.flatten(), minlength=256).double() + 1
grey = grey / grey.sum()  # one histogram for all pixels
code = huffman(grey)
lengths = torch.tensor([len(code[x]) for x in range(256)]).double()
assert (0.5**lengths).sum() == 1

image = test[0].flatten().tolist()
file = "".join(code[x] for x in image)
assert decode(code, file) == image
floor = -(grey * grey.log2()).sum()
mean = (grey * lengths).sum()
assert floor <= mean < floor + 1
print(f"the entropy of a grey level: {floor:.2f} bits")
print(f"the mean length of a Huffman code: {mean:.2f} bits")

# %% [markdown]
# ### Noise costs 8 bits
#
# Of noise whose pixels are drawn evenly from all levels, every image has the probability $256^{-D}$. Its entropy
# is 8.0 bits/dim exactly, and no model can score less on average. One that has learned something about other
# images scores more, by the divergence. This is the check to make first of any likelihood that one is told, and of
# any code that computes one.

# %%
flat = torch.full((256,), 1 / 256, dtype=torch.double)
generator = torch.Generator().manual_seed(1)
noise = torch.randint(256, (500, 1, 28, 28), generator=generator).byte()
assert all(len(word) == 8 for word in huffman(flat).values())
under_flat = -flat.log2()[noise.long()].mean()
under_grey = -grey.log2()[noise.long()].mean()
extra = (flat * (flat / grey).log2()).sum()  # the divergence, in bits
assert under_flat == 8
assert abs(under_grey - (8 + extra)) < 0.02
print(f"noise, by a flat histogram: {under_flat:.1f} bits/dim")
print(f"noise, by that of our images: {under_grey:.1f} bits/dim")

# %% [markdown]
# ## First baselines
#
# Now to better recipes than {eq}`eq:histograms`. None of the following has a network. All are fitted to the
# embedded training images in closed form, or nearly.
#
# **Uniform**, and **one histogram** for all pixels, as above; then **a histogram for each pixel**.
#
# **A mixture.** Eight sets of histograms, each for images of one kind, and $P(x) = \sum_k \pi_k P_k(x)$. What
# kinds there are nobody says: begin with the nearest of eight images, and move each image to the set that finds it
# most probable, a few times.


# %%
def mixture(images, kinds, rounds=5, seed=4):
    """log2 of pi_k and of each p_k, flattened: (K,), (D * 256, K)."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=generator)[:kinds]
    flat = images.flatten(1).float()
    kind = torch.cdist(flat, flat[chosen]).argmin(dim=1)
    where = entries(images)
    for _ in range(rounds):
        here = (where + kind[:, None] * 256 * D).flatten()
        counts = torch.bincount(here, minlength=kinds * D * 256)
        counts = counts.view(kinds, D, 256) + 1 / kinds
        tables = counts / counts.sum(dim=2, keepdim=True)
        tables = tables.log2().view(kinds, -1).T.contiguous()
        share = kind.bincount(minlength=kinds) / len(kind)
        of_kind = F.embedding_bag(where, tables, mode="sum")
        kind = (of_kind + share.log2()).argmax(dim=1)
    return share.log2(), tables


shares, tables = mixture(train, kinds=8)


def log2_mixture(images):
    of_kind = F.embedding_bag(entries(images), tables, mode="sum") + shares
    return torch.logsumexp(of_kind * math.log(2), dim=1) / math.log(2)


def draw_mixture(n, generator):
    kinds = torch.multinomial(
        shares.exp2(), n, replacement=True, generator=generator
    )
    chosen = tables.exp2().T.reshape(-1, D, 256)[kinds].flatten(0, 1)
    levels = torch.multinomial(chosen, 1, generator=generator)
    return levels.reshape(n, 1, 28, 28).byte()


# %% [markdown]
# **A Gaussian** with a full covariance, which knows the correlation of every pixel with every other. It is a
# density and images are integers, so it is fitted and scored on noisy pixels, after a logit. Chapter
# {ref}`training` says why, and why what comes out is a bound: the true probability is higher, if anything.

# %%
gaussian = Gaussian(GaussianConfig(image_shape=(1, 28, 28)))
gaussian.initialise(train)

# %% [markdown]
# **Two neighbours.** Predict each pixel from those to its left and above it, by a histogram for each pair of their
# levels, which are rounded to 16 steps. All places share the one table. Multiplied together, pixel after pixel,
# these predictions are a probability of the image, by the chain rule. To draw an image, draw its pixels in the
# same order.


# %%
def context(images, steps):
    """The rounded pair of left and upper neighbour of each pixel."""
    rounded = F.pad(images.long() * steps // 256, (1, 0, 1, 0))
    return rounded[..., 1:, :-1] * steps + rounded[..., :-1, 1:]


def neighbours(images, steps, begin):
    """p(level | pair), (steps^2, 256), from counts that start at begin."""
    where = (context(images, steps) * 256 + images).flatten()
    counts = torch.bincount(where, minlength=steps**2 * 256)
    counts = counts.view(-1, 256) + begin
    return counts / counts.sum(dim=1, keepdim=True)


pairs = neighbours(train, 16, begin=1.0)


def log2_neighbours(images, pairs=pairs):
    steps = math.isqrt(len(pairs))
    log2 = pairs.log2()[context(images, steps), images.long()]
    return log2.flatten(1).sum(dim=1)


def draw_neighbours(n, generator):
    images = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
    for row in range(28):
        for column in range(28):
            given = context(images, 16)[:, 0, row, column]
            levels = torch.multinomial(pairs[given], 1, generator=generator)
            images[:, 0, row, column] = levels[:, 0]
    return images


# %% [markdown]
# All of them, in bits/dim, on the images that they were fitted to and on new ones:


# %%
def draw_grey(n, generator):
    levels = torch.multinomial(
        grey, n * D, replacement=True, generator=generator
    )
    return levels.reshape(n, 1, 28, 28).byte()


def draw_uniform(n, generator):
    return torch.randint(256, (n, 1, 28, 28), generator=generator).byte()


def by(log2):
    """Bits/dim of each image, from a function for log2 P."""
    return lambda images: -log2(images).double() / D


def log2_grey(images):
    return grey.log2()[images.long()].flatten(1).sum(dim=1)


models = {
    "uniform": (0, lambda x: torch.full((len(x),), 8.0), draw_uniform),
    "one histogram": (255, by(log2_grey), draw_grey),
    "one for each pixel": (255 * D, by(log2_histograms), draw_histograms),
    "a mixture of 8": (8 * 255 * D + 7, by(log2_mixture), draw_mixture),
    "Gaussian (a bound)": (
        D * (D + 3) // 2,
        lambda x: score_images(gaussian, x),
        lambda n, generator: gaussian.sample(n, generator=generator),
    ),
    "two neighbours": (255 * 256, by(log2_neighbours), draw_neighbours),
}
scores, rows, rule = {}, [], {}
for name, (size, bits, _) in models.items():
    here, new = bits(train).mean().item(), bits(test)
    scores[name] = here, new.mean().item()
    error = new.std().item() / math.sqrt(len(new))
    rule[name] = size / len(train) / (D * math.log(2))
    gap = round(scores[name][1] - here, 2) + 0.0  # no minus before a zero
    cells = [f"{here:.2f}", f"{new.mean():.2f} ± {error:.2f}", f"{gap:.2f}"]
    rows.append([name, f"{size:,}", *cells])
header = ["model", "numbers fitted", "training", "test", "difference"]
figures.show_table(header, rows)

of_test = {name: pair[1] for name, pair in scores.items()}
assert of_test["uniform"] == 8
assert max(of_test.values()) == 8
assert min(of_test, key=of_test.get) == "two neighbours"

# %% mystnb={"figure": {"caption": "Ten images drawn from each of these models, and test images. None is chosen. (The papers have no such figure.)", "name": "fig-baselines"}, "image": {"alt": "Seven rows of ten images. Test images: clothes. Uniform and one histogram: noise, the second half black. One for each pixel: noise in the shape of a vague shirt. A mixture: grainy noise in the shapes of shirts, trousers, shoes. Gaussian: blurred grey patches with stripes, some in the outline of a shirt or a dress. Two neighbours: streaky bright patches on black, in no shape."}}
generator = torch.Generator().manual_seed(2)
sheets = {"test images": test[:10]}
for name, (_, _, draw) in models.items():
    sheets[name] = draw(10, generator)
draw_rows(sheets)
plt.show()

# %% [markdown]
# Read the table with the pictures. The samples of the Gaussian come closest to clothes, and it scores worst but
# for the uniform. One reason is black. Half of all pixels are exactly 0, which a histogram says in one number; a
# bell has no spike to say it with. (On the photographs of CIFAR-10 {cite}`krizhevsky2009cifar` a Gaussian does
# better; the figure below is the one that {cite:t}`oord2016pixelrnn` compare with.) The best score by far has the
# table of two neighbours, whose samples show no garment at all. Most of the information of an image is in its
# details, and that is what likelihood counts. The order of the scores cannot be guessed from the pictures.

# %%
black = (train == 0).double().mean().item()
assert 0.45 < black < 0.55
(reported,) = published("cifar10", "multivariate Gaussian")
print(f"{black:.0%} of the training pixels are black")
print(f"a Gaussian on CIFAR-10: {reported.cell} bits/dim (published)")

# %% [markdown]
# ## Train and test
#
# The likelihood of the training images is what we maximise, and not what we want. Three looks at the difference.
#
# **The extreme.** A list of the training images, each with probability $1/N$, is $\hat p$ itself: by
# {prf:ref}`prop-likelihood` no model has a greater likelihood. A code needs only say which image of the list it
# is. And every image that is not in the list is impossible: infinitely many bits.

# %%
seen = {x.numpy().tobytes() for x in train}
bits = math.log2(len(seen)) / D
assert len(seen) == len(train)
assert not any(x.numpy().tobytes() in seen for x in test)
print(f"training images: {bits:.3f} bits/dim; test images: no end of them")

# %% [markdown]
# **The law.** How much does a fit cost, when the recipe is right? Here is a case that can be computed.
#
# ```{prf:proposition} What a parameter costs
# :label: prop-cost
#
# Let $x^{(1)}, \dots, x^{(N)}$ be independent, $\mathcal N(\mu, I)$ in $d$ dimensions, and fit
# $\mathcal N(\hat\mu, I)$ by maximum likelihood. With $H$ the entropy of the truth, the mean over training sets of
# $-\log p_{\hat\mu}(x)$ is
#
# $$
# H - \frac{d}{2N} \quad \text{at training points,} \qquad
# H + \frac{d}{2N} \quad \text{at new points.}
# $$ (eq:parameter-cost)
# ```
#
# ```{prf:proof}
# $-\log p_{m}(x) = \frac d2 \log 2\pi + \frac12 |x - m|^2$, whose mean at $m = \mu$ is $H$. The estimate is
# $\hat\mu = \frac1N \sum_n x^{(n)}$, with $E|\hat\mu - \mu|^2 = d/N$. At a new point, which is independent of it,
#
# $$
# E|x - \hat\mu|^2 & = E|x - \mu|^2 + E|\hat\mu - \mu|^2 \\
#   & = d + d/N .
# $$
#
# At the training points
#
# $$
# \sum_n |x^{(n)} - \hat\mu|^2 = {} & \sum_n |x^{(n)} - \mu|^2 \\
#   & - N |\hat\mu - \mu|^2 ,
# $$
#
# with the mean $Nd - d$.
# ```
#
# So the entropy is the floor of the *test* score only, and the two scores miss it by the same amount on either
# side. The difference of $d/N$ nats, one over $N$ for each parameter, holds to first order for every smooth recipe
# that contains the truth, with enough data {cite}`akaike1974`.

# %%
d, repeats = 8, {"laptop": 2000, "paper": 10_000}[profile]
generator = torch.Generator().manual_seed(3)
sizes = [8, 16, 32, 64, 128, 256]
floor = d / 2 * math.log(2 * math.pi * math.e)
at_train, at_new = [], []
for n in sizes:
    shape = (repeats, n, d)
    x = torch.randn(shape, dtype=torch.double, generator=generator)
    fitted = x.mean(dim=1, keepdim=True)
    constant = d / 2 * math.log(2 * math.pi)
    inside = (x - fitted).square().sum(dim=2).mean() / 2
    outside = (d + fitted.square().sum(dim=2).mean()) / 2  # true mean: 0
    at_train.append(constant + inside)
    at_new.append(constant + outside)
    error = math.sqrt(d / 2 / repeats)  # standard, but for a power of n
    assert abs(at_train[-1] - (floor - d / 2 / n)) < 5 * error / n**0.5
    assert abs(at_new[-1] - (floor + d / 2 / n)) < 5 * error / n

# %% [markdown]
# **The practice.** Give the two neighbours more and more steps, so that the table grows, with counts that begin
# near zero.

# %%
steps = (1, 4, 16, 64, 256)
curves = {"training": [], "test": []}
for number in steps:
    grown = neighbours(train, number, begin=0.02)
    for name, images in (("training", train), ("test", test)):
        bits = -log2_neighbours(images, grown).double().mean().item() / D
        curves[name].append(bits)
lowest = min(curves["test"])
assert curves["training"] == sorted(curves["training"], reverse=True)
assert curves["test"][0] > lowest
assert curves["test"][-1] > lowest + 0.2

# %% mystnb={"figure": {"caption": "Left: nats per point, at training points and at new ones, when the mean of a Gaussian in 8 dimensions is fitted to $N$ points; marks are means over many training sets, lines are {eq}`eq:parameter-cost`. Right: bits/dim of our images under tables for a pixel given its two neighbours, with 1 to 256 steps for each. The larger table is always better at what it has seen. (The papers have no such figure.)", "name": "fig-train-test"}, "image": {"alt": "Left, two curves over N on a logarithmic axis; training rises from below, test falls from above, both towards a dashed line, the entropy. Right, over the size of the table: training falls all the way; test falls with it at first, has its minimum in the middle, and then rises."}}
n = torch.logspace(math.log10(sizes[0]), math.log10(sizes[-1]), 50)
estimation.draw_train_and_test(
    sizes,
    {"training": at_train, "test": at_new},
    {
        "training": (n, floor - d / 2 / n),
        "test": (n, floor + d / 2 / n),
    },
    floor,
    [256 * number**2 for number in steps],
    curves,
)
plt.show()

# %% [markdown]
# Does the law foretell the differences in the table of baselines? One over $N$ for each number fitted, and
# $D \log 2$ nats to the bit/dim:

# %%
names = ["one for each pixel", "two neighbours", "a mixture of 8"]
names.append("Gaussian (a bound)")
rows = []
for name in names:
    here, new = scores[name]
    rows.append([name, f"{rule[name]:.2f}", f"{new - here:.2f}"])
figures.show_table(["test minus training, bits/dim", "law", "seen"], rows)
for name in names:
    here, new = scores[name]
    assert 1 / 3 < (new - here) / rule[name] < 3

# %% [markdown]
# It gives the size, no more: none of these recipes contains the truth, and many of the numbers are of levels that
# never occur. But it says what to expect of a network with a million parameters and five thousand images. So the
# likelihoods that this book compares are of images that were never trained on. Both papers do the same, and put
# the figure on training images in parentheses where they give it.
#
# ## Complex, yet trainable
#
# Section 1 of the paper puts the task in a sentence: images are high-dimensional and highly structured, and the
# challenge is a model that is powerful enough to capture this and can still be trained. Our baselines can be
# trained, to perfection. For power we want a network. But a network gives *any* function of $x$, and a probability
# must sum to 1. Call its output $-E_\theta(x)$; then
#
# $$
# p_\theta(x) = \frac{e^{-E_\theta(x)}}{Z_\theta}, \qquad Z_\theta = \sum_x e^{-E_\theta(x)},
# $$ (eq:partition)
#
# is a distribution, and its likelihood needs $Z_\theta$, a sum of as many terms as there are images. For four
# black-and-white pixels it can be done:

# %%
torch.manual_seed(0)
network = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
with torch.no_grad():
    minus_energy = network(every)[:, 0]
    log_p = minus_energy - torch.logsumexp(minus_energy, dim=0)
assert abs(log_p.exp().sum() - 1) < 1e-6
print(f"terms for 2 × 2 black-and-white pixels: {len(every)}")
print(f"for 28 × 28 of them: a number of {len(str(2**D))} digits")

# %% [markdown]
# Section 2 of the paper is a map of what people did about this, in 2016, and what each way out gives up.
#
# **Undirected models**, such as restricted and deep Boltzmann machines {cite}`salakhutdinov2009dbm`, are
# {eq}`eq:partition` and live with it: training, scoring and sampling go by approximations, with Markov chains of
# which one does not know when they have run for long enough.
#
# **Variational autoencoders** {cite}`kingma2014vae,rezende2014` draw latents $z \sim p(z)$ and then
# $x \sim p_\theta(x \mid z)$, both normalised. What is out of reach is the integral over $z$. A second network
# guesses which $z$ belong to an $x$, and gives a *bound*, which is as good as the guess:
#
# $$
# \log p_\theta(x) \;\ge\; \mathbb E_{q(z \mid x)}\bigl[ \log p_\theta(x \mid z) \bigr]
#   - \mathrm{KL}\bigl( q(z \mid x) \,\|\, p(z) \bigr) .
# $$ (eq:elbo)
#
# **Autoregressive models** have no latents. They go by the chain rule, and have a softmax or another distribution
# that is normalised for every single number: *exact, and slow to draw*, one number at a time. The order is a
# choice that matters, the paper says, and there is no natural description of an image by a few numbers. The second
# part of this book is about them.
#
# **Adversarial networks** {cite}`goodfellow2014gan` give up likelihood altogether. A second network learns to tell
# samples from data, and the generator learns to deceive it. Samples can be sharp. There is *no density* to evaluate,
# so nobody can say what is never drawn, and the two networks may not settle.
#
# **Flows** have latents, as many as there are pixels, and an invertible network:
# $p_X(x) = p_Z(z)\, |\det \partial g(z) / \partial z^{\mathsf T}|^{-1}$ for $x = g(z)$, equation 1 of the paper.
# No bound, and one pass in either direction: *exact both ways*. The price is that the network must be invertible,
# with a determinant that can be had.
#
# All of the last four are a few lines each in the plane, so let us have all four learn the moons. Each network has
# two hidden layers.

# %%
points = ToyData.MOONS.sample(20_000, seed=1)
fresh = ToyData.MOONS.sample(1_000, seed=2)
rounds = {"laptop": 600, "paper": 3000}[profile]


def net(inputs, outputs, activation=nn.Tanh, width=64):
    return nn.Sequential(
        nn.Linear(inputs, width),
        activation(),
        nn.Linear(width, width),
        activation(),
        nn.Linear(width, outputs),
    )


def batches(steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(points), (256,), generator=generator)
        yield points[chosen]


def minimise(loss, parameters, steps=rounds):
    """Adam, with a rate that falls to zero; loss(x, share of the steps)."""
    optimiser = torch.optim.Adam(parameters, lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step, x in enumerate(batches(steps)):
        optimiser.zero_grad()
        loss(x, step / steps).backward()
        optimiser.step()
        schedule.step()


# %% [markdown]
# A variational autoencoder with one latent. In one dimension the integral *can* be done, on a grid, so the bound
# can be compared with what it bounds. (The weight of the divergence grows from 0 to 1 in the first half of the
# steps, as is often done.)

# %%
torch.manual_seed(0)
encoder, decoder = net(2, 2), net(1, 4)
prior = Normal(0.0, 1.0)


def gaussian_of(numbers):
    mean, log_std = numbers.chunk(2, dim=-1)
    return Normal(mean, log_std.exp())


def elbo(x, weight=1.0):
    """The bound, with one z for each x: (N,), nats, at weight 1."""
    q = gaussian_of(encoder(x))
    z = q.rsample()
    likely = gaussian_of(decoder(z)).log_prob(x).sum(dim=1)
    return likely + weight * (prior.log_prob(z) - q.log_prob(z)).sum(dim=1)


def log_vae(x):
    """log p(x) by summing over a grid of z, nats."""
    z = torch.linspace(-5, 5, 301)[:, None]
    weight = prior.log_prob(z) + math.log(10 / 300)
    likely = gaussian_of(decoder(z)).log_prob(x[:, None]).sum(dim=2)
    return torch.logsumexp(likely + weight[:, 0], dim=1)


minimise(
    lambda x, share: -elbo(x, min(1.0, 2 * share)).mean(),
    [*encoder.parameters(), *decoder.parameters()],
)
with torch.no_grad():
    bound = torch.stack([elbo(fresh) for _ in range(100)]).mean(dim=0)
    exact = log_vae(fresh)
    z = torch.randn(1000, 1)
    of_vae = gaussian_of(decoder(z)).sample()
assert bound.mean() < exact.mean()
assert ((exact - bound) > -0.2).all()  # the noise of 100 draws
assert (exact - bound).mean() < 0.1

# %% [markdown]
# An autoregressive model: $p(x_1)\, p(x_2 \mid x_1)$, each a mixture of ten Gaussians.

# %%
torch.manual_seed(0)
first = nn.Parameter(torch.randn(30))
second = net(1, 30, width=32)


def mixture_of(numbers):
    weights, means, log_stds = numbers.chunk(3, dim=-1)
    return MixtureSameFamily(
        Categorical(logits=weights), Normal(2 * means, log_stds.exp())
    )


def log_chain(x):
    of_first = mixture_of(first).log_prob(x[:, 0])
    return of_first + mixture_of(second(x[:, :1])).log_prob(x[:, 1])


minimise(lambda x, _: -log_chain(x).mean(), [first, *second.parameters()])
with torch.no_grad():
    x1 = mixture_of(first).sample((1000, 1))
    of_chain = torch.cat([x1, mixture_of(second(x1)).sample()[:, None]], 1)

# %% [markdown]
# An adversarial network whose $z$ is one number. Its samples lie on a curve, so its density is zero almost
# everywhere and infinite on the curve, and the likelihood of new data is zero.

# %%
torch.manual_seed(0)
G, discriminator = net(1, 2, nn.ReLU), net(2, 1, nn.ReLU)
options = {"betas": (0.0, 0.9)}
of_g = torch.optim.Adam(G.parameters(), lr=0.001, **options)
of_d = torch.optim.Adam(discriminator.parameters(), lr=0.003, **options)
for x in batches(2 * rounds):
    forged = G(torch.randn(256, 1))
    on_real, on_forged = discriminator(x), discriminator(forged.detach())
    loss = F.softplus(-on_real).mean() + F.softplus(on_forged).mean()
    of_d.zero_grad()
    loss.backward()
    of_d.step()
    loss = F.softplus(-discriminator(forged)).mean()
    of_g.zero_grad()
    loss.backward()
    of_g.step()
with torch.no_grad():
    of_gan = G(torch.randn(1000, 1))
    curve = G(torch.linspace(-3, 3, 20_001)[:, None])


def boxes(x, side):
    """How many squares of the plane hold a point of x."""
    return len((x / side).floor().unique(dim=0))


# Squares of half the side: twice as many for a curve, four for an area.
assert 1.5 < boxes(curve, 0.02) / boxes(curve, 0.04) < 2.5

# %% [markdown]
# And a flow, from the next chapters: six affine couplings.

# %%
torch.manual_seed(0)
flow = ToyFlow(num_couplings=6, width=32)
fit(flow, points, steps=rounds)
of_flow = flow.sample(1000, generator=torch.Generator().manual_seed(0))

with torch.no_grad():
    nats = {
        "the truth": ("exact", log_moons(fresh)),
        "one Gaussian": (
            "exact",
            MultivariateNormal(points.mean(0), points.T.cov()).log_prob(fresh),
        ),
        "VAE": ("a bound", bound),
        "VAE, on a grid of z": ("exact", exact),
        "autoregressive": ("exact", log_chain(fresh)),
        "flow": ("exact", flow.log_prob(fresh)),
    }
rows = [
    [name, f"{-log_p.mean():.1f}", kind]
    for name, (kind, log_p) in nats.items()
]
rows.insert(4, ["GAN", "–", "none"])
figures.show_table(["1,000 new points", "nats per point", "likelihood"], rows)
values = {name: -log_p.mean().item() for name, (_, log_p) in nats.items()}
assert min(values, key=values.get) == "the truth"
assert max(values["flow"], values["autoregressive"]) < values["VAE"]
assert values["VAE"] < values["one Gaussian"]

# %% mystnb={"figure": {"caption": "Four families on the same data: densities, where there is one, and samples. Above at the left, the data and their true density. Runs of a few seconds; no family is at its best. (The papers have no such figure.)", "name": "fig-field"}, "image": {"alt": "Five columns. Data: two sharp moons. VAE: an S, narrow at its ends and blurred in the middle. GAN: no density; samples on a thin bent curve. Autoregressive and flow: two moons, nearly as sharp as the data, the flow's joined by a faint thread."}}
side = torch.linspace(-2.6, 2.6, 90)
plane = torch.cartesian_prod(side, side)


def on_grid(log_density):
    with torch.no_grad():
        return log_density(plane).exp().reshape(90, 90)


estimation.draw_field(
    {
        "the data": on_grid(log_moons),
        "VAE": on_grid(log_vae),
        "GAN": None,
        "autoregressive": on_grid(log_chain),
        "flow": on_grid(flow.log_prob),
    },
    {
        "the data": fresh,
        "VAE": of_vae,
        "GAN": of_gan,
        "autoregressive": of_chain,
        "flow": of_flow,
    },
    limit=2.6,
)
plt.show()

# %% [markdown]
# The truth is the floor here, as it has to be, and for once we know it. The bound of the autoencoder is below its
# likelihood, as the cell checked, though not by a digit of this table: what it lacks is mostly the model's fault,
# not the bound's. For images, in another table:
#
# | | likelihood of an image | drawing one | latents |
# |:--|:--|:--|:--|
# | baselines of this chapter | exact; for the Gaussian a bound | one step, or one for each pixel | none, or the kind |
# | Boltzmann machines {cite}`salakhutdinov2009dbm` | up to a constant; approximations | a Markov chain | yes, by approximations or, in one layer, exactly |
# | VAE {cite}`kingma2014vae,rezende2014` | a bound, or an estimate by more draws {cite}`burda2016iwae` | one pass | a few, inferred approximately |
# | GAN {cite}`goodfellow2014gan` | none | one pass | a few, not inferred |
# | autoregressive: NADE {cite}`larochelle2011nade`, MADE {cite}`germain2015made`, Pixel RNN {cite}`oord2016pixelrnn` | exact | one step for each sub-pixel | none |
# | flows: NICE {cite}`dinh2015nice`, Real NVP {cite}`dinh2017realnvp` | exact, as a density | one pass | as many as sub-pixels, exactly |
#
# "Exact, as a density" has a catch for images, which are integers; chapter {ref}`training` is about it.
#
# ## Summary
#
# * A generative model is a recipe for the probability of any image. It can score and it can draw.
# * Maximum likelihood looks for the recipe nearest to the data in $\mathrm{KL}(\text{data} \,\|\, \text{model})$.
#   It covers what there is, at the price of covering also what there is not.
# * Bits/dim is the length of a file, for each sub-pixel. The entropy of the data is the floor; for noise it is
#   8.0.
# * Likelihood on training images says little: a list of them is unbeatable. Fitted numbers cost about $1/N$ nats
#   each, between training and test.
# * Two neighbours predict a pixel better than the histograms of its place do, and the samples do not show it.
# * Networks are powerful and not normalised. The families differ in what they give up for that.
#
# **What comes next.** Chapters {ref}`change-of-variables`, {ref}`coupling-layers` and {ref}`multi-scale` build the
# flow of the first paper: the formula, the layer that makes its determinant cheap, and the architecture for
# images. {ref}`networks` opens the networks inside it, {ref}`training` turns integers into real numbers and bits back,
# and {ref}`results` says what came out. From {ref}`pixel-by-pixel` on, the two neighbours of this chapter become *all*
# earlier pixels.
#
# ## Exercises
#
# ```{exercise} Counting
# :label: ex-counting
#
# {prf:ref}`prop-likelihood` says that the histogram of the data is the most likely one. Check it without the
# proposition: no small change of $\hat p$ may raise the likelihood of the data, and the loss should grow with the
# square of the change. What do the ones in {eq}`eq:histograms` have to do with it?
# ```
#
# ```{solution-start} ex-counting
# :class: dropdown
# ```
# Add a change of sum zero. The first order vanishes:
# $\sum_v \hat p(v)\, \epsilon_v / \hat p(v) = \sum_v \epsilon_v = 0$. The second is
# $-\frac12 \sum_v \epsilon_v^2 / \hat p(v)$. The ones move the histogram a little towards the uniform one. They
# cost training likelihood and buy test likelihood: without them a single new level in a single pixel makes an
# image impossible.

# %%
rare = 1e-6  # only levels that do occur can be changed both ways
shares = p_hat[p_hat > rare]
torch.manual_seed(1)
change = torch.randn_like(shares) * shares
change = change - change.sum() * shares  # sum zero
losses = []
for scale in (0.01, 0.02):
    changed = shares + scale * change
    losses.append((shares * (shares / changed).log()).sum())
assert min(losses) > 0
assert abs(losses[1] / losses[0] - 4) < 0.2

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What correlation is worth
# :label: ex-correlation
#
# Take the full-covariance Gaussian and forget all correlations, but not the variances. How many bits/dim were they
# worth? How many numbers, and does a test image agree with the training images?
# ```
#
# ```{solution-start} ex-correlation
# :class: dropdown
# ```
# The covariance is $L L^{\mathsf T}$, and its diagonal the sums of squares along the rows of $L$. On the data of
# the fit the gain is $\frac1D \bigl( \sum_i \log_2 \sigma_i - \sum_i \log_2 L_{ii} \bigr)$ without any image being
# scored, as both Gaussians are maxima of their likelihoods. On new images it is smaller, as three hundred thousand
# numbers were fitted.

# %%
rows, columns = torch.tril_indices(D, D, -1)
with torch.no_grad():
    factor = gaussian.log_diagonal.exp().diag()
    factor[rows, columns] = gaussian.below
    log_std = factor.square().sum(dim=1).sqrt().log()
    worth = (log_std - gaussian.log_diagonal).mean().item() / math.log(2)
    alone = Gaussian(GaussianConfig(image_shape=(1, 28, 28)))
    alone.mean.copy_(gaussian.mean)
    alone.log_diagonal.copy_(log_std)
gains = [
    (score_images(alone, x) - score_images(gaussian, x)).mean().item()
    for x in (train, test)
]
assert abs(gains[0] - worth) < 0.02
assert gains[1] < gains[0]
print(f"{worth:.1f} bits/dim by the formula, {gains[1]:.1f} on test images")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A list that hedges
# :label: ex-hedge
#
# Save the list of training images from infinity: to draw, take one of them and replace each of its pixels, with
# probability $\epsilon$, by a random level. Find the best $\epsilon$ for test images. Is this model any good?
# ```
#
# ```{solution-start} ex-hedge
# :class: dropdown
# ```
# The model
#
# $$
# P(x) = \frac1N \sum_n \prod_i \bigl( (1 - \epsilon) [x_i = x^{(n)}_i] + \epsilon / 256 \bigr)
# $$
#
# depends only on how many pixels agree with each image of the list. It needs about half of all pixels to be random,
# and is then worse than one histogram. Images do not differ from each other by noise in single pixels.

# %%
listed, few = train.flatten(1), test[:40].flatten(1)
equal = torch.stack([(x == listed).sum(dim=1) for x in few]).double()


def bits_of_list(epsilon):
    """Bits/dim of the few test images."""
    hit, miss = 1 - epsilon + epsilon / 256, epsilon / 256
    log_p = equal * math.log(hit) + (D - equal) * math.log(miss)
    log_p = torch.logsumexp(log_p, dim=1) - math.log(len(listed))
    return -log_p.mean().item() / (D * math.log(2))


trials = {e: bits_of_list(e) for e in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9)}
best = min(trials, key=trials.get)
assert 0.2 < best < 0.8
assert trials[best] > -log2_grey(test[:40]).mean().item() / D
print(f"best: epsilon = {best}, {trials[best]:.1f} bits/dim")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The price of a round number
# :label: ex-rounding
#
# Call a pixel white if its level is 200 or more, else not. A code for *one* such pixel takes a bit, however rare
# white is. Let $k$ pixels be coded together, as if they were independent. How many bits does each take, for
# $k = 1, 2, 4, 8$, and what does {eq}`eq:wrong-book` say about it?
# ```
#
# ```{solution-start} ex-rounding
# :class: dropdown
# ```
# The rounding of up to one bit is now shared by $k$ pixels, so each takes less than the entropy and $1/k$. An
# image is coded with $k = D$, and its share of the rounding is nothing. (Not with Huffman's code, whose book would
# have $2^D$ words. There are codes that need no book.)

# %%
white = (train >= 200).double().mean().item()
one = torch.tensor([1 - white, white], dtype=torch.double)
floor = -(one * one.log2()).sum().item()
rows, blocks = [], torch.ones(1, dtype=torch.double)
for k in range(1, 9):
    blocks = torch.kron(blocks, one)  # probabilities of all 2^k blocks
    words = huffman(blocks)
    sizes = torch.tensor([len(words[x]) for x in range(2**k)])
    each = (blocks * sizes).sum().item() / k
    assert floor <= each < floor + 1 / k
    if k in (1, 2, 4, 8):
        rows.append([k, f"{each:.3f}"])
figures.show_table(["pixels at once", "bits for each"], rows)
print(f"{white:.0%} of the pixels are white; the entropy: {floor:.3f} bits")

# %% [markdown]
# ```{solution-end}
# ```
