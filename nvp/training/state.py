"""Everything that the next training step depends on: begun, saved, and put back."""

import time
import zlib
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nvp.config import Precision, RunConfig
from nvp.data.splits import TrainingData
from nvp.errors import NVPError
from nvp.model.custom import check_repeats, is_path
from nvp.model.labels import Examples, images_and_labels
from nvp.model.protocol import ImageModel, use_channels_last
from nvp.runs.checkpoint import Best, Checkpoint, Header
from nvp.runs.folder import RunFolder
from nvp.runs.provenance import Leg
from nvp.runs.tensors import (
    load_optimiser,
    load_weights,
    optimiser_tensors,
    part,
    prefixed,
    save_tensors,
)
from nvp.training.distributed import agree, data_parallel
from nvp.training.optimiser import exponential_average, make_optimiser

# The fields of a state that the header of its checkpoint holds, beside its tensors.
IN_HEADER = ("step", "position", "window", "minutes", "validated", "precision", "legs", "best")


@dataclass
class State:
    """Everything that the next step depends on."""

    model: ImageModel
    ema: AveragedModel
    optimiser: torch.optim.Optimizer
    noise: torch.Generator  # of the order, crops and flips, and of the model: dequantisation
    order: Tensor  # this epoch's order of the training images
    precision: Precision
    seed: int  # of dropout, with the step
    parallel: nn.Module | None = None  # the loss, where several processes share it
    step: int = 0
    position: int = 0  # of the next image in `order`
    minutes: float = 0.0  # spent in steps, over all resumptions
    validated: float = 0.0  # the minute of the last validation
    best: Best | None = None  # of `best_weights`, if early stopping kept some
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    legs: list[Leg] = field(default_factory=list)  # the machines that trained it
    # (loss in nats, gradient norm) of the steps since the last row of the log
    window: list[tuple[float, float]] = field(default_factory=list)

    @property
    def average(self) -> ImageModel:
        """The model with averaged weights, which are scored unless early stopping kept others."""
        return cast(ImageModel, self.ema.module)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def autocast(self) -> torch.autocast:
        """The precision of products in training: of the networks, and of Muon's."""
        half = self.precision == Precision.BF16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)

    def loss(self, batch: Examples, generator: torch.Generator) -> Tensor:
        """The loss on a batch, in nats an image, in the precision of the networks."""
        # Dropout draws from PyTorch's own generator: a resumed run must draw the same.
        torch.manual_seed(zlib.crc32(f"{self.seed} {self.step}".encode()))
        images, labels = images_and_labels(batch)
        with self.autocast():
            loss = (self.parallel or self.model.loss)(images, generator, labels=labels)
        if not isinstance(loss, Tensor) or loss.ndim:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise NVPError(
                f"{type(self.model).__name__}.loss must return a tensor without dimensions, got "
                f"{shape}: fix the model"
            )
        return loss


def begin(config: RunConfig, device: torch.device, num_images: int) -> State:
    """A fresh state: weights, noise and data order all follow from `training.seed`."""
    settings = config.training
    if is_path(config.model.family):  # before hours of training
        check_repeats(config.model, device)
    torch.manual_seed(settings.seed)
    model = config.build_model().to(device).train()
    use_channels_last(model)
    optimiser = make_optimiser(model, settings)
    ema = AveragedModel(model, multi_avg_fn=exponential_average(settings.ema_decay))
    noise = torch.Generator().manual_seed(settings.seed)
    precision = settings.precision
    if precision == Precision.AUTO:
        halves = agree(faster_precision(device) == Precision.BF16)
        precision = Precision.BF16 if halves > 0.5 else Precision.FP32
    order = torch.randperm(num_images, generator=noise)
    parallel = data_parallel(model)
    return State(model, ema, optimiser, noise, order, precision, settings.seed, parallel)


def faster_precision(device: torch.device) -> Precision:
    """The faster of float32 and bfloat16, by timing a 3x3 convolution of 32 maps both ways.

    Each time is the shortest of five passes, forward and backward.
    """

    def seconds(dtype: torch.dtype) -> float:
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        x = torch.ones(32, 32, 28, 28, **options).to(memory_format=torch.channels_last)
        weight = torch.ones(32, 32, 3, 3, requires_grad=True, **options)
        x.requires_grad_()
        times = []
        for _ in range(5):
            started = time.perf_counter()
            nn.functional.conv2d(x, weight, padding=1).sum().backward()
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            times.append(time.perf_counter() - started)
        return min(times)

    faster = seconds(torch.bfloat16) < seconds(torch.float32)
    return Precision.BF16 if faster else Precision.FP32


def save(state: State, folder: RunFolder, config: RunConfig, data: TrainingData) -> None:
    """Write the whole state as the checkpoint of `folder`, atomically."""
    tensors = {
        **prefixed("model", state.model.state_dict()),
        **prefixed("ema", state.ema.state_dict()),
        **prefixed("optimiser", optimiser_tensors(state.optimiser, _names(state.model))),
        **prefixed("best", state.best_weights),
        "noise": state.noise.get_state(),
        "order": state.order,
    }
    header = Header(
        config=config.model_dump(mode="json"),
        data_checksum=data.checksum,
        labels_checksum=data.labels_checksum,
        **{name: getattr(state, name) for name in IN_HEADER},
    )
    save_tensors(folder.checkpoint, tensors, header.model_dump())


def restore(state: State, checkpoint: Checkpoint) -> None:
    """Go back to a saved state."""
    tensors, header = checkpoint.tensors, checkpoint.header
    load_weights(state.model, part("model", tensors), checkpoint.path)
    load_weights(state.ema, part("ema", tensors), checkpoint.path)
    order = torch.arange(len(state.order))
    state.order = tensors["order"].long()
    try:
        if not torch.equal(state.order.sort()[0], order):
            raise KeyError("order")
        load_optimiser(state.optimiser, _names(state.model), part("optimiser", tensors))
        state.noise.set_state(tensors["noise"].byte())
    except (KeyError, RuntimeError) as error:
        if "allocate" in str(error):  # out of memory: nothing is damaged
            raise
        raise NVPError(
            f"{checkpoint.path} is damaged (optimiser, order or noise), or the data set has gained "
            "or lost its validation split since: undo that, or train anew in another --run-folder"
        ) from error
    for name in IN_HEADER:
        setattr(state, name, getattr(header, name))
    state.best_weights = part("best", tensors)


def _names(model: ImageModel) -> dict[Tensor, str]:
    return {parameter: name for name, parameter in model.named_parameters()}
