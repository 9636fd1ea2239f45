"""What a training run says of itself: how far it is, its score, and the time left."""

from __future__ import annotations

from collections.abc import Mapping

from nvp.config import TrainingConfig
from nvp.likelihood import nats_per_bit
from nvp.progress import Show, clock


class Reporter:
    """Says how far a training run is, its score (its loss, if it has none) and the time left."""

    def __init__(
        self, settings: TrainingConfig, image_shape: tuple[int, int, int], show: Show
    ) -> None:
        self.steps, self.minutes, self.show = settings.steps, settings.minutes, show
        self.nats_per_bit = nats_per_bit(image_shape)
        self.first: tuple[int, float] | None = None
        self.score = ""  # of the latest row

    def update(self, step: int, minutes: float, row: Mapping[str, float]) -> None:
        """Report after `step` steps and `minutes` of training; `row` is this step's of the log.

        It is empty for a step without one.
        """
        at_once = self.first is None or "validation" in row
        self.first = self.first or (step, minutes)
        if row:
            self.score = f"loss {row['loss']:.3f}  "
        if "bits_per_dim" in row:
            self.score = f"{self._both(row['bits_per_dim'])}  "
        if "validation" in row:
            self.score += f"validation {self._both(row['validation'])}  "
        left = self._minutes_left(step, minutes)
        status = f"step {step}  {self.score}{clock(minutes)} gone"
        status += "" if left is None else f", {clock(left)} to go"
        self.show(0.0 if left is None else minutes / (minutes + left), status, at_once)

    def _both(self, bits_per_dim: float) -> str:
        """In bits/dim, and in nats an image, the unit of binary images."""
        return f"{bits_per_dim:.3f} bits/dim ({self.nats_per_bit * bits_per_dim:.2f} nats)"

    def _minutes_left(self, step: int, minutes: float) -> float | None:
        left = [] if self.minutes is None else [max(0.0, self.minutes - minutes)]
        if self.steps is not None and self.first is not None and step > self.first[0]:
            pace = (minutes - self.first[1]) / (step - self.first[0])
            left.append(pace * (self.steps - step))
        return min(left) if left else None
