"""How the C library hands out memory."""

from __future__ import annotations

import contextlib
import ctypes

# Names of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks; by default it maps every tensor over 32 MiB afresh.

    Each map comes as pages to be cleared: more than half of the time it took to score the
    PixelCNN of 15 blocks, and about a fifth of a training step of the seven-layer Diagonal BiLSTM,
    in trials beside other work. Does nothing where there is no glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**30)
