"""Augmentation: random crops and horizontal flips of training images, from the run's own noise."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from nvp.config import DataConfig
from nvp.data.on_disk import StoredImages
from nvp.model.labels import Examples, Labelled, mirrored


def training_batch(
    images: Examples, which: Tensor, config: DataConfig, noise: torch.Generator
) -> Examples:
    """The images numbered `which`, (n,), cropped and flipped where `config` says so.

    Crops are drawn before flips, and all of them from `noise`: a run that goes on draws the same.
    """
    batch = images[which] if config.crop is None else _cropped(images, which, noise)
    if config.flips:
        batch = mirrored(batch, torch.rand(len(which), generator=noise) < 0.5)
    return batch


def _cropped(images: Examples, which: Tensor, noise: torch.Generator) -> Examples:
    if isinstance(images, Labelled):
        return Labelled(cast(Tensor, _cropped(images.images, which, noise)), images.labels[which])
    return cast(StoredImages, images).at_random(which, noise)
