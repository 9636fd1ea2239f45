"""The options of `nvp data import`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np


class Crop(StrEnum):
    """Whether the longer side of an image is cut."""

    CENTER = "center"  # cut to a square
    NONE = "none"  # left as it is: training cuts squares (data.crop)


@dataclass(frozen=True)
class Fractions:
    """Which share of the images goes to `validation` and to `test`, where a source does not say."""

    validation: float = 0.05
    test: float = 0.1
    seed: int = 0

    def draw(self, splits: np.ndarray) -> np.ndarray:
        """A copy of `splits`, (N,), in which some training images are in the splits that it lacks.

        A new split gets at least two images, since a standard error needs two, or none. Training
        keeps at least one image.
        """
        splits, training = splits.copy(), np.flatnonzero(splits == "train")
        given, number = set(splits), len(training)
        order = training[np.random.Generator(np.random.PCG64(self.seed)).permutation(number)]
        for split, share in (("test", self.test), ("validation", self.validation)):
            size = max(2, round(share * number))
            if split not in given and share > 0 and size < len(order):
                chosen, order = np.split(order, [size])
                splits[chosen] = split
        return splits


@dataclass(frozen=True)
class Options:
    """How images are resized and divided into splits; the papers' sets have rules of their own."""

    size: int | None = None  # of the smaller side, in pixels
    crop: Crop = Crop.CENTER
    gray: bool = False
    fractions: Fractions = field(default_factory=Fractions)
    skip_unreadable: bool = False
    replace: bool = False
