"""`nvp data import` of a folder of images."""

import json
import os
import tracemalloc
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from ledgers import content
from PIL import Image
from sources import encoded, photographs, pixels, write
from tiny import done, fails, refusal

from nvp.data.formats import SPLITS
from nvp.data.importing import files as importing_files
from nvp.data.importing import pixels as importing_pixels
from nvp.data.importing.options import Options
from nvp.data.importing.run import Imported, import_set
from nvp.data.sets import load


def imported(source: Path, root: Path | None = None, **options) -> Imported:
    """Import a source as the set "mine", into the folder that it lies in by default."""
    return import_set(source, "mine", Options(**options), root=root or source.parent)


def stored(root: Path, split: str = "train", name: str = "mine", **options) -> np.ndarray:
    """(N, H, W, C)."""
    images = load(name, split, root=root, **options).images
    return images.to("cpu").permute(0, 2, 3, 1).numpy()


def holds(root: Path, originals: Iterable[np.ndarray], **options) -> bool:
    """Whether the splits of the set are these images, in whatever order."""
    images = np.concatenate([stored(root, split, **options) for split in SPLITS])
    return sorted(map(bytes, images)) == sorted(map(bytes, originals))


def refused(match: str, source: Path, name="mine", *, root: Path | None = None, **options) -> str:
    """The line that refuses such an import; a set that was there stays, and no other appears."""
    root = root or source.parent
    before = (root / name).exists(), content(root / name)
    with refusal(match) as caught:
        import_set(source, name, Options(**options), root=root)
    assert ((root / name).exists(), content(root / name)) == before
    return str(caught.value)


@pytest.mark.parametrize("name", ["photos", "set.parquet", "set.zip"])  # may look like a file's
def test_a_folder_becomes_three_splits_of_its_images(name: str, tmp_path: Path) -> None:
    originals = photographs(tmp_path / name, 40)
    made = imported(tmp_path / name, tmp_path, validation=0.25, test=0.25)
    assert made.images == {"train": 20, "validation": 10, "test": 10}  # shares are of all images
    assert made.shape == (3, 6, 6)
    assert holds(tmp_path, originals)
    assert load("mine", "train", root=tmp_path).labels is None
    assert [path.name for path in tmp_path.iterdir() if "mine" in path.name] == ["mine"]


def test_splits_and_order_follow_the_seed(tmp_path: Path) -> None:
    photographs(tmp_path / "photos")
    training = []
    for seed in (0, 0, 1):
        imported(tmp_path / "photos", replace=True, seed=seed)
        training.append(stored(tmp_path).tobytes())
    assert training[0] == training[1] != training[2]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 20])
def test_a_split_of_few_images_has_two_or_none(number: int) -> None:
    """One alone has no standard error, and would be refused after training."""
    splits = Options().draw(np.full(number, "train", "<U10")).tolist()
    test, validation = 2 * (number > 2), 2 * (number > 4)
    assert (splits.count("test"), splits.count("validation")) == (test, validation)
    assert splits.count("train") == number - test - validation


def test_an_image_beside_the_classes_is_named(tmp_path: Path) -> None:
    photographs(tmp_path / "photos/cat", 10)
    photographs(tmp_path / "photos/dog", 9)
    assert "no labels" not in imported(tmp_path / "photos").summary()
    write(tmp_path / "photos/stray.png", encoded(pixels(6, 6)))
    made = imported(tmp_path / "photos", replace=True)
    assert "no labels are kept: stray.png lies in no subfolder" in made.summary()


def test_subfolders_are_classes(tmp_path: Path) -> None:
    classes = ["cat", "dog", "eel"]
    for index in range(30):
        shade = encoded(np.full((4, 4, 3), index, np.uint8))
        write(tmp_path / f"photos/{classes[index % 3]}/deeper/{index}.png", shade)
    imported(tmp_path / "photos")
    for split in SPLITS:
        data = load("mine", split, root=tmp_path)
        assert (data.images[:, 0, 0, 0] % 3).tolist() == data.labels.tolist()
    assert json.loads((tmp_path / "mine/import.json").read_text())["classes"] == classes


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "val", "test"), ("Training", "VALID", "Testing"), ("train", "validation", "test")],
)
def test_subfolders_may_be_splits(train: str, validation: str, test: str, tmp_path: Path) -> None:
    for split, count in ((train, 6), (validation, 3), (test, 2)):
        for name in ("a", "b"):
            photographs(tmp_path / "photos" / split / name, count)
    made = imported(tmp_path / "photos")
    assert made.images == {"train": 12, "validation": 6, "test": 4}
    assert load("mine", "test", root=tmp_path).labels.bincount().tolist() == [2, 2]
    told = "; with labels, for a Real NVP: model.num_classes: 2\nlabels: 0 a, 1 b"
    assert made.summary().endswith(told)


def test_a_folder_in_a_split_that_is_no_class(tmp_path: Path) -> None:
    for place in ("bare/train/images", "bare/test/images"):
        photographs(tmp_path / place, 5)
    for place in ("train/cat", "train/dog", "val/images", "test/images"):
        photographs(tmp_path / "photos" / place, 5)
    assert "num_classes" not in imported(tmp_path / "bare").summary()
    told = imported(tmp_path / "photos", replace=True).summary()
    assert "no training image has the class images: is that folder a class?" in told
    assert told.count("no training image") == 1


def test_images_beside_the_folders_of_splits(tmp_path: Path) -> None:
    photographs(tmp_path / "photos/train", 4)
    photographs(tmp_path / "photos", 1)
    refused(r"00\.png beside them: put each image into train/", tmp_path / "photos")


def test_other_and_hidden_files_are_no_images(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 10)
    for name in ("notes.txt", ".hidden.png", ".thumbs/1.png", "__MACOSX/1.png"):
        write(tmp_path / "photos" / name, b"no image")
    write(tmp_path / "photos/camera.heic", b"of no known kind")
    write(tmp_path / "photos/CAMERA.PNG", encoded(pixels(6, 6)))
    made = imported(tmp_path / "photos")
    assert sum(made.images.values()) == 11
    assert "other files left out: 2 (.heic, .txt)" in made.summary()


def test_the_smaller_side_is_resized_and_the_centre_cut(tmp_path: Path) -> None:
    wide = Image.fromarray(pixels(20, 50))
    tall = wide.transpose(Image.Transpose.ROTATE_90)
    for index in range(3):
        write(tmp_path / f"wide/{index}.png", encoded(wide))
        write(tmp_path / f"tall/{index}.png", encoded(tall))
    made = imported(tmp_path / "wide", size=8)
    expected = np.asarray(wide.resize((20, 8), Image.Resampling.BILINEAR))[:, 6:14]
    assert np.array_equal(stored(tmp_path)[0], expected)
    assert (made.shape, made.note["enlarged"]) == ((3, 8, 8), 0)
    assert made.note["splits"]["train"]["shape"] == [8, 8, 3]
    imported(tmp_path / "tall", size=8, replace=True)
    expected = np.asarray(tall.resize((8, 20), Image.Resampling.BILINEAR))[6:14]
    assert np.array_equal(stored(tmp_path)[0], expected)


def test_images_of_two_sizes_need_one_and_the_enlarged_are_counted(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 3, (6, 6))
    photographs(tmp_path / "photos/more", 2, (12, 12))
    refused("where others have .*: give a --size", tmp_path / "photos")
    made = imported(tmp_path / "photos", size=8)
    assert "3 were smaller than the size asked for" in made.summary()


def test_what_is_not_cut_is_a_plain_array_unless_it_differs_in_size(tmp_path: Path) -> None:
    originals = photographs(tmp_path / "photos", 10, (6, 9))
    assert not imported(tmp_path / "photos", crop="none").ragged
    assert stored(tmp_path).shape[1:] == (6, 9, 3)
    originals += photographs(tmp_path / "photos/more", 10, (8, 6))
    made = imported(tmp_path / "photos", crop="none", replace=True)
    assert made.ragged
    assert "data.crop: S and model.image_shape: [3, S, S], with S at most 6" in made.summary()
    centres = [*(image[:, 2:8] for image in originals[:10]), *(i[1:7] for i in originals[10:])]
    assert holds(tmp_path, centres, crop=6)


def test_splits_may_differ_in_size(tmp_path: Path) -> None:
    for split, height in (("train", 6), ("test", 5)):
        photographs(tmp_path / "photos" / split, 4, (height, 9))
    told = imported(tmp_path / "photos", crop="none").summary()
    assert "data.crop: S and model.image_shape: [3, S, S], with S at most 5" in told


def test_one_channel_or_three(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 4)
    write(tmp_path / "photos/gray.png", encoded(pixels(6, 6, channels=1)))
    assert imported(tmp_path / "photos").shape == (3, 6, 6)
    assert imported(tmp_path / "photos", gray=True, replace=True).shape == (1, 6, 6)


def test_what_is_transparent_is_white_and_what_lies_is_turned(tmp_path: Path) -> None:
    clear = np.zeros((6, 6, 4), np.uint8)
    clear[:3, :, 3] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turned clockwise by the camera
    lying = np.arange(0, 240, 40, dtype=np.uint8)[:, None, None].repeat(6, 1)
    for index in range(3):
        write(tmp_path / f"clear/{index}.png", encoded(Image.fromarray(clear)))
        write(tmp_path / f"lying/{index}.png", encoded(lying, exif=exif))
    imported(tmp_path / "clear")
    assert (stored(tmp_path)[0, :, 0, 0].tolist()) == [0] * 3 + [255] * 3
    imported(tmp_path / "lying", replace=True)
    assert stored(tmp_path)[0, 0, :, 0].tolist() == [200, 160, 120, 80, 40, 0]


def test_a_strip_is_not_enlarged_beyond_measure(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 5)
    write(tmp_path / "photos/strip.png", encoded(Image.new("L", (90_000, 1))))
    refused("strip.png: it would grow to 2,880,000x32 pixels", tmp_path / "photos", size=32)


def test_images_that_cannot_be_read(tmp_path: Path, monkeypatch) -> None:
    photographs(tmp_path / "photos", 20)
    deep = Image.fromarray(np.arange(36, dtype=np.uint16).reshape(6, 6) * 1000)
    colours = bytearray(encoded(pixels(6, 12)))
    colours[19], colours[24] = 6, 16  # 6x6 colours of 16 bits, which Pillow does not write
    colours[29:33] = zlib.crc32(colours[12:29]).to_bytes(4, "big")
    bad = {
        "cut.png": encoded(pixels(60, 60))[:2000],
        "empty.jpg": b"",
        "page.png": b"<html>",
        "script.png": encoded(pixels(6, 6), "EPS"),  # which Ghostscript would run
        "deep.png": encoded(deep),
        "deep-colours.png": bytes(colours),
        "bomb.png": encoded(Image.new("L", (400, 400))),
        "deep.ppm": b"P6 4 4 1023\n" + bytes(4 * 4 * 6),
        "deep.tif": encoded(Image.new("F", (6, 6)), "TIFF"),
        "vast.png": encoded(pixels(40, 40)),
    }
    monkeypatch.setattr(importing_pixels, "LARGEST_IMAGE", 100_000)
    monkeypatch.setattr(importing_files, "LARGEST_FILE", 4000)
    for name, damaged in bad.items():
        write(tmp_path / "photos" / name, damaged)
    match = "10 of 30 images cannot be read: .*--skip-unreadable"
    line = refused(match, tmp_path / "photos")
    assert all(name in line for name in bad)
    assert "script.png: it is no image file of a known kind" in line
    assert "bomb.png: it announces 400x400 pixels" in line
    for name in ("deep.png", "deep-colours.png", "deep.ppm", "deep.tif"):
        assert f"{name}: it has more than 8 bits a channel" in line
    assert "vast.png: it holds" in line
    made = imported(tmp_path / "photos", skip_unreadable=True, validation=0.2, test=0.2)
    assert sum(made.images.values()) == 20
    assert sorted(line.split(":")[0] for line in made.note["unreadable"]) == sorted(bad)


def test_images_that_were_refused_are_read_again(tmp_path: Path, monkeypatch) -> None:
    photographs(tmp_path / "photos", 10)
    monkeypatch.setattr(importing_pixels, "LARGEST_IMAGE", 1)
    refused("10 of 10 images cannot be read", tmp_path / "photos")
    monkeypatch.undo()
    assert sum(imported(tmp_path / "photos").images.values()) == 10


def test_a_message_names_ten_of_many(tmp_path: Path) -> None:
    for index in range(13):
        write(tmp_path / f"photos/bad-{index:02d}.png", b"nothing")
    refused("13 of 13 images cannot be read: .*; and 3 more:", tmp_path / "photos")


def test_what_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 5)
    refused("cannot name a data set", tmp_path / "photos", "../mine")
    refused("is read from its publisher's own files", tmp_path / "photos", "mnist")
    match = "holds a folder of images, not celeba: import it as another name"
    refused(match, tmp_path / "photos", "celeba")
    refused("there is no .*nothing: name a folder", tmp_path / "nothing")
    refused("size must be at least 1, got 0", tmp_path / "photos", size=0)
    (tmp_path / "empty").mkdir()
    refused("holds no images", tmp_path / "empty")
    imported(tmp_path / "photos")
    refused("is there already: pass --replace", tmp_path / "photos")
    (tmp_path / "notes").mkdir()
    refused("is no data set: move it away", tmp_path / "photos", "notes", replace=True)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    refused("link is a link: remove it", tmp_path / "photos", "link", replace=True)
    (tmp_path / "photos").rename(tmp_path / "mine" / "raw")
    match = "mine, which would be replaced: move it out"
    refused(match, tmp_path / "mine" / "raw", root=tmp_path, replace=True)


def test_a_set_needs_images_to_train_on_and_to_score(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 5)
    match = "the number of images for test is 0: .*--test 0 draws none: leave it out"
    refused(match, tmp_path / "photos", test=0)
    for split, number in (("train", 6), ("test", 1)):
        photographs(tmp_path / "parted" / split, number)
    refused("the number of images for test is 1", tmp_path / "parted")
    shares = ("--validation", 0.5, "--test", 0.5, "--data-root", tmp_path)
    line = fails("data", "import", tmp_path / "photos", "mine", *shares)
    assert "leave nothing to train on" in line


def test_a_subfolder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch) -> None:
    photographs(tmp_path / "photos", 5)
    (tmp_path / "photos/locked").mkdir()
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("os.scandir", scandir)
    refused(r"cannot read .*locked \(Permission denied\)", tmp_path / "photos")


def test_memory_does_not_grow_with_the_images(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("nvp.data.on_disk.BLOCK", 1 << 18)
    for index in range(60):
        write(tmp_path / f"photos/{index}.bmp", encoded(pixels(200, 200, index), "BMP"))
    tracemalloc.start()
    imported(tmp_path / "photos", crop="none")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = sum(path.stat().st_size for path in (tmp_path / "mine").glob("*_images.npy"))
    assert size > 7_000_000
    assert peak < size / 2


def test_the_command(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 40)
    arguments = ("data", "import", tmp_path / "photos", "mine", "--data-root", tmp_path)
    told = done(*arguments, "--size", 4, "--gray")
    assert "mine: 34 train, 2 validation, 4 test images are in" in told
    assert "data.name: mine, model.image_shape: [1, 4, 4]" in told
    assert stored(tmp_path).shape == (34, 4, 4, 1)
    uncut = fails(*arguments, "--replace", "--crop", "center")
    assert "--crop center cuts squares of --size" in uncut
    write(tmp_path / "photos/bad.png", b"no image")
    others = ("--replace", "--skip-unreadable", "--seed", 3, "--crop", "none")
    assert "1 could not be read" in done(*arguments, *others)
    note = json.loads((tmp_path / "mine/import.json").read_text())
    assert (note["fractions"]["seed"], note["crop"]) == (3, "none")
