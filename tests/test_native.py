"""Operators in C++: compiled once, shared by processes, and done without where they cannot be."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import test_norm_relu
import test_scan
import test_softmax
import torch
from pixels import config, generator, noise, randomised
from tiny import two_threads
from torch import Tensor
from torch.utils import cpp_extension

from nvp import PixelRNN
from nvp.autoregressive import scan, softmax
from nvp.autoregressive.scan import DIAGONAL, raster_lstm
from nvp.errors import NVPError
from nvp.flows import norm_relu
from nvp.flows.resnet import BATCH_NORM_EPSILON
from nvp.model import native
from nvp.training import loop


def norm(x: Tensor, beta: Tensor) -> Tensor:
    return norm_relu.norm_relu(x, beta, BATCH_NORM_EPSILON)[0]


row, diagonal = (partial(raster_lstm, kernel=kernel) for kernel in (3, DIAGONAL))
level = partial(softmax.log_softmax_at, images=noise(4, 3, 9, 8))


@pytest.mark.parametrize(
    ("source", "run", "values"),
    [
        (scan.SOURCE, row, test_scan.inputs(3, 19, 4, 5, 11)),
        (scan.SOURCE, diagonal, test_scan.inputs(DIAGONAL, 19, 4, 5, 11)),
        (norm_relu.SOURCE, norm, test_norm_relu.inputs(33, 9, 16)[:2]),
        (softmax.SOURCE, level, test_softmax.inputs(256, (4, 3, 9, 8))[:1]),
    ],
    ids=["row", "diagonal", "norm", "softmax"],
)
@pytest.mark.usefixtures("compiler")
def test_threads_change_no_bit_and_there_are_no_second_derivatives(
    source: Path, run: Callable[..., Tensor], values: Sequence[Tensor]
) -> None:
    """Asked for, they are an error and not a wrong number: PyTorch's own refusal comes too late
    for a gradient of chosen weights, which leaves a part out.
    """
    assert native.compiled(source, source.stem)

    def results() -> list[Tensor]:
        out = run(*values)
        slope = torch.randn(out.shape, generator=generator(1)).to(out)
        return [out, *torch.autograd.grad(out, values, slope)]

    one = results()
    with two_threads():
        two = results()
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    total = run(*values).float().square().sum()
    with pytest.raises(NVPError, match="NVP_PLAIN=1"):
        torch.autograd.grad(total, values[0], create_graph=True)


def test_compiling_is_no_time_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    before = loop._clock()
    monkeypatch.setattr(native, "_seconds", [*native._seconds, 60.0])
    assert before - 60 <= loop._clock() < before


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(
            "Error building extension 'nvp_scan': [1/2] c++\nscan.cpp: error\nninja: stopped"
        ),
        ImportError("no module named setuptools"),
        subprocess.CalledProcessError(1, ["c++", "--version"]),
        RuntimeError(),
    ],
    ids=repr,
)
def test_no_compiler(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says so, once, and everything works."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.delenv("NVP_PLAIN", raising=False)
    monkeypatch.setattr(cpp_extension, "load", fail)
    monkeypatch.setattr(native, "_build", cache(native._build.__wrapped__))  # nothing is built yet
    model = randomised(PixelRNN(config("diagonal_bilstm")))
    images = torch.zeros(2, 1, 3, 4, dtype=torch.uint8)
    with caplog.at_level(logging.WARNING), torch.no_grad():
        logs = model.log_prob(images)
        model.log_prob(images)
    assert logs.isfinite().all()
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert "uncompiled" in record.getMessage()


@pytest.mark.parametrize("there", [False, True])
def test_a_killed_compilation_stops_nobody(
    there: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The lock file, for which PyTorch's loader would wait, goes; another process is waited for.

    A process that only loads what is there takes no time worth a notice.
    """
    library = tmp_path / "nvp_scan.so"
    if there:
        library.touch()
    (tmp_path / "lock").touch()
    with native._alone(library, "the LSTM scan"):
        assert not (tmp_path / "lock").exists()
        waits = threading.Thread(target=lambda: native._alone(library, "the LSTM scan").__enter__())
        with caplog.at_level(logging.WARNING):
            waits.start()
            waits.join(0.5)
        assert waits.is_alive()
        notice = "waiting for another process, which compiles the LSTM scan"
        assert [record.getMessage() for record in caplog.records] == [notice] * (not there)
    waits.join()


@pytest.mark.parametrize("compiler", ["no-such-compiler", ""])
def test_without_a_compiler_the_notice_names_it(
    compiler: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", f"{compiler} -x" if compiler else "")
    monkeypatch.setattr(cpp_extension, "load", lambda *_, **__: None)
    with caplog.at_level(logging.WARNING):
        assert not native._build.__wrapped__(scan.SOURCE, "the LSTM scan")
    assert f"(there is no C++ compiler {compiler}".rstrip() in caplog.records[0].getMessage()


@pytest.mark.parametrize(
    ("system", "capability", "named", "threads"),
    [
        ("linux", "AVX2", "AVX2", True),
        ("linux", "SVE256", "DEFAULT", True),
        ("darwin", "DEFAULT", "DEFAULT", False),
    ],
)
@pytest.mark.usefixtures("compiler")
def test_flags_are_those_that_the_compiler_knows(
    system: str,
    capability: str,
    named: str,
    threads: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """PyTorch's headers need flags of their own for SVE; Apple's compiler has no -fopenmp."""
    given: dict[str, Any] = {}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(cpp_extension, "load", lambda *_, **settings: given.update(settings))
    assert native._build.__wrapped__(scan.SOURCE, "the LSTM scan")
    assert f"-DCPU_CAPABILITY_{named}" in given["extra_cflags"]
    assert ("-mavx2" in given["extra_cflags"]) == (capability == "AVX2")
    assert given["extra_ldflags"] == ["-fopenmp"] * threads


def test_a_library_that_was_cut_short_is_compiled_again(tmp_path: Path) -> None:
    library = tmp_path / "nvp_scan.so"
    with native._undamaged(library):
        library.write_bytes(b"compiled")
    with native._undamaged(library):
        assert library.read_bytes() == b"compiled"
    for damaged, content in ((library, b"comp"), (tmp_path / "nvp_scan.crc32", b"\xff")):
        damaged.write_bytes(content)
        with native._undamaged(library):
            assert not library.exists()
            library.write_bytes(b"compiled anew")
    with native._undamaged(library):
        assert library.exists()
