"""`nvp data import` of the papers' sets, from small files in their publishers' formats."""

import json
import mmap
import pickle
import shutil
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image
from sources import BATCHES, archive, encoded, photographs, pixels, write, write_cifar10
from test_import_folder import holds, refused, stored
from tiny import refusal

from nvp.data.importing import files as importing_files
from nvp.data.importing import imagenet as importing_imagenet
from nvp.data.importing.options import Options
from nvp.data.importing.run import import_set, open_source
from nvp.data.named import NAMED
from nvp.data.sets import load


def goes_on_anywhere(source: str | Path, name: str) -> bool:
    """Whether an import that was stopped, after any image, would go on with the next one."""
    opened = open_source(Path(source), name, Options())
    passes = [
        [(p.split, p.name, str(p.label), bytes(p.content())) for p in opened.pictures(start)]
        for start in range(opened.number + 1)
    ]
    return all(each == passes[0][start:] for start, each in enumerate(passes))


def lsun(folder: Path, category: str = "church_outdoor") -> dict[str, list[Image.Image]]:
    """A category's two databases, as LSUN publishes them: key -> image file, keys ascending."""
    lmdb = pytest.importorskip("lmdb")
    sizes = {"train": [(192, 256), (256, 192), (192, 192), (300, 192)], "val": [(192, 256)] * 2}
    images: dict[str, list[Image.Image]] = {}
    for split, shapes in sizes.items():
        path = folder / f"{category}_{split}_lmdb"
        path.mkdir(parents=True)
        images[split] = [Image.fromarray(pixels(*s, i)) for i, s in enumerate(shapes)]
        with lmdb.open(str(path), map_size=1 << 24) as database, database.begin(write=True) as put:
            for index, image in enumerate(images[split]):
                put.put(f"{index:040x}".encode(), encoded(image, "WEBP", lossless=True))
    return images


def test_lsun_has_a_smaller_side_of_96_and_is_cut_in_training(tmp_path: Path) -> None:
    images = lsun(tmp_path / "lsun")
    made = import_set(tmp_path / "lsun", "lsun-church-outdoor", root=tmp_path)
    assert made.images == {"train": 4, "test": 2}
    assert made.ragged
    found = stored(tmp_path, "train", "lsun-church-outdoor", crop=64)
    assert found.shape == (4, 64, 64, 3)
    for index, height in ((1, 128), (3, 150)):
        expected = images["train"][index].resize((96, height), Image.Resampling.BILINEAR)
        top = (height - 64) // 2
        assert np.array_equal(found[index], np.asarray(expected)[top : top + 64, 16:80])
    assert load("lsun-church-outdoor", "train", root=tmp_path, crop=64).labels is None
    assert goes_on_anywhere(tmp_path / "lsun", "lsun-church-outdoor")


def test_a_category_of_lsun_is_chosen_by_its_name(tmp_path: Path) -> None:
    source, match = tmp_path / "lsun", "holds bedroom, tower: name one of them as lsun-CATEGORY"
    for category in ("tower", "bedroom"):
        lsun(source, category)
    refused(match, source, "lsun-church-outdoor")
    assert import_set(source, "lsun-tower", root=tmp_path).note["kind"] == "LSUN, tower"
    refused(match, source, "rooms")


def test_a_damaged_lsun_leaves_no_database_open(tmp_path: Path) -> None:
    """LMDB would not open it again while a refusal and its traceback are kept."""
    lsun(tmp_path / "lsun", "tower")
    database = tmp_path / "lsun/tower_val_lmdb/data.mdb"
    whole = database.read_bytes()
    damaged, flags = bytearray(whole), slice(10, 12)  # of the header of a page: 2 is a leaf
    for page in range(2 * mmap.PAGESIZE, len(whole), mmap.PAGESIZE):
        header = memoryview(damaged)[page : page + 16]
        if header[flags] == b"\2\0":
            header[flags] = b"\x08\0"
    held = []
    for content, match in (
        (whole[:100], "tower_val_lmdb is damaged"),
        (whole[: len(whole) // 2], r"data\.mdb is cut short, it needs"),
        (damaged, "tower_val_lmdb is damaged .*CORRUPTED.*: download it again"),
        (b"", r"tower_val_lmdb holds no data\.mdb: unpack tower_val_lmdb.zip in"),
    ):
        database.unlink()
        if content:
            database.write_bytes(content)
        with refusal(match) as caught:
            import_set(tmp_path / "lsun", "lsun-tower", root=tmp_path)
        held.append(caught)
        database.write_bytes(whole)
    with refusal("is made by the papers' rule: leave --size") as caught:
        import_set(tmp_path / "lsun", "lsun-tower", Options(gray=True), root=tmp_path)
    held.append(caught)
    harmless = Options(skip_unreadable=True, replace=True)
    import_set(tmp_path / "lsun", "lsun-tower", harmless, root=tmp_path)


def celeba(folder: Path, size: tuple[int, int] = (218, 178)) -> list[np.ndarray]:
    """Eight faces, with the official split file and two attributes."""
    faces = [pixels(*size, seed) for seed in range(8)]
    names = [f"{number:06d}.jpg" for number in range(1, 9)]
    images = {f"img_align_celeba/{names[i]}": encoded(face) for i, face in enumerate(faces)}
    archive(folder / "img_align_celeba.zip", images)
    parts = [f"{name} {part}\n" for name, part in zip(names, "00001122", strict=True)]
    (folder / "list_eval_partition.txt").write_text("".join(parts))
    rows = [f"{name} {'1' if i % 2 else '-1'}  1 \n" for i, name in enumerate(names)]
    (folder / "list_attr_celeba.txt").write_text("8\nSmiling Young \n" + "".join(rows))
    return faces


def test_celeba_is_cut_resized_and_rounded(tmp_path: Path) -> None:
    faces = celeba(tmp_path / "publisher")
    made = import_set(tmp_path / "publisher", "celeba", root=tmp_path)
    assert made.images == {"train": 4, "validation": 2, "test": 2}
    assert made.shape == (3, 64, 64)
    middle = Image.fromarray(faces[4][40:188, 15:163])
    expected = np.asarray(middle.resize((64, 64), Image.Resampling.BILINEAR))
    assert np.array_equal(stored(tmp_path, "validation", "celeba")[0], expected)
    train = load("celeba", "train", root=tmp_path)
    assert train.labels.tolist() == [[0, 1], [1, 1], [0, 1], [1, 1]]
    assert made.note["attributes"] == ["Smiling", "Young"]
    assert goes_on_anywhere(tmp_path / "publisher", "celeba")


def test_celeba_that_is_not_whole(tmp_path: Path) -> None:
    celeba(source := tmp_path / "publisher")
    splits = source / "list_eval_partition.txt"
    whole = splits.read_text()
    splits.write_text(whole + "000009.jpg 0\n")
    refused(r"lacks 000009\.jpg, or its attributes", source, "celeba")
    splits.write_text(whole + "000009.jpg 3\n")
    refused(r"partition\.txt is damaged \('3'\): download", source, "celeba")
    splits.write_text(whole)
    labels = source / "list_attr_celeba.txt"
    labels.write_text("8\n")
    refused(r"list_attr_celeba\.txt is damaged .*: download", source, "celeba")
    labels.unlink()
    refused(r"should hold one list_attr_celeba\.txt", source, "celeba")


def test_celeba_in_the_wild_is_not_taken_for_the_aligned_images(tmp_path: Path) -> None:
    celeba(wild := tmp_path / "wild", (64, 64))
    match = r"8 of 8 .*: 000001\.jpg.*: it has 64x64 pixels, aligned images have 178x218"
    refused(match, wild, "celeba")
    celeba(source := tmp_path / "both")
    (wild / "img_align_celeba.zip").rename(source / "img_celeba.zip")
    match = r"img_align_celeba\.zip/.*/000001\.jpg and img_celeba.*: leave only the aligned images"
    refused(match, source, "celeba")


@pytest.fixture
def few(monkeypatch) -> None:
    """As if the older set had three validation images and the newer one four."""
    monkeypatch.setattr(importing_imagenet, "VALIDATION_IMAGES", {3: "", 4: "-2017"})


def arrays(folder: Path, validation: int, side: int = 32) -> np.ndarray:
    """Ten batches of .npz files of channels after each other; returns the rows of the tenth."""
    folder.mkdir()
    counts = {"val_data": validation, **{f"train_data_batch_{n}": 2 for n in range(1, 11)}}
    for number, (name, count) in enumerate(counts.items()):
        data = np.random.default_rng(number).integers(0, 256, (count, 3 * side**2), dtype=np.uint8)
        labels = np.full(count, number + 1)
        np.savez(folder / f"{name}.npz", data=data, labels=labels, mean=np.zeros(3 * side**2))
    return data


@pytest.mark.parametrize("packed", [False, True])
def test_the_imagenet_of_2017_from_its_arrays(packed: bool, tmp_path: Path, few) -> None:
    tenth = arrays(source := tmp_path / "arrays", 4)
    if packed:
        shutil.make_archive(str(tmp_path / "packed/Imagenet32_npz"), "zip", source)
        source = tmp_path / "packed"
    assert import_set(source, "imagenet32-2017", root=tmp_path).images == {"train": 20, "test": 4}
    train = load("imagenet32-2017", "train", root=tmp_path)
    assert np.array_equal(train.images[-2:].numpy(), tenth.reshape(2, 3, 32, 32))
    assert train.labels.tolist() == [number for number in range(1, 11) for _ in range(2)]
    assert goes_on_anywhere(source, "imagenet32-2017")


@pytest.mark.parametrize(("side", "packed"), [(32, True), (64, False)])
def test_the_older_imagenet_from_its_files(side: int, packed: bool, tmp_path: Path, few) -> None:
    for split, number in (("train", 5), ("valid", 3)):
        folder = tmp_path / f"small/{split}_{side}x{side}"
        images = photographs(folder, number, (side, side))
        if packed:
            shutil.make_archive(str(folder), "tar", folder.parent, folder.name)
            shutil.rmtree(folder)
    made = import_set(tmp_path / "small", f"imagenet{side}", root=tmp_path)
    assert made.images == {"train": 5, "test": 3}
    assert np.array_equal(stored(tmp_path, "test", f"imagenet{side}"), images)
    assert goes_on_anywhere(tmp_path / "small", f"imagenet{side}")


def test_the_two_imagenets_are_told_apart(tmp_path: Path, few) -> None:
    for validation, side, name, match in (
        (4, 32, "imagenet32", "4 validation images, not imagenet32: import it as imagenet32-2017"),
        (3, 32, "imagenet32-2017", "not imagenet32-2017: import it as imagenet32;"),
        (4, 64, "imagenet32-2017", "import it as imagenet64-2017; scores on the two cannot"),
        (2, 32, "imagenet32", "2 validation images, a downsampled ImageNet has 3 or 4: .* unpack"),
    ):
        arrays(source := tmp_path / f"{validation}-{side}", validation, side)
        refused(match, source, name)
    assert import_set(tmp_path / "3-32", "imagenet32", root=tmp_path).images["test"] == 3
    shutil.copy(tmp_path / "4-64/val_data.npz", tmp_path / "3-32")
    match = r"has images of \[32, 64\] pixels a side: import one size alone"
    refused(match, tmp_path / "3-32", "imagenet32", replace=True)


def test_arrays_that_are_not_what_they_should_be(tmp_path: Path, few) -> None:
    arrays(source := tmp_path / "arrays", 4)
    path = source / "train_data_batch_3.npz"
    whole = path.read_bytes()
    table, labels = np.zeros((2, 3072), np.uint8), np.ones(2, np.int64)
    for content, match in (
        ({"data": table.astype(np.float32), "labels": labels}, "float32, pixels must be uint8"),
        ({"data": table, "labels": np.ones(3)}, r"holds labels \(3,\) for 2 images"),
        ({"data": table, "labels": np.array([{}, {}])}, "is damaged .*Object arrays"),
        ({"data": table}, r"^train_data_batch_3\.npz is damaged .*'labels.npy'"),
    ):
        np.savez(path, **content)
        refused(match, source, "imagenet32-2017")
    middle = 2000  # within the pixels, whose checksum then differs
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    match = r"^train_data_batch_3\.npz is damaged .*CRC"
    refused(match, source, "imagenet32-2017")
    labels_begin = whole.index(b"\n", whole.index(b"labels.npy")) + 1  # after NumPy's header
    path.write_bytes(whole[:labels_begin] + b"\7" + whole[labels_begin + 1 :])
    refused(match, source, "imagenet32-2017")
    for part in (whole[:-50], whole[5:]):  # the second lacks its beginning
        path.write_bytes(part)
        refused("download it again", source, "imagenet32-2017")


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_from_its_pickled_batches(packed: bool, tmp_path: Path, monkeypatch) -> None:
    rows = write_cifar10(tmp_path / "cifar", monkeypatch)
    source = tmp_path / "cifar"
    if packed:
        source = shutil.make_archive(str(tmp_path / "cifar-10-python"), "gztar", source)
    assert import_set(source, "cifar10", root=tmp_path).images == {"train": 10, "test": 2}
    train = load("cifar10", "train", root=tmp_path)
    assert np.array_equal(train.images[2].numpy().reshape(-1), rows["data_batch_2"][0])
    assert train.labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert goes_on_anywhere(source, "cifar10")
    zipped = Path(shutil.make_archive(str(tmp_path / "cifar"), "zip", tmp_path / "cifar"))
    refused(r"cifar\.zip is no \.tar\.gz: unpack it", zipped, "cifar10", replace=True)


def test_a_pickle_that_is_not_the_published_one_is_not_opened(tmp_path: Path, monkeypatch) -> None:
    write_cifar10(tmp_path / "cifar", monkeypatch)

    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "opened").touch, ())

    write(tmp_path / "cifar/cifar-10-batches-py/data_batch_3", pickle.dumps(Evil()))
    match = "data_batch_3 is not CIFAR-10's published file, by its md5"
    refused(match, tmp_path / "cifar", "cifar10")
    assert not (tmp_path / "opened").exists()


def test_cifar10_from_its_binary_batches(tmp_path: Path, monkeypatch) -> None:
    source = tmp_path / "cifar"
    monkeypatch.setitem(NAMED["cifar10"].images, "train", 15)
    for number, name in enumerate(BATCHES):
        rows = pixels(3, 1024, number).reshape(3, 3072)
        write(source / f"{name}.bin", np.insert(rows, 0, number, axis=1).tobytes())
    told = import_set(source, "cifar10", root=tmp_path).summary()
    assert "3 test images are here, 10,000 are published" in told
    assert "15 train images are here" not in told
    test = load("cifar10", "test", root=tmp_path)
    assert np.array_equal(test.images.numpy().reshape(3, -1), rows)
    assert test.labels.tolist() == [5, 5, 5]
    for cut in (b"cut", b""):
        (source / "data_batch_2.bin").write_bytes(cut)
        refused(r"data_batch_2\.bin is damaged", source, "cifar10", replace=True)
    (source / "data_batch_2.bin").unlink()
    refused(r"lacks data_batch_2\.bin of CIFAR-10", source, "cifar10", replace=True)


@pytest.mark.parametrize("kind", ["gz", "xz"])
def test_a_packed_batch_that_is_damaged(kind: str, tmp_path: Path) -> None:
    batch = write(tmp_path / "batches/data_batch_1", pixels(300, 300).tobytes())
    source = Path(shutil.make_archive(str(tmp_path / "cifar"), f"{kind}tar", batch.parent))
    packed = bytearray(source.read_bytes())
    middle = len(packed) // 2
    packed[middle:] = b"\xff" * (len(packed) - middle)
    source.write_bytes(packed)
    refused(rf"tar\.{kind} is damaged \(.*\): download it again", source, "cifar10")


def table(path: Path, columns: dict[str, list], **notes: str) -> None:
    """A Parquet file of these columns."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata(notes), path, row_group_size=3)


def parquet(path: Path, images: list[bytes | None], labels: list[int] | None = None) -> None:
    """A file as data hubs write them: a struct of bytes and a path, a label, names of classes."""
    rows = [{"bytes": image, "path": "/etc/passwd"} for image in images]
    columns = {"image": rows, **({"label": labels} if labels else {})}
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    table(path, columns, huggingface=json.dumps({"info": {"features": features}}))


@pytest.mark.parametrize("name", ["data/{}-0000{}-of-00002", "default/partial-{}/000{}"])
def test_parquet_files_of_a_data_hub(name: str, tmp_path: Path) -> None:
    originals = [pixels(6, 6, seed) for seed in range(20)]
    images = [encoded(image) for image in originals]
    for split, number, held, labels in (
        ("train", 0, images[:10], [0, 1] * 5),
        ("train", 1, images[10:16], [1, 1] * 3),
        ("test", 0, images[16:], [0] * 4),
    ):
        parquet(tmp_path / f"hub/{name.format(split, number)}.parquet", held, labels)
    made = import_set(tmp_path / "hub", "mine", root=tmp_path)
    assert made.images == {"train": 14, "validation": 2, "test": 4}
    assert np.array_equal(stored(tmp_path, "test"), originals[16:])
    assert holds(tmp_path, originals)
    assert load("mine", "test", root=tmp_path).labels.tolist() == [0] * 4
    assert made.note["classes"] == ["cat", "dog"]
    assert goes_on_anywhere(tmp_path / "hub", "mine")
    parquet(tmp_path / "hub/data/dev-0.parquet", images[:8], [0] * 8)
    match = r"holds tables of splits, and data/dev-0\.parquet beside them"
    refused(match, tmp_path / "hub", replace=True)


def test_parquet_files_are_opened_one_at_a_time(tmp_path: Path, monkeypatch) -> None:
    """A set may have more of them than a process may open."""
    opened: list[BinaryIO] = []

    def open_alone(path: Path) -> BinaryIO:
        assert all(file.closed for file in opened)
        opened.append(path.open("rb"))
        return opened[-1]

    for number in range(3):
        parquet(tmp_path / f"hub/{number}.parquet", [encoded(pixels(6, 6))] * 3)
    monkeypatch.setattr(importing_files, "_open", open_alone)
    assert sum(import_set(tmp_path / "hub", "mine", root=tmp_path).images.values()) == 9
    assert len(opened) == 6  # for their rows to be counted, then to be read


def test_parquet_files_whose_columns_differ(tmp_path: Path) -> None:
    images = [encoded(pixels(6, 6, seed)) for seed in range(4)]
    parquet(tmp_path / "hub/test.parquet", images, [0] * 4)
    for columns in (
        {"img": images, "label": [0] * 4},
        {"image": images, "label": ["cat"] * 4},
        {"image": ["a path"] * 4, "other": images, "label": [0] * 4},
    ):
        table(tmp_path / "hub/train.parquet", columns)
        refused("train.parquet has other columns than test.parquet", tmp_path / "hub")
    parquet(tmp_path / "hub/test.parquet", images)  # without labels, as in a competition
    parquet(tmp_path / "hub/train.parquet", images, [0] * 4)
    refused("train.parquet has other columns than test.parquet", tmp_path / "hub")
    parquet(tmp_path / "holes/train.parquet", images, [0, 1, None, 0])
    refused(r"^row 2 .*no label where others have one", tmp_path / "holes")


def test_a_column_of_plain_bytes_beside_another_and_other_files(tmp_path: Path) -> None:
    images = [encoded(pixels(6, 6, seed)) for seed in range(10)]
    path = tmp_path / "hub/photos.parquet"
    table(path, {"name": [{"bytes": "x"}] * 10, "mask": images, "jpg": images})
    photographs(path.parent, 3)
    for source in (path, path.parent):
        made = import_set(source, "mine", Options(replace=True), root=tmp_path)
        assert sum(made.images.values()) == 10
    assert "the images are those of the column mask, not of jpg" in made.summary()
    assert "other files left out: 3 (.png)" in made.summary()
    table(path, {"name": [{"bytes": "x"}] * 10})
    refused("has no column of images .* among name", path.parent, "other")
    for damaged in (b"PAR1 and no more", b"PAR1\xff\1\0\0\0PAR1"):
        path.write_bytes(damaged)
        refused(r"^photos\.parquet is damaged", path.parent, "other")


def test_a_path_in_a_row_is_not_followed(tmp_path: Path) -> None:
    images = [encoded(pixels(6, 6, seed)) for seed in range(5)]
    parquet(tmp_path / "hub/train.parquet", [*images, None])
    refused("1 of 6 images cannot be read: row 5 .* holds no bytes", tmp_path / "hub")
    parquet(path := tmp_path / "hub/train.parquet", images)
    path.write_bytes(path.read_bytes().replace(b"/etc/passwd", b"/etc/\xffasswd"))
    assert sum(import_set(path, "mine", root=tmp_path).images.values()) == 5
    path.write_bytes(path.read_bytes().replace(b"image", b"\xffmage"))  # in the footer
    refused(r"^train\.parquet is damaged \(.*\): download it again", path, "other", root=tmp_path)


def test_what_a_reader_needs_is_said(tmp_path: Path, monkeypatch) -> None:
    for missing, file in (("lmdb", "tower_train_lmdb/data.mdb"), ("pyarrow", "train.parquet")):
        write(tmp_path / missing / file, b"")
        monkeypatch.setitem(sys.modules, missing, None)
        refused(rf"need {missing}: pip install '\.\[import\]'", tmp_path / missing, "lsun-tower")
