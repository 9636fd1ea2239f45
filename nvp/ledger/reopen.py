"""Resuming a recorded run from its weights, the only training state that the ledger keeps."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import torch

from nvp.data.splits import TrainingData, check_test_split, training_data
from nvp.devices import pick_device
from nvp.errors import NVPError
from nvp.files import locked
from nvp.ledger.entry import Run, read_run
from nvp.runs.checkpoint import Best, check_unchanged
from nvp.runs.folder import RunFolder, default_folder, find_run
from nvp.runs.load import read_config
from nvp.runs.provenance import current_leg, write_legs
from nvp.runs.tensors import load_weights, save_tensors
from nvp.training import start
from nvp.training.distributed import is_first, number_of_processes, together
from nvp.training.state import begin, save


def resume(
    run: Path,
    changes: list[str] | None = None,
    folder: Path | None = None,
    *,
    data_root: Path | None = None,
    device: str = "auto",
    trust: bool = False,
) -> str:
    """Go on with a run folder, or with a recorded run in `folder`, build/runs/NAME by default.

    It goes on by its own configuration with `changes`; returns how it ended.
    `nvp.runs.load.read_config` says what `trust` allows.
    """
    files, data = RunFolder(find_run(run)), None
    if files.is_recorded:
        entry = files.path
        changed = read_config(files, changes, trust=trust)
        check_unchanged(entry, read_config(files, trust=trust), changed)
        record = read_run(entry).record
        if changed.training.spent(record.steps, record.minutes) == 1:
            more = f"minutes={math.ceil(2 * record.minutes)}"
            if (changed.training.steps or math.inf) <= record.steps:
                more = f"steps={2 * record.steps}"
            raise NVPError(
                f"{entry} has used up its budget, {record.steps:,} steps in {record.minutes:.0f} "
                f"minutes: raise it, as in --set training.{more}"
            )
        files = RunFolder(folder or default_folder(entry.name))
        data = reopen(entry, files.path, data_root=data_root, device=device)
    elif folder is not None:
        raise NVPError("--resume writes to the folder that it reads: leave --run-folder out")
    if not files.checkpoint.is_file():
        raise NVPError(f"there is no {files.checkpoint}: nothing to go on with, train a config")
    config = read_config(files, changes, trust=trust)
    return start.train(config, files.path, data_root, device, data)


def reopen(
    entry: Path, folder: Path, *, data_root: Path | None = None, device: str = "auto"
) -> TrainingData:
    """Make a run folder of the ledger's `entry`, which `resume` goes on with; returns its images.

    Weights and their average both begin as the recorded average, at the recorded step and minute.
    With early stopping they remain the best weights until a validation score beats theirs. The
    moments of the optimiser, the order of the images and the noise begin anew, so the run differs
    from one that never stopped. Its last leg names the step. Raises `NVPError` where `folder` holds
    a run already, and for other training images than the recorded ones.
    """
    files = RunFolder(folder)
    _check_free(files)
    run = read_run(entry)
    config, record = run.config, run.record
    check_test_split(config, data_root)
    data = training_data(config, data_root)
    data.check(record.data.train_sha256, record.data.train_labels_sha256, entry)
    state = begin(config, pick_device(device), len(data.images))
    weights = run.load_model().state_dict()
    for model in (state.model, state.average):
        load_weights(model, weights, entry)
    # The average takes in new weights as slowly as before, so it is not forgotten at once.
    state.ema.n_averaged.fill_(record.steps)
    state.step, state.minutes, state.validated = record.steps, record.minutes, record.minutes
    # With the seed alone, the images and the noise of the first steps would come once more.
    state.noise.manual_seed(config.training.seed + record.steps)
    state.order = torch.randperm(len(data.images), generator=state.noise)
    if config.training.early_stopping:
        state.best = _best(run)
    together()  # all have seen that the folder is free
    if is_first():
        with locked(folder):
            _check_free(files)  # again: a run may have been written there since
            leg = current_leg(state.device, state.precision.value, number_of_processes())
            leg = leg.model_copy(update={"reopened_at": state.step})
            write_legs(files, [*record.legs, leg])
            shutil.copyfile(run.files.config, files.config)
            shutil.copyfile(run.files.log, files.log)
            if state.best is not None:
                save_tensors(files.best, state.average.state_dict(), state.best.model_dump())
            save(state, files, config, data)
    together()
    return data


def _check_free(files: RunFolder) -> None:
    if files.checkpoint.exists():
        raise NVPError(
            f"{files.path} holds a run already: go on with it by --resume {files.quoted}, or name "
            "another --run-folder"
        )
    files.check_free()


def _best(run: Run) -> Best:
    """The step that early stopping chose, and its validation score."""
    chosen = run.record.chosen_step or run.record.steps
    for row in run.log():
        if row["step"] == chosen and "validation" in row:
            return Best.model_validate({key: row[key] for key in Best.model_fields})
    # A run that was killed and went on has dropped the row. The score of all images for validation
    # stands in for that of a few.
    validation = run.scores.validation.bits_per_dim
    return Best(step=chosen, minutes=run.record.minutes, validation=validation)
