# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (integers-to-bits)=
# # From integers to bits
#
# A flow is a density of real numbers. An image file is a list of integers. How can such a density score integers?
# Noise makes integers continuous, a logit stretches the ends of their range, and a few constants turn a density into
# bits. At the end you will have written the log-likelihood of integer images, and two tests that catch a lost
# constant.
#
# ```{admonition} In the paper
# Section 4.1 of {cite:t}`dinh2017realnvp`, and the unit of its table 1.
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
from nvp_book.figures import bits as pictures
from nvp_book.selection import paces, sheet_images
from torch.distributions import Categorical, MixtureSameFamily, Normal

from nvp import RealNVP, RealNVPConfig
from nvp.data import EMBEDDED, load
from nvp.ledger import runs
from nvp.likelihood import evaluate, reestimate_statistics

figures.use_style()
torch.set_num_threads(1)  # sums in one order, however many cores
full = profile == "paper"

images = load(EMBEDDED, "train").images
test_images = load(EMBEDDED, "test").images
ledger = runs()
recorded = ledger["fashion-mnist"].load_model()

# %% [markdown]
# ## A density cannot score an integer
#
# Take one pixel $v \in \{0, \dots, 255\}$, and try maximum likelihood on the integer itself. Let
# the density have a spike of width $\sigma$ at black and be flat elsewhere, for $0 \le v < 256$:
#
# $$
# q_\sigma(v) = \tfrac12\, \mathcal N(v; 0, \sigma^2) + \tfrac12 \cdot \tfrac1{256}.
# $$ (eq:spike)
#
# At a black pixel $q_\sigma(0) > 1 / (2\sigma\sqrt{2\pi})$, which grows without bound as $\sigma \to 0$. At every
# other level $q_\sigma$ is at least $1/512$. So if any share of the pixels is black, the average log-density goes to
# infinity: the likelihood has no maximum {cite}`theis2016note`.
#
# The spike exploits the fact that all black pixels are the *same number*. The cure is noise: add a
# fresh $u$, uniform in $[0, 1)$, each time that the pixel is used {cite}`uria2013rnade`.


# %% tags=["hide-input"] mystnb={"figure": {"caption": "Bits for a pixel of the training images, $-\\log_2 q_\\sigma$, under {eq}`eq:spike`.", "name": "fig-spikes"}, "image": {"alt": "Bits per pixel over the width of the spike, which shrinks to the right. The curve without noise falls in a straight line below zero. The curve with noise has a minimum at a width near one grey level, and stays above a dashed line, the entropy."}}
def spike(v, sigma):
    """log q_sigma(v), a spike at black and a flat rest, in nats."""
    peak = Normal(0.0, sigma).log_prob(v)
    flat = torch.full_like(v, -math.log(256))
    return torch.logaddexp(peak, flat) - math.log(2)


generator = torch.Generator().manual_seed(0)
pixels = images[::10].flatten().double()
noise = torch.rand(pixels.shape, dtype=torch.double, generator=generator)
widths = torch.logspace(2, -6, 49, dtype=torch.double)
raw, noisy = (
    torch.stack([-spike(v, w).mean() for w in widths]) / math.log(2)
    for v in (pixels, pixels + noise)
)
shares = pixels.long().bincount(minlength=256) / len(pixels)
entropy = -torch.special.xlogy(shares, shares).sum() / math.log(2)
assert raw[-1] < 0  # a code of negative length
assert (noisy > entropy).all()
assert round(noisy.min().item(), 1) == 5.6
assert round(entropy.item(), 1) == 4.9
assert round(widths[noisy.argmin()].item(), 1) == 0.7
pictures.plot_spikes(widths, raw, noisy, entropy.item())
plt.show()

# %% [markdown]
# Without noise the curve falls below zero bits. With noise it has its minimum, 5.6 bits, at a width of 0.7 levels,
# above the entropy of a pixel, 4.9 bits.
#
# ## Dequantisation
#
# Why may the density at $v + u$ stand for the probability of $v$? A density assigns a probability to each image $v$ of
# integers: its mass on the unit cube $v + [0, 1)^D$ {cite}`theis2016note`.
#
# ```{prf:proposition} Dequantisation bounds the likelihood
# :label: prop-dequantisation
#
# Let $p$ be a density on $\mathbb R^D$ and give each image $v \in \{0, \dots, 255\}^D$ the probability
#
# $$
# P(v) = \int_{[0, 1)^D} p(v + u)\, \mathrm du .
# $$ (eq:cube)
#
# Then $\sum_v P(v) \le 1$, with equality when $p$ has all its mass in $[0, 256)^D$, and
#
# $$
# \log P(v) \;\ge\; \mathbb E_{u \sim \mathcal U[0,1)^D} \bigl[ \log p(v + u) \bigr] .
# $$ (eq:dequantisation)
# ```
#
# ```{prf:proof}
# The cubes $v + [0,1)^D$ do not overlap and together fill $[0, 256)^D$, so $\sum_v P(v)$ is the mass of $p$ there.
# For the second part, $P(v) = \mathbb E_u[p(v + u)]$, since $u$ has density 1, and the logarithm is concave: Jensen's
# inequality.
# ```
#
# How much is lost? Inside a cube with $P(v) > 0$, $p(u \mid v) = p(v + u) / P(v)$ is a density. The left side of
# {eq}`eq:dequantisation` minus the right is
#
# $$
# \log P(v) - \mathbb E_u[\log p(v + u)]
#   = \mathbb E_u\!\left[ \log \frac{1}{p(u \mid v)} \right]
#   = \mathrm{KL}\bigl( \mathcal U \,\|\, p(u \mid v) \bigr).
# $$ (eq:gap)
#
# The bound is tight exactly when the model is flat within the cube. Training on noisy pixels maximises a lower bound
# of the discrete log-likelihood. This bound cannot grow to infinity, since $\log P \le 0$.

# %% tags=["remove-cell"]
dark_and_light = Normal(*torch.tensor([[3.0, 180.0], [2.0, 40.0]]).double())
p = MixtureSameFamily(Categorical(torch.ones(2).double()), dark_and_light)
levels = torch.arange(256, dtype=torch.double)[:, None]
mass = p.cdf(levels + 1) - p.cdf(levels)
u = (torch.arange(400, dtype=torch.double) + 0.5) / 400  # midpoint rule
log_p = p.log_prob(levels + u)
bound = log_p.mean(dim=1, keepdim=True)
within = log_p.exp() / log_p.exp().mean(dim=1, keepdim=True)  # p(u | v)
gap = -within.log().mean(dim=1, keepdim=True)
assert mass.sum() < 1
assert (bound < mass.log()).all()
assert torch.allclose(mass.log() - bound, gap, atol=1e-5)

# %% [markdown]
# ## The logit
#
# How can a flow on all of $\mathbb R$ model pixels that end at 256? With noise a pixel lies in $[0, 256)$. A flow with
# a Gaussian prior would have to learn that nothing lies beyond. To reduce the effect of these edges the paper rescales
# to $\tilde x = (v + u) / 256 \in [0, 1)$. It then models $\operatorname{logit}(p)$, where $p$ is an affine function of
# $\tilde x$. A margin $\lambda$ of 0.05 ($\alpha$ in the paper) is meant to keep $p$ away from 0 and 1, where the logit
# is infinite.
#
# $$
# x = \operatorname{logit}(p) = \log \frac{p}{1 - p}, \qquad
# \begin{aligned}
# \text{as printed: } & p = \lambda + (1 - \lambda)\, \tilde x , \\
# \text{in the code: } & p = \lambda + (1 - 2\lambda)\, \tilde x .
# \end{aligned}
# $$ (eq:logit)
#
# The two forms differ at white. As printed, $\tilde x \to 1$ gives $p \to 1$ and $x \to \infty$.
# The form of the authors' code {cite}`dinh2016code` is symmetric and stays within
# $\pm\operatorname{logit}(0.95) = \pm 2.94$. We use it by default. The change of variables asks for
# its derivative,
#
# $$
# \log \frac{\mathrm dx}{\mathrm d\tilde x} = \log (1 - 2\lambda) - \log p - \log(1 - p) .
# $$ (eq:logit-derivative)
#
# The next cell has both directions. Rounding down undoes the noise.


# %%
def to_line(images, noise, margin=0.05):
    """v, u -> x, and the sum of log dx/dx~ over each image, nats."""
    p = margin + (1 - 2 * margin) * (images + noise) / 256
    log_slope = math.log(1 - 2 * margin) - p.log() - (1 - p).log()
    return torch.logit(p), log_slope.flatten(1).sum(dim=1)


def to_images(x, margin=0.05):
    """x -> v, uint8; a value beyond the ends becomes black or white."""
    scaled = (torch.sigmoid(x) - margin) / (1 - 2 * margin)
    return (256 * scaled).floor().clamp(0, 255).byte()


generator = torch.Generator().manual_seed(0)
noise = torch.rand(test_images.shape, generator=generator)
x, log_slope = to_line(test_images, noise)
print(f"largest |x|: {x.abs().max():.2f}")

# %% tags=["remove-cell"]
from nvp.flows.preprocess import Logit, LogitForm

inside = noise.clamp(0.01, 0.99)  # away from the edges of rounding
assert torch.equal(to_images(to_line(test_images, inside)[0]), test_images)
theirs, of_theirs = Logit(LogitForm.SYMMETRIC)((test_images + noise) / 256)
assert torch.allclose(x, theirs, atol=1e-4)
assert torch.allclose(log_slope, of_theirs, rtol=1e-5)
grid = levels.clone().requires_grad_()
on_line, log_slope = to_line(grid, 0.0)
(slope,) = torch.autograd.grad(on_line.sum(), grid)
assert torch.allclose(log_slope, (256 * slope[:, 0]).log())

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Both forms of {eq}`eq:logit` over the range of a pixel, and the log-derivative. They are alike except near white, where the printed form has no bound.", "name": "fig-logit"}, "image": {"alt": "Two panels. Left, x over the scaled pixel: both curves rise from -2.9; the symmetric one ends at 2.9, the printed one shoots up at the right edge. Right, the log-derivative: a symmetric valley, and a curve that climbs steeply at the right edge."}}
pictures.plot_logits(margin=0.05)
plt.show()

# %% [markdown]
# Both forms start at −2.9, and the symmetric one ends at 2.9. In float32 $255 + u$ is sometimes
# rounded to 256; then $x$ as printed is infinite ({ref}`when-it-diverges`). The next figure shows
# pixels at each stage.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Pixels of 250 training images. Left: integers, a set of spikes. Middle: with uniform noise, a histogram and so a density. These two panels end at level 23. Right: after the logit, the density that the flow is trained on, over the whole range. The vertical axes are logarithmic.", "name": "fig-stages"}, "image": {"alt": "Three histograms. Left, isolated bars at the integers, that at zero much the highest. Middle, the same filled out to steps of width one. Right, a density on -3 to 3: a sharp peak at its left end, a broad hump, and a small peak at its right end."}}
few = images[::20]
noise = torch.rand(few.shape, generator=generator)
pictures.plot_stages(few, few + noise, to_line(few, noise)[0])
assert abs((few == 0).double().mean() - 0.5) < 0.01
plt.show()

# %% [markdown]
# The tall peak at the left of the last panel is black, half of all pixels.
#
# ## Bits per dimension, with every constant
#
# How many bits does an integer image $v$ cost? It becomes $v + u$, then $\tilde x$, $x$ and
# $z = f(x)$. Each step after the noise is a change of variables ({prf:ref}`thm-change`), so the
# density $p_V$ of $v + u$ is
#
# $$
# \log p_V(v + u) = {}
#   & \underbrace{\log p_Z(z)}_{\text{prior}}
#   + \underbrace{\log \left|\det \frac{\partial f(x)}{\partial x^{\mathsf T}}\right|}_{\text{flow}} \\
#   & + \underbrace{\sum_{i=1}^D \log \frac{\mathrm dx_i}{\mathrm d\tilde x_i}}_{\text{logit}}
#   - \underbrace{D \log 256}_{v + u \,\to\, \tilde x} .
# $$ (eq:bits-chain)
#
# The last term is easily forgotten: scaling $[0, 256)^D$ down to $[0, 1)^D$ multiplies every density by $256^D$. By
# {prf:ref}`prop-dequantisation` the expectation over $u$ is a lower bound of $\log P(v)$, in nats.
# Divide it by $D$ and by $\log 2$, and change the sign. This bounds {eq}`eq:bits-per-dim` from
# above, and keeps its name:
#
# $$
# \text{bits/dim}(v) = -\frac{\mathbb E_u[\log p_V(v + u)]}{D \log 2} .
# $$ (eq:bits)
#
# The next cell adds up the terms.


# %%
def log_prior(latents):
    """log N(z; 0, I) over all scales, nats, (N,)."""
    z = torch.cat([z.flatten(1) for z in latents], dim=1)
    return -0.5 * (z**2 + math.log(2 * math.pi)).sum(dim=1)


def log_prob(flow, images, noise):
    """The terms of the bound on log P(v), added up, nats, (N,)."""
    x, log_slope = to_line(images, noise)
    latents, log_det = flow(x)
    dims = images[0].numel()
    return log_prior(latents) + log_det + log_slope - dims * math.log(256)


def bits_per_dim(log_prob, images):
    return -log_prob / (images[0].numel() * math.log(2))


# %% [markdown]
# With random weights, the package's likelihood must agree.

# %%
torch.manual_seed(0)
config = RealNVPConfig.paper((1, 28, 28), num_blocks=1, width=8)
package = RealNVP(config).double().eval().requires_grad_(False)


def package_flow(x):
    z, log_det = package.flow(x)
    return package.flow.split(z), log_det


batch = test_images[:16]
generator = torch.Generator().manual_seed(1)
noise = torch.rand(batch.shape, dtype=torch.double, generator=generator)
ours = log_prob(package_flow, batch, noise)
theirs = package.log_prob(batch, generator=generator.manual_seed(1))
assert torch.allclose(ours, theirs.double())

# %% [markdown]
# ````{dropdown} The package's version
# ```{literalinclude} ../nvp/flows/realnvp.py
# :pyobject: RealNVP._log_probs
# :dedent: 4
# ```
# ```{literalinclude} ../nvp/model/dequantisation.py
# ```
# ````
#
# ### Two tests that catch a lost constant
#
# **Noise costs 8 bits.** Draw every pixel uniformly from its 256 levels. No model scores this noise
# below 8.0 on average (chapter {ref}`density-estimation`). A likelihood that does is wrong, often
# by a lost constant.
#
# **Without a flow, noise costs 8.21.** If $f$ is the identity, {eq}`eq:bits` is an integral over one pixel. The cell
# compares it with the score of noise. Both tests can miss a lost log-determinant; automatic differentiation finds it
# (chapter {ref}`coupling-layers`).


# %%
def identity(x):
    return [x], 0.0


shape = (1000, 1, 28, 28)
static = torch.randint(0, 256, shape, generator=generator)
noise = torch.rand(shape, dtype=torch.double, generator=generator)
without = bits_per_dim(log_prob(identity, static, noise), static).mean()

pixel = torch.arange(100_000, dtype=torch.double)[:, None] * 256 / 100_000
middle = torch.tensor(256 / 200_000, dtype=torch.double)
exact = bits_per_dim(log_prob(identity, pixel, middle), pixel).mean()
print(f"noise, no flow: {without:.2f}; exactly {exact:.2f} bits/dim")

# %% tags=["remove-cell"]
assert abs(exact - 8.21) < 0.005
assert abs(without - exact) < 0.01
worse = log_prob(package_flow, static[:50], noise[:50])
assert bits_per_dim(worse, static).mean() > 8


def lost(x):
    return package_flow(x)[0], 0.0  # no log-determinant: not found


worse = log_prob(lost, static[:50], noise[:50])
assert bits_per_dim(worse, static).mean() > 8
surprise = evaluate(recorded, static[:20].to(torch.uint8)).bits_per_dim
assert surprise > 8

# %% [markdown]
# ## The price of noise
#
# What does the noise cost at a pixel that is certain, such as a corner that is always black? An ideal model spends no
# bits on it. But the flow sees noise, uniform on an interval of length 1. The entropy of this noise is 0, so
# the pixel's score $-\mathbb E[\log_2 p_V(v + u)]$ is the divergence of $p_V$ from it. An invertible map changes no
# divergence, so we compute it at the latent. With $\lambda = 0.05$ the logit is nearly affine over one level. Given the
# pixel's neighbours, an affine coupling is affine too. So the latent is nearly uniform, on an interval of some width
# $w$. The best Gaussian $\mathcal N$ has its mean and its variance, $w^2/12$. For every $w$
#
# $$
# \mathrm{KL}\bigl(\mathcal U \,\|\, \mathcal N\bigr)
#   = \underbrace{\tfrac12 \log_2 \frac{2\pi e\, w^2}{12}}_{-\mathbb E_{\mathcal U}[\log_2 \mathcal N]}
#   - \underbrace{\log_2 w}_{\text{entropy of } \mathcal U}
#   = \tfrac12 \log_2 \frac{\pi e}{6} = 0.2546 \text{ bits}.
# $$ (eq:floor)
#
# With $w = \sqrt{12}$ and mean 0 this Gaussian is the prior.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The noise of a pixel that is certain, scaled to variance 1, and the Gaussian prior. The divergence between the two is {eq}`eq:floor`.", "name": "fig-floor"}, "image": {"alt": "A flat box between about -1.7 and 1.7, and a bell curve that is above it in the middle and has tails beyond both edges."}}
floor = 0.5 * math.log2(math.pi * math.e / 6)
pictures.plot_uniform_and_gaussian()
plt.show()

# %% tags=["remove-cell"]
v = (torch.arange(100_000, dtype=torch.double) + 0.5) / 100_000
for width in (1.0, 1 / 256):
    best = Normal(width / 2, width / math.sqrt(12))
    cross = -best.log_prob(width * v).mean() / math.log(2)
    assert abs(cross - math.log2(width) - floor) < 1e-6
within = math.erf(math.sqrt(1.5))
assert abs(floor - 0.2546) < 5e-5
assert abs(within - 0.92) < 0.005
assert abs(-math.log2(within) - 0.13) < 0.005
assert abs(floor + math.log2(within) - 0.13) < 0.005

# %% [markdown]
# The Gaussian has only 92% of its mass over the box, so the pixel costs $-\log_2 P = 0.13$ bits. Over the box it
# is not flat: the other 0.13 bits are the gap {eq}`eq:gap`.
#
# Several couplings could bend the noise into a Gaussian, so {eq}`eq:floor` is no theorem about Real NVP. The folded
# cell trains a small model on images that are all black.

# %% tags=["hide-input"]
torch.manual_seed(0)
small = RealNVPConfig.paper((1, 8, 8), num_blocks=1, width=8)
blank_model = RealNVP(small)
optimiser = torch.optim.Adam(blank_model.parameters(), lr=1e-2, fused=True)
generator = torch.Generator().manual_seed(0)
black = torch.zeros(32, 1, 8, 8, dtype=torch.uint8)
steps = 1000 if full else 60
for step in range(steps):
    optimiser.param_groups[0]["lr"] = 1e-2 * min(1, 2 * (1 - step / steps))
    optimiser.zero_grad()
    blank_model.loss(black, generator).backward()
    optimiser.step()
blank = black.repeat(16, 1, 1, 1)
reestimate_statistics(blank_model, blank)
score = evaluate(blank_model, blank, seed=1).bits_per_dim
assert abs(score - floor) < 0.03
print(f"black images cost {score / floor:.1f} times 0.25 bits")

# %% [markdown]
# It pays in full. What does a black image cost the recorded run on MNIST?

# %% tags=["hide-input"]
digits = ledger["mnist"].load_model()
black = torch.zeros(64, 1, 28, 28, dtype=torch.uint8)
price = evaluate(digits, black, seed=1).bits_per_dim
assert 0.36 < price / floor < 0.45  # two fifths
print(f"black images cost it {price / floor:.1f} times 0.25 bits")

# %% [markdown]
# That flow bends the noise, at least in part. Models of the integers themselves, such as Pixel RNNs and integer flows
# {cite}`hoogeboom2019idf`, add no noise.
#
# ## More sets of noise
#
# The gap {eq}`eq:gap` shrinks without a change of the model when one averages over $K$ sets of noise *inside* the
# logarithm:
#
# $$
# L_K(v) = \mathbb E_{u_1, \dots, u_K}\!\left[ \log \frac1K \sum_{k=1}^K p_V(v + u_k) \right],
# \qquad L_1 \le L_2 \le \dots \le \log P(v) .
# $$ (eq:draws)
#
# These are the importance-weighted bounds of {cite:t}`burda2016iwae`; {prf:ref}`prop-more-draws` proves their order.
# {cite:t}`hoogeboom2020dequantization` train flows with them. Scores by different $K$ are not comparable; this book
# uses $K = 1$ unless it says otherwise. How much would a larger $K$ be worth? The folded cell regroups sixteen sets
# for each image under the recorded run on Fashion-MNIST.

# %% tags=["hide-input"]
few = test_images[: 200 if full else 25]
generator = torch.Generator().manual_seed(0)
with torch.no_grad():
    draws = torch.stack(
        [recorded.log_prob(few, generator=generator) for _ in range(16)]
    )
bounds = {}
for count in (1, 2, 4, 8, 16):
    groups = draws.double().view(16 // count, count, -1)
    bound = groups.logsumexp(dim=1) - math.log(count)
    bounds[count] = bits_per_dim(bound.mean(dim=0), few)
for fewer, more in itertools.pairwise(bounds.values()):
    assert (more <= fewer + 1e-9).all()  # for every image: Jensen
one = bounds[1].mean()
rows = [[k, f"{one - bound.mean():.3f}"] for k, bound in bounds.items()]
figures.show_table(["sets of noise", "bits/dim saved"], rows[1:])

# %% tags=["remove-cell"]
generator.manual_seed(0)
with torch.no_grad():
    four = recorded.log_prob(few, num_draws=4, generator=generator)
assert torch.allclose(
    draws[:4].logsumexp(dim=0) - math.log(4), four, atol=1e-2
)
last, second = bounds[8] - bounds[16], bounds[2] - bounds[4]
assert last.mean() > 0.5 * second.mean()
saved = bounds[1] - bounds[16]
assert full or round(saved.mean().item(), 2) == 0.02
assert full or round(saved.std().item() / math.sqrt(len(few)), 3) == 0.002

# %% [markdown]
# Sixteen sets save 0.02 bits/dim. The last doubling still helps, so the limit $\log P(v)$ is not reached.
#
# ## Learned noise
#
# Must the noise be uniform? Any density $q(u \mid v)$ that is positive on the cube gives a bound, by Jensen's
# inequality:
#
# $$
# \log P(v) = \log \mathbb E_{u \sim q(u \mid v)}\!\left[ \frac{p_V(v + u)}{q(u \mid v)} \right]
#   \;\ge\; \mathbb E_{u \sim q(u \mid v)} \bigl[ \log p_V(v + u) - \log q(u \mid v) \bigr].
# $$ (eq:learned-noise)
#
# For uniform noise $\log q = 0$, and this is {eq}`eq:dequantisation`. *Variational dequantisation*
# {cite}`ho2019flowpp` makes $q$ a second flow, which sees the image, and trains both flows to raise the bound. Four
# checkerboard couplings do for $q$. They bend uniform noise $e$ between a logit and a sigmoid, and their networks
# read features of the image, too:
#
# ```{literalinclude} ../examples/learned_noise.py
# :pyobject: LearnedNoiseRealNVP.draw_noise
# :dedent: 4
# ```
#
# Before training this $q$ is uniform. The recorded run `mnist-learned-noise` began with the weights of
# `mnist-small-margin`, the Real NVP of MNIST in chapter {ref}`results`. What did it gain?

# %% tags=["hide-input"]
names = ("mnist-small-margin", "mnist-learned-noise")
fixed, learned = pair = [ledger[name] for name in names]
both = [(run.scores.first, run.scores.first_more_draws) for run in pair]
saved = [one.bits_per_dim - eight.bits_per_dim for one, eight in both]
rows = [
    [
        f"`{run.name}`",
        str(run.score),
        f"{less:.3f} on {one.num_images:,}",
        f"{run.record.minutes:.0f}{' more' * (run is learned)}",
    ]
    for run, less, (one, _) in zip(pair, saved, both, strict=True)
]
header = ["run", "test images", "eight sets of noise save", "minutes"]
figures.show_table(header, rows)
gain = fixed.score.bits_per_dim - learned.score.bits_per_dim
doublings = math.log2(1 + learned.record.images / fixed.record.images)
figures.show_text(
    f"The score fell by **{gain:.3f} bits/dim**. At its last pace "
    f"`{fixed.name}` would have gained {paces(fixed)[-1] * doublings:.3f} by "
    "as many images."
)

# %% [markdown]
# The next figure shows the noise that it learned.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The noise of `mnist-learned-noise`, by the level of the pixel, in 64 test images of MNIST. Uniform noise has the density 1.", "name": "fig-learned-noise"}, "image": {"alt": "Three densities over the noise, from 0 to 1. That of black pixels is a hill with its top, nearly 3, near one quarter. That of grey pixels is almost flat, and that of white pixels a low, broad hump."}}
model = learned.load_model()
digits = sheet_images(learned.files.real, 28)[:, :1]
generator.manual_seed(0)
with torch.no_grad():
    u, _ = model.draw_noise(digits, generator)
at = {
    "black": digits == 0,
    "grey": (digits > 0) & (digits < 250),
    "white": digits >= 250,
}
pictures.plot_noise({level: u[where] for level, where in at.items()})
plt.show()

# %% tags=["remove-cell"]
assert round(gain, 2) == 0.03
assert gain > 5 * paces(fixed)[-1] * doublings > 0
assert 0.25 < u[at["black"]].mean() < 0.3
assert u[at["black"]].std() < 0.2  # that of uniform noise is 0.29
assert u[at["grey"]].std() > 0.28

# %% [markdown]
# At black pixels the noise is now a hill, which a Gaussian can meet. At grey pixels it stays nearly flat.
#
# ## Summary
#
# * On integers the log-likelihood of a density that can form spikes is unbounded. With uniform noise it is a lower
#   bound on the log-probability of the image, {eq}`eq:dequantisation`.
# * The logit as printed has no bound at white. That of the authors' code has one.
# * Bits/dim are the negative log-likelihood with every constant, {eq}`eq:bits-chain`. Noise scores 8 at least, and
#   8.21 without a flow.
# * With $\lambda = 0.05$, a Gaussian prior and affine couplings each pixel that is certain pays up to about a quarter
#   of a bit for its noise.
# * A second flow can learn the noise, {eq}`eq:learned-noise`. On MNIST that brought 0.03 bits/dim.
#
# ## Exercises
#
# ```{exercise} Build a learned noise
# :label: ex-learned-noise
#
# The price {eq}`eq:floor` belongs to *uniform* noise. Replace it for one pixel by $u = \operatorname{sigmoid}(m + k
# \varepsilon)$ with $\varepsilon \sim \mathcal N(0, 1)$ and learned $m$ and $k > 0$. In the bound
# {eq}`eq:learned-noise` let $p$ be a Gaussian with learned mean and deviation, and train all four numbers. How many
# bits does a pixel that is certain cost?
# ```
#
# ```{solution-start} ex-learned-noise
# :class: dropdown
# ```
# Almost none. For a small $k$ the noise itself is nearly Gaussian, as the sigmoid is nearly linear there. So the cost
# tends to 0 with $k$. By the change of variables
# $\log q(u) = \log \mathcal N(\varepsilon) - \log k$ $-\ \log u - \log(1 - u)$.

# %% tags=["hide-input"]
m, log_k, mean, log_deviation = (
    torch.zeros(()).requires_grad_() for _ in range(4)
)
optimiser = torch.optim.Adam([m, log_k, mean, log_deviation], lr=0.03)
generator = torch.Generator().manual_seed(0)
for _ in range(500):
    epsilon = torch.randn(256, generator=generator)
    u = torch.sigmoid(m + log_k.exp() * epsilon)
    log_q = Normal(0.0, 1.0).log_prob(epsilon)
    log_q = log_q - log_k - u.log() - (1 - u).log()
    cost = (log_q - Normal(mean, log_deviation.exp()).log_prob(u)).mean()
    optimiser.zero_grad()
    cost.backward()
    optimiser.step()
learned = cost.item() / math.log(2)
assert abs(learned) < 0.05 < floor
ends = Normal(mean, log_deviation.exp()).cdf(torch.tensor([0.0, 1.0]))
assert ends.diff() > 0.999  # the Gaussian is in the cube
assert log_k < -0.5
print(f"uniform noise {floor:.2f}, learned noise {abs(learned):.1f} bits")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Eight bits, exactly
# :label: ex-eight-bits
#
# Which density on $[0, 256)^D$ scores *every* image at exactly 8 bits/dim? Which density of $x$ is that? Is it a
# Gaussian?
# ```
#
# ```{solution-start} ex-eight-bits
# :class: dropdown
# ```
# The uniform one, $p_V = 256^{-D}$, and no other. If every image scores 8, {eq}`eq:dequantisation`
# gives $P(v) \ge 256^{-D}$. The sum of all $P(v)$ is at most 1, so both sides are equal and the gap
# is 0: $p_V$ is flat in every cube. Through the symmetric logit it becomes, for each sub-pixel,
# $p_X(x) = \mathrm d\tilde x / \mathrm dx = \operatorname{sigmoid}'(x) / 0.9$ on
# $|x| < \operatorname{logit}(0.95)$: a logistic density cut off at both ends. The best
# Gaussian loses a little:


# %% tags=["hide-input"]
x, log_slope = to_line(pixel, middle)
best = Normal(x.mean(), x.std())  # one scale and one shift
lost = (-log_slope - best.log_prob(x[:, 0])).mean() / math.log(2)
assert 0 < lost < exact - 8
print(f"the best Gaussian scores noise at {8 + lost:.2f} bits/dim")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Another margin
# :label: ex-alpha
#
# With the identity flow, what does uniform noise score as a function of $\lambda$? Is there a $\lambda$ for which a
# unit Gaussian is nearly right?
# ```
#
# ```{solution-start} ex-alpha
# :class: dropdown
# ```
# It scores $8 - \int_0^1 \log_2 \bigl( \mathcal N(x; 0, 1)\, \mathrm dx / \mathrm d\tilde x \bigr)\, \mathrm d\tilde
# x$ bits/dim, with $x$ from {eq}`eq:logit`.
#
# As $\lambda \to 0$ the density of $x$ becomes a full logistic, of standard deviation $\pi/\sqrt3$, too wide for the
# prior. A large $\lambda$ leaves a narrow range. The best $\lambda$ is larger than the paper's. Even there a unit
# Gaussian costs 0.12 bits more than 8.


# %% tags=["hide-input"]
def noise_score(margin):
    """Bits/dim of uniform noise with no flow, by quadrature."""
    x, log_slope = to_line(pixel, middle, margin)
    log_p = log_prior([x]) + log_slope
    return (8 - log_p.mean() / math.log(2)).item()


scores = {m / 100: noise_score(m / 100) for m in range(1, 41)}
best_margin = min(scores, key=scores.get)
assert abs(scores[0.05] - exact) < 1e-6
assert 0.05 < best_margin < 0.4
assert round(scores[best_margin] - 8, 2) == 0.12
assert round(scores[0.01] - 8, 2) == 0.52
for margin in (0.01, 0.05, best_margin, 0.4):
    print(f"margin {margin}: {scores[margin]:.2f} bits/dim")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Heavier tails
# :label: ex-logistic-floor
#
# NICE used a logistic prior {cite}`dinh2015nice`. What is the price {eq}`eq:floor` for a logistic, with its best
# scale?
# ```
#
# ```{solution-start} ex-logistic-floor
# :class: dropdown
# ```
# A search over the scale finds a higher price. More than half of the difference is mass beyond the edges of the box:
# 11% against 8%. The rest is the gap {eq}`eq:gap`.

# %% tags=["hide-input"]
centred = (torch.arange(10_000, dtype=torch.double) + 0.5) / 10_000 - 0.5
scales = torch.linspace(0.05, 0.6, 200, dtype=torch.double)
z = centred / scales[:, None]
log_p = -F.softplus(z) - F.softplus(-z) - scales[:, None].log()
costs = -log_p.mean(dim=1) / math.log(2)
assert costs.min() > floor
outside = 2 * torch.sigmoid(-0.5 / scales[costs.argmin()])
of_gaussian = 2 * Normal(0.0, 12**-0.5).cdf(torch.tensor(-0.5))
assert (round(outside.item(), 2), round(of_gaussian.item(), 2)) == (0.11, 0.08)
by_mass = torch.log2((1 - of_gaussian) / (1 - outside))
assert 0.5 < by_mass / (costs.min() - floor) < 0.7
print(f"logistic {costs.min():.2f}, Gaussian {floor:.2f} bits")

# %% [markdown]
# ```{solution-end}
# ```
