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
# The goal is a generative probabilistic model: a program that says how probable an image is, and that makes new
# ones. Images are high-dimensional and highly structured. The challenge is a model that is complex and yet trainable.
# You may know two answers, variational autoencoders and adversarial networks. This book is about two others, Real NVP
# and Pixel RNN. The chapter builds two baselines that every later model has to beat.
#
# ```{admonition} In the paper
# Sections 1 and 2 of {cite:t}`dinh2017realnvp`, and the unit of its table 1.
# ```

# %% tags=["parameters"]
profile = "laptop"

# %% tags=["hide-input"]
import math

import matplotlib.pyplot as plt
import torch
from nvp_book import baselines, figures
from nvp_book.figures import estimation
from nvp_book.figures.samples import plot_rows
from nvp_book.moons import log_moons
from nvp_book.selection import data_title
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal
from torch.nn import functional as F

from nvp.data import EMBEDDED, load
from nvp.flows.toy import ToyData, ToyFlow

figures.use_style()
torch.set_num_threads(1)  # sums in one order, however many cores

train = load(EMBEDDED, "train").images
test = load(EMBEDDED, "test").images

# %% [markdown]
# ## A probability for every image
#
# How can an image have a probability?
#
# A grey image of 28 × 28 pixels is a list of $D = 784$ integers from 0 to 255. There are finitely many such images, so
# a **generative model** is a table: a probability $P(x) \ge 0$ for every image $x$, with $\sum_x P(x) = 1$. We can
# *score* an image by looking it up, and *sample* a new one. Often we also want to *describe* an image by other
# numbers, its latents.

# %%
print(f"the table has 256^784 rows, a number of {len(str(256**784))} digits")

# %% [markdown]
# No computer holds this table. A model computes $P(x)$ from fewer numbers, its parameters, which
# are learned from data. Our data come with the book: 5,000 training and 1,000 test images of
# Fashion-MNIST {cite:p}`xiao2017fashion`, the *embedded* images. The simplest model draws all
# pixels from one histogram of grey levels:
#
# $$
# \begin{aligned}
# P(x) &= \prod_{i=1}^{D} p(x_i), \\
# p(v) &= \frac{1 + m_v}{256 + m} .
# \end{aligned}
# $$ (eq:histogram)
#
# Here $m_v$ of the $m$ training pixels have the level $v$. The 1 added to each count (Laplace smoothing) gives unseen
# levels a small probability. This is the whole model:


# %%
class OneHistogram:
    """Every pixel is drawn from the same 256 probabilities."""

    def __init__(self, train):
        counts = torch.bincount(train.flatten(), minlength=256) + 1
        self.p = counts.double() / counts.sum()

    def log2_prob(self, images):
        """log2 P(x): (N, 1, H, W) -> (N,)."""
        return self.p.log2()[images.long()].flatten(1).sum(dim=1)

    def sample(self, n, generator):
        levels = torch.multinomial(
            self.p, n * 784, replacement=True, generator=generator
        )
        return levels.view(n, 1, 28, 28).byte()


histogram = OneHistogram(train)
log2_p = histogram.log2_prob(test[:1]).item()
print(f"log2 P of the first test image: {log2_p:.0f}")

# %% [markdown]
# ## Maximum likelihood
#
# One histogram is a bad generative model. To say *how* bad, we need a measure.
#
# Let $p_\theta(x)$ be the probability of $x$ under parameters $\theta$. The **likelihood** of $\theta$ is the
# probability of all $N$ training images, drawn independently. In logarithms, and per image, it is
#
# $$
# \ell(\theta) = \frac1N \sum_{n=1}^N \log p_\theta\bigl(x^{(n)}\bigr).
# $$ (eq:average-log)
#
# Why maximise this? Let $\hat p(x)$ be the fraction of training images that equal $x$. For
# distributions $p$ and $q$ define, with $0 \log 0 = 0$ and $-\log 0 = \infty$, the **entropy** and the
# **Kullback-Leibler divergence**
#
# $$
# \begin{aligned}
# H(p) &= -\sum_x p(x) \log p(x), \\
# \mathrm{KL}(p \,\|\, q) &= \sum_x p(x) \log \frac{p(x)}{q(x)} .
# \end{aligned}
# $$ (eq:divergence)
#
# ```{prf:proposition} Maximum likelihood minimises a divergence
# :label: prop-likelihood
#
# For every $\theta$,
#
# $$
# -\ell(\theta) = H(\hat p) + \mathrm{KL}(\hat p \,\|\, p_\theta), \qquad
# \mathrm{KL}(\hat p \,\|\, p_\theta) \ge 0,
# $$ (eq:projection)
#
# with equality if and only if $p_\theta = \hat p$.
# ```
#
# ```{prf:proof}
# Group equal images: $\ell(\theta) = \sum_x \hat p(x) \log p_\theta(x)$. Subtract and add
# $\sum_x \hat p(x) \log \hat p(x)$ to get the identity. For the inequality use $\log r \le r - 1$, with equality at
# $r = 1$ only:
#
# $$
# -\mathrm{KL}(\hat p \,\|\, p_\theta)
#   = \sum_{\hat p(x) > 0} \hat p(x) \log \frac{p_\theta(x)}{\hat p(x)}
#   \le \sum_{\hat p(x) > 0} \bigl( p_\theta(x) - \hat p(x) \bigr) \le 0 .
# $$
#
# Equality needs $p_\theta = \hat p$ wherever $\hat p > 0$, and then no probability is left for other places.
# ```
#
# The entropy does not depend on $\theta$. So the model of greatest likelihood is the nearest one to the data, in this
# divergence. For single pixels, $p(v) = m_v / m$ is the nearest histogram: counting *is* maximum likelihood.
# The next cell checks the identity for grey levels, with our histogram and a flat one. It counts in **nats**, the unit
# of natural logarithms. A nat is $1 / \log 2 = 1.44$ bits.

# %%
p_hat = torch.bincount(train.flatten(), minlength=256).double()
p_hat /= p_hat.sum()
entropy = -torch.special.xlogy(p_hat, p_hat).sum()
for q in (histogram.p, torch.full((256,), 1 / 256)):
    nats = -(p_hat * q.log()).sum()  # minus the log-likelihood, per pixel
    divergence = torch.special.xlogy(p_hat, p_hat / q).sum()
    assert torch.isclose(nats, entropy + divergence)
    print(f"{nats:.4f} nats a pixel = {entropy:.4f} + {divergence:.4f}")

# %% [markdown]
# A real image to which the model gives almost no probability costs much, since $-\log p_\theta$ explodes. Probability
# spent on images unlike the data costs little: it is only missing elsewhere. So a model with too few parameters
# *covers* its data and spreads beyond them ({ref}`two-divergences`). In the paper's words, maximum likelihood "values
# diversity over sample quality in a limited capacity setting" (section 4.2).
#
# ## Bits per dimension
#
# Larger images need more bits. So for images of 256 levels both papers count bits per
# **sub-pixel**. A grey pixel has one, a colour pixel three, and an image has $D$:
#
# $$
# \text{bits/dim}(x) = -\frac{\log_2 P(x)}{D} = -\frac{\log P(x)}{D \log 2} .
# $$ (eq:bits-per-dim)
#
# Lower is better. From the model one can make a code that stores $x$ in less than $-\log_2 P(x) + 1$ bits
# ({prf:ref}`prop-code`). So bits/dim is the size of a file for each sub-pixel (chapter {ref}`compression`). The
# entropy of the data is a floor that no model beats on average.
#
# For images the floor is unknown. For uniform noise it is 8.0 bits/dim, since every image has probability $256^{-D}$.
# By {prf:ref}`prop-likelihood`, with the noise as $\hat p$, every other model needs more bits for it, on average. Check
# this first on any code that computes a likelihood.

# %%
generator = torch.Generator().manual_seed(0)
noise = torch.randint(256, (500, 1, 28, 28), generator=generator).byte()
for name, images in {"noise": noise, "test images": test}.items():
    bits = -histogram.log2_prob(images) / 784
    print(f"{name}: {bits.mean():.1f} bits/dim")
assert -histogram.log2_prob(noise).mean() / 784 > 8

# %% [markdown]
# ## A second baseline: two neighbours
#
# Pixels resemble their neighbours. By the chain rule of probability any $P(x)$ is a product of predictions, pixel
# after pixel. We predict each pixel from its left and upper neighbour only, by one histogram for each pair of their
# levels, rounded to 16 steps.


# %%
class TwoNeighbours:
    """p(level | left, above): a histogram for each of 16 x 16 pairs."""

    def __init__(self, train):
        cells = (self.context(train) * 256 + train).flatten()
        counts = torch.bincount(cells, minlength=256 * 256).view(256, 256) + 1
        self.p = counts.double() / counts.sum(dim=1, keepdim=True)

    def context(self, images):
        """The number of each pixel's pair; outside of the image is 0."""
        rounded = F.pad(images.long() // 16, (1, 0, 1, 0))
        return rounded[..., 1:, :-1] * 16 + rounded[..., :-1, 1:]

    def log2_prob(self, images):
        log2 = self.p.log2()[self.context(images), images.long()]
        return log2.flatten(1).sum(dim=1)

    def sample(self, n, generator):
        images = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
        for row in range(28):
            for column in range(28):
                p = self.p[self.context(images)[:, 0, row, column]]
                level = torch.multinomial(p, 1, generator=generator)
                images[:, :, row, column] = level.byte()
        return images


neighbours = TwoNeighbours(train)

# %% [markdown]
# Here are samples of both models, beside test images:

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Test images of the embedded subset of Fashion-MNIST {cite:p}`xiao2017fashion`, and samples of the two baselines. None was selected by hand.", "name": "fig-baselines"}, "image": {"alt": "Three rows of ten images. Test images: clothes and shoes. One histogram: noise, half of it black. Two neighbours: streaky bright patches on black, in no shape."}}
generator = torch.Generator().manual_seed(2)
models = {"one histogram": histogram, "two neighbours": neighbours}
rows = {name: model.sample(10, generator) for name, model in models.items()}
plot_rows({"test images": test[:10], **rows})
plt.show()

# %% tags=["remove-cell"]
by_book = baselines.score(train, test)
for name, score in by_book.items():
    bits = -models[name].log2_prob(test).mean() / 784
    assert abs(bits - score.bits_per_dim) < 1e-9

# %% [markdown]
# The samples of two neighbours have bright patches and show no garment. These are the scores in
# bits/dim:

# %% tags=["hide-input"]
recorded = baselines.recorded()
rows = []
for data, scores in recorded.items():
    cells = [f"{score.bits_per_dim:.2f}" for score in scores.values()]
    rows.append([data_title(data), "8.00", *cells])
header = ["test images", "uniform", *recorded[EMBEDDED]]
figures.show_table(header, rows)

# %% tags=["remove-cell"]
for name, score in recorded[EMBEDDED].items():
    assert abs(score.bits_per_dim - by_book[name].bits_per_dim) < 1e-5
for scores in recorded.values():
    one, two = (score.bits_per_dim for score in scores.values())
    assert two < 0.75 * one
assert round(math.log2(len(train)) / 784, 3) == 0.016
assert len(train.flatten(1).unique(dim=0)) == len(train)

# %% [markdown]
# Two neighbours need less than three quarters of the bits of one histogram, on every set of the table. Likelihood
# rewards every detail of an image, not only its shape.
#
# Why *test* images? A list of the 5,000 training images, each with probability $1/5000$, has the greatest training
# likelihood of all: $\log_2(5000) / 784 = 0.016$ bits/dim. And it gives any other image probability 0.
# {ref}`baselines-and-bits` has more baselines.
#
# ## Complex, yet trainable
#
# The baselines are easily trained, and too simple. A neural network is complex enough, but probabilities must sum to
# one. Call its output $-E_\theta(x)$. Then
#
# $$
# \begin{aligned}
# p_\theta(x) &= \frac{e^{-E_\theta(x)}}{Z_\theta}, \\
# Z_\theta &= \sum_x e^{-E_\theta(x)},
# \end{aligned}
# $$ (eq:partition)
#
# is a distribution, but the partition function $Z_\theta$ has as many terms as there are images. Boltzmann machines
# {cite}`salakhutdinov2009dbm` estimate the gradient of $\log Z_\theta$ by Markov chains. Four families avoid $Z_\theta$:
#
# * A **variational autoencoder** {cite}`kingma2014vae,rezende2014` samples latents $z \sim p(z)$, then
#   $x \sim p_\theta(x \mid z)$. A second network $q$ infers $z$ from $x$ and gives the evidence lower *bound*
#
#   $$
#   \log p_\theta(x) \;\ge\; \mathbb E_{q(z \mid x)}\bigl[ \log p_\theta(x \mid z) \bigr]
#     - \mathrm{KL}\bigl( q(z \mid x) \,\|\, p(z) \bigr) .
#   $$ (eq:elbo)
#
# * An **adversarial network** {cite}`goodfellow2014gan` defines a distribution through its samples alone. A
#   discriminator learns to tell samples $G(z)$ from data, and the generator $G$ learns to deceive it.
# * An **autoregressive model** is the chain rule with a network, which predicts each number from those before it.
# * A **normalizing flow** {cite}`rezende2015flows,kobyzev2021review` maps $x$ to $z$ by an invertible network. To
#   score and sample in one pass each, it needs a cheap inverse and a cheap Jacobian determinant.
#
# In the plane all four losses are short. Here they are in nats, for points `x` of shape (N, 2).
# `gaussian` and `mixture` turn numbers into a distribution, `weights` are learned, and `normal` is
# the unit Gaussian. The discriminator `D` returns a logit, and `softplus(-a)` is
# $-\log \operatorname{sigmoid}(a)$:


# %%
def vae_loss(x, weight=1.0):
    """Estimates a bound on -log p(x), for weight 1, by one z for each x."""
    q = gaussian(encoder(x))
    z = q.rsample()
    divergence = (q.log_prob(z) - normal.log_prob(z)).sum(dim=1)
    return weight * divergence - gaussian(decoder(z)).log_prob(x).sum(dim=1)


def gan_losses(x, z):
    """Of the discriminator and of the generator. Neither is a likelihood."""
    real, made = D(x), G(z)
    loss_of_d = F.softplus(-real) + F.softplus(D(made.detach()))
    return loss_of_d.mean(), F.softplus(-D(made)).mean()


def autoregressive_loss(x):
    """-log p(x1) - log p(x2 | x1), exactly."""
    first = mixture(weights).log_prob(x[:, 0])
    return -first - mixture(network(x[:, :1])).log_prob(x[:, 1])


def flow_loss(x):
    """-log p_Z(f(x)) - log |det df/dx|, exactly."""
    z, log_det = f(x)
    return -normal.log_prob(z).sum(dim=1) - log_det


# %% [markdown]
# The folded cell defines the models and trains them on two half moons. It takes the flow from the package: eight
# couplings. {ref}`change-of-variables` derives its loss, and {ref}`coupling-layers` builds such a flow in the page.

# %% tags=["hide-input"]
points = ToyData.MOONS.sample(20_000, seed=1)
fresh = ToyData.MOONS.sample(1_000, seed=2)
steps = {"laptop": 700, "paper": 5000}[profile]
normal = Normal(0.0, 1.0)


def net(inputs, outputs, activation=nn.ReLU, width=64):
    return nn.Sequential(
        nn.Linear(inputs, width),
        activation(),
        nn.Linear(width, width),
        activation(),
        nn.Linear(width, outputs),
    )


def gaussian(numbers):
    mean, log_std = numbers.chunk(2, dim=-1)
    return Normal(mean, log_std.exp(), validate_args=False)


def mixture(numbers):
    """Of ten Gaussians."""
    weights, means, log_stds = numbers.chunk(3, dim=-1)
    return MixtureSameFamily(
        Categorical(logits=weights, validate_args=False),
        Normal(2 * means, log_stds.exp(), validate_args=False),
        validate_args=False,
    )


def batches(steps):
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(points), (256,), generator=generator)
        yield points[chosen], torch.randn(256, 2, generator=generator)


def minimise(loss, parameters):
    optimiser = torch.optim.Adam(parameters, lr=0.005, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for x, _ in batches(steps):
        optimiser.zero_grad()
        loss(x).mean().backward()
        optimiser.step()
        schedule.step()


torch.manual_seed(0)
encoder, decoder = net(2, 4), net(2, 4)
with torch.no_grad():  # small deviations, or one latent is never used
    encoder[-1].bias[2:] -= 1
    decoder[-1].bias[2:] -= 2
# the weight of the divergence rises from 0 to 1
warm = iter(torch.linspace(0, 10 / 3, steps).clamp(max=1).tolist())
minimise(
    lambda x: vae_loss(x, next(warm)),
    [*encoder.parameters(), *decoder.parameters()],
)

torch.manual_seed(0)
weights, network = nn.Parameter(torch.randn(30)), net(1, 30, nn.Tanh)
minimise(autoregressive_loss, [weights, *network.parameters()])

torch.manual_seed(0)
flow = f = ToyFlow(num_couplings=8, width=32)
minimise(flow_loss, flow.parameters())

torch.manual_seed(0)
G, D = net(2, 2, nn.LeakyReLU), net(2, 1, nn.LeakyReLU)
players = {D: 2e-3, G: 1e-3}
adam = torch.optim.Adam(
    [{"params": p.parameters(), "lr": rate} for p, rate in players.items()],
    betas=(0.0, 0.9),
    fused=True,
)
for x, z in batches(3 * steps // 2):
    adam.zero_grad()
    for player, loss in zip(players, gan_losses(x, z), strict=True):
        loss.backward(inputs=list(player.parameters()))
    adam.step()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Four families on the same data: densities above, all on one scale, and samples below. Numbers are $-\\log p$ in nats per point, averaged over 1,000 new points. In the first column they are of the true density. They are a bound for the VAE, exact for the last two. Short runs; no family is at its best.", "name": "fig-field"}, "image": {"alt": "Five columns. Data: two half moons. VAE: a blurred wave in which the two moons run into each other. GAN: no density; samples on two moons thinner than the data, with stray points between them. Autoregressive and flow: two moons, nearly as sharp as the data; in the flow the upper moon runs into the lower one at its right end."}}
grid = torch.linspace(-4, 4, 61)  # of each latent, for summing over z
latents = torch.cartesian_prod(grid, grid)
log_weight = normal.log_prob(latents).sum(dim=1) + 2 * math.log(8 / 60)


def log_vae(x):
    """log p(x) by summing over a grid of z, nats."""
    q = gaussian(decoder(latents))
    parts = [q.log_prob(few[:, None]).sum(dim=2) for few in x.split(500)]
    return torch.logsumexp(torch.cat(parts) + log_weight, dim=1)


side = torch.linspace(-2.6, 2.6, 90)
plane = torch.cartesian_prod(side, side)
generator = torch.Generator().manual_seed(0)
with torch.no_grad():
    z = torch.randn(1000, 2, generator=generator)
    x1 = mixture(weights).sample((1000, 1))
    x2 = mixture(network(x1)).sample()[:, None]
    samples = {
        "the data": fresh,
        "VAE": gaussian(decoder(z)).sample(),
        "GAN": G(z),
        "autoregressive": torch.cat([x1, x2], dim=1),
        "flow": flow.inverse(z)[0],
    }
    log_p = {
        "the data": log_moons,
        "VAE": log_vae,
        "autoregressive": lambda x: -autoregressive_loss(x),
        "flow": flow.log_prob,
    }
    densities = {k: of(plane).exp().reshape(90, 90) for k, of in log_p.items()}
    nats = {name: -of(fresh).mean().item() for name, of in log_p.items()}
    nats_of_bound = torch.stack([vae_loss(fresh) for _ in range(50)]).mean()
notes = {name: f"{value:.2f} nats" for name, value in nats.items()}
notes["VAE"] = f"≤ {nats_of_bound:.2f} nats"
estimation.plot_field(densities, samples, notes, limit=2.6)
plt.show()

# %% tags=["remove-cell"]
assert min(nats, key=nats.get) == "the data"
assert nats["VAE"] < nats_of_bound
assert max(nats["flow"], nats["autoregressive"]) < nats["the data"] + 0.15

# %% [markdown]
# The flow and the autoregressive model come within about a tenth of a nat of the truth. The VAE is blurred, and the
# samples of the GAN lie on lines thinner than the moons.
#
# For images the families compare like this:
#
# | family | likelihood of an image | sampling | latents |
# |:--|:--|:--|:--|
# | VAE | a bound | one pass | few, inferred approximately |
# | GAN | none | one pass | few, not inferred |
# | autoregressive: NADE {cite}`larochelle2011nade`, MADE {cite}`germain2015made`, Pixel RNN {cite}`oord2016pixelrnn` | exact | one step for each sub-pixel | none |
# | flows: NICE {cite}`dinh2015nice`, Real NVP {cite}`dinh2017realnvp` | exact, as a density | one pass | one for each sub-pixel, inferred exactly |
#
# "As a density" matters, since images are integers ({doc}`05_integers_to_bits`).
#
# (game-plan)=
# ## The game plan
#
# Real NVP follows a plan of three steps:
#
# 1. Learn by **maximum likelihood**.
# 2. **Write the likelihood so that it can be computed.** {ref}`change-of-variables` has the formula, and an obstacle:
#    the determinant of a large Jacobian.
# 3. **Compute it with deep networks.** {ref}`coupling-layers` removes the obstacle. {doc}`04_multiscale`,
#    {doc}`05_integers_to_bits` and {doc}`06_networks` make a model of images from it.
#
# The second paper replaces the table of two neighbours by a network ({ref}`pixel-by-pixel`).
#
# ## Summary
#
# * Maximum likelihood minimises $\mathrm{KL}(\text{data} \,\|\, \text{model})$, so it covers the data.
# * Bits/dim is the size of a file per sub-pixel; for uniform noise the floor is 8.0. Compare scores
#   of test images only.
# * One histogram and two neighbours are the book's baselines.
# * Networks are complex, but their outputs are not normalised. Autoregressive models are, but sample number by number.
#   Flows are, but need an invertible network.
#
# ## Exercises
#
# ```{exercise} Nats and bits
# :label: ex-nats
#
# One model costs 79.2 nats an image on 28 × 28 pixels that are black or white. Another costs 3.49 bits/dim on colour
# images of 32 × 32 pixels with 256 levels. How many bits/dim does the first cost? How many bytes does the second need
# for an image? What does a flat model score on each kind? Can the two scores be compared?
# ```
#
# ```{solution-start} ex-nats
# :class: dropdown
# ```
# The first has $79.2 / (784 \log 2) = 0.146$ bits/dim. The second needs $3.49 \cdot 3072 / 8 = 1340$ bytes on average,
# where the levels themselves take 3,072. A flat model scores 1 bit/dim on two levels and 8 on 256, so the two scores
# cannot be compared.

# %% tags=["hide-input"]
assert round(79.2 / (784 * math.log(2)), 3) == 0.146
assert round(3.49 * 3 * 32**2 / 8) == 1340

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A third neighbour
# :label: ex-third-neighbour
#
# Build it: give `TwoNeighbours` a third neighbour, above to the left, in a subclass of two methods. Does it help on
# test images? Count the parameters first, and predict.
# ```
#
# ```{solution-start} ex-third-neighbour
# :class: dropdown
# ```
# The table has $16^3 \times 255 \approx 10^6$ free numbers, and there are $3.9 \times 10^6$
# training pixels. In 70% of the table's rows the 256 added ones outnumber the row's training pixels. Only 7% of
# the training pixels are in such rows. The third neighbour helps a little.


# %%
class ThreeNeighbours(TwoNeighbours):
    def __init__(self, train):
        cells = (self.context(train) * 256 + train).flatten()
        counts = torch.bincount(cells, minlength=16**3 * 256).view(-1, 256) + 1
        self.p = counts.double() / counts.sum(dim=1, keepdim=True)

    def context(self, images):
        corner = F.pad(images.long() // 16, (1, 0, 1, 0))[..., :-1, :-1]
        return super().context(images) * 16 + corner


three = ThreeNeighbours(train)
bits = -three.log2_prob(test).mean() / 784
assert bits < -neighbours.log2_prob(test).mean() / 784
print(f"three neighbours: {bits:.2f} bits/dim")
used = torch.bincount(three.context(train).flatten(), minlength=16**3)
rare = used < 256
assert round(rare.double().mean().item(), 2) == 0.7
assert round((used[rare].sum() / used.sum()).item(), 2) == 0.07

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A list with noise
# :label: ex-hedge
#
# Repair the list of training images: to sample, take one of them and replace each of its pixels, with probability
# $\epsilon$, by a random level. Find the best $\epsilon$ for the first 40 test images. Does this model beat one
# histogram on them?
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
# ($[\cdot]$ is 1 if true, else 0) depends only on how many pixels agree with each image of the list. The best
# $\epsilon$ replaces about half of all pixels. Although these images chose it, the model is a little worse on them than
# one histogram. One reason is the flat noise: a pixel that differs costs over 9 bits.

# %%
listed, few = train.flatten(1), test[:40].flatten(1)
equal = torch.stack([(x == listed).sum(dim=1) for x in few]).double()


def bits_of_list(epsilon):
    """Bits/dim of the few test images."""
    hit, miss = 1 - epsilon + epsilon / 256, epsilon / 256
    log_p = equal * math.log(hit) + (784 - equal) * math.log(miss)
    log_p = torch.logsumexp(log_p, dim=1) - math.log(len(listed))
    return -log_p.mean().item() / (784 * math.log(2))


trials = {k / 20: bits_of_list(k / 20) for k in range(1, 20)}
best = min(trials, key=trials.get)
of_histogram = -histogram.log2_prob(test[:40]).mean() / 784
assert trials[best] > of_histogram
assert abs(best - 0.5) < 0.1
assert -math.log2(best / 256) > 9
print(f"the list, epsilon = {best}: {trials[best]:.2f} bits/dim")
print(f"one histogram, the same images: {of_histogram:.2f} bits/dim")

# %% [markdown]
# ```{solution-end}
# ```
