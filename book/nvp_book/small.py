"""A small flow on small images: runs of seconds, for the chapters on training."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nvp.config import DataConfig, RunConfig, TrainingConfig
from nvp.data import EMBEDDED, load
from nvp.flows.config import RealNVPConfig
from nvp.likelihood import nats_per_bit
from nvp.training.loop import next_batch, training_step
from nvp.training.state import State, begin


def thumbs() -> Tensor:
    """The embedded training images at 8 x 8 pixels: uint8, (5000, 1, 8, 8)."""
    images = load(EMBEDDED, "train").images
    return F.avg_pool2d(images.float(), 4, padding=2).round().byte()


def small_run(*, model: Mapping[str, Any] | None = None, **training: Any) -> RunConfig:
    """A run of four checkerboard couplings; `model` and `training` override the defaults."""
    sizes = {"num_scales": 1, "num_blocks": 0, "width": 16, "checkerboard_scale_init": 1.0}
    loop = {"steps": 100, "batch_size": 32, "learning_rate": 1e-2, "precision": "fp32"}
    return RunConfig(
        name="small",
        model=RealNVPConfig.paper((1, 8, 8), **sizes | dict(model or {})),
        data=DataConfig(name=EMBEDDED),
        training=TrainingConfig.model_validate(loop | training),
    )


def fresh_state(run: RunConfig, images: Tensor) -> State:
    """The state before the first step."""
    return begin(run, torch.device("cpu"), len(images))


def train(run: RunConfig, state: State, images: Tensor, count: int) -> list[float]:
    """Train for `count` steps; the loss of each, in bits/dim. May raise `Divergence`."""
    unit, losses = nats_per_bit(state.model.image_shape), []
    for _ in range(count):
        batch, done = next_batch(state, images, run), run.training.spent(state.step, 0)
        loss, _ = training_step(state, batch, run.training, done)
        losses.append(loss / unit)
    return losses
