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

    A kernel moves along its momentum with all singular values set to about 1, so that no direction
    is left behind. `torch.optim.Muon` does the same to matrices alone; here the four dimensions of
    a convolution are a matrix with one row for each output. Its authors leave the first and the
    last layer to Adam; here only what is no kernel, such as a bias, is Adam's.
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
                    self._move(kernel, group["lr"], group["weight_decay"])
        super().step()
        return loss

    def _move(self, kernel: Tensor, rate: float, weight_decay: float) -> None:
        assert kernel.grad is not None
        state = self.state[kernel]
        if not state:
            state["momentum"] = torch.zeros_like(kernel)
        momentum = state["momentum"].lerp_(kernel.grad, 1 - self.MOMENTUM)
        ahead = kernel.grad.lerp(momentum, self.MOMENTUM).flatten(1)  # Nesterov's
        rows, columns = ahead.shape
        step = orthogonal(ahead).reshape(kernel.shape)
        kernel.mul_(1 - rate * weight_decay)
        kernel.add_(step, alpha=-rate * math.sqrt(max(1.0, rows / columns)))
        kernel.grad = None  # so that Adam passes over it


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """U V^T of the matrix U S V^T, (rows, columns), its singular values only near 1.

    By a Newton-Schulz iteration whose polynomial, of published coefficients, lifts the small ones
    as fast as can be at the price of leaving all between about 0.65 and 1.2.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix.T if len(matrix) > matrix.shape[1] else matrix
    x = (wide / (wide.norm() + 1e-7)).bfloat16()
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if wide is not matrix else x).to(matrix.dtype)


def make_optimiser(names: dict[Tensor, str], config: RunConfig) -> torch.optim.Optimizer:
    """The optimiser over all parameters, in groups whose rates differ by their "factor"."""
    settings = config.training
    groups: list[dict[str, Any]] = [{"params": list(names), "factor": 1.0}]
    if isinstance(config.model, RealNVPConfig):
        tanh_scales = [p for p, name in names.items() if name.endswith(".scale")]
        others = [p for p, name in names.items() if not name.endswith(".scale")]
        groups = [
            {"params": others, "factor": 1.0},
            {"params": tanh_scales, "factor": settings.tanh_scale_rate},
        ]
    rate, epsilon = settings.learning_rate, settings.epsilon
    if settings.optimiser is Optimiser.RMSPROP:
        return torch.optim.RMSprop(groups, lr=rate, alpha=settings.alpha, eps=epsilon, foreach=True)
    if settings.optimiser is Optimiser.MUON:
        kernels = [p for p in groups[0]["params"] if p.ndim > 1]
        groups[0]["params"] = [p for p in groups[0]["params"] if p.ndim <= 1]
        decay = settings.weight_decay
        groups.append({"params": kernels, "factor": 1.0, "orthogonal": True, "weight_decay": decay})
        return Muon(groups, lr=rate, betas=settings.betas, eps=epsilon, fused=True)
    return torch.optim.Adam(groups, lr=rate, betas=settings.betas, eps=epsilon, fused=True)


def rate_at(step: int, done: float, settings: TrainingConfig) -> float:
    """Linear warm-up, constant, then linearly to 0 over the last `anneal` of the budget."""
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
