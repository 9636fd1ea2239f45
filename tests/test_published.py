"""The figures that papers print: digits, sources and marks, and the configurations beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tiny import refusal

from nvp.config import load_config
from nvp.errors import NVPError
from nvp.paths import repository_root
from nvp.tables import build as results
from nvp.tables.published import published, read_published

REPOSITORY = repository_root()


@pytest.mark.slow
def test_citations_are_in_the_bibliography(own: Path) -> None:
    bibliography = (REPOSITORY / "book" / "references.bib").read_text()
    citations = set(re.findall(r"^@\w+\{(\w+),", bibliography, re.M))
    facts = read_published()
    assert set(facts.sources) <= citations
    for name in results.NAMES:
        # Only at a glance does it depend on the runs which figures are cited.
        table = results.table(name, roles=True, root=None if name == "glance" else own)
        assert set(re.findall(r"\{cite:t\}`(\w+)`", table.markdown())) <= citations
    assert {figure.source for figure in facts.figures} == set(facts.sources)


def test_every_row_has_a_configuration_and_every_configuration_a_model() -> None:
    rows = [row for table in read_published().tables.values() for row in table]
    for row in rows:
        config = load_config(REPOSITORY / "configs" / f"{row.config}.yaml")
        assert (config.name, config.data.name) == (row.config, row.data.removesuffix("-validation"))
    for path in (REPOSITORY / "configs").glob("*.yaml"):
        assert load_config(path).name == path.stem


@pytest.mark.parametrize(
    "text", ["figures: [", "sources: {}", "sources: !!timestamp x", "[" * 3000]
)
def test_a_damaged_file_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "published.yaml").write_text(text)
    with refusal(r"is damaged: .*; restore it with git checkout"):
        read_published(tmp_path)


def test_figures_that_no_print_was_seen_of_are_marked() -> None:
    table = results.table("binarized-mnist")
    shown = [row[-2] for row in table.rows]  # published figures are last but one
    unverified = [f for f in published() if f.unverified and f.cell in shown]
    assert unverified
    assert all(figure.cell.endswith(" †") for figure in unverified)
    assert "† unverified" in table.caption
    assert "80.54 †" in shown
    assert "81.30" in shown
    for name in ("28x28", "pixelrnn-variants"):
        assert "†" not in results.table(name).markdown()


def test_every_variant_of_the_row_lstm_has_a_configuration() -> None:
    """Tables 2 and 3 and section 5.3: a file a row, each but for one choice that of Table 5."""
    rows = read_published().tables["pixelrnn-variants"]
    configs = [load_config(REPOSITORY / "configs" / f"{row.config}.yaml") for row in rows]
    whole = next(c for c in configs if c.name == "cifar10-row-lstm").model_dump()
    changes = []
    for config in configs:
        plain = config.model_dump()
        assert {**plain, "name": "", "title": "", "model": {}} == {
            **whole,
            **{"name": "", "title": "", "model": {}},
        }
        model = plain["model"].items()
        changes.append(dict(item for item in model if item not in whole["model"].items()))
    assert changes == [
        {"residual": False, "skip": False},
        {"residual": False},
        {"skip": False},
        {},
        *({"num_layers": n} for n in (1, 2, 3, 6, 9)),
        {"output": "mixture"},
    ]


@pytest.mark.parametrize("unit", ["", 'bits_per_dim: "1.0", nats: "80.54",'])
def test_a_published_figure_has_one_unit(unit: str, own: Path) -> None:
    path = own / "published.yaml"
    path.write_text(path.read_text().replace('nats: "80.54",', unit, 1))
    with pytest.raises(NVPError, match=r"Row LSTM: give bits_per_dim or nats, one of them"):
        results.table("28x28", root=own)


def test_published_figures_need_a_source(own: Path) -> None:
    path = own / "published.yaml"
    path.write_text(path.read_text().replace("source: kobyzev2021review", "source: nobody2021", 1))
    with pytest.raises(NVPError, match="no source nobody2021"):
        results.table("28x28", root=own)
    with pytest.raises(NVPError, match="no table"):
        results.table("table2")
