"""The cost of a training step, counted without computing it, and of a run on a GPU, estimated.

A model on PyTorch's meta device has shapes and no values. Its loss and gradients run there in
seconds, however large it is. Meanwhile floating-point operations, operations of PyTorch and the
tensors that the backward pass keeps are counted. Memory and hours are estimates from these counts.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nvp.config import Optimiser, RunConfig

# Assumed of one GPU of 80 GB: sustained speed of convolutions in single precision or better, and
# the time to launch an operation, which is the least that one takes.
FLOPS_A_SECOND = 20e12
SECONDS_AN_OPERATION = 10e-6


@dataclass(frozen=True)
class Cost:
    """Counts of one training step on one batch, forward and backward."""

    parameters: int
    flops: int  # of convolutions and matrix products
    operations: int  # of PyTorch, views left out
    kept: int  # bytes, in float32, from the forward for the backward pass

    def gigabytes(self, config: RunConfig) -> float:
        """Memory of training, estimated: parameters and their copies, and what is kept."""
        # Parameters, gradient, average and at most two moments, of which RMSprop has one.
        copies = 4 if config.training.optimiser == Optimiser.RMSPROP else 5
        return (4 * copies * self.parameters + self.kept) / 1e9

    def hours(self, steps: int) -> float:
        """Hours that so many steps take, estimated."""
        seconds = max(self.flops / FLOPS_A_SECOND, self.operations * SECONDS_AN_OPERATION)
        return steps * seconds / 3600


class _Operations(TorchDispatchMode):
    """Counts what is not a view."""

    number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += not func.is_view
        return func(*args, **(kwargs or {}))


def count_step(config: RunConfig) -> Cost:
    """Count a training step of a configuration, at its batch size."""
    with torch.device("meta"):  # a network that takes no memory and no time
        model = config.build_model().train()
    shape = (config.training.batch_size, *config.model.image_shape)
    images = torch.zeros(shape, dtype=torch.uint8)
    labels = torch.zeros(len(images), dtype=torch.int64) if model.num_classes else None
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    flops = FlopCounterMode(display=False)
    # Autocast knows no meta device: what is kept counts as float32.
    with hooks, flops, _Operations() as operations:
        model.loss(images, labels=labels).backward()
    return Cost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        flops=flops.get_total_flops(),
        operations=operations.number,
        kept=sum(storage.nbytes() for storage in kept.values()),
    )
