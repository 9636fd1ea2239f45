# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (training)=
# # Training on images
#
# ```{admonition} In the paper
# Sections 3.7 and 4.1 of {cite:t}`dinh2017realnvp`: batch normalisation, and the procedure of the
# experiments. The paper has no figure for either; the unit of its table 1 is derived here.
# ```
#
# The flow of the last chapters is a density on $\mathbb R^D$. An image file is a list of integers.
# Between the two stand four steps that section 4.1 takes in half a page, and in which many of the
# bugs of other people's code were found: noise that turns integers into real numbers, a logit that
# turns a bounded range into the whole line, the bookkeeping that turns a density back into bits, and
# an optimiser with batch normalisation in the loop. We take them in this order.

# %% tags=["parameters"]
profile = "laptop"

# %%
import copy
import itertools
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from myst_nb import glue
from nvp_book import figures
from nvp_book.figures import training as pictures
from torch.distributions import Normal

from nvp import RealNVP, RealNVPConfig
from nvp.config import DataConfig, RunConfig, TrainingConfig
from nvp.data import EMBEDDED, load
from nvp.flows.preprocess import Logit, LogitForm, dequantise, uniform_noise
from nvp.likelihood import (
    bits_per_dim,
    evaluate,
    reestimate_statistics,
    score_images,
)
from nvp.model import batch_statistics
from nvp.tables.build import runs
from nvp.training.loop import next_batch, spent, training_step
from nvp.training.state import begin

figures.use_style()
torch.set_num_threads(1)  # sums in one order, however many cores
full = profile == "paper"

images = load(EMBEDDED, "train").images
test_images = load(EMBEDDED, "test").images

# %% [markdown]
# ## A density cannot score an integer
#
# Take one pixel $x \in \{0, \dots, 255\}$ and try maximum likelihood on it as it is, with a density
# that has a spike of width $\sigma$ at black and is flat elsewhere,
#
# $$
# q_\sigma(v) = \tfrac12\, \mathcal N(v; 0, \sigma^2) + \tfrac12 \cdot \tfrac1{256}.
# $$ (eq:spike)
#
# At a black pixel $q_\sigma(0) > 1 / (2\sigma\sqrt{2\pi})$, which grows without bound as $\sigma \to 0$; at
# every other level $q_\sigma$ is at least $1/512$. If any share of the pixels is black, the average
# log-density of the data goes to infinity, for a model that has learned nothing but that black
# occurs. The maximum of the likelihood does not exist {cite}`theis2016note`.
#
# The cure is to take away what was exploited, that all black pixels are the *same number*: add noise
# $u$, uniform in $[0, 1)$, afresh at every look. Let us see both, in bits, for the pixels of our images.


# %%
def spike(v, sigma):
    """log q_sigma(v), a spike at black and a flat rest, in nats."""
    peak = Normal(0.0, sigma).log_prob(v)
    flat = torch.full_like(v, -math.log(256))
    return torch.logaddexp(peak, flat) - math.log(2)


generator = torch.Generator().manual_seed(0)
pixels = images[::10].flatten().double()
noise = uniform_noise(pixels, torch.double, generator)
widths = torch.logspace(2, -6, 49, dtype=torch.double)
raw, noisy = (
    torch.stack([-spike(v, w).mean() for w in widths]) / math.log(2)
    for v in (pixels, pixels + noise)
)
shares = pixels.long().bincount(minlength=256) / len(pixels)
entropy = -torch.special.xlogy(shares, shares).sum() / math.log(2)

assert raw[-1] < 0  # a code of negative length
assert (noisy > entropy).all()
print(f"{shares[0]:.0%} of the pixels are black")
print(f"a pixel's entropy: {entropy:.1f} bits")

# %% mystnb={"figure": {"caption": "Bits for a pixel, $-\\log_2 q_\\sigma$, under {eq}`eq:spike`. Scored at the integers, a narrower spike is always better, past zero bits and on to minus infinity. With noise the best width is about that of a level, and the score stays above the entropy of the pixel, as {prf:ref}`prop-dequantisation` says it must. (No figure in the paper.)", "name": "fig-spikes"}, "image": {"alt": "Bits per pixel over the width of the spike, which shrinks to the right. The curve without noise falls in a straight line below zero. The curve with noise has a minimum at a width near one grey level, and stays above a dashed line, the entropy."}}
pictures.draw_spikes(widths, raw, noisy, entropy.item())
plt.show()

# %% [markdown]
# ## Dequantisation
#
# Why may the density at $x + u$ stand for the probability of $x$? Because a density on the line
# *has* probabilities for integers: the mass that it puts on the cube of side 1 above each.
#
# ```{prf:proposition} Dequantisation bounds the likelihood
# :label: prop-dequantisation
#
# Let $p$ be a density on $\mathbb R^D$ and give each image $x \in \{0, \dots, 255\}^D$ the probability
#
# $$
# P(x) = \int_{[0, 1)^D} p(x + u)\, \mathrm du .
# $$ (eq:cube)
#
# Then $\sum_x P(x) \le 1$, with equality when $p$ has all its mass in $[0, 256)^D$, and
#
# $$
# \log P(x) \;\ge\; \mathbb E_{u \sim \mathcal U[0,1)^D} \bigl[ \log p(x + u) \bigr] .
# $$ (eq:dequantisation)
# ```
#
# ```{prf:proof}
# The cubes $x + [0,1)^D$ do not overlap and together fill $[0, 256)^D$, so $\sum_x P(x)$ is the mass
# of $p$ there. For the second part, $P(x) = \mathbb E_u[p(x + u)]$, as $u$ has density 1, and the
# logarithm is concave: Jensen's inequality.
# ```
#
# What is lost is easy to name. Within the cube, $p(u \mid x) = p(x + u) / P(x)$ is a density, and
# subtracting the sides of {eq}`eq:dequantisation` leaves
#
# $$
# \log P(x) - \mathbb E_u[\log p(x + u)]
#   = \mathbb E_u\!\left[ \log \frac{1}{p(u \mid x)} \right]
#   = \mathrm{KL}\bigl( \mathcal U \,\|\, p(u \mid x) \bigr).
# $$ (eq:gap)
#
# So the bound is tight when the model is flat within every cube, and training on noisy pixels is
# training on a lower bound of the discrete likelihood; it cannot diverge, since $\log P \le 0$.
#
# For one pixel and a density whose distribution function $F$ is known, all of it can be checked:
# $P(x) = F(x + 1) - F(x)$.

# %%
dark = Normal(torch.tensor(3.0, dtype=torch.double), 2.0)
light = Normal(torch.tensor(180.0, dtype=torch.double), 40.0)


def log_density(v):
    return ((dark.log_prob(v).exp() + light.log_prob(v).exp()) / 2).log()


levels = torch.arange(256, dtype=torch.double)[:, None]
mass = (dark.cdf(levels + 1) - dark.cdf(levels)) / 2
mass = mass + (light.cdf(levels + 1) - light.cdf(levels)) / 2
u = (torch.arange(400, dtype=torch.double) + 0.5) / 400  # midpoint rule
log_p = log_density(levels + u)
bound = log_p.mean(dim=1, keepdim=True)
gap = -(log_p - mass.log()).mean(dim=1, keepdim=True)

assert mass.sum() < 1
assert (bound < mass.log()).all()
assert torch.allclose(mass.log() - bound, gap, atol=1e-8)
print(f"sum of P: {mass.sum():.2f}; largest gap: {gap.max():.3f} nats")

# %% [markdown]
# ### More draws
#
# The gap can be narrowed without touching the model. Average $K$ draws *inside* the logarithm,
#
# $$
# L_K(x) = \mathbb E_{u_1, \dots, u_K}\!\left[ \log \frac1K \sum_{k=1}^K p(x + u_k) \right],
# \qquad L_1 \le L_2 \le \dots \le \log P(x),
# $$ (eq:draws)
#
# the importance-weighted bound of {cite:t}`burda2016iwae`, which tends to $\log P(x)$. It matters when
# numbers are compared: one draw and eight draws are different yardsticks, and papers do not always say
# which. In the code it is `num_draws`. We use one draw everywhere, and come back to what more are worth
# at the end of the chapter.
#
# ## The logit
#
# After the noise a pixel lies in $[0, 256)$. A flow with a Gaussian prior would have to learn, from
# examples, that nothing lies beyond. So the paper rescales to $\tilde x = (x + u) / 256 \in [0, 1)$ and
# models $y = \operatorname{logit}(p)$, $\operatorname{logit}(p) = \log p - \log(1 - p)$, of a $p$ that
# is kept away from the ends by $\alpha = 0.05$. The paper prints one form and its code computes another
# {cite}`dinh2016code`:
#
# $$
# \text{as printed: } p = \alpha + (1 - \alpha)\, \tilde x , \qquad
# \text{in the code: } p = \alpha + (1 - 2\alpha)\, \tilde x .
# $$ (eq:logit)
#
# They differ at white. As printed, $\tilde x \to 1$ gives $p \to 1$ and $y \to \infty$. The code's
# form is symmetric and stays within $\pm\operatorname{logit}(0.95)$. With slope $a = 1 - \alpha$ or
# $1 - 2\alpha$, the derivative that the change of variables asks for is
#
# $$
# \log \frac{\mathrm dy}{\mathrm d\tilde x} = \log a - \log p - \log(1 - p)
#   = \log a + \operatorname{softplus}(y) + \operatorname{softplus}(-y),
# $$ (eq:logit-derivative)
#
# as $\operatorname{softplus}(-y) = \log(1 + e^{-y}) = -\log p$. The last form never takes the logarithm
# of a small difference. Autograd agrees:

# %%
grid = torch.linspace(0, 0.999, 1000, dtype=torch.double)[:, None]
for form in LogitForm:
    logit = Logit(form, alpha=0.05)
    y, log_derivative = logit(grid[:, None])
    derivative = torch.func.vmap(torch.func.jacrev(logit))(grid[:, None])[0]
    slope = derivative.flatten()
    assert torch.allclose(log_derivative, slope.log(), atol=1e-12)
    back, _ = logit.inverse(y)
    assert torch.allclose(back, grid[:, None], atol=1e-12)

# %% [markdown]
# How bad is white under the printed form? Here are a million noisy white pixels, in the arithmetic that
# training uses. Near 256 neighbouring float32 numbers are $2^{-16}$ apart, so $255 + u$ is now and
# then rounded to 256, and the logit is infinite. One such pixel makes the loss of its batch infinite.

# %%
generator = torch.Generator().manual_seed(0)
white = torch.full((1_000_000, 1), 255, dtype=torch.uint8)
x = dequantise(white, uniform_noise(white, torch.float32, generator))
printed = torch.logit(0.05 + 0.95 * x)
symmetric = Logit(LogitForm.SYMMETRIC)(x)[0]

assert printed.isinf().any()
assert symmetric.abs().max() <= math.log(0.95 / 0.05) + 1e-5
finite = printed[printed.isfinite()]
print(f"as printed: {finite.min():.1f} to {finite.max():.1f} and infinity")
print(f"symmetric:  {symmetric.min():.2f} to {symmetric.max():.2f}")

# %% mystnb={"figure": {"caption": "Both forms of {eq}`eq:logit` over the range of a pixel, and the log-derivative {eq}`eq:logit-derivative`. They are alike except near white, where the printed form has no bound. (No figure in the paper.)", "name": "fig-logit"}, "image": {"alt": "Two panels. Left, y over the scaled pixel: both curves rise from -2.9; the symmetric one ends at 2.9, the printed one shoots up at the right edge. Right, the log-derivative: a symmetric valley, and a curve that climbs steeply at the right edge."}}
pictures.draw_logits(alpha=0.05)
plt.show()

# %% [markdown]
# This book uses the symmetric form, under the preset `paper` too; `logit="paper"` gives the other, with
# a clamp where rounding would reach 1. And this is what the three stages do to the pixels of real images:

# %% mystnb={"figure": {"caption": "The darkest 24 levels of the training images: as integers, a set of spikes; with uniform noise, a histogram and so a density; after the logit, the density that the flow is trained on, here over the whole range. The vertical axes are logarithmic. (No figure in the paper.)", "name": "fig-stages"}, "image": {"alt": "Three histograms. Left, isolated bars at the integers, that at zero much the highest. Middle, the same filled out to steps of width one. Right, a density on -3 to 3 with a sharp peak at its left end."}}
generator = torch.Generator().manual_seed(0)
few = images[::20]
pictures.draw_stages(few, uniform_noise(few, torch.float32, generator))
plt.show()

# %% [markdown]
# ## Bits per dimension, with every constant
#
# Now the whole chain, from an integer image to a number. Write $v = x + u$, $\tilde x = v / 256$,
# $y = \operatorname{logit}(\alpha + (1 - 2\alpha)\tilde x)$ and $z = f(y)$. Each arrow is a change of
# variables ({prf:ref}`thm-change`), and the last is a density that we know:
#
# $$
# \log p_V(v) =
#   \underbrace{\log p_Z(z)}_{\text{prior}}
#   + \underbrace{\log \left|\det \frac{\partial f(y)}{\partial y^{\mathsf T}}\right|}_{\text{couplings, batch norm}}
#   + \underbrace{\sum_{i=1}^D \log \frac{\mathrm dy_i}{\mathrm d\tilde x_i}}_{\text{logit}}
#   - \underbrace{D \log 256}_{v \,\to\, \tilde x} .
# $$ (eq:bits-chain)
#
# The last term is the one that is forgotten: squeezing $[0, 256)^D$ into $[0, 1)^D$ makes every density
# larger by $256^D$. By {prf:ref}`prop-dequantisation` the expectation of {eq}`eq:bits-chain` over $u$ is a
# lower bound of $\log P(x)$, in nats for the whole image. Divide by the number $D$ of sub-pixels and by
# $\log 2$ and turn the sign:
#
# $$
# \text{bits/dim}(x) &= -\frac{\mathbb E_u[\log p_V(x + u)]}{D \log 2} \\
#  &= 8 - \frac{1}{D \log 2}\, \mathbb E_u\!\left[ \log p_Z(z)
#    + \log\left|\det \frac{\partial f}{\partial y^{\mathsf T}}\right|
#    + \sum_i \log \frac{\mathrm dy_i}{\mathrm d\tilde x_i} \right].
# $$ (eq:bits)
#
# It is a length: a code built on the model needs that many bits for each sub-pixel, where a raw file
# spends 8. Loss in nats and bits/dim are the same thing in other units; a loss of thousands is nothing
# to worry about. In code, with nothing hidden:


# %%
def bits_by_hand(images, f, noise):
    """The bound above, for one draw of the noise; f returns (z, log-det)."""
    x = (images + noise) / 256
    p = 0.05 + 0.9 * x
    y = p.log() - (1 - p).log()
    logit_term = (math.log(0.9) - p.log() - (1 - p).log()).sum((1, 2, 3))
    z, log_det = f(y)
    prior = (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).sum((1, 2, 3))
    dims = images[0].numel()
    log_p = prior + log_det + logit_term - dims * math.log(256)
    return -log_p / (dims * math.log(2))


torch.manual_seed(0)
sizes = {"num_scales": 2, "num_blocks": 1, "width": 8}
config = RealNVPConfig.paper(image_shape=(1, 28, 28), **sizes)
untrained = RealNVP(config).double().eval()
batch = test_images[:16]
with torch.no_grad():
    generator = torch.Generator().manual_seed(1)
    noise = uniform_noise(batch, torch.double, generator)
    by_hand = bits_by_hand(batch, untrained.flow, noise)
    generator.manual_seed(1)
    log_prob = untrained.log_prob(batch, generator=generator)
    by_package = bits_per_dim(log_prob, untrained.image_shape)
assert torch.allclose(by_hand, by_package, atol=1e-12)

# %% [markdown]
# ### Two checks that catch most mistakes
#
# **Noise costs 8 bits.** Let every pixel be drawn uniformly from its 256 levels. For any model $P$ the
# expected score is the cross-entropy
# $-\frac1D \mathbb E[\log_2 P(x)] = 8 + \frac1D \mathrm{KL}_2(\mathcal U \,\|\, P)$, since a divergence
# is never negative (and a $P$ that sums to less than 1 only costs more). So no model scores noise below
# 8.0, on average; a likelihood that does has lost a constant.
#
# **And a little more than 8 with no flow at all.** If $f$ is the identity, {eq}`eq:bits` is an integral over one
# pixel, to which a midpoint rule is accurate.

# %%
with torch.no_grad():
    p = 0.05 + 0.9 * (torch.arange(100_000).double() + 0.5) / 100_000
    y = torch.logit(p)
    log_dy = math.log(0.9) - p.log() - (1 - p).log()
    exact = 8 - (Normal(0.0, 1.0).log_prob(y) + log_dy).mean() / math.log(2)

    generator = torch.Generator().manual_seed(2)
    shape = (1000, 1, 28, 28)
    static = torch.randint(0, 256, shape, generator=generator)
    noise = uniform_noise(static, torch.double, generator)
    identity = bits_by_hand(static, lambda y: (y, 0.0), noise).mean()
    worse = bits_by_hand(static[:50], untrained.flow, noise[:50]).mean()

assert abs(exact - 8.21) < 0.005
assert abs(identity - exact) < 0.01
assert worse > 8
glue("identity", round(exact.item(), 2), display=False)
print(f"identity flow: {exact:.2f} by quadrature, {identity:.2f} on noise")
print(f"untrained flow on noise: {worse:.1f}")

# %% [markdown]
# ## The price of noise: a floor
#
# {prf:ref}`prop-dequantisation` hides a cost that shows on MNIST more than anywhere. Take a pixel of which
# there is no doubt, a corner that is always black. An ideal model spends no bits on it. But the flow
# sees $v = u$, uniform on an interval of some width $w$, and with the neighbours given, an affine
# coupling makes its latent an affine function of $v$: still uniform. The prior is Gaussian. The best it
# can do is to match mean and variance, $w^2/12$, and then
#
# $$
# \mathrm{KL}\bigl(\mathcal U \,\|\, \mathcal N\bigr)
#   = \underbrace{\tfrac12 \log_2 \frac{2\pi e\, w^2}{12}}_{-\mathbb E_{\mathcal U}[\log_2 \mathcal N]}
#   - \underbrace{\log_2 w}_{\text{entropy of } \mathcal U}
#   = \tfrac12 \log_2 \frac{\pi e}{6} \text{ bits},
# $$ (eq:floor)
#
# whatever the width. Two things make it up. The Gaussian has only 92% of its mass above the cube, so the pixel
# costs $-\log_2 P(x) = 0.13$ bits: that is the model's fault. And within the cube it is not flat: the other 0.13
# bits are the gap {eq}`eq:gap`, a fault of the bound, and all that more draws can recover.

# %%
floor = 0.5 * math.log2(math.pi * math.e / 6)
v = (torch.arange(100_000, dtype=torch.double) + 0.5) / 100_000
for width in (1.0, 1 / 256):
    best = Normal(width / 2, width / math.sqrt(12))
    divergence = -math.log2(width) - best.log_prob(
        width * v
    ).mean() / math.log(2)
    assert abs(divergence - floor) < 1e-6
inside = math.erf(math.sqrt(1.5))
assert abs(-math.log2(inside) - 0.13) < 0.005
assert abs(floor + math.log2(inside) - 0.13) < 0.005
glue("floor", round(floor, 4), display=False)
print(f"a certain pixel costs {floor:.4f} bits")

# %% mystnb={"figure": {"caption": "The noise of a pixel that is certain, scaled to variance 1, and the Gaussian that the prior holds against it. The divergence between the two is {eq}`eq:floor`. (No figure in the paper.)", "name": "fig-floor"}, "image": {"alt": "A flat box between about -1.7 and 1.7, and a bell curve that is above it in the middle and has tails beyond both edges."}}
pictures.draw_uniform_and_gaussian()
plt.show()

# %% [markdown]
# The argument covers one affine step. Could several couplings, each changing pixels by what the others
# say, bend the noise into a Gaussian? In principle they could, so {eq}`eq:floor` is no theorem about
# Real NVP. Ask one: here is a small model that has nothing to learn but black images.

# %%
torch.manual_seed(0)
small = RealNVPConfig.paper((1, 8, 8), num_blocks=1, width=8)
blank_model = RealNVP(small)
optimiser = torch.optim.Adam(blank_model.parameters(), lr=1e-2)
generator = torch.Generator().manual_seed(0)
black = torch.zeros(32, 1, 8, 8, dtype=torch.uint8)
steps = 1000 if full else 100
for step in range(steps):
    optimiser.param_groups[0]["lr"] = 1e-2 * min(1, 2 * (1 - step / steps))
    optimiser.zero_grad()
    blank_model.loss(black, generator).backward()
    optimiser.step()
blank = black.repeat(16, 1, 1, 1)
reestimate_statistics(blank_model, blank)
score = evaluate(blank_model, blank, seed=1)

assert abs(score.bits_per_dim - floor) < 0.03
print(f"black images cost {score.bits_per_dim / floor:.1f} times the floor")

# %% [markdown]
# It settles at the floor. So a set of images of which a share $r$ of the pixels is certain is scored at
# least $r$ times {glue:text}`floor` bits/dim or so by a model of this kind. How large is
# $r$? That cannot be counted. Black pixels, or nearly black ones, stand in for it: some of them are not certain,
# and some certain ones are not black. There are no MNIST images in this repository, but a recorded model of them
# will do where the ledger has one.

# %%
ledger = runs()
dark = {"Fashion-MNIST, images": (images < 8).double().mean()}
if "mnist" in ledger:
    generator = torch.Generator().manual_seed(0)
    samples = ledger["mnist"].load_model().sample(64, generator=generator)
    dark["MNIST, samples of the recorded run"] = (samples < 8).double().mean()
rows = [[name, f"{r:.1f}", f"{r * floor:.1f}"] for name, r in dark.items()]
figures.show_table(["", "share of black", "estimate, bits/dim"], rows)

# %% [markdown]
# Set that beside the likelihoods in chapter {ref}`results`: on MNIST it is a good part of the whole, and
# none of it is about digits. Two ways out are known. *Variational dequantisation* {cite}`ho2019flowpp` learns a noise $q(u \mid
# x)$ in place of the uniform one, shaped so that the flow likes it; in the tutorial of
# {cite:t}`lippe2024uvadlc` it takes one and the same kind of flow from 1.08 to 1.04 bits/dim, and the best of its
# three flows has it, too. And a model of the integers themselves, as in
# the part on Pixel RNN, adds no noise at all.
#
# ## The loop
#
# What section 4.1 says about training is short, and the official code {cite}`dinh2016code`
# completes it:
#
# | | in the paper | in the official code |
# |---|---|---|
# | optimiser | Adam {cite}`kingma2015adam`, default parameters | rate $10^{-3}$, $\beta = (0.9, 0.999)$, $\epsilon = 10^{-8}$ |
# | batch | 64 images | 64 images |
# | regulariser | L2 on the weight scales, $5 \cdot 10^{-5}$ | the same, not on the scales of channel couplings |
# | clipping | not mentioned | gradient norm at most 100 |
# | schedule, length | not mentioned | none; must be set |
# | averaging of weights | not mentioned | none |
#
# "Weight scales" are the gains $g$ of the weight-normalised convolutions and the scales of the tanh. The
# defaults of this package are these:

# %%
defaults = TrainingConfig(steps=1)
assert defaults.batch_size == 64
assert defaults.learning_rate == 1e-3
assert defaults.betas == (0.9, 0.999)
assert defaults.epsilon == 1e-8
assert defaults.clip_norm == 100
assert RealNVPConfig.paper((3, 32, 32)).weight_scale_l2 == 5e-5

# %% [markdown]
# The run of this page has a small model, a small batch and a high rate, so that something is to be seen
# within seconds. The last half of it lowers the rate to zero.

# %%
steps = 400 if full else 80
run = RunConfig(
    name="in-the-page",
    model=config,
    data=DataConfig(name=EMBEDDED),
    training=TrainingConfig(
        steps=steps,
        batch_size=32,
        learning_rate=1e-2,
        anneal=0.5,
        precision="fp32",
    ),
)

# %% [markdown]
# One step is five lines. `model.loss` draws fresh noise, takes {eq}`eq:bits-chain`, and adds the regulariser;
# it is in nats for an image. `training_step` of `nvp.training.loop` does the same with a rate schedule and a check
# that the loss is finite. From the same start, both arrive at the same weights.

# %%
settings = run.training
held_out, seen = images[-100:], images[:-500]
state = begin(run, torch.device("cpu"), len(seen))

batch = next_batch(state, seen, run)
model = copy.deepcopy(state.model)
noise = torch.Generator()
noise.set_state(state.noise.get_state())
optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)

optimiser.zero_grad()
loss = model.loss(batch, noise)
loss.backward()
torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
optimiser.step()

training_step(state, batch, settings, done=0.0)
pairs = zip(model.parameters(), state.model.parameters(), strict=True)
assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)

# %% [markdown]
# ### Averaged weights
#
# Late in training the weights jitter around a better place than any of them is in. So the runs of this
# book score an exponential moving average of the weights $\theta_t$ (the paper does not mention one):
#
# $$
# \bar\theta_t = c_t\, \bar\theta_{t-1} + (1 - c_t)\, \theta_t , \qquad
# c_t = \min\bigl(c,\ \tfrac{1 + t}{10 + t}\bigr),
# $$ (eq:ema)
#
# with $c = 0.999$. The second argument of the minimum lets the memory grow with the run; without it a
# short run would be an average over its random start.
#
# Here is the loop. This run is as short as a page allows and its model is tiny; the chapter
# {ref}`results` has the ones that were given time. On the way we score held-out images twice: the weights
# as they are, with the batch-norm averages that training kept, and the averaged weights, with statistics
# estimated afresh. Why that matters is the next section.

# %%
losses, latest, averaged, halfway = [], {}, {}, None
while (done := spent(state, settings)) < 1:
    batch = next_batch(state, seen, run)
    loss, _ = training_step(state, batch, settings, done)
    losses.append(loss / (state.model.num_dimensions * math.log(2)))
    if state.step % (steps // 4) == 0:
        latest[state.step] = evaluate(state.model, held_out).bits_per_dim
        reestimate_statistics(state.average, seen[:200], batch_size=50)
        averaged[state.step] = evaluate(state.average, held_out).bits_per_dim
    if state.step == steps // 2:
        halfway = copy.deepcopy(state.model)

assert averaged[steps] < averaged[steps // 4]
assert averaged[steps] < losses[0] - 1

# %% mystnb={"figure": {"caption": "The short run: the loss of each step, and held-out images scored in two ways. (No figure in the paper, which shows no curve of training.)", "name": "fig-short-run"}, "image": {"alt": "Bits per dimension over steps. A jagged grey curve falls steeply and then slowly. Squares, for the latest weights with moving averages, lie above it and jump; circles, for averaged weights with fresh statistics, fall smoothly."}}
pictures.draw_short_run(
    range(2, 2 + len(losses)),
    losses,
    {
        "held out: latest weights, moving averages": latest,
        "held out: averaged weights, fresh statistics": averaged,
    },
)
plt.show()

# %% [markdown]
# ## Batch norm: which statistics?
#
# Batch normalisation {cite}`ioffe2015batchnorm` sits in the networks $s$ and $t$, and after each coupling as
# a bijection whose log-determinant is part of the likelihood (chapter {ref}`networks`). In training
# mode its mean and variance are those of the batch. That is a fine way to train and no way to score: the
# "density" of an image then depends on which images happen to stand beside it.


# %%
def first_score(model, companions):
    """Bits/dim of one image, scored in a batch with others."""
    together = torch.cat([held_out[:1], companions])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        log_prob = model.log_prob(together, generator=generator)
    return bits_per_dim(log_prob, model.image_shape)[0]


model = state.average
one, other = held_out[1:32], images[:31]
with batch_statistics(model):
    moved = (first_score(model, one) - first_score(model, other)).abs()
model.eval()
still = (first_score(model, one) - first_score(model, other)).abs()
assert moved > 0.01
assert still < 1e-4

# %% [markdown]
# In evaluation mode the statistics are constants, and the score is a likelihood. Which constants? The
# usual ones are moving averages kept in training, which with a momentum of 0.1 remember the last ten
# batches or so, seen through weights that have since moved. Or one can pass training images through the
# finished model and average the statistics of their batches: `reestimate_statistics`, the protocol of
# {cite:t}`papamakarios2017maf`. Test images are not needed for either. Halfway through the run and at its
# end, on the same held-out images:


# %%
def three_ways(model):
    """Bits/dim under moving averages, fresh and batch statistics."""
    moving = evaluate(model, held_out).bits_per_dim
    with batch_statistics(model):
        batch = score_images(model, held_out).mean().item()
    reestimate_statistics(model, seen[:400], batch_size=100)
    fresh = evaluate(model, held_out).bits_per_dim
    return moving, fresh, batch


halfway_ways = three_ways(halfway)
end_ways = three_ways(copy.deepcopy(state.model))
assert halfway_ways[1] < halfway_ways[0]

# %% mystnb={"figure": {"caption": "Held-out images under three kinds of batch-norm statistics, halfway through the short run and at its end. (No figure in the paper.)", "name": "fig-statistics"}, "image": {"alt": "Bits per dimension as dots. Halfway, moving averages lie far to the right of the other two kinds; at the end the three nearly agree."}}
pictures.draw_statistics(
    {"halfway": halfway_ways, "at the end": end_ways},
    ("moving averages", "re-estimated", "of the batch"),
)
plt.show()

# %% [markdown]
# At a high rate the moving averages lag behind the weights and the score is off; once the rate has been
# lowered to zero the two come close. Users of other implementations
# [have seen](https://github.com/PolinaKirichenko/flows_ood/issues/5) the test likelihood explode in this
# way while the training loss was fine. The last row is not a likelihood, but a useful alarm: `nvp train`
# logs it beside the proper one, and when the two part, something is wrong with the statistics. Every
# figure of this book is in evaluation mode, with statistics re-estimated on training images.
#
# ## What more draws are worth
#
# Back to {eq}`eq:draws`, now with a model that has been trained: the recorded run on Fashion-MNIST where
# the ledger has it. Sixteen draws of the noise for each image are one draw sixteen times, or two draws
# eight times, and so on; Jensen's inequality orders the results for every image, not only on average.

# %%
on_fashion = [
    ledger[n] for n in ("fashion-mnist", "quickstart") if n in ledger
]
recorded = on_fashion[0].load_model() if on_fashion else model
few = test_images[: 200 if full else 25]
generator = torch.Generator().manual_seed(0)
with torch.no_grad():
    draws = torch.stack(
        [recorded.log_prob(few, generator=generator) for _ in range(16)]
    )
    generator.manual_seed(0)
    four = recorded.log_prob(few, num_draws=4, generator=generator)

counts = (1, 2, 4, 8, 16)
bounds = []
for count in counts:
    groups = draws.view(16 // count, count, -1)
    bound = groups.logsumexp(dim=1) - math.log(count)
    if count == 4:
        assert torch.allclose(bound[0], four, atol=1e-2)
    bounds.append(bits_per_dim(bound.mean(dim=0), (1, 28, 28)))
for fewer, more in itertools.pairwise(bounds):
    assert (more <= fewer + 1e-9).all()
gain = (bounds[0] - bounds[-1]).mean()
print(f"sixteen draws: {gain:.2f} bits/dim less than one")

# %% mystnb={"figure": {"caption": "The importance-weighted bound {eq}`eq:draws` of a recorded model on test images, as the number of draws doubles. (No figure in the paper.)", "name": "fig-draws"}, "image": {"alt": "Bits per dimension over the number of draws, from 1 to 16, falling slowly."}}
pictures.draw_more_draws(counts, [bound.mean().item() for bound in bounds])
plt.show()

# %% [markdown]
# The gain is real, and less than the gap in {eq}`eq:floor` on the black pixels alone: the noise has as many dimensions
# as the image, and a handful of draws cannot find the places that the model prefers in all of them at
# once. It is a correction to a comparison, not a way to close a gap.
#
# And the first check once more, on the trained model. It has never seen noise and is in for a surprise:

# %%
recorded.eval()
surprise = evaluate(recorded, static[:20].to(torch.uint8)).bits_per_dim
assert surprise > 8
print("uniform noise scores above 8:", surprise > 8)

# %% [markdown]
# ## Summary
#
# * A density diverges on integers. Uniform noise makes the likelihood of a density a lower bound of the
#   probability of the image, {eq}`eq:dequantisation`; the loss is the divergence {eq}`eq:gap`, and more
#   draws recover some of it.
# * Bits/dim is the negative log-likelihood with every constant in it, {eq}`eq:bits`: prior, couplings and
#   batch norm, logit, 256. Noise scores 8 at least, and with no flow {glue:text}`identity`.
# * The logit of the paper is infinite at white; the symmetric one of its code is not.
# * Under a Gaussian prior and affine couplings each certain pixel pays about {eq}`eq:floor`, a quarter of a bit, for
#   its noise.
# * Train with Adam and averaged weights, score with constant batch-norm statistics that belong to the
#   weights being scored.
#
# ## Exercises
#
# ```{exercise} Eight bits, exactly
# :label: ex-eight-bits
#
# Which density on $[0, 256)^D$ scores *every* image, not only noise, at exactly 8 bits/dim? Which
# density of $y$ is that, and can an affine map of a Gaussian be it?
# ```
#
# ```{solution-start} ex-eight-bits
# :class: dropdown
# ```
# The uniform one, $p_V = 256^{-D}$. Pulled through the symmetric logit it is
# $p_Y(y) = \mathrm d\tilde x / \mathrm dy = \sigma'(y) / 0.9$ on $|y| < \operatorname{logit}(0.95)$: a
# logistic density cut off at both ends. No Gaussian is that, and what the best one loses is:

# %%
y, log_derivative = Logit(LogitForm.SYMMETRIC)(v[:, None])
y, log_p_y = y[:, 0], -log_derivative  # the density of x~ is 1
best = Normal(y.mean(), y.std())
lost = (log_p_y - best.log_prob(y)).mean() / math.log(2)
assert 0 < lost < exact - 8
print(f"the best Gaussian scores noise at {8 + lost:.2f} bits/dim")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Another alpha
# :label: ex-alpha
#
# With the identity flow, what does uniform noise score as a function of $\alpha$? Is there an $\alpha$
# for which a unit Gaussian is nearly right?
# ```
#
# ```{solution-start} ex-alpha
# :class: dropdown
# ```
# The same integral, with another slope. As $\alpha \to 0$ the range of $y$ becomes the whole line and its
# density a full logistic, of standard deviation $\pi/\sqrt3$, too wide for the prior; a large $\alpha$
# leaves a narrow range. In between lies a best one, above the paper's; a flow repairs the difference with
# one scale and one shift, so little hangs on it.


# %%
def identity_score(alpha):
    """Bits/dim of uniform noise with no flow, by quadrature."""
    y, log_derivative = Logit(LogitForm.SYMMETRIC, alpha)(v[:, None])
    log_p = Normal(0.0, 1.0).log_prob(y[:, 0]) + log_derivative
    return (8 - log_p.mean() / math.log(2)).item()


scores = {a / 100: identity_score(a / 100) for a in range(1, 41)}
best_alpha = min(scores, key=scores.get)
assert abs(scores[0.05] - exact) < 1e-6
assert 0.05 < best_alpha < 0.4
print(f"best at alpha = {best_alpha}: {scores[best_alpha]:.2f} bits/dim")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Heavier tails
# :label: ex-logistic-floor
#
# NICE used a logistic prior {cite}`dinh2015nice`. What is the floor {eq}`eq:floor` for a logistic, with
# its best scale?
# ```
#
# ```{solution-start} ex-logistic-floor
# :class: dropdown
# ```
# There is no neat formula; search over the scale. It is higher: heavier tails spill more over the edges of the cube.

# %%
centred = v - 0.5  # uniform, of width 1 and entropy 0
scales = torch.linspace(0.05, 0.6, 200, dtype=torch.double)
z = centred / scales[:, None]
log_p = -F.softplus(z) - F.softplus(-z) - scales[:, None].log()
costs = -log_p.mean(dim=1) / math.log(2)
assert costs.min() > floor
print(f"logistic {costs.min():.2f}, Gaussian {floor:.2f} bits")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The memory of a moving average
# :label: ex-memory
#
# A batch-norm average moves by a tenth of the difference at each step. What share of it stems from the
# last ten batches? After how many steps has the starting value of the average lost 99% of its weight?
# ```
#
# ```{solution-start} ex-memory
# :class: dropdown
# ```
# A batch that is $k$ steps old has the weight $0.1 \cdot 0.9^k$, so the last ten have
# $1 - 0.9^{10}$, and what was there before has $0.9^n$ after $n$ steps.

# %%
average, steps_needed = 1.0, 0
while average > 0.01:
    average = 0.9 * average + 0.1 * 0.0
    steps_needed += 1
assert steps_needed == math.ceil(math.log(0.01) / math.log(0.9))
print(f"the last ten batches: {1 - 0.9**10:.0%}; {steps_needed} steps")

# %% [markdown]
# ```{solution-end}
# ```
