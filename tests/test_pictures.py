"""The pictures of an entry: made from fixed noise, small enough, and compared by verify."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from ledgers import states
from nvp_book.selection import sheet_images
from PIL import Image

from nvp import progress
from nvp.data.sets import load
from nvp.ledger import pictures, verify
from nvp.ledger.entry import read_run, runs
from nvp.ledger.pictures import make_pictures
from nvp.runs.folder import RunFolder
from nvp.runs.load import load_run
from nvp.runs.sheet import draw
from nvp.training.loop import prepare


def tiles(path: Path, columns: int = 8) -> np.ndarray:
    """The images of a sheet of grey images, (rows, columns, 8, 8)."""
    return sheet_images(path, 8)[:, 0].int().numpy().reshape(-1, columns, 8, 8)


def test_an_entry_has_samples_and_real_images(recorded: Path, trained: Path) -> None:
    run = runs(recorded)["tiny"]
    real = load("tiny", "test", root=trained / "data").images
    shown = tiles(run.files.real)
    assert shown.shape == (4, 8, 8, 8)  # 30 images, and two places that stay empty
    assert (shown.reshape(32, 8, 8)[:30] == real[:, 0].numpy()).all()
    model = run.load_model().double()
    samples = model.sample(64, generator=torch.Generator().manual_seed(0))
    shown = tiles(run.files.samples).reshape(64, 8, 8)
    assert (abs(shown - samples[:, 0].numpy()) <= 1).all()
    assert not run.files.completions.exists()


def test_a_pixel_rnn_completes_the_upper_halves(pixelrnn: Path) -> None:
    run = runs(pixelrnn / "results")["tiny-pixelrnn"]
    real = 255 * load("tiny-binary", "test", root=pixelrnn / "data").images[:8, 0].numpy()
    shown = tiles(run.files.completions)
    assert shown.shape == (8, 8, 8, 8)
    assert (shown[:, :, :4] == real[:, None, :4]).all()
    assert (shown[:, 0, 4:] == 128).all()
    assert (shown[:, 7] == real).all()
    assert set(np.unique(shown[:, 1:7])) == {0, 255}
    assert (shown[:, 1, 4:] != shown[:, 2, 4:]).any()


def test_verify_makes_the_samples_again(pixel_home: Path, tmp_path: Path) -> None:
    own = pixel_home / "results"
    (run,) = runs(own).values()
    sheet = np.array(Image.open(run.files.samples))
    sheet[: len(sheet) // 20] = 255 - sheet[: len(sheet) // 20]  # 4.9% of it: 4 of 82 lines
    Image.fromarray(sheet).save(run.files.samples)
    assert states(verify.verify(data_root=tmp_path, root=own))["samples"] == "differs"
    content = run.files.samples.read_bytes()
    for damaged in (b"no picture", content[:11] + b"\0" + content[12:]):
        run.files.samples.write_bytes(damaged)
        checks = list(verify.verify(data_root=tmp_path, root=own))
        assert any("is damaged" in check.found for check in checks)
        assert [what for what, state in states(checks).items() if state == "differs"] == ["samples"]
    run.files.samples.unlink()
    assert states(verify.verify(data_root=tmp_path, root=own))["samples"] == "not checked"


def test_pictures_of_an_entry_can_be_made_again(pixel_home: Path) -> None:
    files = runs(pixel_home / "results")["tiny-pixelrnn"].files
    made = (files.samples, files.real, files.completions)
    before = {path: path.read_bytes() for path in made}
    for path in before:
        path.unlink()
    make_pictures(files.path, data_root=pixel_home / "data")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("limit", "size"),
    [(100_000, (534, 534)), (15_000, (90, 178)), (700, (24, 178))],
    ids=["64 images, three times as large", "32", "a row in any case"],
)
def test_a_sheet_that_is_too_large_shows_fewer_images(limit, size, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pictures, "MAX_BYTES", limit)
    noise = torch.randint(256, (64, 1, 20, 20), generator=torch.manual_seed(0), dtype=torch.uint8)
    monkeypatch.setattr(pictures, "draw", lambda model, number: noise)
    path, model = tmp_path / "a.png", SimpleNamespace(levels=256)
    pictures._write(path, noise)
    assert pictures.differing(path, model) == 0
    shown = np.asarray(Image.open(path))
    assert shown.shape == size
    Image.fromarray(255 - shown).save(path)
    assert pictures.differing(path, model) > 0.5
    for darker, share in ((1, 0), (2, 1)):  # a single level of 255 is rounding
        Image.fromarray(shown - np.minimum(shown, darker)).save(path)
        assert pictures.differing(path, model) == pytest.approx(share, abs=0.05)


def test_a_filmstrip_has_a_column_for_each_checkpoint(own, trained, monkeypatch, capsys) -> None:
    film = own / "film"
    film.mkdir()
    config = tiny.configured(tiny.config_tree(), training={"steps": 1})
    prepare(config, own / "first", data_root=trained / "data").run()
    for name, run in (("8", own / "first"), ("7", trained / "run")):
        shutil.copy(RunFolder(run).checkpoint, film / f"{name}.safetensors")
    entry = own / "runs" / "tiny"
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    run = make_pictures(entry, film, data_root=trained / "data")
    assert "tiny, filmstrip: 1 of 2, 0:00:0" in capsys.readouterr().err
    assert run.record.film == read_run(entry).record.film == (8, 16)
    shown = tiles(run.files.filmstrip, columns=2)
    assert shown.shape == (8, 2, 8, 8)
    assert (shown[:, 0] != shown[:, 1]).any()
    last = draw(load_run(trained / "run", data_root=trained / "data").model, 8)
    assert (shown[:, 1] == last[:, 0].numpy()).all()
    tiny.write_data(own / "data", seed=1)
    with tiny.refusal("the training images of tiny found here are not those of"):
        make_pictures(entry, film, data_root=own / "data")
    (film / "other.safetensors").write_bytes(b"")
    with tiny.refusal("damaged"):
        make_pictures(entry, film, data_root=trained / "data")
    assert "holds no checkpoints" in tiny.fails("pictures", entry, "--film", own)
    assert "is no recorded run: first give" in tiny.fails("pictures", trained / "run")
