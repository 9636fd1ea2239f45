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
# ```{admonition} In the paper
# Sections 3.2 and 3.3, the mask of section 3.4, section 3.5, and the batch normalisation of section 3.7:
# equations 4 to 12, 17 and 18, figures 2 and 4(a) of {cite:t}`dinh2017realnvp`.
# ```
#
# The last chapter ended with a wish: a map that is flexible, as easy to invert as to apply, and whose
# Jacobian is triangular. The paper's answer fits into a sentence. *Leave one part of the input as it
# is; let it decide, through any network whatever, how to scale and shift the other part.*

# %% tags=["parameters"]
profile = "laptop"

# %%
import math

import matplotlib.pyplot as plt
import torch
from nvp_book import figures
from nvp_book.figures import couplings
from torch import nn
from torch.func import jacrev, vmap

from nvp.flows.batchnorm import EPSILON, CouplingBatchNorm, NormScope
from nvp.flows.bijection import Composition
from nvp.flows.coupling import AffineOrder, CheckerboardCoupling
from nvp.flows.masks import Parity, checkerboard_mask

figures.use_style()
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # so that a check can be strict

# %% [markdown]
# ## One layer
#
# Split the $D$ numbers of $x$ after the first $d$. Let $s$ and $t$, for *scale* and *translation*, be functions
# from $\mathbb R^d$ to $\mathbb R^{D-d}$; $\odot$ multiplies element by element. An **affine coupling layer**
# (equations 4 and 5) is
#
# $$
# y_{1:d} &= x_{1:d}, \\
# y_{d+1:D} &= x_{d+1:D} \odot \exp\bigl(s(x_{1:d})\bigr) + t(x_{1:d}),
# $$ (eq:coupling)
#
# and its inverse (equations 7 and 8)
#
# $$
# x_{1:d} &= y_{1:d}, \\
# x_{d+1:D} &= \bigl(y_{d+1:D} - t(y_{1:d})\bigr) \odot \exp\bigl(-s(y_{1:d})\bigr).
# $$ (eq:coupling-inverse)
#
# The inverse needs $s$ and $t$ at $x_{1:d}$, and has it: it is $y_{1:d}$. So $s$ and $t$ are evaluated,
# in both directions, and never inverted.

# %% mystnb={"figure": {"caption": "After figure 2 of {cite:t}`dinh2017realnvp`. A coupling layer and its inverse use the same two networks, in the same direction. Blue is kept, orange is changed.", "name": "fig-graphs"}, "image": {"alt": "Two flow diagrams, to be read upwards. Forward: the kept half goes straight up, and through s and t it scales and then shifts the other half. Inverse: the same, but t is subtracted first and then the scale divided out."}}
couplings.draw_graphs()
plt.show()

# %% [markdown]
# In code it takes a few lines. The network here is a small one with random weights, and one network
# gives both $s$ and $t$, as in the authors' code {cite}`dinh2016code`.

# %%
D, d = 8, 4
torch.manual_seed(0)
network = nn.Sequential(
    nn.Linear(d, 64), nn.ReLU(), nn.Linear(64, 2 * (D - d))
)


def s_and_t(kept):
    return network(kept).chunk(2, dim=-1)


def forward(x):
    """Equations 4 and 5: x -> y and log|det dy/dx|."""
    kept, changed = x[..., :d], x[..., d:]
    s, t = s_and_t(kept)
    y = torch.cat([kept, changed * s.exp() + t], dim=-1)
    return y, s.sum(dim=-1)


def inverse(y):
    """Equations 7 and 8: y -> x and log|det dx/dy|."""
    kept, changed = y[..., :d], y[..., d:]
    s, t = s_and_t(kept)
    x = torch.cat([kept, (changed - t) * (-s).exp()], dim=-1)
    return x, -s.sum(dim=-1)


x = torch.randn(100, D)
y, log_det = forward(x)
back, log_det_back = inverse(y)
assert (back - x).abs().max() < 1e-12
assert (log_det + log_det_back).abs().max() < 1e-12

# %% [markdown]
# ## Its Jacobian
#
# We have used already that the logarithm of the determinant is the sum of the $s$. Here is why.
#
# ```{prf:proposition} Determinant of a coupling layer
# :label: prop-jacobian
#
# The Jacobian of {eq}`eq:coupling` is (equation 6)
#
# $$
# \frac{\partial y}{\partial x^{\mathsf T}} =
# \begin{bmatrix}
# I_d & 0 \\
# \dfrac{\partial y_{d+1:D}}{\partial x_{1:d}^{\mathsf T}} & \operatorname{diag}\bigl(\exp s(x_{1:d})\bigr)
# \end{bmatrix},
# \qquad
# \log\left|\det \frac{\partial y}{\partial x^{\mathsf T}}\right| = \sum_{j=1}^{D-d} s(x_{1:d})_j.
# $$ (eq:jacobian)
# ```
#
# ```{prf:proof}
# The first $d$ outputs are the first $d$ inputs: rows $[I_d \;\; 0]$. Output $d + j$ is
# $x_{d+j}\, e^{s_j} + t_j$, where $s_j$ and $t_j$ depend on $x_{1:d}$ alone; so of the inputs
# behind $d$ it depends on $x_{d+j}$ only, with derivative $e^{s_j}$. All entries above the diagonal vanish, and
# the determinant of a triangular matrix is the product of its diagonal,
# $1 \cdots 1 \cdot e^{s_1} \cdots e^{s_{D-d}}$.
# ```
#
# Two things did *not* enter. The lower left block, which holds the derivatives of $s$ and $t$, has no
# influence on the determinant and is never computed. And nothing was asked of $s$ and $t$: they
# **are arbitrary**. They may be as deep, and as far from invertible, as one likes. The page can check it:
# automatic differentiation knows nothing of the proof.

# %%
jacobian = vmap(jacrev(lambda x: forward(x)[0]))(x)  # (100, D, D)
assert (jacobian.triu(diagonal=1) == 0).all()
expected = torch.linalg.slogdet(jacobian).logabsdet
assert (log_det - expected).abs().max() < 1e-12

# %% [markdown]
# ## Masks
#
# Which part is kept need not be the first $d$. With a **mask** $b$ of zeros and ones the paper writes the
# layer in a line (equation 9), for a vector or an image $x$:
#
# $$
# y = b \odot x + (1 - b) \odot \Bigl( x \odot \exp\bigl(s(b \odot x)\bigr) + t(b \odot x) \Bigr).
# $$ (eq:mask)
#
# Where $b = 1$ the input is kept, and it is all that $s$ and $t$ get to see. For images the
# first mask of the paper is a checkerboard, $b = 1$ where row + column is odd. In `nvp` this is
# `CheckerboardCoupling`; here is the forward pass of its base class, which all couplings of this book share. `mask`
# gives $b$, `shift_and_log_scale` gives $(1 - b) \odot t$ and $(1 - b) \odot s$, and `norm`
# waits for the end of this chapter.
#
# ```{literalinclude} ../nvp/flows/coupling.py
# :pyobject: AffineCoupling.forward
# :dedent: 4
# ```
#
# To see whole Jacobians we take images of 4 × 4 pixels, and a dense network for $s$ and $t$ that sees
# the whole image. It gives $t$ first and $s$ second.


# %%
def dense_net():
    """(N, 1, 4, 4) -> t and what s is made of, (N, 2, 4, 4)."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(16, 64),
        nn.Tanh(),
        nn.Linear(64, 32),
        nn.Unflatten(1, (2, 4, 4)),
    )


def jacobian_at(bijection, image):
    """df/dx at one image (C, H, W), as a matrix."""
    size = image.numel()
    matrix = jacrev(lambda x: bijection(x[None])[0][0])(image)
    return matrix.detach().reshape(size, size)


torch.manual_seed(1)
coupling = CheckerboardCoupling(Parity.ODD, dense_net(), scale_init=1.0)
image = torch.randn(1, 4, 4)
matrix = jacobian_at(coupling, image)

y, log_det = coupling(image[None])
b = checkerboard_mask(4, 4, Parity.ODD)
assert (y[b] == image[None][b]).all()
assert (log_det - matrix.slogdet().logabsdet).abs() < 1e-12
assert (coupling.inverse(y)[0] - image).abs().max() < 1e-12

# %% [markdown]
# With pixels numbered row by row this Jacobian does not look triangular at all. But the determinant does not care
# how we number them, as long as rows and columns agree. Put the pixels that are kept first:

# %% mystnb={"figure": {"caption": "Equation 6, seen by automatic differentiation: Jacobians of coupling layers, positive entries red, negative ones blue, zeros white. Left: a vector with $d = 4$ of $D = 8$. Middle: a checkerboard on an image of 4 × 4 pixels, numbered row by row. Right: the same matrix, kept pixels first. (No figure in the paper.)", "name": "fig-jacobians"}, "image": {"alt": "Three matrices. The left and the right one are lower triangular: an identity block, zeros to its right, a full block below it, and a diagonal block. The middle one has the same entries as the right one, scattered in a woven pattern."}}
kept_first = torch.argsort((~b).flatten().int(), stable=True)
couplings.draw_matrices(
    {
        "vector, split in half": jacobian[0].detach(),
        "checkerboard, row by row": matrix,
        "checkerboard, kept first": matrix[kept_first][:, kept_first],
    }
)
plt.show()

# %% [markdown]
# ```{admonition} A mistake that is easy to make
# :class: warning
# In the mask form, a network that returns an $s$ for *every* pixel returns one for those that are kept, too. It must
# not be summed into the log-determinant: it moved nothing. The likelihood would still look like a number.
# ```

# %%
t_and_raw = coupling.net(image[None] * b)
s_everywhere = coupling.scale * torch.tanh(t_and_raw[:, 1:])
wrong = s_everywhere.sum()
right = (s_everywhere * ~b).sum()
assert (right - log_det).abs() < 1e-12
assert (wrong - log_det).abs() > 0.1

# %% [markdown]
# ## How much may it stretch?
#
# `exp` of the output of a network is dangerous: one large activation, and the next layer receives
# a million. The paper bounds it (section 4.1): $s$ is a hyperbolic tangent times a learned scale,
#
# $$
# s = \alpha \tanh(\cdot), \qquad e^{-|\alpha|} \le \exp(s) \le e^{|\alpha|}.
# $$ (eq:bounded)
#
# The paper does not say whether $\alpha$ is one number or one for each channel; in the authors' code it is one number
# for each coupling, and starts at 0 for a checkerboard and at 1 for the channel-wise mask of the
# next chapter {cite}`dinh2016code`. In the package it is `coupling.scale`.

# %% mystnb={"figure": {"caption": "The factor $\\exp(s)$ against what the network returned: without a bound, and with {eq}`eq:bounded` for three values of the learned scale. (No figure in the paper.)", "name": "fig-bounds"}, "image": {"alt": "On a logarithmic axis: a straight dashed line without a bound, and three S-shaped curves that level off, the higher the larger the scale."}}
raw = torch.linspace(-6, 6, 241)
bounded = {
    f"$\\alpha = {alpha}$": (alpha * torch.tanh(raw)).exp()
    for alpha in (0.5, 1, 2)
}
assert all(factor.max() < math.exp(2) for factor in bounded.values())
couplings.draw_bounds(raw, {"no bound": raw.exp(), **bounded})
plt.show()

# %% [markdown]
# ### No stretching at all: NICE
#
# With $\alpha = 0$, or $s = 0$, what remains is $y_{d+1:D} = x_{d+1:D} + t(x_{1:d})$: the **additive** coupling of
# NICE {cite}`dinh2015nice`, the model from which Real NVP grew. Its determinant is 1, so it can carry probability
# about and never concentrate it: it *preserves volume*. The name of the newer model says what was
# added: **real**-valued **n**on-**v**olume **p**reserving. A checkerboard coupling of the authors' code, with
# its $\alpha$ at 0, is a layer of NICE when training begins.

# %%
torch.manual_seed(1)
additive = CheckerboardCoupling(Parity.ODD, dense_net(), scale_init=0.0)
y, log_det = additive(image[None])
assert log_det == 0
assert (y - image).abs().max() > 0.1

# %% mystnb={"figure": {"caption": "What a coupling does to the plane when it keeps the horizontal coordinate. Additive: columns slide, areas stay. Affine: columns slide and stretch; red cells have grown, blue ones shrunk. (No figure in the paper.)", "name": "fig-areas"}, "image": {"alt": "Three grids. A square one; one whose columns are shifted up and down along a wave, all cells of the same pale colour; and one whose columns are shifted and also stretched in the middle, red, and squashed at the sides, blue."}}
side = torch.linspace(-1.5, 1.5, 17)
square = torch.cartesian_prod(side, side).reshape(17, 17, 2)
kept, changed = square[..., 0], square[..., 1]
t, s = 0.5 * torch.sin(2 * kept), torch.tanh(torch.cos(2 * kept)) * 0.7
couplings.draw_areas(
    {
        "a square grid": square,
        "additive (NICE)": torch.stack([kept, changed + t], dim=-1),
        "affine (Real NVP)": torch.stack([kept, changed * s.exp() + t], -1),
    }
)
plt.show()

# %% [markdown]
# ### Scale, then shift; or shift, then scale
#
# The authors' code does not compute {eq}`eq:coupling` but $(x + t) \odot \exp(s)$: it shifts first. Users of a
# faithful port have reported this as a bug, [twice](https://github.com/chrischute/real-nvp/issues/4)
# [over](https://github.com/chrischute/real-nvp/issues/15). It is another parametrisation of the same maps:
# $(x + t)\, e^s = x\, e^s + t'$ with $t' = t\, e^s$. Determinant and inverse are what they were. Training
# differs a little, since a step in $t$ now moves $y$ by $e^s$ times as much. A field of the
# configuration chooses; the {doc}`next chapter <04_multiscale>` meets more such fields.

# %%
shift_first = CheckerboardCoupling(
    Parity.ODD,
    coupling.net,
    scale_init=1.0,
    order=AffineOrder.SHIFT_THEN_SCALE,
)
y_paper, log_det_paper = coupling(image[None])
y_code, log_det_code = shift_first(image[None])
t, s = coupling.shift_and_log_scale(image[None], b)
assert torch.allclose(y_code - y_paper, t * s.exp() - t)
assert log_det_code == log_det_paper
assert (shift_first.inverse(y_code)[0] - image).abs().max() < 1e-12

# %% [markdown]
# ## Composition
#
# One coupling leaves half of the image alone. The remedy is to take turns: what one layer keeps, the next one
# changes (section 3.5).

# %% mystnb={"figure": {"caption": "After figure 4(a) of {cite:t}`dinh2017realnvp`: three couplings with alternating roles. Blue: still the input. Orange: changed at least once.", "name": "fig-alternation"}, "image": {"alt": "Two columns of boxes, to be read upwards. In the first coupling the left half is kept and changes the right one; in the second the right half is kept and changes the left one; in the third the left half is kept again."}}
couplings.draw_alternation()
plt.show()

# %% [markdown]
# A composition is as tractable as its parts (equations 10 to 12):
#
# $$
# \frac{\partial (f_b \circ f_a)}{\partial x_a^{\mathsf T}}(x_a)
#   &= \frac{\partial f_b}{\partial x_b^{\mathsf T}}\bigl(x_b = f_a(x_a)\bigr)
#      \cdot \frac{\partial f_a}{\partial x_a^{\mathsf T}}(x_a), \\
# \det(A \cdot B) &= \det(A)\, \det(B), \\
# (f_b \circ f_a)^{-1} &= f_a^{-1} \circ f_b^{-1}.
# $$ (eq:composition)
#
# So log-determinants add up along the way, and the inverse runs backwards. Word for word:
#
# ```{literalinclude} ../nvp/flows/bijection.py
# :pyobject: Composition
# ```
#
# The whole is *not* triangular any more, in any order of the pixels, and that is the point: it is a product of
# triangular matrices under two different orders, whose determinant is cheap all the same.

# %%
torch.manual_seed(2)
layers = [
    CheckerboardCoupling(parity, dense_net(), scale_init=1.0)
    for parity in (Parity.ODD, Parity.EVEN, Parity.ODD)
]
matrices = {}
for count in (1, 2, 3):
    flow = Composition(layers[:count])
    matrix = jacobian_at(flow, image)
    z, log_det = flow(image[None])
    assert (log_det - matrix.slogdet().logabsdet).abs() < 1e-12
    assert (flow.inverse(z)[0] - image).abs().max() < 1e-12
    name = f"{count} coupling{'s' * (count > 1)}"
    matrices[name] = matrix[kept_first][:, kept_first]

shares = [(matrix != 0).double().mean().item() for matrix in matrices.values()]
assert shares[2] == 1
print("entries that are not zero:", *(f"{share:.0%}" for share in shares))

# %% mystnb={"figure": {"caption": "Jacobians of one, two and three alternating couplings, pixels that the first one keeps first. After three, every output depends on every input. (No figure in the paper.)", "name": "fig-composition"}, "image": {"alt": "Three matrices. One coupling: lower triangular with a diagonal block. Two: full but for the lower right block, which is diagonal. Three: full."}}
couplings.draw_matrices(matrices)
plt.show()

# %% [markdown]
# How many couplings does it take, then, until every output depends on every input? Two leave a block of zeros: the half
# that was changed first has heard of the other half, but not of its own neighbours. Three are enough, and that
# is how many of each kind a scale of the paper's architecture has.
#
# ## Batch normalisation is a bijection, too
#
# Deep flows are hard to train, and the paper puts a batch normalisation {cite}`ioffe2015batchnorm` behind each
# coupling (section 3.7). It divides by a standard deviation, so it changes volume, and has to report by how
# much. Given the mean $\tilde\mu$ and variance $\tilde\sigma^2$ (equations 17 and 18),
#
# $$
# x \mapsto \frac{x - \tilde\mu}{\sqrt{\tilde\sigma^2 + \epsilon}},
# \qquad
# \log\left|\det\right| = -\frac12 \sum_i \log\bigl(\tilde\sigma_i^2 + \epsilon\bigr).
# $$ (eq:batch-norm)
#
# The sum runs over *every scalar* that is moved. In an image, mean and variance are shared by all pixels of a channel, so each
# counts as often as there are pixels. There is no gain and no shift to learn: the coupling before it has both.
#
# Which scalars are moved is a point where paper and code disagree, and the field `norm_scope` decides. `whole`: all of
# them ("the whole coupling layer output", section 3.7). `transformed`: those that the coupling has
# just changed. `official`: the same ones, but as the authors' code has it, with moments that count a zero for every pixel
# of the kept half. All three are bijections with the right determinant, which is what matters:

# %%
generator = torch.Generator().manual_seed(3)
batch = 3 * torch.randn(500, 2, 4, 4, generator=generator)
rows = []
for scope in NormScope:
    norm = CouplingBatchNorm(2, scope, momentum=1.0, running_average=False)
    normalised, _ = norm.train()(batch, b)  # also stores the moments
    norm.eval()
    one = batch[0]
    matrix = jacrev(lambda x, norm=norm: norm(x[None], b)[0][0])(one)
    log_det = norm(one[None], b)[1].item()
    assert abs(matrix.reshape(32, 32).slogdet().logabsdet - log_det) < 1e-12
    assert (norm.inverse(norm(batch, b)[0], b)[0] - batch).abs().max() < 1e-12
    deviations = [
        normalised.masked_select(part).std().item() for part in (~b, b)
    ]
    moved = 32 if scope is NormScope.WHOLE else 16
    variance = norm.running_var.mean().item()
    by_hand = -0.5 * moved * math.log(variance + EPSILON)
    assert abs(log_det - by_hand) < 0.1  # both channels nearly alike
    rows.append([f"`{scope}`", moved, *(f"{s:.2f}" for s in deviations)])
header = ["scope", "scalars moved", "std. of changed", "std. of kept"]
figures.show_table(header, rows)

# %% [markdown]
# The input had a standard deviation of 3. The zeros halve the variance that the authors' code sees, so the half that it normalises comes out with
# $\sqrt 2$ instead of 1: a curiosity, and harmless, since {eq}`eq:batch-norm` accounts for what was really done.
#
# ### In training, the determinant is that of another map
#
# In evaluation, $\tilde\mu$ and $\tilde\sigma$ are constants, and everything above is exact. In training they are
# the moments of the current batch. Then an image's output depends on the other images, and {eq}`eq:batch-norm` treats as constant what
# is not. How far is it from the determinant of the map that the whole batch undergoes? Take the
# smallest case, one scalar per image:


# %%
def normalise(x):
    return (x - x.mean()) / torch.sqrt(x.var(correction=0) + EPSILON)


x = torch.randn(16, generator=generator)
singular_values = torch.linalg.svdvals(jacrev(normalise)(x))
regular = 1 / torch.sqrt(x.var(correction=0) + EPSILON)
assert torch.allclose(singular_values[:-2], regular)
assert singular_values[-2] < 1e-3
assert singular_values[-1] < 1e-12

# %% [markdown]
# Of 16 singular values 14 are what the formula assumes, and two are not: one is zero, since a shift of the whole batch is
# lost, and one nearly zero, since so is its scale. As a map of the whole batch, batch normalisation is
# *not* a bijection. In an image model these are two directions among the thousands that share a mean and a variance, and training gets by; but a
# likelihood that is to be reported has to come from evaluation mode, where the map is what the formula
# says. (What the running averages have to do with it, {doc}`05_integers_to_bits` will show.)
#
# ## Summary
#
# * A coupling keeps one part, and lets it scale and shift the other: inverse and determinant are as cheap as
#   the map, with $s$ and $t$ arbitrary.
# * Masks say which part is kept. $\log|\det|$ is the sum of $s$ over what is *not* kept.
# * $s$ is bounded by a learned scale; with $s = 0$ the layer is that of NICE.
# * Couplings that take turns make a flexible whole. Log-determinants add; after three couplings everything may depend on everything.
# * Batch normalisation is one more bijection, with a log-determinant of its own, exact in evaluation mode.
#
# ## Exercises
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
# With the kept part $k$ and the changed part $c$, the second layer gets $c\, e^{s_1(k)} + t_1(k)$ and makes of
# it $c\, e^{s_1(k) + s_2(k)} + t_1(k)\, e^{s_2(k)} + t_2(k)$: a coupling with $s = s_1 + s_2$ and $t = t_1 e^{s_2} + t_2$.

# %%
first, _, second = layers  # both keep the odd squares
z = second(first(image[None])[0])[0]
t1, s1 = first.shift_and_log_scale(image[None], b)
t2, s2 = second.shift_and_log_scale(image[None], b)
assert torch.allclose(z, image * (s1 + s2).exp() + t1 * s2.exp() + t2)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} As arbitrary as you like
# :label: ex-arbitrary
#
# Use {eq}`eq:coupling` with $t(k) = \lfloor 10 k \rfloor$ and $s(k) = \operatorname{sign} k$. Is the layer still invertible? Is the
# log-determinant still right? Why would you not train it?
# ```
#
# ```{solution-start} ex-arbitrary
# :class: dropdown
# ```
# Invertible: yes, nothing was asked of $s$ and $t$. The log-determinant is right wherever the layer is
# differentiable, which is everywhere but on a set of probability 0. But the derivatives of $s$ and $t$ are 0, and so is the
# gradient of whatever comes before.

# %%
kept, changed = torch.randn(2, 100, 4, generator=generator)
s, t = torch.sign(kept), torch.floor(10 * kept)
y = changed * s.exp() + t
assert torch.allclose((y - t) * (-s).exp(), changed)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A step too far
# :label: ex-own-scale
#
# Could $s$ not look at the part that it scales? Take $D = 1$ and $y = x\, e^{s(x)}$ with $s(x) = -x^2$.
# ```
#
# ```{solution-start} ex-own-scale
# :class: dropdown
# ```
# Then $y = x\, e^{-x^2}$ rises up to $x = 1/\sqrt 2$ and falls behind it: two $x$ for one $y$, no inverse. The derivative is
# not $e^{s(x)}$, either, but $(1 - 2x^2)\, e^{s(x)}$.

# %%
x = torch.linspace(0, 3, 3001)
y = x * torch.exp(-(x**2))
assert abs(x[y.argmax()] - 1 / math.sqrt(2)) < 1e-3
assert (y.diff() > 0).any()
assert (y.diff() < 0).any()

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Three shears make a rotation
# :label: ex-rotation
#
# Rotate the plane by an angle $\theta$ with three additive couplings that take turns. Why would two not do?
# ```
#
# ```{solution-start} ex-rotation
# :class: dropdown
# ```
# Additive couplings with linear $t$ are shears. Two of them multiply to a matrix with a 1 on its diagonal, and a rotation has
# $\cos\theta$ twice. Three do it, with $t = -\tan(\theta/2)\, x_2$, then $\sin\theta\; x_1$, then $-\tan(\theta/2)\, x_2$ again. So three couplings
# of NICE, which preserves volume, can mix two coordinates completely.

# %%
theta = torch.tensor(0.7)
a, c = -torch.tan(theta / 2), torch.sin(theta)
points = torch.randn(100, 2, generator=generator)
x1, x2 = points.unbind(dim=1)
x1 = x1 + a * x2
x2 = x2 + c * x1
x1 = x1 + a * x2
cos, sin = torch.cos(theta), torch.sin(theta)
rotation = torch.stack([cos, -sin, sin, cos]).reshape(2, 2)
assert torch.allclose(torch.stack([x1, x2], dim=1), points @ rotation.T)

# %% [markdown]
# ```{solution-end}
# ```
