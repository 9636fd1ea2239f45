"""The ledger's own tables: what is kept of runs, what they are worth and what they took."""

from __future__ import annotations

from pathlib import Path

from nvp.ledger import entry as ledger
from nvp.tables import build as results
from nvp.tables.overview import glance


def test_the_book_alone_has_links_to_files(recorded: Path) -> None:
    for roles in (True, False):
        text = results.table("ledger", roles=roles, root=recorded).markdown()
        assert ("{download}" in text) == roles


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
