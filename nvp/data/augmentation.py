"""Augmentation: random crops and horizontal flips of training images, from the run's own noise."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from nvp.config import DataConfig
from nvp.data.on_disk import StoredImages
from nvp.model.labels import Examples, Labelled, images_and_labels


def training_batch(
    images: Examples, which: Tensor, config: DataConfig, noise: torch.Generator
) -> Examples:
    """The images numbered `which`, (n,), cropped and flipped where `config` says so.

    Crops are drawn before flips, and all of them from `noise`: a run that goes on draws the same.
    """
    pixels, labels = images_and_labels(images)
    if config.crop is None:
        batch = pixels[which]
    else:
        batch = cast(StoredImages, pixels).at_random(which, noise)
    if config.flips:
        flipped = torch.rand(len(which), generator=noise) < 0.5
        batch = torch.where(flipped[:, None, None, None], batch.flip(-1), batch)
    return batch if labels is None else Labelled(batch, labels[which])
