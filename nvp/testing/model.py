"""A check that every model of images passes: `check_model`."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor

from nvp.autoregressive.pixelrnn import PixelRNN
from nvp.likelihood import score_images
from nvp.model.labels import Examples, Labelled
from nvp.model.protocol import ImageModel, Likelihood, log_mean_exp
from nvp.testing.common import (
    TOLERANCE,
    check_gradients,
    check_parts,
    moved,
    near,
    require,
    require_refusal,
    seeded,
)
from nvp.testing.counting import all_images, counts, p_value

NOISE_IMAGES = 100
MOST_IMAGES = 1024  # that are counted
SAMPLES = 10  # for each image that there is
CHANCE = 1e-6  # of a right sampler to be called wrong
CHANGES = 32  # sets of sub-pixels that are changed to see what depends on them


def check_model(model: ImageModel, images: Tensor, labels: Tensor | None = None) -> None:
    """Check that a model keeps the protocol at a few of its images, uint8 (N > 1, C, H, W).

    It works on copies, and leaves the model as it was. Raises `AssertionError` with one line that
    says what is wrong, and `NVPError` for images or labels that the model does not take. The checks
    are:

    * shapes, types and levels are right, and what does not fit is refused in one line
    * the same seed gives the same samples and scores, and another seed other samples
    * every parameter has a gradient, and all of them come back from the state dict
    * a bound of K sets of noise is the mean, or the log of the mean, over these sets; an exact
      likelihood is the same for all noise
    * the score of an image does not depend on those beside it
    * `logits(images)`, (N, C, H, W, levels), if there, do not see their own or later sub-pixels; a
      conditional model has `logits(images, y)`, with the y of `_log_probs`
    * an exact likelihood is that of the `logits`
    * if there are at most 1,024 images, its probabilities sum to 1, and samples are as frequent as
      they are probable
    * uniform noise takes log2(levels) bits a sub-pixel or more

    A conditional model takes `labels`, one for each image and not all the same; other labels must
    give other scores and samples. Some checks move the weights away from their first values, which
    hide mistakes. Where the likelihood is a bound, or the images are too many to count, these pass:
    a likelihood that is too low, one that is too high with other weights, and samples of another
    distribution. So check an exact model at tiny images with few levels, too, the bijections of a
    flow by `check_bijection`, and any model after training on uniform noise, as in the chapter
    "Your turn".
    """
    require(len(images) > 1, "give two images or more")
    before = copy.deepcopy(model.state_dict())
    given, images = images, images.clone()
    _check_attributes(model)
    _check_refusals(copy.deepcopy(model), images, labels)
    _check_loss(moved(model), images, labels)
    require(torch.equal(images, given), "the model changes the images that it is given")
    quiet = copy.deepcopy(model).eval()
    _check_samples(quiet, len(images), labels)
    if inspect.ismethod(getattr(model, "logits", None)):
        _in_float64(_check_causality, quiet, images[0].cpu(), labels)
    if model.likelihood != "none":
        _check_log_prob(quiet, images, labels)
        _in_float64(_check_independence, quiet, images, labels)
        for of_noise in (quiet, moved(quiet)):
            _check_noise(of_noise, labels)
    if model.likelihood == "exact" and model.levels**model.num_dimensions <= MOST_IMAGES:
        _check_distribution(moved(quiet), labels)
    if labels is not None:
        _check_labels(moved(quiet), images, labels)
    now = quiet.state_dict()
    changed = [name for name in before if not torch.equal(before[name], now[name])]
    require(not changed, f"in evaluation mode, scoring or sampling changes {', '.join(changed)}")
    require(not any(m.training for m in quiet.modules()), "a method switches training mode on")
    _check_state(quiet, images, labels)
    after = model.state_dict()
    same = all(torch.equal(before[name], after[name]) for name in before)
    require(same, "a deep copy shares tensors with its model")


def fill_by_definition(
    model: PixelRNN,
    images: Tensor,
    first_row: int,
    *,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Draw the rows from `first_row` on, as `nvp.autoregressive.sampling.fill` does.

    Each sub-pixel takes a forward pass, so this is about H W times the work of `fill`. It needs no
    caches: a reference to compare with.
    """
    images = images.clone()
    _, colours, height, width = images.shape
    for row in range(first_row, height):
        for column in range(width):
            for colour in range(colours):
                parameters = model.parameters_of(images)[:, colour, row, column]
                drawn = model.output.draw(parameters, generator, temperature)
                images[:, colour, row, column] = drawn
    return images


def _in_float64(check: Callable[..., None], model: ImageModel, *given: Tensor | None) -> None:
    try:
        check(moved(model).double(), *given)
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise AssertionError(
            f"in double precision the model fails ({reason}): if a tensor has another type, make "
            "it in self.dtype"
        ) from error


def _check_attributes(model: ImageModel) -> None:
    shape = tuple(getattr(model, "image_shape", ()))
    require(len(shape) == 3 and min(shape) > 0, f"image_shape is {shape}, not (C, H, W)")
    require(2 <= model.levels <= 256, f"levels is {model.levels}, not in 2..256")
    kinds = get_args(Likelihood)
    require(model.likelihood in kinds, f"likelihood is {model.likelihood!r}, not in {kinds}")
    require(any(True for _ in model.parameters()), "the model has no parameters")
    check_parts(model)


def _check_refusals(model: ImageModel, images: Tensor, labels: Tensor | None) -> None:
    wrong = {
        "floats": images.float(),
        "a single image without a batch": images[0],
        "images of another width": torch.cat([images, images], dim=-1),
        "no images": images[:0],
        "an array of NumPy": images.numpy(force=True),
    }
    if model.levels < 256:
        wrong["a level that there is not"] = torch.full_like(images, model.levels)
    other = None if model.num_classes else torch.zeros(len(images), dtype=torch.int64)
    what_other = "no labels" if model.num_classes else "labels that it has no use for"
    uses: list[Callable[..., Tensor]] = [model.loss]
    if model.likelihood == "none":
        require_refusal("log_prob without a likelihood", partial(model.log_prob, images))
    else:
        uses.append(model.log_prob)
        none = partial(model.log_prob, images, num_draws=0, labels=labels)
        require_refusal("log_prob of no draws", none)
    for use in uses:
        for what, those in wrong.items():
            require_refusal(f"{use.__name__} of {what}", partial(use, those, labels=labels))
        require_refusal(f"{use.__name__} with {what_other}", partial(use, images, labels=other))
    sample = partial(model.sample, len(images), labels=other)
    require_refusal(f"sample with {what_other}", sample)
    empty = None if labels is None else labels[:0]
    require_refusal("sample of nothing", partial(model.sample, 0, labels=empty))
    hot = partial(model.sample, len(images), temperature=math.nan, labels=labels)
    require_refusal("a temperature that is no number", hot)


def _check_loss(model: ImageModel, images: Tensor, labels: Tensor | None) -> None:
    model.train()
    loss = model.loss(images, seeded(), labels=labels)
    require(loss.shape == () and bool(loss.isfinite()), f"the loss is {loss}, no finite scalar")
    loss.backward()
    check_gradients(model)


def _check_samples(model: ImageModel, n: int, labels: Tensor | None) -> None:
    drawn, again, other = (
        model.sample(n, generator=seeded(seed), labels=labels) for seed in (0, 0, 1)
    )
    require(drawn.dtype is torch.uint8, f"samples are {drawn.dtype}, not uint8")
    expected = (n, *model.image_shape)
    require(tuple(drawn.shape) == expected, f"samples are {tuple(drawn.shape)}, not {expected}")
    highest = int(drawn.max())
    require(highest < model.levels, f"a sample has the level {highest} of {model.levels}")
    require(len(drawn.unique(dim=0)) > 1, "the images of one call of sample are all the same")
    require(torch.equal(drawn, again), "samples of the same seed differ")
    require(not torch.equal(drawn, other), "samples of another seed are the same")
    model = moved(model)  # logits that are all 0 would draw the same at any temperature
    hot, cold = (
        model.sample(n, generator=seeded(), temperature=t, labels=labels) for t in (1.0, 1e-3)
    )
    require(not torch.equal(hot, cold), "samples of temperature 0.001 are those of temperature 1")


@torch.no_grad()
def _check_log_prob(model: ImageModel, images: Tensor, labels: Tensor | None) -> None:
    def scored(num_draws: int = 1, generator: torch.Generator | None = None) -> Tensor:
        generator = generator or seeded()
        return model.log_prob(images, num_draws=num_draws, generator=generator, labels=labels)

    log_prob = scored()
    require(log_prob.shape == (len(images),), f"log_prob is {tuple(log_prob.shape)}, not (N,)")
    require(log_prob.dtype is model.dtype, f"log_prob is {log_prob.dtype}, not {model.dtype}")
    require(bool(log_prob.isfinite().all()), "a log_prob is not finite")
    require(torch.equal(scored(), log_prob), "log_prob of the same seed differs")
    if model.likelihood == "exact":
        require(torch.equal(scored(generator=seeded(1)), log_prob), "exact log_prob needs noise")
        require(bool((log_prob < 1e-3).all()), "an image has a probability above 1")
        if inspect.ismethod(getattr(model, "logits", None)):
            levels = images.to(model.device).long()[..., None]
            each = _logits(model, images, labels).log_softmax(-1).gather(-1, levels)
            of_logits = each.flatten(1).sum(1)
            require(torch.allclose(log_prob, of_logits, rtol=1e-4), "log_prob is not of the logits")
        return
    one_by_one = seeded()
    draws = [scored(generator=one_by_one) for _ in range(3)]
    averaged = model.averages_noise
    combined = torch.stack(draws).mean(0) if averaged else log_mean_exp(draws)
    require(
        torch.allclose(scored(num_draws=3), combined, rtol=1e-4),
        f"log_prob with num_draws is not the {'mean' if averaged else 'log of the mean'} over "
        "these sets of noise",
    )


@torch.no_grad()
def _check_independence(model: ImageModel, images: Tensor, labels: Tensor | None) -> None:
    """In float64: the first and the last image, beside copies of themselves, score as they do
    beside the others. Where each image sees those before it, the first sees none.
    """
    log_prob = model.log_prob(images, generator=seeded(), labels=labels)
    require(log_prob.dtype is model.dtype, f"log_prob in double precision is {log_prob.dtype}")
    for which in (0, -1):
        beside = torch.full((len(images),), which)
        copies = None if labels is None else labels[beside]
        alone = model.log_prob(images[beside], generator=seeded(), labels=copies)
        require(
            near(log_prob[which], alone[which]), "the score of an image depends on those beside it"
        )


@torch.no_grad()
def _check_labels(model: ImageModel, images: Tensor, labels: Tensor) -> None:
    """Use other labels for the same images and the same noise."""
    both = labels, labels.roll(1, 0)
    if model.likelihood != "none":
        scores = [model.log_prob(images, generator=seeded(), labels=each) for each in both]
        require(not torch.equal(*scores), "log_prob is the same for other labels")
    drawn = [model.sample(len(images), generator=seeded(), labels=each) for each in both]
    require(not torch.equal(*drawn), "samples are the same for other labels")


def _check_noise(model: ImageModel, labels: Tensor | None) -> None:
    size = (NOISE_IMAGES, *model.image_shape)
    noise = torch.randint(model.levels, size, generator=seeded(), dtype=torch.uint8)
    examples: Examples = noise
    if labels is not None:
        examples = Labelled(noise, labels[torch.arange(NOISE_IMAGES) % len(labels)])
    scores = score_images(model, examples)
    require(not scores.isnan().any(), "the score of uniform noise is no number")
    least = math.log2(model.levels)
    slack = 4 * scores.std() / len(scores) ** 0.5
    require(
        not scores.mean() + slack < least,
        f"uniform noise takes {scores.mean():.3f} bits a sub-pixel, less than {least:.3f}: "
        "a term is counted that should not be, a sub-pixel sees its own level, or D log(levels) "
        "is not subtracted after `dequantise`",
    )


@torch.no_grad()
def _check_distribution(model: ImageModel, labels: Tensor | None) -> None:
    """Score all images that there are, and count samples, all with the first label."""
    images = all_images(model.image_shape, model.levels)
    p = model.log_prob(images, labels=_first_of(labels, len(images))).double().exp().cpu()
    total = p.sum().item()
    require(abs(total - 1) < 1e-4, f"the probabilities of all images sum to {total:.4f}, not 1")
    n = SAMPLES * len(images)
    drawn = model.sample(n, generator=seeded(), labels=_first_of(labels, n))
    require(
        p_value(counts(drawn.cpu(), model.levels), p) > CHANCE,
        "samples are not as frequent as log_prob says that they are probable",
    )


def _first_of(labels: Tensor | None, n: int) -> Tensor | None:
    return None if labels is None else labels[:1].repeat_interleave(n, dim=0)


def _logits(model: Any, images: Tensor, labels: Tensor | None) -> Tensor:
    y = model.condition(labels, len(images))
    given = (images,) if y is None else (images, y)
    try:
        inspect.signature(model.logits).bind(*given)
    except TypeError as error:
        what = "images alone" if y is None else "images and y"
        raise AssertionError(f"logits must take {what}: {error}") from error
    logits: Tensor = model.logits(*given)
    return logits


@torch.no_grad()
def _check_causality(model: Any, image: Tensor, labels: Tensor | None) -> None:
    """Change sub-pixels of one image, and see whose `logits`, (N, C, H, W, levels), change.

    Each change is of one sub-pixel and a random half of those after it.
    """

    def in_order(x: Tensor) -> Tensor:  # by row, then column, then colour
        return x.movedim(1, 3).flatten(1, 3)

    size = model.num_dimensions
    changed = torch.linspace(0, size - 1, min(size, CHANGES)).long()
    channels, height, width = model.image_shape
    places = torch.arange(size)
    half = torch.rand(len(changed), size, generator=seeded()) < 0.5
    later = half & (places > changed[:, None]) | (places == changed[:, None])
    others = later + in_order(image[None]).int()
    images = torch.cat([in_order(image[None]), others % model.levels]).to(torch.uint8)
    images = images.unflatten(1, (height, width, channels)).movedim(3, 1).contiguous()
    logits = _logits(model, images, _first_of(labels, len(images)))
    expected = (*images.shape, model.levels)
    require(logits.shape == expected, f"logits are {tuple(logits.shape)}, not {expected}")
    logits = in_order(logits)
    moved = (logits[1:] - logits[0]).abs().amax(-1) > TOLERANCE
    leaks = moved.cpu() & (places <= changed[:, None])
    require(not leaks.any(), "a logit depends on its own sub-pixel, or on a later one")


@torch.no_grad()
def _check_state(model: ImageModel, images: Tensor, labels: Tensor | None) -> None:
    """Another copy that loads the state dict must do the same."""
    other = copy.deepcopy(model)
    for tensor in other.state_dict().values():
        tensor.zero_()
    other.load_state_dict(model.state_dict())
    uses: list[Callable[[ImageModel], Tensor]] = [
        lambda m: m.sample(len(images), generator=seeded(), labels=labels),
        lambda m: m.loss(images, seeded(), labels=labels),
    ]
    same = all(torch.equal(use(model), use(other)) for use in uses)
    require(same, "a model that loads the state dict does something else")
