"""Scoring again: an honest ledger agrees, and every alteration is noticed."""

import shutil
from pathlib import Path
from unittest.mock import DEFAULT, Mock

import numpy as np
import pytest
import tiny
import torch
from ledgers import rename, rewrite, states

from nvp.ledger import entry as ledger
from nvp.ledger import verify
from nvp.likelihood import nats_per_bit
from nvp.runs.tensors import load_tensors, save_tensors


@pytest.mark.slow
@pytest.mark.parametrize("folder", ledger.entry_folders(), ids=lambda folder: folder.name)
def test_the_weights_of_a_recorded_run_score_as_recorded(folder: Path) -> None:
    found = [check.outcome for check in verify.verify([folder.name], quick=True)]
    kept = ledger.read_run(folder).record.weights is not None
    assert found == (["agrees", "agrees"] if kept else ["not checked"])


def test_a_name_that_is_not_recorded_is_an_error(recorded: Path) -> None:
    with tiny.refusal("no recorded run is called tinny"):
        next(verify.verify(["tiny", "tinny"], root=recorded))


def test_verify_agrees_with_an_honest_ledger_as_far_as_data_are_here(
    recorded: Path, trained: Path, tmp_path: Path
) -> None:
    agree = dict.fromkeys(("weights", "probe", "samples"), "agrees")
    for data_root, test in ((trained / "data", "agrees"), (tmp_path, "not checked")):
        checks = verify.verify(data_root=data_root, root=recorded)
        assert states(checks) == {**agree, "test": test}


@pytest.mark.parametrize(
    ("path", "shift", "what"),
    [
        ("scores.test.bits_per_dim", -0.0021, "test"),
        ("scores.test.standard_error", 0.0021, "test"),
        ("scores.probe.bits_per_dim", 0.00011, "probe"),
        ("scores.probe.num_images", -5, "probe"),
    ],
)
def test_verify_notices_an_altered_figure(path, shift, what, own: Path, trained: Path) -> None:
    score = getattr(ledger.runs(own)["tiny"].record.scores, path.split(".")[1])
    rewrite(own, path, getattr(score, path.split(".")[2]) + shift)
    checks = verify.verify(data_root=trained / "data", root=own)
    assert {check.what.split()[0] for check in checks if check.outcome == "differs"} == {what}


def test_a_damaged_test_set_is_no_fault_of_the_record(recorded: Path, home: Path) -> None:
    for file in (home / "data").rglob("*test*"):
        file.write_bytes(b"damaged")
    checks = verify.verify(data_root=home / "data", root=recorded)
    (found,) = (check for check in checks if check.outcome != "agrees")
    assert (found.what, found.outcome) == ("test set of tiny", "differs")


@pytest.mark.parametrize(("kept", "outcome"), [(30, "differs"), (29, "not checked")])
def test_verify_notices_other_test_images(kept, outcome, own: Path, tmp_path: Path) -> None:
    tiny.write_data(tmp_path, seed=1)
    path = tmp_path / "tiny" / "test_images.npy"
    np.save(path, np.load(path)[:kept])
    checks = verify.verify(data_root=tmp_path, root=own)
    assert states(checks)["test"] == outcome


@pytest.mark.parametrize("fault", ["missing", "foreign", "altered", "record", "forbidden"])
def test_verify_notices_damage_and_goes_on_past_it(fault: str, own: Path, monkeypatch) -> None:
    rename(own, "zebra", copy=True)
    path = own / "runs" / "tiny" / "weights.safetensors"
    if fault == "missing":
        path.unlink()
    elif fault == "record":
        (own / "runs" / "tiny" / "run.json").write_text("{")
    elif fault == "forbidden":
        reads = [PermissionError(13, "Permission denied"), DEFAULT]
        monkeypatch.setattr(verify, "sha256", Mock(wraps=verify.sha256, side_effect=reads))
    elif fault == "foreign":
        save_tensors(path, {"weight": torch.zeros(2)}, {})
    else:
        tensors, header = load_tensors(path)
        save_tensors(path, {name: 1.5 * tensor for name, tensor in tensors.items()}, header)
    checks = list(verify.verify(quick=True, root=own))
    found = [check.outcome for check in checks if check.run == "tiny"]
    assert found == ["differs"] * (2 if fault in ("foreign", "altered") else 1)  # the SHA-256 too
    assert [c.outcome for c in checks if c.run == "zebra"] == ["agrees", "agrees"]


def test_an_entry_whose_settings_were_edited_is_refused(own: Path) -> None:
    config = own / "runs" / "tiny" / "config.yaml"
    config.write_text(config.read_text().replace("seed: 0", "seed: 5"))
    *_, check = verify.verify(quick=True, root=own)
    assert check.outcome == "differs"
    assert "says training.seed=5, but weights.safetensors was trained with 0" in check.found


def test_a_binary_run_is_verified_to_a_hundredth_of_a_nat(pixel_home: Path) -> None:
    data_root, root = pixel_home / "data", pixel_home / "results"
    agree = {"weights": "agrees", "probe": "agrees", "samples": "agrees", "test": "agrees"}
    assert states(verify.verify(data_root=data_root, root=root)) == agree
    run = ledger.runs(root)["tiny-pixelrnn"]
    shift = 0.011 / nats_per_bit(run.config.model.image_shape)
    rewrite(root, "scores.test.bits_per_dim", run.score.bits_per_dim + shift, "tiny-pixelrnn")
    assert states(verify.verify(data_root=data_root, root=root))["test"] == "differs"


def test_verify_compares_what_a_gan_draws_and_says_so(gan: Path, tmp_path: Path) -> None:
    root = gan / "results"
    checks = list(verify.verify(data_root=gan / "data", root=root))
    assert states(checks) == {"weights": "agrees", "draws": "agrees", "samples": "agrees"}
    assert any("no likelihood" in check.what for check in checks)
    drawn = ledger.runs(root)["a-gan"].record.draw
    for figure in ("mean", "standard_deviation"):
        own = Path(shutil.copytree(root, tmp_path / figure))
        rewrite(own, f"draw.{figure}", getattr(drawn, figure) + 0.0011, "a-gan")
        assert states(verify.verify(root=own))["draws"] == "differs"
    own = Path(shutil.copytree(root, tmp_path / "other"))
    path = own / "runs" / "a-gan" / "weights.safetensors"
    tensors, header = load_tensors(path)
    save_tensors(path, {**tensors, "G.7.bias": tensors["G.7.bias"] + 0.5}, header)
    found = states(verify.verify(root=own))
    assert found == dict.fromkeys(("weights", "draws", "samples"), "differs")
