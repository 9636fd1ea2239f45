"""The benchmark of the Pixel RNNs, on tiny sizes. Nothing here looks at how long anything took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import pixelrnn, processes
from benchmarks.contenders_pixelrnn import CONTENDERS, FP32, PLAIN, SAMPLING, UNCOMPILED
from benchmarks.measure import CEILING
from benchmarks.measure_pixelrnn import NAMES, measure
from benchmarks.peers_pixelrnn import Diagonal, PlainPixelRNN, Row
from benchmarks.report_pixelrnn import render
from benchmarks.settings import PIXEL_SETTINGS
from nvp import PixelRNN
from nvp.autoregressive.config import Kind
from nvp.autoregressive.diagonal_bilstm import DiagonalBiLSTM
from nvp.autoregressive.masked_conv import MaskedConv2d
from nvp.autoregressive.row_lstm import RowLSTM

TINY = PIXEL_SETTINGS["tiny"]


@torch.no_grad()
def copy_weights(ours: PixelRNN, plain: PlainPixelRNN) -> None:
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


@pytest.mark.parametrize("kind", Kind)
def test_plain_is_the_same_network(kind: Kind) -> None:
    """With the same weights the plain code gives the logits and log-likelihoods of `nvp`."""
    torch.manual_seed(0)
    config = TINY.config(kind).model_copy(update={"image_shape": (1, 5, 7), "num_layers": 2})
    ours, plain = PixelRNN(config), PlainPixelRNN(config)
    for name, parameter in ours.named_parameters():
        if not name.endswith("initial"):  # plain states start from zeros
            nn.init.normal_(parameter, std=0.3)
    copy_weights(ours, plain)
    images = torch.randint(2, (3, *config.image_shape)).to(torch.uint8)
    logits = ours.logits(images)
    torch.testing.assert_close(plain(images), logits[..., 1], rtol=0, atol=1e-5)
    assert logits[..., 1].std() > 0.1
    torch.testing.assert_close(plain.log_prob(images), ours.log_prob(images))


@pytest.mark.parametrize("kind", [Kind.DIAGONAL_BILSTM, Kind.ROW_LSTM])
def test_flops_of_the_scan(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours take as many as plain code, less the corners of the skewed maps."""
    monkeypatch.delenv("NVP_PLAIN_SCAN", raising=False)
    found = {
        name: measure(f"{kind}/{name}", TINY, batch=2, steps=0)["gflop_per_image"]
        for name in (FP32, PLAIN)
    }
    corners = 0.0
    if kind is Kind.DIAGONAL_BILSTM:
        layers, hidden = TINY.lstm
        corners = layers * 2 * 2 * TINY.side * (TINY.side - 1) * 8 * hidden**2 / 1e9
    assert found[FP32] == pytest.approx(found[PLAIN] - corners)


@pytest.mark.parametrize("name", NAMES)
def test_measurement_is_sound(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Set back afterwards, whatever the contender makes of it.
    monkeypatch.setenv("NVP_PLAIN_SCAN", "")
    found = measure(name, TINY, batch=4, steps=1)
    if name == CEILING:
        shapes = found["gflop_per_second"].values()
        assert all(rate > 0 for row in shapes for rates in row.values() for rate in rates)
    elif name.endswith(SAMPLING):
        assert found["differ"] == 0
        assert found["passes_by_definition"] == TINY.side
    else:
        assert found["bits_per_dim_of_noise"] >= 0.98
        assert len(found["step"]) == len(found["evaluate"]) == 1


def test_lstms_are_also_timed_uncompiled() -> None:
    assert [kind for kind in Kind if UNCOMPILED in CONTENDERS[kind]] == [
        Kind.ROW_LSTM,
        Kind.DIAGONAL_BILSTM,
    ]


def test_run_writes_tables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One real process and stand-ins; what is written renders again to the same tables."""
    monkeypatch.setenv("NVP_PLAIN_SCAN", "")
    plain = f"{Kind.PIXELCNN}/{PLAIN}"
    figures = {
        CEILING: measure(CEILING, TINY, batch=2, steps=1),
        SAMPLING: measure(f"{Kind.ROW_LSTM}/{SAMPLING}", TINY, batch=2, steps=1),
        PLAIN: processes.measured(pixelrnn.BENCHMARK.module, plain, "tiny", batch=2, steps=1),
    }
    monkeypatch.setattr(
        processes,
        "measured",
        lambda _module, name, *_: figures.get(name.rpartition("/")[2], figures[PLAIN]),
    )
    pixelrnn.main(["--setting", "tiny", "--batch", "2", "--output", str(tmp_path)])
    written = json.loads((tmp_path / "results_pixelrnn.json").read_text())
    report = (tmp_path / "results_pixelrnn.md").read_text()
    assert render(written) == report
    assert all(name in report for names in CONTENDERS.values() for name in names)
    assert f"tiny {len(NAMES)}/{len(NAMES)}" in capsys.readouterr().out


def test_drawing_takes_one_thread_and_gives_the_others_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A few images are drawn on one thread, many times faster than on two that must wait."""
    model, before, seen = PixelRNN(TINY.config(Kind.PIXELCNN)), torch.get_num_threads(), set()
    draw = model.output.draw

    def watched(*arguments: Any) -> torch.Tensor:
        seen.add(torch.get_num_threads())
        return draw(*arguments)

    monkeypatch.setattr(model.output, "draw", watched)
    torch.set_num_threads(2)
    try:
        model.sample(2)
        assert (seen, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)
