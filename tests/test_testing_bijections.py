"""`check_bijection` can fail: each mistake in a small bijection is named."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from pixels import generator
from test_testing import also
from torch import Tensor, nn

from nvp.flows.bijection import Bijection, Composition
from nvp.testing import check_bijection


class Scaling(Bijection):
    """z = x exp(a)."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(2, 3))

    def forward(self, x, y=None):
        return x * self.a.exp(), self.a.sum().expand(len(x))

    def inverse(self, z, y=None):
        return z * (-self.a).exp(), -self.a.sum().expand(len(z))


Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def as_it_is(z: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor]:
    return z, log_det


def half(z: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor]:
    """Forgets half of the log-determinant."""
    return z, log_det / 2


def changed(there: Change, back: Change = as_it_is) -> type[Scaling]:
    """A bijection that makes these mistakes in its two directions."""

    class Changed(Scaling):
        def forward(self, x, y=None):
            return there(*super().forward(x))

        def inverse(self, z, y=None):
            return back(*super().inverse(z))

    return Changed


class Mixing(Scaling):
    """Takes its scale from the whole batch."""

    def forward(self, x, y=None):
        return x * self.a.exp() + 1e-6 * x.mean().detach(), self.a.sum().expand(len(x))

    def inverse(self, z, y=None):
        mean = (z * (-self.a).exp()).mean()
        return super().inverse(z - 1e-6 * mean)


class InPlace(Scaling):
    def forward(self, x, y=None):
        return super().forward(x.sub_(1))


class InPlaceBack(Scaling):
    def inverse(self, z, y=None):
        return z.mul_((-self.a).exp()), super().inverse(z)[1]


class Remembering(Scaling):
    """Its inverse gives back what the last forward pass was given."""

    def forward(self, x, y=None):
        self.x = x
        return super().forward(x)

    def inverse(self, z, y=None):
        return self.x, super().inverse(z)[1]


class Hidden(Scaling):
    """Its scale depends on the first half of x, and autograd does not see that."""

    def scale(self, x):
        return self.a + x[:, :1].detach().tanh() * torch.tensor([[0.0], [1.0]]).to(x)

    def forward(self, x, y=None):
        s = self.scale(x)
        return x * s.exp(), s.flatten(1).sum(1)

    def inverse(self, z, y=None):
        s = self.scale(torch.cat([z[:, :1] * (-self.a[:1]).exp(), z[:, 1:]], dim=1))
        return z * (-s).exp(), -s.flatten(1).sum(1)


class Unseen(Scaling):
    """Shifts the second half of x by the first, and autograd does not see that."""

    def forward(self, x, y=None):
        return super().forward(torch.cat([x[:, :1], x[:, 1:] + x[:, :1].detach()], dim=1))

    def inverse(self, z, y=None):
        x, log_det = super().inverse(z)
        return torch.cat([x[:, :1], x[:, 1:] - x[:, :1]], dim=1), log_det


class Normed(Scaling):
    """Forgets the variance of its norm, which is 1 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2, eps=0.0, affine=False)

    def forward(self, x, y=None):
        return super().forward(self.norm(x))

    def inverse(self, z, y=None):
        x, log_det = super().inverse(z)
        mean, var = self.norm.running_mean[:, None], self.norm.running_var[:, None]
        return x * var.sqrt() + mean, log_det


class Uncentred(Normed):
    """Its inverse forgets the mean of its norm, which is 0 at first."""

    def inverse(self, z, y=None):
        x, log_det = super().inverse(z)
        return x - self.norm.running_mean[:, None], log_det


POINTS = torch.randn(2, 2, 3, generator=generator())


@pytest.mark.parametrize(
    ("mistake", "complaint"),
    [
        (changed(lambda z, log_det: z), "f does not return two tensors"),
        (changed(as_it_is, lambda x, log_det: (x, 0)), "the inverse does not return two tensors"),
        (changed(half), "the log-determinants of the two directions differ"),
        (changed(half, half), "the log-determinant is off by"),
        (changed(lambda z, log_det: (z, log_det[0])), r"the log-determinants of f are \(\)"),
        (changed(as_it_is, lambda x, log_det: (2 * x, log_det)), "the inverse is off by"),
        (changed(lambda z, log_det: (z.flatten(1), log_det)), r"f maps shape .* to \(2, 6\)"),
        (changed(lambda z, log_det: (z + 1e-12 * torch.rand(()), log_det)), "to another z"),
        (Mixing, "depends on those beside it"),
        (changed(lambda z, log_det: (z, log_det.detach())), "changes by .* its gradient says 0"),
        (lambda: also(Scaling(), spare=nn.Parameter(torch.zeros(3))), "spare has no gradient"),
        (changed(lambda z, log_det: (z * math.nan, log_det)), "numbers that are not finite"),
        (changed(lambda z, log_det: (z.float(), log_det)), "f maps torch.float64 to torch.float32"),
        (changed(lambda z, log_det: (z, log_det.float())), "of f are torch.float32"),
        (partial(Composition, []), "f changes nothing at x"),
        (InPlace, "f changes the points that it is given"),
        (Remembering, "the inverse is off by"),
        (InPlaceBack, "the inverse changes the points that it is given"),
        (Hidden, "the log-determinant changes by .* where its gradient says"),
        (lambda: Hidden().requires_grad_(False), "the log-determinant changes by"),
        (changed(as_it_is, lambda x, log_det: (x, log_det[:1])), r"of the inverse are \(1,\)"),
        (Unseen, "z changes by .* where its gradient says"),
        (Normed, "the log-determinant is off by"),
        (Uncentred, "the inverse is off by"),
    ],
)
def test_a_mistake_in_a_bijection_is_named(mistake: Any, complaint: str) -> None:
    check_bijection(Scaling(), POINTS)
    points = POINTS.double()
    with pytest.raises(AssertionError, match=complaint):
        check_bijection(mistake(), points)
    assert torch.equal(points, POINTS.double())


def test_gradients_of_points_are_compared_where_parameters_are_not() -> None:
    with pytest.raises(AssertionError, match="the log-determinant changes by"):
        check_bijection(Hidden(), POINTS, gradients=False)
