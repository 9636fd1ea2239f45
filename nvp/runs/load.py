"""From a run folder to a finished model: the only way there is."""

import contextlib
import importlib.util
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from nvp.config import RunConfig, differences, load_config
from nvp.data.splits import TrainingData, shuffled, training_data
from nvp.devices import pick_device
from nvp.errors import NVPError
from nvp.files import read_yaml
from nvp.likelihood import reestimate_statistics
from nvp.model.custom import is_path
from nvp.model.protocol import ImageModel, batch_norms, use_channels_last
from nvp.paths import repository_root
from nvp.progress import counting
from nvp.runs.checkpoint import Checkpoint, Header, read_checkpoint, trained_config
from nvp.runs.folder import RunFolder, find_run
from nvp.runs.tensors import load_tensors, load_weights, part


@dataclass(frozen=True)
class Training:
    """How a run that comes from its checkpoint was trained."""

    checkpoint: Checkpoint  # without its tensors
    data_root: str | Path | None

    @property
    def header(self) -> Header:
        """The header of the checkpoint."""
        return self.checkpoint.header

    @cached_property
    def data(self) -> TrainingData:
        """The images that it was trained on. Raises `NVPError` if they are missing or differ."""
        data = training_data(self.checkpoint.config, self.data_root)
        self.checkpoint.check_data(data)
        return data


@dataclass(frozen=True)
class TrainedRun:
    """A model ready to be scored: averaged weights, in evaluation mode, on its device."""

    config: RunConfig
    model: ImageModel
    training: Training | None = None  # None for a recorded run


def load_run(
    folder: str | Path,
    *,
    data_root: str | Path | None = None,
    device: str = "auto",
    trust: bool = False,
) -> TrainedRun:
    """The model of a run folder, fresh from training or recorded; a recorded one by its name, too.

    A recorded model comes with its batch-norm statistics. Those of a checkpoint are estimated again
    on training images, which must then be there. Kernels lie channels last: for code that flattens
    weights by `view`, such as `torch.optim.LBFGS`, call
    `model.to(memory_format=torch.contiguous_format)`. Raises `NVPError` for anything that is
    missing, damaged or foreign, and as `read_config` does.
    """
    files = RunFolder(find_run(Path(folder)))
    files.check_schema()
    config = read_config(files, trust=trust)
    if files.weights.is_file():
        weights, header = load_tensors(files.weights)
        if "config" in header:  # as `nvp record` writes it
            _check_settings(files, header["config"], config)
        return TrainedRun(config, finished_model(config, weights, files.weights, device))
    if not files.checkpoint.is_file():
        if files.is_recorded:
            again = f"nvp train {shlex.quote(str(files.config))}"
            raise NVPError(
                f"there is no {files.weights}: restore it with git checkout, if "
                f"{files.record.name} has weights, else train it again, `{again}`"
            )
        raise NVPError(
            f"{folder} holds no {files.checkpoint.name} yet: wait for it, or train in a new folder"
        )
    checkpoint = read_checkpoint(files.checkpoint, config)
    training = Training(replace(checkpoint, tensors={}), data_root)
    weights = part("best", checkpoint.tensors) or checkpoint.averaged
    model = finished_model(config, weights, files.checkpoint, device, lambda: training.data)
    # config.yaml may hold settings that did not train the weights: training was killed before it
    # saved, or somebody changed the file. Only its title is taken.
    config = checkpoint.config.model_copy(update={"title": config.title})
    return TrainedRun(config, model, training)


def read_config(
    folder: RunFolder, changes: list[str] | None = None, *, trust: bool = False
) -> RunConfig:
    """The configuration of a run folder, with `changes` such as "training.minutes=5".

    A family `module:Class` runs the code of that module. Raises `NVPError` for one that this
    repository does not hold, or holds in build/, data/ or results/. A module that is imported
    already passes, and so does any if you `trust` whoever wrote it.
    """
    if not folder.config.is_file():
        raise NVPError(f"there is no {folder.config}: copy it from where the run was trained")
    family = None
    # By the parser of `load_config`: what another one refuses must not hide the family.
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        family = read_yaml(folder.config.read_text("utf-8"))["model"]["family"]
    was_imported = str(family).partition(":")[0] in sys.modules
    if is_path(family) and not (trust or was_imported or _is_held(str(family))):
        raise NVPError(
            f"{folder.config} names the model {family}, which is code that this repository does "
            "not hold: pass --trust to run it, if you trust whoever wrote it"
        )
    return load_config(folder.config, changes)


def _check_settings(files: RunFolder, tree: dict[str, Any], config: RunConfig) -> None:
    """Raise `NVPError` where a recorded run was trained by other settings; its name is free."""
    trained = trained_config(files.weights, tree, config)
    for key, (before, now) in differences(trained, config).items():
        if key != "name":
            raise NVPError(
                f"{files.config} says {key}={now}, but {files.weights.name} was trained with "
                f"{before}: restore the entry, as by git checkout"
            )


def trust_option(config: RunConfig) -> str:
    """The option `--trust`, after a space, for a family that is not of this repository; else ""."""
    family = config.model.family
    return " --trust" if is_path(family) and not _is_held(family) else ""


def next_options(config: RunConfig, data_root: str | Path | None) -> str:
    """The options `--data-root` and `--trust`, each after a space, that the next command needs."""
    data = f" --data-root {shlex.quote(str(data_root))}" if data_root else ""
    return data + trust_option(config)


def _is_held(family: str) -> bool:
    """Whether a family's module is a file of this repository, or is nowhere: no code would run."""
    try:
        found = importlib.util.find_spec(family.partition(":")[0].partition(".")[0])  # runs nothing
    except ValueError:  # a module that was made in memory, or the program itself
        return True
    if found is None:
        return True
    place = Path(found.origin or next(iter(found.submodule_search_locations or "/"))).resolve()
    root = repository_root()
    if not (root / "pyproject.toml").is_file() or not place.is_relative_to(root):
        return False
    # Run folders and data sets lie in a checkout, too, and may come from others.
    inside = place.relative_to(root).parts
    others = {"build", "data", "results"}
    return inside != () and inside[0] not in others and "site-packages" not in inside


def finished_model(
    config: RunConfig,
    weights: dict[str, Tensor],
    source: Path,
    device: str,
    data: Callable[[], TrainingData] | None = None,
) -> ImageModel:
    """A model of the `weights` from `source`; `data()` gives its batch norms new statistics."""
    model = config.build_model().to(pick_device(device))
    use_channels_last(model)
    load_weights(model, weights, source)
    if data is not None and batch_norms(model):
        few = shuffled(data().images, config.evaluation.statistics_images)
        with counting("batch-norm statistics", len(few)) as progress:
            size = config.evaluation.batch_size
            reestimate_statistics(model, few, batch_size=size, progress=progress)
    return model.eval()
