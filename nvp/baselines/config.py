"""Settings that models with convolutions of stride 2 share."""

from typing import Literal, Self

from pydantic import model_validator

from nvp.model.config import ModelConfig, Width


class StridedConfig(ModelConfig):
    """The networks halve the sides twice, so these must be divisible by 4.

    There are `width` maps after the first halving, and twice as many after the second.
    """

    num_classes: Literal[0] = 0
    width: Width = 32

    @model_validator(mode="after")
    def _sides_divide(self) -> Self:
        _, height, width = self.image_shape
        if height % 4 or width % 4:
            raise ValueError(f"the sides of {height}x{width} must be divisible by 4: crop or pad")
        return self
