"""Operators in C++: compiled once, shared by processes, and done without where they cannot be."""

import logging
import subprocess
import threading
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import test_norm_relu
import test_scan
import test_softmax
import torch
from pixels import config, generator, noise, randomised
from tiny import refusal, two_threads
from torch import Tensor

from nvp import PixelRNN
from nvp.autoregressive import scan, softmax
from nvp.autoregressive.scan import DIAGONAL, raster_lstm
from nvp.flows import norm_relu
from nvp.flows.batchnorm import EPSILON
from nvp.model import native
from nvp.training import loop


def norm(x: Tensor, beta: Tensor) -> Tensor:
    return norm_relu.norm_relu(x, beta, EPSILON)[0]


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
def test_threads_change_no_bit_and_there_are_no_second_derivatives(source, run, values) -> None:
    """Asked for, they are an error and not a wrong number.

    PyTorch's own refusal comes too late for a gradient of chosen weights, which leaves a part out.
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
    with refusal("NVP_PLAIN=1"):
        torch.autograd.grad(total, values[0], create_graph=True)


@pytest.mark.parametrize("kind", ["row_lstm", "diagonal_bilstm"])
def test_transforms_take_the_plain_form(kind: str) -> None:
    class Score(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = randomised(PixelRNN(config(kind)))

        def forward(self, images: Tensor) -> Tensor:
            return self.model.log_prob(images).sum()

    score, images = Score(), noise(2, 1, 3, 4, levels=2)
    weights = dict(score.named_parameters())
    found = torch.func.grad(torch.func.functional_call, argnums=1)(score, weights, images)
    score(images).backward()
    assert all(torch.allclose(found[name], p.grad, atol=1e-5) for name, p in weights.items())


def test_compiling_is_no_time_of_training(monkeypatch) -> None:
    before = loop._clock()
    monkeypatch.setattr(native, "_seconds", [*native._seconds, 60.0])
    assert before - 60 <= loop._clock() < before


@pytest.fixture
def unbuilt(monkeypatch, tmp_path: Path) -> Path:
    """No operator is compiled or loaded yet, and those of the next process neither; their place."""
    monkeypatch.delenv("NVP_PLAIN", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "_build", cache(native._build.__wrapped__))
    return tmp_path


@pytest.mark.parametrize(
    ("code", "errors", "reason"),
    [(1, b"In file\n1: error: \xffno\n", "(1: error: \ufffdno)"), (-9, b"", " ended with -9")],
)
@pytest.mark.usefixtures("unbuilt", "compiler")
def test_no_compiler(code: int, errors: bytes, reason: str, monkeypatch, caplog) -> None:
    """One line says so, once, and everything works."""
    ended = subprocess.CompletedProcess([], code, b"", errors)
    monkeypatch.setattr(subprocess, "run", Mock(side_effect=[ended]))
    model = randomised(PixelRNN(config("diagonal_bilstm")))
    images = torch.zeros(2, 1, 3, 4, dtype=torch.uint8)
    with caplog.at_level(logging.WARNING), torch.no_grad():
        logs = model.log_prob(images)
        model.log_prob(images)
    assert logs.isfinite().all()
    _, notice = (record.getMessage() for record in caplog.records)  # after that of the attempt
    assert "\n" not in notice
    assert "uncompiled" in notice
    assert reason in notice


def test_another_process_is_waited_for(tmp_path: Path, caplog) -> None:
    library = tmp_path / "nvp_scan.so"
    with native._alone(library, "the LSTM scan"):
        waits = threading.Thread(target=lambda: native._alone(library, "the LSTM scan").__enter__())
        with caplog.at_level(logging.WARNING):
            waits.start()
            for _ in range(6000):
                waits.join(0.01)
                if caplog.records:
                    break
        assert waits.is_alive()
        notice = "waiting for another process, which compiles the LSTM scan"
        assert [record.getMessage() for record in caplog.records] == [notice]
    waits.join()


@pytest.mark.parametrize(
    ("cxx", "reason"),
    [
        ("no-such-compiler -x", "no C++ compiler no-such-compiler: install"),
        ("c++ '", "No closing quotation"),
        ("sh", "no home"),
    ],
)
@pytest.mark.usefixtures("unbuilt")
def test_without_a_compiler_or_a_home_the_notice_says_so(cxx, reason, monkeypatch, caplog) -> None:
    monkeypatch.setenv("CXX", cxx)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", Mock(side_effect=RuntimeError("no home")))
    with caplog.at_level(logging.WARNING):
        assert not native.compiled(scan.SOURCE, "the LSTM scan")
    assert reason in caplog.records[0].getMessage()


@pytest.mark.parametrize(
    ("system", "capability", "threads"), [("linux", "SVE256", True), ("darwin", "DEFAULT", False)]
)
@pytest.mark.usefixtures("compiler")
def test_flags_are_those_that_the_compiler_knows(system, capability, threads, monkeypatch) -> None:
    """PyTorch's headers need flags of their own for SVE; Apple's compiler has no -fopenmp."""
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    flags = native._command(scan.SOURCE)
    assert "-DCPU_CAPABILITY_DEFAULT" in flags
    assert ("-fopenmp" in flags) == threads


@pytest.mark.usefixtures("compiler")
def test_what_a_killed_compiler_leaves_is_not_loaded(unbuilt: Path, monkeypatch) -> None:
    """An edit of the source is compiled, too, in a folder whose name has a space."""
    source = unbuilt / "own folder" / "own.cpp"
    source.parent.mkdir()
    source.write_text("int nvp = 0;\n")

    def killed(command: Sequence[str], **_: Any) -> None:
        Path(command[-1]).write_bytes(b"cut sh")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            native._build(source, "it")
        seconds = native.seconds_compiling()
        patch.undo()
        patch.setattr(native.fcntl, "flock", Mock(side_effect=OSError))  # a disk without locks
        assert native._build(source, "it")
    assert native.seconds_compiling() > seconds
    with monkeypatch.context() as patch:
        patch.setattr(native, "_alone", Mock(side_effect=OSError))  # a folder that is read-only
        assert native._build.__wrapped__(source, "it")
    source.write_text("#error\n")
    assert not native._build.__wrapped__(source, "it")
    places = {native._library(source, [name]) for name in ("c++", "g++")}
    monkeypatch.setattr(torch, "__version__", "another")
    assert len(places | {native._library(source, ["c++"])}) == 3
