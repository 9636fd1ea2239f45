"""Checks that hold for any bijection and any model of images: what this project asks of its own.

`check_bijection` and `check_model` raise `AssertionError` with a line that says what is wrong. They
work on copies, and leave what they check as it was.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from nvp.autoregressive.pixelrnn import PixelRNN
from nvp.errors import NVPError
from nvp.flows.bijection import Bijection
from nvp.likelihood import score_images
from nvp.model.labels import Examples, Labelled
from nvp.model.protocol import ImageModel, Likelihood, batch_norms, log_mean_exp

TOLERANCE = 1e-9  # in float64
NOISE_IMAGES = 100
CHANGES = 32  # sub-pixels that are changed to see what depends on them

Module = TypeVar("Module", bound=nn.Module)


def check_bijection(
    f: Bijection, x: Tensor, y: Tensor | None = None, *, gradients: bool = True
) -> None:
    """Check `f` at the points `x`, (N, ...), in float64 and evaluation mode.

    The inverse must undo f, the log-determinant, (N,), must be that of the autograd Jacobian, each
    point must be mapped by itself, the same each time, and every parameter must have a gradient
    (unless not asked for: some matter at other points only). Weights and statistics of batch norms
    are moved away from their first values, which hide mistakes. `y` is the condition, (N, K).
    """
    f = _moved(f).double().eval()
    x, y = x.double(), None if y is None else y.double()
    z, log_det = f(x, y)
    back, log_det_back = f.inverse(z, y)
    _require(z.shape == x.shape, f"f makes {tuple(z.shape)} of {tuple(x.shape)}")
    _require(log_det.shape == (len(x),), f"the log-determinants of f are {tuple(log_det.shape)}")
    _require(
        log_det_back.shape == (len(x),), f"those of the inverse are {tuple(log_det_back.shape)}"
    )
    _require(not torch.allclose(z, x), "f changes nothing at x, so nothing is checked")
    _require(torch.equal(f(x, y)[0], z), "f maps the same x to another z")
    _require(_near(back, x), f"the inverse is off by {_off(back, x):.1e}")
    _require(
        _near(log_det_back, -log_det),
        f"the log-determinants of the two directions differ by {_off(log_det_back, -log_det):.1e}",
    )
    for i in range(len(x)):
        own = None if y is None else y[i : i + 1]

        def alone(point: Tensor, own: Tensor | None = own) -> Tensor:
            return f(point[None], own)[0][0]

        _require(_near(alone(x[i]), z[i]), "the image of a point depends on those beside it")
        jacobian = torch.func.jacrev(alone)(x[i]).reshape(x[i].numel(), x[i].numel())
        by_autograd = torch.linalg.slogdet(jacobian).logabsdet
        _require(
            _near(log_det[i], by_autograd),
            f"the log-determinant is off by {_off(log_det[i], by_autograd):.1e}",
        )
    if gradients and list(f.parameters()):
        mixed = (z * torch.randn(z.shape, generator=_seeded(), dtype=z.dtype).to(z.device)).sum()
        (mixed + log_det.sum()).backward()
        _check_gradients(f)


def check_model(model: ImageModel, images: Tensor, labels: Tensor | None = None) -> None:
    """Check that a model keeps the protocol at a few of its images, uint8 (N > 1, C, H, W).

    * shapes, types and levels are right, and what does not fit is refused in one line
    * the same seed gives the same samples and scores, and another seed other samples
    * every parameter has a gradient, and the state dict holds the whole state
    * a bound is that of its sets of noise; an exact likelihood needs none
    * the score of an image does not depend on those beside it
    * `logits(images)`, (N, C, H, W, levels), if there, do not see their own or later sub-pixels
    * uniform noise takes log2(levels) bits a sub-pixel or more

    A conditional model takes `labels`, one for each image. Some checks move the weights away from
    their first values, which hide mistakes.
    """
    before = copy.deepcopy(model.state_dict())
    _check_attributes(model)
    _check_refusals(copy.deepcopy(model), images, labels)
    _check_loss(_moved(model), images, labels)
    quiet = copy.deepcopy(model).eval()
    _check_samples(quiet, len(images), labels)
    if model.autoregressive and hasattr(model, "logits"):
        _check_causality(_moved(quiet).double(), images[0])
    if model.likelihood != "none":
        _check_log_prob(quiet, images, labels)
        _check_independence(_moved(quiet).double(), images, labels)
        for of_noise in (quiet, _moved(quiet)):
            _check_noise(of_noise, labels)
    _check_state(quiet, images, labels)
    after = model.state_dict()
    same = all(torch.equal(before[name], after[name]) for name in before)
    _require(same, "a deep copy shares tensors with its model")


def fill_by_definition(
    model: PixelRNN,
    images: Tensor,
    first_row: int,
    *,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """The same as `nvp.autoregressive.sampling.fill`, by a forward pass for every sub-pixel.

    It takes C H W times the work, and needs no caches: a reference to compare with.
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


def _check_attributes(model: ImageModel) -> None:
    shape = tuple(model.image_shape)
    _require(len(shape) == 3 and min(shape) > 0, f"image_shape is {shape}, not (C, H, W)")
    _require(2 <= model.levels <= 256, f"levels is {model.levels}, not in 2..256")
    kinds = get_args(Likelihood)
    _require(model.likelihood in kinds, f"likelihood is {model.likelihood!r}, not in {kinds}")
    _require(any(True for _ in model.parameters()), "the model has no parameters")
    for where, module in model.named_modules():
        for name, value in vars(module).items():
            _require(
                not isinstance(value, Tensor),
                f"{where or 'the model'} keeps the tensor {name} outside its state: make it a "
                "parameter or a buffer",
            )


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
        _require_refusal("log_prob without a likelihood", partial(model.log_prob, images))
    else:
        uses.append(model.log_prob)
        none = partial(model.log_prob, images, num_draws=0, labels=labels)
        _require_refusal("log_prob of no draws", none)
    for use in uses:
        for what, those in wrong.items():
            _require_refusal(f"{use.__name__} of {what}", partial(use, those, labels=labels))
        _require_refusal(f"{use.__name__} with {what_other}", partial(use, images, labels=other))
    sample = partial(model.sample, len(images), labels=other)
    _require_refusal(f"sample with {what_other}", sample)
    empty = None if labels is None else labels[:0]
    _require_refusal("sample of nothing", partial(model.sample, 0, labels=empty))
    hot = partial(model.sample, len(images), temperature=math.nan, labels=labels)
    _require_refusal("a temperature that is no number", hot)


def _check_loss(model: ImageModel, images: Tensor, labels: Tensor | None) -> None:
    model.train()
    loss = model.loss(images, _seeded(), labels=labels)
    _require(loss.shape == () and bool(loss.isfinite()), f"the loss is {loss}, no finite scalar")
    loss.backward()
    _check_gradients(model)


def _check_gradients(module: nn.Module) -> None:
    for name, p in module.named_parameters():
        if p.requires_grad:
            grad = torch.zeros(()) if p.grad is None else p.grad
            _require(bool(grad.any()), f"{name} has no gradient")
            _require(bool(grad.isfinite().all()), f"the gradient of {name} is not finite")


def _check_samples(model: ImageModel, n: int, labels: Tensor | None) -> None:
    drawn, again, other = (
        model.sample(n, generator=_seeded(seed), labels=labels) for seed in (0, 0, 1)
    )
    _require(drawn.dtype is torch.uint8, f"samples are {drawn.dtype}, not uint8")
    expected = (n, *model.image_shape)
    _require(tuple(drawn.shape) == expected, f"samples are {tuple(drawn.shape)}, not {expected}")
    highest = int(drawn.max())
    _require(highest < model.levels, f"a sample has the level {highest} of {model.levels}")
    _require(torch.equal(drawn, again), "samples of the same seed differ")
    _require(not torch.equal(drawn, other), "samples of another seed are the same")
    model.sample(n, generator=_seeded(), temperature=0.5, labels=labels)


@torch.no_grad()
def _check_log_prob(model: ImageModel, images: Tensor, labels: Tensor | None) -> None:
    def scored(num_draws: int = 1, generator: torch.Generator | None = None) -> Tensor:
        generator = generator or _seeded()
        return model.log_prob(images, num_draws=num_draws, generator=generator, labels=labels)

    log_prob = scored()
    _require(log_prob.shape == (len(images),), f"log_prob is {tuple(log_prob.shape)}, not (N,)")
    _require(log_prob.dtype is model.dtype, f"log_prob is {log_prob.dtype}, not {model.dtype}")
    _require(bool(log_prob.isfinite().all()), "a log_prob is not finite")
    _require(torch.equal(scored(), log_prob), "log_prob of the same seed differs")
    if model.likelihood == "exact":
        _require(torch.equal(scored(generator=_seeded(1)), log_prob), "exact log_prob needs noise")
        _require(bool((log_prob < 1e-3).all()), "an image has a probability above 1")
        return
    one_by_one = _seeded()
    draws = [scored(generator=one_by_one) for _ in range(3)]
    averaged = model.averages_noise
    combined = torch.stack(draws).mean(0) if averaged else log_mean_exp(draws)
    _require(
        torch.allclose(scored(num_draws=3), combined, rtol=1e-4),
        f"log_prob with num_draws is not the {'mean' if averaged else 'log of the mean'} over "
        "these sets of noise",
    )


@torch.no_grad()
def _check_independence(model: ImageModel, images: Tensor, labels: Tensor | None) -> None:
    """In float64: the first and the last image, beside copies of themselves, score as they do
    beside the others. Where each image sees those before it, the first sees none.
    """
    log_prob = model.log_prob(images, generator=_seeded(), labels=labels)
    for which in (0, -1):
        beside = torch.full((len(images),), which)
        copies = None if labels is None else labels[beside]
        alone = model.log_prob(images[beside], generator=_seeded(), labels=copies)
        _require(
            _near(log_prob[which], alone[which]), "the score of an image depends on those beside it"
        )


def _check_noise(model: ImageModel, labels: Tensor | None) -> None:
    size = (NOISE_IMAGES, *model.image_shape)
    noise = torch.randint(model.levels, size, generator=_seeded(), dtype=torch.uint8)
    examples: Examples = noise
    if labels is not None:
        examples = Labelled(noise, labels[torch.arange(NOISE_IMAGES) % len(labels)])
    scores = score_images(model, examples)
    least = torch.tensor(float(model.levels)).log2()
    slack = 4 * scores.std() / len(scores) ** 0.5
    _require(
        not scores.mean() + slack < least,
        f"uniform noise takes {scores.mean():.3f} bits a sub-pixel, less than {least:.3f}: "
        "something is counted that should not be, or seen",
    )


@torch.no_grad()
def _check_causality(model: Any, image: Tensor) -> None:
    """Change sub-pixels of one image, and see whose `logits`, (N, C, H, W, levels), change."""

    def in_order(x: Tensor) -> Tensor:  # by row, then column, then colour
        return x.movedim(1, 3).flatten(1, 3)

    size = model.num_dimensions
    changed = torch.linspace(0, size - 1, min(size, CHANGES)).long()
    channels, height, width = model.image_shape
    others = functional.one_hot(changed, size) + in_order(image[None]).int()
    images = torch.cat([in_order(image[None]), others % model.levels]).to(torch.uint8)
    images = images.unflatten(1, (height, width, channels)).movedim(3, 1)
    logits = model.logits(images)
    expected = (*images.shape, model.levels)
    _require(logits.shape == expected, f"logits are {tuple(logits.shape)}, not {expected}")
    logits = in_order(logits)
    moved = (logits[1:] - logits[0]).abs().amax(-1) > TOLERANCE
    leaks = moved.cpu() & (torch.arange(size) <= changed[:, None])
    _require(not leaks.any(), "a logit depends on its own sub-pixel, or on a later one")


@torch.no_grad()
def _check_state(model: ImageModel, images: Tensor, labels: Tensor | None) -> None:
    """Another copy that loads the state dict must do the same."""
    other = copy.deepcopy(model)
    for tensor in other.state_dict().values():
        tensor.zero_()
    other.load_state_dict(model.state_dict())
    uses: list[Callable[[ImageModel], Tensor]] = [
        lambda m: m.sample(len(images), generator=_seeded(), labels=labels),
        lambda m: m.loss(images, _seeded(), labels=labels),
    ]
    same = all(torch.equal(use(model), use(other)) for use in uses)
    _require(same, "a model that loads the state dict does something else")


def _moved(module: Module) -> Module:
    """A copy with noise added to all parameters and to the statistics of batch norms."""
    module = copy.deepcopy(module)
    generator = _seeded()

    def noise(like: Tensor) -> Tensor:
        return 0.1 * torch.randn(like.shape, generator=generator).to(like)

    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(noise(parameter))
        for norm in batch_norms(module):
            norm.running_mean.add_(noise(norm.running_mean))
            norm.running_var.mul_(noise(norm.running_var).exp())
    return module


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _near(a: Tensor, b: Tensor) -> bool:
    return bool(_off(a, b) < TOLERANCE)


def _off(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().max() / b.abs().max().clamp(min=1)


def _require(holds: bool, complaint: str) -> None:
    if not holds:
        raise AssertionError(complaint)


def _require_refusal(what: str, call: Callable[[], object]) -> None:
    try:
        call()
    except NVPError as error:
        _require("\n" not in str(error), f"{what} is refused in more than one line")
    except Exception as error:
        raise AssertionError(f"{what} gives {type(error).__name__}, not NVPError") from error
    else:
        raise AssertionError(f"{what} is not refused")
