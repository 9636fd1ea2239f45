"""Settings that the VAE and the GAN share."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator


class StridedConfig(BaseModel):
    """`latent` dimensions of z, and two convolutions of stride 2, of `width` and 2 `width` maps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["vae", "gan"]
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    levels: int = Field(256, ge=2, le=256)
    latent: int = Field(32, ge=1)
    width: int = Field(32, ge=1)

    @model_validator(mode="after")
    def _sides_divide(self) -> Self:
        _, height, width = self.image_shape
        if height % 4 or width % 4:
            raise ValueError(f"the sides of {height}x{width} must be divisible by 4: crop or pad")
        return self
