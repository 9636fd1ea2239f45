"""`check_model` can fail: each mistake in a small model is named."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pixels import generator
from tiny import images_of
from torch import Tensor, nn

from nvp.errors import NVPError
from nvp.model import ImageModel
from nvp.model.protocol import check_temperature
from nvp.testing import check_model
from nvp.testing.counting import p_value


class Histogram(ImageModel):
    """One distribution over the levels for every sub-pixel."""

    image_shape = (1, 2, 3)
    levels = 3
    likelihood = "exact"
    noise = 0.0  # what a score is off by at random

    def __init__(self) -> None:
        super().__init__()
        self.logits_of_levels = nn.Parameter(torch.tensor([0.5, -0.2, 0.3]))

    def _log_probs(self, images, num_draws, generator, y):
        log_p = self.logits_of_levels.log_softmax(0)[images.long()].flatten(1).sum(1)
        for _ in range(num_draws):
            yield log_p - self.noise * torch.rand(len(images), generator=generator).to(log_p)

    def sample(self, n, *, generator=None, temperature=1.0, labels=None):
        self.condition(labels, n)
        check_temperature(temperature)
        p = torch.softmax(self.logits_of_levels / temperature, dim=0)
        number = n * self.num_dimensions
        drawn = torch.multinomial(p, number, replacement=True, generator=generator)
        return drawn.to(torch.uint8).reshape(n, *self.image_shape)


class Bound(Histogram):
    likelihood = "bound"
    noise = 0.5


def test_the_examples_of_the_mistakes_are_right_without_them_and_stay_as_they_are() -> None:
    for model in (Histogram(), Bound()):
        check_model(model, images_of(model))
        assert (model.training, model.logits_of_levels.grad) == (True, None)
        assert torch.equal(model.logits_of_levels, Histogram().logits_of_levels)


def but(kind: type[Histogram] = Histogram, /, **members: Any) -> type[Histogram]:
    """A model with these attributes and methods in place of its own."""
    return type("Mistaken", (kind,), members)


def scored(change: Callable[[Tensor, Tensor], Tensor]) -> type[Histogram]:
    """A model whose scores are changed so, given the images."""
    score = Histogram._log_probs
    return but(_log_probs=lambda self, x, *rest: [change(p, x) for p in score(self, x, *rest)])


def drawn(change: Callable[[Tensor], Tensor]) -> type[Histogram]:
    return but(sample=lambda self, n, **options: change(Histogram.sample(self, n, **options)))


def acting(act: Callable[[Any, dict[str, Any]], object]) -> type[Histogram]:
    """A model that does something to itself, or to the options, before it samples."""
    sample = Histogram.sample
    return but(sample=lambda self, n, **given: (act(self, given), sample(self, n, **given))[1])


def lukewarm(_: Histogram, options: dict[str, Any]) -> None:
    """Samples at temperature 1 whatever it is asked for, if that is a temperature."""
    check_temperature(options.pop("temperature", 1.0))


def hot(_: Histogram, options: dict[str, Any]) -> None:
    """Uniform samples whatever the weights are, but at other temperatures."""
    options["temperature"] = {1.0: 1e3}.get(given := options.get("temperature", 1.0), given)


def demanding(model: Histogram, n: int, **options: Any) -> Tensor:
    """Samples, and asks for a generator."""
    images = Histogram.sample(model, n, **options)
    options.get("generator").initial_seed()
    return images


def asked(change: Callable[..., tuple]) -> type[Histogram]:
    """A bound that scores something else than it is asked for."""
    score = Histogram._log_probs
    return but(Bound, _log_probs=lambda self, *given: score(self, *change(*given)))


def also(model: Any, **members: Any) -> Any:
    """A model with these attributes, parameters among them, besides."""
    for name, value in members.items():
        setattr(model, name, value)
    return model


def uniform(kind: type[Histogram]) -> Histogram:
    """All levels are as probable at first, which hides the mistake."""
    return also(kind(), logits_of_levels=nn.Parameter(torch.zeros(3)))


def losing(share: float) -> type[Histogram]:
    return but(loss=lambda self, *x, **y: share * ImageModel.loss(self, *x, **y))


def sequential(p: Tensor, images: Tensor) -> Tensor:
    """Reads the batch as a sequence: each image pays for those before it."""
    brightness = images.double().mean((1, 2, 3))
    return p - (brightness.cumsum(0) - brightness).float()


def indefinite(p: Tensor, images: Tensor) -> Tensor:
    """Has no number for images that are uniform noise."""
    wild = images.float().flatten(1).var(dim=1) > 0.9
    return p.masked_fill(wild, math.nan) if len(images) > 64 else p


class InFloat32(Histogram):
    """Counts levels by a product with numbers of float32."""

    def _log_probs(self, images, num_draws, generator, y):
        shown = nn.functional.one_hot(images.long(), self.levels).float()
        yield (shown @ self.logits_of_levels.log_softmax(0)).flatten(1).sum(1)


class Mirrored(Histogram):
    """Scores another image than its logits predict."""

    def logits(self, images):
        each = self.logits_of_levels.expand(*images.shape, -1)
        return torch.cat([each[..., :2, :], each[..., 2:, :].flip(-1)], dim=-2)


@pytest.mark.parametrize(
    ("mistake", "complaint"),
    [
        (asked(lambda x, n, g, y: (x, 1, g, y)), "not the log of the mean over these sets"),
        (asked(lambda x, n, g, y: (x, n, None, y)), "log_prob of the same seed differs"),
        (scored(lambda p, x: p + 1), "uniform noise takes"),  # as by a wrong log-determinant
        (lambda: uniform(scored(lambda p, x: p.mean() + 0 * p)), "depends on those beside it"),
        (scored(sequential), "the score of an image depends on those beside it"),
        (scored(lambda p, x: p.half()), "log_prob is torch.float16, not torch.float32"),
        (scored(lambda p, x: p - math.inf), "the loss is inf"),
        (but(check_images=lambda self, x: torch.as_tensor(x)), "loss of floats does not raise"),
        (but(condition=lambda self, y, n: None), "labels that it has no use for does not raise"),
        (lambda: also(Histogram(), idle=nn.Parameter(torch.zeros(3))), "idle has no gradient"),
        (scored(lambda p, x: p + (0 * p.sum()).sqrt()), "gradient of logits_of_levels is not fin"),
        (lambda: also(Histogram(), table=torch.zeros(3)), "keeps table outside its state"),
        (lambda: also(Histogram(), parts={"a": (nn.Linear(1, 1),)}), "keeps parts outside"),
        (but(load_state_dict=lambda self, state: None), "loads the state dict does something else"),
        (but(initialise=lambda self, x: also(self, noise=0.5)), "state dict does something else"),
        (drawn(lambda x: x[:1].expand_as(x).clone()), "one call of sample are all the same"),
        (scored(indefinite), "the score of uniform noise is no number"),
        (lambda: uniform(Mirrored), "log_prob is not of the logits"),
        (acting(lambda model, o: o.update(generator=None)), "samples of the same seed differ"),
        (acting(lambda model, o: o.update(temperature=1.0)), "a temperature of nan"),
        (acting(lukewarm), "vary more than half as much"),
        (acting(lambda _, o: o.update(temperature=1 / o.get("temperature", 1))), "0.001 vary more"),
        (acting(lambda model, o: model.train()), "a method switches training mode on"),
        (acting(lambda m, _: m.logits_of_levels.data.add_(1)), "sampling changes logits_of_levels"),
        (InFloat32, r"in double precision the model fails \(.*make it in self.dtype"),
        (but(num_classes=3), "log_prob is the same for other labels"),
        (but(noise=0.5), "exact log_prob needs noise"),
        (scored(lambda p, x: p + 100), "a probability above 1"),
        (scored(lambda p, x: p - 1 / len(x)), "a score depends on the number of images"),
        (drawn(lambda x: x.squeeze(0)), r"one sample is \(1, 2, 3\)"),
        (drawn(lambda x: x.mT), r"samples are \(8, 1, 3, 2\)"),
        (acting(lambda _, o: o.update(generator=generator())), "of another seed are the same"),
        (drawn(Tensor.float), "samples are torch.float32, not uint8"),
        (drawn(lambda x: x + 1), "a sample has the level 3 of 3"),
        (but(sample=lambda self, n: None), "with labels that it has no use for gives TypeError"),
        (but(loss=lambda self, x, *_, **y: -self.log_prob(x, **y)), "no finite scalar"),
        (losing(-1), "the loss is -.*, the nats of log_prob, plus a regulariser"),
        (losing(1 / (6 * math.log(2))), "the nats of log_prob, plus a regulariser"),  # bits/dim
        (scored(lambda p, x: p - 1e-3), "the probabilities of all images sum to 0.9990, not 1"),
        (drawn(lambda x: 2 - x), "samples are not as frequent as log_prob says"),
        (asked(lambda x, *rest: (x.clamp_(min=1), *rest)), "the model changes the images that it"),
        (scored(lambda p, x: p.float()), "in double precision is torch.float32"),
        (but(image_shape=property()), r"image_shape is \(\), not \(C, H, W\)"),  # it has none
        (but(levels=1), "levels is 1, not in 2..256"),
        (but(likelihood="exakt"), "likelihood is 'exakt', not in"),
        (but(parameters=lambda self: iter(())), "the model has no parameters"),
        (but(logits=lambda self, images: images), r"logits are \(7, 1, 2, 3\), not"),
        (but(sample=lambda self, n, **o: Histogram.sample(self, n or 1, **o)[:n]), "of nothing"),
        # One image, and no generator, are tried: an error of the model's own goes through.
        (lambda: also(scored(lambda p, x: p.squeeze())(), likelihood="bound"), "must yield tensor"),
        (asked(lambda x, n, g, y: (x, n, (g.initial_seed(), g)[1], y)), "initial_seed"),
        (but(sample=demanding), "initial_seed"),
    ],
)
def test_a_mistake_in_a_model_is_named(mistake: Callable[[], Any], complaint: str) -> None:
    model, images = mistake(), images_of(Histogram())
    labels = torch.arange(8) % 3 if model.num_classes else None
    with pytest.raises((AssertionError, NVPError, AttributeError), match=complaint):
        check_model(model, images, labels)


def test_samples_that_ignore_the_weights_are_named() -> None:
    """Near weights of 0 they would be frequent enough."""
    model = uniform(but(acting(hot), image_shape=(1, 2, 2)))
    with pytest.raises(AssertionError, match="samples are not as frequent"):
        check_model(model, images_of(model))


class Conditional(Histogram):
    """One distribution over the levels for each class."""

    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.of_class = nn.Parameter(torch.randn(3, 3, generator=generator()))

    def logits(self, images, y):
        each = (self.logits_of_levels + y @ self.of_class)[:, None, None, None]
        return each.expand(*images.shape, -1)

    def _log_probs(self, images, num_draws, generator, y):
        log_p = self.logits(images, y).log_softmax(-1).gather(-1, images.long()[..., None])
        return [log_p.flatten(1).sum(1)] * num_draws

    def sample(self, n, *, generator=None, temperature=1.0, labels=None):
        y = self.condition(labels, n)
        check_temperature(temperature)
        p = ((self.logits_of_levels + y @ self.of_class) / temperature).softmax(-1)
        drawn = torch.multinomial(p, self.num_dimensions, replacement=True, generator=generator)
        return drawn.to(torch.uint8).reshape(n, *self.image_shape)


class Seeing(Conditional):
    """The sub-pixel 20 sees a later one."""

    image_shape = (1, 8, 8)
    which = 41

    def logits(self, images, y):
        logits, seen = super().logits(images, y).clone(), images.flatten(1)[:, self.which, None]
        logits[:, 0, 2, 4] = logits[:, 0, 2, 4] + seen * self.logits_of_levels
        return logits


class Heavier(Conditional):
    """The probabilities of class 1 are too high, by less than rounding may change a score."""

    def _log_probs(self, images, num_draws, generator, y):
        return [p + 2e-4 * y[:, 1] for p in super()._log_probs(images, num_draws, generator, y)]


def told(change: Callable[[Tensor], Tensor]) -> type[Conditional]:
    """A model that samples for other labels than it is given."""

    def sample(self, n, *, labels=None, **options):
        labels = labels if labels is None else change(labels)
        return Conditional.sample(self, n, labels=labels, **options)

    return but(Conditional, sample=sample)


@pytest.mark.parametrize(
    ("mistake", "complaint"),
    [
        (Seeing, "a logit depends on its own sub-pixel, or on a later"),
        (but(Seeing, which=20), "a logit depends on its own sub-pixel, or on a later"),
        (Heavier, "the probabilities of all images sum to 1.0002, not 1"),
        (told(lambda labels: (3 - labels) % 3), "samples are not as frequent as log_prob says"),
        (told(lambda labels: labels.flip(0)), "samples are not as frequent as log_prob says"),
        (but(told(torch.zeros_like), image_shape=(1, 8, 8)), "samples are the same for other lab"),
        (but(Conditional, likelihood="none"), "log_prob without a likelihood does not raise"),
    ],
)
def test_a_mistake_in_a_conditional_model_is_named(mistake, complaint) -> None:
    model, labels = mistake(), torch.arange(8) % 3
    check_model(Conditional(), images_of(Histogram()), labels)
    with pytest.raises(AssertionError, match=complaint):
        check_model(model, images_of(model), labels)


def test_what_a_layer_keeps_twice_is_no_mistake() -> None:
    """PyTorch keeps the weights of a recurrent layer in a list, too; `logits` may be a layer."""
    lstm, linear = (layer.requires_grad_(False) for layer in (nn.LSTM(1, 3), nn.Linear(3, 3)))
    check_model(also(Histogram(), lstm=lstm, logits=linear), images_of(Histogram()))


def test_two_images_of_one_bit_are_enough() -> None:
    logits = nn.Parameter(torch.tensor([0.1, 0.0]))
    coin = also(but(image_shape=(1, 1, 1), levels=2)(), logits_of_levels=logits)
    check_model(coin, torch.tensor([0, 1], dtype=torch.uint8)[:, None, None, None])


def test_a_single_image_is_too_few() -> None:
    with pytest.raises(AssertionError, match="give two images or more"):
        check_model(Histogram(), images_of(Histogram())[:1])


def test_what_has_no_probability_must_not_be_drawn() -> None:
    p = torch.tensor([0.5, 0.5, 0.0])
    assert p_value(torch.tensor([490.0, 510.0, 0.0]), p) > 0.1
    # The statistic is 0.4 with one degree of freedom: P(|z| > sqrt(0.4)).
    assert p_value(torch.tensor([490.0, 510.0]), p[:2]) == pytest.approx(math.erfc(0.2**0.5))
    assert p_value(torch.tensor([490.0, 509.0, 1.0]), p) == 0
    assert p_value(torch.tensor([10.0, 0.0]), torch.tensor([1.0, 0.0])) == 1
    # Of 4 and 4 that are expected, 0 and 8 are as many.
    assert p_value(torch.tensor([992.0, 0, 8]), torch.tensor([0.992, 0.004, 0.004])) > 0.9
