"""What a configuration asks for reaches the run: seed, rate, momentum, average, log, files."""

import math
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import tiny
import torch
from tiny import batch, configuration, fresh_state, images_of, pixelrnn_configuration
from torch import Tensor, nn

from nvp.config import Precision, TrainingConfig
from nvp.runs.folder import RunFolder
from nvp.runs.log import RunLog, read_log
from nvp.training import loop, state
from nvp.training.loop import prepare, training_step
from nvp.training.optimiser import make_optimiser, orthogonal
from nvp.training.reporter import Reporter
from nvp.training.state import save


def test_first_weights_and_order_follow_from_the_seed() -> None:
    one, other = (fresh_state(seed=seed) for seed in (0, 1))
    assert not all(map(torch.equal, one.model.parameters(), other.model.parameters()))
    assert not torch.equal(one.order, other.order)


def test_dropout_differs_from_step_to_step_and_with_the_seed() -> None:
    state, losses = fresh_state(tiny.configured(tiny.pixelrnn_tree(), model={"dropout": 0.5})), []
    for state.step, state.seed in ((0, 0), (0, 0), (1, 0), (0, 1)):
        losses.append(state.loss(images_of(state.model), state.noise).item())
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_each_step_has_noise_of_its_own() -> None:
    state, settings = fresh_state(), configuration(learning_rate=1e-12).training
    first, second = (training_step(state, batch(), settings, 0.0)[0] for _ in range(2))
    assert abs(first - second) > 1e-3


def test_the_rate_of_a_run_warms_up_and_anneals(root: Path, tmp_path: Path) -> None:
    config = pixelrnn_configuration(steps=8, warmup_steps=2, anneal=0.5)
    prepare(config, tmp_path, data_root=root).run()
    rates = [row["rate"] for row in read_log(RunFolder(tmp_path).log)]
    assert rates == pytest.approx([5e-4, 1e-3, 1e-3, 1e-3, 1e-3, 7.5e-4, 5e-4, 2.5e-4])


def test_the_momentum_of_muon_is_nesterovs() -> None:
    conv = nn.Conv2d(3, 4, 3, bias=False)
    optimiser = make_optimiser(conv, TrainingConfig(steps=1, optimiser="muon"))
    momentum = torch.zeros_like(conv.weight)
    for _ in range(3):
        before, gradient = conv.weight.detach().clone(), torch.randn_like(conv.weight)
        conv.weight.grad = gradient.clone()
        optimiser.step()
        momentum = 0.95 * momentum + 0.05 * gradient
        ahead = orthogonal((0.95 * momentum + 0.05 * gradient).flatten(1))
        assert torch.allclose((conv.weight.detach() - before).flatten(1), -1e-3 * ahead, atol=2e-5)


def test_the_decay_of_the_average_is_that_of_the_configuration() -> None:
    config = pixelrnn_configuration(ema_decay=0.0)
    state = fresh_state(config)
    for _ in range(2):
        training_step(state, images_of(state.model), config.training, 0.0)
    assert all(map(torch.equal, state.average.parameters(), state.model.parameters()))


def test_a_resumed_run_keeps_its_precision(root: Path, tmp_path: Path, monkeypatch) -> None:
    for found, steps in ((Precision.FP32, 1), (Precision.BF16, 2)):
        monkeypatch.setattr("nvp.training.state.faster_precision", lambda _, found=found: found)
        config = pixelrnn_configuration(steps=steps, precision="auto")
        job = prepare(config, tmp_path, data_root=root)
        assert job.state.precision is Precision.FP32
        job.run()


def test_the_faster_precision_is_the_one_of_less_time(monkeypatch) -> None:
    now, conv2d = 0.0, nn.functional.conv2d
    cost = {torch.bfloat16: 1.0, torch.float32: 2.0}

    def timed(x: Tensor, *arguments: object, **options: object) -> Tensor:
        nonlocal now
        now += cost[x.dtype]
        return conv2d(x, *arguments, **options)

    monkeypatch.setattr(state.time, "perf_counter", lambda: now)
    monkeypatch.setattr(nn.functional, "conv2d", timed)
    assert state.faster_precision(torch.device("cpu")) is Precision.BF16
    cost[torch.bfloat16] = 3.0
    assert state.faster_precision(torch.device("cpu")) is Precision.FP32


def test_cadences_count_from_the_last_time(clock, root, tmp_path: Path, monkeypatch) -> None:
    """Also where the run goes on, after step 4."""
    monkeypatch.setattr(loop, "time", clock)
    saved: list[int] = []
    monkeypatch.setattr(loop, "save", lambda s, *rest: saved.append(s.step) or save(s, *rest))
    for steps in (4, 10):
        # Seconds of compiling, which the clock leaves out, round a minute up or down.
        config = pixelrnn_configuration(steps=steps, validate_minutes=2.9, checkpoint_minutes=2.9)
        prepare(config, tmp_path, data_root=root).run()
    rows = read_log(RunFolder(tmp_path).log)
    assert [row["step"] for row in rows if "validation" in row] == [2, 4, 7, 10]
    assert saved == [3, 4, 7, 10]


def test_the_time_left_and_the_share_of_a_bar() -> None:
    shown: list[tuple[float, str]] = []
    config = pixelrnn_configuration(steps=100)
    reporter = Reporter(config, lambda *each: shown.append(each[:2]))
    reporter.update(9, 0.9, {})  # before the first row
    assert shown == [(0.0, "step 9  0:00:54 gone")]
    for step in (10, 20):
        reporter.update(step, step / 10, {"loss": 1.0, "bits_per_dim": 0.5})
    share, status = shown[-1]
    assert share == pytest.approx(0.2)
    assert status == "step 20  0:02:00 gone, 0:08:00 to go  22.18 nats"
    reporter.update(30, 3.0, {"loss": 1.0, "validation": 0.25})
    assert shown[-1][1].endswith("0:07:00 to go  loss 1.000, validation 11.09 nats")
    reporter.steps, reporter.minutes = 10_000, 95.5  # of which the second is nearer
    reporter.update(40, 20.0, {})
    assert "0:20:00 gone, 1:15:30 to go" in shown[-1][1]
    assert TrainingConfig(steps=10, minutes=4).spent(5, 3.0) == 0.75


def test_a_row_of_the_log_has_means_since_the_one_before(root: Path, tmp_path: Path) -> None:
    for every in (1, 2):
        config = pixelrnn_configuration(steps=4, log_every=every)
        prepare(config, tmp_path / str(every), data_root=root).run()
    each, pairs = (read_log(RunFolder(tmp_path / every).log) for every in "12")
    for key in ("loss", "gradient_norm"):
        a, b, c, d = (row[key] for row in each)
        assert [row[key] for row in pairs] == pytest.approx([(a + b) / 2, (c + d) / 2])
    for row in pairs:  # the loss is in nats an image, and this model adds no regulariser
        assert row["bits_per_dim"] == pytest.approx(row["loss"] / (64 * math.log(2)))


def test_tensorboard_gets_what_the_log_gets(tmp_path: Path, monkeypatch) -> None:
    tensorboard, folder = Mock(), RunFolder(tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", tensorboard)
    RunLog(folder, 6).write({"step": 7, "loss": 2.5, "rate": 1e-3})
    tensorboard.SummaryWriter.assert_called_once_with(folder.tensorboard, purge_step=7)
    points = tensorboard.SummaryWriter.return_value.add_scalar.call_args_list
    assert {point.args for point in points} == {("loss", 2.5, 7), ("rate", 1e-3, 7)}
