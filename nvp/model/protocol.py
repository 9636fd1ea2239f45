"""The one protocol that every model of images follows.

A model turns uint8 images into natural-log probabilities. One loop can then train all of them
(`nvp.training.loop`), one function score all (`nvp.likelihood`), one table compare all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from nvp.errors import NVPError


class ImageModel(nn.Module, ABC):
    """A model of discrete images: uint8, shape (N, C, H, W), with (C, H, W) = `image_shape`.

    A model whose `num_classes` is not 0 is conditional: its `log_prob`, `loss` and `sample` also
    take, and want, the keyword `labels` (`nvp.model.labels`).
    """

    image_shape: tuple[int, int, int]
    levels: int = 256  # a sub-pixel is one of 0..levels-1
    num_classes: int = 0  # length of what a conditional model is told of an image
    has_likelihood: bool = True  # where it has none, `log_prob` raises `NVPError`

    @abstractmethod
    def log_prob(
        self, images: Tensor, *, num_draws: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Natural log of the probability of each discrete image, (N,) float32, in nats.

        A flow dequantises inside, so what it returns is a lower bound; `num_draws` > 1 gives the
        tighter, importance-weighted bound.
        """

    @abstractmethod
    def loss(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What training minimises: mean nats per image, plus any regulariser. A scalar."""

    @abstractmethod
    def sample(
        self, n: int, *, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Draw `n` images: uint8, (n, C, H, W)."""

    def initialise(self, images: Tensor) -> None:
        """Set what follows from the training `images` alone, once, before the first step.

        Nothing, for most models; for one that is fitted in closed form, everything.
        """

    @property
    def num_dimensions(self) -> int:
        """D, the number of sub-pixels of one image."""
        channels, height, width = self.image_shape
        return channels * height * width

    def check_images(self, images: Tensor) -> None:
        """Raise `NVPError` unless `images` are uint8, (N > 0, C, H, W) and within the levels."""
        if not isinstance(images, Tensor):
            raise NVPError(
                f"images must be a torch.Tensor, got {type(images).__name__}: make one, of a "
                "NumPy array with torch.from_numpy"
            )
        if images.dtype != torch.uint8:
            raise NVPError(
                f"images must be uint8 in 0..{self.levels - 1}, got {images.dtype}: "
                "pass the levels themselves, the model rescales them as it needs"
            )
        if images.ndim != 4 or tuple(images.shape[1:]) != tuple(self.image_shape):
            raise NVPError(
                f"images must be (N, C, H, W) with (C, H, W) = {tuple(self.image_shape)}, "
                f"got {tuple(images.shape)}: load matching data or change model.image_shape"
            )
        check_count("the number of images", len(images))
        check_levels(images, self.levels)


def use_channels_last(model: ImageModel) -> None:
    """Lay the weights of 2-d convolutions out as CPUs and tensor cores like them; in place.

    `Module.to` would do so too, and fail for a model that has a tensor of rank five.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def batch_norms(model: nn.Module) -> list[Any]:
    """Every module that keeps running statistics, this package's or PyTorch's."""
    return [module for module in model.modules() if hasattr(module, "momentum")]


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Within this block batch norms use the statistics of each batch, and learn nothing from it."""
    norms = batch_norms(model)
    before = [(module.momentum, module.training) for module in norms]
    for module in norms:  # and nothing else: dropout stays as it is
        module.momentum = 0.0
        module.train()
    try:
        yield
    finally:
        for module, (momentum, was_training) in zip(norms, before, strict=True):
            module.momentum = momentum
            module.train(was_training)


def check_count(what: str, number: int) -> None:
    """Raise `NVPError` unless `number` is whole, and at least 1."""
    if not isinstance(number, Integral):
        raise NVPError(f"{what} must be a whole number, got {number}")
    if number < 1:
        raise NVPError(f"{what} must be at least 1, got {number}")


def check_levels(images: Tensor, levels: int) -> None:
    """Raise `NVPError` unless all values of uint8 `images` are in 0..levels-1."""
    if levels < 256 and images.numel() and (largest := int(images.max())) >= levels:
        raise NVPError(
            f"images must have values in 0..{levels - 1} for model.levels = {levels}, there is a "
            f"{largest}: use data of as many levels, such as binarized-mnist for 2, or more levels"
        )
