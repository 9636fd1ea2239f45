"""The diffusion model: its bound holds every constant, and its samples follow its network."""

import math
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from pixels import generator, noise
from torch import Tensor

from nvp.baselines.diffusion import Diffusion, DiffusionConfig, from_levels


def best_noise(z: Tensor, gamma: Tensor, levels: int) -> Tensor:
    """E[e | z_t] where pixels are independent and every level is equally likely."""
    x = (2 * torch.arange(levels).double() + 1) / levels - 1
    gamma = gamma[:, None, None, None, None]
    e = (z[..., None] - torch.sigmoid(-gamma).sqrt() * x) / torch.sigmoid(gamma).sqrt()
    return ((-0.5 * e.square()).softmax(-1) * e).sum(-1)


def best_model(levels: int, **settings: Any) -> Diffusion:
    config = DiffusionConfig(image_shape=(1, 4, 4), levels=levels, width=8, **settings)
    model = Diffusion(config).double()
    model.network.forward = partial(best_noise, levels=levels)
    return model


@pytest.mark.parametrize(
    ("levels", "gamma_0", "gamma_1"),
    [(2, -13.3, 12.0), (2, 0.0, 12.0), (2, -13.3, 1.5), (5, -4.0, 12.0), (256, -13.3, 12.0)],
)
def test_the_bound_counts_every_constant(levels: int, gamma_0: float, gamma_1: float) -> None:
    """With the best network uniform noise costs log(levels) a sub-pixel, wherever gamma ends."""
    model = best_model(levels, gamma_0=gamma_0, gamma_1=gamma_1, times=64)
    images = noise(60 if levels > 5 else 400, 1, 4, 4, levels=levels)
    log_prob = model.log_prob(images, generator=generator()) / 16
    assert log_prob.mean().item() == pytest.approx(-math.log(levels), rel=0.02)


def test_training_and_scores_estimate_the_same_bound() -> None:
    model, images = best_model(4), noise(200, 1, 4, 4, levels=4)
    draw, model.losses = generator(), Mock(wraps=model.losses)
    loss = torch.stack([model.loss(images, draw) for _ in range(4)]).mean()
    t = model.losses.call_args.args[1].sort().values  # spread evenly
    assert (t.diff() - 1 / 200).abs().max() < 1e-6
    score = -model.log_prob(images, generator=draw).mean()
    assert loss.item() == pytest.approx(score.item(), rel=0.04)


def test_samples_of_the_best_network_have_all_levels_equally_often() -> None:
    drawn = best_model(5, steps=100).sample(800, generator=generator())
    frequencies = torch.bincount(drawn.flatten().int(), minlength=5) / drawn.numel()
    assert torch.allclose(frequencies, torch.full((5,), 0.2), atol=0.02)


def test_the_noise_of_samples_is_that_of_the_last_gamma() -> None:
    """Of a network that takes all of z_t for noise, but for its size: every x is 0."""
    config = DiffusionConfig(image_shape=(1, 4, 4), width=8, steps=3, gamma_0=-3.0, gamma_1=12.0)
    model, calls = Diffusion(config), []
    model.network.forward = lambda z, gamma: z / torch.sigmoid(gamma).sqrt()[:, None, None, None]
    model.network.register_forward_hook(lambda *_: calls.append(1))
    for temperature in (1.0, 0.5):  # which scales all of it
        drawn = model.sample(1000, generator=generator(), temperature=temperature).double()
        expected = temperature * 128 * math.exp(-1.5)
        assert drawn.std().item() == pytest.approx(expected, rel=0.03)
    assert len(calls) == 2 * config.steps


@pytest.mark.parametrize("gamma", [-13.3, 5.0])
def test_a_fresh_network_already_predicts_at_both_ends(gamma: float) -> None:
    model = Diffusion(DiffusionConfig(image_shape=(1, 8, 8), width=8))
    x = from_levels(noise(50, 1, 8, 8).float(), 256)
    e = torch.randn(x.shape, generator=generator())
    z = torch.tensor(-gamma).sigmoid().sqrt() * x + torch.tensor(gamma).sigmoid().sqrt() * e
    error = e - model.network(z, torch.full((50,), gamma))
    assert error.square().mean().item() < 0.2


def test_noise_that_does_not_grow_is_refused() -> None:
    with pytest.raises(ValueError, match="must be below gamma_1"):
        DiffusionConfig(image_shape=(1, 8, 8), gamma_0=5.0)
