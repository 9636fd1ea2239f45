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
# Section 4 of {cite:t}`dinh2017realnvp`: table 1 (likelihoods) and figure 5 (samples). Its figure 6, and the
# appendices on latents, are for the next chapter.
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
from nvp_book import figures
from nvp_book.figures import samples as pictures
from nvp_book.selection import (
    best_models,
    data_title,
    images_for,
    in_powers,
    run_titles,
)

from nvp.devices import pick_device
from nvp.ledger.scoring import score_probe
from nvp.likelihood import bits_per_dim, score_images
from nvp.runs.load import load_run
from nvp.tables.build import published, runs, table_markdown

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
titles = run_titles(ledger)

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
# Four things to keep in mind before comparing. A figure that is exact, a bound, and a bound with several
# draws of the noise are different quantities (chapter {ref}`training`). Figures on different data sets, and
# on different test images of the same set, say nothing about each other. A model that is told the class of
# an image scores something else, $p(x \mid y)$, though ten classes can be worth no more than $\log_2 10$ bits an
# image (chapter {ref}`latents`). And the training is part of
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
best, models, kind, train, test = best_models(ledger, device, full=full)
run, model = best[kind], models[kind]

again = score_probe(load_run(run.folder, device="cpu")).mean().item()
kept = run.scores.probe.bits_per_dim
assert abs(again - kept) < 1e-3
print(f"{run.record.title}, bits/dim: {kept:.3f} in the ledger,", end=" ")
print(f"{again:.3f} again")

# %% [markdown]
# And this is its configuration, as `nvp train` read it:

# %% tags=["hide-output"]
print((run.folder / "config.yaml").read_text())

# %% [markdown]
# ## Learning curves

# %% mystnb={"figure": {"caption": "Every recorded run of Real NVP: the loss of training in bits/dim (lines) and held-out images under averaged weights (dots), over the number of training images seen, and two of the published figures on MNIST (broken lines, with their values). (The paper shows no curves.)", "name": "fig-curves"}, "image": {"alt": "One panel for each data set. Bits per dimension fall steeply at first and then slowly, over a logarithmic axis of images seen; on MNIST two horizontal lines mark the published figures."}}
curves, yardsticks = {}, {}
for name, entry in ledger.items():
    data = data_title(entry.record.data.name)
    title = titles[name].replace(f" on {data}", "")
    curves.setdefault(data, {})[title] = entry.log()
    yardsticks[data] = {
        f"{figure.model.split(',')[0]}: {figure.bits_per_dim}": float(
            figure.bits_per_dim
        )
        for figure in published(entry.record.data.name)
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
# * **draws**: what more draws of the noise, their number in parentheses, take off on the same images. Figures of
#   others that average over several draws have this advantage;
# * **noise**: the quarter of a bit for every pixel that is certain, {eq}`eq:floor`, estimated from the share of
#   black in samples, for the best run of each kind of images. Affine couplings seem not to escape it (chapter
#   {ref}`training` tried a small model); a flow of another kind may. So it explains no gap to another Real NVP, and
#   perhaps part of one to other flows, as it does to models of integers.


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
    record, scores, log = run.record, run.scores, run.log()
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
        "draws: more instead of 1": (
            f"{draws:+.3f} ({scores.first_more_draws.num_draws})"
        ),
    }


# %%
floor = 0.5 * math.log2(math.pi * math.e / 6)
columns = {titles[name]: particulars(entry) for name, entry in ledger.items()}
for kind_of, entry in best.items():
    generator = torch.Generator().manual_seed(0)
    drawn = models[kind_of].sample(36, generator=generator)
    black = (drawn < 8).double().mean().item()
    columns[titles[entry.name]]["noise: floor"] = f"{black * floor:.1f}"
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
    run.record.title: scores,
    "a histogram for each pixel": histogram_bits(train.images, scored),
    "zlib": zlib_bits(scored),
}
assert scores.mean() < rivals["a histogram for each pixel"].mean()
figures.show_table(
    [f"{len(scored)} test images of {data_title(test.name)}", "bits/dim", "±"],
    [
        [name, f"{s.mean():.2f}", f"{s.std() / math.sqrt(len(s)):.2f}"]
        for name, s in rivals.items()
    ],
)

# %% mystnb={"figure": {"caption": "Bits/dim of single test images. What is smooth and dark is cheap, what is bright and textured is dear. (No figure in the paper.)", "name": "fig-scores"}, "image": {"alt": "Overlapping histograms of bits per dimension, that of Real NVP to the left of that of a histogram for each pixel, with a dashed line at each mean."}}
pictures.draw_score_histograms(rivals)
plt.show()

# %% mystnb={"figure": {"caption": "The cheapest and the dearest of these images, each under its bits/dim. (No figure in the paper.)", "name": "fig-ranked"}, "image": {"alt": "Two rows of eight images. Above, plain ones with little area; below, bright ones with patterns that fill the image."}}
pictures.draw_ranked(scored, scores, ("fewest bits", "most bits"))
plt.show()

# %% [markdown]
# ## Samples
#
# To sample, draw $z \sim \mathcal N(0, I)$ and decode, $x = g(z)$; one pass. A common knob, which the paper does
# not mention, is a **temperature** $T$: decode $T z$. Below 1 it draws from the middle of the prior, gains
# smoothness and loses variety and, on garments, light. It is no longer the model: only $T = 1$ is what the likelihood speaks of.

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
    images = images_for(best[kind_of], "test", full=full)
    some = torch.arange(side**2) * 37
    real = images.images[some % len(images)] if images else None
    sheets[data_title(kind_of)] = {"real images": real} | {
        f"T = {t}": samples_at(one_model, t) for t in temperatures
    }
ours = sheets[data_title(kind)]
warm, cold = ours["T = 1.0"], ours["T = 0.7"]
assert torch.equal(warm, samples_at(model, 1.0))
assert not torch.equal(warm, cold)

# %% mystnb={"figure": {"caption": "After figure 5 of {cite:t}`dinh2017realnvp`: real test images, where they are at hand, and samples of the best recorded run for each data set, at four temperatures; the same $z$ in the same place. None is chosen.", "name": "fig-samples"}, "image": {"alt": "A row of sheets of small grey images for each data set: first real images, then samples at temperatures 0.7, 0.8, 0.9 and 1.0. Samples grow rougher to the right."}}
pictures.draw_sheets(sheets, columns=side)
plt.show()

# %% [markdown]
# Likelihood is a sum over all dimensions, and the form that a viewer looks for is a small part of it. Good
# bits/dim and good samples need not go together, in either direction {cite}`theis2016note`.
#
# ### Copies?
#
# A model could score well on its training images, and sample well, by storing them. So beside each sample
# belongs the training image that is nearest to it. The distance is the root mean square of the difference of
# the pixels, in grey levels, and its yardstick is the distance of *test* images from *their* nearest training
# image. First a check that a copy would be found, noise and all:


# %%
def nearest(images, among):
    """Index of, and root mean square distance to, the nearest image."""
    a, b = images.flatten(1).float(), among.flatten(1).float()
    distances, indices = torch.cdist(a, b).min(dim=1)
    return indices, distances / math.sqrt(a.shape[1])


some = torch.arange(0, len(train), len(train) // 50)
generator = torch.Generator().manual_seed(0)
noisy = torch.randn(train.images[some].shape, generator=generator) * 10
found, distances = nearest(train.images[some] + noisy, train.images)
assert torch.equal(found, some)
assert (distances < 11).all()

# %%
indices, of_samples = nearest(warm, train.images)
tests = test.images[torch.arange(len(warm)) * 37 % len(test)]
test_indices, of_tests = nearest(tests, train.images)
assert of_samples.min() > 11  # none is a copy
assert of_samples.mean() > of_tests.mean()
figures.show_table(
    ["nearest training image, grey levels away", "least", "mean", "most"],
    [
        [name, f"{d.min():.0f}", f"{d.mean():.0f}", f"{d.max():.0f}"]
        for name, d in {
            f"{len(warm)} samples": of_samples,
            f"{len(tests)} test images": of_tests,
        }.items()
    ],
)

# %% mystnb={"figure": {"caption": "The first samples of {numref}`fig-samples` at $T = 1$ and, under each, the nearest training image; then the same for test images. (No figure in the paper.)", "name": "fig-neighbours"}, "image": {"alt": "Four rows of eight images. Samples, and below them training images that share their place and size and little else; test images, and below them training images that are close relatives, most of them the same kind of garment."}}
pictures.draw_rows(
    {
        "samples": warm[:8],
        "nearest to them": train.images[indices[:8]],
        "test images": tests[:8],
        "nearest to those": train.images[test_indices[:8]],
    }
)
plt.show()

# %% [markdown]
# No sample is a copy: on average they are farther from the training images than test images are. Two cautions.
# Distance over pixels is a blunt measure, which finds copies and may miss a copy that was shifted by a pixel. And by
# default this page searches the embedded training images, a part of those of the run. How often the run saw each of
# its own is in the table above; the fewer the looks, the less there is to copy.
#
# ## Summary
#
# * Every figure of this chapter comes from the ledger, with the run that made it, and can be made again.
# * A gap to a published figure has parts that can be measured: training that ended early, generalisation, draws.
#   What is left is size, and what the papers do not say.
# * A sample shows one thing, the likelihood another. Beside samples belong their nearest training images: here
#   none was copied.
#
# ## Exercises
#
# ```{exercise} Nearer to which?
# :label: ex-nearer
#
# A distance needs a yardstick, and a kinder one is this: of as many training images as there are test images, and
# those, to which set is a sample nearer? What share would you expect of an honest model, and what of one that copies?
# ```
#
# ```{solution-start} ex-nearer
# :class: dropdown
# ```
# If it learned what is common to both sets and nothing else, a half. A copying model would be nearer to the
# training images nearly always, as these are themselves.

# %%
count = min(len(train), len(test))
spread = torch.arange(count) * len(train) // count
sides = [train.images[spread], test.images[torch.randperm(len(test))[:count]]]
generator = torch.Generator().manual_seed(4)
many = model.sample(100, generator=generator).cpu()
to_train, to_test = (nearest(many, side)[1] for side in sides)
share = (to_train < to_test).double().mean()
error = 0.5 / math.sqrt(len(many))
assert abs(share - 0.5) < 3 * error
print(f"nearer to a training image: {share:.0%}, ± {error:.0%} by chance")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Its own images
# :label: ex-own-samples
#
# Score the model on its own samples, at several temperatures. What does the figure at $T = 1$ estimate, and what does
# it say that it is above that of test images?
# ```
#
# ```{solution-start} ex-own-samples
# :class: dropdown
# ```
# At $T = 1$ it is the entropy of the model, $-\mathbb E_{x \sim p} \log p(x)$, up to the noise; on test images it is a
# cross-entropy. Were the model the truth, they would agree. Here the model finds its own samples dearer than garments:
# it spends probability on rough images that nobody wears. Lower temperatures take the roughness away, and the bits.

# %%
own = {}
for t in temperatures:
    generator = torch.Generator().manual_seed(5)
    drawn = model.sample(50, generator=generator, temperature=t)
    own[t] = score_images(model, drawn)
assert own[0.7].mean() < own[0.8].mean() < own[0.9].mean() < own[1.0].mean()
assert own[1.0].mean() > scores.mean()
for t, bits in own.items():
    print(f"T = {t}: {bits.mean():.1f} bits/dim")
print(f"test images: {scores.mean():.1f}")

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
n, paired = in_powers(f"{n:.0e}"), in_powers(f"{paired:.0e}")
print(f"each alone: {n} images; the same images: {paired}")

# %% [markdown]
# ```{solution-end}
# ```
