"""The sizes at which models are timed."""

from __future__ import annotations

from dataclasses import dataclass

from nvp.autoregressive.config import Kind, PixelRNNConfig


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """How often a model is timed: in `rounds` fresh processes, `steps` steps in each."""

    batch: int = 64
    rounds: int = 3
    steps: int = 3


@dataclass(frozen=True)
class Setting(Repeats):
    """A Real NVP."""

    image_shape: tuple[int, int, int]
    num_blocks: int
    width: int
    num_scales: int = 2

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


@dataclass(frozen=True)
class PixelSetting(Repeats):
    """The three Pixel RNNs of binary images; (layers, h) of both LSTMs and of the PixelCNN."""

    side: int
    lstm: tuple[int, int]
    pixelcnn: tuple[int, int]
    rows_by_definition: int = 1  # that are also drawn with a forward pass for every pixel

    def __str__(self) -> str:
        return (
            f"{self.side}x{self.side}x1, two levels, LSTMs of {self.lstm[0]} layers and "
            f"h = {self.lstm[1]}, PixelCNN of {self.pixelcnn[0]} blocks and h = {self.pixelcnn[1]}"
        )

    def config(self, kind: Kind) -> PixelRNNConfig:
        """What `nvp.PixelRNN` is made from."""
        layers, hidden = self.pixelcnn if kind is Kind.PIXELCNN else self.lstm
        return PixelRNNConfig(
            kind=kind,
            image_shape=(1, self.side, self.side),
            levels=2,
            num_layers=layers,
            hidden=hidden,
        )


PIXEL_SETTINGS = {
    "tiny": PixelSetting(7, lstm=(1, 4), pixelcnn=(1, 4), batch=4, rounds=1, steps=1),
    "small": PixelSetting(28, lstm=(7, 16), pixelcnn=(15, 32)),
    "small-16": PixelSetting(28, lstm=(7, 16), pixelcnn=(15, 32), batch=16),
}
