# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (results)=
# # Results and samples
#
# ```{admonition} In the paper
# Section 4 of {cite:t}`dinh2017realnvp`: table 1 (likelihoods), figure 5 (samples), figure 6 and
# equation 19 (the latent manifold), and appendix D (what the latents hold).
# ```
#
# What did the model learn, and how well? This chapter reads the **ledger**: a folder `results/runs/`
# with one entry for each recorded run, which holds its configuration, its curve, its scores, its
# weights, and the machine and commit that made it. Nothing below was typed. A new run changes
# every table and picture here as soon as the chapter is executed again.

# %% tags=["parameters"]
profile = "laptop"

# %%
import math
import zlib

import matplotlib.pyplot as plt
import torch
from IPython.display import Markdown, display

from nvp import figures
from nvp.data import EMBEDDED, MissingData, load
from nvp.figures import samples as pictures
from nvp.likelihood import bits_per_dim, score_images
from nvp.results import published, runs, table_markdown
from nvp.scoring import load_run, score_probe
from nvp.train import pick_device

figures.use_style()
torch.set_num_threads(1)  # sums in one order, however many cores
full = profile == "paper"
device = pick_device("auto" if full else "cpu")

ledger = {
    name: run
    for name, run in runs().items()
    if run.config.model.family == "realnvp"
}
assert ledger, "the ledger is empty: make a run and `nvp record` it"

# %% [markdown]
# ## Likelihoods
#
# On images of 28 × 28 the paper has no figures. Others have run Real NVP and its relatives on
# MNIST, and these are the yardsticks:

# %%
display(Markdown(table_markdown("28x28")))

# %% [markdown]
# And table 1 of the paper, as published, with what this code adds to it:

# %%
display(Markdown(table_markdown("table1")))

# %% [markdown]
# Three things to keep in mind before comparing. A figure that is exact, a bound, and a bound with several
# draws of the noise are different quantities (chapter {ref}`training`). Figures on different data sets, and
# on different test images of the same set, say nothing about each other. And the training is part of
# the figure: hours on a GPU and minutes on a laptop are not the same experiment. So here is where each of
# our runs comes from.
#
# ### Provenance

# %%
display(Markdown(table_markdown("runs")))

# %% [markdown]
# A ledger can be checked. Each entry has the score of a fixed set of images, the first of the embedded test
# set, in double precision, on which machines agree. The model below is built from the entry's configuration
# and weights alone. (`nvp verify` does this for all entries, and scores full test sets where it finds them.)


# %%
def images_for(run, split):
    """The full set under the paper profile, the embedded one, or None."""
    name = run.record.data.name
    if full:
        try:
            return load(name, split)
        except MissingData:
            pass
    embedded = name in (EMBEDDED, EMBEDDED.removesuffix("-small"))
    return load(EMBEDDED, split) if embedded else None


def best_of_each(ledger):
    """For each kind of images, the run of the lowest score."""
    best = {}
    for run in sorted(ledger.values(), key=lambda run: run.score.bits_per_dim):
        if run.record.weights is not None:
            kind = run.record.data.name.removesuffix("-small")
            best.setdefault(kind, run)
    return best


# %%
best = best_of_each(ledger)
without = [kind for kind, run in best.items() if not images_for(run, "test")]
kinds = sorted(best, key=lambda kind: kind in without)  # images first
models = {kind: best[kind].load_model(str(device)) for kind in kinds}
kind = kinds[0]
assert kind not in without, "no run on images that are here"
run, model = best[kind], models[kind]
train, test = images_for(run, "train"), images_for(run, "test")

again = score_probe(load_run(run.folder, device="cpu")).mean().item()
kept = run.record.scores.probe.bits_per_dim
assert abs(again - kept) < 1e-3
print(f"{run.name}: {kept:.3f} bits/dim in the ledger, {again:.3f} again")

# %% [markdown]
# And this is its configuration, as `nvp train` read it:

# %% tags=["hide-output"]
print((run.folder / "config.yaml").read_text())

# %% [markdown]
# ## Learning curves

# %% mystnb={"figure": {"caption": "Every recorded run: the loss of training in bits/dim (lines) and held-out images under averaged weights (dots), over the number of training images seen, and the published figures on MNIST of the table above. (The paper shows no curves.)", "name": "fig-curves"}, "image": {"alt": "One panel for each data set. Bits per dimension fall steeply at first and then slowly, over a logarithmic axis of images seen; on MNIST two horizontal lines mark the published figures."}}
curves, yardsticks = {}, {}
for name, entry in ledger.items():
    data = entry.record.data.name
    curves.setdefault(data, {})[name] = entry.log()
    yardsticks[data] = {
        f"{figure.model.split(',')[0]}: {figure.bits_per_dim}": float(
            figure.bits_per_dim
        )
        for figure in published(data)
        if "Real NVP" in figure.model or "multi-scale" in figure.model
    }
pictures.draw_learning_curves(curves, yardsticks)
plt.show()

# %% [markdown]
# ### What falls short, and why
#
# For each run, the distance to the nearest published relative, and what it is made of:
#
# * **training**: how often the run saw each image, and what the second half of its steps still brought. A
#   curve that was falling when the budget ended had more to give;
# * **generalisation**: test minus training images, the latter as in the last rows of the log. A small
#   difference says that a larger model or more steps would help before more data would;
# * **draws**: what more draws of the noise take off, on the same images. Figures of others that average
#   over several draws have this advantage;
# * **noise**: the quarter of a bit for every pixel that is certain, {eq}`eq:floor`, estimated from the share of
#   black in samples of the model. No flow with uniform noise and a Gaussian prior escapes much of it,
#   so it explains no gap to another such flow; it does explain part of the gap to models of integers.


# %%
def gap_to_published(run):
    """Test bits/dim minus the best that was published for Real NVP."""
    rivals = [
        float(figure.bits_per_dim)
        for figure in published(run.record.data.name)
        if "Real NVP" in figure.model
    ]
    return f"{run.score.bits_per_dim - min(rivals):+.2f}" if rivals else "–"


def particulars(run):
    """Where the bits/dim of a run come from, as rows of name and text."""
    record, scores, log = run.record, run.record.scores, run.log()
    bits = [row["bits_per_dim"] for row in log]
    few = max(1, len(bits) // 20)
    end = sum(bits[-few:]) / few
    middle = sum(bits[len(bits) // 2 :][:few]) / few
    draws = scores.first_more_draws.bits_per_dim - scores.first.bits_per_dim
    return {
        "test, bits/dim": f"{run.score.bits_per_dim:.3f}",
        "minus Real NVP as published": gap_to_published(run),
        "training: each image seen": (
            f"{record.images / record.data.train_images:.1f} times"
        ),
        "training: second half of the steps": f"{end - middle:+.2f}",
        "generalisation: test minus training": (
            f"{run.score.bits_per_dim - end:+.2f}"
        ),
        f"draws: {scores.first_more_draws.num_draws} instead of 1": (
            f"{draws:+.3f}"
        ),
    }


# %%
floor = 0.5 * math.log2(math.pi * math.e / 6)
columns = {entry.name: particulars(entry) for entry in ledger.values()}
for kind_of, entry in best.items():
    generator = torch.Generator().manual_seed(0)
    drawn = models[kind_of].sample(36, generator=generator)
    black = (drawn < 8).double().mean().item()
    columns[entry.name]["noise: floor"] = f"{black * floor:.1f}"
keys = list(
    dict.fromkeys(key for column in columns.values() for key in column)
)
rows = [[key, *(c.get(key, "–") for c in columns.values())] for key in keys]
figures.show_table(["", *columns], rows)

# %% [markdown]
# Two causes are not in the table, as they are not in the ledger: networks that are smaller than those of the
# published runs (`parameters` above), and what is unknown about those runs. The set-up behind the published
# MNIST figure of Real NVP is not described where we read it.
#
# ## From image to image
#
# The figure for a data set is a mean over images, and they differ. To give the scale: a raw file has 8
# bits for each pixel. `zlib`, as in a PNG without its filters, takes less. A model that knows each pixel's own
# histogram, and no dependence between pixels, is the least that a density model must beat.

# %%
count = 2000 if full else 100
order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
scored = test.images[order[:count]]
scores = score_images(model, scored)


def histogram_bits(train, test):
    """Bits/dim when every pixel has a histogram, and nothing else."""
    counts = torch.ones(256, *train.shape[1:], dtype=torch.double)  # no zeros
    counts.scatter_add_(
        0, train.long(), torch.ones_like(train, dtype=torch.double)
    )
    shares = counts / counts.sum(dim=0)
    return -shares.gather(0, test.long()).log2().mean(dim=(1, 2, 3))


def zlib_bits(images):
    """Bits/dim of each image compressed alone."""
    sizes = [
        len(zlib.compress(image.numpy().tobytes(), 9)) for image in images
    ]
    return 8 * torch.tensor(sizes, dtype=torch.double) / images[0].numel()


rivals = {
    f"Real NVP ({run.name})": scores,
    "a histogram for each pixel": histogram_bits(train.images, scored),
    "zlib": zlib_bits(scored),
}
assert scores.mean() < rivals["a histogram for each pixel"].mean()
figures.show_table(
    [f"{len(scored)} test images of {test.name}", "bits/dim", "±"],
    [
        [name, f"{s.mean():.2f}", f"{s.std() / math.sqrt(len(s)):.2f}"]
        for name, s in rivals.items()
    ],
)

# %% mystnb={"figure": {"caption": "Bits/dim of single test images. What is smooth and dark is cheap, what is bright and textured is dear. (No figure in the paper.)", "name": "fig-scores"}, "image": {"alt": "Overlapping histograms of bits per dimension, that of Real NVP to the left of that of a histogram for each pixel, with a dashed line at each mean."}}
pictures.draw_score_histograms(rivals)
plt.show()

# %% mystnb={"figure": {"caption": "The cheapest and the dearest of these images, each under its bits/dim.", "name": "fig-ranked"}, "image": {"alt": "Two rows of eight images. Above, plain ones with little area; below, bright ones with patterns that fill the image."}}
pictures.draw_ranked(scored, scores, ("fewest bits", "most bits"))
plt.show()

# %% [markdown]
# ## Samples
#
# To sample, draw $z \sim \mathcal N(0, I)$ and decode, $x = g(z)$; one pass. A common knob, which the paper does
# not mention, is a **temperature** $T$: decode $T z$. Below 1 it draws from the middle of the prior, gains
# smoothness and loses variety. It is no longer the model: only $T = 1$ is what the likelihood speaks of.

# %%
temperatures = (0.7, 0.8, 0.9, 1.0)
side = 8 if full else 5


def samples_at(model, temperature):
    """The same z at every temperature, so that sheets compare."""
    generator = torch.Generator().manual_seed(3)
    return model.sample(
        side**2, generator=generator, temperature=temperature
    ).cpu()


sheets = {}
for kind_of, one_model in models.items():
    images = images_for(best[kind_of], "test")
    some = torch.arange(side**2) * 37
    real = images.images[some % len(images)] if images else None
    sheets[kind_of] = {"real images": real} | {
        f"T = {t}": samples_at(one_model, t) for t in temperatures
    }
warm, cold = sheets[kind]["T = 1.0"], sheets[kind]["T = 0.7"]
assert torch.equal(warm, samples_at(model, 1.0))
assert not torch.equal(warm, cold)

# %% mystnb={"figure": {"caption": "After figure 5 of {cite:t}`dinh2017realnvp`: real test images, where they are at hand, and samples of the best recorded run for each data set, at four temperatures; the same $z$ in the same place. None is chosen.", "name": "fig-samples"}, "image": {"alt": "A row of sheets of small grey images for each data set: first real images, then samples at temperatures 0.7, 0.8, 0.9 and 1.0. Samples grow rougher to the right."}}
pictures.draw_sheets(sheets, columns=side)
plt.show()

# %% [markdown]
# Likelihood is a sum over all dimensions, and the form that a viewer looks for is a small part of it. Good
# bits/dim and good samples need not go together, in either direction {cite}`theis2016note`.
#
# ## The manifold of four images
#
# Since $f$ is a bijection, every image has a latent, and decoding it gives the image back. (Up to the noise:
# what is decoded is $x + u$, and rounding down recovers $x$.)

# %%
few = test.images[:20].to(device)
generator = torch.Generator().manual_seed(0)
with torch.no_grad():
    z = model.encode(few, generator)
    back = model.decode(z)
exact = (back == few).double().mean().item()
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
# $\mathcal N(0, I)$, then so is $z(\phi, \phi')$, for every pair of angles: it stays where the prior expects
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
# also the antipodes $-z_i$, which belong to no image. Where no test images are at hand, the
# four corners are latents drawn from the prior.


# %%
def four_latents(kind):
    """Latents of four test images, or from the prior."""
    model, images = models[kind], images_for(best[kind], "test")
    generator = torch.Generator().manual_seed(11)
    if images is None:
        z = torch.randn(4, *model.image_shape, generator=generator)
        return z.to(device)
    four = images.images[torch.arange(4) * len(images) // 4 + 47]
    with torch.no_grad():
        return model.encode(four.to(device), generator)


angles = [k * 2 * math.pi / 8 for k in range(8)]
grids = {}
for kind_of, one_model in models.items():
    corners = four_latents(kind_of)
    points = [on_manifold(*corners, a, b) for a in angles for b in angles]
    grids[kind_of] = one_model.decode(torch.stack(points)).cpu()

# %% mystnb={"figure": {"caption": "After figure 6 of {cite:t}`dinh2017realnvp`: the manifold {eq}`eq:manifold` of four latents, $\\phi$ downwards and $\\phi'$ to the right, each from 0 to a full turn. The four are marked: test images where they are at hand, else samples.", "name": "fig-manifold"}, "image": {"alt": "Square grids of eight by eight images. Four near the upper left are marked 1 to 4; between them the images change gradually, through mixtures, from one to the next."}}
pictures.draw_manifolds(
    grids, {(0, 0): "1", (0, 2): "2", (2, 0): "3", (2, 2): "4"}
)
plt.show()

# %% [markdown]
# ## What the latents hold
#
# Trained well, $f$ makes the data Gaussian. Each scale of the model factors out its share of the latents
# (chapter {ref}`multi-scale`); we can ask at which scale they are how close to $\mathcal N(0, I)$.

# %%
generator = torch.Generator().manual_seed(0)
with torch.no_grad():
    z = model.encode(scored.to(device), generator)
    by_scale = model.latents_by_scale(z)
named = {
    f"z{i}, {latents[0].numel()} dimensions": latents.cpu()
    for i, latents in enumerate(by_scale, start=1)
}
assert all(latents.mean().abs() < 0.2 for latents in named.values())
figures.show_table(
    ["latents of test images", "variance"],
    [[name, f"{latents.var():.1f}"] for name, latents in named.items()],
)

# %% mystnb={"figure": {"caption": "All latents of test images, finest scale first, and the density of the prior. (No figure in the paper.)", "name": "fig-latents"}, "image": {"alt": "A histogram for each scale, close to a bell curve drawn over it."}}
pictures.draw_latent_histograms(named)
plt.show()

# %% [markdown]
# And what do they *mean*? Appendix D of the paper keeps the coarse latents of an image and draws the fine ones
# anew: what survives is what the coarse ones hold.

# %%
eight = test.images[torch.arange(8) * 97 % len(test)]
generator = torch.Generator().manual_seed(0)
with torch.no_grad():
    latents = model.latents_by_scale(model.encode(eight.to(device), generator))
kept_rows = {"test images": eight}
for count in range(len(latents) + 1):
    fresh = [
        torch.randn(part.shape, generator=generator).to(device)
        for part in latents[:count]
    ]
    mixed = fresh + latents[count:]
    left = sum(part[0].numel() for part in latents[count:])
    left = left / eight[0].numel()
    image = model.decode(model.flow.merge(mixed)).cpu()
    kept_rows[f"{left:.0%} kept"] = image
assert (kept_rows["100% kept"] == eight).double().mean() > 0.999

# %% mystnb={"figure": {"caption": "After appendix D of {cite:t}`dinh2017realnvp`: test images, and the same with ever more of their latents drawn anew, the finest scale first. In the last row nothing of the image is left.", "name": "fig-kept"}, "image": {"alt": "Rows of eight images. The first two rows are equal. Further down, less and less of the first row remains."}}
pictures.draw_rows(kept_rows)
plt.show()

# %% [markdown]
# ## Summary
#
# * Every figure of this chapter comes from the ledger, with the run that made it, and can be made again.
# * A gap to a published figure has parts that can be measured: training that ended early, generalisation, draws.
#   What is left is size, and what the papers do not say.
# * Latents are exact: an image is encoded and decoded without loss, and walks between images stay where the
#   prior lives if they follow {eq}`eq:manifold`.
# * Drawing latents anew, scale by scale, shows what each scale holds.
#
# ## Exercises
#
# ```{exercise} Copies?
# :label: ex-neighbours
#
# A model could score well by storing its training images. Find, for eight samples, the nearest training image in
# squared distance, and compare the distance with that from *test* images to their nearest training image.
# ```
#
# ```{solution-start} ex-neighbours
# :class: dropdown
# ```
# A stored image would be at a distance near zero. The samples are about as far from the training images as test
# images are, or farther: nothing is copied. (Distance over pixels is a blunt measure, but copies it would find.)


# %%
def nearest(images, among):
    """Index of, and root mean square distance to, the nearest image."""
    a, b = images.flatten(1).float(), among.flatten(1).float()
    distances, indices = torch.cdist(a, b).min(dim=1)
    return indices, distances / math.sqrt(a.shape[1])


seen = train.images[:20_000]
indices, of_samples = nearest(warm[:8], seen)
_, of_tests = nearest(test.images[:200], seen)
assert of_samples.min() > 0.2 * of_tests.mean()

# %% mystnb={"figure": {"caption": "Samples, and the training image nearest to each.", "name": "fig-neighbours"}, "image": {"alt": "Two rows of eight images: samples, and below each a training image that resembles it in size and place more than in detail."}}
pictures.draw_rows({"samples": warm[:8], "nearest": seen[indices]})
plt.show()

# %% [markdown]
# ```{solution-end}
# ```
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
# ```{exercise} Temperature zero
# :label: ex-zero
#
# What is $g(0)$? Score it. Is it the most probable image?
# ```
#
# ```{solution-start} ex-zero
# :class: dropdown
# ```
# One image, the same at every draw: the decoding of the mode of the prior. The mode of $p_Z$ need not go to the
# mode of $p_X$, as the determinant has a say too ({prf:ref}`thm-change`), but its prior term is the highest there is,
# $-\frac D2 \log 2\pi$ nats, and it costs fewer bits than a typical image.

# %%
zero = model.sample(1, temperature=0.0)
with torch.no_grad():
    nats = model.log_prob(zero, generator=torch.Generator().manual_seed(0))
bits = bits_per_dim(nats, model.image_shape).item()
assert torch.equal(zero, model.sample(1, temperature=0.0))
assert bits < scores.mean()

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Is it better?
# :label: ex-error
#
# Two models differ by 0.01 bits/dim on a test set. From the spread of the scores above: how many images does it take
# for one figure's standard error to be 0.005? And if both models are scored on the *same* images?
# ```
#
# ```{solution-start} ex-error
# :class: dropdown
# ```
# The standard error is $s / \sqrt n$, so $n = (s / 0.005)^2$. On the same images the scores go up and down together,
# and it is the spread of their *difference* that counts, which is much smaller; here, as an example, the
# difference between two draws of the noise.

# %%
n = (scores.std() / 0.005) ** 2
other = score_images(model, scored, seed=1)
paired = ((scores - other).std() / 0.005) ** 2
assert paired < n / 10
print(f"each alone: {n:.0e} images; the same images: {paired:.0e}")

# %% [markdown]
# ```{solution-end}
# ```
