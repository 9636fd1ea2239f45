# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (batch-statistics)=
# # Batch statistics
#
# Chapter {ref}`networks` puts a batch normalisation after each coupling and scores in evaluation mode, with moments
# re-estimated on training images. Why such care? This appendix finds what training mode really computes, what the
# running averages of the paper change, and how much a score depends on the moments.
#
# ```{admonition} In the paper
# Section 3.7 and appendix E of {cite:t}`dinh2017realnvp`: equations 17, 18, 20 and 21.
# ```

# %% tags=["parameters"]
profile = "laptop"

# %% tags=["hide-input"]
import copy
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from nvp_book import figures
from nvp_book.ablation import compare, experiment, trials
from nvp_book.figures import batch_statistics as pictures
from nvp_book.small import fresh_state, small_run, thumbs, train
from torch import nn
from torch.func import jacrev

from nvp.data import EMBEDDED, load
from nvp.flows.batchnorm import EPSILON, CouplingBatchNorm, NormScope
from nvp.flows.resnet import ShiftedBatchNorm
from nvp.ledger import runs
from nvp.likelihood import evaluate, reestimate_statistics, score_images
from nvp.model import batch_norms, batch_statistics

figures.use_style()
torch.set_num_threads(1)  # sums in one order, however many cores
full = profile == "paper"

images = load(EMBEDDED, "train").images
test_images = load(EMBEDDED, "test").images
ledger = runs()

# %% [markdown]
# ## In training it is another map
#
# In evaluation mode $\tilde\mu$ and $\tilde\sigma^2$ of {eq}`eq:batch-norm` are constants. In training mode they are
# the moments of the batch, but the loss counts the same log-determinant. How wrong is it, for the batch and for *one*
# image?
#
# ```{prf:proposition} Batch normalisation in training
# :label: prop-training-mode
#
# Let $m$ scalars share a mean $\mu$ and a variance $\sigma^2$, let $\varsigma^2 = \sigma^2 + \epsilon$ and
# $\hat x = (x - \mu) / \varsigma$, and $U = [\mathbf 1, \hat x]$ with two columns. Then
#
# $$
# \frac{\partial \hat x}{\partial x^{\mathsf T}} = \frac{1}{\varsigma} \Bigl( I - \tfrac1m U U^{\mathsf T} \Bigr) .
# $$ (eq:training-jacobian)
#
# Its eigenvalues are 0 along $\mathbf 1$, $\epsilon / \varsigma^3$ along $\hat x$, and $1 / \varsigma$
# otherwise. Let $n = m / N$ of the scalars belong to one image of a batch of $N$. If the other
# images are held fixed, the determinant of that image's own map is
#
# $$
# \frac{1}{\varsigma^{n}} \Bigl[ & \Bigl(1 - \frac1N\Bigr) \Bigl(1 - \frac{\lVert \hat x \rVert^2}{m}\Bigr) \\
#   & - \frac{(\mathbf 1^{\mathsf T} \hat x)^2}{m^2} \Bigr]
# $$ (eq:own-determinant)
#
# where $\hat x$ and $\mathbf 1$ now have only the $n$ entries of that image. For
# $\lVert \hat x \rVert^2 = n$ and $\mathbf 1^{\mathsf T} \hat x = 0$ this is
# $\varsigma^{-n} (1 - 1/N)^2$.
# ```
#
# ```{prf:proof}
# $\partial \mu / \partial x_j = 1/m$ and $\partial \varsigma / \partial x_j = (x_j - \mu) / (m \varsigma) = \hat x_j
# / m$, and the quotient rule gives {eq}`eq:training-jacobian`. As $\mathbf 1^{\mathsf T} \hat x = 0$ over the batch
# and $\lVert \hat x \rVert^2 = m \sigma^2 / \varsigma^2$, the eigenvalue along $\hat x$ is $\frac{1}{\varsigma}(1 -
# \sigma^2 / \varsigma^2)$. For one image take its rows and columns of this matrix. They have the same form, with the
# $n$ rows of $U$ that belong to the image. And $\det(I_n - \frac1m U U^{\mathsf T}) = \det(I_2 - \frac1m U^{\mathsf
# T} U)$, which is the bracket.
# ```
#
# So normalising a whole batch is *not* a bijection: it forgets the mean of the batch, and nearly
# its scale. Automatic differentiation confirms the matrix:


# %%
def normalise(x):
    """Batch norm in training, all of x sharing its moments."""
    return (x - x.mean()) / torch.sqrt(x.var(correction=0) + EPSILON)


N, n = 4, 9
m = N * n
generator = torch.Generator().manual_seed(0)
x = 2 * torch.randn(N, n, generator=generator).double() + 1
hat, sigma = normalise(x), torch.sqrt(x.var(correction=0) + EPSILON)
ones, flat = torch.ones(m, m).double(), hat.flatten()
expected = (torch.eye(m).double() - (ones + flat.outer(flat)) / m) / sigma
jacobian = jacrev(lambda x: normalise(x).flatten())(x).reshape(m, m)
assert torch.allclose(jacobian, expected)

# %% tags=["remove-cell"]
own = hat[0]
bracket = (1 - 1 / N) * (1 - own.square().sum() / m) - (own.sum() / m) ** 2
alone = jacobian[:n, :n].slogdet().logabsdet
assert torch.allclose(alone, bracket.log() - n * sigma.log(), atol=1e-12)

# %% [markdown]
# Training reports $-n \log \varsigma$ for an image, too much by about $-2 \log(1 - 1/N)$ nats for each channel of one
# norm. With 64 images in a batch this is 0.03, with two it is $2 \log 2$. And the map of one image
# is not onto. Take one scalar per image, $n = 1$. However large $x$ is, it pulls mean and deviation
# along, and $|\hat x|$ cannot reach $\sqrt{N - 1}$.


# %% tags=["hide-input"] mystnb={"figure": {"caption": "Batch normalisation of one scalar per image in training, as a function of one of them. The other $N - 1$ are fixed at mean 0 and variance 1. Dotted, in the colour of the curve: $\\pm\\sqrt{N - 1}$. In evaluation it is the dashed line.", "name": "fig-saturation"}, "image": {"alt": "Normalised value over x from -12 to 12. The dashed line rises straight. The curves for N = 4, 16 and 64 follow it near 0 and bend away on both sides, the earlier the smaller N. Each stays between its two dotted lines, at 1.7, 3.9 and 7.9 above and below 0."}}
def normalised_beside(x, N):
    """Batch norm of x beside N - 1 scalars of mean 0, variance 1."""
    mean = x / N
    deviation = torch.sqrt((N - 1 + x**2) / N - mean**2)
    return (x - mean) / deviation, deviation


x = torch.linspace(-12, 12, 241).double()
curves = {"in evaluation": x}
for N in (4, 16, 64):
    curves[f"in training, N = {N}"], _ = normalised_beside(x, N)
    assert curves[f"in training, N = {N}"].abs().max() < math.sqrt(N - 1)
pictures.plot_saturation(x, curves, [math.sqrt(N - 1) for N in (4, 16, 64)])
plt.show()

# %% [markdown]
# With $N = 4$ the output stays between −1.73 and 1.73, however large $x$ is. With a prior on $\hat x$ this map gives
# $x$ a density. With the true derivative, its mass is the mass of the prior between the bounds. With the derivative
# that training uses, $1/\varsigma$, the mass is *infinite*. As $|x|$ grows, $\hat x$ tends to its bound, where the
# prior has a positive density, and $1/\varsigma$ falls only like $1/|x|$. So each further factor of
# ten in the range adds about the same mass, as the next table shows. A number computed in training
# mode is no likelihood.

# %% tags=["hide-input"]
N = 4
mass = {}
for reach in (1e2, 1e3, 1e4):
    # The density is even, and changes with the logarithm of x.
    x = torch.logspace(-6, math.log10(reach), 200_001).double()
    z, deviation = normalised_beside(x, N)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    reported = 2 * torch.trapezoid(density / deviation, x)
    true = 2 * torch.trapezoid(density, z)
    mass[reach] = (true.item(), reported.item())
figures.show_table(
    ["x, for N = 4", "mass from −x to x", "as training counts it"],
    [[f"{reach:,.0f}", *(f"{p:.2f}" for p in mass[reach])] for reach in mass],
)
assert abs(mass[1e4][0] - math.erf(math.sqrt((N - 1) / 2))) < 1e-3
steps = [mass[1e3][1] - mass[1e2][1], mass[1e4][1] - mass[1e3][1]]
assert abs(steps[1] - steps[0]) < 0.01 < steps[0]

# %% [markdown]
# In training mode the score of a trained model depends on the batch size:

# %% tags=["hide-input"]
few = test_images[: 1000 if full else 40]
recorded = ledger["fashion-mnist"].load_model()
score_of, rows = {}, []
with batch_statistics(recorded):
    for n in (2, 4, 10, 40):
        score_of[n] = score_images(recorded, few, batch_size=n).mean().item()
        rows.append([f"training mode, batches of {n}", f"{score_of[n]:.2f}"])
as_recorded = evaluate(recorded, few).bits_per_dim
rows.append(["evaluation mode", f"{as_recorded:.2f}"])
title = f"recorded run on Fashion-MNIST, {len(few)} test images"
figures.show_table([title, "bits/dim"], rows)
assert score_of[2] - score_of[40] > 0.3

# %% [markdown]
# Training mode counts too much likelihood, yet in pairs the images seem to cost over 0.3 bits/dim *more* than in batches
# of 40. The weights were not trained with the moments of pairs. Only the last row is a likelihood.
#
# ## Running averages: appendix E
#
# Small batches have noisy moments. The paper's remedy is to normalise in training, too, by a running average. The
# current batch has a share in it (section 3.7; appendix E, equations 20 and 21):
#
# $$
# \tilde\mu_{k+1} &= \rho\, \tilde\mu_k + (1 - \rho)\, \hat\mu_k , \\
# \tilde\sigma^2_{k+1} &= \rho\, \tilde\sigma^2_k + (1 - \rho)\, \hat\sigma^2_k ,
# $$ (eq:running)
#
# where $\hat\mu_k$ and $\hat\sigma^2_k$ are the moments of the batch. Gradients pass only through
# these. The layer normalises by the left sides. Appendix E says that the CIFAR-10 model was trained
# in this way, which allows very small batches. It gives no value of $\rho$, the "momentum"; ours is
# 0.9. The package has running averages after couplings alone ({ref}`paper-and-code`). Here is such
# a layer:


# %%
class RunningNorm(nn.Module):
    """Equations 17, 18, 20 and 21."""

    def __init__(self, channels, rho=0.9):
        super().__init__()
        self.rho = rho
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("variance", torch.ones(1, channels, 1, 1))

    def forward(self, x):
        mean, variance = self.mean, self.variance
        if self.training:
            batch_variance, batch_mean = torch.var_mean(
                x, (0, 2, 3), correction=0, keepdim=True
            )
            mean = self.rho * mean + (1 - self.rho) * batch_mean
            variance = self.rho * variance + (1 - self.rho) * batch_variance
            self.mean, self.variance = mean.detach(), variance.detach()
        log_scale = -0.5 * (variance + 1e-4).log().expand_as(x)
        log_det = log_scale.flatten(1).sum(dim=1)
        return (x - mean) * log_scale.exp(), log_det


# %%
ours = RunningNorm(2)
package = CouplingBatchNorm(
    2, NormScope.WHOLE, momentum=0.1, running_average=True
)
b = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
for _ in range(3):
    x = 3 * torch.randn(8, 2, 4, 4, generator=generator) + 1
    (y, log_det), (z, of_package) = ours(x), package(x, b)
assert torch.allclose(y, z, atol=1e-5)
assert torch.allclose(log_det, of_package, atol=1e-4)

# %% [markdown]
# What do running averages change? An average with memory $\rho$ of independent batches has
# $(1 - \rho) / (1 + \rho)$ times the variance of one of them. But the gradient through the moments
# is multiplied by $1 - \rho$, so it is biased, however large the batch. The folded cells measure
# noise and bias of the gradient, in a small model after 100 steps. Its norms inside $s$ and $t$ are
# in evaluation mode. Small batches are compared with a batch of all 4,500 images. The past is
# either the moments of all images, or those of the last small batches, as in appendix E.

# %% tags=["hide-input"]
held_out, seen = thumbs()[-300:], thumbs()[:-500]


def trained(batch_size, count, running):
    """The small flow after a run, as it was halfway, and its losses."""
    loop = {"batch_size": batch_size, "learning_rate": 5e-3, "anneal": 0.5}
    norms = {"norm_running_average": running}
    run = small_run(steps=count, model=norms, **loop)
    state = fresh_state(run, seen)
    losses = train(run, state, seen, count // 2)
    halfway = copy.deepcopy(state.model)
    losses += train(run, state, seen, count // 2)
    return state.model, halfway, losses


model, halfway, _ = trained(32, 100, running=False)
moving = {
    name: evaluate(one, held_out).bits_per_dim
    for name, one in (("halfway", halfway), ("at the end", model))
}
reestimate_statistics(model, seen)
moments, probe = copy.deepcopy(model.state_dict()), copy.deepcopy(model)


def gradient(batch, running_average, seed, own_past=False):
    """All of the gradient of the loss, as one vector."""
    if not own_past:
        probe.load_state_dict(moments)
    probe.train()
    for module in probe.modules():
        if isinstance(module, CouplingBatchNorm):
            module.running_average = running_average
        if isinstance(module, ShiftedBatchNorm):
            module.eval()
    loss = probe.loss(batch, torch.Generator().manual_seed(seed))
    parts = torch.autograd.grad(loss, list(probe.parameters()))
    return torch.cat([part.flatten() for part in parts])


def errors(size, running_average, own_past, repeats=500 if full else 120):
    """Noise and bias of the gradient, relative."""
    generator = torch.Generator().manual_seed(1)
    gradients = []
    for seed in range(-40 if own_past else 0, repeats):  # 40 fill the past
        chosen = torch.randint(len(seen), (size,), generator=generator)
        kind = running_average, seed, own_past
        gradients.append(gradient(seen[chosen], *kind))
    away = torch.stack(gradients[-repeats:]) - reference
    noise = away.var(dim=0).sum().sqrt()
    # The noise of two batches that share no past is independent: on
    # average the product of their rows of `away` is the bias squared.
    rows = torch.arange(repeats)
    apart = (rows[:, None] - rows).abs() >= (30 if own_past else 1)
    bias = (away @ away.mT)[apart].mean().clamp(min=0).sqrt()
    return [(each / reference.norm()).item() for each in (noise, bias)]


# %% tags=["hide-input"] mystnb={"figure": {"caption": "The gradient of a small batch under three ways of normalising. The reference is the gradient of a batch of all 4,500 images in the usual way. Noise is the standard deviation, and bias the distance of the mean from the reference. Both are relative to the length of the reference; the two panels have different scales.", "name": "fig-gradient-errors"}, "image": {"alt": "Two panels over batches of 2, 8 and 32 images. Noise: all curves fall, that of the moments of the batch from 5.0 to 2.1; running averages with the past of all images lie below it, from 3.6 to 0.8; with their own past they fall from 4.9 to 1.2. Bias: the moments of the batch start above 2 and fall to 0.6 at 32; with the past of all images it lies between 0.6 and 1; with their own past it starts at 2.3 and ends at 0.7."}}
reference = sum(gradient(seen, False, seed) for seed in range(3)) / 3
batch_sizes = (2, 8, 32)
pasts = {
    "moments of the batch": (False, False),
    "past of all images": (True, False),
    "past of its own batches": (True, True),
}
measured = {
    name: tuple(zip(*(errors(n, *past) for n in batch_sizes), strict=True))
    for name, past in pasts.items()
}
(noise, _), (less, _), (own, _) = measured.values()
assert less[0] < noise[0]
assert all(b < 0.5 * a for a, b in zip(noise[1:], less[1:], strict=True))
assert all(a > b for a, b in zip(own, less, strict=True))
gains = [(a - b, a - c) for a, b, c in zip(noise, less, own, strict=True)]
assert gains[0][1] < gains[0][0] / 4  # in pairs it is lost
assert all(kept > gain / 2 for gain, kept in gains[1:])
assert min(min(biases) for _, biases in measured.values()) > 0.4
pictures.plot_gradient_errors(batch_sizes, measured)
plt.show()

# %% tags=["remove-cell"]
other = sum(gradient(seen, True, seed) for seed in range(3)) / 3
cosine = F.cosine_similarity(reference, other, dim=0).item()
assert 0.5 < cosine < 0.99

# %% [markdown]
# With the past of all images, running averages reduce the noise of the gradient of this flow. In
# batches of 8 and of 32, more than half of this gain remains with the past of the small batches. In
# pairs most of it is lost. Some bias remains with every norm. Does training profit? Here are two
# short runs of this flow with two images in a batch, alike except for the norm:

# %% tags=["hide-input"]
results, some = {}, seen[::9]
kinds = {"moments of the batch": False, "running averages": True}
for name, kind in kinds.items():
    small, _, losses = trained(2, 1000 if full else 120, kind)
    with torch.no_grad():  # in training mode
        noise = torch.Generator().manual_seed(0)
        costs = [
            -small.log_prob(x, generator=noise).mean() for x in some.split(2)
        ]
    in_pairs = torch.stack(costs).mean().item() / (64 * math.log(2))
    reestimate_statistics(small, seen[:1000])
    score = evaluate(small, held_out)
    results[name] = (sum(losses[-40:]) / 40, score.bits_per_dim)
    too_little = in_pairs - evaluate(small, some).bits_per_dim
    assert too_little > 0.02 or not kind
usual, running = results.values()
assert running[1] - running[0] < usual[1] - usual[0]
assert running[1] > usual[1] - (0.05 if full else 0.01)  # no better
figures.show_table(
    ["two images a batch", "loss at the end, bits/dim", "held out"],
    [[name, *(f"{v:.2f}" for v in pair)] for name, pair in results.items()],
)

# %% [markdown]
# With running averages the loss is closer to the held-out score, partly because the training images cost more in pairs
# than in evaluation mode. The score itself did not improve, in single runs of seconds. On CIFAR-10 there are two
# trials, one seed and six minutes each, with 32 images in a batch:

# %% tags=["hide-input"]
figures.show_table(
    ["trial on CIFAR-10", "steps", "validation, bits/dim"],
    [
        [t["trial"], t["steps"], f"{float(t['validation_bits_per_dim']):.2f}"]
        for t in trials("trials-cifar10.csv")
    ],
)

# %% tags=["remove-cell"]
averaged = compare(*experiment())["running-averages"]
assert len(averaged.differences) == 5
assert min(averaged.differences) > 0
lag = averaged.difference
assert [round(x, 2) for x in (lag.mean, lag.half_width)] == [0.19, 0.12]

# %% [markdown]
# At equal steps the running averages are behind. In the small flows of section {ref}`ablation` they are behind with
# each of five seeds, by 0.19 ± 0.12 (95% interval). But so few steps cannot contradict the paper, which had batches of
# 64 and does not say how long it trained.
#
# ## Moments that belong to the weights
#
# Chapter {ref}`networks` re-estimates the moments, because moving averages lag behind the weights. How much does the
# lag cost? The small model above shows it halfway (at the full rate) and at the end (at rate zero):

# %% tags=["hide-input"]
lag, rows = {}, []
for name, one in (("halfway", halfway), ("at the end", model)):
    reestimate_statistics(one, seen[:1000])
    fresh = evaluate(one, held_out).bits_per_dim
    lag[name] = moving[name] - fresh
    more = "over" if lag[name] > 0.08 else "under"
    rows.append([name, f"{fresh:.1f}", f"{more} 0.08"])
figures.show_table(
    ["held-out images, bits/dim", "re-estimated", "moving averages: more by"],
    rows,
)
assert lag["at the end"] < lag["halfway"]

# %% [markdown]
# The lag costs most at the full rate, while the weights still move. So `nvp train` also scores held-out images
# by batch statistics. That number is no likelihood, but when the two scores differ much, something
# is wrong with the moments.
#
# How much can a score depend on the moments? Set all means in the norms of the recorded run to 0,
# and all variances to 1. Then let the model find its moments again, by moving averages and by
# re-estimation:


# %% tags=["hide-input"]
def bits(model):
    """Bits/dim of a few test images, in evaluation mode."""
    return evaluate(model, few).bits_per_dim


def forgotten():
    """The recorded model with the moments of a new one."""
    model = copy.deepcopy(recorded)
    for layer in batch_norms(model):
        layer.running_mean.zero_()
        layer.running_var.fill_(1)
    return model


averaging, moving_bits = forgotten().train(), {}
for step in range(1, 41):
    batch = images[8 * step : 8 * step + 8]
    with torch.no_grad():
        averaging.loss(batch, torch.Generator().manual_seed(step))
    if step in (10, 40):
        moving_bits[step] = bits(averaging)

again = {}
for count in (32, 320):
    one = forgotten()
    reestimate_statistics(one, images[:count], batch_size=80)
    again[count] = bits(one)
forgotten_bits = bits(forgotten())
figures.show_table(
    [f"moments of the recorded run, {len(few)} test images", "bits/dim"],
    [
        ["as recorded", f"{as_recorded:.2f}"],
        ["0 and 1", f"{forgotten_bits:.0f}"],
        ["moving averages after 10 batches of 8", f"{moving_bits[10]:.0f}"],
        ["moving averages after 40 batches of 8", f"{moving_bits[40]:.2f}"],
        ["re-estimated on 32 images", f"{again[32]:.2f}"],
        ["re-estimated on 320 images", f"{again[320]:.2f}"],
    ],
)

# %% tags=["remove-cell"]
assert forgotten_bits > 100 * as_recorded
assert abs(again[320] - as_recorded) < 0.02
assert again[32] < as_recorded + 0.05 < moving_bits[40] - 0.45

# %% [markdown]
# With moments that are not its own the model needs more than a hundred times the bits. A moving average forgets its
# start as $0.9^k$. Forty batches later 1.5% of it is left, and the score is off by over 0.5. Re-estimation keeps
# nothing of the start: *32 images* are enough.
#
# ## Summary
#
# * In evaluation mode batch norm is a diagonal bijection with log-determinant {eq}`eq:batch-norm`. In training mode it
#   is a map of the batch with determinant 0, and the score is not a likelihood.
# * Running averages reduce the noise of the gradient only if their past is good; that of pairs is not. In a short run
#   with two images a batch the held-out score did not improve.
# * With the moments of an untrained model, a trained one needs more than a hundred times as many bits. A few dozen
#   images restore the score, so re-estimate the moments before you score.
#
# ## Exercises
#
# ```{exercise} As far as it gets
# :label: ex-samuelson
#
# Prove the bound of {numref}`fig-saturation`: of $m$ numbers normalised to mean 0 and mean square at most 1, none
# exceeds $\sqrt{m - 1}$. (This is Samuelson's inequality.) *Hint*: the other $m - 1$ numbers sum to $-\hat x_1$.
# ```
#
# ```{solution-start} ex-samuelson
# :class: dropdown
# ```
# The others sum to $-\hat x_1$, so by Cauchy and Schwarz
#
# $$
# \hat x_1^2 \le (m - 1) \sum_{j > 1} \hat x_j^2 \le (m - 1)(m - \hat x_1^2) .
# $$
#
# Collect: $m\, \hat x_1^2 \le m (m - 1)$. Equality needs all others to be equal, and $\epsilon = 0$.

# %% tags=["hide-input"]
m = 10
x = torch.cat([torch.tensor([1e6]), torch.zeros(m - 1)]).double()
assert abs(normalise(x).max() - math.sqrt(m - 1)) < 1e-6
many = torch.randn(2000, m, generator=generator).double() ** 3
assert max(normalise(row).abs().max() for row in many) < math.sqrt(m - 1)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The memory of a moving average
# :label: ex-memory
#
# A moving average changes by a tenth of the difference at each step. After how many steps has the starting value lost
# 99% of its weight? Now let the true moment grow by the same amount at each step. How many steps does the average lag behind?
# ```
#
# ```{solution-start} ex-memory
# :class: dropdown
# ```
# The start has the weight $0.9^n$ after $n$ steps, so it needs $n \ge \ln 0.01 / \ln 0.9$. Let the moment at step $n$
# be $n$, and the average $n - a$ with a constant lag $a$. Then $n - a = 0.9\, (n - 1 - a) + 0.1\, n$, so $a = 9$.

# %% tags=["hide-input"]
average, steps_needed = 1.0, 0
while average > 0.01:
    average *= 0.9
    steps_needed += 1
assert steps_needed == math.ceil(math.log(0.01) / math.log(0.9))
lagging = 0.0
for step in range(400):
    lagging = 0.9 * lagging + 0.1 * step
assert abs(step - lagging - 9) < 1e-6
print(f"{steps_needed} steps; the average lags by {step - lagging:.0f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Re-estimated in twos
# :label: ex-in-twos
#
# Let the mean of a channel over an image have variance $\tau^2$ from image to image. Within an image, let the channel
# have variance $\nu^2$ about that mean. What is the expected variance of a batch of $N$ images? What follows for
# re-estimation with batches of two? Try it on the first norm between couplings of the recorded run.
# ```
#
# ```{solution-start} ex-in-twos
# :class: dropdown
# ```
# $\nu^2 + (1 - 1/N)\, \tau^2$: the mean of the batch is fitted to it and takes $\tau^2 / N$ away. In twos, half of the
# variance between images is missing from every norm. Use batches as large as memory allows.

# %% tags=["hide-input"]
sixty_four, found = images[:64], {}
for size in (2, 64):
    one = copy.deepcopy(recorded)
    reestimate_statistics(one, sixty_four, batch_size=size)
    first = one.flow.scales[0].checkerboard.bijections[0].norm
    found[size] = (first.running_var.item(), bits(one))
assert found[2][0] < found[64][0]
assert found[2][1] > found[64][1]
for size in (2, 64):  # the formula, for nu = 1 and tau = 2
    level = 2 * torch.randn(4000, size, 1, generator=generator)
    within = torch.randn(4000, size, 30, generator=generator)
    within -= within.mean(dim=2, keepdim=True)
    of_batch = (level + within).flatten(1).var(1, correction=0).mean()
    expected = within.square().mean() + (1 - 1 / size) * 4
    assert abs(of_batch / expected - 1) < 0.05
print(f"variance: {found[2][0]:.2f} in twos, {found[64][0]:.2f} at once")
print(f"bits/dim: {found[2][1]:.2f} in twos, {found[64][1]:.2f} at once")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Moments of parts
# :label: ex-moments-of-parts
#
# Re-estimation in twos loses the variance *between* batches. Write `combined(parts)`. It takes the mean, the variance
# and the size $n$ of each batch, and returns mean and variance of all numbers. (Here a variance divides by $n$.) For
# which norms of a flow would this make re-estimation exact?
# ```
#
# ```{solution-start} ex-moments-of-parts
# :class: dropdown
# ```
# With $N = \sum_i n_i$ the mean is $\mu = \sum_i n_i \mu_i / N$, and the variance is $\sum_i n_i \bigl(\sigma_i^2 +
# (\mu_i - \mu)^2\bigr) / N$. It makes only the very first norm exact, which is at the input of the first network.
# Later ones see what earlier norms made of each batch by its own moments.


# %%
def combined(parts):
    """Mean and variance of all, from mean, variance and size of parts."""
    means, variances, sizes = torch.tensor(parts).double().unbind(dim=1)
    mean = (sizes * means).sum() / sizes.sum()
    between = (means - mean).square()
    return mean, (sizes * (variances + between)).sum() / sizes.sum()


numbers = torch.randn(90, generator=generator).double() ** 2
parts = [
    (part.mean(), part.var(correction=0), len(part))
    for part in numbers.split([2, 8, 30, 50])
]
mean, variance = combined(parts)
assert torch.isclose(mean, numbers.mean())
assert torch.isclose(variance, numbers.var(correction=0))

# %% [markdown]
# ```{solution-end}
# ```
