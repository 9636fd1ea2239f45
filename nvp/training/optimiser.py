"""From gradients to weights: the optimiser, its rate, and the average of the weights."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nvp.config import Optimiser, TrainingConfig
from nvp.errors import NVPError
from nvp.model.roles import Role, parameter_roles
from nvp.training.distributed import divided

# The parameters that a setting acts on. Where a model has none of them, the setting is refused.
ROLES_WITH = {
    "tanh_scale_rate": (Role.TANH_SCALE,),
    "relative_step": (Role.DIRECTION,),
    "weight_decay": (Role.KERNEL, Role.RECURRENT),
}


class Muon(torch.optim.Adam):
    """Muon (Jordan et al., 2024) for groups that have a "role"; Adam for the others.

    The momentum is Nesterov's, with 0.95 of the old; `betas` and `eps` are those of Adam. A kernel
    W moves by its momentum U S V^T with the singular values S set to about 1, so that no
    direction is left behind:

        W <- (1 - rate decay) W - rate sqrt(max(1, rows / columns)) U V^T.

    The length of a direction v of weight normalisation has no effect, so its steps are relative to
    it. Their rate is `relative_step`, scheduled like the learning rate:

        v <- v - rate ||v|| U V^T / sqrt(min(rows, columns)), a step of length rate ||v||.

    Then v gets its old length again. Otherwise it would grow, and its gradient shrink, without end.

    `torch.optim.Muon` takes matrices only. Here filters are a matrix with one row per output, or
    per input where the convolution is transposed, since that is their first dimension. Recurrent
    weights form one matrix per direction of the scan, with a row for each gate of each unit. In a
    colour model, U V^T also moves weights that a mask hides. These have no effect, but they leave
    the singular values of the others a little less equal. Muon's authors leave the first and
    the last layer to Adam; here Muon updates them too. Where several processes train, each
    orthogonalises a part of the matrices.
    """

    MOMENTUM = 0.95

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            if "role" in group:
                moved = [(w, w.grad) for w in group["params"] if w.grad is not None]
                ahead = [self._ahead(weight, gradient, group) for weight, gradient in moved]
                for (weight, _), step in zip(moved, divided(orthogonal_each, ahead), strict=True):
                    self._move(weight, step, group)
        super().step()
        return loss

    def _ahead(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """The momentum with this gradient, as matrices."""
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].lerp_(gradient, 1 - self.MOMENTUM)
        ahead = gradient.lerp(momentum, self.MOMENTUM)  # Nesterov's
        # (directions, taps, h, 4h) is a matrix (4h, taps h) for each direction.
        return ahead.flatten(1, 2).mT if group["role"] is Role.RECURRENT else ahead.flatten(1)

    def _move(self, weight: Tensor, step: Tensor, group: dict[str, Any]) -> None:
        """Take a step, given as matrices."""
        rows, columns = step.shape[-2:]
        step = (step.mT if group["role"] is Role.RECURRENT else step).reshape(weight.shape)
        if group["role"] is Role.DIRECTION:
            length = weight.norm()
            weight.sub_(step * (group["lr"] * length / math.sqrt(min(rows, columns))))
            weight.mul_(length / weight.norm())
        else:
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(step, alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)))
        weight.grad = None  # so that Adam passes over it


def orthogonal(matrix: Tensor) -> Tensor:
    """U V^T of a matrix U S V^T, or of several, (..., rows, columns), singular values only near 1.

    By a Newton-Schulz iteration. The published coefficients of its polynomial lift small singular
    values as fast as possible. Those above about 0.15% of the matrix's norm end between 0.65 and
    1.2, smaller ones below. So the products may be in bfloat16, and are where autocast is on.
    """
    a, b, c, rounds = 3.4445, -4.7750, 2.0315, 5
    rows, columns = matrix.shape[-2:]
    wide = matrix.mT if rows > columns else matrix
    x = wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-15)
    for _ in range(rounds):
        gram = x @ x.mT
        x = ((b * gram + c * gram @ gram) @ x).add_(x, alpha=a)
    return (x.mT if rows > columns else x).to(matrix.dtype)


def orthogonal_each(matrices: list[Tensor]) -> list[Tensor]:
    """`orthogonal` of each matrix; those of one shape go together, which saves many small calls."""
    steps: dict[int, Tensor] = {}
    for shape in {matrix.shape for matrix in matrices}:
        alike = [index for index, matrix in enumerate(matrices) if matrix.shape == shape]
        together = orthogonal(torch.stack([matrices[index] for index in alike]))
        steps.update(zip(alike, together, strict=True))
    return [steps[index] for index in range(len(matrices))]


def make_optimiser(model: nn.Module, settings: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser over all parameters, in groups whose rates differ by their "factor".

    Raises `NVPError` for a setting that no parameter of `model` uses.
    """
    rate, epsilon = settings.learning_rate, settings.epsilon
    apart = {Role.TANH_SCALE}
    if settings.optimiser == Optimiser.MUON:
        apart |= {Role.KERNEL, Role.RECURRENT, Role.DIRECTION}
    members: dict[Role | None, list[nn.Parameter]] = {}  # None: all the others
    for parameter, role in parameter_roles(model).items():
        members.setdefault(role if role in apart else None, []).append(parameter)
    for name, users in ROLES_WITH.items():
        differs = getattr(settings, name) != TrainingConfig.model_fields[name].default
        if differs and not any(role in members for role in users):
            raise NVPError(
                f"training.{name} is set, but {type(model).__name__} has no parameter that uses it "
                f"({' or '.join(users)}): remove it"
            )
    options: dict[Role | None, dict[str, Any]] = {
        None: {"factor": 1.0},
        Role.TANH_SCALE: {"factor": settings.tanh_scale_rate},
        Role.DIRECTION: {"factor": settings.relative_step / rate, "role": Role.DIRECTION},
    }
    for role in (Role.KERNEL, Role.RECURRENT):
        options[role] = {"factor": 1.0, "role": role, "weight_decay": settings.weight_decay}
    groups = [{"params": members[role], **options[role]} for role in options if role in members]
    betas, alpha = settings.betas, settings.alpha
    match settings.optimiser:
        case Optimiser.ADAM:
            return torch.optim.Adam(groups, lr=rate, betas=betas, eps=epsilon, fused=True)
        case Optimiser.ADAMAX:
            return torch.optim.Adamax(groups, lr=rate, betas=betas, eps=epsilon, foreach=True)
        case Optimiser.RMSPROP:
            return torch.optim.RMSprop(groups, lr=rate, alpha=alpha, eps=epsilon, foreach=True)
        case Optimiser.MUON:
            return Muon(groups, lr=rate, betas=betas, eps=epsilon, fused=True)


def rate_at(step: int, done: float, settings: TrainingConfig) -> float:
    """Linear warm-up, constant, then linearly to 0 over the last `anneal` of the budget.

    `done` is the share of the budget that is used up.
    """
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    decay = min(1.0, (1 - done) / settings.anneal) if settings.anneal else 1.0
    return settings.learning_rate * warmup * decay


def exponential_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Weight averaging whose memory grows with the run, up to 1 / (1 - decay) steps.

    It is a `multi_avg_fn` of PyTorch's `AveragedModel`.
    """

    def update(averages: Any, weights: Any, num_averaged: Any) -> None:
        # A fixed decay would remember the random start for thousands of steps.
        count = int(num_averaged)
        current = min(decay, (1 + count) / (10 + count))
        torch._foreach_lerp_(averages, weights, 1 - current)

    return update
