"""The compiled LSTM scan: `scan.cpp`, built on first use, with its own backward pass.

The layers call `raster_lstm` where `compiled(...)` allows it. Elsewhere they call their plain form
in PyTorch, which follows the paper's words more closely.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

logger = logging.getLogger(__name__)

# The flags of PyTorch itself for each. Not "native": a cache may be shared by machines.
VECTOR_FLAGS = {
    "AVX2": ["-mavx2", "-mfma", "-mf16c"],
    "AVX512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mf16c"],
}
DIAGONAL = 0  # in place of a kernel size: the taps of the Diagonal BiLSTM


def compiled(gates: Tensor) -> bool:
    """Whether the scan of these gates can run compiled: on a CPU, where a compiler was found.

    It does float32 and float64. The variable NVP_PLAIN_SCAN=1 says no, to compare or to debug.
    """
    wanted = os.environ.get("NVP_PLAIN_SCAN", "") != "1"
    can = gates.device.type == "cpu" and gates.dtype in (torch.float32, torch.float64)
    return wanted and can and _build()


def raster_lstm(gates: Tensor, weight: Tensor, initial: Tensor, kernel: int) -> Tensor:
    """The map of hidden states of eq 3, (N, H, W, h), both directions summed.

    `gates` is the input-to-state map, (N, H, W, directions, 4, h), in the order o, f, i, g;
    `weight` (directions, taps, h, 4h) maps the states of the neighbours to it; `initial`
    (directions, 2, L, h) holds the learned first h and c. `kernel` is the Row LSTM's k, or
    `DIAGONAL`: then the second direction is shifted down by one row.
    """
    return _RasterLSTM.apply(gates, weight, initial, kernel)


class _RasterLSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, initial: Tensor, kernel: int) -> Tensor:
        gates, weight, initial = gates.contiguous(), weight.contiguous(), initial.contiguous()
        out, states, activations = torch.ops.nvp_scan.forward(gates, weight, initial, kernel)
        ctx.save_for_backward(weight, states, activations)
        ctx.kernel = kernel
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        grad_gates, grad_weight, grad_initial = torch.ops.nvp_scan.backward(
            grads[0].contiguous(), *ctx.saved_tensors, ctx.kernel
        )
        return grad_gates, grad_weight, grad_initial, None


@cache
def _build() -> bool:
    """Compile `scan.cpp` for this machine's vectors, or load what an earlier process compiled."""
    capability = torch.backends.cpu.get_cpu_capability()
    # PyTorch's vector classes choose their width by these two names.
    flags = ["-O3", "-fopenmp", f"-DCPU_CAPABILITY={capability}", f"-DCPU_CAPABILITY_{capability}"]
    try:
        import ninja
        from torch.utils.cpp_extension import get_cxx_compiler, load

        compiler = get_cxx_compiler().split()[0]
        if shutil.which(compiler) is None:
            raise OSError(f"there is no C++ compiler {compiler}")
        folder = _folder(capability)
        library = folder / "nvp_scan.so"
        with _alone(library), _undamaged(library), _on_path(ninja.BIN_DIR):
            load(
                "nvp_scan",
                [str(Path(__file__).with_name("scan.cpp"))],
                extra_cflags=flags + VECTOR_FLAGS.get(capability, []),
                extra_ldflags=["-fopenmp"],
                build_directory=str(folder),
                is_python_module=False,
            )
    except (RuntimeError, OSError, ImportError, subprocess.SubprocessError) as error:
        # The compiler's own complaint, where PyTorch hands it on among much else.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = next((line for line in lines if "error:" in line), lines[0])[:100]
        logger.warning("the LSTM scan runs uncompiled, several times slower (%s)", reason)
        return False
    return True


def _folder(capability: str) -> Path:
    """Where the compiled scan is kept: a folder for each PyTorch, kind of CPU and checkout."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    checkout = zlib.crc32(__file__.encode())
    folder = root / "nvp" / f"scan-{torch.__version__}-{capability}-{checkout:08x}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _alone(library: Path) -> Iterator[None]:
    """Let one process at a time compile or load; the others wait, and say so if it compiles.

    The system frees this lock when its process ends, however it ends. PyTorch's own lock is a file
    that a killed process leaves behind, and for which its loader would wait for ever.
    """
    with library.with_name("compiling").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not library.exists():
                logger.warning("waiting for another process, which compiles the LSTM scan")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # some network file systems have no locks
            pass
        library.with_name("lock").unlink(missing_ok=True)
        yield


@contextlib.contextmanager
def _undamaged(library: Path) -> Iterator[None]:
    """Within this block `library` is as it was compiled, or it is compiled again.

    To load one that was cut short would end the process, without a word.
    """
    note = library.with_suffix(".crc32")

    def checksum() -> str:
        return str(zlib.crc32(library.read_bytes())) if library.exists() else ""

    if not note.exists() or note.read_text() != checksum():
        library.unlink(missing_ok=True)
    yield
    note.write_text(checksum())


@contextlib.contextmanager
def _on_path(folder: str) -> Iterator[None]:
    """Let PyTorch find a program that was installed beside Python."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before
