"""Operators in C++, each compiled on first use and kept for later processes.

An operator is an optimisation: its caller has a plain form in PyTorch, for other devices and for
machines without a compiler.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from functools import cache, wraps
from pathlib import Path
from typing import Any

import torch

from nvp.errors import NVPError

logger = logging.getLogger(__name__)

# The flags of PyTorch itself for each. Not "native": a cache may be shared by machines.
VECTOR_FLAGS = {
    "DEFAULT": [],
    "AVX2": ["-mavx2", "-mfma", "-mf16c"],
    "AVX512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mf16c"],
}


def compiled(source: Path, what: str) -> bool:
    """Whether the operators of `source` can be called, as torch.ops.nvp_STEM.

    Without a compiler they cannot. One line then says so, once, and names them by `what`.
    """
    return wanted() and _build(source, what)


def wanted() -> bool:
    """Whether operators may be used. The variable NVP_PLAIN=1 says no to all of them.

    It is there to compare, to debug, and for what the operators lack: second derivatives, `grad`
    and `jacrev` of `torch.func`, and `torch.export`.
    """
    return os.environ.get("NVP_PLAIN", "") != "1"


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """The backward pass of an operator; raises `NVPError` under `create_graph=True`.

    PyTorch's decorator of this name raises later, and not at all where `torch.autograd.grad` asks
    for chosen weights: the second derivative then lacks a part.
    """

    @wraps(backward)
    def checked(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():
            raise NVPError(
                "a compiled operator has no second derivative, which create_graph=True asks for: "
                "set the environment variable NVP_PLAIN=1"
            )
        return backward(ctx, *grads)

    return checked


_seconds: list[float] = []  # of each operator that this process compiled or loaded


def seconds_compiling() -> float:
    """The seconds that this process has spent on compiling and loading operators."""
    return sum(_seconds)


@cache
def _build(source: Path, what: str) -> bool:
    """Compile for this machine's vectors, or load what an earlier process compiled."""
    started = time.perf_counter()
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in VECTOR_FLAGS:  # on ARM: the plain vectors need no flags
        capability = "DEFAULT"
    # PyTorch's vector classes choose their width by these two names.
    flags = ["-O3", f"-DCPU_CAPABILITY={capability}", f"-DCPU_CAPABILITY_{capability}"]
    # Apple's compiler refuses this flag; without it, an operator has one thread.
    openmp = [] if sys.platform == "darwin" else ["-fopenmp"]
    try:
        import ninja

        # Where CUDA is and no GPU, it would warn of that; the operators are for a CPU.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        from torch.utils.cpp_extension import get_cxx_compiler, load

        compiler = (get_cxx_compiler().split() or [""])[0]
        if shutil.which(compiler) is None:
            raise OSError(f"there is no C++ compiler {compiler}")
        folder = _folder(source, capability)
        library = folder / f"nvp_{source.stem}.so"
        with _alone(library, what), _undamaged(library), _on_path(ninja.BIN_DIR):
            if not library.exists():
                logger.warning("compiling %s, once on this machine", what)
            load(
                library.stem,
                [str(source)],
                extra_cflags=flags + openmp + VECTOR_FLAGS[capability],
                extra_ldflags=openmp,
                build_directory=str(folder),
                is_python_module=False,
            )
        _seconds.append(time.perf_counter() - started)
    except (RuntimeError, OSError, ImportError, subprocess.SubprocessError) as error:
        # The compiler's own complaint, where PyTorch hands it on among much else.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = next((line for line in lines if "error:" in line), lines[0])[:100]
        logger.warning("%s runs uncompiled, which takes longer (%s)", what, reason)
        return False
    return True


def _folder(source: Path, capability: str) -> Path:
    """Where the library is kept: a folder for each PyTorch, kind of CPU and checkout."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    checkout = zlib.crc32(str(source).encode())
    name = f"{source.stem}-{torch.__version__}-{capability}-{checkout:08x}"
    folder = root / "nvp" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _alone(library: Path, what: str) -> Iterator[None]:
    """Let one process at a time compile or load; the others wait, and say so if it compiles.

    The system frees this lock when its process ends, however it ends. PyTorch's own lock is a file
    that a killed process leaves behind, and for which its loader would wait for ever.
    """
    with library.with_name("compiling").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not library.exists():
                logger.warning("waiting for another process, which compiles %s", what)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # some network file systems have no locks
            pass
        library.with_name("lock").unlink(missing_ok=True)
        yield


@contextlib.contextmanager
def _undamaged(library: Path) -> Iterator[None]:
    """Within this block `library` is as it was compiled, or it is compiled again.

    Loading a library that was cut short would end the process without a message.
    """
    note = library.with_suffix(".crc32")

    def checksum() -> bytes:
        return b"%d" % zlib.crc32(library.read_bytes()) if library.exists() else b""

    if not note.exists() or note.read_bytes() != checksum():
        library.unlink(missing_ok=True)
    yield
    note.write_bytes(checksum())


@contextlib.contextmanager
def _on_path(folder: str) -> Iterator[None]:
    """Let PyTorch find a program that was installed beside Python."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before
