"""The table of what came after: the figures of published.yaml that name a family, in order."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

from nvp import results
from nvp.after import DATA, FAMILIES
from nvp.paths import results_root


def test_every_figure_of_a_family_has_its_cell() -> None:
    shown = {(row[0], row[1]): row[2:5] for row in results.table("after").rows}
    figures = [figure for figure in results.published() if figure.family]
    assert {(figure.family, figure.model) for figure in figures} == set(shown)
    for figure in figures:
        assert shown[figure.family, figure.model][list(DATA).index(figure.data)] == figure.cell
    assert sum(cell != "–" for cells in shown.values() for cell in cells) == len(figures)


def test_rows_go_by_family_and_then_down() -> None:
    rows = results.table("after").rows
    families = [row[0] for row in rows]
    assert families == sorted(families, key=FAMILIES.index)
    for before, following in pairwise(rows):
        if before[0] == following[0]:
            bits = [float(row[2].split("(")[0].strip("<≈ ")) for row in (before, following)]
            assert bits[0] >= bits[1]


def test_the_papers_of_this_book_are_in_it() -> None:
    rows = {row[1]: row[2:5] for row in results.table("after").rows}
    assert rows["Real NVP"] == ("3.49", "4.28 (4.26)", "3.98 (3.75)")
    assert rows["PixelRNN"] == ("3.00", "3.86 (3.83)", "3.63 (3.57)")
    assert rows["Flow++"][0] == "< 3.08"


def test_an_unverified_figure_is_marked(tmp_path: Path) -> None:
    text = (results_root() / "published.yaml").read_text()
    path = Path(shutil.copy(results_root() / "published.yaml", tmp_path))
    assert "†" not in results.table("after").caption
    path.write_text(text.replace('"2.92",', '"2.92", unverified: true,', 1))
    table = results.table("after", root=tmp_path)
    assert "† unverified" in table.caption
    assert "2.92 †" in [row[2] for row in table.rows]
