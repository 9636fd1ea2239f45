"""Real NVP of points in the plane: small enough to plot its density and its warped grid (figure 1).

The couplings are those of the image model, with the two coordinates as two channels of a 1 x 1
image. The paper does not name the data set of its figure 1; the three here are common ones.
"""

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import cast

import torch
from torch import Tensor, nn

from nvp.flows.bijection import Bijection, Composition
from nvp.flows.coupling import ChannelCoupling
from nvp.flows.masks import Half
from nvp.flows.prior import GaussianPrior


class ToyFlow(Bijection):
    """f: R^2 -> R^2, affine couplings that keep one coordinate and then the other; points (N, 2).

    The density of x is p_Z(f(x)) |det df/dx| with p_Z = N(0, I) (eq 2). f takes no condition: `y`
    is None. Points are floats of the weights' type.
    """

    def __init__(self, num_couplings: int = 6, width: int = 32) -> None:
        super().__init__()
        halves = [Half.FIRST, Half.SECOND]
        self.couplings = nn.ModuleList(
            ChannelCoupling(halves[i % 2], _net(width), scale_init=1.0)
            for i in range(num_couplings)
        )
        self.prior = GaussianPrior()

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_det = self._composition(x[:, :, None, None], y)
        return z.flatten(start_dim=1), log_det

    def inverse(self, z: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_det = self._composition.inverse(z[:, :, None, None], y)
        return x.flatten(start_dim=1), log_det

    @property
    def _composition(self) -> Composition:
        return Composition(cast(Iterable[Bijection], self.couplings))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density at points (N, 2), in nats, (N,)."""
        z, log_det = self(x)
        return self.prior.log_prob(z) + log_det

    @torch.no_grad()
    def sample(
        self, n: int, *, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> Tensor:
        """x = g(temperature z), z ~ N(0, I): (n, 2)."""
        z = temperature * self.prior.sample((n, 2), generator)
        return self.inverse(z.to(next(self.parameters())))[0]


def _net(width: int) -> nn.Module:
    """The kept coordinate, (N, 1, 1, 1), to t and the pre-activation of s, (N, 2, 1, 1).

    The network is smooth, and so is the density. Its output starts at zero, so the flow starts as
    the identity.
    """
    last = nn.Linear(width, 2)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(1, width),
        nn.SiLU(),
        nn.Linear(width, width),
        nn.SiLU(),
        last,
        nn.Unflatten(1, (2, 1, 1)),
    )


def fit(
    flow: ToyFlow, points: Tensor, steps: int = 1500, *, learning_rate: float = 7e-3, seed: int = 0
) -> list[float]:
    """Maximise the likelihood of `points`, (M, 2), by Adam; returns each step's loss, in nats.

    Batches of 256 are drawn with replacement; the rate falls to 0 along a half cosine.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(flow.parameters(), lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses = []
    for _ in range(steps):
        chosen = torch.randint(len(points), (256,), generator=generator)
        loss = -flow.log_prob(points[chosen]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return losses


class ToyData(StrEnum):
    """Distributions in the plane, of roughly unit scale around the origin."""

    MOONS = "moons"  # two half circles that reach into each other
    RINGS = "rings"  # two circles around the origin: f cannot tear the plane, and leaves a bridge
    PINWHEEL = "pinwheel"  # five spiral arms

    def sample(self, n: int, *, seed: int = 0) -> Tensor:
        """Draw points, float32, (n, 2)."""
        draw = {ToyData.MOONS: _moons, ToyData.RINGS: _rings, ToyData.PINWHEEL: _pinwheel}[self]
        return draw(n, torch.Generator().manual_seed(seed)).float()


def _moons(n: int, generator: torch.Generator) -> Tensor:
    angle = math.pi * torch.rand(n, generator=generator)
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    # The lower moon is the upper one turned by half a circle.
    sign = 2 * torch.randint(2, (n, 1), generator=generator) - 1
    return 1.5 * (sign * upper + 0.08 * torch.randn(n, 2, generator=generator))


def _rings(n: int, generator: torch.Generator) -> Tensor:
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    radius = 1.0 + torch.randint(2, (n,), generator=generator)
    radius = radius + 0.08 * torch.randn(n, generator=generator)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


def _pinwheel(n: int, generator: torch.Generator) -> Tensor:
    arms, twist = 5, 1.0
    # Each arm is a Gaussian, long outwards and narrow across, turned further the further out.
    along, across = torch.randn(2, n, generator=generator)
    along, across = 1.2 + 0.4 * along, 0.1 * across
    arm = torch.randint(arms, (n,), generator=generator)
    angle = 2 * math.pi * arm / arms + twist * along
    x = along * angle.cos() - across * angle.sin()
    y = along * angle.sin() + across * angle.cos()
    return torch.stack([x, y], dim=1)
