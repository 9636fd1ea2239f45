# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (networks)=
# # Networks and training
#
# The flow is complete, except for the networks inside it. Which network makes $s$ and $t$? What keeps a deep stack of
# couplings trainable? Here you write the network and the batch normalisation, collect everything into *Real
# NVP in a hundred lines*, and train it for fifteen seconds.
#
# ```{admonition} In the paper
# Sections 3.4, 3.7 and 4.1 of {cite:t}`dinh2017realnvp`: the networks, batch normalisation (equations 17 and 18), and
# the procedure of the experiments.
# ```

# %% tags=["parameters"]
profile = "laptop"

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
from nvp_book import baselines, figures
from nvp_book.ablation import compare, experiment
from nvp_book.figures import architecture
from nvp_book.figures import networks as pictures
from nvp_book.figures.samples import plot_rows
from torch.func import jacrev

import nvp
from nvp.data import EMBEDDED, load
from nvp.flows.batchnorm import CouplingBatchNorm, NormScope
from nvp.flows.masks import Parity, checkerboard_mask
from nvp.flows.resnet import CouplingNet, InputTreatment
from nvp.ledger import runs

figures.use_style()

images = load(EMBEDDED, "train").images
test_images = load(EMBEDDED, "test").images
ledger = runs()

# %% [markdown]
# ## The network for s and t
#
# Nothing inverts this network, so any will do. The paper names a convolutional residual network
# {cite}`he2016identity` with rectifiers, batch and weight normalisation, and skip connections as in
# PixelRNN {cite}`oord2016pixelrnn`. The rest is from the authors' code {cite}`dinh2016code`.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The network behind $s$ and $t$, as in the authors' code. The first convolution and each of the $B$ residual blocks contribute to one sum, through a 1 × 1 convolution. $s$ and $t$ are read from this sum, not from the end of the trunk.", "name": "fig-network"}, "image": {"alt": "A diagram. The masked input goes through batch norm, and is joined by its negative and by the mask. Then it goes through a ReLU and a 3 by 3 convolution into a row of residual blocks. From the convolution and from each block a 1 by 1 convolution leads up to a chain of sums. After the last sum batch norm, ReLU and a 1 by 1 convolution give t and s. Below, a residual block: batch norm, ReLU, 3 by 3 convolution, twice, and a connection around both."}}
architecture.plot_network()
plt.show()

# %% [markdown]
# The sum has $B + 1$ terms. Every part has a purpose.
#
# * **Residual paths and skips** give gradients a short way through a deep network.
# * **Concatenated ReLU** {cite}`shang2016crelu`. A ReLU at the entrance would lose every negative value. The pair
#   $\operatorname{relu}(h)$ and $\operatorname{relu}(-h)$ loses nothing, since their difference is $h$.
# * **The mask as a channel.** The mask puts 0 into every gap, so a kept pixel of value 0 looks like a gap. With $b$
#   as one more channel the network knows where its gaps are.
# * **Weight normalisation** {cite}`salimans2016weightnorm`. Each filter $w$ has a direction $\omega$ and a gain
#   $\kappa$, which are learned separately,
#
# $$
# w = \kappa\, \frac{\omega}{\lVert \omega \rVert} ,
# $$ (eq:weight-norm)
#
# with one $\kappa$ for each output channel.
#
# In code the network is two helpers and one class.

# %%
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

torch.set_num_threads(1)  # sums in one order, however many cores


def conv(i, o, kernel):
    return weight_norm(nn.Conv2d(i, o, kernel, padding=kernel // 2))


def unit(i, o, kernel):
    norm = nn.BatchNorm2d(i, eps=1e-4)
    return nn.Sequential(norm, nn.ReLU(), conv(i, o, kernel))


class Network(nn.Module):
    """b * x, (N, C, H, W) -> t and the raw s, (N, 2C, H, W).

    b is (1, 1, H, W) for a checkerboard, (1, C, 1, 1) for channels.
    """

    def __init__(self, channels, maps, b, blocks=1):
        super().__init__()
        self.register_buffer("b", b)
        self.norm = nn.BatchNorm2d(channels, eps=1e-4)
        self.first = conv(2 * channels + b.shape[1], maps, 3)
        self.blocks, self.skips = nn.ModuleList(), nn.ModuleList()
        for _ in range(blocks):
            block = unit(maps, maps, 3), unit(maps, maps, 3)
            self.blocks.append(nn.Sequential(*block))
        for _ in range(blocks + 1):
            self.skips.append(conv(maps, maps, 1))
        self.last = unit(maps, 2 * channels, 1)

    def forward(self, x):
        h, b = self.norm(x), self.b.expand(len(x), -1, *x.shape[2:])
        h = self.first(torch.cat([h, -h, b], dim=1).relu())
        total = self.skips[0](h)
        for block, skip in zip(self.blocks, self.skips[1:], strict=True):
            h = h + block(h)
            total = total + skip(h)
        return self.last(total)


# %% [markdown]
# The package's network is a special case of ours, with details of the authors' code (appendix {ref}`paper-and-code`).
# Under a channel-wise mask it sees the kept half alone, without $b$. In its first convolution, and in the first of each
# block, $\kappa$ stays 1. So ours can copy its weights, and must then compute the same. Fresh weights differ: ours
# start as in PyTorch, the package's as in the authors' code ({ref}`ex-fresh`).


# %% tags=["hide-input"]
def kappa_omega(layer):
    """Gain and direction of a weight-normalised convolution."""
    weight = layer.parametrizations.weight
    return weight.original0, weight.original1


@torch.no_grad()
def copy_norm(ours, theirs, seen=slice(None), gain=1.0):
    ours.weight[seen] = gain
    ours.bias[seen] = gain * theirs.beta
    ours.running_mean[seen] = theirs.running_mean
    ours.running_var[seen] = theirs.running_var


@torch.no_grad()
def copy_conv(ours, theirs, rows=slice(None), columns=slice(None)):
    """Into those rows (outputs) and columns (inputs) of our filters."""
    kappa, omega = kappa_omega(ours)
    filters = torch.zeros_like(omega[rows])
    filters[:, columns] = theirs.v
    omega[rows] = filters
    kappa.view(-1)[rows] = 1.0 if theirs.g is None else theirs.g
    ours.bias[rows] = 0.0 if theirs.bias is None else theirs.bias


def copy_network(ours, theirs):
    """The weights of a CouplingNet into a Network."""
    channels = ours.norm.num_features
    board = ours.b.shape[1] == 1
    kept = changed = torch.arange(channels)
    if not board:  # theirs sees and changes one half of the channels
        changed, kept = (torch.where(ours.b.flatten() == k)[0] for k in (0, 1))
    copy_norm(ours.norm, theirs.treatment.norm, kept, 2.0 if board else 1.0)
    columns = [kept, channels + kept]
    if board:
        columns.append(torch.tensor([2 * channels]))
    copy_conv(ours.first, theirs.conv_in, columns=torch.cat(columns))
    for mine, other in zip(ours.blocks, theirs.blocks, strict=True):
        for (norm, _, convolution), k in zip(mine, "12", strict=True):
            copy_norm(norm, getattr(other, f"norm{k}"))
            copy_conv(convolution, getattr(other, f"conv{k}"))
    skips = [theirs.skip_in, *theirs.skips]
    for mine, other in zip(ours.skips, skips, strict=True):
        copy_conv(mine, other)
    copy_norm(ours.last[0], theirs.norm_out)
    rows = torch.cat([changed, channels + changed])
    copy_conv(ours.last[2], theirs.conv_out, rows=rows)


# %%
torch.manual_seed(0)
treatment = InputTreatment(
    3, Parity.ODD, concatenated_relu=True, mask_channel=True
)
package = CouplingNet(treatment, 3, 8, 2)
b = checkerboard_mask(8, 8)
x = torch.randn(16, 3, 8, 8) * b
package(x)  # in training mode: its norms take moments

network = Network(3, 8, b.float(), blocks=2)
copy_network(network, package)
assert torch.allclose(network.eval()(x), package.eval()(x), atol=1e-5)

# %% [markdown]
# ````{dropdown} The package's version
# ```{literalinclude} ../nvp/flows/resnet.py
# :pyobject: WeightNormConv2d
# ```
# ```{literalinclude} ../nvp/flows/resnet.py
# :pyobject: InputTreatment
# ```
# ```{literalinclude} ../nvp/flows/resnet.py
# :pyobject: CouplingNet
# ```
# ````

# %% tags=["remove-cell"]
h = torch.randn(1000)
assert torch.equal(F.relu(h) - F.relu(-h), h)

grey = torch.zeros(1, 3, 12, 12)
torch.manual_seed(0)
on_board = checkerboard_mask(12, 12).float()
fresh = Network(3, 8, on_board).eval()
for seen, kinds in ((on_board, 2), (torch.zeros(1, 1, 12, 12), 1)):
    found = fresh.first(torch.cat([grey, -grey, seen], dim=1))
    rows = found[0, :, 3:9, 3:9].flatten(1).T
    assert len(rows.detach().round(decimals=5).unique(dim=0)) == kinds

# %% [markdown]
# Why divide by the length? A filter then adapts its own learning rate {cite}`salimans2016weightnorm`:
#
# ```{prf:proposition} Filters only lengthen
# :label: prop-weight-norm
#
# Let a loss depend on $\omega$ through {eq}`eq:weight-norm` alone. Then its gradient is orthogonal to $\omega$, and
# after a gradient step $\omega' = \omega - \eta \nabla_\omega$,
#
# $$
# \lVert \omega' \rVert^2 = \lVert \omega \rVert^2 + \eta^2 \lVert \nabla_\omega \rVert^2 .
# $$ (eq:filter-length)
#
# Moreover $\nabla_{k\omega} = \nabla_\omega / k$ for $k > 0$. So a step turns the direction of
# $k\omega$ by about $1 / k^2$ of the angle by which it turns that of $\omega$.
# ```
#
# ```{prf:proof}
# $w$ does not change when $\omega$ is multiplied by $k > 0$, so the loss $\mathcal L$ does not
# either. Differentiate $\mathcal L(k\omega) = \mathcal L(\omega)$ by $k$ at $k = 1$:
# $\omega^{\mathsf T} \nabla_\omega = 0$, and {eq}`eq:filter-length` is Pythagoras. Differentiate
# the same equation with respect to $\omega$: $k\, \nabla_{k\omega} = \nabla_\omega$. A step turns
# $k\omega$ by an angle whose tangent is
# $\eta \lVert \nabla_{k\omega} \rVert / \lVert k\omega \rVert$, which is
# $1 / k^2$ of that for $\omega$.
# ```
#
# So under plain gradient steps a filter with large or erratic gradients lengthens, which lowers its own rate.

# %% tags=["remove-cell"]
torch.manual_seed(0)
layer = conv(4, 8, 3).double()
_, raw = kappa_omega(layer)
for _ in range(5):
    layer.zero_grad()
    some = torch.randn(8, 4, 6, 6, dtype=torch.double)
    layer(some).square().sum().backward()
    assert (raw * raw.grad).sum(dim=(1, 2, 3)).abs().max() < 1e-9
    with torch.no_grad():
        after = raw - 1e-3 * raw.grad
        parts = torch.stack([after, raw, raw.grad]).flatten(2)
        new, old, moved = parts.square().sum(dim=2)
        assert torch.allclose(new, old + 1e-6 * moved, rtol=1e-9)
        raw.copy_(after)

# %% [markdown]
# (batch-norm)=
# ## Batch normalisation
#
# Deep flows are hard to train. The paper normalises {cite}`ioffe2015batchnorm` in two places. Inside $s$ and $t$ a
# batch norm is a layer like any other. The second place is the **output of each coupling** (section 3.7). The paper
# gives two reasons. With the norm one can train a deeper stack of couplings. And it eases an instability in
# training conditional distributions with a learned scale: a coupling models one half given the other. There it acts
# like the normalisation of rewards in reinforcement learning. After a coupling the norm is part of $f$, and changes
# volume.
# With a mean $\tilde\mu$ and a variance $\tilde\sigma^2$ for each channel, and a small $\epsilon$
# (equations 17 and 18),
#
# $$
# x \mapsto \frac{x - \tilde\mu}{\sqrt{\tilde\sigma^2 + \epsilon}},
# \qquad
# \log\left|\det\right| = -\frac12 \sum_i \log\bigl(\tilde\sigma_i^2 + \epsilon\bigr).
# $$ (eq:batch-norm)
#
# With both held constant the Jacobian is diagonal, and the sum runs over *every scalar*: each channel counts as often
# as it has pixels. The norm has no gain and no shift, since couplings have both.


# %%
class BatchNorm(nn.BatchNorm2d):
    """Equations 17 and 18, of the whole output of a coupling."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-4, affine=False)

    def forward(self, x):
        y, variance = super().forward(x), self.running_var
        if self.training:
            variance = x.var(dim=(0, 2, 3), correction=0)
        log_det = -0.5 * (variance + self.eps).log().sum() * x[0, 0].numel()
        return y, log_det.expand(len(x))

    def inverse(self, y):
        deviation = (self.running_var + self.eps).sqrt()
        return y * deviation[:, None, None] + self.running_mean[:, None, None]


# %% [markdown]
# The check compares the log-determinant with automatic differentiation.

# %%
norm, x = BatchNorm(3), torch.randn(16, 3, 8, 8)
norm(3 * x + 1)  # in training mode: it takes moments
norm.eval()
y, log_det = norm(x)
jacobian = jacrev(lambda x: norm(x[None])[0])(x[0]).reshape(192, 192)
assert torch.allclose(log_det[0], jacobian.slogdet().logabsdet)
assert torch.allclose(norm.inverse(y), x, atol=1e-6)

# %% tags=["remove-cell"]
same = CouplingBatchNorm(
    3, NormScope.WHOLE, momentum=0.1, running_average=False
)
same.running_mean, same.running_var = norm.running_mean, norm.running_var
z, of_package = same.eval()(x, b)
assert torch.allclose(y, z, atol=1e-6)
assert torch.allclose(log_det, of_package)
y, log_det = BatchNorm(3)(x)  # training: moments of the batch
z, of_package = same.train()(x, b)
assert torch.allclose(y, z, atol=1e-5)
assert torch.allclose(log_det, of_package)

# %% [markdown]
# ````{dropdown} The package's version
# It can also leave the kept half alone, as the authors' code does, and use the running averages of
# appendix E, {eq}`eq:running`.
# ```{literalinclude} ../nvp/flows/batchnorm.py
# :pyobject: CouplingBatchNorm
# ```
# ````
#
# ### Training mode is not a likelihood
#
# In **evaluation mode** $\tilde\mu$ and $\tilde\sigma^2$ are constants, and {eq}`eq:batch-norm` is exact. In
# **training mode** they depend on the current batch: here they are its moments, in the paper a running average over
# recent batches. Then an image's output depends on the other images, and so does its "density", which is no score
# (appendix {ref}`batch-statistics`).
#
# So which constants should evaluation use? The usual ones are moving averages over about the last ten batches,
# computed with weights that have changed since. A better way is to pass training images through the *finished* model
# once and average the moments, as {cite:t}`papamakarios2017maf` do:


# %%
def reestimate(model, images):
    """Average the moments of every norm anew, over training images."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean of all batches
    model.train()
    with torch.no_grad():
        for batch in images.split(100):
            model.log_prob(batch)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.1  # as before, should training go on
    model.eval()


# %% [markdown]
# ````{dropdown} The package's version
# ```{literalinclude} ../nvp/likelihood.py
# :pyobject: reestimate_statistics
# ```
# ````
#
# Every score in this book comes from evaluation mode with re-estimated statistics, unless it says otherwise.
#
# ### What each part is worth
#
# The paper has no ablation. Ours trains each variant with five seeds, for 450 steps on the embedded images (section
# {ref}`ablation`). After ± is half of a 95% interval.

# %% tags=["hide-input"]
comparisons = compare(*experiment())
parts = {
    "no-norm": "norm after couplings",
    "no-skips": "skips",
    "no-mask-channel": "mask channel",
    "no-weight-norm": "weight normalisation",
}
rows = []
for name, part in parts.items():
    gap = comparisons[name].difference
    rows.append([part, f"{gap.mean:+.2f} ± {gap.half_width:.2f}"])
figures.show_table(["without the", "bits/dim more"], rows)

# %% tags=["remove-cell"]
assert round(comparisons["no-norm"].difference.mean, 1) == 0.6
without = comparisons["no-weight-norm"].difference
assert without.mean < -without.half_width
for unsettled in ("no-skips", "no-mask-channel"):
    assert not comparisons[unsettled].difference.beyond_chance
assert {row.steps for name in parts for row in comparisons[name].rows} == {450}
assert all(len(comparisons[name].rows) == 5 for name in parts)

# %% [markdown]
# Of these four the norm after couplings matters most by far. Five seeds do not settle whether the mask channel or the
# skips help. In so short a run weight normalisation makes the score worse; no long run went without.
#
# ## Real NVP in a hundred lines
#
# How much code is a complete Real NVP? The next cell collects chapters {ref}`coupling-layers`,
# {ref}`multi-scale` and {ref}`integers-to-bits`. One function has changed: `stack` now puts a
# `BatchNorm` after each coupling. With the cells of `Network` and `BatchNorm` it runs in an empty
# notebook. Images are integers from 0 to 255, of shape (N, C, H, W).


# %%
def checkerboard(height, width, odd=True):
    parity = (torch.arange(height)[:, None] + torch.arange(width)) % 2
    return (parity == int(odd)).float()[None, None]


def channel_mask(channels, first=True):
    b = (torch.arange(channels) < channels // 2) == first
    return b.float()[None, :, None, None]


def squeeze(x):
    corners = [(0, 0), (0, 1), (1, 0), (1, 1)]
    return torch.cat([x[:, :, i::2, j::2] for i, j in corners], dim=1)


def unsqueeze(y):
    n, channels, height, width = y.shape
    x = y.new_empty(n, channels // 4, 2 * height, 2 * width)
    for k, corner in enumerate(y.chunk(4, dim=1)):
        x[:, :, k // 2 :: 2, k % 2 :: 2] = corner
    return x


class Coupling(nn.Module):  # equation 9
    def __init__(self, net, b):
        super().__init__()
        self.net, self.a = net, nn.Parameter(torch.ones(()))
        self.register_buffer("b", b)

    def s_and_t(self, x):
        t, raw = self.net(self.b * x).chunk(2, dim=1)
        s = self.a * torch.tanh(raw)
        return (1 - self.b) * s, (1 - self.b) * t

    def forward(self, x):
        s, t = self.s_and_t(x)
        return x * s.exp() + t, s.flatten(1).sum(dim=1)

    def inverse(self, y):
        s, t = self.s_and_t(y)
        return (y - t) * (-s).exp()


class Composition(nn.Module):  # equations 10 to 12
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


def stack(masks, channels, maps, net):
    layers = []
    for b in masks:
        layers.append(Coupling(net(channels, maps, b), b))
        layers.append(BatchNorm(channels))
    return Composition(layers)


def factor_out(x):
    top_left, top_right, low_left, low_right = x.chunk(4, dim=1)
    goes_on = torch.cat([top_left, low_right], dim=1)
    return goes_on, torch.cat([top_right, low_left], dim=1)


def put_back(goes_on, leaves):
    top_left, low_right = goes_on.chunk(2, dim=1)
    top_right, low_left = leaves.chunk(2, dim=1)
    return torch.cat([top_left, top_right, low_left, low_right], dim=1)


class Flow(nn.Module):  # equations 13 to 16
    def __init__(self, channels, side, maps, scales, net):
        super().__init__()
        self.last = scales == 1
        turns = [True, False, True] + ([False] if self.last else [])
        boards = [checkerboard(side, side, odd) for odd in turns]
        self.boards = stack(boards, channels, maps, net)
        if not self.last:
            halves = [channel_mask(4 * channels, first) for first in turns]
            self.halves = stack(halves, 4 * channels, 2 * maps, net)
            smaller = (2 * channels, side // 2, 2 * maps, scales - 1)
            self.rest = Flow(*smaller, net)

    def forward(self, x):
        x, log_det = self.boards(x)
        if self.last:
            return [x], log_det
        x, step = self.halves(squeeze(x))
        h, z = factor_out(x)
        latents, rest = self.rest(h)
        return [z, *latents], log_det + step + rest

    def inverse(self, latents):
        x, *others = latents
        if not self.last:
            h = self.rest.inverse(others)
            x = unsqueeze(self.halves.inverse(put_back(h, x)))
        return self.boards.inverse(x)


class RealNVP(nn.Module):  # section 4.1
    def __init__(self, channels=1, side=28, maps=8, scales=3, net=Network):
        super().__init__()
        self.shape = channels, side, side
        self.flow = Flow(channels, side, maps, scales, net)

    def log_prior(self, z):
        return -0.5 * (z**2 + math.log(2 * math.pi))

    def terms(self, images):
        """The terms of the bound on log P(v), each (N,), nats."""
        p = 0.05 + 0.9 * (images + torch.rand(images.shape)) / 256
        latents, log_det = self.flow(torch.logit(p))
        slope = math.log(0.9) - p.log() - (1 - p).log() - math.log(256)
        terms = {"flow": log_det, "logit": slope.flatten(1).sum(dim=1)}
        for k, z in enumerate(latents, start=1):
            terms[f"prior {k}"] = self.log_prior(z).flatten(1).sum(dim=1)
        return terms

    def log_prob(self, images):
        return sum(self.terms(images).values())

    def draw(self, z):
        return torch.randn_like(z)

    def sample(self, n):
        latents, _ = self.eval().flow(torch.zeros(n, *self.shape))
        x = self.flow.inverse([self.draw(z) for z in latents])
        return (256 * (torch.sigmoid(x) - 0.05) / 0.9).clamp(0, 255).byte()


# %% [markdown]
# In `sample` the zeros only tell the shapes of the latents. Is this the package's model? Let it copy the weights of the
# recorded run on Fashion-MNIST, which has 24 feature maps. With the same noise both must give the same likelihoods.


# %% tags=["hide-input"]
def copy_flow(flow, scales):
    """The weights of the package's scales into a Flow."""
    scale, *others = scales
    theirs = [*scale.checkerboard.bijections, *scale.channelwise.bijections]
    ours = [*flow.boards.layers, *(() if flow.last else flow.halves.layers)]
    for coupling, norm, other in zip(
        ours[::2], ours[1::2], theirs, strict=True
    ):
        coupling.a.data = other.scale.data.flatten()
        copy_network(coupling.net, other.net)
        norm.running_mean = other.norm.running_mean
        norm.running_var = other.norm.running_var
    if others:
        copy_flow(flow.rest, others)


# %%
recorded = ledger["fashion-mnist"].load_model()
ours = RealNVP(maps=24).eval()
copy_flow(ours.flow, recorded.flow.scales)

few = test_images[:20]
torch.manual_seed(0)
with torch.no_grad():
    log_prob = ours.log_prob(few)
    generator = torch.Generator().manual_seed(0)
    assert torch.allclose(
        log_prob, recorded.log_prob(few, generator=generator), rtol=1e-4
    )

# %% tags=["remove-cell"]
import linecache

collected = linecache.getlines(Flow.forward.__code__.co_filename)
assert 90 < sum(bool(line.strip()) for line in collected) < 110

# %% [markdown]
# ````{dropdown} The package's sampling
# ```{literalinclude} ../nvp/flows/realnvp.py
# :pyobject: RealNVP.sample
# :dedent: 4
# ```
# ```{literalinclude} ../nvp/flows/realnvp.py
# :pyobject: RealNVP.decode
# :dedent: 4
# ```
# ````
#
# ## Training
#
# How was Real NVP trained? Section 4.1 of the paper says little, and the authors' code
# {cite}`dinh2016code` completes it:
#
# | setting | in the paper | in the authors' code |
# |---|---|---|
# | optimiser | Adam {cite}`kingma2015adam`, default parameters | rate $10^{-3}$, $\beta = (0.9, 0.999)$, $\epsilon = 10^{-8}$ |
# | batch | 64 images | 64 images |
# | regulariser | L2 on the weight scales, $5 \cdot 10^{-5}$ | the same, but for the $a$ of channel-wise couplings |
# | clipping | not mentioned | gradient norm at most 100 |
# | schedule, length | not mentioned | none; see appendix {ref}`paper-and-code` |
#
# We read "weight scales" as the gains $\kappa$ of the weight-normalised convolutions and the scales $a$ of the tanh.
# The sum of their squares, times $5 \cdot 10^{-5}$, is added to the loss. The loss is a sum over all sub-pixels, in
# nats, so its gradient is large: clipping probably acts in nearly every step
# ({ref}`when-it-diverges`).
#
# The loop draws a batch with fresh noise, minimises $-\log p_V(v + u)$, and keeps the terms of {eq}`eq:bits-chain` for
# a figure. Its rate of $10^{-2}$ is ten times that of the authors' code, to show something within
# fifteen seconds. It leaves out the L2 penalty. Most recorded Real NVPs used another optimiser,
# **Muon** (appendix {ref}`training-them`).


# %%
def train(model, images, steps, batch_size=12, rate=1e-2):
    """Maximise the likelihood; returns each step's terms, bits/dim."""
    optimiser = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda k: min(1, (k + 1) / 10, 2 * (1 - k / steps))
    )
    bit, history = images[0].numel() * math.log(2), []  # nats in a bit/dim
    for _ in range(steps):
        batch = images[torch.randint(len(images), (batch_size,))]
        terms = model.train().terms(batch)
        loss = -sum(terms.values()).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 100)
        optimiser.step()
        schedule.step()
        history.append({k: -t.mean().item() / bit for k, t in terms.items()})
    return history


torch.manual_seed(0)
model = RealNVP()
steps = {"laptop": 80, "paper": 2000}[profile]
history = train(model, images, steps)
reestimate(model, images[:400])

# %% [markdown]
# ````{dropdown} The package's version of a step
# It also averages the weights, and stops where a loss is not finite ({ref}`when-it-diverges`).
# ```{literalinclude} ../nvp/training/loop.py
# :pyobject: training_step
# ```
# ````
#
# For comparison the folded cell trains the same model for twenty steps without the norms after couplings. Its rate
# falls to zero within these twenty.


# %% tags=["hide-input"] mystnb={"figure": {"caption": "The terms of {eq}`eq:bits-chain` in bits/dim while the model learns: with the norms after couplings, and for twenty steps without. The 256 is counted with the logit. Left, prior 2 lies under prior 3. Lower is better. On the right the sum starts above the frame, near 16.", "name": "fig-terms"}, "image": {"alt": "Two panels over steps. With norms the three prior terms are flat lines at 1.0, 0.5 and 0.5, and the logit is nearly flat at 4.7. The flow falls from 1.9 to about minus 2.5, and carries the sum from 8.5 down to about 4. Without norms the prior of scale 1 starts above 7 and drops below 1 within ten steps. After that the flow falls slowly, and the sum has only come down to 6."}}
def without_norms(model):
    for part in model.modules():
        if isinstance(part, Composition):
            part.layers = part.layers[::2]
    return model


torch.manual_seed(0)
bare = train(without_norms(RealNVP()), images, steps=20)
pictures.plot_terms({"with norms after couplings": history, "without": bare})
plt.show()

# %% tags=["remove-cell"]
gaussian = 0.5 * math.log2(2 * math.pi * math.e)
shares = {"prior 1": 1 / 2, "prior 2": 1 / 4, "prior 3": 1 / 4}
for name, share in shares.items():
    assert all(abs(step[name] - share * gaussian) < 0.01 for step in history)
assert round(bare[0]["prior 1"], 1) == 7.5
assert round(sum(history[0].values()), 1) == 8.5
assert [round(sum(bare[k].values())) for k in (0, 19)] == [16, 6]
there = {
    name: next(k for k, s in enumerate(bare) if s[name] < share * gaussian)
    for name, share in shares.items()
}
assert there["prior 1"] > max(there["prior 2"], there["prior 3"])
assert all(bare[8][name] < share * gaussian for name, share in shares.items())
assert sum(bare[19].values()) > sum(history[19].values()) + 0.3

configs = [run.config for run in ledger.values()]
flows = [c for c in configs if isinstance(c.model, nvp.RealNVPConfig)]
assert sum(f.training.optimiser == "muon" for f in flows) > len(flows) / 2

# %% [markdown]
# This figure shows how the loss is *distributed* (chapter {ref}`multi-scale`): each scale has a prior term of its own.
# **Without norms** that of scale 1 starts at 7.5 bits/dim. Within ten steps all three scales have learned to
# shrink their latents, the two coarser ones first. **With norms** mean and variance are right from the first step, and
# a prior term depends only on the mean square of its latents. So the terms stay at $\frac12 \log_2 2\pi e = 2.05$ bits
# for each latent, 1.02 bits/dim for the half in scale 1, and all learning happens in the log-determinants. After
# twenty steps the loss with norms is clearly lower. These are losses in training mode, of single runs with different
# schedules; the ablation above compares scores of five seeds.
#
# ### Averaged weights
#
# Late in training the weights jitter around a point that may be better than any that they visit. So the recorded runs
# score an exponential moving average, a relative of the plain average of {cite:t}`polyak1992averaging`. The paper does
# not mention one. For the weights $\theta_k$ after $k + 1$ steps it is
#
# $$
# \bar\theta_k = c_k\, \bar\theta_{k-1} + (1 - c_k)\, \theta_k , \qquad
# c_k = \min\bigl(0.999,\ \tfrac{1 + k}{10 + k}\bigr) ,
# $$ (eq:ema)
#
# with $\bar\theta_0 = \theta_0$. The second argument of the minimum lets the memory grow with the run.
#
# ## What fifteen seconds give
#
# The model scores the test images and draws ten samples.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Above, test images. In the middle, samples after 80 steps on this page. Below, samples of the same hundred lines with the weights of the recorded run, which trained for half an hour. None was selected by hand.", "name": "fig-fifteen-seconds"}, "image": {"alt": "Three rows of ten images. Above, clothes and shoes. In the middle, ragged bright shapes, roughly of the size of a garment. Below, shapes most of which can be named: a bag, a pullover, trousers, a boot."}}
torch.manual_seed(1)
with torch.no_grad():
    nats = torch.cat([-model.log_prob(x) for x in test_images.split(100)])
    score = nats.mean().item() / (784 * math.log(2))
    rows = {
        "test images": test_images[:10],
        "this page": model.sample(10),
        "recorded": ours.sample(10),
    }
plot_rows(rows)
plt.show()

# %% [markdown]
# The samples of this page are ragged bright shapes, and show no garment. Most of the recorded ones can be named. The
# next table has the scores.

# %% tags=["hide-input"]
baseline = baselines.recorded()[EMBEDDED]
quick = ledger["quickstart"]
minutes = f"{quick.record.minutes:.0f} minutes"
scores = {
    "uniform noise": 8.0,
    **{f"{k} (chapter 1)": s.bits_per_dim for k, s in baseline.items()},
    f"the hundred lines, {steps:,} steps": score,
    f"`quickstart`, {minutes}": quick.score.bits_per_dim,
}
figures.show_table(
    ["model", f"bits/dim of {len(test_images):,} test images"],
    [[name, f"{value:.1f}"] for name, value in scores.items()],
)

# %% tags=["remove-cell"]
gain = baseline["one histogram"].bits_per_dim - score
neighbours = baseline["two neighbours"].bits_per_dim
assert gain > 0.65
assert profile == "paper" or (gain < 0.95 and score > neighbours)
assert quick.score.bits_per_dim < neighbours

# %% [markdown]
# Eighty steps beat one histogram by about 0.8 bits/dim, and do not reach the table of two
# neighbours. The recorded `quickstart` beats that table in four minutes, with networks twice as
# wide.
#
# ## Why s is bounded
#
# What would happen if $s$ were the bare output of the network? Each coupling multiplies by $e^s$, and the next network
# reads the result. In fresh models without norms after couplings the folded cell raises the gain of the last
# convolution of every network.


# %% tags=["hide-input"] mystnb={"figure": {"caption": "The largest latent of eight images, in fresh models without norms between couplings, as the gain of the last convolution of every network is raised. The bounded model has $a = 1$. A point on the dashed line is infinite.", "name": "fig-blow-up"}, "image": {"alt": "On logarithmic axes, the largest latent over a gain of 1 to 64. The bounded curve rises gently from some tens to about ten thousand. The unbounded one is far above it and soon meets the line of the largest float32."}}
class Unbounded(Coupling):
    def s_and_t(self, x):
        t, s = self.net(self.b * x).chunk(2, dim=1)
        return (1 - self.b) * s, (1 - self.b) * t


@torch.no_grad()
def largest_latents(kind, gains):
    torch.manual_seed(0)
    fresh, before, found = without_norms(RealNVP()), 1, []
    for part in fresh.modules():
        if isinstance(part, Coupling):
            part.__class__ = kind
    x = torch.logit(0.05 + 0.9 * (test_images[:8] + 0.5) / 256)
    for gain in gains:
        for part in fresh.modules():
            if isinstance(part, Network):
                kappa_omega(part.last[2])[0].mul_(gain / before)
        before = gain
        latents = torch.cat([z.flatten() for z in fresh.flow(x)[0]])
        found.append(latents.abs().nan_to_num(math.inf, math.inf).max().item())
    return found


gains = (1, 2, 4, 8, 16, 32, 64)
largest = {
    "s unbounded": largest_latents(Unbounded, gains),
    "s = a tanh": largest_latents(Coupling, gains),
}
pictures.plot_blow_up(gains, largest)
plt.show()

# %% tags=["remove-cell"]
assert largest["s unbounded"][gains.index(8)] == math.inf
assert largest["s = a tanh"][-1] < 1e6
bounds = [c.a.abs().item() for c in ours.modules() if isinstance(c, Coupling)]
assert [round(f(bounds), 1) for f in (len, min, max)] == [16, 0.3, 1.3]

# %% [markdown]
# Without the bound eight times the gain makes a latent infinite. With it a coupling multiplies by $e^{|a|}$ at most,
# and only $t$ still grows with the gain. Each coupling learns its own bound: in the recorded run the sixteen $|a|$
# started at 1 and ended between 0.3 and 1.3. Appendix {ref}`when-it-diverges` trains without the bound.
#
# ## How large, and how far
#
# How many parameters do the models of the paper have, and how far do their networks see? A 3 × 3 convolution at the
# beginning and two in each of $B$ blocks reach $1 + 2B$ pixels in every direction. At the
# checkerboards of scale $k$, neighbours in the tensor are $2^{k-1}$ pixels apart in the image. A
# network of width $d$, whose first convolution sees $i$ maps and whose last gives $o$, has
#
# $$
# \underbrace{B \cdot 2 \cdot 9 d^2}_{\text{blocks}} + \underbrace{(B + 1)\, d^2}_{\text{skips}}
#  + \underbrace{9\, i\, d}_{\text{first}} + \underbrace{d\, o}_{\text{last}} + \dots
# $$ (eq:parameters)
#
# weights. The paper gives no counts; the folded cell counts them.

# %% tags=["hide-input"]
settings = [
    ("28 × 28, `fashion-mnist`", (1, 28, 28), 3, 1, 24),
    ("CIFAR-10", (3, 32, 32), 2, 8, 64),
    ("ImageNet 32 × 32", (3, 32, 32), 4, 4, 32),
    ("64 × 64", (3, 64, 64), 5, 2, 32),
]
rows, shares = [], []
for name, shape, scales, blocks, maps in settings:
    config = nvp.RealNVPConfig.paper(
        shape, num_scales=scales, num_blocks=blocks, width=maps
    )
    with torch.device("meta"):  # shapes, and no numbers
        whole = nvp.RealNVP(config)
    count = {k: p.numel() for k, p in whole.named_parameters()}
    total = sum(count.values())
    inside = sum(n for k, n in count.items() if ".blocks." in k)
    shares.append(inside / total)
    reach = ", ".join(f"± {(1 + 2 * blocks) * 2**k}" for k in range(scales))
    rows.append([name, blocks, maps, f"{total / 1e6:.1f}", reach])
figures.show_table(
    ["model", "blocks", "maps", "M parameters", "sees, scale 1, 2, …"], rows
)

# %% tags=["remove-cell"]
assert [row[3] for row in rows] == ["1.7", "19.6", "46.2", "96.4"]
assert shares[1] > 0.9

# %% [markdown]
# Nine tenths of the parameters of the CIFAR-10 model are the 3 × 3 convolutions of its blocks. With eight blocks, and
# not with fewer, its first network sees the whole image from the middle pixel.
#
# ## Summary
#
# * One residual network makes $s$ and $t$. Of four parts the norm *after* each coupling matters most, by 0.6 bits/dim
#   in short runs.
# * After a coupling, batch normalisation is a bijection with log-determinant {eq}`eq:batch-norm`. Score in evaluation
#   mode, with statistics re-estimated on training images.
# * A hundred lines, a network and a norm are a complete Real NVP.
# * Without norms every scale must first learn the right variance. With norms of each batch all learning happens in the
#   log-determinants.
# * Without the bound of $s$, and without norms, last convolutions eight times as large make a fresh flow infinite.
#
# ## Exercises
#
# ```{exercise} Build another prior
# :label: ex-own-prior
#
# Write `Logistic`, a `RealNVP` with a logistic prior, as in NICE {cite}`dinh2015nice`: its density, and the samples of
# its latents ({ref}`ex-prior`). Here a norm ends every stack. By which factor must the prior be
# stretched to have the variance of the latents?
# ```
#
# ```{solution-start} ex-own-prior
# :class: dropdown
# ```
# The log-density of {ref}`ex-prior`, $-z - 2 \log(1 + e^{-z})$, equals $-\log(1 + e^{z}) - \log(1 + e^{-z})$. The
# logit of a uniform number is a sample. Its variance is $\pi^2 / 3$, but the last norms give the latents of images the
# variance 1. So divide $z$ by $r = \sqrt3 / \pi$, and subtract $\log r$ from the log-density. Multiply the samples by
# $r$.


# %% tags=["hide-input"]
r = math.sqrt(3) / math.pi  # for the variance 1


class Logistic(RealNVP):
    def log_prior(self, z):
        return -F.softplus(z / r) - F.softplus(-z / r) - math.log(r)

    def draw(self, z):
        return r * torch.logit(torch.rand_like(z), eps=1e-6)


torch.manual_seed(0)
logistic = Logistic()
terms = train(logistic, images, steps=12)
assert sum(terms[-1].values()) < sum(terms[0].values()) - 1
reestimate(logistic, images[:100])
with torch.no_grad():
    assert logistic.sample(3).shape == (3, 1, 28, 28)
    x = torch.logit(0.05 + 0.9 * (images[:100] + 0.5) / 256)
    latents, _ = logistic.flow(x)
assert all(abs(z.var() - 1) < 0.2 for z in latents)
z = logistic.draw(torch.zeros(100_000))
assert abs(z.var() - 1) < 0.05
line = torch.linspace(-30, 30, 6001)
p = logistic.log_prior(line).exp()
assert abs(torch.trapezoid(p, line) - 1) < 1e-3
assert abs(torch.trapezoid(line**2 * p, line) - 1) < 1e-2
assert abs(torch.trapezoid(line**4 * p, line) - (z**4).mean()) < 0.5

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} No gain needed
# :label: ex-no-gain
#
# The norms inside the authors' networks have a shift and no gain. Let a weight-normalised
# convolution with a gain $\kappa$ follow. Show that a gain $\gamma_i > 0$ for each channel, before
# the ReLU, would add nothing to what this convolution can represent.
# ```
#
# ```{solution-start} ex-no-gain
# :class: dropdown
# ```
# Let $n_i$ be the normalised channel and $\beta_i$ its shift. A positive factor passes through the
# ReLU,
#
# $$
# \operatorname{relu}(\gamma_i n_i + \beta_i) = \gamma_i \operatorname{relu}(n_i + \beta_i / \gamma_i) ,
# $$
#
# and a factor on an input channel can be moved into the filter:
# $\omega'_{oi} = \gamma_i \omega_{oi}$.
# Its length has changed, and $\kappa' = \kappa\, \lVert \omega' \rVert / \lVert \omega \rVert$
# compensates for this.

# %% tags=["hide-input"]
torch.manual_seed(0)
layer, moved = conv(4, 3, 3), conv(4, 3, 3)
moved.load_state_dict(layer.state_dict())
gain, shift = torch.rand(4, 1, 1) + 0.5, torch.randn(4, 1, 1)
n = torch.randn(2, 4, 6, 6)
with torch.no_grad():
    kappa, omega = kappa_omega(moved)
    before = omega.flatten(1).norm(dim=1)
    omega *= gain
    kappa *= (omega.flatten(1).norm(dim=1) / before)[:, None, None, None]
    with_gain = layer(F.relu(gain * n + shift))
    without = moved(F.relu(n + shift / gain))
    assert torch.allclose(without, with_gain, atol=1e-5)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A fresh network is not silent
# :label: ex-fresh
#
# In the authors' code the entries of $\omega$ are drawn uniformly between $-\sqrt{2/C}$ and
# $\sqrt{2/C}$, for $C$ input channels. The gain is $\kappa = \sqrt{k^2/6}$ for a kernel of side
# $k$. Biases and shifts are 0. Let the input of a convolution have the mean square $q$. Show that
# its output has the mean square $\kappa^2 q$ in expectation, away from the edges. Let the outputs
# of the last norm be distributed symmetrically. What is the mean square of $t$ and the raw $s$ in a
# fresh network in training mode? *Hint*: what changes when one entry of $\omega$ changes its sign?
# ```
#
# ```{solution-start} ex-fresh
# :class: dropdown
# ```
# Flipping the sign of one entry of $\omega$ changes neither its distribution nor $\lVert \omega \rVert$, so
# $\mathbb E[w_i w_j] = 0$ for $i \ne j$. All entries are alike and $\sum_i w_i^2 = \kappa^2$, so
# $\mathbb E[w_i^2] = \kappa^2 / m$ for $m$ entries. For the $m$ inputs $r$ at one place,
# $\mathbb E[(w^{\mathsf T} r)^2] = \frac{\kappa^2}{m} \sum_i r_i^2$. Its mean over all places is
# $\kappa^2 q$. In training mode the output $n$ of a norm has the mean square 1. Since
# $\operatorname{relu}(n)^2 + \operatorname{relu}(-n)^2 = n^2$, a symmetric $n$ gives $q = 1/2$. The
# last convolution has $k = 1$, so the answer is $\frac16 \cdot \frac12 = 1/12$, whatever the width,
# the depth and the image: $t$ is about $\pm 0.3$.

# %% tags=["hide-input"]
squares = []
some = images[:16, :, ::2, ::2].float() / 64 - 2
for seed in range(8):
    torch.manual_seed(seed)
    treatment = InputTreatment(
        1, Parity.ODD, concatenated_relu=True, mask_channel=True
    )
    fresh = CouplingNet(treatment, 1, 24, 8)
    with torch.no_grad():
        squares.append(fresh(some * checkerboard(14, 14)).square().mean())
assert abs(sum(squares) / 8 - 1 / 12) < 0.15 / 12

# %% [markdown]
# ```{solution-end}
# ```
