"""Early stopping keeps the weights of the lowest validation score, also where a run was stopped."""

from pathlib import Path

import pytest
import tiny
from tiny import pixelrnn_configuration

from nvp.data.sets import load
from nvp.data.splits import spread
from nvp.likelihood import evaluate
from nvp.runs.load import load_run
from nvp.runs.log import read_log
from nvp.training import loop
from nvp.training.loop import prepare


def test_early_stopping_keeps_and_scores_the_best_weights(root: Path, tmp_path: Path) -> None:
    """A rate so high that the run gets worse: the best step is not the last one."""
    settings = {"steps": 30, "validate_minutes": 1e-9, "ema_decay": 0.5, "learning_rate": 0.3}
    prepare(pixelrnn_configuration(early_stopping=True, **settings), tmp_path, data_root=root).run()
    rows = read_log(tmp_path / "log.csv")
    best = min(rows, key=lambda row: row["validation"])
    assert 1 < best["step"] < 30
    run = load_run(tmp_path, data_root=root)
    header = run.training.header
    assert (header.best.step, header.step) == (best["step"], 30)
    assert header.best.validation == best["validation"]
    images = spread(load("tiny-binary", "validation", root=root).images, 6)
    score = evaluate(run.model, images, batch_size=10).bits_per_dim
    assert score == pytest.approx(best["validation"], abs=1e-6)


def test_a_run_that_was_stopped_keeps_the_best_weights(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of its first step: every later one scores worse."""
    monkeypatch.setattr(loop, "validate", lambda state, *_: {"validation": float(state.step)})
    settings = {"early_stopping": True, "validate_minutes": 1e-9}
    tiny.check_resuming(lambda n: pixelrnn_configuration(steps=n, **settings), tmp_path, root)
    assert load_run(tmp_path / "parts", data_root=root).training.header.best.step == 1
