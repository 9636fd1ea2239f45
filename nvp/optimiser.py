"""What turns gradients into weights: the optimiser, its rate, and the average of the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nvp.config import Optimiser, RunConfig, TrainingConfig
from nvp.flows.config import RealNVPConfig


def make_optimiser(names: dict[Tensor, str], config: RunConfig) -> torch.optim.Optimizer:
    """Adam or RMSprop over all parameters, in groups whose rates differ by their "factor"."""
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
