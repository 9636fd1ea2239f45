"""Tables in a page: figures flush right and unbroken, text flush left."""

from __future__ import annotations

import IPython.display
import pytest
from nvp_book import figures


def shown(rows: list[list[object]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    tables: list[IPython.display.Markdown] = []
    monkeypatch.setattr(IPython.display, "display", tables.append)
    figures.show_table(["what", "figure", "text"], rows)
    (table,) = tables
    return table.data.splitlines()


def test_only_columns_of_figures_are_flush_right(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["2 layers", "1,024", "64, not of an image"], ["3 layers", "< 4.5", "none"]]
    assert shown(rows, monkeypatch)[1] == "| :-- | --: | :-- |"


def test_a_missing_figure_leaves_its_column_flush_right(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["first", "–", "a"], ["second", "0.5 ± 0.1", "b"]]
    assert shown(rows, monkeypatch)[1] == "| :-- | --: | :-- |"


def test_a_column_without_any_figure_is_flush_left(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["first", "–", "a"], ["second", "–", "b"]]
    assert shown(rows, monkeypatch)[1] == "| :-- | :-- | :-- |"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("-1.5", "−1.5"),
        (-3, "−3"),
        ("-0.00", "0.00"),
        ("-0.01", "−0.01"),
        ("3.01 ± 0.03", "3.01\u00a0±\u00a00.03"),
        ("28 × 28 pixels", "28\u00a0×\u00a028 pixels"),
        ("± 40", "±\u00a040"),
        ("k = 3", "k\u00a0=\u00a03"),
        ("12.5 %", "12.5\u00a0%"),
        ("0.14 M parameters", "0.14\u00a0M parameters"),
        ("3 Maps", "3 Maps"),
        ("row-lstm", "row-lstm"),
        ("a - b", "a - b"),
    ],
)
def test_how_a_cell_is_set(cell: object, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown([["row", cell, ""]], monkeypatch)[2] == f"| row | {text} |  |"
