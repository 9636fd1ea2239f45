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
# ```{admonition} In the paper
# Figure 6 and equation 19 of {cite:t}`dinh2017realnvp` (the manifold of four images), and its appendices C
# (extrapolation), D (what the latents hold) and F (changing attributes).
# ```
#
# A flow gives each image a latent, exactly, and each latent an image. So one can take latents apart, mix them, enlarge
# them, decode them under another name, and look. This chapter does so with the recorded models of chapter
# {ref}`results`.
#
# We had no print of the appendices. What is said of them here stems from the main text, from the first author's
# page of pictures {cite}`dinh2016page` and from the authors' code {cite}`dinh2016code`; what none of them says is
# marked *unverified*.

# %% tags=["parameters"]
profile = "laptop"

# %%
import itertools
import math

import matplotlib.pyplot as plt
import torch
from nvp_book import figures
from nvp_book.figures import latents as drawing
from nvp_book.figures import samples as pictures
from nvp_book.selection import best_models, best_runs, data_title, images_for

from nvp import RealNVP
from nvp.data import FASHION_CLASSES
from nvp.devices import pick_device
from nvp.likelihood import nats_per_bit, score_images
from nvp.model.labels import Labelled
from nvp.tables.build import runs

figures.use_style()
torch.set_num_threads(1)  # sums in one order, however many cores
torch.set_grad_enabled(False)
full = profile == "paper"
device = pick_device("auto" if full else "cpu")

ledger = {
    name: run
    for name, run in runs().items()
    if run.config.model.family == "realnvp"
}
best, models, kind, train, test = best_models(ledger, device, full=full)
run, model = best[kind], models[kind]

# %% [markdown]
# ## The manifold of four images
#
# Since $f$ is a bijection, every image has a latent, and decoding it gives the image back. (Up to the noise:
# what is decoded is $x + u$, and rounding down recovers $x$.)

# %%
few = test.images[:20].to(device)
z = model.encode(few, torch.Generator().manual_seed(0))
exact = (model.decode(z) == few).double().mean().item()
assert exact > 0.999
print(f"{exact:.1%} of the pixels come back exactly")

# %% [markdown]
# Take four images and their latents $z_1, \dots, z_4$. The paper walks between them on
#
# $$
# z(\phi, \phi') = \cos\phi \,\bigl(\cos\phi'\, z_1 + \sin\phi'\, z_2\bigr)
#   + \sin\phi \,\bigl(\cos\phi'\, z_3 + \sin\phi'\, z_4\bigr),
# $$ (eq:manifold)
#
# its equation 19. Why circles, not straight lines? The squares of the four coefficients sum to
# $(\cos^2\phi + \sin^2\phi)(\cos^2\phi' + \sin^2\phi') = 1$. If the $z_i$ are independent and
# $\mathcal N(0, I)$, then $z(\phi, \phi')$ is $\mathcal N(0, I)$, too, for every pair of angles: it stays where the prior expects
# latents to be. The middle of a straight line between two
# of them has only half the variance, and the mean of all four a quarter.


# %%
def on_manifold(z1, z2, z3, z4, phi, psi):
    """Equation 19; phi and psi are the paper's two angles."""
    return math.cos(phi) * (math.cos(psi) * z1 + math.sin(psi) * z2) + (
        math.sin(phi) * (math.cos(psi) * z3 + math.sin(psi) * z4)
    )


generator = torch.Generator().manual_seed(0)
noise = torch.randn(4, 10_000, generator=generator)
right = math.pi / 2
for i, angles in enumerate([(0, 0), (0, right), (right, 0), (right, right)]):
    assert torch.allclose(on_manifold(*noise, *angles), noise[i], atol=1e-6)
circle = on_manifold(*noise, math.pi / 4, math.pi / 4).var()
line = noise.mean(dim=0).var()
assert abs(circle - 1) < 0.05
assert abs(line - 1 / 4) < 0.05
print(
    f"variance halfway: {circle:.2f} on the manifold, {line:.2f} by the mean"
)


# %% [markdown]
# The grid is that of the official code {cite}`dinh2016code`: both angles run through eight steps of a full turn. So there are
# also the antipodes $-z_i$, which are latents of none of the four. Where no test images are at hand, the
# four corners are latents drawn from the prior.


# %%
def four_latents(kind):
    """Latents of four test images, or from the prior."""
    model, images = models[kind], images_for(best[kind], "test", full=full)
    generator = torch.Generator().manual_seed(11)
    if images is None:
        z = torch.randn(4, *model.image_shape, generator=generator)
        return z.to(device)
    four = images.images[torch.arange(4) * len(images) // 4 + 47]
    return model.encode(four.to(device), generator)


angles = [k * 2 * math.pi / 8 for k in range(8)]
grids = {}
for kind_of, one_model in models.items():
    corners = four_latents(kind_of)
    points = [on_manifold(*corners, a, b) for a in angles for b in angles]
    decoded = one_model.decode(torch.stack(points)).cpu()
    grids[data_title(kind_of)] = decoded

# %% mystnb={"figure": {"caption": "After figure 6 of {cite:t}`dinh2017realnvp`: the manifold {eq}`eq:manifold` of four latents, $\\phi$ downwards and $\\phi'$ to the right, each from 0 to a full turn. The four are marked: test images where they are at hand, else samples.", "name": "fig-manifold"}, "image": {"alt": "Square grids of eight by eight images. Four near the upper left are marked 1 to 4; between them the images change gradually, through mixtures, from one to the next."}}
pictures.draw_manifolds(
    grids, {(0, 0): "1", (0, 2): "2", (2, 0): "3", (2, 2): "4"}
)
plt.show()

# %% [markdown]
# ### Between two images
#
# Two images are enough to see what the circle is good for. With $z_3 = z_4 = 0$ and $\phi = 0$, {eq}`eq:manifold` is a
# quarter of a circle from $z_1$ to $z_2$. Beside it go the straight line, $(1 - t) z_1 + t z_2$, and the fade from
# one image to the other, pixel by pixel, which needs no model. We decode seven steps of each way and *score* what comes
# out, as if it were an image that we found: the model says what each step is worth to it.

# %%
count, steps = (64 if full else 12), 7
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
ends = walks["circle"][[0, -1]]
assert (ends == torch.stack([first, second])).double().mean() > 0.999

# %% mystnb={"figure": {"caption": "Walks between the first two pairs of test images, each step under its bits/dim. (The paper shows walks on the circle only.)", "name": "fig-walks"}, "image": {"alt": "Six rows of seven images. On the circle a boot turns into a sneaker, and a pullover with letters into a dress, through images as bright as the ends; on the line everything between the ends is darker; in the fade both garments are seen through each other."}}
drawing.draw_walks(
    {
        f"{name}, {pair + 1}": (images[:, pair], bits[name][:, pair])
        for pair in range(2)
        for name, images in walks.items()
    }
)
plt.show()

# %% mystnb={"figure": {"caption": "Along the ways of all pairs: the mean square of a latent, and the bits/dim of what it decodes to, with standard errors over pairs. (No figure in the paper.)", "name": "fig-along"}, "image": {"alt": "Left: the mean square stays near 1 on the circle and falls to a half in the middle of the line. Right: bits per dimension over the same ways; above both ends for the fade, a little above for the circle, far below for the line."}}
means = {name: b.mean(dim=1) for name, b in bits.items()}
errors = {name: b.std(dim=1) / math.sqrt(count) for name, b in bits.items()}
squares = {
    name: torch.stack([z.square().mean() for z in points]).cpu()
    for name, points in ways.items()
}
drawing.draw_along(
    shares, squares, {name: (means[name], errors[name]) for name in means}
)
plt.show()

# %%
middle = steps // 2
between = (means["circle"][0] + means["circle"][-1]) / 2
assert abs(squares["circle"][middle] - 1) < 0.1
assert abs(squares["line"][middle] - 0.5) < 0.1
assert means["line"][middle] < between - 0.2
assert abs(means["circle"][middle] - between) < 0.5
assert means["fade"][middle] > means["circle"][middle] + 0.3
figures.show_table(
    ["bits/dim", "mean of the ends", "halfway"],
    [[n, f"{between:.2f}", f"{m[middle]:.2f}"] for n, m in means.items()],
)

# %% [markdown]
# The line is not punished: to the model its middle is, on average, *more* probable than the images at its ends. Look
# at what it is: dark and smooth. A density can be highest where no image ever is. On the circle the bits stay near
# those of the ends, and the fade, which ignores the model, is dearest.
#
# In 784 dimensions the prior is a shell: the length of $z$ is $\sqrt D$, give or take a little
# ({ref}`ex-norm`). The latents of test images are in it or near it, more widely spread than they should be, and what is halfway on a line is
# outside, nearer to the origin.

# %% mystnb={"figure": {"caption": "Lengths of latents, as shares of $\\sqrt D$. (No figure in the paper.)", "name": "fig-lengths"}, "image": {"alt": "Four histograms. The prior is a narrow peak at 1; latents of test images lie around 1 and are spread more widely, as are the points halfway on circles; the points halfway on lines lie near 0.7."}}
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
drawing.draw_lengths(lengths)
plt.show()

assert abs(lengths["test images"].mean() - 1) < 0.05
assert lengths["test images"].std() > 1.5 * lengths["prior"].std()
assert lengths["halfway on lines"].mean() < lengths["prior"].min()

# %% [markdown]
# ## Scale by scale
#
# Trained well, $f$ makes the data Gaussian. Each scale of the model factors out its share of the latents
# (chapter {ref}`multi-scale`); we can ask how close to $\mathcal N(0, I)$ they are at each scale. Of all latents of a
# scale together we take the variance; and of the mean square of the latents of *one* image, how much it varies from
# image to image. Under the prior the latter is $\sqrt{2 / D_k}$ for $D_k$ dimensions.

# %%
by_scale = model.latents_by_scale(z)
named = {
    f"$z^{{({i})}}$, {latents[0].numel()} dimensions": latents
    for i, latents in enumerate(by_scale, start=1)
}
rows = []
for name, latents in named.items():
    squares = latents.flatten(1).square().mean(dim=1)
    prior = math.sqrt(2 / latents[0].numel())
    cells = [f"{latents.var():.2f}", f"{squares.std():.2f}", f"{prior:.2f}"]
    rows.append([name, *cells])
    assert latents.mean().abs() < 0.1
    assert abs(latents.var() - 1) < 0.1
    assert squares.std() > prior
header = ["latents of test images", "variance", "from image to image", "prior"]
figures.show_table(header, rows)

# %% mystnb={"figure": {"caption": "All latents of test images, finest scale first, and the density of the prior. (No figure in the paper.)", "name": "fig-latents"}, "image": {"alt": "A histogram for each scale, close to a bell curve drawn over it."}}
pictures.draw_latent_histograms(named)
plt.show()

# %% [markdown]
# As one heap the latents nearly pass for Gaussian at every scale. Image by image they do not: some images get latents that
# are too long, others too short. A well-shaped histogram is a weak test.
#
# ### What survives
#
# And what do they *mean*? Appendix D keeps the coarse latents of an image and draws the fine ones
# anew, ever more of them: what survives is what the coarse ones hold. The paper's 64 × 64 models have five scales,
# and keep 100, 50, 25, 12.5 and 6.25% of the dimensions. Ours has three. After 25% there is no further scale; we go
# on by maps, of which the last has four, and keep two, one and none of them. The authors' code also makes a second
# sheet, in which latents are set to zero and not drawn anew {cite}`dinh2016code`.

# %%
generator = torch.Generator().manual_seed(0)
some = test.images[torch.arange(30) * 97 % len(test)]
*fine, last = model.latents_by_scale(model.encode(some.to(device), generator))
parts = [*fine, *last.split([2, 1, 1], dim=1)]  # finest first


def decode_from(first, fill):
    """Decode with the parts before number `first` replaced by fill's."""
    mixed = [fill(part) for part in parts[:first]] + parts[first:]
    last = torch.cat(mixed[len(fine) :], dim=1)
    return model.decode(model.flow.merge([*mixed[: len(fine)], last])).cpu()


def anew(part):
    return torch.randn(part.shape, generator=generator).to(part)


sizes = [part[0].numel() for part in parts]
names = [f"{100 * sum(sizes[i:]) / sum(sizes):.4g}%" for i in range(6)]
sheets = {
    how: {name: decode_from(i, fill) for i, name in enumerate(names)}
    for how, fill in (("anew", anew), ("zero", torch.zeros_like))
}
for rows in sheets.values():
    assert (rows["100%"] == some).double().mean() > 0.999

# %% mystnb={"figure": {"caption": "After appendix D of {cite:t}`dinh2017realnvp`: test images decoded with that share of their latents kept, the coarsest ones, and the others drawn anew. The first row is the images themselves; in the last nothing of them is left.", "name": "fig-kept"}, "image": {"alt": "Rows of six images. At 50 and 25 percent they are the same garments with other textures; at 12.5 percent most are no longer to be recognised, and at 0 percent they are unrelated."}}
pictures.draw_rows({name: x[:6] for name, x in sheets["anew"].items()})
plt.show()

# %% mystnb={"figure": {"caption": "The same with the other latents set to zero. (Made by the authors' code; whether appendix D shows it is *unverified*.)", "name": "fig-zeroed"}, "image": {"alt": "Rows of six images. With fewer latents kept they become smooth and dark; in the last row all are the same dim, upright shape."}}
pictures.draw_rows({name: sheets["zero"][name][:6] for name in names[1:]})
plt.show()

# %% [markdown]
# A measure for "recognised": of all these test images, is the nearest one its own? (Distances are root mean squares, in
# grey levels.)


# %%
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
header = [
    "kept",
    "anew: distance",
    "anew: own nearest",
    "zero: distance",
    "zero: own nearest",
]
figures.show_table(header, rows)

assert measured["anew", "25%"][1] > 0.8
assert measured["anew", "12.5%"][1] < 0.5
assert measured["anew", "0%"][1] < 0.2

# %% [markdown]
# Three quarters of the latents, those of the two finer scales, hold textures, edges and small parts; the coarsest quarter
# holds which garment it is and where its parts are. On the way from 25% to 12.5% the image is lost. That is
# steeper than what the paper's author reports, a very gradual degradation over five scales {cite}`dinh2016page`; but there each step
# is a scale, and our last ones are not. Whether the coarsest latents hold meaning or only the layout of light and dark,
# these pictures cannot tell. (What appendix D concludes we could not read: *unverified*.)
#
# Zeros are not neutral. As on the straight line they put $z$ nearer to the origin, and the image goes smooth and dark, which is
# why its own original is so rarely the nearest one; with nothing kept, all images are $g(0)$.
#
# ## Larger images
#
# The networks are convolutions, and masks and squeezes fit any size that halves often enough. So the
# weights of the 28 × 28 model also decode latents of 56 × 56 or 280 × 280; `decode` takes them as they are. A model
# of that size, to encode and to score, is another configuration with the same weights. Appendix C shows samples two and ten times as large as the training images. They look like a
# *texture* of the data set, rather than a larger image of its kind, and this works best for backgrounds, such as the categories of LSUN
# {cite}`dinh2016page`. Fashion-MNIST is the opposite of a texture: one object, in the middle of an empty image. What will come out?

# %%
factor = 2 ** (model.config.num_scales - 1)
generator = torch.Generator().manual_seed(2)


def larger(count, times):
    """Samples that are so many times as high and wide as the data."""
    channels, height, width = model.image_shape
    shape = (count, channels, times * height, times * width)
    return model.decode(torch.randn(shape, generator=generator)).cpu()


drawn = {1: larger(60, 1), 2: larger(16, 2), 10: larger(1, 10)}
assert drawn[10].shape[2:] == (280, 280)

config = model.config.model_copy(update={"image_shape": (1, 56, 56)})
wide = RealNVP(config).to(device).eval()
wide.load_state_dict(model.state_dict())
z = wide.encode(drawn[2][:4].to(device), generator)
assert (model.decode(z).cpu() == drawn[2][:4]).double().mean() > 0.999

# %% mystnb={"figure": {"caption": "After appendix C of {cite:t}`dinh2017realnvp`: samples at the size of training, at twice that size, and the upper left quarter of one at ten times that size; by the same weights and to one scale. None is chosen.", "name": "fig-larger"}, "image": {"alt": "Left, small samples, some like garments. Middle, samples of twice the size: one large patch of cloth each, with a black margin and holes. Right, the corner of one of ten times the size: a sheet of cloth with small holes, and a thin black margin along the border above and on the left."}}
drawing.draw_to_scale(
    {
        "28 × 28": (drawn[1][:12], 3),
        "56 × 56": (drawn[2][:4], 2),
        "a quarter of 280 × 280": (drawn[10][..., :140, :140], 1),
    }
)
plt.show()

# %% [markdown]
# Cloth. Not a large garment, nor many small ones: one piece without end, with holes, and around it a black margin, which is
# where it always was. How does a convolution, which is the same everywhere, know where the margin belongs? By the zeros with which it pads:
# next to the border it sees some, in the middle it does not. At 28 × 28 nothing is far from the border and all of the layout
# can hang on it. We can measure how much does. The share of black pixels by their distance from the border:


# %%
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

# %% mystnb={"figure": {"caption": "The share of black pixels over the distance from the border. (No figure in the paper.)", "name": "fig-border"}, "image": {"alt": "Four curves fall together from above 0.8 at the border to about 0.1 at ten pixels; those of larger samples stay low from there on."}}
drawing.draw_border(black)
plt.show()

sizes = list(black.values())
near = torch.stack([share[:14] for share in sizes])
assert (near[1:] - near[0]).abs().max() < 0.3
assert sizes[-1][14:].mean() < 0.15

# %% [markdown]
# The samples of all sizes agree with the test images about the margin, and what lies further in than the middle of a
# training image goes on as its middle. And far from the border position is nothing at all: shift the latents, and the image shifts with them, pixel for pixel, up to a grey level of rounding. (By
# multiples of 4 along a diagonal, as here, or of 8 along an axis: the coarsest scale is reached by halving twice, and
# its checkerboard must fall on itself.)

# %%
z = torch.randn(1, 1, 116, 116, generator=generator)
here = model.decode(z[..., :112, :112]).cpu()[..., factor:, factor:]
there = model.decode(z[..., factor:, factor:]).cpu()[..., :-factor, :-factor]
agree = ((here.int() - there.int()).abs() <= 1).double()[0, 0]
inner = agree[40:-40, 40:-40].mean()
outer = torch.cat([agree[:4].flatten(), agree[-4:].flatten()]).mean()
assert inner > 0.99
assert outer < 0.5
print(f"pixels that shift along: {inner:.0%} inside, {outer:.0%} at the edge")

# %% [markdown]
# One more picture makes the point. The authors' code also lays the latents of several images side by side, and decodes them as one
# large latent. Were the latents local and the same everywhere, the images would come back side by side.


# %%
def two_by_two(x):
    """(4n, C, H, W) -> (n, C, 2H, 2W): images or latents, side by side."""
    n, (channels, height, width) = len(x) // 4, x.shape[1:]
    parts = x.reshape(n, 2, 2, channels, height, width)
    return parts.permute(0, 3, 1, 4, 2, 5).reshape(n, channels, 2 * height, -1)


several = test.images[: 400 if full else 48]
z = model.encode(several[:4].to(device), torch.Generator().manual_seed(0))
mosaics, decoded = two_by_two(several), model.decode(two_by_two(z)).cpu()
assert torch.equal(mosaics[0, :, :28, 28:], several[1])
assert (decoded == mosaics[:1]).double().mean() < 0.5

# %% mystnb={"figure": {"caption": "Four test images, and what their latents decode to, side by side as one. (Made by the authors' code, not shown in the paper.)", "name": "fig-mosaic"}, "image": {"alt": "Left, a boot, a pullover and two pairs of trousers on black. Right, one large garment that has their outlines along the outer border only; where there was black between the four there is cloth."}}
drawing.draw_to_scale(
    {
        "images side by side": (mosaics[:1], 1),
        "latents side by side": (decoded, 1),
    },
    part=0.7,
)
plt.show()

# %% [markdown]
# And what does the likelihood say? The same weights score images of 56 × 56:

# %%
of_size = {
    f"{len(several)} test images, alone": score_images(model, several),
    "the same, four to an image": score_images(wide, mosaics),
    "samples of 28 × 28": score_images(model, drawn[1][:30]),
    "samples of 56 × 56": score_images(wide, drawn[2]),
}
alone, together, small, large = (s.mean() for s in of_size.values())
assert abs(together - alone) < 0.2
assert large > together + 0.5
rows = []
for name, s in of_size.items():
    error = s.std() / math.sqrt(len(s))
    rows.append([name, f"{s.mean():.2f}", f"{error:.2f}"])
figures.show_table(["scored", "bits/dim", "±"], rows)

# %% [markdown]
# Four garments on black cost hardly more together than one by one, and much less than the cloth which the model itself draws at
# this size. So the likelihood on the larger format is not absurd: most of what it adds up is local, and locally the garments are right. But the
# model does not draw them. A score can be good where samples are not (chapter {ref}`results`).
#
# ## Told the class
#
# Appendix F makes the model **conditional**: $f$ and $g$ are told attributes $y$ of the image, so that for every $y$ there is a flow of its
# own, with shared weights:
#
# $$
# \log p(x \mid y) = \log p_Z\bigl(f(x; y)\bigr) + \log\left|\det \frac{\partial f(x; y)}{\partial x^{\mathsf T}}\right|.
# $$ (eq:conditional)
#
# Nothing of the earlier chapters changes, for $y$ enters where everything is allowed: in $s$ and $t$, which may be any functions of what a
# coupling keeps, and of whatever else is known in both directions. *How* it enters the paper's networks is unverified, and the
# authors' code has no such model. Here $y$ is appended to the input of each network, as maps that are constant over the image; for
# a class they are all 0 but one, which is 1. (Of the model's
# configuration, `num_classes: 10` is the only line that differs from the unconditional run.)
#
# The paper has CelebA and its forty attributes, we have Fashion-MNIST and its ten classes {cite}`xiao2017fashion`. The labels are part of
# the published files, and `nvp.data.load` returns them with the images; the embedded set has them, too, a hundred
# test images for each class.

# %%
K = len(FASHION_CLASSES)
classes = {name: run.config.model.num_classes for name, run in ledger.items()}
told = {name: run for name, run in ledger.items() if classes[name]}
told_run = best_runs(told)[kind]
conditional = told_run.load_model(str(device))
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
# (How many images a run has seen is one reason for a difference. What the label has to do with it is asked below.)
#
# ### Draws by class
#
# In each row one and the same $z$ is decoded under all ten classes.

# %% mystnb={"figure": {"caption": "Samples of the conditional model at $T = 1$: a column for each class, a row for each $z$. None is chosen. (No figure in the paper's main text.)", "name": "fig-by-class"}, "image": {"alt": "Three rows of ten images. Columns show garments of their class, some of them ragged; pullovers, coats and shirts look alike. Within a row brightness and blemishes recur from class to class."}}
generator = torch.Generator().manual_seed(0)
z = torch.randn(6, *conditional.image_shape, generator=generator)
y = torch.arange(K)
drawn = [conditional.decode(one.expand(K, -1, -1, -1), labels=y) for one in z]
drawn = [images.cpu() for images in drawn]
drawing.draw_by_class(drawn[:3], FASHION_CLASSES)
plt.show()

# %% [markdown]
# The class sets the form. What is left to $z$ runs along the rows: how light the garment is, its pattern, how ragged it
# comes out. Pullovers, coats and shirts come out nearly alike.
#
# ### Changing attributes
#
# Now with the latents of real images. Encode $x$ under its class $y$, decode under another, $y'$:
#
# $$
# x' = g\bigl(f(x; y); y'\bigr).
# $$ (eq:attributes)
#
# With $y' = y$ the image comes back. The main text announces such a model of CelebA. What the pictures of appendix F show is
# *unverified*: the attribute changes, we believe, while pose and background stay.

# %%
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

# %% mystnb={"figure": {"caption": "After appendix F of {cite:t}`dinh2017realnvp`, with classes for attributes: the first test image of five of the classes, encoded under its own class (framed) and decoded under each of the ten, {eq}`eq:attributes`.", "name": "fig-attributes"}, "image": {"alt": "Five rows of ten images; in each one is framed, a test image. Along a row a garment turns into others of about the same brightness. Letters on a pullover stay on the T-shirt, the dress, the coat and the shirt made from it, and are lost in shoes and bags. Clothes made from a sandal or a boot are dark and ragged."}}
five = [0, 2, 3, 5, 9]
of_five = [changed[k] for k in five]
drawing.draw_by_class(of_five, FASHION_CLASSES, marked=five)
plt.show()

# %% [markdown]
# The letters on the pullover stay where they are on a T-shirt, a dress, a coat and a shirt, which have a chest to write on. Shoes
# have none, and there they are lost. Clothes made from clothes are mostly good ones, those made from a sandal or a boot are dark
# rags: the same latents mean other things under another class. To count: what is a changed image taken for by its nearest
# training image? The yardsticks are test images, and the draws above.


# %%
def as_class(images):
    """The class of the nearest training image, (N,)."""
    apart = torch.cdist(
        images.flatten(1).float(), train.images.flatten(1).float()
    )
    return train.labels[apart.argmin(dim=1)]


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


y_new = torch.arange(K).repeat(K)
y_old = torch.arange(K).repeat_interleave(K)
other = y_new != y_old
every = torch.cat(changed)
taken_for = as_class(every)[other]
as_new, as_old = taken_for == y_new[other], taken_for == y_old[other]
of_draws = as_class(torch.cat(drawn)) == torch.arange(K).repeat(len(drawn))
of_tests = as_class(test.images[:1000]) == test.labels[:1000]
assert as_new.sum() > 3 * as_old.sum()
figures.show_table(
    ["taken for", "share"],
    [
        ["test images: their class", percent(of_tests)],
        ["draws: the class asked for", percent(of_draws)],
        ["changed images: the new class", percent(as_new)],
        ["changed images: the old class", percent(as_old)],
    ],
)
light = torch.stack([brightness(images)[y_old], brightness(every)])
alike = torch.corrcoef(light[:, other])[0, 1]
assert alike > 0.4
print(f"correlation of brightness, before and after: {alike:.1f}")

# %% [markdown]
# So the change succeeds about as often as a draw does, the old class hardly ever remains, and brightness is handed on. (The changed
# images stem from ten latents, and are not independent: their errors are larger than the table says.)
#
# ### What a label is worth
#
# How much likelihood is there to be gained from knowing $y$? Hardly any:
#
# ```{prf:proposition} The worth of a label
# :label: prop-label
#
# Let the $K$ classes be equally frequent, and $p(x) = \frac1K \sum_{y'} p(x \mid y')$. Then for every image and every $y$
#
# $$
# \log p(x \mid y) - \log p(x) \le \log K.
# $$ (eq:label)
# ```
#
# ```{prf:proof}
# No term of the sum is negative, so $p(x) \ge \frac1K\, p(x \mid y)$.
# ```
#
# So of one model, the figure given the label is better than the one without by at most $\log_2 10$ bits for a whole image.
# And that bounds what our conditional run scores as a model of images alone, $p(x)$:

# %%
limit = math.log(K)
limit_bits = limit / nats_per_bit(model.image_shape)
at_most = told_run.score.bits_per_dim + limit_bits
behind = run.score.bits_per_dim - told_run.score.bits_per_dim
most = "more than" if behind > limit_bits else "no more than"
print(f"a label is worth at most {limit_bits:.4f} bits/dim")
print(f"without labels, the conditional run scores at most {at_most:.3f}")
print(f"the other run minus it: {behind:+.2f}, {most} a label can be worth")

# %% [markdown]
# A difference that is larger than that has other reasons. The images that each run has seen are in the table above, and
# {numref}`fig-curves` has the curves.
#
# To maximum likelihood the class of an image is a detail, a few bits among thousands, and a model that ignored it would
# lose no more. How much did this one take? We score the same test images, with the same noise, under every class.

# %%
per_class = 100 if full else 12
within = torch.stack(
    [(test.labels == k).nonzero()[:per_class, 0] for k in range(K)]
)
images, labels = (
    part[within.flatten()] for part in (test.images, test.labels)
)


@torch.no_grad()
def nats_of_classes(model, images, seed=0):
    """log p(x | y) for every y, (N, K) in nats, under the same noise."""
    columns = []
    for k in range(model.num_classes):
        given = Labelled(images, torch.full((len(images),), k))
        columns.append(-score_images(model, given, seed=seed))
    return torch.stack(columns, dim=1) * nats_per_bit(model.image_shape)


nats = nats_of_classes(conditional, images)
of_class = nats.gather(1, labels[:, None])[:, 0]
of_image = nats.logsumexp(dim=1) - limit
worth = of_class - of_image
assert worth.mean() > 0.2 * limit  # it does use the label
others = (nats.sum(dim=1) - of_class) / (K - 1)
print(f"the label is worth {worth.mean():.1f} of {limit:.1f} nats at most")
print(f"a wrong one costs {(of_class - others).mean():.0f} nats on average")

# %% [markdown]
# ### Bayes' rule
#
# Turned round, the same ten numbers are a classifier. With equal priors
#
# $$
# p(y \mid x) = \frac{p(x \mid y)}{\sum_{y'} p(x \mid y')},
# $$ (eq:bayes)
#
# and nothing was trained for it. We classify these images, and compare with the class of the nearest training image.

# %%
posterior = nats.softmax(dim=1)
certainty, decided = posterior.max(dim=1)
right_ones = decided == labels
neighbours = as_class(images)
ahead = right_ones.double() - (neighbours == labels).double()
error = ahead.std() / math.sqrt(len(ahead))
figures.show_table(
    [f"{len(labels)} test images", "right"],
    [
        ["chance", f"{1 / K:.0%}"],
        [
            f"nearest of {len(train):,} training images",
            percent(neighbours == labels),
        ],
        ["Real NVP by Bayes' rule", percent(right_ones)],
        ["the rule minus neighbour", f"{ahead.mean():+.0%} ± {error:.0%}"],
    ],
)
assert right_ones.double().mean() > 0.3

# %% mystnb={"figure": {"caption": "How often an image of each class is taken for each of the ten. (No figure in the paper.)", "name": "fig-confusion"}, "image": {"alt": "A square of ten by ten, dark along the diagonal. Off it there is little, the most in the rows of coats and shirts."}}
confused = torch.zeros(K, K, dtype=torch.double)
confused.index_put_(
    (labels, decided), torch.tensor(1 / per_class).double(), accumulate=True
)
drawing.draw_confusion(confused, FASHION_CLASSES)
plt.show()

# %% [markdown]
# Coats and shirts are the hardest. Is it also *calibrated*: right in nine of ten cases when it gives nine tenths? The images by
# the probability of the class that was chosen:

# %%
rows = []
edges = (0, 0.9, 0.999, 1.01)
for low, high in itertools.pairwise(edges):
    these = (certainty >= low) & (certainty < high)
    sure, good = certainty[these].mean(), right_ones[these].double().mean()
    assert high != 0.999 or sure - good > 0.2
    span = f"{low} to {min(high, 1)}"
    rows.append([span, int(these.sum()), f"{sure:.1%}", f"{good:.0%}"])
every_sure, every_good = certainty.mean(), right_ones.double().mean()
assert every_sure > every_good + 0.05  # too sure of itself
rows.append(["all", len(labels), f"{every_sure:.1%}", f"{every_good:.0%}"])
header = ["probability of the class chosen", "images", "mean", "right"]
figures.show_table(header, rows)

# %% [markdown]
# No. Where it is all but certain it is nearly always right; short of that it is far less often right than it says. Its numbers are
# differences of sums over 784 pixels, so that being slightly wrong about each adds up: see above what a wrong class costs. The order of
# the classes is of use, the probabilities are not ({ref}`ex-temper`). How often they are right, beside the nearest
# neighbour, is in the table above, with its error; by default the neighbour is sought among a part of the training images only.
# Classifiers that are trained to be ones do better on Fashion-MNIST {cite}`xiao2017fashion`.
#
# ## Summary
#
# * Latents are exact: an image is encoded and decoded without loss. Walks between images stay where the prior lives if they
#   follow {eq}`eq:manifold`; a straight line leaves it, and the model finds the dark images there *more* probable.
# * The coarsest quarter of the latents holds which garment it is, the finer three quarters how it looks from near.
# * The weights decode latents of any size. On centred objects that gives no larger object but cloth: layout hangs on the border.
# * A class enters by $s$ and $t$. Decoding under another class changes the form and hands on the light and, where there is room, the
#   pattern. A label is worth $\log K$ nats at most, {eq}`eq:label`; yet by Bayes' rule the model classifies, too surely.
#
# ## Exercises
#
# ```{exercise} How long is the walk?
# :label: ex-norm
#
# In $D$ dimensions, how far from the origin are samples of $\mathcal N(0, I)$, and how much does that vary? What does
# this say about the middle of a straight line between two of them?
# ```
#
# ```{solution-start} ex-norm
# :class: dropdown
# ```
# $|z|^2$ has mean $D$ and variance $2D$, so $|z| = \sqrt D$ up to about $1/\sqrt2$, whatever $D$. The middle of a line
# is at $\sqrt{D/2}$: for an image, a distance that no sample has ever had.

# %%
dims = test.images[0].numel()
generator = torch.Generator().manual_seed(0)
pairs = torch.randn(2, 500, dims, generator=generator)
norms = pairs[0].norm(dim=1)
middle = pairs.mean(dim=0).norm(dim=1)
assert abs(norms.mean() - math.sqrt(dims)) < 0.2
assert abs(norms.std() - math.sqrt(0.5)) < 0.1
assert middle.max() < norms.min()
print(f"|z| = {norms.mean():.0f}, halfway {middle.mean():.0f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The other way round
# :label: ex-fine
#
# Keep the fine latents of an image, three quarters of its numbers, and draw the coarsest anew. What of the image survives?
# ```
#
# ```{solution-start} ex-fine
# :class: dropdown
# ```
# Nothing to speak of. The share of the dimensions is a poor measure of what is in them.

# %%
generator = torch.Generator().manual_seed(1)
coarse_anew = model.flow.merge([*fine, anew(last)])
distance, found = against(model.decode(coarse_anew).cpu(), some)
assert found < 0.3
assert distance > 2 * measured["anew", "25%"][0]
print(f"nearest is its own: {found:.0%}, distance {distance:.0f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} How far does a latent reach?
# :label: ex-latent-reach
#
# Decode one large latent twice, the second time with one number of $z^{(1)}$ changed by 1; likewise for $z^{(2)}$ and
# $z^{(3)}$. How far away does $y$, before the logit is undone, change at all, and within how many pixels is nine tenths of
# the change?
# ```
#
# ```{solution-start} ex-latent-reach
# :class: dropdown
# ```
# Coarser latents reach further, and all of them much further than they matter. From the middle of 28 × 28 pixels the
# coarsest reach every border, which is how the layout can be theirs.

# %%
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
    at_all = int(distance[change > 1e-4].max())
    total = torch.stack([change[distance <= r].sum() for r in range(80)])
    most = int((total < 0.9 * change.sum()).sum())
    reaches.append(most)
    print(f"scale {scale + 1}: {at_all} pixels, nine tenths within {most}")
assert reaches == sorted(reaches)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Less sure of itself
# :label: ex-temper
#
# Divide the ten log-likelihoods by a number $\tau$ before Bayes' rule. Which decisions change? Choose $\tau$ on one half of the images so that
# their classes are as probable as can be; is the rule then as sure as it is right, on the other half?
# ```
#
# ```{solution-start} ex-temper
# :class: dropdown
# ```
# None, as the order stays. A $\tau$ of several says how far the nats exaggerate; on the other half the rule is then much nearer to being
# as sure as it is right.

# %%
half = torch.arange(len(labels)) % 2 == 0
candidates = torch.logspace(0, 2, 101, dtype=torch.double)
losses = [
    torch.nn.functional.cross_entropy(nats[half] / tau, labels[half])
    for tau in candidates
]
tau = candidates[torch.stack(losses).argmin()]
softer = (nats[~half] / tau).softmax(dim=1).max(dim=1)
assert torch.equal(softer.indices, decided[~half])
share = right_ones[~half].double().mean()
sure, too_sure = softer.values.mean(), certainty[~half].mean()
assert abs(sure - share) < abs(too_sure - share)
print(f"tau = {tau:.0f}: sure to {sure:.0%}, right in {share:.0%}")

# %% [markdown]
# ```{solution-end}
# ```
