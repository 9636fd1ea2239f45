"""The parts of a benchmark: kinds of models, their contenders, and the sizes to time them at."""

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nvp.autoregressive.config import PixelRNNConfig
from nvp.config import DataConfig, Precision, RunConfig, TrainingConfig
from nvp.flows.config import RealNVPConfig
from nvp.training.allocator import keep_freed_memory
from nvp.training.loop import training_step
from nvp.training.state import begin

CLIP_NORM = 100.0
FP32, BF16, PLAIN = "nvp fp32", "nvp bf16", "plain fp32 NCHW"
CEILING, SAMPLING = "ceiling", "sampling"  # measurements that are of no contender

Config = RealNVPConfig | PixelRNNConfig


@dataclass
class Contender:
    """A model with a `log_prob(images)` in nats; `step(images)` trains it on one batch."""

    model: nn.Module
    step: Callable[[Tensor], object]


@dataclass(frozen=True)
class TimedKind:
    """A kind of model, and who makes it: each contender from a configuration and a batch size."""

    title: str
    contenders: Mapping[str, Callable[[Config, int], Contender]]


@dataclass(frozen=True)
class Setting:
    """One size: a configuration for each kind, and how often it is timed.

    `convolutions`, each (kernel, maps in, maps out, side), do most of the work. They are also timed
    alone: the speed of the first one is the ceiling.
    """

    what: str
    models: Mapping[str, Config]
    convolutions: tuple[tuple[int, int, int, int], ...]
    batch: int = 64
    rounds: int = 3  # fresh processes for every measurement
    steps: int = 3  # repeats in each


@dataclass(frozen=True)
class Benchmark:
    """The module `benchmarks.NAME` defines one as BENCHMARK."""

    name: str
    title: str
    kinds: Mapping[str, TimedKind]
    settings: Mapping[str, Setting]
    stem: str  # of the two files that are written
    draws_by_pixel: bool = False  # sampling is timed by itself, against its definition

    @property
    def names(self) -> tuple[str, ...]:
        """All that there is to measure: the ceiling, and KIND/CONTENDER or KIND/sampling."""
        more = (SAMPLING,) if self.draws_by_pixel else ()
        each = {key: (*kind.contenders, *more) for key, kind in self.kinds.items()}
        return (CEILING, *(f"{key}/{name}" for key, names in each.items() for name in names))


def ours(precision: Precision, *, compiled: bool = True) -> Callable[[Config, int], Contender]:
    """This package, with the step that `nvp train` takes (weight averaging included).

    Not `compiled`: as on a machine without a compiler, with the LSTM scan in PyTorch.
    """

    def make(model: Config, batch_size: int) -> Contender:
        if not compiled:
            os.environ["NVP_PLAIN"] = "1"
        keep_freed_memory()  # as `nvp train` does
        config = RunConfig(
            name="benchmark",
            model=model,
            data=DataConfig(name="noise"),
            training=TrainingConfig(steps=1, batch_size=batch_size, precision=precision),
        )
        state = begin(config, torch.device("cpu"), num_images=batch_size)
        return Contender(
            state.model, lambda images: training_step(state, images, config.training, done=0.0)
        )

    return make


def peer(module: str, name: str) -> Callable[[Config, int], Contender]:
    """Another implementation, with a plain loop and PyTorch's default Adam."""

    def make(config: Config, _batch_size: int) -> Contender:
        # Imported late: a contender's peak memory should not hold another's library.
        model = getattr(importlib.import_module(f"benchmarks.peers.{module}"), name)(config)
        optimiser = torch.optim.Adam(model.parameters())

        def step(images: Tensor) -> None:
            optimiser.zero_grad()
            (-model.log_prob(images).mean()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimiser.step()

        return Contender(model, step)

    return make
