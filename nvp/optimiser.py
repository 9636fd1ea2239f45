"""What turns gradients into weights: the optimiser, its rate, and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nvp.config import Optimiser, RunConfig, TrainingConfig
from nvp.flows.config import RealNVPConfig


class Muon(torch.optim.Adam):
    """Muon (Jordan et al., 2024) for the kernels, in groups marked "orthogonal"; Adam for the rest.

    W <- (1 - rate decay) W - rate sqrt(max(1, rows / columns)) U V^T, of the momentum U S V^T: a
    kernel moves with all singular values set to about 1, so that no direction is left behind.
    `torch.optim.Muon` does so to matrices alone. Here a convolution is a matrix with one row for
    each index of its first dimension, the outputs; and what leads from state to state, in groups
    marked "recurrent", one for each direction of the scan, with a row for each gate of each unit.
    Muon's authors leave the first and the last layer to Adam; here only what is no kernel, a bias
    or a first state, is Adam's.
    """

    MOMENTUM = 0.95

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group.get("orthogonal"):
                for kernel in group["params"]:
                    self._move(kernel, group)
        super().step()
        return loss

    def _move(self, kernel: Tensor, group: dict[str, Any]) -> None:
        if kernel.grad is None:
            return
        state = self.state[kernel]
        if not state:
            state["momentum"] = torch.zeros_like(kernel)
        momentum = state["momentum"].lerp_(kernel.grad, 1 - self.MOMENTUM)
        ahead = kernel.grad.lerp(momentum, self.MOMENTUM)  # Nesterov's
        # (directions, taps, h, 4h) is a matrix (4h, taps h) for each direction.
        matrices = ahead.flatten(1, 2).mT if group["recurrent"] else ahead.flatten(1)
        rows, columns = matrices.shape[-2:]
        step = orthogonal(matrices)
        step = (step.mT if group["recurrent"] else step).reshape(kernel.shape)
        kernel.mul_(1 - group["lr"] * group["weight_decay"])
        kernel.add_(step, alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)))
        kernel.grad = None  # so that Adam passes over it


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """U V^T of a matrix U S V^T, or of several, (..., rows, columns), singular values only near 1.

    By a Newton-Schulz iteration whose polynomial, of published coefficients, lifts the small ones
    as fast as can be at the price of leaving all between about 0.65 and 1.2.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    rows, columns = matrix.shape[-2:]
    wide = matrix.mT if rows > columns else matrix
    x = (wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if rows > columns else x).to(matrix.dtype)


def make_optimiser(names: dict[Tensor, str], config: RunConfig) -> torch.optim.Optimizer:
    """The optimiser over all parameters, in groups whose rates differ by their "factor".

    `names` holds the name of every parameter, which says what it is.
    """
    settings = config.training
    rate, epsilon = settings.learning_rate, settings.epsilon
    muon = {"factor": 1.0, "orthogonal": True, "weight_decay": settings.weight_decay}
    kinds: dict[str, dict[str, Any]] = {
        "other": {"factor": 1.0},
        "tanh scale": {"factor": settings.tanh_scale_rate},
        "kernel": {**muon, "recurrent": False},
        "recurrent": {**muon, "recurrent": True},
    }
    groups: list[dict[str, Any]] = []
    for kind, options in kinds.items():
        members = [p for p, name in names.items() if _kind_of(name, p, config) == kind]
        if members:
            groups.append({"params": members, **options})
    if settings.optimiser is Optimiser.RMSPROP:
        return torch.optim.RMSprop(groups, lr=rate, alpha=settings.alpha, eps=epsilon, foreach=True)
    chosen = Muon if settings.optimiser is Optimiser.MUON else torch.optim.Adam
    return chosen(groups, lr=rate, betas=settings.betas, eps=epsilon, fused=True)


def _kind_of(name: str, parameter: Tensor, config: RunConfig) -> str:
    last = name.rpartition(".")[2]
    if isinstance(config.model, RealNVPConfig) and last == "scale":
        return "tanh scale"
    if config.training.optimiser is not Optimiser.MUON or parameter.ndim < 2 or last == "initial":
        return "other"
    return "recurrent" if last == "state_to_state" else "kernel"


def rate_at(step: int, done: float, settings: TrainingConfig) -> float:
    """Linear warm-up, constant, then linearly to 0 over the last `anneal` of the budget.

    `done` is the share of the budget that is used up.
    """
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    decay = min(1.0, (1 - done) / settings.anneal) if settings.anneal else 1.0
    return settings.learning_rate * warmup * decay


def exponential_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Weight averaging whose memory grows with the run, up to 1 / (1 - decay) steps."""

    def update(averages: Any, weights: Any, num_averaged: Any) -> None:
        # A fixed decay would remember the random start for thousands of steps.
        current = min(decay, (1 + int(num_averaged)) / (10 + int(num_averaged)))
        torch._foreach_lerp_(averages, weights, 1 - current)

    return update
