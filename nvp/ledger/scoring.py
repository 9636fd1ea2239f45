"""Scores of a finished run: on images, and on fixed inputs that every machine agrees on."""

from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from nvp.config import RunConfig
from nvp.data import EMBEDDED, EMBEDDED_BINARY, load
from nvp.data.splits import examples, load_split
from nvp.errors import NVPError
from nvp.ledger.entry import RecordedDraw
from nvp.likelihood import nats_per_bit, score_images
from nvp.model.labels import Examples, Labelled
from nvp.model.protocol import ImageModel, batch_statistics
from nvp.progress import counting
from nvp.runs.load import TrainedRun
from nvp.runs.sheet import draw
from nvp.training.distributed import shared

# Largest accepted change of a test score, by rounding the weights or by scoring again.
TOLERANCE = 0.002  # bits/dim
BINARY_TOLERANCE = 0.01  # nats an image, for images of two levels
PROBE_IMAGES = 10


def tolerance(config: RunConfig) -> float:
    """Within how many bits/dim two test scores of a run count as the same: 0.002.

    For images of two levels it is 0.01 nats an image.
    """
    if config.is_binary:
        return BINARY_TOLERANCE / nats_per_bit(config.model.image_shape)
    return TOLERANCE


def scored_images(
    run: TrainedRun, split: str, data_root: Path | None = None, limit: int | None = None
) -> Examples:
    """The images of `split`, checked, with labels if the model is conditional; the first `limit`.

    But for test, a run's training images are first compared with its checkpoint, if it has one.
    """
    config = run.config
    if run.training is not None and split != "test":
        data = run.training.data
        if split == "train":
            return data.whole[:limit]
        if split == "validation" and len(data.images) == len(data.whole):
            return data.validation[:limit]
    return examples(config, load_split(config, split, data_root, limit))


def score(
    run: TrainedRun, images: Examples, what: str, *, num_draws: int = 1, of_batches: bool = False
) -> Tensor:
    """Bits/dim of each image, (N,) float64; progress is shown under the name `what`.

    In evaluation mode or, `of_batches`, with the batch-norm statistics of each batch. Raises
    `NVPError` for a single image, whose score has no standard error.
    """
    if len(images) < 2:
        raise NVPError(f"{what}: one image has no standard error, use 2 or more")
    mode = batch_statistics(run.model) if of_batches else nullcontext()
    model, size = shared(run.model), run.config.evaluation.batch_size
    with mode, counting(what, len(images)) as progress:
        return score_images(model, images, num_draws=num_draws, batch_size=size, progress=progress)


def probe_images(
    image_shape: tuple[int, int, int], levels: int = 256, number: int = PROBE_IMAGES
) -> Tensor:
    """The first embedded test images, (number, C, H, W) uint8, for any shape and levels.

    For sides other than 28, rows and columns are repeated or skipped, i -> floor(28 i / side). The
    one channel is copied. For two levels the images are the binarised ones, else pixels become
    floor(pixel levels / 256). They are a fixed input: their likelihood says nothing about a model.
    """
    channels, height, width = image_shape
    images = load(EMBEDDED if levels > 2 else EMBEDDED_BINARY, "test", limit=number).images
    if levels > 2:
        images = (images.int() * levels // 256).byte()
    side = images.shape[-1]
    rows, columns = (torch.arange(n) * side // n for n in (height, width))
    return images[:, :, rows][:, :, :, columns].repeat(1, channels, 1, 1)


def probe_labels(num_classes: int, number: int = PROBE_IMAGES) -> Tensor:
    """The classes of the probe images, (number,), modulo how many a conditional model has."""
    labels = load(EMBEDDED, "test", limit=number).labels
    assert labels is not None
    return labels % num_classes


def score_probe(run: TrainedRun, number: int = PROBE_IMAGES) -> Tensor:
    """Bits/dim of the probe images, (number,), in float64: machines agree to many digits."""
    model = in_float64(run)
    images, classes = probe_images(model.image_shape, model.levels, number), model.num_classes
    probe: Examples = Labelled(images, probe_labels(classes, number)) if classes else images
    return score_images(model, probe, batch_size=number)


def describe_draw(run: TrainedRun, number: int = PROBE_IMAGES) -> RecordedDraw:
    """Mean and standard deviation of the levels of images that a run draws from fixed noise.

    In float64, as `score_probe`: the fingerprint of a model that has no likelihood.
    """
    levels = draw(in_float64(run), number).double()
    return RecordedDraw(
        mean=levels.mean().item(), standard_deviation=levels.std().item(), num_images=len(levels)
    )


def check_own(run: TrainedRun) -> None:
    """Raise `NVPError` for a model of a user's own that cannot do what a record needs."""
    try:
        if run.model.likelihood != "none":
            score_probe(run)
        draw(run.model, 1)
    except NVPError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        raise NVPError(
            f"{run.config.model.family} cannot do what a record needs, a score in float64 and a "
            f"sample ({type(error).__name__}: {reason}): fix it; nvp.testing.check_model says more"
        ) from error


def in_float64(run: TrainedRun) -> ImageModel:
    """A copy of the model of `run` in float64, on the CPU, in evaluation mode."""
    model = run.config.build_model().double()
    model.load_state_dict(run.model.state_dict())
    return model.eval()
