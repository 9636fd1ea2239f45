"""The log of a run, where TensorBoard is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nvp.runs.folder import RunFolder
from nvp.runs.log import RunLog


def test_tensorboard_gets_what_the_log_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, points = [], set()

    class SummaryWriter:
        def __init__(self, folder: Path, purge_step: int) -> None:
            begun.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            points.add((name, value, step))

    module = SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    folder = RunFolder(tmp_path)
    RunLog(folder, 6).write({"step": 7, "loss": 2.5, "rate": 1e-3})
    assert begun == [(folder.tensorboard, 7)]
    assert points == {("loss", 2.5, 7), ("rate", 1e-3, 7)}
