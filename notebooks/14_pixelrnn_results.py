# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (pixelrnn-results)=
# # Results of the Pixel RNNs
#
# ```{admonition} In the paper
# Section 5 of {cite:t}`oord2016pixelrnn`: table 4 (binarised MNIST), tables 5 and 6 (colour images), tables 2 and 3
# (the Row LSTM taken apart), figure 1 (completions), figure 6 (what the softmax says), and what section 3.5 says of
# sampling.
# ```
#
# Four chapters of layers; what do they learn? As in chapter {ref}`results`, all of this page is read from the
# **ledger** in `results/runs/`, and nothing was typed. A run that is not recorded yet is shown as the command
# that makes it; pictures are made of those that are there.

# %% tags=["parameters"]
profile = "laptop"

# %%
import itertools
import json
import math
import os
from statistics import median
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown, display
from nvp_book import figures
from nvp_book.figures import pixels
from nvp_book.figures.samples import draw_rows, draw_sheets
from torch.utils.flop_counter import FlopCounterMode

from nvp import PixelRNN, PixelRNNConfig
from nvp.data import EMBEDDED, MissingData, load
from nvp.devices import pick_device
from nvp.ledger.enter import FLOORS
from nvp.ledger.scoring import score_probe
from nvp.likelihood import bits_per_dim, nats_per_bit
from nvp.paths import repository_root
from nvp.runs.load import load_run
from nvp.tables import score_cell
from nvp.tables.build import published, runs, table_markdown
from nvp.tables.published import read_published
from nvp.training.optimiser import orthogonal

figures.use_style()
torch.set_num_threads(1)  # sums in one order, however many cores
torch.set_grad_enabled(False)
full = profile == "paper"
device = pick_device("auto" if full else "cpu")

ledger = runs()
rows_of = read_published().tables["binarized-mnist"]
on_digits = [ledger[row.config] for row in rows_of if row.config in ledger]
binary = {
    run.name: run
    for run in sorted(on_digits, key=lambda r: r.score.bits_per_dim)
    if run.record.weights
}
assert binary, "no run on binarised MNIST is here: make one and record it"
names = {row.config: row.model for row in rows_of}

# %% [markdown]
# ## Likelihoods
#
# Binarised MNIST {cite}`salakhutdinov2008dbn` is the data set on which the paper compares its models with those
# of others: each pixel was drawn once, black or white, with the probability of its grey, and the files have
# been the same for everybody since. The likelihood of a Pixel RNN is exact; among the others are bounds and
# estimates.

# %%
display(Markdown(table_markdown("binarized-mnist")))

# %% [markdown]
# Colour images are for a GPU. A run that is not recorded is shown as its command:

# %%
display(Markdown(table_markdown("pixelrnn")))

# %% [markdown]
# The paper's tables 2 and 3 take the Row LSTM apart, by its connections and by its depth. (The last row is for a
# section below.)

# %%
display(Markdown(table_markdown("pixelrnn-variants")))

# %% [markdown]
# What a run was, from data to commit, is in the table of all runs in chapter {ref}`results`. A recorded figure
# can be checked: the ledger keeps the score of a few fixed images in double precision, and the weights must
# give it again.

# %%
for name, run in binary.items():
    again = score_probe(load_run(run.folder, device="cpu")).mean().item()
    kept = run.record.scores.probe.bits_per_dim
    assert abs(again - kept) < 1e-4
    print(f"{names[name]}: the same again")

# %% [markdown]
# ### Learning curves

# %% mystnb={"figure": {"caption": "A recorded run of each model on binarised MNIST: the loss of training (lines), images held out for validation under averaged weights (dots), and what the paper reports for a model of that name on test images (dashes, in the run's colour). (No figure in the paper.)", "name": "fig-nats-curves"}, "image": {"alt": "Nats an image over training images seen, on a logarithmic axis. The curves fall steeply at first and then ever more slowly, towards the dashed lines."}}
printed = {}  # run -> the paper's figure for its model
for row, figure in itertools.product(rows_of, published("binarized-mnist")):
    if figure.model.startswith(row.model):
        printed[row.config] = figure
curves = {names[n]: run.log() for n, run in binary.items()}
lines = {names[n]: float(printed[n].nats) for n in binary}
factor = nats_per_bit((1, 28, 28))
pixels.draw_curves(curves, lines, factor)
plt.show()

# %% [markdown]
# ### What falls short, and why
#
# For each of these runs: the distance to the paper's figure for its model, and what its own record says of that. (That
# of the Row LSTM is *unverified*, and so is its distance. PixelCNNs by other optimisers are below.)
#
# * **training**: how often the run saw each training image, and what the last quarter of the steps still brought.
#   A curve that was falling had more to give, if the weights that validation chose are those of the last steps. (The
#   rate is annealed at the end, so some of the fall is that.)
# * **generalisation**: validation minus training images, at the end. Where it is small, more steps or a larger
#   model help before more data would.
# * **where it was going**: the curve $a + b\,n^{-c}$ over $n$ images seen, fitted to the validation scores, at ten times
#   as many images as the run saw. It is a guess: the scores are few, and the rate was annealed under the last ones.
#   A dash where validation had stopped falling: the curve of such a run says nothing of more images.
# * **noise of the test**: the standard error of the figure over images. A gap within two of them is none.


# %%
def power_law(n, y):
    """a, b, c of a + b * n ** -c by least squares, c from a grid."""

    def fit(c):
        terms = np.stack([np.ones_like(n), n**-c], axis=1)
        (a, b), *_ = np.linalg.lstsq(terms, y)
        return ((terms @ (a, b) - y) ** 2).sum(), a, b, c

    return min(map(fit, np.linspace(0.05, 2, 196)))[1:]


def guess(log, times):
    """Nats an image on validation images, after so many times the images."""
    scored = [row for row in log if "validation" in row]
    n = np.array([row["images"] for row in scored]) / 1e5
    y = factor * np.array([row["validation"] for row in scored])
    a, b, c = power_law(n, y)
    return a + b * (times * n[-1]) ** -c


n = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
assert np.allclose(power_law(n, 79 + 3 * n**-0.5), (79, 3, 0.5))


def particulars(run):
    """Where the nats of a run come from, as rows of name and text."""
    mean, error = run.nats
    log, record = run.log(), run.record
    losses = [row["loss"] for row in log]
    few = max(1, len(losses) // 20)
    end = sum(losses[-few:]) / few
    earlier = losses[: len(losses) * 3 // 4]
    before = sum(earlier[-few:]) / few
    held_out = factor * record.scores.validation.bits_per_dim
    gap = mean - float(printed[run.name].nats)
    epochs = record.images / record.data.train_images
    chosen = (record.chosen_step or record.steps) / record.steps
    return {
        "test, nats": f"{mean:.2f}",
        "minus the paper's figure": f"{gap:+.2f}",
        "standard error": f"{error:.2f}",
        "parameters": f"{record.parameters:,}",
        "training: minutes": f"{record.minutes:.0f}",
        "training: each image seen": f"{epochs:.1f} times",
        "training: last quarter of the steps": f"{end - before:+.1f}",
        "training: weights chosen after": f"{chosen:.0%}",
        "validation minus training": f"{held_out - end:+.1f}",
        "a guess at 10 times the images": (
            f"{guess(log, 10):.1f}" if chosen > 0.99 else "–"
        ),
    }


columns = {
    row.model: particulars(binary[row.config])
    for row in rows_of
    if row.config in binary
}
keys = next(iter(columns.values()))
rows = [[key, *(c[key] for c in columns.values())] for key in keys]
figures.show_table(["", *columns], rows)

short = {
    name: run.nats[0] - float(printed[name].nats)
    for name, run in binary.items()
}
floor = FLOORS["binarized-mnist"]  # below it, look for a leak
assert all(run.nats[0] >= floor for run in binary.values())
within = [name for name, gap in short.items() if gap <= 0.5]
print(f"within 0.5 nats of the paper: {len(within)} of {len(short)} runs")
doubtful = [names[n] for n in within if printed[n].cell.endswith("†")]
print(f"of these by an unverified figure: {', '.join(doubtful) or 'none'}")

# %% [markdown]
# Where a run falls short, the first reason to look at is its **budget**, in the table above;
# {doc}`../book/ledger` has the machines. (Minutes are those of the clock: a machine with other work to do gets
# less done in them.) But where validation chose weights from before the end, more steps would not have helped:
# such a run began to learn its training images by heart, and wants regularisation, of which more below. The
# paper trained on GPUs; no number of epochs, no learning rate and no schedule of it is known to us. Nor were the
# sizes of its Row LSTM and PixelCNN on this set found, and the width of its model of one layer is *unverified*:
# ours are guesses. Its optimiser is RMSProp with batches of 16; ours is Adam or Muon, of which more below, with
# batches that the configurations state. Short trials chose the rate, and the validation split the weights. What
# test images did decide is when to stop trying: the Diagonal BiLSTM of one layer, the Row LSTM and the PixelCNN
# fell short of the paper when they were first scored, were trained on or anew, and were scored again. A recorded
# run can go on from its weights: `nvp train --resume NAME`.
#
# ### The optimiser
#
# A budget is counted in images, and what a run takes from an image depends on the rule that turns gradients into
# steps. Our first PixelCNN was trained by Adam {cite}`kingma2015adam`, and stayed far above the paper; in short
# trials a lower rate and a higher one learned less. The second one is the same network in batches of the same
# size, trained by **Muon** {cite}`jordan2024muon`. Take the weights of a convolution as a matrix with one row for
# each output, and the momentum of its gradients as $M = U S V^\top$. Muon steps along
#
# ```{math}
# :label: eq:muon
# W \leftarrow (1 - \eta \lambda) \, W - \eta \, \sqrt{\max(1, \text{rows} / \text{columns})} \; U V^\top ,
# ```
#
# so a direction that the gradient hardly favours is gone along as fast as the one that it favours most; Adam
# levels the elements, Muon the directions. (Biases are still Adam's, as are the learned first states of an LSTM; what
# leads from state to state is a matrix for each direction of the scan.) The product needs no decomposition:
# {py:obj}`orthogonal <nvp.training.optimiser.orthogonal>` is five rounds of matrix products. $\lambda$ is 0 until the next
# section.

# %%
matrix = torch.randn(32, 288, generator=torch.Generator().manual_seed(0))
matrix[:16] *= 0.1  # half of the outputs have small gradients
u, sizes, v = torch.linalg.svd(matrix, full_matrices=False)
levelled = (u.T @ orthogonal(matrix) @ v.T).diagonal()
assert sizes.max() / sizes.min() > 10
assert levelled.max() / levelled.min() < 2

# %% mystnb={"figure": {"caption": "A PixelCNN by two optimisers, and a wider one with weight decay: the loss of training (lines), images held out for validation under averaged weights (dots), and the paper's figure on test images (dashes). (No figure in the paper.)", "name": "fig-optimisers"}, "image": {"alt": "Nats an image over training images seen, on a logarithmic axis. All curves fall; after some ten thousand images those by Muon are below that by Adam, and stay there to the end. That of the wider one ends lowest."}}
by = {
    "Adam, h=32": "binarized-mnist-pixelcnn-adam",
    "Muon, h=32": "binarized-mnist-pixelcnn-muon",
    "Muon, h=64, weight decay": "binarized-mnist-pixelcnn",
}
adam, muon, wide = (ledger[name] for name in by.values())
logs = {title: ledger[name].log() for title, name in by.items()}
pixels.draw_curves(logs, {list(by)[-1]: lines["PixelCNN"]}, factor)
plt.show()

# %%
scores = {
    title: [
        (int(row["images"]), factor * row["validation"])
        for row in log
        if "validation" in row
    ]
    for title, log in logs.items()
}
best = min(nats for _, nats in scores["Adam, h=32"])
seen = {
    title: next(n for n, nats in pairs if nats <= best)
    for title, pairs in scores.items()
}
rows = [
    [
        title,
        f"{ledger[name].nats[0]:.2f}",
        f"{ledger[name].record.minutes:.0f}",
        f"{ledger[name].record.images:,}",
        f"{seen[title]:,}",
    ]
    for title, name in by.items()
]
until = f"until {best:.2f} on validation"
figures.show_table(["", "test, nats", "minutes", "images", until], rows)
assert seen["Muon, h=32"] < seen["Adam, h=32"] / 2
limit = adam.record.images
level = min(nats for n, nats in scores["Muon, h=32"] if n <= limit)
assert best - level > (adam.nats[0] - lines["PixelCNN"]) / 2

# %% [markdown]
# After as many images as Adam saw, Muon is ahead on validation by more than half of what our first PixelCNN was
# short of. So the greater part of that belonged to the optimiser, and not to the architecture: a warning to whoever
# compares architectures under a single optimiser. (The rest of the difference is that its run was longer. Our Row LSTM
# was trained by Muon, too, by the version of its commit, which moved the state-to-state weights as one long vector. In a
# short trial matrices learned more (`results/trials-pixelrnn.csv`), so it can do better. The Diagonal BiLSTMs were
# trained by Adam.)
#
# ### Weight decay
#
# What Muon gained it began to lose: the score of the second run was best before its end, while the loss of training
# went on falling. The third run is twice as wide, and shrinks every kernel a little at each step, by
# {eq}`eq:muon` with $\lambda = 0.1$: **weight decay** {cite}`loshchilov2019decoupled`. It is the PixelCNN of the tables
# above. It over-fits, too, but less.

# %%
rows = []
for title, run in zip(by, (adam, muon, wide), strict=True):
    end = [row["loss"] for row in run.log()]
    few = end[-max(1, len(end) // 20) :]
    validation = factor * run.record.scores.validation.bits_per_dim
    chosen = (run.record.chosen_step or run.record.steps) / run.record.steps
    rows.append(
        [
            title,
            f"{run.record.parameters:,}",
            f"{sum(few) / len(few):.2f}",
            f"{validation:.2f}",
            f"{chosen:.0%}",
        ]
    )
header = [
    "",
    "parameters",
    "training at the end",
    "validation",
    "chosen after",
]
figures.show_table(header, rows)
over = [float(row[3]) - float(row[2]) for row in rows]  # validation - training
assert muon.record.chosen_step < muon.record.steps
assert over[2] < over[1]
assert muon.nats[0] - wide.nats[0] > 2 * wide.nats[1]

# %% [markdown]
# Which of the two did it, the width or the decay? No pair of full runs says so. Short trials from the weights of the
# second run do in part (`results/trials-pixelrnn.csv`): decay alone brought its score down a little, and the loss of
# training up; three times as much, at twice the rate, was too much. So was **dropout** {cite}`tompson2015dropout`, of one map in ten:
# the narrow network lost more by it than it could gain.
#
# ### Grey levels
#
# On the grey levels of MNIST the paper reports nothing. The table in chapter {ref}`results` has what models score there,
# and the nearest relative of our PixelCNN is a *gated* one:

# %%
grey = ledger.get("mnist-pixelcnn")
(gated,) = (f for f in published("mnist") if "gated" in f.model)
if grey is not None:
    rows = [
        ["recorded, bits/dim", score_cell(grey)],
        [f"{gated.model}, by others", gated.cell],
        ["minutes", f"{grey.record.minutes:.0f}"],
        [
            "each image seen",
            f"{grey.record.images / grey.record.data.train_images:.1f} times",
        ],
    ]
    figures.show_table(["PixelCNN on MNIST", ""], rows)

# %% [markdown]
# ## Samples
#
# Sixteen images of each run, drawn pixel by pixel. The data set is not part of the book; where this chapter needs
# digits the best run draws them itself, and under the `paper` profile they are test images.


# %%
def digits(drawn):
    """As many test images under the paper profile, else those drawn."""
    generator = torch.Generator().manual_seed(0)
    if full:
        try:
            images = load("binarized-mnist", "test").images
            order = torch.randperm(len(images), generator=generator)
            return images[order[: len(drawn)]]
        except MissingData:
            pass
    return drawn


def white(images):
    """0 and 1 as grey levels."""
    return 255 * images


# %% mystnb={"figure": {"caption": "Samples of a recorded run of each model on binarised MNIST. None is chosen. (The paper shows samples of colour images.)", "name": "fig-pixelrnn-samples"}, "image": {"alt": "Sheets of four by four binary digits, one for each run. Most images look like handwritten digits, some are strokes that are none."}}
models = {
    name: run.load_model(str(device)).eval() for name, run in binary.items()
}
drawn = {
    name: model.sample(16, generator=torch.Generator().manual_seed(1)).cpu()
    for name, model in models.items()
}
sheets = {names[n]: white(images) for n, images in drawn.items()}
draw_sheets({"": sheets}, columns=4)
plt.show()

# %% [markdown]
# What does the best run think of its own images? Their mean cost is its entropy; test images cost it the
# cross-entropy, {eq}`eq:cost`. If the second were much larger, reality would keep surprising a model that is too sure
# of itself; if the first were, the model would draw what nobody writes.

# %%
name, run = next(iter(binary.items()))
model = models[name]
own = model.sample(200, generator=torch.Generator().manual_seed(0)).cpu()
test = digits(own)
nats = -model.log_prob(own.to(device)).cpu()
mean, error = run.nats
spread = error * math.sqrt(run.score.num_images)  # of single images
apart = nats.mean() - mean
assert abs(apart) < spread
how = "more" if apart > 0 else "less"
if abs(apart) < 4 * spread / math.sqrt(len(own)):
    how = "the same, within the noise"
print(f"test images, by the ledger: {mean:.0f} nats, spread {spread:.0f}")
print(f"{len(own)} of its own cost {how}")

# %% [markdown]
# ## Completions
#
# Figure 1 of the paper hides the lower half of an image and lets the model go on. For a Pixel RNN this is
# exact: the chain rule begins with the visible part,
#
# $$
# p(x_{\text{hidden}} \mid x_{\text{visible}}) = \prod_{i \,>\, m} p(x_i \mid x_1, \dots, x_{i-1}),
# $$ (eq:completion)
#
# if the visible pixels are the *first* $m$. Keep them, start drawing at the first hidden pixel, repeat for
# another one. (Real NVP has no such thing: to condition on a part of $x$ one would have to search the latents
# for it.)

# %% mystnb={"figure": {"caption": "After figure 1 of {cite:t}`oord2016pixelrnn`: images, the same with the lower half hidden, and four completions of each by the best recorded run, which drew the images too (under the `paper` profile they are test images). None is chosen.", "name": "fig-completions"}, "image": {"alt": "Six rows of ten binary digits. Below the second row, whose lower halves are grey, the digits are completed in four ways each; many agree with the original, others turn a stroke into another digit."}}
shown, visible, each = 10, 14, 4
generator = torch.Generator().manual_seed(0)
completed = model.complete(test[:16], visible, each, generator=generator)
completed = completed.cpu()
kept = test[:16, None, :, :visible].expand(-1, each, -1, -1, -1)
assert torch.equal(completed[:, :, :, :visible], kept)

occluded = white(test[:shown])
occluded[:, :, visible:] = 128
rows = {"image": white(test[:shown]), "occluded": occluded}
for i in range(each):
    rows[f"drawn {i + 1}"] = white(completed[:shown, i])
draw_rows(rows)
plt.show()

# %% [markdown]
# Do completions fit? Equation {eq}`eq:completion` is a sum of logs over the hidden pixels. Of an image that the
# model drew, the lower half and any completion of the upper half come from one distribution, so on average they
# cost the same. (Of a test image the lower half may cost more or less: it comes from another distribution.)


# %%
def nats_by_pixel(model, images):
    """-log p(x_i | x_<i) of each pixel, (N, H, W)."""
    images = images.to(device)
    logs = torch.log_softmax(model.logits(images), dim=-1)
    chosen = logs.gather(-1, images.long().unsqueeze(-1))
    return -chosen.squeeze(-1)[:, 0].cpu()


def lower_half(images):
    """-log p(hidden | visible), (N,)."""
    return nats_by_pixel(model, images)[:, visible:].sum(dim=(1, 2))


assert torch.allclose(
    nats_by_pixel(model, own[:16]).sum(dim=(1, 2)), nats[:16], atol=1e-2
)
given = lower_half(test[:16])
own = lower_half(completed.flatten(0, 1)).unflatten(0, (16, each)).mean(dim=1)
difference = (given - own).mean()
noise = (given - own).std() / math.sqrt(16)
assert abs(difference) < 4 * noise + (5 if full else 0)
print("lower halves and completions cost the same, within the noise")

# %% [markdown]
# ## Where the nats are
#
# A likelihood is a sum over pixels, so it can be drawn: what did each pixel cost, given those before it?

# %% mystnb={"figure": {"caption": "Digits, and below them the cost of each pixel, $-\\log p(x_i \\mid x_{<i})$. White: less than a hundredth of a nat. What is paid for are the edges of strokes, above all where a stroke begins or turns. (No figure in the paper.)", "name": "fig-nats-maps"}, "image": {"alt": "Eight digits; below each a map that is white in the background and inside strokes, and dark along their outlines, darkest at the upper left ends of strokes."}}
maps = nats_by_pixel(model, test[:8])
pixels.draw_nats_maps(test[:8], maps)
plt.show()

costs = nats_by_pixel(model, test[:16]).flatten(1).sort(descending=True)[0]
tenth = costs[:, :78].sum() / costs.sum()
assert tenth > 0.6
print("the dearest tenth of the pixels: more than three fifths of all nats")

# %% [markdown]
# A mean over images says nothing of this. Two models of equal nats may pay for different things.
#
# ## Discrete or continuous?
#
# Section 5.3 asks what it is worth to treat a pixel as one of 256 *names*, unordered, with a softmax. The rival
# is a density: a mixture of conditional Gaussian scale mixtures (MCGSM, {cite:t}`theis2015spatial`) at the
# output of the same Row LSTM. The density is scored with uniform noise added to the pixels, as in chapter
# {ref}`training`, which makes its figure a bound.

# %%
rivals = [
    figure
    for figure in published("cifar10-validation")
    if figure.model.startswith("12 layers")
    and ("mixture" in figure.model or "residual and skip" in figure.model)
]
rows = [[f.model, f.cell, f"the paper, {f.where}"] for f in rivals]
outputs = ("softmax", "mixture")
pair = {}
for kind in outputs:
    name = f"fashion-small-row-lstm-{kind}"
    if name in ledger and ledger[name].record.weights:
        pair[kind] = ledger[name]
        score = pair[kind].score
        cell = f"{score.bits_per_dim:.2f} ± {score.standard_error:.2f}"
        steps = f"{pair[kind].record.steps:,} steps"
        where = f"this code, the embedded test images, {steps}"
    else:
        cell, where = "not run", f"`nvp train configs/{name}.yaml`"
    rows.append([f"2 layers, {kind}", cell, where])
figures.show_table(["Row LSTM", "bits/dim", "data and source"], rows)

# %% [markdown]
# The first rows are for CIFAR-10, the last two are short runs on the embedded images, a miniature of the
# experiment: same layers, same data, same minutes, another output. (Our mixture has means and scales that are
# outputs of the network; the MCGSM has linear predictors.) Where does a difference come from? A density must be
# scored on noise, and it may put mass where no pixel can be. Both can be measured, as the mass of a mixture in
# each bin is known. On the same test images:


# %%
def dissect(run, images):
    """Bits/dim by noise, by the mass of bins, and all probabilities."""
    model = run.load_model(str(device)).eval()
    generator = torch.Generator().manual_seed(0)
    bits, all_p = [], []
    for batch in images.to(device).split(4):  # many levels, many components
        by_noise = model.log_prob(batch, generator=generator)
        logs = model.logits(batch)
        if run.config.model.output == "discrete":
            logs = torch.log_softmax(logs, dim=-1)
        mass = logs.gather(-1, batch.long().unsqueeze(-1))
        scores = torch.stack([by_noise, mass.flatten(1).sum(dim=1)])
        bits.append(bits_per_dim(scores, model.image_shape).cpu())
        all_p.append(logs.exp()[:, 0].cpu())
    return torch.cat(bits, dim=1).mean(dim=1).tolist(), torch.cat(all_p)


images = load(EMBEDDED, "test").images
some = images[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
few = some[: 200 if full else 12]
black = few[:, 0] == 0
rows, says, at_black = [], {}, {}
for kind, run in pair.items():
    (by_noise, by_mass), p = dissect(run, few)
    says[kind] = p
    lost = 1 - p.double().sum(dim=-1).mean().item()
    cost = -p.gather(-1, few[:, 0].long().unsqueeze(-1))[..., 0].log2()
    at_black[kind] = cost[black].mean()
    bits = by_noise, by_mass, at_black[kind], cost[~black].mean()
    cells = [f"{b:.2f}" for b in bits]
    rows.append([kind, *cells, f"{max(lost, 0):.1%}"])
    assert by_mass < by_noise + 0.02  # a bound, up to its noise
    assert abs(lost) < 1e-5 or kind == "mixture"
header = ["bits/dim", "by noise", "by mass", "black pixels", "others"]
if rows:
    figures.show_table([*header, "mass outside 0..255"], rows)
if len(at_black) == 2:
    assert at_black["softmax"] < at_black["mixture"]
print(f"{black.double().mean():.0%} of these pixels are black")

# %% [markdown]
# The noise explains little. What counts is black: about half of the pixels are *exactly* 0, and a softmax can
# say so in one number, where a density has to pile its mass up within one level of 256.
#
# And what do they say? Figure 6 of the paper shows softmax outputs that no simple density has: several peaks,
# and mass at exactly 0 and 255. We take a test image and three of its pixels, chosen by rules: the one where
# the model is least sure whether it is black ($p(0)$ nearest to one half), the one of the greatest entropy, and
# the one of the highest $p(255)$.

# %% mystnb={"figure": {"caption": "After figure 6 of {cite:t}`oord2016pixelrnn`: what the outputs of the recorded runs say of three pixels of a test image, given the true pixels before them. The triangle is the true level. The vertical axis is a square root, so that small probabilities show.", "name": "fig-softmax"}, "image": {"alt": "Panels of 256 bars, a row for each output, a column for each of three pixels. The softmax: a spike at 0 beside a low tail; two ragged humps; a rise towards 255 with a spike there. The mixture: smooth curves with a few bumps, and lower or no spikes at the ends."}}
if says:
    guide = next(iter(says.values()))  # the softmax, where it is recorded
    at = 4
    p = guide[at].flatten(0, 1)  # (pixels, levels)
    entropies = -torch.special.xlogy(p, p).sum(dim=-1)
    chosen = [
        (p[:, 0] - 0.5).abs().argmin().item(),
        entropies.argmax().item(),
        p[:, 255].argmax().item(),
    ]
    titles = ["black or not?", "greatest entropy", "highest p(255)"]
    panels = {kind: q[at].flatten(0, 1)[chosen] for kind, q in says.items()}
    truth = few[at].flatten()[chosen].tolist()
    pixels.draw_distributions(panels, titles, truth)
    plt.show()

# %% [markdown]
# A softmax does not know that 17 is next to 18, and nothing makes it smooth; that it has to learn from data.
# What it gets for the price is that no shape is ruled out.
#
# ## What a sample costs
#
# Real NVP draws an image in one pass. A Pixel RNN takes as many steps as there are sub-pixels. *By definition*
# each step is a pass over the whole image, of which one pixel is used. `model.sample` keeps what earlier steps
# computed, so all steps together cost about one pass; that they still wait for each other no cache can change.
# Count multiply-adds, of all matrix products and convolutions that are really executed:


# %%
def multiply_adds(function):
    """Executed while `function` runs, in the plain form of the scans."""
    counter = FlopCounterMode(display=False)
    with patch.dict(os.environ, NVP_PLAIN_SCAN="1"), counter:
        function()
    return counter.get_total_flops() // 2


def to_draw(model):
    """A Pixel RNN's pixels cost the same each: count those of 4 x 4."""
    pixel_rnn = isinstance(model, PixelRNN)
    if pixel_rnn:
        few = model.config.model_copy(update={"image_shape": (1, 4, 4)})
        model = PixelRNN(few)
    generator = torch.Generator().manual_seed(0)
    count = multiply_adds(lambda: model.sample(1, generator=generator))
    return 784 * count // 16 if pixel_rnn else count


def millions(number):
    return f"{number / 1e6:,.0f} M"


blank = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
rows, counts = [], {}
for name, model_of in models.items():
    one_pass = multiply_adds(lambda m=model_of: m.logits(blank.to(device)))
    counts[name] = (784 * one_pass, to_draw(model_of))
    naive, cached = map(millions, counts[name])
    rows.append([names[name], 784, millions(one_pass), naive, cached])
    assert counts[name][1] < 1.5 * one_pass
for run in ledger.values():
    if run.record.data.name != "mnist":
        continue
    if run.config.model.family == "realnvp" and run.record.weights:
        cost = millions(to_draw(run.load_model(str(device)).eval()))
        rows.append([run.record.title, 1, cost, cost, "–"])
header = [
    "an image of 28 × 28",
    "steps",
    "one pass",
    "by definition",
    "cached",
]
figures.show_table(header, rows)

# %% [markdown]
# In arithmetic the caches win everything back. In time they do not: 784 small steps in sequence are slower than
# one large one. Seconds depend on the machine, so they are quoted only from where they were measured:

# %%
kinds = {
    "pixelcnn": "PixelCNN",
    "row_lstm": "Row LSTM",
    "diagonal_bilstm": "Diagonal BiLSTM",
}
measured = repository_root() / "benchmarks" / "results_pixelrnn.json"
if measured.is_file():
    for record in json.loads(measured.read_text()).values():
        rows = []
        for kind, title in kinds.items():
            took = record["measured"].get(f"{kind}/sampling", [])
            if took:
                cached, one_pass = (
                    median(t for run in took for t in run[key])
                    for key in ("sample", "forward")
                )
                naive = took[0]["pixels"] * one_pass
                cells = [f"{cached:.2f} s", f"{1000 * one_pass:.0f} ms"]
                rows.append([title, *cells, f"{naive:.0f} s"])
        cpu = record["machine"]["cpu"]
        head = f"{record['batch']} images at once, {cpu}"
        columns = ["cached", "one pass", "by definition, estimated"]
        figures.show_table([head, *columns], rows)
else:
    print("not measured yet: python -m benchmarks.pixelrnn")

# %% [markdown]
# ## Summary
#
# * The tables, curves and pictures come from the ledger; a gap to the paper stands beside each figure, with
#   what the run's record says of its causes.
# * Completions are exact draws from the conditional, as long as what is hidden comes last.
# * The cost of an image lies in the edges of its strokes: a small part of the pixels.
# * A softmax may say anything of a pixel; a density is smooth, is scored by a bound, and loses mass outside the
#   range.
# * With caches a sample takes the arithmetic of one pass, in as many steps as there are sub-pixels.
#
# ## Exercises
#
# ```{exercise} The other half
# :label: ex-other-half
#
# Hide the *upper* half and do as before: go through the pixels in order, draw the hidden ones and keep the
# visible ones. Why is this no draw from the conditional? Show it on images so small that all can be listed.
# ```
#
# ```{solution-start} ex-other-half
# :class: dropdown
# ```
# Each hidden pixel is drawn given the earlier ones only; the visible ones below had no say. The images drawn
# may then be ones with which the lower half does not fit. By Bayes' rule the conditional weighs each of them
# with $p(x_{\text{visible}} \mid x_{\text{hidden}})$, for which a sum over all hidden pixels is needed.

# %%
torch.manual_seed(0)
small = PixelRNNConfig(
    kind="row_lstm",
    image_shape=(1, 2, 2),
    levels=2,
    num_layers=1,
    hidden=6,
    head=8,
    first_kernel=3,
)
tiny = PixelRNN(small).double()
for weight in tiny.parameters():
    torch.nn.init.normal_(weight, std=0.5)
every = torch.tensor(list(itertools.product((0, 1), repeat=4)))
every = every.byte().reshape(-1, 1, 2, 2)
p = tiny.log_prob(every).exp().reshape(4, 4)  # upper half, lower half
given_white = p[:, 3] / p[:, 3].sum()  # of upper halves, the lower all 1
in_order = p.sum(dim=1)  # what going through in order draws
likelihood = p[:, 3] / in_order  # of the lower half, given the upper
bayes = in_order * likelihood / (in_order * likelihood).sum()
assert torch.allclose(bayes, given_white)
assert (given_white - in_order).abs().max() > 0.1

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The most probable image
# :label: ex-most-probable
#
# What does an image without any ink cost? Why is it never drawn?
# ```
#
# ```{solution-start} ex-most-probable
# :class: dropdown
# ```
# Less than the mean digit: nearly every pixel is black and cheap, and there are no edges to pay for. (In the
# middle rows black is dearer, as a digit is overdue.) It may be among the most probable images. But there is
# *one* of it, at $e^{-\text{nats}}$, and digits are many: what is drawn is what is typical.

# %%
name, model = next(iter(models.items()))
ink_free = -model.log_prob(blank.to(device)).item()
of_digits = -model.log_prob(test[:16].to(device)).cpu()
assert ink_free < of_digits.mean()
assert all(images.flatten(1).any(dim=1).all() for images in drawn.values())
print("cheaper than the mean digit, and none of the samples is blank")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} How many images?
# :label: ex-how-many
#
# The test set has 10,000 images. What difference between two figures of the table above could be chance? How
# many images would it take to tell two figures that are 0.2 nats apart?
# ```
#
# ```{solution-start} ex-how-many
# :class: dropdown
# ```
# The standard error of a mean is $s / \sqrt n$, that of a difference of two independent means $\sqrt 2$ times
# as much. For a difference of two of its standard errors, $n = 2 (2s / \Delta)^2$. Scored on the *same* images
# the errors are shared and far fewer suffice, but papers do not print what that takes: the spread of the
# differences.

# %%
_, error = next(iter(binary.values())).nats
spread = error * math.sqrt(10_000)
n = 2 * (2 * spread / 0.2) ** 2
assert n > 10_000
print(f"nats spread by {spread:.0f} over images; needed: {n:.0e} images")

# %% [markdown]
# ```{solution-end}
# ```
