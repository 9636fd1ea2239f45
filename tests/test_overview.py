"""The ledger's own tables: what is kept of runs, what they are worth and what they took."""

from __future__ import annotations

import re

from nvp.config import load_config
from nvp.ledger import entry as ledger
from nvp.paths import repository_root
from nvp.tables import build as results
from nvp.tables.cells import Table
from nvp.tables.overview import glance

REPOSITORY = repository_root()


def by_run(table: Table) -> dict[str, dict[str, str]]:
    """The table of entries, as run -> line -> text."""
    found: dict[str, dict[str, str]] = {}
    for key, text in table.rows:
        if key.startswith("**"):
            lines = found[key.strip("*")] = {"": text}
        else:
            lines[key] = text
    return found


def test_every_run_has_its_commits_and_a_command_that_makes_it_again() -> None:
    table = results.table("ledger")
    assert "download" not in table.markdown()  # a link of the book
    shown = by_run(table)
    runs = ledger.runs()
    assert list(shown) == list(runs)
    for name, run in runs.items():
        legs = run.record.legs
        assert all(leg.commit[:9] in shown[name]["trained by"] for leg in legs if leg.commit)
        (config,) = re.findall(r"`nvp train (\S+)`", shown[name]["again"])
        assert load_config(REPOSITORY / config) == run.config


def test_files_can_be_downloaded_from_the_book() -> None:
    for lines in by_run(results.table("ledger", roles=True)).values():
        paths = re.findall(r"<\.\./(results/\S+)>", lines["files"])
        assert len(paths) == 3
        assert all((REPOSITORY / path).is_file() for path in paths)


def test_at_a_glance_a_run_that_is_not_recorded_is_not_shown() -> None:
    facts, runs = results.read_published(), ledger.runs()
    row = ("binarised MNIST", "Diagonal BiLSTM, 1 layer")
    assert row in [each[:2] for each in glance(facts, runs, False).rows]
    del runs["binarized-mnist-diagonal-1"]
    assert row not in [each[:2] for each in glance(facts, runs, False).rows]


def test_every_glance_names_a_figure_or_says_why_there_is_none() -> None:
    facts = results.read_published()
    known = {(figure.data, figure.model) for figure in facts.figures}
    for row in facts.rows("glance"):
        assert ((row.data, row.beside) in known) != bool(row.remark), row.config
