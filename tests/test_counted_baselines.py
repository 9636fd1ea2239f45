"""The baselines that are tables of counts: distributions, and scored as they are recorded."""

import itertools

import pytest
import torch
from nvp_book.baselines import STEPS, bits_per_dim, recorded, score

from nvp.data import EMBEDDED, load


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_the_probabilities_of_all_images_sum_to_one(steps: int) -> None:
    train = torch.randint(256, (20, 1, 1, 2), dtype=torch.uint8)
    levels = range(256)
    every = torch.tensor(list(itertools.product(levels, levels)), dtype=torch.uint8)
    bits = bits_per_dim(train, every[:, None, None, :], steps)
    assert torch.isclose((-2 * bits).exp2().sum(), torch.ones((), dtype=torch.float64))


def test_noise_costs_more_than_eight_bits() -> None:
    noise = torch.randint(256, (200, 3, 8, 8), dtype=torch.uint8)
    train = torch.full_like(noise, 7)
    for one in score(train, noise).values():
        assert one.bits_per_dim > 8


def test_the_recorded_scores_come_back() -> None:
    here = score(load(EMBEDDED, "train").images, load(EMBEDDED, "test").images)
    for name, kept in recorded()[EMBEDDED].items():
        assert here[name].bits_per_dim == pytest.approx(kept.bits_per_dim, abs=1e-5)
        assert here[name].standard_error == pytest.approx(kept.standard_error, abs=1e-5)
        assert here[name].num_images == kept.num_images
