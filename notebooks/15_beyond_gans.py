# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (beyond-gans)=
# # Beyond GANs
#
# ```{admonition} In the papers
# Sections 1 and 2 of {cite:t}`dinh2017realnvp` set flows beside three other families: variational auto-encoders,
# autoregressive models, and adversarial networks. Neither paper has an experiment that puts all of them on the
# same images.
# ```
#
# This chapter has one. Five families learn from the same images by the same loop, a few minutes each at most: a
# **Gaussian**, a variational auto-encoder (**VAE**) {cite}`kingma2014vae`, a generative adversarial network (**GAN**)
# {cite}`goodfellow2014gan`, **Real NVP** and a **PixelCNN**. Then we ask each of them the same questions: what did
# training optimise, what can be said of the probability of an image, what do samples look like, what is a latent, and
# what does it all cost?
#
# (Chapter {ref}`density-estimation` had some of them on points of a plane, where every integral can be done.) A few
# minutes are not much. What follows compares kinds of answers more than qualities of models, and says where a model is
# worse than it need be.

# %% tags=["parameters"]
profile = "laptop"

# %%
import json
import math
import textwrap
from itertools import pairwise
from statistics import median

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import figures
from nvp_book.figures import families as pictures
from torch.distributions import MultivariateNormal, Normal

from nvp.data import EMBEDDED, FASHION_CLASSES, load
from nvp.data.splits import hold_out
from nvp.errors import NVPError
from nvp.likelihood import bits_per_dim, nats_per_bit, score_images
from nvp.model.dequantisation import logit
from nvp.paths import repository_root
from nvp.tables.build import runs

figures.use_style()
torch.set_num_threads(1)
full = profile == "paper"

# %% [markdown]
# ## Five runs
#
# The runs are in the ledger. `nvp train configs/NAME.yaml` makes one again.

# %%
names = {
    "Gaussian": "fashion-small-gaussian",
    "VAE": "fashion-small-vae",
    "GAN": "fashion-small-gan",
    "Real NVP": "quickstart",
    "PixelCNN": "fashion-small-pixelcnn",
}
ledger = runs()
recorded = {family: ledger[name] for family, name in names.items()}
models = {family: run.load_model() for family, run in recorded.items()}
for model in models.values():
    model.requires_grad_(False)

test, whole = load(EMBEDDED, "test"), load(EMBEDDED, "train")
train, held_out = hold_out(whole.images, recorded["GAN"].config)
for run in recorded.values():
    assert run.record.data.train_sha256 == whole.checksum
    assert run.record.data.test_sha256 == test.checksum
print(f"{len(train)} images to train on, {len(held_out)} held out")

# %% [markdown]
# All of them follow one protocol: `log_prob`, `loss` and `sample`, and images that are integers. So a likelihood is
# the probability of an *integer* image, whoever states it, and the same bits/dim for all (chapter
# {ref}`training`).

# %%
rows = []
for family, run in recorded.items():
    entry = run.record
    seen = entry.images / len(train)
    rows.append(
        [
            family,
            f"{entry.parameters:,}",
            f"{entry.steps:,}",
            f"{seen:.0f}" if seen >= 1 else "once, all together",
            f"{entry.minutes:.1f}",
            " + ".join(str(leg.cores) for leg in entry.legs),
            f"{entry.share_of_budget:.0%}",
        ]
    )
figures.show_table(
    [
        "",
        "parameters",
        "steps",
        "times each image was seen",
        "minutes",
        "cores",
        "of its budget",
    ],
    rows,
)

# %% [markdown]
# A run under 100% was interrupted, and is worse than it need be. The clock gives each the same minutes; how many steps
# they are depends on the family.
#
# ## What each of them optimises
#
# ### Gaussian: maximum likelihood, exactly
#
# Let $y = \operatorname{logit}(\alpha + (1 - 2\alpha)(x + u)/256)$ be what Real NVP computes before its flow.
# Replace the flow by a matrix: $y \sim \mathcal N(m, L L^\top)$, $L$ triangular. This model needs no gradient.
#
# ```{prf:proposition} The best Gaussian
# :label: prop-best-gaussian
#
# Among all $m$ and $\Sigma > 0$, the mean of $\log \mathcal N(y; m, \Sigma)$ over images and noise is highest where
# $m$ and $\Sigma = L L^\top$ are their mean and covariance, if that is regular. There it is
#
# $$
# -\frac D2 \log(2 \pi e) - \sum_i \log L_{ii} .
# $$ (eq:best-gaussian)
# ```
#
# ```{prf:proof}
# With $S$ the covariance of $y$ and $\bar y$ its mean, the mean of the log density is $-\frac12$ times
#
# $$
# & D \log 2\pi + \log \det \Sigma \\
# & + \operatorname{tr}(\Sigma^{-1} S) \\
# & + (\bar y - m)^\top \Sigma^{-1} (\bar y - m).
# $$
#
# The last term is 0 for $m = \bar y$. With $\lambda_i$ the eigenvalues of $\Sigma^{-1/2} S \Sigma^{-1/2}$, what is
# left of $\Sigma$ is $\log \det S + \sum_i (\lambda_i - \log \lambda_i)$, and $\lambda - \log \lambda$ is least at
# $\lambda = 1$: $\Sigma = S$. Then the trace is $D$.
# ```
#
# Even the noise can be averaged by hand. Each of the 256 levels has a mean and a variance of $y$ over $u$, and the
# noise of different pixels is independent: it adds to the diagonal alone.

# %%
gaussian = models["Gaussian"]
alpha, slope = gaussian.config.alpha, 1 - 2 * gaussian.config.alpha
level = torch.arange(256, dtype=torch.double)[:, None]
u = (torch.arange(256, dtype=torch.double) + 0.5) / 256  # midpoint rule
y_of_level, log_derivative = logit((level + u) / 256, alpha, slope)
mean_of, variance_of = y_of_level.mean(1), y_of_level.var(1, correction=0)

x = train.flatten(1).long()
m = mean_of[x].mean(0)
S = mean_of[x].T.cov(correction=0) + variance_of[x].mean(0).diag()
L = torch.linalg.cholesky(S)
assert torch.allclose(gaussian.mean.double(), m, atol=1e-2)
assert torch.allclose(
    gaussian.log_diagonal.double(), L.diagonal().log(), atol=1e-2
)
assert torch.allclose(
    gaussian.below.double(), L[*torch.tril_indices(*L.shape, -1)], atol=1e-2
)

# %% [markdown]
# So the recorded run is this fit (its weights are kept in half precision). Its training score is
# {eq}`eq:best-gaussian`, with the derivative of the logit and the 256 counted (chapter {ref}`training`):

# %%
D = test.images[0].numel()
density = -D / 2 * math.log(2 * math.pi * math.e) - L.diagonal().log().sum()
change = log_derivative.mean(1)[x].sum(1).mean() - D * math.log(256)
closed = bits_per_dim(density + change, gaussian.image_shape).item()
on_train = score_images(gaussian, train).mean().item()
on_test = recorded["Gaussian"].score.bits_per_dim
assert abs(closed - on_train) < 0.01
assert on_test > on_train
print(f"{closed:.2f} in closed form, {on_train:.2f} measured")
print(f"and {on_test:.2f} on test images")

# %% [markdown]
# A linear model, fitted perfectly, and it overfits: these images are few for a covariance of $784^2$ numbers. What
# the other families have in place of the matrix is a network.
#
# ### Real NVP and PixelCNN: maximum likelihood, by gradients
#
# Real NVP puts its flow where the matrix was, and maximises the same quantity: the mean log density over images and
# noise, a lower bound of $\log P(x)$ (chapter {ref}`training`). A PixelCNN has no noise. It is a table of
# probabilities for each pixel given those before it (chapter {ref}`pixel-by-pixel`), and $\log P(x)$ is a sum of
# logarithms out of these tables, exactly:

# %%
pixelcnn = models["PixelCNN"]
few = test.images[:4]
log_tables = pixelcnn.logits(few).log_softmax(-1)  # (N, 1, H, W, 256)
assert torch.allclose(log_tables.exp().sum(-1), torch.ones(1), atol=1e-5)
index = few.long()[..., None]
by_hand = log_tables.gather(-1, index).flatten(1).sum(1)
assert torch.allclose(by_hand, pixelcnn.log_prob(few), rtol=1e-5)

# %% [markdown]
# ### VAE: a bound by inference
#
# A VAE has a latent $z \sim \mathcal N(0, I)$ of 32 numbers, and a network that says, given $z$, how each pixel is
# distributed, independently of the others: here a logistic density, its mass collected at the 256 levels. The
# probability of an image is an integral, $P(x) = \int p(x \mid z)\, p(z)\, \mathrm dz$, that nobody can do. A second
# network proposes where to look, $q(z \mid x)$, a Gaussian with a diagonal covariance. For any $q$ the **weight**
#
# $$
# w(z) = \frac{p(x \mid z)\, p(z)}{q(z \mid x)}
# $$ (eq:weight)
#
# has the right mean over draws from $q$, $\mathbb E_q[w] = P(x)$, so by Jensen its logarithm has too low a mean. That
# mean is the **evidence lower bound**, {eq}`eq:elbo` again, which training maximises over both networks:
#
# $$
# \log P(x) \ge {} & \mathbb E_q[\log w] \\
#   = {} & \mathbb E_q[\log p(x \mid z)] \\
#   & - \mathrm{KL}(q(z \mid x) \,\|\, p(z)).
# $$ (eq:evidence)
#
# What is lost is $\mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x))$, as can be seen by writing $w = P(x)\, p(z \mid x) / q(z
# \mid x)$. This is {eq}`eq:gap` again, with $z$ for $u$. In fact a flow with dequantisation *is* such a model: its
# latent is $x + u$, its decoder rounds down, and its $q$ is uniform and cannot learn.


# %%
def log_weights(vae, images, draws, generator):
    """log w of the VAE, draws by images."""
    mean, log_std = vae.posterior(images)
    q, prior = Normal(mean, log_std.exp()), Normal(0.0, 1.0)
    rows = []
    for _ in range(draws):
        e = torch.randn(mean.shape, generator=generator)
        z = mean + log_std.exp() * e
        inside = prior.log_prob(z).sum(1) - q.log_prob(z).sum(1)
        rows.append(vae.log_likelihood(images, z) + inside)
    return torch.stack(rows)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


vae = models["VAE"]
some = test.images[: 200 if full else 50]
log_w = log_weights(vae, some, 8, seeded())
bound = log_w.logsumexp(0) - math.log(8)
package = vae.log_prob(some, num_draws=8, generator=seeded())
assert torch.allclose(bound, package, atol=0.01)

# %% [markdown]
# The two parts of {eq}`eq:evidence`, on all test images. The first is what it costs to state the pixels once $z$ is
# known; the second, what it costs to state $z$ as precisely as $q$ knows it, which has a closed form:

# %%
mean, log_std = vae.posterior(test.images)
kl = (mean**2 + (2 * log_std).exp() - 1 - 2 * log_std).sum(1) / 2
z = mean + log_std.exp() * torch.randn(mean.shape, generator=seeded())
pixels = -vae.log_likelihood(test.images, z)
unit = nats_per_bit(vae.image_shape)
elbo = recorded["VAE"].score
given, latent = pixels.mean().item() / unit, kl.mean().item() / unit
assert abs(given + latent - elbo.bits_per_dim) < 0.02
print(f"pixels {given:.2f}, latent {latent:.2f} bits/dim")

# %% [markdown]
# ### GAN: a game
#
# A GAN has a latent $z \sim \mathcal N(0, I)$ of 64 numbers and an image $G(z)$, and no density at all: what $G$
# draws fills a surface of 64 dimensions among 784, and off that surface there is nothing. So it cannot be trained
# by likelihood. A **discriminator** $D(x) \in (0, 1)$, of which the network `gan.D` gives the logit, bets on whether $x$
# is an image of the data or one of $G$'s, and the two play $\min_G \max_D V$ for
#
# $$
# V = {} & \mathbb E_{x \sim p}[\log D(x)] \\
#   & + \mathbb E_{z}[\log(1 - D(G(z)))] .
# $$ (eq:game)
#
# In practice $G$ maximises $\log D(G(z))$, which has larger gradients early on {cite}`goodfellow2014gan`. There is no
# quantity that both players want to be low. `loss` is the sum of their losses, each with gradients for its own
# player, and starts near $3 \log 2$, that of a $D$ that cannot tell:

# %%
log = recorded["GAN"].log()
for row in (log[0], log[len(log) // 2], log[-1]):
    print(f"step {row['step']:.0f}: {row['loss']:.2f}")
print(f"where D cannot tell: {3 * math.log(2):.2f}")

# %% [markdown]
# A sum near that of a $D$ that cannot tell may mean a good $G$, or a bad $D$: it says nothing of how good the samples
# are. And asking for a likelihood is an error:

# %%
gan = models["GAN"]
assert gan.likelihood == "none"
try:
    gan.log_prob(test.images[:2])
except NVPError as error:
    print(textwrap.fill(str(error), 70))
else:
    raise AssertionError("a GAN gave a likelihood")

# %% [markdown]
# ### A discriminator is no density
#
# But $D(x)$ is a number for every image. Can it not stand in?
#
# ```{prf:proposition} The best discriminator
# :label: prop-best-discriminator
#
# Where $G$ draws from a density $q$, the $D$ that maximises $V$ is $D^*(x) = p(x) / (p(x) + q(x))$, and
# $V(D^*, G) = -\log 4 + 2\, \mathrm{JSD}(p \,\|\, q)$, with the Jensen–Shannon divergence.
# ```
#
# ```{prf:proof}
# $V = \int p \log D + q \log(1 - D)\, \mathrm dx$. For each $x$, $p \log D + q \log (1 - D)$ is concave in $D$ and
# stationary where $p / D = q / (1 - D)$. Put that in: with $r = (p + q)/2$,
#
# $$
# V = {} & \int p \log \frac{p}{2r} + q \log \frac{q}{2r} \\
#   = {} & -2 \log 2 + \mathrm{KL}(p \,\|\, r) \\
#   & + \mathrm{KL}(q \,\|\, r).
# $$
# ```
#
# So $D^* / (1 - D^*) = p / q$: a discriminator knows a *ratio* to what the generator happens to do. It is highest
# where $G$ draws too little, not where the data are; and for a perfect $G$, $D^*$ is $1/2$ everywhere. On a line, where
# everything can be integrated:

# %% mystnb={"figure": {"caption": "The best discriminator between two known densities on a line. It is sure of itself in the tail, where the generator draws nothing and the data are rare. (No figure in the papers.)", "name": "fig-discriminator"}, "image": {"alt": "Left: the density of the data with two humps, the higher one at minus one, and a bell curve of the generator around it. Right: the best discriminator, below one half in the middle and close to one at the right end of the axis. A dotted line marks where the data's density is highest, at minus one; another, where the discriminator is highest, at the right end."}}
line = torch.linspace(-8, 8, 3201, dtype=torch.double)
dx = line[1] - line[0]
p = (
    0.75 * Normal(-1.0, 1.0).log_prob(line).exp()
    + 0.25 * Normal(3.0, 1.0).log_prob(line).exp()
)
q = Normal(-0.5, 1.5).log_prob(line).exp()


def value(D):
    """V of a discriminator on the line."""
    return ((p * D.log() + q * (1 - D).log()) * dx).sum()


def kl_on_line(a, b):
    return (a * (a / b).log() * dx).sum()


best = p / (p + q)
r = (p + q) / 2
jsd = (kl_on_line(p, r) + kl_on_line(q, r)) / 2
assert torch.allclose(value(best), 2 * jsd - math.log(4), atol=1e-6)
generator = seeded()
for _ in range(20):
    odds = torch.randn(4, generator=generator, dtype=torch.double) / 4
    bend = sum(c * torch.cos(k * line) for k, c in enumerate(odds))
    assert value(torch.sigmoid(torch.logit(best) + bend)) < value(best)

ratio = best / (1 - best)
assert p[best.argmax()] < 0.01 * p.max()
assert (ratio * dx).sum() > 2  # a density would have 1
pictures.draw_discriminator(line, p, q)
plt.show()

# %% [markdown]
# Now the trained one. If its logit were a log density, up to a constant, real images should have more of it than
# images that no one would take for clothes. Here are its mean logits (positive: "real"). Like all weights in the
# ledger, those of $D$ and $G$ are averages over the last steps, so this is not quite the $D$ that $G$ played against.

# %%
reals = test.images
strangers = {
    "real test images": reals,
    "images that G draws": gan.sample(1000, generator=seeded()),
    "negatives of real images": 255 - reals,
    "real images upside down": reals.flip(2),
    "a white image": torch.full_like(reals[:1], 255),
    "a black image": torch.zeros_like(reals[:1]),
    "uniform noise": torch.randint(
        256, reals.shape, generator=seeded(), dtype=torch.uint8
    ),
}
logits = {
    what: gan.D(2 * images.float() / 255 - 1).mean().item()
    for what, images in strangers.items()
}
order = sorted(logits, key=logits.get, reverse=True)
figures.show_table(
    ["", "mean logit of D"], [[what, f"{logits[what]:.1f}"] for what in order]
)
above = set(order[: order.index("real test images")])
blank = {"a white image", "a black image"}
assert above
assert above <= blank | {"negatives of real images"}

# %% [markdown]
# What stands above the real images is blank, or clothes in negative, which the data do not have. $D$ was trained to tell two things apart, and both were dark images
# with something bright in the middle; of anything else it says what it likes.
#
# ## Two kinds of bound, and an exact figure
#
# Gaussian, Real NVP and VAE state bounds, and all three get tighter with more draws.
#
# ```{prf:proposition} More draws, tighter bounds
# :label: prop-more-draws
#
# $L_K = \mathbb E[\log \frac1K \sum_k w(z_k)]$, which is {eq}`eq:draws` with $z$ for $u$ and draws from $q$, does not
# fall with $K$, and is at most $\log P(x)$ {cite}`burda2016iwae`.
# ```
#
# ```{prf:proof}
# The mean of $2K$ weights is the mean of two means of $K$. The logarithm is concave, so
# $\log \frac{a + b}{2} \ge \frac{\log a + \log b}{2}$: $L_{2K} \ge L_K$. (For $K$ and $K + 1$: the mean of $K + 1$
# weights is the mean of the $K + 1$ means that leave one of them out.) And $L_K \le \log \mathbb E[w] = \log P(x)$.
# ```
#
# The proof is an experiment: draw once, and group the draws by ones, twos, fours... The inequality then holds for
# every image, with no statistics.


# %%
def draws_of(model, images, draws):
    """Log weights of single draws, draws by images; nats."""
    generator = seeded()
    return torch.stack(
        [model.log_prob(images, generator=generator) for _ in range(draws)]
    ).double()


def grouped(log_w, K):
    """The bound of K draws for each image, a mean over groups."""
    groups = log_w.unflatten(0, (-1, K))
    return (groups.logsumexp(1) - math.log(K)).mean(0)


how_many = {"Gaussian": 64, "VAE": 64, "Real NVP": 8}
weights = {f: draws_of(models[f], some, k) for f, k in how_many.items()}
bounds = {}
for family, log_w in weights.items():
    powers = [2**k for k in range(int(math.log2(len(log_w))) + 1)]
    each = [grouped(log_w, K) for K in powers]
    for fewer, more in pairwise(each):
        assert (more >= fewer - 1e-9).all()
    two = models[family].log_prob(some, num_draws=2, generator=seeded())
    assert torch.allclose(grouped(log_w[:2], 2).float(), two, atol=0.01)
    bounds[family] = {
        K: bits_per_dim(nats, gan.image_shape).mean().item()
        for K, nats in zip(powers, each, strict=True)
    }
assert torch.equal(pixelcnn.log_prob(few, num_draws=5), pixelcnn.log_prob(few))

# %% mystnb={"figure": {"caption": "What more draws take off the bound, on some test images. (No figure in the papers.)", "name": "fig-more-draws"}, "image": {"alt": "Lines that fall from zero as the number of draws grows from 1 to 64, steeply at first and then slowly; that of the Gaussian falls least. A dashed line at zero for the exact PixelCNN."}}
pictures.draw_bounds(
    bounds, {"PixelCNN": 0.0}, "bits/dim, minus that of one draw"
)
plt.show()

# %% [markdown]
# How much is left below the lowest point? Nothing that can be computed says so: a VAE whose $q$ never looks in the
# right place can have a loose bound that a hundred draws do not move. As a rule of thumb, if $\log w$ were a
# Gaussian, the whole gap of one draw would be half of its variance over draws.

# %%
rows, gap_of = [], {}
for family, log_w in weights.items():
    points = list(bounds[family].values())
    gap_of[family] = log_w.var(0).mean().item() / 2 / unit
    rows.append(
        [
            family,
            f"{points[0]:.2f}",
            f"{points[-1]:.2f} ({how_many[family]})",
            f"{gap_of[family]:.2f}",
        ]
    )
exact = score_images(pixelcnn, some).mean().item()
rows.append(["PixelCNN", f"{exact:.2f}", "the same", "0"])
figures.show_table(
    [
        f"{len(some)} test images, bits/dim",
        "one draw",
        "more draws (how many)",
        "half the variance",
    ],
    rows,
)

# %% [markdown]
# ### What may be concluded
#
# A bound that is lower than another model's exact figure proves that its model is better. A bound that is *higher*
# proves nothing: the model may be better than its bound. And of two bounds nothing follows, strictly, in either
# direction.


# %%
def proves(a, b):
    """Whether what is known shows a to have the higher likelihood."""
    return figure_of[a] < figure_of[b] and b in exactly


exactly = {"PixelCNN"}
figure_of = {
    family: run.score.bits_per_dim
    for family, run in recorded.items()
    if run.has_likelihood
}
ranking = sorted(figure_of, key=figure_of.get)
proven = [(a, b) for a in ranking for b in ranking if proves(a, b)]
print("order of the figures:", " < ".join(ranking))
print("pairs that are proven:", proven or "none")

# %% [markdown]
# That is the letter of the law; common sense goes further. On the same images, how sure is each step of the order? And
# is it larger than the room that the rule of thumb leaves to the model behind? Then little doubt is left; where the
# room is the larger, the order stays open.

# %%
per_image = {f: score_images(models[f], test.images[:200]) for f in ranking}
rows = []
for a, b in pairwise(ranking):
    difference = per_image[b] - per_image[a]
    error = difference.std() / math.sqrt(len(difference))
    share = (difference > 0).double().mean()
    rows.append(
        [
            f"{b} minus {a}",
            f"{difference.mean():.2f}",
            f"{error:.2f}",
            f"{share:.0%}",
            f"{gap_of[b]:.2f}",
        ]
    )
    assert difference.mean() > 2 * error
figures.show_table(
    [
        "200 test images, bits/dim",
        "mean",
        "±",
        "images where it is positive",
        "room of the one behind",
    ],
    rows,
)

# %% [markdown]
# Each kind of figure also charges for something else. For a pixel that is surely black, up to a quarter of a bit goes
# to the noise of dequantisation, {eq}`eq:floor`. Real NVP pays most of that. The Gaussian pays it only where its spread
# is as small as the noise, in the corners ({ref}`ex-gaussian-pixels`); elsewhere it loses by misfit. The other two add no
# noise: a VAE pays for the disagreement of $q$ with the true posterior, a PixelCNN for nothing but its mistakes.
#
# ## Side by side
#
# What they draw; what is left of an image after a trip to the latent and back; and a walk between two latents, on
# the circle of chapter {ref}`latents`, $\cos\phi\, z_1 + \sin\phi\, z_2$. Samples are the first that each model
# draws. Gaussian, Real NVP and VAE walk between the latents of the first and the last image of the middle block;
# a GAN has no latent of a given image, so its walk is between two draws from the prior.


# %%
def walk(z, steps=5):
    """The circle from z[0] to z[1]."""
    angles = torch.linspace(0, math.pi / 2, steps)
    return torch.stack([a.cos() * z[0] + a.sin() * z[1] for a in angles])


def latents_of(family, images):
    model = models[family]
    if family == "VAE":
        return model.encode(images)
    return model.encode(images, generator=seeded())


count, trip = 6, 3
originals = test.images[[0, 11, 6]]
rows = {"real images": [test.images[20 : 20 + count], originals, ""]}
back = {}
for family, model in models.items():
    new = model.sample(count, generator=seeded(1))
    rows[family] = [new, "no encoder", "no latent"]
    if family in ("Gaussian", "VAE", "Real NVP"):
        z = latents_of(family, originals)
        back[family] = model.decode(z)
        rows[family][1:] = back[family], model.decode(walk(z[[0, -1]]))
    elif family == "GAN":
        z = torch.randn(2, gan.config.latent, generator=seeded(2))
        rows[family][2] = gan.decode(walk(z))
    if family == "VAE":
        z = torch.randn(count, vae.config.latent, generator=seeded(1))
        rows["VAE, means"] = [vae.decode(z), "", ""]
for family in ("Gaussian", "Real NVP"):
    assert (back[family] == originals).double().mean() > 0.999

# %% mystnb={"figure": {"caption": "Five families after a few minutes each: samples, images through the latent and back (the first row has the originals), and walks between two latents. The row of means has the same $z$ as the VAE's samples, without the noise of the pixels. (No figure in the papers.)", "name": "fig-families"}, "image": {"alt": "A row of small grey images for each family. Real clothes first. The Gaussian's samples are checked patches in the rough outline of a shirt; the VAE's are grainy, and without the grain blurred shapes of clothes; the GAN's are whole shapes with some speckle; Real NVP's are outlines of clothes, frayed; the PixelCNN's have clean edges and textures but no whole. In the middle block Gaussian and Real NVP return the originals exactly, the VAE blurred ones."}}
pictures.draw_families(
    rows,
    ["samples", "there and back", "between two latents"],
    [count, trip, 5],
)
plt.show()

# %% [markdown]
# None of these would fool anyone, and each fails in its own way.
#
# * The **Gaussian** knows which pairs of pixels go together, and nothing else: every sample is a woven patch.
# * The **VAE** draws its pixels independently given $z$, and on an uncertain pixel the model *says* that it is
#   uncertain: grain. The means are what papers usually show. They are not samples of the model that was scored, and a
#   mean over what is possible is blurred.
# * The **GAN**'s image is a function of $z$ with no noise of pixels to add. Here shapes are whole, with
#   some speckle. What it leaves out is not seen here, nor by its loss; see below.
# * **Real NVP** has edges and areas of one tone, in shapes that are on the way to clothes.
# * The **PixelCNN** has the sharpest detail and the best likelihood, and the parts do not make a whole: five blocks
#   see eight rows up, by {eq}`eq:wedge`: less than a third of the image.
#
# ### What a latent is
#
# For Gaussian and Real NVP the latent *is* the image, in other coordinates: 784 numbers, nothing lost. For the VAE it
# is a summary of 32 numbers, and what comes back is an approximation. The GAN has a summary and no way to it: one
# would have to search for a $z$. The PixelCNN has none.

# %%
assert pixelcnn.config.num_layers + 3 == 8  # rows that a pixel sees
through = {"Gaussian": 0.0, "Real NVP": 0.0, "VAE": 0.0}
for family in through:
    z = latents_of(family, test.images[:200])
    off = models[family].decode(z).double() - test.images[:200].double()
    through[family] = off.square().mean().sqrt().item()
typical = test.images.double().std().item()
assert max(through["Gaussian"], through["Real NVP"]) < 0.01 * typical
assert 0.1 * typical < through["VAE"] < typical
print(f"root mean square error of the VAE: {through['VAE']:.0f} levels")

# %% [markdown]
# ## What do they leave out?
#
# A likelihood punishes a model for every image of the data that it finds impossible. A game does not: a generator
# that draws nothing but one perfect shirt does well against a discriminator that is slow to notice. This is **mode
# collapse**, and for a model without a likelihood it has to be looked for in samples. Two measurements, for all
# families alike, on as many samples of each, drawn in double precision so that every machine draws the same.
#
# **Classes.** Give each sample the class of the training image nearest to it. On test images this rule is right most
# of the time, so it may serve.
#
# **Coverage.** Draw a ball around each test image that holds its five nearest neighbours among test images. Which
# share of the balls has a sample in it {cite}`naeem2020coverage`? Real images, as many of them, set the standard.
#
# Distances are between images of 14 × 14, means over 2 × 2 pixels, lest a grain decide.


# %%
def small(images):
    """(N, 196) float64: means over 2 x 2 pixels."""
    return F.avg_pool2d(images.double() / 255, 2).flatten(1)


labels = whole.labels[: len(train)]
near = small(train)


def classes_of(images):
    return labels[torch.cdist(small(images), near).argmin(1)]


balls = small(test.images)
K = 5
radius = torch.cdist(balls, balls).kthvalue(K + 1, dim=1).values


def coverage(images):
    """The share of balls around test images with a sample inside."""
    nearest = torch.cdist(balls, small(images)).min(dim=1).values
    return (nearest <= radius).double().mean().item()


right = (classes_of(test.images) == test.labels).double().mean().item()
assert right > 0.75
print(f"class of the nearest neighbour: right for {right:.0%} of test images")

# %%
n = 1000 if full else 200
every = torch.arange(n) * len(train) // n
drawn = {"real": train[every]}
for family, run in recorded.items():
    drawn[family] = run.load_model().double().sample(n, generator=seeded(1))

shares, covered, apart, copied = {}, {}, {}, {}
for family, images in drawn.items():
    counts = torch.bincount(classes_of(images), minlength=10)
    shares[family] = (counts / n).tolist()
    covered[family] = coverage(images)
    copied[family] = torch.cdist(small(images), near).min(1).values.mean()
    distances = torch.cdist(small(images), small(images))
    apart[family] = distances.sum().item() / (n * (n - 1))
to_train = torch.cdist(balls, near).min(1).values.mean()
rows = []
for family in drawn:
    off = sum(abs(share - 0.1) for share in shares[family]) / 2
    reached = sum(share > 0 for share in shares[family])
    rows.append(
        [
            f"{n} training images" if family == "real" else family,
            f"{reached} of 10",
            f"{off:.2f}",
            f"{covered[family]:.0%}",
            f"{apart[family] / apart['real']:.2f}",
            "–" if family == "real" else f"{copied[family] / to_train:.1f}",
        ]
    )
figures.show_table(
    [
        "",
        "classes reached",
        "distance from equal shares",
        "balls with a sample",
        "distance from each other (real: 1)",
        "from the nearest training image (test: 1)",
    ],
    rows,
)
assert covered["real"] > 3 * max(covered[f] for f in names)
assert apart["GAN"] > 0.9 * apart["real"]
assert max(covered[f] for f in names) == covered["GAN"]
assert shares["GAN"][FASHION_CLASSES.index("trousers")] < 0.02
assert min(copied[family] for family in names) > to_train  # no copies
first, *_, last = ranking
assert max(covered[f] for f in figure_of) == covered[last]
assert covered[first] < covered[last] / 2

# %% mystnb={"figure": {"caption": "Classes of samples of each model, by the nearest training image; dashed: equal shares. (No figure in the papers.)", "name": "fig-classes"}, "image": {"alt": "Six panels of ten horizontal bars, one for each class of clothes. For real images all bars are near the dashed line at ten percent. Most models have two to three times the share of one class and almost none of another; Real NVP is nearest to equal shares, and the GAN has almost no trousers."}}
pictures.draw_classes(shares, FASHION_CLASSES)
plt.show()

# %% [markdown]
# The GAN did not collapse: its samples are about as far from each other as real images are, and they reach more test
# images than those of any other family here. But it draws next to no trousers, and nothing in its training says so;
# and beside real images its coverage is small, as it is for all. What stands out is something else. The order by
# coverage is not the order by likelihood: of the models with a likelihood the worst one covers most, and the best one
# next to nothing. Both are true. A patch of the right size is *near* many clothes in squared distance, and a poor
# density; a picture of correct details in the wrong places is far from all of them, and most of its bits are for
# details. No one number is the quality of a generative model {cite}`theis2016note`.
#
# ## All in one table
#
# Times are those of one processor core, for one image out of a batch of 64, measured by `python -m
# benchmarks.families`, not in this page. For the Gaussian, training is the whole fit, divided by the images.

# %%
file = repository_root() / "benchmarks" / "results_families.json"
measured = json.loads(file.read_text())
cost = {
    family: {
        what: median(times)
        for what, times in measured["seconds_an_image"][name].items()
    }
    for family, name in names.items()
}
kinds = {
    "Gaussian": "a bound (noise)",
    "VAE": "a bound (inference)",
    "GAN": "nothing",
    "Real NVP": "a bound (noise)",
    "PixelCNN": "exact",
}
latents = {
    "Gaussian": f"{D}, exact",
    "VAE": f"{vae.config.latent}, approximate",
    "GAN": f"{gan.config.latent}, not of a given image",
    "Real NVP": f"{D}, exact",
    "PixelCNN": "none",
}


def figure(family, which):
    """Bits/dim from the ledger, or a dash."""
    run = recorded[family]
    if not run.has_likelihood:
        return "–"
    score = getattr(run.scores, which)
    return f"{score.bits_per_dim:.2f} ± {score.standard_error:.2f}"


def milliseconds(family, what):
    took = cost[family].get(what)
    return "–" if took is None else f"{1000 * took:#.2g}".rstrip(".")


lines = {
    "it says of an image": lambda f: kinds[f],
    "test images, bits/dim": lambda f: figure(f, "test"),
    "the same, 8 draws": lambda f: figure(f, "first_more_draws"),
    "balls with a sample": lambda f: f"{covered[f]:.0%}",
    "numbers in a latent": lambda f: latents[f],
    "back from the latent, error": lambda f: (
        f"{through[f]:.0f} levels" if f in through else "–"
    ),
    "parameters": lambda f: f"{recorded[f].record.parameters:,}",
    "training, ms an image": lambda f: milliseconds(f, "train"),
    "scoring, ms an image": lambda f: milliseconds(f, "score"),
    "sampling, ms an image": lambda f: milliseconds(f, "sample"),
    "steps that wait for each other": lambda f: (
        f"{D}" if f == "PixelCNN" else "1"
    ),
}
figures.show_table(
    ["", *names],
    [[what, *(cell(f) for f in names)] for what, cell in lines.items()],
)
for family in ("Real NVP", "PixelCNN"):
    assert 3 < cost[family]["train"] / cost["VAE"]["train"] < 4.5
machine = measured["machine"]
print(f"timed on {machine['cpu']}, one thread")

# %% [markdown]
# How to read it. In training, an image costs Real NVP or the PixelCNN some three to four times what it costs the VAE,
# and the first table says how often each saw its images in the same minutes. The likelihoods of this table are
# on 1,000 images of this book's small set and compare with nothing elsewhere.
#
# With that said, the pattern is the one that the papers describe. Latents that lose nothing, one pass to score and
# one to sample: among networks, that is Real NVP's alone, and it pays in bits. The best likelihood is the PixelCNN's,
# exact, and each of its samples takes hundreds of steps. A VAE is the cheapest network with a likelihood, of which it
# states a bound. A GAN draws fastest of the networks, and cannot say what it knows.
#
# ## Summary
#
# * Gaussian, Real NVP and PixelCNN maximise a likelihood, or a bound that noise loosens by up to a quarter of a bit
#   for each certain pixel; the Gaussian does it in closed form.
# * A VAE maximises a bound whose gap is a divergence that nobody sees. More draws tighten it, for every image.
# * A GAN plays a game. It has no likelihood, its loss says little, and its discriminator is a ratio, not a density:
#   the trained one prefers some images that are no clothes to real ones.
# * Only a bound that lies below an exact figure proves anything.
# * Coverage and likelihood put these models in different orders.
# * One table: what each family can say, and what it costs.
#
# ## Exercises
#
# ```{exercise} A likelihood for the GAN?
# :label: ex-parzen
#
# One could draw samples and put a little Gaussian on each (a *Parzen window*): that is a density. Do it for the GAN
# on images of 14 × 14, and for as many real training images, each with its best width. What does it measure?
# ```
#
# ```{solution-start} ex-parzen
# :class: dropdown
# ```
# In 196 dimensions two hundred windows cover next to nothing, and the best width makes a blur of each. It measures how
# near samples are to test images, as coverage does. Even windows on *real* images score far below one Gaussian with the
# full covariance of the training images, whose samples are no clothes. {cite:t}`theis2016note` give worse examples.


# %%
def parzen(centres, images, width):
    """Mean log density of windows, nats."""
    squares = torch.cdist(images, centres) ** 2
    dims = images.shape[1]
    log_kernel = -squares / (2 * width**2) - dims / 2 * math.log(
        2 * math.pi * width**2
    )
    return (log_kernel.logsumexp(1) - math.log(len(centres))).mean().item()


def best_window(images):
    centres = small(images)
    return max(parzen(centres, balls, w / 100) for w in range(6, 40, 2))


covariance = near.T.cov() + 1e-3 * torch.eye(196)
one = MultivariateNormal(near.mean(0), covariance)
of_one = one.log_prob(balls).mean().item()
of_gan, of_real = best_window(drawn["GAN"]), best_window(drawn["real"])
assert of_gan < of_real < of_one
print(f"windows on samples: {of_gan:.0f} nats")
print(f"windows on training images: {of_real:.0f} nats")
print(f"one Gaussian: {of_one:.0f} nats")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A VAE without a gap
# :label: ex-linear-vae
#
# Let $z \sim \mathcal N(0, I)$ and $x \mid z \sim \mathcal N(W z, \sigma^2 I)$. Here the posterior is a Gaussian. Give $q$ its
# mean and covariance, and show that every weight equals $P(x)$, so that one draw is as good as a thousand. What happens
# when $q$ is the best *diagonal* Gaussian instead?
# ```
#
# ```{solution-start} ex-linear-vae
# :class: dropdown
# ```
# $p(z \mid x)$ has precision $A = I + W^\top W / \sigma^2$ and mean $A^{-1} W^\top x / \sigma^2$. With $q = p(z \mid x)$,
# {eq}`eq:weight` is $P(x)$ whatever $z$ is. The diagonal Gaussian with the least $\mathrm{KL}(q \,\|\, p(z \mid x))$ has the
# same mean and variances $1 / A_{ii}$; the gap is $\frac12 (\sum_i \log A_{ii} - \log\det A)$, by Hadamard's inequality not
# negative.

# %%
generator = seeded()
W = torch.randn(6, 3, generator=generator, dtype=torch.double)
sigma = 0.5
eye3, eye6 = (torch.eye(k, dtype=torch.double) for k in (3, 6))
data = MultivariateNormal(torch.zeros(6).double(), W @ W.T + sigma**2 * eye6)
x6 = torch.randn(6, generator=generator, dtype=torch.double)
A = eye3 + W.T @ W / sigma**2
centre = torch.linalg.solve(A, W.T @ x6) / sigma**2
posterior = MultivariateNormal(centre, precision_matrix=A)
diagonal = MultivariateNormal(centre, (1 / A.diagonal()).diag())
gaps = {}
for name, q_z in {"exact": posterior, "diagonal": diagonal}.items():
    torch.manual_seed(0)
    z = q_z.sample((20_000,))
    log_w = (
        MultivariateNormal(z @ W.T, sigma**2 * eye6).log_prob(x6)
        + MultivariateNormal(torch.zeros(3).double(), eye3).log_prob(z)
        - q_z.log_prob(z)
    )
    gaps[name] = (data.log_prob(x6) - log_w).mean().item()
    if name == "exact":
        assert torch.allclose(log_w, data.log_prob(x6), atol=1e-8)
expected = (A.diagonal().log().sum() - torch.logdet(A)).item() / 2
assert abs(gaps["diagonal"] - expected) < 0.05
print(f"gap of the diagonal q: {gaps['diagonal']:.2f} nats")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A Gaussian, pixel by pixel
# :label: ex-gaussian-pixels
#
# $L$ is triangular. Show that the Gaussian is an autoregressive model, and that $L_{ii}$ is what is left unknown of
# pixel $i$ when those before it are known. Which pixels are easy?
# ```
#
# ```{solution-start} ex-gaussian-pixels
# :class: dropdown
# ```
# $y = m + L z$ says that $y_i$ is $L_{ii} z_i$ plus a function of $z_1, \dots, z_{i-1}$, and those are functions of $y_1,
# \dots, y_{i-1}$. So $y_i \mid y_{<i}$ is a Gaussian of standard deviation $L_{ii}$, whose mean is the best linear
# prediction; its weights are in row $i$ of $L^{-1}$. The log density is a sum of such terms, as in chapter
# {ref}`pixel-by-pixel`. Easy are the pixels that are black in nearly every image: in a corner hardly more is left
# unknown than the noise.

# %%
inverse = torch.linalg.inv(L)
y = mean_of[x] - m
i = 14 * 28 + 14  # a pixel in the middle
prediction = -(y[:, :i] @ inverse[i, :i]) * L[i, i]
left = (y[:, i] - prediction).var(correction=0)
noise = variance_of[x[:, i]].mean()
assert left < y[:, i].var(correction=0) / 3
assert left < L[i, i] ** 2
border = L.diagonal().reshape(28, 28)[0].mean()
middle = L.diagonal().reshape(28, 28)[10:18, 10:18].mean()
assert border < middle
noise_there = variance_of[x[:, 0]].mean().sqrt()
assert L[0, 0] < 1.2 * noise_there
assert L[0, 0] == L.diagonal().min()
print(f"left unknown: first row {border:.2f}, middle {middle:.2f},", end=" ")
print(f"corner {L[0, 0]:.2f}, of it the noise {noise_there:.2f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Who draws what it scores?
# :label: ex-scores-its-own
#
# Score each model's samples by the model itself. For a perfect model they cost as much as test images. Who is
# furthest off, and which way?
# ```
#
# ```{solution-start} ex-scores-its-own
# :class: dropdown
# ```
# The mean of $-\log P$ over a model's own samples is its entropy (or a bound of it), over test images the cross
# entropy, which may be larger or smaller. Here all models find their own samples dearer than clothes, and the VAE by
# far. It pays for its grain, pixel by pixel; and $q$, which has never seen such images, may look for $z$ in the wrong
# place, so that the bound is loose.

# %%
dearer = {}
for family in ranking:
    own = score_images(models[family], drawn[family][:100]).mean().item()
    theirs = per_image[family].mean().item()
    dearer[family] = own - theirs
    print(f"{family}: its samples {own:.2f}, test images {theirs:.2f}")
assert min(dearer.values()) > 0
assert max(dearer, key=dearer.get) == "VAE"

# %% [markdown]
# ```{solution-end}
# ```
