"""The sizes at which Real NVP is timed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """A Real NVP, and how often it is timed: `rounds` fresh processes of `steps` steps each."""

    image_shape: tuple[int, int, int]
    num_blocks: int
    width: int
    num_scales: int = 2
    rounds: int = 3
    steps: int = 3

    def __str__(self) -> str:
        channels, height, width = self.image_shape
        return (
            f"{height}x{width}x{channels}, {self.num_blocks} blocks, {self.width} maps, "
            f"{self.num_scales} scales"
        )


SETTINGS = {
    "tiny": Setting((1, 8, 8), num_blocks=1, width=8, rounds=1, steps=1),
    "small": Setting((1, 28, 28), num_blocks=2, width=32),
    "paper": Setting((3, 32, 32), num_blocks=8, width=64, rounds=2, steps=2),
}
