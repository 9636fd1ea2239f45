"""The benchmarks' machinery, on tiny sizes. Nothing here looks at how long anything took."""

from __future__ import annotations

import json
import sys
from itertools import zip_longest
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import processes, realnvp
from benchmarks.contenders import CONTENDERS, PLAIN
from benchmarks.measure import CEILING, measure_ceiling, measure_contender
from benchmarks.plain import Coupling, PlainRealNVP
from benchmarks.report import render
from benchmarks.settings import SETTINGS, Setting
from nvp.flows.config import RealNVPConfig
from nvp.flows.coupling import AffineCoupling
from nvp.flows.realnvp import RealNVP
from nvp.flows.resnet import ShiftedBatchNorm, WeightNormConv2d

TINY = SETTINGS["tiny"]


@torch.no_grad()
def copy_weights(ours: RealNVP, plain: PlainRealNVP) -> None:
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


def test_plain_is_the_same_network() -> None:
    """With the same weights and noise, the plain code gives the likelihoods of `nvp`."""
    setting = Setting((3, 8, 8), num_blocks=1, width=4, num_scales=3)
    sizes = {"num_scales": 3, "num_blocks": 1, "width": 4}
    torch.manual_seed(0)
    config = RealNVPConfig.paper(setting.image_shape, **sizes, checkerboard_scale_init=0.5)
    ours, plain = RealNVP(config), PlainRealNVP(setting)
    for module in ours.modules():
        if isinstance(module, ShiftedBatchNorm):
            nn.init.normal_(module.beta, std=0.1)
    copy_weights(ours, plain)
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


@pytest.mark.parametrize("name", CONTENDERS)
def test_contender_is_sound(name: str) -> None:
    if name == "normflows":
        pytest.importorskip("normflows", reason="the extra `benchmarks` is not installed")
    found = measure_contender(name, TINY, batch=8, steps=1)
    assert found["bits_per_dim_of_noise"] >= 7.9
    assert len(found["step"]) == len(found["evaluate"]) == len(found["sample"]) == 1


def test_contenders_do_comparable_work() -> None:
    """FLOPs within a tenth of each other at the sizes that are reported."""
    pytest.importorskip("normflows", reason="the extra `benchmarks` is not installed")
    setting = Setting((1, 28, 28), num_blocks=2, width=32, steps=0)
    flops = [
        measure_contender(name, setting, batch=2, steps=0)["gflop_per_image"]
        for name in ("nvp fp32", PLAIN, "normflows")
    ]
    assert flops[1] == pytest.approx(flops[0], rel=1e-3)
    assert flops[2] == pytest.approx(flops[0], rel=0.1)


def test_run_writes_tables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One real process and stand-ins; what is written renders again to the same tables."""
    figures = {
        CEILING: measure_ceiling(TINY, batch=2),
        PLAIN: processes.measured("benchmarks.measure", PLAIN, "tiny", batch=2, steps=1),
    }
    monkeypatch.setattr(
        processes, "measured", lambda _module, name, *_: figures.get(name, figures[PLAIN])
    )
    realnvp.main(["--setting", "tiny", "--batch", "2", "--output", str(tmp_path)])
    written = json.loads((tmp_path / "results.json").read_text())
    report = (tmp_path / "results.md").read_text()
    assert render(written) == report
    assert all(name in report for name in CONTENDERS)
    assert "tiny 5/5" in capsys.readouterr().out


def test_failing_contender_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(SystemExit, match="nvp fp32 could not be measured"):
        processes.measured("benchmarks.measure", "nvp fp32", "tiny", batch=2, steps=1)
