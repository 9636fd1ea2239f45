# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (coupling-layers)=
# # Coupling layers
#
# The last chapter asked for a map that is flexible, as easy to invert as to apply, and whose determinant is
# cheap. Real NVP has an answer of one sentence. *Leave one part of the input as it is, and let it decide,
# through any network, how to scale and shift the other part.* This chapter trains six such layers on two half moons.
#
# ```{admonition} In the paper
# Sections 3.2 and 3.3, the mask of section 3.4, and section 3.5 of {cite:t}`dinh2017realnvp`: equations 4 to 12,
# figures 1, 2 and 4(a).
# ```

# %% tags=["parameters"]
profile = "laptop"

# %% tags=["hide-input"]
import math

import matplotlib.pyplot as plt
import torch
from nvp_book import figures
from nvp_book.figures import couplings, densities
from nvp_book.moons import log_moons
from torch import nn
from torch.func import jacrev, vmap

figures.use_style()
torch.set_num_threads(1)  # sums in one order, however many cores
torch.set_default_dtype(torch.float64)  # so that a check can be strict

# %% [markdown]
# ## One layer
#
# How can an invertible layer contain any network? Split the $D$ numbers of $x$ after the first $d$.
# Let $s$ and $t$, for *scale* and *translation*, be functions from $\mathbb R^d$ to
# $\mathbb R^{D-d}$, and let $\odot$ multiply element by element. An **affine coupling layer** is
# (equations 4 and 5)
#
# $$
# y_{1:d} &= x_{1:d}, \\
# y_{d+1:D} &= x_{d+1:D} \odot \exp\bigl(s(x_{1:d})\bigr) + t(x_{1:d}),
# $$ (eq:coupling)
#
# and its inverse is (equation 8; equation 7 repeats the forward pass)
#
# $$
# x_{1:d} &= y_{1:d}, \\
# x_{d+1:D} &= \bigl(y_{d+1:D} - t(y_{1:d})\bigr) \odot \exp\bigl(-s(y_{1:d})\bigr).
# $$ (eq:coupling-inverse)
#
# The inverse needs $s(x_{1:d})$ and $t(x_{1:d})$. Since $y_{1:d} = x_{1:d}$, it can compute both. So both directions
# evaluate $s$ and $t$, and neither inverts them. Sampling is as cheap as inference. For example, let $x = (1, 2)$,
# $s(1) = \log 2$ and $t(1) = 3$. Then $y = (1,\, 2 \cdot 2 + 3) = (1, 7)$, and the inverse finds $(7 - 3) / 2 = 2$.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "After figure 2 of {cite:t}`dinh2017realnvp`. A coupling layer and its inverse use the same two networks, in the same direction. Blue is kept, orange is changed.", "name": "fig-graphs"}, "image": {"alt": "Two flow diagrams, to be read upwards. Forward: the kept half goes straight up, and through s and t it scales and then shifts the other half. Inverse: the same, but t is subtracted first and then the scale divided out."}}
couplings.plot_graphs()
plt.show()

# %% [markdown]
# In both diagrams $s$ and $t$ take the blue half.
#
# ### Which part is kept?
#
# The kept part need not be the first $d$ numbers. A **mask** $b$ of zeros and ones marks it, and
# the paper writes the layer in one line (equation 9):
#
# $$
# y = b \odot x + (1 - b) \odot \Bigl( x \odot \exp\bigl(s(b \odot x)\bigr) + t(b \odot x) \Bigr).
# $$ (eq:mask)
#
# Now $s$ and $t$ take and return $D$ numbers.
#
# ### How much may it stretch?
#
# The exponential of a network's output is dangerous: one large output can multiply a number by a
# million.
# The paper bounds $s$ by a hyperbolic tangent times a learned scale (section 4.1). We call that scale $a$:
#
# $$
# s = a \tanh(\cdot), \qquad e^{-|a|} \le \exp(s) \le e^{|a|}.
# $$ (eq:bounded)
#
# ### In code
#
# These equations are a class of twenty lines, which we use up to chapter {ref}`networks`. One network returns both
# $t$ and the number that goes into the tanh, as in the authors' code {cite}`dinh2016code`.


# %%
class Coupling(nn.Module):
    """Equation 9. x is (N, D) or (N, C, H, W); b broadcasts to it."""

    def __init__(self, net, b):
        super().__init__()
        self.net = net  # x -> t and the raw s, twice as many channels
        self.a = nn.Parameter(torch.ones(()))
        self.register_buffer("b", b)

    def s_and_t(self, x):
        t, raw = self.net(self.b * x).chunk(2, dim=1)
        s = self.a * torch.tanh(raw)
        return (1 - self.b) * s, (1 - self.b) * t

    def forward(self, x):
        """x -> y, and log|det dy/dx| for each x."""
        s, t = self.s_and_t(x)
        return x * s.exp() + t, s.flatten(1).sum(dim=1)

    def inverse(self, y):
        """y -> x."""
        s, t = self.s_and_t(y)  # b * y is b * x
        return (y - t) * (-s).exp()


# %% [markdown]
# Where $b = 1$ both $s$ and $t$ are 0, so $y = x$ there. The first check is the inverse, with random weights.

# %%
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 16))
layer = Coupling(net, b=torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0]))
x = torch.randn(100, 8)
y, log_det = layer(x)
assert torch.allclose(layer.inverse(y), x)

# %% [markdown]
# ## Its Jacobian
#
# Why is the log-determinant the sum of $s$?
#
# ```{prf:proposition} Determinant of a coupling layer
# :label: prop-jacobian
#
# Let $s$ and $t$ be differentiable. Then the Jacobian of {eq}`eq:coupling` is (equation 6)
#
# $$
# \frac{\partial y}{\partial x^{\mathsf T}} &=
# \begin{bmatrix}
# I_d & 0 \\
# \dfrac{\partial y_{d+1:D}}{\partial x_{1:d}^{\mathsf T}} & \operatorname{diag}\bigl(\exp s(x_{1:d})\bigr)
# \end{bmatrix}, \\[6pt]
# \log\left|\det \frac{\partial y}{\partial x^{\mathsf T}}\right| &= \sum_{j=1}^{D-d} s(x_{1:d})_j.
# $$ (eq:jacobian)
# ```
#
# ```{prf:proof}
# The first $d$ outputs are the first $d$ inputs: rows $[I_d \;\; 0]$. Output $d + j$ is
# $x_{d+j}\, e^{s_j} + t_j$, where $s_j$ and $t_j$ depend on $x_{1:d}$ alone. So among the other inputs it depends
# on $x_{d+j}$ only, with derivative $e^{s_j}$. All entries above the diagonal vanish. The determinant of a
# triangular matrix is the product of its diagonal, $1 \cdots 1 \cdot e^{s_1} \cdots e^{s_{D-d}}$.
# ```
#
# Two things follow. First, the lower left block, with the derivatives of $s$ and $t$, has no influence on the
# determinant, so nobody computes it. Second, $s$ and $t$ **are arbitrary**: they may be deep networks, and need not be
# invertible. The density does not even need their derivatives ({ref}`ex-arbitrary`), so a ReLU does no harm.
# Automatic differentiation can check the result:

# %%
jacobian = vmap(jacrev(lambda x: layer(x[None])[0][0]))(x)  # (100, 8, 8)
assert (jacobian.triu(diagonal=1) == 0).all()
assert torch.allclose(log_det, jacobian.slogdet().logabsdet)

# %% [markdown]
# Does this hold for any mask? For images the first mask of the paper is a **checkerboard**: $b = 1$ where row +
# column is odd. The next cell makes a layer for 4 × 4 pixels.


# %%
def dense_net():
    """(N, 1, 4, 4) -> t and raw s, (N, 2, 4, 4)."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(16, 64),
        nn.Tanh(),
        nn.Linear(64, 32),
        nn.Unflatten(1, (2, 4, 4)),
    )


torch.manual_seed(1)
odd = 1.0 * ((torch.arange(4)[:, None] + torch.arange(4)) % 2)
on_board = Coupling(dense_net(), b=odd)
images = torch.randn(5, 1, 4, 4)
y, log_det = on_board(images)

# %% [markdown]
# The package's layer, with the same network and $a$ (`scale_init`), returns the same:

# %%
from nvp.flows.coupling import CheckerboardCoupling
from nvp.flows.masks import Parity

package = CheckerboardCoupling(Parity.ODD, on_board.net, scale_init=1.0)
assert torch.allclose(y, package(images)[0])

# %% tags=["hide-input"]
assert torch.allclose(log_det, package(images)[1])
assert torch.allclose(on_board.inverse(y), images)
assert torch.allclose(package.inverse(y)[0], images)


def jacobian_at(f, image):
    """df/dx at one image (C, H, W), as a matrix."""
    matrix = jacrev(lambda x: f(x[None])[0][0])(image)
    return matrix.detach().reshape(image.numel(), image.numel())


matrix = jacobian_at(on_board, images[0])
assert torch.allclose(log_det[0], matrix.slogdet().logabsdet)

# %% [markdown]
# ````{dropdown} The package's version
# It also has the batch norm of chapter {ref}`networks`, a condition, and the other order of scale and shift
# (appendix {ref}`paper-and-code`).
# ```{literalinclude} ../nvp/flows/coupling.py
# :pyobject: AffineCoupling
# ```
# ```{literalinclude} ../nvp/flows/coupling.py
# :pyobject: CheckerboardCoupling
# ```
# ````

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Equation 6, by automatic differentiation: Jacobians of couplings, each on its own scale; positive red, negative blue, zero white. Left: a vector with $d = 4$ of $D = 8$. Middle: a checkerboard on 4 × 4 pixels, numbered row by row. Right: the same matrix, kept pixels first.", "name": "fig-jacobians"}, "image": {"alt": "Three matrices. The left and the right one are lower triangular: an identity block, zeros to its right, a full block below it, and a diagonal block. The middle one has the same entries as the right one, scattered in a woven pattern."}}
kept_first = torch.argsort(1 - odd.flatten(), stable=True)
couplings.plot_matrices(
    {
        "vector, split in half": jacobian[0].detach(),
        "checkerboard, row by row": matrix,
        "checkerboard, kept first": matrix[kept_first][:, kept_first],
    }
)
plt.show()

# %% [markdown]
# The middle matrix becomes triangular when the kept pixels are numbered first. The determinant does not change when
# rows and columns are renumbered alike.
#
# ```{admonition} A common mistake
# :class: warning
# The network returns a raw $s$ for *every* pixel, also for the kept ones. Do not add those to the log-determinant,
# since kept pixels did not change. The mistake raises no error. The factor $1 - b$ in `s_and_t` prevents it.
# ```

# %% tags=["remove-cell"]
t, raw = on_board.net(odd * images).chunk(2, dim=1)
wrong = (on_board.a * raw.tanh()).flatten(1).sum(dim=1)
assert ((wrong - log_det).abs() > 0.1).all()

# %% [markdown]
# ## Without the scale: NICE
#
# What does the scale add? With $a = 0$ only the shift is left,
# $y_{d+1:D} = x_{d+1:D} + t(x_{1:d})$. This is the **additive** coupling of NICE
# {cite}`dinh2015nice`, the older model. Its determinant is 1. It *preserves volume*, so it can move
# probability but not concentrate it. NICE therefore ends with one learned diagonal scaling $S$,
# whose log-determinant is $\sum_i \log |S_{ii}|$. The newer model's name says what it added:
# **real**-valued **n**on-**v**olume **p**reserving.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A coupling that keeps the horizontal coordinate of the plane. Additive: columns slide, areas stay. Affine: columns slide and stretch; red cells have grown, blue ones shrunk.", "name": "fig-areas"}, "image": {"alt": "Three grids. A square one; one whose columns are shifted up and down along a wave, all cells of the same pale colour; and one whose columns are shifted and also stretched in the middle, red, and squashed at the sides, blue."}}
side = torch.linspace(-1.5, 1.5, 11)
square = torch.cartesian_prod(side, side).reshape(11, 11, 2)
kept, changed = square[..., 0], square[..., 1]
t, s = 0.5 * torch.sin(2 * kept), torch.tanh(torch.cos(2 * kept)) * 0.7
couplings.plot_areas(
    {
        "a square grid": square,
        "additive (NICE)": torch.stack([kept, changed + t], dim=-1),
        "affine (Real NVP)": torch.stack([kept, changed * s.exp() + t], -1),
    }
)
assert [round(x.item(), 1) for x in s.exp().aminmax()] == [0.6, 1.7]
plt.show()

# %% [markdown]
# The additive layer keeps the area of every cell. The affine one multiplies it by 1.7 in the middle, and by 0.6 at
# the sides.
#
# ## Composition
#
# One coupling leaves part of its input alone. So couplings take turns: each one changes what the one before it kept
# (section 3.5).

# %% tags=["hide-input"] mystnb={"figure": {"caption": "After figure 4(a) of {cite:t}`dinh2017realnvp`: three couplings with alternating roles. Blue: still the input. Orange: changed at least once. Here $h^{(i)}$ is the output of coupling $i$.", "name": "fig-alternation"}, "image": {"alt": "Two columns of boxes, to be read upwards. In the first coupling the left half is kept and changes the right one; in the second the right half is kept and changes the left one; in the third the left half is kept again."}}
couplings.plot_alternation()
plt.show()

# %% [markdown]
# After two couplings both halves have changed at least once.
#
# A composition is as tractable as its parts (equations 10 to 12; in equation 10 the paper prints the two factors in
# the other order, which has the same determinant):
#
# $$
# \frac{\partial (f_b \circ f_a)}{\partial x_a^{\mathsf T}}(x_a)
#   &= \frac{\partial f_b}{\partial x_b^{\mathsf T}}\bigl(x_b = f_a(x_a)\bigr)
#      \cdot \frac{\partial f_a}{\partial x_a^{\mathsf T}}(x_a), \\
# \det(A \cdot B) &= \det(A)\, \det(B), \\
# (f_b \circ f_a)^{-1} &= f_a^{-1} \circ f_b^{-1}.
# $$ (eq:composition)
#
# So log-determinants add up, and the inverse runs backwards.


# %%
class Composition(nn.Module):
    """Equations 10 to 12: layers one after the other."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        total = 0.0
        for layer in self.layers:
            x, log_det = layer(x)
            total = total + log_det
        return x, total

    def inverse(self, z):
        for layer in reversed(self.layers):
            z = layer.inverse(z)
        return z


torch.manual_seed(2)
three = Composition(Coupling(dense_net(), b) for b in (odd, 1 - odd, odd))
z, log_det = three(images)
assert torch.allclose(three.inverse(z), images)

# %% tags=["remove-cell"]
from nvp.flows.bijection import Composition as PackageComposition

parities = (Parity.ODD, Parity.EVEN, Parity.ODD)
same = PackageComposition(
    CheckerboardCoupling(parity, layer.net, scale_init=1.0)
    for parity, layer in zip(parities, three.layers, strict=True)
)
assert torch.allclose(same(images)[0], z)
assert torch.allclose(same(images)[1], log_det)

# %% [markdown]
# ````{dropdown} The package's version
# ```{literalinclude} ../nvp/flows/bijection.py
# :pyobject: Composition
# ```
# ````
#
# The Jacobian of this composition is *not* triangular, in any order of the pixels. It is a product of matrices that are
# triangular under two different orders, so its determinant is still cheap. How many couplings does it take until every
# output depends on every input?

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Jacobians of one, two and three alternating couplings, colours as in {numref}`fig-jacobians`. Pixels that the first one keeps come first.", "name": "fig-composition"}, "image": {"alt": "Three matrices. One coupling: lower triangular with a diagonal block. Two: full but for the lower right block, which is diagonal. Three: full."}}
matrices = {}
for count in (1, 2, 3):
    matrix = jacobian_at(Composition(three.layers[:count]), images[0])
    name = f"{count} coupling{'s' * (count > 1)}"
    matrices[name] = matrix[kept_first][:, kept_first]
    assert bool((matrix != 0).all()) == (count == 3)
assert torch.allclose(matrix.slogdet().logabsdet, log_det[0])
couplings.plot_matrices(matrices)
plt.show()

# %% [markdown]
# After two couplings one block is still diagonal. Pixels of the half that was changed first depend on the other half,
# but not yet on each other. Three are enough, since these networks are dense; convolutions see only near pixels.
#
# ## A flow that learns
#
# Can couplings learn two half moons? Their composition $f$ and a Gaussian prior make a normalizing
# flow, trained by maximum likelihood.


# %%
BLUR = 0.08


def moons(n, generator):
    """Two half circles that reach into each other, blurred: (n, 2)."""
    angle = math.pi * torch.rand(n, generator=generator)
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    sign = 2 * torch.randint(2, (n, 1), generator=generator) - 1
    return 1.5 * (sign * upper + BLUR * torch.randn(n, 2, generator=generator))


def small_net(width=32):
    """(N, 2) -> t and raw s, (N, 4)."""
    return nn.Sequential(
        nn.Linear(2, width),
        nn.SiLU(),
        nn.Linear(width, width),
        nn.SiLU(),
        nn.Linear(width, 4),
    )


first, second = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])

# %% [markdown]
# The loss is the negative logarithm of the density {eq}`eq:change`. These lines are the whole training:


# %%
def log_prob(flow, x):
    """log p_Z(f(x)) + log|det df/dx|, nats, (N,)."""
    z, log_det = flow(x)
    log_prior = -0.5 * (z**2 + math.log(2 * math.pi)).sum(dim=1)
    return log_prior + log_det


def fit(flow, steps):
    generator = torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(flow.parameters(), lr=1.5e-2, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        loss = -log_prob(flow, moons(512, generator)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


STEPS = {"laptop": 800, "paper": 10_000}[profile]
torch.manual_seed(0)
flow = Composition(Coupling(small_net(), b) for b in 3 * [first, second])
fit(flow, STEPS)

# %% [markdown]
# We made the moons, so we know their true density, and the best score that any model can reach on average.

# %% tags=["hide-input"]
test = moons(2000, torch.Generator().manual_seed(2))
with torch.no_grad():
    by_flow = log_prob(flow, test)
seen = moons(2000, torch.Generator().manual_seed(3))  # no test points
gaussian = torch.distributions.MultivariateNormal(seen.mean(0), seen.T.cov())
many = moons(512 * STEPS, torch.Generator().manual_seed(1))  # as many as fit()
cells = 1 + torch.histogramdd(many, [80, 80], range=[-4.0, 4.0] * 2).hist
i, j = ((test + 4) / 0.1).long().unbind(dim=1)
by_count = -(cells / cells.sum() / 0.1**2)[i, j].log()
scores = {
    "a fitted Gaussian": -gaussian.log_prob(test).mean().item(),
    "a histogram of 80 × 80 cells": by_count.mean().item(),
    "six couplings": -by_flow.mean().item(),
    "the moons themselves": -log_moons(test).mean().item(),
}
figures.show_table(
    ["model of the moons", "nats for a test point"],
    [[name, f"{nats:.2f}"] for name, nats in scores.items()],
)
single, counted, learned, best = scores.values()
assert best - 0.02 < learned < best + 0.1 < single - 0.5
assert best < counted < best + 0.1

# %% [markdown]
# Six couplings come within a tenth of a nat of the best score. In the plane a histogram keeps up. Images have too many
# dimensions: ten bins a pixel make $10^{784}$ cells.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Test points of the two moons, the density that six couplings learned, and samples from it.", "name": "fig-learned-moons"}, "image": {"alt": "Three panels. Left, points on two interlocking half moons. Middle, a density that is bright along both moons, with a fainter thread that joins their right ends. Right, samples that look like the data, a few of them on the thread."}}
noise = torch.randn(2000, 2, generator=torch.Generator().manual_seed(3))
with torch.no_grad():
    samples = flow.inverse(noise)
densities.plot_density(
    lambda x: log_prob(flow, x), test[:1000], samples[:1000], limit=2.6
)
plt.show()

# %% [markdown]
# Look for the thread that joins the right ends of the moons. The map $g$ is continuous, so it cannot tear the Gaussian
# in two. The steeper $g$ is across the gap, the fainter the thread.
#
# ## Figure 1 of the paper
#
# What does the flow do to the plane? In the upper row, **inference**, $f$ carries data and their
# straight grid to $z$. In the lower row, **generation** or sampling, $g$ carries noise and *its*
# grid to $x$.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "After figure 1 of {cite:t}`dinh2017realnvp`, by the couplings of this page. Above: test data $x$ and $z = f(x)$. Below: $z \\sim p_Z$ and $x = g(z)$. The grid is square on the left above and on the right below, and the map carries it along. The colour of a point is its direction from the centre in the panel with the square grid: blue on the left, orange on the right, darker above.", "name": "fig-figure-one"}, "image": {"alt": "Four panels. Upper left, moons on a square grid; upper right, the same points as a round cloud on a strongly curved grid. Lower right, a round cloud on a square grid; lower left, the same points as two moons, on a grid that is folded into their shape."}}
densities.plot_spaces(
    lambda x: flow(x)[0],
    flow.inverse,
    test[:400],
    noise[:400],
    data_limit=2.6,
    latent_limit=3.4,
)
plt.show()

# %% [markdown]
# No two lines of the same direction ever meet, since the map is one-to-one. The next figure shows the couplings one at
# a time.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The data on their way to the Gaussian, after each of the six couplings. Vertical and horizontal moves alternate. A point keeps its colour, that of {numref}`fig-figure-one`, above.", "name": "fig-moons-trace"}, "image": {"alt": "Seven panels. Two half moons are pulled apart, straightened and blown up, until after six steps they form a round cloud."}}
steps, h = [], test[:400]
with torch.no_grad():
    for coupling in flow.layers:
        h, _ = coupling(h)
        steps.append(h)
densities.plot_trace(test[:400], steps)
plt.show()

# %% [markdown]
# Each coupling moves points along one axis only; the other coordinate decides their scale and shift. You can drag
# points of such a flow in {doc}`../book/live`.
#
# ## Summary
#
# * A coupling keeps one part of its input and lets it scale and shift the other. Inverse and determinant are as
#   cheap as the map, and $s$ and $t$ are arbitrary.
# * A mask $b$ says which part is kept. $\log|\det|$ is the sum of $s$ where $b = 0$.
# * A learned scale $a$ bounds $s$. With $s = 0$ the layer is that of NICE.
# * Couplings take turns. Log-determinants add, and the inverse runs backwards.
#
# ## Exercises
#
# ```{exercise} Build NICE
# :label: ex-nice
#
# Write `Shift`, a coupling with $s = 0$, and `Diagonal`, the scaling of NICE: $z_i = x_i\, e^{r_i}$ with learned
# $r_i$. Compose six shifts and one scaling, and train them with `fit`. Between which rows of the table above do you
# expect the score?
# ```
#
# ```{solution-start} ex-nice
# :class: dropdown
# ```
# The score lies between that of the Gaussian and that of the affine couplings. NICE stretches all places alike, but this
# alone costs little. The best such map puts the likeliest points nearest to 0; the cell computes its score.


# %% tags=["hide-input"]
class Shift(Coupling):
    def s_and_t(self, x):
        s, t = super().s_and_t(x)
        return 0 * s, t


class Diagonal(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.r = nn.Parameter(torch.zeros(size))

    def forward(self, x):
        return x * self.r.exp(), self.r.sum().expand(len(x))

    def inverse(self, z):
        return z * (-self.r).exp()


torch.manual_seed(0)
shifts = [Shift(small_net(), b) for b in 3 * [first, second]]
nice = Composition([*shifts, Diagonal(2)])
fit(nice, STEPS)
with torch.no_grad():
    assert torch.allclose(nice.inverse(nice(test)[0]), test)
    nats = -log_prob(nice, test).mean().item()
assert learned < nats < single
plane = torch.cartesian_prod(*2 * [torch.linspace(-3, 3, 101)])
p = 0.06**2 * log_moons(plane).exp().sort(descending=True).values
# areas stretch by c, so x goes to a radius r with pi r^2 = c A, where A is
# the area of the likelier points: at the best c it costs 1 + log E[A]
bound = 1 + (p * 0.06**2 * torch.arange(len(p))).sum().log()
assert best < bound < nats
lost = f"{nats - best:.2f} nats, at least {bound - best:.2f} by its volume"
print("NICE loses", lost)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Why take turns?
# :label: ex-same-mask
#
# Show that two couplings in a row with the *same* mask are one coupling. What are its $s$ and $t$?
# ```
#
# ```{solution-start} ex-same-mask
# :class: dropdown
# ```
# Let $k$ be the kept part and $c$ the changed one. The second layer receives $c\, e^{s_1(k)} + t_1(k)$ and returns
# $c\, e^{s_1(k) + s_2(k)} + t_1(k)\, e^{s_2(k)} + t_2(k)$. This is a coupling with $s = s_1 + s_2$ and
# $t = t_1 e^{s_2} + t_2$.

# %% tags=["hide-input"]
one, _, two = three.layers  # both keep the odd squares
z = two(one(images)[0])[0]
(s1, t1), (s2, t2) = one.s_and_t(images), two.s_and_t(images)
assert torch.allclose(z, images * (s1 + s2).exp() + t1 * s2.exp() + t2)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} As arbitrary as you like
# :label: ex-arbitrary
#
# Write $k$ for the kept part, and let $t(k) = \lfloor 10 k \rfloor$ and $s(k) = \operatorname{sign} k$. Is the layer
# still invertible? Is the log-determinant still right? Now let $t(k) = \lfloor 10\, n_t(k) \rfloor$ and
# $s(k) = \operatorname{sign} n_s(k)$, with networks $n_t$ and $n_s$. What happens when you train a stack of such layers?
# ```
#
# ```{solution-start} ex-arbitrary
# :class: dropdown
# ```
# It is invertible, since nothing was assumed about $s$ and $t$. The log-determinant is right, even at the jumps. For a
# given $k$ the layer is an affine map of the other part, with the factors $e^{s(k)}$, and {prf:ref}`thm-change` applies
# to that map alone. But the derivatives of $\lfloor \cdot \rfloor$ and $\operatorname{sign}$ are 0. The gradient of the
# loss reaches every layer, through the kept half and through $x\, e^s$. It stops before the networks, and $a$ is not
# used. So training changes nothing.

# %% tags=["hide-input"]
kept, changed = torch.randn(2, 100, 4)
s, t = torch.sign(kept), torch.floor(10 * kept)
y = changed * s.exp() + t
assert torch.allclose((y - t) * (-s).exp(), changed)


class Jumps(Coupling):
    def s_and_t(self, x):
        n_t, n_s = self.net(self.b * x).chunk(2, dim=1)
        s, t = torch.sign(n_s), torch.floor(10 * n_t)
        return (1 - self.b) * s, (1 - self.b) * t


jumps = Composition(Jumps(small_net(), b) for b in 3 * [first, second])
jacobian = vmap(jacrev(lambda x: jumps(x[None])[0][0]))(test[:100])
assert torch.allclose(jacobian.slogdet().logabsdet, jumps(test[:100])[1])
x = test[:100].requires_grad_()
log_prob(jumps, x).sum().backward()
assert (x.grad != 0).all()
for layer in jumps.layers:
    assert all((p.grad == 0).all() for p in layer.net.parameters())
    assert layer.a.grad is None  # not used

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A scale that sees its own part
# :label: ex-own-scale
#
# Could $s$ depend on the part that it scales? Take $D = 1$ and $y = x\, e^{s(x)}$ with
# $s(x) = -x^2$. Is there an inverse? Is the derivative $e^{s(x)}$? Which condition on $s$ makes $y$
# increase?
# ```
#
# ```{solution-start} ex-own-scale
# :class: dropdown
# ```
# Then $y = x\, e^{-x^2}$ rises from $x = -1/\sqrt 2$ to $x = 1/\sqrt 2$ and falls outside, so there is no inverse. The
# derivative is not $e^{s(x)}$ either, but $(1 - 2x^2)\, e^{s(x)}$. In general it is $(1 + x\, s'(x))\, e^{s(x)}$. If
# $1 + x\, s'(x)$ is positive everywhere, $y$ increases, but its inverse needs a search.

# %% tags=["hide-input"]
x = torch.linspace(-3, 3, 6001)
y = x * torch.exp(-(x**2))
rises = x[:-1][y.diff() > 0]
assert abs(rises[0] + 1 / math.sqrt(2)) < 2e-3
assert abs(rises[-1] - 1 / math.sqrt(2)) < 2e-3
assert torch.allclose(rises.diff(), torch.tensor(1e-3), atol=1e-6)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Three shears make a rotation
# :label: ex-rotation
#
# Rotate the plane by an angle $\theta$, $0 < |\theta| < \pi$, with three additive couplings that
# take turns. *Hint*: let each shift be linear in the other coordinate, a *shear*. Why are two couplings not enough,
# whatever their shifts?
# ```
#
# ```{solution-start} ex-rotation
# :class: dropdown
# ```
# The first of two would give one coordinate its final value, $x_1 + t(x_2)$. A rotation has
# $x_1 \cos\theta - x_2 \sin\theta$ there, so no $t$ is right. Three shears are enough: $t = -\tan(\theta/2)\, x_2$,
# then $\sin\theta\; x_1$, then $-\tan(\theta/2)\, x_2$ again. Multiply the matrices:
# $1 - \tan(\theta/2) \sin\theta = \cos\theta$.

# %% tags=["hide-input"]
theta = torch.tensor(0.7)
tan, sin, cos = torch.tan(theta / 2), torch.sin(theta), torch.cos(theta)
x1, x2 = test.unbind(dim=1)
x1 = x1 - tan * x2
x2 = x2 + sin * x1
x1 = x1 - tan * x2
rotation = torch.stack([cos, -sin, sin, cos]).reshape(2, 2)
assert torch.allclose(torch.stack([x1, x2], dim=1), test @ rotation.T)

# %% [markdown]
# ```{solution-end}
# ```
