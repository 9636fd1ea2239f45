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
# ```{admonition} In the paper
# Section 3.4, section 3.6 and the sizes of section 4.1: equations 13 to 16, figures 3 and 4(b) of
# {cite:t}`dinh2017realnvp`.
# ```
#
# A coupling needs a split into two parts. This chapter says how an image is split: by two masks, at
# several resolutions. And it puts the whole model together, draws it, traces it and counts what it costs.

# %% tags=["parameters"]
profile = "laptop"

# %%
import matplotlib.pyplot as plt
import torch
from myst_nb import glue
from nvp_book import figures
from nvp_book.figures import architecture
from torch.autograd.graph import saved_tensors_hooks
from torch.func import jacrev
from torch.utils.flop_counter import FlopCounterMode

from nvp import RealNVP, RealNVPConfig
from nvp.flows.coupling import AffineCoupling
from nvp.flows.masks import Parity, channel_mask, checkerboard_mask
from nvp.flows.realnvp import MultiScaleFlow, Scale
from nvp.flows.resnet import CouplingNet, InputTreatment
from nvp.flows.squeeze import SqueezeOrder, squeeze, unsqueeze

figures.use_style()
torch.set_num_threads(1)

# %% [markdown]
# ## Two masks and a squeeze
#
# Neighbouring pixels resemble each other. A split that separates neighbours lets a network that sees one part say
# much about the other; and a *convolutional* network can make use of it, since what it needs is close by. Hence the
# **checkerboard** of the last chapter: $b = 1$ where row + column is odd.
#
# The second mask needs channels, and a grey image has one. A **squeeze** makes some: it cuts the image
# into blocks of 2 × 2 and lays the four pixels of a block behind each other, so that $s \times s \times c$ becomes
# $\frac s2 \times \frac s2 \times 4c$. On what comes out the **channel-wise mask** keeps the first half of
# the channels and changes the second.


# %%
def squeeze_by_hand(x):
    """(N, C, H, W) -> (N, 4C, H/2, W/2), section 3.6."""
    top_left, top_right = x[:, :, 0::2, 0::2], x[:, :, 0::2, 1::2]
    low_left, low_right = x[:, :, 1::2, 0::2], x[:, :, 1::2, 1::2]
    return torch.cat([top_left, top_right, low_left, low_right], dim=1)


numbers = torch.tensor(
    [[1, 2, 5, 6], [3, 4, 7, 8], [9, 10, 13, 14], [11, 12, 15, 16]]
)
sheets = squeeze_by_hand(numbers[None, None])[0]
assert (sheets[:, 0, 0] == torch.tensor([1, 2, 3, 4])).all()

# %% mystnb={"figure": {"caption": "After figure 3 of {cite:t}`dinh2017realnvp`, with its numbers. Dark squares have $b = 1$: they are kept, and $s$ and $t$ see them. Left: the checkerboard. Right: the image squeezed to four channels, under the channel-wise mask.", "name": "fig-masks"}, "image": {"alt": "On the left a board of 4 by 4 numbered squares, dark and white in turns. An arrow, squeeze, leads to four boards of 2 by 2: channel 1 holds 1, 5, 9, 13 and channel 2 holds 2, 6, 10, 14, both dark; channel 3 holds 3, 7, 11, 15 and channel 4 holds 4, 8, 12, 16, both white."}}
board = checkerboard_mask(4, 4)[0, 0]
halves = channel_mask(4)[0, :, 0, 0]
architecture.draw_figure_3(numbers, board, sheets, halves)
plt.show()

# %% [markdown]
# Compare the two sides. In the block of 1, 2, 3 and 4 the checkerboard parts one diagonal from the other, {2, 3} from
# {1, 4}; the channel-wise mask parts the rows, {1, 2} from {3, 4}. So couplings of the second
# kind find something to do that those of the first kind could not: the paper asks that the partition be "not
# redundant" with the checkerboard.
#
# ### Three orders of the channels
#
# For one channel the figure says everything. For three it leaves open how the twelve channels are ordered, and two orders
# agree with it. The authors' code uses one of them for its channel-wise couplings, and for factoring out, below,
# a third. The package knows all three, by name. To see them, squeeze one block whose sub-pixels carry their own
# names: TL is top left, BR bottom right, and r, g, b are the colours.

# %%
corners = ["TL", "TR", "BL", "BR"]
names = [corner + colour for colour in "rgb" for corner in corners]
block = torch.arange(12).reshape(1, 3, 2, 2)
rows = []
for order in SqueezeOrder:
    labels = [names[i] for i in squeeze(block, order).flatten()]
    lines = ["\u00a0".join(labels[i : i + 3]) for i in range(0, 12, 3)]
    rows.append([f"`{order}`", " ".join(lines[:2]), " ".join(lines[2:])])
figures.show_table(["order", "first half", "second half"], rows)

colours = torch.randn(2, 3, 8, 8)
assert torch.equal(
    squeeze(colours, SqueezeOrder.POSITION_MAJOR), squeeze_by_hand(colours)
)
for order in SqueezeOrder:
    assert torch.equal(unsqueeze(squeeze(colours, order), order), colours)

# %% [markdown]
# A squeeze only renumbers: it is its own kind of bijection, with a log-determinant of 0. But the halves are not the same
# halves, and a picture tells better what that means.

# %% mystnb={"figure": {"caption": "Which sub-pixels make up the first half of the twelve channels, painted in, for an image of three colours under each order. The channel-wise mask keeps this half. (No figure in the paper.)", "name": "fig-orders"}, "image": {"alt": "Nine boards of 6 by 6, three orders by three colours. Channel major: all of red, every other row of green, none of blue. Position major: every other row of each colour. Diagonal: a checkerboard in each colour."}}
first_half = channel_mask(12).expand(1, 12, 3, 3).float()
architecture.draw_halves(
    {
        order.value.replace("_", " "): unsqueeze(first_half, order)[0] > 0
        for order in SqueezeOrder
    }
)
plt.show()

# %% [markdown]
# * **Position major** is figure 3 for every colour. The preset `paper` takes it for the channel-wise couplings.
# * **Channel major** is what the authors' code has there {cite}`dinh2016code`: its couplings predict blue, and the
#   lower rows of green, from red and the upper rows of green. The preset `official` takes it.
# * **Diagonal** is the code's order for factoring out, and both presets take it, since the paper is silent: the half that goes on is
#   a checkerboard itself.
#
# ## Factoring out
#
# A flow keeps all its dimensions: $z$ has as many as $x$. To carry all of them through all layers is a burden in
# three ways, says the paper: computation, memory, and parameters (section 3.6). So after some couplings *half of the
# dimensions leave*. They are declared finished, and only the other half goes on to the next scale (equations 13 to 16):
#
# $$
# h^{(0)} &= x, \\
# \bigl(z^{(i+1)}, h^{(i+1)}\bigr) &= f^{(i+1)}\bigl(h^{(i)}\bigr), \\
# z^{(L)} &= f^{(L)}\bigl(h^{(L-1)}\bigr), \\
# z &= \bigl(z^{(1)}, \dots, z^{(L)}\bigr).
# $$ (eq:factor)
#
# Each scale but the last has three checkerboard couplings, a squeeze, and three channel-wise couplings, and hands half of its
# output on. The last has four checkerboard couplings. Whenever the resolution is halved, the networks get twice as wide.

# %% mystnb={"figure": {"caption": "After figure 4(b) of {cite:t}`dinh2017realnvp`: factoring out, with the dimensions of a 32 × 32 × 3 image and four scales. The height of a box is its share of the dimensions.", "name": "fig-factor"}, "image": {"alt": "From left to right boxes x, h1, h2, h3, each half as high as the one before, joined by maps f1 to f4. From each map but the last half of the output goes straight to the right, where z1, with 1536 dimensions, z2, with 768, z3 and z4, with 384 each, make up z."}}
architecture.draw_factoring_out([1536, 768, 384, 384])
plt.show()

# %% [markdown]
# In the package that is one loop. Two remarks before reading it. The squeeze of the channel-wise couplings is
# undone at the end of a scale, and another one, diagonal, does the factoring; the authors' code proceeds so. And
# `merge` puts the $z^{(i)}$ back where they came from, so that $z$ is laid out like an image.
#
# ```{literalinclude} ../nvp/flows/realnvp.py
# :pyobject: MultiScaleFlow.forward
# :dedent: 4
# ```
#
# Check it against {eq}`eq:factor`, unrolled for two scales, and its determinant against automatic differentiation.
# Batch norms are in evaluation mode, where the map is what its formula says.

# %%
torch.manual_seed(0)
config = RealNVPConfig.paper((1, 8, 8), num_scales=2, num_blocks=1, width=8)
flow = MultiScaleFlow(config).eval().double().requires_grad_(False)
x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
z, log_det = flow(x)

f1, f2 = flow.scales
h1, z1 = squeeze(f1(x)[0], SqueezeOrder.DIAGONAL).chunk(2, dim=1)
z2 = f2(h1)[0]
for mine, of_the_package in zip((z1, z2), flow.split(z), strict=True):
    assert torch.equal(mine, of_the_package)

jacobian = jacrev(lambda x: flow(x)[0])(x).reshape(64, 64)
assert (jacobian.slogdet().logabsdet - log_det).abs() < 1e-9
back, log_det_back = flow.inverse(z)
assert (back - x).abs().max() < 1e-9
assert (log_det + log_det_back).abs() < 1e-9
print("latents:", *(tuple(part.shape[1:]) for part in flow.split(z)))

# %% [markdown]
# ## A trace of shapes
#
# Now the sizes that matter. The paper goes on until a scale has 4 × 4 pixels, except on CIFAR-10, where it
# halves the resolution once (section 4.1). For 28 × 28 images, which the paper does not treat, the choice is ours: 28,
# 14, and 7, which is odd, so there are at most three scales. Hooks on every coupling of the real model write down
# what passes by. The model is on PyTorch's *meta* device, where tensors have shapes and no numbers, so the largest one is as
# quick to trace as the smallest.


# %%
def on_meta(config):
    """The model of a configuration without any numbers in it."""
    with torch.device("meta"):
        return RealNVP(config)


def by_sides(shape):
    """(C, H, W), as the paper writes it."""
    channels, height, width = shape
    return f"{height}×{width}×{channels}"


def trace_shapes(config):
    """What passes through the model: a row for each of its scales."""
    model, steps = on_meta(config), []

    def note(coupling, inputs, output):
        steps.append((coupling, inputs[0].shape[1:]))

    for module in model.modules():
        if isinstance(module, AffineCoupling):
            module.register_forward_hook(note)
    x = torch.empty(1, *config.image_shape, device="meta")
    z, _ = model.flow(x)

    rows = []
    latents = model.latents_by_scale(z)
    for scale, latent in zip(model.flow.scales, latents, strict=True):
        cells = []
        for part in (scale.checkerboard, scale.channelwise):
            shapes = [shape for c, shape in steps if c in part.bijections]
            text = f"{len(shapes)}: {by_sides(shapes[0])}" if shapes else ""
            cells.append(text)
        maps = len(scale.checkerboard.bijections[0].net.conv_in.v)
        share = f"{latent.numel() / z.numel():.4g}"
        cells += [maps, by_sides(latent.shape[1:]), latent.numel(), share]
        rows.append(cells)
    assert sum(latent.numel() for latent in latents) == x.numel()
    return rows


imagenet = {"num_scales": 4, "num_blocks": 4, "width": 32}
sizes = {
    "28 × 28 × 1, two scales": RealNVPConfig.paper((1, 28, 28)),
    "28 × 28 × 1, three": RealNVPConfig.paper((1, 28, 28), num_scales=3),
    "32 × 32 × 3, CIFAR-10": RealNVPConfig.paper((3, 32, 32)),
    "32 × 32 × 3, ImageNet": RealNVPConfig.paper((3, 32, 32), **imagenet),
    "64 × 64 × 3": RealNVPConfig.paper((3, 64, 64)),
}
rows = []
for name, config in sizes.items():
    for number, row in enumerate(trace_shapes(config), start=1):
        rows.append([f"**{name}**" if number == 1 else "", number, *row])
header = ["images", "scale", "checkerboard", "channel-wise"]
header += ["maps", "$z^{(i)}$", "dims", "share"]
figures.show_table(header, rows)

# %% [markdown]
# Read a row as: so many couplings, each on a tensor of this size, height × width × channels; the maps of the networks under the checkerboard
# (the channel-wise ones have twice as many, as in the authors' code); and what leaves as $z^{(i)}$. The next scale begins with twice the
# channels and half the side, so half the dimensions.
#
# ### Where the latents are
#
# Since $z$ is laid out like an image, each latent has a place in it. Half of the places, the odd squares, belong to the finest scale. Of those that
# go on, each further scale takes half, and what is left lies on diagonals: {ref}`ex-diagonal`.

# %% mystnb={"figure": {"caption": "The scale at which each position of $z$ leaves the flow, for the upper left corner of 16 × 16. All channels of a position leave together. Fine scales are dense; coarse ones are sparse, and lie on diagonals. (No figure in the paper.)", "name": "fig-layout"}, "image": {"alt": "Three maps of 16 by 16 squares. With two scales, a checkerboard of two colours. With three, half of one colour is replaced by a third, and with five scales twice more, leaving the coarsest latents on one diagonal in sixteen."}}
maps = {}
for name in ("28 × 28 × 1, two scales", "28 × 28 × 1, three", "64 × 64 × 3"):
    flow, shape = on_meta(sizes[name]).flow, sizes[name].image_shape
    latents = flow.split(torch.empty(1, *shape, device="meta"))
    numbered = [
        torch.full(latent.shape, number)
        for number, latent in enumerate(latents, start=1)
    ]
    layout = flow.merge(numbered)[0]
    assert (layout == layout[:1]).all()  # all channels alike
    maps[f"{len(latents)} scales"] = layout[0, :16, :16]
architecture.draw_layout(maps)
plt.show()

# %% [markdown]
# ## What factoring out saves
#
# Let us build the alternatives and count. Without factoring out, a squeeze leaves all $4c$ channels of a block, so scale $k$ has $4^{k-1} c$ channels
# instead of $2^{k-1} c$. Then there are two ways to go on: keep the networks as wide as they were, or keep their
# width in proportion to the channels that they have to serve. PyTorch's counter adds up the multiplications and additions of convolutions.
# We add the parameters, and the memory of training: automatic differentiation says which tensors it keeps for the
# backward pass, and each piece of storage counts once. What two images take more than one is the share of an image;
# the rest is for the weights.


# %%
def bytes_kept(scale, images):
    """Bytes that the backward pass keeps of a forward pass."""
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage  # holding it keeps the key its own
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        scale(images)
    return sum(storage.nbytes() for storage in storages.values())


def cost(channels, side, width, last, device, num_blocks=2):
    """One scale, one image: (GFLOP, million parameters, MiB kept)."""
    config = RealNVPConfig.paper(
        (channels, side, side),
        num_scales=1 if last else 2,  # the scale is the first of these
        num_blocks=num_blocks,
        width=width,
    )
    with torch.device(device):
        scale = Scale(config, 0)
        one, two = (torch.ones(n, channels, side, side) for n in (1, 2))
    with FlopCounterMode(display=False) as counter:
        for_one = bytes_kept(scale, one)
    kept = bytes_kept(scale, two) - for_one
    parameters = sum(p.numel() for p in scale.parameters())
    flop = counter.get_total_flops()
    return flop / 1e9, parameters / 1e6, kept / 2**20


def costs(channel_growth, width_growth, setting, device="meta"):
    """All scales; channels and widths grow by so much at each."""
    colours, side, num_scales, width = setting
    return [
        cost(
            channels=colours * channel_growth**k,
            side=side // 2**k,
            width=width * width_growth**k,
            last=k == num_scales - 1,
            device=device,
        )
        for k in range(num_scales)
    ]


growth = {
    "factored out": (2, 2),
    "all kept, networks as wide": (4, 2),
    "all kept, width in proportion": (4, 4),
}
designs = {name: costs(*by, (3, 64, 5, 32)) for name, by in growth.items()}
totals = {
    name: [sum(column) for column in zip(*scales, strict=True)]
    for name, scales in designs.items()
}
header = ["64 × 64 × 3, five scales", "GFLOP", "M parameters", "MiB kept"]
rows = [[name, *(f"{x:,.1f}" for x in totals[name])] for name in totals]
figures.show_table(header, rows)

out, wide = totals["factored out"], totals["all kept, networks as wide"]
for i, name in enumerate(("work", "parameters", "memory")):
    glue(f"more_{name}", round(100 * (wide[i] / out[i] - 1)), display=False)

# %% [markdown]
# That was on the device without numbers. Where tensors have numbers, nothing else comes out, here for small models of
# 28 × 28 images with three scales. And the first row must be the model itself, counted as a whole:

# %%
small = (1, 28, 3, 8)
for by in growth.values():
    assert costs(*by, small, device="cpu") == costs(*by, small)

model = on_meta(sizes["64 × 64 × 3"])
with FlopCounterMode(display=False) as counter:
    model.flow(torch.empty(1, 3, 64, 64, device="meta"))
assert abs(counter.get_total_flops() / 1e9 - out[0]) < 1e-9

# %% mystnb={"figure": {"caption": "Cost of each scale of the 64 × 64 model, for one image in the forward direction. With factoring out and widths that double, every scale but the last costs nearly the same; with all dimensions kept and networks to match, each but the last costs four times the one before. The last has four couplings, the others six. (No figure in the paper.)", "name": "fig-costs"}, "image": {"alt": "Groups of three bars for scales 1 to 5 on a logarithmic axis. Factored out and all kept with the same networks stay near each other; all kept with width in proportion rises fourfold from scale to scale, and less at the last."}}
gflop = {
    name: [scale[0] for scale in scales] for name, scales in designs.items()
}
architecture.draw_costs(gflop, "GFLOP")
plt.show()

# %% [markdown]
# The middle row deserves a second look. If the networks stay as wide, keeping all dimensions costs
# {glue:text}`more_memory`% more memory and {glue:text}`more_work`% more work, since most of both is *inside* the
# networks, between hidden maps. But their first and last convolutions now serve $3 \cdot 4^{k-1}$ channels, and at the
# coarse scales these are many: it takes {glue:text}`more_parameters`% more parameters. The greater saving is the third
# row's, where the networks grow with what they have to model. What factoring out gives besides is in no column: the
# finest half of the latents meets the prior, and so the loss, after six couplings and not at the end of the whole flow.
#
# ## The networks $s$ and $t$
#
# The paper describes them in a few words: convolutional residual networks {cite}`he2016identity` with rectifiers, batch norm, weight
# norm {cite}`salimans2016weightnorm`, and skip connections as in PixelRNN {cite}`oord2016pixelrnn` (sections 3.4, 3.7 and
# 4.1). Kernel sizes, the layout of blocks and the treatment of the input are not in it; for those the authors' code is the only
# source {cite}`dinh2016code`.

# %% mystnb={"figure": {"caption": "The network behind $s$ and $t$, as in the authors' code. The first convolution and each of the $B$ residual blocks put what they found into one sum, through a 1 × 1 convolution; $s$ and $t$ are read from this sum, and not from the end of the trunk. (The paper has no drawing of it.)", "name": "fig-network"}, "image": {"alt": "A diagram. The masked input goes through batch norm, is joined by its negative and by the mask, through a ReLU, and a 3 by 3 convolution into a row of residual blocks. From the convolution and from each block a 1 by 1 convolution leads up to a chain of sums; behind the last sum batch norm, ReLU and a 1 by 1 convolution give t and s. Below, a residual block: batch norm, ReLU, 3 by 3 convolution, twice, and a connection around both."}}
architecture.draw_network()
plt.show()

# %% [markdown]
# The input goes through a batch norm, is joined by its negative and, under a checkerboard, by the mask; chapter
# {ref}`networks` asks of each what it is for. Under the channel-wise mask the network gets the kept half of the
# channels, and only those.
#
# Convolutions are weight-normalised, $w = g\, v / \lVert v \rVert$, and the gain $g$ is left out in the first
# convolution of each block, which a batch norm follows, and of the network. The forward pass:
#
# ```{literalinclude} ../nvp/flows/resnet.py
# :pyobject: CouplingNet.forward
# :dedent: 4
# ```
#
# ### How far one output sees
#
# A 3 × 3 convolution at the beginning and two in each of the $B$ blocks: an output sees $1 + 2B$ pixels in every direction, but only those with
# $b = 1$. Differentiate one output by every input, and the mask comes to light.

# %%
torch.manual_seed(0)
config = RealNVPConfig.paper((1, 33, 33), num_scales=1, num_blocks=2, width=8)
layers = Scale(config, 0).eval().double().checkerboard.bijections
image = torch.randn(1, 1, 33, 33, dtype=torch.float64)


def reach(num_couplings):
    """|dz/dx| for the pixel in the middle of z, which has b = 0 at first."""
    x = image.clone().requires_grad_()
    z = x
    for layer in layers[:num_couplings]:
        z, _ = layer(z)
    (gradient,) = torch.autograd.grad(z[0, 0, 16, 16], x)
    return gradient[0, 0].abs()


one, three = reach(1), reach(3)
window = torch.zeros(33, 33, dtype=torch.bool)
window[11:22, 11:22] = True  # 1 + 2B = 5 pixels each way
allowed = window & checkerboard_mask(33, 33, Parity.ODD)[0, 0]
allowed[16, 16] = True  # and itself, by the factor exp(s)
assert ((one > 0) == allowed).all()
seen = [int((gradient > 0).sum()) for gradient in (one, three)]
assert seen[1] > seen[0]
print("pixels that one output depends on:", *seen)

# %% mystnb={"figure": {"caption": "What one pixel of the output depends on, in a network with $B = 2$ blocks and random weights: after one checkerboard coupling, the kept pixels of a window of 11 × 11 and itself; after three, both colours of the board, over a much larger area. (No figure in the paper.)", "name": "fig-reach"}, "image": {"alt": "Two maps of 33 by 33 pixels. Left: a checkerboard pattern in the 11 by 11 pixels of the middle. Right: a filled pattern that covers nearly the whole map and fades outwards."}}
architecture.draw_reach({"after one coupling": one, "after three": three})
plt.show()

# %% [markdown]
# ## How large it is
#
# The paper gives no parameter counts. Here they are, for its sizes and for those of this book, counted from the model.

# %%
table = [
    ("CIFAR-10", (3, 32, 32), 2, 8, 64),
    ("ImageNet 32 × 32", (3, 32, 32), 4, 4, 32),
    ("64 × 64, blocks of the paper", (3, 64, 64), 5, 2, 32),
    ("64 × 64, blocks of the code", (3, 64, 64), 5, 4, 32),
    ("28 × 28, small", (1, 28, 28), 2, 2, 32),
    ("28 × 28, as CIFAR-10", (1, 28, 28), 2, 8, 64),
    ("28 × 28, three scales", (1, 28, 28), 3, 4, 32),
]
rows, millions = [], {}
for name, shape, num_scales, num_blocks, width in table:
    config = RealNVPConfig.paper(
        shape, num_scales=num_scales, num_blocks=num_blocks, width=width
    )
    model = on_meta(config)
    millions[name] = sum(p.numel() for p in model.parameters()) / 1e6
    couplings = sum(isinstance(m, CouplingNet) for m in model.modules())
    numbers = [num_scales, couplings, num_blocks, width]
    rows.append([name, *numbers, f"{millions[name]:.1f}"])
header = ["model", "scales", "couplings", "blocks", "maps", "M parameters"]
figures.show_table(header, rows)
assert abs(millions["CIFAR-10"] - 19.6) < 0.05
assert abs(millions["ImageNet 32 × 32"] - 46.2) < 0.05

# %% [markdown]
# Widths double from scale to scale: a coupling has about four times the parameters of one at twice the resolution, and
# a quarter of the pixels to run on, so it costs the same. That is why the model for the small images of ImageNet, with
# four scales, is larger than that for CIFAR-10, though its networks begin half as wide. Most of it sits where 4 × 4
# pixels are left:

# %%
scales = on_meta(sizes["32 × 32 × 3, ImageNet"]).flow.scales
# The third scale squeezes 8 × 8 to 4 × 4 for its channel-wise couplings.
smallest = [*scales[2].channelwise.parameters(), *scales[3].parameters()]
share = sum(p.numel() for p in smallest)
share /= sum(p.numel() for p in scales.parameters())
assert share > 0.5
print(f"parameters that work on 4 × 4 pixels: {share:.0%}")

# %% [markdown]
# ## Summary
#
# * The checkerboard splits space, the channel-wise mask what a squeeze has made of space; the two partitions differ.
# * A squeeze renumbers. For one channel the paper's figure gives the order, for three it leaves it open; the code has
#   one order for its couplings and another to factor out.
# * After each scale half of the dimensions leave, and meet the prior there and then; $z$ is laid out like the image.
# * With factoring out and doubled widths every scale takes about the same work.
# * $s$ and $t$ come from one residual network, which sees kept pixels only.
#
# ## Exercises
#
# ```{exercise} Seven is odd
# :label: ex-odd
#
# What does the package say to 28 × 28 images with four scales? How would you get to 4 × 4 nevertheless, and what would have to be decided then?
# ```
#
# ```{solution-start} ex-odd
# :class: dropdown
# ```
# It refuses, and says why. One could pad to 32 × 32; then one would have to decide whether the padding counts as data. If it does, bits per dimension
# are an average over 1024 numbers, 240 of which are trivial, and not comparable to those of others.

# %%
try:
    RealNVPConfig.paper((1, 28, 28), num_scales=4)
except ValueError as error:
    message = str(error)
assert "28x28 is not divisible by 8" in message

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The half that goes on
# :label: ex-diagonal
#
# Show that what goes on after one diagonal squeeze is the *even* squares of the checkerboard, those with row ≡ column modulo 2,
# and after $k$ of them the places with row ≡ column modulo $2^k$.
# ```
#
# ```{solution-start} ex-diagonal
# :class: dropdown
# ```
# TL and BR of a block have row and column both even or both odd. At the next squeeze blocks play the part of pixels: the survivors have
# row $= 2a + b$ and column $= 2c + b$ with $a \equiv c$ modulo 2, so row − column $= 2(a - c)$ is a multiple of 4. And so on.

# %%
goes_on = torch.arange(256).reshape(1, 1, 16, 16)  # each its own number
for k in (1, 2, 3):
    goes_on, _ = squeeze(goes_on, SqueezeOrder.DIAGONAL).chunk(2, dim=1)
    row, column = goes_on // 16, goes_on % 16
    assert ((row - column) % 2**k == 0).all()
    assert goes_on.numel() == 256 // 2**k

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Nothing lost, nothing stretched
# :label: ex-permutation
#
# Write a squeeze as a matrix. Why is its log-determinant 0, whatever the order?
# ```
#
# ```{solution-start} ex-permutation
# :class: dropdown
# ```
# Each output is one input: a permutation matrix, with determinant 1 or −1.

# %%
basis = torch.eye(48).reshape(48, 3, 4, 4)  # one sub-pixel lit in each
for order in SqueezeOrder:
    matrix = squeeze(basis, order).reshape(48, 48)
    assert (matrix.sum(dim=0) == 1).all()
    assert (matrix.sum(dim=1) == 1).all()
    assert matrix.det().abs() == 1

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Any size
# :label: ex-any-size
#
# Nothing in the flow knows the size of the image. Decode latents of 16 × 16 with a flow made for 8 × 8, and encode what comes out. Why does it work, and why is
# it no model of 16 × 16 images? (The paper does this in its Appendix C.)
# ```
#
# ```{solution-start} ex-any-size
# :class: dropdown
# ```
# Convolutions, masks and squeezes take any even size, so it is a bijection there, too, with an exact determinant. But it was trained to make patches of 8 × 8
# probable, with zeros beyond their edge; of larger images it knows only what is local.

# %%
torch.manual_seed(0)
config = RealNVPConfig.paper((1, 8, 8), num_scales=2, num_blocks=1, width=8)
flow = MultiScaleFlow(config).eval().double()
z = torch.randn(1, 1, 16, 16, dtype=torch.float64)
with torch.no_grad():
    x, _ = flow.inverse(z)
    assert x.shape == (1, 1, 16, 16)
    assert (flow(x)[0] - z).abs().max() < 1e-9

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} To see the whole map
# :label: ex-whole-map
#
# The last scale of the 28 × 28 model with three scales has 7 × 7 pixels. How many blocks does a network need there until the window of an
# output covers the whole map, of which it then sees the kept pixels?
# ```
#
# ```{solution-start} ex-whole-map
# :class: dropdown
# ```
# A corner is six pixels from the opposite one, and $1 + 2B \ge 6$ for $B = 3$. The pixel in the middle needs $B = 1$. The
# check leaves the mask out, so that every pixel of the window shows.

# %%
for num_blocks, whole in ((2, False), (3, True)):
    treatment = InputTreatment(
        4, None, concatenated_relu=True, mask_channel=True
    )
    net = CouplingNet(treatment, 4, width=8, num_blocks=num_blocks)
    x = torch.randn(1, 4, 7, 7, requires_grad=True)
    (gradient,) = torch.autograd.grad(net.eval()(x)[0, :, 0, 0].sum(), x)
    sees = gradient[0].abs().sum(dim=0) > 0
    assert sees.all().item() is whole

# %% [markdown]
# ```{solution-end}
# ```
