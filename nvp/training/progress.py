"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from nvp.likelihood import nats_per_bit

LINE_SECONDS = 30.0


class Reporter:
    """Shows how far a training run is, its score or else its loss, and when it will be done."""

    def __init__(
        self,
        name: str,
        steps: int | None,
        minutes: float | None,
        image_shape: tuple[int, int, int],
    ) -> None:
        self.name, self.steps, self.minutes = name, steps, minutes
        self.nats_per_bit = nats_per_bit(image_shape)
        self.first: tuple[int, float] | None = None
        self.last_line = -LINE_SECONDS
        self.bar: Progress | None = None
        if sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[status]}"),
                console=Console(stderr=True),
            )
            self.task = self.bar.add_task(name, total=1.0, status="")
            self.bar.start()

    def update(self, step: int, minutes: float, row: Mapping[str, float]) -> None:
        """Report after `step` steps and `minutes` of training; `row` is the latest of the log."""
        self.first = self.first or (step, minutes)
        status = f"step {step}  "
        if "bits_per_dim" in row:
            status += self._both(row["bits_per_dim"])
        else:
            status += f"loss {row['loss']:.3f}"
        if "validation" in row:
            status += f"  validation {self._both(row['validation'])}"
        left = self._minutes_left(step, minutes)
        status += f"  {_clock(minutes)} gone" + ("" if left is None else f", {_clock(left)} to go")
        if self.bar is not None:
            share = minutes / (minutes + left) if left is not None else 0.0
            self.bar.update(self.task, completed=share, status=status)
            return
        now = time.perf_counter()
        if "validation" in row or now - self.last_line >= LINE_SECONDS:
            self.last_line = now
            print(f"{self.name}: {status}", file=sys.stderr, flush=True)

    def _both(self, bits_per_dim: float) -> str:
        """In bits/dim, and in nats an image, the unit of binary images."""
        return f"{bits_per_dim:.3f} bits/dim ({self.nats_per_bit * bits_per_dim:.2f} nats)"

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.bar is not None:
            self.bar.stop()

    def _minutes_left(self, step: int, minutes: float) -> float | None:
        left = [] if self.minutes is None else [max(0.0, self.minutes - minutes)]
        if self.steps is not None and self.first is not None and step > self.first[0]:
            pace = (minutes - self.first[1]) / (step - self.first[0])
            left.append(pace * (self.steps - step))
        return min(left) if left else None


def _clock(minutes: float) -> str:
    seconds = round(60 * minutes)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
