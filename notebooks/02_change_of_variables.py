# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (change-of-variables)=
# # Change of variables
#
# Step two of the {ref}`game plan <game-plan>` is to write the likelihood so that it can be computed. A **normalizing
# flow** starts from a density that is normalised already, a Gaussian, and *moves* it by an invertible map. The change
# of variables says what happens to the density.
#
# ```{admonition} In the paper
# Section 3.1, equations 2 and 3, of {cite:t}`dinh2017realnvp`, and equation 1 of its section 2.
# ```

# %% tags=["parameters", "remove-cell"]
profile = "laptop"

# %% tags=["hide-input"]
import math
import timeit

import matplotlib.pyplot as plt
import torch
from matplotlib.collections import LineCollection
from nvp_book import figures
from nvp_book.figures import densities
from nvp_book.selection import in_powers
from torch import nn
from torch.func import grad, jacrev, vmap
from torch.nn import functional as F

from nvp.data import EMBEDDED, load

figures.use_style()
torch.set_num_threads(1)  # nothing here is large enough to share

# %% [markdown]
# ## On the line
#
# What happens to the density of one number? As in the paper, $f$ goes from data to latent,
# $z = f(x)$, and $g = f^{-1}$ goes back, $x = g(z)$. We choose the density $p_Z$ of the latents,
# the **prior**.
#
# ```{prf:theorem} Change of variables on the line
# :label: thm-line
#
# Let $Z$ be a random variable with a continuous density $p_Z$, let $f: \mathbb R \to \mathbb R$ be
# a differentiable bijection, and let $X = g(Z)$ with $g = f^{-1}$. Then $X$ has the density
#
# $$
# p_X(x) = p_Z\bigl(f(x)\bigr)\, \bigl|f'(x)\bigr|.
# $$ (eq:line)
# ```
#
# ```{prf:proof}
# Work with cumulative distribution functions, which are probabilities, and differentiate at the end. Since $f$ is
# continuous and one-to-one, it is monotone. Suppose that it increases. Apply $f$ to both sides of the inequality:
#
# $$
# F_X(x) = P\bigl(g(Z) \le x\bigr) = P\bigl(Z \le f(x)\bigr) = F_Z\bigl(f(x)\bigr)
#   = \int_{-\infty}^{f(x)} p_Z(z)\, dz .
# $$ (eq:cdf)
#
# Differentiate, by the fundamental theorem of calculus and the chain rule:
#
# $$
# p_X(x) = F_X'(x) = p_Z\bigl(f(x)\bigr)\, f'(x).
# $$
#
# If $f$ decreases, the inequality turns round: $F_X(x) = 1 - F_Z(f(x))$, with the derivative
# $-p_Z(f(x))\, f'(x)$, which is not negative, as $f' \le 0$. Both cases are {eq}`eq:line`.
# ```
#
# For example, let $Z$ be a unit Gaussian and $f(x) = 4x$. Then $p_X(x) = 4\, p_Z(4x)$, a Gaussian of a quarter of the
# width and four times the height. Its peak is 1.6: a density may exceed 1. Where $|f'| > 1$, a short interval of $x$
# receives the probability of a longer interval of $z$, so $p_X(x)$ exceeds $p_Z$ at $f(x)$.
# The next $f$ is flat in the middle and steep on both sides:


# %%
def f(x):
    """Data to latent. f' = 1 - 0.8 cos 2x > 0, so it is a bijection."""
    return x - 0.4 * torch.sin(2 * x)


def p_z(z):
    """The unit Gaussian."""
    return torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


x = torch.linspace(-5, 5, 1001, dtype=torch.float64)
p_x = p_z(f(x)) * vmap(grad(f))(x).abs()
integral = torch.trapezoid(p_x, x)
assert abs(integral - 1) < 1e-5
print(f"the integral of p_X is {integral:.4f}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The change of variables on the line. The curve is $f$. The eight slabs of $p_Z$, on the left, hold an eighth of the probability each. Followed through the curve they become the slabs of $p_X$ below, with other widths and heights and the same areas.", "name": "fig-line"}, "image": {"alt": "A wavy increasing curve z = f(x). To its left a Gaussian density over z, cut into eight horizontal slabs; below it a density over x with two peaks, cut into the eight slabs that correspond."}}
window = slice(50, -50)  # where nearly all of the mass is
densities.plot_map(x[window], f(x)[window], p_x[window], p_z(f(x))[window])
plt.show()

# %% [markdown]
# The one peak of the Gaussian has become two, and no probability was lost.
#
# ## A flow that learns
#
# Now we learn $f$. A network of one input increases if its weights are positive (by `F.softplus`) and its activations
# increase. With the term $a x$ its values fill the line, so this is a bijection:
#
# $$
# f(x) = b + a x + \sum_k w_k \tanh\bigl(v_k (x - c_k)\bigr), \qquad a, w_k, v_k > 0 .
# $$ (eq:monotone)


# %%
class MonotoneFlow(nn.Module):
    """f of one number, with its log-derivative."""

    def __init__(self, units=8):
        super().__init__()
        self.b = nn.Parameter(torch.zeros(()))
        self.c = nn.Parameter(torch.linspace(-2, 2, units))
        self.raw_a = nn.Parameter(torch.zeros(()))
        self.raw_w = nn.Parameter(torch.full((units,), -2.0))
        self.raw_v = nn.Parameter(torch.ones(units))

    def forward(self, x):
        """(N,) -> z (N,), log f'(x) (N,)."""
        a, w, v = map(F.softplus, (self.raw_a, self.raw_w, self.raw_v))
        h = torch.tanh(v * (x[:, None] - self.c))
        z = self.b + a * x + (w * h).sum(dim=1)
        slope = a + (w * v * (1 - h**2)).sum(dim=1)
        return z, slope.log()


flow = MonotoneFlow()
x = torch.randn(100)
by_autograd = vmap(grad(lambda x: flow(x[None])[0][0]))(x)
assert torch.allclose(flow(x)[1], by_autograd.log(), atol=1e-5)

# %% [markdown]
# The data are one number for each image: its share of black pixels, scaled to mean 0 and variance 1. We treat the
# shares, multiples of 1/784, as real numbers. (Chapter {ref}`integers-to-bits` treats integers with care.)


# %%
def black(split):
    return (load(EMBEDDED, split).images == 0).float().mean(dim=(1, 2, 3))


train, test = black("train"), black("test")
train, test = ((x - train.mean()) / train.std() for x in (train, test))

# %% [markdown]
# The loss is minus the logarithm of {eq}`eq:line`. Its first term pulls all $z$ to 0, and the log-derivative rewards
# stretching.


# %%
def loss(flow, x):
    """-log p_X(x) in nats, averaged."""
    z, log_slope = flow(x)
    return (z**2 / 2 + math.log(2 * math.pi) / 2 - log_slope).mean()


def learn(flow, loss, steps=400):
    optimiser = torch.optim.Adam(flow.parameters(), lr=0.05, fused=True)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(flow, train).backward()
        optimiser.step()
    return flow


flow = learn(MonotoneFlow(), loss)
gaussian = (test.square().mean() + math.log(2 * math.pi)) / 2
print(f"test images: {gaussian - loss(flow, test):.2f} nats below a Gaussian")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A learned flow on the line. Left: the share of black pixels of 5,000 garments, the best Gaussian (dashed), and the density of the flow. Middle: $f$, and the nearly straight curve that it started from (dashed). Right: the same garments as $z = f(x)$, and the unit Gaussian.", "name": "fig-monotone"}, "image": {"alt": "Three panels. Left, a histogram with two peaks; the dashed Gaussian has its peak in the valley between, the solid curve follows both peaks. Middle, an increasing curve beside a dashed line, steep at both peaks and again at both ends. Right, a histogram in the shape of a bell, under the curve of the unit Gaussian."}}
grid = torch.linspace(-3.2, 3.2, 400)
with torch.no_grad():
    start, (end, log_slope) = MonotoneFlow()(grid)[0], flow(grid)
    curves = {
        "share of black pixels, scaled": (train, p_z(end) * log_slope.exp()),
        "$z = f(x)$": (flow(train)[0], p_z(grid)),
    }
_, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 2.6))
for ax, (name, (values, p)) in zip(axes[::2], curves.items(), strict=True):
    ax.hist(values.numpy(), bins=60, density=True, color=figures.SKY)
    ax.plot(grid, p, color=figures.VERMILION)
    ax.set(xlabel=name, ylabel="density", xlim=(-3.2, 3.2), ylim=(0, 0.5))
axes[0].plot(grid, p_z(grid), "--", color=figures.INK, lw=1.2)
axes[1].plot(grid, start, "--", color=figures.INK, lw=1.2)
axes[1].plot(grid, end, color=figures.VERMILION)
axes[1].set(xlabel="$x$", ylabel="$f(x)$")
plt.show()

# %% [markdown]
# Training made $f$ steep at both peaks, and less steep between them. The values $f(x)$ of the garments look Gaussian.
#
# To sample, draw $z$ and return $g(z)$. This $f$ has no inverse in closed form, but bisection finds it:


# %%
@torch.no_grad()
def g(flow, z, steps=50):
    """Solve f(x) = z: we always know on which side the solution is."""
    low, high = torch.full_like(z, -9.0), torch.full_like(z, 9.0)
    for _ in range(steps):
        middle = (low + high) / 2
        too_low = flow(middle)[0] < z
        low = torch.where(too_low, middle, low)
        high = torch.where(too_low, high, middle)
    return (low + high) / 2


z = torch.randn(1000, generator=torch.Generator().manual_seed(0))
assert (flow(g(flow, z))[0] - z).abs().max() < 1e-4

# %% [markdown]
# One sample costs fifty evaluations of $f$, and bisection exists in one dimension only.
#
# ## In many dimensions
#
# What takes the place of $f'$ for an image of $D$ numbers?
#
# ```{prf:theorem} Change of variables
# :label: thm-change
#
# Let $Z$ have the density $p_Z$ on an open set of $\mathbb R^D$. Let $f$ be a bijection onto it from an open set $U$,
# continuously differentiable, with a Jacobian that is nowhere singular. Let $X = f^{-1}(Z)$. Then, on $U$ (equations 2
# and 3 of the paper),
#
# $$
# p_X(x) &= p_Z\bigl(f(x)\bigr) \left|\det \frac{\partial f(x)}{\partial x^{\mathsf T}}\right|, \\
# \log p_X(x) &= \log p_Z\bigl(f(x)\bigr)
#   + \log \left|\det \frac{\partial f(x)}{\partial x^{\mathsf T}}\right|.
# $$ (eq:change)
# ```
#
# ```{prf:proof}
# In outline. Near $x$ the map is linear up to a smaller error:
# $f(x + \delta) \approx f(x) + J\delta$ with $J = \partial f(x)/\partial x^{\mathsf T}$. A linear
# map $J$ sends a small box of volume $V$ to a parallelepiped of volume $|\det J|\, V$.
# The probability that $X$ is in the box is the probability that $Z$ is in
# its image, $p_X(x)\, V \approx p_Z(f(x))\, |\det J|\, V$. Divide by $V$ and let the box shrink.
# (In full, this is the substitution rule for integrals in several variables.)
# ```
#
# At $z = f(x)$ the Jacobians of $f$ and $g$ are inverse matrices, which gives equation 1 of the paper:
#
# $$
# p_X(x) = p_Z(z) \left|\det \frac{\partial g(z)}{\partial z^{\mathsf T}}\right|^{-1} .
# $$
#
# The two directions have names:
#
# * **Inference**, $x \mapsto z = f(x)$, gives the latent of an image and, by {eq}`eq:change`, its density. It is exact,
#   and training needs this direction alone.
# * **Sampling**, $x = g(z)$, gives an image for a latent $z \sim p_Z$.
#
# Bijections compose. For $f = f_2 \circ f_1$ the chain rule multiplies the Jacobians, so the log-determinants add.
# The next cell checks this, and that $p_X$ integrates to 1. `swirl` rotates points about the origin, by a larger angle
# near it; `bend` shifts and scales the second coordinate by functions of the first.


# %%
def swirl(x, sign=1):
    """Turn by an angle that depends on the radius; sign -1 turns back."""
    angle = sign * 1.5 * torch.exp(-x.square().sum(-1) / 4)
    cos, sin = angle.cos(), angle.sin()
    x1, x2 = x.unbind(-1)
    return torch.stack([cos * x1 - sin * x2, sin * x1 + cos * x2], dim=-1)


def bend(x):
    x1, x2 = x.unbind(-1)
    return torch.stack([x1, (x2 - x1**2 / 3 + 1) * torch.exp(x1.cos())], -1)


def unbend(z):
    z1, z2 = z.unbind(-1)
    return torch.stack([z1, z2 * torch.exp(-z1.cos()) + z1**2 / 3 - 1], -1)


def log_det(f, x):
    """log |det df/dx| by automatic differentiation: (N, 2) -> (N,)."""
    return torch.linalg.slogdet(vmap(jacrev(f))(x)).logabsdet


def f(x):
    return bend(swirl(x))


def g(z):
    return swirl(unbend(z), sign=-1)


side = torch.linspace(-8, 8, 401, dtype=torch.float64)
plane = torch.cartesian_prod(side, side)
of_f = log_det(f, plane)
log_p = p_z(f(plane)).log().sum(dim=1) + of_f  # equation 3
integral = log_p.exp().sum() * (side[1] - side[0]) ** 2
assert abs(integral - 1) < 1e-3
print(f"the integral of p_X is {integral:.3f}")
parts = log_det(swirl, plane) + log_det(bend, swirl(plane))
assert torch.allclose(g(f(plane)), plane)
assert torch.allclose(of_f, parts)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Left: the density $p_X$ in data space, and the square grid of latent space carried there by $g$. Middle: that grid, on $p_Z$ in the same colours. Right: a square grid of data space, carried to latent space by $f$.", "name": "fig-plane"}, "image": {"alt": "Three panels. Left, a bright, twisted crescent, under a grid whose cells are small where it is bright. Middle, a round spot, dimmer than the crescent, under a square grid. Right, a grid that is wound around the centre and bent, with large cells in the middle."}}
across = torch.linspace(-3, 3, 17, dtype=torch.float64)
along = torch.linspace(-3, 3, 200, dtype=torch.float64)
vertical = torch.cartesian_prod(across, along).reshape(17, 200, 2)
grid = torch.cat([vertical, vertical.flip(-1)])  # 34 lines of 200 points
panels = {
    "$p_X$, and $g$ of a grid": (log_p.exp(), g(grid)),
    "$p_Z$, and the grid": (p_z(plane).prod(dim=1), grid),
    "$f$ of a grid": (None, f(grid)),
}
_, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 2.6))
for ax, (title, (density, curves)) in zip(axes, panels.items(), strict=True):
    if density is not None:
        # White lines would vanish on the brightest colours.
        scale = {"vmin": 0, "vmax": 1.5 * log_p.exp().max()}
        densities.show_map(ax, density.reshape(401, 401), -8, 8, **scale)
    colour = figures.INK if density is None else "white"
    ax.add_collection(LineCollection(curves.numpy(), color=colour, lw=0.5))
    ax.set_title(title)
    densities.set_plane(ax, 3.2)
plt.show()

# %% [markdown]
# Where cells of the left grid are smaller than those of the middle grid, $g$ compresses. There $p_X$ is higher than
# $p_Z$ at the same crossing of lines.
#
# ## Two obstacles: cost and conditioning
#
# Section 2 of the paper calls a naive use of the formula expensive and *poorly conditioned*.
#
# **Expensive.** Suppose that $f$ is any network that happens to be invertible. Its Jacobian has $D^2$ entries, and
# automatic differentiation needs $D$ passes to fill it. Gaussian elimination then takes about $D^3/3$
# multiplications, for each image. A **triangular** matrix takes $D$: its determinant is the
# product of its diagonal. The other entries need not be computed.

# %% tags=["hide-input"]
images = {"28 × 28": 784, "32 × 32 × 3": 3072, "64 × 64 × 3": 12288}
rows = []
for name, size in images.items():
    power = in_powers(f"{size**3 / 3:.0e}")
    memory = f"{size**2 * 4 / 2**20:.0f} MiB"  # 4 bytes each
    rows.append([name, f"{size:,}", memory, power, f"{size:,}"])
header = ["image", "$D$", "its Jacobian", "multiplications", "if triangular"]
figures.show_table(header, rows)

# %% [markdown]
# The next figure times the whole Jacobian and the diagonal, for one triangular layer
# $x \mapsto W x$.


# %%
def by_elimination(W):
    return torch.linalg.slogdet(W).logabsdet


def by_diagonal(W):
    """log |det W| of a triangular W."""
    return W.diagonal().abs().log().sum()


def by_jacobian(W):
    """log |det W|, where W is found as the Jacobian of x -> W x."""
    return by_elimination(jacrev(lambda x: W @ x)(torch.ones(len(W))))


def seconds(log_det, W):
    """The shortest of three calls."""
    return min(timeit.repeat(lambda: log_det(W), number=1, repeat=3))


sizes = [64, 128, 256, 512, 1024, 2048]
matrices = [torch.eye(n) + torch.ones(n, n).tril() / n for n in sizes]
assert torch.allclose(by_jacobian(matrices[0]), by_diagonal(matrices[0]))

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Measured seconds for the log-determinant of one layer and one input, against the dimension. Red: the Jacobian by automatic differentiation, then its determinant. Dashed: time that grows with the third power.", "name": "fig-determinant"}, "image": {"alt": "Two curves over the dimension, 64 to 2,048, both axes logarithmic. The red one rises by about three powers of ten and comes to run along a dashed line. The blue one is far below it and almost flat."}}
whole = [seconds(by_jacobian, W) for W in matrices]
diagonal = [seconds(by_diagonal, W) for W in matrices]
cubes = [whole[-1] * (n / sizes[-1]) ** 3 for n in sizes]
_, ax = plt.subplots(figsize=(figures.WIDTH * 0.6, 2.8))
ax.loglog(sizes, cubes, "--", color=figures.INK)
ax.loglog(sizes, whole, "o-", ms=4, color=figures.VERMILION)
ax.loglog(sizes, diagonal, "s-", ms=4, color=figures.BLUE)
red = figures.ink_of(figures.VERMILION)  # letters need more contrast
ax.text(70, whole[-1] / 10, "whole Jacobian", color=red)
ax.text(130, 2e-5, "diagonal", color=figures.BLUE)
ax.set(xlabel="dimension", ylabel="seconds")
plt.show()

# %% [markdown]
# For large $D$ the time for the whole Jacobian grows with the third power. The diagonal hardly
# takes longer.
#
# **Poorly conditioned.** The *condition number* of a matrix is its largest singular value over its smallest. In
# float32 a product of Jacobians has errors of $10^{-7}$ times its largest entry, or more. Singular values below this
# error are noise, and so is their part of the log-determinant. In a deep network the condition number can grow with
# every layer. The next cell stacks layers $x \mapsto h + \tanh h$ with $h = Wx$ and random $64 \times 64$ matrices
# $W$. It finds the condition number of the whole Jacobian, and its log-determinant in float32. The
# exact value, for comparison, is the sum over layers in float64.


# %%
def stack(weights, x, log_det=by_elimination):
    """All layers: the output, and the sum of their log-determinants."""
    total = 0.0
    for W in weights:
        h = W @ x
        slopes = 2 - torch.tanh(h) ** 2  # of h + tanh h
        total = total + log_det(W) + slopes.log().sum()
        x = h + torch.tanh(h)
    return x, total


generator = torch.Generator().manual_seed(0)
full = torch.randn(16, 64, 64, generator=generator, dtype=torch.float64) / 8
x = torch.randn(64, generator=generator, dtype=torch.float64)


def jacobian(weights, x):
    """Of all layers together."""
    return jacrev(lambda x: stack(weights, x)[0])(x)


depths, conditions, errors = range(1, 17), [], []
for depth in depths:
    weights = full[:depth]
    conditions.append(torch.linalg.cond(jacobian(weights, x)))
    found = by_elimination(jacobian(weights.float(), x.float()))
    errors.append((found - stack(weights, x)[1]).abs())

# %% [markdown]
# But log-determinants of layers add. The next cell sums them in float32, for these $W$ and for triangular ones.

# %%
triangular = full.tril()
easy, summed = [], []
for depth in depths:
    kinds = [(triangular, by_diagonal, easy), (full, by_elimination, summed)]
    for W, of, found in kinds:
        float32 = stack(W[:depth].float(), x.float(), of)[1]
        found.append((float32 - stack(W[:depth], x, of)[1]).abs())
assert errors[-1] > 10 > 0.01 > max(*easy, *summed)

# %% tags=["remove-cell"]
eps = [torch.finfo(dtype).eps for dtype in (torch.float32, torch.float64)]
assert conditions[3] < 1 / eps[0] < conditions[4]
assert conditions[11] < 1 / eps[1] < min(conditions[12:])

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Left: condition number of the Jacobian of a random network of 64 dimensions. Above the dashed line float32 cannot hold its singular values. Above the dotted line float64 cannot either: do not trust the last four points. Right: error of its log-determinant in float32, by one determinant of the Jacobian and by sums over layers.", "name": "fig-conditioning"}, "image": {"alt": "Two logarithmic plots over the number of layers, 1 to 16. Left, the condition number rises from a thousand to more than ten to the sixteen. It crosses a dashed line at ten to the seven after four layers, and a dotted one near ten to the sixteen after twelve. Right, the error by one determinant rises from a hundred-thousandth to about a hundred nats; those of both sums stay below a thousandth."}}
_, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 2.8))
axes[0].semilogy(depths, conditions, "o-", ms=4, color=figures.VERMILION)
for dtype, style in ((torch.float32, "--"), (torch.float64, ":")):
    axes[0].axhline(1 / torch.finfo(dtype).eps, color=figures.INK, ls=style)
axes[0].set(xlabel="layers", ylabel="condition number")
axes[1].semilogy(depths, errors, "o-", ms=4, color=figures.VERMILION)
axes[1].semilogy(depths, easy, "s-", ms=4, color=figures.BLUE)
axes[1].semilogy(depths, summed, "^-", ms=4, color=figures.GREEN)
axes[1].text(9, 30, "one determinant", ha="right", color=red)
axes[1].text(16, 2e-3, "triangular, summed", ha="right", color=figures.BLUE)
axes[1].text(8, 1.5e-6, "full, summed", color=figures.ink_of(figures.GREEN))
axes[1].set(xlabel="layers", ylabel="error of log |det|, nats")
plt.show()

# %% [markdown]
# After five layers the condition number is more than float32 can hold. After sixteen, one determinant makes the
# log-likelihood of *one* input wrong by tens of nats. A sum over layers is accurate although the Jacobian is poorly
# conditioned. Its error stays below 0.01, for full $W$ as for triangular ones. Triangular matrices save the cost.
#
# ## Why triangular Jacobians
#
# {eq}`eq:change` needs only the determinant, not the Jacobian, and determinants of compositions multiply. So we look
# for layers that are *flexible, have a triangular Jacobian, and are as easy to invert as to apply.* And where are the
# deep networks? They come in {ref}`coupling-layers`, where nobody has to invert them or to know their Jacobians.
#
# ## An old formula
#
# Flows are older than their name. First the maps grew richer. *Independent component analysis* has a linear $f$,
# and a prior that is not Gaussian {cite}`bell1995ica`. *Gaussianization* alternates rotations with maps of single
# coordinates, such as our monotone flow {cite}`chen2000gaussianization`. {cite:t}`tabak2010dual` and
# {cite:t}`tabak2013family` compose many simple maps. *Deep density models* learn a deep bijective network
# {cite}`rippel2013deep`. Then the maps grew cheaper. The layers of *NICE* {cite}`dinh2015nice` have a cheap
# determinant and a cheap inverse. Those of {cite:t}`rezende2015flows`, half a year later, have no cheap inverse.
#
# ## Summary
#
# * A flow is an invertible $f$ and a simple $p_Z$. Its density {eq}`eq:change` is exact, and normalised for any
#   parameters.
# * $\log p_X$ has two terms: how probable the latent is, and how much $f$ stretches space there.
# * Inference and sampling are one pass each, if $f$ is as easy to invert as to apply.
# * A general determinant is expensive; a triangular one is a product. The Jacobian of a deep network can be poorly
#   conditioned; a sum over layers does not need it.
#
# ## Exercises
#
# ```{exercise} Another prior
# :label: ex-prior
#
# Build it: "any distribution could be used" for $p_Z$, says section 4.1. Write the loss for a logistic prior,
# $\log p_Z(z) = -z - 2 \log (1 + e^{-z})$, and train `MonotoneFlow` with it. Does $p_X$ change? Does $f$?
# ```
#
# ```{solution-start} ex-prior
# :class: dropdown
# ```
# $p_X$ hardly changes, because $f$ adapts. By $F_X(x) = F_Z(f(x))$ an increasing $f$ is fixed by $p_X$ and $p_Z$. So
# the new $f$ is nearly the old one, followed by the monotone map that takes the unit Gaussian to the logistic
# distribution.


# %%
def logistic_loss(flow, x):
    z, log_slope = flow(x)
    return (z + 2 * F.softplus(-z) - log_slope).mean()


logistic = learn(MonotoneFlow(), logistic_loss)
difference = logistic_loss(logistic, test) - loss(flow, test)
assert abs(difference) < 0.02
with torch.no_grad():
    (z, log_slope), (new, new_slope) = flow(test), logistic(test)
p_new = (-new - 2 * F.softplus(-new) + new_slope).exp()
assert (p_z(z) * log_slope.exp() - p_new).abs().max() < 0.05
assert (new - z).abs().max() > 1  # another f
followed = torch.logit(torch.special.ndtr(z))  # Gaussian to logistic
assert (new - followed)[z.abs() < 2].abs().max() < 0.2

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Without the determinant
# :label: ex-no-determinant
#
# Train `MonotoneFlow` on the first term only, $-\log p_Z(f(x))$. What does $f$ become, and which value does the loss
# approach? Is it a likelihood?
# ```
#
# ```{solution-start} ex-no-determinant
# :class: dropdown
# ```
# $f$ maps all data nearly to 0, the most probable latent, and the loss falls towards $\frac12 \log 2\pi = 0.92$, far
# below that of the trained flow. It is no likelihood: without the derivative, $p_Z(f(x))$ does not integrate to 1.


# %%
def first_term(flow, x):
    z, _ = flow(x)
    return (z**2 / 2 + math.log(2 * math.pi) / 2).mean()


collapsed = learn(MonotoneFlow(), first_term)
assert first_term(collapsed, test) < 0.95 < loss(flow, test) - 0.3
assert collapsed(test)[0].std() < 0.2

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Units
# :label: ex-units
#
# A model of people's heights in metres has the density $p$. What is the density of the height in
# centimetres, and by how much does the log-likelihood change? What about $D$ heights at a time?
# ```
#
# ```{solution-start} ex-units
# :class: dropdown
# ```
# The map from centimetres to metres is $f(x) = x / 100$, so $\log p_X(x) = \log p(x/100) - \log 100$. For $D$ heights
# the log-likelihood is lower by $D \log 100$. Log-densities of continuous data depend on the unit; differences
# between two models do not.

# %%
metres = torch.distributions.Normal(1.7, 0.1)
centimetres = torch.distributions.Normal(170.0, 10.0)
height = torch.tensor(181.0)
change = centimetres.log_prob(height) - metres.log_prob(height / 100)
assert torch.isclose(change, torch.tensor(-math.log(100)))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Box and Muller
# :label: ex-box-muller
#
# Take independent $u_1, u_2$, uniform in $(0, 1)$, $r = \sqrt{-2 \log u_1}$, and
# $x = (r \cos 2\pi u_2,\; r \sin 2\pi u_2)$. Show with {eq}`eq:change` that $x$ is Gaussian. Which
# of $f$ and $g$ is the map given here? *Hint*: go through polar coordinates.
# ```
#
# ```{solution-start} ex-box-muller
# :class: dropdown
# ```
# It is $g$, from latent (uniform, density 1) to data. In polar coordinates the element of area is
# $r\, \mathrm dr\, \mathrm d\varphi$. Here $|\mathrm dr / \mathrm du_1| = 1 / (r u_1)$ and $\varphi = 2\pi u_2$. So
# $|\det \partial g / \partial u^{\mathsf T}| = r \cdot \frac{1}{r u_1} \cdot 2\pi = 2\pi / u_1$. The determinant
# of $f$ is the reciprocal. And
# $u_1 = e^{-\lVert x \rVert^2/2}$, so $p_X(x) = u_1 / 2\pi = e^{-\lVert x \rVert^2/2} / 2\pi$, except on a half-line of
# probability 0. With autograd:


# %%
def box_muller(u):
    radius = torch.sqrt(-2 * torch.log(u[0]))
    angle = 2 * math.pi * u[1]
    return radius * torch.stack([torch.cos(angle), torch.sin(angle)])


generator = torch.Generator().manual_seed(4)
u = torch.rand(100, 2, dtype=torch.float64, generator=generator)
points = vmap(box_muller)(u)
log_density = -log_det(box_muller, u)  # p_Z = 1
assert torch.allclose(log_density, p_z(points).log().sum(dim=1))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A map that is not one to one
# :label: ex-square
#
# Let $X = Z^2$, where $Z$ is a unit Gaussian. {prf:ref}`thm-line` does not apply. What is $p_X$? (Follow its proof.)
# ```
#
# ```{solution-start} ex-square
# :class: dropdown
# ```
# For $x < 0$ the density is 0. For $x > 0$ there are two roots, and
# $F_X(x) = P(-\sqrt x \le Z \le \sqrt x)$ $= F_Z(\sqrt x) - F_Z(-\sqrt x)$. Its derivative is the
# sum over both,
#
# $$
# p_X(x) = \frac{p_Z(\sqrt x) + p_Z(-\sqrt x)}{2 \sqrt x} ,
# $$
#
# the chi-squared density with one degree of freedom.

# %%
x_square = torch.linspace(0.1, 5, 50, dtype=torch.float64)
root = x_square.sqrt()
by_roots = (p_z(root) + p_z(-root)) / (2 * root)
one_degree = torch.distributions.Chi2(torch.ones((), dtype=torch.float64))
assert torch.allclose(by_roots, one_degree.log_prob(x_square).exp())

# %% [markdown]
# ```{solution-end}
# ```
