"""Progress of long work: a bar on a terminal; elsewhere a line now and then."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeAlias

LINE_SECONDS = 30.0
Bar: TypeAlias = Callable[[float, str], None]  # takes the share that is done, and a status


@contextmanager
def bar(name: str) -> Iterator[Bar | None]:
    """A bar on a terminal; None elsewhere. It disappears at the end of the block."""
    terminal = _speaks() and sys.stderr.isatty()
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
def counting(what: str, total: int, before: int = 0) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` are done: the block is given a function to tell it.

    Those done `before` the block count, but say nothing about its pace.
    """
    started = last_line = time.perf_counter()
    with bar(what) as shown:

        def update(done: int) -> None:
            nonlocal last_line
            now = time.perf_counter()
            minutes_each = (now - started) / 60 / max(1, done - before)
            left = f"{clock(minutes_each * (total - done))} to go"
            if shown is not None:
                shown(done / total, left)
            elif _speaks() and now - last_line >= LINE_SECONDS:
                last_line = now
                print(f"{what}: {done} of {total}, {left}", file=sys.stderr, flush=True)

        yield update


def clock(minutes: float) -> str:
    """Hours, minutes and seconds: 75.5 is "1:15:30"."""
    seconds = round(60 * minutes)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _speaks() -> bool:
    """Whether this process is the one that reports: of several, torchrun numbers them."""
    return os.environ.get("RANK", "0") == "0"
