"""Operators in C++, each compiled on first use and kept for later processes.

An operator is an optimisation: its caller has a plain form in PyTorch, for other devices and for
machines without a compiler.
"""

import contextlib
import fcntl
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from functools import cache, wraps
from pathlib import Path
from typing import Any

import torch

from nvp.errors import NVPError
from nvp.files import write

logger = logging.getLogger(__name__)

# PyTorch's own flags for each, and -mf16c. Not "native": a cache may be shared by machines.
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
    """Whether operators may be used: not within transforms of `torch.func`, such as `jacrev`.

    The variable NVP_PLAIN=1 says no to all of them. It is there to compare, to debug, and for what
    the operators lack: second derivatives, `torch.export`, and `torch.compile` without warnings.
    """
    plain = os.environ.get("NVP_PLAIN", "") == "1"
    return not (plain or torch._C._are_functorch_transforms_active())


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
    try:
        command = _command(source)
        library = _library(source, command)
        # A library that is there is whole, and its folder may be read-only.
        with contextlib.nullcontext() if library.exists() else _alone(library, what):
            if not library.exists():
                logger.warning("compiling %s, once on this machine", what)
                _compile(command, library)
            torch.ops.load_library(library)
        _seconds.append(time.perf_counter() - started)
    except (OSError, RuntimeError, ValueError) as error:  # no home; an open quotation in CXX
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = next((line for line in lines if "error:" in line), lines[0])[:100]
        logger.warning("%s runs uncompiled, which takes longer (%s)", what, reason)
        return False
    return True


def _command(source: Path) -> list[str]:
    """The command that compiles `source`, without the library's name. CXX names another compiler.

    PyTorch's own loader needs ninja, and cannot link where the path of PyTorch has a space.
    """
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in VECTOR_FLAGS:  # on ARM: the plain vectors need no flags
        capability = "DEFAULT"
    compiler = shlex.split(os.environ.get("CXX", "")) or ["c++"]
    if shutil.which(compiler[0]) is None:
        raise OSError(
            f"there is no C++ compiler {compiler[0]}: install one, or name another by CXX"
        )
    # Apple's compiler refuses -fopenmp; without it, an operator has one thread.
    system = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-fopenmp"]
    torch_folder = Path(torch.__file__).parent
    headers = torch_folder / "include"
    return [
        *compiler,
        *("-shared", "-fPIC", "-std=c++20", "-O3"),
        f"-D_GLIBCXX_USE_CXX11_ABI={torch.compiled_with_cxx11_abi():d}",
        # PyTorch's vector classes choose their width by these two names.
        *(f"-DCPU_CAPABILITY={capability}", f"-DCPU_CAPABILITY_{capability}"),
        *VECTOR_FLAGS[capability],
        *("-isystem", f"{headers}", "-isystem", f"{headers / 'torch/csrc/api/include'}"),
        # Conda keeps headers of other libraries, which PyTorch's include, in its own place.
        *("-idirafter", f"{sys.base_prefix}/include"),
        *(f"{source}", f"-L{torch_folder / 'lib'}", "-lc10", "-ltorch_cpu", "-ltorch", *system),
    ]


def _library(source: Path, command: list[str]) -> Path:
    """Where the library is kept: each source, command and PyTorch has a place of its own."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    checksum = zlib.crc32(f"{torch.__version__} {command}".encode())
    checksum = zlib.crc32(source.read_bytes(), checksum)
    folder = root / "nvp" / f"{source.stem}-{checksum:08x}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"nvp_{source.stem}.so"


def _compile(command: list[str], library: Path) -> None:
    """Write `library` atomically: loading one that was cut short would crash without a message."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / library.name
        done = subprocess.run([*command, "-o", f"{part}"], capture_output=True, check=False)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise OSError(said or f"{command[0]} ended with {done.returncode}")
        write(library, part.read_bytes())


@contextlib.contextmanager
def _alone(library: Path, what: str) -> Iterator[None]:
    """Let one process at a time compile; the others wait, and say so."""
    with library.with_name("compiling").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("waiting for another process, which compiles %s", what)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # some network file systems have no locks
            pass
        yield
