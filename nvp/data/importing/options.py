"""The options of `nvp data import`."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from nvp.errors import NVPError
from nvp.model.protocol import check_count

# Whether the longer side of an image is cut to a square, or left: training cuts it (data.crop).
Crop: TypeAlias = Literal["center", "none"]


@dataclass(frozen=True)
class Options:
    """How images are resized and divided into splits; the papers' sets have rules of their own."""

    size: int | None = None  # of the smaller side, in pixels
    crop: Crop = "center"  # cut the longer side to a square; "none": leave it, for `data.crop`
    gray: bool = False
    validation: float = 0.05  # of training images, where a source lacks this split; `test` too
    test: float = 0.1
    seed: int = 0
    skip_unreadable: bool = False
    replace: bool = False

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise NVPError("validation and test leave nothing to train on: lower one of them")
        if self.size is not None:
            check_count("size", self.size)

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
