"""The multi-scale Pixel RNN: p(small) p(image | small), and draws that follow it."""

from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from pixels import config, generator, moved_by_change, moved_by_gradient, names, noise, randomised
from tiny import refusal
from torch import Tensor

from nvp import MultiScaleConfig, MultiScalePixelRNN
from nvp.autoregressive.config import Kind
from nvp.config import RunConfig
from nvp.data import EMBEDDED
from nvp.runs.provenance import Leg, current_leg, note_leg
from nvp.testing.counting import all_images


def build(kind: Kind, shape: tuple[int, ...], factor: int = 2, **more: Any) -> MultiScalePixelRNN:
    """Both models of this kind, one layer below and two above, with random weights in float64."""
    channels, height, width = shape
    small = config(kind, (channels, height // factor, width // factor), **more)
    large = config(kind, shape, num_layers=2, **more)
    return randomised(MultiScalePixelRNN(MultiScaleConfig(small=small, large=large, width=5)))


def biases(model: MultiScalePixelRNN, small: Tensor) -> list[Tensor]:
    """What the small image adds to each layer of the large model."""
    return model.upsampler(model.small.centred(small))


def test_half_precision_does_not_move_the_levels() -> None:
    """Under autocast the first convolutions read the levels, not the nearest bfloat16."""
    model = build("pixelcnn", (1, 8, 8), levels=256).float()
    firsts, seen = (model.small.first, model.large.first, model.upsampler.body[0]), []
    for conv in firsts:
        conv.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    for half in (True, False):
        with torch.autocast("cpu", torch.bfloat16, half):
            model.loss(noise(4, 1, 8, 8))
    assert all(map(torch.equal, seen[:3], seen[3:]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(("shape", "levels"), [((1, 2, 2), 3), ((1, 2, 4), 2), ((3, 2, 2), 2)])
@torch.no_grad()
def test_probabilities_of_all_pairs_sum_to_one(kind, shape, levels) -> None:
    model = build(kind, shape, levels=levels)
    smalls, images = (all_images(each.image_shape, levels) for each in (model.small, model))
    each = [biases(model, small.expand(len(images), -1, -1, -1)) for small in smalls]
    logs = [next(model.large._log_probs(images, 1, None, biases=maps)) for maps in each]
    given = torch.stack(logs).exp()  # p(image | small), a row for each small image
    assert ((given.sum(1) - 1).abs() < 1e-10).all()
    joint = model.small.log_prob(smalls).exp()[:, None] * given
    assert abs(joint.sum().item() - 1) < 1e-10
    # The small image does bear on the large one, and its pair is one of several.
    assert (given[0] - given[-1]).abs().max() > 1e-6
    logs = model.log_prob(images)
    assert (logs < joint.sum(0).log()).all()
    same = model.subsample(images).flatten(1)[:, None] == smalls.flatten(1)
    (which,) = torch.where(same.all(2))[1:]
    assert (logs - joint[which, range(len(images))].log()).abs().max() < 1e-12


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_cached_draws_equal_those_by_definition(kind: Kind, channels: int) -> None:
    model = build(kind, (channels, 4, 4), levels=3)
    small = noise(2, channels, 2, 2, levels=3)
    drawn = model.enlarge(small, generator=generator(1), temperature=0.8)
    images, draw = torch.zeros_like(drawn), generator(1)
    for row, column, colour in product(range(4), range(4), range(channels)):
        parameters = model.large.parameters_of(images, biases(model, small))
        chosen = model.large.output.draw(parameters[:, colour, row, column], draw, 0.8)
        images[:, colour, row, column] = chosen
    assert torch.equal(drawn, images)
    both = model.sample(2, generator=generator(2))
    draw = generator(2)
    assert torch.equal(both, model.enlarge(model.small.sample(2, generator=draw), generator=draw))


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(("channels", "hidden"), [(1, 6), (3, 6), (3, 7)])
def test_causality_given_the_small_image(kind, channels, hidden, monkeypatch) -> None:
    model = build(kind, (channels, 4, 4), hidden=hidden)
    small = noise(1, channels, 2, 2, levels=2)
    large = model.large
    given = partial(large.parameters_of, biases=[b.detach() for b in biases(model, small)])
    monkeypatch.setattr(large, "parameters_of", given)
    for moved in (moved_by_change(large, trials=3), moved_by_gradient(large, trials=3)):
        assert names(large, moved.triu()) == []  # nothing of a sub-pixel itself or a later one
        assert moved.any()


@pytest.mark.parametrize(
    ("kind", "shape", "factor"),
    [*((kind, (1, 8, 8), 2) for kind in Kind), ("pixelcnn", (3, 32, 64), 4)],
)
def test_every_pixel_sees_the_whole_small_image(kind, shape, factor) -> None:
    """By the gradient of a logit at each corner, with random weights for ReLU's zeros."""
    model = build(kind, shape, factor)
    images = noise(8, *shape, levels=2)
    small = model.small.centred(model.subsample(images)).double().requires_grad_()
    logits = model.large.parameters_of(images, model.upsampler(small))[..., 0]
    for row, column in product((0, -1), repeat=2):
        (gradient,) = torch.autograd.grad(logits[:, 0, row, column].sum(), small, retain_graph=True)
        assert (gradient != 0).any(0).all(), (row, column)


def test_subsampling_and_sizes() -> None:
    model = build("row_lstm", (3, 8, 16), 4, levels=256)
    images = torch.arange(3 * 8 * 16).remainder(256).to(torch.uint8).view(1, 3, 8, 16)
    small = model.subsample(images)
    assert small.shape == (1, 3, 2, 4)
    assert small[0, 1, -1, -1] == images[0, 1, 4, 12]


def test_small_images_that_the_small_model_could_not_have_drawn() -> None:
    model = build("pixelcnn", (1, 4, 4))
    small = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    for images in (small.repeat(1, 1, 2, 2), small + 2, small.float()):
        with refusal("images must"):
            model.enlarge(images)


# The third has three times the sides, which is no power of two.
@pytest.mark.parametrize("large", [(1, 2, 2), (3, 4, 4), (1, 6, 6), (1, 4, 8), (1, 5, 5)])
def test_sizes_that_disagree(large: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"must be large\.image_shape"):
        MultiScaleConfig(small=config("pixelcnn", (1, 2, 2)), large=config("pixelcnn", large))


def test_settings_of_one_scale_are_told_apart() -> None:
    small = config("pixelcnn", (1, 2, 2))
    larges = (config("pixelcnn", (1, 4, 4), dropout=each) for each in (0.0, 0.5))
    models = (MultiScaleConfig(small=small, large=large) for large in larges)
    tree = {"name": "two", "data": {"name": EMBEDDED}, "training": {"steps": 1}}
    one, other = (RunConfig.model_validate({**tree, "model": model}) for model in models)
    legs: list[Leg] = []
    note_leg(legs, current_leg(torch.device("cpu")), 5, one, other)
    assert legs[0].changed == {"model.large.dropout": 0.5}
