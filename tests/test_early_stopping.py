"""Early stopping keeps the weights of the lowest validation score, whatever kills the run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import pixelrnn_configuration, refusal

from nvp.data.sets import load
from nvp.data.splits import spread
from nvp.likelihood import evaluate
from nvp.runs.folder import RunFolder
from nvp.runs.load import load_run
from nvp.runs.log import read_log
from nvp.runs.tensors import load_tensors
from nvp.training.loop import prepare, training_step
from nvp.training.state import State, save


def test_early_stopping_keeps_and_scores_the_best_weights(root: Path, tmp_path: Path) -> None:
    """A rate so high that the run gets worse: the best step is not the last one."""
    settings = {"steps": 30, "validate_minutes": 1e-9, "ema_decay": 0.5, "learning_rate": 0.3}
    RunFolder(tmp_path).legs.write_text("[]")
    RunFolder(tmp_path).best.write_text("left over from a lost run")
    prepare(pixelrnn_configuration(early_stopping=True, **settings), tmp_path, data_root=root).run()
    rows = read_log(tmp_path / "log.csv")
    best = min(rows, key=lambda row: row["validation"])
    assert 1 < best["step"] < 30
    header = load_tensors(RunFolder(tmp_path).best)[1]
    assert (header["step"], header["validation"]) == (best["step"], best["validation"])
    run = load_run(tmp_path, data_root=root)
    assert (run.training.chosen_step, run.training.header.step) == (best["step"], 30)
    images = spread(load("tiny-binary", "validation", root=root).images, 6)
    score = evaluate(run.model, images, batch_size=10).bits_per_dim
    assert score == pytest.approx(best["validation"], abs=1e-6)


def test_a_kill_leaves_no_best_weights_of_a_later_step(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(state: State, *arguments: Any) -> tuple[float, float]:
        if state.step == 3:
            raise SystemExit
        return training_step(state, *arguments)

    monkeypatch.setattr("nvp.training.loop.training_step", killed)
    settings = {"early_stopping": True, "validate_minutes": 1e-9, "checkpoint_minutes": 1e9}
    with pytest.raises(SystemExit):
        prepare(pixelrnn_configuration(steps=9, **settings), tmp_path, data_root=root).run()
    folder = RunFolder(tmp_path)
    best, last = (load_tensors(path)[1]["step"] for path in (folder.best, folder.checkpoint))
    assert best <= last


def test_a_kill_between_best_weights_and_checkpoint(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best weights are then of a step that training has to reach again."""
    settings = {"steps": 4, "early_stopping": True, "validate_minutes": 1e-9}
    config = pixelrnn_configuration(**settings, checkpoint_minutes=1e-9)
    prepare(config, tmp_path / "whole", data_root=root).run()

    def killed(state: State, *arguments: Any) -> None:
        if state.best is not None and state.step == state.best.step >= 2:
            raise SystemExit
        save(state, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr("nvp.training.loop.save", killed)
        with pytest.raises(SystemExit):
            prepare(config, tmp_path / "killed", data_root=root).run()
    with refusal(r"of step 2 and .* of step 1, .*: go on with `nvp train"):
        load_run(tmp_path / "killed", data_root=root)
    job = prepare(config, tmp_path / "killed", data_root=root)
    assert job.state.best is None
    job.run()
    whole, again = (load_tensors(RunFolder(tmp_path / n).best) for n in ("whole", "killed"))
    assert whole[1]["step"] == again[1]["step"]
    torch.testing.assert_close(again[0], whole[0], rtol=0, atol=0)
