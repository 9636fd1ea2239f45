"""The checks of `check_model` on probabilities: what they depend on, and samples by them."""

import inspect
import math
from typing import Any

import torch
from torch import Tensor

from nvp.likelihood import score_images
from nvp.model.labels import Examples, Labelled
from nvp.model.protocol import ImageModel, log_mean_exp
from nvp.testing.common import TOLERANCE, near, require, seeded
from nvp.testing.counting import all_images, counts, p_value

NOISE_IMAGES = 100
LOSS_IMAGES = 64
SAMPLES = 10  # for each image that there is
CHANCE = 1e-6  # of a right sampler to be called wrong, for each label
CHANGES = 32  # sets of sub-pixels that are changed to see what depends on them


@torch.no_grad()
def check_log_prob(model: ImageModel, images: Tensor, labels: Tensor | None) -> None:
    """Shape and type of `log_prob`, its noise, its loss, and its logits, if there."""

    def scored(num_draws: int = 1, generator: torch.Generator | None = None) -> Tensor:
        generator = generator or seeded()
        return model.log_prob(images, num_draws=num_draws, generator=generator, labels=labels)

    log_prob = scored()
    require(log_prob.shape == (len(images),), f"log_prob is {tuple(log_prob.shape)}, not (N,)")
    require(log_prob.dtype is model.dtype, f"log_prob is {log_prob.dtype}, not {model.dtype}")
    require(bool(log_prob.isfinite().all()), "a log_prob is not finite")
    require(torch.equal(scored(), log_prob), "log_prob of the same seed differs")
    again = torch.arange(LOSS_IMAGES) % len(images)  # a single estimate may be noisy
    many, each = images[again], None if labels is None else labels[again]
    nats = -model.log_prob(many, generator=seeded(), labels=each).mean()
    loss = model.loss(many, seeded(), labels=each)
    require(
        bool(loss > nats - nats.abs() / 2),
        f"the loss is {loss:.4g}, not {nats:.4g}, the nats of log_prob, plus a regulariser",
    )
    model.log_prob(images[:1], labels=first_of(labels, 1))  # one image, and no generator
    if model.likelihood == "exact":
        require(torch.equal(scored(generator=seeded(1)), log_prob), "exact log_prob needs noise")
        require(bool((log_prob < 1e-3).all()), "an image has a probability above 1")
        if inspect.ismethod(getattr(model, "logits", None)):
            levels = images.to(model.device).long()[..., None]
            each = logits_of(model, images, labels).log_softmax(-1).gather(-1, levels)
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
def check_independence(model: ImageModel, images: Tensor, labels: Tensor | None) -> None:
    """The first and the last image have the same score beside copies as beside the others.

    Computed in float64. The last is for models where each image sees those before it.
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
        if model.likelihood == "exact":  # another number of images would have other noise
            one = model.log_prob(images[beside[:1]], labels=None if copies is None else copies[:1])
            require(near(log_prob[which], one[0]), "a score depends on the number of images")


def check_noise(model: ImageModel, labels: Tensor | None) -> None:
    """Uniform noise takes log2(levels) bits a sub-pixel or more."""
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
def check_distribution(model: ImageModel, labels: Tensor | None) -> None:
    """Score all images that there are, and count samples, for each label; the labels take turns."""
    images = all_images(model.image_shape, model.levels)
    each = None if labels is None else labels.unique(dim=0)
    kinds: list[Tensor | None] = [None] if each is None else [*each.split(1)]
    n = SAMPLES * len(images) * len(kinds)
    turns = None if each is None else each[torch.arange(n) % len(each)]
    drawn = model.sample(n, generator=seeded(), labels=turns).cpu()
    for i, kind in enumerate(kinds):
        p = model.log_prob(images, labels=first_of(kind, len(images))).double().exp().cpu()
        total = p.sum().item()
        require(abs(total - 1) < 1e-4, f"the probabilities of all images sum to {total:.4f}, not 1")
        require(
            p_value(counts(drawn[i :: len(kinds)], model.levels), p) > CHANCE,
            "samples are not as frequent as log_prob says that they are probable",
        )


def first_of(labels: Tensor | None, n: int) -> Tensor | None:
    """The first label n times, (n, ...), or None."""
    return None if labels is None else labels[:1].repeat_interleave(n, dim=0)


def logits_of(model: Any, images: Tensor, labels: Tensor | None) -> Tensor:
    """`model.logits`, given y if the model is conditional."""
    y = model.condition(labels, len(images))
    logits: Tensor = model.logits(images) if y is None else model.logits(images, y)
    return logits


@torch.no_grad()
def check_causality(model: Any, image: Tensor, labels: Tensor | None) -> None:
    """Change sub-pixels of one image, and see whose `logits`, (N, C, H, W, levels), change.

    Each change is of one sub-pixel and a random half of those after it.
    """
    size = model.num_dimensions
    channels, height, width = model.image_shape
    # The place of each sub-pixel, (C, H, W): by row, then column, then colour.
    place = torch.arange(size).view(height, width, channels).movedim(2, 0)
    changed = torch.linspace(0, size - 1, min(size, CHANGES)).long()[:, None, None, None]
    half = torch.rand(len(changed), *image.shape, generator=seeded()) < 0.5
    steps = half & (place > changed) | (place == changed)
    images = torch.cat([image[None], (image.int() + steps) % model.levels]).to(torch.uint8)
    logits = logits_of(model, images, first_of(labels, len(images)))
    expected = (*images.shape, model.levels)
    require(logits.shape == expected, f"logits are {tuple(logits.shape)}, not {expected}")
    moved = (logits[1:] - logits[0]).abs().amax(-1) > TOLERANCE
    leaks = moved.cpu() & (place <= changed)
    require(not leaks.any(), "a logit depends on its own sub-pixel, or on a later one")
