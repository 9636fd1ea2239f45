"""The table of what came after: the figures of published.yaml that name a family, in order."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

from nvp.paths import results_root
from nvp.tables import build as results
from nvp.tables.later_models import DATA, FAMILIES


def cells() -> dict[tuple[str, str], tuple[str, ...]]:
    """(family, model) -> its figures, in the order of the table."""
    found = {}
    family = ""
    names = {f"**{name}**": family for family, name in FAMILIES.items()}
    for model, *figures, source in results.table("after").rows:
        if model in names:
            family = names[model]
            assert not any([*figures, source])
        else:
            assert source
            found[family, model] = tuple(figures)
    return found


def test_every_figure_of_a_family_has_its_cell() -> None:
    shown = cells()
    figures = [figure for figure in results.published() if figure.family]
    assert {(figure.family, figure.model) for figure in figures} == set(shown)
    for figure in figures:
        assert shown[figure.family, figure.model][list(DATA).index(figure.data)] == figure.cell
    assert sum(cell != "–" for row in shown.values() for cell in row) == len(figures)


def test_rows_go_by_family_and_then_down() -> None:
    shown = cells()
    families = [family for family, _ in shown]
    assert families == sorted(families, key=list(FAMILIES).index)
    for before, following in pairwise(shown):
        if before[0] == following[0]:
            bits = [float(shown[key][0].split("(")[0].strip("<≈ ")) for key in (before, following)]
            assert bits[0] >= bits[1]


def test_the_papers_of_this_book_are_in_it() -> None:
    shown = cells()
    assert shown["flow", "Real NVP"] == ("3.49", "4.28 (4.26)", "3.98 (3.75)")
    assert shown["autoregressive", "PixelRNN"] == ("3.00", "3.86 (3.83)", "3.63 (3.57)")
    assert shown["flow", "Flow++"][0] == "< 3.08"


def test_an_unverified_figure_is_marked(tmp_path: Path) -> None:
    text = (results_root() / "published.yaml").read_text()
    path = Path(shutil.copy(results_root() / "published.yaml", tmp_path))
    assert "†" not in results.table("after").caption
    path.write_text(text.replace('"2.92",', '"2.92", unverified: true,', 1))
    table = results.table("after", root=tmp_path)
    assert "† unverified" in table.caption
    assert "2.92 †" in [row[1] for row in table.rows]
