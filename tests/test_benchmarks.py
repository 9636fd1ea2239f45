"""The benchmarks' machinery, on tiny sizes. Nothing here looks at how long anything took."""

import json
import sys
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import done, refusal
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import coverage, families, pixelrnn, processes, realnvp, seeds
from benchmarks.benchmark import CEILING, FP32, PLAIN, SAMPLING, Benchmark
from benchmarks.measure import convolution_rates, measure
from benchmarks.peers.plain_pixelrnn import Diagonal, PlainPixelRNN, Row
from benchmarks.peers.plain_realnvp import PlainRealNVP
from benchmarks.report import render
from nvp import PixelRNN, PixelRNNConfig, RealNVP, RealNVPConfig
from nvp.autoregressive.config import Kind
from nvp.autoregressive.diagonal_bilstm import DiagonalBiLSTM
from nvp.autoregressive.masked_conv import MaskedConv2d
from nvp.autoregressive.row_lstm import RowLSTM
from nvp.data import EMBEDDED, load
from nvp.flows.coupling import AffineCoupling
from nvp.flows.resnet import ShiftedBatchNorm, WeightNormConv2d
from nvp.ledger import runs
from nvp.likelihood import evaluate
from nvp.paths import repository_root
from nvp.runs.load import load_run

BENCHMARKS = (realnvp.BENCHMARK, pixelrnn.BENCHMARK)
EVERYTHING = [(benchmark, name) for benchmark in BENCHMARKS for name in benchmark.names]
LIBRARY = "realnvp/normflows"


def tiny(kind: str) -> PixelRNNConfig:
    return pixelrnn.BENCHMARK.settings["tiny"].models[kind]


@torch.no_grad()
def copy_flow(ours: RealNVP, plain: PlainRealNVP) -> None:
    """Give `plain` the weights of `ours`, whose couplings and layers come in the same order."""
    mine = [m for m in ours.modules() if isinstance(m, AffineCoupling)]
    scales = zip_longest(plain.board, plain.channelwise, fillvalue=())
    theirs = [coupling for board, channelwise in scales for coupling in (*board, *channelwise)]
    for one, two in zip(mine, theirs, strict=True):
        two.scale.copy_(one.scale.reshape(()))
        own = [m for m in one.net.modules() if isinstance(m, WeightNormConv2d | ShiftedBatchNorm)]
        others = [m for m in two.net.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
        for layer, other in zip(own, others, strict=True):
            if isinstance(layer, ShiftedBatchNorm):
                other.bias.copy_(layer.beta)
                continue
            other.weight = layer.weight
            if layer.bias is not None:
                other.bias.copy_(layer.bias)


def test_plain_code_is_the_same_flow() -> None:
    sizes = {"num_scales": 3, "num_blocks": 1, "width": 4}
    config = RealNVPConfig.paper((3, 8, 8), checkerboard_scale_init=0.5, **sizes)
    ours, plain = RealNVP(config), PlainRealNVP(config)
    for module in ours.modules():
        if isinstance(module, ShiftedBatchNorm):
            nn.init.normal_(module.beta, std=0.1)
    copy_flow(ours, plain)
    images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    torch.manual_seed(1)
    expected = ours.log_prob(images)
    torch.manual_seed(1)
    torch.testing.assert_close(plain.log_prob(images), expected, rtol=1e-4, atol=1e-2)


@torch.no_grad()
def copy_network(ours: PixelRNN, plain: PlainPixelRNN) -> None:
    """Give `plain` the weights of `ours`, whose convolutions come in the same order."""
    # The plain Diagonal BiLSTM has a convolution of its own for each direction.
    of_both = {m.input_to_state for m in ours.modules() if isinstance(m, DiagonalBiLSTM)}
    weights, biases = [], []
    for module in ours.modules():
        if isinstance(module, MaskedConv2d):
            directions = 1 + (module in of_both)
            weights += module.weight.chunk(directions)
            biases += module.bias.chunk(directions)
    theirs = [module for module in plain.modules() if isinstance(module, nn.Conv2d)]
    for conv, weight, bias in zip(theirs, weights, biases, strict=True):
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)
    cores = [m for m in ours.modules() if isinstance(m, RowLSTM | DiagonalBiLSTM)]
    their_cores = [m for m in plain.modules() if isinstance(m, Row | Diagonal)]
    for core, other in zip(cores, their_cores, strict=True):
        scans = [other] if isinstance(other, Row) else [other.left, other.right]
        for scan, weight in zip(scans, core.state_to_state, strict=True):
            # (taps, h, 4h); the taps of a diagonal are left and above, theirs from top to bottom.
            taps = weight if isinstance(other, Row) else weight.flip(0)
            scan.state_to_state.weight.copy_(taps.permute(2, 1, 0))


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (3, 5)])
@pytest.mark.parametrize("kind", Kind)
def test_plain_code_is_the_same_network(kind: Kind, channels: int, levels: int) -> None:
    update = {"image_shape": (channels, 5, 7), "levels": levels, "num_layers": 2}
    config = tiny(kind).model_copy(update=update)
    ours, plain = PixelRNN(config), PlainPixelRNN(config)
    for name, parameter in ours.named_parameters():
        if not name.endswith("initial"):  # plain states start from zeros
            nn.init.normal_(parameter, std=0.3)
    copy_network(ours, plain)
    images = torch.randint(levels, (3, *config.image_shape)).to(torch.uint8)
    logits = ours.logits(images)
    logits = logits[..., 1:] if levels == 2 else logits
    torch.testing.assert_close(plain(images).movedim(2, -1), logits, rtol=0, atol=1e-5)
    assert logits.std() > 0.1
    torch.testing.assert_close(plain.log_prob(images), ours.log_prob(images))


@pytest.mark.parametrize("kind", [Kind.DIAGONAL_BILSTM, Kind.ROW_LSTM])
@pytest.mark.usefixtures("compiler")
def test_flops_of_the_scan(kind: Kind) -> None:
    """Ours take as many as plain code, less the corners of the skewed maps."""
    setting = pixelrnn.BENCHMARK.settings["tiny"]
    ours, plain = (
        measure(pixelrnn.BENCHMARK, f"{kind}/{name}", setting, batch=2, steps=0)["gflop_per_image"]
        for name in (FP32, PLAIN)
    )
    config, side = tiny(kind), tiny(kind).image_shape[1]
    corners = config.num_layers * 2 * 2 * side * (side - 1) * 8 * config.hidden**2 / 1e9
    assert ours == pytest.approx(plain - corners * (kind is Kind.DIAGONAL_BILSTM))


@pytest.mark.parametrize(("benchmark", "name"), EVERYTHING, ids=lambda it: getattr(it, "name", it))
def test_a_measurement_is_sound(benchmark: Benchmark, name: str, monkeypatch) -> None:
    if name == LIBRARY:
        pytest.importorskip("normflows", reason="the extra `benchmarks` is not installed")
    monkeypatch.setenv("NVP_PLAIN", "")  # and back afterwards, whatever the contender makes of it
    found = measure(benchmark, name, benchmark.settings["tiny"], batch=8, steps=1)
    if name == CEILING:
        shapes = found["gflop_per_second"].values()
        assert all(rate > 0 for row in shapes for rates in row.values() for rate in rates)
    elif name.endswith(SAMPLING):
        assert found["differ"] == 0
        assert found["passes_by_definition"] == 7
    else:
        assert found["bits_per_dim_of_noise"] >= 0.98 * (8 if benchmark.name == "realnvp" else 1)
        assert len(found["step"]) == len(found["evaluate"]) == 1


def test_the_ceiling_counts_the_work_of_its_convolutions(monkeypatch) -> None:
    def work(action: Any, times: int) -> list[float]:
        with FlopCounterMode(display=False) as counter:
            action()
        return [counter.get_total_flops() / 1e9]

    monkeypatch.setattr("benchmarks.measure.seconds", work)
    for (rate,) in convolution_rates(3, 4, 8, 6, batch=2).values():
        assert rate == pytest.approx(1)


def test_contenders_do_comparable_work() -> None:
    pytest.importorskip("normflows", reason="the extra `benchmarks` is not installed")
    setting = realnvp.BENCHMARK.settings["small"]
    ours, plain, library = (
        measure(realnvp.BENCHMARK, name, setting, batch=2, steps=0)["gflop_per_image"]
        for name in (f"realnvp/{FP32}", f"realnvp/{PLAIN}", LIBRARY)
    )
    assert plain == pytest.approx(ours, rel=1e-3)
    assert library == pytest.approx(ours, rel=0.1)


def stand_in(benchmark: str, name: str, setting: str, batch: int, steps: int) -> dict[str, Any]:
    """A measurement that took no time."""
    if name == CEILING:
        rates = {"fp32 NCHW": [10.0], "bf16 NHWC": [40.0]}
        return {"gflop_per_second": {"3x3": rates}, "auto": "bf16"}
    of_sampling = ("sub_pixels", "passes_by_definition", "by_definition", "differ")
    keys = ("peak_megabytes", "parameters", "bits_per_dim_of_noise", *of_sampling)
    times = {"step": [1.0], "evaluate": [1.0], "sample": [1.0]}
    return {**times, "gflop_per_image": 5.0, **dict.fromkeys(keys, 9)}


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda each: each.name)
def test_a_run_writes_tables(benchmark: Benchmark, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "measured", stand_in)
    processes.main(benchmark, ["--setting", "tiny", "--batch", "2", "--output", str(tmp_path)])
    measured = json.loads((tmp_path / f"{benchmark.stem}.json").read_text())["tiny"]["measured"]
    assert set(measured) == set(benchmark.names)
    report = (tmp_path / f"{benchmark.stem}.md").read_text()
    # Three forwards of 5 GFLOP for each of 2 images in 1 s, of the 40 that a convolution reaches.
    assert report.count(" 30 | 75 (75 to 75) |") >= len(benchmark.kinds)


@pytest.mark.parametrize("machine", ["", "_epyc"])
@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda each: each.name)
def test_the_reports_in_the_repository_are_in_step(benchmark: Benchmark, machine: str) -> None:
    report = processes.HERE / f"{benchmark.stem}{machine}.md"
    measured = json.loads(report.with_suffix(".json").read_text())
    assert report.read_text() == render(benchmark, measured)


@pytest.mark.slow
def test_a_real_process_is_measured_and_one_that_fails_is_named(monkeypatch) -> None:
    found = processes.measured("realnvp", f"realnvp/{PLAIN}", "tiny", batch=2, steps=1)
    assert len(found["step"]) == 1
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(SystemExit, match="nvp fp32 could not be measured"):
        processes.measured("realnvp", f"realnvp/{FP32}", "tiny", batch=2, steps=1)


def test_a_family_is_timed_at_what_it_can_do(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(families, "RUNS", ("fashion-mnist-gan", "fashion-mnist"))
    monkeypatch.setattr(families, "BATCH", 2)
    monkeypatch.setattr(families, "REPEATS", 1)
    families.main(["--output", str(tmp_path)])
    results = json.loads((tmp_path / "results_families.json").read_text())
    assert results["machine"]["threads"] == 1
    found = results["seconds_an_image"]
    of_gan, of_flow = (set(found[name]) for name in families.RUNS)
    assert (of_gan, of_flow) == ({"sample"}, {"sample", "score"})
    for times in found.values():
        assert all(len(each) == 1 and each[0] > 0 for each in times.values())


def test_coverage_counts_the_balls_that_hold_a_sample() -> None:
    """Six copies of one image and a far one: the radius around a copy is 0, and a copy fills it."""
    test = torch.zeros(7, 1, 28, 28, dtype=torch.uint8)
    test[6] = 255
    of_test = coverage.Coverage(test)
    assert of_test(test[:1]) == 1.0  # and the ball around the far image reaches to the copies
    grey = torch.full_like(test[:1], 200)
    assert of_test(grey) == pytest.approx(1 / 7)
    # Of five copies, the fifth nearest of the others is the far image.
    assert coverage.Coverage(test[1:])(grey) == 1.0
    found = coverage.describe([test], of_test, test[5:], torch.tensor([3, 8]))
    assert found["classes"] == pytest.approx([0, 0, 0, 6 / 7, 0, 0, 0, 0, 1 / 7, 0])
    assert found["from_nearest_training_image"] == 0


def test_what_is_known_of_other_runs_is_kept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(coverage, "COUNT", 20)
    monkeypatch.setattr(coverage, "SETS", 2)
    for name in ("fashion-mnist-gan", "fashion-mnist-gaussian"):
        coverage.main(["--run", name, "--output", str(tmp_path)])
    results = json.loads((tmp_path / "results_coverage.json").read_text())
    assert set(results["runs"]) == {"fashion-mnist-gan", "fashion-mnist-gaussian"}
    for found in (results["real"], *results["runs"].values()):
        assert len(found["coverage"]) == 2
        assert sum(found["classes"]) == pytest.approx(1)
        assert found["from_nearest_training_image"] > 0


def test_another_seed_is_scored_and_another_setting_is_refused(tmp_path: Path, capsys) -> None:
    """A run of another seed may differ from the recorded one by its budget, and by nothing else."""
    entries, folder = runs(), tmp_path / "one"
    changes = (f"--set=training.{each}" for each in ("minutes=null", "steps=1", "seed=1"))
    config = repository_root() / "configs/fashion-small-vae.yaml"
    done("train", config, "--run-folder", folder, *changes)
    seeds.main([str(folder), "--output", str(tmp_path)])
    run = json.loads((tmp_path / "results_seeds.json").read_text())["fashion-small-vae"]["1"]
    assert (run["steps"], run["precision"], len(run["coverage"])) == (1, "fp32", 3)
    assert [leg["cores"] >= 1 for leg in run["legs"]] == [True]
    one = load_run(folder)
    size, images = one.config.evaluation.batch_size, load(EMBEDDED, "test").images
    again = evaluate(one.model, images, batch_size=size).bits_per_dim
    assert run["bits_per_dim"] == pytest.approx(again)
    for key, value, why in (
        ("learning_rate", 0.5, "learning_rate"),
        ("seed", 0, "has the seed"),
        ("steps", 2, "is not finished"),
    ):
        training = one.config.training.model_copy(update={key: value})
        other = replace(one, config=one.config.model_copy(update={"training": training}))
        with refusal(why):
            seeds.check(other, entries)
    with pytest.raises(SystemExit, match="2"):
        seeds.main(["fashion-small-vae", "--output", str(tmp_path)])
    assert "fashion-small-vae is a recorded run" in capsys.readouterr().err
