"""A check that every model of images passes: `check_model`."""

import copy
import inspect
import math
from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor

from nvp.autoregressive.pixelrnn import PixelRNN
from nvp.model.protocol import ImageModel, Likelihood
from nvp.testing.common import check_gradients, check_parts, moved, require, require_refusal, seeded
from nvp.testing.scores import (
    check_causality,
    check_distribution,
    check_independence,
    check_log_prob,
    check_noise,
    first_of,
)

ALIKE = 16  # samples whose variety is compared
SUB_PIXELS = 48  # drawn at least, so that samples are not the same by chance
MOST_IMAGES = 1024  # that are counted


def check_model(model: ImageModel, images: Tensor, labels: Tensor | None = None) -> None:
    """Check that a model keeps the protocol at a few of its images, uint8 (N > 1, C, H, W).

    It works on copies, and leaves the model as it was. Raises `AssertionError` with one line that
    says what is wrong, and `NVPError` for images or labels that the model does not take. An error
    of the model's own goes through. The checks are:

    * shapes, types and levels are right, and what does not fit is refused in one line
    * the same seed gives the same samples and scores, and another seed other samples
    * every parameter has a gradient, and a copy that loads the state dict after `initialise` does
      the same
    * the loss is at least half of the mean of -`log_prob`, since a regulariser only adds to it
    * samples vary less at a temperature near 0
    * the loss does not change its images; in evaluation mode, scores and samples do not change the
      state dict or the mode
    * a bound of K sets of noise is the mean, or the log of the mean, over these sets; an exact
      likelihood is the same for all noise
    * the score of an image does not depend on those beside it or, if exact, on their number
    * `logits(images)`, (N, C, H, W, levels), if there, do not see their own or later sub-pixels; a
      conditional model has `logits(images, y)`, with the y of `_log_probs`
    * an exact likelihood is that of the `logits`
    * if at most 1,024 images are possible, exact probabilities sum to 1, and samples are as
      frequent as they are probable, for each label that is given
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
    n = max(len(images), SUB_PIXELS // model.num_dimensions)
    turns = None if labels is None else labels[torch.arange(n) % len(labels)]
    _check_samples(quiet, n, turns)
    if inspect.ismethod(getattr(model, "logits", None)):
        _in_float64(check_causality, quiet, images[0].cpu(), labels)
    if model.likelihood != "none":
        for of_weights in (quiet, moved(quiet)):
            check_log_prob(of_weights, images, labels)
        _in_float64(check_independence, quiet, images, labels)
        for of_weights in (quiet, moved(quiet)):
            check_noise(of_weights, labels)
    if model.likelihood == "exact" and model.levels**model.num_dimensions <= MOST_IMAGES:
        # Far from all images equally probable, where a sampler of another distribution would pass.
        check_distribution(moved(quiet, 0.5), labels)
    if labels is not None and turns is not None:
        _check_labels(moved(quiet), images, labels, turns)
    now = quiet.state_dict()
    changed = [name for name in before if not torch.equal(before[name], now[name])]
    require(not changed, f"in evaluation mode, scoring or sampling changes {', '.join(changed)}")
    require(not any(m.training for m in quiet.modules()), "a method switches training mode on")
    _check_state(quiet, images, labels)


@torch.no_grad()
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
    caches: a reference to compare with, in evaluation mode.
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
        require_refusal("log_prob without a likelihood", model.log_prob, images, labels=labels)
    else:
        uses.append(model.log_prob)
        require_refusal("log_prob of no draws", model.log_prob, images, num_draws=0, labels=labels)
    for use in uses:
        for what, those in wrong.items():
            require_refusal(f"{use.__name__} of {what}", use, those, labels=labels)
        require_refusal(f"{use.__name__} with {what_other}", use, images, labels=other)
    n = len(images)
    empty = None if labels is None else labels[:0]
    require_refusal(f"sample with {what_other}", model.sample, n, labels=other)
    require_refusal("sample of nothing", model.sample, 0, labels=empty)
    require_refusal("a temperature of nan", model.sample, n, temperature=math.nan, labels=labels)


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
    one = model.sample(1, labels=first_of(labels, 1))  # and without a generator
    require(tuple(one.shape) == (1, *model.image_shape), f"one sample is {tuple(one.shape)}")
    model = moved(model)  # logits that are all 0 would draw the same at any temperature
    alike = first_of(labels, ALIKE)
    hot, cold = (
        model.sample(ALIKE, generator=seeded(), temperature=t, labels=alike).double()
        for t in (1.0, 1e-3)
    )
    require(
        bool(cold.var(0).sum() < hot.var(0).sum() / 2),
        "samples of temperature 0.001 vary more than half as much as those of temperature 1",
    )


@torch.no_grad()
def _check_labels(model: ImageModel, images: Tensor, labels: Tensor, turns: Tensor) -> None:
    """Use other labels for the same noise, and the same images or as many samples as `turns`."""
    both = labels, labels.roll(1, 0)
    if model.likelihood != "none":
        scores = [model.log_prob(images, generator=seeded(), labels=each) for each in both]
        require(not torch.equal(*scores), "log_prob is the same for other labels")
    both = turns, turns.roll(1, 0)
    drawn = [model.sample(len(turns), generator=seeded(), labels=each) for each in both]
    require(not torch.equal(*drawn), "samples are the same for other labels")


@torch.no_grad()
def _check_state(model: ImageModel, images: Tensor, labels: Tensor | None) -> None:
    """Once a model has met images, another copy that loads its state dict must do the same."""
    model, other = copy.deepcopy(model), copy.deepcopy(model)
    model.initialise(images.cpu())
    for tensor in other.state_dict().values():
        tensor.zero_()
    other.load_state_dict(model.state_dict())
    uses: list[Callable[[ImageModel], Tensor]] = [
        lambda m: m.sample(len(images), generator=seeded(), labels=labels),
        lambda m: m.loss(images, seeded(), labels=labels),
    ]
    same = all(torch.equal(use(model), use(other)) for use in uses)
    require(same, "a model that loads the state dict does something else")
