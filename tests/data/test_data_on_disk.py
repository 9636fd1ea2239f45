"""Images on disk: those in memory, cut as asked; a file that shrinks raises no signal."""

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from sources import refused
from torch.utils.data import DataLoader

from nvp.config import RunConfig, parse_config
from nvp.data import sets
from nvp.data.on_disk import StoredImages
from nvp.data.sets import fingerprint, load
from nvp.data.splits import examples, load_split
from nvp.runs.folder import RunFolder
from nvp.runs.tensors import load_tensors
from nvp.training.loop import prepare, training_batch


@pytest.fixture
def small_memory(monkeypatch) -> None:
    """As if a thousand bytes were too many to hold in memory."""
    monkeypatch.setattr(sets, "IN_MEMORY", 1000)


def ragged(folder: Path, sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    """A set of training images of these sizes, as `nvp data import --crop none` writes it."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    folder.mkdir()
    np.save(folder / "train_images.npy", np.concatenate([image.reshape(-1) for image in images]))
    np.save(folder / "train_sizes.npy", np.array(sizes, np.int32))
    return images


def test_images_on_disk_are_those_in_memory(npy_folder: Path, small_memory) -> None:
    stored = np.load(npy_folder / "train_images.npy").transpose(0, 3, 1, 2)
    images = load(npy_folder, "train").images
    assert isinstance(images, StoredImages)
    assert images.shape == stored.shape
    assert np.array_equal(images.to("cpu").numpy(), stored)
    assert np.array_equal(images[5:30][torch.tensor([3, 0, 3])].numpy(), stored[[8, 5, 8]])
    assert np.array_equal(images[30:][-4:].to("cpu").numpy(), stored[36:])
    assert len(images[40:]) == 0
    for which in ([3, 0], np.array([3, 0]), np.arange(40) % 3 == 0, np.int64(3)):
        assert np.array_equal(images[which].numpy(), stored[which])
    again = pickle.loads(pickle.dumps(images[5:]))  # as a worker gets it that is not forked
    assert np.array_equal(again.to("cpu").numpy(), stored[5:])
    assert images.rows._file.tell() == 0  # which the workers of a DataLoader share


@pytest.mark.parametrize(("limit", "block"), [(None, 500), (7, 500), (7, 50)])
def test_the_fingerprint_is_that_in_memory(limit, block, npy_folder: Path, monkeypatch) -> None:
    before = load(npy_folder, "train", limit=limit)
    monkeypatch.setattr(sets, "IN_MEMORY", 0)
    monkeypatch.setattr("nvp.data.on_disk.BLOCK", block)
    after = load(npy_folder, "train", limit=limit)
    assert isinstance(after.images, StoredImages)
    assert after.checksum == before.checksum == fingerprint(before.images)


@pytest.mark.parametrize("tree", [tiny.config_tree, tiny.pixelrnn_tree])
def test_training_is_that_from_memory(tree, root: Path, tmp_path: Path, monkeypatch) -> None:
    config = parse_config(tree(), "tiny")
    prepare(config, tmp_path / "memory", data_root=root).run()
    monkeypatch.setattr(sets, "IN_MEMORY", 0)
    prepare(config, tmp_path / "disk", data_root=root).run()
    folders = (RunFolder(tmp_path / name) for name in ("memory", "disk"))
    before, after = (load_tensors(folder.checkpoint)[0] for folder in folders)
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_a_file_that_is_cut_is_an_error_and_no_signal(npy_folder: Path, small_memory) -> None:
    images = load(npy_folder, "train").images
    os.truncate(npy_folder / "train_images.npy", 500)
    with tiny.refusal(r"train_images\.npy was cut short while it was read"):
        images.to("cpu")


def test_a_file_that_is_replaced_is_still_read_as_it_was(npy_folder: Path, small_memory) -> None:
    images = load(npy_folder, "train").images
    before = images.to("cpu")
    other = npy_folder / "other.npy"
    np.save(other, np.zeros((40, 6, 5, 3), np.uint8))
    os.replace(other, npy_folder / "train_images.npy")
    assert torch.equal(images.to("cpu"), before)


def test_scoring_takes_the_central_crop(npy_folder: Path) -> None:
    stored = np.load(npy_folder / "train_images.npy").transpose(0, 3, 1, 2)
    images = load(npy_folder, "train", crop=4).images
    assert images.shape == (40, 3, 4, 4)
    assert np.array_equal(images.to("cpu").numpy(), stored[:, :, 1:5, 1:5])
    which = torch.arange(len(images)) % 3 == 1  # as a mask chooses of a tensor
    assert torch.equal(images[which], images.to("cpu")[which])
    assert torch.equal(images[-1], images.to("cpu")[-1])
    assert torch.equal(next(iter(DataLoader(images, batch_size=9))), images.to("cpu")[:9])
    assert len(list(images)) == 40
    assert load(npy_folder, "train", crop=4).checksum == load(npy_folder, "train").checksum


def test_random_crops_reach_every_place_and_no_other() -> None:
    images = StoredImages(np.arange(5 * 4, dtype=np.uint8).reshape(1, 5, 4, 1), crop=3)
    cut = images.at_random(torch.zeros(2000, dtype=torch.long), torch.Generator().manual_seed(0))
    corners, counts = cut[:, 0, 0, 0].unique(return_counts=True)
    assert corners.tolist() == [row * 4 + column for row in range(3) for column in range(2)]
    assert counts.min() > 2000 / 6 * 0.8
    square = torch.arange(3)[:, None] * 4 + torch.arange(3)
    assert torch.equal(cut[:, 0] - cut[:, 0, :1, :1], square.byte().expand(2000, 3, 3))


def test_images_of_different_sizes(tmp_path: Path) -> None:
    sizes = [(6, 9), (6, 6), (8, 6)]
    originals = ragged(tmp_path / "mine", sizes)
    dataset = load(tmp_path / "mine", "train", crop=6)
    assert dataset.images.shape == (3, 3, 6, 6)
    centres = [originals[0][:, 2:8], originals[1], originals[2][1:7]]
    assert np.array_equal(dataset.images[:3].to("cpu"), np.stack(centres).transpose(0, 3, 1, 2))
    wide = dataset.images.at_random(torch.zeros(200, dtype=torch.long), torch.Generator())
    places = {image.numpy().tobytes() for image in wide}
    expected = {originals[0][:, left : left + 6].transpose(2, 0, 1).tobytes() for left in range(4)}
    assert places == expected
    few = load(tmp_path / "mine", "train", crop=6, limit=2)
    parts = (np.array(sizes[:2], "<i4"), *originals[:2])
    digest = hashlib.sha256(b"2,3" + b"".join(part.tobytes() for part in parts))
    assert few.checksum == digest.hexdigest() != dataset.checksum
    assert len(few) == 2


def test_what_cannot_be_cut(tmp_path: Path, npy_folder: Path) -> None:
    refused(r"data\.crop 6 exceeds .*, 5 pixels", npy_folder, "train", crop=6)
    ragged(tmp_path / "wild", [(6, 9), (6, 6)])
    refused("the images differ in size: set data.crop", tmp_path / "wild", "train")
    for sizes in ([[6, 9], [6, 7]], [[2**32, 2**32]]):  # the product of the last wraps to 0
        np.save(tmp_path / "wild/train_sizes.npy", np.array(sizes))
        refused("does not hold images of the sizes", tmp_path / "wild", "train", crop=6)
    np.save(tmp_path / "wild/train_sizes.npy", np.zeros((2, 2), np.int32))
    refused("are damaged: import the set again", tmp_path / "wild", "train", crop=6)


def cropped(steps: int) -> RunConfig:
    """A configuration that cuts 8x8 squares out of the set `large`."""
    tree = tiny.config_tree() | {"model": {"family": "gaussian", "image_shape": [1, 8, 8]}}
    data = {"name": "large", "crop": 8, "flips": True}
    return tiny.configured(tree, data=data, training={"steps": steps})


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A data root with 60 images of 12x12."""
    tiny.write_data(tmp_path / "data", "large", side=12)
    return tmp_path / "data"


def test_a_batch_is_cropped_then_flipped_by_the_runs_own_noise(large: Path) -> None:
    config = cropped(1)
    images = load_split(config, "train", large).images
    which = torch.tensor([4, 2, 4])

    def draw(seed: int, flips: bool) -> torch.Tensor:
        data = config.data.model_copy(update={"flips": flips})
        return training_batch(images, which, data, torch.Generator().manual_seed(seed))

    assert torch.equal(draw(0, True), draw(0, True))
    assert not torch.equal(draw(0, True), draw(1, True))
    plain, flipped = draw(0, False), draw(0, True)
    assert not torch.equal(plain, images[which])  # which are the central crops
    for a, b in zip(plain, flipped, strict=True):
        assert torch.equal(a, b) or torch.equal(a.flip(-1), b)


def test_resuming_with_crops_and_flips_is_exact(large: Path, tmp_path: Path) -> None:
    tiny.check_resuming(cropped, tmp_path, large)


def test_images_that_cannot_be_scored_are_refused_before_training(tmp_path: Path) -> None:
    tiny.write_data(tmp_path / "data")
    whole = np.load(tmp_path / "data/tiny/test_images.npy")
    for match, (split, images) in {
        r"tiny holds \[1, 7, 8\] test images": ("test", whole[:, :7]),
        "tiny has one test image, whose score has no standard error": ("test", whole[:1]),
        "tiny has one validation image": ("validation", whole[:1]),
        "validation_images.npy holds int64 values": ("validation", whole.astype(int)),
        "tiny: the test split is missing": ("test", None),
    }.items():
        path = tmp_path / f"data/tiny/{split}_images.npy"
        path.unlink() if images is None else np.save(path, images)
        with tiny.refusal(match):
            prepare(tiny.configuration(), tmp_path / "run", data_root=tmp_path / "data").run()
        np.save(tmp_path / "data/tiny/test_images.npy", whole)
    assert not (tmp_path / "run").exists()


def test_levels_are_checked_in_every_block(root: Path, monkeypatch) -> None:
    monkeypatch.setattr("nvp.data.splits.BLOCK_IMAGES", 10)
    data = load("tiny-binary", "train", root=root)
    data.images[-1, 0, 0, 0] = 2
    with tiny.refusal("there is a 2"):
        examples(tiny.pixelrnn_configuration(), data)
