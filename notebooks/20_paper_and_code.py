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
# Real NVP is described twice, in a paper and in a program, and the two differ. Each version is a bijection with the
# right determinant, so both are correct models. Which are the differences, and what is each worth? This appendix
# lists them, and measures one choice at a time. We could not find out whether the published program made the paper's
# table 1.
#
# ```{admonition} In the paper
# Sections 3.2 to 3.7 and 4.1 of {cite:t}`dinh2017realnvp`, beside the program that its first author published
# {cite}`dinh2016code`. The paper has no ablation; this chapter has one.
# ```

# %% tags=["parameters", "remove-cell"]
profile = "laptop"

# %% tags=["hide-input"]
import math
import pydoc
import statistics
from types import MethodType

import matplotlib.pyplot as plt
import torch
from nvp_book import baselines, figures
from nvp_book.ablation import STUDENT, Mean, compare, experiment
from nvp_book.figures import ablation as pictures
from nvp_book.figures import architecture, samples
from nvp_book.selection import benchmark_results
from torch.utils.flop_counter import FlopCounterMode

from nvp import RealNVP, RealNVPConfig
from nvp.config import TrainingConfig
from nvp.data import EMBEDDED, load
from nvp.flows.batchnorm import CouplingBatchNorm, NormScope
from nvp.flows.coupling import AffineCoupling, AffineOrder
from nvp.flows.masks import Parity, channel_mask, checkerboard_mask
from nvp.flows.resnet import CouplingNet, InputTreatment
from nvp.flows.squeeze import SqueezeOrder, squeeze, unsqueeze
from nvp.ledger import runs

figures.use_style()
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # so that a check can be strict

# %% [markdown]
# ## The differences
#
# `RealNVPConfig` has two presets, `paper` and `official`. Nearly every difference that changes the model is one of
# its fields. The folded cell lists the fields in which the presets differ, here for 64 × 64 images.

# %% tags=["hide-input"]
shape = (3, 64, 64)
paper, official = RealNVPConfig.paper(shape), RealNVPConfig.official(shape)
where = {  # in the paper; in the official code; here
    "num_blocks": ("section 4.1", "the README", "config.preset_fields"),
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
    [f"`{x}`" for x in (name, getattr(paper, name), getattr(official, name))]
    for name in differ
]
figures.show_table(["field", "paper", "code"], rows)

# %% [markdown]
# The folded cell has the place of each: in the paper; in the official code; in `nvp.flows`.

# %% tags=["hide-cell"]
lines = ["* `{}`: {}; {}; `{}`".format(name, *where[name]) for name in differ]
figures.show_text("\n".join(lines))

# %% [markdown]
# These are the differences:
#
# * `num_blocks`: for images of 64 × 64 section 4.1 says two residual blocks. The code's README says four.
# * `affine_order`: the paper scales and then shifts, $x\, e^s + t$. The code shifts first, $(x + t)\, e^s$.
# * `first_kept`: the paper has $b = 1$ on the odd squares, but gives no order. The code keeps the
#   even ones first.
# * `channel_squeeze`: figure 3 stacks the four pixels of a block, for one channel. With three channels the code puts
#   all of red before all of green.
# * `norm_scope`: the paper normalises "the whole coupling layer output", the code only what the coupling has changed.
# * `penalise_channel_scales`: the paper's L2 term is on "the weight scale parameters". We read that the scales $a$ of
#   the tanh are among them. The code leaves out those of channel-wise couplings.
# * `undo_data_constraint`: the logit is of $0.05 + 0.9\, \tilde x$. The code's sample sheets do not invert that map.
# * `sample_batch_statistics`: inside $s$ and $t$ the code normalises samples by the statistics of the sheet that is
#   drawn. So an image depends on those beside it.
#
# The paper contradicts the code in `num_blocks`, `affine_order` and `norm_scope`, and in `penalise_channel_scales` as
# we read it. On the other four it is silent, and the preset `paper` has our choice.
#
# On the choices of the next table the paper is silent, too, or leaves them open. Both presets follow the code, and so
# does the default of `clip_norm`:

# %% tags=["hide-input"]
silent = {
    "factor_out_squeeze": "order of channels before factoring out (3.6)",
    "concatenated_relu": "the nets see h and −h",
    "mask_channel": "the nets see the checkerboard",
    "scale_per_channel": "a tanh scale per channel; we read one (4.1)",
    "checkerboard_scale_init": "first value of that scale, checkerboard",
    "channel_scale_init": "first value of that scale, channel mask",
}
assert all(getattr(paper, key) == getattr(official, key) for key in silent)
rows = [
    [f"`{key}`", f"`{getattr(paper, key)}`", text]
    for key, text in silent.items()
]
clip = f"`{TrainingConfig(steps=1).clip_norm:g}`"
rows.append(["`clip_norm`", clip, "largest norm of the gradient, in training"])
figures.show_table(["field", "value", "what it is"], rows)

# %% [markdown]
# In two points neither preset does what the paper prints.
#
# * Its **logit**, of $\lambda + (1 - \lambda)\, \tilde x$, is unbounded at white. Both presets have the code's, of
#   $\lambda + (1 - 2\lambda)\, \tilde x$ ({ref}`integers-to-bits`).
# * The batch norm with a **running average** of appendix E is off, as in the published code. The appendix says that
#   the model for CIFAR-10 was trained with it. So the preset `paper` is not quite the model of table 1's first row.
#   The field `norm_running_average` turns it on for the norms after couplings, as `configs/cifar10.yaml` does. The
#   code's option covers the norms inside $s$ and $t$, too, and puts the coefficient on the *batch*, the reverse of
#   {eq}`eq:running`. In short trials running averages were behind at equal steps (appendix {ref}`batch-statistics`).
#
# ````{dropdown} More differences, in neither table
# These are between paper and code. Only the last is inside the model, and both presets have it:
#
# * CIFAR-10 is in table 1. The code reads ImageNet, CelebA and LSUN only.
# * The paper does not say how long to train. The code's default is ten steps in the version for TensorFlow 2
#   {cite}`dinh2016code`, and $10^{18}$ in the archived version before that.
# * The code resizes CelebA and does *not round* the result to integers before it adds noise. So a score in bits is
#   not the length of a code for images of 8 bits.
# * The code crops LSUN at random, at evaluation too.
# * Under a checkerboard, a factor of two follows the code's first normalisation inside $s$ and $t$.
#
# These are between the code and the preset `official`:
#
# * The code scores its last weights with moving averages. Our runs score averaged weights with re-estimated
#   statistics (chapter {ref}`networks`).
# * Without batch norm the code also leaves out the norms and the doubling inside $s$ and $t$, and adds a learned
#   number to $s$. Here `norm_scope: null` leaves out only the norm after couplings.
# * The norms inside $s$ and $t$ keep a biased moving variance in the code, and an unbiased one here. On maps of 4 × 4
#   with 64 images they differ by a thousandth.
# * Adam adds $\epsilon$ after the bias correction here, and before it in TensorFlow 1. So at the first step our
#   $\epsilon$ has about a thirtieth of the effect.
# * The code has options that are not here: additive couplings, and residual blocks with bottlenecks.
# * Smaller differences are in networks without residual blocks, padding of maps smaller than a kernel, statistics of
#   larger sheets, sizes, batches, and precision.
# ````
#
# How close is `official` to the code? Outside of this repository we ran the authors' TensorFlow code in float64
# beside it, on two small models with equal starting values. Latents, log-likelihoods, losses and gradients agreed
# within $10^{-10}$. Latents and log-likelihoods of a [port to
# PyTorch](https://github.com/chrischute/real-nvp) agreed, too, with adapters for its other choices.
# For Pixel RNN we wrote a [public Diagonal BiLSTM](https://github.com/igul222/pixel_rnn) again in
# NumPy. It agreed as closely, given the same states before each row.
# `tests/test_numpy_parity.py` computes our models a second time.
#
# ## The norm that counts zeros
#
# Under a checkerboard the code normalises what the coupling has changed, $(1 - b) \odot y$. It takes mean and
# variance over all squares, and those with $b = 1$ are zeros. What does this norm do to the changed half?
#
# ```{prf:proposition} What the norm of the code leaves
# :label: prop-official-norm
#
# Let the changed half have mean $m$ and variance $v$, and let $\epsilon = 0$. The moments that the code takes are
# $m/2$ and $v/2 + m^2/4$, and it leaves the changed half with
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
# Half of the numbers are zeros. So the mean is $m/2$, and the mean of the squares is $(v + m^2)/2$.
# The variance is $(v + m^2)/2 - m^2/4 = v/2 + m^2/4$. The norm takes $m$ to
# $(m - m/2) / \sqrt{v/2 + m^2/4}$ and divides the deviation $\sqrt v$ by the same root. In both
# fractions divide numerator and denominator by $\sqrt v$. The last claim is
# $(r^2 + 2) / (2 + r^2) = 1$.
# ```
#
# A mean of zero leaves a deviation of $\sqrt 2$. But $t$ can give the changed half any mean, and a larger mean leaves
# *less* spread. The folded cell measures this on random images:

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Mean and standard deviation of the changed half after the norm of the official code: {eq}`eq:official-norm` and, as circles and squares, measured on random images. A plain norm would give 0 and 1 (dotted lines).", "name": "fig-official-norm"}, "image": {"alt": "Two curves over the ratio of mean and deviation, from 0 to 6. The deviation falls from 1.41 to 0.3, the mean rises from 0 towards 1, and they cross at a ratio of 2. The measured circles and squares lie on them."}}
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
    assert abs(means[r] - r / math.sqrt(2 + r**2)) < 0.02
    assert abs(deviations[r] - 2 / math.sqrt(2 + r**2)) < 0.02
ratios = torch.linspace(0, 6, 121)
curves = {
    "standard deviation": 2 / torch.sqrt(2 + ratios**2),
    "mean": ratios / torch.sqrt(2 + ratios**2),
}
points = {"standard deviation": deviations, "mean": means}
pictures.plot_norm(ratios, curves, points)
plt.show()

# %% [markdown]
# At a mean of six deviations the changed half keeps a deviation of 0.3 only. The likelihood is still right, since
# {eq}`eq:batch-norm` counts the factor that was really applied. But the next layer does not get mean 0 and
# deviation 1.
#
# The *first* norm inside $s$ and $t$ sees zeros too, those of the masked input, and a factor of two follows it. In
# [an issue of a port](https://github.com/chrischute/real-nvp/issues/3) the port's author says that the factor makes
# the norm the same as one over the kept squares alone. Does it? Here is the output for an input of deviation 1:

# %%
treatment = InputTreatment(
    1, Parity.ODD, concatenated_relu=False, mask_channel=False
)
h = treatment(noise * b).detach().masked_select(b)
after_norm = (h / 2).std().item()
assert abs(after_norm - math.sqrt(2)) < 0.01
print(f"kept squares after the norm: {after_norm:.2f}; doubled: {h.std():.2f}")

# %% [markdown]
# If the kept squares have mean 0, the zeros halve the variance that the norm divides by. Then kept squares are too
# *large* by $\sqrt 2$ before the doubling, and by $2 \sqrt 2$ after it. So the claim is wrong: a factor of
# $1 / \sqrt 2$ would compensate for the zeros. {numref}`Exercise %s <ex-factor>` measures what the factor changes in
# the output of a network.
#
# ## Even squares first
#
# Does it matter which squares are kept first? In one case it cannot.
#
# ```{prf:proposition} The mirrored flow
# :label: prop-mirror
#
# Let $R$ mirror an image left to right. Take a flow of one scale on images of even width. Let $f^{\text{odd}}_\theta$
# keep the odd squares first and $f^{\text{even}}_{\theta}$ the even ones. Let $\theta'$ be $\theta$ with every kernel
# mirrored. Then
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
# Column $j$ goes to $W - 1 - j$, so row + column changes parity when $W$ is even: $R$ takes odd squares to even ones.
# A convolution with mirrored kernels, applied to a mirrored map, gives the mirrored result; sums, rectifiers and
# batch norms act on each place alike. So $R$ passes through every coupling. The prior does not change under a
# permutation, and neither do determinants.
# ```
#
# The paper mirrors images at random in training, except on ImageNet. Take a set that contains every
# image with its mirror image. On it, two models of one scale that differ in `first_kept` can reach
# exactly the same mean log-likelihood. With several scales the argument stops. The half that is not
# factored out holds the even squares, and $R$ takes these to odd ones. The next cell checks one
# scale:


# %%
def mirrored(model, kept):
    """The same weights, kernels mirrored, other squares first."""
    other = RealNVP(model.config.model_copy(update={"first_kept": kept}))
    weights = model.state_dict().items()
    other.load_state_dict(
        {name: w.flip(-1) if w.ndim == 4 else w for name, w in weights}
    )
    return other.eval()


x = torch.randn(4, 1, 8, 8, generator=generator)
torch.manual_seed(0)
sizes = {"num_scales": 1, "num_blocks": 1, "width": 6}
config = RealNVPConfig.paper((1, 8, 8), checkerboard_scale_init=1.0, **sizes)
odd = RealNVP(config)
odd.flow(x)  # batch norms get statistics of their own
even = mirrored(odd, Parity.EVEN)
with torch.no_grad():
    z, log_det = odd.eval().flow(x)
    z_even, log_det_even = even.flow(x.flip(-1))
assert (z_even - z.flip(-1)).abs().max() < 1e-9
assert (log_det - log_det_even).abs().max() < 1e-9

# %% [markdown]
# ## The order of a squeeze
#
# In which order does a squeeze stack its channels? For a grey image figure 3 answers, and before the first
# channel-wise couplings the code agrees. With several channels the orders differ. The next figure shows three.
#
# * *Position major* is figure 3 for every colour. The preset `paper` takes it for the channel-wise couplings.
# * *Channel major* is the code's order there.
# * *Diagonal* is the code's order for factoring out. Both presets take it, since the paper is silent.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The sub-pixels in the first half of the twelve channels (painted in), for each colour of an image (rows) under each order (columns). A channel-wise mask keeps this half.", "name": "fig-orders"}, "image": {"alt": "Nine boards of 6 by 6, three orders by three colours. Channel major: all of red, every other row of green, none of blue. Position major: every other row of each colour. Diagonal: a checkerboard in each colour."}}
first_half = channel_mask(12).expand(1, 12, 3, 3).float()
architecture.plot_halves(
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
    one, other = (squeeze(x, order) for order in orders)
    assert torch.equal(one, other) is same

# %% [markdown]
# In the order channel major the first half has all of red and none of blue. For one channel, channel major and
# position major agree. So a model of two scales for grey images, which squeezes only once for its channel-wise
# couplings, is the same under both. The ablation below has three scales.
#
# ## Shift, then scale
#
# Since $(x + t)\, e^s = x\, e^s + t\, e^s$, both orders can represent the same maps if $s$ and $t$ may be any
# functions. But a step of the optimiser differs. The derivative of the output with respect to $t$ is 1 for the paper.
# For the code it is $e^s$, which {eq}`eq:bounded` puts between $e^{-|a|}$ and $e^{|a|}$. Under a checkerboard $a$
# starts at 0, so at first this derivative is 1 for both. The folded cell measures it for $a = 0$ and $a = 1$:


# %% tags=["hide-input"]
def slope_by_shift(order, a):
    """Range of dy/dt over a batch, by automatic differentiation."""
    torch.manual_seed(0)
    config = RealNVPConfig.paper(
        (1, 8, 8),
        num_blocks=1,
        width=6,
        norm_scope=None,
        affine_order=order,
        channel_scale_init=a,
    )
    coupling = RealNVP(config).flow.scales[0].channelwise.bijections[0]
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
assert math.exp(-1) < low < 0.5 < 2 < high < math.e
print(f"dy/dt, shift first, a = 1: from {low:.2f} to {high:.2f}")

# %% [markdown]
# With the shift first, the same change of $t$ moves some outputs less than half as far, and others more than twice.
#
# ## Black in the samples of the code
#
# Is black still black in the code's samples? A flow gives logits $x$, with
# $0.05 + 0.9\, \tilde x = \sigma(x)$. The code's sheets show $\sigma(x)$ itself. We do not know
# whether figure 5 of the paper was made in this way. The next figure decodes the latents of six
# test images in both ways:

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The latents of six test images, decoded with the map $0.05 + 0.9\\,\\tilde x$ undone, and as in the official code. Cf. figure 5 of {cite:t}`dinh2017realnvp`.", "name": "fig-contrast"}, "image": {"classes": "whole", "alt": "Two sheets of the same garments. On the left black is black; on the right the ground is a very dark grey and the brightest parts are a little darker."}}
recorded = runs()["fashion-mnist"].load_model()
torch.set_default_dtype(torch.float32)
images = load(EMBEDDED, "test").images[::168]
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
samples.plot_beside(sheets, columns=3)
plt.show()

# %% [markdown]
# On the right no pixel is darker than level 12 or brighter than level 242.
#
# (ablation)=
# ## What each choice is worth
#
# Does any of this matter for the score? `workflow/ablation.yaml` takes the preset `paper` and changes one thing at a
# time, or all fields of the first table but `num_blocks`, as in `official`. The last two variants have Glow's
# learned mixing of channels (chapter {ref}`your-turn`). The table has each as settings for
# `nvp train configs/ablation/base.yaml --set ...`:

# %% tags=["hide-input"]
ablation, rows = experiment()
comparisons = list(compare(ablation, rows).values())
baseline, *others = comparisons
assert baseline.variant == ablation.baseline
figures.show_table(
    ["variant", "set"],
    [[c.variant.title, f"`{' '.join(c.variant.set)}`"] for c in others],
)

# %% [markdown]
# Every run has the same budget, a small one:


# %% tags=["hide-input"]
base = ablation.config(ablation.baseline, 0)
steps, batch = base.training.steps, base.training.batch_size
assert {row.steps for row in rows} == {steps}
train_images = len(load(base.data.name, "train").images)
train_images -= base.evaluation.validation_images
test_images = len(load(base.data.name, "test").images)
by_table = baselines.recorded()[EMBEDDED]["two neighbours"].bits_per_dim
runs_asked = len(ablation.variants) * len(ablation.seeds)
figures.show_text(
    f"{steps} steps of {batch} images, which is "
    f"{steps * batch / train_images:.1f} passes over the {train_images:,} "
    "training images of embedded Fashion-MNIST; "
    f"{base.model.num_scales} scales, "
    f"{base.model.num_blocks} residual block in a network, width "
    f"{base.model.width}; scored on {test_images:,} test images. "
    f"The best run has {min(row.test for row in rows):.2f} bits/dim, where "
    f"a table of two neighbours has {by_table:.2f}: none has learned much. "
    f"{len(rows)} of {runs_asked} runs are recorded: "
    f"{len(ablation.variants)} variants, the preset `paper` among them, "
    f"{len(ablation.seeds)} seeds of each. `make ablation` makes "
    "any that are missing."
)

# %% [markdown]
# ### Pairs
#
# When is a difference more than chance? Two runs of *one* configuration with two seeds differ too. So the runs are
# compared in pairs of the same seed, with the same images, order and noise. They start from the same weights, unless
# a variant changes sizes or first values. Let $d_i$ be the test bits/dim of a variant minus those of the baseline, for
# seed $i$ of $n$. Their mean and its standard error are
#
# $$
# \bar d = \frac1n \sum_i d_i, \qquad
# \operatorname{se} = \sqrt{\frac{1}{n (n - 1)} \sum_i (d_i - \bar d)^2}.
# $$ (eq:paired)
#
# The cell compares them with the package's:


# %%
def paired(differences):
    """Mean and standard error over seeds."""
    n, mean = len(differences), statistics.fmean(differences)
    squares = sum((d - mean) ** 2 for d in differences)
    return mean, math.sqrt(squares / (n * (n - 1)))


base_test = {row.seed: row.test for row in baseline.rows}
for each in others:
    mean, error = paired([row.test - base_test[row.seed] for row in each.rows])
    found = each.difference
    assert math.isclose(mean, found.mean, abs_tol=1e-9)
    assert math.isclose(error, found.error, abs_tol=1e-9)

# %% tags=["remove-cell"]
assert {len(each.rows) for each in comparisons} == {5}
by_size = sorted(others, key=lambda c: abs(c.difference.mean))
assert {c.variant.name for c in by_size[-2:]} == {"one-scale", "no-norm"}
assert {c.variant.name for c in others if c.difference.mean < -0.11} == {
    *("unfactored-wide", "wider", "unfactored"),
    *("no-weight-norm", "mixed-from-masks"),
}

# %% [markdown]
# How large must a mean difference be? If the $d_i$ are independent and normal with a true mean of zero,
# $\bar d / \operatorname{se}$ has Student's distribution with $n - 1$ degrees of freedom. Its tails are heavier than
# those of the normal distribution. The cell counts how often chance alone goes beyond two standard errors, and checks
# the bound beyond which 5% lie:

# %% tags=["hide-input"]
# For n = 2 it is Cauchy's distribution; n = 3 has a formula, too.
formula = {2: 1 - 2 / math.pi * math.atan(2), 3: 1 - 2 / math.sqrt(2 + 2**2)}
for n in range(2, 6):
    d = torch.randn(100_000, n, generator=generator)
    ratio = (d.mean(dim=1) / d.std(dim=1) * math.sqrt(n)).abs()
    alarm = (ratio > 2).double().mean().item()
    assert abs(alarm - formula.get(n, alarm)) < 0.01
    bound = STUDENT[n - 2]
    assert abs((ratio > bound).double().mean() - 0.05) < 0.005
    print(
        f"{n} seeds: beyond 2 standard errors by chance {alarm:.0%}", end="; "
    )
    print(f"5% lie beyond {bound:.1f}")

# %% [markdown]
# So a 95% interval reaches 2.8 standard errors to both sides of the mean of five seeds. But of 23 comparisons, one is
# expected beyond a bound of 5% by chance. To hold the risk of *any* false alarm to 5%, each gets a 23rd of it
# (Bonferroni), and the bound becomes 7.0 standard errors. (We added two seeds after a look at three, which raises the
# risk a little.)
#
# ### The result
#
# Which choices matter? The table has the preset `paper`, then all variants, the best first:

# %% tags=["hide-input"]
table = []
for each in [baseline, *sorted(others, key=lambda c: c.difference.mean)]:
    gap = ("–", "–")
    if each.differences:
        found = each.difference
        gap = f"{found.mean:+.3f}", f"{found.half_width:.3f}"
    size, bits = f"{each.rows[0].parameters:,}", f"{each.test.mean:.3f}"
    table.append([each.variant.title, size, bits, *gap])
header = ["variant", "parameters", "test bits/dim", "minus paper", "95%: ±"]
figures.show_table(header, table)

# %% [markdown]
# A difference below zero is better than `paper`. The ± is half of the 95% interval.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The ablation. Orange: each seed's difference to the preset `paper`. Dot: their mean, with its 95% interval; filled where this interval leaves out zero. The best are on top.", "name": "fig-ablation"}, "image": {"alt": "A forest plot of the variants, the best on top, by their mean difference to the preset paper in test bits per dimension. Five lie clearly left of the line at zero, at -0.12 to -0.27: two that factor nothing out, twice the maps, no weight norm, and learned mixing from the masks. Two lie far to the right, at 0.6 and 0.7: no norm after couplings, and one scale of three. All others are within 0.2 of zero. The table above has the numbers."}}
pictures.plot_forest(others)
plt.show()


# %% tags=["hide-input"]
def listed(some):
    """Titles with their differences, the best first."""
    some = sorted(some, key=lambda c: c.difference.mean)
    named = [f"{c.variant.title} ({c.difference.mean:+.3f})" for c in some]
    return "; ".join(named).replace("(-", "(−") or "none"


clear = [c for c in others if c.difference.beyond_chance]
better = [c for c in clear if c.difference.mean < 0]
worse = [c for c in clear if c.difference.mean > 0]
strict = 7.016  # of Student's t: a 23rd of 5% lie beyond it
sure = [
    c for c in others if abs(c.difference.mean) > strict * c.difference.error
]
figures.show_text(
    f"**Better** than `paper`, by the 95% interval: {listed(better)}.\n\n"
    f"**Worse**, by the same: {listed(worse)}.\n\n"
    f"**Beyond {strict:.1f} standard errors**, the bound for all "
    f"{len(others)} together: {listed(sure)}."
)

# %% tags=["remove-cell"]
assert len(sure) == 6
code = {"shift-first", "even-first", "channel-major", "channel-scales-free"}
assert not {c.variant.name for c in clear} & (code | {"official"})
as_coded = {*code, "official", "official-norm"}
assert not {c.variant.name for c in sure} & as_coded
ratios = {
    c.variant.name: round(c.difference.mean / c.difference.error, 1)
    for c in others
}
assert ratios["official-norm"] == 3.2
assert {ratios[name] for name in code - {"channel-major"}} == {-2.7}
assert min(abs(c.difference.mean) for c in sure) > 0.1
*four, fifth = [row.test for row in baseline.rows]
assert fifth > max(four) + 0.1
four = {c.variant.name: Mean.of(c.differences[:4]) for c in others}
more = {n for n, m in four.items() if m.mean > m.half_width}
more -= {c.variant.name for c in clear}
assert more == {"official", "no-skips", "no-mask-channel"}
u = strict / math.sqrt(1 + strict**2 / 4)  # closed form, n = 5
beyond_strict = 1 - 0.75 * u * (1 - u**2 / 12)
assert abs(beyond_strict - 0.05 / len(others)) < 1e-4
assert min(c.difference.mean for c in by_size[-2:]) > 0.5

# %% [markdown]
# ### How to read it
#
# None of the code's choices is beyond Bonferroni's bound. Its norm is worse by 3.2 standard errors; three others are
# better by 2.7. (An interval reaches 2.8.) The largest effects are of other parts: without norms after couplings, or
# with one scale, a model is worse by over half a bit/dim. Some cautions:
#
# * **One baseline** serves all comparisons, and its fifth seed ended more than 0.1 bits/dim above the others. Without
#   this seed three more variants are worse by their interval: `official`, no skips, no mask channel.
# * **Short runs say little about long ones.** After so few steps a score may tell mostly how *fast* a variant learns
#   ({ref}`kept`).
# * **Small models say little about large ones.** Skips are there for deep networks; here each has one residual block.
# * **Sizes differ** in some rows: one scale of three has far fewer parameters.
# * **One learning rate** serves all variants, and **one data set** of grey images. The order of a squeeze matters
#   most for colours.
# * **Some choices have no variant**: the number of blocks, the memory of the norms, the first scale of channel-wise
#   couplings, the L2 penalty, the prior, and clipping. Appendix {ref}`when-it-diverges` compares margins of the logit.
#
# (kept)=
# ### Nothing factored out
#
# What does factoring out do to the likelihood? In `examples/unfactored_realnvp.py` nothing leaves, and every scale
# after the first has all the channels:
#
# ````{dropdown} A flow that keeps everything
# ```{literalinclude} ../examples/unfactored_realnvp.py
# :pyobject: UnfactoredFlow
# ```
# ````
#
# Two variants above are such flows. The single run `fashion-mnist-unfactored` has the settings and the steps of
# `fashion-mnist`, but computes in float32 in place of bfloat16. The table has the operations from an image to $z$,
# relative to Real NVP, and the difference of the test scores:


# %% tags=["hide-input"]
def flops(config):
    """Multiplications and additions from one image to z."""
    with FlopCounterMode(display=False) as counter:
        config.build().flow(torch.zeros(1, *config.image_shape))
    return counter.get_total_flops()


table, more_work = [], {}
of_small = flops(base.model)
for each in others:
    name, gap = each.variant.name, each.difference
    if name in ("unfactored", "unfactored-wide", "wider"):
        config = ablation.config(each.variant, 0).model
        more_work[name] = flops(config) / of_small
        change = f"{gap.mean:+.2f} ± {gap.half_width:.2f}"
        title = f"{steps} steps: {each.variant.title}"
        table.append([title, f"{more_work[name]:.2f}", change])
short, long = runs()["fashion-mnist"], runs()["fashion-mnist-unfactored"]
more_work["long"] = flops(long.config.model) / flops(short.config.model)
gain = short.score.bits_per_dim - long.score.bits_per_dim
title = f"{long.record.steps:,} steps: nothing factored out"
table.append([title, f"{more_work['long']:.2f}", f"{-gain:+.2f}"])
figures.show_table(["training", "work", "bits/dim"], table)

# %% tags=["remove-cell"]
assert short.record.steps == long.record.steps == 4997
assert round(short.record.epochs, 1) == 2.7
assert long.config.model.width == 3 * base.model.width
works = {name: round(work, 1) for name, work in more_work.items()}
assert list(works.values()) == [3.7, 1.1, 5.8, 1.0]
mean_of = {c.variant.name: c.difference.mean for c in others}
assert round(mean_of["unfactored"], 2) == -0.18
assert round(mean_of["wider"], 2) == -0.19
assert round(gain, 2) == 0.02
logs = [
    {row["step"]: row["bits_per_dim"] for row in run.log()}
    for run in (short, long)
]
leads = [round(logs[0][step] - logs[1][step], 2) for step in (450, 4997)]
assert leads == [0.09, 0.02]
again = benchmark_results("seeds")["fashion-mnist"].values()
seeds = [run["bits_per_dim"] for run in again]
assert long.score.bits_per_dim < min(seeds) - 0.01
assert max(abs(x - short.score.bits_per_dim) for x in seeds) < 0.004
apart = {"steps", "minutes", "precision"}
loops = [r.config.training.model_dump(exclude=apart) for r in (short, long)]
assert loops[0] == loops[1]
nets = [
    r.config.model.model_dump(exclude={"family", "networks"})
    for r in (short, long)
]
assert nets[0] == nets[1]
assert short.config.data == long.config.data
assert short.config.data.limit is None
assert (short.record.precision, long.record.precision) == ("bf16", "fp32")
assert long.config.training.optimiser == "muon"

# %% [markdown]
# After 450 steps the flow that keeps everything leads by 0.18 bits/dim, for a tenth more work. Twice the maps bring
# as much, for nearly four times the work. With flows three times as wide, on all images and by Muon, 0.02 are left
# after 4,997 steps. Seed and precision move the score of Real NVP by less, a few thousandths ({ref}`beyond-gans`).
# In training the lead falls from 0.09 after 450 of these steps to 0.02. So in this one pair factoring out slowed
# learning, and cost little after 2.7 epochs.
#
# ## Summary
#
# * Paper and code differ, and each version is a bijection with the right determinant.
# * The code's norm under a checkerboard counts zeros: it leaves mean² + deviation² / 2 = 1. Its first norm inside $s$
#   and $t$, with the doubling, makes kept squares of mean 0 too large by $2 \sqrt 2$.
# * On mirrored images, keeping odd or even squares first cannot matter to a flow of one scale. On grey images, the
#   order of the squeeze before channel-wise couplings cannot matter to a flow of two scales.
# * Shift and scale in either order give the same maps and different gradients.
# * In short runs, paired by seed, six of 23 effects are beyond Bonferroni's bound, each of more than 0.1 bits/dim.
#   None of the code's choices is among them.
#
# ## Exercises
#
# ```{exercise} Build a translator
# :label: ex-translator
#
# Both orders of shift and scale represent the same maps. Write `translate(flow)`, which takes a flow in the code's
# order and gives its couplings the paper's order. Each `AffineCoupling` has an `order`, and its
# `shift_and_log_scale(x, b, y)` returns $t$ and $s$. No weight may change, and latents, log-determinants and inverse
# must stay. Does the translated flow train as the paper's does, or as the code's?
# ```


# %%
def flow_in(order):
    """A flow of one scale whose couplings scale and shift."""
    torch.manual_seed(0)
    config = RealNVPConfig.paper(
        (1, 8, 8),
        num_scales=1,
        num_blocks=1,
        width=6,
        checkerboard_scale_init=1.0,
        affine_order=order,
    )
    return RealNVP(config).flow


# %% [markdown]
# ```{solution-start} ex-translator
# :class: dropdown
# ```
# The paper's shift is $t' = t\, e^s$, computed from what the network gives. The flow trains as the code's does: every
# output is the same function of the same weights as before, so the gradients agree.


# %% tags=["hide-input"]
def scaled_shift(coupling, x, b, y=None):
    t, s = AffineCoupling.shift_and_log_scale(coupling, x, b, y)
    return t * s.exp(), s


def translate(flow):
    """From shift, then scale, to scale, then shift."""
    for module in flow.modules():
        if isinstance(module, AffineCoupling):
            module.shift_and_log_scale = MethodType(scaled_shift, module)
            module.order = AffineOrder.SCALE_THEN_SHIFT


x = torch.randn(32, 1, 8, 8, generator=generator)
first, second, other = map(
    flow_in, ("shift_then_scale", "shift_then_scale", "scale_then_shift")
)
translate(second)
gradients = []
for flow in (first, second, other):
    z, log_det = flow(x)
    (z.square().sum() / 2 - log_det.sum()).backward()
    gradients.append(torch.cat([p.grad.flatten() for p in flow.parameters()]))
    flow.eval()
assert torch.allclose(gradients[0], gradients[1], rtol=1e-4)
assert not torch.allclose(gradients[0], gradients[2], rtol=0.1)
with torch.no_grad():
    (z, log_det), (same_z, same_log_det) = first(x), second(x)
    assert torch.allclose(z, same_z, atol=1e-5)
    assert torch.allclose(log_det, same_log_det, atol=1e-4)
    assert torch.allclose(second.inverse(z)[0], x, atol=1e-4)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Each side is a bijection
# :label: ex-each-side
#
# Take the preset `paper` and change one field of the list at a time. Check both claims of the introduction: the model is
# invertible, and its log-determinant is right.
# ```
#
# ```{solution-start} ex-each-side
# :class: dropdown
# ```
# We check in evaluation, where batch norms are fixed maps, after one batch in training. The scales start away from 0,
# so that no coupling is only a shift. Four fields are left out. `num_blocks` changes only the networks, which may be
# any functions. The other three act after the flow, in sampling, or in the loss.

# %%
checked = ("affine_order", "first_kept", "channel_squeeze", "norm_scope")
assert len(checked) == len(differ) - 4  # four are left out
for name in checked:
    torch.manual_seed(0)
    changed = RealNVPConfig.paper(
        (1, 8, 8),
        num_scales=3,
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
    jacobian = torch.autograd.functional.jacobian(flow, x, vectorize=True)[0]
    _, by_hand = torch.linalg.slogdet(jacobian.reshape(64, 64))
    assert torch.allclose(log_det, by_hand, atol=1e-8)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What is left of a factor
# :label: ex-factor
#
# Take a new network for $s$ and $t$ without the mask channel, in training mode. Leave out the
# doubling. A convolution follows, and after it batch norms. Does the output change if there are no
# residual blocks? And if there are two?
# ```
#
# ```{solution-start} ex-factor
# :class: dropdown
# ```
# A batch norm right after a convolution removes any factor, except for its $\epsilon$. So without residual blocks
# nothing changes. But blocks have a residual path beside them. It adds the output of the convolution, factor
# included, to the output of a block, whose size does not depend on the factor. So the *proportion* of the two
# changes, and the output with it.


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
# Each comparison also has `halfway`, the paired differences of the training loss at half of the
# steps. Is the order of the variants at that point also the order of the training loss at the end
# (`train` of a row)? Use the rank correlation.
# ```
#
# ```{solution-start} ex-halfway
# :class: dropdown
# ```
# The rank correlation is above 0.8, so most of the order was settled by the middle of *this* budget. The second
# number is the median ratio of a gap at the end to the gap halfway.


# %%
def ranks(values):
    """0 for the least."""
    return torch.tensor(values).argsort().argsort().double()


early = [statistics.fmean(c.halfway) for c in others]
train = {row.seed: row.train for row in baseline.rows}
late = [
    statistics.fmean(r.train - train[r.seed] for r in c.rows) for c in others
]
pair = torch.stack([ranks(early), ranks(late)])
correlation = torch.corrcoef(pair)[0, 1].item()
assert correlation > 0.8
ratio = statistics.median(abs(b / a) for a, b in zip(early, late, strict=True))
print(f"rank correlation, halfway and end: {correlation:.2f}")
print(f"a gap at the end over the gap halfway, median: {ratio:.2f}")

# %% [markdown]
# ```{solution-end}
# ```
