# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (your-turn)=
# # Your turn
#
# How does a model of your own get into this book's tables? This chapter adds two that are not in the papers: a flow
# with the invertible 1 × 1 convolution of {cite:t}`kingma2018glow`, and the Gated PixelCNN of
# {cite:t}`oord2016gated`.
#
# You will be able to
#
# * write a model in two methods, and check it in one call;
# * train it, score it and record it beside the models of the papers;
# * do the same with images of your own.

# %% tags=["parameters", "remove-cell"]
profile = "laptop"

# %% tags=["hide-input"]
import contextlib
import io
import math
import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import figures
from nvp_book.ablation import compare, experiment
from nvp_book.figures import contexts, couplings, mixing
from torch import nn
from torch.func import jacrev

from examples.gated_pixelcnn import GatedPixelCNNConfig
from examples.mixed_realnvp import MixedRealNVPConfig
from nvp import PixelRNN, PixelRNNConfig, RealNVP, RealNVPConfig
from nvp.config import load_config
from nvp.data import EMBEDDED, load
from nvp.flows.bijection import Bijection, Composition
from nvp.flows.masks import Half
from nvp.flows.preprocess import Logit
from nvp.flows.squeeze import SqueezeOrder, squeeze
from nvp.ledger import runs
from nvp.ledger.enter import record
from nvp.likelihood import evaluate
from nvp.model import ImageModel
from nvp.model.dequantisation import dequantise, uniform_noise
from nvp.model.protocol import check_temperature
from nvp.paths import results_root
from nvp.tables.build import table
from nvp.testing import check_bijection, check_model
from nvp.training.loop import prepare

figures.use_style()
torch.set_num_threads(1)
test = load(EMBEDDED, "test").images

# %% [markdown]
# ## The protocol
#
# What must a model offer, so that the package can train, score and record it? It is an
# {py:class}`ImageModel <nvp.model.protocol.ImageModel>`, of which you write this:
#
# | you write | it says or gives |
# |:--|:--|
# | `image_shape`, `levels` | $(C, H, W)$, and the number of values of a sub-pixel, by default 256 |
# | `likelihood` | `"exact"`, `"bound"`, or `"none"` for a model without one |
# | `autoregressive` | `True` if each sub-pixel is predicted from those before it. `check_model` tests a method `logits(images)`, or `logits(images, y)`: no logit may see its own or a later sub-pixel |
# | `_log_probs(images, num_draws, generator, y)` | yields the log-probability of each image, $(N,)$, in nats, once for each set of noise; `y` is the condition, if any |
# | `sample(n, generator, temperature, labels)` | `n` new images |
#
# Images are integers, `uint8`, $(N, C, H, W)$. The base class derives `log_prob`, the training loss, the checks of
# images and labels, and the importance-weighted bound of chapter {ref}`integers-to-bits`. The training loop, the
# score, the ledger and the tables ask for no more. (The optimiser Muon also needs to know what each parameter is: see
# {ref}`roles`.) Here is the smallest model, a histogram for each pixel. It samples by the `argmax` of logits plus
# Gumbel noise, which is a draw from their softmax:


# %%
class Histograms(ImageModel):
    """Independent pixels, each with its own probabilities."""

    likelihood = "exact"

    def __init__(self, image_shape):
        super().__init__()
        self.image_shape = image_shape
        self.logits = nn.Parameter(0.01 * torch.randn(256, *image_shape))

    def _log_probs(self, images, num_draws, generator, y):
        log_p = self.logits.log_softmax(dim=0)
        yield log_p.gather(0, images.long()).sum(dim=(1, 2, 3))

    def sample(self, n, *, generator=None, temperature=1.0, labels=None):
        self.condition(labels, n)  # refuses labels, and n < 1
        check_temperature(temperature)
        u = torch.rand(n, *self.logits.shape, generator=generator)
        gumbel = -(-u.clamp(min=1e-12).log()).log()
        drawn = (self.logits + temperature * gumbel).argmax(dim=1)
        return drawn.to(torch.uint8)


torch.manual_seed(0)
check_model(Histograms((1, 28, 28)), test[:4])

# %% [markdown]
# {py:func}`check_model <nvp.testing.model.check_model>` applies the checks that the project's own models must pass.
# Shapes, types and errors are right. The same seed gives the same result. A gradient reaches every parameter.
# Images do not influence each other's scores. Uniform noise of 256 levels needs at least eight bits/dim on average.
# If all hold, it is silent.
#
# ## A step of a flow
#
# Which half of the channels should a coupling keep? In Real NVP the mask and the order of the squeeze decide it
# (chapter {ref}`multi-scale`). {cite:t}`kingma2018glow` let the model choose. Between two couplings, every pixel's
# vector of $c$ channels is multiplied by one matrix, the same at all pixels:
#
# $$
# y_{\cdot, i, j} = W x_{\cdot, i, j}, \qquad W \in \mathbb R^{c \times c}.
# $$ (eq:mixing)
#
# This is a convolution with a kernel of 1 × 1; {ref}`ex-mix` built a first form. What could be
# gained? The next figure has a real image, after noise and logit. A squeeze makes the pixels of
# each 2 × 2 block four channels. An orthogonal $W$ can turn them into a mean and three differences.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Four channels of a squeezed test image, as they are and after an orthogonal matrix. Red above 0, blue below, white at 0, all to one scale. A channel-wise mask keeps the first two.", "name": "fig-mixed-channels"}, "image": {"alt": "Two rows of four small maps of an ankle boot in red and blue. In the upper row all four look alike. In the lower row the first is a stronger copy of them, and the other three are pale, showing little but outlines."}}
noise = uniform_noise(test[:1].shape, torch.Generator().manual_seed(0))
y, _ = Logit()(dequantise(test[:1], noise))
x = squeeze(y, SqueezeOrder.POSITION_MAJOR)  # (1, 4, 14, 14)
haar = 0.5 * torch.tensor(
    [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1.0]]
)
mixed = torch.einsum("oc,nchw->nohw", haar, x)
mixing.plot_channels({"as they are": x[0], "mixed": mixed[0]}, kept=2)
plt.show()

# %% [markdown]
# Without the matrix both halves look alike. With it one half holds the picture, the other only outlines. So it matters
# which half is kept, and a learned $W$ can choose it.
#
# ### Its determinant
#
# What does {eq}`eq:mixing` add to the log-likelihood?
#
# ```{prf:proposition} Determinant of a 1 × 1 convolution
# :label: prop-mixing
#
# On maps of $h \times w$ pixels, {eq}`eq:mixing` has
# $\log\left|\det \dfrac{\partial y}{\partial x^{\mathsf T}}\right| = h\, w \log\left|\det W\right|$.
# ```
#
# ```{prf:proof}
# Number the components of $x$ and $y$ pixel by pixel: all channels of the first pixel, then all of the second. A
# pixel of $y$ depends on the same pixel of $x$ alone, through $W$. The Jacobian is block-diagonal with $h\,w$ blocks
# $W$, and its determinant is $(\det W)^{h w}$. Renumbering $x$ and $y$ in the same way changes no determinant.
# ```
#
# Computing $\det W$ takes about $c^3$ operations a batch. Glow's authors describe how to avoid
# these, by learning the factors of $W$:
#
# $$
# W = P L \bigl(U + \operatorname{diag}(s)\bigr), \qquad \log\left|\det W\right| = \sum_{k=1}^{c} \log\left|s_k\right|,
# $$ (eq:plu)
#
# where $P$ is a permutation, $L$ is lower triangular with ones on its diagonal, and $U$ is upper triangular with
# zeros on its diagonal. $P$ and the signs of $s$ stay those of the first $W$. $L$, $U$ and $\log|s|$ are learned: $c^2$
# numbers, as many as $W$ has. No value of them makes $W$ singular.
#
# ### The bijection
#
# A flow takes any {py:class}`Bijection <nvp.flows.bijection.Bijection>`. Its two methods return a
# result and a log-determinant of shape $(N,)$:


# %%
class InvertibleConv(Bijection):
    """W x at each pixel, W = P L (U + diag(s)): (N, C, H, W) as is."""

    def __init__(self, start):
        super().__init__()
        P, L, U = torch.linalg.lu(start)  # the first W
        s = U.diagonal()
        self.register_buffer("P", P)
        self.register_buffer("sign", s.sign())
        # L below the diagonal, U above it, log|s| on it.
        factors = L.tril(-1) + U.triu(1) + s.abs().log().diag()
        self.factors = nn.Parameter(factors)

    def weight(self):
        """W, (C, C)."""
        s = self.sign * self.factors.diagonal().exp()
        L = self.factors.tril(-1) + torch.eye(len(s)).to(s)
        return self.P @ L @ (self.factors.triu(1) + s.diag())

    def log_det(self, x):
        pixels = x.shape[2] * x.shape[3]
        return (pixels * self.factors.diagonal().sum()).expand(len(x))

    def forward(self, x, y=None):
        z = F.conv2d(x, self.weight()[:, :, None, None])
        return z, self.log_det(x)

    def inverse(self, z, y=None):
        inverse = torch.linalg.inv(self.weight())
        return F.conv2d(z, inverse[:, :, None, None]), -self.log_det(z)


def rotation(channels):
    """A random orthogonal matrix, Glow's first W: (C, C)."""
    return torch.linalg.qr(torch.randn(channels, channels)).Q


# %% [markdown]
# {py:func}`check_bijection <nvp.testing.bijection.check_bijection>` compares the log-determinant with the whole
# Jacobian by automatic differentiation, and the inverse with the input, in double precision. It moves the weights
# away from their first values, since a rotation has the log-determinant 0.

# %%
torch.manual_seed(0)
conv = InvertibleConv(rotation(4))
check_bijection(conv, torch.randn(2, 4, 3, 3))

# %% [markdown]
# A check must be able to fail. The usual mistake is to forget that all pixels stretch:


# %%
class Forgetful(InvertibleConv):
    """Counts one pixel."""

    def log_det(self, x):
        return self.factors.diagonal().sum().expand(len(x))


try:
    check_bijection(Forgetful(rotation(4)), torch.randn(2, 4, 3, 3))
except AssertionError as error:
    print("caught:", str(error).split(" by ")[0])

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The Jacobian of the convolution at an image of four channels and 3 × 3 pixels. Positive entries are red, negative ones blue, zeros white. Then the same with components numbered pixel by pixel, and $W$.", "name": "fig-mixing-jacobian"}, "image": {"alt": "Three matrices. Left, 36 by 36: sixteen diagonal stripes. Middle, the same entries as nine equal blocks along the diagonal. Right, one of these blocks, 4 by 4."}}
patch = torch.randn(1, 4, 3, 3)
jacobian = jacrev(lambda x: conv(x)[0])(patch).reshape(36, 36).detach()
by_pixel = torch.arange(36).reshape(4, 9).T.flatten()
blocks = jacobian[by_pixel][:, by_pixel]
W = conv.weight().detach()
assert torch.allclose(blocks, torch.block_diag(*[W] * 9))
couplings.plot_matrices(
    {"channel by channel": jacobian, "pixel by pixel": blocks, "W": W}
)
plt.show()

# %% [markdown]
# Numbered pixel by pixel, the Jacobian shows the blocks of the proof.
#
# ### The model
#
# A model that differs in one part can inherit the rest. In this Real NVP all channel-wise couplings keep the first
# half, with a learned $W$ before each. (A scale has its couplings in `channelwise.bijections`; `RealNVPConfig.paper`
# has the paper's settings.)


# %%
class MixedRealNVP(RealNVP):
    """Real NVP with learned mixing in place of alternating masks."""

    def __init__(self, config):
        super().__init__(config)
        channels = 4 * config.image_shape[0]
        for scale in self.flow.scales[:-1]:  # the last has no such layers
            steps = []
            for coupling in scale.channelwise.bijections:
                coupling.kept = Half.FIRST
                steps += [InvertibleConv(rotation(channels)), coupling]
            scale.channelwise = Composition(steps)
            channels *= 2


torch.manual_seed(2)
small = RealNVPConfig.paper((1, 8, 8), num_blocks=1, width=4)
pixels = torch.randint(256, (8, 1, 8, 8)).byte()
mixed_model = MixedRealNVP(small)
check_model(mixed_model, pixels)

# %% [markdown]
# Would `check_model` find the mistake of `Forgetful` in a whole model? No: near a model's first weights a wrong term
# can be small. So train the model on uniform noise, and score other noise. A right model stays above eight bits/dim
# however long it learns. A wrong one learns to use its mistake:


# %%
def after_noise(model, steps=25):
    """Train on uniform noise, and score other noise: bits/dim."""
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        noise = torch.randint(256, (64, *model.image_shape)).byte()
        adam.zero_grad()
        model.train().loss(noise).backward()
        adam.step()
    noise = torch.randint(256, (200, *model.image_shape)).byte()
    return evaluate(model, noise).bits_per_dim


right, wrong = MixedRealNVP(small), MixedRealNVP(small)
for part in wrong.modules():
    if isinstance(part, InvertibleConv):
        part.__class__ = Forgetful
check_model(wrong, pixels)
bits = {"right": after_noise(right), "wrong": after_noise(wrong)}
for name, each in bits.items():
    print(f"the {name} model: about {each:.0f} bits/dim")
assert bits["wrong"] < 7.5 < 8 < bits["right"]
try:
    check_bijection(wrong.flow, torch.randn(2, 1, 8, 8))
except AssertionError as error:
    fault = str(error)
assert "log-determinant" in fault

# %% [markdown]
# `check_model` is silent, and training finds the mistake. In a flow `check_bijection(model.flow, x)` finds it at once.
#
# The file `examples/mixed_realnvp.py` holds `MixedRealNVP` too, with two starts to choose from. It also names a role
# for `factors`, so that Muon leaves them to Adam ({ref}`roles`). With the same weights both give the same scores:

# %%
package = MixedRealNVPConfig.paper((1, 8, 8), num_blocks=1, width=4).build()
package.load_state_dict(mixed_model.state_dict())
ours, theirs = (
    m.eval().log_prob(pixels, generator=torch.Generator().manual_seed(0))
    for m in (mixed_model, package)
)
assert torch.equal(ours, theirs)

# %% [markdown]
# Does the new model contain the old one? Let $S$ be the matrix that swaps the two halves of the channels. Let $f_1$
# and $f_2$ be couplings with the *same* network that keep the first and the second half. Then
# $f_2 = S \circ f_1 \circ S$: swap, keep what is now first, swap back. So three alternating couplings equal three
# that all keep the first half, with a swap before the second and the third. The marks $'$ and $''$ stand for
# different networks:
#
# $$
# f_1'' \circ f_2' \circ f_1 = f_1'' \circ S \circ f_1' \circ S \circ f_1 .
# $$ (eq:swap)
#
# Real NVP is the case $W = I, S, S$, and {ref}`ex-mixing-start` builds that start. Does the start matter, and what is
# mixing worth? The ablation of appendix {ref}`paper-and-code` trained both starts, for 450 steps with five seeds
# each. The table has their test bits/dim, minus those of Real NVP with the same seed. After ± is half of a 95%
# interval of the mean:

# %% tags=["hide-input"]
ablation, trained = experiment()
found = compare(ablation, trained)
worth = {
    "random rotations": found["mixed"],
    "the masks of Real NVP": found["mixed-from-masks"],
}
rows = []
for start, each in worth.items():
    ends = [f"{end(each.differences):+.3f}" for end in (min, max)]
    gap = each.difference
    rows.append([start, *ends, f"{gap.mean:+.3f} ± {gap.half_width:.3f}"])
header = ["$W$ starts from", "best seed", "worst seed", "mean"]
figures.show_table(header, rows)

# %% tags=["remove-cell"]
assert ablation.config(ablation.baseline, 0).training.steps == 450
from_rotations, from_masks = worth.values()
assert len(from_masks.rows) == len(from_rotations.rows) == 5
assert max(from_masks.differences) < -0.1
assert not from_rotations.difference.beyond_chance
assert min(from_rotations.differences) < -0.1
assert max(from_rotations.differences) > 0.05
sizes_of = {name: c.rows[0].parameters for name, c in found.items()}
assert sizes_of["mixed"] - sizes_of["paper"] == 240

# %% [markdown]
# From the masks of Real NVP, the model's 240 more parameters gain over a tenth of a bit/dim with every seed. From
# rotations, as Glow starts, the seeds disagree, and their mean may be chance. After so few steps this says how fast
# a model learns, not how far it gets.
#
# ## An autoregressive model
#
# A PixelCNN has a blind spot on the upper right (chapter {ref}`pixelcnn`). The Gated PixelCNN {cite}`oord2016gated`
# closes it with two stacks ({ref}`ex-two-stacks`):
#
# * the **vertical** stack $v$ sees its own row of features and the rows above;
# * the **horizontal** stack $h$ sees its own pixel and those to the left, and $v$ at its own place.
#
# Its second idea is a gate in place of the rectifier, as in an LSTM:
#
# $$
# \operatorname{gate}(a, b) = \tanh(a) \odot \sigma(b).
# $$ (eq:gate)
#
# Neither stack needs a mask. The map of $v$ is padded by `reach` above and on both sides, that of $h$ on the left. A
# shift of the image takes the place of mask A: by one row for $v$, and by one pixel for $h$.


# %%
def gate(x):
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedLayer(nn.Module):
    """v sees its row and those above, h its pixel and those left."""

    def __init__(self, width, reach):
        super().__init__()
        self.reach = reach
        kernel = (reach + 1, 2 * reach + 1)
        self.vertical = nn.Conv2d(width, 2 * width, kernel)
        self.horizontal = nn.Conv2d(width, 2 * width, (1, reach + 1))
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, v, h):
        r = self.reach
        above = self.vertical(F.pad(v, (r, r, r, 0)))
        left = self.horizontal(F.pad(h, (r, 0))) + self.link(above)
        return gate(above), h + self.out(gate(left))


# %% [markdown]
# The whole network is a stack of such layers, here for images of one channel:


# %%
class GatedPixelCNN(ImageModel):
    """A softmax for each pixel, given those before it."""

    likelihood = "exact"
    autoregressive = True

    def __init__(self, image_shape, width=16, layers=4, reach=2):
        super().__init__()
        self.image_shape = image_shape
        self.into_v = nn.Conv2d(1, width, 1)
        self.into_h = nn.Conv2d(1, width, 1)
        self.layers = nn.ModuleList(
            GatedLayer(width, reach) for _ in range(layers)
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 256, 1),
        )

    def logits(self, images):
        x = 2 * images.to(self.dtype) / 255 - 1
        v = self.into_v(F.pad(x, (0, 0, 1, 0))[:, :, :-1])  # a row down
        h = self.into_h(F.pad(x, (1, 0))[:, :, :, :-1])  # a pixel right
        for layer in self.layers:
            v, h = layer(v, h)
        return self.head(h).movedim(1, -1)[:, None]  # (N, 1, H, W, 256)

    def _log_probs(self, images, num_draws, generator, y):
        # A sum over so many pixels needs more digits than bfloat16 has.
        log_p = self.logits(images).to(self.dtype).log_softmax(dim=-1)
        chosen = log_p.gather(-1, images.long()[..., None])
        yield chosen.flatten(1).sum(dim=1)

    @torch.no_grad()
    def sample(self, n, *, generator=None, temperature=1.0, labels=None):
        self.condition(labels, n)
        check_temperature(temperature)
        images = torch.zeros(n, *self.image_shape, dtype=torch.uint8)
        for r in range(self.image_shape[1]):
            for c in range(self.image_shape[2]):
                logits = self.logits(images[:, :, : r + 1])[:, 0, r, c]
                u = torch.rand(logits.shape, generator=generator)
                noise = -(-u.clamp(min=1e-12).log()).log()
                choice = (logits + temperature * noise).argmax(dim=1)
                images[:, 0, r, c] = choice
        return images


# %%
torch.manual_seed(0)
gated = GatedPixelCNN((1, 9, 9))
check_model(gated, torch.randint(256, (4, 1, 9, 9)).byte())

# %% [markdown]
# The file `examples/gated_pixelcnn.py` holds the same model, for any number of levels:

# %%
config = GatedPixelCNNConfig(image_shape=(1, 9, 9), width=16, layers=4)
package = config.build()
package.load_state_dict(gated.state_dict())
pixels = torch.randint(256, (4, 1, 9, 9)).byte()
assert torch.allclose(package.log_prob(pixels), gated.log_prob(pixels))
drawn, of_package = (
    m.sample(4, generator=torch.Generator().manual_seed(0))
    for m in (gated, package)
)
assert torch.equal(drawn, of_package)

# %% [markdown]
# Does it sample what it scores? There are 81 images of four pixels with three levels. With so few, `check_model`
# sums all probabilities, and counts how often each image is drawn:

# %%
tiny = GatedPixelCNNConfig(image_shape=(1, 2, 2), levels=3, width=16, layers=4)
check_model(tiny.build(), torch.randint(3, (4, 1, 2, 2)).byte())

# %% [markdown]
# Is the blind spot gone? We change one pixel at a time, and see whether the logits of the framed pixel move.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The pixels that the framed one depends on, in a PixelCNN of three blocks and in the Gated PixelCNN above.", "name": "fig-gated-field"}, "image": {"alt": "Two boards of 6 by 15 cells. In the PixelCNN a wedge of earlier pixels on the right is not seen. In the Gated PixelCNN all earlier pixels are seen. In neither is a later one."}}
torch.manual_seed(0)
shape, place = (1, 6, 15), (4, 6)
sizes = {"num_layers": 3, "hidden": 8, "head": 16}
plain = PixelRNN(PixelRNNConfig(kind="pixelcnn", image_shape=shape, **sizes))
gated = GatedPixelCNN(shape)


@torch.no_grad()
def seen_from(place, model):
    """The pixels, (H, W), whose change moves the logits at `place`."""
    pixels = math.prod(shape)
    seen = torch.zeros(pixels, dtype=torch.bool)
    for _ in range(8):  # a ReLU may be closed at one image
        image = torch.randint(256, (1, *shape)).byte()
        changed = image.repeat(pixels, 1, 1, 1)
        changed.view(pixels, pixels).diagonal().add_(101)  # modulo 256
        logits = model.logits(torch.cat([image, changed]))[:, 0, *place]
        seen |= (logits[1:] != logits[:1]).any(dim=1)
    return seen.reshape(shape[1:])


fields = {
    "PixelCNN": seen_from(place, plain),
    "Gated PixelCNN": seen_from(place, gated),
}
assert fields["Gated PixelCNN"].sum() == 4 * 15 + 6
assert fields["PixelCNN"].sum() == 4 * 15 + 6 - 14
contexts.plot_fields(fields, place, columns=2)
plt.show()

# %% [markdown]
# The PixelCNN misses the 14 pixels of the grey wedge, and more layers do not help. The Gated PixelCNN sees all 66
# earlier pixels of this board.
#
# ## From a file to a row
#
# How does `nvp train` find your class? The `model.family` of its configuration file names one of the package's
# families, or a class of yours as `module:Class`. That class is a {py:class}`ModelConfig
# <nvp.model.config.ModelConfig>`: its fields are the keys of the file, and its `build` returns the model. The next cell
# has such a class and a file, for the flow with learned mixing. The class inherits the fields of a Real NVP:


# %%
class MixedConfig(RealNVPConfig):
    """The fields of a Real NVP, for a `MixedRealNVP`."""

    def build(self):
        return MixedRealNVP(self)


FILE = """
name: page-mixed
title: Real NVP with learned mixing, of this page
model:
  family: __main__:MixedConfig
  preset: paper
  image_shape: [1, 28, 28]
  num_scales: 2
  num_blocks: 0
  width: 8
data:
  name: fashion-mnist-small
training:
  steps: 30
  batch_size: 32
  learning_rate: 1.0e-2
  anneal: 0.5
  precision: fp32
evaluation:
  validation_images: 50
"""

# %% [markdown]
# In this page the module is `__main__`. Thirty steps of the loop of `nvp train` take a few seconds. In the
# last half of them the rate falls to 0 (`anneal`):

# %%
scratch = Path(tempfile.mkdtemp())
(scratch / "mixed.yaml").write_text(FILE)
config = load_config(scratch / "mixed.yaml")
job = prepare(config, scratch / "page-mixed", device="cpu")
with contextlib.redirect_stderr(io.StringIO()):  # it says how far it is
    job.run()

# %% [markdown]
# `nvp record` then scores the run on all test images and writes an entry of the ledger, `results/runs/NAME/`, with
# weights up to 12 MB. It needs the run folder and the test images. Your `build` must give the same
# model each time, except for the state dict. Your `log_prob` must also run in double precision.
# The run then appears in the tables of its
# data set ({doc}`../book/ledger`). This run is too short for the real ledger, so the next cell records it in a copy. It
# scores all 1,000 test images, and the first 50 (`first`) also with two sets of noise (`num_draws`). The table has
# every recorded score on the embedded images:

# %%
ledger = scratch / "results"
large = shutil.ignore_patterns("*.png", "*.safetensors", "tables")
shutil.copytree(results_root(), ledger, ignore=large)
run = scratch / "page-mixed"
record(run, num_draws=2, first=50, device="cpu", root=ledger)
rows = [
    [model, f"{float(score.split()[0]):.1f}"]
    for data, model, score, _ in table("28x28", root=ledger).rows
    if "embedded" in data and "±" in score
]
assert any("of this page" in model for model, _ in rows)
figures.show_table(["model", "bits/dim"], rows)
shutil.rmtree(scratch)

# %% [markdown]
# The run of this page has its row beside the recorded ones. In the terminal, a configuration must name a module that
# can be imported. Put your module into `examples/`, so that whoever reads the ledger has it:
#
# ```yaml
# family: examples.gated_pixelcnn:GatedPixelCNNConfig
# ```
#
# Save the configuration as `configs/NAME.yaml`, with `name: NAME` in it. Then four commands make the row:
#
# ```bash
# .venv/bin/nvp train configs/NAME.yaml  # to build/runs/NAME
# .venv/bin/nvp record build/runs/NAME   # to results/runs/NAME
# .venv/bin/nvp tables                   # to results/tables, README.md
# .venv/bin/nvp verify NAME              # scores the weights again
# ```
#
# The Gated PixelCNN of `examples/` has its row. Here it stands beside the Diagonal BiLSTM of chapter
# {ref}`beyond-gans`. Each was trained on Fashion-MNIST for half an hour of one processor core (± is the standard
# error over images):

# %% tags=["hide-input"]
names = ("fashion-mnist-gated-pixelcnn", "fashion-mnist-diagonal-bilstm")
recorded = [runs()[name] for name in names]
figures.show_table(
    ["run", "parameters", "images seen", "bits/dim"],
    [
        [
            f"`{run.name}`",
            f"{run.record.parameters / 1e6:.2f} M",
            f"{run.record.images:,}",
            run.score.cells(run.config.model.image_shape)[0],
        ]
        for run in recorded
    ],
)

# %% tags=["remove-cell"]
convolutions, lstm = (run.record for run in recorded)
assert 0.45 < convolutions.images / lstm.images < 0.6
for each in (convolutions, lstm):
    assert round(each.minutes) == 30
    assert {leg.cores for leg in each.legs} == {1}
    assert each.data.name == "fashion-mnist"

# %% [markdown]
# In its half hour the Gated PixelCNN saw about half as many images, so the table does not rank the two layers.
#
# A module outside of the repository must be on `PYTHONPATH`. Commands that read a run, such as `nvp evaluate`,
# execute that module, so they ask for `--trust`.
#
# ## Your own images
#
# No code is needed: `nvp data import FOLDER photographs --size 32` makes a data set from a folder of images. A
# configuration names it, `data: {name: photographs}`. {doc}`../book/own_images` has the rules.
#
# ## Summary
#
# * A model is `_log_probs` and `sample`. A bijection is `forward` and `inverse`, each with its log-determinant.
#   `check_model` and `check_bijection` apply the project's own checks to them.
# * A 1 × 1 convolution has the determinant $(\det W)^{hw}$ ({prf:ref}`prop-mixing`). In the form {eq}`eq:plu` its
#   logarithm is a sum, and $W$ is never singular. Alternating masks are a special case, {eq}`eq:swap`.
# * Two stacks of padded convolutions need no mask and have no blind spot.

# %% [markdown]
# ## Exercises
#
# ```{exercise} Actnorm
# :label: ex-actnorm
#
# Glow has no batch normalisation. Its *actnorm* shifts and scales each channel, $y_c = (x_c + b_c)\, e^{a_c}$, with
# learned $a$ and $b$. The first batch sets $a$ and $b$ so that each of its channels gets mean 0 and variance 1. Write
# actnorm as a bijection and check it. What does it save, compared with the batch normalisation of chapter
# {ref}`networks`?
# ```
#
# ```{solution-start} ex-actnorm
# :class: dropdown
# ```
# The log-determinant is $h\, w \sum_c a_c$. After the first batch actnorm maps each image on its own. So training
# and evaluation agree, images do not depend on each other, and no statistics must be estimated again. The `clamp` is
# for a channel that is constant.


# %%
class ActNorm(Bijection):
    """y = (x + b) exp(a), per channel; the first batch sets a and b."""

    def __init__(self, channels):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(channels, 1, 1))
        self.b = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("is_set", torch.tensor(False))

    def log_det(self, x):
        return (x.shape[2] * x.shape[3] * self.a.sum()).expand(len(x))

    def forward(self, x, y=None):
        if self.training and not self.is_set:
            with torch.no_grad():
                self.b.copy_(-x.mean(dim=(0, 2, 3))[:, None, None])
                std = x.std(dim=(0, 2, 3)).clamp(min=1e-6)
                self.a.copy_(-std.log()[:, None, None])
                self.is_set.fill_(True)
        return (x + self.b) * self.a.exp(), self.log_det(x)

    def inverse(self, z, y=None):
        return z * (-self.a).exp() - self.b, -self.log_det(z)


actnorm = ActNorm(4)
batch = 3 * torch.randn(16, 4, 3, 3) + 1
normalised, _ = actnorm(batch)
assert normalised.mean(dim=(0, 2, 3)).abs().max() < 1e-5
assert (normalised.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-5
check_bijection(actnorm, batch[:2])
constant, _ = ActNorm(4)(torch.ones(16, 4, 3, 3))
assert constant.isfinite().all()

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What the factors cannot reach
# :label: ex-plu
#
# $P$ and the signs of $s$ in {eq}`eq:plu` are fixed. Take $c = 2$ and $P = I$. Which invertible $W$ is no product of
# this form, whatever the signs? Can training come near it?
# ```
#
# ```{solution-start} ex-plu
# :class: dropdown
# ```
# $L(U + \operatorname{diag} s)$ has the upper left entry $s_1 \ne 0$. So a $W$ with 0 in this place, such as the
# swap, is no product of this form. Every other invertible $W$ is one, with $s_1 = W_{11}$, $U_{12} = W_{12}$,
# $L_{21} = W_{21} / W_{11}$ and $s_2 = \det W / W_{11}$. The fixed signs also fix the sign of the determinant. If it
# is that of a $W$ with this 0 (negative for the swap), training can come as near as it likes. The factors then grow
# without bound. With the other sign training cannot come near. A fixed sign excludes no density: the prior is
# symmetric, and the networks of the couplings can adapt.

# %%
for W in (
    torch.randn(2, 2),
    torch.tensor([[1e-1, 1], [1, 0]]),
    torch.tensor([[1e-3, 1], [1, 0]]),
):
    L, U = torch.eye(2), W.triu()
    L[1, 0], U[1, 1] = W[1, 0] / W[0, 0], W.det() / W[0, 0]
    assert torch.allclose(L @ U, W, atol=1e-4)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Begin where the old model is
# :label: ex-mixing-start
#
# Take two scales, so that `MixedRealNVP` has three $W$. Give them first values with which the new model *is* Real
# NVP, by {eq}`eq:swap`, and check it. Then train the new model from this start and from rotations, after
# `torch.manual_seed(1)`: 40 steps of Adam at 0.01 on the same batches of 32, width 8, no residual blocks. Which is
# ahead? Does the table above agree? (From one seed both classes draw the same couplings.)
# ```
#
# ```{solution-start} ex-mixing-start
# :class: dropdown
# ```
# The first $W$ is $I$, and the two others are $S$. In {eq}`eq:plu` that is $P = I$ or $P = S$ with all factors 0,
# as they hold $\log|s|$. The likelihoods agree to rounding. After 40 steps from this seed the rotations are ahead.
# In the table, after 450 steps, the masks gain over Real NVP with all five seeds, and the rotations do not. So one
# short run of each does not tell which start is better.


# %%
sizes = RealNVPConfig.paper((1, 28, 28), num_scales=2, num_blocks=0, width=8)


def fresh(kind):
    torch.manual_seed(1)
    return kind(sizes)


def from_real_nvp():
    """A mixed model that swaps where Real NVP changes masks."""
    model, swap = fresh(MixedRealNVP), torch.eye(4).roll(2, dims=0)
    convs = [m for m in model.modules() if isinstance(m, InvertibleConv)]
    for conv, start in zip(convs, (torch.eye(4), swap, swap), strict=True):
        conv.load_state_dict(InvertibleConv(start).state_dict())
    return model


def train(model, steps=40):
    """A few steps of Adam on the same batches; the last losses, in bits."""
    adam = torch.optim.Adam(model.train().parameters(), lr=1e-2, fused=True)
    generator = torch.Generator().manual_seed(0)
    images = load(EMBEDDED, "train").images
    losses = []
    for _ in range(steps):
        batch = images[torch.randint(5000, (32,), generator=generator)]
        loss = model.loss(batch, generator)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item() / (784 * math.log(2)))
    return sum(losses[-20:]) / 20


start, old = from_real_nvp(), fresh(RealNVP)
one, other = (
    m.eval().log_prob(test[:5], generator=torch.Generator().manual_seed(0))
    for m in (start, old)
)
assert torch.allclose(one, other, rtol=1e-4)
gap = train(fresh(MixedRealNVP)) - train(start)
assert gap < 0
print(f"rotations minus masks: {gap:.1f} bits/dim")

# %% [markdown]
# ```{solution-end}
# ```
