"""Batch normalisation of a coupling's output, as a bijection with a log-det (section 3.7).

Per channel, x -> (x - mean) / sqrt(variance + epsilon), epsilon = 1e-4: a diagonal affine map. Its
log-determinant is -1/2 log(variance + epsilon) for every scalar that it moved (eqs 17 and 18).
"""

from enum import StrEnum

import torch
from torch import Tensor, nn

from nvp.flows.bijection import sum_over_image
from nvp.model.protocol import of_whole_batch

EPSILON = 1e-4


class NormScope(StrEnum):
    """Which scalars of a coupling's output are normalised, and over which the moments are taken."""

    WHOLE = "whole"  # all of them, as section 3.7 says ("the whole coupling layer output")
    TRANSFORMED = "transformed"  # only those that the coupling changed (b = 0)
    # Only those that it changed, but with the moments of (1 - b) x, zeros included, as in the
    # official code: under a checkerboard of even sides, mean m and variance v become m/2 and
    # v/2 + m^2/4.
    OFFICIAL = "official"


class CouplingBatchNorm(nn.Module):
    """Normalises the output of a coupling with mask b (eqs 17 and 18); no gain and no shift.

    Training normalises by the moments of the batch, and gradients flow through them. The moments
    also move the running averages (by `momentum`, which is 1 - rho) that evaluation and the inverse
    use. With `running_average` (eqs 20 and 21, appendix E), training normalises by the running
    averages after they have taken in this batch: mean_t+1 = rho mean_t + (1 - rho) mean_batch, the
    same for the variance. Gradients then flow through this batch's moments only. With momentum 0
    the averages stay as they are and the batch's own moments are used, with or without
    `running_average`.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, channels: int, scope: NormScope, *, momentum: float, running_average: bool
    ) -> None:
        super().__init__()
        self.scope = NormScope(scope)
        self.momentum = momentum
        self.running_average = running_average
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def extra_repr(self) -> str:
        average = ", running_average" * self.running_average
        return f"{len(self.running_mean)}, scope={self.scope}, momentum={self.momentum}{average}"

    def forward(self, x: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, C, H, W), b bool and broadcastable to it -> the same, log-det (N,)."""
        if self.training:
            mean, var = self.training_moments(x, b)
        else:
            mean, var = self.running_mean, self.running_var
        moved = self.moved(b)
        mean, log_scale = mean[:, None, None], -0.5 * torch.log(var + EPSILON)[:, None, None]
        z = torch.where(moved, (x - mean) * log_scale.exp(), x)
        return z, sum_over_image((moved * log_scale).expand_as(x))

    def inverse(self, z: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `forward` of evaluation mode, whatever the mode (as the official code)."""
        moved = self.moved(b)
        mean = self.running_mean[:, None, None]
        log_scale = 0.5 * torch.log(self.running_var + EPSILON)[:, None, None]
        x = torch.where(moved, z * log_scale.exp() + mean, z)
        return x, sum_over_image((moved * log_scale).expand_as(z))

    def moved(self, b: Tensor) -> Tensor:
        """Where the norm acts, bool."""
        return torch.ones_like(b) if self.scope == NormScope.WHOLE else ~b

    def training_moments(self, x: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance per channel, (C,), for this pass; moves the running ones."""
        mean, var = self.batch_moments(x, b)
        next_mean = torch.lerp(self.running_mean, mean, self.momentum)
        next_var = torch.lerp(self.running_var, var, self.momentum)
        # New tensors, not an update in place: autograd may still need the old ones.
        with torch.inference_mode(False):  # tensors of that mode could not be changed outside it
            self.running_mean = next_mean.detach().clone()
            self.running_var = next_var.detach().clone()
        averaged = self.running_average and self.momentum > 0
        return (next_mean, next_var) if averaged else (mean, var)

    def batch_moments(self, x: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance per channel over the scalars that `scope` counts."""
        if self.scope == NormScope.OFFICIAL:
            x, counted = x * ~b, torch.ones_like(b)
        else:
            counted = self.moved(b)
        weight = counted.to(x).expand(1, *x.shape[1:])
        # A channel that is kept whole has nothing to count; it is never moved, so 1 will do.
        count = (len(x) * weight.sum(dim=(0, 2, 3))).clamp(min=1)
        mean = of_whole_batch((x * weight).sum(dim=(0, 2, 3)) / count)
        centred = (x - mean[:, None, None]) * weight
        return mean, of_whole_batch(centred.square().sum(dim=(0, 2, 3)) / count)
