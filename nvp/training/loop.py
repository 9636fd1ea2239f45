"""One training loop for every model."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from nvp.config import DataConfig, RunConfig, TrainingConfig, save_config
from nvp.data.on_disk import StoredImages
from nvp.data.splits import TrainingData, load_split, scored, shuffled, spread, training_data
from nvp.devices import pick_device
from nvp.errors import NVPError
from nvp.files import LOCK
from nvp.likelihood import evaluate, nats_per_bit, reestimate_statistics, score_images
from nvp.model.labels import Examples, Labelled, images_and_labels
from nvp.model.native import seconds_compiling
from nvp.model.protocol import batch_norms, batch_statistics
from nvp.progress import shown
from nvp.runs.checkpoint import Best, read_checkpoint
from nvp.runs.folder import RunFolder
from nvp.runs.load import next_options
from nvp.runs.log import RunLog, read_log
from nvp.training.distributed import agree, check_batch_size, is_first, number_of_processes, shared
from nvp.training.divergence import Divergence, advice, check_sound, explain
from nvp.training.interrupt import stop_requests
from nvp.training.optimiser import rate_at
from nvp.training.reporter import Reporter
from nvp.training.state import State, begin, restore, save


def prepare(
    config: RunConfig,
    folder: str | Path,
    *,
    data_root: str | Path | None = None,
    device: str = "auto",
) -> "Job":
    """Make a run ready to train in `folder`, from its checkpoint if it has one; write nothing.

    Raises `NVPError` for everything that can be refused: a configuration that is not the
    checkpoint's, images that are missing or others, a device that is not here.
    """
    files, settings, where = RunFolder(Path(folder)), config.training, pick_device(device)
    files.check_free()
    read_log(files.log)  # a damaged one is refused
    checkpoint = read_checkpoint(files.checkpoint, config) if files.checkpoint.exists() else None
    scored(config, load_split(config, "test", data_root))  # refused now, not after training
    data = training_data(config, data_root)
    if len(data.images) < settings.batch_size:
        raise NVPError(
            f"training.batch_size {settings.batch_size} exceeds the {len(data.images)} training "
            f"images of {config.data.name}: lower it"
        )
    check_batch_size(settings.batch_size)
    state = begin(config, where, len(data.images))
    if settings.early_stopping and state.model.likelihood == "none":
        raise NVPError(
            f"training.early_stopping must be off: {config.name} has no likelihood to stop by"
        )
    job = Job(config, files, data, state, next_options(config, data_root))
    if checkpoint is not None:
        checkpoint.check_data(data)
        restore(state, checkpoint)
        job.before = checkpoint.config
    return job


@dataclass
class Job:
    """A run that is ready to train."""

    config: RunConfig
    folder: RunFolder
    data: TrainingData
    state: State
    options: str  # that the next command needs
    before: RunConfig | None = None  # of the checkpoint, if the run has one
    reopened_at: int | None = None  # the step of the recorded weights that it begins with

    @property
    def is_spent(self) -> bool:
        """Whether a run that goes on has no budget left, so that nothing is trained or changed."""
        spent = self.config.training.spent(self.state.step, self.state.minutes)
        return self.before is not None and spent >= 1

    @property
    def is_extension(self) -> bool:
        """Whether the budget was spent before, and now is larger: an annealed rate rises again."""
        state, before = self.state, self.before
        was_spent = before is not None and before.training.spent(state.step, state.minutes) >= 1
        return was_spent and not self.is_spent

    def run(self) -> dict[str, float]:
        """Train until the budget is spent; returns the last row of the log, if it has any.

        Writes `config.yaml`, `log.csv` and the checkpoint; of several processes the first writes.
        Raises `NVPError` when a loss or a gradient is not finite. Saves, then raises `NVPError`,
        when a validation is not finite or a signal asks for a stop. A single process also saves
        before it raises any other error in a validation.
        """
        try:
            return self._train()
        except Divergence as error:
            told = advice(self.folder, self.state.step, self.options)
            raise NVPError(f"{error}; {told}") from error

    def _train(self) -> dict[str, float]:
        config, state, settings = self.config, self.state, self.config.training
        log = RunLog(self.folder, state.step) if is_first() else None
        if is_first() and not self.is_spent:
            (self.folder.path / LOCK).touch()  # tells `check_free` that training was here
            save_config(self.folder.config, config)
        if state.step == 0:  # and not once more, where a page calls `run` again
            self._initialise()
        validation = spread(self.data.validation, config.evaluation.validation_images)
        saved, extended = state.minutes, self.is_extension
        with shown(config.name) as show, stop_requests() as stop:
            reporter = Reporter(config, show)
            # One step at least, if `initialise` took all of the budget.
            while (done := settings.spent(state.step, state.minutes)) < 1 or state.step == 0:
                started = _clock()
                batch = next_batch(state, self.data.images, config)
                state.window.append(training_step(state, batch, settings, done))
                state.minutes += agree(_clock() - started) / 60
                finished = settings.spent(state.step, state.minutes) >= 1
                since = state.minutes - state.validated
                validating = finished or since >= settings.validate_minutes
                row = self._validate(validation, batch) if validating else {}
                # The first row of an extension shows that the rate rose.
                if row or finished or extended or state.step % settings.log_every == 0:
                    extended = False
                    row = {**means(state, settings), **row}
                    if log is not None:
                        log.write(row)
                    state.window.clear()
                reporter.update(state.step, state.minutes, row)
                stopping = agree(stop.is_set()) > 0
                due = state.minutes - saved >= settings.checkpoint_minutes
                if finished or due or stopping:
                    saved = state.minutes
                    self._save(batch)
                if stopping and not finished:
                    raise NVPError(
                        f"stopped after step {state.step}, which is saved: go on with "
                        f"`nvp train --resume {self.folder.quoted}{self.options}`"
                    )
        return {} if log is None else log.last

    def _initialise(self) -> None:
        """Set weights from the training images, as part of the budget."""
        state, started = self.state, _clock()
        images = self.data.images
        if not state.model.fitted_in_closed_form:  # a fit takes all images
            images = shuffled(images, self.config.evaluation.statistics_images)
        state.model.initialise(images_and_labels(images)[0].to("cpu"))  # they may be on disk
        state.minutes = agree(_clock() - started) / 60

    def _save(self, batch: Examples) -> None:
        """Write the checkpoint, if the loss on `batch`, that of the last step, is finite."""
        check_sound(self.state, batch)  # a step may ruin weights and look well
        if is_first():
            save(self.state, self.folder, self.config, self.data)

    def _validate(self, validation: Examples, batch: Examples) -> dict[str, float]:
        """The columns of a validation; early stopping keeps the best weights.

        The steps so far are saved before an error of the validation is raised.
        """
        state = self.state
        state.validated = state.minutes
        if state.model.likelihood == "none":
            return {}
        try:
            row = validate(state, self.data.images, validation, self.config)
        except NVPError as error:
            self._save(batch)
            where = f"in validation after step {state.step}, which is saved"
            raise NVPError(f"{where}: {error}") from error
        except Exception:  # such as too little memory
            if number_of_processes() == 1:  # else the others wait within the validation
                self._save(batch)
            raise
        score, best = row["validation"], state.best
        if self.config.training.early_stopping and (best is None or score < best.validation):
            state.best = Best(step=state.step, validation=score)
            weights = state.average.state_dict().items()
            state.best_weights = {name: each.to("cpu", copy=True) for name, each in weights}
        return row


def _clock() -> float:
    """Seconds, without those of compiling operators, which the training budget does not count."""
    return time.perf_counter() - seconds_compiling()


def training_step(
    state: State, batch: Examples, settings: TrainingConfig, done: float
) -> tuple[float, float]:
    """One step on one batch; returns the loss in nats per image and the gradient's unclipped norm.

    `done` is the share of the budget that is used up. Raises `Divergence`, and leaves weights as
    they are, when one of the two is not finite.
    """
    noise = state.noise.clone_state()  # for the loss once more, if it diverged
    for group in state.optimiser.param_groups:
        group["lr"] = group["factor"] * rate_at(state.step, done, settings)
    state.optimiser.zero_grad()
    loss = state.loss(batch, state.noise)
    if not loss.requires_grad:
        raise NVPError(f"{type(state.model).__name__}.loss has no gradient: fix the model")
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), settings.clip_norm)
    value, length = agree(loss.item()), norm.item()
    if not (math.isfinite(value) and math.isfinite(length)):
        raise Divergence(explain(state, batch, value, noise))
    with state.autocast():
        state.optimiser.step()
    state.ema.update_parameters(state.model)
    state.step += 1
    return value, length


def means(state: State, settings: TrainingConfig) -> dict[str, float]:
    """A row of the log: means since the last one; the loss includes its regulariser."""
    window, group = state.window, state.optimiser.param_groups[0]
    loss = sum(loss for loss, _ in window) / len(window)
    row = {
        "step": state.step,
        "images": state.step * settings.batch_size,
        "minutes": round(state.minutes, 3),
        "rate": group["lr"] / group["factor"],
        "loss": loss,
        "gradient_norm": sum(norm for _, norm in window) / len(window),
    }
    if state.model.likelihood != "none":
        row["bits_per_dim"] = loss / nats_per_bit(state.model.image_shape)
    return row


def next_batch(state: State, images: Examples, config: RunConfig) -> Examples:
    """The next `batch_size` images of a fresh random order per epoch, augmented where asked.

    Images at the end of an epoch that are too few for a batch are left out.
    """
    size = config.training.batch_size
    if state.position + size > len(images):
        state.order = torch.randperm(len(images), generator=state.noise)
        state.position = 0
    which = state.order[state.position : state.position + size]
    state.position += size
    return training_batch(images, which, config.data, state.noise).to(state.device)


def training_batch(
    images: Examples, which: Tensor, config: DataConfig, noise: torch.Generator
) -> Examples:
    """The images numbered `which`, (n,), cropped and flipped where `config` says so.

    Crops are drawn before flips, and all of them from `noise`: a run that goes on draws the same.
    """
    pixels, labels = images_and_labels(images)
    if config.crop is None:
        batch = pixels[which]
    else:
        batch = cast(StoredImages, pixels).at_random(which, noise)
    if config.flips:
        flipped = torch.rand(len(which), generator=noise) < 0.5
        batch = torch.where(flipped[:, None, None, None], batch.flip(-1), batch)
    return batch if labels is None else Labelled(batch, labels[which])


def validate(
    state: State, images: Examples, validation: Examples, config: RunConfig
) -> dict[str, float]:
    """Bits/dim of the averaged model on the images for validation, as columns of the log.

    Batch norms use re-estimated statistics; in a second column, those of one validation batch.
    """
    settings = config.evaluation
    model = shared(state.average)
    few = shuffled(images, 2 * len(validation))
    reestimate_statistics(model, few, batch_size=settings.batch_size)
    score = evaluate(model, validation, batch_size=settings.batch_size)
    if not batch_norms(model):
        return {"validation": score.bits_per_dim}
    model.eval()  # without dropout, as a recorded run is scored
    with batch_statistics(model):
        batch = shuffled(validation, settings.batch_size)
        on_batch = score_images(model, batch, batch_size=settings.batch_size).mean()
    model.train()
    return {"validation": score.bits_per_dim, "validation_batch_statistics": on_batch.item()}
