"""From [0, 1) to the real line: the logit of section 4.1."""

from enum import StrEnum

from torch import Tensor

from nvp.flows.bijection import Bijection, sum_over_image
from nvp.model.dequantisation import inverse_logit, logit


class LogitForm(StrEnum):
    """How the logit avoids infinity."""

    # logit(alpha + (1 - 2 alpha) x): the official code's, bounded at both ends.
    SYMMETRIC = "symmetric"
    # logit(alpha + (1 - alpha) x): as printed in section 4.1. It has no bound as x -> 1: white
    # pixels come near infinity. Where rounding to float32 would reach it, `logit` stops just short.
    PAPER = "paper"


class Logit(Bijection):
    """z = logit(alpha + (1 - k alpha) x), x in [0, 1); k is 2 if symmetric, 1 for the paper's."""

    def __init__(self, form: LogitForm = LogitForm.SYMMETRIC, alpha: float = 0.05) -> None:
        super().__init__()
        self.alpha = alpha
        self.slope = 1 - (2 if LogitForm(form) == LogitForm.SYMMETRIC else 1) * alpha

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, slope={self.slope:g}"

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_derivative = logit(x, self.alpha, self.slope)
        return z, sum_over_image(log_derivative)

    def inverse(self, z: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_derivative = inverse_logit(z, self.alpha, self.slope)
        return x, sum_over_image(log_derivative)
