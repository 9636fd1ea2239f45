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
# ```{admonition} In the paper
# Section 3.1, equations 2 and 3, and figure 1 of {cite:t}`dinh2017realnvp`.
# ```
#
# Chapter {ref}`density-estimation` ended with a question: how can a model be as powerful as a network and
# still be normalised? A **flow** starts from a density that is normalised already, a Gaussian, and *moves*
# it: an invertible map carries probability from place to place and loses none. What it does to the density
# is the change of variables, which is all that this chapter is about.

# %% tags=["parameters"]
profile = "laptop"

# %%
import math

import matplotlib.pyplot as plt
import torch
from nvp_book import figures
from nvp_book.figures import densities
from nvp_book.selection import in_powers

from nvp.flows.toy import ToyData, ToyFlow, fit

figures.use_style()
torch.set_num_threads(1)  # nothing here is large enough to share

# %% [markdown]
# ## On the line
#
# The paper's direction, and that of this book throughout: $f$ goes from data to latent, $z = f(x)$,
# and $g = f^{-1}$ back, $x = g(z)$.
#
# ```{prf:theorem} Change of variables on the line
# :label: thm-line
#
# Let $Z$ be a random variable with density $p_Z$, let $f: \mathbb R \to \mathbb R$ be a differentiable
# bijection with $f'(x) \neq 0$ everywhere, and let $X = g(Z)$ with $g = f^{-1}$. Then $X$ has the density
#
# $$
# p_X(x) = p_Z\bigl(f(x)\bigr)\, \bigl|f'(x)\bigr|.
# $$ (eq:line)
# ```
#
# ```{prf:proof}
# Work with cumulative distribution functions, which are probabilities, and differentiate at the end.
# Since it is continuous and one-to-one, $f$ is monotone. Say it increases; then
#
# $$
# F_X(x) = P\bigl(g(Z) \le x\bigr) = P\bigl(Z \le f(x)\bigr) = F_Z\bigl(f(x)\bigr),
# $$ (eq:cdf)
#
# where the middle step applies $f$ to both sides of an inequality. Differentiate, by the chain rule:
#
# $$
# p_X(x) = F_X'(x) = F_Z'\bigl(f(x)\bigr)\, f'(x) = p_Z\bigl(f(x)\bigr)\, f'(x).
# $$
#
# If $f$ decreases, the inequality turns round: $F_X(x) = 1 - F_Z(f(x))$, with the derivative
# $-p_Z(f(x))\, f'(x)$, which is positive as $f' < 0$. Both cases are {eq}`eq:line`.
# ```
#
# The factor $|f'(x)|$ is what keeps the books: where $f$ is steep, a short stretch of $x$ receives
# the probability of a long stretch of $z$, and is dense. Here is an $f$ that is flat in the middle
# and steep on both sides. It makes two bumps of the Gaussian's one.


# %%
def f(x):
    """Data to latent. f' = 1 - 0.8 cos 2x > 0, so it is a bijection."""
    return x - 0.4 * torch.sin(2 * x)


def p_z(z):
    """The unit Gaussian."""
    return torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


x = torch.linspace(-5, 5, 2001, dtype=torch.float64)
f_prime = torch.func.vmap(torch.func.grad(f))(x)
p_x = p_z(f(x)) * f_prime.abs()

# %% [markdown]
# Is it a density? It is positive, and by {eq}`eq:line` it should integrate to 1.

# %%
integral = torch.trapezoid(p_x, x)
assert abs(integral - 1) < 1e-5
print(f"the integral of p_X is {integral:.4f}")

# %% mystnb={"figure": {"caption": "The change of variables on the line. The curve is $f$. The eight slabs of $p_Z$, on the left, hold an eighth of the probability each; followed through the curve they become the slabs of $p_X$ below, of other widths and heights and the same areas. Flat stretches of $f$ thin the probability out, steep ones heap it up. (No figure in the paper.)", "name": "fig-line"}, "image": {"alt": "A wavy increasing curve z = f(x). To its left a Gaussian density over z, cut into eight horizontal slabs; below it a density over x with two peaks, cut into the eight slabs that correspond."}}
window = slice(100, -100)  # where nearly all of the mass is
densities.draw_map(x[window], f(x)[window], p_x[window], p_z(f(x))[window])
plt.show()

# %% [markdown]
# ### Sampling, and what it costs here
#
# To make an $x$, draw $z$ from the Gaussian and return $g(z)$. But this $f$ has no inverse that one
# could write down. On the line, bisection helps: $f$ increases, so we always know on which side of
# the solution we are.


# %%
def g(z, steps=50):
    """Latent to data: solve f(x) = z by bisection."""
    low, high = torch.full_like(z, -9.0), torch.full_like(z, 9.0)
    for _ in range(steps):
        middle = (low + high) / 2
        too_low = f(middle) < z
        low = torch.where(too_low, middle, low)
        high = torch.where(too_low, high, middle)
    return (low + high) / 2


generator = torch.Generator().manual_seed(0)
z = torch.randn(100_000, dtype=torch.float64, generator=generator)
samples = g(z)
assert (f(samples) - z).abs().max() < 1e-12

# %% [markdown]
# Do the samples follow the formula? By {eq}`eq:cdf` the distribution function of $X$ is
# $F_Z(f(x))$. The largest distance between it and that of $N$ samples, times $\sqrt N$, stays below
# 1.63 in 99 of 100 experiments if they do (Kolmogorov and Smirnov).

# %%
ordered = samples.sort().values
expected = torch.special.ndtr(f(ordered))
seen = torch.arange(1, len(ordered) + 1) / len(ordered)
distance = (seen - expected).abs().max() * math.sqrt(len(ordered))
assert distance < 1.63
print(f"distance x sqrt(N) = {distance:.2f}")

# %% mystnb={"figure": {"caption": "A hundred thousand samples $g(z)$, $z \\sim \\mathcal N(0, 1)$, and the density that {eq}`eq:line` gives without a single one of them. (No figure in the paper.)", "name": "fig-histogram"}, "image": {"alt": "A histogram with two peaks near -1.2 and 1.2, and a curve that follows it closely."}}
densities.draw_histogram(samples, x[window], p_x[window])
plt.show()

# %% [markdown]
# Note what we did: fifty evaluations of $f$ for one sample, and a trick that exists in one dimension
# only. An inverse that is as cheap as the map itself is one of the two things that Real NVP is
# built to have. The other is the determinant.
#
# ## In many dimensions
#
# ```{prf:theorem} Change of variables
# :label: thm-change
#
# Let $Z$ have the density $p_Z$ on $\mathbb R^D$, let $f$ be a bijection of $\mathbb R^D$, continuously
# differentiable with a Jacobian that is nowhere singular, and let $X = f^{-1}(Z)$. Then (equations 2
# and 3 of the paper)
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
# $f(x + \delta) \approx f(x) + J\delta$ with $J = \partial f(x)/\partial x^{\mathsf T}$. A linear map $J$ sends a
# small box of volume $v$ to a parallelepiped of volume $|\det J|\, v$; that is what a determinant
# measures. The probability that $X$ is in the box is the probability that $Z$ is in its image,
# $p_X(x)\, v \approx p_Z(f(x))\, |\det J|\, v$. Divide by $v$ and let it shrink. (The proof in full is the
# substitution rule for integrals in several variables.)
# ```
#
# With $D = 1$ this is {prf:ref}`thm-line`. Everything that the model does is one of two passes:
#
# * **inference**, $x \mapsto z = f(x)$: it gives the latent of an image, and with {eq}`eq:change` its
#   density, exactly and not as a bound. Training needs this direction alone;
# * **generation**, $z \mapsto x = g(z)$ with $z \sim p_Z$: a sample.
#
# Bijections compose, and the formula with them. For $f = f_2 \circ f_1$ the chain rule multiplies
# the Jacobians, so the logarithms of their determinants add. The chapter on
# {doc}`coupling layers <03_coupling_layers>` comes back to this; it is how a deep flow is made of shallow ones.
#
# ## Why a determinant hurts
#
# Suppose that $f$ is any network that happens to be invertible. To score one image we need the
# determinant of a $D \times D$ matrix. The usual way is Gaussian elimination. Let us count what it
# multiplies (a division counts as one).


# %%
def determinant(matrix):
    """Gaussian elimination: the determinant, and the multiplications."""
    rows, det, count = matrix.clone(), 1.0, 0
    for k in range(len(rows)):
        pivot = k + rows[k:, k].abs().argmax().item()
        if pivot != k:
            rows[[k, pivot]] = rows[[pivot, k]]
            det = -det
        det = det * rows[k, k]
        factors = rows[k + 1 :, k] / rows[k, k]
        change = torch.outer(factors, rows[k, k + 1 :])
        rows[k + 1 :, k + 1 :] -= change
        count += 1 + factors.numel() + change.numel()
    return det, count


sizes = torch.tensor([2, 4, 8, 16, 32, 64, 128])
counts = []
for size in sizes.tolist():
    shape = (size, size)
    matrix = torch.randn(shape, dtype=torch.float64, generator=generator)
    det, count = determinant(matrix)
    assert torch.isclose(det, torch.linalg.det(matrix), rtol=1e-8)
    counts.append(count)
counts = torch.tensor(counts)


def multiplications(size):
    """What elimination multiplies, summed over its steps."""
    return sum(1 + rest + rest**2 for rest in range(size))


assert [multiplications(size) for size in sizes.tolist()] == counts.tolist()
exponent = torch.log2(counts[-1] / counts[-2]).item()
assert abs(exponent - 3) < 0.02
print(f"twice the dimensions: {2**exponent:.1f} times the multiplications")

# %% [markdown]
# Each step leaves a smaller square, and the sum over the steps, $\sum_{m < D} (1 + m + m^2)$, grows as $D^3/3$.
# These are operations and not seconds: how long they take depends on the machine. The matrix itself is no
# gift either: it has $D^2$ entries, and automatic differentiation needs $D$ passes to fill it, one for each
# row or each column. Compare a **triangular** matrix: its determinant is the product of its diagonal, $D$
# numbers, and in logarithms a sum of $D$ terms. All else in it may be as it likes, and need not even be
# computed. At the sizes of images, by the same sum:

# %%
images = {"28 × 28": 784, "32 × 32 × 3": 3072, "64 × 64 × 3": 12288}
rows = []
for name, size in images.items():
    general = multiplications(size)
    entries = size**2 * 4 / 2**20  # 4 bytes each
    power = in_powers(f"{general:.0e}")
    rows.append([name, f"{size:,}", power, f"{entries:.0f} MiB", f"{size:,}"])
header = ["one image", "$D$", "general", "its matrix", "triangular"]
figures.show_table(header, rows)

# %% mystnb={"figure": {"caption": "Multiplications for the determinant of one Jacobian, counted up to $D = 128$ and continued to the sizes of images. A general one costs $D^3/3$, a triangular one $D$. (No figure in the paper.)", "name": "fig-cost"}, "image": {"alt": "A log-log plot. The count for a general matrix rises with slope 3, to about 10 to the 12 at 12,288 dimensions; that for a triangular matrix with slope 1, to about 10 to the 4."}}
densities.draw_cost(sizes, counts, sizes, images)
plt.show()

# %% [markdown]
# And this is for one image, in one step of training, for one layer. So the design question of the
# paper is: *which maps are flexible, have a triangular Jacobian, and are as easy to invert as to
# apply?* The answer is the next chapter. Let us first see one at work.
#
# ## In the plane
#
# `ToyFlow` is the paper's model for points with two coordinates: coupling layers that change one
# coordinate at a time, with what the other one tells them. `fit` is {eq}`eq:average-log` with
# {eq}`eq:change` put in, climbed by Adam {cite}`kingma2015adam`. The paper does not say which data its
# figure 1 shows; we take two half moons.

# %%
steps = {"laptop": 600, "paper": 3000}[profile]
torch.manual_seed(0)
flow = ToyFlow(num_couplings=6, width=32)
losses = fit(flow, ToyData.MOONS.sample(20_000, seed=1), steps=steps)

test = ToyData.MOONS.sample(1_000, seed=2)
with torch.no_grad():
    nats = -flow.log_prob(test).mean().item()
gaussian = torch.distributions.MultivariateNormal(test.mean(0), test.T.cov())
nats_gaussian = -gaussian.log_prob(test).mean().item()
assert nats < nats_gaussian - 0.5
print(f"flow {nats:.1f}, a fitted Gaussian {nats_gaussian:.1f} nats a point")

# %% [markdown]
# What came out of training is a density like any other. It integrates to 1, because it could not
# do otherwise: no step of the optimiser can break {prf:ref}`thm-change`. And `inverse` undoes
# `forward`, for points of the data and for points that no one has ever seen.

# %%
side = torch.linspace(-8, 8, 601)
with torch.no_grad():
    density = flow.log_prob(torch.cartesian_prod(side, side)).exp()
    cell = (side[1] - side[0]) ** 2
    integral = density.sum() * cell
    back, log_det_inverse = flow.inverse(flow(test)[0])
    error = (back - test).abs().max()
    balance = (flow(test)[1] + log_det_inverse).abs().max()
assert abs(integral - 1) < 0.01
assert error < 1e-4
assert balance < 1e-4
print(f"the integral of p_X is {integral:.2f}")

# %% mystnb={"figure": {"caption": "Points from two half moons, the density that maximum likelihood found for them, and samples from it. (No figure in the paper.)", "name": "fig-moons"}, "image": {"alt": "Three panels. Left, points on two interlocking half moons. Middle, a density that is bright along both moons, joined by a faint thread. Right, samples that look like the data, a few of them on the thread."}}
generator = torch.Generator().manual_seed(3)
densities.draw_density(
    flow.log_prob, test, flow.sample(1_000, generator=generator), limit=2.6
)
plt.show()

# %% [markdown]
# Look for a thread between the moons: $f$ is continuous with a continuous inverse, so it can stretch
# the one blob of the Gaussian as thin as it likes, but cannot tear it in two. Some probability is
# always left on the way.
#
# Now the paper's figure 1. The upper row is inference: data, with the straight lines of their own space,
# and where $f$ takes both. The lower row is generation: noise with the straight lines of *its*
# space, and where $g$ takes both.

# %% mystnb={"figure": {"caption": "After figure 1 of {cite:t}`dinh2017realnvp`. Above: test data $x$ and $z = f(x)$. Below: $z \\sim p_Z$ and $x = g(z)$. In each row the grid starts out square, on the left above and on the right below, and is carried along by the map. Colours tell where in the row's starting square a point came from.", "name": "fig-spaces"}, "image": {"alt": "Four panels. Upper left, moons on a square grid; upper right, the same points as a round cloud on a strongly curved grid. Lower right, a round cloud on a square grid; lower left, the same points as two moons, on a grid that is folded into their shape."}}
noise = torch.randn(1_000, 2, generator=generator)
densities.draw_spaces(
    lambda x: flow(x)[0],
    lambda z: flow.inverse(z)[0],
    test,
    noise,
    data_limit=2.6,
    latent_limit=3.4,
)
plt.show()

# %% [markdown]
# No two lines of the same direction ever meet, and where the cells of a warped grid are small the map compresses:
# their area is the determinant made visible. And here is how it comes about, one coupling at a time. Each moves the points
# along one axis only, by how much depends on the other coordinate.

# %% mystnb={"figure": {"caption": "The data on their way to the Gaussian: after each of the six couplings. The steps alternate between vertical and horizontal moves. (No figure in the paper.)", "name": "fig-trace"}, "image": {"alt": "Seven panels. Two half moons are pulled apart, straightened and blown up, until after six steps they form a round cloud."}}
with torch.no_grad():
    steps_taken = flow.trace(test)
densities.draw_trace(test, steps_taken)
plt.show()

# %% [markdown]
# ## Summary
#
# * A flow is an invertible map $f$ and a simple $p_Z$; by {eq}`eq:change` it has a density that is exact
#   and normalised whatever its parameters are, so maximum likelihood is plain gradient ascent.
# * $\log p_X$ has two terms: how probable the latent is, and how much $f$ stretches space there.
# * Inference and generation are one pass each, provided that $f$ is as easy to invert as to apply.
# * A general determinant costs $D^3/3$ multiplications, a triangular one $D$.
#
# ## Exercises
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
# The map from centimetres to metres is $f(x) = x / 100$, so $\log p_X(x) = \log p(x/100) - \log 100$, and
# $D \log 100$ for $D$ of them. Log-densities of continuous data depend on the unit; differences between two models do not.
# In {doc}`05_integers_to_bits` the same constant, with 256 for 100, turns nats of rescaled pixels into bits per dimension.

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
# Take $u_1, u_2$ uniform in $(0, 1)$, $r = \sqrt{-2 \log u_1}$, and
# $x = (r \cos 2\pi u_2,\; r \sin 2\pi u_2)$. Show with {eq}`eq:change` that $x$ is Gaussian. Which of
# $f$ and $g$ is the map given here?
# ```
#
# ```{solution-start} ex-box-muller
# :class: dropdown
# ```
# It is $g$, from latent (uniform, density 1) to data. Its determinant is
# $|\det \partial g / \partial u^{\mathsf T}| = 2\pi / u_1$, and $u_1 = e^{-|x|^2/2}$, so
# $p_X(x) = u_1 / 2\pi = e^{-|x|^2/2} / 2\pi$. With autograd:


# %%
def box_muller(u):
    radius = torch.sqrt(-2 * torch.log(u[0]))
    angle = 2 * math.pi * u[1]
    return radius * torch.stack([torch.cos(angle), torch.sin(angle)])


generator = torch.Generator().manual_seed(4)
u = torch.rand(100, 2, dtype=torch.float64, generator=generator)
points = torch.func.vmap(box_muller)(u)
jacobians = torch.func.vmap(torch.func.jacrev(box_muller))(u)
log_density = -torch.linalg.slogdet(jacobians).logabsdet  # p_Z = 1
assert torch.allclose(log_density, p_z(points).log().sum(dim=1))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Two roads to one place
# :label: ex-square
#
# Let $X = Z^2$ with $Z$ Gaussian. The map is not invertible and {prf:ref}`thm-line` does not apply. What is
# $p_X$? (Follow the proof.)
# ```
#
# ```{solution-start} ex-square
# :class: dropdown
# ```
# There are two roots, and
#
# $$
# F_X(x) & = P(-\sqrt x \le Z \le \sqrt x) \\
#   & = F_Z(\sqrt x) - F_Z(-\sqrt x) .
# $$
#
# Its derivative is the sum over both,
#
# $$
# p_X(x) = \frac{p_Z(\sqrt x) + p_Z(-\sqrt x)}{2 \sqrt x} ,
# $$
#
# the chi-squared density with one degree of freedom. A sum over all inputs that share an output is the price of a
# map that is not one-to-one.

# %%
x_square = torch.linspace(0.1, 5, 50, dtype=torch.float64)
root = x_square.sqrt()
by_roots = (p_z(root) + p_z(-root)) / (2 * root)
one_degree = torch.distributions.Chi2(torch.ones((), dtype=torch.float64))
assert torch.allclose(by_roots, one_degree.log_prob(x_square).exp())

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The thread
# :label: ex-thread
#
# Walk from the middle of one moon to the middle of the other: once straight in data space, once
# straight in latent space, decoding on the way. Can the density be zero anywhere? On which walk is
# its least value larger, and why?
# ```
#
# ```{solution-start} ex-thread
# :class: dropdown
# ```
# Never zero: $p_Z$ is positive everywhere and $\det \partial f/\partial x^{\mathsf T}$ is never 0, so neither is
# their product. A flow with a Gaussian prior gives *every* $x$ some density. The straight line in data space
# crosses the gap; the one in latent space stays in the bulk of $p_Z$, and its image follows the moons and the thread.

# %%
ends = torch.tensor([[-0.75, 1.1], [0.75, -1.1]])
along = torch.linspace(0, 1, 101)[:, None]
with torch.no_grad():
    start, stop = flow(ends)[0]
    by_latent = flow.inverse(start + along * (stop - start))[0]
    by_data = ends[0] + along * (ends[1] - ends[0])
    least_by_latent = flow.log_prob(by_latent).exp().min()
    least_by_data = flow.log_prob(by_data).exp().min()
assert 0 < least_by_data < least_by_latent

# %% [markdown]
# ```{solution-end}
# ```
