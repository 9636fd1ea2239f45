# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (latents)=
# # What the latents hold
#
# What do the numbers in a latent mean? In this chapter you walk between images, replace parts of a latent, decode
# latents of other sizes, and decode an image under another class.
#
# ```{admonition} In the paper
# Figure 6 and equation 19 of {cite:t}`dinh2017realnvp` (the manifold of four images), and
# appendices B (more manifolds), C (extrapolation), D (what the latents hold, figures 22 to 26) and F (changing
# attributes). Of B and C we know only what the main text, the first author's page {cite}`dinh2016page` and the authors'
# code {cite}`dinh2016code` say. Of F we know only what section 4.2 says; {eq}`eq:attributes` is unverified.
# ```

# %% tags=["parameters"]
profile = "laptop"

# %% tags=["hide-input"]
import math

import matplotlib.pyplot as plt
import torch
from nvp_book import figures
from nvp_book.figures import latents as drawing
from nvp_book.figures import samples as pictures
from nvp_book.selection import benchmark_results, images_for, sheet_images
from torch import nn
from torch.nn import functional as F

from nvp import RealNVP
from nvp.data import FASHION_CLASSES
from nvp.devices import pick_device
from nvp.flows.coupling import CheckerboardCoupling
from nvp.flows.masks import Parity
from nvp.ledger import runs
from nvp.likelihood import nats_per_bit, score_images
from nvp.model.labels import Labelled

figures.use_style()
torch.set_num_threads(1)  # sums in one order, however many cores
torch.set_grad_enabled(False)
full = profile == "paper"
device = pick_device("auto" if full else "cpu")

ledger = runs()
run, colour_run = ledger["fashion-mnist"], ledger["cifar10-small"]
told_run = ledger["fashion-mnist-conditional"]
model, colour, conditional = (
    each.load_model(str(device)) for each in (run, colour_run, told_run)
)
train = images_for(run, "train", full=full)
test = images_for(run, "test", full=full)

# %% [markdown]
# ## The manifold of four images
#
# To walk between images, use their latents. Since $f$ is a bijection, decoding a latent and
# rounding down returns its image.

# %%
few = test.images[:20].to(device)
z = model.encode(few, torch.Generator().manual_seed(0))
assert (model.decode(z) == few).double().mean() > 0.999

# %% [markdown]
# Equation 19 of the paper walks between the latents $z_1, \dots, z_4$ of four images:
#
# $$
# z(\phi, \phi') = \cos\phi \,\bigl(\cos\phi'\, z_1 + \sin\phi'\, z_2\bigr)
#   + \sin\phi \,\bigl(\cos\phi'\, z_3 + \sin\phi'\, z_4\bigr).
# $$ (eq:manifold)
#
# Why not straight lines? The squares of the four coefficients sum to
# $(\cos^2\phi + \sin^2\phi)(\cos^2\phi' + \sin^2\phi') = 1$. So if the $z_i$ are independent
# samples of $\mathcal N(0, I)$, $z(\phi, \phi')$ is one, too. The middle of a straight line has
# half the variance, and the mean of all four a quarter.


# %%
def on_manifold(z1, z2, z3, z4, phi, psi):
    """Equation 19; phi and psi are the paper's two angles."""
    return math.cos(phi) * (math.cos(psi) * z1 + math.sin(psi) * z2) + (
        math.sin(phi) * (math.cos(psi) * z3 + math.sin(psi) * z4)
    )


right = math.pi / 2
generator = torch.Generator().manual_seed(0)
noise = torch.randn(4, 10_000, generator=generator)
circle = on_manifold(*noise, right / 2, right / 2).var()
assert abs(circle - 1) < 0.05
assert abs(noise.mean(dim=0).var() - 1 / 4) < 0.05

# %% tags=["remove-cell"]
for i, angles in enumerate([(0, 0), (0, right), (right, 0), (right, right)]):
    assert torch.allclose(on_manifold(*noise, *angles), noise[i], atol=1e-6)

# %% [markdown]
# We decode a grid of angles: up to a right angle for photographs, and for garments a full turn, as in the authors'
# code {cite}`dinh2016code`. The full turn shows each garment again four rows down and four columns to the right. Its
# antipode $-z_i$ is four columns to the right in its own row.


# %%
def manifold(model, four, angles):
    """Decode equation 19 on a square grid of angles."""
    z = model.encode(four.to(device), torch.Generator().manual_seed(11))
    points = [on_manifold(*z, a, b) for a in angles for b in angles]
    return model.decode(torch.stack(points)).cpu()


# %% tags=["hide-input"] mystnb={"figure": {"caption": "After figure 6 of {cite:t}`dinh2017realnvp`: the manifold {eq}`eq:manifold` of four test images of CIFAR-10, by `cifar10-small`. $\\phi$ runs downwards and $\\phi'$ to the right. The four images are the corners.", "name": "fig-manifold"}, "image": {"alt": "A square grid of six by six colour images. The four corners are photographs, marked 1 to 4; between them the images change gradually, through mixtures in which places of light and dark of both remain."}}
photos = sheet_images(colour_run.files.real, 32)[torch.tensor([1, 9, 45, 58])]
grid = manifold(colour, photos, [k * right / 5 for k in range(6)])
pictures.plot_manifold(
    grid, {(0, 0): "1", (0, 5): "2", (5, 0): "3", (5, 5): "4"}
)
plt.show()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The same with four garments, by `fashion-mnist`, through a full turn of each angle. The four are marked.", "name": "fig-manifold-clothes"}, "image": {"alt": "A square grid of eight by eight grey images. Four near the upper left are marked 1 to 4; between them one garment turns into another. The antipodes are a plain light sheet, a smooth dark shape, fragments of a sandal, and a shirt with trouser legs."}}
garments = test.images[torch.arange(4) * len(test) // 4 + 47]
whole = manifold(model, garments, [k * right / 2 for k in range(8)])
pictures.plot_manifold(
    whole, {(0, 0): "1", (0, 2): "2", (2, 0): "3", (2, 2): "4"}
)
plt.show()

# %% tags=["remove-cell"]
assert (grid[[0, 5, 30, 35]] == photos).double().mean() > 0.999
assert (whole[[0, 2, 16, 18]] == garments).double().mean() > 0.999

# %% [markdown]
# Between two marked images one turns into the other, and every step has the texture of its data set. On the page
# {doc}`../book/live` you can walk on such a manifold.
#
# ## Between two images
#
# How good is a walk? With $\phi = 0$, {eq}`eq:manifold` leads from $z_1$ to $z_2$, nearly on a circle. Compare it
# with the straight line $(1 - t)\, z_1 + t\, z_2$, and with the *fade*, the same line between the pixels. We *score*
# five steps of each, as if they were images that we had found.

# %%
count, steps = (64 if full else 32), 5
first, second = test.images[:count], test.images[count : 2 * count]
generator = torch.Generator().manual_seed(0)
z1, z2 = (model.encode(x.to(device), generator) for x in (first, second))
shares = torch.arange(steps) / (steps - 1)
ways = {
    "circle": [on_manifold(z1, z2, 0, 0, 0, t * right) for t in shares],
    "line": [(1 - t) * z1 + t * z2 for t in shares],
}
walks = {
    name: torch.stack([model.decode(z).cpu() for z in points])
    for name, points in ways.items()
}
walks["fade"] = torch.stack(
    [((1 - t) * first + t * second).round().byte() for t in shares]
)
bits = {
    name: score_images(model, images.flatten(0, 1)).unflatten(0, (steps, -1))
    for name, images in walks.items()
}

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Three walks between the images of the first pair, each step with its bits/dim below it.", "name": "fig-walks"}, "image": {"alt": "Three rows of five images. On the circle a boot turns into a narrow patterned garment by way of a ragged boot (middle: 2.69 bits per dimension); on the line everything between the ends is darker (2.06); in the fade both are seen through each other (3.19). The ends cost 2.20 and 1.92."}}
pictures.plot_scored(
    {name: (images[:, 0], bits[name][:, 0]) for name, images in walks.items()}
)
plt.show()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Along the walks of all pairs: the mean square of a latent (the fade has none), and the bits/dim of its image. Bars are standard errors over pairs. Images differ more than steps do, so the differences within pairs, printed below, have smaller errors.", "name": "fig-along"}, "image": {"alt": "Left: the mean square stays near 1 on the circle and falls to a half in the middle of the line. Right: bits per dimension over the same walks; far above both ends for the fade, less far for the circle, below both for the line."}}
errors = {name: b.std(dim=1) / math.sqrt(count) for name, b in bits.items()}
squares = {
    name: torch.stack([z.square().mean() for z in points]).cpu()
    for name, points in ways.items()
}
costs = {name: (b.mean(dim=1), errors[name]) for name, b in bits.items()}
drawing.plot_along(shares, squares, costs)
plt.show()

# %% tags=["hide-input"]
middle = steps // 2
raised = {name: b[middle] - (b[0] + b[-1]) / 2 for name, b in bits.items()}
for name, gaps in raised.items():
    error = gaps.std() / math.sqrt(count)
    print(f"middle of the {name}: {gaps.mean():+.2f} ± {error:.2f} bits/dim")

# %% tags=["remove-cell"]
ends = walks["circle"][[0, -1]]
assert (ends == torch.stack([first, second])).double().mean() > 0.999
assert abs(squares["circle"][middle] - 1) < 0.1
assert abs(squares["line"][middle] - 0.5) < 0.1
assert raised["line"].mean() < -2 * raised["line"].std() / math.sqrt(count)
assert raised["circle"].mean() > 2 * raised["circle"].std() / math.sqrt(count)
assert bits["fade"][middle].mean() > bits["circle"][middle].mean() + 0.3


def unrounded(z):
    """Bits/dim of g(z) with its own noise, (N,)."""
    x, log_det = model.flow.inverse(z.to(device))
    nats = model.prior.log_prob(z.to(device)) - log_det
    nats = nats - model.logit.inverse(x)[1]
    return 8 - nats.cpu().double() / nats_per_bit(model.image_shape)


start, *_, end = ways["circle"]
own = unrounded(ways["circle"][middle])
own = own - (unrounded(start) + unrounded(end)) / 2
assert 0.1 < (raised["circle"] - own).mean() < 0.2

found = [b[middle, 0] for b in bits.values()] + [*bits["line"][[0, -1], 0]]
for cost, said in zip(found, (2.69, 2.06, 3.19, 2.20, 1.92), strict=True):
    assert full or abs(cost - said) < 0.05

# %% [markdown]
# The model does not punish the line. It finds the dark, smooth images in its middle *more* probable than the images
# at its ends. A density can be highest where no image ever is. The middle of the circle costs more than the ends. About
# half of that, 0.15 bits/dim, is rounding, since the score adds other noise than was rounded off. The fade costs most.
#
# In $D = 784$ dimensions the samples of the prior lie in a thin shell: the length of $z$ is close to $\sqrt D$
# ({ref}`ex-norm`). Where do other latents lie?

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Lengths of latents, divided by $\\sqrt D$: of prior samples, of test images, and of points halfway between two test images, on circles and on lines.", "name": "fig-lengths"}, "image": {"alt": "Four histograms. The prior is a narrow peak at 1; latents of test images lie around 1 and are spread more widely, as are the points halfway on circles; the points halfway on lines lie near 0.7."}}
scored = test.images[torch.arange(500 if full else 100) * 7 % len(test)]
generator = torch.Generator().manual_seed(0)
z = model.encode(scored.to(device), generator).cpu()
halves = z.roll(1, dims=0)
lengths = {
    "prior": torch.randn(2000, z[0].numel(), generator=generator),
    "test images": z,
    "halfway on circles": (z + halves) / math.sqrt(2),
    "halfway on lines": (z + halves) / 2,
}
lengths = {
    name: points.flatten(1).square().mean(dim=1).sqrt()
    for name, points in lengths.items()
}
drawing.plot_lengths(lengths)
plt.show()

# %% tags=["remove-cell"]
assert abs(lengths["test images"].mean() - 1) < 0.05
assert lengths["test images"].std() > 1.5 * lengths["prior"].std()
beyond = lengths["halfway on lines"] >= lengths["prior"].min()
assert beyond.float().mean() < 0.02

# %% [markdown]
# Latents of test images lie in the shell or near it. Nearly all points halfway on lines are shorter than every sample
# of the prior.
#
# ## Scale by scale
#
# How Gaussian are the latents of each scale (chapter {ref}`multi-scale`)? The table has the variance of all latents
# of a scale together. How near the shell does *one* image lie? The next column has the standard deviation, from image
# to image, of the mean square of its latents. Under the prior it is $\sqrt{2 / D_k}$ for $D_k$ dimensions.

# %% tags=["hide-input"]
by_scale = model.latents_by_scale(z)
named = {
    f"$z^{{({i})}}$, {latents[0].numel()} dimensions": latents
    for i, latents in enumerate(by_scale, start=1)
}
rows, excess = [], []
for name, latents in named.items():
    squares = latents.flatten(1).square().mean(dim=1)
    prior = math.sqrt(2 / latents[0].numel())
    cells = [f"{latents.var():.2f}", f"{squares.std():.2f}", f"{prior:.2f}"]
    rows.append([name, *cells])
    assert latents.mean().abs() < 0.1
    assert abs(latents.var() - 1) < 0.1
    error = prior / math.sqrt(2 * len(squares))  # of a deviation, by chance
    excess.append((squares.std() - prior) / error)
assert excess[0] > 5
assert full or excess[1] < 2 < excess[2]
header = ["latents of test images", "variance", "from image to image", "prior"]
figures.show_table(header, rows)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "All latents of test images, finest scale first, and the density of the prior.", "name": "fig-latents"}, "image": {"alt": "A histogram for each scale, close to a bell curve drawn over it."}}
pictures.plot_latent_histograms(named)
plt.show()

# %% [markdown]
# At every scale the latents of all images together look Gaussian. At the first and the third the lengths of single
# images' latents vary more than under the prior. At the second the excess may be chance.
#
# ### What survives
#
# What do latents of each scale *mean*? Appendix D keeps the coarse latents of an image and samples the fine ones
# anew, more and more of them. This experiment follows the *conceptual compression* of Conv DRAW
# {cite}`gregor2016compression,dinh2016page`. The paper's models of 64 × 64 have five scales, and keep 100, 50, 25,
# 12.5 and 6.25% of the dimensions. Ours has three scales, so below 25% we go on by channels of the last: two of its
# four, one, and none.

# %%
generator = torch.Generator().manual_seed(0)
some = test.images[torch.arange(30) * 97 % len(test)]
*fine, last = model.latents_by_scale(model.encode(some.to(device), generator))
parts = [*fine, *last.flip(1).split([2, 1, 1], dim=1)]  # channel 0 last


def decode_from(first, fill):
    """Decode with the parts before number `first` replaced by fill's."""
    mixed = [fill(part) for part in parts[:first]] + parts[first:]
    last = torch.cat(mixed[len(fine) :], dim=1).flip(1)
    return model.decode(model.flow.merge([*mixed[: len(fine)], last])).cpu()


def anew(part):
    return torch.randn(part.shape, generator=generator).to(part)


sizes = [part[0].numel() for part in parts]
names = [f"{100 * sum(sizes[i:]) / sum(sizes):.4g}%" for i in range(6)]
sheets = {
    how: {name: decode_from(i, fill) for i, name in enumerate(names)}
    for how, fill in (("anew", anew), ("zero", torch.zeros_like))
}
assert (sheets["anew"]["100%"] == some).double().mean() > 0.999

# %% tags=["hide-input"] mystnb={"figure": {"caption": "After appendix D of {cite:t}`dinh2017realnvp`: test images decoded with that share of their latents kept, the coarsest ones, and the others sampled anew.", "name": "fig-kept"}, "image": {"alt": "Rows of six images. Down to 6.25 percent they are the same garments with other and rougher details; at 0 percent they are unrelated."}}
pictures.plot_rows({name: x[:6] for name, x in sheets["anew"].items()})
plt.show()

# %% [markdown]
# At 6.25%, one channel of 49 numbers, most of these are still the same garments; at 0% they are not. The table shows
# how often, of all 30 test images, the original is the nearest to the decoded image, also with latents set to zero.
# Distances are root mean squares, in grey levels.


# %% tags=["hide-input"]
def against(images, originals):
    """Mean distance to one's own original; share for which it's nearest."""
    a, b = images.flatten(1).float(), originals.flatten(1).float()
    distances = torch.cdist(a, b) / math.sqrt(a.shape[1])
    own = distances.argmin(dim=1) == torch.arange(len(images))
    return distances.diag().mean(), own.double().mean()


measured = {
    (how, name): against(images, some)
    for how, rows in sheets.items()
    for name, images in rows.items()
}
rows = []
for name in names:
    cells = []
    for how in sheets:
        distance, found = measured[how, name]
        cells += [f"{distance:.0f}", f"{found:.0%}"]
    rows.append([name, *cells])
header = ["kept", "anew: distance", "anew: own nearest", "zero: distance"]
figures.show_table([*header, "zero: own nearest"], rows)

# %% tags=["remove-cell"]
assert (sheets["zero"]["100%"] == some).double().mean() > 0.999
assert measured["anew", "25%"][1] > 0.8
assert measured["anew", "6.25%"][1] > 0.6
assert measured["anew", "0%"][1] < 0.2
for name in ("25%", "12.5%", "6.25%"):
    assert measured["zero", name][1] < measured["anew", name][1] - 0.1

# %% [markdown]
# The two finer scales, three quarters of all latents, decide the details of textures, edges and small parts. The
# coarsest quarter holds which garment it is, where its parts are, and how rough it is. Appendix D concludes that the
# semantics of the latent space are "more on a graphic level rather than higher level concept". It suspects the
# convolutions. Our pictures agree: the layout of light and dark survives.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The same with the other latents set to zero. (An experiment of the authors' code; appendix D speaks of sampling anew only.)", "name": "fig-zeroed"}, "image": {"alt": "Five rows of six images. With fewer latents kept they become smooth and dark; shoes stay shoes, and trousers lose the gap between their legs. In the last row all are the same dim pullover."}}
pictures.plot_rows({name: sheets["zero"][name][:6] for name in names[1:]})
plt.show()

# %% [markdown]
# Setting latents to zero moves $z$ towards the origin, so images become smooth and dark. From 25 to
# 6.25% the original is the nearest less often than with latents drawn anew.
#
# ## Larger images
#
# Can a flow sample larger images than it has seen? Its networks are convolutions, and masks and
# squeezes fit any size that halves often enough. So the 28 × 28 model also decodes latents of
# 56 × 56 or 280 × 280. Appendix C shows such samples, two and ten times as large. They look like a
# *texture* of the data set. This works best for backgrounds, such as the categories of LSUN
# {cite}`dinh2016page`. Most photographs of CIFAR-10 fill the image; Fashion-MNIST has one object on
# black.


# %%
def larger(model, count, times):
    """Samples that are so many times as high and wide as the data."""
    channels, height, width = model.image_shape
    shape = (count, channels, times * height, times * width)
    z = torch.randn(shape, generator=generator)
    return model.decode(z.to(device)).cpu()


generator = torch.Generator().manual_seed(2)
drawn = {t: larger(model, n, t) for t, n in ((1, 60), (2, 16), (10, 1))}
in_colour = {t: larger(colour, n, t) for t, n in ((1, 4), (2, 1), (4, 1))}

# %% tags=["hide-input"] mystnb={"figure": {"caption": "After appendix C of {cite:t}`dinh2017realnvp`: samples of `cifar10-small` at the size of training, at twice and at four times that size. The weights are the same, and all pixels are shown at one size.", "name": "fig-larger-colour"}, "image": {"classes": "whole", "alt": "Left, four small patches of colour. Middle and right, larger ones of the same kind of texture, without larger objects in them."}}
drawing.plot_to_scale(
    {
        "32 × 32": (in_colour[1], 1),
        "64 × 64": (in_colour[2], 1),
        "128 × 128": (in_colour[4], 1),
    },
    part=0.7,
)
plt.show()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The same for `fashion-mnist`: at the size of training, and at twice that size. Last, the upper left quarter of a sample at ten times that size. None was selected by hand.", "name": "fig-larger"}, "image": {"alt": "Left, small samples, most like garments or shoes. Middle, samples of twice the size: one or two pieces of cloth each, with a black margin and large holes. Right, the corner of one of ten times the size: a sheet of cloth with holes, and a thin black margin along the border above and on the left."}}
drawing.plot_to_scale(
    {
        "28 × 28": (drawn[1][:12], 3),
        "56 × 56": (drawn[2][:4], 2),
        "a quarter of 280 × 280": (drawn[10][..., :140, :140], 1),
    }
)
plt.show()

# %% tags=["hide-input"]
assert drawn[10].shape[2:] == (280, 280)
config = model.config.model_copy(update={"image_shape": (1, 56, 56)})
wide = RealNVP(config).to(device).eval()
wide.load_state_dict(model.state_dict())
z = wide.encode(drawn[2][:4].to(device), generator)
assert (model.decode(z).cpu() == drawn[2][:4]).double().mean() > 0.999

# %% [markdown]
# In colour, a larger sample is a larger patch of the same texture. The garments become cloth: one piece with holes,
# and a black margin around it. How does a convolution, which is the same everywhere, know where the margin belongs?
# It pads with zeros, and sees them only near the border. In 28 × 28 pixels nothing is far from a border, so the whole
# layout can depend on it. The next figure measures the share of black pixels by their distance from the border.


# %% tags=["hide-input"] mystnb={"figure": {"caption": "The share of pixels below level 8 over the distance from the border. The longest curve is of one sample, and is cut after 40 pixels.", "name": "fig-border"}, "image": {"alt": "Four curves fall together from above 0.8 at the border to below 0.2 at ten pixels; those of larger samples stay below 0.3 from there on."}}
def black_by_distance(images):
    """Share of black pixels at each distance from the border, 0 first."""
    side = images.shape[-1]
    index = torch.arange(side)
    one = torch.minimum(index, side - 1 - index)
    distance = torch.minimum(one[:, None], one)
    black = (images < 8).double().mean(dim=(0, 1))
    shares = [black[distance == d].mean() for d in range(side // 2)]
    return torch.stack(shares)[:40]


black = {"test images": black_by_distance(test.images)} | {
    f"samples of {28 * times} × {28 * times}": black_by_distance(images)
    for times, images in drawn.items()
}
drawing.plot_border(black)
plt.show()

# %% tags=["remove-cell"]
sizes = list(black.values())
near = torch.stack([share[:14] for share in sizes])
assert (near[1:] - near[0]).abs().max() < 0.2
assert 0.15 < sizes[-1][14:].mean() < 0.25
assert 0.08 < sizes[0][10:].mean() < 0.13

# %% [markdown]
# Samples of all sizes roughly agree with the test images about the margin. Further inside, about a fifth of the cloth
# is black, against a tenth in the middle of a test image.
#
# The authors' code also lays the latents of several images side by side, and decodes them as one large latent. Do the
# images come back side by side?


# %% tags=["hide-input"] mystnb={"figure": {"caption": "Four test images, and the image that their latents decode to, side by side as one. (An experiment of the authors' code, not shown in the paper.)", "name": "fig-mosaic"}, "image": {"classes": "whole", "alt": "Left, a boot, a pullover and two pairs of trousers on black. Right, one large garment that has their outlines along the outer border only; where there was black between the four there is cloth."}}
def two_by_two(x):
    """(4n, C, H, W) -> (n, C, 2H, 2W): images or latents, side by side."""
    parts = x.unflatten(0, (-1, 2, 2)).permute(0, 3, 1, 4, 2, 5)
    return parts.flatten(4, 5).flatten(2, 3)


several = test.images[: 400 if full else 48]
z = model.encode(several[:4].to(device), torch.Generator().manual_seed(0))
mosaics, decoded = two_by_two(several), model.decode(two_by_two(z)).cpu()
assert torch.equal(mosaics[0, :, :28, 28:], several[1])
drawing.plot_to_scale(
    {
        "images side by side": (mosaics[:1], 1),
        "latents side by side": (decoded, 1),
    },
    part=0.6,
)
plt.show()

# %% [markdown]
# They do not: away from a border, cloth fills the black between the four. The same weights also score images of
# 56 × 56:

# %% tags=["hide-input"]
alone = score_images(model, several)
together = score_images(wide, mosaics)
large = score_images(wide, drawn[2])
of_size = {
    f"{len(several)} test images, alone": alone,
    "the same, four to an image": together,
    "samples of 28 × 28": score_images(model, drawn[1][:30]),
    "samples of 56 × 56": large,
}
assert (decoded == mosaics[:1]).double().mean() < 0.5
dearer = together - alone.view(-1, 4).mean(dim=1)
assert 0.09 < dearer.mean() < 0.105
assert dearer.std() / math.sqrt(len(dearer)) < 0.01
assert large.mean() > together.mean() + 0.5
rows = []
for name, s in of_size.items():
    error = s.std() / math.sqrt(len(s))
    rows.append([name, f"{s.mean():.2f}", f"{error:.2f}"])
figures.show_table(["scored", "bits/dim", "±"], rows)

# %% [markdown]
# Together, four garments on black cost 0.10 ± 0.01 bits/dim more than the same four one by one. The cloth that the
# model samples at this size costs much more, in part because less of it is black. Most of the likelihood is local,
# and locally the garments are right. A score can be good where samples are not.
#
# (told-the-class)=
# ## Conditioned on the class
#
# Can one ask a flow for a shoe? Appendix F makes the model **conditional**: $f$ and $g$ also take
# attributes $c$ of the image. Every $c$ has a flow of its own, with shared weights:
#
# $$
# \log p(x \mid c) = \log p_Z\bigl(f(x; c)\bigr) + \log\left|\det \frac{\partial f(x; c)}{\partial x^{\mathsf T}}\right|.
# $$ (eq:conditional)
#
# A coupling passes $c$ to its network together with $b \odot x$. Then $s$ and $t$ may be any functions of both, since
# the forward and the inverse pass know both. Section 4.2 does not say how $c$ enters the networks. Here it joins the
# input of the first convolution as constant maps: for one of ten classes, one map of 1 and nine of 0. On points in the
# plane the whole change to the coupling of chapter {ref}`coupling-layers` is one line.


# %%
class ConditionalCoupling(nn.Module):
    def __init__(self, net, b):
        super().__init__()
        self.net, self.a = net, nn.Parameter(torch.ones(()))
        self.register_buffer("b", b)

    def s_and_t(self, x, c):
        seen = torch.cat([self.b * x, c], dim=1)  # the one new line
        t, raw = self.net(seen).chunk(2, dim=1)
        s = self.a * torch.tanh(raw)
        return (1 - self.b) * s, (1 - self.b) * t

    def forward(self, x, c):
        s, t = self.s_and_t(x, c)
        return x * s.exp() + t, s.flatten(1).sum(dim=1)

    def inverse(self, y, c):
        s, t = self.s_and_t(y, c)
        return (y - t) * (-s).exp()


torch.manual_seed(0)
net = nn.Linear(2 + 3, 4)
layer = ConditionalCoupling(net, b=torch.tensor([1.0, 0.0]))
x, c = torch.randn(5, 2), torch.eye(3)[[0, 1, 2, 0, 1]]
y, _ = layer(x, c)
assert torch.allclose(layer.inverse(y, c), x, atol=1e-6)
assert not torch.allclose(layer(x, c.roll(1, dims=1))[0], y)

# %% [markdown]
# The package's coupling takes the class in the same place. Given the points as images of two pixels, it returns the
# same:


# %%
class OnPoints(nn.Module):
    def forward(self, kept, c):
        seen = torch.cat([kept.flatten(1), c], dim=1)
        return net(seen).view(-1, 2, 1, 2)  # t, then the raw s


theirs = CheckerboardCoupling(Parity.EVEN, OnPoints(), scale_init=1.0)
z, log_det = theirs(x.view(-1, 1, 1, 2), c)
assert torch.allclose(z.flatten(1), y)
assert torch.allclose(log_det, layer(x, c)[1])

# %% [markdown]
# Where the paper has CelebA and its forty attributes, we have Fashion-MNIST and its ten classes
# {cite}`xiao2017fashion`. The configurations of our two runs differ by `num_classes: 10` alone. Both trained for half
# an hour:

# %% tags=["hide-input"]
K = len(FASHION_CLASSES)
assert conditional.num_classes == K
assert (test.labels.bincount() == len(test) // K).all()
figures.show_table(
    ["run", "images seen", "bits/dim, full test set"],
    [
        [
            each.record.title,
            f"{each.record.images:,}",
            f"{each.score.bits_per_dim:.3f}",
        ]
        for each in (run, told_run)
    ],
)

# %% [markdown]
# ### Samples by class
#
# What does the class decide? In each row the same $z$ is decoded under all ten classes.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Samples of the conditional model at $T = 1$: a column for each class, a row for each $z$. None was selected by hand.", "name": "fig-by-class"}, "image": {"alt": "Three rows of ten images. Columns show garments of their class, some of them ragged; pullovers, coats and shirts look alike. Within a row brightness and blemishes recur from class to class."}}
generator = torch.Generator().manual_seed(0)
z = torch.randn(6, *conditional.image_shape, generator=generator)
c = torch.arange(K)
drawn = [conditional.decode(one.expand(K, -1, -1, -1), labels=c) for one in z]
drawn = [images.cpu() for images in drawn]
drawing.plot_by_class(drawn[:3], FASHION_CLASSES)
plt.show()

# %% [markdown]
# The class sets the form. The latent sets the rest: brightness, pattern, and how ragged the outline
# is.
#
# ### Changing attributes
#
# Section 4.2 says of such a model of CelebA that its representation had a consistent semantic
# meaning across class labels. Has ours? Encode a real image $x$ under its class $c$, and decode
# under another class $c'$:
#
# $$
# x' = g\bigl(f(x; c); c'\bigr).
# $$ (eq:attributes)
#
# With $c' = c$ the image comes back.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "After appendix F of {cite:t}`dinh2017realnvp`, with classes for attributes: the first test image of five of the classes. Each is encoded under its own class (framed) and decoded under each of the ten, {eq}`eq:attributes`.", "name": "fig-attributes"}, "image": {"alt": "Five rows of ten images; in each one is framed, a test image. Along a row a garment turns into others, tops into tops of about the same brightness. Letters on a pullover stay on the T-shirt, the dress, the coat and the shirt made from it, and are lost in shoes and bags. Clothes made from a sandal or a boot are dark and ragged."}}
chosen = [int((test.labels == k).nonzero()[0]) for k in range(K)]
images, labels = test.images[chosen], test.labels[chosen]
z = conditional.encode(
    images.to(device), torch.Generator().manual_seed(0), labels=labels
)
changed = [
    conditional.decode(one.expand(K, -1, -1, -1), labels=torch.arange(K)).cpu()
    for one in z
]
same = torch.stack([changed[k][k] for k in range(K)])
assert (same == images).double().mean() > 0.999
five = [0, 2, 3, 5, 9]
drawing.plot_by_class([changed[k] for k in five], FASHION_CLASSES, marked=five)
plt.show()

# %% [markdown]
# Partly. The letters on the pullover stay where they are on a T-shirt, a dress, a coat and a shirt. Clothes made from
# a sandal or a boot are dark rags: the same latents mean other things under another class. To count, we ask for the
# class of the nearest training image.


# %% tags=["hide-input"]
def as_class(images):
    """The class of the nearest training image, (N,)."""
    a, b = (x.flatten(1).float() for x in (images, train.images))
    return train.labels[torch.cdist(a, b).argmin(dim=1)]


def percent(hits):
    """The share of hits, and its standard error, as text."""
    share = hits.double().mean().item()
    error = math.sqrt(share * (1 - share) / len(hits))
    return f"{share:.0%} ± {error:.0%}"


def brightness(images):
    """Mean level of the pixels that are not black, (N,)."""
    images = images.flatten(1).double()
    lit = images >= 8
    return (images * lit).sum(dim=1) / lit.sum(dim=1)


c_new = torch.arange(K).repeat(K)
c_old = torch.arange(K).repeat_interleave(K)
other = c_new != c_old
every = torch.cat(changed)
taken_for = as_class(every)[other]
as_new, as_old = taken_for == c_new[other], taken_for == c_old[other]
of_draws = as_class(torch.cat(drawn)) == torch.arange(K).repeat(len(drawn))
of_tests = as_class(test.images[:1000]) == test.labels[:1000]
light = torch.stack([brightness(images)[c_old], brightness(every)])
tops = torch.tensor([0, 2, 3, 4, 6])  # T-shirt, pullover, dress, coat, shirt
near = other & torch.isin(c_new, tops) & torch.isin(c_old, tops)
assert torch.corrcoef(light[:, near])[0, 1] > 0.7
kept, made, drew = (x.double().mean() for x in (as_old, as_new, of_draws))
assert made > 3 * kept
assert full or kept < 0.15 > abs(made - drew)
figures.show_table(
    ["nearest training image has", "share"],
    [
        ["test images: their class", percent(of_tests)],
        ["samples: the class asked for", percent(of_draws)],
        ["changed images: the new class", percent(as_new)],
        ["changed images: the old class", percent(as_old)],
    ],
)

# %% [markdown]
# A change of class succeeds about as often as a sample of that class does, and the old class hardly ever remains.
# Between T-shirts, pullovers, dresses, coats and shirts brightness is mostly kept, with a correlation above 0.7. (The
# samples stem from six latents and the changed images from ten, so their errors are larger than printed.)
#
# ### How much a label is worth
#
# How much likelihood can be gained from knowing $c$? Hardly any:
#
# ```{prf:proposition} The worth of a label
# :label: prop-label
#
# Let the $K$ classes be equally frequent, and $p(x) = \frac1K \sum_{c'} p(x \mid c')$. Then for every image and every
# $c$
#
# $$
# \log p(x \mid c) - \log p(x) \le \log K.
# $$ (eq:label)
# ```
#
# ```{prf:proof}
# No term of the sum is negative, so $p(x) \ge \frac1K\, p(x \mid c)$.
# ```
#
# So the label improves the score of the *same* model by at most $\log_2 10$ bits for a whole image. This also bounds
# the score of our conditional run without labels:

# %% tags=["hide-input"]
limit = math.log(K)
limit_bits = limit / nats_per_bit(model.image_shape)
told = told_run.score.bits_per_dim
most, behind = told + limit_bits, run.score.bits_per_dim - told
seeds = benchmark_results("seeds")[run.name].values()
of_seeds = [seed["bits_per_dim"] - told for seed in seeds]
others = ", ".join(f"{ahead:+.3f}" for ahead in of_seeds)
figures.show_table(
    ["quantity", "bits/dim"],
    [
        ["a label is worth at most", f"{limit_bits:.4f}"],
        ["the conditional run without labels, at most", f"{most:.3f}"],
        ["the run without classes minus the other", f"{behind:+.3f}"],
        ["the same, two other seeds, in float32", others],
    ],
)
assert behind > limit_bits
assert [seed["precision"] for seed in seeds] == ["fp32", "fp32"]
assert min(of_seeds) > limit_bits

# %% [markdown]
# All three differences are larger than a label is worth. So the conditional run is ahead even without labels. Its 4%
# more images, larger networks, mixture of ten flows, or its seed may explain this.
#
# How much of this bound does the model reach? We score the same test images, with the same noise,
# under every class.


# %%
def nats_of_classes(model, images, seed=0):
    """log p(x | c) for every c, (N, K) in nats, under the same noise."""
    columns = []
    for k in range(model.num_classes):
        given = Labelled(images, torch.full((len(images),), k))
        columns.append(-score_images(model, given, seed=seed))
    return torch.stack(columns, dim=1) * nats_per_bit(model.image_shape)


per_class = 100 if full else 12
within = torch.cat(
    [(test.labels == k).nonzero()[:per_class, 0] for k in range(K)]
)
images, labels = test.images[within], test.labels[within]
nats = nats_of_classes(conditional, images)
of_class = nats.gather(1, labels[:, None])[:, 0]
worth = of_class - (nats.logsumexp(dim=1) - limit)
wrong = (nats.sum(dim=1) - of_class) / (K - 1)
error = worth.std() / math.sqrt(len(worth))
print(f"the label is worth {worth.mean():.1f} ± {error:.1f} nats", end="")
print(f" of {limit:.1f} at most")
print(f"a wrong one costs {(of_class - wrong).mean():.0f} nats on average")

# %% tags=["remove-cell"]
assert worth.mean() > 0.2 * limit  # it does use the label
assert told_run.config.training == run.config.training
assert told_run.config.model == run.config.model.model_copy(
    update={"num_classes": K}
)
assert {round(each.record.minutes) for each in (run, told_run)} == {30}
assert round(told_run.record.images / run.record.images, 2) == 1.04

# %% [markdown]
# ### Bayes' rule
#
# The same ten numbers are a classifier. For equally frequent classes
#
# $$
# p(c \mid x) = \frac{p(x \mid c)}{\sum_{c'} p(x \mid c')},
# $$ (eq:bayes)
#
# and no classifier was trained.

# %%
posterior = nats.softmax(dim=1)
certainty, decided = posterior.max(dim=1)
right_ones = decided == labels

# %% tags=["hide-input"]
neighbours = as_class(images)
learned_from = told_run.record.trained_on
figures.show_table(
    [f"{len(labels)} test images", "right"],
    [
        ["chance", f"{1 / K:.0%}"],
        [
            f"nearest of {len(train):,} training images",
            percent(neighbours == labels),
        ],
        [
            f"Bayes' rule by Real NVP, after {learned_from:,}",
            percent(right_ones),
        ],
    ],
)
assert right_ones.double().mean() > 0.3

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How often an image of each class is taken for each of the ten by Bayes' rule, {eq}`eq:bayes`. Empty squares are 0%.", "name": "fig-confusion"}, "image": {"alt": "A square of ten by ten, dark along the diagonal with 83 to 100% in eight rows. Coats have 58%, and a quarter of them are taken for pullovers; boots have 67%, and the others are taken for sandals or sneakers."}}
confused = (K * labels + decided).bincount(minlength=K * K).view(K, K)
confused = confused.double() / per_class
drawing.plot_confusion(confused, FASHION_CLASSES)
plt.show()

# %% tags=["remove-cell"]
hits = dict(zip(FASHION_CLASSES, confused.diag().tolist(), strict=True))
if not full:
    assert set(sorted(hits, key=hits.get)[:2]) == {"coat", "boot"}
    assert abs(hits["coat"] - 0.58) < 0.01
    assert abs(hits["boot"] - 0.67) < 0.01
    assert sorted(hits.values())[2] > 0.83
    assert confused[4, 2] == 0.25  # coats taken for pullovers
    assert abs(confused[9, [5, 7, 9]].sum() - 1) < 1e-9  # boots

# %% [markdown]
# Coats (58%) and boots (67%) do worst on these twelve images a class. Is the rule also *calibrated*: right in nine of
# ten cases when it says nine tenths?

# %% tags=["hide-input"]
rows = []
for low, high in ((0, 0.999), (0.999, 1.01)):
    these = (certainty >= low) & (certainty < high)
    sure, good = certainty[these].mean(), right_ones[these].double().mean()
    assert sure - good > (0.2 if high < 1 else 0.01)
    span = f"{low} to {min(high, 1)}"
    rows.append([span, int(these.sum()), f"{sure:.1%}", f"{good:.0%}"])
every_sure, every_good = certainty.mean(), right_ones.double().mean()
assert every_sure > every_good + 0.05  # too sure of itself
rows.append(["all", len(labels), f"{every_sure:.1%}", f"{every_good:.0%}"])
header = ["probability of the class chosen", "images", "mean", "right"]
figures.show_table(header, rows)

# %% [markdown]
# No. Predictions below 99.9% are right far less often than they say, and those above are wrong in a few of a hundred
# cases. The log-odds of two classes are a difference of two sums over 784 dimensions, in which small errors may add up.
# The order of the classes is of use, the probabilities are not ({ref}`ex-temper`).
#
# ## Summary
#
# * Walks by {eq}`eq:manifold` stay where the prior has its mass. A straight line leaves it, and the model finds the
#   dark images there *more* probable.
# * The coarsest quarter of the latents decides which garment it is. The finer three quarters fill in details.
# * The weights decode latents of any size. Centred objects become cloth, since their layout depends on the border.
# * Another class changes the form. Between similar garments it mostly keeps brightness and pattern.
# * A label is worth $\log K$ nats at most, {eq}`eq:label`. By Bayes' rule the model classifies, but with too much
#   confidence.
#
# ## Exercises
#
# ```{exercise} Build a conditional flow
# :label: ex-conditional-moons
#
# The data are two half moons in the plane, and $c$ says which moon a point is from. Stack six layers
# `ConditionalCoupling` with alternating masks, write `log_prob(x, c)`, and train for 300 steps. Classify 1,000 new
# points by Bayes' rule. More than 97% must be right, and both densities must integrate to 1. (Let `moons` of chapter
# {ref}`coupling-layers` return its `sign`, too, and train inside `with torch.enable_grad():`.)
# ```
#
# ```{solution-start} ex-conditional-moons
# :class: dropdown
# ```
# The condition is a one-hot vector of two numbers, so a network has four inputs.


# %% tags=["hide-input"]
def moons(n):
    """Points of two half moons, (n, 2), and their moon, (n,)."""
    moon = torch.randint(2, (n,))
    angle, side = math.pi * torch.rand(n), 1 - 2 * moon
    x = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    return 1.5 * side[:, None] * x + 0.12 * torch.randn(n, 2), moon


class ConditionalFlow(nn.Module):
    def __init__(self):
        super().__init__()
        self.couplings = nn.ModuleList()
        for b in 3 * [*torch.eye(2)]:
            net = nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 4))
            self.couplings.append(ConditionalCoupling(net, b))

    def log_prob(self, x, c):
        total = 0.0
        for coupling in self.couplings:
            x, log_det = coupling(x, c)
            total = total + log_det
        prior = -0.5 * (x**2 + math.log(2 * math.pi)).sum(dim=1)
        return prior + total


torch.manual_seed(0)
both, one_hot = ConditionalFlow(), torch.eye(2)
optimiser = torch.optim.Adam(both.parameters(), lr=5e-3, fused=True)
with torch.enable_grad():
    for _ in range(300):
        x, moon = moons(256)
        loss = -both.log_prob(x, one_hot[moon]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

x, moon = moons(1000)
under = [both.log_prob(x, one_hot[k].expand(1000, 2)) for k in (0, 1)]
assert (torch.stack(under).argmax(dim=0) == moon).double().mean() > 0.97
plane = torch.cartesian_prod(*2 * [torch.linspace(-4, 4, 161)])
for c in one_hot:
    p = both.log_prob(plane, c.expand(len(plane), 2)).exp()
    assert abs(0.05**2 * p.sum() - 1) < 0.01

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} How long is a latent?
# :label: ex-norm
#
# In $D$ dimensions, how far from the origin are samples of $\mathcal N(0, I)$, and how much does that vary? What does
# this say about the middle of a straight line between two of them?
# ```
#
# ```{solution-start} ex-norm
# :class: dropdown
# ```
# $\lVert z \rVert^2$ has mean $D$ and variance $2D$. Its small changes, divided by $2 \sqrt D$, are those of
# $\lVert z \rVert$. So $\lVert z \rVert = \sqrt D$ up to about $\sqrt{2D} / (2 \sqrt D) = 1/\sqrt2$. The middle of a
# line is at about $\sqrt{D/2}$. By Chernoff's bound a sample is no longer than that with probability at most
# $(\sqrt e / 2)^{D/2}$, which for $D = 784$ is below $10^{-32}$.

# %% tags=["hide-input"]
dims = test.images[0].numel()
generator = torch.Generator().manual_seed(0)
pairs = torch.randn(2, 500, dims, generator=generator)
norms = pairs[0].norm(dim=1)
middle = pairs.mean(dim=0).norm(dim=1)
assert abs(norms.mean() - math.sqrt(dims)) < 0.2
assert abs(norms.std() - math.sqrt(0.5)) < 0.1
assert middle.max() < norms.min()
assert dims / 2 * math.log10(math.sqrt(math.e) / 2) < -32

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The other way round
# :label: ex-fine
#
# Keep the fine latents of an image, three quarters of its numbers, and sample the coarsest anew. What of the image
# survives?
# ```
#
# ```{solution-start} ex-fine
# :class: dropdown
# ```
# Almost nothing, not even how rough the garment is. The fine latents are details of what the coarse ones decide.

# %% tags=["hide-input"]
generator = torch.Generator().manual_seed(1)
drawn = [
    model.decode(model.flow.merge([*fine, anew(last)])).cpu() for _ in range(5)
]
distance, found = against(drawn[0], some)
assert found < 0.1
assert distance > 2 * measured["anew", "25%"][0]


def roughness(images):
    """Mean step between neighbours that are not black, (N,)."""
    x, total, count = images.float(), 0.0, 0.0
    for a, b in ((x[..., 1:], x[..., :-1]), (x.mT[..., 1:], x.mT[..., :-1])):
        lit = (a >= 8) & (b >= 8)
        total = total + ((a - b).abs() * lit).flatten(1).sum(dim=1)
        count = count + lit.flatten(1).sum(dim=1)
    return total / count.clamp(min=1)


def alike(images):
    """Correlation of the roughness with that of the originals."""
    pair = torch.stack([roughness(images), roughness(some)])
    return torch.corrcoef(pair)[0, 1]


assert alike(sheets["anew"]["25%"]) > 0.6
assert sum(map(alike, drawn)) / len(drawn) < 0.4
print(f"nearest is its own: {found:.0%}, distance {distance:.0f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} How far does a latent reach?
# :label: ex-latent-reach
#
# Decode one latent of 160 × 160 pixels twice. The second time, change one number in the middle of $z^{(1)}$ by 1;
# then do the same for $z^{(2)}$ and $z^{(3)}$. How far away does $x$ change by more than 0.002? Within how many
# pixels are nine tenths of the sum of all absolute changes? (`model.flow.inverse` decodes without rounding;
# `model.flow.split` and `merge` take latents apart and join them.)
# ```
#
# ```{solution-start} ex-latent-reach
# :class: dropdown
# ```
# Coarser latents reach further. Nine tenths of a change lie well inside its reach. From the middle of 28 × 28 pixels
# the coarsest latents reach every border.

# %% tags=["hide-input"]
generator = torch.Generator().manual_seed(0)
z = torch.randn(1, 1, 160, 160, generator=generator).to(device)
before, _ = model.flow.inverse(z)
index = (torch.arange(160) - 80).abs().to(device)
distance = torch.maximum(index[:, None], index)
reaches = []
for scale in range(model.config.num_scales):
    latents = [part.clone() for part in model.flow.split(z)]
    centre = latents[scale].shape[-1] // 2
    latents[scale][0, 0, centre, centre] += 1
    after, _ = model.flow.inverse(model.flow.merge(latents))
    change = (after - before)[0, 0].abs()
    at_all = int(distance[change > 2e-3].max())
    total = torch.stack([change[distance <= r].sum() for r in range(80)])
    most = int((total < 0.9 * change.sum()).sum())
    reaches.append((at_all, most))
    print(f"scale {scale + 1}: {at_all} pixels, nine tenths within {most}")
ends, cores = zip(*reaches, strict=True)
assert list(ends) == sorted(set(ends))
assert list(cores) == sorted(set(cores))
assert all(end > core for end, core in reaches)
assert ends[-1] >= 14  # from the middle of 28 x 28 to its border

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Less sure of itself
# :label: ex-temper
#
# Divide the ten log-likelihoods by a number $\tau > 0$ before Bayes' rule. Which decisions change?
# On one half of the images choose the $\tau$ with the greatest mean log-probability of the true
# class. Is the rule calibrated on the other half?
# ```
#
# ```{solution-start} ex-temper
# :class: dropdown
# ```
# No decision changes, since the order stays. The best $\tau$ is above 1: the differences in nats are too large. On
# the other half, of 60 images, no miscalibration then shows. Below 90%, above it, and over all, the mean probability is
# within 1.5 standard errors of the share that is right.

# %% tags=["hide-input"]
half = torch.arange(len(labels)) % 2 == 0
candidates = torch.logspace(-1, 2, 151, dtype=torch.double)
losses = [F.cross_entropy(nats[half] / t, labels[half]) for t in candidates]
tau = candidates[torch.stack(losses).argmin()]
assert tau > 1
softer = (nats[~half] / tau).softmax(dim=1).max(dim=1)
assert torch.equal(softer.indices, decided[~half])
share = right_ones[~half].double().mean()
sure, too_sure = softer.values.mean(), certainty[~half].mean()
assert abs(sure - share) < abs(too_sure - share)
error = (share * (1 - share) / len(softer.values)).sqrt()
assert abs(sure - share) < 1.5 * error
for these in (softer.values < 0.9, softer.values >= 0.9):
    said, hits = softer.values[these], right_ones[~half][these].double()
    spread = (said * (1 - said)).sum().sqrt() / len(said)
    assert full or abs(said.mean() - hits.mean()) < 1.5 * spread
print(f"tau = {tau:.0f}: sure to {sure:.0%},", end=" ")
print(f"right in {share:.0%} ± {error:.0%}")

# %% [markdown]
# ```{solution-end}
# ```
