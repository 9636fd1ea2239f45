"""The status of a training run: how far it is, its score, and the time left."""

from collections.abc import Mapping

from nvp.config import RunConfig
from nvp.likelihood import nats_per_bit
from nvp.progress import Show, clock


class Reporter:
    """Says how far a training run is, the time left and its score (its loss, if it has none).

    In the papers' units: nats an image for two levels, else bits/dim.
    """

    def __init__(self, config: RunConfig, show: Show) -> None:
        self.steps, self.minutes = config.training.steps, config.training.minutes
        self.show = show
        self.units = (1.0, 3, "bits/dim")  # of 1 bit/dim, and the decimals
        if config.is_binary:
            self.units = (nats_per_bit(config.model.image_shape), 2, "nats")
        self.first: tuple[int, float] | None = None
        self.score = ""  # of the latest row

    def update(self, step: int, minutes: float, row: Mapping[str, float]) -> None:
        """Report after `step` steps and `minutes` of training.

        `row` is the row of the log for this step, empty if there is none.
        """
        at_once = self.first is None or "validation" in row
        self.first = self.first or (step, minutes)
        if row:
            self.score = f"  loss {row['loss']:.3f}"
        if "bits_per_dim" in row:
            self.score = f"  {self._in_units(row['bits_per_dim'])}"
        if "validation" in row:
            self.score += f", validation {self._in_units(row['validation'])}"
        left = self._minutes_left(step, minutes)
        status = f"step {step}  {clock(minutes)} gone"
        status += "" if left is None else f", {clock(left)} to go"
        share = 0.0 if left is None else minutes / (minutes + left)
        self.show(share, status + self.score, at_once)

    def _in_units(self, bits_per_dim: float) -> str:
        factor, decimals, unit = self.units
        return f"{factor * bits_per_dim:.{decimals}f} {unit}"

    def _minutes_left(self, step: int, minutes: float) -> float | None:
        left = [] if self.minutes is None else [max(0.0, self.minutes - minutes)]
        if self.steps is not None and self.first is not None and step > self.first[0]:
            pace = (minutes - self.first[1]) / (step - self.first[0])
            left.append(pace * (self.steps - step))
        return min(left) if left else None
