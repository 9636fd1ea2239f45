"""What is timed: for each contender a training step, a likelihood and samples."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.settings import Setting
from nvp.config import DataConfig, Precision, RunConfig, TrainingConfig
from nvp.flows.config import RealNVPConfig
from nvp.training.allocator import keep_freed_memory
from nvp.training.loop import training_step
from nvp.training.state import begin

CLIP_NORM = 100.0


@dataclass
class Contender:
    """`step(images)` trains on one batch, `log_prob(images)` is in nats, `sample(n)` makes n."""

    model: nn.Module
    step: Callable[[Tensor], object]
    log_prob: Callable[[Tensor], Tensor]
    sample: Callable[[int], Tensor]


def ours(setting: Setting, batch_size: int, precision: Precision) -> Contender:
    """This package, with the step that `nvp train` takes (weight averaging included)."""
    keep_freed_memory()  # as `nvp train` does
    sizes = {name: getattr(setting, name) for name in ("num_scales", "num_blocks", "width")}
    config = RunConfig(
        name="benchmark",
        model=RealNVPConfig.paper(setting.image_shape, **sizes),
        data=DataConfig(name="noise"),
        training=TrainingConfig(steps=1, batch_size=batch_size, precision=precision),
    )
    state = begin(config, torch.device("cpu"), num_images=batch_size)

    def step(images: Tensor) -> object:
        return training_step(state, images, config.training, done=0.0)

    return Contender(state.model, step, state.model.log_prob, state.model.sample)


def other(module: str, name: str, setting: Setting) -> Contender:
    """Another implementation, with a plain loop and PyTorch's default Adam."""
    # Imported late: a contender's peak memory should not hold another's library.
    model = getattr(importlib.import_module(module), name)(setting)
    optimiser = torch.optim.Adam(model.parameters())

    def step(images: Tensor) -> None:
        optimiser.zero_grad()
        (-model.log_prob(images).mean()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimiser.step()

    return Contender(model, step, model.log_prob, model.sample)


PLAIN = "plain fp32 NCHW"
CONTENDERS: dict[str, Callable[[Setting, int], Contender]] = {
    "nvp fp32": lambda setting, batch: ours(setting, batch, Precision.FP32),
    "nvp bf16": lambda setting, batch: ours(setting, batch, Precision.BF16),
    PLAIN: lambda setting, _: other("benchmarks.plain", "PlainRealNVP", setting),
    "normflows": lambda setting, _: other("benchmarks.library", "LibraryRealNVP", setting),
}
