"""Progress of long work: on a terminal, elsewhere, and in several processes."""

import io
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from nvp import progress


@pytest.fixture(autouse=True)
def minutes(clock: SimpleNamespace, monkeypatch) -> None:
    monkeypatch.setattr(progress, "time", clock)


@pytest.mark.parametrize(("terminal", "told"), [("xterm", "75%"), ("dumb", "images: 30 of 40, ")])
def test_a_bar_counts_on_a_terminal(terminal: str, told: str, monkeypatch) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr("sys.stderr", stream)
    with progress.counting("images", 40) as done:
        done(30)
    assert "images" in stream.getvalue()
    assert told in stream.getvalue()


def test_a_bar_within_a_bar_has_a_line_of_its_own(monkeypatch) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", stream)
    with progress.counting("films", 2) as films:
        with progress.counting("samples", 4) as samples:
            samples(4)
        films(1)
    before, _, after = stream.getvalue().partition("\n")
    assert "films" in before
    assert "samples" in after


def test_work_goes_on_where_no_line_can_be_written(monkeypatch) -> None:
    closed = Mock(write=Mock(side_effect=BrokenPipeError))
    monkeypatch.setattr("sys.stderr", closed)
    monkeypatch.setenv("TERM", "dumb")
    with progress.shown("images") as show:
        show(0.5, "30 of 40", True)
    closed.write.assert_called_once()


@pytest.mark.parametrize(("rank", "told"), [(0, "images: 30 of 40, 0:00:30 to go\n"), (1, "")])
def test_the_first_process_tells_the_pace_since_it_began(rank, told, monkeypatch, capsys) -> None:
    monkeypatch.setenv("RANK", str(rank))
    with progress.counting("images", 40, before=10) as done:
        done(30)
    assert capsys.readouterr().err == told
