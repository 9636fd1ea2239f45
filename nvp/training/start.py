"""Starting a run and going on with it, here or on another machine: `nvp train`."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from nvp.config import RunConfig, load_config
from nvp.files import locked
from nvp.likelihood import nats_per_bit
from nvp.runs.folder import RunFolder, default_folder
from nvp.runs.provenance import current_leg, note_leg
from nvp.training.distributed import is_first, number_of_processes
from nvp.training.loop import Job, prepare


def start(
    config_path: str | Path,
    changes: list[str] | None = None,
    folder: str | Path | None = None,
    *,
    data_root: str | Path | None = None,
    device: str = "auto",
) -> str:
    """Train a configuration in `folder`, build/runs/NAME by default; returns how it ended.

    Where that folder holds a checkpoint of the same configuration, its run goes on. Raises
    `NVPError` if it holds one of another (`nvp.runs.checkpoint` says what may differ).
    """
    config = load_config(config_path, changes)
    return train(config, folder or default_folder(config.name), data_root, device)


def train(
    config: RunConfig,
    folder: str | Path,
    data_root: str | Path | None = None,
    device: str = "auto",
    before_first_step: Callable[[Job], None] | None = None,
) -> str:
    """Train in `folder`, from its checkpoint if it has one; returns how it ended.

    PyTorch's global generator is seeded anew in each step. Raises `NVPError` as `prepare` and
    `Job.run` do.
    """
    folder = Path(folder)
    RunFolder(folder).check_free()  # before a lock is written there
    with subnormals_as_zero(), locked(folder) if is_first() else nullcontext():
        job = prepare(config, folder, data_root=data_root, device=device)
        if before_first_step is not None:
            before_first_step(job)
        if is_first() and not job.is_spent:
            state = job.state
            leg = current_leg(state.device, state.precision.value, number_of_processes())
            leg = leg.model_copy(update={"reopened_at": job.reopened_at})
            note_leg(state.legs, leg, state.step, job.before or config, config)
            if state.step:
                print(_going_on(job), file=sys.stderr)
        spent = job.is_spent
        ended = _report(job, job.run())
    if spent:
        return (
            "nothing was trained, because the budget of this run is spent: raise training.steps or "
            "training.minutes, or train the configuration in another --run-folder; it ended so: "
            f"{ended}"
        )
    return ended


@contextmanager
def subnormals_as_zero() -> Iterator[None]:
    """Within this block, numbers smaller than 1.2e-38 are 0: in this thread and those it starts.

    The momentum of a unit that no gradient reaches any more falls until it is so small. Rounding
    then keeps it from 0. Intel's processors are slow at such numbers. On a Xeon they took nearly
    half of a training step of the PixelCNN on binarised MNIST, by Muon in float32. Threads that
    were there before keep their setting.
    """
    before = (torch.tensor(2e-38) / 2).item() == 0  # PyTorch has no other way to ask
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _going_on(job: Job) -> str:
    """From where a run goes on, and whether its budget was spent."""
    told = f"{job.config.name}: goes on after step {job.state.step:,} of {job.folder.path}"
    if job.is_extension:
        told += (
            ", whose budget was spent: an annealed rate rises again; to begin anew, train the "
            "configuration in another --run-folder"
        )
    return told


def _report(job: Job, last: dict[str, float]) -> str:
    """How a run ended, by the last row of its log, and what to do next."""
    name, folder = job.config.name, job.folder.quoted
    record = f"nvp record {folder}{job.options}"
    validated = "bits_per_dim" not in last or "validation" in last
    if last.get("step") != job.state.step or not validated:
        return (
            f"{name}: its budget is spent, but {job.folder.log} lacks the row of its last "
            f"validation; next: {record}"
        )
    steps = f"{last['step']:.0f} step{'s' * (last['step'] > 1)}"
    then = f"next: nvp sample {folder} --out samples.png{job.options}, or {record}"
    done = f"{name}: {steps} in {last['minutes']:.1f} minutes, "
    if "validation" not in last:
        return f"{done}loss {last['loss']:.4f}, no likelihood; {then}"
    validation, step = last["validation"], last["step"]
    if (best := job.state.best) is not None:
        validation, step = best.validation, best.step
    nats = nats_per_bit(job.config.model.image_shape) * validation
    return (
        f"{done}{last['bits_per_dim']:.4f} bits/dim in training; {validation:.4f} on images for "
        f"validation ({nats:.2f} nats) after step {step:.0f}; {then}"
    )
