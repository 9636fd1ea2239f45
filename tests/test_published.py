"""The figures that papers print: digits, sources and marks, and the configurations beside them."""

import re
from pathlib import Path

import pytest
from tiny import refusal

from nvp.data.named import NAMED
from nvp.paths import repository_root, results_root
from nvp.tables import build as results
from nvp.tables.later_models import APPROACHES, DATA
from nvp.tables.published import read_published


def test_citations_are_in_the_bibliography() -> None:
    bibliography = (repository_root() / "book" / "references.bib").read_text()
    citations = set(re.findall(r"^@\w+\{(\w+),", bibliography, re.M))
    facts = read_published()
    assert set(facts.sources) <= citations
    assert {figure.source for figure in facts.figures} == set(facts.sources)


def test_no_digit_is_lost_and_no_set_is_misspelt() -> None:
    """If this fails for a new score, quote its number, or name a set of `nvp.data.named`."""
    text = (results_root() / "published.yaml").read_text()
    assert not re.findall(r"(?:bits_per_dim|nats|train): [^\s\"].*", text)
    data = {figure.data.removesuffix("-validation") for figure in read_published().figures}
    assert not data - NAMED.keys()


def test_every_row_has_its_configuration() -> None:
    rows = [row for table in read_published().tables.values() for row in table]
    for row in rows:
        asked = (row.config, row.data.removesuffix("-validation"))
        assert (row.planned.name, row.planned.data.name) == asked


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("figures:", "figures: [", "is damaged: .*; restore it with git checkout"),
        ("sources:", "others:", "is damaged: .*; restore it with git checkout"),
        ('nats: "80.54",', "", "Row LSTM: give bits_per_dim or nats, one of them"),
        ("nats: ", 'bits_per_dim: "1.0", nats: ', "give bits_per_dim or nats, one of them"),
        ("source: kobyzev2021review", "source: nobody2021", "no source nobody2021"),
        ("models:\n", "models:\n  X: {family: flow, preprint: 2030-01, kind: ode}\n", "names X"),
    ],
)
def test_a_damaged_file_is_one_line(old, new, complaint, tmp_path: Path) -> None:
    text = (results_root() / "published.yaml").read_text()
    (tmp_path / "published.yaml").write_text(text.replace(old, new, 1))
    with refusal(complaint):
        read_published(tmp_path)


def test_every_glance_names_a_figure_or_says_why_there_is_none() -> None:
    facts = read_published()
    known = {(figure.data, figure.model) for figure in facts.figures}
    for row in facts.rows("glance"):
        assert ((row.data, row.beside) in known) != bool(row.remark), row.config


def test_every_variant_of_the_row_lstm_has_a_configuration() -> None:
    """Tables 2 and 3 and section 5.3: a file a row, each but for one choice that of Table 5."""
    configs = [row.planned for row in read_published().rows("pixelrnn-variants")]
    whole = next(c for c in configs if c.name == "cifar10-row-lstm").model_dump()
    changes = []
    for config in configs:
        plain = config.model_dump()
        changes.append({k: v for k, v in plain["model"].items() if v != whole["model"][k]})
        assert plain | {key: whole[key] for key in ("name", "title", "model")} == whole
    assert changes == [
        {"residual": False, "skip": False},
        {"residual": False},
        {"skip": False},
        {},
        *({"num_layers": n} for n in (1, 2, 3, 6, 9)),
        {"output": "mixture"},
    ]


def test_every_model_has_its_row_and_every_figure_its_cell() -> None:
    facts, family, shown = read_published(), "", {}  # (family, model) -> year, kind and figures
    names = {f"**{name}**": family for family, name in APPROACHES.items()}
    for model, *figures, source in results.table("after").rows:
        if model in names:
            family = names[model]
            assert not any([*figures, source])
        else:
            assert source
            shown[family, model] = figures
    assert {(model.family, name) for name, model in facts.models.items()} == set(shown)
    figures = [f for f in facts.figures if f.model in facts.models and f.data in DATA]
    for figure in figures:
        row = shown[facts.models[figure.model].family, figure.model]
        assert row[2 + list(DATA).index(figure.data)] == figure.digits
    assert sum(cell != "–" for row in shown.values() for cell in row[2:]) == len(figures)


def test_kinds_are_those_of_their_family() -> None:
    """A flow on integers is never exact, an autoregressive model always is."""
    for name, model in read_published().models.items():
        assert (model.kind == "exact") == (model.family == "autoregressive"), name
        assert (model.kind == "learned noise") <= (model.family == "flow"), name
