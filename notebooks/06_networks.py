# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (networks)=
# # The networks s and t, and batch normalisation
#
# ```{admonition} In the paper
# What sections 3.4, 3.7 and 4.1 of {cite:t}`dinh2017realnvp` say of the networks, and batch normalisation:
# equations 17 and 18 of section 3.7, and the running averages of appendix E. The main text has no figure for any of it.
# ```
#
# The mathematics of a coupling asks nothing of $s$ and $t$, so the paper can choose them for one purpose: that
# training works. Chapter {ref}`coupling-layers` left them arbitrary. Here we take the network apart, ask of every part what it is for, and measure. Then
# batch normalisation, which has two lives in this model: inside the networks, where anything goes, and between
# the couplings, where it is part of the likelihood.

# %% tags=["parameters"]
profile = "laptop"

# %%
import copy
import csv
import math
import types

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import figures
from nvp_book.figures import networks as pictures
from nvp_book.figures.training import draw_statistics
from torch.func import jacrev

from nvp import RealNVP, RealNVPConfig
from nvp.config import DataConfig, RunConfig, TrainingConfig
from nvp.data import EMBEDDED, load
from nvp.flows.batchnorm import EPSILON, CouplingBatchNorm, NormScope
from nvp.flows.coupling import AffineCoupling, CheckerboardCoupling
from nvp.flows.masks import Parity, checkerboard_mask
from nvp.flows.preprocess import dequantise, uniform_noise
from nvp.flows.resnet import (
    CouplingNet,
    InputTreatment,
    ShiftedBatchNorm,
    WeightNormConv2d,
)
from nvp.likelihood import (
    bits_per_dim,
    evaluate,
    reestimate_statistics,
    score_images,
)
from nvp.model import batch_norms, batch_statistics
from nvp.paths import results_root
from nvp.tables.build import runs
from nvp.training.loop import next_batch, training_step
from nvp.training.state import begin

figures.use_style()
torch.set_num_threads(1)  # sums in one order, however many cores
full = profile == "paper"

images = load(EMBEDDED, "train").images
test_images = load(EMBEDDED, "test").images
ledger = runs()

# %% [markdown]
# ## The whole network, by hand
#
# The paper has few words for it: rectified convolutional residual networks, with batch and weight
# normalisation and with skip connections. The layout is that of the authors' code {cite}`dinh2016code`. Here it
# is once more, with nothing but a convolution and arithmetic, and with the weights of a `CouplingNet`. The
# argument `b` is the mask of a checkerboard; a channel-wise coupling has none.


# %%
def conv(layer, x):
    """Weight normalisation: w = g v / |v|, one norm a filter."""
    v = layer.v
    w = v / v.flatten(1).norm(dim=1)[:, None, None, None]
    if layer.g is not None:
        w = w * layer.g[:, None, None, None]
    return F.conv2d(x, w, layer.bias, padding=v.shape[-1] // 2)


def norm(layer, x):
    """Batch norm in evaluation mode: a shift beta, and no gain."""
    mean = layer.running_mean[:, None, None]
    variance = layer.running_var[:, None, None]
    shift = layer.beta[:, None, None]
    return (x - mean) / torch.sqrt(variance + 1e-4) + shift


def network(net, x, b=None):
    """(N, i, H, W), masked -> t and the pre-activation of s."""
    h = norm(net.treatment.norm, x)
    if b is not None:
        h = 2 * h
    parts = [h, -h]
    if b is not None:
        parts.append(b.expand(len(x), -1, -1, -1))
    h = conv(net.conv_in, F.relu(torch.cat(parts, dim=1)))
    total = conv(net.skip_in, h)
    for block, skip in zip(net.blocks, net.skips, strict=True):
        inner = conv(block.conv1, F.relu(norm(block.norm1, h)))
        h = h + conv(block.conv2, F.relu(norm(block.norm2, inner)))
        total = total + conv(skip, h)
    return conv(net.conv_out, F.relu(norm(net.norm_out, total)))


def new_net(channels, kept, width, blocks, seed=0):
    """A fresh network for a checkerboard, or (kept = None) channels."""
    torch.manual_seed(seed)
    treatment = InputTreatment(
        channels, kept, concatenated_relu=True, mask_channel=True
    )
    return CouplingNet(treatment, channels, width, blocks)


generator = torch.Generator().manual_seed(0)
x = torch.randn(8, 3, 8, 8, generator=generator, dtype=torch.double)
b = checkerboard_mask(8, 8)
for kept, mask in ((Parity.ODD, b), (None, None)):
    net = new_net(3, kept, width=8, blocks=3).double()
    seen = x if mask is None else x * mask
    for _ in range(20):  # moments of its own for every norm
        net.train()(seen)
    assert torch.allclose(network(net.eval(), seen, mask), net(seen))

# %% [markdown]
# The blocks are **pre-activation** blocks {cite}`he2016identity`: norm and ReLU come before each convolution, and
# nothing stands on the path of $h$ itself. And the output is read from a sum to which every depth contributes
# through a 1 × 1 convolution. Both give the gradient a short way. What would happen without? In a fresh network,
# how large is the gradient that arrives at the first convolution, as the stack gets deeper?


# %%
def first_gradient(residual, skips, blocks):
    """Norm of the gradient at what the first convolution returns."""
    net = new_net(1, Parity.ODD, width=16, blocks=blocks)
    x = images[:8, :, 6:22, 6:22].float() / 64 - 2
    first = net.conv_in(net.treatment(x * checkerboard_mask(16, 16)))
    first.retain_grad()
    h, total = first, net.skip_in(first)
    for block, skip in zip(net.blocks, net.skips, strict=True):
        inner = block.conv1(F.relu(block.norm1(h)))
        change = block.conv2(F.relu(block.norm2(inner)))
        h = h + change if residual else change
        total = total + skip(h)
    out = net.conv_out(F.relu(net.norm_out(total if skips else h)))
    generator = torch.Generator().manual_seed(1)
    (out * torch.randn(out.shape, generator=generator)).sum().backward()
    return first.grad.norm().item()


designs = {
    "as it is": (True, True),
    "no skips": (True, False),
    "no residual path": (False, True),
    "neither": (False, False),
}
depths, rows, growth = (1, 4, 16), [], {}
for name, (residual, skips) in designs.items():
    norms = [first_gradient(residual, skips, blocks) for blocks in depths]
    growth[name] = norms[-1] / norms[0]
    rows.append([name, *(f"{norm / norms[0]:.0f}" for norm in norms)])
header = ["gradient, relative to one block"]
figures.show_table(header + [f"$B = {blocks}$" for blocks in depths], rows)
assert growth["as it is"] < 5
assert growth["no residual path"] > 30 * growth["as it is"]

# %% [markdown]
# It does not vanish, it *grows*. Batch norm divides by a standard deviation at every layer, and in a plain stack
# of random layers this multiplies the gradient by a factor above 1 each time {cite}`yang2019meanfield`; a
# residual path, whose own variance grows along the way, takes the factor down to nearly 1. The skips add less.
#
# ### What the input treatment is for
#
# **Concatenated ReLU** {cite}`shang2016crelu`. A ReLU at the entrance would lose every negative value; both
# $\operatorname{relu}(h)$ and $\operatorname{relu}(-h)$ together lose nothing, since
# $h = \operatorname{relu}(h) - \operatorname{relu}(-h)$. A linear layer behind them can be any linear layer of
# $h$, and of $|h| = \operatorname{relu}(h) + \operatorname{relu}(-h)$ besides.
#
# **The factor of two.** Under a checkerboard the code doubles what the first batch norm leaves, and does not say why.
# Chapter {ref}`paper-and-code` works out what it does.
#
# **The mask as a channel.** Once it is masked, a mid-grey image, where $h = 0$, looks the same at kept pixels and in the
# gaps of the checkerboard. With one more channel that holds $b$ the network knows where its gaps are:

# %%
h = torch.randn(1000, generator=generator)
assert torch.equal(F.relu(h) - F.relu(-h), h)
assert torch.equal(F.relu(h) + F.relu(-h), h.abs())

grey = torch.zeros(1, 1, 12, 12)
inner = (slice(None), slice(None), slice(3, 9), slice(3, 9))
kinds = []
for mask_channel in (True, False):
    treatment = InputTreatment(
        1, Parity.ODD, concatenated_relu=True, mask_channel=mask_channel
    )
    torch.manual_seed(0)
    net = CouplingNet(treatment, 1, width=8, num_blocks=1).eval()
    found = net.conv_in(treatment(grey))[inner][0].flatten(1).T
    kinds.append(len(found.round(decimals=5).unique(dim=0)))
assert kinds == [2, 1]
print("kinds of features in a grey image:", *kinds)

# %% [markdown]
# ## Weight normalisation
#
# Each filter is a direction and a length {cite}`salimans2016weightnorm`,
#
# $$
# w = g\, \frac{v}{\lVert v \rVert} ,
# $$ (eq:weight-norm)
#
# with one $g$ and one norm for each output channel. What does this do to training by gradients?
#
# ```{prf:proposition} The length of $v$ only grows
# :label: prop-weight-norm
#
# Let a loss depend on $v$ through {eq}`eq:weight-norm` alone. Then its gradient is orthogonal to $v$, and
# after a gradient step $v' = v - \eta \nabla_v$,
#
# $$
# \lVert v' \rVert^2 = \lVert v \rVert^2 + \eta^2 \lVert \nabla_v \rVert^2 .
# $$ (eq:filter-length)
#
# Moreover $\nabla_{cv} = \nabla_v / c$ for $c > 0$: the longer $v$, the smaller the steps of its direction.
# ```
#
# ```{prf:proof}
# $w$ does not change when $v$ is multiplied by $c > 0$, so the loss $\ell$ does not either. Differentiate
# $\ell(cv) = \ell(v)$ by $c$ at $c = 1$: $v^{\mathsf T} \nabla_v = 0$, and {eq}`eq:filter-length` is Pythagoras. Differentiate it by
# $v$: $c\, \nabla_{cv} = \nabla_v$.
# ```
#
# So a filter that receives large or erratic gradients lengthens, and by that lowers its own rate. (Adam, whose steps
# do not follow the gradient's length, keeps the first part only roughly.) In the network:

# %%
net = new_net(3, Parity.ODD, width=8, blocks=2).double().train()
target = torch.randn(8, 6, 8, 8, generator=generator, dtype=torch.double)
layer = net.blocks[0].conv1
lengths = [layer.v.detach().flatten(1).norm(dim=1)]
for _ in range(5):
    net.zero_grad()
    (net(x * b) - target).square().sum().backward()
    radial = (layer.v * layer.v.grad).sum(dim=(1, 2, 3))
    assert radial.abs().max() < 1e-9 * layer.v.grad.norm()
    with torch.no_grad():
        layer.v -= 1e-3 * layer.v.grad
    lengths.append(layer.v.detach().flatten(1).norm(dim=1))
assert (torch.stack(lengths).diff(dim=0) > 0).all()

# %% [markdown]
# Where a batch norm follows, the length $g$ itself has no say: the norm divides it out again, up to its $\epsilon$.
# So the first convolution of each block has none, and only directions to learn. (The authors' code leaves it out at the
# entrance of the network, too, where it would count: that output is added to those of the blocks.)

# %%
with torch.no_grad():
    before = net(x * b)
    conv1 = net.blocks[0].conv1
    conv1.g = torch.nn.Parameter(torch.full((8,), 10.0).double())
    after = net(x * b)
    conv1.g = None
assert (after - before).abs().max() < 1e-2 * before.std()

# %% [markdown]
# ## What a fresh network computes
#
# The raw filters are drawn uniformly, the gains are $g = \sqrt{k^2 / 6}$ for a kernel of side $k$ (a constant of the
# authors' code), biases and shifts are 0. That is enough to say what comes out.
#
# ```{prf:proposition} The output of a fresh network
# :label: prop-fresh
#
# Let the entries of $v$ be independent, with one distribution that is symmetric about 0, and let $r$ be what the
# convolution is applied to, with mean square $q$. Away from the edges the output $w * r$ has in expectation over
# $v$ the mean square $g^2 q$.
#
# If $r = \operatorname{relu}(n)$ with $n$ fresh from a batch norm and distributed symmetrically, $q = 1/2$. Then $t$ and
# the pre-activation of $s$ have a mean square of $1/12$, and each block adds $3/4$ to that of the trunk, whatever the
# width, the depth and the image.
# ```
#
# ```{prf:proof}
# To flip the sign of one entry of $v$ changes neither its distribution nor $\lVert v \rVert$, so $\mathbb E[w_i w_j] = 0$ for
# $i \ne j$. All entries are alike, and $\sum_i w_i^2 = g^2$, so $\mathbb E[w_i^2] = g^2 / m$ for $m$ entries. Hence
# $\mathbb E[(w^{\mathsf T} r)^2] = \frac{g^2}{m} \sum_i r_i^2$. For the second part, $\operatorname{relu}(n)^2 +
# \operatorname{relu}(-n)^2 = n^2$ has mean 1, and both terms have the same one. The last convolution has $k = 1$, so
# $g^2 q = \frac16 \cdot \frac12$; the second of a block has $k = 3$, so $\frac{9}{6} \cdot \frac12$, and is drawn
# independently of the trunk, so that the mixed term has expectation 0.
# ```


# %%
def trunk(net, x):
    """Mean squares of the trunk after each block, and of the output."""
    squares = []
    hooks = [
        layer.register_forward_hook(
            lambda layer, inputs, out: squares.append(out.square().mean())
        )
        for layer in (net.conv_in, *net.blocks)
    ]
    with torch.no_grad():
        out = net(x)
    for hook in hooks:
        hook.remove()
    return torch.stack(squares), out.square().mean().item()


some = images[:16, :, ::2, ::2].float() / 64 - 2
masked = some * checkerboard_mask(14, 14)
squares, outputs = zip(
    *(trunk(new_net(1, Parity.ODD, 24, 8, seed), masked) for seed in range(8)),
    strict=True,
)
squares = torch.stack(squares)
slope = (squares[:, -1] - squares[:, 0]).mean().item() / 8
output = sum(outputs) / len(outputs)
assert abs(slope - 3 / 4) < 0.15
assert abs(output - 1 / 12) < 0.15 / 12
print(f"a block adds {slope:.1f}; the output has {output:.2f}")

# %% mystnb={"figure": {"caption": "The mean square along the trunk of eight fresh networks of eight blocks, on images, and the slope of {prf:ref}`prop-fresh`. (No figure in the paper.)", "name": "fig-fresh-trunk"}, "image": {"alt": "Mean square over blocks passed. Eight thin grey lines rise unevenly; their mean rises nearly straight, close to a dashed line of slope three quarters."}}
pictures.draw_trunk(squares, 0.75)
plt.show()

# %% [markdown]
# So a fresh network is not silent: $t$ is about $\pm 0.3$. What of $s = \alpha \tanh(\cdot)$? In a checkerboard
# coupling $\alpha$ starts at 0, as in the authors' code, and the coupling shifts and does not scale. In a channel-wise
# one $\alpha$ starts at 1, and $e^s$ is between 3/4 and 4/3 for most. Neither is the identity, and behind each comes a
# batch norm. Score images with a model that has learned nothing:


# %%
def no_flow(images, generator):
    """Bits/dim with f the identity: logit and prior, nothing else."""
    noise = uniform_noise(images, torch.float32, generator)
    y, log_dy = fresh.logit(dequantise(images, noise))
    dims = images[0].numel()
    log_p = fresh.prior.log_prob(y) + log_dy - dims * math.log(256)
    return bits_per_dim(log_p, fresh.image_shape).mean().item()


few = test_images[:100]
torch.manual_seed(0)
sizes = {"num_scales": 2, "num_blocks": 1, "width": 8}
fresh = RealNVP(RealNVPConfig.paper((1, 28, 28), **sizes))
scores = {"no flow": no_flow(few, torch.Generator().manual_seed(0))}
scores["fresh flow, moments still 0 and 1"] = evaluate(fresh, few).bits_per_dim
with batch_statistics(fresh):
    scores["fresh flow, moments of the batch"] = (
        score_images(fresh, few).mean().item()
    )
reestimate_statistics(fresh, images[:500])
scores["fresh flow, moments re-estimated"] = evaluate(fresh, few).bits_per_dim
figures.show_table(
    ["without any training", "bits/dim"],
    [[name, f"{bits:.1f}"] for name, bits in scores.items()],
)
without, *_, with_moments = scores.values()
assert with_moments < without - 1

# %% [markdown]
# In training the norms have the moments of the batch from the first step on, so a curve of the loss begins at the lower
# figure already. What is gained up to there is the norms' doing, and no achievement of the networks.
#
# ### A scale that starts at zero
#
# With $\alpha = 0$ the derivative of $s$ by its pre-activation is 0, too. So the half of the last convolution that makes
# $s$ learns nothing in the first step; only $\alpha$ does, and then the rest, in proportion to it.

# %%
fresh.train().zero_grad()
fresh.loss(images[:16], torch.Generator().manual_seed(0)).backward()
for coupling in fresh.modules():
    if isinstance(coupling, AffineCoupling):
        of_t, of_s = coupling.net.conv_out.v.grad.chunk(2)
        assert of_t.abs().max() > 0
        assert coupling.scale.grad.abs() > 0
        at_rest = (of_s == 0).all().item()
        assert at_rest == isinstance(coupling, CheckerboardCoupling)

# %% [markdown]
# Adam moves $\alpha$ by about its rate a step, a thousandth, and a short run is over before $s$ has become worth
# having. Hence two changes that the recorded runs make to the recipe of the authors' code (the paper does not say
# where $\alpha$ starts): every $\alpha$ starts at 1, and has ten times the rate. These are the trials that decided it, on MNIST, scored on images that were held out:

# %%
with (results_root() / "trials.csv").open(newline="") as file:
    trials = list(csv.DictReader(file))
alike = "training.batch_size=32"
wanted = {
    "α from 0, as the authors' code": alike,
    "α from 1, ten times the rate": f"{alike} "
    "model.checkerboard_scale_init=1.0 training.tanh_scale_rate=10",
}
found = {}
for name, changes in wanted.items():
    (trial,) = [t for t in trials if t["changes"] == changes]
    found[name] = [
        float(trial["minutes"]),
        float(trial["held_out_bits_per_dim"]),
        float(trial["standard_error"]),
    ]
figures.show_table(
    ["trial", "minutes", "held out, bits/dim", "±"],
    [
        [name, f"{minutes:.1f}", f"{held:.2f}", f"{error:.2f}"]
        for name, (minutes, held, error) in found.items()
    ],
)
from_zero, from_one = (held for _, held, _ in found.values())
assert from_one < from_zero

# %% mystnb={"figure": {"caption": "The learned scale $\\alpha$ of every coupling in two recorded runs, in the order in which data pass. All began at 1, dashed. (No figure in the paper.)", "name": "fig-learned-scales"}, "image": {"alt": "Two bar charts of sixteen couplings each, checkerboard ones blue and channel-wise ones orange. In both the first six bars are on average well above the last four."}}
titles = {"fashion-mnist": "Fashion-MNIST", "mnist": "MNIST"}
learned = {}
for name, title in titles.items():
    learned[title] = []
    for module in ledger[name].load_model().modules():
        if isinstance(module, AffineCoupling):
            board = isinstance(module, CheckerboardCoupling)
            kind = "checkerboard" if board else "channel-wise"
            learned[title].append((kind, module.scale.item()))
    strengths = [abs(alpha) for _, alpha in learned[title]]
    assert sum(strengths[:6]) / 6 > 1.5 * sum(strengths[-4:]) / 4
pictures.draw_learned_scales(learned, start=1.0)
plt.show()

# %% [markdown]
# A coupling scales by factors between $e^{-|\alpha|}$ and $e^{|\alpha|}$. On average the six of the
# finest scale kept more of their range than the last four, which act on the quarter of the dimensions that is left.
#
# ## Why $s$ is bounded
#
# Suppose it were not: $s$ is what the network returns. Each coupling multiplies by $e^s$, and what it has multiplied is
# the input of the next network and of the next product. In the model of the last section, without the batch norms
# between couplings, turn up the gain of the last convolution of every network, as a few large steps of training would.


# %%
def unbounded(model):
    """Take the tanh and its scale out of every coupling."""

    def shift_and_log_scale(coupling, x, b, y=None):
        return coupling.net_output(x, b, y)

    for module in model.modules():
        if isinstance(module, AffineCoupling):
            module.shift_and_log_scale = types.MethodType(
                shift_and_log_scale, module
            )


def largest_latent(bounded, gain):
    """max |z| for images, gains of all last layers times `gain`."""
    torch.manual_seed(0)
    model = RealNVP(
        RealNVPConfig.paper(
            (1, 28, 28),
            **sizes,
            norm_scope=None,
            checkerboard_scale_init=1.0,
        )
    )
    if not bounded:
        unbounded(model)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, CouplingNet):
                module.conv_out.g *= gain
        generator = torch.Generator().manual_seed(0)
        z = model.encode(test_images[:8], generator).abs()
    return z.nan_to_num(math.inf).max().item()


# %% mystnb={"figure": {"caption": "The largest latent of eight images, in fresh models without batch norms between couplings, as the gain of the last convolution of every network is raised. The bounded model has $\\alpha = 1$. A point on the dashed line is infinite. (No figure in the paper.)", "name": "fig-blow-up"}, "image": {"alt": "On logarithmic axes, the largest latent over a gain of 1 to 64. The bounded curve rises gently to some thousands. The unbounded one is far above it from a gain of 2 on, and at 16 it meets the line of the largest float32."}}
gains = (1, 2, 4, 8, 16, 32, 64)
largest = {
    name: [largest_latent(bounded, gain) for gain in gains]
    for name, bounded in (("s unbounded", False), ("s = α tanh", True))
}
assert largest["s unbounded"][-2] == math.inf
assert largest["s = α tanh"][-1] < 1e6
pictures.draw_blow_up(gains, largest)
plt.show()

# %% [markdown]
# With the bound the factor of a coupling is at most $e^{|\alpha|}$, and what still grows is $t$, in proportion to the gain and not to
# its exponential. Chapter {ref}`when-it-diverges` trains without it.
#
# ## Batch normalisation, as a bijection
#
# Between couplings the batch norm is part of $f$ (section 3.7, equations 17 and 18). Its log-determinant counts each channel
# as often as it has pixels.
#
# ```{prf:proposition} Log-determinant of batch normalisation
# :label: prop-batch-norm
#
# Let $\tilde\mu_c$ and $\tilde\sigma_c^2$ be constants, one pair for each channel, and $x_c \mapsto
# (x_c - \tilde\mu_c) / \sqrt{\tilde\sigma_c^2 + \epsilon}$ act on $n_c$ scalars of an image for each channel $c$. It is a
# bijection of $\mathbb R^D$, and
#
# $$
# \log\left|\det\right| = -\tfrac12 \textstyle\sum_c n_c \log(\tilde\sigma_c^2 + \epsilon).
# $$ (eq:batch-norm)
#
# On a whole image of $H \times W$ pixels $n_c = H W$; where only one colour of a checkerboard is moved, half of it.
# ```
#
# ```{prf:proof}
# Each output depends on its own input only, so the Jacobian is diagonal; a moved scalar of channel $c$ contributes
# $(\tilde\sigma_c^2 + \epsilon)^{-1/2} > 0$, and one that is not moved 1. The product of the diagonal is the determinant, and as it is
# not 0, $x = z \sqrt{\tilde\sigma^2 + \epsilon} + \tilde\mu$ undoes the map.
# ```

# %%
side, channels = 6, 2
board = checkerboard_mask(side, side)
batch = torch.randn(64, channels, side, side, generator=generator).double()
batch = batch * torch.tensor([0.5, 3.0])[:, None, None] + 1
for scope, moved in ((NormScope.WHOLE, 36), (NormScope.TRANSFORMED, 18)):
    layer = CouplingBatchNorm(
        channels, scope, momentum=1.0, running_average=False
    ).double()
    layer.train()(batch, board)  # takes the moments of the batch
    layer.eval()
    one = batch[:1]
    jacobian = jacrev(lambda x, layer=layer: layer(x, board)[0])(one)
    by_autograd = jacobian.reshape(72, 72).slogdet().logabsdet
    by_hand = -0.5 * moved * (layer.running_var + EPSILON).log().sum()
    assert (layer(one, board)[1] - by_autograd).abs() < 1e-10
    assert (by_hand - by_autograd).abs() < 1e-10

# %% [markdown]
# ### In training it is another map
#
# That was with constants. In training $\tilde\mu$ and $\tilde\sigma^2$ are the moments of the batch, and two
# singular values of the map of a whole batch are not what the formula assumes. So what happens to *one* image, given the others?
#
# ```{prf:proposition} Batch normalisation in training
# :label: prop-training-mode
#
# Let $m$ scalars share a mean $\mu$ and a variance $\sigma^2$, write $\tilde\sigma^2 = \sigma^2 + \epsilon$ and
# $\hat x = (x - \mu) / \tilde\sigma$, and $U = [\mathbf 1, \hat x]$ with two columns. Then
#
# $$
# \frac{\partial \hat x}{\partial x^{\mathsf T}} = \frac{1}{\tilde\sigma} \Bigl( I - \tfrac1m U U^{\mathsf T} \Bigr) .
# $$ (eq:training-jacobian)
#
# Its eigenvalues are 0 along $\mathbf 1$, $\epsilon / \tilde\sigma^3$ along $\hat x$, and $1 / \tilde\sigma$ otherwise. If $n = m / N$
# of the scalars belong to one image of a batch of $N$, and the other images are held fixed, the determinant of
# that image's own map is
#
# $$
# \frac{1}{\tilde\sigma^{n}} \Bigl[ & \Bigl(1 - \frac1N\Bigr) \Bigl(1 - \frac{\lVert \hat x \rVert^2}{m}\Bigr) \\
#   & - \frac{(\mathbf 1^{\mathsf T} \hat x)^2}{m^2} \Bigr]
# $$ (eq:own-determinant)
#
# with $\hat x$ now that image's part. For $\lVert \hat x \rVert^2 = n$ and $\mathbf 1^{\mathsf T} \hat x = 0$ this is
# $\tilde\sigma^{-n} (1 - 1/N)^2$.
# ```
#
# ```{prf:proof}
# $\partial \mu / \partial x_j = 1/m$ and $\partial \tilde\sigma / \partial x_j = (x_j - \mu) / (m \tilde\sigma) = \hat x_j / m$, and the
# quotient rule gives {eq}`eq:training-jacobian`. As $\mathbf 1^{\mathsf T} \hat x = 0$ over the batch and $\lVert \hat x
# \rVert^2 = m \sigma^2 / \tilde\sigma^2$, the eigenvalue along $\hat x$ is $\frac{1}{\tilde\sigma}(1 - \sigma^2 /
# \tilde\sigma^2)$. For one image take its rows and columns: the same form, with the $n$ rows of $U$ that
# belong to it. And $\det(I_n - \frac1m U U^{\mathsf T}) = \det(I_2 - \frac1m U^{\mathsf T}
# U)$, which is the bracket.
# ```


# %%
def normalise(x):
    """Batch norm in training, all of x sharing its moments."""
    return (x - x.mean()) / torch.sqrt(x.var(correction=0) + EPSILON)


N, n = 4, 9
m = N * n
x = 2 * torch.randn(N, n, generator=generator).double() + 1
hat, sigma = normalise(x), torch.sqrt(x.var(correction=0) + EPSILON)
ones, flat = torch.ones(m, m).double(), hat.flatten()
expected = (torch.eye(m).double() - (ones + flat.outer(flat)) / m) / sigma
jacobian = jacrev(lambda x: normalise(x).flatten())(x).reshape(m, m)
assert torch.allclose(jacobian, expected, atol=1e-12)

own = hat[0]
bracket = (1 - 1 / N) * (1 - own.square().sum() / m) - (own.sum() / m) ** 2
alone = jacobian[:n, :n].slogdet().logabsdet
assert torch.allclose(alone, bracket.log() - n * sigma.log(), atol=1e-12)

# %% [markdown]
# What training reports as the log-determinant is $-n \log \tilde\sigma$: too much by $-2 \log(1 - 1/N)$ nats for each channel of
# a norm, about. With 64 images in a batch this is nothing. With two it is $2 \log 2$. And it is no
# bijection of the line. Take one scalar per image, $n = 1$: however large $x$ is, it pulls mean and deviation along, and
# $|\hat x|$ cannot reach $\sqrt{N - 1}$.


# %% mystnb={"figure": {"caption": "Batch normalisation of one scalar per image in training, as a function of one of them, the other $N - 1$ being fixed at mean 0 and variance 1. Dotted: $\\pm\\sqrt{N - 1}$. In evaluation it is the dashed line. (No figure in the paper.)", "name": "fig-saturation"}, "image": {"alt": "Normalised value over x from -12 to 12. The dashed line rises straight. The curves for N = 4, 16 and 64 rise along it and level off, the earlier the smaller N, below the dotted lines."}}
def normalised_beside(x, N):
    """Batch norm of x beside N - 1 scalars of mean 0, variance 1."""
    mean = x / N
    variance = (N - 1 + x**2) / N - mean**2
    return (x - mean) / torch.sqrt(variance), torch.sqrt(variance)


x = torch.linspace(-12, 12, 481).double()
curves = {"in evaluation": x}
for N in (4, 16, 64):
    curves[f"in training, N = {N}"], _ = normalised_beside(x, N)
    assert curves[f"in training, N = {N}"].abs().max() < math.sqrt(N - 1)
pictures.draw_saturation(x, curves, [math.sqrt(N - 1) for N in (4, 16, 64)])
plt.show()

# %% [markdown]
# So the map is not onto: no $x$ has a latent beyond $\sqrt{N - 1}$. With its true derivative the density that it
# gives to $x$ has the mass that the prior puts between the bounds. With the derivative that training uses, $1/\tilde\sigma$, which falls only
# like $1/|x|$, it has *infinite* mass: each factor of ten in the range adds the same amount. A number got in training
# mode is no likelihood of anything.

# %%
N = 4
mass = {}
for reach in (1e2, 1e3, 1e4):
    # The density is even, and changes with the logarithm of x.
    x = torch.logspace(-6, math.log10(reach), 200_001).double()
    z, deviation = normalised_beside(x, N)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    reported = 2 * torch.trapezoid(density / deviation, x)
    true = 2 * torch.trapezoid(density, z)
    mass[reach] = (true.item(), reported.item())
figures.show_table(
    ["mass between ± this", "true derivative", "as training reports it"],
    [[f"{reach:,.0f}", *(f"{p:.2f}" for p in mass[reach])] for reach in mass],
)
assert abs(mass[1e4][0] - math.erf(math.sqrt((N - 1) / 2))) < 1e-3
steps = [mass[1e3][1] - mass[1e2][1], mass[1e4][1] - mass[1e3][1]]
assert abs(steps[1] - steps[0]) < 0.01 < steps[0]

# %% [markdown]
# ## Running averages: appendix E
#
# Small batches make noisy moments. The paper's remedy is to normalise in training, too, by a running average that the current
# batch has a share in (section 3.7). We know the equations of its appendix E from secondary sources only:
#
# $$
# \tilde\mu_{t+1} &= \rho\, \tilde\mu_t + (1 - \rho)\, \hat\mu_t , \\
# \tilde\sigma^2_{t+1} &= \rho\, \tilde\sigma^2_t + (1 - \rho)\, \hat\sigma^2_t ,
# $$ (eq:running)
#
# with the batch's own $\hat\mu_t$, $\hat\sigma^2_t$. What is normalised with is the left side, and gradients go through
# $\hat\mu_t$ and $\hat\sigma_t$ alone: the past is a constant. In the package this is `norm_running_average`, for the norms
# between couplings; those inside the networks stay as they are. (Whether the paper's CIFAR-10 figures were made so, and
# with which $\rho$, is *unverified*.)
#
# ```{literalinclude} ../nvp/flows/batchnorm.py
# :pyobject: CouplingBatchNorm.training_moments
# :dedent: 4
# ```
#
# What does it change? Two things can be computed without training anything. An average with memory $\rho$ of independent
# batches has $(1 - \rho) / (1 + \rho)$ times the variance of one of them. And the gradient through the moments is
# multiplied by $1 - \rho$, so it is another gradient, however large the batch. Which weighs more? Take a small model that
# is half trained, on images of 8 × 8 to save time, with the networks' own norms in evaluation mode so that only the norms in question
# differ. Reference is the gradient of a batch of two thousand; then thirty small batches, with the running averages where they
# should be.

# %%
thumbs = F.avg_pool2d(F.pad(images.float(), (2, 2, 2, 2)), 4)
thumbs = thumbs.round().byte()
held_out, seen = thumbs[-300:], thumbs[:-500]


def small_run(batch_size, steps, running_average):
    """A run of a flow of four couplings on the small images."""
    config = RealNVPConfig.paper(
        (1, 8, 8),
        num_scales=1,
        num_blocks=0,
        width=16,
        checkerboard_scale_init=1.0,
        norm_running_average=running_average,
    )
    training = TrainingConfig(
        steps=steps,
        batch_size=batch_size,
        learning_rate=5e-3,
        anneal=0.5,
        precision="fp32",
    )
    return RunConfig(
        name="small",
        model=config,
        data=DataConfig(name=EMBEDDED),
        training=training,
    )


def trained(run):
    """The state after a run, and the loss of each step in bits/dim."""
    state = begin(run, torch.device("cpu"), len(seen))
    unit = state.model.num_dimensions * math.log(2)
    losses = []
    for step in range(run.training.steps):
        batch = next_batch(state, seen, run)
        done = step / run.training.steps
        losses.append(training_step(state, batch, run.training, done)[0])
    return state, [loss / unit for loss in losses]


state, _ = trained(small_run(32, 100, running_average=False))
model = state.model
reestimate_statistics(model, seen[:2000])
moments = copy.deepcopy(model.state_dict())


def gradient(batch, running_average, seed):
    """All of the gradient of the loss, as one vector."""
    model.load_state_dict(moments)
    model.train()
    for module in model.modules():
        if isinstance(module, CouplingBatchNorm):
            module.running_average = running_average
        if isinstance(module, ShiftedBatchNorm):
            module.eval()
    loss = model.loss(batch, torch.Generator().manual_seed(seed))
    parts = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([part.flatten() for part in parts])


def errors(size, running_average, repeats=200 if full else 30):
    """Standard deviation and bias of the gradient, relative."""
    generator = torch.Generator().manual_seed(1)
    gradients = []
    for seed in range(repeats):
        chosen = torch.randint(len(seen), (size,), generator=generator)
        gradients.append(gradient(seen[chosen], running_average, seed))
    gradients = torch.stack(gradients)
    variance = gradients.var(dim=0).sum()
    # The mean of so many has a variance of its own; take it out.
    square = (gradients.mean(dim=0) - reference).square().sum()
    bias = (square - variance / repeats).clamp(min=0).sqrt()
    length = reference.norm()
    return (variance.sqrt() / length).item(), (bias / length).item()


# %% mystnb={"figure": {"caption": "The gradient of a small batch under the two ways of normalising: its standard deviation, and its distance in the mean from the gradient of a batch of 2000 in the usual way, both relative to the length of the latter. (No figure in the main text.)", "name": "fig-gradient-errors"}, "image": {"alt": "Two panels over batches of 2, 8 and 32 images. Noise: both curves fall, and that of running averages lies below the other one. Bias: the moments of the batch start above 2 and fall towards 1; running averages lie below them and stay between one half and 1."}}
reference = gradient(seen[:2000], False, seed=0)
batch_sizes = (2, 8, 32)
kinds = {"moments of the batch": False, "running averages": True}
measured = {
    name: tuple(zip(*(errors(n, kind) for n in batch_sizes), strict=True))
    for name, kind in kinds.items()
}
for usual, running in zip(
    *(noise for noise, _ in measured.values()), strict=True
):
    assert running < usual
pictures.draw_gradient_errors(batch_sizes, measured)
plt.show()

other = gradient(seen[:2000], True, seed=0)
cosine = F.cosine_similarity(reference, other, dim=0).item()
assert 0.5 < cosine < 0.99

# %% [markdown]
# The gradient is quieter, and for small batches less biased, too. But a bias stays that no batch size
# removes: with 2000 images, too, the two gradients point in different directions. Does training profit? Two images a batch, everything else the same:

# %% mystnb={"figure": {"caption": "Two images a batch: the loss that training reports over its last forty steps, and held-out images in evaluation mode with re-estimated moments, for both ways of normalising. (No figure in the main text.)", "name": "fig-small-batches"}, "image": {"alt": "Dots on two lines. For the moments of the batch the loss in training lies well to the left of the score of held-out images. For running averages the two are closer to each other, and neither is further left than the other way's."}}
results = {}
for name, kind in kinds.items():
    state, losses = trained(small_run(2, 1000 if full else 120, kind))
    reestimate_statistics(state.model, seen[:1000])
    score = evaluate(state.model, held_out)
    results[name] = (sum(losses[-40:]) / 40, score.bits_per_dim)
usual, running = results.values()
assert running[1] - running[0] < usual[1] - usual[0]
assert running[1] > usual[1] - 0.05  # no better
draw_statistics(results, ("loss at the end", "held out"))
plt.show()

# %% [markdown]
# What the running averages deliver is honesty: the loss of training is nearer to the score, since an image has less to say in
# the moments that it is normalised with. Better scores they do not deliver here. The paper calls the variant more
# robust for *very small* batches; its models are thousands of times as large as this one, and a run of seconds cannot
# contradict it. The recorded runs of this book have 32 images in a batch and moments of the batch.
#
# ## Before scoring: the moments of a finished model
#
# Chapter {ref}`training` will see, in a run that is still moving, that moving averages of moments lag behind the weights, and
# re-estimate them on training images. How much hangs on this, in a model that has finished? The recorded run on Fashion-MNIST was
# re-estimated before it was recorded. Take its moments away: set every mean to 0 and every variance to 1, as if new, and
# let it find them again, by moving averages with the usual momentum of 0.1, or by `reestimate_statistics`.


# %%
few = test_images[: 1000 if full else 40]
recorded = ledger["fashion-mnist"].load_model()


def bits(model):
    """Bits/dim of a few test images, in evaluation mode."""
    return evaluate(model, few).bits_per_dim


def forgotten():
    """The recorded model with the moments of a new one."""
    model = copy.deepcopy(recorded)
    for layer in batch_norms(model):
        layer.running_mean.zero_()
        layer.running_var.fill_(1)
    return model


model, moving = forgotten().train(), {}
for step in range(1, 41):
    batch = images[8 * step : 8 * step + 8]
    with torch.no_grad():
        model.log_prob(batch, generator=torch.Generator().manual_seed(step))
    if step in (1, 4, 10, 20, 40):
        moving[8 * step] = bits(model)

counts, again = (8, 32, 80, 320), []
for count in counts:
    model = forgotten()
    reestimate_statistics(model, images[:count], batch_size=80)
    again.append(bits(model))
as_recorded = bits(recorded)
forgotten_bits = bits(forgotten())
assert forgotten_bits > 100 * as_recorded
assert abs(again[-1] - as_recorded) < 0.02
assert again[0] < min(moving[320], as_recorded + 0.1)
figures.show_table(
    [f"moments of the recorded run, {len(few)} test images", "bits/dim"],
    [
        ["as recorded", f"{as_recorded:.2f}"],
        ["0 and 1", f"{forgotten_bits:.0f}"],
        ["moving averages after 40 batches of 8", f"{moving[320]:.2f}"],
        ["re-estimated on 8 images", f"{again[0]:.2f}"],
        ["re-estimated on as many images, 320", f"{again[-1]:.2f}"],
    ],
)

# %% mystnb={"figure": {"caption": "Test images under the recorded run on Fashion-MNIST, its batch norms having been set back to mean 0 and variance 1: moments found again by moving averages, and by re-estimation. (No figure in the paper.)", "name": "fig-reestimation"}, "image": {"alt": "Bits per dimension over training images seen, both axes logarithmic. Squares start far above everything else and fall steadily, but stay above the dashed line to the end. Circles lie on the dashed line of the recorded moments, the first of them just above it."}}
pictures.draw_reestimation(counts, again, moving, as_recorded)
plt.show()

# %% [markdown]
# With moments that are not its own the model needs more than a hundred times the bits; nothing in the weights has
# changed. A moving average forgets its start only as $0.9^k$: forty batches later there is still $0.9^{40}$ of it, 1.5%, and every
# norm passes its error on to the next. (In a long run this start is long forgotten, and what is left is the lag
# of chapter {ref}`training`.) An average that forgets
# nothing is within a few hundredths of a bit after *eight images*.
#
# And the moments of the batch itself? Score the same images in training mode, in ever larger batches:

# %%
score_of = {}
with batch_statistics(recorded):
    for size in (2, 4, 10, 40):
        scores = score_images(recorded, few, batch_size=size)
        score_of[size] = scores.mean().item()
recorded.eval()
rows = [[size, f"{value:.2f}"] for size, value in score_of.items()]
figures.show_table(["images in a batch, training mode", "bits/dim"], rows)
assert score_of[2] > score_of[40] + 0.1

# %% [markdown]
# Small batches score badly: their moments are not those that the weights have met in training, with 32 images in a batch. All figures of this
# section are of the same weights and the same images, and only those in evaluation mode are likelihoods.
#
# ## Where the parameters are
#
# Of what are the parameters of the CIFAR-10 setting of section 4.1 made, with two scales, eight blocks and 64 maps
# (chapter {ref}`multi-scale`)? A network of width $d$ with $B$ blocks, $i$ input and $o$ output channels has
#
# $$
# & \underbrace{B \cdot 2 \cdot 9 d^2}_{\text{blocks}} + \underbrace{(B + 1)\, d^2}_{\text{skips}}
#  + \underbrace{9\, i\, d}_{\text{first}} + \underbrace{d\, o}_{\text{last}} \\
#  & + \text{gains, biases and shifts}.
# $$ (eq:parameters)

# %%
KINDS = ("3 × 3, blocks", "1 × 1, skips", "first", "last", "the rest")


def kind_of(name):
    """The kind of a parameter, by its name."""
    if not name.endswith(".v"):
        return "the rest"
    if ".blocks." in name:
        return "3 × 3, blocks"
    if ".skip" in name:
        return "1 × 1, skips"
    return "first" if ".conv_in." in name else "last"


config = RealNVPConfig.paper((3, 32, 32))
with torch.device("meta"):
    cifar = RealNVP(config)
parts = {}
for i, scale in enumerate(cifar.flow.scales, start=1):
    for name, stack in scale.named_children():
        if len(stack.bijections) == 0:
            continue
        board = "checkerboard" if name == "checkerboard" else "channel-wise"
        title = f"scale {i}, {len(stack.bijections)} {board}"
        sizes_of = parts[title] = dict.fromkeys(KINDS, 0)
        for full_name, parameter in stack.named_parameters():
            sizes_of[kind_of(full_name)] += parameter.numel()

d, B, i, o = 128, 8, 2 * 6 + 1, 2 * 6
last = parts["scale 2, 4 checkerboard"]
assert last["3 × 3, blocks"] == 4 * B * 2 * 9 * d**2
assert last["1 × 1, skips"] == 4 * (B + 1) * d**2
assert last["first"] == 4 * 9 * i * d
assert last["last"] == 4 * d * o

total = sum(sum(part.values()) for part in parts.values())
assert total == sum(p.numel() for p in cifar.parameters())
rows = []
for title, part in parts.items():
    cells = [f"{part[kind] / 1000:,.0f}" for kind in KINDS]
    rows.append([title, *cells, f"{sum(part.values()) / total:.0%}"])
figures.show_table(["thousands of parameters", *KINDS, "share"], rows)
in_blocks = sum(part["3 × 3, blocks"] for part in parts.values()) / total
# All but the checkerboard of scale 1 work on squeezed images.
at_half = 1 - sum(next(iter(parts.values())).values()) / total
print(f"{total / 1e6:.1f} million, {in_blocks:.0%} of them in the blocks,")
print(f"{at_half:.0%} at half the resolution")
assert in_blocks > 0.9
assert at_half > 0.85

# %% mystnb={"figure": {"caption": "The parameters of the CIFAR-10 setting, by place and kind. (The paper gives no counts.)", "name": "fig-parameters"}, "image": {"alt": "Three horizontal bars: scale 1 checkerboard short, scale 1 channel-wise several times as long, scale 2 the longest. Nearly all of each bar is blue, the 3 by 3 convolutions of the blocks."}}
pictures.draw_parameters(parts)
plt.show()

# %% [markdown]
# What reads the image and what writes $s$ and $t$ is next to nothing; the model is its residual blocks. And most of it
# works at half the resolution, where a network is twice as wide.
#
# ## How far $s$ and $t$ see
#
# Chapter {ref}`multi-scale` derived that an output sees $1 + 2B$ pixels in every direction. At scale $k$ a pixel of the tensor is
# $2^{k-1}$ pixels of the image apart from its neighbour, and under the channel-wise mask twice that. So in pixels of the image:

# %%
table = [
    ("CIFAR-10", 32, 2, 8),
    ("ImageNet 32 × 32", 32, 4, 4),
    ("64 × 64, blocks of the paper", 64, 5, 2),
    ("28 × 28, recorded runs", 28, 3, 1),
]
rows = []
for name, side, num_scales, blocks in table:
    reach = 1 + 2 * blocks
    cells = [f"± {reach * 2**k}" for k in range(num_scales)]
    rows.append([name, f"{side} × {side}", blocks, ", ".join(cells)])
header = ["setting", "image", "blocks", "checkerboard, scale 1, 2, …"]
figures.show_table(header, rows)
blocks = RealNVPConfig.paper((3, 32, 32)).num_blocks
assert 1 + 2 * blocks >= 32 // 2 > 1 + 2 * (blocks - 1)

# %% [markdown]
# Eight blocks are the fewest with which the first networks of the CIFAR-10 setting see the whole image from its middle. That is the reach; how much comes
# from where is another question. Take the squared gradient of one output by all inputs and ask how much of it lies within a
# distance (the larger of rows and columns).


# %%
def within(net, x, b):
    """Share of the squared gradient of the middle within each distance."""
    seen = (x * b).requires_grad_()
    centre = x.shape[-1] // 2
    out = net(seen)[:, :, centre, centre]
    generator = torch.Generator().manual_seed(2)
    mixed = out * torch.randn(out.shape, generator=generator)
    (slope,) = torch.autograd.grad(mixed.sum(), seen)
    square = (slope * b).square().sum(dim=(0, 1))
    away = (torch.arange(x.shape[-1]) - centre).abs()
    distance = torch.maximum(away[:, None], away[None, :])
    shares = torch.zeros(centre + 1)
    shares.index_add_(0, distance.flatten(), square.flatten())
    return shares.cumsum(dim=0) / square.sum()


generator = torch.Generator().manual_seed(3)
odd = checkerboard_mask(41, 41)  # the middle is even: b = 0
noise = torch.randn(4, 1, 41, 41, generator=generator)
by_depth = {}
for blocks in (1, 2, 4, 8):
    nets = [new_net(1, Parity.ODD, 16, blocks, s).eval() for s in range(4)]
    shares = torch.stack([within(net, noise, odd) for net in nets])
    by_depth[blocks] = shares.mean(dim=0)
    assert shares[:, 1 + 2 * blocks].min() > 1 - 1e-5
    assert by_depth[blocks][(1 + 2 * blocks + 1) // 2] > 0.8

# %% mystnb={"figure": {"caption": "Share of the squared gradient of one output, in fresh networks of a checkerboard coupling, that comes from within a distance; dotted, the reach $1 + 2B$. Means of four networks. (No figure in the paper.)", "name": "fig-effective-reach"}, "image": {"alt": "Share over distance for 1, 2, 4 and 8 blocks. All four curves rise steeply from 0 at distance 0 and are near 1 by a distance of 5. The dotted lines of the reach stand at 3, 5, 9 and 17, far to the right of the rise for the deeper networks."}}
pictures.draw_effective_reach(by_depth)
plt.show()

# %% [markdown]
# The deeper network looks further, and yet nearly all that it says comes from a few pixels around, long before the
# reach. Is that only so because it is fresh? Here is the share that comes from the eight pixels around (four, under a
# checkerboard) in the first coupling of each scale of the recorded run, at inputs that it gets from test
# images, beside fresh networks of the same size:

# %%
scales, inputs = recorded.flow.scales, []
hooks = [
    scale.checkerboard.bijections[0].register_forward_pre_hook(
        lambda coupling, arguments: inputs.append(arguments[0])
    )
    for scale in scales
]
with torch.no_grad():
    recorded.encode(test_images[:16], torch.Generator().manual_seed(0))
for hook in hooks:
    hook.remove()

rows = []
for k, (scale, x) in enumerate(zip(scales, inputs, strict=True), start=1):
    size = x.shape[-1] - 1 + x.shape[-1] % 2  # an odd side has a middle
    x = x[..., :size, :size]
    b = checkerboard_mask(size, size)
    net = scale.checkerboard.bijections[0].net
    new = new_net(x.shape[1], Parity.ODD, len(net.conv_in.v), blocks=1).eval()
    near = [within(which, x, b)[1].item() for which in (new, net)]
    assert min(near) > 0.7
    rows.append([f"scale {k}", *(f"{share:.0%}" for share in near)])
header = ["from the nearest pixels", "fresh", "trained"]
figures.show_table(header, rows)

# %% [markdown]
# Trained networks are no different: neighbours say most. What is further away enters by way of other couplings, of other scales, and
# of the squeeze, which is what the multi-scale architecture is for.
#
# ## Summary
#
# * $s$ and $t$ come from one pre-activation residual network. The residual path keeps its gradients from growing
#   with depth; weight norm makes the length of a filter a number of its own, $g$, apart from
#   its direction, which turns the more slowly the more it was moved; the concatenated ReLU loses nothing, and a mask channel
#   tells a gap from grey.
# * A fresh network puts out a mean square of 1/12, whatever its size. A fresh flow is not the identity, and its first gains are
#   those of its batch norms.
# * $s$ is bounded since otherwise a few large steps are enough for infinity. Where its scale starts is worth a good deal in a
#   short run.
# * In evaluation batch norm is a diagonal bijection with log-determinant {eq}`eq:batch-norm`. In training it is a map of the batch
#   with determinant 0, and of the single image one that is not onto; its score is not a likelihood.
# * Running averages (appendix E) make gradients quieter and the loss more honest, by a gradient that is not quite the true one. In a short
#   run with two images a batch they did not improve the score.
# * Moments that do not belong to the weights cost hundreds of bits/dim; eight images nearly get them back.
# * The model is its 3 × 3 convolutions at half the resolution, and each of them is mostly about neighbours.
#
# ## Exercises
#
# ```{exercise} No gain needed
# :label: ex-no-gain
#
# The norms inside the networks have a shift and no gain. Show that a gain $\gamma_i > 0$ for each channel, before the ReLU, would add nothing
# to what a following weight-normalised convolution with $g$ can represent.
# ```
#
# ```{solution-start} ex-no-gain
# :class: dropdown
# ```
# A positive factor passes through the ReLU,
#
# $$
# \operatorname{relu}(\gamma_i n_i + \beta_i) = \gamma_i \operatorname{relu}(n_i + \beta_i / \gamma_i) ,
# $$
#
# and one on an input channel can be moved into the filter: $v'_{oi} = \gamma_i v_{oi}$. Its length has changed, which
# $g' = g\, \lVert v' \rVert / \lVert v \rVert$ makes good.

# %%
layer = WeightNormConv2d(4, 3, 3, magnitude=True, bias=True)
gamma, beta = torch.rand(4, generator=generator) + 0.5, torch.randn(4)
n = torch.randn(2, 4, 6, 6, generator=generator)
gain, shift = gamma[:, None, None], beta[:, None, None]
with_gain = layer(F.relu(gain * n + shift))
moved = copy.deepcopy(layer)
with torch.no_grad():
    moved.v *= gain
    moved.g *= moved.v.flatten(1).norm(dim=1) / layer.v.flatten(1).norm(dim=1)
assert torch.allclose(moved(F.relu(n + shift / gain)), with_gain, atol=1e-5)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} As far as it gets
# :label: ex-samuelson
#
# Prove the bound of {numref}`fig-saturation`: of $m$ numbers normalised to mean 0 and mean square at most 1, none exceeds $\sqrt{m - 1}$. (Statisticians
# know this as Samuelson's inequality.)
# ```
#
# ```{solution-start} ex-samuelson
# :class: dropdown
# ```
# The others sum to $-\hat x_1$, so by Cauchy and Schwarz
#
# $$
# \hat x_1^2 \le (m - 1) \sum_{j > 1} \hat x_j^2 \le (m - 1)(m - \hat x_1^2) .
# $$
#
# Collect: $m\, \hat x_1^2 \le m (m - 1)$. Equality needs all others to be equal, and $\epsilon = 0$.

# %%
m = 10
x = torch.cat([torch.tensor([1e6]), torch.zeros(m - 1)]).double()
assert abs(normalise(x).max() - math.sqrt(m - 1)) < 1e-6
many = torch.randn(2000, m, generator=generator).double() ** 3
largest_found = max(normalise(row).abs().max() for row in many)
assert largest_found < math.sqrt(m - 1)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Re-estimated in twos
# :label: ex-in-twos
#
# Images differ in brightness: let the mean of a channel over an image vary with variance $\tau^2$ from image to image, and within an image
# with $\omega^2$. What does the variance of a batch of $N$ images amount to, in expectation? What follows for `reestimate_statistics` with a
# batch of two? Try it on the first norm between couplings of the recorded run.
# ```
#
# ```{solution-start} ex-in-twos
# :class: dropdown
# ```
# $\omega^2 + (1 - 1/N)\, \tau^2$: the mean of the batch is fitted to it and takes $\tau^2 / N$ away. In twos, half of the variance between images
# is missing from every norm. Pass all images at once, or in batches as large as memory allows.

# %%
sixty_four, found = images[:64], {}
for size in (2, 64):
    model = copy.deepcopy(recorded)
    reestimate_statistics(model, sixty_four, batch_size=size)
    first = model.flow.scales[0].checkerboard.bijections[0].norm
    found[size] = (first.running_var.item(), bits(model))
assert found[2][0] < found[64][0]
assert found[2][1] > found[64][1]
print(f"variance: {found[2][0]:.2f} in twos, {found[64][0]:.2f} at once")
print(f"bits/dim: {found[2][1]:.2f} in twos, {found[64][1]:.2f} at once")

# %% [markdown]
# ```{solution-end}
# ```
