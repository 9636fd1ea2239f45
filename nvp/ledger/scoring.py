"""Scoring a run that lies in a folder: its model, its data, and both kinds of statistics."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor
from torchvision.utils import make_grid

from nvp.config import RunConfig, load_config
from nvp.data.sets import EMBEDDED, EMBEDDED_BINARY, Dataset, load
from nvp.data.splits import check_images, examples, hold_out, load_split, shuffled
from nvp.errors import NVPError
from nvp.likelihood import full_float32, reestimate_statistics, score_images
from nvp.model.labels import Examples, Labelled
from nvp.model.protocol import ImageModel, batch_statistics, use_channels_last
from nvp.paths import results_root
from nvp.runs.tensors import load_tensors, load_weights, part, write_atomically
from nvp.training.loop import BEST, CHECKPOINT
from nvp.training.start import device_named

WEIGHTS = "weights.safetensors"
PROBE_IMAGES = 200
SHEET_BATCH = 100


@dataclass(frozen=True)
class TrainedRun:
    """A model ready to be scored: averaged weights, in evaluation mode, on its device."""

    config: RunConfig
    model: ImageModel
    header: dict[str, Any]  # of the checkpoint or the recorded weights
    chosen_step: int | None = None  # by early stopping, where it is not the last one


def find_run(folder: Path) -> Path:
    """`folder` itself, or the recorded run of that name."""
    recorded = results_root() / "runs" / folder
    if not folder.exists() and (recorded / "config.yaml").is_file():
        return recorded
    if not folder.is_dir():
        raise NVPError(f"there is no run folder {folder}: train one, or name a recorded run")
    return folder


def load_run(folder: Path, *, data_root: Path | None = None, device: str = "auto") -> TrainedRun:
    """The model of a run folder, recorded or fresh from training.

    A recorded model comes with its batch-norm statistics; those of a checkpoint are estimated
    again on training images, which must be there. Raises `NVPError` for anything that is missing,
    damaged or foreign.
    """
    config = load_config(folder / "config.yaml")
    model = config.build_model().to(device_named(device))
    use_channels_last(model)
    recorded, checkpoint = folder / WEIGHTS, folder / CHECKPOINT
    if recorded.is_file():
        tensors, header = load_tensors(recorded)
        load_weights(model, tensors, recorded)
        return TrainedRun(config, model.eval(), header)
    if not checkpoint.is_file():
        raise NVPError(f"{folder} holds neither {WEIGHTS} nor {CHECKPOINT}: train the run first")
    tensors, header = load_tensors(checkpoint)
    weights, source, chosen = part("ema.module", tensors), checkpoint, None
    if config.training.early_stopping and (folder / BEST).is_file():
        source = folder / BEST
        weights, best = load_tensors(source)
        chosen = best["step"]
    load_weights(model, weights, source)
    data = training_data(config, header, data_root)
    images, _ = hold_out(examples(config, data), config, data_root)
    settings = config.evaluation
    few = shuffled(images, settings.statistics_images)
    reestimate_statistics(model, few, batch_size=settings.batch_size)
    return TrainedRun(config, model.eval(), header, chosen)


def training_data(config: RunConfig, header: dict[str, Any], data_root: Path | None) -> Dataset:
    """The training images, those held out among them; they must be the run's own."""
    data = load_split(config, "train", data_root)
    check_images(config, data)
    if header.get("data_checksum") != data.checksum:
        raise NVPError(
            f"the training images of {config.data.name} found here are not those of this run: "
            "point --data-root at the set it was trained on"
        )
    return data


def scored_images(
    config: RunConfig, split: str, data_root: Path | None, limit: int | None = None
) -> Dataset:
    """The images of `split`, checked to be of the model's shape and levels, and to have the labels
    that it needs; `nvp.data.splits.examples` makes of them what `score` takes.
    """
    data = load(config.data.name, split, root=data_root, limit=limit, crop=config.data.crop)
    check_images(config, data)
    return data


def score(
    run: TrainedRun,
    images: Examples,
    what: str,
    *,
    num_draws: int = 1,
    of_batches: bool = False,
) -> Tensor:
    """Bits/dim of each image, (N,) float64; progress is shown under the name `what`.

    In evaluation mode or, `of_batches`, with the batch-norm statistics of each batch.
    """
    mode = batch_statistics(run.model) if of_batches else nullcontext()
    with mode, counting(what, len(images)) as progress:
        return score_images(
            run.model,
            images,
            num_draws=num_draws,
            batch_size=run.config.evaluation.batch_size,
            progress=progress,
        )


def probe_images(image_shape: tuple[int, int, int], levels: int = 256) -> Tensor:
    """The first embedded test images, (200, C, H, W) uint8, for a model of any shape and levels.

    28x28 images are what they are; for other sides rows and columns are repeated or skipped,
    i -> floor(28 i / side), and the one channel is copied. For two levels they are the binarised
    ones, else pixels become floor(pixel levels / 256). It is a fixed input, not a likelihood
    that says anything about a model.
    """
    channels, height, width = image_shape
    images = load(EMBEDDED if levels > 2 else EMBEDDED_BINARY, "test", limit=PROBE_IMAGES).images
    if levels > 2:
        images = (images.int() * levels // 256).byte()
    side = images.shape[-1]
    rows, columns = (torch.arange(n) * side // n for n in (height, width))
    return images[:, :, rows][:, :, :, columns].repeat(1, channels, 1, 1)


def probe_labels(num_classes: int) -> Tensor:
    """The classes of the probe images, (200,), modulo how many a conditional model has."""
    labels = load(EMBEDDED, "test", limit=PROBE_IMAGES).labels
    assert labels is not None
    return labels % num_classes


def score_probe(run: TrainedRun) -> Tensor:
    """Bits/dim of the probe images, (200,), in float64, on which machines agree to many digits."""
    model = _in_float64(run)
    images = probe_images(model.image_shape, model.levels)
    if not model.num_classes:
        return score_images(model, images, batch_size=50)
    probe = Labelled(images, probe_labels(model.num_classes))
    return score_images(model, probe, batch_size=50)


def draw_probe(run: TrainedRun) -> Tensor:
    """Images from fixed noise, (200, C, H, W) uint8, in float64: of a model that has no score."""
    generator = torch.Generator().manual_seed(0)
    return _in_float64(run).sample(PROBE_IMAGES, generator=generator)


def _in_float64(run: TrainedRun) -> ImageModel:
    """A copy of the model, on the CPU, in evaluation mode."""
    model = run.config.build_model().double()
    model.load_state_dict(run.model.state_dict())
    return model.eval()


@full_float32()
def write_samples(
    model: ImageModel,
    path: Path,
    number: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    label: int | None = None,
) -> None:
    """Write a square sheet of samples as a PNG, the highest level white.

    Of a conditional model they are all of class `label` or, without one, of all classes in turn, a
    column for each.
    """
    if label is not None and not model.num_classes:
        raise NVPError("this model takes no labels: leave --label out")
    columns = math.ceil(math.sqrt(number))
    labels = torch.full((number,), label or 0)
    if label is None and model.num_classes:
        columns = model.num_classes
        labels = torch.arange(number) % columns
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for batch in labels.tensor_split(math.ceil(number / SHEET_BATCH)):  # of about one size
        given: dict[str, Any] = {"labels": batch} if model.num_classes else {}
        drawn.append(
            model.sample(len(batch), generator=generator, temperature=temperature, **given).cpu()
        )
    grey = (torch.cat(drawn).int() * 255 // (model.levels - 1)).byte()
    sheet = make_grid(grey, nrow=columns, pad_value=255)
    picture = Image.fromarray(sheet.permute(1, 2, 0).numpy())
    write_atomically(path, lambda to: picture.save(to, format="PNG"))


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None] | None]:
    """A bar with the time left, on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
