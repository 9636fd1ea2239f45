"""Going on with a run: from its checkpoint or, if it is recorded, from the weights it keeps."""

import math
from functools import partial
from pathlib import Path

import torch

from nvp.errors import NVPError
from nvp.files import write
from nvp.ledger.entry import Run, read_run
from nvp.runs.checkpoint import Best, check_unchanged
from nvp.runs.folder import RunFolder, default_folder, find_run
from nvp.runs.load import read_config
from nvp.runs.log import log_until
from nvp.runs.tensors import load_weights
from nvp.training import start
from nvp.training.distributed import is_first, together
from nvp.training.loop import Job


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

    It goes on by its own configuration with `changes`; returns how it ended. Raises `NVPError` for
    a recorded run whose budget is spent, and as `nvp.runs.load.read_config` does without `trust`.
    """
    files = RunFolder(find_run(run))
    config = read_config(files, changes, trust=trust)
    if not files.is_recorded:
        if folder is not None:
            raise NVPError("--resume writes to the folder that it reads: leave --run-folder out")
        if not files.checkpoint.is_file():
            raise NVPError(
                f"there is no {files.checkpoint}: nothing to go on with, give the command that "
                "began the run"
            )
        return start.train(config, files.path, data_root, device)
    entry = read_run(files.path)
    record = entry.record
    check_unchanged(files.path, entry.config, config)
    if config.training.spent(record.steps, record.minutes) == 1:
        more = f"minutes={math.ceil(2 * record.minutes)}"
        if (config.training.steps or math.inf) <= record.steps:
            more = f"steps={2 * record.steps}"
        raise NVPError(
            f"{files.path} has used up its budget, {record.steps:,} "
            f"step{'s' * (record.steps > 1)} in {record.minutes:.0f} minutes: raise it, as in "
            f"--set training.{more}"
        )
    target = folder or default_folder(entry.name)
    return start.train(config, target, data_root, device, partial(reopen, entry=entry))


def reopen(job: Job, entry: Run) -> None:
    """Let `job` begin where the ledger's `entry` ends.

    Weights and their average both begin as the recorded average, at the recorded step and minute.
    With early stopping they remain the best weights until a validation score beats theirs. The
    moments of the optimiser, the order of the images and the noise begin anew, so the run differs
    from one that never stopped. Its last leg names the step. Raises `NVPError` where its folder
    holds a run already, and for other training images than the recorded ones.
    """
    files, state, record = job.folder, job.state, entry.record
    if job.before is not None:
        raise NVPError(
            f"{files.path} holds a run already: go on with it by --resume {files.quoted}, or name "
            "another --run-folder"
        )
    job.data.check(record.data.train_sha256, record.data.train_labels_sha256, entry.folder)
    weights = entry.load_model().state_dict()
    for model in (state.model, state.average):
        load_weights(model, weights, entry.folder)
    # The average takes in new weights as slowly as before, so it is not forgotten at once.
    state.ema.n_averaged.fill_(record.steps)
    state.step, state.minutes, state.validated = record.steps, record.minutes, record.minutes
    # With the seed alone, the images and the noise of the first steps would come once more.
    state.noise.manual_seed(entry.config.training.seed + record.steps)
    state.order = torch.randperm(len(state.order), generator=state.noise)
    if (chosen := record.chosen_step) is not None:
        scores = {row["step"]: row["validation"] for row in entry.log() if "validation" in row}
        whole = entry.scores.validation.bits_per_dim  # stands in for a row that the log has lost
        state.best = Best(step=chosen, validation=scores.get(chosen, whole))
        state.best_weights = weights
    job.before, log = entry.config, log_until(entry.files.log, record.steps)
    together()  # before anything is written: another process may have refused
    state.legs, job.reopened_at = list(record.legs), record.steps
    if is_first():
        write(files.log, log)
