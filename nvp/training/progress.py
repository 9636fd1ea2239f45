"""Progress of long work: a bar on a terminal; elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeAlias

from nvp.config import TrainingConfig
from nvp.likelihood import nats_per_bit
from nvp.training.distributed import is_first

LINE_SECONDS = 30.0
Bar: TypeAlias = Callable[[float, str], None]  # takes the share that is done, and a status


@contextmanager
def bar(name: str) -> Iterator[Bar | None]:
    """A bar on a terminal; None elsewhere. It disappears at the end of the block."""
    terminal = is_first() and sys.stderr.isatty()
    if not terminal or find_spec("rich") is None:  # only the extra `cli` brings it
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[status]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=1.0, status="")
        yield lambda share, status: progress.update(task, completed=share, status=status)


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` are done: the block is given a function to tell it."""
    started = last_line = time.perf_counter()
    with bar(what) as shown:

        def update(done: int) -> None:
            nonlocal last_line
            now = time.perf_counter()
            left = f"{_clock((now - started) * (total / done - 1) / 60)} to go"
            if shown is not None:
                shown(done / total, left)
            elif is_first() and now - last_line >= LINE_SECONDS:
                last_line = now
                print(f"{what}: {done} of {total}, {left}", file=sys.stderr, flush=True)

        yield update


class Reporter:
    """Says how far a training run is, its score (its loss, if it has none) and the time left."""

    def __init__(
        self,
        name: str,
        settings: TrainingConfig,
        image_shape: tuple[int, int, int],
        shown: Bar | None,
    ) -> None:
        self.name, self.steps, self.minutes = name, settings.steps, settings.minutes
        self.nats_per_bit = nats_per_bit(image_shape)
        self.shown = shown
        self.first: tuple[int, float] | None = None
        self.last_line = -LINE_SECONDS

    def update(self, step: int, minutes: float, row: Mapping[str, float]) -> None:
        """Report after `step` steps and `minutes` of training; `row` is the latest of the log."""
        self.first = self.first or (step, minutes)
        score = f"loss {row['loss']:.3f}"
        if "bits_per_dim" in row:
            score = self._both(row["bits_per_dim"])
        if "validation" in row:
            score += f"  validation {self._both(row['validation'])}"
        left = self._minutes_left(step, minutes)
        status = f"step {step}  {score}  {_clock(minutes)} gone"
        status += "" if left is None else f", {_clock(left)} to go"
        if self.shown is not None:
            self.shown(0.0 if left is None else minutes / (minutes + left), status)
            return
        now = time.perf_counter()
        if "validation" in row or now - self.last_line >= LINE_SECONDS:
            self.last_line = now
            print(f"{self.name}: {status}", file=sys.stderr, flush=True)

    def _both(self, bits_per_dim: float) -> str:
        """In bits/dim, and in nats an image, the unit of binary images."""
        return f"{bits_per_dim:.3f} bits/dim ({self.nats_per_bit * bits_per_dim:.2f} nats)"

    def _minutes_left(self, step: int, minutes: float) -> float | None:
        left = [] if self.minutes is None else [max(0.0, self.minutes - minutes)]
        if self.steps is not None and self.first is not None and step > self.first[0]:
            pace = (minutes - self.first[1]) / (step - self.first[0])
            left.append(pace * (self.steps - step))
        return min(left) if left else None


def _clock(minutes: float) -> str:
    seconds = round(60 * minutes)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
