# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (multi-scale)=
# # Masks, squeeze and the multi-scale architecture
#
# A coupling needs a split into a kept and a changed part. How should one split an *image*? And must all of its numbers
# pass through all layers? This chapter answers in code: two masks, one squeeze, and a `Flow` from which half of the
# remaining dimensions leave, several times on the way. That is the architecture of the paper, for any number of scales.
#
# ```{admonition} In the paper
# Section 3.4, section 3.6 and the sizes of section 4.1 of {cite:t}`dinh2017realnvp`: equations 13 to 16, figures 3
# and 4(b).
# ```

# %% tags=["parameters", "remove-cell"]
profile = "laptop"

# %% tags=["hide-input"]
import functools
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import figures
from nvp_book.figures import architecture, samples
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.distributions import Normal
from torch.func import jacrev
from torch.utils.flop_counter import FlopCounterMode

from nvp import RealNVPConfig
from nvp.data import EMBEDDED, load
from nvp.flows.realnvp import MultiScaleFlow, Scale
from nvp.ledger import runs

figures.use_style()
torch.set_num_threads(1)

# %% [markdown]
# The folded cell repeats `Coupling` and `Composition` of chapter {ref}`coupling-layers`.


# %% tags=["hide-input"]
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


# %% [markdown]
# ## Two masks
#
# Neighbouring pixels resemble each other. If a split separates neighbours, a *convolutional* network that sees one
# part can say much about the other. So the first mask is the **checkerboard** of chapter {ref}`coupling-layers`. The
# second mask, **channel-wise**, keeps the first half of the channels (section 3.4). Couplings alternate, so each mask
# comes with its opposite.


# %%
def checkerboard(height, width, odd=True):
    """b = 1 where row + column is odd (or even): (1, 1, H, W)."""
    parity = (torch.arange(height)[:, None] + torch.arange(width)) % 2
    return (parity == int(odd)).float()[None, None]


def channel_mask(channels, first=True):
    """b = 1 on the first (or second) half of the channels: (1, C, 1, 1)."""
    b = (torch.arange(channels) < channels // 2) == first
    return b.float()[None, :, None, None]


# %% tags=["remove-cell"]
from nvp.flows import masks

for yes, parity, half in zip([1, 0], masks.Parity, masks.Half, strict=True):
    board = masks.checkerboard_mask(5, 6, parity).float()
    assert torch.equal(checkerboard(5, 6, odd=yes), board)
    halves = masks.channel_mask(8, half).float()
    assert torch.equal(channel_mask(8, first=yes), halves)

# %% [markdown]
# ## Squeeze: space becomes channels
#
# A grey image has one channel, too few to halve. A **squeeze** turns each 2 × 2 block of pixels
# into four channels. So $S \times S \times C$ becomes $\frac S2 \times \frac S2 \times 4C$.


# %%
def squeeze(x):
    """(N, C, H, W) -> (N, 4C, H/2, W/2), in the order of figure 3."""
    corners = [(0, 0), (0, 1), (1, 0), (1, 1)]
    return torch.cat([x[:, :, i::2, j::2] for i, j in corners], dim=1)


def unsqueeze(y):
    """The inverse: (N, 4C, H, W) -> (N, C, 2H, 2W)."""
    n, channels, height, width = y.shape
    x = y.new_empty(n, channels // 4, 2 * height, 2 * width)
    for k, corner in enumerate(y.chunk(4, dim=1)):
        x[:, :, k // 2 :: 2, k % 2 :: 2] = corner
    return x


x = torch.randn(2, 3, 4, 6)
assert torch.equal(unsqueeze(squeeze(x)), x)
grey = x[:, :1]
assert torch.equal(squeeze(grey), F.pixel_unshuffle(grey, 2))

# %% tags=["remove-cell"]
from nvp.flows.squeeze import SqueezeOrder
from nvp.flows.squeeze import squeeze as package_squeeze

assert torch.equal(squeeze(x), package_squeeze(x, SqueezeOrder.POSITION_MAJOR))

# %% [markdown]
# A squeeze is a permutation of the numbers, so its log-determinant is 0.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "After figure 3 of {cite:t}`dinh2017realnvp`, with its numbers. Dark squares have $b = 1$: they are kept, and $s$ and $t$ see them. Left: the checkerboard. Right: the image squeezed to four channels, under the channel-wise mask.", "name": "fig-masks"}, "image": {"alt": "On the left a board of 4 by 4 numbered squares, dark and white in turns. An arrow, squeeze, leads to four boards of 2 by 2: channel 1 holds 1, 5, 9, 13 and channel 2 holds 2, 6, 10, 14, both dark; channel 3 holds 3, 7, 11, 15 and channel 4 holds 4, 8, 12, 16, both white."}}
numbers = torch.tensor(
    [[1, 2, 5, 6], [3, 4, 7, 8], [9, 10, 13, 14], [11, 12, 15, 16]]
)
architecture.plot_figure_3(
    numbers,
    checkerboard(4, 4)[0, 0].bool(),
    squeeze(numbers[None, None])[0],
    channel_mask(4)[0, :, 0, 0].bool(),
)
plt.show()

# %% [markdown]
# Why a second mask? It must be "not redundant" with the checkerboard, says the paper. In the block of 1, 2, 3 and 4 the
# checkerboard separates {2, 3} from {1, 4}. The channel-wise mask separates {1, 2} from {3, 4}. So a single
# channel-wise coupling can condition 4 on 1. A single checkerboard coupling cannot.
#
# ## Factoring out
#
# Carrying all dimensions through all layers costs memory, computation and parameters (section 3.6). So after some
# couplings **half of the dimensions leave**. They are finished latents, and only the other half goes on. Such places
# divide the layers of the flow into its **scales**. With $L$ scales (equations 13 to 16):
#
# $$
# h^{(0)} &= x, \\
# \bigl(z^{(i+1)}, h^{(i+1)}\bigr) &= f^{(i+1)}\bigl(h^{(i)}\bigr), \quad 0 \le i < L - 1, \\
# z^{(L)} &= f^{(L)}\bigl(h^{(L-1)}\bigr), \\
# z &= \bigl(z^{(1)}, \dots, z^{(L)}\bigr).
# $$ (eq:factor)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "After figure 4(b) of {cite:t}`dinh2017realnvp`: factoring out, with the dimensions of a 32 × 32 × 3 image and four scales. The height of a grey or coloured box is its share of the dimensions; white boxes are the functions of the scales.", "name": "fig-factor"}, "image": {"alt": "From left to right boxes x, h1, h2, h3, each half as high as the one before, joined by maps f1 to f4. From each map but the last, half of the output goes straight to the right. There z1, with 1536 dimensions, z2, with 768, and z3 and z4, with 384 each, make up z."}}
architecture.plot_factoring_out([1536, 768, 384, 384])
plt.show()

# %% [markdown]
# Half of the 3,072 dimensions leave after the first scale, a quarter after the second, an eighth after the third.
# Factoring out has a second effect. The prior $\mathcal N(0, I)$ is a product, so each scale has a term of its own: the
# loss is **distributed throughout the network**. The paper likens this to classifiers at intermediate layers. Latents
# that leave early must be Gaussian *there*, and independent of the half that goes on. So the first scale has to
# **Gaussianise** them. The paper also expects the early latents to hold local, fine-grained features; chapter
# {ref}`latents` tests that.
#
# ### The whole flow
#
# How do masks, squeezes and factoring out fit together? Each scale but the last has three
# checkerboard couplings, a squeeze, and three channel-wise couplings. Then half of the numbers
# leave. The last scale has four checkerboard couplings. When the side is halved the networks get
# twice as many feature maps. The class is a recursion, like {eq}`eq:factor`.


# %%
class Flow(nn.Module):
    """Equations 13 to 16: x (N, C, S, S) -> [z1, ..., zL]."""

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


# %% [markdown]
# Three small functions complete it. `net(channels, maps, b)` makes a network for $s$ and $t$; chapter {ref}`networks`
# writes a good one. The paper does not say which half leaves. As in the authors' code, the top left and bottom
# right pixel of each block go on.


# %%
def stack(masks, channels, maps, net):
    return Composition(Coupling(net(channels, maps, b), b) for b in masks)


def factor_out(x):
    """Squeezed x -> the half that goes on, and the half that leaves."""
    top_left, top_right, low_left, low_right = x.chunk(4, dim=1)
    goes_on = torch.cat([top_left, low_right], dim=1)
    return goes_on, torch.cat([top_right, low_left], dim=1)


def put_back(goes_on, leaves):
    top_left, low_right = goes_on.chunk(2, dim=1)
    top_right, low_left = leaves.chunk(2, dim=1)
    return torch.cat([top_left, top_right, low_left, low_right], dim=1)


# %% [markdown]
# The next cell checks the inverse of a flow of three scales, with networks of two convolutions.


# %%
def two_convolutions(channels, maps, b):
    return nn.Sequential(
        nn.Conv2d(channels, maps, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(maps, 2 * channels, 3, padding=1),
    )


torch.manual_seed(0)
flow = Flow(channels=1, side=28, maps=8, scales=3, net=two_convolutions)
x = torch.randn(4, 1, 28, 28)
latents, log_det = flow(x)
print("latents:", *(tuple(z.shape[1:]) for z in latents))
assert torch.allclose(flow.inverse(latents), x, atol=1e-4)

# %% [markdown]
# With the package's networks and its scales $a$, our flow must compute the same as the package's without
# batch norms (chapter {ref}`networks`).


# %% tags=["hide-input"]
class OnSome(nn.Module):
    """A network that sees some of the channels, and moves some."""

    def __init__(self, net, seen, moved):
        super().__init__()
        self.net, self.seen, self.moved = net, seen, moved

    def forward(self, x):
        t, s = torch.zeros_like(x), torch.zeros_like(x)
        parts = self.net(x[:, self.seen]).chunk(2, dim=1)
        t[:, self.moved], s[:, self.moved] = parts
        return torch.cat([t, s], dim=1)


def borrow(flow, scales):
    """Put the package's networks and factors a into our couplings."""
    scale, *others = scales
    theirs = [*scale.checkerboard.bijections, *scale.channelwise.bijections]
    ours = [*flow.boards.layers, *(() if flow.last else flow.halves.layers)]
    for mine, other in zip(ours, theirs, strict=True):
        on_board = mine.b.shape[1] == 1
        kept = mine.b[0, :, 0, 0] == 1
        mine.net = other.net if on_board else OnSome(other.net, kept, ~kept)
        mine.a.data = other.scale.data.flatten()
    if others:
        borrow(flow.rest, others)


# %%
config = RealNVPConfig.paper(
    (1, 28, 28),
    num_scales=3,
    num_blocks=1,
    width=8,
    norm_scope=None,
    checkerboard_scale_init=1.0,  # with the preset's 0, s would be 0
)
package = MultiScaleFlow(config).eval()
borrow(flow, package.scales)
z, log_det = package(x)
for ours, theirs in zip(flow(x)[0], package.split(z), strict=True):
    assert torch.allclose(ours, theirs, atol=1e-4)

# %% tags=["remove-cell"]
assert torch.allclose(flow(x)[1], log_det, rtol=1e-4)
torch.manual_seed(1)
small = Flow(1, 8, 8, 2, two_convolutions).double()
one = torch.randn(1, 1, 8, 8, dtype=torch.double)


def as_vector(x):
    return torch.cat([z.flatten() for z in small(x)[0]])


jacobian = jacrev(as_vector)(one).reshape(64, 64)
assert torch.allclose(jacobian.slogdet().logabsdet, small(one)[1])

# %% [markdown]
# ````{dropdown} The package's version
# ```{literalinclude} ../nvp/flows/masks.py
# :pyobject: checkerboard_mask
# ```
#
# ```{literalinclude} ../nvp/flows/masks.py
# :pyobject: channel_mask
# ```
#
# ```{literalinclude} ../nvp/flows/coupling.py
# :pyobject: ChannelCoupling
# ```
#
# ```{literalinclude} ../nvp/flows/squeeze.py
# :pyobject: squeeze
# ```
#
# ```{literalinclude} ../nvp/flows/realnvp.py
# :pyobject: Scale
# ```
# ```{literalinclude} ../nvp/flows/realnvp.py
# :pyobject: MultiScaleFlow
# ```
# ````
#
# ## One scale, with a real garment
#
# How does this look in a trained model? The figure follows a test image through the first of three scales
# of the recorded run on Fashion-MNIST. The flow sees black as about −2.9 and white as about 2.9
# ({ref}`integers-to-bits`).

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A boot in the first scale of the recorded run on Fashion-MNIST. Above, the first coupling: the image, the part that $s$ and $t$ see (gaps are mid-grey), their values, and the output, after the batch norm of chapter {ref}`networks`. In $s$ and $t$ red is positive, blue negative, and white 0 or kept. Each panel has its own scale. Below: after all three checkerboard couplings, 28 × 28, and squeezed to four channels of 14 × 14. The last two, after three channel-wise couplings, are the half $h^{(1)}$ that goes on and the half $z^{(1)}$ that leaves, two channels each.", "name": "fig-one-scale"}, "image": {"alt": "Two rows. Above: a boot; the same boot with every second pixel grey; two checkered maps: s is dark red around the boot and pale on it, t is red around the boot and blue on it; a boot with a faint checkered pattern. Below: a boot with grainy background; four small boots; two small boots, blurred and still recognisable; two squares of noise in which nothing can be seen."}}
model = runs()["fashion-mnist"].load_model()
image = load(EMBEDDED, "test").images[:1]
generator = torch.Generator().manual_seed(0)
noise = torch.rand(image.shape, generator=generator)
with torch.no_grad():
    x = torch.logit(0.05 + 0.9 * (image + noise) / 256)
    scale = model.flow.scales[0]
    first = scale.checkerboard.bijections[0]
    b = checkerboard(28, 28)
    t, s = first.shift_and_log_scale(x, b.bool())
    y, _ = first(x)
    three, _ = scale.checkerboard(x)
    squeezed = squeeze(three)
    h, z = factor_out(scale.channelwise(squeezed)[0])
architecture.plot_scale(
    {"$x$": x, "$b \\odot x$": b * x, "$s$": s, "$t$": t, "$y$": y},
    {
        "three couplings": three,
        "squeezed": squeezed,
        "$h^{(1)}$": h,
        "$z^{(1)}$": z,
    },
)
plt.show()

# %% tags=["remove-cell"]
with torch.no_grad():
    parts = model.flow.split(model.flow(x)[0])
assert torch.allclose(parts[0], z, atol=1e-4)
assert abs(x[image == 0].mean() + 2.9) < 0.05
assert abs(torch.tensor(0.05 + 0.9 * 255.5 / 256).logit() - 2.9) < 0.05


def likeness(sheets):
    """Correlation of neighbouring pixels."""
    pair = torch.stack([sheets[..., 1:].flatten(), sheets[..., :-1].flatten()])
    return torch.corrcoef(pair)[0, 1]


assert likeness(h) > 0.6
assert likeness(z).abs() < 0.2
whole = runs()["fashion-mnist-unfactored"].load_model()
with torch.no_grad():
    stays = factor_out(squeeze(whole.flow.scales[0](x)[0]))[1]
assert likeness(stays) > 0.5
many = load(EMBEDDED, "test").images[::5]
noisy = torch.logit(0.05 + 0.9 * (many + torch.rand(many.shape)) / 256)
with torch.no_grad():
    for each in (model, whole):
        for half in factor_out(squeeze(each.flow.scales[0](noisy)[0])):
            assert half.mean().abs() < 0.1 > (half.var() - 1).abs()

# %% [markdown]
# In $s$ and $t$ the boot stands out from what is around it. After six couplings $h^{(1)}$ still shows the boot, and
# in $z^{(1)}$ nothing can be seen. In a single run where nothing leaves (section {ref}`kept`), the same half still
# shows the boot. A batch norm brings both halves near mean 0 and variance 1, in both runs. The halves differ in the
# correlation of neighbouring pixels: above 0.6 in $h^{(1)}$, below 0.2 in $z^{(1)}$.
#
# ### To noise and back
#
# How much of an image is left after each scale? The next cell inverts one scale at a time, from the latents of seven
# images. The package's `merge` puts all numbers in the places of their pixels.


# %%
@torch.no_grad()
def back_from_noise(flow, z):
    """z, and all numbers in their places after each inverse scale."""
    *leaves, h = flow.split(z)
    seen = [z]
    for k in reversed(range(len(flow.scales))):
        if k < len(leaves):
            h = flow.merge([leaves[k], h])  # put back what left
        h, _ = flow.scales[k].inverse(h)
        seen.append(flow.merge([*leaves[:k], h]))
    return seen


images = load(EMBEDDED, "test").images[:7]
noise = torch.rand(images.shape, generator=generator)
x = torch.logit(0.05 + 0.9 * (images + noise) / 256)
with torch.no_grad():
    z, _ = model.flow(x)
seen = back_from_noise(model.flow, z)
assert torch.allclose(seen[-1], x, atol=1e-2)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Seven images on their way to noise and back, from $-3$ (black) to 3 (white). Downwards is inference, upwards is sampling.", "name": "fig-to-noise"}, "image": {"alt": "Four rows of seven garments. In the first they are whole. After one scale every second pixel is noise and the garments can still be seen; after two, three quarters are noise and outlines are left; in the last row there is noise, with traces of a print."}}
steps = ["x", "after scale 1", "after scale 2", "z"]
grey = [(255 * (value.clamp(-3, 3) + 3) / 6).byte() for value in seen[::-1]]
samples.plot_rows(dict(zip(steps, grey, strict=True)))
plt.show()

# %% [markdown]
# After one scale half of the pixels still shows the garment, after two a quarter. In $z$ it cannot be seen, except for
# traces of the print on the pullover: this flow has not Gaussianised every detail. But the garment is not gone: chapter
# {ref}`latents` finds it in $z^{(3)}$.
#
# ## The sizes of the paper
#
# When does the recursion end? The paper goes on until a scale has 4 × 4 pixels, except on CIFAR-10,
# where it halves the side once (section 4.1). Images of 28 × 28 pixels allow only three scales,
# since 7 is odd. In the table "3: 28×28×1" means three couplings on 28 × 28 pixels with one
# channel. "Maps" are those under the checkerboard; the channel-wise networks have twice as many, as
# in the authors' code {cite}`dinh2016code`. For 64 × 64 the paper does not name the maps; we
# read 32.

# %% tags=["hide-input"]
settings = {
    "28 × 28 × 1, `fashion-mnist`": (1, 28, 24, 3),
    "CIFAR-10": (3, 32, 64, 2),
    "ImageNet 32 × 32": (3, 32, 32, 4),
    "64 × 64": (3, 64, 32, 5),
}
rows = []
for name, (channels, side, maps, scales) in settings.items():
    with torch.device("meta"):  # shapes, and no numbers
        whole = Flow(channels, side, maps, scales, two_convolutions)
        latents, _ = whole(torch.empty(1, channels, side, side))
    assert sum(z.numel() for z in latents) == channels * side**2
    for k, z in enumerate(latents, start=1):
        last = k == scales
        rows.append(
            [
                f"**{name}**" if k == 1 else "",
                k,
                f"{4 if last else 3}: {side}×{side}×{channels}",
                "" if last else f"3: {side // 2}×{side // 2}×{4 * channels}",
                maps,
                f"{z.shape[3]}×{z.shape[2]}×{z.shape[1]}",
                z.numel(),
            ]
        )
        channels, side, maps = 2 * channels, side // 2, 2 * maps
header = ["images", "scale", "checkerboard", "channel-wise"]
figures.show_table([*header, "maps", "$z^{(i)}$", "dimensions"], rows)

# %% [markdown]
# In every model half of the dimensions leave at the first scale.
#
# ## The saving, in numbers
#
# How much does factoring out save? Without it all $4C$ channels go on after a squeeze, so scale $k$ has $4^{k-1} C$
# channels instead of $2^{k-1} C$. One can then keep the networks as they are, or widen them in proportion to the
# channels. The folded cell counts the cost of all three designs for images of 64 × 64 pixels. The memory is that kept
# for the backward pass.


# %% tags=["hide-input"]
def bytes_kept(scale, images):
    """Bytes that the backward pass keeps of a forward pass."""
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage  # kept, so that its key is unique
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        scale(images)
    return sum(storage.nbytes() for storage in storages.values())


@functools.cache  # the designs have the first scale in common
def cost(channels, side, width, last):
    """One scale, one image: GFLOP, million parameters, MiB kept."""
    config = RealNVPConfig.paper(
        (channels, side, side),
        num_scales=1 if last else 2,  # the scale is the first of these
        num_blocks=2,
        width=width,
    )
    with torch.device("meta"):
        scale = Scale(config, 0)
        one, two = (torch.empty(n, channels, side, side) for n in (1, 2))
    with FlopCounterMode(display=False) as counter:
        for_one = bytes_kept(scale, one)
    kept = bytes_kept(scale, two) - for_one  # the rest is for the weights
    parameters = sum(p.numel() for p in scale.parameters())
    return counter.get_total_flops() / 1e9, parameters / 1e6, kept / 2**20


designs = {
    "factored out": (2, 2),
    "all kept, networks as wide": (4, 2),
    "all kept, width in proportion": (4, 4),
}
totals, work = {}, {}
for name, (of_channels, of_width) in designs.items():
    by_scale = [
        cost(3 * of_channels**k, 64 // 2**k, 32 * of_width**k, last=k == 4)
        for k in range(5)
    ]
    totals[name] = [sum(column) for column in zip(*by_scale, strict=True)]
    work[name] = [round(gflop / by_scale[0][0], 2) for gflop, *_ in by_scale]
header = ["64 × 64 × 3, five scales", "GFLOP", "M parameters", "MiB kept"]
figures.show_table(
    header,
    [[name, *(f"{x:,.1f}" for x in total)] for name, total in totals.items()],
)

# %% tags=["remove-cell"]
with torch.device("meta"):
    whole = MultiScaleFlow(RealNVPConfig.paper((3, 64, 64)))
with FlopCounterMode(display=False) as counter:
    whole(torch.empty(1, 3, 64, 64, device="meta"))
assert work["factored out"] == [1, 1, 1, 1, 0.66]
out, wide, proportional = totals.values()
assert abs(counter.get_total_flops() / 1e9 - out[0]) < 1e-9
more = [round(100 * (wide[i] / out[i] - 1)) for i in range(3)]
assert more == [21, 46, 13]
assert round(proportional[0] / out[0]) == 55

# %% [markdown]
# If the networks stay as they are, keeping all dimensions costs 13% more memory for each image, 21% more computation
# and 46% more parameters. Networks that grow with what they have to model would take 55 times the computation. With
# factoring out every scale but the last takes the same work. Twice the maps means four times the multiplications at
# each pixel, on a quarter of the pixels.
#
# A flow that keeps everything *contains* one that does not ({ref}`ex-nothing-leaves`), so its likelihood need not be
# worse. On Fashion-MNIST a single run that keeps everything is a little ahead (section {ref}`kept`).
#
# ## Summary
#
# * The checkerboard splits space. A squeeze trades space for channels, and the channel-wise mask splits those.
# * After each scale but the last, half of the dimensions leave and meet the prior there. This saves memory,
#   computation and parameters, and it distributes the loss throughout the network.
# * A flow in which nothing leaves contains the one that factors out.
# * In a trained model the half that leaves is nearly Gaussian noise, and the half that goes on still shows the image.
#
# ## Exercises
#
# ```{exercise} Nothing stretched
# :label: ex-permutation
#
# Find the matrix of a squeeze of 3 × 4 × 4 numbers: squeeze the 48 images with a single 1. Is its
# determinant 1 or −1? Can another order of the channels change the sign? Does the likelihood change
# then?
# ```
#
# ```{solution-start} ex-permutation
# :class: dropdown
# ```
# Each output is one input, so this is a permutation matrix. Its determinant is 1. To exchange two channels is to
# exchange four pairs of numbers, so the sign stays. For an image of 2 × 2 pixels it is one pair, and the sign changes.
# The likelihood does not change: {eq}`eq:change` has $\left|\det\right|$.

# %% tags=["hide-input"]
basis = torch.eye(48).reshape(48, 3, 4, 4)  # one sub-pixel lit in each
matrix = squeeze(basis).reshape(48, 48)
assert (matrix.sum(dim=0) == 1).all()
assert (matrix.sum(dim=1) == 1).all()
assert matrix.det() == 1
for side, sign in ((4, 1), (2, -1)):
    size = 3 * side**2
    out = squeeze(torch.eye(size).reshape(size, 3, side, side))
    swapped = out[:, [1, 0, *range(2, 12)]]  # exchange two channels
    dets = [each.reshape(size, size).det() for each in (out, swapped)]
    assert dets[1] == sign * dets[0]

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Build a learned permutation
# :label: ex-mix
#
# Glow {cite}`kingma2018glow` replaces the alternation of the channel masks by a learned mixing of the channels. At
# every pixel $y = W x$ with one $C \times C$ matrix $W$. Write it as a bijection with `forward` and `inverse`. What
# is its log-determinant? Start with a random orthogonal matrix, and use `F.conv2d`. Check the layer with another $W$.
# ```
#
# ```{solution-start} ex-mix
# :class: dropdown
# ```
# The Jacobian consists of one block $W$ for each of the $n$ pixels, so
# $\log|\det| = n \log|\det W|$.


# %% tags=["hide-input"]
class Mix(nn.Module):
    def __init__(self, channels):
        super().__init__()
        orthogonal = torch.linalg.qr(torch.randn(channels, channels)).Q
        self.W = nn.Parameter(orthogonal)

    def forward(self, x):
        pixels = x.shape[2] * x.shape[3]
        log_det = pixels * self.W.slogdet().logabsdet
        return F.conv2d(x, self.W[:, :, None, None]), log_det.expand(len(x))

    def inverse(self, y):
        return F.conv2d(y, self.W.inverse()[:, :, None, None])


torch.manual_seed(0)
mix = Mix(4).double()
mix.W.data *= 1.1  # no longer orthogonal
x = torch.randn(3, 4, 2, 3, dtype=torch.double)
y, log_det = mix(x)
assert torch.allclose(mix.inverse(y), x)
jacobian = jacrev(lambda x: mix(x)[0])(x[:1]).reshape(24, 24)
assert torch.allclose(log_det[0], jacobian.slogdet().logabsdet)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The half that goes on
# :label: ex-diagonal
#
# Show that after $k$ scales the pixels with row ≡ column modulo $2^k$ are left. (For $k = 1$ they are the *even*
# squares of the checkerboard.)
# ```
#
# ```{solution-start} ex-diagonal
# :class: dropdown
# ```
# Show more: after $k$ scales the place in row $p$ and column $q$ holds the pixels with row $= 2^k p + e$ and column
# $= 2^k q + e$, for $e = 0, \dots, 2^k - 1$. For $k = 0$ that is the pixel itself. Of each block of places the top
# left, $(2p, 2q)$, and the bottom right, $(2p + 1, 2q + 1)$, go on. They hold row $= 2^{k+1} p + e$ and
# column $= 2^{k+1} q + e$, the first one for $e < 2^k$, the second one for $2^k \le e < 2^{k+1}$.

# %% tags=["hide-input"]
goes_on = torch.arange(256).reshape(1, 1, 16, 16)  # each its own number
for k in (1, 2, 3):
    goes_on, _ = factor_out(squeeze(goes_on))
    row, column = goes_on // 16, goes_on % 16
    assert ((row - column) % 2**k == 0).all()
    assert goes_on.numel() == 256 // 2**k
    place = torch.arange(16 // 2**k)
    assert (row // 2**k == place[:, None]).all()
    assert (column // 2**k == place).all()

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Nothing leaves
# :label: ex-nothing-leaves
#
# Write `Whole`, a `Flow` in which nothing leaves: after the channel-wise couplings all channels go on to the next
# scale. Then show that it contains a `Flow` of three scales. Choose networks for its couplings so that both have the
# same log-determinant, and the same latents up to their order. *Hint*: a squeeze turns channel $c$ of $C$ into the
# channels $c$, $C + c$, $2C + c$ and $3C + c$, one for each corner. Which two go on?
# ```
#
# ```{solution-start} ex-nothing-leaves
# :class: dropdown
# ```
# Each network of the `Flow` sees and moves some channels of the `Whole`: those that would have gone on. On the others
# $t = s = 0$. Of the four channels that a squeeze makes of one, the first and the last go on.


# %% tags=["hide-input"]
class Whole(Flow):
    def __init__(self, channels, side, maps, scales, net):
        super().__init__(channels, side, maps, min(scales, 2), net)
        if not self.last:
            smaller = (4 * channels, side // 2, 2 * maps, scales - 1)
            self.rest = Whole(*smaller, net)

    def forward(self, x):
        x, log_det = self.boards(x)
        if self.last:
            return [x], log_det
        x, step = self.halves(squeeze(x))
        latents, rest = self.rest(x)
        return latents, log_det + step + rest

    def inverse(self, latents):
        if self.last:
            return self.boards.inverse(*latents)
        x = self.halves.inverse(self.rest.inverse(latents))
        return self.boards.inverse(unsqueeze(x))


def contain(whole, flow, channels, some):
    """Let `whole` do to `some` of its channels what `flow` does."""
    parts = [(whole.boards, flow.boards, some)]
    if not flow.last:
        a, b, c, d = ([k * channels + i for i in some] for k in range(4))
        parts.append((whole.halves, flow.halves, [*a, *b, *c, *d]))
        contain(whole.rest, flow.rest, 4 * channels, [*a, *d])
    for ours, theirs, seen in parts:
        for mine, other in zip(ours.layers, theirs.layers, strict=True):
            mine.net, mine.a = OnSome(other.net, seen, seen), other.a


torch.manual_seed(0)
flow = Flow(1, 8, 8, 3, two_convolutions)
whole = Whole(1, 8, 8, 3, two_convolutions)
x = torch.randn(2, 1, 8, 8)
assert torch.allclose(whole.inverse(whole(x)[0]), x, atol=1e-4)
contain(whole, flow, 1, [0])
(z,), log_det = whole(x)
latents, of_flow = flow(x)
theirs = torch.cat([z.flatten(1) for z in latents], dim=1)
assert torch.allclose(log_det, of_flow, rtol=1e-4)
ours, theirs = z.flatten(1).sort().values, theirs.sort().values
assert torch.allclose(ours, theirs, atol=1e-4)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Any size
# :label: ex-any-size
#
# Change a class of this chapter so that the same model encodes images of 8 × 8 and of 16 × 16 pixels. Train it on
# squares of 8 × 8 pixels, cut from garments: take `torch.logit(0.05 + 0.9 * (images + noise) / 256)`, with uniform
# noise. The loss is that of chapter {ref}`coupling-layers`, with the prior of all latents. Two scales and 200 steps
# of Adam are enough, at a rate of 0.002, with gradients clipped to norm 1. Score test squares of 16 × 16 pixels, whole
# and cut into quarters. Which is better per pixel? And what can the model not know of the larger ones?
# ```
#
# ```{solution-start} ex-any-size
# :class: dropdown
# ```
# Only the checkerboards have a size, and a coupling can make its own from the shape of $x$.
#
# The larger images score better, probably because a smaller share of their pixels lies at an edge, where neighbours
# are missing. The model knows only what is local: no square that it was trained on held a whole garment.


# %% tags=["hide-input"]
class AnySize(Coupling):
    def s_and_t(self, x):
        if self.b.shape[1] == 1:  # a checkerboard
            odd = self.b[0, 0, 0, 0] == 0  # the corner square says which
            self.b = checkerboard(*x.shape[2:], odd).to(x)
        return super().s_and_t(x)


torch.manual_seed(0)
flow = Flow(1, 8, 8, 2, two_convolutions)
for coupling in flow.modules():
    if isinstance(coupling, Coupling):
        coupling.__class__ = AnySize
for side in (8, 2, 16):
    x = torch.randn(2, 1, side, side)
    assert torch.allclose(flow.inverse(flow(x)[0]), x, atol=1e-4)


def middle(split, count):
    """The logit of 16 x 16 noisy pixels of garments."""
    pixels = load(EMBEDDED, split).images[:count, :, 6:22, 6:22]
    return torch.logit(0.05 + 0.9 * (pixels + torch.rand(pixels.shape)) / 256)


def nats(flow, x):
    """-log p of these logits, for each pixel."""
    latents, log_det = flow(x)
    z = torch.cat([z.flatten(1) for z in latents], dim=1)
    log_p = Normal(0, 1).log_prob(z).sum(dim=1) + log_det
    return -log_p.mean() / z.shape[1]


large = middle("train", 4500)
adam = torch.optim.Adam(flow.parameters(), lr=2e-3)
for _ in range(200):
    top, left = torch.randint(9, (2,)).tolist()
    some = large[torch.randint(len(large), (64,))]
    loss = nats(flow, some[:, :, top : top + 8, left : left + 8])
    adam.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(flow.parameters(), 1)
    adam.step()
large = middle("test", 1000)
quarters = torch.cat([q for h in large.chunk(2, 2) for q in h.chunk(2, 3)])
with torch.no_grad():
    better = (nats(flow, quarters) - nats(flow, large)) / math.log(2)
assert 0.02 < better < 0.2
print(f"16 x 16: better by {better:.1f} bits per pixel")

# %% [markdown]
# ```{solution-end}
# ```
