"""A checkpoint: whose it is, how far it has come, and whether a configuration may go on with it.

`CHANGEABLE` are the settings that may differ. They are those of `training` for length (`steps`,
`minutes`), `log_every`, `checkpoint_minutes`, `validate_minutes`, `learning_rate`, `relative_step`,
`clip_norm` and `weight_decay`, and the model's `dropout`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from torch import Tensor

from nvp.config import Precision, RunConfig, differences, parse_config
from nvp.data.splits import TrainingData
from nvp.errors import NVPError, first_fault
from nvp.model.config import Section
from nvp.model.custom import is_path
from nvp.runs.provenance import NOTED, Leg
from nvp.runs.tensors import load_tensors, part

# Settings that a resumed run may change: those that are lowered after a divergence, dropout and
# weight decay where the run overfits, its length, and how often it logs, saves and validates.
_UNNOTED = ("steps", "minutes", "log_every", "checkpoint_minutes", "validate_minutes")
CHANGEABLE = (*(f"training.{key}" for key in _UNNOTED), *NOTED)

Count = Annotated[int, Field(ge=0)]
Minutes = Annotated[float, Field(ge=0)]


class Best(Section, extra="ignore"):  # older checkpoints have its minutes, too
    """The step whose weights early stopping keeps."""

    step: Count
    validation: float  # bits/dim of the averaged model


class Header(Section):
    """The header of a checkpoint: all that is no tensor."""

    config: dict[str, Any]
    data_checksum: str  # `nvp.data.on_disk.fingerprint` of the training images
    labels_checksum: str | None  # that of their labels, of a conditional model
    step: Count
    position: Count  # of the next image in this epoch's order
    window: list[tuple[float, float]]  # loss and gradient norm of the steps not yet logged
    minutes: Minutes  # spent in steps
    validated: Minutes  # the minute of the last validation
    precision: Precision
    legs: list[Leg]  # the machines that trained it
    best: Best | None = None  # of the tensors `best`, if early stopping kept some


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that belongs to the configuration of its folder."""

    path: Path
    tensors: dict[str, Tensor]  # model.*, ema.*, optimiser.*, best.*, noise and order
    header: Header
    config: RunConfig  # that it was trained by

    @property
    def averaged(self) -> dict[str, Tensor]:
        """The averaged weights, which are scored unless early stopping kept others."""
        return part("ema.module", self.tensors)

    def check_data(self, data: TrainingData) -> None:
        """Raise `NVPError` unless the training images are those that it was trained on."""
        data.check(self.header.data_checksum, self.header.labels_checksum, self.path)


def read_checkpoint(path: Path, config: RunConfig) -> Checkpoint:
    """The checkpoint at `path`.

    Raises `NVPError` for one that is damaged or holds weights alone, and for one that was trained
    by another configuration than `config`: only what `CHANGEABLE` names may differ.
    """
    tensors, plain = load_tensors(path)
    if "order" not in tensors or "noise" not in tensors:
        raise NVPError(f"{path} holds weights but no training state: train in a new folder")
    try:
        header = Header.model_validate(plain)
    except ValidationError as error:
        raise NVPError(
            f"{path} has a header that is not as it was written ({first_fault(error)}): "
            "restore it or start the run again"
        ) from error
    trained = trained_config(path, header.config, config)
    check_unchanged(path, trained, config)
    return Checkpoint(path, tensors, header, trained)


def trained_config(path: Path, tree: dict[str, Any], config: RunConfig) -> RunConfig:
    """The configuration `tree` in the header of `path`.

    Raises `NVPError` where it is damaged, and for a family `module:Class` other than that of
    `config`: to parse it would run that code.
    """
    model = tree.get("model")
    family = model.get("family") if isinstance(model, dict) else None
    if is_path(family) and family != config.model.family:
        raise _other(path, "model.family", family, config.model.family)
    return parse_config(tree, str(path))


def check_unchanged(path: Path, trained: RunConfig, config: RunConfig) -> None:
    """Raise `NVPError` where more than `CHANGEABLE` differs from what trained `path`."""
    for key, (before, now) in differences(trained, config).items():
        if key not in CHANGEABLE:
            raise _other(path, key, before, now)


def _other(path: Path, key: str, before: Any, now: Any) -> NVPError:
    return NVPError(
        f"{path} was trained with {key}={before}, the configuration says {now}: restore the "
        "configuration or use another --run-folder; a run that goes on may change only "
        f"{', '.join(CHANGEABLE)}"
    )
