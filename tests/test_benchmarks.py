"""The benchmarks' machinery, on tiny sizes. Nothing here looks at how long anything took."""

import json
import sys
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import done, refusal, two_threads
from torch import nn

from benchmarks import coverage, families, pixelrnn, processes, realnvp, seeds
from benchmarks.benchmark import CEILING, FP32, PLAIN, SAMPLING, Benchmark
from benchmarks.measure import measure
from benchmarks.peers.plain_pixelrnn import Diagonal, PlainPixelRNN, Row
from benchmarks.peers.plain_realnvp import Coupling, PlainRealNVP
from benchmarks.report import render
from nvp import PixelRNN, PixelRNNConfig, RealNVP, RealNVPConfig
from nvp.autoregressive.config import Kind
from nvp.autoregressive.diagonal_bilstm import DiagonalBiLSTM
from nvp.autoregressive.masked_conv import MaskedConv2d
from nvp.autoregressive.row_lstm import RowLSTM
from nvp.config import RunConfig, load_config
from nvp.flows.coupling import AffineCoupling
from nvp.flows.resnet import ShiftedBatchNorm, WeightNormConv2d
from nvp.ledger import runs
from nvp.paths import repository_root
from nvp.runs.load import load_run

BENCHMARKS = (realnvp.BENCHMARK, pixelrnn.BENCHMARK)
EVERYTHING = [
    pytest.param(benchmark, name, id=f"{benchmark.name} {name}")
    for benchmark in BENCHMARKS
    for name in benchmark.names
]
LIBRARY = "realnvp/normflows"


def tiny(kind: str) -> PixelRNNConfig:
    return pixelrnn.BENCHMARK.settings["tiny"].models[kind]


@torch.no_grad()
def copy_flow(ours: RealNVP, plain: PlainRealNVP) -> None:
    """Give `plain` the weights of `ours`, whose couplings and layers come in the same order."""
    mine = [m for m in ours.modules() if isinstance(m, AffineCoupling)]
    theirs = [
        coupling
        for board, channelwise in zip_longest(plain.board, plain.channelwise, fillvalue=())
        for coupling in (*board, *channelwise)
    ]
    for one, two in zip(mine, theirs, strict=True):
        two.scale.copy_(one.scale.reshape(()))
        convs = [m for m in one.modules() if isinstance(m, WeightNormConv2d)]
        their_convs = [m for m in two.modules() if isinstance(m, nn.Conv2d)]
        for conv, other in zip(convs, their_convs, strict=True):
            weight = other.parametrizations.weight
            weight.original1.copy_(conv.v)
            gain = torch.ones(len(conv.v)) if conv.g is None else conv.g
            weight.original0.copy_(gain[:, None, None, None])
            if conv.bias is not None:
                other.bias.copy_(conv.bias)
        norms = [m for m in one.net.modules() if isinstance(m, ShiftedBatchNorm)]
        their_norms = [m for m in two.net.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm, other in zip(norms, their_norms, strict=True):
            other.bias.copy_(norm.beta)


def test_plain_code_is_the_same_flow() -> None:
    """With the same weights and noise, the plain code gives the likelihoods of `nvp`."""
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


def test_plain_samples_invert_its_forward() -> None:
    coupling = Coupling((2, 4, 4), kept=1, board=False, width=4, blocks=1).eval()
    nn.init.constant_(coupling.scale, 0.5)
    x = torch.randn(3, 2, 4, 4)
    torch.testing.assert_close(coupling.inverse(coupling(x)[0]), x, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def copy_network(ours: PixelRNN, plain: PlainPixelRNN) -> None:
    """Give `plain` the weights of `ours`, whose convolutions come in the same order."""
    weights, biases = [], []
    # The plain Diagonal BiLSTM has a convolution of its own for each direction.
    of_both = {m.input_to_state for m in ours.modules() if isinstance(m, DiagonalBiLSTM)}
    for module in ours.modules():
        if isinstance(module, MaskedConv2d):
            directions = 2 if module in of_both else 1
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
    """With the same weights the plain code gives the logits and log-likelihoods of `nvp`."""
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
    found = {
        name: measure(pixelrnn.BENCHMARK, f"{kind}/{name}", setting, batch=2, steps=0)
        for name in (FP32, PLAIN)
    }
    corners = 0.0
    if kind is Kind.DIAGONAL_BILSTM:
        config = tiny(kind)
        side = config.image_shape[1]
        corners = config.num_layers * 2 * 2 * side * (side - 1) * 8 * config.hidden**2 / 1e9
    flops = {name: each["gflop_per_image"] for name, each in found.items()}
    assert flops[FP32] == pytest.approx(flops[PLAIN] - corners)


@pytest.mark.parametrize(("benchmark", "name"), EVERYTHING)
def test_a_measurement_is_sound(benchmark: Benchmark, name: str, monkeypatch) -> None:
    if name == LIBRARY:
        pytest.importorskip("normflows", reason="the extra `benchmarks` is not installed")
    # Set back afterwards, whatever the contender makes of it.
    monkeypatch.setenv("NVP_PLAIN", "")
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


def test_contenders_do_comparable_work() -> None:
    """FLOPs within a tenth of each other at the setting `small`."""
    pytest.importorskip("normflows", reason="the extra `benchmarks` is not installed")
    setting = realnvp.BENCHMARK.settings["small"]
    flops = [
        measure(realnvp.BENCHMARK, name, setting, batch=2, steps=0)["gflop_per_image"]
        for name in (f"realnvp/{FP32}", f"realnvp/{PLAIN}", LIBRARY)
    ]
    assert flops[1] == pytest.approx(flops[0], rel=1e-3)
    assert flops[2] == pytest.approx(flops[0], rel=0.1)


def stand_in(benchmark: str, name: str, setting: str, batch: int, steps: int) -> dict[str, Any]:
    """A measurement that took no time: ours take 1 s a step, the others 3."""
    if name == CEILING:
        rates = {"fp32 NCHW": [10.0], "fp32 NHWC": [20.0], "bf16 NHWC": [40.0]}
        return {"gflop_per_second": {"3x3": rates}, "auto": "bf16"}
    if name.endswith(SAMPLING):
        keys = ("sub_pixels", "passes_by_definition", "by_definition", "differ")
        return {"sample": [2.0], **dict.fromkeys(keys, 49)}
    step = 1.0 if "/nvp" in name else 3.0
    keys = ("peak_megabytes", "parameters", "bits_per_dim_of_noise")
    times = {"step": [step], "evaluate": [step], "sample": [step]}
    return {**times, "gflop_per_image": 5.0, **dict.fromkeys(keys, 9)}


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda each: each.name)
def test_a_run_writes_tables(benchmark: Benchmark, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "measured", stand_in)
    processes.main(benchmark, ["--setting", "tiny", "--batch", "2", "--output", str(tmp_path)])
    measured = json.loads((tmp_path / f"{benchmark.stem}.json").read_text())["tiny"]["measured"]
    assert set(measured) == set(benchmark.names)
    report = (tmp_path / f"{benchmark.stem}.md").read_text()
    # Ours: 3 forwards of 5 GFLOP for each of 2 images in 1 s, of the 40 that a convolution reaches.
    for ms, ratio, rate, share in ((1000, "3.00", 30, 75), (3000, "1.00", 10, 25)):
        ranges = (f"{each} ({each} to {each})" for each in (ratio, share))
        for cell in (f"{ms} ms", rate, *ranges):
            assert report.count(f" {cell} |") >= len(benchmark.kinds)
    if benchmark.draws_by_pixel:  # 49 passes of a second, against 2 seconds
        assert report.count(" 49 s | 24 |") == len(benchmark.kinds)


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda each: each.name)
def test_the_reports_in_the_repository_are_in_step(benchmark: Benchmark) -> None:
    measured = json.loads((processes.HERE / f"{benchmark.stem}.json").read_text())
    assert (processes.HERE / f"{benchmark.stem}.md").read_text() == render(benchmark, measured)


@pytest.mark.slow
def test_a_real_process_is_measured_and_one_that_fails_is_named(monkeypatch) -> None:
    found = processes.measured("realnvp", f"realnvp/{PLAIN}", "tiny", batch=2, steps=1)
    assert len(found["step"]) == 1
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(SystemExit, match="nvp fp32 could not be measured"):
        processes.measured("realnvp", f"realnvp/{FP32}", "tiny", batch=2, steps=1)


def test_drawing_takes_one_thread_and_gives_the_others_back(monkeypatch) -> None:
    """A few images are drawn on one thread, many times faster than on two that must wait."""
    model, seen = PixelRNN(tiny("pixelcnn")), set()
    draw = model.output.draw

    def watched(*arguments: Any) -> torch.Tensor:
        seen.add(torch.get_num_threads())
        return draw(*arguments)

    monkeypatch.setattr(model.output, "draw", watched)
    with two_threads():
        model.sample(2)
        assert (seen, torch.get_num_threads()) == ({1}, 2)


# The families, two images at a time.


def narrow(path: Path) -> RunConfig:
    """A configuration with fewer features, which keeps its family and its images."""
    config = load_config(path)
    few = {"width": 8, "hidden": 4, "num_blocks": 0, "num_layers": 1, "blocks": 1, "steps": 2}
    changes = {key: few[key] for key in few.keys() & type(config.model).model_fields.keys()}
    return config.model_copy(update={"model": config.model.model_copy(update=changes)})


@pytest.mark.slow
def test_every_family_is_timed_at_what_it_can_do(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(families, "load_config", narrow)
    families.main(["--batch", "2", "--repeats", "1", "--output", str(tmp_path)])
    results = json.loads((tmp_path / "results_families.json").read_text())
    assert results["machine"]["threads"] == 1
    times = results["seconds_an_image"]
    kinds = {
        load_config(repository_root() / f"configs/{name}.yaml").model.family: set(those)
        for name, those in times.items()
    }
    everything = {"train", "score", "sample"}
    assert kinds == {
        **dict.fromkeys(("gaussian", "vae", "realnvp", "pixelrnn", "diffusion"), everything),
        "gan": everything - {"score"},
    }
    assert all(len(t) == 1 and t[0] > 0 for each in times.values() for t in each.values())


def test_coverage_counts_the_balls_that_hold_a_sample() -> None:
    """Six copies of one image and a far one: the radius around a copy is 0, and a copy fills it."""
    test = torch.zeros(7, 1, 28, 28, dtype=torch.uint8)
    test[6] = 255
    of_test = coverage.Coverage(test)
    assert of_test(test[:1]) == 1.0  # and the ball around the far image reaches to the copies
    assert of_test(torch.full_like(test[:1], 200)) == pytest.approx(1 / 7)


def test_what_is_known_of_other_runs_is_kept(tmp_path: Path, capsys) -> None:
    for name in ("fashion-mnist-gan", "fashion-mnist-gaussian"):
        arguments = ["--run", name, "--count", "20", "--seeds", "2", "--output", str(tmp_path)]
        coverage.main(arguments)
    results = json.loads((tmp_path / "results_coverage.json").read_text())
    assert set(results["runs"]) == {"fashion-mnist-gan", "fashion-mnist-gaussian"}
    for found in (results["real"], *results["runs"].values()):
        assert len(found["coverage"]) == 2
        assert sum(found["classes"]) == pytest.approx(1)
        assert found["from_nearest_training_image"] > 0
    with pytest.raises(SystemExit, match="2"):
        coverage.main([*arguments, "--count", "2251"])
    assert "must be 1 to 4500" in capsys.readouterr().err


def test_another_seed_is_scored_and_another_setting_is_refused(tmp_path: Path, capsys) -> None:
    """A run of another seed may differ from the recorded one by its budget, and by nothing else."""
    entries, folder = runs(), tmp_path / "one"
    changes = ("training.minutes=null", "training.steps=1", "training.seed=1")
    config = repository_root() / "configs" / "fashion-small-vae.yaml"
    done("train", config, "--run-folder", folder, *(f"--set={change}" for change in changes))
    seeds.main([str(folder), "--output", str(tmp_path)])
    found = json.loads((tmp_path / "results_seeds.json").read_text())["fashion-small-vae"]
    assert list(found) == ["1"]
    run = found["1"]
    assert (run["steps"], run["precision"], len(run["coverage"])) == (1, "fp32", 3)
    assert run["bits_per_dim"] > entries["fashion-small-vae"].score.bits_per_dim + 1
    assert [leg["cores"] >= 1 for leg in run["legs"]] == [True]
    one = load_run(folder)
    for key, value, why in (
        ("learning_rate", 0.5, "learning_rate"),
        ("seed", 0, "has the seed"),
        ("steps", 2, "is not finished"),
    ):
        training = one.config.training.model_copy(update={key: value})
        other = replace(one, config=one.config.model_copy(update={"training": training}))
        with refusal(why):
            seeds.check(other, entries)
    labelled = entries["fashion-mnist-conditional"].config
    training = labelled.training.model_copy(update={"minutes": None, "steps": 1, "seed": 1})
    with refusal("is conditional"):
        config = labelled.model_copy(update={"training": training})
        seeds.check(replace(one, config=config), entries)
    with refusal("no run on Fashion-MNIST is recorded as fashion-small-vae"):
        seeds.check(one, {})
    with pytest.raises(SystemExit, match="2"):
        seeds.main(["fashion-small-vae", "--output", str(tmp_path)])
    assert "fashion-small-vae is a recorded run: give the folder" in capsys.readouterr().err
