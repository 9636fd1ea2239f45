"""The GAN: two players with a gradient each, samples, and no likelihood anywhere."""

import shutil
from pathlib import Path

import pytest
import tiny
import torch
from pixels import generator, noise
from test_baselines import configuration
from torch import nn

from nvp import GAN, GANConfig
from nvp.likelihood import reestimate_statistics
from nvp.runs.log import read_log


def test_each_player_of_the_gan_has_its_own_gradient() -> None:
    model = configuration("gan").build_model()
    images = noise(8, 1, 8, 8)
    z = torch.randn(8, 3, generator=generator())
    loss = model.loss(images, generator())
    loss.backward()
    real, drawn = 2 * images.float() / 255 - 1, model.G(z)
    probability, of_drawn = torch.sigmoid(model.D(real)), torch.sigmoid(model.D(drawn))
    of_d = -(probability.log() + (1 - of_drawn).log()).mean()
    of_g = -of_drawn.log().mean()
    assert loss.item() == pytest.approx((of_d + of_g).item(), rel=1e-5)
    for player, own in ((model.D, of_d), (model.G, of_g)):
        weights = list(player.parameters())
        gradients = torch.autograd.grad(own, weights, retain_graph=True)
        torch.testing.assert_close([w.grad for w in weights], gradients, rtol=1e-5, atol=1e-5)


def test_the_ends_of_tanh_are_black_and_white() -> None:
    model = GAN(GANConfig(image_shape=(1, 8, 8), width=2))
    last = [module for module in model.G.modules() if isinstance(module, nn.ConvTranspose2d)][-1]
    nn.init.zeros_(last.weight)
    for bias, level in ((-20.0, 0), (20.0, 255)):
        nn.init.constant_(last.bias, bias)
        assert (model.decode(torch.zeros(1, 64)) == level).all()


def test_a_gan_trains_without_a_score(gan: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(gan / "run", tmp_path / "run"))
    changes = ("--set", "training.steps=3", "--set", "training.log_every=5")
    output = tiny.done("train", "--resume", run, "--data-root", gan / "data", *changes)
    there = f"--data-root {gan / 'data'}"
    sample, record = f"nvp sample {run} --out samples.png {there}", f"nvp record {run} {there}"
    assert output.endswith(f"no likelihood; next: {sample}, or {record}\n")
    rows = read_log(run / "log.csv")
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert {"loss", "gradient_norm"} <= row.keys()
        assert not {"bits_per_dim", "validation"} & row.keys()


def test_a_gan_is_sampled_and_recorded_but_not_scored(
    gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, run = gan / "data", gan / "run"
    line = tiny.fails("evaluate", run, "--data-root", root)
    assert line.startswith("nvp: a GAN has no likelihood, so it cannot be scored: look at what it")
    monkeypatch.setattr("nvp.ledger.enter.results_root", lambda: tmp_path)
    recorded = tiny.done("record", run, "--data-root", root)
    assert "a-gan: no likelihood, finished" in recorded
    assert (tmp_path / "runs" / "a-gan" / "weights.safetensors").is_file()
    sheet = tmp_path / "sheet.png"
    tiny.done("sample", run, "--out", sheet, "-n", 4, "--data-root", root)
    assert sheet.is_file()


def test_batch_norms_of_a_gan_are_estimated() -> None:
    model = GAN(GANConfig(image_shape=(1, 8, 8), width=2))
    norm = nn.BatchNorm2d(1)
    model.D = nn.Sequential(norm, model.D)
    reestimate_statistics(model, noise(8, 1, 8, 8))
    assert norm.running_var.item() != 1
