"""Checkpoints: a full disk, a damaged or a foreign file gives one line, and nothing is lost."""

import errno
import fcntl
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tiny import pixelrnn_configuration, refusal

from nvp import files
from nvp.config import load_config
from nvp.files import STALE_SECONDS, locked, replace_folder, write, write_text
from nvp.runs import log as runlog
from nvp.runs.folder import RunFolder
from nvp.runs.log import read_log
from nvp.runs.tensors import FORMAT, load_tensors, save_tensors
from nvp.training.loop import prepare


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("what", ["fsync", "replace"])
def test_a_full_disk_keeps_the_last_good_checkpoint(what, root, tmp_path, monkeypatch) -> None:
    checkpoint = RunFolder(tmp_path).checkpoint
    prepare(pixelrnn_configuration(), tmp_path, data_root=root).run()
    good = checkpoint.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(files.os, what, no_space)
        with refusal(r"No space left on device.*untouched; free"):
            save_tensors(checkpoint, {"a": torch.zeros(1)}, {})
        with refusal("No space left"):
            prepare(pixelrnn_configuration(steps=3), tmp_path, data_root=root).run()
    assert checkpoint.read_bytes() == good
    assert [path.name for path in tmp_path.glob(".*")] == [files.LOCK]
    prepare(pixelrnn_configuration(steps=3), tmp_path, data_root=root).run()
    assert [row["step"] for row in read_log(tmp_path / "log.csv")] == [1, 2, 3]


def test_a_full_disk_while_logging_is_one_line(tmp_path: Path, monkeypatch) -> None:
    log = runlog.RunLog(RunFolder(tmp_path), 0)
    monkeypatch.setattr(runlog.csv.DictWriter, "writerow", no_space)
    with refusal(r"cannot write .*log.csv .*No space left"):
        log.write({"step": 1, "loss": 2.0})


def resume(home: Path) -> None:
    """Make the run in `home` ready to go on; this writes nothing."""
    prepare(load_config(home / "run" / "config.yaml"), home / "run", data_root=home / "data")


def test_truncated_checkpoints_are_refused_and_flipped_bytes_noticed(home: Path) -> None:
    path = RunFolder(home / "run").checkpoint
    content = path.read_bytes()
    resume(home)
    for share in (0.0, 0.001, 0.3, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        with refusal("is damaged"):
            resume(home)
    places = [int(share * len(content)) for share in (0.0, 0.01, 0.05, 0.6, 0.9, 0.9999)]
    for place in (*places, content.index(b"/exp_avg") + 4):  # in the name of a tensor, too
        flipped = bytearray(content)
        flipped[place] ^= 0x10
        path.write_bytes(flipped)
        with refusal():
            resume(home)


def test_foreign_checkpoints_are_refused(home: Path) -> None:
    path = RunFolder(home / "run").checkpoint
    for note, match in (({}, "was not written by this"), ({"format": FORMAT}, "checksum differs")):
        safetensors.torch.save_file({"a": torch.zeros(1)}, path, metadata=note)
        with refusal(match):
            resume(home)
    for place, reason in ((home / "nothing", "No such file"), (home, "Is a dir")):
        with refusal(f"cannot read .*: {reason}"):
            load_tensors(place)


def test_the_same_tensors_make_the_same_file(tmp_path: Path) -> None:
    path, contents = tmp_path / "weights.safetensors", set()
    for _ in range(10):
        save_tensors(path, {"b": torch.arange(3), "é": torch.ones(2)}, {"bits": 1.5})
        contents.add(path.read_bytes())
    assert len(contents) == 1
    assert load_tensors(path)[0]["b"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("place", ["set", ".set.old"])  # as a kill between two renames leaves it
def test_a_folder_is_replaced_or_stays(place: str, tmp_path: Path) -> None:
    for name in (place, "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
    with pytest.raises(OSError, match="nothing"):
        replace_folder(tmp_path / "nothing", tmp_path / "set")
    assert (tmp_path / "set" / "name").read_text() == place
    replace_folder(tmp_path / "new", tmp_path / "set")
    assert (tmp_path / "set" / "name").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("taken", [False, True])
def test_a_lock_that_was_removed_meanwhile_holds_nothing(taken, tmp_path, monkeypatch) -> None:
    others, flock = ExitStack(), fcntl.flock

    def late(*arguments: Any) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        others.close()  # the process that held the folder ends
        if taken:
            others.enter_context(locked(tmp_path / "run"))
        flock(*arguments)

    others.enter_context(locked(tmp_path / "run"))
    monkeypatch.setattr(fcntl, "flock", late)
    match = "another process has just ended its work in .*: try again"
    with others, refusal(match), locked(tmp_path / "run"):
        pass


def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path) -> None:
    """As root, os.replace would put a file in the place of /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write(pipe, b"content")
    assert os.read(reader, 100) == b"content"
    assert pipe.is_fifo()
    os.close(reader)


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("first")
    link.symlink_to(target.name)
    write_text(link, "second")
    assert link.is_symlink()
    assert target.read_text() == "second"


@pytest.mark.parametrize("name", ["", "n" * 300, "nul\0", "folder"])
def test_a_name_that_no_file_can_have_is_one_line(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    with refusal("cannot write"):
        write(Path(name), b"")


def test_what_a_killed_process_left_half_written_goes(tmp_path: Path) -> None:
    old, new, other = (tmp_path / f".{name}.part" for name in ("a[1].9", "a[1].8", "b.9"))
    for path in (old, new, other):
        path.write_text("half of it")
    past = time.time() - STALE_SECONDS - 1
    for path in (old, other):
        os.utime(path, (past, past))
    write(tmp_path / "a[1]", b"whole")
    assert [path.exists() for path in (old, new, other)] == [False, True, True]


def test_files_have_the_permissions_that_the_user_asked_for(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_tensors(tmp_path / "a", {}, {})
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_a_file_that_is_replaced_meanwhile_is_read_whole(tmp_path: Path, monkeypatch) -> None:
    """All of it comes from the first of the two files."""
    path = tmp_path / "a.safetensors"

    def save(size: int) -> None:
        save_tensors(path, {"a": torch.full((size,), float(size))}, {"size": size})

    def late(path: Path) -> bytes:
        content = files.read(path)
        save(3000)
        return content

    save(1000)
    monkeypatch.setattr("nvp.runs.tensors.read", late)
    tensors, header = load_tensors(path)
    assert len(tensors["a"]) == tensors["a"][0] == header["size"] == 1000
