"""Going on with a recorded run, of which the ledger keeps no training state but the weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from nvp.data.splits import examples, hold_out, load_split
from nvp.errors import NVPError
from nvp.ledger.entry import read_run
from nvp.runs.provenance import current_leg, write_legs
from nvp.runs.tensors import load_weights, save_tensors
from nvp.training.loop import BEST, CHECKPOINT, begin, save


def reopen(entry: Path, folder: Path, *, data_root: Path | None = None) -> None:
    """Make a run folder of the ledger's `entry`, which `nvp.training.start.resume` goes on with.

    Weights and their average both begin as the recorded average, at the recorded step and minute;
    with early stopping they stay the best until validation likes others better.
    The moments of the optimiser, the order of the images and the noise begin anew, so this is not
    the run that never stopped; the last of its legs says from which step. Raises `NVPError` where
    `folder` holds a run already, and for other training images than the recorded ones.
    """
    if (folder / CHECKPOINT).exists():
        raise NVPError(f"{folder} holds a run already: resume that one, or name a --run-folder")
    run = read_run(entry)
    config, record = run.config, run.record
    data = load_split(config, "train", data_root)
    if data.checksum != record.data.train_sha256:
        raise NVPError(
            f"{entry} was trained on other images of {data.name} than these: use the same data set"
        )
    images, _ = hold_out(examples(config, data), config, data_root)
    device = torch.device("cpu")
    state = begin(config, device, len(images))
    weights = run.load_model().state_dict()
    for model in (state.model, state.average):
        load_weights(model, weights, entry)
    # Not at once forgotten: the average takes in the new weights as slowly as before the end.
    state.ema.n_averaged.fill_(record.steps)
    state.step, state.minutes, state.validated = record.steps, record.minutes, record.minutes
    # With the seed alone, the images and the noise of the first steps would come once more.
    state.noise.manual_seed(config.training.seed + record.steps)
    state.order = torch.randperm(len(images), generator=state.noise)
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("config.yaml", "log.csv"):
        shutil.copyfile(entry / file, folder / file)
    leg = current_leg(device, state.precision.value, reopened_at=record.steps)
    write_legs(folder, [*record.legs, leg])
    if config.training.early_stopping:
        row = next(row for row in run.log() if row["step"] == (record.chosen_step or record.steps))
        header = {key: row[key] for key in ("step", "minutes", "validation")}
        save_tensors(folder / BEST, weights, header)
    save(state, folder / CHECKPOINT, config, data.checksum)
