"""Progress of long work: on a terminal, elsewhere, and in several processes."""

import io
from types import SimpleNamespace

import pytest

from nvp import progress


@pytest.fixture(autouse=True)
def minutes(clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "time", clock)


def test_a_bar_counts_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", stream)
    with progress.counting("images", 40) as done:
        done(30)
    assert "images" in stream.getvalue()
    assert "75%" in stream.getvalue()


def test_what_was_done_before_says_nothing_about_the_pace(capsys) -> None:
    with progress.counting("images", 40, before=10) as done:
        done(30)
    assert capsys.readouterr().err == "images: 30 of 40, 0:00:30 to go\n"


def test_of_several_processes_the_first_speaks(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("RANK", "1")
    with progress.counting("images", 40) as done:
        done(30)
    assert capsys.readouterr().err == ""
