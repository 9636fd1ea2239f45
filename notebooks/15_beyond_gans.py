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
# There are many ways to model images: how do they differ? This chapter compares six families on Fashion-MNIST. Five
# were trained for half an hour of one processor core each; the sixth has a closed form. You will be able to
#
# * say what each family can tell of an image: its probability, a bound of it, or nothing;
# * write the loss of each in ten lines;
# * tell which comparisons of their scores prove something.
#
# ```{admonition} In the papers
# Sections 1 and 2 of {cite:t}`dinh2017realnvp` set flows beside variational autoencoders, autoregressive models and
# adversarial networks. Neither paper puts all of them on the same images.
# ```

# %% tags=["parameters"]
profile = "laptop"

# %% tags=["hide-input"]
import math
import textwrap
from itertools import pairwise
from statistics import mean, median, stdev

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import baselines, figures
from nvp_book.figures import families as pictures
from nvp_book.figures import samples as sheets
from nvp_book.selection import benchmark_results, sheet_images
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from nvp.data import EMBEDDED, FASHION_CLASSES, load
from nvp.errors import NVPError
from nvp.ledger import runs
from nvp.likelihood import bits_per_dim, nats_per_bit, score_images
from nvp.model.dequantisation import logit

figures.use_style()
torch.set_num_threads(1)
full = profile == "paper"

names = {
    "VAE": "fashion-mnist-vae",
    "GAN": "fashion-mnist-gan",
    "Real NVP": "fashion-mnist",
    "Pixel RNN": "fashion-mnist-diagonal-bilstm",
    "diffusion": "fashion-mnist-diffusion",
    "Gaussian": "fashion-mnist-gaussian",
}
ledger = runs()
recorded = {family: ledger[name] for family, name in names.items()}
models = {family: run.load_model() for family, run in recorded.items()}
for model in models.values():
    model.requires_grad_(False)
# The book holds 1,000 of the test images and a part of the others.
test, train = load(EMBEDDED, "test"), load(EMBEDDED, "train").images[:4500]
size = test.images[0].numel()  # sub-pixels of an image


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# %% tags=["remove-cell"]
for run in recorded.values():
    data, same = run.record.data, recorded["VAE"].record.data
    assert data.train_sha256 == same.train_sha256
    assert data.test_sha256 == same.test_sha256
    assert data.name == "fashion-mnist"
    assert run is recorded["Gaussian"] or 29 < run.record.minutes < 32
assert recorded["Pixel RNN"].config.model.kind == "diagonal_bilstm"
low, *bounds = (
    recorded[name].score.bits_per_dim
    for name in ("Pixel RNN", "diffusion", "Real NVP")
)
assert [round(bound - low, 2) for bound in bounds] == [0.10, 0.25]
narrow = ledger["fashion-mnist-small-margin"].score.bits_per_dim
assert f"{narrow:.2f}" == "2.93"
gated = ledger["fashion-mnist-gated-pixelcnn"]
assert gated.record.data.train_sha256 == same.train_sha256
assert 29 < gated.record.minutes < 32
assert f"{gated.score.bits_per_dim:.2f}" == "2.84"
for family, run in recorded.items():
    by_muon = run.config.training.optimiser.value == "muon"
    assert by_muon is (family in ("Real NVP", "Pixel RNN", "diffusion"))
assert recorded["Pixel RNN"].config.model.num_layers == 3
assert [models[f].config.latent for f in ("VAE", "GAN")] == [32, 64]
noise = models["diffusion"].config
assert (noise.gamma_0, noise.gamma_1) == (-13.3, 5)

# %% [markdown]
# ## Six families side by side
#
# How do samples of the families differ? Here are eight of each. (The Pixel RNN is a Diagonal BiLSTM
# of three layers.)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Test images, and eight samples of each family at temperature 1. None was selected by hand.", "name": "fig-families"}, "image": {"classes": "whole", "alt": "Seven columns of eight grey images. Real clothes first. The VAE's are grainy shapes of clothes; five of the GAN's are whole shapes with some speckle, and three are fragments; Real NVP's are clothes and shoes with blotched surfaces; the Pixel RNN's have clean edges, and nearly all are whole; the diffusion's have even surfaces, and most are whole; the Gaussian's are woven patches in the rough outline of a shirt."}}
columns = {"real": sheet_images(recorded["Real NVP"].files.real, 28)[:8]}
for family, run in recorded.items():
    columns[family] = sheet_images(run.files.samples, 28)[:8]
sheets.plot_beside(columns, columns=1)
plt.show()

# %% [markdown]
# Each family fails in its own way:
#
# * The **VAE** has grain: it draws its pixels independently given $z$, so its doubt about a pixel becomes noise. Papers
#   usually show its means, which are blurred.
# * The **GAN** draws whole shapes with some speckle, and fragments.
# * **Real NVP** has whole clothes and shoes with blotched surfaces, and some that fall apart.
# * The **Pixel RNN** has clean edges and fine detail, and nearly all of its shapes are whole.
# * The **diffusion** has even surfaces, and most of its shapes are whole.
# * The **Gaussian** knows means and covariances of pixels and nothing else: every sample is a woven patch.
#
# The next table compares the six families. The standard error of bits/dim over the 10,000 test images is below 0.01.
# The diffusion infers its latent by adding noise.

# %% tags=["hide-input"]
seconds = benchmark_results("families")["seconds_an_image"]
found = benchmark_results("coverage")
seeds = benchmark_results("seeds")
again = {
    family: [seeds[name][seed] for seed in sorted(seeds[name])]
    for family, name in names.items()
    if name in seeds
}


def milliseconds(family, what):
    times = seconds[names[family]].get(what)
    if not times:
        return "–"
    took = 1000 * median(times)
    return f"{took:.0f}" if took > 2 else f"{took:.1g}"


def bits(family):
    if not recorded[family].has_likelihood:
        return "–"
    score = recorded[family].score
    assert score.standard_error < 0.01
    return f"{score.bits_per_dim:.2f}"


def seen(family):
    """Images, in millions, over all epochs; a fit sees each image once."""
    record = recorded[family].record
    fitted = models[family].fitted_in_closed_form
    images = record.trained_on if fitted else record.images
    return f"{images / 1e6:.2f}"


kinds = {
    "VAE": (models["VAE"].config.latent, "approximate", 1),
    "GAN": (models["GAN"].config.latent, "none", 1),
    "Real NVP": (size, "exact", 1),
    "Pixel RNN": ("none", "–", size),
    "diffusion": (size, "noise", models["diffusion"].config.steps),
    "Gaussian": (size, "exact", 1),
}
lines = {
    "likelihood": lambda f: models[f].likelihood,
    "numbers in a latent": lambda f: kinds[f][0],
    "inference of the latent": lambda f: kinds[f][1],
    "steps to draw": lambda f: kinds[f][2],
    "bits/dim": bits,
    "parameters": lambda f: f"{recorded[f].record.parameters / 1e6:.2f} M",
    "images seen, millions": seen,
    "trained in": lambda f: recorded[f].record.precision,
    "scoring, ms an image": lambda f: milliseconds(f, "score"),
    "sampling, ms an image": lambda f: milliseconds(f, "sample"),
}
figures.show_table(
    ["property", *names],
    [[what, *map(cell, names)] for what, cell in lines.items()],
)

# %% [markdown]
# Times are processor time of one core, for an image out of a batch of 64.
#
# * Only the Pixel RNN states an **exact** likelihood, and its score is the lowest. The bound of the diffusion is a
#   tenth of a bit/dim above it, that of Real NVP a quarter. The GAN states nothing.
# * Among networks, only Real NVP has **a latent that loses nothing** and needs **one step to score and one to draw**.
#   A sample takes 784 steps in the Pixel RNN and 128 in the diffusion.
#
# The table is no verdict on a family. Networks may gain from more time and other sizes, other work shared the cores,
# and optimisers and precisions (bf16: bfloat16) differ. Muon trained Real NVP, the Pixel RNN and the diffusion; Adam
# the VAE and the GAN (appendix {ref}`training-them`). Chapter {ref}`results` has a Real NVP of 2.93, by more steps and
# a smaller margin. A Gated PixelCNN has 2.84 after the same half hour (chapter {ref}`your-turn`).
#
# ## The loss of each family
#
# Chapter {ref}`density-estimation` wrote four losses for points in the plane; here are those for images. Each
# likelihood is that of an *integer* image, so bits/dim mean the same for all ({ref}`integers-to-bits`).
#
# ### Real NVP: change of variables
#
# Add noise $u$, take the logit, apply the flow; then {eq}`eq:change` gives the density. Training adds a small penalty
# on the weights. In this chapter $x$ are the integers, and $y$ their logits.


# %%
def flow_loss(model, x, u):
    """Minus the mean log-likelihood bound, nats; x are integers."""
    scaled = (x + u) / 256
    p = 0.05 + 0.9 * scaled
    y = torch.logit(p)
    log_slope = math.log(0.9) - p.log() - (1 - p).log()
    z, log_det = model.flow(y)
    log_p = Normal(0.0, 1.0).log_prob(z) + log_slope - math.log(256)
    return -(log_p.flatten(1).sum(1) + log_det).mean()


few = test.images[:8]
flow = models["Real NVP"]
u = torch.rand(few.shape, generator=seeded())
theirs = -flow.log_prob(few, generator=seeded()).mean()
assert torch.allclose(flow_loss(flow, few, u), theirs, rtol=1e-4)

# %% [markdown]
# ### Pixel RNN: cross-entropy
#
# The network computes 256 probabilities for each pixel, conditioned on the pixels before it (chapter
# {ref}`pixel-by-pixel`). The loss is exactly $-\log P(x)$.


# %%
def pixel_loss(model, x):
    logits = model.logits(x)  # (N, 1, H, W, 256)
    nats = F.cross_entropy(logits.movedim(-1, 1), x.long(), reduction="none")
    return nats.flatten(1).sum(1).mean()


pixels = models["Pixel RNN"]
assert torch.allclose(pixel_loss(pixels, few), pixels.loss(few), rtol=1e-4)

# %% [markdown]
# ### VAE: a bound by inference
#
# A VAE {cite}`kingma2014vae` has a latent $z \sim \mathcal N(0, I)$ of 32 numbers. Given $z$, a network states a
# logistic distribution for each pixel, independently of the others; a level has the mass of its bin
# ({ref}`ex-logistic-mixture`). The probability of an image, $P(x) = \int p(x \mid z)\, p(z)\, \mathrm dz$, cannot be
# computed. A second network proposes where to look: $q(z \mid x)$, a Gaussian. If $q > 0$ wherever
# $p(x \mid z)\, p(z) > 0$, the **weight**
#
# $$
# w(z) = \frac{p(x \mid z)\, p(z)}{q(z \mid x)}
# $$ (eq:weight)
#
# has the right mean over $z \sim q$, $\mathbb E_q[w] = P(x)$. By Jensen's inequality the mean of its
# logarithm is at most $\log P(x)$: $\mathbb E_q[\log w]$ is the **evidence lower bound** {eq}`eq:elbo`.
#
# The gap is $\mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x))$, since $w = P(x)\, p(z \mid x) / q(z \mid x)$. It is
# {eq}`eq:gap` with $z$ for $u$: a flow with dequantisation *is* such a model. Its latent is $x + u$, its decoder
# rounds down, and its $q$ is uniform and cannot learn.


# %%
def vae_loss(vae, x, e):
    """Minus the evidence lower bound; e ~ N(0, I) is the noise of z."""
    mean, log_std = vae.posterior(x)  # the encoder
    z = mean + log_std.exp() * e
    prior, q = Normal(0.0, 1.0), Normal(mean, log_std.exp())
    log_w = vae.log_likelihood(x, z)  # the decoder, and its logistics
    log_w = log_w + (prior.log_prob(z) - q.log_prob(z)).sum(1)
    return -log_w.mean()


vae = models["VAE"]
e = torch.randn(len(few), vae.config.latent, generator=seeded())
assert torch.allclose(vae_loss(vae, few, e), vae.loss(few, seeded()))

# %% [markdown]
# ### GAN: a game
#
# A GAN {cite}`goodfellow2014gan` maps a latent of 64 numbers to an image $G(z)$. It has no density:
# its images lie on a surface of at most 64 dimensions in a space of 784. A **discriminator**
# $D(x) \in (0, 1)$ states the probability that $x$ is an image of the data, and not one of $G$'s.
# With $p$ the density of the data, $G$ and $D$ play $\min_G \max_D V$ for
#
# $$
# V = \mathbb E_{x \sim p}[\log D(x)] + \mathbb E_{z}[\log(1 - D(G(z)))] .
# $$ (eq:game)
#
# In practice $G$ maximises $\log D(G(z))$, which has larger gradients early on. Each player's own loss alone updates
# its weights. (`gan.D` gives the logit of $D$, and $-\log \operatorname{sigmoid}(l) = \operatorname{softplus}(-l)$.)


# %%
def discriminator_loss(gan, x, z):
    drawn = gan.G(z).detach()
    real = 2 * x.float() / 255 - 1
    on_real, on_drawn = F.softplus(-gan.D(real)), F.softplus(gan.D(drawn))
    return on_real.mean() + on_drawn.mean()


def generator_loss(gan, z):
    return F.softplus(-gan.D(gan.G(z))).mean()


gan = models["GAN"]
z = torch.randn(len(few), gan.config.latent, generator=seeded())
both = discriminator_loss(gan, few, z) + generator_loss(gan, z)
assert torch.allclose(both, gan.loss(few, seeded()), rtol=1e-4)

# %% [markdown]
# The sum of both losses is $3 \log 2 \approx 2.08$ where $D = 1/2$. It says little about how good the samples are, and
# asking for a likelihood is an error:

# %%
log = recorded["GAN"].log()
for row in (log[0], log[len(log) // 2], log[-1]):
    print(f"step {row['step']:.0f}: {row['loss']:.1f}")
try:
    gan.log_prob(few)
except NVPError as error:
    print(textwrap.fill(str(error), 70))

# %% [markdown]
# ### Diffusion: find the noise
#
# A diffusion model {cite}`sohldickstein2015diffusion,ho2020ddpm,kingma2021vdm` mixes the image with
# noise. At $t = 0$ there is nearly no noise, at $t = 1$ nearly no image:
#
# $$
# z_t = {} & \alpha_t x + \sigma_t e, \qquad e \sim \mathcal N(0, I), \\
# & \sigma_t^2 = \operatorname{sigmoid}(\gamma(t)), \quad \alpha_t^2 = 1 - \sigma_t^2 .
# $$ (eq:diffusion)
#
# Here $x$ is scaled to $(-1, 1)$, and $\gamma(t) = \gamma_0 + (\gamma_1 - \gamma_0)\, t$ runs from $\gamma_0 = -13.3$
# to $\gamma_1 = 5$. The ratio of signal to noise is $\exp(-\gamma)$. A network $\hat e(z_t, \gamma)$ finds the noise.
# The model is a VAE with infinitely many layers of latents and a fixed encoder $q(z_t \mid x)$, {eq}`eq:diffusion`.
# With $t$ uniform on $[0, 1]$, its bound has three terms {cite}`kingma2021vdm`:
#
# $$
# -\log P(x) \le {} & \underbrace{\mathrm{KL}(q(z_1 \mid x) \,\|\, \mathcal N(0, I))}_{\text{prior}}
# + \underbrace{\mathbb E[-\log P(x \mid z_0)]}_{\text{reconstruction}} \\
# & + \underbrace{\tfrac12 (\gamma_1 - \gamma_0)\, \mathbb E_{t, e}\, \lVert e - \hat e(z_t, \gamma(t)) \rVert^2}_{\text{diffusion}} .
# $$ (eq:vdm-bound)
#
# For each pixel $P(x \mid z_0)$ is proportional to $q(z_0 \mid x)$, over the 256 levels. So the first two terms need
# no network; here they come to 0.01 bits/dim. The loss is nearly the error of a denoiser, and yet it counts bits. Why
# this factor? A small step back in time costs the divergence of two Gaussians of equal variance. The divergence is half
# of the rise of $\exp(-\gamma)$, times the squared error of the image $(z_t - \sigma_t \hat e) / \alpha_t$. The rise is
# $\exp(-\gamma) (\gamma_1 - \gamma_0)\, \mathrm dt$, and that error is $\exp(\gamma)$ times the squared error of the
# noise. The exponentials cancel.


# %%
def diffusion_loss(model, x, t, e):
    """Minus the bound at times t, (N,), with noise e."""
    gamma_0, gamma_1 = model.config.gamma_0, model.config.gamma_1
    gamma = gamma_0 + (gamma_1 - gamma_0) * t
    level = gamma[:, None, None, None]
    alpha, sigma = (-level).sigmoid().sqrt(), level.sigmoid().sqrt()
    noisy = alpha * ((2 * x.float() + 1) / 256 - 1) + sigma * e
    error = (e - model.network(noisy, gamma)).square()
    ends = model.end_losses[x.int()]  # prior and reconstruction
    nats = ends + 0.5 * (gamma_1 - gamma_0) * error
    return nats.flatten(1).sum(1).mean()


diffusion = models["diffusion"]
generator = seeded()
t = (torch.rand(1, generator=generator) + torch.arange(8) / 8) % 1
e = torch.randn(few.shape, generator=generator)
mine = diffusion_loss(diffusion, few, t, e)
assert torch.allclose(mine, diffusion.loss(few, seeded()), rtol=1e-4)
ends = diffusion.end_losses[few.int()].mean().item() / math.log(2)
assert 0.005 < ends < 0.015

# %% [markdown]
# To sample, start from noise and remove a little of it at a time, 128 times ({ref}`ex-ancestral`). The loss takes one
# $t$ for each image; those of a batch are spread evenly over $[0, 1]$.
#
# ````{dropdown} The package's networks of the VAE, the GAN and the diffusion
# `config.width` is 32, and 48 in the diffusion, where `config.blocks` is 2.
# ```{literalinclude} ../nvp/baselines/vae.py
# :pyobject: VAE.__init__
# :dedent: 4
# ```
# ```{literalinclude} ../nvp/baselines/vae.py
# :pyobject: VAE.pixels
# :dedent: 4
# ```
# ```{literalinclude} ../nvp/baselines/gan.py
# :pyobject: GAN.__init__
# :dedent: 4
# ```
# ```{literalinclude} ../nvp/baselines/diffusion.py
# :pyobject: Block
# ```
# ```{literalinclude} ../nvp/baselines/diffusion.py
# :pyobject: Denoiser
# ```
# ````
#
# ### Gaussian: in closed form
#
# How far does a Gaussian get? Replace the flow of Real NVP by a triangular matrix: $y \sim \mathcal N(m, L L^{\mathsf
# T})$. No training is needed: the likelihood is highest where $m$ and $L L^{\mathsf T}$ are the mean and the covariance
# of $y$ ({prf:ref}`prop-best-gaussian` in appendix {ref}`baselines-and-bits`). It is no strong baseline, since half of
# the pixels are exactly 0. The table of two neighbours (chapter {ref}`density-estimation`) needs 3.51 bits/dim,
# exactly.
#
# ## One image under all of them
#
# How does each family judge the same test image? Four can say where in the image the bits are. A pixel costs
# $-\log p(x_i \mid z)$ in the VAE, which also pays for $z$, and $-\log p(x_i \mid x_{<i})$ in the Pixel RNN. In the
# diffusion it costs its summand of {eq}`eq:vdm-bound`, averaged over 64 times. {ref}`ex-gaussian-pixels` explains the
# Gaussian's.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "One test image. Above: the bits of each of its pixels, with the bits/dim of the whole image; the brightest pixels cost 12 bits or more. Below: the image that comes back from its latent, in three families that infer one.", "name": "fig-one-image"}, "image": {"alt": "Two rows. Above: a sandal, and four maps of it, dark where the image is black and brighter on edges and texture; the Gaussian's map is much brighter than the others. Below: the VAE returns a blurred sandal, Real NVP and the Gaussian return the sandal itself."}}
one = test.images[[11]]
totals = {
    family: score_images(model, one).item()
    for family, model in models.items()
    if model.likelihood != "none"
}
gaussian = models["Gaussian"]
y, dy = logit((one.double() + 0.5) / 256, 0.05, 0.9)
factor = gaussian.log_diagonal.exp().diag().double()
factor[*torch.tril_indices(size, size, -1)] = gaussian.below.double()
away = (y.flatten(1) - gaussian.mean).T
inner = torch.linalg.solve_triangular(factor, away, upper=False)
nats = 0.5 * (inner[:, 0] ** 2 + math.log(2 * math.pi))
nats = nats + gaussian.log_diagonal - dy.flatten() + math.log(256)
z = vae.encode(one)
mu, log_scale = (part.double() for part in vae.pixels(z))
edges = torch.stack([one - 0.5, one + 0.5])
below, above = ((edges.double() - mu) / log_scale.exp()).sigmoid()
below, above = below * (one > 0), above + (1 - above) * (one == 255)
log_tables = pixels.logits(one).log_softmax(-1)
times = (torch.arange(64) + 0.5) / 64
many = one.expand(64, -1, -1, -1)
maps = {
    "VAE": -(above - below).log(),
    "Pixel RNN": -log_tables.gather(-1, one.long()[..., None]),
    "diffusion": diffusion.losses(many, times, seeded()).mean(0),
    "Gaussian": nats,
}
maps = {f: nats.view(28, 28) / math.log(2) for f, nats in maps.items()}
back = {
    "VAE": vae.decode(z),
    "Real NVP": flow.decode(flow.encode(one, generator=seeded())),
    "Gaussian": gaussian.decode(gaussian.encode(one, generator=seeded())),
}
pictures.plot_one_image(one, totals, maps, back)
plt.show()

# %% tags=["remove-cell"]
dark = one[0, 0] == 0
for each in maps.values():
    assert each[dark].mean() < each[~dark].mean()
same = [family for family, image in back.items() if image.equal(one)]
assert same == ["Real NVP", "Gaussian"]

# %% [markdown]
# In all four maps, black pixels cost least on average; edges and texture need the bits. Real NVP has no map, since
# its Jacobian mixes all pixels. From their latents, Real NVP and the Gaussian return the image itself, and the VAE a
# blurred one.
#
# ## A discriminator is no density
#
# Can $D(x)$, a number for every image, take the place of a density? {cite:t}`goodfellow2014gan` found the best $D$:
#
# ```{prf:proposition} The best discriminator
# :label: prop-best-discriminator
#
# If the data have a density $p$ and $G$ draws from a density $q$, the $D$ that maximises $V$ is
# $D^*(x) = p(x) / (p(x) + q(x))$ wherever $p + q > 0$, and
# $V(D^*, G) = -\log 4 + 2\, \mathrm{JSD}(p \,\|\, q)$. The Jensen–Shannon divergence is
# $\mathrm{JSD}(p \,\|\, q) = \frac12 \mathrm{KL}(p \,\|\, r) + \frac12 \mathrm{KL}(q \,\|\, r)$
# with $r = (p + q) / 2$.
# ```
#
# ```{prf:proof}
# $V = \int p \log D + q \log(1 - D)\, \mathrm dx$. For each $x$ with $p, q > 0$, $p \log D + q \log (1 - D)$ is
# concave in $D$ and stationary where $p / D = q / (1 - D)$, at $D^* = p / (p + q)$. Where one of the two is 0, the
# other term is highest at $D^* = 0$ or $1$, if we allow these values. Insert $D^*$, with $0 \log 0 = 0$:
#
# $$
# V = \int p \log \frac{p}{2r} + q \log \frac{q}{2r} = -2 \log 2 + \mathrm{KL}(p \,\|\, r) + \mathrm{KL}(q \,\|\, r).
# $$
# ```
#
# So $D^* / (1 - D^*) = p / q$. A discriminator estimates only the *ratio* of the data's density to the generator's.
# It is highest where $G$ draws too little, not where the data are. An example on a line:

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The best discriminator between two known densities on a line. It is sure of itself in the tail, where the generator draws almost nothing and the data are rare.", "name": "fig-discriminator"}, "image": {"alt": "Left: the density of the data with two humps, the higher one at minus one, and a bell curve of the generator beside it. Right: the best discriminator. It is a little above one half at minus one, a quarter at one, close to one from four to seven, then a little lower. A dotted line marks where the data's density is highest, at minus one; a dashed one, where the discriminator is highest, near six."}}
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

pictures.plot_discriminator(line, p, q)
plt.show()

# %% tags=["remove-cell"]
generator = seeded()
for _ in range(20):
    odds = torch.randn(4, generator=generator, dtype=torch.double) / 4
    bend = sum(c * torch.cos(k * line) for k, c in enumerate(odds))
    assert value(torch.sigmoid(torch.logit(best) + bend)) < value(best)

ratio = best / (1 - best)
assert p[best.argmax()] < 0.01 * p.max()
assert (ratio * dx).sum() > 2  # a density would have 1

# %% [markdown]
# The discriminator is highest near 6, where the data have less than a hundredth of their highest
# density. Does our trained $D$ order images as a good density does? It would, if its logit were the
# data's log density up to a constant. Compare with the Pixel RNN:

# %% tags=["hide-input"]
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
bits_of = {
    what: score_images(pixels, images[:50]).mean().item()
    for what, images in strangers.items()
}
figures.show_table(
    ["images", "mean logit of D", "bits/dim of the Pixel RNN, first 50"],
    [
        [what, f"{logits[what]:.1f}", f"{bits_of[what]:.1f}"]
        for what in sorted(logits, key=logits.get, reverse=True)
    ],
)

# %% tags=["remove-cell"]
real, negative = "real test images", "negatives of real images"
assert logits[negative] > logits[real]
assert bits_of[negative] > bits_of[real] + 0.5
assert bits_of["a black image"] < bits_of["a white image"] < bits_of[real]

# %% [markdown]
# Blank images prove nothing: to the Pixel RNN, too, they are likelier than clothes ({ref}`not-everything`). But $D$
# prefers negatives, which the Pixel RNN finds less likely. $D$ was trained only to tell apart two kinds of dark
# images with something bright in the middle.
#
# ## Two kinds of bound, and an exact score
#
# How far is a bound from the truth? The diffusion's bound is a mean over times. The bounds of the
# Gaussian, Real NVP and the VAE are means of a log weight. These three get tighter when several
# weights are averaged *inside* the logarithm:
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
# The proof is also an experiment: sample many weights, and average them in groups of one, two, four and so on:


# %% tags=["hide-input"] mystnb={"figure": {"caption": "What more draws take off the bound, on some test images.", "name": "fig-more-draws"}, "image": {"alt": "Three lines that fall from zero, over the number of draws on a logarithmic axis. The VAE's falls furthest, down to its end at 64 draws. Real NVP's falls nearly as steeply and ends at 8. The Gaussian's hardly falls. A dashed line at zero for the exact Pixel RNN."}}
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


some = test.images[: 200 if full else 50]
how_many = {"Gaussian": 64, "VAE": 64, "Real NVP": 8}
weights = {f: draws_of(models[f], some, k) for f, k in how_many.items()}
bounds = {}
for family, log_w in weights.items():
    powers = [2**k for k in range(len(log_w).bit_length())]
    each = [grouped(log_w, K) for K in powers]
    for fewer, more in pairwise(each):
        assert (more >= fewer - 1e-9).all()
    two = models[family].log_prob(some, num_draws=2, generator=seeded())
    assert torch.allclose(grouped(log_w[:2], 2).float(), two, atol=0.01)
    bounds[family] = {
        K: bits_per_dim(nats, vae.image_shape).mean().item()
        for K, nats in zip(powers, each, strict=True)
    }


pictures.plot_bounds(bounds, ["Pixel RNN"])
plt.show()

# %% tags=["remove-cell"]
fell = {f: each[1] - min(each.values()) for f, each in bounds.items()}
assert 0.005 < fell["Real NVP"] < fell["VAE"] < 0.05
assert fell["Gaussian"] < 0.01

# %% [markdown]
# Draws take a few hundredths of a bit/dim off the bounds of the VAE and Real NVP, and hardly anything off that of the
# Gaussian. The rest of the gap stays unknown. A rule of thumb takes $\log w$ as normally
# distributed. Then $\log \mathbb E[w]$ is its mean plus half of its variance, so half of the
# variance is the gap of one draw:

# %% tags=["hide-input"]
unit = nats_per_bit(vae.image_shape)
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
exact = score_images(pixels, some).mean().item()
rows.append(["Pixel RNN", f"{exact:.2f}", "the same", "0"])
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
# ### Which comparisons prove something
#
# In bits/dim, a bound lies above the true score, up to the noise of its draws. If the bound of model A is below the
# exact score of model B, A is proved to have the higher likelihood on these images. If the bound is *higher*, nothing
# is proved: A may be better than its bound. Two bounds prove nothing.

# %%
score_of = {
    family: run.score.bits_per_dim
    for family, run in recorded.items()
    if run.has_likelihood
}
ranking = sorted(score_of, key=score_of.get)
print("order of the scores:", " < ".join(ranking))

# %% [markdown]
# In practice one can say more. How sure is each step of this order? Is it larger than the gap of the model behind, by
# the rule of thumb?

# %% tags=["hide-input"]
per_image = {f: score_images(models[f], test.images[:100]) for f in ranking}
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
            f"{gap_of[b]:.2f}" if b in gap_of else "–",
        ]
    )
figures.show_table(
    [
        "100 test images, bits/dim",
        "mean",
        "±",
        "images where it is positive",
        "gap of the one behind",
    ],
    rows,
)

# %% [markdown]
# Here the exact score is the lowest, so nothing is proved about the order. (The four networks are proved better than
# the table of two neighbours, which is exact and scores higher.) But where there is a rule of thumb, its gap is
# smaller than the lead. So from the diffusion on, the order of the scores is probably that of the models. Between
# the Pixel RNN and the diffusion, which has no such rule, it stays open.
#
# Another seed gives another model. So all families but the Gaussian were trained again from two other seeds, for as
# many steps and in float32:

# %% tags=["hide-input"]
scores = {
    family: [score_of[family], *(run["bits_per_dim"] for run in again[family])]
    for family in ranking
    if family in again
}
figures.show_table(
    ["bits/dim", "recorded", "seed 1", "seed 2", "deviation"],
    [
        [family, *(f"{value:.3f}" for value in values), f"{stdev(values):.4f}"]
        for family, values in scores.items()
    ],
)

# %% tags=["remove-cell"]
assert list(scores) == ["Pixel RNN", "diffusion", "Real NVP", "VAE"]
table = baselines.recorded()["fashion-mnist"]["two neighbours"]
assert score_of["VAE"] + 0.2 < table.bits_per_dim < score_of["Gaussian"] - 1
assert f"{table.bits_per_dim:.2f}" == "3.51"
assert {*again} == {*scores, "GAN"}
for family, others in again.items():
    assert len(others) == 2
    assert {run["steps"] for run in others} == {recorded[family].record.steps}
    assert {run["precision"] for run in others} == {"fp32"}
    halves = recorded[family].record.precision == "bf16"
    assert halves == (family not in ("VAE", "GAN"))
assert all(max(each) - min(each) < 0.006 for each in scores.values())
for a, b in pairwise(scores):
    assert max(scores[a]) < min(scores[b]) - 0.05
ahead = {a: score_of[b] - score_of[a] for a, b in pairwise(ranking)}
assert all(ahead[a] > gap_of[b] for a, b in pairwise(ranking) if b in gap_of)

# %% [markdown]
# Seed and precision together move these scores by a few thousandths of a bit/dim. The worst run of each family is
# well ahead of the best run of the next. So the seed does not explain the order of these four scores.
#
# ## What do they leave out?
#
# A likelihood punishes a model for every image of the data that it finds impossible. A game does not: a generator
# that draws only one perfect shirt does well against a slow discriminator. This is **mode collapse**. Three
# measurements look for it in samples:
#
# * **Classes.** Give each sample the class of the nearest training image. The *distance from equal shares* is half of
#   the sum of $|\text{share} - 0.1|$ over the ten classes.
# * **Nearness.** Divide the mean distance of samples from the nearest training image by that of test images.
# * **Coverage** {cite}`naeem2020coverage`. Put a ball around each test image that reaches to its fifth nearest
#   neighbour among test images. Count the balls with a sample inside.
#
# Distances are between means over 2 × 2 pixels, so that grain counts for less. The cell measures the coverage of the
# GAN's samples and of training images, as they are and blurred. The VAE decodes latents of training images.


# %%
def small(images):
    return F.avg_pool2d(images.double() / 255, 2).flatten(1)


balls = small(test.images)
radius = torch.cdist(balls, balls).kthvalue(6, dim=1).values  # 1: itself


def coverage(images):
    """The share of balls around test images with a sample inside."""
    nearest = torch.cdist(balls, small(images)).min(dim=1).values
    return (nearest <= radius).double().mean().item()


drawn, real = gan.sample(300, generator=seeded(1)), train[:300]
by_gan = coverage(drawn)
assert abs(by_gan - found["runs"][names["GAN"]]["coverage"][0]) < 0.01
for what, images in {"GAN": drawn, "training images": real}.items():
    blurred = F.avg_pool2d(images.double(), 3, stride=1, padding=1)
    sharp, smooth = coverage(images), coverage(blurred)
    assert smooth > sharp + 0.1
    print(f"{what}: {sharp:.0%}, blurred {smooth:.0%}")
means = vae.decode(torch.randn(300, vae.config.latent, generator=seeded(1)))
without_noise = coverage(means)
inferred = vae.decode(vae.encode(real), generator=seeded(1), temperature=1.0)
by_inferred = coverage(inferred)
print(f"VAE, from latents of training images: {by_inferred:.0%}")

# %% [markdown]
# `python -m benchmarks.coverage` did this for three sets of 300 samples of each run (± is their spread), with 1,000
# test images and 4,500 training images. Two runs on 4,500 images join them, a Diagonal BiLSTM and a PixelCNN.


# %% tags=["hide-input"]
def spread(values):
    n = 0 if mean(values) > 0.05 else 1  # digits
    return f"{100 * mean(values):.{n}f} ± {100 * stdev(values):.{n}f}%"


shown = names | {
    "Diagonal BiLSTM, 4,500 images": "fashion-small-diagonal-bilstm",
    "PixelCNN, 4,500 images": "fashion-small-pixelcnn",
}
rows = []
shares = {"real": found["real"]["classes"]}
measurements = {"real images": found["real"]} | {
    f: found["runs"][name] for f, name in shown.items()
}
for family, each in measurements.items():
    off = sum(abs(share - 0.1) for share in each["classes"]) / 2
    away = each["from_nearest_training_image"]
    away /= found["real"]["from_nearest_training_image"]
    likely = family in shown and ledger[shown[family]].has_likelihood
    if family in names:
        shares[family] = each["classes"]
    rows.append(
        [
            family,
            f"{ledger[shown[family]].score.bits_per_dim:.2f}"
            if likely
            else "–",
            spread(each["coverage"]),
            f"{off:.2f}",
            f"{away:.1f}" if family in shown else "–",
        ]
    )
figures.show_table(
    [
        "source",
        "bits/dim",
        "coverage",
        "distance from equal shares of classes",
        "from the nearest training image (test images: 1)",
    ],
    rows,
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Classes of 900 samples of each family, by the nearest training image; real: the 1,000 test images. Dashed: equal shares.", "name": "fig-classes"}, "image": {"alt": "Seven panels of ten horizontal bars, one for each class of clothes. For real images all bars are near the dashed line at ten percent. All models have too many shirts and too few sandals; the VAE and the GAN have few trousers."}}
pictures.plot_classes(shares, FASHION_CLASSES)
plt.show()

# %% tags=["remove-cell"]
two = ("fashion-small-diagonal-bilstm", "fashion-small-pixelcnn")
assert [ledger[name].record.steps for name in two] == [1300, 1746]
assert len({ledger[name].config.training.batch_size for name in two}) == 1
covered = {f: mean(each["coverage"]) for f, each in measurements.items()}
diagonal, cnn = (f for f in shown if f not in names)
assert round(covered[cnn], 2) == 0.02
assert 4.5 < covered[diagonal] / covered[cnn] < 5
worse, better = (ledger[shown[f]].score for f in (diagonal, cnn))
assert better.bits_per_dim < worse.bits_per_dim
assert ledger[shown[cnn]].config.model.num_layers + 3 == 8  # rows up
for family, others in again.items():
    changes = [mean(run["coverage"]) - covered[family] for run in others]
    assert max(abs(change) for change in changes) < 0.06
assert max(covered, key=covered.get) == "real images"
assert 0.67 < covered["diffusion"] < 0.74
assert covered["Pixel RNN"] < 0.5
of_gan, of_flow, of_vae = (
    [covered[f], *(mean(run["coverage"]) for run in again[f])]
    for f in ("GAN", "Real NVP", "VAE")
)
assert 0.365 < min(of_gan) < max(of_gan) < 0.405
assert 0.325 < min(of_flow) < max(of_flow) < 0.365
assert round(covered["Gaussian"], 2) == 0.12
assert {round(x, 2) for x in of_vae} == {0.15, 0.17, 0.18}
assert 0.18 < without_noise < 0.25
assert 0.75 < by_inferred < 0.9
far = {f: measurements[f]["from_nearest_training_image"] for f in names}
of_test = found["real"]["from_nearest_training_image"]
assert sorted(far, key=far.get)[0] == "diffusion"
assert {*sorted(far, key=far.get)[-2:]} == {"VAE", "Gaussian"}
assert round(far["diffusion"] / of_test, 1) == 1.1
assert {round(far[f] / of_test, 1) for f in ("VAE", "Gaussian")} == {1.6}
for drawn, of_perfect in ((300, 0.73), (1000, 0.97)):
    empty = math.prod((999 - j) / (999 + drawn - j) for j in range(5))
    assert round(1 - empty, 2) == of_perfect
by_chance = 10 / 2 * math.sqrt(2 / math.pi) * math.sqrt(0.1 * 0.9 / 900)
assert round(by_chance, 2) == 0.04
for family in ("GAN", "VAE"):
    for few_shown in ("trousers", "sandal"):
        assert shares[family][FASHION_CLASSES.index(few_shown)] < 0.05
sandals = FASHION_CLASSES.index("sandal")
assert all(shares[family][sandals] < 0.08 for family in names)
shirts = FASHION_CLASSES.index("shirt")
assert all(shares[family][shirts] > 0.12 for family in names)

# %% [markdown]
# The GAN did not collapse onto a few images. It draws few trousers and sandals, but so does the VAE, and all six models
# draw too few sandals: a likelihood does not prevent it.
#
# The first row is the reference: the coverage of training images, and the classes of the 1,000 test images. On average
# a perfect model covers 73% with 300 samples, and 97% with 1,000, so compare coverages by equal
# numbers only. By chance 900 samples of ten equally likely classes are 0.04 from equal shares. Read
# each difference beside the spread: other seeds moved coverage as much.
#
# * The diffusion covers most, seven tenths of the test images. The Pixel RNN has fewer bits/dim and covers less than
#   half. But coverage also rewards smooth images: a blur alone takes the GAN from 37 to 60%, and training images from
#   78 to 92%.
# * In the mean no family's samples are as near to training images as test images are. Those of the diffusion are
#   nearest (1.1), those of the VAE and the Gaussian furthest (1.6).
# * The GAN covers a little more than Real NVP: 37 to 40% with three seeds, against 33 to 36%.
# * The VAE is two bits/dim better than the Gaussian and covers little more: 15 to 18% with three seeds, against 12%.
#   Without grain it covers about a fifth. From the latents of 300 training images, with grain, it covers four fifths.
#   So the decoder can draw clothes. The latents that the prior draws are unlike those of images.
# * Of the two runs on 4,500 images, the PixelCNN has the better likelihood and a coverage of 2%. The Diagonal BiLSTM
#   covers nearly five times as much. The PixelCNN sees only eight rows up; we suspect that this is too little, as 13
#   are for digits (chapter {ref}`pixelrnn-results`).
#
# So coverage and likelihood can put models in different orders: the two exact models on 4,500 images prove it.
# Neither is the quality of a generative model (chapter {ref}`not-everything`).
#
# ## Summary
#
# * A Pixel RNN states an exact likelihood, a GAN none, and the four others state a bound.
# * The loss of a diffusion is the error of a denoiser, and still counts bits.
# * A discriminator is a ratio, not a density: the trained one prefers negatives to real images.
# * A comparison of two scores proves something only if the worse one is exact, and then about two trained models, not
#   two families.
# * Coverage and likelihood put the two exact models on 4,500 images in different orders.
#
# ## Exercises
#
# ```{exercise} Build the sampler of the diffusion
# :label: ex-ancestral
#
# With $s < t$ and $c = 1 - \exp(\gamma(s) - \gamma(t))$, one step from $z_t$ to $z_s$ is
#
# $$
# z_s = \frac{\alpha_s}{\alpha_t} \left( z_t - \sigma_t c\, \hat e(z_t, \gamma(t)) \right) + \sigma_s \sqrt c\; e', \qquad e' \sim \mathcal N(0, I) .
# $$
#
# Begin with $z_1 \sim \mathcal N(0, I)$. The times are evenly spaced from 1 to 0. At the end,
# divide by $\alpha_0$ and round to the nearest level. Build
# `ancestral(model, n, steps, generator)` and check it against `model.sample`, which takes 128
# steps and draws $z_1$ first, then one $e'$ a step. What do samples look like after 4, 16 and 64 steps?
# ```
#
# ```{solution-start} ex-ancestral
# :class: dropdown
# ```
# Four steps give mostly blurred tops. Sixteen give shoes, bags and other shapes, and 64 add finer texture. The more
# steps, the closer the samples are to the model that the bound is about.


# %% mystnb={"figure": {"caption": "Ten samples of the diffusion in 4, 16 and 64 steps. None was selected by hand.", "name": "fig-few-steps"}, "image": {"alt": "Three rows of ten images of clothes. After 4 steps, blurred tops, but for a bag and a dark blot. After 16, boots, dresses, trousers and bags among them. After 64, shoes, tops, dresses and bags with finer texture."}}
def ancestral(model, n, steps, generator):
    """From noise to images in `steps` steps."""
    gamma_0, gamma_1 = model.config.gamma_0, model.config.gamma_1
    gammas = torch.linspace(gamma_1, gamma_0, steps + 1)
    z = torch.randn(n, *model.image_shape, generator=generator)
    for gamma_t, gamma_s in pairwise(gammas):
        alpha_t, alpha_s = ((-g).sigmoid().sqrt() for g in (gamma_t, gamma_s))
        sigma_t, sigma_s = (g.sigmoid().sqrt() for g in (gamma_t, gamma_s))
        c = 1 - (gamma_s - gamma_t).exp()
        z = z - sigma_t * c * model.network(z, gamma_t.expand(n))
        e = torch.randn(z.shape, generator=generator)
        z = alpha_s / alpha_t * z + sigma_s * c.sqrt() * e
    return (((z / alpha_s + 1) * 256 - 1) / 2).round().clamp(0, 255).byte()


mine = ancestral(diffusion, 1, 128, seeded())
theirs = diffusion.sample(1, generator=seeded())
assert (mine == theirs).double().mean() > 0.98
steps = {
    f"{k} steps": ancestral(diffusion, 10, k, seeded()) for k in (4, 16, 64)
}
sheets.plot_rows(steps)
plt.show()

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A likelihood for the GAN?
# :label: ex-parzen
#
# One could draw samples and put a little Gaussian on each (a *Parzen window*): that is a density. Do it for 200
# samples of the GAN on images of 14 × 14, and for as many real training images. Give each set the width that is best
# on held-out images. What does the score of test images measure?
# ```
#
# ```{solution-start} ex-parzen
# :class: dropdown
# ```
# In 196 dimensions two hundred windows cover next to nothing, and the best width makes a blur of each. The score
# measures how near samples are to test images. Even windows on *real* images score far below one Gaussian that is
# fitted to them, whose samples are no clothes. {cite:t}`theis2016note` give worse examples.


# %%
def parzen(centres, images, width):
    """Mean log density of windows, nats."""
    squares = torch.cdist(images, centres) ** 2
    constant = images.shape[1] / 2 * math.log(2 * math.pi * width**2)
    log_kernel = -squares / (2 * width**2) - constant
    return (log_kernel.logsumexp(1) - math.log(len(centres))).mean().item()


chooses = small(load(EMBEDDED, "train").images[4500:])  # scores nothing


def best_window(images):
    centres = small(images)
    widths = [w / 100 for w in range(6, 40, 2)]
    best = max(widths, key=lambda w: parzen(centres, chooses, w))
    return parzen(centres, balls, best)


real = train[::22][:200]
near = small(real)
drawn = gan.sample(200, generator=seeded(1))
covariance = near.T.cov() + 1e-3 * torch.eye(196)
of_normal = Normal(near[0], 0.2).log_prob(balls).sum(dim=1).mean().item()
twice = parzen(near[[0, 0]], balls, 0.2)
assert math.isclose(twice, of_normal, rel_tol=1e-4)
one = MultivariateNormal(near.mean(0), covariance)
of_one = one.log_prob(balls).mean().item()
of_gan, of_real = best_window(drawn), best_window(real)
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
# Let $z \sim \mathcal N(0, I)$ and $x \mid z \sim \mathcal N(W z, \sigma^2 I)$. Here the posterior is a Gaussian.
# Give $q$ its mean and covariance, and show that every weight equals the density $p(x)$, so that one draw is as good
# as a thousand. Which *diagonal* Gaussian $q$ has the least gap, and how large is it?
# ```
#
# ```{solution-start} ex-linear-vae
# :class: dropdown
# ```
# $p(z \mid x)$ has precision $A = I + W^{\mathsf T} W / \sigma^2$ and mean $A^{-1} W^{\mathsf T} x / \sigma^2$. With
# $q = p(z \mid x)$, {eq}`eq:weight` is $p(x)$ whatever $z$ is. Let a diagonal $q$ have the variances $d_i$. Up to a
# constant, $\mathrm{KL}(q \,\|\, p(z \mid x))$ is $\frac12 \sum_i (A_{ii} d_i - \log d_i)$, plus a square that is 0
# if $q$ has the mean of the posterior. So the best $q$ has this mean, and $d_i = 1 / A_{ii}$. Its gap is $\frac12
# (\sum_i \log A_{ii} - \log\det A)$. By Hadamard's inequality it is not negative.

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
least = kl_divergence(diagonal, posterior).item()
assert math.isclose(least, expected)
for _ in range(20):
    factors = (0.2 * torch.randn(3, generator=generator).double()).exp()
    other = MultivariateNormal(centre, (factors / A.diagonal()).diag())
    assert kl_divergence(other, posterior) > least
print(f"gap of the diagonal q: {gaps['diagonal']:.2f} nats")

# %% [markdown]
# ```{solution-end}
# ```
