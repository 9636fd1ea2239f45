"""Bijections f: X -> Z, their inverses g, and their composition (sections 3.1 and 3.5)."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import cast

from torch import Tensor, nn


class Bijection(nn.Module, ABC):
    """An invertible map in the paper's direction: `forward` is f, `inverse` is g = f^-1.

    Both return the mapped points, (N, ...), and the log-determinant at each, (N,), in nats (eqs 2
    and 3), and change no point in place. In training mode batch norms update their running
    averages. Those after couplings use the batch in `forward` and the averages in `inverse`. So the
    two are sure to undo each other in evaluation mode only. The map may depend on a condition y,
    (N, K): None in an unconditional model (appendix F).
    """

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """f: data -> latent. Returns (z, log |det df/dx|)."""

    @abstractmethod
    def inverse(self, z: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """g: latent -> data. Returns (x, log |det dg/dz|) = (x, -log |det df/dx|)."""


class Composition(Bijection):
    """f_K o ... o f_1. Log-determinants add, inverses apply in reverse (eqs 10 to 12)."""

    def __init__(self, bijections: Iterable[Bijection]) -> None:
        super().__init__()
        self.bijections = cast(Sequence[Bijection], nn.ModuleList(bijections))

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = x.new_zeros(len(x))
        for bijection in self.bijections:
            x, step = bijection(x, y)
            log_det = log_det + step
        return x, log_det

    def inverse(self, z: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = z.new_zeros(len(z))
        for bijection in reversed(self.bijections):
            z, step = bijection.inverse(z, y)
            log_det = log_det + step
        return z, log_det


def sum_over_image(values: Tensor) -> Tensor:
    """Sum (N, ...) over everything but the batch, giving (N,)."""
    return values.flatten(start_dim=1).sum(dim=1)
