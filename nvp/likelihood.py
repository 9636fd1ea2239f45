"""Likelihoods in nats and in bits per dimension, and the scoring of a whole data set."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from nvp.errors import NVPError
from nvp.model.autocast import full_float32
from nvp.model.labels import Examples, images_and_labels
from nvp.model.protocol import ImageModel, batch_norms, batch_statistics, check_count


def nats_per_bit(image_shape: tuple[int, int, int]) -> float:
    """D ln 2: the nats that an image costs at one bit/dim."""
    channels, height, width = image_shape  # fails for the shape of a batch
    return channels * height * width * math.log(2)


def bits_per_dim(log_prob: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """-log P / (D ln 2): log P of images, (N,), nats -> bits per sub-pixel, (N,), float64.

    Uniform noise over 256 levels scores 8.0 under a perfect model.
    """
    return -log_prob.double() / nats_per_bit(image_shape)


@dataclass(frozen=True)
class Score:
    """Mean bits/dim over `num_images` images, and its standard error over images."""

    bits_per_dim: float
    standard_error: float
    num_images: int
    num_draws: int  # sets of noise for each image

    def nats(self, image_shape: tuple[int, int, int]) -> tuple[float, float]:
        """The mean and its standard error in nats an image."""
        factor = nats_per_bit(image_shape)
        return factor * self.bits_per_dim, factor * self.standard_error

    def cells(self, image_shape: tuple[int, int, int]) -> tuple[str, str]:
        """Two texts for a table: bits/dim, and nats an image, each with its standard error."""
        mean, error = self.nats(image_shape)
        return f"{self.bits_per_dim:.4f} ± {self.standard_error:.4f}", f"{mean:.2f} ± {error:.2f}"

    def __str__(self) -> str:
        return f"{self.bits_per_dim:.4f} ± {self.standard_error:.4f} bits/dim"


@torch.no_grad()
@full_float32()
def score_images(
    model: ImageModel,
    images: Examples,
    *,
    num_draws: int = 1,
    batch_size: int = 250,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Bits/dim of each image, (N,) float64, in the mode that the model is in.

    float32 models are scored in full precision. The noise comes from one generator, so the same
    seed and batch size give the same scores. `progress` is called with the number of images done.
    `images` are a tensor, `nvp.data.on_disk.StoredImages` or, with labels,
    `nvp.model.labels.Labelled`. Raises `NVPError` for anything else, for no images, and for a model
    that does not give one score an image.
    """
    _check_batches(images, batch_size)
    generator = torch.Generator().manual_seed(seed)
    scores = []
    for part in batches(len(images), batch_size):
        batch, labels = images_and_labels(images[part].to(model.device))
        log_prob = model.log_prob(batch, num_draws=num_draws, generator=generator, labels=labels)
        if log_prob.shape != (len(batch),):
            raise NVPError(
                f"{type(model).__name__}.log_prob gave {tuple(log_prob.shape)} scores for "
                f"{len(batch)} images: fix the model"
            )
        scores.append(bits_per_dim(log_prob.cpu(), model.image_shape))
        if progress is not None:
            progress(part.stop)
    return torch.cat(scores)


def _check_batches(images: Examples, batch_size: int) -> None:
    if not hasattr(images, "to"):  # an array of NumPy, or a pair
        raise NVPError(
            "images must be a torch.Tensor or, for a conditional model, nvp.model.labels.Labelled, "
            f"got {type(images).__name__}: make one by torch.from_numpy, or pass its .images"
        )
    check_count("the number of images", len(images))
    check_count("batch_size", batch_size)


def batches(number: int, batch_size: int) -> Iterator[slice]:
    """Slices that cover `number` images. A single last image joins the slice before, for norms.

    >>> list(batches(7, batch_size=3))
    [slice(0, 3, None), slice(3, 7, None)]
    """
    starts = list(range(0, number, batch_size))
    if 1 < batch_size < number and number % batch_size == 1:
        starts.pop()
    for start, stop in pairwise([*starts, number]):
        yield slice(start, stop)


def evaluate(
    model: ImageModel, images: Examples, *, num_draws: int = 1, batch_size: int = 250, seed: int = 0
) -> Score:
    """Score uint8 `images`, (N, C, H, W), in evaluation mode, and restore the modes of the model.

    After a training loop of your own, call `reestimate_statistics` first if there are batch norms.
    A conditional model takes `nvp.model.labels.Labelled(images, labels)`. Raises `NVPError` as
    `score_images` does, and where a score is not finite.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        scores = score_images(model, images, num_draws=num_draws, batch_size=batch_size, seed=seed)
    finally:
        for module, was_training in modes:
            module.training = was_training
    return summarise(scores, num_draws)


def summarise(scores: Tensor, num_draws: int = 1) -> Score:
    """Mean and standard error of bits/dim per image, (N,); the error of one image is nan.

    Raises `NVPError` for one that is not finite.
    """
    if not torch.isfinite(scores).all():
        raise NVPError(
            f"{int((~torch.isfinite(scores)).sum())} of {len(scores)} images have no finite "
            "likelihood: the weights are damaged, or training diverged; go on, or train anew, with "
            "a lower training.learning_rate"
        )
    error = scores.std().item() / math.sqrt(len(scores)) if len(scores) > 1 else math.nan
    return Score(scores.mean().item(), error, len(scores), num_draws)


@torch.no_grad()
@full_float32()
def reestimate_statistics(
    model: ImageModel,
    images: Examples,
    *,
    batch_size: int = 250,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Set every batch norm's running statistics to their mean over batches of training `images`.

    The moving averages of training cover about ten batches, under weights that have since moved. A
    test score computed with them can be off by anything from 0.01 bits/dim to thousands. A norm
    with `running_average` normalises each batch by its averages so far, so the order of the images
    matters. `progress` is called with the number of images done. `images` are as in `score_images`.
    Raises `NVPError` for no images, and for images of another kind.
    """
    _check_batches(images, batch_size)
    norms = batch_norms(model)
    if not norms:
        return
    generator = torch.Generator().manual_seed(0)
    with batch_statistics(model, moving=True):  # its end restores mode and momenta
        for part in batches(len(images), batch_size):
            for module in norms:
                if part.start == 0:  # an old average that is infinite would make the new one nan
                    module.running_mean.zero_()
                    module.running_var.fill_(1)
                # The mean over all batches so far, each weighted by its number of images.
                module.momentum = (part.stop - part.start) / part.stop
            batch, labels = images_and_labels(images[part].to(model.device))
            # Not `log_prob`: a model without likelihood may have norms, too.
            model.loss(batch, generator, labels=labels)
            if progress is not None:
                progress(part.stop)
