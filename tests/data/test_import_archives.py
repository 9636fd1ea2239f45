"""`nvp data import` of archives: what they hold, and what they may not do."""

import os
import tarfile
import zipfile
from pathlib import Path
from unittest.mock import Mock

import pytest
from sources import archive, encoded, photographs, pixels, write
from test_import_folder import imported, refused

from nvp.data.importing import files as importing_files
from nvp.data.sets import load


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize("inside", [False, True])
def test_archives_are_read_where_they_lie(suffix: str, inside: bool, tmp_path: Path) -> None:
    images = {f"photos/{c}/{i}.png": encoded(pixels(6, 6, i)) for c in "ab" for i in range(8)}
    macs = {"__MACOSX/photos/a/._0.png": b"no image"}
    path = archive(tmp_path / f"packed/photos{suffix}", images | macs)
    assert imported(path.parent if inside else path, tmp_path).note["other files"] == {}
    for name, content in images.items():
        write(tmp_path / "unpacked" / name, content)
    from_archive = (tmp_path / "mine/train_images.npy").read_bytes()
    imported(tmp_path / "unpacked", replace=True)
    assert (tmp_path / "mine/train_images.npy").read_bytes() == from_archive
    assert load("mine", "train", root=tmp_path).labels is not None
    assert not (tmp_path / "packed/photos").exists()
    before = importing_files.Files(path).identity
    os.utime(path, (0, 0))  # of another time, as after a second download
    assert importing_files.Files(path).identity != before
    before = importing_files.Files(tmp_path / "unpacked").identity
    os.utime(tmp_path / "unpacked", (0, 0))  # as by a hidden file
    assert importing_files.Files(tmp_path / "unpacked").identity == before


def test_folders_of_a_zip_may_be_told_by_backslashes(tmp_path: Path) -> None:
    images = {f"{c}\\{i}.png": encoded(pixels(6, 6, i)) for c in "ab" for i in range(8)}
    path = archive(tmp_path / "photos.zip", images)
    assert imported(path).note["classes"] == ["a", "b"]


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize("again", [False, True])
def test_archives_may_be_splits(suffix: str, again: bool, tmp_path: Path) -> None:
    for split, count in (("Train", 6), ("test", 3)):
        folder = f"{split}/" * again
        images = {f"{folder}{c}/{i}.png": encoded(pixels(6, 6)) for c in "ab" for i in range(count)}
        archive(tmp_path / f"packed/{split}{suffix}", images)
    made = imported(tmp_path / "packed", tmp_path, validation=0)
    assert made.images == {"train": 12, "test": 6}
    assert made.note["classes"] == ["a", "b"]


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    extra = archive(tmp_path / "extra.zip", {"extra.png": encoded(pixels(6, 6))})
    images = {f"{i}.png": encoded(pixels(6, 6, i)) for i in range(5)}
    made = imported(archive(tmp_path / "photos.tar", images | {"extra.zip": extra.read_bytes()}))
    assert sum(made.images.values()) == 5
    assert made.note["other files"] == {".zip": 1}


@pytest.mark.parametrize("place", ["../..", "", "a/../.."])
def test_names_that_lead_out_of_an_archive(place: str, tmp_path: Path) -> None:
    images = {f"{place}/{index}.png": encoded(pixels(6, 6)) for index in range(5)}
    imported(archive(tmp_path / "packed/odd.tar", images), tmp_path)
    assert not list(tmp_path.rglob("*.png"))


def test_a_link_in_a_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as file:
        info = tarfile.TarInfo("link.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(info)
    refused("holds a link, 'link.png'", tmp_path / "bad.tar")


def test_links_in_folders(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 6)
    (tmp_path / "photos/again.png").symlink_to(tmp_path / "photos/00.png")
    assert sum(imported(tmp_path / "photos").images.values()) == 7
    outside = write(tmp_path / "secret.png", encoded(pixels(6, 6)))
    link = tmp_path / "photos/link.png"
    for target in (outside, tmp_path, "gone.png"):
        link.symlink_to(target)
        refused(r"link\.png is a link to nothing, to a folder", tmp_path / "photos", replace=True)
        link.unlink()


def test_a_member_that_would_grow_without_end(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(importing_files, "LARGEST_FILE", 1000)
    path = archive(tmp_path / "bomb.zip", {"a.png": bytes(1_000_000)})
    refused("a.png: it holds 1,000,000 bytes, too many for an image", path)


def test_a_damaged_image_in_a_zip_is_named(tmp_path: Path) -> None:
    images = {f"{index}.bmp": encoded(pixels(20, 20, index), "BMP") for index in range(5)}
    path = archive(tmp_path / "photos.zip", images, zipfile.ZIP_STORED)
    packed = bytearray(path.read_bytes())
    packed[packed.index(images["3.bmp"]) + 500] ^= 1
    path.write_bytes(packed)
    refused(r"1 of 5 images cannot be read: 3\.bmp: .*CRC", path)


def test_names_in_utf8_that_a_zip_does_not_mark(tmp_path: Path) -> None:
    images = {f"{c}/{i}.png": encoded(pixels(6, 6, i)) for c in ("xx", "yy") for i in range(9)}
    path = archive(tmp_path / "photos.zip", images)
    path.write_bytes(path.read_bytes().replace(b"xx/", "\u00e4/".encode()))
    assert imported(path).note["classes"] == ["yy", "\u00e4"]


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_damaged_archives(suffix: str, tmp_path: Path) -> None:
    path = archive(tmp_path / f"cut{suffix}", {"a.png": encoded(pixels(60, 60))})
    path.write_bytes(path.read_bytes()[:600])
    refused("is no whole .zip or plain .tar|is damaged|cannot be read", path)
    with tarfile.open(tmp_path / "packed.tar.gz", "w:gz") as file:
        file.add(__file__, "a.png")
    refused("is no whole .zip or plain .tar: unpack it first", tmp_path / "packed.tar.gz")


def test_an_archive_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch) -> None:
    denied = Mock(side_effect=PermissionError(13, "Permission denied"))
    monkeypatch.setattr(zipfile, "is_zipfile", denied)
    path = archive(tmp_path / "photos.zip", {"a.png": encoded(pixels(6, 6))})
    refused(r"^cannot read .*photos\.zip \(Permission denied\): fix its perm", path)
