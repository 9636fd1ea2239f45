"""Stopping long work between two steps, with nothing lost."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Within this block Ctrl-C, SIGTERM and SIGHUP only set the event; a second one stops at once.

    Schedulers send SIGTERM some time before they take a machine away, and a terminal SIGHUP when
    it is closed. Signals that are ignored stay so, as under nohup. Outside the main thread signals
    cannot be caught.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    left_alone = (signal.SIG_IGN, None)  # None: that of a program around Python
    former = {n: each for n in SIGNALS if (each := signal.getsignal(n)) not in left_alone}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        restore()
        with suppress(OSError):  # the terminal may be closed, or nobody reads the pipe
            os.write(2, b"nvp: stopping after this step; a second signal stops at once\n")

    for number in former:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()
