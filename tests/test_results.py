"""The ledger: what recording keeps, what verifying notices, and the tables made from it."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from pathlib import Path

import pytest
import tiny
import torch
import yaml

from nvp.config import load_config
from nvp.errors import NVPError
from nvp.ledger import enter as record
from nvp.ledger import entry as ledger
from nvp.ledger import verify
from nvp.ledger.scoring import load_run, probe_images, score_probe, scored_images
from nvp.likelihood import Score, evaluate, nats_per_bit, summarise
from nvp.paths import repository_root, results_root
from nvp.runs import provenance
from nvp.runs.log import read_log
from nvp.runs.tensors import load_tensors, save_tensors
from nvp.tables import build as results
from nvp.tables.cells import Table
from nvp.tables.published import read_published
from nvp.tables.readme import readme_parts, with_parts
from nvp.training.loop import BEST

REPOSITORY = repository_root()
CITATIONS = set(
    re.findall(r"^@\w+\{(\w+),", (REPOSITORY / "book" / "references.bib").read_text(), re.M)
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder around data and a run of two steps; do not change it."""
    folder = tmp_path_factory.mktemp("trained")
    tiny.train(folder)
    return folder


@pytest.fixture(scope="module")
def recorded(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger that holds that run, beside the published figures; do not change it."""
    root = tmp_path_factory.mktemp("results")
    shutil.copy(results_root() / "published.yaml", root)
    record.record(trained / "run", data_root=trained / "data", first=20, num_draws=4, root=root)
    return root


@pytest.fixture
def own(recorded: Path, tmp_path: Path) -> Path:
    """A copy of that ledger to change."""
    return Path(shutil.copytree(recorded, tmp_path / "own"))


def rewrite(root: Path, path: str, value: object, name: str = "tiny") -> None:
    """Change one value of a run's record, named as "scores.test.bits_per_dim"."""
    file = root / "runs" / name / "run.json"
    tree = json.loads(file.read_text())
    *parents, last = path.split(".")
    place = tree
    for parent in parents:
        place = place[parent]
    place[last] = value
    file.write_text(json.dumps(tree))


def states(checks: list[verify.Check]) -> dict[str, str]:
    """The state of each check by its first word."""
    return {check.what.split()[0].strip(","): check.state for check in checks}


def test_a_record_says_what_the_run_was(recorded: Path, trained: Path) -> None:
    entry = ledger.runs(recorded)["tiny"].record
    run = load_run(trained / "run", data_root=trained / "data")
    assert (entry.state, entry.steps, entry.images, entry.seed) == ("finished", 2, 16, 0)
    assert entry.parameters == sum(p.numel() for p in run.model.parameters())
    assert (entry.data.train_images, entry.data.test_images) == (60, 30)
    assert entry.data.test_sha256 == scored_images(run.config, "test", trained / "data").checksum
    assert entry.legs[0].cores >= 1
    assert entry.legs[0].torch == torch.__version__
    assert entry.legs[0].precision == entry.precision == entry.precisions
    assert entry.hardware == entry.legs[0].hardware
    assert entry.scores.first_more_draws.num_draws == 4
    assert entry.scores.first_batch_statistics.num_images == 20


def test_the_recorded_model_is_the_scored_one(recorded: Path, trained: Path) -> None:
    run = ledger.runs(recorded)["tiny"]
    images = scored_images(run.config, "test", trained / "data").images
    again = evaluate(run.load_model(), images, batch_size=10)
    assert again.bits_per_dim == pytest.approx(run.score.bits_per_dim, abs=2e-6)
    assert again.standard_error == pytest.approx(run.score.standard_error, abs=2e-6)
    before = run.record.scores.before_rounding.bits_per_dim
    assert before == pytest.approx(run.score.bits_per_dim, abs=record.TOLERANCE)
    assert [row["step"] for row in run.log()] == [1, 2]


def test_weights_are_kept_in_half_precision(recorded: Path) -> None:
    run = ledger.runs(recorded)["tiny"]
    tensors, _ = load_tensors(run.folder / "weights.safetensors")
    names = dict(run.load_model().named_parameters())
    assert all((t.dtype == torch.float16) == (name in names) for name, t in tensors.items())
    assert run.record.weights is not None
    assert run.record.weights.precision == "float16"
    assert run.record.weights.bytes == (run.folder / "weights.safetensors").stat().st_size


def test_weights_that_rounding_would_hurt_stay_in_float32(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "TOLERANCE", -1.0)
    run = record.record(trained / "run", data_root=trained / "data", root=tmp_path)
    assert run.record.weights is not None
    assert run.record.weights.precision == "float32"
    assert run.score == run.record.scores.before_rounding
    assert states(verify.verify(quick=True, root=tmp_path)) == {
        "weights": "agrees",
        "probe": "agrees",
    }


def test_large_weights_are_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "MAX_BYTES", 1000)
    options = {"data_root": trained / "data", "root": tmp_path}
    with pytest.raises(NVPError, match="--no-weights"):
        record.record(trained / "run", **options)
    assert not list(tmp_path.rglob("*"))
    run = record.record(trained / "run", keep_weights=False, **options)
    assert run.record.weights is None
    assert not (run.folder / "weights.safetensors").exists()
    with pytest.raises(NVPError, match="no weights are kept"):
        run.load_model()
    assert states(verify.verify(root=tmp_path)) == {"test": "not checked"}


def test_an_interrupted_run_says_how_far_it_came(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    tree["training"]["steps"] = 8
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    run = record.record(folder, name="half", data_root=trained / "data", root=tmp_path)
    assert (run.name, run.record.state, run.record.share_of_budget) == ("half", "interrupted", 0.25)
    shutil.copy(results_root() / "published.yaml", tmp_path)
    assert "interrupted at 25% of its budget" in results.table_markdown("runs", root=tmp_path)


def test_a_taken_name_is_kept_unless_replaced(own: Path, trained: Path) -> None:
    before = (own / "runs" / "tiny" / "run.json").read_text()
    with pytest.raises(NVPError, match="there already"):
        record.record(trained / "run", data_root=trained / "data", root=own)
    assert (own / "runs" / "tiny" / "run.json").read_text() == before


def content(folder: Path) -> dict[Path, bytes]:
    """Every file under `folder`."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../runs/tiny", "Tiny", "tiny\n"])
def test_a_name_must_do_for_a_folder_of_the_ledger(name: str, own: Path, trained: Path) -> None:
    before, options = content(own), {"data_root": trained / "data", "root": own, "replace": True}
    for bad in (name, str(own / "runs" / name)):
        with pytest.raises(NVPError, match="does not do for a folder of the ledger") as caught:
            record.record(trained / "run", name=bad, **options)
        assert "\n" not in str(caught.value)
    assert content(own) == before


def test_only_an_entry_is_replaced(own: Path, trained: Path) -> None:
    folder = own / "runs" / "notes"
    folder.mkdir()
    (folder / "notes.txt").write_text("not to be lost")
    options = {"data_root": trained / "data", "root": own, "replace": True}
    with pytest.raises(NVPError, match="no entry to replace: remove it yourself"):
        record.record(trained / "run", name="notes", **options)
    assert (folder / "notes.txt").read_text() == "not to be lost"
    assert record.record(trained / "run", name="tiny", first=20, **options).name == "tiny"


def test_an_entry_that_cannot_be_replaced_is_kept(
    own: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, move = content(own), os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name == ".tiny.part":  # all is written, and cannot be put in its place
            raise PermissionError("no")
        move(source, target)

    monkeypatch.setattr("nvp.ledger.enter.os.replace", refuse)
    with pytest.raises(NVPError, match="nothing was recorded"):
        record.record(trained / "run", data_root=trained / "data", root=own, first=20, replace=True)
    assert content(own) == before


def test_verify_agrees_with_an_honest_ledger(recorded: Path, trained: Path) -> None:
    checks = verify.verify(data_root=trained / "data", root=recorded)
    assert states(checks) == {"weights": "agrees", "probe": "agrees", "test": "agrees"}


def test_verify_says_which_set_is_not_here(recorded: Path, tmp_path: Path) -> None:
    checks = verify.verify(data_root=tmp_path, root=recorded)
    assert states(checks) == {"weights": "agrees", "probe": "agrees", "test": "not checked"}


@pytest.mark.parametrize(
    ("path", "shift", "what"),
    [
        ("scores.test.bits_per_dim", -0.003, "test"),
        ("scores.test.standard_error", 0.003, "test"),
        ("scores.probe.bits_per_dim", 0.0002, "probe"),
    ],
)
def test_verify_notices_an_altered_figure(
    path: str, shift: float, what: str, own: Path, trained: Path
) -> None:
    score = getattr(ledger.runs(own)["tiny"].record.scores, path.split(".")[1])
    rewrite(own, path, getattr(score, path.split(".")[2]) + shift)
    checks = verify.verify(data_root=trained / "data", root=own)
    assert {check.what.split()[0] for check in checks if check.state == "differs"} == {what}


def test_verify_notices_altered_weights(own: Path) -> None:
    path = own / "runs" / "tiny" / "weights.safetensors"
    tensors, header = load_tensors(path)
    name = next(name for name in tensors if name.endswith("weight") or name.endswith(".v"))
    save_tensors(path, {**tensors, name: 1.5 * tensors[name] + 0.1}, header)
    assert states(verify.verify(quick=True, root=own)) == {"weights": "differs", "probe": "differs"}


def test_verify_notices_other_test_images(own: Path, tmp_path: Path) -> None:
    tiny.write_data(tmp_path / "other", seed=1)
    checks = verify.verify(data_root=tmp_path / "other", root=own)
    assert states(checks)["test"] == "differs"


@pytest.mark.parametrize("fault", ["truncated", "missing", "foreign", "record"])
def test_verify_goes_on_past_what_cannot_be_read(fault: str, own: Path) -> None:
    shutil.copytree(own / "runs" / "tiny", own / "runs" / "zebra")
    file = own / "runs" / "zebra" / "run.json"
    file.write_text(file.read_text().replace('"name": "tiny"', '"name": "zebra"', 1))
    path = own / "runs" / "tiny" / "weights.safetensors"
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:-50])
    elif fault == "missing":
        path.unlink()
    elif fault == "record":
        (own / "runs" / "tiny" / "run.json").write_text("{")
    else:
        save_tensors(path, {"weight": torch.zeros(2)}, {})
    checks = verify.verify(quick=True, root=own)
    assert [c.state for c in checks if c.run == "tiny"] == ["differs"]
    assert [c.state for c in checks if c.run == "zebra"] == ["agrees", "agrees"]


@pytest.mark.parametrize(
    ("text", "match"),
    [('{"name": "tiny"}', "damaged: title"), ("{", "damaged"), (None, "record of other")],
)
def test_a_damaged_record_is_named(text: str | None, match: str, own: Path) -> None:
    file = own / "runs" / "tiny" / "run.json"
    file.write_text(text or file.read_text().replace('"name": "tiny"', '"name": "other"', 1))
    with pytest.raises(NVPError, match=match):
        ledger.runs(own)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 8, 8)])
def test_probe_images_are_the_embedded_ones_at_any_shape(shape: tuple[int, int, int]) -> None:
    images, embedded = probe_images(shape), probe_images((1, 28, 28))
    assert images.shape == (200, *shape)
    assert images.dtype == torch.uint8
    channels, height, width = shape
    row, column = height // 3, width // 2
    expected = embedded[:, 0, row * 28 // height, column * 28 // width]
    assert (images[:, channels - 1, row, column] == expected).all()


def test_the_probe_is_scored_in_float64(recorded: Path) -> None:
    run = ledger.runs(recorded)["tiny"]
    scores = score_probe(load_run(run.folder))
    assert scores.shape == (200,)
    assert summarise(scores, 1).bits_per_dim == pytest.approx(
        run.record.scores.probe.bits_per_dim, abs=1e-6
    )


@pytest.mark.parametrize("levels", [2, 3, 16, 256])
def test_probe_images_have_the_levels_of_the_model(levels: int) -> None:
    images, grey = probe_images((1, 28, 28), levels), probe_images((1, 28, 28))
    assert images.dtype == torch.uint8
    assert (int(images.min()), int(images.max())) == (0, levels - 1)
    if levels > 2:
        assert torch.equal(images, (grey.double() * levels / 256).floor().byte())


@pytest.fixture(scope="module")
def pixelrnn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data root, and a ledger that holds a PixelCNN of binary images; do not change them."""
    folder = tmp_path_factory.mktemp("pixelrnn")
    tree = tiny.pixelrnn_tree()
    tree["training"] |= {"early_stopping": True, "validate_minutes": 1e-9, "steps": 3}
    run = tiny.train(folder, tree)
    log = read_log(run / "log.csv")
    assert min(log, key=lambda row: row["validation"]) is log[-1]
    # As if step 2 had been the best, so that it can be told from the last one.
    tensors, header = load_tensors(run / BEST)
    save_tensors(run / BEST, tensors, header | {"step": 2})
    root = folder / "results"
    root.mkdir()
    shutil.copy(results_root() / "published.yaml", root)
    record.record(run, data_root=folder / "data", first=20, num_draws=4, root=root)
    return folder / "data", root


def test_a_pixel_rnn_is_recorded_with_the_step_that_was_chosen(
    pixelrnn: tuple[Path, Path],
) -> None:
    data_root, root = pixelrnn
    run = ledger.runs(root)["tiny-pixelrnn"]
    entry = run.record
    assert (entry.steps, entry.chosen_step) == (3, 2)
    assert entry.scores.validation.num_images == 30  # the whole split
    assert entry.data.train_images == 60
    assert entry.scores.first_more_draws.bits_per_dim == entry.scores.first.bits_per_dim
    images = scored_images(run.config, "test", data_root).images
    nats = -run.load_model().log_prob(images).double()
    mean, error = run.nats
    assert mean == pytest.approx(nats.mean().item(), abs=1e-3)
    assert error == pytest.approx(nats.std().item() / 30**0.5, abs=1e-3)


def test_a_figure_that_only_a_leak_explains_is_refused(
    pixelrnn: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_root, root = pixelrnn
    run = ledger.runs(root)["tiny-pixelrnn"]
    options = {"data_root": data_root, "root": tmp_path}
    monkeypatch.setitem(record.FLOORS, "tiny-binary", run.nats[0] + 0.1)
    with pytest.raises(NVPError, match=r"nats on tiny-binary, below .*test_causality") as caught:
        record.record(data_root.parent / "run", **options)
    assert "\n" not in str(caught.value)
    assert content(tmp_path) == {}
    monkeypatch.setitem(record.FLOORS, "tiny-binary", run.nats[0] - 0.1)
    assert record.record(data_root.parent / "run", **options).name == "tiny-pixelrnn"


@pytest.mark.parametrize(
    ("name", "floor"), [("cifar10-pixelcnn", 2.8), ("binarized-mnist-row-lstm", 78.0)]
)
def test_the_floors_of_pixel_rnns(name: str, floor: float) -> None:
    config = load_config(REPOSITORY / "configs" / f"{name}.yaml")
    unit = nats_per_bit(config.model.image_shape) if config.levels == 2 else 1.0
    record.check_floor(config, Score((floor + 0.01) / unit, 0.0, 10_000, 1))
    with pytest.raises(NVPError, match=rf"scores {floor - 0.01:.2f} .*, below {floor:g}, as if"):
        record.check_floor(config, Score((floor - 0.01) / unit, 0.0, 10_000, 1))


def test_a_flow_has_no_floor() -> None:
    config = load_config(REPOSITORY / "configs" / "cifar10.yaml")
    record.check_floor(config, Score(1.0, 0.0, 10_000, 1))


def test_no_recorded_run_is_below_its_floor() -> None:
    for run in ledger.runs().values():
        if run.has_likelihood:
            record.check_floor(run.config, run.score)


def test_a_binary_run_is_verified_to_a_hundredth_of_a_nat(
    pixelrnn: tuple[Path, Path], tmp_path: Path
) -> None:
    data_root, root = pixelrnn
    agree = {"weights": "agrees", "probe": "agrees", "test": "agrees"}
    assert states(verify.verify(data_root=data_root, root=root)) == agree
    own = Path(shutil.copytree(root, tmp_path / "own"))
    run = ledger.runs(own)["tiny-pixelrnn"]
    shift = 0.02 / nats_per_bit(run.config.model.image_shape)
    file = run.folder / "run.json"
    tree = json.loads(file.read_text())
    tree["scores"]["test"]["bits_per_dim"] += shift
    file.write_text(json.dumps(tree))
    assert states(verify.verify(data_root=data_root, root=own))["test"] == "differs"


def test_binary_runs_are_shown_in_nats(pixelrnn: tuple[Path, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(pixelrnn[1], tmp_path / "own"))
    file = root / "runs" / "tiny-pixelrnn" / "run.json"
    tree = json.loads(file.read_text())
    tree["data"]["name"] = "binarized-mnist"
    file.write_text(json.dumps(tree))
    run = ledger.runs(root)["tiny-pixelrnn"]
    figure = f"{run.nats[0]:.2f} ± {run.nats[1]:.2f}"
    assert results.table("binarized-mnist", root=root).rows[0][:2] == (
        "**A tiny PixelCNN, this code**",
        figure,
    )
    shown = dict(results.table("runs", root=root).rows)
    assert shown["test"] == f"{figure} nats"
    assert shown["weights chosen"] == "of step 2"
    assert shown["images for validation"].endswith(" nats")


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data root, and a ledger that holds a GAN beside a Real NVP; do not change them."""
    folder = tmp_path_factory.mktemp("gan")
    tree = tiny.config_tree() | {"name": "a-gan", "title": "A tiny GAN"}
    tree["model"] = {"family": "gan", "image_shape": [1, 8, 8], "latent": 3, "width": 4}
    root = folder / "results"
    root.mkdir()
    shutil.copy(results_root() / "published.yaml", root)
    record.record(tiny.train(folder, tree), data_root=folder / "data", root=root)
    return folder / "data", root


def test_a_model_without_likelihood_is_recorded_by_what_it_draws(gan: tuple[Path, Path]) -> None:
    run = ledger.runs(gan[1])["a-gan"]
    assert run.record.scores is None
    assert not run.has_likelihood
    with pytest.raises(NVPError, match="a-gan has no likelihood"):
        _ = run.score
    levels = run.load_model().double().sample(200, generator=torch.manual_seed(0)).double()
    assert run.record.draw is not None
    assert run.record.draw.num_images == 200
    assert run.record.draw.mean == pytest.approx(levels.mean().item(), abs=1e-5)
    assert run.record.draw.standard_deviation == pytest.approx(levels.std().item(), abs=1e-5)
    assert run.record.weights is not None
    assert run.record.weights.precision == "float32"


def test_verify_compares_what_a_gan_draws_and_says_so(
    gan: tuple[Path, Path], tmp_path: Path
) -> None:
    data_root, root = gan
    checks = verify.verify(data_root=data_root, root=root)
    assert states(checks) == {"weights": "agrees", "draws": "agrees"}
    assert "no likelihood" in checks[-1].what
    own = Path(shutil.copytree(root, tmp_path / "own"))
    path = own / "runs" / "a-gan" / "weights.safetensors"
    tensors, header = load_tensors(path)
    save_tensors(path, {**tensors, "G.7.bias": tensors["G.7.bias"] + 0.5}, header)
    assert states(verify.verify(root=own)) == {"weights": "differs", "draws": "differs"}


def test_tables_say_that_a_gan_has_no_likelihood(
    gan: tuple[Path, Path], recorded: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(recorded, tmp_path / "own"))
    shutil.copytree(gan[1] / "runs" / "a-gan", root / "runs" / "a-gan")
    for name in ("a-gan", "tiny"):
        rewrite(root, "data.name", "mnist", name)
    rows = results.table("28x28", root=root).rows
    assert rows[0][1] == "**A tiny Real NVP, this code**"
    assert rows[1][1:3] == ("**A tiny GAN, this code**", "no likelihood")
    table = results.table("runs", root=root)
    shown = {row[0]: row[1:] for row in table.rows}
    score = ledger.runs(root)["tiny"].score
    assert table.header[1:] == ("a-gan", "tiny")
    assert shown["test"] == (
        "no likelihood",
        f"{score.bits_per_dim:.3f} ± {score.standard_error:.3f}",
    )
    assert [row[0] for row in table.rows if row[1] == "no likelihood"] == list(results.FIGURES)


@pytest.mark.parametrize("key", ["scores", "draw"])
def test_a_record_has_scores_or_a_draw(key: str, own: Path) -> None:
    draw = {"mean": 1.0, "standard_deviation": 1.0, "num_images": 200}
    rewrite(own, key, None if key == "scores" else draw)
    with pytest.raises(NVPError, match="give scores or draw, one of them"):
        ledger.runs(own)


def test_legs_are_the_machines_in_order(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    assert provenance.read_legs(tmp_path) == []
    provenance.note_leg(tmp_path, cpu)
    provenance.note_leg(tmp_path, cpu)
    (here,) = provenance.read_legs(tmp_path)
    elsewhere = here.model_copy(update={"gpu": "a GPU"})
    path = tmp_path / provenance.LEGS
    path.write_text(json.dumps([elsewhere.model_dump()]))
    provenance.note_leg(tmp_path, cpu)
    assert [each.gpu for each in provenance.read_legs(tmp_path)] == ["a GPU", None]
    path.write_text("[")
    with pytest.raises(NVPError, match="damaged"):
        provenance.read_legs(tmp_path)


def test_precisions_are_those_of_the_legs_in_order(own: Path) -> None:
    entry = ledger.runs(own)["tiny"].record
    (leg,) = entry.legs
    other = leg.model_copy(update={"precision": "bf16"})
    silent = leg.model_copy(update={"precision": None})
    moved = entry.model_copy(update={"legs": [leg, other, silent, other]})
    assert moved.precisions == f"{entry.precision}, then bf16"
    assert entry.model_copy(update={"legs": [silent]}).precisions == entry.precision


def test_a_leg_may_have_a_norm_that_clips_nothing(tmp_path: Path) -> None:
    provenance.note_leg(tmp_path, torch.device("cpu"), changed={"clip_norm": math.inf})
    assert [each.changed for each in provenance.read_legs(tmp_path)] == [{"clip_norm": math.inf}]


def test_without_git_the_commit_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "repository_root", lambda: tmp_path)
    monkeypatch.delenv("NVP_COMMIT", raising=False)
    assert provenance.code_commit() is None
    monkeypatch.setenv("NVP_COMMIT", "abc")
    assert provenance.code_commit() == "abc"


def test_every_cell_is_recorded_published_or_not_run(own: Path) -> None:
    rewrite(own, "data.name", "cifar10")
    rows = {row[0]: row[1:] for row in results.table("table1", root=own).rows}
    assert len(rows) == 7
    score = ledger.runs(own)["tiny"].score
    assert rows["CIFAR-10"][:4] == ("3.00", "3.49", "< 3.59", "< 3.28")
    assert rows["CIFAR-10"][4].startswith(f"{score.bits_per_dim:.3f} ± {score.standard_error:.3f}")
    assert rows["ImageNet 32x32"][:4] == ("3.86 (3.83)", "4.28 (4.26)", "< 4.40 (4.35)", "–")
    for title, cells in rows.items():
        if title != "CIFAR-10":
            assert "not run: `nvp train configs/" in cells[-1]


def test_a_recorded_run_stands_above_the_yardsticks(own: Path) -> None:
    rewrite(own, "data.name", "mnist")
    rows = results.table("28x28", root=own).rows
    assert rows[0][:2] == ("MNIST", "**A tiny Real NVP, this code**")
    assert "2 steps" in rows[0][3]
    assert rows[1] == ("MNIST", "Real NVP, this code", *rows[1][2:])
    assert rows[1][3].startswith("`nvp train configs/mnist.yaml`")  # it is not the tiny run
    kinds = ("recorded (", "published: ", "`nvp train configs/", "no Real NVP")
    assert all(row[3].startswith(kinds) for row in rows)


def test_citations_are_in_the_bibliography() -> None:
    facts = results.read_published()
    assert set(facts.sources) <= CITATIONS
    for name in results.NAMES:
        roles = re.findall(r"\{cite:t\}`(\w+)`", results.table_markdown(name, roles=True))
        assert set(roles) <= CITATIONS
    assert {figure.source for figure in facts.figures} == set(facts.sources)


def test_every_row_has_a_configuration_and_every_configuration_a_model() -> None:
    rows = [row for table in results.read_published().tables.values() for row in table]
    for row in rows:
        config = load_config(REPOSITORY / "configs" / f"{row.config}.yaml")
        assert (config.name, config.data.name) == (row.config, row.data.removesuffix("-validation"))
    for path in (REPOSITORY / "configs").glob("*.yaml"):
        assert load_config(path).name == path.stem


def test_published_figures_keep_their_digits() -> None:
    (figure,) = results.published("cifar10", "PixelRNN")
    assert figure.cell == "3.00"
    (figure,) = results.published("binarized-mnist", "DRAW")
    assert figure.cell == "< 80.97"
    (figure,) = results.published("imagenet32", "Row LSTM")
    assert figure.cell == "3.86 (3.83)"
    assert {figure.data for figure in results.published(model="Real NVP")} >= {"celeba", "cifar10"}


def test_figures_that_no_print_was_seen_of_are_marked() -> None:
    for name in ("binarized-mnist", "pixelrnn-variants"):  # published figures are last but one
        shown = [row[-2] for row in results.table(name).rows]
        unverified = [f for f in results.published() if f.unverified and f.cell in shown]
        assert unverified
        assert all(figure.cell.endswith(" †") for figure in unverified)
        assert "† unverified" in results.table(name).caption
    assert "80.54 †" in [row[-2] for row in results.table("binarized-mnist").rows]
    assert "81.30" in [row[-2] for row in results.table("binarized-mnist").rows]
    assert "†" not in results.table("28x28").caption


def test_every_variant_of_the_row_lstm_has_a_configuration() -> None:
    """Tables 2 and 3 and section 5.2: a file a row, each but for one choice that of Table 5."""
    rows = results.read_published().tables["pixelrnn-variants"]
    configs = [load_config(REPOSITORY / "configs" / f"{row.config}.yaml") for row in rows]
    whole = next(c for c in configs if c.name == "cifar10-row-lstm").model_dump()
    changes = []
    for config in configs:
        plain = config.model_dump()
        assert {**plain, "name": "", "title": "", "model": {}} == {
            **whole,
            **{"name": "", "title": "", "model": {}},
        }
        model = plain["model"].items()
        changes.append(dict(item for item in model if item not in whole["model"].items()))
    assert changes == [
        {"residual": False, "skip": False},
        {"residual": False},
        {"skip": False},
        {},
        *({"num_layers": n} for n in (1, 2, 3, 6, 9)),
        {"output": "mixture"},
    ]


def test_a_recorded_variant_shows_its_validation_figure(own: Path) -> None:
    rows = results.table("pixelrnn-variants", root=own).rows
    assert all(row[1].startswith("not run: `cifar10-row-lstm") for row in rows)
    os.rename(own / "runs" / "tiny", own / "runs" / "cifar10-row-lstm-1")
    rewrite(own, "name", "cifar10-row-lstm-1", name="cifar10-row-lstm-1")
    shown = [row[1] for row in results.table("pixelrnn-variants", root=own).rows]
    validation = results.runs(own)["cifar10-row-lstm-1"].scores.validation.bits_per_dim
    assert shown[4] == f"{validation:.3f} (cifar10-row-lstm-1)"
    assert all(cell.startswith("not run") for cell in (*shown[:4], *shown[5:]))


def test_a_flow_is_no_row_among_pixel_rnns(own: Path) -> None:
    rewrite(own, "data.name", "cifar10")
    assert "A tiny Real NVP" not in results.table_markdown("pixelrnn", root=own)
    assert "A tiny Real NVP" not in results.table_markdown("binarized-mnist", root=own)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("83.18 ± 0.20", "83.18_±_0.20"),
        ("< 80.97", "<_80.97"),
        ("≈ 86.60 †", "≈_86.60_†"),
        ("finished at 35 % of it", "finished at 35_% of it"),
        ("DBN, 2 hidden layers", "DBN, 2 hidden layers"),
    ],
)
def test_figures_do_not_break_across_lines(cell: str, text: str) -> None:
    table = Table("", ("what", "figure"), [("row", cell)])
    assert f"| row | {text} |".replace("_", "\u00a0") in table.markdown()


RECORDED_FLOWS = [
    name
    for name, run in results.runs().items()
    if run.config.model.family == "realnvp" and run.record.weights and not run.config.num_classes
]


@pytest.mark.parametrize("name", RECORDED_FLOWS)
def test_a_recorded_flow_inverts(name: str) -> None:
    """Trained scales amplify rounding: float32 loses two digits more than with random weights."""
    flow = results.runs()[name].load_model().flow
    x = torch.logit(0.05 + 0.9 * (probe_images((1, 28, 28))[:8].double() + 0.5) / 256)
    for dtype, error in ((torch.float64, 1e-9), (torch.float32, 1e-3)):
        z, log_det = flow.to(dtype)(x.to(dtype))
        again, back = flow.inverse(z)
        assert (again - x).abs().max() < error
        assert (log_det + back).abs().max() < 1e3 * error


@pytest.mark.parametrize("unit", ["", 'bits_per_dim: "1.0", nats: "80.54",'])
def test_a_published_figure_has_one_unit(unit: str, own: Path) -> None:
    path = own / "published.yaml"
    path.write_text(path.read_text().replace('nats: "80.54",', unit, 1))
    with pytest.raises(NVPError, match=r"Row LSTM: give bits_per_dim or nats, one of them"):
        results.table("28x28", root=own)


def test_published_figures_need_a_source(own: Path) -> None:
    path = own / "published.yaml"
    path.write_text(path.read_text().replace("source: kobyzev2021review", "source: nobody2021", 1))
    with pytest.raises(NVPError, match="no source nobody2021"):
        results.table("28x28", root=own)
    with pytest.raises(NVPError, match="no table"):
        results.table("table2")


def test_tables_are_written_between_the_markers_only(own: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results:begin -->\nold\n<!-- results:end -->\nafter\n")
    changed = results.write_tables(own, readme)
    assert {path.name for path in changed} == {*(f"{n}.md" for n in results.NAMES), "README.md"}
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert results.table_markdown("glance", root=own) in text
    assert results.write_tables(own, readme) == []
    readme.write_text("<!-- results:begin -->\n")
    with pytest.raises(NVPError, match=r"results:end"):
        results.write_tables(own, readme)


def test_the_tables_in_the_repository_are_in_step() -> None:
    """If this fails, run `nvp tables`."""
    for name in results.NAMES:
        written = (results_root() / "tables" / f"{name}.md").read_text()
        assert written == results.table_markdown(name, roles=True)
    readme = (REPOSITORY / "README.md").read_text()
    parts = readme_parts(read_published(), ledger.runs())
    assert with_parts(readme, parts) == readme
    assert all(f"<!-- {name}:begin -->" in readme for name in parts)
