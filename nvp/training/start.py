"""Starting a run and going on with it, here or on another machine: `nvp train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nvp.config import Precision, RunConfig, load_config
from nvp.errors import NVPError
from nvp.likelihood import nats_per_bit
from nvp.paths import repository_root
from nvp.runs.log import read_log
from nvp.runs.provenance import note_leg
from nvp.runs.tensors import load_tensors
from nvp.training.loop import BEST, CHECKPOINT, pick_device, train

# What may change when a run goes on: how long it lasts, how often it says and saves something,
# and what a run that diverged is cured with, which its legs then note.
CURES = ("learning_rate", "clip_norm")
FREE = ("steps", "minutes", "log_every", "checkpoint_minutes", "validate_minutes", *CURES)


def start(
    config_path: Path,
    changes: list[str] | None = None,
    folder: Path | None = None,
    *,
    data_root: Path | None = None,
    device: str = "auto",
) -> str:
    """Train a configuration in `folder`, build/runs/NAME by default; returns what came of it.

    Where that folder holds a checkpoint of the same configuration, its run goes on. Raises
    `NVPError` if it holds one of another: only what `FREE` names may differ.
    """
    config = load_config(config_path, changes)
    folder = folder or default_folder(config.name)
    cures = {}
    if (folder / CHECKPOINT).is_file():
        cures = _check_same(load_config(folder / "config.yaml"), config, folder)
    return _go_on(config, folder, cures, data_root, device)


def resume(
    folder: Path,
    changes: list[str] | None = None,
    *,
    data_root: Path | None = None,
    device: str = "auto",
) -> str:
    """Go on with the run in `folder`, by its own configuration; returns what came of it."""
    if not (folder / CHECKPOINT).is_file():
        raise NVPError(f"there is no {folder / CHECKPOINT}: nothing to go on with, train a config")
    stored = folder / "config.yaml"
    config = load_config(stored, changes)
    cures = _check_same(load_config(stored), config, folder)
    return _go_on(config, folder, cures, data_root, device)


def default_folder(name: str) -> Path:
    """Where a run of this name is trained when nothing else is said."""
    return repository_root() / "build" / "runs" / name


def device_named(name: str) -> torch.device:
    """The device of that name. Raises `NVPError` for one that is not here."""
    try:
        device = pick_device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise NVPError(f"there is no device {name!r} here: use auto, cpu or cuda") from error
    return device


def _go_on(
    config: RunConfig,
    folder: Path,
    cures: dict[str, float],
    data_root: Path | None,
    device: str,
) -> str:
    here = device_named(device)

    def note(precision: Precision) -> None:
        note_leg(folder, here, precision.value, cures)

    train(config, folder, data_root=data_root, device=device, on_start=note)
    rows = read_log(folder / "log.csv")
    last = rows[-1] if rows else {}
    if not last or ("bits_per_dim" in last and "validation" not in last):
        return (
            f"{config.name}: its budget is spent, but {folder / 'log.csv'} lacks the last row; "
            f"next: nvp record {folder}"
        )
    done = f"{config.name}: {last['step']:.0f} steps in {last['minutes']:.1f} minutes, "
    if "validation" not in last:
        return (
            f"{done}loss {last['loss']:.4f}, no likelihood; "
            f"next: nvp sample {folder} --out samples.png, or nvp record {folder}"
        )
    chosen = last
    if config.training.early_stopping:
        chosen = load_tensors(folder / BEST)[1]
    nats = nats_per_bit(config.model.image_shape) * chosen["validation"]
    return (
        f"{done}{last['bits_per_dim']:.4f} bits/dim in training; {chosen['validation']:.4f} on "
        f"images for validation ({nats:.2f} nats) after step {chosen['step']:.0f}; "
        f"next: nvp record {folder}"
    )


def _check_same(old: RunConfig, new: RunConfig, folder: Path) -> dict[str, float]:
    """What differs of `CURES`, as it is in `new`. Raises `NVPError` where more than `FREE` does."""
    before, after = _flat(old), _flat(new)
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            raise NVPError(
                f"{folder} holds a run with {key}={before.get(key)}, this one has "
                f"{after.get(key)}: use another --run-folder; a run that goes on may change "
                f"only training.{{{','.join(FREE)}}}"
            )
    return {
        key: value
        for key in CURES
        if (value := getattr(new.training, key)) != getattr(old.training, key)
    }


def _flat(config: RunConfig) -> dict[str, Any]:
    """Every key that must not change, as "training.seed" -> value."""
    tree = config.model_dump(mode="json", exclude={"title": True, "training": set(FREE)})
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{name}": each for name, each in value.items()})
        else:
            flat[key] = value
    return flat
