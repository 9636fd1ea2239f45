"""Labels through a whole run: trained with, resumed, recorded, verified, sampled and refused."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from ledgers import reopened, rewrite, states
from PIL import Image

from nvp.config import RunConfig
from nvp.data import EMBEDDED, load
from nvp.data.splits import examples
from nvp.ledger import enter as record
from nvp.ledger import entry as ledger
from nvp.ledger import verify
from nvp.ledger.scoring import PROBE_IMAGES, probe_labels
from nvp.likelihood import evaluate
from nvp.model.labels import Labelled
from nvp.runs.load import load_run
from nvp.tables.card import card
from nvp.training.loop import next_batch, prepare
from nvp.training.state import begin


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """A data root: `tiny` with three classes, the rows of the square; `attributes` with vectors."""
    root = tmp_path_factory.mktemp("labelled")
    for name in ("tiny", "attributes"):
        tiny.write_data(root, name)
        for split in ("train", "test"):
            images = np.load(root / name / f"{split}_images.npy")
            row = (images[:, :, 3, 0] > 100).argmax(axis=1)
            labels = row % 3 if name == "tiny" else np.stack([row / 4 - 0.5, row < 2, row > 3], 1)
            np.save(root / name / f"{split}_labels.npy", labels)
    return root


def configuration(data: str = "tiny", flips: bool = False, **training: Any) -> RunConfig:
    changes = {"model": {"num_classes": 3}, "data": {"name": data, "flips": flips}}
    return tiny.configured(tiny.config_tree(), **changes, training=training)


@pytest.fixture(scope="module")
def trained(labelled: Path, tmp_path_factory) -> Path:
    """The folder of a run of two steps; do not change it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    prepare(configuration(), folder, data_root=labelled).run()
    return folder


@pytest.fixture(scope="module")
def entered(labelled: Path, trained: Path, tmp_path_factory) -> Path:
    """A ledger that holds that run; do not change it."""
    root = tmp_path_factory.mktemp("entered")
    record.record(trained, data_root=labelled, first=20, num_draws=2, root=root)
    return root


@pytest.mark.slow
def test_resuming_is_exact(labelled: Path, tmp_path: Path) -> None:
    tiny.check_resuming(lambda n: configuration("attributes", True, steps=n), tmp_path, labelled)


def test_no_run_or_record_goes_on_with_other_labels(labelled, trained, entered, tmp_path) -> None:
    data = Path(shutil.copytree(labelled, tmp_path / "data"))
    path = data / "tiny" / "train_labels.npy"
    np.save(path, np.load(path)[::-1])
    with tiny.refusal(r"the training labels of tiny found here are not those of"):
        prepare(configuration(steps=3), trained, data_root=data)
    with tiny.refusal("the training labels of tiny found here are not those"):
        reopened(entered / "runs" / "tiny", tmp_path / "run", data)
    old = Path(shutil.copytree(entered, tmp_path / "old"))
    rewrite(old, "data.train_labels_sha256", None)  # as older records have none
    assert reopened(old / "runs" / "tiny", tmp_path / "run", data).reopened_at == 2


@pytest.mark.parametrize("number", [48, 50])  # of 50 two are left out
def test_an_epoch_shows_each_image_once_with_its_label_and_flips_half_of_them(number: int) -> None:
    config = configuration(flips=True)
    count = torch.arange(number, dtype=torch.uint8)
    images = 4 * count.reshape(-1, 1, 1, 1) + torch.arange(8, dtype=torch.uint8).expand(1, 8, 8)
    state, flipped, epochs = begin(config, torch.device("cpu"), number), 0, ([], [])
    for epoch in epochs:
        for _ in range(6):
            batch = next_batch(state, Labelled(images, count.long()), config)
            epoch += batch.labels.tolist()
            plain = images[batch.labels]
            turned = (batch.images != plain).flatten(1).any(1)
            shown = torch.where(turned[:, None, None, None], plain.flip(-1), plain)
            assert torch.equal(batch.images, shown)
            flipped += int(turned.sum())
    assert [len(set(epoch)) for epoch in epochs] == [48, 48]
    assert epochs[0] != epochs[1]
    assert 30 < flipped < 66


def test_labels_are_checked_without_making_vectors_of_them(labelled: Path, monkeypatch) -> None:
    """A thousand numbers for each image of ImageNet would take 10 GB."""
    monkeypatch.setattr("torch.nn.functional.one_hot", None)
    assert len(examples(configuration(), load("tiny", "train", root=labelled))) == 60


def test_a_run_is_recorded_and_verified(labelled: Path, entered: Path) -> None:
    agree = dict.fromkeys(("weights", "probe", "samples", "test"), "agrees")
    assert states(verify.verify(data_root=labelled, root=entered)) == agree
    scores = ledger.runs(entered)["tiny"].record.scores
    run = load_run(entered / "runs" / "tiny")
    data = load("tiny", "test", root=labelled)
    right = evaluate(run.model, examples(run.config, data), batch_size=10)
    wrong = evaluate(run.model, Labelled(data.images, (data.labels + 1) % 3), batch_size=10)
    assert right.bits_per_dim == pytest.approx(scores.test.bits_per_dim, abs=1e-5)
    assert wrong.bits_per_dim != pytest.approx(right.bits_per_dim, abs=1e-4)
    # The probe is told the embedded images' own classes, modulo 3.
    assert torch.equal(probe_labels(3), load(EMBEDDED, "test").labels[:PROBE_IMAGES] % 3)


def test_the_code_of_a_card_samples_and_scores_given_labels(entered: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", card(ledger.runs(entered)["tiny"]), re.S)
    names: dict[str, Any] = {"root": entered}
    exec(code.replace("runs()", "runs(root)"), names)
    assert names["log_prob"].shape == (16,)


def test_commands_take_labels(labelled: Path, trained: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("nvp.runs.sheet.SHEET_BATCH", 5)  # nine images are two batches
    where = ("--data-root", labelled)
    output = tiny.done("evaluate", trained, *where)
    assert output.splitlines()[-2].split()[-4:] == ["30", "│", "1", "│"]
    sheets = {}
    for name, options in {"all": (), "zero": ("--label", 0), "one": ("--label", 1)}.items():
        out = tmp_path / f"{name}.png"
        tiny.done("sample", trained, "--out", out, "-n", 9, *options, *where)
        sheets[name] = np.array(Image.open(out))
    assert not np.array_equal(sheets["zero"], sheets["one"])
    # Three columns, one a class: the first is that of class 0 from the same noise.
    assert np.array_equal(sheets["all"][:, :12], sheets["zero"][:, :12])
    assert not np.array_equal(sheets["all"][:, 12:], sheets["zero"][:, 12:])
    line = tiny.fails("sample", trained, "--out", out, "--label", 3, *where)
    assert "labels must be in 0..2" in line


@pytest.mark.parametrize(("split", "number"), [("train", 60), ("test", 30)])
def test_data_without_labels_or_with_others(split, number, labelled: Path, tmp_path: Path) -> None:
    shutil.copytree(labelled / "tiny", tmp_path / "tiny")
    labels = tmp_path / "tiny" / f"{split}_labels.npy"
    for match, fault in {
        f"tiny has no {split} labels, and model.num_classes = 3 needs them": None,
        "labels must be in 0..2, there is a 7": np.full(number, 7),
        "labels must be integers (N,) or vectors (N, 3)": np.zeros((number, 2)),
        f"{split}_labels.npy holds NaN or infinity": np.full((number, 3), np.nan),
    }.items():
        labels.unlink(missing_ok=True)
        if fault is not None:
            np.save(labels, fault)
        with tiny.refusal(re.escape(match)):
            prepare(configuration(), tmp_path / "run", data_root=tmp_path).run()
    assert not (tmp_path / "run").exists()
