# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (baselines-and-bits)=
# # Likelihood, bits and baselines
#
# This appendix belongs to {ref}`density-estimation`. What goes wrong when a model is too small for its data? Why
# are bits the lengths of files? How far do models without a network get, and how much better on their training
# images?
#
# ```{admonition} In the papers
# They have one of these models: in Pixel RNN's Table 5 a Gaussian scores 4.70 bits/dim on CIFAR-10.
# ```

# %% tags=["parameters"]
profile = "laptop"

# %% tags=["hide-input"]
import heapq
import math

import matplotlib.pyplot as plt
import torch
from nvp_book import figures
from nvp_book.baselines import table_bits
from nvp_book.figures import estimation
from nvp_book.figures.samples import plot_rows
from nvp_book.moons import log_moons
from torch.distributions import MultivariateNormal, Normal
from torch.nn import functional as F

from nvp import Gaussian, GaussianConfig
from nvp.data import EMBEDDED, load
from nvp.ledger import runs
from nvp.likelihood import score_images
from nvp.model.dequantisation import logit

figures.use_style()
torch.set_num_threads(1)  # sums in one order, however many cores

train = load(EMBEDDED, "train").images
test = load(EMBEDDED, "test").images
D = train[0].numel()

# %% [markdown]
# (two-divergences)=
# ## Two ways to be wrong
#
# Where does a model $q$ put its mass if it is too simple for the data $p$? The **forward**
# divergence $\mathrm{KL}(p \,\|\, q)$, which maximum likelihood minimises
# ({ref}`density-estimation`), asks *where $p$ has mass* whether $q$ has some too. The **reverse**
# one, $\mathrm{KL}(q \,\|\, p)$, asks the opposite.
#
# The next cells fit a Gaussian $q$ by gradient descent on either divergence. The data are two modes
# on the line, and the two moons in the plane.


# %%
def approach(log_target, points, cell, start, forward, steps=200):
    """A Gaussian by gradient: KL(p || q) if forward, else KL(q || p)."""
    mean = start.clone().requires_grad_()
    raw = torch.zeros(len(start), len(start), dtype=start.dtype)
    raw.requires_grad_()
    optimiser = torch.optim.Adam([mean, raw], lr=0.05)
    for _ in range(steps):
        factor = raw.tril(-1) + raw.diagonal().exp().diag()
        q = MultivariateNormal(mean, scale_tril=factor)
        log_q = q.log_prob(points)
        a, b = (log_target, log_q) if forward else (log_q, log_target)
        divergence = (a.exp() * (a - b)).sum() * cell
        optimiser.zero_grad()
        divergence.backward()
        optimiser.step()
    return MultivariateNormal(mean.detach(), scale_tril=factor.detach())


# %% tags=["hide-input"]
line = torch.linspace(-6, 6, 601, dtype=torch.double)
shares, means, deviations = torch.tensor(
    [[0.6, 0.4], [-1.5, 2.0], [0.5, 0.7]], dtype=torch.double
)
two_modes = torch.distributions.MixtureSameFamily(
    torch.distributions.Categorical(shares), Normal(means, deviations)
)
problem = two_modes.log_prob(line), line[:, None], line[1] - line[0]
starts = torch.tensor([[-1.0], [1.5]], dtype=torch.double)
forward = [approach(*problem, start, True) for start in starts]
reverse = [approach(*problem, start, False) for start in starts]
for name, fits in {"forward": forward, "reverse": reverse}.items():
    found = [f"N({q.mean.item():.1f}, {q.stddev.item():.1f}²)" for q in fits]
    print(f"{name}: from the left {found[0]}, from the right {found[1]}")

side = torch.linspace(-2.8, 2.8, 71, dtype=torch.double)
plane = torch.cartesian_prod(side, side)
cell = (side[1] - side[0]) ** 2
log_target = log_moons(plane)
corners = torch.tensor([[-0.5, 1.0], [0.5, -1.0]], dtype=torch.double)
covering = approach(log_target, plane, cell, corners[0], True)
seeking = [approach(log_target, plane, cell, c, False) for c in corners]

# %% tags=["remove-cell"]
for q in forward:  # moments agree wherever one starts
    assert abs(q.mean - two_modes.mean).item() < 0.01
    assert abs(q.variance - two_modes.variance).item() < 0.02
left = [Normal(q.mean, q.stddev).cdf(torch.tensor(0.0)) for q in reverse]
assert left[0] > 0.98  # nearly all of it on the left mode
assert left[1] < 0.02  # nearly all of it on the right one
assert abs(log_target.exp().sum() * cell - 1) < 1e-3


def mass_seen(q):
    """The share of the moons within two standard deviations of q."""
    z = torch.linalg.solve(q.scale_tril, (plane - q.mean).T)
    return (log_target.exp() * (z.square().sum(0) < 4)).sum() * cell


assert mass_seen(covering) > 0.9
assert all(mass_seen(q) < 0.6 for q in seeking)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A Gaussian fitted by gradient descent to a target that is not Gaussian, on the line and in the plane (ellipses of two standard deviations). The forward divergence is maximum likelihood. {cite:t}`theis2016note` have a similar figure.", "name": "fig-two-divergences"}, "image": {"alt": "Left, a density with two modes, the left one higher. A wide blue Gaussian spans both and is high over the valley between; a narrow, red one sits on the left mode, another on the right one. Right, two grey half moons; a large blue ellipse around both, and two slim red ones, each along a piece of one moon."}}
estimation.plot_divergences(
    line,
    two_modes.log_prob(line).exp(),
    {"forward: maximum likelihood": forward[:1], "reverse": reverse},
    side,
    log_target.exp().reshape(71, 71),
    {"forward: maximum likelihood": [covering], "reverse": seeking},
)
plt.show()

# %% [markdown]
# The forward fit covers both modes, and the gap between them. The reverse fit seeks one mode, and which one depends
# on its start. So maximum likelihood is **mode-covering**: a model that is too small spreads, and some samples fall
# where there are no data. A method that only asks whether samples are convincing tends to leave places out. The game
# of a GAN, with the best discriminator, is between the two divergences ({ref}`beyond-gans`).
#
# ## Bits are file lengths
#
# Why does $-\log_2 P(x)$ count bits? Suppose that we store images as strings of 0 and 1
# {cite}`shannon1948`. No string may be the beginning of another (a **prefix code**), so that
# strings need no mark between them.
#
# ```{prf:proposition} Codes are distributions
# :label: prop-code
#
# Let $x$ be drawn from $p^*$, and let such a code give $x$ a string of $L(x)$ bits. With logarithms to base 2, the
# mean length is at least the entropy,
#
# $$
# \mathbb E[L(x)] \ge H_2(p^*) = -\sum_x p^*(x) \log_2 p^*(x) .
# $$
#
# For any distribution $P$ that is nowhere zero there is a code of $L(x) < -\log_2 P(x) + 1$ bits. Its mean length is
# less than
#
# $$
# H_2(p^*) + \mathrm{KL}_2(p^* \,\|\, P) + 1 .
# $$ (eq:wrong-book)
# ```
#
# ```{prf:proof}
# Throw a fair coin for each bit of a string. The string of $x$ comes up with probability $2^{-L(x)}$. No string
# begins another, so at most one comes up, and $\sum_x 2^{-L(x)} \le 1$. So $q(x) = 2^{-L(x)}$ sums to at most 1, and
# $\mathbb E[L] - H_2(p^*) = \mathrm{KL}_2(p^* \,\|\, q) \ge 0$ by the proof of
# {prf:ref}`prop-likelihood`, which needs only that $q$ sums to at most 1.
#
# Conversely let $L(x)$ be $-\log_2 P(x)$, rounded up, so that $\sum_x 2^{-L(x)} \le 1$. Hand out strings in the order
# of their lengths, each time the first one that does not begin with a string already given. The given ones use up
# the share $\sum 2^{-L} < 1$ of all continuations, so a string of the wanted length is always left. The mean follows
# from {eq}`eq:projection`.
# ```
#
# The bound {eq}`eq:wrong-book` has three terms. The **floor** belongs to the data. The others are the model's lack of
# knowledge, and rounding, which is one bit at most for a whole image. The floor of images is
# unknown, but it is at most $b$ bits/dim if a model scores $b$ on new images.
#
# {cite:t}`huffman1952` found the best code for single symbols: join the two least probable symbols, again and
# again.


# %%
def huffman(p):
    """The code of fewest bits on average: symbol -> string."""
    heap = [(float(w), x, {x: ""}) for x, w in enumerate(p)]
    heapq.heapify(heap)
    while len(heap) > 1:
        (v, _, a), (w, x, b) = heapq.heappop(heap), heapq.heappop(heap)
        joined = {y: "0" + s for y, s in a.items()}
        joined |= {y: "1" + s for y, s in b.items()}
        heapq.heappush(heap, (v + w, x, joined))
    return heap[0][2]


def decode(code, file):
    """The symbols of a file, read from its beginning."""
    symbols, book, word = [], {s: x for x, s in code.items()}, ""
    for bit in file:
        word += bit
        if word in book:
            symbols.append(book[word])
            word = ""
    return symbols


grey = torch.bincount(train.flatten(), minlength=256).double() + 1
grey = grey / grey.sum()  # one histogram for all pixels
code = huffman(grey)
image = test[0].flatten().tolist()
assert decode(code, "".join(code[x] for x in image)) == image

lengths = torch.tensor([len(code[x]) for x in range(256)]).double()
entropy, mean = -(grey * grey.log2()).sum(), (grey * lengths).sum()
print(f"the entropy of a grey level: {entropy:.2f} bits")
print(f"the mean length of a Huffman code: {mean:.2f} bits")

# %% tags=["remove-cell"]
assert (0.5**lengths).sum() == 1
assert entropy <= mean < entropy + 1

# %% [markdown]
# ## More baselines
#
# How far does one get without a network? Chapter {ref}`density-estimation` has one histogram, and a
# table of a pixel given two neighbours. Here are four more models.
#
# **A histogram for each pixel** keeps one table for each place $i$:
#
# $$
# P(x) = \prod_{i=1}^{D} p_i(x_i), \qquad
# p_i(v) = \frac{1 + \#\{n : x^{(n)}_i = v\}}{256 + N} .
# $$ (eq:histograms)
#
# **A mixture** has eight sets of such tables, each for images of one kind, and $P(x) = \sum_k \pi_k P_k(x)$ with
# shares $\pi_k$. At first the kind of an image is the nearest of eight random images. Hard expectation-maximisation
# then counts the levels in each kind and adds 1/8 to each count. It gives each image the $k$ of largest $\pi_k P_k(x)$.
# Both are done five times.


# %%
def entries(images):
    """Where each pixel's level stands in a table of (D, 256): (N, D)."""
    return images.flatten(1).long() + 256 * torch.arange(D)


def mixture(images, kinds, rounds=5, seed=4):
    """log2 of pi_k and of each p_k, flattened: (K,), (D * 256, K)."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=generator)[:kinds]
    flat = images.flatten(1).float()
    kind = torch.cdist(flat, flat[chosen]).argmin(dim=1)
    where = entries(images)
    for _ in range(rounds if kinds > 1 else 1):
        here = (where + kind[:, None] * 256 * D).flatten()
        counts = torch.bincount(here, minlength=kinds * D * 256)
        counts = counts.view(kinds, D, 256) + 1 / kinds
        tables = counts / counts.sum(dim=2, keepdim=True)
        tables = tables.log2().view(kinds, -1).T.contiguous()
        share = kind.bincount(minlength=kinds) / len(kind)
        of_kind = F.embedding_bag(where, tables, mode="sum")
        kind = (of_kind + share.log2()).argmax(dim=1)
    return share.log2(), tables


def bits_of(fitted, images):
    """Bits/dim by a mixture, (N,)."""
    shares, tables = fitted
    of_kind = F.embedding_bag(entries(images), tables, mode="sum") + shares
    nats = torch.logsumexp(of_kind.double() * math.log(2), dim=1)
    return -nats / math.log(2) / D


def sample(fitted, n, generator):
    shares, tables = fitted
    kinds = torch.multinomial(shares.exp2(), n, True, generator=generator)
    chosen = tables.exp2().T.reshape(-1, D, 256)[kinds].flatten(0, 1)
    levels = torch.multinomial(chosen, 1, generator=generator)
    return levels.reshape(n, 1, 28, 28).byte()


each_pixel, of_eight = mixture(train, 1), mixture(train, 8)

# %% [markdown]
# **A Gaussian** with a full covariance knows the correlation of every pixel with every other one. It is fitted and
# scored on noisy pixels, after a logit, so its score is a bound ({doc}`05_integers_to_bits`).
#
# ```{prf:proposition} The best Gaussian
# :label: prop-best-gaussian
#
# Let the logits $y$ have $d$ dimensions, and vary $m$ and $\Sigma = L L^{\mathsf T} > 0$. Let the covariance
# of $y$ be invertible. The mean of $\log \mathcal N(y; m, \Sigma)$ over images and noise is highest
# where $m$ and $\Sigma$ are the mean and covariance of $y$. There it is
#
# $$
# -\frac d2 \log(2 \pi e) - \sum_i \log L_{ii} .
# $$ (eq:best-gaussian)
# ```
#
# ```{prf:proof}
# With $S$ the covariance of $y$ and $\bar y$ its mean, the mean of the log density is $-\frac12$ times
#
# $$
# d \log 2\pi + \log \det \Sigma + \operatorname{tr}(\Sigma^{-1} S) + (\bar y - m)^{\mathsf T} \Sigma^{-1} (\bar y - m).
# $$
#
# The last term is 0 for $m = \bar y$. With $\lambda_i$ the eigenvalues of $\Sigma^{-1/2} S \Sigma^{-1/2}$, the rest
# is $\log \det S + \sum_i (\lambda_i - \log \lambda_i)$ plus a constant. Each $\lambda - \log \lambda$ is least at
# $\lambda = 1$, so $\Sigma = S$. Then the trace is $d$.
# ```
#
# No noise is drawn: each of the 256 levels has a mean and a variance of $y$ over $u$. The noise of
# different pixels is independent, so it adds to the diagonal alone.

# %%
level = torch.arange(256, dtype=torch.double)[:, None]
u = (torch.arange(256, dtype=torch.double) + 0.5) / 256  # midpoint rule
y_of_level, log_derivative = logit((level + u) / 256, 0.05, 0.9)
mean_of, variance_of = y_of_level.mean(1), y_of_level.var(1, correction=0)
flat = train.flatten(1).long()
m = mean_of[flat].mean(0)
S = mean_of[flat].T.cov(correction=0) + variance_of[flat].mean(0).diag()
L = torch.linalg.cholesky(S)

gaussian = Gaussian(GaussianConfig(image_shape=(1, 28, 28)))
gaussian.initialise(train)
log_diagonal = gaussian.log_diagonal.double()
assert torch.allclose(gaussian.mean.double(), m, atol=1e-2)
assert torch.allclose(log_diagonal, L.diagonal().log(), atol=1e-2)

# %% tags=["remove-cell"]
density = -D / 2 * math.log(2 * math.pi * math.e) - L.diagonal().log().sum()
change = log_derivative.mean(1)[flat].sum(1).mean() - D * math.log(256)
closed = -(density + change) / (D * math.log(2))
assert abs(closed - score_images(gaussian, train).mean()) < 0.01

# %% [markdown]
# **A prediction** takes three neighbours instead of two. JPEG-LS {cite}`weinberger2000loco` predicts a pixel by
# *left + up − corner*, within the range of left and up. This prediction, in 32 steps, and the
# slope there, in 8, choose a histogram.


# %%
def context(images):
    """The prediction and the slope, as one number below 256."""
    x = F.pad(images.long(), (1, 0, 1, 0))
    left, up, corner = x[..., 1:, :-1], x[..., :-1, 1:], x[..., :-1, :-1]
    ends = torch.minimum(left, up), torch.maximum(left, up)
    guess = (left + up - corner).clamp(*ends)
    slope = (left - corner).abs() + (up - corner).abs()
    return guess // 8 * 8 + (slope + 1).log2().long().clamp(max=7)


def predicted_bits(images):
    cells = (context(train) * 256 + train).flatten()
    table = torch.bincount(cells, minlength=256 * 256).double() + 1
    table = table.view(-1, 256)
    table = (table / table.sum(dim=1, keepdim=True)).log2()
    return -table[context(images), images.long()].flatten(1).mean(dim=1)


# %% [markdown]
# The next cell scores all six in bits/dim, on training and on test images:

# %% tags=["hide-input"]
models = {
    "one histogram": (255, lambda x: table_bits(train, x, 1)),
    "one for each pixel": (255 * D, lambda x: bits_of(each_pixel, x)),
    "a mixture of 8": (8 * 255 * D + 7, lambda x: bits_of(of_eight, x)),
    "Gaussian (a bound)": (
        D * (D + 3) // 2,
        lambda x: score_images(gaussian, x),
    ),
    "two neighbours": (255 * 256, lambda x: table_bits(train, x, 16)),
    "a prediction": (255 * 256, predicted_bits),
}
scores, rows = {}, []
for name, (size, bits) in models.items():
    here, new = bits(train).mean().item(), bits(test)
    scores[name] = here, new.mean().item()
    error = new.std().item() / math.sqrt(len(new))
    cells = [f"{here:.2f}", f"{new.mean():.2f} ± {error:.2f}"]
    rows.append([name, f"{size:,}", *cells])
header = ["model", "parameters", "training", "test"]
figures.show_table(header, rows)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Test images, and ten samples of each of three models. None was selected by hand.", "name": "fig-more-baselines"}, "image": {"alt": "Four rows of ten images. Test images: clothes. One for each pixel: noise in the shape of a vague shirt. A mixture: grainy noise in the shapes of shirts, trousers, shoes. Gaussian: blurred grey patches with stripes, some in the outline of a shirt or a dress."}}
generator = torch.Generator().manual_seed(2)
plot_rows(
    {
        "test images": test[:10],
        "one for each pixel": sample(each_pixel, 10, generator),
        "a mixture of 8": sample(of_eight, 10, generator),
        "Gaussian": gaussian.sample(10, generator=generator),
    }
)
plt.show()

# %% tags=["remove-cell"]
of_test = {name: pair[1] for name, pair in scores.items()}
assert min(of_test, key=of_test.get) == "a prediction"
quick = runs()["quickstart"]
assert (quick.record.parameters, quick.record.trained_on) == (766_871, 4500)
assert round(quick.record.minutes) == 4
assert -0.03 < of_test["a prediction"] - quick.score.bits_per_dim < 0.01
assert max(of_test, key=of_test.get) == "Gaussian (a bound)"

# %% [markdown]
# *A prediction* scores best. It is level with `quickstart`, a flow of 766,871 parameters, which
# learned from 4,500 of these images for four minutes. The samples of the Gaussian are the smoothest, and it scores
# worst. One reason is the black background: a histogram can represent pixels that are exactly 0, a Gaussian cannot.
# Few of the middle 8 × 8 pixels are black, and there the Gaussian wins:

# %%
black = (train == 0).double().mean().item()
print(f"{black:.0%} of the training pixels are black")
middle = ..., slice(10, 18), slice(10, 18)
assert (train[middle] == 0).double().mean() < 0.1
centre = Gaussian(GaussianConfig(image_shape=(1, 8, 8)))
centre.initialise(train[middle])
by_gaussian = score_images(centre, test[middle]).mean()
by_pixel = -each_pixel[1][entries(test), 0].view(-1, 28, 28)[middle].mean()
assert by_gaussian < by_pixel - 0.4
print(f"in the middle: Gaussian {by_gaussian:.1f}, histograms {by_pixel:.1f}")

# %% [markdown]
# ## Training and test
#
# How much better does a fit score on its training images than on new ones, when the model is right? In one case it
# can be computed.
#
# ```{prf:proposition} The cost of a parameter
# :label: prop-cost
#
# Let $x^{(1)}, \dots, x^{(N)}$ be independent, $\mathcal N(\mu, I)$ in $d$ dimensions, and fit
# $\mathcal N(\hat\mu, I)$ by maximum likelihood. With $H$ the entropy of the truth, the mean over training sets of
# $-\log p_{\hat\mu}(x)$ is
#
# $$
# H - \frac{d}{2N} \quad \text{at training points,} \qquad
# H + \frac{d}{2N} \quad \text{at new points.}
# $$ (eq:parameter-cost)
# ```
#
# ```{prf:proof}
# $-\log p_{m}(x) = \frac d2 \log 2\pi + \frac12 \lVert x - m \rVert^2$, whose mean at $m = \mu$ is $H$. The estimate
# is $\hat\mu = \frac1N \sum_n x^{(n)}$, with $\mathbb E\lVert \hat\mu - \mu \rVert^2 = d/N$. A new point is
# independent of it, so
#
# $$
# \mathbb E\lVert x - \hat\mu \rVert^2
#   = \mathbb E\lVert x - \mu \rVert^2 + \mathbb E\lVert \hat\mu - \mu \rVert^2 = d + d/N .
# $$
#
# At the training points
#
# $$
# \sum_n \lVert x^{(n)} - \hat\mu \rVert^2
#   = \sum_n \lVert x^{(n)} - \mu \rVert^2 - N \lVert \hat\mu - \mu \rVert^2 ,
# $$
#
# with the mean $Nd - d$.
# ```
#
# So the two scores differ by $1/N$ nats for each parameter. With enough data this holds to first order for every
# regular model (without redundant parameters) that contains the truth {cite}`akaike1974`. The next figure measures
# it. It also has the table of two neighbours, with each neighbour rounded to 1 to 256 steps:

# %% tags=["hide-input"]
d, repeats = 8, {"laptop": 2000, "paper": 10_000}[profile]
generator = torch.Generator().manual_seed(3)
sizes = [8, 16, 32, 64, 128, 256]
floor = d / 2 * math.log(2 * math.pi * math.e)
constant = d / 2 * math.log(2 * math.pi)
at_train, at_new = [], []
for n in sizes:
    x = torch.randn(repeats, n, d, dtype=torch.double, generator=generator)
    fitted = x.mean(dim=1, keepdim=True)
    inside = (x - fitted).square().sum(dim=2).mean() / 2
    outside = (d + fitted.square().sum(dim=2).mean()) / 2  # true mean: 0
    at_train.append(constant + inside)
    at_new.append(constant + outside)

steps = (1, 4, 16, 64, 256)
both = torch.cat([train, test])
bits = [table_bits(train, both, number) for number in steps]
curves = {
    "training": [each[: len(train)].mean().item() for each in bits],
    "test": [each[len(train) :].mean().item() for each in bits],
}

# %% tags=["remove-cell"]
for n, of_train, of_new in zip(sizes, at_train, at_new, strict=True):
    error = math.sqrt(d / 2 / repeats)  # standard, but for a power of n
    assert abs(of_train - (floor - d / 2 / n)) < 5 * error / n**0.5
    assert abs(of_new - (floor + d / 2 / n)) < 5 * error / n
assert curves["test"][0] > min(curves["test"])
assert curves["test"][-1] > min(curves["test"]) + 0.2
assert min(curves["test"]) == curves["test"][2] < curves["test"][3]
assert curves["test"][3] - curves["test"][2] < 0.01
assert curves["training"][-1] > curves["training"][-2]

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Left: nats per point when the mean of a Gaussian in 8 dimensions is fitted to $N$ points. Marks are means over many training sets, lines are {eq}`eq:parameter-cost`. Right: bits/dim of our images under tables for a pixel given two neighbours: 1, 4, 16, 64 and 256 steps each.", "name": "fig-train-test"}, "image": {"alt": "Left, two curves over N on a logarithmic axis; training rises from below, test falls from above, both towards a dashed line, the entropy. Right, over the size of the table: training and test fall together, part at the middle, and then test rises above training, which rises a little at the end, too."}}
n = torch.logspace(math.log10(sizes[0]), math.log10(sizes[-1]), 50)
estimation.plot_train_and_test(
    sizes,
    {"training": at_train, "test": at_new},
    {"training": (n, floor - d / 2 / n), "test": (n, floor + d / 2 / n)},
    floor,
    [256 * number**2 for number in steps],
    curves,
)
plt.show()

# %% [markdown]
# On the left, the measured means lie on the lines of {eq}`eq:parameter-cost`. On the right, the test score is best
# at 16 steps, nearly as good at 64, and worse beyond. With 256 the ones added to the counts cost training bits, too.
# So this book compares likelihoods of images that were never trained on, as both papers do.
#
# Does {prf:ref}`prop-cost` predict the differences in the table of baselines? Its law is parameters over $N$, in nats
# per image:

# %% tags=["hide-input"]
rows = []
for name, (size, _) in models.items():
    law = size / len(train) / (D * math.log(2))
    seen = scores[name][1] - scores[name][0]
    if name != "one histogram":
        assert 1 / 3 < seen / law < 3
        rows.append([name, f"{law:.2f}", f"{seen:.2f}"])
figures.show_table(
    ["test minus training, bits/dim", "predicted", "measured"], rows
)

# %% tags=["remove-cell"]
*_, third, second, first = sorted(new - here for here, new in scores.values())
assert third < 2 * 0.03 < 0.15 < second < first

# %% [markdown]
# Only the two largest differences are clear of the error of the test scores, ±0.03 or more. The law predicts only
# their order of magnitude, since no model here contains the truth, and many parameters are for levels that never
# occur.
#
# ## Summary
#
# * Maximum likelihood spreads a simple model over all of the data. The other divergence lets it settle on a part.
# * $-\log_2 P(x)$ is the length of a file, up to a bit.
# * In a regular model that contains the truth, each fitted parameter lowers the training loss by about $1/(2N)$ nats.
#   It raises the test loss by as much.
#
# ## Exercises
#
# ```{exercise} Counting
# :label: ex-counting
#
# {prf:ref}`prop-likelihood` says that the empirical histogram is the most likely one. Show without it that no small
# change of $\hat p$ raises the likelihood of the data, and that the loss grows with the square of the change. What
# do the added ones in {eq}`eq:histogram` do?
# ```
#
# ```{solution-start} ex-counting
# :class: dropdown
# ```
# Add changes $\epsilon_v$ of sum zero. The first order of the loss vanishes, since $\sum_v \hat p(v)\, \epsilon_v /
# \hat p(v) = \sum_v \epsilon_v = 0$. The second is $\frac12 \sum_v \epsilon_v^2 / \hat p(v)$. (In our images no $\hat
# p(v)$ is 0.) The added ones move the histogram a little towards the uniform one. This costs training likelihood and
# can gain test likelihood: without them, one new level makes an image impossible.

# %%
torch.manual_seed(1)
p_hat = torch.bincount(train.flatten(), minlength=256).double()
p_hat /= p_hat.sum()
change = torch.randn(256) * p_hat
change -= change.sum() * p_hat  # sum zero
losses = [
    -(p_hat * torch.log1p(scale * change / p_hat)).sum()
    for scale in (0.01, 0.02)
]
assert min(losses) > 0
assert abs(losses[1] / losses[0] - 4) < 0.2

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The worth of correlation
# :label: ex-correlation
#
# Fit a Gaussian with a full covariance, and one with its diagonal only, to the logits of noisy pixels. How many
# bits/dim are the correlations worth on training images, and on test images? Derive the first from the covariance
# alone.
# ```
#
# ```{solution-start} ex-correlation
# :class: dropdown
# ```
# Both Gaussians are maxima of their likelihoods. Let one have the mean $\mu$ and the covariance $\Sigma$. At a maximum
# the mean of $\frac12 (x - \mu)^{\mathsf T} \Sigma^{-1} (x - \mu)$ is $D/2$, so
# the training scores differ by the log-determinants alone: $\frac{1}{2D}
# \bigl( \sum_i \log_2 \Sigma_{ii} - \log_2 \det \Sigma \bigr)$. On new images the gain is smaller, since 307,000
# correlations were fitted to 5,000 images.


# %%
def logits(images, seed):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(images.shape, generator=generator)
    return torch.logit(0.05 + 0.9 * (images + noise) / 256).flatten(1).double()


seen, new = logits(train, 0), logits(test, 1)
covariance = seen.T.cov(correction=0)
alone = covariance.diagonal()
worth = alone.log2().sum() - torch.logdet(covariance) / math.log(2)
worth = worth.item() / (2 * D)
full = MultivariateNormal(seen.mean(0), covariance)
diagonal = Normal(seen.mean(0), alone.sqrt())
gains = [
    (full.log_prob(y) - diagonal.log_prob(y).sum(dim=1)).mean().item()
    / (D * math.log(2))
    for y in (seen, new)
]
assert abs(gains[0] - worth) < 1e-6
assert gains[1] < gains[0]
print(f"{worth:.1f} bits/dim in training, {gains[1]:.1f} on test images")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A Gaussian, pixel by pixel
# :label: ex-gaussian-pixels
#
# The $L$ of {prf:ref}`prop-best-gaussian` is triangular. Show that the Gaussian is an autoregressive model, and that
# $L_{ii}$ is the standard deviation of pixel $i$ given those before it. Which pixels are easy?
# ```
#
# ```{solution-start} ex-gaussian-pixels
# :class: dropdown
# ```
# $y = m + L z$ says that $y_i$ is $L_{ii} z_i$ plus a function of $z_1, \dots, z_{i-1}$, hence of
# $y_1, \dots, y_{i-1}$. So $y_i \mid y_{<i}$ is a Gaussian of standard deviation $L_{ii}$, whose mean is the best
# linear prediction; its weights are row $i$ of $L^{-1}$, times $-L_{ii}$. The log density is a sum of such terms, as
# in chapter {ref}`pixel-by-pixel`. The easy pixels are black in nearly every image: in a corner hardly more than the
# noise is left unknown.

# %%
inverse = torch.linalg.inv(L)
y = mean_of[flat] - m
i = 14 * 28 + 14  # a pixel in the middle
prediction = -(y[:, :i] @ inverse[i, :i]) * L[i, i]
left = (y[:, i] - prediction).var(correction=0)
assert left < y[:, i].var(correction=0) / 3
S = L @ L.T
best = torch.linalg.solve(S[:i, :i], S[:i, i])  # the linear prediction
assert torch.allclose(best, -inverse[i, :i] * L[i, i])
assert torch.isclose(S[i, i] - best @ S[:i, i], L[i, i] ** 2)
border = L.diagonal().reshape(28, 28)[0].mean()
middle = L.diagonal().reshape(28, 28)[10:18, 10:18].mean()
assert border < middle
noise_there = variance_of[flat[:, 0]].mean().sqrt()
assert L[0, 0] < 1.2 * noise_there
assert L[0, 0] == L.diagonal().min()
print(f"left unknown: first row {border:.2f}, middle {middle:.2f},", end=" ")
print(f"corner {L[0, 0]:.2f}, of it the noise {noise_there:.2f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Build a code for blocks
# :label: ex-rounding
#
# Call a pixel white if its level is 200 or more, and code only whether it is. For *one* pixel that takes a bit, however
# rare white is. Build, with `huffman` from this page, a code for $k$ pixels together, as if they were independent. How
# many bits does a pixel take, for $k = 1, 2, 4, 8$, and what does {eq}`eq:wrong-book` say about it?
# ```
#
# ```{solution-start} ex-rounding
# :class: dropdown
# ```
# The rounding of up to one bit is now shared by $k$ pixels, so each takes less than the entropy plus $1/k$. An image
# is coded with $k = D$. Huffman's code would then have $2^D$ words; {doc}`18_compression` has codes that need no
# list.

# %%
white = (train >= 200).double().mean().item()
one = torch.tensor([1 - white, white], dtype=torch.double)
least = -(one * one.log2()).sum().item()
rows, blocks = [], torch.ones(1, dtype=torch.double)
for k in range(1, 9):
    blocks = torch.kron(blocks, one)  # probabilities of all 2^k blocks
    words = huffman(blocks)
    lengths = torch.tensor([len(words[x]) for x in range(2**k)])
    each = (blocks * lengths).sum().item() / k
    assert least <= each < least + 1 / k
    if k in (1, 2, 4, 8):
        rows.append([k, f"{each:.3f}"])
figures.show_table(["pixels at once", "bits for each"], rows)
print(f"{white:.0%} of the pixels are white; the entropy: {least:.3f} bits")

# %% [markdown]
# ```{solution-end}
# ```
