"""The table of what came before and after: the models of published.yaml, in order."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from nvp.errors import NVPError
from nvp.paths import results_root
from nvp.tables import build as results
from nvp.tables.later_models import APPROACHES, DATA, KINDS
from nvp.tables.published import read_published


def cells() -> dict[tuple[str, str], tuple[str, ...]]:
    """(family, model) -> year, kind and figures, in the order of the table."""
    found = {}
    family = ""
    names = {f"**{name}**": family for family, name in APPROACHES.items()}
    for model, *figures, source in results.table("after").rows:
        if model in names:
            family = names[model]
            assert not any([*figures, source])
        else:
            assert source
            found[family, model] = tuple(figures)
    return found


def test_every_model_has_its_row_and_every_figure_its_cell() -> None:
    shown, facts = cells(), read_published()
    assert {(model.family, name) for name, model in facts.models.items()} == set(shown)
    figures = [f for f in facts.figures if f.model in facts.models and f.data in DATA]
    for figure in figures:
        row = shown[facts.models[figure.model].family, figure.model]
        assert row[2 + list(DATA).index(figure.data)] == figure.digits
    assert sum(cell != "–" for row in shown.values() for cell in row[2:]) == len(figures)


def test_rows_go_by_family_and_then_by_year() -> None:
    shown = list(cells().items())
    families = [family for (family, _), _ in shown]
    assert families == sorted(families, key=list(APPROACHES).index)
    for ((before, _), (year, *_)), ((following, _), (later, *_)) in pairwise(shown):
        assert before != following or int(year) <= int(later)


def test_the_papers_of_this_book_are_in_it() -> None:
    shown = cells()
    noisy, exact = KINDS["uniform noise"], KINDS["exact"]
    assert shown["flow", "Real NVP"] == ("2016", noisy, "3.49", "4.28 (4.26)", "3.98 (3.75)")
    pixelrnn = ("2016", exact, "3.00", "3.86 (3.83)", "3.63 (3.57)")
    assert shown["autoregressive", "PixelRNN"] == pixelrnn
    assert shown["flow", "TarFlow"][-1] == "below 3 ‡"
    assert "‡ on other images" in results.table("after").caption


def test_kinds_are_those_of_their_family() -> None:
    """A flow on integers is never exact, an autoregressive model always is."""
    for name, model in read_published().models.items():
        assert (model.kind == "exact") == (model.family == "autoregressive"), name
        assert (model.kind == "learned noise") <= (model.family == "flow"), name


def test_a_model_without_a_figure_is_refused(tmp_path: Path) -> None:
    text = (results_root() / "published.yaml").read_text()
    unheard = "models:\n  Unheard: {family: flow, preprint: 2030-01, kind: uniform noise}\n"
    (tmp_path / "published.yaml").write_text(text.replace("models:\n", unheard))
    with pytest.raises(NVPError, match="no figure names Unheard"):
        read_published(tmp_path)


def test_an_unverified_figure_is_marked(tmp_path: Path) -> None:
    text = (results_root() / "published.yaml").read_text()
    path = Path(shutil.copy(results_root() / "published.yaml", tmp_path))
    assert "†" not in results.table("after").caption
    path.write_text(text.replace('"2.92",', '"2.92", unverified: true,', 1))
    table = results.table("after", root=tmp_path)
    assert "† unverified" in table.caption
    assert "2.92 †" in [row[3] for row in table.rows]
