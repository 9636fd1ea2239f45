"""What is timed of the Pixel RNNs: each kind as this package has it, and as plain code has it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.contenders import CLIP_NORM
from benchmarks.peers_pixelrnn import PlainPixelRNN
from benchmarks.settings import PixelSetting
from nvp.autoregressive.config import Kind
from nvp.config import DataConfig, Precision, RunConfig, TrainingConfig
from nvp.training.allocator import keep_freed_memory
from nvp.training.loop import training_step
from nvp.training.state import begin

FP32, BF16, PLAIN = "nvp fp32", "nvp bf16", "plain fp32 NCHW"
UNCOMPILED = "nvp fp32, scan in PyTorch"
SAMPLING = "sampling"


@dataclass
class Contender:
    """`step(images)` trains on one batch, `log_prob(images)` is in nats."""

    model: nn.Module
    step: Callable[[Tensor], object]
    log_prob: Callable[[Tensor], Tensor]


def ours(setting: PixelSetting, kind: Kind, batch: int, precision: Precision) -> Contender:
    """This package, with the step that `nvp train` takes (weight averaging included)."""
    keep_freed_memory()  # as `nvp train` does
    config = RunConfig(
        name="benchmark",
        model=setting.config(kind),
        data=DataConfig(name="noise"),
        training=TrainingConfig(steps=1, batch_size=batch, precision=precision),
    )
    state = begin(config, torch.device("cpu"), num_images=batch)

    def step(images: Tensor) -> object:
        return training_step(state, images, config.training, done=0.0)

    return Contender(state.model, step, state.model.log_prob)


def uncompiled(setting: PixelSetting, kind: Kind, batch: int) -> Contender:
    """This package where there is no compiler: the same scan in PyTorch."""
    os.environ["NVP_PLAIN_SCAN"] = "1"
    return ours(setting, kind, batch, Precision.FP32)


def plain(setting: PixelSetting, kind: Kind, _batch: int) -> Contender:
    """`benchmarks.peers_pixelrnn`, with a plain loop and PyTorch's default Adam."""
    model = PlainPixelRNN(setting.config(kind))
    optimiser = torch.optim.Adam(model.parameters())

    def step(images: Tensor) -> None:
        optimiser.zero_grad()
        (-model.log_prob(images).mean()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimiser.step()

    return Contender(model, step, model.log_prob)


def _uses(precision: Precision) -> Callable[[PixelSetting, Kind, int], Contender]:
    return lambda setting, kind, batch: ours(setting, kind, batch, precision)


_OF_ALL = {FP32: _uses(Precision.FP32), BF16: _uses(Precision.BF16)}
_OF_LSTMS = {**_OF_ALL, UNCOMPILED: uncompiled, PLAIN: plain}
CONTENDERS: dict[Kind, dict[str, Callable[[PixelSetting, Kind, int], Contender]]] = {
    Kind.DIAGONAL_BILSTM: _OF_LSTMS,
    Kind.ROW_LSTM: _OF_LSTMS,
    Kind.PIXELCNN: {**_OF_ALL, PLAIN: plain},
}
