"""Progress of long work: a bar on a terminal; elsewhere a line now and then."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console

LINE_SECONDS = 30.0
# Takes the share that is done, a status, and whether to say it at once.
Show: TypeAlias = Callable[[float, str, bool], None]


@contextmanager
def shown(name: str) -> Iterator[Show]:
    """Yield a function that shows how far work is: by a bar, removed at the end, or by lines.

    Of the processes that torchrun starts, only the first shows anything.
    """
    last_line = time.perf_counter()

    def line(_share: float, status: str, at_once: bool) -> None:
        nonlocal last_line
        now = time.perf_counter()
        if at_once or now - last_line >= LINE_SECONDS:
            last_line = now
            with suppress(OSError):  # a full disk, a closed terminal: the work goes on
                print(f"{name}: {status}", file=sys.stderr, flush=True)

    if os.environ.get("RANK", "0") != "0":
        yield lambda share, status, at_once: None
    # Only the extra `cli` brings rich, which draws no bar on a dumb terminal, such as Emacs's.
    elif not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or find_spec("rich") is None:
        yield line
    else:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[status]}", markup=False),
        )
        with Progress(*columns, console=_console(), transient=True) as progress:
            task = progress.add_task(name, total=1.0, status="")
            yield lambda share, status, _: progress.update(task, completed=share, status=status)


@cache
def _console() -> "Console":
    """The one console, so that a bar within a bar has a line of its own."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def counting(what: str, total: int, before: int = 0) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` are done, and the time left; the block calls the yielded function.

    That function takes the number that is done. The first `before` were done earlier, so they do
    not count for the pace.
    """
    with shown(what) as show:
        started = time.perf_counter()

        def update(done: int) -> None:
            minutes_each = (time.perf_counter() - started) / 60 / max(1, done - before)
            left = clock(minutes_each * (total - done))
            show(done / total, f"{done} of {total}, {left} to go", False)

        yield update


def clock(minutes: float) -> str:
    """Hours, minutes and seconds: 75.5 is "1:15:30"."""
    seconds = round(60 * minutes)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
