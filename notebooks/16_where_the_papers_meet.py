# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (where-the-papers-meet)=
# # Where the two papers meet
#
# One paper bends a Gaussian by a bijection, the other predicts pixel after pixel. Can one model do both? This chapter
# gives the flow of the first paper the masks of the second:
#
# * One equation has Real NVP's coupling as a special case, and takes the masks of Pixel RNN.
# * Stacked over patches, with a causal Transformer inside, it is **TarFlow** {cite}`zhai2025tarflow`, a flow of 2024.
#   Three short classes build it.
# * Recorded runs compare it with Real NVP on the same images, and we count what a sample costs.
#
# ```{admonition} In the papers
# Section 5 of {cite:t}`dinh2017realnvp` calls Real NVP a bridge between autoregressive models, variational autoencoders
# and adversarial networks. Neither paper puts autoregressive masks into a flow.
# ```

# %% tags=["parameters", "remove-cell"]
profile = "laptop"

# %% tags=["hide-input"]
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import figures
from nvp_book.ablation import trials
from nvp_book.figures import couplings, meeting, years
from nvp_book.figures import samples as pictures
from nvp_book.selection import benchmark_results, sheet_images
from torch import nn
from torch.distributions import Normal
from torch.func import jacrev

from nvp.data import EMBEDDED, load
from nvp.flows.toy import ToyData
from nvp.ledger import runs
from nvp.tables.published import read_published

figures.use_style()
torch.set_num_threads(1)

# %% [markdown]
# ## One equation
#
# Pixel RNN gives each pixel a distribution that depends on all pixels before it. Let that distribution be a Gaussian
# with mean $\mu_i$ and standard deviation $e^{\alpha_i}$, both computed from $x_{<i} = (x_1, \dots, x_{i-1})$. Now
# subtract the mean and divide by the deviation:
#
# $$
# z_i = \bigl( x_i - \mu_i(x_{<i}) \bigr)\, e^{-\alpha_i(x_{<i})}, \qquad
# \log \left| \det \frac{\partial z}{\partial x^{\mathsf T}} \right| = -\sum_i \alpha_i(x_{<i}) .
# $$ (eq:maf)
#
# This is a bijection with a triangular Jacobian, as in Real NVP. A stack of such layers is a *masked autoregressive
# flow*, MAF {cite}`papamakarios2017maf`. In code:


# %%
class AffineFlow(nn.Module):
    """z = (x - mu(x)) exp(-alpha(x)); the net decides who sees whom."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        alpha, mu = self.net(x).chunk(2, dim=1)
        return (x - mu) * torch.exp(-alpha), -alpha.flatten(1).sum(1)

    def inverse(self, z, rounds):
        x = z
        for _ in range(rounds):
            alpha, mu = self.net(x).chunk(2, dim=1)
            x = z * torch.exp(alpha) + mu
        return x


# %% [markdown]
# The inverse starts from any guess. Numbers that are conditioned on no other are right after one round. Every further
# number is right one round after those that it is conditioned on.
#
# ### Real NVP: half the pixels, given the others
#
# A coupling is an `AffineFlow` with a special net {cite}`papamakarios2017maf`: $\mu$ and $\alpha$ are 0 for the half
# that a mask $b$ keeps. For the other half they depend on the kept half alone:


# %%
class HalfNet(nn.Module):
    """alpha and mu of one half of the pixels, from the other half."""

    def __init__(self, b):
        super().__init__()
        self.b = b
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 2, 3, padding=1),
        )

    def forward(self, x):
        return (1 - self.b) * self.net(self.b * x)


torch.manual_seed(0)
b = ((torch.arange(4)[:, None] + torch.arange(4)) % 2).double()  # checkerboard
coupling = AffineFlow(HalfNet(b)).double()

x = torch.randn(1, 1, 4, 4, dtype=torch.double)
alpha, mu = coupling.net(x).chunk(2, dim=1)
s, t = -alpha, -mu * torch.exp(-alpha)  # the names of Real NVP
real_nvp = b * x + (1 - b) * (x * torch.exp(s) + t)
assert torch.allclose(coupling(x)[0], real_nvp)

# %% [markdown]
# ### The masks of Pixel RNN: all earlier pixels
#
# The masked convolutions of chapter {ref}`pixel-by-pixel` see no later pixel. The first hides the pixel itself (mask
# A), the others do not (mask B). There the output per pixel was a softmax. Here it is $\alpha$ and $\mu$:


# %%
class MaskedConv(nn.Conv2d):
    """A convolution without later pixels; mask A hides the centre, too."""

    def __init__(self, kind, channels, out, size):
        super().__init__(channels, out, size)
        mask = torch.ones(size * size)
        mask[size * size // 2 + (kind == "B") :] = 0
        self.register_buffer("mask", mask.reshape(size, size))

    def forward(self, x):
        return F.conv2d(x, self.weight * self.mask, self.bias, padding="same")


torch.manual_seed(0)
masked = nn.Sequential(
    MaskedConv("A", 1, 16, 5), nn.SiLU(), MaskedConv("B", 16, 2, 3)
)
autoregressive = AffineFlow(masked).double()

# %% [markdown]
# Both readings give the same number: a product of Gaussian factors, and a change of variables.

# %%
alpha, mu = autoregressive.net(x).chunk(2, dim=1)
as_factors = Normal(mu, alpha.exp()).log_prob(x).sum()
z, log_det = autoregressive(x)
as_a_flow = Normal(0, 1).log_prob(z).sum() + log_det.sum()
assert torch.allclose(as_factors, as_a_flow)


# %% [markdown]
# The Jacobians show who sees whom.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Jacobians of two affine flows on images of 4 × 4 pixels: positive entries red, negative ones blue, zeros white; darker is larger. The coupling is in order of its mask, kept pixels first; the masked convolutions are in raster order.", "name": "fig-two-triangles"}, "image": {"alt": "Two matrices of 16 by 16. Left: a diagonal, and below it one block of 8 by 8, three quarters of it filled. Right: a lower triangle, all of it filled but three entries beside the diagonal, where a new row of pixels begins."}}
kept_first = b.flatten().argsort(descending=True, stable=True)
matrices = {}
for name, layer in (("coupling", coupling), ("masked", autoregressive)):
    jacobian = jacrev(lambda x, layer=layer: layer(x)[0])(x).reshape(16, 16)
    assert torch.allclose(jacobian.slogdet().logabsdet, layer(x)[1].sum())
    order = kept_first if name == "coupling" else torch.arange(16)
    matrices[name] = jacobian.detach()[order][:, order]
couplings.plot_matrices(
    {
        "half on the other half": matrices["coupling"],
        "each pixel on those before": matrices["masked"],
    }
)
assert torch.equal(matrices["masked"], matrices["masked"].tril())
plt.show()

# %% tags=["remove-cell"]
filled = {k: int((m.tril(-1) != 0).sum()) for k, m in matrices.items()}
assert filled == {"coupling": 48, "masked": 120 - 3}

# %% [markdown]
# The coupling fills three quarters of one block below the diagonal. The masked convolutions fill the lower triangle,
# except for three entries beside the diagonal.
#
# From any guess, how many rounds settle every number? Their number is the length of the longest
# chain in which each number sees the one before it:


# %%
def longest_chain(jacobian):
    """How many numbers, each of which sees the one before it."""
    sees = (jacobian.tril(-1) != 0).double()
    length = 1
    while sees.matrix_power(length).any():
        length += 1
    return length


for name, layer in (("coupling", coupling), ("masked", autoregressive)):
    chain = longest_chain(matrices[name])
    assert torch.allclose(layer.inverse(layer(x)[0], chain), x)
    print(f"{name}: a chain of {chain}")
assert chain == 13
assert torch.allclose(coupling.inverse(coupling(x)[0], rounds=1), x)

# %% [markdown]
# Our guess is $z$, in which the kept half of a coupling is right already. So one round of the two is enough, as in
# Real NVP: one evaluation of the network. In the row above, the masked flow sees only two columns to the right. So the
# first pixel of a row does not see the pixel before it, a white square beside the diagonal. The longest chain skips
# one pixel at each of three new rows, which leaves $16 - 3 = 13$ rounds. A sample of a Pixel RNN takes a round for
# each pixel.
#
# ## Why the order must be reversed
#
# Gaussian factors are a poor model of pixels, because each has only one hump. Pixel RNN takes a softmax instead. Can
# a stack of layers repair it? Not in one order:
#
# ```{prf:proposition} A stack in one order is one layer
# :label: prop-one-order
#
# Compose any number of layers {eq}`eq:maf` with the same order of the $x_i$. The result is again of the form
# {eq}`eq:maf`, so its factors are Gaussian.
# ```
#
# ```{prf:proof}
# Let $y_i = (x_i - \mu_i(x_{<i}))\, e^{-\alpha_i(x_{<i})}$ and $z_i = (y_i - \nu_i(y_{<i}))\, e^{-\beta_i(y_{<i})}$.
# The numbers $y_{<i}$ are functions of $x_{<i}$. Hence
#
# $$
# z_i = \Bigl(x_i - \mu_i - \nu_i\, e^{\alpha_i}\Bigr)\, e^{-(\alpha_i + \beta_i)},
# $$
#
# where $\mu_i$, $\alpha_i$, $\nu_i$ and $\beta_i$ are all functions of $x_{<i}$. Repeat this for more layers.
# ```
#
# Reverse the order after each layer, and the proof fails: $\nu_i$ and $\beta_i$ then read $y_{>i}$, which depends on
# $x_i$. The two moons of chapter {ref}`coupling-layers` show the difference: given the first coordinate of a point,
# the second has two humps.


# %%
class PlaneNet(nn.Module):
    """alpha and mu of points (N, 2): of x_1 constants, of x_2 from x_1."""

    def __init__(self, width=32):
        super().__init__()
        self.first = nn.Parameter(torch.zeros(2))
        self.second = nn.Sequential(
            nn.Linear(1, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 2),
        )

    def forward(self, x):
        first, second = self.first.expand(len(x), 2), self.second(x[:, :1])
        alpha, mu = torch.stack([first, second], dim=2).unbind(1)
        return torch.cat([3 * torch.tanh(alpha / 3), mu], dim=1)  # bounded


def log_density(stack, x, turn):
    log_det = 0
    for flow in stack:
        x, step = flow(x)
        log_det = log_det + step
        x = x.flip(1) if turn else x
    return Normal(0, 1).log_prob(x).sum(1) + log_det


def train(layers, turn, data, steps=500):
    torch.manual_seed(0)
    stack = nn.ModuleList(AffineFlow(PlaneNet()) for _ in range(layers))
    adam = torch.optim.Adam(stack.parameters(), lr=1.5e-2, fused=True)
    for step in range(steps):
        adam.param_groups[0]["lr"] = 1.5e-2 * (1 - step / steps)
        batch = data[torch.randint(len(data), (512,))]
        loss = -log_density(stack, batch, turn).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return stack


# %% tags=["hide-input"] mystnb={"figure": {"caption": "The two moons, and the densities of three stacks of {eq}`eq:maf` that were trained on them. Brighter is denser, on a scale of its own in each panel. Turned round: the order is reversed after each layer.", "name": "fig-turning-round"}, "image": {"alt": "Four square panels. First the points of two interlocking half circles. Under one layer and under four layers in one order the density is a blurred band that covers both moons. Under four layers whose order is reversed after each it follows each of the two arcs."}}
moons, unseen = (ToyData.MOONS.sample(4000, seed=seed) for seed in (1, 2))
designs = {
    "one layer": (1, False),
    "four, one order": (4, False),
    "four, turned round": (4, True),
}
trained = {name: train(*design, moons) for name, design in designs.items()}
meeting.plot_planes(
    moons,
    {
        name: lambda x, n=name: log_density(trained[n], x, designs[n][1])
        for name in designs
    },
    limit=3.2,
)
plt.show()

# %%
with torch.no_grad():
    nats = {
        name: -log_density(trained[name], unseen, turn).mean()
        for name, (_, turn) in designs.items()
    }
gain = {name: nats["one layer"] - each for name, each in nats.items()}
assert abs(gain["four, one order"]) < 0.05
assert 0.4 < gain["four, turned round"] < 0.6

# %% [markdown]
# Four layers in one order gain nothing over one, to within 0.05 nats: their factors are still Gaussian. With the
# order reversed after each layer they gain half a nat and follow the moons.
#
# ## TarFlow
#
# An image of 28 × 28 takes 784 steps a layer to sample. So TarFlow treats *patches* as the numbers of {eq}`eq:maf`.
# One such map is now a **block**; a *layer* is one of the Transformer inside it. Cut the image into $T$ squares of
# $S$ pixels, $x_1, \dots, x_T$, in raster order. Each $x_i$ is a vector:
#
# $$
# z_i = \bigl( x_i - \mu_i(x_{<i}) \bigr) \odot e^{-\alpha_i(x_{<i})}, \qquad
# \log \left| \det \frac{\partial z}{\partial x^{\mathsf T}} \right| = -\sum_{i=1}^{T} \sum_j \alpha_{ij}(x_{<i}) .
# $$ (eq:tarflow)
#
# Every second block reads the patches from the other end.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A test image in 49 patches of 4 × 4 pixels. The orange patch is scaled and shifted by what the blue ones say. These come before it in raster order or, in every second block, after it.", "name": "fig-patches"}, "image": {"alt": "A small image of a garment twice, with a grid of seven by seven squares. Left: the squares above and to the left of the marked one are blue. Right: those below and to its right."}}
test = load(EMBEDDED, "test").images
meeting.plot_patches(
    test[1, 0], 4, 24, ["first, third, ... block", "second, fourth, ... block"]
)
plt.show()

# %% [markdown]
# The orange patch is the 25th: 24 patches decide about it in one order, and 24 others in the next.
#
# ### A layer of the Transformer
#
# Which network can read any number of patches? A Transformer {cite}`vaswani2017attention` turns
# each patch into a vector $h_i$, a *token*. A layer adds to each token an average over tokens
# (attention), and then a function of the token alone (an MLP). A *layer norm* stands before each
# and standardises the token. Linear maps make a *query*, a *key* and a *value* of each token.
# Token $i$ averages the values. The weights are a softmax of scores: its query times each key, over
# the root of a key's length. Several *heads* do this, each with its own slice of all three. The
# attention is **causal** here: token $i$ averages over tokens 1 to $i$, as under mask B.


# %%
class Layer(nn.Module):
    """h + attention(norm(h)), then h + mlp(norm(h)); (N, T, width)."""

    def __init__(self, width, heads, causal=True):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, h):
        N, T, width = h.shape
        q, k, v = self.to_qkv(self.norm1(h)).chunk(3, dim=2)
        q, k, v = (
            each.view(N, T, self.heads, -1).transpose(1, 2)
            for each in (q, k, v)
        )
        scores = q @ k.mT / math.sqrt(width // self.heads)
        if self.causal:
            later = torch.ones(T, T, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        share = scores.softmax(dim=-1)
        h = h + self.out((share @ v).transpose(1, 2).reshape(N, T, width))
        return h + self.mlp(self.norm2(h))


# %% [markdown]
# ### A block
#
# How do such layers compute {eq}`eq:tarflow`? A linear map turns patches into tokens, and a learned
# vector, `place`, tells each token its position. The output at token $i$ has seen patch $i$, so it
# serves patch $i + 1$: this shift makes mask A out of mask B. The $\alpha$ and $\mu$ of the first
# patch are 0. The last linear map starts at zero, so training starts at the identity.
#
# TarFlow does not bound $\alpha$. We do, as Real NVP bounds its $s$: $\alpha = 3 \tanh(r / 3)$, where $r$ is what the
# network gives. Without the bound, the loss soon became infinite or undefined in trials by Muon on Fashion-MNIST:

# %% tags=["hide-input"]
found = trials("trials-tarflow.csv")
assert len(found) == 5
assert {trial["loss"] for trial in found} == {"inf", "nan"}
first, *_, last = sorted(int(trial["steps"]) for trial in found)
low, *_, high = sorted(
    float(trial["changes"].split()[0].split("=")[1]) for trial in found
)
print(f"{len(found)} trials without the bound, rates {low} to {high}:")
print(f"the loss was infinite or no number after {first} to {last} steps")
bounded = runs()["fashion-mnist-tarflow"].config.training
assert low < bounded.learning_rate == 0.005 < high
assert bounded.optimiser.value == "muon"

# %% [markdown]
# With the bound, a recorded run at a rate of 0.005 stayed finite for half an hour. Here is the block:


# %%
class Block(nn.Module):
    """z_i = (x_i - mu_i) exp(-alpha_i), from the patches before i."""

    def __init__(self, T, S, width, heads, layers, backwards):
        super().__init__()
        self.backwards = backwards
        self.into = nn.Linear(S, width)
        self.place = nn.Parameter(0.02 * torch.randn(T, width))
        self.layers = nn.Sequential(
            *(Layer(width, heads) for _ in range(layers))
        )
        self.out = nn.Linear(width, 2 * S)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def alpha_and_mu(self, x):
        h = self.out(self.layers(self.into(x) + self.place))
        r, mu = F.pad(h[:, :-1], (0, 0, 1, 0)).chunk(2, dim=2)
        return 3 * torch.tanh(r / 3), mu

    def forward(self, x):
        x = x.flip(1) if self.backwards else x
        alpha, mu = self.alpha_and_mu(x)
        z = (x - mu) * torch.exp(-alpha)
        return z.flip(1) if self.backwards else z, -alpha.sum(dim=(1, 2))

    def inverse(self, z):
        z = z.flip(1) if self.backwards else z
        x = z
        for _ in range(z.shape[1] - 1):  # the first patch is z's own
            alpha, mu = self.alpha_and_mu(x)
            x = z * torch.exp(alpha) + mu
        return x.flip(1) if self.backwards else x


# %% [markdown]
# ### The flow
#
# The rest is a stack, and a way from images to patches and back:


# %%
class TarFlow(nn.Module):
    """Blocks over the patches of images (N, 1, side, side)."""

    def __init__(self, side, patch, width, heads, layers, blocks):
        super().__init__()
        self.side, self.patch = side, patch
        T, S = (side // patch) ** 2, patch**2
        self.blocks = nn.ModuleList(
            Block(T, S, width, heads, layers, backwards=i % 2 == 1)
            for i in range(blocks)
        )

    def forward(self, x):
        z = F.unfold(x, self.patch, stride=self.patch).mT  # (N, T, S)
        log_det = 0
        for block in self.blocks:
            z, step = block(z)
            log_det = log_det + step
        return z, log_det

    def inverse(self, z):
        for block in reversed(self.blocks):
            z = block.inverse(z)
        side = (self.side, self.side)
        return F.fold(z.mT, side, self.patch, stride=self.patch)


# %% [markdown]
# Is the code right? We check the log-determinant and the inverse of a small TarFlow with random weights.

# %%
torch.manual_seed(0)
small = TarFlow(side=4, patch=2, width=8, heads=2, layers=1, blocks=2).double()
with torch.no_grad():
    for parameter in small.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
z, log_det = small(x)
jacobian = jacrev(lambda x: small(x)[0])(x).reshape(16, 16).detach()
assert torch.allclose(jacobian.slogdet().logabsdet, log_det.sum())
assert torch.allclose(small.inverse(z), x)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Jacobians of TarFlow on an image of four patches of 2 × 2 pixels, numbered patch by patch. Left: one block. Right: two blocks of which the second reads backwards. Positive entries are red, negative ones blue, zeros white.", "name": "fig-block-triangles"}, "image": {"alt": "Two matrices of 16 by 16. Left: a diagonal, and below it full blocks of 4 by 4 in a triangle. Right: nearly all entries are filled."}}
patches = F.unfold(x, 2, stride=2).mT
first, second = small.blocks
shown = {}
for name, f in {
    "one block": lambda x: first(x)[0],
    "two blocks": lambda x: second(first(x)[0])[0],
}.items():
    shown[name] = jacrev(f)(patches).reshape(16, 16).detach()
assert torch.equal(shown["one block"], shown["one block"].tril())
last = shown["two blocks"][12:, 12:]
for inside in (shown["one block"][4:8, 4:8], last):
    assert torch.equal(inside, inside.diag().diag())
couplings.plot_matrices(shown)
plt.show()

# %% [markdown]
# Within a patch, one block conditions no pixel on another. The second block fills these white squares, except in the
# last patch, which it reads first and leaves as it is. Larger patches need fewer steps to sample, but leave more
# pixels unconditioned on each other.
#
# ### The likelihood of integers
#
# Noise, logit and constants are those of chapter {ref}`integers-to-bits`, so the likelihoods of TarFlow and Real NVP
# can be compared. TarFlow has no batch normalisation. Instead we subtract from the logit of each pixel its mean over
# 2,000 training images. Then we divide by its deviation, or by 0.3 if that is larger: some pixels are nearly always
# black. (For better samples TarFlow's authors train on images with Gaussian noise. That gives up the likelihood of the
# integers.)


# %%
def log_prob(flow, images, mean, deviation, generator):
    """A lower bound on log P(images), (N,), nats; integers in."""
    u = torch.rand(images.shape, generator=generator)
    p = 0.05 + 0.9 * (images + u) / 256
    log_slope = math.log(0.9 / 256) - p.log() - (1 - p).log()
    z, log_det = flow((torch.logit(p) - mean) / deviation)
    log_det = log_det - deviation.log().sum() + log_slope.flatten(1).sum(1)
    return Normal(0, 1).log_prob(z).flatten(1).sum(1) + log_det


# %% [markdown]
# `examples/tarflow.py` holds the same model for the package to train (chapter {ref}`your-turn`). A recorded run of it
# has eight blocks of one layer, tokens of 48 numbers, two heads and patches of 4 × 4 pixels. Our class takes its
# weights and gives the same likelihood:

# %%
recorded = runs()["fashion-small-tarflow"].load_model()
sizes = recorded.config
flow = TarFlow(
    28, sizes.patch, sizes.width, sizes.heads, sizes.layers, sizes.blocks
)
flow.blocks.load_state_dict(recorded.flow.bijections.state_dict())
fifty, generator = test[:50], torch.Generator().manual_seed(0)
with torch.no_grad():
    ours = log_prob(flow, fifty, recorded.mean, recorded.deviation, generator)
    generator.manual_seed(0)  # the same noise again
    theirs = recorded.log_prob(fifty, generator=generator)
assert torch.allclose(ours, theirs, rtol=1e-4)

# %% tags=["remove-cell"]
assert (sizes.blocks, sizes.layers, sizes.width) == (8, 1, 48)
assert (sizes.heads, sizes.patch) == (2, 4)
assert (recorded.deviation == recorded.deviation.min()).sum() > 40
assert torch.isclose(recorded.deviation.min(), torch.tensor(0.3))

# %% [markdown]
# ````{dropdown} The package's version of a block
# ```{literalinclude} ../examples/tarflow.py
# :pyobject: Block
# ```
# ````
#
# ## Results
#
# A convolution knows from the start that neighbouring pixels belong together, and a Transformer must learn it. Which
# gets further in half an hour of one core? The Pixel RNN of chapter {ref}`beyond-gans` stands beside both. All three
# runs are by Muon on Fashion-MNIST. This TarFlow has two layers a block, and tokens of 64 numbers:

# %% tags=["hide-input"]
ledger = runs()
longer = {
    "Real NVP": ledger["fashion-mnist"],
    "TarFlow": ledger["fashion-mnist-tarflow"],
    "Diagonal BiLSTM": ledger["fashion-mnist-diagonal-bilstm"],
}
rows = []
for name, entry in longer.items():
    score, record = entry.score, entry.record
    kind = entry.fresh_model.likelihood
    figure = f"{score.bits_per_dim:.3f} ± {score.standard_error:.3f}"
    counts = (f"{n:,}" for n in (record.parameters, record.steps))
    rows.append([name, figure, kind, *counts, f"{record.epochs:.1f}"])
figures.show_table(
    ["model", "bits/dim, test", "likelihood", "parameters", "steps", "epochs"],
    rows,
)

# %% tags=["remove-cell"]
assert len({e.record.data.train_sha256 for e in longer.values()}) == 1
assert len({e.record.data.test_sha256 for e in longer.values()}) == 1
assert all(29 < e.record.minutes < 32 for e in longer.values())
assert {e.config.training.optimiser.value for e in longer.values()} == {"muon"}
bits = {name: entry.score.bits_per_dim for name, entry in longer.items()}
assert round(bits["TarFlow"] - bits["Real NVP"], 2) == 0.14
counts = [e.record.parameters for e in longer.values()]
assert 0.49 < counts[1] / counts[0] < 0.51
precisions = [e.record.precision for e in longer.values()]
assert precisions == ["bf16", "fp32", "bf16"]
assert min(bits, key=bits.get) == "Diagonal BiLSTM"
larger = longer["TarFlow"].config.model
assert (larger.layers, larger.width) == (2, 64)

# %% [markdown]
# TarFlow is 0.14 bits/dim behind Real NVP, in one run of each, and both are behind the Diagonal BiLSTM. This TarFlow
# was not tuned, has half of Real NVP's parameters, and ran in float32, the others in bfloat16. Its authors use over a
# million images and blocks of eight layers. The next figure shows samples of both flows:

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Samples at temperature 1 of the two flows of half an hour, the first 24 that the ledger keeps. None was selected by hand.", "name": "fig-meeting-longer"}, "image": {"classes": "whole", "alt": "Two sheets of 4 by 6 grey images. On the left, Real NVP: about half are shirts, trousers, shoes and a bag, the others blotched fragments. On the right, TarFlow: most are whole shoes, shirts, trousers or bags, and some are blotched."}}
pictures.plot_beside(
    {
        name: sheet_images(longer[name].files.samples, 28)[:24]
        for name in ("Real NVP", "TarFlow")
    },
    columns=6,
)
plt.show()

# %% [markdown]
# More of TarFlow's samples are whole garments and shoes, though its bound is worse. Three sets of
# 300 each cover over 60% of the test images; those of Real NVP cover 31 to 42%. But coverage also
# rewards a blur ({ref}`beyond-gans`). We
# suspect that the Transformer sees further, that convolutions know neighbours better, and that a likelihood is mostly
# about neighbours.

# %% tags=["remove-cell"]
covered = benchmark_results("coverage")["runs"]
assert min(covered["fashion-mnist-tarflow"]["coverage"]) > 0.6
assert min(covered["fashion-mnist"]["coverage"]) > 0.305
assert max(covered["fashion-mnist"]["coverage"]) < 0.425

# %% [markdown]
# ## The cost of a sample
#
# How long does a sample take? Every model evaluates networks in sequence: couplings, blocks times
# patches (the first patch needs none), or sub-pixels.

# %%
real_nvp = longer["Real NVP"].load_model()
sequential = {
    "Real NVP": sum(hasattr(layer, "net") for layer in real_nvp.modules()),
    "TarFlow": len(flow.blocks) * (flow.blocks[0].place.shape[0] - 1),
    "PixelCNN": test[0].numel(),
}
figures.show_table(
    ["model", "networks in sequence for a sample"], list(sequential.items())
)
assert list(sequential.values()) == [16, 384, 784]

# %% [markdown]
# TarFlow takes 24 times the steps of Real NVP, and half those of a PixelCNN. In scoring all patches or pixels are
# known, so TarFlow and PixelCNN are as parallel as Real NVP.
#
# Our `Block` is inverted by running the whole Transformer once for each patch. `examples/tarflow.py` keeps the keys
# and values of finished patches, so it computes each token once. The images are the same:

# %%
z = torch.randn(4, 49, 16, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    kept, _ = recorded.flow.inverse(z)
    again = F.unfold(flow.inverse(z), 4, stride=4).mT
assert torch.allclose(kept, again, atol=1e-3)

# %% [markdown]
# ## Jet: Real NVP with Vision Transformers
#
# **Jet** {cite}`kolesnikov2025jet` brings Real NVP up to date in another way: it keeps the couplings, replaces the
# networks in them, and removes nearly all else.
#
# | part | Real NVP | Jet |
# |:--|:--|:--|
# | input | logits | pixels in $[-1, 1]$ |
# | layout | squeeze, several scales, half of the latents leave early | patches of 4 × 4 pixels as tokens, one scale |
# | masks | checkerboards, halves of the channels | four couplings by halves of each token, in random fixed orders, then one by halves of the tokens |
# | network | residual convolutions | Vision Transformer {cite}`dosovitskiy2021vit`, last map zero at the start |
# | scale | $e^{s}$, $s$ bounded by a learned multiple of tanh | $2\,\sigma(s)$, so below 2 |
# | normalisation | batch normalisation | none |
#
# A sample still takes one pass through all couplings. Here are scores on ImageNet 64 × 64, all with
# uniform noise; the score of training images is in parentheses:

# %% tags=["hide-input"]
facts = read_published()
rows = []
for figure in facts.figures:
    model = facts.models.get(figure.model)
    if model and (figure.data, model.kind) == ("imagenet64", "uniform noise"):
        rows.append([figure.model, model.preprint[:4], figure.digits])
figures.show_table(
    ["model", "year", "bits/dim"], sorted(rows, key=lambda r: r[1:])
)
digits = {row[0]: row[2].split()[0] for row in rows}
assert round(float(digits["Real NVP"]) - float(digits["Jet"]), 2) == 0.32

# %% [markdown]
# Jet is 0.32 bits/dim below Real NVP, still by couplings alone. (‡ Probably on images that were downsampled in
# another way, see {doc}`../book/summary`.)
#
# ## Ten years in one picture
#
# Which family led, and when? Here are the published scores on two sets over the years:

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Published likelihoods by family and date of the first preprint, in bits/dim: lower is better. Lines join the models that led their family, which carry their names; pale marks are the others. Circles are exact, triangles bounds, crosses estimates. ‡: probably on other images. Models trained on augmented images are left out. Sources: the table of {doc}`../book/summary`.", "name": "fig-years"}, "image": {"alt": "Two line charts from 2014 to 2025. On CIFAR-10 flows fall from NICE at 4.5 to VFlow just below 3. Autoregressive models fall from PixelRNN at 3.0 to Combiner just below 2.8, and variational autoencoders from 3.1 to 2.9. Diffusion models fall from 3.7 in 2020 to below 2.6 in 2023. On ImageNet 64 by 64 flows fall from Real NVP near 4 to Jet. DenseFlow is a cross at 3.35, TarFlow a hollow mark at 3. Autoregressive models fall from 3.6 to 3.4; diffusion models end at 3.4."}}
years.plot_years(facts)
plt.show()

# %% [markdown]
# From 2016 to 2020 the autoregressive models led, except for the estimate of a VAE in the first year. On CIFAR-10
# flows were 0.5 bits/dim behind at first, and 0.2 at the end. But the later flows also learn their noise, or average
# several draws. With uniform noise the best has 3.28, still 0.5 behind the autoregressive models of its year. From
# July 2021 on the diffusion models lead there. On ImageNet 64 × 64 the lead of TarFlow is not proved (‡).

# %% tags=["remove-cell"]
on_cifar10 = [
    (float(f.bits_per_dim), facts.models[f.model])
    for f in facts.figures
    if f.data == "cifar10" and f.model in facts.models
]
flows = [(bits, m.kind) for bits, m in on_cifar10 if m.family == "flow"]
best = min(bits for bits, kind in flows if kind == "uniform noise")
assert best == 3.28
better = {kind for bits, kind in flows if bits < best}
assert better <= {"learned noise", "sampled"}


def lead(family, before):
    """The best on CIFAR-10 among preprints from before a date."""
    return min(
        bits
        for bits, model in on_cifar10
        if model.family == family and not model.augmented
        if model.preprint < before
    )


at_first, at_the_end = (
    lead("flow", year) - lead("autoregressive", year)
    for year in ("2017", "2021")
)
assert [round(at_first, 1), round(at_the_end, 1)] == [0.5, 0.2]
assert round(best - lead("autoregressive", "2020"), 1) == 0.5
assert lead("latent", "2017") < lead("autoregressive", "2017")
assert lead("latent", "2021") > lead("autoregressive", "2021")
assert lead("diffusion", "2021-07") > lead("autoregressive", "2021-07")
assert lead("diffusion", "2021-08") < lead("autoregressive", "2022")

# %% [markdown]
# ## Summary
#
# * $z_i = (x_i - \mu_i(x_{<i}))\, e^{-\alpha_i(x_{<i})}$ is an autoregressive model with Gaussian factors and a flow
#   with a triangular Jacobian.
# * Real NVP is the case in which one half depends on the other, and one evaluation of its network inverts it. With
#   the masks of Pixel RNN the inverse takes up to as many rounds as there are numbers.
# * A stack in one order has Gaussian factors again. A stack that reverses the order after each layer does not.
# * TarFlow is such a stack over patches, with a causal Transformer in each block. A sample takes nearly as many steps
#   as there are patches, in each block.
# * Here one run of TarFlow is 0.14 bits/dim behind one of Real NVP after half an hour each. But its samples cover far
#   more of the test images.
#
# ## Exercises
#
# ```{exercise} The other direction
# :label: ex-inverse-autoregressive
#
# An *inverse* autoregressive flow {cite}`kingma2016iaf` computes $x_i = z_i\, e^{\alpha_i(z_{<i})} + \mu_i(z_{<i})$:
# its networks read $z$. Write it with `AffineFlow`, sample in one pass, and say what has become slow.
# ```
#
# ```{solution-start} ex-inverse-autoregressive
# :class: dropdown
# ```
# `AffineFlow` computes this $x$ from $z$ if its net returns $-\alpha$ and $-\mu e^{-\alpha}$. A sample takes one
# evaluation of the net. To score an image one must find its $z$, one number after another. So it suits models that
# score only their own samples, such as the posterior of a VAE.


# %%
class NetOfTheInverse(nn.Module):
    """With this net, AffineFlow is z exp(alpha(z)) + mu(z)."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, z):
        alpha, mu = self.net(z).chunk(2, dim=1)
        return torch.cat([-alpha, -mu * torch.exp(-alpha)], dim=1)


inverse_autoregressive = AffineFlow(NetOfTheInverse(masked))
z = torch.randn(1, 1, 4, 4, dtype=torch.double)
sample, log_det = inverse_autoregressive(z)
alpha, mu = masked(z).chunk(2, dim=1)
assert torch.allclose(sample, z * torch.exp(alpha) + mu)
jacobian = jacrev(lambda z: inverse_autoregressive(z)[0])(z).reshape(16, 16)
assert torch.allclose(jacobian.slogdet().logabsdet, log_det.sum())
latent = inverse_autoregressive.inverse(sample, rounds=16)
assert torch.allclose(latent, z)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What one block must lose
# :label: ex-uniform-by-gaussian
#
# A pixel is black in every image. After noise its value is uniform on an interval of width $w$ (ignore the logit). A
# single block knows that, and chooses the best $\mu$ and $\alpha$. Fit a Gaussian to such values, and measure how
# many bits it loses against the true density. How could a second block get them back?
# ```
#
# ```{solution-start} ex-uniform-by-gaussian
# :class: dropdown
# ```
# By {eq}`eq:floor` the loss is $\frac12 \log_2 (\pi e / 6)$, a quarter of a bit, for any $w$. About half of the
# pixels of Fashion-MNIST are black. If one block were sure of all of them, it would lose about an eighth of a bit/dim
# there. A second block in the same order cannot help ({prf:ref}`prop-one-order`). One that reads backwards can: it
# shifts and scales $z_i$ by what *later* patches say, which may depend on $x_i$. On pairs of such numbers two blocks
# in one order lose a quarter of a bit a number. With the order reversed they lose less than a fifth.

# %%
loss = 0.5 * math.log(2 * math.pi * math.e / 12) / math.log(2)
for w in (1 / 256, 1):
    x = w * (torch.arange(1000, dtype=torch.double) + 0.5) / 1000
    fitted = Normal(x.mean(), x.std(correction=0))  # the best Gaussian
    lost = (-fitted.log_prob(x).mean() - math.log(w)) / math.log(2)
    assert abs(lost - loss) < 1e-3
black = (test == 0).float().mean().item()
assert abs(loss * black - 1 / 8) < 0.01
print(f"{loss:.2f} bits a black pixel, {loss * black:.2f} bits/dim")

torch.manual_seed(1)
pairs = math.sqrt(12) * (torch.rand(8000, 2) - 0.5)  # of variance 1
for turn in (False, True):
    stack = train(2, turn, pairs[:4000])
    with torch.no_grad():
        cost = -log_density(stack, pairs[4000:], turn).mean().item()
    lost = (cost - math.log(12)) / (2 * math.log(2))
    assert lost < 0.2 if turn else abs(lost - loss) < 0.02

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} All patches at once
# :label: ex-jacobi
#
# The rounds of `Block.inverse` settle one more patch each, for certain. Draw four samples from the recorded model.
# Stop as soon as a round changes no number by more than $10^{-3}$, and count the rounds of each block.
# ```
#
# ```{solution-start} ex-jacobi
# :class: dropdown
# ```
# This is the Jacobi iteration of {cite:t}`song2021jacobi`. Most blocks settle within 20 rounds; the last one, which
# is inverted first, needs 20 to 30. Each round passes over all patches at once, so on a GPU a few rounds can be
# faster than 48 steps. Only 48 rounds are certain to be enough, since the first patch is right at the start.


# %%
def rounds_needed(block, z):
    """The inverse, stopped early; returns x and the rounds it took."""
    z = z.flip(1) if block.backwards else z
    x, change, count = z, math.inf, 0
    while change > 1e-3 and count < z.shape[1]:
        alpha, mu = block.alpha_and_mu(x)
        before, x = x, z * torch.exp(alpha) + mu
        change, count = (x - before).abs().max(), count + 1
    return x.flip(1) if block.backwards else x, count


z = torch.randn(4, 49, 16, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    drawn, counts = z, []
    for block in reversed(flow.blocks):
        drawn, count = rounds_needed(block, drawn)
        counts.append(count)
assert torch.allclose(drawn, again, atol=0.05)
assert 20 < counts[0] < 30
quick = sum(count <= 20 for count in counts)
assert quick > len(counts) / 2
assert max(counts) <= 30
print(f"{quick} of {len(counts)} blocks take at most 20 rounds")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A coupling of Jet
# :label: ex-jet
#
# Build it. Split each token of $S$ numbers into two halves, after a fixed random permutation. A Transformer *without*
# a causal mask reads the first halves of all tokens and gives $s$ and $t$ for the second:
# $y_2 = (x_2 + t) \odot 2\,\sigma(s)$. Check the log-determinant and the inverse. Then answer: all pixels are black,
# in $[-1, 1]$ with independent noise of width $1/127.5$, and $z$ must be a standard Gaussian. How many of Jet's
# couplings does that take at least? (Compare entropies.) Train a stack of four on such images. How many bits a number
# does it reach, and how few could it reach?
# ```
#
# ```{solution-start} ex-jet
# :class: dropdown
# ```
# A bijection adds the mean of its log-determinant to the entropy. The noise has an entropy of $-\log_2 127.5 = -7.0$
# bits a number, the Gaussian has $\frac12 \log_2 2 \pi e = 2.05$. So each number must gain 9.04 bits. A coupling
# gives less than one bit to half of the numbers, and nothing to the rest: less than half a bit on average. So it
# takes nineteen at the least.
#
# A number costs at least $\frac12 \log_2 2\pi$ bits under the Gaussian, which is its cost at 0. Four couplings take
# less than two bits off. So the cost stays above −0.675 bits, and the true density has −7.0. This stack comes near its
# limit.


# %%
class JetCoupling(nn.Module):
    """Half of each token, scaled and shifted by the other halves."""

    def __init__(self, T, S, width=16):
        super().__init__()
        self.register_buffer("order", torch.randperm(S))
        self.into = nn.Linear(S // 2, width)
        self.place = nn.Parameter(torch.randn(T, width) / width**0.5)
        self.vit = Layer(width, heads=2, causal=False)
        self.out = nn.Linear(width, S)

    def s_and_t(self, x1):
        h = self.vit(self.into(x1) + self.place)
        return self.out(h).chunk(2, dim=2)

    def forward(self, x):
        x1, x2 = x[:, :, self.order].chunk(2, dim=2)
        s, t = self.s_and_t(x1)
        y = torch.cat([x1, (x2 + t) * 2 * torch.sigmoid(s)], dim=2)
        log_det = F.logsigmoid(s) + math.log(2)
        return y[:, :, self.order.argsort()], log_det.sum(dim=(1, 2))

    def inverse(self, y):
        y1, y2 = y[:, :, self.order].chunk(2, dim=2)
        s, t = self.s_and_t(y1)
        x = torch.cat([y1, y2 / (2 * torch.sigmoid(s)) - t], dim=2)
        return x[:, :, self.order.argsort()]


torch.manual_seed(0)
jet = JetCoupling(T=4, S=4).double()
tokens = torch.randn(1, 4, 4, dtype=torch.double)
y, log_det = jet(tokens)
jacobian = jacrev(lambda x: jet(x)[0])(tokens).reshape(16, 16)
assert torch.allclose(jacobian.slogdet().logabsdet, log_det.sum())
assert torch.allclose(jet.inverse(y), tokens)
gain = 0.5 * math.log2(2 * math.pi * math.e) + math.log2(127.5)
assert 18 < 2 * gain < 19

# %%
torch.manual_seed(0)
four = nn.ModuleList(JetCoupling(T=4, S=4) for _ in range(4))
adam = torch.optim.Adam(four.parameters())
for step in range(150):
    adam.param_groups[0]["lr"] = 1e-2 * (1 - step / 150)
    z, total = -1 + torch.rand(64, 4, 4) / 127.5, 0
    for jet in four:
        z, log_det = jet(z)
        total = total + log_det
    log_p = Normal(0, 1).log_prob(z).sum(dim=(1, 2)) + total
    bits = -log_p.mean() / 16 / math.log(2)
    adam.zero_grad()
    bits.backward()
    adam.step()
limit = 0.5 * math.log2(2 * math.pi) - 4 / 2
assert -0.675 < limit < bits < limit + 0.2
above = math.ceil(10 * (bits.item() - limit)) / 10
print(f"limit {limit:.2f} bits a number; reached within {above} bits")

# %% [markdown]
# ```{solution-end}
# ```
