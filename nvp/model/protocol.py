"""The one protocol that every model of images follows.

A model turns uint8 images into natural-log probabilities. So one loop can train all models
(`nvp.training.loop`), one function can score them (`nvp.likelihood`), a table can compare them.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from numbers import Integral
from typing import Any, Literal, NoReturn, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import wrap_torch_function

from nvp.errors import NVPError
from nvp.model.dequantisation import device_of
from nvp.model.labels import check_labels

Likelihood = Literal["exact", "bound", "none"]


class ImageModel(nn.Module, ABC):
    """A model of discrete images: uint8, shape (N, C, H, W), with (C, H, W) = `image_shape`.

    A model writes `_log_probs` and `sample`; the other methods follow from these. Images may be on
    any device: they are moved to the model's. Call `log_prob`, or in training `loss`;
    `forward` raises `NVPError`. A model whose `num_classes` K is not 0 is conditional. It needs
    `labels`, one for each image, integers (N,) in 0..K-1 or vectors (N, K), and its probabilities
    are of images given labels. The methods of this class raise `NVPError` for images or labels that
    do not fit; those that a model adds need not.
    """

    image_shape: tuple[int, int, int]  # (C, H, W)
    levels: int = 256  # number of values of a sub-pixel: 0..levels-1
    num_classes: int = 0  # number of classes or attributes K; 0: unconditional
    likelihood: Likelihood = "bound"  # "exact", "bound", or "none": `log_prob` raises `NVPError`
    autoregressive: bool = False  # True: each sub-pixel is predicted from those before it
    averages_noise: bool = False  # True: `log_prob` averages log P_k over sets of noise, not P_k
    fitted_in_closed_form: bool = False  # True: `initialise` finds the optimal weights

    @abstractmethod
    def _log_probs(
        self, images: Tensor, num_draws: int, generator: torch.Generator | None, y: Tensor | None
    ) -> Iterable[Tensor]:
        """The log-probability of each image, (N,), in nats, once for each set of noise.

        Images are checked and on the model's device, and so is `y`, (N, K) floats. `num_draws` is
        1 for an exact likelihood. With `yield`, what all sets of noise share is computed only once.
        """

    @abstractmethod
    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Draw `n` images: uint8, (n, C, H, W).

        `temperature` 1 samples the model; a lower one gives less varied images. Raises `NVPError`
        for n < 1, for a temperature that is negative or not finite, and for labels that do not fit.
        """

    def extra_repr(self) -> str:
        classes = f", num_classes={self.num_classes}" * (self.num_classes > 0)
        return f"image_shape={tuple(self.image_shape)}, levels={self.levels}{classes}"

    def forward(self, *_: object, **__: object) -> NoReturn:
        """Raises `NVPError`, since `model(images)` would not say what is asked.

        So compile a method, as by `torch.compile(model.loss)`: `torch.compile(model)` does nothing.
        """
        raise NVPError("a model is not called: use log_prob(images), loss(images) or sample(n)")

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """As PyTorch's; raises `NVPError` where it would lose what the state dict does not hold."""
        if lost := {name for name, _ in self.named_buffers()} - self.state_dict().keys():
            raise NVPError(f"to_empty leaves {min(lost)} random: build the model on its device")
        return super().to_empty(device=device, recurse=recurse)

    def log_prob(
        self,
        images: Tensor,
        *,
        num_draws: int = 1,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Natural log of the probability of each image, (N,), in nats; uint8 in.

        Call `eval()` first: in training mode batch norms use, and store, the statistics of these
        images, and dropout makes scores noisy.

        Where the likelihood is a bound, this is a lower bound, from `num_draws` = K sets of noise:
        log (1/K) sum_k P_k. It is the importance-weighted bound (Burda et al. 2016). Its mean
        grows with K. It tends to log P(x) if the noise is the only reason for the bound. A model
        that `averages_noise` has (1/K) sum_k log P_k instead, whose expectation is the same for
        every K: a larger K only makes the estimate less noisy. Raises `NVPError` for weights in
        half precision, unless the model is `autoregressive`. Such a model adds no noise to an
        image, or adds it in float32.
        """
        device_of(generator)  # refuses anything else, such as labels
        if not self.autoregressive:
            self.check_precision()
        images = self.check_images(images)
        check_count("num_draws", num_draws)
        y = self.condition(labels, len(images))
        sets = 1 if self.likelihood == "exact" else num_draws
        given = self._log_probs(images, sets, generator, y)
        draws = [] if given is None else list(given)
        shapes = {str(tuple(d.shape)) if isinstance(d, Tensor) else str(d) for d in draws}
        if shapes != {f"({len(images)},)"}:
            raise NVPError(
                f"{type(self).__name__}._log_probs must yield tensors ({len(images)},), one number "
                "for each image, once for each set of noise, got "
                f"{', '.join(sorted(shapes)) or 'nothing'}: fix the model"
            )
        return torch.stack(draws).mean(0) if self.averages_noise else log_mean_exp(draws)

    def loss(
        self,
        images: Tensor,
        generator: torch.Generator | None = None,
        *,
        labels: Tensor | None = None,
    ) -> Tensor:
        """The quantity that training minimises: mean nats per image, plus any regulariser."""
        return -self.log_prob(images, generator=generator, labels=labels).mean()

    def initialise(self, images: Tensor) -> None:
        """Set weights from training `images` on the CPU, once, before the first step.

        Most models set no weights here. A model that is `fitted_in_closed_form` gets all training
        images; any other gets at most `evaluation.statistics_images` of them.
        """

    @property
    def num_dimensions(self) -> int:
        """D, the number of sub-pixels of one image."""
        return math.prod(self.image_shape)

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where images are moved to."""
        return self._any_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights."""
        return self._any_weight.dtype

    @property
    def _any_weight(self) -> Tensor:
        floats = (t for t in chain(self.parameters(), self.buffers()) if t.is_floating_point())
        return next(floats, torch.empty(0))

    def check_images(self, images: Tensor) -> Tensor:
        """The images, on the model's device.

        Raises `NVPError` unless they are uint8, (N > 0, C, H, W) and within the levels.
        """
        if not isinstance(images, Tensor):
            raise NVPError(
                f"images must be a torch.Tensor, got {type(images).__name__}: make one by "
                "torch.from_numpy or by .to('cpu'), or pass its .images"
            )
        if images.dtype != torch.uint8:
            raise NVPError(
                f"images must be uint8 in 0..{self.levels - 1}, got {images.dtype}: "
                "pass the levels themselves, the model rescales them as it needs"
            )
        if images.ndim != 4 or tuple(images.shape[1:]) != tuple(self.image_shape):
            raise NVPError(
                f"images must be (N, C, H, W) with (C, H, W) = {tuple(self.image_shape)}, "
                f"got {tuple(images.shape)}: load matching data, reorder it as by "
                "images.permute(0, 3, 1, 2), or change model.image_shape"
            )
        check_count("the number of images", len(images))
        check_levels(images, self.levels)
        return images.to(self.device)

    def check_precision(self) -> None:
        """Raise `NVPError` for weights in half precision, which round away noise within a level."""
        if self.dtype.itemsize < 4:
            raise NVPError(
                f"the weights are {self.dtype}, too coarse for the noise within a level: call "
                "model.float(), and leave half precision to torch.autocast"
            )

    def condition(self, labels: Tensor | None, n: int) -> Tensor | None:
        """y of `n` images, (n, K), on the model's device; None for an unconditional model.

        Raises `NVPError` for n < 1, and for labels that are missing, not wanted, or do not fit.
        """
        check_count("n", n)
        check_labels(labels, n, self.num_classes)
        if labels is None:
            return None
        y = labels if labels.ndim == 2 else F.one_hot(labels.long(), self.num_classes)
        return y.to(self.device, self.dtype)


def log_mean_exp(log_probs: Iterable[Tensor]) -> Tensor:
    """log (1/K) sum_k exp(log_probs_k), elementwise, for K tensors of one shape."""
    stacked = torch.stack(list(log_probs))
    return torch.logsumexp(stacked, dim=0) - math.log(len(stacked))


def use_channels_last(model: ImageModel) -> None:
    """Lay out every tensor of rank 4, such as a kernel, channels last: the faster layout. In place.

    `Module.to` would do so too, but it fails for a model that has a tensor of rank five.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def batch_norms(model: nn.Module) -> list[Any]:
    """Every module that keeps running statistics, this package's or PyTorch's."""
    return [m for m in model.modules() if getattr(m, "running_mean", None) is not None]


@contextmanager
def batch_statistics(model: nn.Module, *, moving: bool = False) -> Iterator[None]:
    """Within this block batch norms use the statistics of each batch; their averages stay.

    With `moving` they move by the momentum that the caller sets, unless an error ends the block.
    """
    before = [
        (norm, norm.momentum, norm.training, copy.deepcopy(dict(norm.named_buffers(recurse=False))))
        for norm in batch_norms(model)
    ]
    for norm, *_ in before:  # and nothing else: dropout stays as it is
        norm.momentum = 0.0
        norm.train()
    try:
        yield
    except BaseException:  # averages over a part of the images are of no use
        moving = False
        raise
    finally:
        for norm, momentum, was_training, averages in before:
            # With momentum 0 an infinite statistic still gives nan, and PyTorch counts the batch.
            if not moving:
                for name, average in averages.items():
                    getattr(norm, name).copy_(average)
            norm.momentum = momentum
            norm.train(was_training)


@wrap_torch_function(lambda moment: (moment,))
def of_whole_batch(moment: Tensor) -> Tensor:
    """`moment`, a mean over the images of a batch, as it is.

    Where several processes share the batch: the mean over the images of all of them
    (`nvp.training.distributed`).
    """
    return moment


@wrap_torch_function(lambda x: (x,))
def is_whole_batch(x: Tensor) -> bool:
    """Whether the rows of x are all of their batch: not where several processes share it."""
    return True


@wrap_torch_function(lambda images: (images,))
def places(images: Tensor) -> Tensor:
    """i / N for image i of a batch of N images, (N,).

    Where several processes share a batch, i and N count in the whole batch
    (`nvp.training.distributed`).
    """
    return torch.arange(len(images), device=images.device) / len(images)


def check_count(what: str, number: int) -> None:
    """Raise `NVPError` unless `number` is whole, and at least 1."""
    if not isinstance(number, Integral):
        raise NVPError(f"{what} must be a whole number, got {number!r}")
    if number < 1:
        raise NVPError(f"{what} must be at least 1, got {number}")


def check_tensor(what: str, x: object) -> None:
    """Raise `NVPError` unless `x` is a tensor."""
    if not isinstance(x, Tensor):
        raise NVPError(f"{what} must be a torch.Tensor, got {type(x).__name__}")


def check_latents(z: Tensor, shape: tuple[int, ...]) -> None:
    """Raise `NVPError` unless `z` is a tensor, (N, *shape)."""
    check_tensor("z", z)
    if tuple(z.shape[1:]) != shape:
        sides = ", ".join(map(str, ("N", *shape)))
        raise NVPError(f"z must be ({sides}), got {tuple(z.shape)}")


def check_temperature(temperature: float, least: float = 0.0) -> None:
    """Raise `NVPError` unless `temperature` is finite, and at least `least`."""
    if not least <= temperature < math.inf:
        raise NVPError(
            f"temperature must be a finite number of {least} or more, where 1 samples the model, "
            f"got {temperature}"
        )


def check_levels(images: Tensor, levels: int) -> None:
    """Raise `NVPError` unless all values of uint8 `images` are in 0..levels-1."""
    if levels < 256 and (largest := int(images.max())) >= levels:
        raise NVPError(
            f"images must have values in 0..{levels - 1} for model.levels = {levels}, there is a "
            f"{largest}: use data of as many levels, such as binarized-mnist for 2, or raise "
            "model.levels"
        )
