"""The flows of points in the plane: exact, normalised, and better than a Gaussian after a fit."""

import math
from itertools import product

import pytest
import torch
from nvp_book.moons import log_moons
from torch.distributions import MultivariateNormal
from torch.optim.optimizer import register_optimizer_step_pre_hook

from nvp.flows.toy import ToyData, ToyFlow, fit
from nvp.testing import check_bijection


@pytest.fixture(scope="module")
def fitted() -> ToyFlow:
    torch.manual_seed(0)
    flow = ToyFlow()
    fit(flow, ToyData.MOONS.sample(5000, seed=1), steps=200)
    return flow


@pytest.mark.parametrize("num_couplings", [1, 2, 5])
def test_log_det_and_inverse_are_exact(num_couplings: int) -> None:
    check_bijection(ToyFlow(num_couplings, width=8), 2 * torch.randn(20, 2))


def test_a_fit_beats_a_gaussian_on_fresh_points(fitted: ToyFlow) -> None:
    points, fresh = ToyData.MOONS.sample(5000, seed=1), ToyData.MOONS.sample(5000, seed=2)
    gaussian = MultivariateNormal(points.mean(0), points.T.cov()).log_prob(fresh).mean().item()
    with torch.no_grad():
        flow = fitted.log_prob(fresh).mean().item()
    assert flow > gaussian + 0.7  # nats per point


def test_the_density_integrates_to_one_and_samples_follow_it(fitted: ToyFlow) -> None:
    axis = torch.linspace(-6, 6, 201)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = fitted.log_prob(grid).exp() * (axis[1] - axis[0]) ** 2
    assert density.sum().item() == pytest.approx(1, abs=0.01)
    x = fitted.sample(4000, generator=torch.Generator().manual_seed(3))
    assert x.shape == (4000, 2)
    for right, upper in product([False, True], repeat=2):
        inside = [((p[:, 0] > 0) == right) & ((p[:, 1] > 0) == upper) for p in (grid, x)]
        expected = density[inside[0]].sum().item()
        assert inside[1].float().mean().item() == pytest.approx(expected, abs=0.03)
    cool = fitted.sample(400, generator=torch.Generator().manual_seed(3), temperature=0.1)
    assert fitted(cool)[0].norm(dim=1).max() < 0.5


def test_the_true_density_of_the_moons_is_that_of_their_points() -> None:
    axis = torch.linspace(-4, 4, 101)
    log_density = log_moons(torch.cartesian_prod(axis, axis))
    mass = log_density.exp() * (axis[1] - axis[0]) ** 2
    assert mass.sum().item() == pytest.approx(1, abs=1e-3)
    mean = log_moons(ToyData.MOONS.sample(10_000)).mean().item()
    assert mean == pytest.approx((mass * log_density).sum().item(), abs=0.03)


def test_a_fit_repeats_and_its_seed_counts() -> None:
    points = ToyData.RINGS.sample(500)
    one, again, other = [], [], []
    for losses, seed in ((one, 0), (again, 0), (other, 1)):
        torch.manual_seed(0)
        losses += fit(ToyFlow(2, width=4), points, steps=5, seed=seed)
    assert one == again != other
    assert one[-1] < one[0]


def test_the_rate_of_a_fit_falls_along_a_half_cosine() -> None:
    rates: list[float] = []
    hook = register_optimizer_step_pre_hook(lambda it, *_: rates.append(it.param_groups[0]["lr"]))
    fit(ToyFlow(2, width=4), ToyData.RINGS.sample(50), steps=4, learning_rate=1.0)
    hook.remove()
    assert rates == pytest.approx([(1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)])


@pytest.mark.parametrize("data", ToyData)
def test_points_follow_their_seed_and_are_no_gaussian(data: ToyData) -> None:
    points = data.sample(4000, seed=5)
    assert points.shape == (4000, 2)
    assert torch.equal(points, data.sample(4000, seed=5))
    assert not torch.equal(points, data.sample(4000, seed=6))
    assert points.mean(0).abs().max() < 0.1
    assert 0.5 < points.std() < 1.5
    # None of them is a Gaussian: the middle, or what lies between the parts, is nearly empty.
    between = {
        ToyData.MOONS: points.norm(dim=1) < 0.3,
        ToyData.RINGS: (points.norm(dim=1) - 1.5).abs() < 0.15,
        ToyData.PINWHEEL: points.norm(dim=1) < 0.15,
    }
    assert between[data].float().mean() < 0.03
