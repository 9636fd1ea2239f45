"""The training loop on tiny data: it learns, resumes exactly, and stops with one clear line."""

import math
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny import batch, configuration, fresh_state, images_of, pixelrnn_configuration, refusal
from torch import nn

from nvp.data.sets import load
from nvp.data.splits import hold_out, load_split, shuffled, spread
from nvp.errors import NVPError
from nvp.likelihood import evaluate
from nvp.model.protocol import batch_norms
from nvp.runs.folder import RunFolder
from nvp.runs.load import load_run
from nvp.runs.log import read_log
from nvp.runs.tensors import load_tensors
from nvp.training import allocator, loop, start
from nvp.training.divergence import check_sound
from nvp.training.loop import prepare, training_step, validate

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("configure", "settings"),
    [
        (configuration, {"learning_rate": 1e-2, "steps": 15}),
        (pixelrnn_configuration, {"learning_rate": 1e-2, "steps": 40}),
        (pixelrnn_configuration, {"learning_rate": 1e-2, "steps": 40, "optimiser": "rmsprop"}),
        (pixelrnn_configuration, {"learning_rate": 3e-2, "steps": 40, "optimiser": "muon"}),
    ],
)
def test_the_loss_falls(configure, settings, root: Path, tmp_path: Path) -> None:
    last = prepare(configure(**settings), tmp_path, data_root=root).run()
    rows = read_log(tmp_path / "log.csv")
    assert rows[-1] == pytest.approx(last)
    assert [row["step"] for row in rows] == list(range(1, settings["steps"] + 1))
    start, end = ([row["bits_per_dim"] for row in part] for part in (rows[:5], rows[-5:]))
    assert sum(end) / 5 < sum(start) / 5 - 0.2
    assert last["images"] == settings["steps"] * 8
    assert "validation" in last
    # Of the two the flow alone has batch norms.
    assert ("validation_batch_statistics" in last) == (configure is configuration)


@pytest.mark.usefixtures("handled")
def test_a_stop_loses_nothing(root: Path, tmp_path: Path, monkeypatch) -> None:
    """A signal within a step and a row of the log: the run ends as if it had never stopped.

    One within the last step does not stop it.
    """
    config = pixelrnn_configuration(steps=12, log_every=4)
    prepare(config, tmp_path / "whole", data_root=root).run()
    steps = 0

    def interrupted(*arguments: Any) -> tuple[float, float]:
        nonlocal steps
        steps += 1
        if steps in (6, 12):
            os.kill(os.getpid(), signal.SIGTERM)
        return training_step(*arguments)

    former = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("nvp.training.loop.training_step", interrupted)
    with refusal("stopped after step 6, which is saved: go on with"):
        prepare(config, tmp_path / "parts", data_root=root).run()
    assert signal.getsignal(signal.SIGTERM) is former
    _, header = load_tensors(RunFolder(tmp_path / "parts").checkpoint)
    assert header["minutes"] > header["validated"] == 0
    job = prepare(config, tmp_path / "parts", data_root=root)
    assert job.state.validated == 0  # so the next one is not put off
    job.run()
    assert steps == 12
    assert tiny.losses(tmp_path / "parts") == tiny.losses(tmp_path / "whole")


def test_a_run_may_be_outside_of_the_main_thread(root: Path, tmp_path: Path) -> None:
    """There no signal can be handled."""
    job = prepare(pixelrnn_configuration(steps=1), tmp_path, data_root=root)
    with ThreadPoolExecutor() as pool:
        assert pool.submit(job.run).result()["step"] == 1


def test_a_gradient_that_is_not_finite_ruins_nothing() -> None:
    state = fresh_state()
    next(state.model.parameters()).register_hook(lambda gradient: gradient * math.inf)
    before = [p.clone() for p in state.model.parameters()]
    with refusal("the gradient is not finite at step 0, the loss is"):
        training_step(state, batch(), configuration().training, 0.0)
    assert all(map(torch.equal, before, state.model.parameters()))


def test_a_lost_run_repeats_the_steps_after_its_checkpoint(root: Path, tmp_path: Path) -> None:
    checkpoint = RunFolder(tmp_path).checkpoint
    prepare(pixelrnn_configuration(steps=6), tmp_path, data_root=root).run()
    at_six = checkpoint.read_bytes()
    prepare(pixelrnn_configuration(steps=9), tmp_path, data_root=root).run()
    first = tiny.losses(tmp_path)
    checkpoint.write_bytes(at_six)
    prepare(pixelrnn_configuration(steps=9), tmp_path, data_root=root).run()
    assert tiny.losses(tmp_path) == first


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


def test_a_stopped_run_keeps_the_best_weights(root: Path, tmp_path: Path, monkeypatch) -> None:
    """Those of its first step: every later one scores worse."""
    monkeypatch.setattr(loop, "validate", lambda state, *_: {"validation": float(state.step)})
    settings = {"early_stopping": True, "validate_minutes": 1e-9}
    tiny.check_resuming(lambda n: pixelrnn_configuration(steps=n, **settings), tmp_path, root)
    assert load_run(tmp_path / "parts", data_root=root).training.header.best.step == 1
    told = start.train(pixelrnn_configuration(steps=3, **settings), tmp_path / "told", root)
    assert "; 1.0000 on images for validation (44.36 nats) after step 1; next: " in told


def test_a_loss_that_is_not_finite_names_the_first_layer() -> None:
    state = fresh_state()
    with torch.no_grad():
        state.model.flow.scales[0].checkerboard.bijections[1].net.conv_in.v.fill_(torch.nan)
    before = {name: value.clone() for name, value in state.ema.state_dict().items()}
    with refusal(r"loss is nan at step 0.*in layer .*\.bijections\.1\.net\.conv_in"):
        training_step(state, batch(), configuration().training, 0.0)
    assert all(torch.equal(before[name], value) for name, value in state.ema.state_dict().items())


def test_a_coupling_that_overflows_is_named_itself() -> None:
    """exp(s) is no module, so the smallest module that returned it is the coupling."""
    state = fresh_state()
    coupling = state.model.flow.scales[0].checkerboard.bijections[1]
    coupling.norm = None
    with torch.no_grad():
        coupling.scale.fill_(1e4)
    with refusal(r"first in layer flow\.scales\.0\.checkerboard\.bijections\.1$"):
        training_step(state, batch(), configuration().training, 0.0)


def test_weights_are_sound_as_the_norms_of_training_use_them() -> None:
    state = fresh_state(tiny.configured(tiny.config_tree(), model={"norm_running_average": True}))
    check_sound(state, batch())
    for norm in batch_norms(state.model):
        norm.running_mean.fill_(math.inf)  # the moments of a batch remain finite
    with refusal(r"first in layer flow\.scales\.0\.checkerboard\.bijections\.0\.norm$"):
        check_sound(state, batch())


def test_a_loss_beyond_the_last_layer(monkeypatch) -> None:
    state, seen = fresh_state(), []
    infinite = torch.full((8,), torch.inf)
    monkeypatch.setattr(state.model.prior, "log_prob", lambda z: seen.append(z) or infinite)
    with refusal(r"not finite after the last layer$"):
        training_step(state, batch(), configuration().training, 0.0)
    assert torch.equal(*seen)  # it is computed again from the same noise


@pytest.mark.parametrize(("minutes", "steps"), [(4, 3), (1e-9, 1)])
def test_the_time_budget_is_kept(minutes, steps, clock, root, tmp_path: Path, monkeypatch) -> None:
    """Of which the first weights take a minute, too; one step is taken all the same."""
    monkeypatch.setattr("nvp.training.loop.time", clock)
    config = pixelrnn_configuration(steps=None, minutes=minutes, anneal=0.5)
    for _ in range(2):  # the second run has nothing to do
        prepare(config, tmp_path, data_root=root).run()
        header = load_tensors(RunFolder(tmp_path).checkpoint)[1]
        assert (header["step"], header["minutes"]) == (steps, steps + 1.0)
    assert read_log(tmp_path / "log.csv")[-1]["rate"] >= 0


def test_a_validation_split_is_used_where_there_is_one(root: Path) -> None:
    config = pixelrnn_configuration()
    data = load("tiny-binary", "train", root=root).images
    images, validation = hold_out(data, config, root)
    assert torch.equal(images, data)
    assert torch.equal(validation, load("tiny-binary", "validation", root=root).images)
    for wanted, held in ((30, 6), (3, 3)):  # at most a tenth
        some = tiny.configured(tiny.config_tree(), evaluation={"validation_images": wanted})
        images, validation = hold_out(data, some, root)
        assert (len(images), len(validation)) == (60 - held, held)
    assert torch.equal(torch.cat((images, validation)), data)
    config = tiny.configured(tiny.pixelrnn_tree(), data={"limit": 5})
    splits = (load_split(config, split, root) for split in ("train", "validation", "test"))
    assert list(map(len, splits)) == [5, 30, 30]  # a limit is of training images
    assert len(load_split(config, "train", root, limit=9)) == 5
    assert len(load_split(config, "train", root, limit=3)) == 3


def test_a_few_images_are_spread_over_all() -> None:
    images = torch.arange(10)
    assert spread(images, 4).tolist() == [0, 2, 5, 7]
    assert torch.equal(spread(images, 10), images)
    assert torch.equal(spread(images, 20), images)


def test_images_for_statistics_come_in_no_order() -> None:
    """Files may be sorted by class: a batch of one class has moments like no other."""
    by_class = torch.arange(1000) // 100
    some = shuffled(by_class, 250)
    assert torch.equal(some, shuffled(by_class, 250))
    for part in some.split(50):
        assert len(part.unique()) > 7
    assert torch.equal(shuffled(by_class, 5000).sort().values, by_class)


@pytest.mark.skipif(not HUGE_PAGES.exists(), reason="this kernel has no huge pages")
def test_the_heap_is_of_huge_pages() -> None:
    """In a process of its own, since it cannot be undone; without PyTorch, whose import is slow."""
    code = (
        f"import runpy; runpy.run_path({allocator.__file__!r})['keep_freed_memory']()\n"
        "print(open('/proc/self/smaps').read())"
    )
    maps = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    heaps = re.findall(r"\[heap\]\nSize: +(\d+) kB.*?VmFlags:(.*?)\n", maps.stdout, re.DOTALL)
    huge = [int(kib) for kib, flags in heaps if "hg" in flags.split()]
    assert sum(huge) == pytest.approx(allocator.HEAP / 1024, rel=1e-3)


def test_subnormal_numbers_are_zero_while_a_run_trains(root: Path, tmp_path: Path) -> None:
    found: list[float] = []

    def halved() -> float:
        return (torch.tensor(2e-38) / 2).item()

    def look(_: object) -> None:
        with ThreadPoolExecutor() as pool:
            found.extend([halved(), pool.submit(halved).result()])
        raise NVPError("that is all")

    with refusal("that is all"):
        start.train(configuration(), tmp_path, root, before_first_step=look)
    assert found == [0, 0]
    assert halved() > 0


def test_statistics_of_a_batch_are_scored_as_a_run_is() -> None:
    """In full precision and without dropout: of all modules the batch norms alone train."""
    convolutions = torch.backends.cudnn.conv
    assert convolutions.fp32_precision == "tf32"  # PyTorch's default
    config, state, seen = configuration(), fresh_state(), []
    part = state.average.flow.scales[0].checkerboard.bijections[0].net
    part.register_forward_hook(lambda m, *_: seen.append((m.training, convolutions.fp32_precision)))
    validate(state, batch(20), batch(6), config)
    assert seen[-1] == (False, "ieee")
    assert all(module.training for module in state.average.modules())


def test_first_weights_are_set_from_a_few_images(root: Path, tmp_path: Path) -> None:
    job, seen = prepare(configuration(steps=1), tmp_path, data_root=root), []
    job.state.model.initialise = seen.append
    for _ in range(2):  # as a cell that is run again
        assert job.run()["step"] == 1
    (first,) = seen
    assert torch.equal(first, shuffled(job.data.images, 40))


@pytest.mark.parametrize("clip_norm", [0.5, math.inf])
def test_gradients_are_clipped(clip_norm: float, root: Path, tmp_path: Path) -> None:
    for steps in (1, 2):  # it comes back from a checkpoint
        config = pixelrnn_configuration(steps=steps, clip_norm=clip_norm)
        prepare(config, tmp_path, data_root=root).run()
    assert len(tiny.losses(tmp_path)) == 2
    state = fresh_state(config)
    _, norm = training_step(state, images_of(state.model), config.training, 0.0)
    assert norm > 0.5
    clipped = nn.utils.get_total_norm(p.grad for p in state.model.parameters())
    assert clipped.item() == pytest.approx(min(norm, clip_norm), rel=1e-3)


def test_bfloat16_runs_and_sums_in_float32(root: Path, tmp_path: Path) -> None:
    prepare(configuration(steps=2, precision="bf16"), tmp_path / "bf16", data_root=root).run()
    prepare(configuration(steps=2), tmp_path / "fp32", data_root=root).run()
    half, full = (tiny.losses(tmp_path / name) for name in ("bf16", "fp32"))
    assert half != full
    assert [loss for _, loss, _ in half] == pytest.approx([loss for _, loss, _ in full], rel=0.02)
    model, seen = fresh_state().model, []
    net = model.flow.scales[0].checkerboard.bijections[0].net
    net.register_forward_hook(lambda *given: seen.append(given[-1].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        z, log_det = model.flow(torch.randn(2, 1, 8, 8))
        log_prob = model.log_prob(batch(2))
        coupling = model.flow.scales[0].channelwise.bijections[0]  # whose scale is 1
        _, s = coupling.shift_and_log_scale(x := torch.randn(2, 4, 4, 4), coupling.mask(x))
    assert z.dtype == log_det.dtype == log_prob.dtype == torch.float32
    assert seen[0] is torch.bfloat16
    assert not torch.equal(s, s.bfloat16().float())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model": {"image_shape": [1, 16, 16]}}, r"is \[1, 16, 16\] but tiny holds \[1, 8, 8\]"),
        ({"training": {"batch_size": 55}}, "batch_size 55 exceeds the 54 training images of tiny"),
        ({"data": {"limit": 3}}, "of 3 training images of tiny 1 are left .* raise data.limit"),
        ({"data": {"name": "tiny-binary"}}, "holds images of two levels, .* with model.levels 2"),
    ],
)
def test_bad_input_is_one_line(changes, complaint, root: Path, tmp_path: Path) -> None:
    with refusal(complaint):
        config = tiny.configured(tiny.config_tree(), **changes)
        prepare(config, tmp_path / "run", data_root=root).run()
    assert not (tmp_path / "run").exists()
