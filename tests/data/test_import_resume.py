"""An import that is killed, crowded out or refused, and a set that changes afterwards."""

import errno
import fcntl
import itertools
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock, patch

import numpy as np
import pytest
from ledgers import content
from sources import encoded, photographs, pixels, write
from test_import_folder import imported, refused
from tiny import refusal

from nvp.data import catalogue
from nvp.data.importing import run, writer
from nvp.data.importing.options import Options
from nvp.data.importing.run import import_set
from nvp.data.sets import load
from nvp.files import locked


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Forty images of two sizes in two classes, and one that cannot be read."""
    for index in range(40):
        image = pixels(20 + index % 2, 20, index)
        write(tmp_path / f"photos/{'ab'[index % 2]}/{index:03d}.png", encoded(image))
    write(tmp_path / "photos/a/bad.png", b"no image")
    return tmp_path / "photos"


OPTIONS = Options(crop="none", skip_unreadable=True)


def interrupt(
    place: Path, root: Path, stop: Callable[[str, int], bool], options: Options = OPTIONS
) -> list[int]:
    """Import `place` until `stop(what, done)` is true; returns the numbers that were counted."""
    counts: list[int] = []

    @contextmanager
    def counting(what: str, total: int, before: int = 0) -> Iterator[Callable[[int], None]]:
        def update(done: int) -> None:
            counts.append(done)
            if stop(what, done):
                raise KeyboardInterrupt

        yield update

    with patch.object(run, "counting", counting), pytest.raises(KeyboardInterrupt):
        import_set(place, "mine", options, root=root)
    return counts


def check_it_goes_on(source: Path, root: Path, options: Options = OPTIONS) -> None:
    """An import that was stopped and goes on makes the same set as one that was not stopped."""
    for each in (root, root / "undisturbed"):
        import_set(source, "mine", options, root=each)
    assert content(root / "mine") == content(root / "undisturbed/mine")


def instead_of(number: int, event: Callable[[], None]) -> Callable[[Callable], Callable]:
    """Make operations that count their calls together; `event` happens at that number."""
    calls = itertools.count(1)

    def counted(operation: Callable) -> Callable:
        def run(*arguments, **options):
            if next(calls) == number:
                event()
            return operation(*arguments, **options)

        return run

    return counted


@pytest.mark.slow
def test_killed_it_makes_the_same_set(mixed: Path, tmp_path: Path, monkeypatch) -> None:
    import_set(mixed, "mine", OPTIONS, root=tmp_path / "undisturbed")
    expected = content(tmp_path / "undisturbed/mine")
    monkeypatch.setattr(writer, "SYNC_SECONDS", 0.0)
    root, rng, positions, last = tmp_path / "killed", random.Random(0), [0], 0
    while not (root / "mine").is_dir():
        # Anywhere while images are read, then at each operation of the end in turn.
        if left := 41 - positions[-1]:
            number = rng.randint(1, min(60, 5 * left + 5))  # an image takes five or more
        else:
            number = last = last + 1
        process = os.fork()
        if process == 0:
            try:
                # Instead of that flush, rename or removal of a file.
                counted = instead_of(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
                os.fsync, os.replace = counted(os.fsync), counted(os.replace)
                Path.unlink = counted(Path.unlink)
                import_set(mixed, "mine", OPTIONS, root=root)
            finally:
                os._exit(1)
        assert os.WIFSIGNALED(os.waitpid(process, 0)[1])
        journal = root / ".mine.import/journal.json"
        if journal.is_file():
            positions.append(json.loads(journal.read_text())["position"])
    assert positions == sorted(positions)
    assert len(set(positions)) > 4
    assert last > 4
    # The last was killed between the rename and the end: the journal lies in the finished folder.
    found = content(root / "mine")
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("seconds", [0.0, 2.0])
def test_stopped_before_its_place_is_noted(seconds, mixed, tmp_path: Path, monkeypatch) -> None:
    add, calls = writer.Columns.add, itertools.count(1)

    def stop(self, *arguments) -> None:
        add(self, *arguments)
        if next(calls) == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(writer.Columns, "add", stop)
    monkeypatch.setattr(writer, "SYNC_SECONDS", seconds)
    with pytest.raises(KeyboardInterrupt):
        import_set(mixed, "mine", OPTIONS, root=tmp_path)
    check_it_goes_on(mixed, tmp_path)


def test_it_goes_on_where_it_was(mixed: Path, tmp_path: Path) -> None:
    with patch.object(writer, "SYNC_SECONDS", 0.0):
        interrupt(mixed, tmp_path, lambda what, done: done == 20)
    entry = next(e for e in catalogue.survey(tmp_path) if e.name == "mine")
    assert entry.state == "import unfinished"
    assert "corrected if it was refused, to go on; or remove .mine.import" in entry.note
    assert interrupt(mixed, tmp_path, lambda what, done: True) == [21]
    import_set(mixed, "mine", OPTIONS, root=tmp_path)
    assert not (tmp_path / ".mine.import").exists()


@pytest.mark.parametrize("crop", ["none", "center"])
def test_stopped_when_all_is_written_but_not_yet_checked(crop, mixed: Path, tmp_path: Path) -> None:
    options = Options(size=8, crop=crop, skip_unreadable=True)
    interrupt(mixed, tmp_path, lambda what, done: what == "checksums", options)
    assert (tmp_path / ".mine.import/train_images.npy").is_file()
    check_it_goes_on(mixed, tmp_path, options)


def test_an_unfinished_file_that_was_cut_is_not_gone_on_with(mixed: Path, tmp_path: Path) -> None:
    interrupt(mixed, tmp_path, lambda what, done: done == 20)
    os.truncate(tmp_path / ".mine.import/train_images.npy", 500)
    check_it_goes_on(mixed, tmp_path)


@pytest.mark.parametrize("change", ["options", "source", "file"])
def test_another_import_begins_anew(change: str, mixed: Path, tmp_path: Path) -> None:
    with patch.object(writer, "SYNC_SECONDS", 0.0):
        interrupt(mixed, tmp_path, lambda what, done: done == 3)
    options = OPTIONS
    if change == "options":
        options = Options(size=8, skip_unreadable=True)
    elif change == "source":
        write(mixed / "a/one-more.png", encoded(pixels(20, 20)))
    else:
        os.utime(mixed / "b/001.png", (0, 0))  # of another time, and of the same size
    assert interrupt(mixed, tmp_path, lambda what, done: True, options) == [1]
    made = import_set(mixed, "mine", options, root=tmp_path)
    assert sum(made.images.values()) == 40 + (change == "source")


def test_after_a_refusal_nothing_is_read_twice(mixed: Path, tmp_path: Path, monkeypatch) -> None:
    refused("1 of 41 images cannot be read", mixed, crop="none")
    monkeypatch.setattr("nvp.data.importing.run.decode", None)  # which would fail if it were called
    assert sum(import_set(mixed, "mine", OPTIONS, root=tmp_path).images.values()) == 40


def test_a_disk_that_is_full(mixed: Path, tmp_path: Path) -> None:
    full = Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    counted = instead_of(62, full)(writer.Columns.append)
    match = "No space left on device.*the same command goes on"
    with patch.object(writer.Columns, "append", counted), refusal(match):
        import_set(mixed, "mine", OPTIONS, root=tmp_path)
    check_it_goes_on(mixed, tmp_path)


def test_two_imports_of_one_name(mixed: Path, tmp_path: Path) -> None:
    with locked(tmp_path / ".mine.import"):
        refused(r"\.mine\.import is in use by", mixed)
    import_set(mixed, "mine", OPTIONS, root=tmp_path)


def test_a_file_system_without_locks(mixed: Path, tmp_path: Path, capsys) -> None:
    with patch.object(fcntl, "flock", side_effect=OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))):
        import_set(mixed, "mine", OPTIONS, root=tmp_path)
    assert ".mine.import cannot be locked" in capsys.readouterr().err


def test_a_set_is_replaced_when_the_new_one_is_whole(tmp_path: Path) -> None:
    photographs(tmp_path / "one", 10)
    photographs(tmp_path / "two", 20)
    imported(tmp_path / "one")
    write(tmp_path / "two/bad.png", b"no image")
    refused("cannot be read", tmp_path / "two", replace=True)
    assert sum(imported(tmp_path / "two", replace=True, skip_unreadable=True).images.values()) == 20
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("ragged", [False, True])
def test_pixels_and_labels_that_change_after_the_import(ragged: bool, tmp_path: Path) -> None:
    for index in range(30):
        shade = pixels(6 + ragged * (index % 2), 6, index)
        write(tmp_path / f"photos/{'ab'[index % 2]}/{index}.png", encoded(shade))
    import_set(tmp_path / "photos", "mine", Options(crop="none"), root=tmp_path)
    crop = 6 if ragged else None
    path = tmp_path / "mine/train_images.npy"
    whole = path.read_bytes()
    assert len(load("mine", "train", root=tmp_path, crop=crop)) == 25
    for place in (0, -1):
        changed = np.load(path)
        changed.flat[place] ^= 1
        np.save(path, changed)
        with refusal(r"the train images in .*mine changed after"):
            load("mine", "train", root=tmp_path, crop=crop)
        assert len(load("mine", "train", root=tmp_path, crop=crop, limit=3)) == 3
        path.write_bytes(whole)
    labels = np.load(tmp_path / "mine/train_labels.npy")
    np.save(tmp_path / "mine/train_labels.npy", 1 - labels)
    with refusal(r"the train labels in .* changed after"):
        load("mine", "train", root=tmp_path, crop=crop)


def test_a_damaged_note(tmp_path: Path) -> None:
    photographs(tmp_path / "photos")
    import_set(tmp_path / "photos", "mine", root=tmp_path)
    for damaged in ("{", '{"splits": []}'):
        (tmp_path / "mine/import.json").write_text(damaged)
        with refusal(r"import\.json is damaged: import the set again"):
            load("mine", "train", root=tmp_path)


def test_a_split_may_be_added_by_hand(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 30)
    import_set(tmp_path / "photos", "mine", Options(validation=0), root=tmp_path)
    np.save(tmp_path / "mine/validation_images.npy", np.load(tmp_path / "mine/test_images.npy"))
    assert len(load("mine", "validation", root=tmp_path)) == 3


def test_an_import_that_ends_while_another_lists_its_source(tmp_path: Path, monkeypatch) -> None:
    photographs(tmp_path / "one", 10)
    photographs(tmp_path / "two", 20)
    open_source = run.open_source

    def slow(*arguments):
        monkeypatch.setattr(run, "open_source", open_source)
        import_set(tmp_path / "one", "mine", root=tmp_path)
        return open_source(*arguments)

    monkeypatch.setattr(run, "open_source", slow)
    with refusal("mine is there already: pass --replace"):
        import_set(tmp_path / "two", "mine", root=tmp_path)
    assert len(load("mine", "train", root=tmp_path)) < 10
    assert not (tmp_path / ".mine.import").exists()
