"""One training loop for every model."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nvp.config import Precision, RunConfig, TrainingConfig
from nvp.data.augmentation import training_batch
from nvp.data.splits import check_test_split, examples, hold_out, load_split, shuffled, spread
from nvp.errors import NVPError
from nvp.likelihood import bits_per_dim, evaluate, reestimate_statistics
from nvp.model.labels import Examples, arguments
from nvp.model.protocol import ImageModel, batch_norms, batch_statistics, use_channels_last
from nvp.runs.log import RunLog
from nvp.runs.tensors import (
    load_optimiser,
    load_tensors,
    load_weights,
    optimiser_tensors,
    part,
    prefixed,
    save_tensors,
    write_text,
)
from nvp.training.interrupt import stop_requests
from nvp.training.optimiser import exponential_average, make_optimiser, rate_at
from nvp.training.progress import Reporter

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"


@dataclass
class State:
    """Everything that the next step depends on."""

    model: ImageModel
    ema: AveragedModel
    optimiser: torch.optim.Optimizer
    noise: torch.Generator  # flips, and the model's own: dequantisation
    order: Tensor  # this epoch's order of the training images
    precision: Precision
    step: int = 0
    position: int = 0  # of the next image in `order`
    minutes: float = 0.0  # spent in steps, over all resumptions
    validated: float = 0.0  # the minute of the last validation
    # (loss in nats, gradient norm) of the steps since the last row of the log
    window: list[tuple[float, float]] = field(default_factory=list)
    names: dict[Tensor, str] = field(default_factory=dict)

    @property
    def average(self) -> ImageModel:
        """The model with averaged weights: what is scored and recorded."""
        return cast(ImageModel, self.ema.module)


def train(
    config: RunConfig,
    folder: Path,
    *,
    data_root: Path | None = None,
    device: str = "auto",
    on_start: Callable[[Precision], None] = lambda _: None,
) -> ImageModel:
    """Train until the budget is spent, going on from `folder`'s checkpoint if it has one.

    `on_start` is called, with the precision of the networks, once nothing refuses the run and
    before anything is written.

    Writes `config.yaml`, `log.csv`, the checkpoint and, with `training.early_stopping`, the best
    weights so far. Returns the averaged model in evaluation mode, its batch-norm statistics
    re-estimated: that of the last step or, with early stopping, the best. Raises `NVPError` when
    a loss is not finite, and after saving when Ctrl-C or SIGTERM asks for a stop.
    """
    settings = config.training
    check_test_split(config, data_root)
    data = load_split(config, "train", data_root)
    images, validation = hold_out(examples(config, data), config, data_root)
    validation = spread(validation, config.evaluation.validation_images)
    if len(images) < settings.batch_size:
        raise NVPError(
            f"training.batch_size {settings.batch_size} exceeds the {len(images)} training images "
            f"of {config.data.name}: lower it"
        )
    state = begin(config, pick_device(device), len(images))
    if settings.early_stopping and not state.model.has_likelihood:
        raise NVPError(
            f"training.early_stopping must be off: {config.name} has no likelihood to stop by"
        )
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        restore(state, checkpoint, data.checksum)
    on_start(state.precision)
    plain = config.model_dump(mode="json")
    write_text(folder / "config.yaml", yaml.safe_dump(plain, sort_keys=False))
    if not checkpoint.exists():
        (folder / BEST).unlink(missing_ok=True)  # of a run that was lost before its checkpoint
        started = time.perf_counter()
        state.model.initialise(arguments(images)[0])
        state.minutes = (time.perf_counter() - started) / 60
    log = RunLog(folder, state.step)
    reporter = Reporter(config.name, settings.steps, settings.minutes, state.model.image_shape)
    saved = state.minutes
    with closing(reporter), stop_requests() as stop:
        while (done := spent(state, settings)) < 1:
            started = time.perf_counter()
            batch = next_batch(state, images, config)
            try:
                state.window.append(training_step(state, batch, settings, done))
            except NVPError as error:
                raise NVPError(f"{error}; {advice(folder)}") from error
            state.minutes += (time.perf_counter() - started) / 60
            finished = spent(state, settings) >= 1
            row: dict[str, float] = {}
            if finished or state.minutes - state.validated >= settings.validate_minutes:
                state.validated = state.minutes
                if state.model.has_likelihood:
                    row = validate(state, images, validation, config)
                if settings.early_stopping:
                    keep_if_best(state, folder / BEST, row["validation"])
            if row or finished or state.step % settings.log_every == 0:
                row = {**means(state, settings), **row}
                log.write(row)
                reporter.update(state.step, state.minutes, row)
                state.window.clear()
            due = state.minutes - saved >= settings.checkpoint_minutes
            if finished or due or stop.is_set():
                saved = state.minutes
                save(state, checkpoint, config, data.checksum)
            if stop.is_set() and not finished:
                raise NVPError(
                    f"stopped after step {state.step}, which is saved: go on with "
                    f"`nvp train --resume {folder}`"
                )
    return finished_model(state, images, config, folder)


def training_step(
    state: State, batch: Examples, settings: TrainingConfig, done: float
) -> tuple[float, float]:
    """One step on one batch; returns the loss in nats per image and the norm of the gradient.

    Raises `NVPError`, and leaves weights as they are, when one of the two is not finite.
    """
    noise = state.noise.get_state()
    for group in state.optimiser.param_groups:
        group["lr"] = group["factor"] * rate_at(state.step, done, settings)
    state.optimiser.zero_grad()
    seed_dropout(settings.seed, state.step)
    images, given = arguments(batch)
    with torch.autocast(images.device.type, torch.bfloat16, state.precision is Precision.BF16):
        loss = state.model.loss(images, state.noise, **given)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), settings.clip_norm)
    if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
        raise NVPError(explain_divergence(state, batch, settings, loss.item(), noise))
    state.optimiser.step()
    state.ema.update_parameters(state.model)
    state.step += 1
    return loss.item(), norm.item()


def seed_dropout(seed: int, step: int) -> None:
    """Seed PyTorch's own generator, from which dropout draws: a resumed run must draw the same."""
    torch.manual_seed(zlib.crc32(f"{seed} {step}".encode()))


def means(state: State, settings: TrainingConfig) -> dict[str, float]:
    """A row of the log: means since the last one; the loss includes its regulariser."""
    window = state.window
    loss = sum(loss for loss, _ in window) / len(window)
    row = {
        "step": state.step,
        "images": state.step * settings.batch_size,
        "minutes": round(state.minutes, 3),
        "rate": state.optimiser.param_groups[0]["lr"],
        "loss": loss,
        "gradient_norm": sum(norm for _, norm in window) / len(window),
    }
    if state.model.has_likelihood:
        row["bits_per_dim"] = loss / (state.model.num_dimensions * math.log(2))
    return row


def spent(state: State, settings: TrainingConfig) -> float:
    """The share of the budget that is used up; of two budgets, the one nearer its end."""
    shares = [state.step / settings.steps] if settings.steps else []
    shares += [state.minutes / settings.minutes] if settings.minutes else []
    return max(shares)


def next_batch(state: State, images: Examples, config: RunConfig) -> Examples:
    """The next `batch_size` images of a fresh random order per epoch, augmented where asked."""
    size = config.training.batch_size
    if state.position + size > len(images):
        state.order = torch.randperm(len(images), generator=state.noise)
        state.position = 0
    which = state.order[state.position : state.position + size]
    state.position += size
    batch = training_batch(images, which, config.data, state.noise)
    return batch.to(next(state.model.parameters()).device)


def begin(config: RunConfig, device: torch.device, num_images: int) -> State:
    """A fresh state: weights, noise and data order all follow from `training.seed`."""
    settings = config.training
    torch.manual_seed(settings.seed)
    model = config.build_model().to(device).train()
    use_channels_last(model)
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    optimiser = make_optimiser(model, settings)
    ema = AveragedModel(model, multi_avg_fn=exponential_average(settings.ema_decay))
    noise = torch.Generator().manual_seed(settings.seed)
    precision = settings.precision
    if precision is Precision.AUTO:
        precision = faster_precision(device)
    order = torch.randperm(num_images, generator=noise)
    return State(model, ema, optimiser, noise, order, precision, names=names)


def faster_precision(device: torch.device) -> Precision:
    """Time a 3x3 convolution of 32 maps, forward and backward, in float32 and in bfloat16."""

    def seconds(dtype: torch.dtype) -> float:
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        x = torch.ones(32, 32, 28, 28, **options).to(memory_format=torch.channels_last)
        weight = torch.ones(32, 32, 3, 3, requires_grad=True, **options)
        x.requires_grad_()
        times = []
        for _ in range(5):
            started = time.perf_counter()
            nn.functional.conv2d(x, weight, padding=1).sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        return min(times)

    faster = seconds(torch.bfloat16) < seconds(torch.float32)
    return Precision.BF16 if faster else Precision.FP32


def validate(
    state: State, images: Examples, validation: Examples, config: RunConfig
) -> dict[str, float]:
    """Bits/dim of the averaged model on the images for validation.

    With both kinds of statistics, where the model has batch norms.
    """
    settings = config.evaluation
    model = state.average
    few = shuffled(images, 2 * len(validation))
    reestimate_statistics(model, few, batch_size=settings.batch_size)
    score = evaluate(model, validation, batch_size=settings.batch_size)
    if not batch_norms(model):
        return {"validation": score.bits_per_dim}
    with batch_statistics(model), torch.no_grad():
        device = next(model.parameters()).device
        batch, given = arguments(shuffled(validation, settings.batch_size).to(device))
        log_prob = model.log_prob(batch, generator=torch.Generator().manual_seed(0), **given)
    on_batch = bits_per_dim(log_prob, model.image_shape).mean()
    return {"validation": score.bits_per_dim, "validation_batch_statistics": on_batch.item()}


def keep_if_best(state: State, path: Path, validation: float) -> None:
    """Write the averaged weights to `path` unless those there have a figure as low, in bits/dim."""
    if path.is_file() and load_tensors(path)[1]["validation"] <= validation:
        return
    header = {"step": state.step, "minutes": state.minutes, "validation": validation}
    save_tensors(path, state.average.state_dict(), header)


def finished_model(state: State, images: Examples, config: RunConfig, folder: Path) -> ImageModel:
    """The model to score, its statistics re-estimated on training images, in evaluation mode."""
    model = state.average
    settings = config.evaluation
    if config.training.early_stopping:
        load_weights(model, load_tensors(folder / BEST)[0], folder / BEST)
    few = shuffled(images, settings.statistics_images)
    reestimate_statistics(model, few, batch_size=settings.batch_size)
    return model.eval()


def explain_divergence(
    state: State, batch: Examples, settings: TrainingConfig, loss: float, noise: Tensor
) -> str:
    """One line that names the first module whose output was not finite, at this state of noise."""
    found: list[str] = []

    def hook(name: str) -> Any:
        def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            tensors = [each for each in outputs if isinstance(each, Tensor)]
            if not found and not all(torch.isfinite(t).all() for t in tensors):
                found.append(name)

        return look

    # Parts are done before the whole, so the first one found is the smallest at fault.
    handles = [
        module.register_forward_hook(hook(name))
        for name, module in state.model.named_modules()
        if name
    ]
    images, given = arguments(batch)
    generator = torch.Generator()
    generator.set_state(noise)
    seed_dropout(settings.seed, state.step)
    autocast = torch.autocast(images.device.type, torch.bfloat16, state.precision is Precision.BF16)
    with torch.no_grad(), batch_statistics(state.model), autocast:
        state.model.loss(images, generator=generator, **given)
    for handle in handles:
        handle.remove()
    where = " in the gradients alone" if math.isfinite(loss) else " after the last layer"
    if found:
        where = f", first in layer {found[0]}"
    return f"the loss is {loss} at step {state.step}, not finite{where}"


def advice(folder: Path) -> str:
    """What to do about a run in `folder` that diverged."""
    if not (folder / CHECKPOINT).is_file():
        return "there is no checkpoint yet: lower training.learning_rate, or training.clip_norm"
    return (
        "the last good checkpoint is kept: go on from it with a lower rate, `nvp train --resume "
        f"{folder} --set training.learning_rate=...`, or a lower training.clip_norm"
    )


def pick_device(device: str) -> torch.device:
    """ "auto" is the GPU where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def save(state: State, path: Path, config: RunConfig, checksum: str) -> None:
    """Write the whole state, atomically."""
    tensors = {
        **prefixed("model", state.model.state_dict()),
        **prefixed("ema", state.ema.state_dict()),
        **prefixed("optimiser", optimiser_tensors(state.optimiser, state.names)),
        "noise": state.noise.get_state(),
        "order": state.order,
    }
    header = {
        "config": config.model_dump(mode="json"),
        "data_checksum": checksum,
        "step": state.step,
        "position": state.position,
        "window": state.window,
        "minutes": state.minutes,
        "validated": state.validated,
        "precision": state.precision.value,
    }
    save_tensors(path, tensors, header)


def restore(state: State, path: Path, checksum: str) -> None:
    """Go back to a saved state; the data must be those it was trained on."""
    tensors, header = load_tensors(path)
    if not part("ema", tensors):
        raise NVPError(f"{path} holds weights but no training state: it cannot be resumed")
    if header["data_checksum"] != checksum:
        raise NVPError(f"{path} was trained on other images than these: use the same data set")
    load_weights(state.model, part("model", tensors), path)
    load_weights(state.ema, part("ema", tensors), path)
    # Empty for a recorded run that goes on: its moments begin anew.
    load_optimiser(state.optimiser, state.names, part("optimiser", tensors))
    state.noise.set_state(tensors["noise"])
    state.order = tensors["order"]
    state.step, state.position = header["step"], header["position"]
    state.minutes, state.validated = header["minutes"], header["validated"]
    state.precision = Precision(header["precision"])
    state.window = [(loss, norm) for loss, norm in header["window"]]
