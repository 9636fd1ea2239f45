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
# ```{admonition} In the papers
# In neither. A later idea, the invertible 1 × 1 convolution of section 3.2 of {cite:t}`kingma2018glow`, takes the
# place of one of the older: the alternating channel-wise mask, sections 3.4 and 3.5 of {cite:t}`dinh2017realnvp`.
# ```
#
# This chapter takes an idea that is not in the book from its equation to a row in the table of results, and does
# nothing on the way that you could not do with an idea of your own. A bijection of some forty lines, checks that
# can fail, a model, a run, a score. The idea is Glow's; the steps are the same for any other.

# %% tags=["parameters"]
profile = "laptop"

# %%
import io
import math
import shutil
import tempfile
from contextlib import redirect_stderr
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from nvp_book import figures
from nvp_book.figures import couplings, mixing
from nvp_book.figures import samples as pictures
from torch import nn
from torch.func import jacrev

from nvp import RealNVP, RealNVPConfig
from nvp.config import load_config
from nvp.data import EMBEDDED, load
from nvp.flows.bijection import Bijection, Composition
from nvp.flows.coupling import ChannelCoupling
from nvp.flows.masks import Half
from nvp.flows.preprocess import Logit, dequantise, uniform_noise
from nvp.flows.squeeze import SqueezeOrder, squeeze
from nvp.ledger import runs
from nvp.ledger.enter import record
from nvp.ledger.scoring import score_probe
from nvp.likelihood import evaluate, score_images
from nvp.model import ModelConfig
from nvp.paths import results_root
from nvp.runs.load import load_run
from nvp.runs.log import read_log
from nvp.tables import Table
from nvp.tables.build import table
from nvp.training import start as launch

figures.use_style()
torch.set_num_threads(1)
full = profile == "paper"

# %% [markdown]
# ## The idea
#
# A channel-wise coupling keeps the first half of the channels and changes the second; the next one does the
# opposite (chapter {ref}`multi-scale`). Which channels make up a half was settled by the order of the squeeze,
# and with whom each half takes turns by the mask: by us. {cite:t}`kingma2018glow` let the model choose. Between two
# couplings every pixel's vector of $c$ channels is multiplied by a matrix, the same at all pixels:
#
# $$
# y_{\cdot, i, j} = W x_{\cdot, i, j}, \qquad W \in \mathbb R^{c \times c}.
# $$ (eq:mixing)
#
# That is a convolution whose kernel has the size 1 × 1. After it, the mask can stay where it is.
#
# What could be gained? The picture has one real image, after noise and logit, squeezed to four channels. As they
# come, these are the four pixels of each 2 × 2 block: nearly the same picture four times, whichever half one keeps. An
# orthogonal $W$ can turn them into a mean and three differences, and now it matters what is kept.

# %% mystnb={"figure": {"caption": "Four channels of a squeezed test image, as they are and after an orthogonal matrix. A channel-wise mask keeps the first two. (No figure in either paper.)", "name": "fig-mixed-channels"}, "image": {"alt": "Two rows of four small maps of an ankle boot in red and blue. In the upper row all four look alike. In the lower row the first is a stronger copy of them, and the other three are pale, showing little but outlines."}}
test = load(EMBEDDED, "test").images
generator = torch.Generator().manual_seed(0)
noise = uniform_noise(test[:1], torch.float32, generator)
y, _ = Logit()(dequantise(test[:1], noise))
x = squeeze(y, SqueezeOrder.POSITION_MAJOR)  # (1, 4, 14, 14)

haar = 0.5 * torch.tensor(
    [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1.0]]
)
assert torch.allclose(haar @ haar.T, torch.eye(4))
mixed = torch.einsum("oc,nchw->nohw", haar, x)
mixing.draw_channels({"as they are": x[0], "mixed": mixed[0]}, kept=2)
plt.show()

# %% [markdown]
# ## Its determinant
#
# ```{prf:proposition} Determinant of a 1 × 1 convolution
# :label: prop-mixing
#
# On maps of $h \times w$ pixels, {eq}`eq:mixing` has
# $\log\left|\det \dfrac{\partial y}{\partial x^{\mathsf T}}\right| = h\, w \log\left|\det W\right|$.
# ```
#
# ```{prf:proof}
# Number the components of $x$ and $y$ pixel by pixel: all channels of the first pixel, then all of the second.
# A pixel of $y$ depends on the same pixel of $x$ alone, and by $W$. The Jacobian is block-diagonal with $h\,w$
# blocks $W$, and its determinant is $(\det W)^{h w}$. To renumber both $x$ and $y$ changes no determinant.
# ```
#
# The determinant of a $c \times c$ matrix takes about $c^3$ operations, once for the whole image. Glow makes even
# that unnecessary by learning not $W$ but its factors,
#
# $$
# W = P L \bigl(U + \operatorname{diag}(s)\bigr), \qquad \log\left|\det W\right| = \sum_{k=1}^{c} \log\left|s_k\right|,
# $$ (eq:plu)
#
# where $P$ is a permutation, $L$ is lower triangular with ones on its diagonal, and $U$ is upper triangular with zeros on
# its. $P$ and the signs of $s$ stay as they were drawn; the rest is learned, and makes $c^2$ numbers, as many as $W$
# has. No value of them makes $W$ singular.
#
# ## The bijection
#
# A bijection of this package has two methods, each of which returns its result and a log-determinant of shape
# $(N,)$. A composition of couplings also passes on the condition $y$ of a conditional model; we have no use for it.
# As in Glow, $W$ starts as a random rotation.


# %%
class InvertibleConv(Bijection):
    """y = W x at each pixel, W = P L (U + diag(s)): (N, C, H, W) as is."""

    def __init__(self, channels):
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels)).Q
        P, L, U = torch.linalg.lu(rotation)
        s = U.diagonal()
        self.register_buffer("P", P)
        self.register_buffer("sign", s.sign())
        # L below the diagonal, U above it, log|s| on it.
        factors = L.tril(-1) + U.triu(1) + s.abs().log().diag()
        self.factors = nn.Parameter(factors)

    def log_s(self):
        """log|s|, (C,)."""
        return self.factors.diagonal()

    def weight(self):
        """W, (C, C)."""
        s = self.sign * self.log_s().exp()
        L = self.factors.tril(-1) + torch.eye(len(s)).to(s)
        return self.P @ L @ (self.factors.triu(1) + s.diag())

    def forward(self, x, y=None):
        height, width = x.shape[2:]
        z = F.conv2d(x, self.weight()[:, :, None, None])
        return z, (height * width * self.log_s().sum()).expand(len(x))

    def inverse(self, z, y=None):
        height, width = z.shape[2:]
        inverse = torch.linalg.inv(self.weight())
        x = F.conv2d(z, inverse[:, :, None, None])
        return x, (-height * width * self.log_s().sum()).expand(len(z))


# %% [markdown]
# ## Does it hold?
#
# The package's own tests hold every flow to one measure, in double precision and with random weights: the
# log-determinant against the whole Jacobian by automatic differentiation, and the inverse against the input. Here it is.


# %%
def check(bijection, x):
    """Exact to 1e-9 at one image x, (1, C, H, W), float64."""
    jacobian = jacrev(lambda x: bijection(x)[0])(x)
    matrix = jacobian.reshape(x.numel(), x.numel())
    z, log_det = bijection(x)
    back, log_det_back = bijection.inverse(z)
    assert (z.shape, log_det.shape) == (x.shape, (1,))
    assert not torch.allclose(z, x)
    assert (log_det - matrix.slogdet().logabsdet).abs().max() < 1e-9
    assert (back - x).abs().max() < 1e-9
    assert (log_det + log_det_back).abs().max() < 1e-9
    return matrix.detach()


torch.manual_seed(0)
conv = InvertibleConv(4).double()
with torch.no_grad():  # away from its first values: |det W| is no longer 1
    conv.factors.add_(0.3 * torch.randn(4, 4))
patch = torch.randn(1, 4, 3, 3, dtype=torch.double)
jacobian = check(conv, patch)

assert abs(conv.log_s().sum()) > 0.1
assert torch.allclose(conv.log_s().sum(), conv.weight().slogdet().logabsdet)

# %% [markdown]
# A check that cannot fail checks nothing. This is the mistake that one makes, and it is caught:


# %%
class Forgetful(InvertibleConv):
    """Counts one pixel."""

    def forward(self, x, y=None):
        return super().forward(x)[0], self.log_s().sum().expand(len(x))


forgetful = Forgetful(4).double()
forgetful.load_state_dict(conv.state_dict())
caught = False
try:
    check(forgetful, patch)
except AssertionError:
    caught = True
assert caught

# %% [markdown]
# And the proof, in a picture. Autograd numbers the components channel by channel; put them pixel by pixel, and
# the blocks appear.

# %% mystnb={"figure": {"caption": "The Jacobian of the convolution at an image of four channels and 3 × 3 pixels, positive entries red, negative ones blue, zeros white; the same with components numbered pixel by pixel; and $W$. (No figure in either paper.)", "name": "fig-mixing-jacobian"}, "image": {"alt": "Three matrices. Left, 36 by 36: sixteen diagonal stripes. Middle, the same entries as nine equal blocks along the diagonal. Right, one of these blocks, 4 by 4."}}
by_pixel = torch.arange(36).reshape(4, 9).T.flatten()
blocks = jacobian[by_pixel][:, by_pixel]
W = conv.weight().detach()
assert torch.allclose(blocks, torch.block_diag(*[W] * 9))
couplings.draw_matrices(
    {"channel by channel": jacobian, "pixel by pixel": blocks, "W": W}
)
plt.show()

# %% [markdown]
# ## What it replaces is a special case of it
#
# Before one trains anything, it helps to know whether the new model contains the old one. Let $S$ be the matrix that swaps the
# two halves of the channels, and $f_1$ and $f_2$ couplings with the *same* network that keep the first and the second half.
# Then $f_2 = S \circ f_1 \circ S$: swap, keep what is now first, swap back. So three couplings that take turns are
#
# $$
# f_1'' \circ f_2' \circ f_1 = f_1'' \circ S \circ f_1' \circ S \circ f_1 ,
# $$ (eq:swap)
#
# three that all keep the first half, with $W = S$ before the second and before the third. The model below has a $W$ before the
# first one, too. (That is for a free $W$. In the form {eq}`eq:plu` it needs the right $P$, as in
# {ref}`ex-mixing-start`; with another one training can only come near, {ref}`ex-plu`.)

# %%
torch.manual_seed(1)
small = RealNVPConfig.paper((1, 8, 8), num_blocks=1, width=4)
plain = RealNVP(small).double().eval()
turns = plain.flow.scales[0].channelwise
swap = torch.eye(4).roll(2, dims=0).double()

h = torch.randn(5, 4, 4, 4, dtype=torch.double)
expected, _ = turns(h)
for number, coupling in enumerate(turns.bijections):
    same = ChannelCoupling(
        Half.FIRST, coupling.net, scale_init=1.0, norm=coupling.norm
    ).eval()
    if number > 0:
        h = torch.einsum("oc,nchw->nohw", swap, h)
    h, _ = same(h)
assert torch.allclose(h, expected, atol=1e-12)
assert [c.kept for c in turns.bijections] == [
    Half.FIRST,
    Half.SECOND,
    Half.FIRST,
]

# %% [markdown]
# ## The model
#
# A model of images follows one protocol, {py:class}`ImageModel <nvp.model.protocol.ImageModel>`. It has an `image_shape`, and three methods that take or return
# unsigned bytes:
#
# | method | gives |
# |:--|:--|
# | `log_prob(images)` | the log-probability of each image, $(N,)$, in nats |
# | `loss(images, generator)` | what training minimises, a scalar |
# | `sample(n)` | new images |
#
# Whatever follows it can be trained, scored, drawn from, recorded and verified by the package, with no further code. A model of
# another kind writes the three itself. Ours is a Real NVP but for one part, so it inherits them, and exchanges the part:


# %%
class MixedRealNVP(RealNVP):
    """Real NVP with learned mixing in place of masks that take turns."""

    def __init__(self, config):
        super().__init__(config)
        channels = 4 * config.image_shape[0]
        for scale in self.flow.scales[:-1]:  # the last has no such layers
            steps = []
            for coupling in scale.channelwise.bijections:
                coupling.kept = Half.FIRST
                steps += [InvertibleConv(channels), coupling]
            scale.channelwise = Composition(steps)
            channels *= 2


# %% [markdown]
# The whole flow must pass the same test, now with random weights and batch-norm statistics; and a gradient must reach every
# parameter.

# %%
torch.manual_seed(2)
model = MixedRealNVP(small).double().train()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    for _ in range(3):
        model.flow(1.5 * torch.randn(8, 1, 8, 8).double() + 0.2)
model.eval()
check(model.flow, 1.5 * torch.randn(1, 1, 8, 8).double())

pixels = torch.randint(256, (8, 1, 8, 8)).byte()
model.loss(pixels, torch.Generator().manual_seed(0)).backward()
for name, parameter in model.named_parameters():
    assert parameter.grad.abs().max() > 1e-9, name
encoded = model.encode(pixels, torch.Generator().manual_seed(0))
assert torch.equal(model.decode(encoded), pixels)

# %% [markdown]
# ## The run
#
# `nvp train` reads a file, and its `model.family` says what to build. Beside the families of the package it may name a
# class of yours, as `module:Class`: a subclass of {py:class}`ModelConfig <nvp.model.config.ModelConfig>`, whose fields are the keys that the file may have, and whose
# `build` returns the model. (In this page the module is the page, `__main__`.)


# %%
class MixedConfig(ModelConfig):
    """The sizes of a `MixedRealNVP`."""

    num_scales: int = 2
    num_blocks: int = 0
    width: int = 8

    def build(self):
        sizes = {"num_scales", "num_blocks", "width"}
        config = RealNVPConfig.paper(
            self.image_shape, **self.model_dump(include=sizes)
        )
        return MixedRealNVP(config)


FILE = """
name: {name}
title: {title}
model:
  family: {family}
  image_shape: [1, 28, 28]
  num_scales: 2
  num_blocks: 0
  width: 8
data:
  name: fashion-mnist-small
training:
  steps: {steps}
  batch_size: 32
  learning_rate: 2.0e-2
  anneal: 0.5
  precision: fp32
  log_every: 5
evaluation:
  validation_images: 100
  statistics_images: 500
"""
MODELS = {
    "page-plain": ("realnvp", "Real NVP, masks that take turns"),
    "page-mixed": ("__main__:MixedConfig", "Real NVP, mixing learned"),
}

# %% [markdown]
# Two files, and they differ in the family alone. The networks of both models begin with the same weights, and see the same
# batches with the same noise. `precision: fp32` is for our convolution, which would otherwise be rounded to half
# precision where the networks are. `launch.start` is what `nvp train` calls.

# %%
steps = 2000 if full else 80
folder = tempfile.TemporaryDirectory()
scratch = Path(folder.name)
for name, (family, title) in MODELS.items():
    file = scratch / f"{name}.yaml"
    file.write_text(
        FILE.format(name=name, title=title, family=family, steps=steps)
    )
    with redirect_stderr(io.StringIO()):  # it says how far it is
        launch.start(file, folder=scratch / name)

trained = {name: load_run(scratch / name).model for name in MODELS}
sizes = {
    name: sum(p.numel() for p in model.parameters())
    for name, model in trained.items()
}
added = sizes["page-mixed"] - sizes["page-plain"]
assert added == 3 * 4**2
print(f"{sizes['page-plain']:,} parameters, and {added} more")

# %% [markdown]
# What did the matrices do? They began as rotations; the second row is what they have become.


# %% mystnb={"figure": {"caption": "The three matrices $W$, each before a coupling, when training began and when it ended. (No figure in either paper.)", "name": "fig-mixing-weights"}, "image": {"alt": "Two rows of three 4 by 4 matrices with their entries, coloured from blue for negative to red for positive. The lower row differs from the upper one in many entries by some tenths."}}
def at_the_start(name):
    """The model as training found it: seed 0."""
    torch.manual_seed(0)
    return load_config(scratch / f"{name}.yaml").build_model()


first = at_the_start("page-mixed")
networks = [p for p in first.parameters() if p.shape != (4, 4)]
plain_networks = at_the_start("page-plain").parameters()
assert all(map(torch.equal, networks, plain_networks))


def matrices(model):
    return [
        layer.weight().detach().cpu()
        for layer in model.modules()
        if isinstance(layer, InvertibleConv)
    ]


moved = [
    (after - before).abs().max().item()
    for before, after in zip(
        matrices(first), matrices(trained["page-mixed"]), strict=True
    )
]
assert min(moved) > 0.05
mixing.draw_weights(
    {
        "at the start": matrices(first),
        "at the end": matrices(trained["page-mixed"]),
    },
    ["before the first", "before the second", "before the third"],
)
plt.show()

# %% [markdown]
# ## The score
#
# `evaluate` gives bits/dim and their standard error over images, from the same noise for both models. And the curves of the two runs, from their logs:

# %% mystnb={"figure": {"caption": "The loss of the two runs of this page in bits/dim, five steps at a time. (No figure in either paper.)", "name": "fig-mixing-curves"}, "image": {"alt": "Two curves of bits per dimension over steps fall steeply at first and then slowly, close to each other."}}
scores = {name: evaluate(model, test) for name, model in trained.items()}
logs = {name: read_log(scratch / name / "log.csv") for name in MODELS}
for name, score in scores.items():
    assert score.bits_per_dim < logs[name][0]["bits_per_dim"] - 1
mixing.draw_curves({title: logs[name] for name, (_, title) in MODELS.items()})
plt.show()

# %% [markdown]
# Which is better? One run of seconds cannot say. An exercise looks at what the standard error covers, and at what it leaves
# out: the seed, the rate, the length of the run. To rank two models, give each what it needs, several times.
#
# What the page can say is that everything works together. The models draw, too; after so few steps nothing that one could wear:

# %% mystnb={"figure": {"caption": "Samples of both models of this page, from the same $z$. Neither has been trained for long. (No figure in either paper.)", "name": "fig-mixing-samples"}, "image": {"alt": "Two rows of ten small images each: grey and white blobs on black."}}
drawn = {
    MODELS[name][1].partition(", ")[2]: model.sample(
        10, generator=torch.Generator().manual_seed(1)
    ).cpu()
    for name, model in trained.items()
}
pictures.draw_rows(drawn)
plt.show()

# %% [markdown]
# ## The row
#
# A result of this book is an entry of its ledger, `results/runs/NAME/`. `nvp record RUN_FOLDER` writes one. It needs
#
# * the folder that `nvp train` wrote, with its checkpoint;
# * the test images, under the name that the configuration gives;
# * a `build` that makes the same model each time, whose `log_prob` also runs in double precision: 200 fixed images
#   are scored in it, so that anyone can check later that the weights are what they were;
# * weights of at most 6 MB in half precision, or `--no-weights`.
#
# What it writes is who trained it (machine, commit, seed, minutes), on what (checksums of the images), and how it scored, with one draw of the
# noise and with several. Here both runs go into a copy of the ledger, as they are not worth a place in the real one.

# %%
ledger = Path(
    shutil.copytree(
        results_root(),
        scratch / "results",
        ignore=shutil.ignore_patterns("*.safetensors", "tables"),
    )
)
for name in MODELS:
    record(scratch / name, num_draws=2, first=50, root=ledger)

for name, score in scores.items():
    entry = runs(ledger)[name]
    assert abs(entry.score.bits_per_dim - score.bits_per_dim) < 0.002
    again = score_probe(load_run(entry.folder, device="cpu")).mean().item()
    assert abs(again - entry.record.scores.probe.bits_per_dim) < 1e-4

# %% [markdown]
# All tables of the book are made from the ledger and from `results/published.yaml`, and each run appears where its data set
# does. These are the rows of the embedded images:

# %% tags=["nbval-ignore-output"]
whole = table("28x28", root=ledger)
rows = [row for row in whole.rows if "embedded" in row[0]]
for _, title in MODELS.values():
    assert f"**{title}, this code**" in [row[1] for row in rows]
shown = Table(whole.caption, whole.header, rows).without_first_column()
display(Markdown(shown.markdown()))

# %% [markdown]
# ## To keep it
#
# Outside this page, put `InvertibleConv`, `MixedRealNVP` and `MixedConfig` into a file, say `mixing.py`, and a configuration next to it that
# says `family: mixing:MixedConfig`. Then
#
# ```bash
# export PYTHONPATH=.                    # where mixing.py is
# .venv/bin/nvp train mixed.yaml         # to build/runs/NAME
# .venv/bin/nvp record build/runs/NAME   # to results/runs/NAME
# .venv/bin/nvp tables                   # to results/tables, README.md
# .venv/bin/nvp verify                   # scores the weights again
# ```
#
# The first line is for whoever reads the ledger as well: `nvp tables` and `nvp verify` build your model from its configuration, and say
# so where they cannot import it. A ledger that you give to others needs your module beside it. (And to read a configuration
# that names a module is to run that module: read only those that you trust.)
#
# A run with a line in `results/published.yaml` has a row before it is made, with the command that would make it; figures that others have
# published go there, too, with their source. A data set of your own is a folder of two files ({doc}`../book/reproduce`).
#
# ## Summary
#
# * A bijection is `forward` and `inverse`, each with its log-determinant. Compare with the autograd Jacobian in double
#   precision, and see the comparison fail once.
# * A 1 × 1 convolution has the determinant $(\det W)^{hw}$, {prf:ref}`prop-mixing`; in the form {eq}`eq:plu` it costs a sum, and
#   $W$ is never singular. Masks that take turns are a special case, {eq}`eq:swap`.
# * `log_prob`, `loss` and `sample` make an `ImageModel`; `family: module:Class` names it in a configuration.
# * `nvp record` scores it, `nvp tables` shows it, `nvp verify` holds it to its word.
#
# ## Exercises
#
# ```{exercise} Actnorm
# :label: ex-actnorm
#
# Glow has no batch normalisation. Its *actnorm* shifts and scales each channel, $y_c = (x_c + b_c)\, e^{a_c}$, with learned
# $a$ and $b$ whose first values give the channels of the first batch mean 0 and variance 1. Write it as a bijection. What is its log-determinant,
# and what does it save, compared with the batch normalisation of chapter {ref}`networks`?
# ```
#
# ```{solution-start} ex-actnorm
# :class: dropdown
# ```
# $h\, w \sum_c a_c$. After the first batch it is a fixed map of one image: training and evaluation agree, images do not
# depend on each other, and no statistics have to be estimated again before a model is scored.


# %%
class ActNorm(Bijection):
    """y = (x + b) exp(a), per channel; the first batch sets a and b."""

    def __init__(self, channels):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(channels, 1, 1))
        self.b = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("is_set", torch.tensor(False))

    def forward(self, x, y=None):
        if self.training and not self.is_set:
            with torch.no_grad():
                self.b.copy_(-x.mean(dim=(0, 2, 3))[:, None, None])
                self.a.copy_(-x.std(dim=(0, 2, 3)).log()[:, None, None])
                self.is_set.fill_(True)
        log_det = x.shape[2] * x.shape[3] * self.a.sum()
        return (x + self.b) * self.a.exp(), log_det.expand(len(x))

    def inverse(self, z, y=None):
        log_det = -z.shape[2] * z.shape[3] * self.a.sum()
        return z * (-self.a).exp() - self.b, log_det.expand(len(z))


actnorm = ActNorm(4).double()
batch = 3 * torch.randn(16, 4, 3, 3).double() + 1
normalised, _ = actnorm(batch)
assert normalised.mean(dim=(0, 2, 3)).abs().max() < 1e-9
assert (normalised.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-9
jacobian = check(actnorm, batch[:1])

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What the factors cannot reach
# :label: ex-plu
#
# $P$ and the signs of $s$ in {eq}`eq:plu` are fixed. Take $c = 2$ and $P = I$. Which invertible $W$ is no product of this form, with any signs? Can training come
# near it?
# ```
#
# ```{solution-start} ex-plu
# :class: dropdown
# ```
# $L(U + \operatorname{diag} s)$ has the upper left entry $s_1 \ne 0$, so the swap, with 0 there, is out. But matrices near it are in: with a small
# $s_1 = \epsilon$, $W = \begin{bmatrix} \epsilon & 1 \\ 1 & 0 \end{bmatrix}$ has $L_{21} = 1/\epsilon$ and
# $s_2 = -1/\epsilon$. It can come as near as it likes, at the price of factors that grow without bound. With the signs fixed, the sign of
# $\det W = \det P \cdot s_1 s_2$ is fixed as well, which costs no density: to turn the sign of a channel changes neither
# prior nor couplings, if the networks follow.

# %%
for epsilon in (1e-1, 1e-3):
    L = torch.tensor([[1, 0], [1 / epsilon, 1]])
    U = torch.tensor([[epsilon, 1], [0, -1 / epsilon]])
    W = torch.tensor([[epsilon, 1], [1, 0]])
    assert torch.allclose(L @ U, W, atol=1e-4)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} How sure is a difference?
# :label: ex-paired
#
# Both models were scored on the same images. What is the standard error of the *difference* of their means, and why is it smaller than the two
# errors in the table suggest? What does it say about mixing?
# ```
#
# ```{solution-start} ex-paired
# :class: dropdown
# ```
# An image that is dear for one model is dear for the other, so the differences spread less than the scores. But they are differences of *these two runs*.
# Another seed draws other first weights and other batches, and gives another difference; with one run of each model nothing is known of that
# spread. A small error over images is no evidence for a method.

# %%
per_image = {
    name: score_images(model, test[:500]) for name, model in trained.items()
}
mixed_bits, plain_bits = per_image["page-mixed"], per_image["page-plain"]
root = math.sqrt(len(plain_bits))
paired = (mixed_bits - plain_bits).std() / root
unpaired = (mixed_bits.var() + plain_bits.var()).sqrt() / root
assert paired < unpaired / 2

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Begin where the old model is
# :label: ex-mixing-start
#
# A random rotation undoes, at first, whatever order the squeeze had. Give the three $W$ other first values, with which the new model *is* the plain
# one when training begins, and check it.
# ```
#
# ```{solution-start} ex-mixing-start
# :class: dropdown
# ```
# By {eq}`eq:swap`: $W = I$ before the first coupling, $W = S$ before the two others. In {eq}`eq:plu` that is $P = I$ or $P = S$ with all factors 0,
# as they hold $\log|s|$. The likelihoods agree to rounding, and training can only leave from there.

# %%
mixed = at_the_start("page-mixed").double().eval()
layers = [m for m in mixed.modules() if isinstance(m, InvertibleConv)]
with torch.no_grad():
    for layer, start in zip(layers, [torch.eye(4), swap, swap], strict=True):
        layer.P.copy_(start)
        layer.sign.fill_(1)
        layer.factors.zero_()
    plain = at_the_start("page-plain").double().eval()
    one, other = (
        m.log_prob(test[:5], generator=torch.Generator().manual_seed(0))
        for m in (mixed, plain)
    )
assert torch.allclose(one, other, rtol=0, atol=1e-9)

# %% [markdown]
# ```{solution-end}
# ```
