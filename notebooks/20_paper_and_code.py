# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (paper-and-code)=
# # Paper against official code
#
# ```{admonition} In the paper
# Sections 3.2 to 3.7 and 4.1 of {cite:t}`dinh2017realnvp`, beside the program that its first author published
# {cite}`dinh2016code`. The paper has no ablation; this chapter has one.
# ```
#
# Real NVP has two descriptions, a paper and a program, and they do not agree. None of the differences breaks the
# model: each side is a bijection with the right determinant. But whoever reimplements the one and compares with the
# other will meet them, and will ask what they are worth. We could not find out whether the published program made the
# paper's table 1. So this chapter keeps a ledger of the differences and looks at the ones that surprise. Then it measures
# one choice at a time, on the same images and in the same number of steps.

# %% tags=["parameters"]
profile = "laptop"

# %%
import math
import pydoc
import statistics
from collections import Counter

import matplotlib.pyplot as plt
import torch
from IPython.display import Markdown, display
from nvp_book import figures
from nvp_book.ablation import compare, load_ablation, read_rows
from nvp_book.figures import ablation as pictures
from nvp_book.figures import architecture, samples

from nvp import RealNVP, RealNVPConfig
from nvp.config import TrainingConfig
from nvp.data import EMBEDDED, load
from nvp.flows.batchnorm import CouplingBatchNorm, NormScope
from nvp.flows.coupling import AffineCoupling, AffineOrder, ChannelCoupling
from nvp.flows.masks import Parity, channel_mask, checkerboard_mask
from nvp.flows.resnet import CouplingNet, InputTreatment
from nvp.flows.squeeze import SqueezeOrder, squeeze, unsqueeze
from nvp.tables.build import runs

figures.use_style()
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # so that a check can be strict

# %% [markdown]
# ## The ledger
#
# Nearly every difference that changes the model is a field of `RealNVPConfig`, and there are two presets. The others are
# named at the end of this section. So the table need not be written down: it is the fields in which the presets differ,
# here for 64 × 64 images, and their values. Only the places to look at were typed, and the page fails when they do not
# cover exactly those fields.

# %%
shape = (3, 64, 64)
paper, official = RealNVPConfig.paper(shape), RealNVPConfig.official(shape)
where = {  # in the paper; in the official code; here
    "num_blocks": (
        "section 4.1",
        "the README",
        "config.preset_fields",
    ),
    "affine_order": (
        "section 3.2, equation 5",
        "`masked_conv_aff_coupling`",
        "coupling.AffineOrder",
    ),
    "first_kept": (
        "section 3.4, figure 3",
        "`rec_masked_conv_coupling`",
        "masks.Parity",
    ),
    "channel_squeeze": (
        "section 3.6, figure 3",
        "`squeeze_nxn`",
        "squeeze.SqueezeOrder",
    ),
    "norm_scope": (
        "section 3.7",
        "`masked_conv_aff_coupling`",
        "batchnorm.NormScope",
    ),
    "penalise_channel_scales": (
        "section 4.1",
        "`RealNVP.__init__`",
        "realnvp.RealNVP.weight_scale_penalty",
    ),
    "undo_data_constraint": (
        "figure 5",
        "the block that samples",
        "realnvp.RealNVP.decode",
    ),
    "sample_batch_statistics": (
        "nowhere",
        "the block that samples",
        "realnvp.RealNVP.sample",
    ),
}
differ = [
    name
    for name in RealNVPConfig.model_fields
    if getattr(paper, name) != getattr(official, name)
]
assert set(where) == set(differ)
assert all(pydoc.locate(f"nvp.flows.{at}") for *_, at in where.values())

rows = [
    [
        f"`{each}`"
        for each in (name, getattr(paper, name), getattr(official, name))
    ]
    for name in differ
]
figures.show_table(["field", "paper", "code"], rows)

# %% [markdown]
# And where to look for each: in the paper; in the official code; in `nvp.flows`.

# %%
lines = []
for name in differ:
    in_paper, in_code, here = where[name]
    lines.append(f"* `{name}`: {in_paper}; {in_code}; `{here}`")
display(Markdown("\n".join(lines)))

# %% [markdown]
# In a sentence each:
#
# * `num_blocks`: for images of 64 × 64 section 4.1 says two residual blocks, the commands in the code's README say four.
# * `affine_order`: the paper scales and then shifts, $x\, e^s + t$; the code shifts first, $(x + t)\, e^s$.
# * `first_kept`: in the paper $b = 1$ on the odd squares, and it does not say which coupling comes first; the first
#   coupling of the code keeps the even ones.
# * `channel_squeeze`: figure 3 shows the four pixels of a block behind each other, for one channel. With three channels
#   the code puts all of red before all of green. Its first half is then not the top row of every block.
# * `norm_scope`: the paper normalises "the whole coupling layer output", the code only what the coupling has changed. The
#   kept squares of a checkerboard contribute zeros to the moments of the code.
# * `penalise_channel_scales`: the paper's L2 term is on the weight scales. The code looks for penalised variables by name,
#   and its search misses the learned scales of tanh in channel-wise couplings.
# * `undo_data_constraint`: the logit is of $0.05 + 0.9\, \tilde x$; the code's sample sheets show the sigmoid as it is and do
#   not take that map back.
# * `sample_batch_statistics`: inside $s$ and $t$ the code normalises samples by the statistics of the sheet that is drawn.
#   So an image depends on those beside it, and the model that samples is not quite the model that is scored. The paper
#   does not say.
#
# Where the paper says nothing, both presets follow the code. No reader of the paper alone would know these values:

# %%
silent = {
    "factor_out_squeeze": "half that goes on to the next scale (3.6)",
    "concatenated_relu": "the nets see h and −h",
    "mask_channel": "the nets see the checkerboard",
    "scale_per_channel": 'no: the "learned scale" of 4.1 is one number',
    "checkerboard_scale_init": "at which it starts, under a checkerboard",
    "channel_scale_init": "at which it starts, under a channel mask",
}
assert all(getattr(paper, key) == getattr(official, key) for key in silent)
rows = [
    [f"`{key}`", f"`{getattr(paper, key)}`", text]
    for key, text in silent.items()
]
defaults = TrainingConfig(steps=1)
rows += [
    [
        "`clip_norm`",
        f"`{defaults.clip_norm:g}`",
        "of the gradient, in training",
    ],
    ["`learning_rate`", f"`{defaults.learning_rate:g}`", "of Adam"],
]
figures.show_table(["field", "value", "what it is"], rows)

# %% [markdown]
# In two points neither preset does what the paper prints. Its **logit**, of $\alpha + (1 - \alpha)\, \tilde x$, is infinite at
# white; both presets have the code's, of $\alpha + (1 - 2\alpha)\, \tilde x$ (chapter {ref}`training` derives it). And the
# batch norm with a **running average** of appendix E is off, as in the published code. That code has an option for it,
# whose default of zero nothing changes. Its formula puts the weight of the average on the batch, the reverse of the
# appendix, which we have read in a translation. The appendix says that the model for CIFAR-10 was trained with the
# running average. It gives no value for the momentum. The field `norm_running_average` turns it on.
#
# And some things no configuration of a model can hold:
#
# * CIFAR-10 is in table 1, and not in the code, which reads ImageNet, CelebA and LSUN.
# * The paper does not say how long to train. The code has a flag for it. Its default is ten steps in the version that was
#   ported to TensorFlow 2 {cite}`dinh2016code`. In the archived version before that it is $10^{18}$ steps, so training
#   goes on until someone stops it.
# * CelebA is resized in the code and *not rounded* to integers before noise is added. A figure in bits is then not the
#   length of a code for images of 8 bits.
# * LSUN is cropped at random in the code, at evaluation too, so its score is of other images each time.
# * The code's first normalisation inside $s$ and $t$ is followed by a factor of two under a checkerboard, of which the
#   paper has no word.
#
# These differences between the code and the preset `official` are no fields:
#
# * The norms inside $s$ and $t$ keep a moving variance for evaluation. It is the biased one in the code and the unbiased
#   one here, as everywhere in PyTorch. On maps of 4 × 4 and with 64 images the two differ by a thousandth, on larger maps
#   by less. Training does not use them.
# * A network without residual blocks has two 3 × 3 convolutions in the code. Here it has a 3 × 3 and two 1 × 1.
# * Adam adds $\epsilon$ to $\sqrt v$ after the bias correction in PyTorch, and before it in TensorFlow 1. At the first step
#   PyTorch's $\epsilon$ acts about thirty times smaller.
# * The code scores its last weights with moving averages. Our runs, those of the preset `official` among them, score
#   averaged weights with re-estimated statistics (chapter {ref}`networks`).
#
# How close is the preset to the code, then? We compared them outside this repository. The authors' TensorFlow code ran
# in float64 beside `official` on two small models. Starting values were equal. In evaluation, $z$ agreed within
# $5 \cdot 10^{-13}$ and log-likelihoods within $3 \cdot 10^{-11}$ nats; in training mode, losses, the L2 term and gradients
# agreed within $4 \cdot 10^{-13}$. With its weights copied and its own choices set, a
# [port to PyTorch](https://github.com/chrischute/real-nvp) agreed within $8 \cdot 10^{-11}$ nats. Inside the repository,
# `tests/test_numpy_parity.py` computes both presets, and every kind of Pixel RNN, a second time in NumPy.
#
# ## The norm that counts zeros
#
# Under a checkerboard the code normalises what the coupling has changed, $(1 - b) \odot y$. It takes mean and variance over
# all squares. Those with $b = 1$ are zeros there.
#
# ```{prf:proposition} What the norm of the code leaves
# :label: prop-official-norm
#
# Let the changed half have mean $m$ and variance $v$, and let $\epsilon = 0$. The moments that the code takes are $m/2$ and
# $v/2 + m^2/4$, and it leaves the changed half with
#
# $$
# \begin{aligned}
# \text{mean } & \frac{r}{\sqrt{2 + r^2}}, \\[8pt]
# \text{deviation } & \frac{2}{\sqrt{2 + r^2}}, \\[8pt]
# r = {} & \frac{m}{\sqrt v},
# \end{aligned}
# $$ (eq:official-norm)
#
# so that mean² + deviation² / 2 = 1, whatever $m$ and $v$.
# ```
#
# ```{prf:proof}
# Half of the numbers are zeros: the mean is $m/2$, the mean of the squares $(v + m^2)/2$, and their variance $(v + m^2)/2 - m^2/4
# = v/2 + m^2/4$. The norm takes $m$ to $(m - m/2) / \sqrt{v/2 + m^2/4}$ and multiplies the deviation $\sqrt v$ by the same factor. Divide
# both by $\sqrt v$, above and below. The last claim is $(r^2 + 2) / (2 + r^2) = 1$.
# ```
#
# A mean of zero leaves $\sqrt 2$. But the mean of the changed half is whatever
# $t$ makes it, and the larger it is, the *less* spread is left:

# %% mystnb={"figure": {"caption": "Mean and standard deviation of the changed half behind the norm of the official code: {eq}`eq:official-norm` and, as dots, measured on random images. A plain norm would give 0 and 1. (No figure in the paper.)", "name": "fig-official-norm"}, "image": {"alt": "Two curves over the ratio of mean and deviation, from 0 to 6. The deviation falls from 1.41 to 0.3, the mean rises from 0 towards 1. Dots lie on both."}}
generator = torch.Generator().manual_seed(0)
b = checkerboard_mask(16, 16)
noise = torch.randn(200, 1, 16, 16, generator=generator)
norm = CouplingBatchNorm(
    1, NormScope.OFFICIAL, momentum=1.0, running_average=False
)
means, deviations = {}, {}
for r in (0.0, 1.0, 2.0, 4.0, 6.0):
    z, _ = norm(3 * (noise + r), b)
    changed = z.masked_select(~b)
    means[r], deviations[r] = changed.mean().item(), changed.std().item()
    assert abs(means[r] ** 2 + deviations[r] ** 2 / 2 - 1) < 0.01
ratios = torch.linspace(0, 6, 121)
curves = {
    "standard deviation": 2 / torch.sqrt(2 + ratios**2),
    "mean": ratios / torch.sqrt(2 + ratios**2),
}
points = {"standard deviation": deviations, "mean": means}
for name, curve in curves.items():
    measured = list(points[name].values())
    assert torch.allclose(
        torch.tensor(measured), curve[[0, 20, 40, 80, 120]], atol=0.02
    )
pictures.draw_norm(ratios, curves, points)
plt.show()

# %% [markdown]
# The likelihood is right all the same, since {eq}`eq:batch-norm` counts the factor that was really applied. But the next layer no longer gets numbers of one size, and a normalisation is there
# for that.
#
# The *first* norm inside $s$ and $t$ sees zeros too, those of the masked input. It is the one that is followed by a factor of two.
# Users of a port [have asked](https://github.com/chrischute/real-nvp/issues/3) what the factor is for. Here is the output for an input of deviation 1:

# %%
treatment = InputTreatment(
    1, Parity.ODD, concatenated_relu=False, mask_channel=False
)
h = treatment(noise * b).detach().masked_select(b)
after_norm = (h / 2).std().item()
assert abs(after_norm - math.sqrt(2)) < 0.01
print(f"kept squares after the norm: {after_norm:.2f}; doubled: {h.std():.2f}")

# %% [markdown]
# The zeros halve the variance that the norm divides by. So the kept squares are too *large* by $\sqrt 2$ before they are
# doubled, and too large by $2 \sqrt 2$ after it. A factor that made up for the zeros would be $1 / \sqrt 2$. The program does
# not say what was meant. {numref}`Exercise %s <ex-factor>` looks at the effect of the factor on the output of a network.
#
# ## Even squares first
#
# Does it matter which squares are kept first? There is a case in which it cannot.
#
# ```{prf:proposition} The mirrored flow
# :label: prop-mirror
#
# Let $R$ mirror an image left to right. For a flow of one scale on images of even width, let $f^{\text{odd}}_\theta$ keep the
# odd squares first and $f^{\text{even}}_{\theta}$ the even ones, and let $\theta'$ be $\theta$ with every kernel mirrored. Then
#
# $$
# \begin{aligned}
# f^{\text{even}}_{\theta'}(R\, x) &= R\, f^{\text{odd}}_\theta(x), \\
# p^{\text{even}}_{\theta'}(R\, x) &= p^{\text{odd}}_\theta(x).
# \end{aligned}
# $$ (eq:mirror)
# ```
#
# ```{prf:proof}
# Column $j$ goes to $W - 1 - j$, so row + column changes parity when $W$ is even: $R$ takes odd squares to even ones. A
# convolution with mirrored kernels, applied to a mirrored map, gives the mirrored result; sums, rectifiers and batch norms
# act on each place alike. So $R$ passes through every coupling. The prior does not change under a permutation, and neither do
# determinants.
# ```
#
# In the paper training mirrors CIFAR-10's images at random. On such images two models of one scale that differ in this
# field can reach exactly the same likelihoods. With several scales the argument stops: the diagonal of a block that is
# factored out is not its own mirror image.


# %%
def mirrored(model, kept):
    """The same weights, kernels mirrored, other squares first."""
    config = model.config.model_copy(update={"first_kept": kept})
    other = RealNVP(config)
    other.load_state_dict(
        {
            name: value.flip(-1) if value.ndim == 4 else value
            for name, value in model.state_dict().items()
        }
    )
    return other.eval()


x = torch.randn(4, 1, 8, 8, generator=generator)
apart = {}
for num_scales in (1, 2):
    torch.manual_seed(0)
    config = RealNVPConfig.paper(
        (1, 8, 8),
        num_scales=num_scales,
        num_blocks=1,
        width=6,
        checkerboard_scale_init=1.0,
    )
    odd = RealNVP(config)
    odd.flow(x)  # batch norms get statistics of their own
    even = mirrored(odd, Parity.EVEN)
    with torch.no_grad():
        z, log_det = odd.eval().flow(x)
        z_even, log_det_even = even.flow(x.flip(-1))
    apart[num_scales] = (log_det - log_det_even).abs().max().item()
    if num_scales == 1:
        assert (z_even - z.flip(-1)).abs().max() < 1e-9
assert apart[1] < 1e-9
assert apart[2] > 0.1

# %% [markdown]
# ## The order of a squeeze
#
# On grey images the plain squeeze of the code and figure 3 agree, at the first scale. From the second scale on there are two channels, and
# they part. The figure has them for colour. *Position major* is figure 3 for every colour, and the preset `paper` takes it for the
# channel-wise couplings. *Channel major* is the code's order there: its first and third coupling predict blue, and the lower rows of green, from
# red and the upper rows of green. *Diagonal* is the code's order for factoring out, and both presets take it, since the paper is silent.

# %% mystnb={"figure": {"caption": "Which sub-pixels make up the first half of the twelve channels, painted in, for an image of three colours under each order. The channel-wise mask keeps this half.", "name": "fig-orders"}, "image": {"alt": "Nine boards of 6 by 6, three orders by three colours. Channel major: all of red, every other row of green, none of blue. Position major: every other row of each colour. Diagonal: a checkerboard in each colour."}}
first_half = channel_mask(12).expand(1, 12, 3, 3).float()
architecture.draw_halves(
    {
        order.value.replace("_", " "): unsqueeze(first_half, order)[0] > 0
        for order in SqueezeOrder
    }
)
plt.show()

# %%
orders = (SqueezeOrder.POSITION_MAJOR, SqueezeOrder.CHANNEL_MAJOR)
for channels, same in ((1, True), (2, False)):
    x = torch.randn(1, channels, 4, 4, generator=generator)
    one, other = (squeeze(x, order).chunk(2, dim=1)[0] for order in orders)
    assert torch.equal(one, other) is same

# %% [markdown]
# So a model of two scales for grey images, which squeezes for its channel-wise couplings only once, is one and the same
# under both. The ablation below has three scales.
#
# ## Shift, then scale
#
# $(x + t)\, e^s = x\, e^s + t\, e^s$: the maps are the same (chapter {ref}`coupling-layers`). A step of the optimiser differs. The
# derivative of the output by $t$ is 1 for the paper and $e^s$ for the code, which by {eq}`eq:bounded` is between $e^{-|\alpha|}$ and
# $e^{|\alpha|}$. Under a checkerboard $\alpha$ starts at 0, and at first there is no difference at all:


# %%
def slope_by_shift(order, alpha):
    """Range of dy/dt over a batch, by automatic differentiation."""
    torch.manual_seed(0)
    config = RealNVPConfig.paper(
        (1, 8, 8),
        num_blocks=1,
        width=6,
        norm_scope=None,
        affine_order=order,
        channel_scale_init=alpha,
    )
    flow = RealNVP(config).flow
    coupling = next(
        m for m in flow.modules() if isinstance(m, ChannelCoupling)
    )
    shifts = []

    def keep_shift(x, b, y=None):
        t, s = AffineCoupling.shift_and_log_scale(coupling, x, b)
        shifts.append(t.detach().requires_grad_())
        return shifts[0], s

    coupling.shift_and_log_scale = keep_shift
    h = torch.randn(16, 4, 4, 4, generator=generator)
    y, _ = coupling(h)
    (slope,) = torch.autograd.grad(y.sum(), shifts)
    changed = slope.masked_select(~coupling.mask(h))
    return changed.min().item(), changed.max().item()


for order in AffineOrder:
    assert slope_by_shift(order, 0.0) == (1.0, 1.0)
assert slope_by_shift(AffineOrder.SCALE_THEN_SHIFT, 1.0) == (1.0, 1.0)
low, high = slope_by_shift(AffineOrder.SHIFT_THEN_SCALE, 1.0)
assert math.exp(-1) < low < 1 < high < math.e
print(f"dy/dt, shift first, alpha = 1: from {low:.2f} to {high:.2f}")

# %% [markdown]
# ## What the samples look like
#
# The code's sheets show $\sigma(y)$ where $0.05 + 0.9\, \tilde x = \sigma(y)$. So black comes out as a dark grey, and white as a
# light one. Whether figure 5 of the paper was made so we cannot know. A recorded model, the same latents, decoded both ways:

# %% mystnb={"figure": {"caption": "The same latents decoded with the map $0.05 + 0.9\\,\\tilde x$ undone, and as in the official code. Cf. figure 5 of {cite:t}`dinh2017realnvp`.", "name": "fig-contrast"}, "image": {"alt": "Two sheets of the same garments. On the left black is black; on the right all of it is washed out, the ground dark grey and the brightest parts light grey."}}
recorded = runs()["fashion-mnist"].load_model()
torch.set_default_dtype(torch.float32)
images = load(EMBEDDED, "test").images[::72]
with torch.no_grad():
    z = recorded.encode(images, torch.Generator().manual_seed(0))
sheets = {}
for name, undo in (("undone", True), ("as in the code", False)):
    recorded.config = recorded.config.model_copy(
        update={"undo_data_constraint": undo}
    )
    sheets[name] = recorded.decode(z)
torch.set_default_dtype(torch.float64)
assert (sheets["undone"] == images).double().mean() > 0.999
shades = sheets["as in the code"]
assert (int(shades.min()), int(shades.max())) == (12, 242)
samples.draw_sheets({"": sheets}, columns=7)
plt.show()

# %% [markdown]
# (ablation)=
# ## What each choice is worth
#
# `workflow/ablation.yaml` takes the preset `paper` and changes one thing at a time. It begins with each field of the
# ledger that can have an effect on a likelihood, and then takes all of them, which is the preset `official`. Then come
# the logit as printed, and parts that both have, left out or changed. These runs have been recorded, as settings for
# `nvp train configs/ablation/base.yaml --set ...`:

# %%
ablation = load_ablation()
rows = read_rows()
comparisons = compare(ablation, rows)
baseline, *others = comparisons
assert baseline.variant == ablation.baseline
for each in comparisons:
    settings = ablation.settings(each.variant)
    assert all(row.settings == settings for row in each.rows)
figures.show_table(
    ["variant", "set"],
    [[c.variant.title, f"`{' '.join(c.variant.set)}`"] for c in others],
)

# %% [markdown]
# Every run has the same budget, a small one:


# %%
base = ablation.config(ablation.baseline, 0)
steps, batch = base.training.steps, base.training.batch_size
assert {row.steps for row in rows} == {steps}
train_images = len(load(base.data.name, "train").images)
train_images -= base.evaluation.validation_images
test_images = len(load(base.data.name, "test").images)
runs_asked = len(ablation.variants) * len(ablation.seeds)
display(
    Markdown(
        f"{steps} steps of {batch} images, which is "
        f"{steps * batch / train_images:.1f} passes over the {train_images:,} "
        "training images of embedded Fashion-MNIST; "
        f"{base.model.num_scales} scales, "
        f"{base.model.num_blocks} residual block in a network, width "
        f"{base.model.width}; scored on {test_images:,} test images. "
        f"{len(rows)} of {runs_asked} runs are recorded: "
        f"{len(ablation.variants)} variants, the preset `paper` among them, "
        f"{len(ablation.seeds)} seeds of each. `make ablation` makes "
        "any that are missing."
    )
)

# %% [markdown]
# ### Pairs
#
# Two runs of *one* configuration with two seeds differ too, as the baseline below shows. So the runs are compared in
# pairs. Both runs of a pair have one seed. They see the same images in the same order with the same noise, and start
# from the same weights where shapes agree. With $d_i$ the test bits/dim of a variant minus those of the baseline, seed $i$ of $n$,
#
# $$
# \bar d = \frac1n \sum_i d_i, \qquad
# \operatorname{se} = \sqrt{\frac{1}{n (n - 1)} \sum_i (d_i - \bar d)^2}.
# $$ (eq:paired)
#
# One seed has a difference and no standard error. In code, and beside what the package computes:


# %%
def paired(differences):
    """Mean and standard error over seeds; nan for one seed."""
    n, mean = len(differences), statistics.fmean(differences)
    squares = sum((d - mean) ** 2 for d in differences)
    return mean, math.sqrt(squares / (n * (n - 1))) if n > 1 else math.nan


base_test = {row.seed: row.test for row in baseline.rows}
for each in others:
    mean, error = paired([row.test - base_test[row.seed] for row in each.rows])
    found = each.difference
    assert math.isclose(mean, found.mean, abs_tol=1e-9)
    assert math.isclose(error, found.error, abs_tol=1e-9) or len(each.rows) < 2

# %% [markdown]
# How far to trust twice a standard error of so few? If the $d_i$ are normal and their true mean is zero, $\bar d / \operatorname{se}$ has
# Student's distribution with $n - 1$ degrees of freedom, which has heavy tails. For $n = 2$ it is Cauchy's, and for $n = 3$
# there is a formula as well:

# %%
formula = {2: 1 - 2 / math.pi * math.atan(2), 3: 1 - 2 / math.sqrt(2 + 2**2)}
alarm = {}
for n in range(2, max(3, len(ablation.seeds)) + 1):
    d = torch.randn(100_000, n, generator=generator)
    outside = d.mean(dim=1).abs() > 2 * d.std(dim=1) / math.sqrt(n)
    alarm[n] = outside.double().mean().item()
    assert abs(alarm[n] - formula.get(n, alarm[n])) < 0.01
    print(f"{n} seeds: beyond 2 standard errors by chance {alarm[n]:.0%}")

# %% [markdown]
# With many seeds it would be 5%. Moreover all the variants are compared with the *same* runs of the baseline. Where one
# of those is lucky, all differences of its seed move together, in one direction.
#
# ### The result


# %%
def signed(value):
    """Three decimals and a sign; a dash where there is no number."""
    return "–" if math.isnan(value) else f"{value:+.3f}".replace("-", "−")


table = []
for each in [baseline, *sorted(others, key=lambda c: c.difference.mean)]:
    error = each.difference.error if each.differences else math.nan
    table.append(
        [
            each.variant.title,
            len(each.rows),
            f"{each.rows[0].parameters:,}",
            f"{each.test.mean:.3f}",
            signed(each.difference.mean) if each.differences else "–",
            "–" if math.isnan(error) else f"{error:.3f}",
        ]
    )
header = [
    "variant",
    "seeds",
    "parameters",
    "test bits/dim",
    "minus paper",
    "standard error",
]
figures.show_table(header, table)

# %% [markdown]
# The fourth column is the mean over the seeds that a variant has, and the fifth is paired. Where a variant has fewer seeds
# than the baseline, the fifth is not the difference of two entries of the fourth. Below zero is better than the preset
# `paper`.

# %% mystnb={"figure": {"caption": "The ablation. Orange: each seed's difference to the preset `paper`. Dot: their mean, with two standard errors to both sides where there is more than one seed; filled where this interval does not meet zero. The worst are on top. (No figure in the paper, which has no ablation.)", "name": "fig-ablation"}, "image": {"alt": "A forest plot. One line for each variant, sorted by its mean difference to the baseline in test bits per dimension; a vertical line marks zero, short orange strokes mark single seeds, bars mark two standard errors. The table above has the numbers."}}
pictures.draw_forest(others, lambda each: 2 * each.difference.error)
plt.show()

# %%
repeated = [c for c in others if len(c.differences) > 1]
clear = [
    c for c in repeated if abs(c.difference.mean) > 2 * c.difference.error
]


def listed(some):
    """Titles with their differences, the best first."""
    some = sorted(some, key=lambda c: c.difference.mean)
    named = [f"{c.variant.title} ({signed(c.difference.mean)})" for c in some]
    return "; ".join(named) or "none"


seeds = Counter(len(c.differences) for c in others)
expected = sum(alarm[len(c.differences)] for c in repeated)
counted = ", ".join(
    f"{seeds[n]} with {n}" for n in sorted(seeds, reverse=True)
)
paragraphs = [
    "**Beyond twice their standard error**, better than `paper`: "
    f"{listed(c for c in clear if c.difference.mean < 0)}. Worse: "
    f"{listed(c for c in clear if c.difference.mean > 0)}. "
    f"If none of the {len(repeated)} that have more than one seed made any "
    f"difference, {expected:.1f} would be expected here by chance.",
    "**Not told apart from zero** by that rule: "
    f"{listed(c for c in repeated if c not in clear)}.",
]
if seeds[1]:
    single = listed(c for c in others if c not in repeated)
    paragraphs = [
        f"Variants by number of seeds: {counted}.",
        *paragraphs,
        f"**One seed**, so a difference and no more: {single}.",
    ]
display(Markdown("\n\n".join(paragraphs)))

# %% [markdown]
# The spread of the *baseline* from seed to seed is a yardstick that needs no standard error:

# %%
spread = max(base_test.values()) - min(base_test.values())
larger = [c for c in others if abs(c.difference.mean) > spread]
display(
    Markdown(
        f"The {len(base_test)} runs of the preset `paper` lie up to "
        f"{spread:.3f} bits/dim apart. Larger than that is the mean "
        f"difference of: {listed(larger)}."
    )
)

# %% [markdown]
# ### How to read it
#
# * **Short runs say little about long ones.** After so few steps a score tells mostly how *fast* a variant learns. A
#   choice that makes the first steps easier need not win in the end. {numref}`Exercise %s <ex-halfway>` looks at half of
#   the budget.
# * **Small models say little about large ones.** With one residual block there is not much for skips and norms to do: both are there for depth
#   (section 3.7), and nothing here is deep.
# * **Sizes differ** in some rows. One scale of three has far fewer parameters, so its row measures size and depth as well as scales.
# * **One learning rate** for all. A variant that would like another one is not given it.
# * **One data set** of grey images. The order of a squeeze concerns colours above all.
#
# To ask more of it: `workflow/ablation.yaml` holds seeds and variants, `configs/ablation/base.yaml` the model and the budget.
# Change them, name another file with `python workflow/ablation.py --output FILE.csv`, and every run that is not
# in it is made. (A row that was made with other settings is refused, so that one table never mixes two experiments.)
#
# ## Summary
#
# * The ledger is computed: it is the fields in which two presets differ. Each side of each difference is a bijection
#   with the right determinant.
# * The code's norm under a checkerboard counts zeros, and leaves mean and deviation with mean² + deviation² / 2 = 1. Its
#   first norm inside $s$ and $t$ makes the kept squares too large by $\sqrt 2$, and the doubling behind it adds to that.
# * On mirrored images, odd or even squares first cannot matter to a flow of one scale. On grey images, the order of a
#   squeeze cannot matter to a flow of two scales.
# * Shift and scale in either order give the same maps and different gradients.
# * The ablation is paired by seed, and small. It can tell large effects from none, and says how often
#   chance alone would pass its rule.
#
# ## Exercises
#
# ```{exercise} Each side is a bijection
# :label: ex-each-side
#
# Take the preset `paper`, change one field of the ledger at a time, and check both claims of the introduction: that the
# model is invertible and that its log-determinant is right.
# ```
#
# ```{solution-start} ex-each-side
# :class: dropdown
# ```
# In evaluation, where batch norms are fixed maps. First a batch in training, so that they are not the identity, and scales away from
# 0, so that no coupling is only a shift. `num_blocks` changes networks and no map, and is left out, as are
# `undo_data_constraint`, which comes behind the flow, and `sample_batch_statistics`, which is for drawing alone.

# %%
no_part_of_a_map = {
    "num_blocks",
    "undo_data_constraint",
    "sample_batch_statistics",
}
for name in differ:
    if name in no_part_of_a_map:
        continue
    torch.manual_seed(0)
    changed = RealNVPConfig.paper(
        (1, 8, 8),
        num_blocks=1,
        width=4,
        checkerboard_scale_init=1.0,
        **{name: getattr(official, name)},
    )
    flow = RealNVP(changed).flow
    flow(torch.randn(32, 1, 8, 8, generator=generator))
    flow.eval()
    x = torch.randn(1, 1, 8, 8, generator=generator)
    with torch.no_grad():
        z, log_det = flow(x)
        back, _ = flow.inverse(z)
    assert torch.allclose(back, x, atol=1e-8)
    jacobian = torch.autograd.functional.jacobian(flow, x)[0]
    _, by_hand = torch.linalg.slogdet(jacobian.reshape(64, 64))
    assert torch.allclose(log_det, by_hand, atol=1e-8)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} When doubling is right
# :label: ex-right-doubling
#
# A factor behind the first norm inside $s$ and $t$ should give the kept squares deviation 1. Which one does, for an
# input of mean $m$ and variance $v$? For which input is it 2?
# ```
#
# ```{solution-start} ex-right-doubling
# :class: dropdown
# ```
# By {prf:ref}`prop-official-norm`, with "kept" for "changed", the norm leaves a deviation of $2 / \sqrt{2 + r^2}$. So
# the factor is $\sqrt{2 + r^2} / 2$. It is $1 / \sqrt 2$ for $r = 0$ and 1 for $r = \sqrt 2$. It is 2 for $r = \sqrt{14}$, an input
# whose mean is almost four deviations from zero.

# %%
for r, factor in (
    (0, 1 / math.sqrt(2)),
    (math.sqrt(2), 1),
    (math.sqrt(14), 2),
):
    h = treatment((noise + r) * b).detach().masked_select(b)
    assert abs(h.std() / 2 * factor - 1) < 0.01

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What is left of a factor
# :label: ex-factor
#
# Leave the doubling out of a network for $s$ and $t$. A convolution follows, and behind it batch norms: does the
# output change?
# ```
#
# ```{solution-start} ex-factor
# :class: dropdown
# ```
# A batch norm right behind a convolution takes any factor back, but for its $\epsilon$. The network has one
# more path, the residual one. It adds the output of the convolution, factor included, to the output of a block, whose
# size does not depend on the factor. So the *proportion* of the two changes, and the output with it.


# %%
class Single(InputTreatment):
    """Without the doubling."""

    def forward(self, x, y=None):
        return super().forward(x) / 2


def output_with(treatment_type, num_blocks):
    """Of a new network in training mode, the same weights each time."""
    torch.manual_seed(0)
    treated = treatment_type(
        1, Parity.ODD, concatenated_relu=True, mask_channel=False
    )
    net = CouplingNet(treated, 1, width=16, num_blocks=num_blocks)
    return net(noise * b).detach()


for num_blocks in (0, 2):
    doubled, single = (
        output_with(kind, num_blocks) for kind in (InputTreatment, Single)
    )
    change = (doubled - single).std() / doubled.std()
    assert change > 0.01 if num_blocks else change < 1e-3
    print(f"{num_blocks} blocks: changed by {change:.0%} of the deviation")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Half of the budget
# :label: ex-halfway
#
# The rows keep the training loss at half of the steps too. Is the order of the variants there the order at the end?
# Use the rank correlation.
# ```
#
# ```{solution-start} ex-halfway
# :class: dropdown
# ```
# We correlate the ranks of paired mean differences. A figure near 1 says that the order was settled by the middle of *this*
# budget. Ten times the steps need not keep it: the learning rate falls in the last part of each run, and gaps close as
# losses flatten. The second figure says how the gaps themselves have changed, in the median.


# %%
def ranks(values):
    """0 for the least."""
    order = torch.tensor(values).argsort()
    return order.argsort().double()


early = [statistics.fmean(c.halfway) for c in others]
late = [c.difference.mean for c in others]
pair = torch.stack([ranks(early), ranks(late)])
correlation = torch.corrcoef(pair)[0, 1].item()
assert -1 <= correlation <= 1
ratio = statistics.median(
    abs(b) / abs(a) for a, b in zip(early, late, strict=True)
)
print(f"rank correlation, halfway and end: {correlation:.2f}")
print(f"a gap at the end over the gap halfway, median: {ratio:.2f}")

# %% [markdown]
# ```{solution-end}
# ```
