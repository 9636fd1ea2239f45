"""The ledger's own tables: what is kept of runs, what they are worth and what they took.

They are made from the repository's ledger, and of a copy of it in which something was changed.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
from pathlib import Path

import pytest

from nvp.config import load_config
from nvp.ledger import entry as ledger
from nvp.paths import repository_root, results_root
from nvp.tables import build as results
from nvp.tables.cells import Table

REPOSITORY = repository_root()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The ledger without weights, to change."""
    unused = shutil.ignore_patterns("*.safetensors", "tables")
    return Path(shutil.copytree(results_root(), tmp_path / "results", ignore=unused))


@functools.cache  # it reads all runs, which takes seconds
def ledger_table(roles: bool = False) -> Table:
    return results.table("ledger", roles=roles)


def by_run(table: Table) -> dict[str, dict[str, str]]:
    """The table of entries, as run -> line -> text."""
    found: dict[str, dict[str, str]] = {}
    for key, text in table.rows:
        if key.startswith("**"):
            lines = found[key.strip("*")] = {"": text}
        else:
            lines[key] = text
    return found


def test_every_run_has_its_provenance_and_a_command_that_makes_it_again() -> None:
    shown = by_run(ledger_table())
    runs = ledger.runs()
    assert list(shown) == list(runs)
    for name, run in runs.items():
        entry, lines = run.record, shown[name]
        assert entry.title in lines[""]
        assert all(leg.commit[:9] in lines["trained by"] for leg in entry.legs if leg.commit)
        assert (entry.commit or "not noted")[:9] in lines["scored by"]
        fitted = run.fresh_model.fitted_in_closed_form
        assert lines["training"].startswith("fitted" if fitted else f"{entry.steps:,} steps, ")
        assert lines["seed"] == str(entry.seed)
        assert lines["network"].startswith(f"{entry.parameters:,} parameters")
        if entry.weights and entry.chosen_step is not None:
            assert lines["weights"].startswith(f"of step {entry.chosen_step:,};")
        assert entry.hardware in lines["machine"]
        assert entry.data.test_sha256[:12] in lines["test images"]
        (config,) = re.findall(r"`nvp train (\S+)`", lines["again"])
        assert load_config(REPOSITORY / config) == run.config


def test_files_can_be_downloaded_from_the_book() -> None:
    for lines in by_run(ledger_table(roles=True)).values():
        paths = re.findall(r"<\.\./(results/\S+)>", lines["files"])
        assert len(paths) == 3
        assert all((REPOSITORY / path).is_file() for path in paths)
    assert "download" not in ledger_table().markdown()


def test_at_a_glance_a_run_stands_beside_the_figure_of_its_kind(copy: Path) -> None:
    rows = {row[:2]: row[2:] for row in results.table("glance", root=copy).rows}
    run = ledger.runs(copy)["binarized-mnist-diagonal-1"]
    ours, published, by = rows["binarised MNIST", "Diagonal BiLSTM, 1 layer"]
    assert ours.replace("\u00a0", " ") == f"{run.nats[0]:.2f} ± {run.nats[1]:.2f} nats"
    assert (published, by[:25]) == ("80.75 nats", "Diagonal BiLSTM, 1 layer:")
    assert rows["Fashion-MNIST", "Real NVP"][1:] == (
        "–",
        "no figure of Real NVP was found in print",
    )
    shutil.rmtree(run.folder)  # what is not recorded is not shown
    titles = [row[:2] for row in results.table("glance", root=copy).rows]
    assert ("binarised MNIST", "Diagonal BiLSTM, 1 layer") not in titles


def test_every_glance_names_a_figure_or_says_why_there_is_none() -> None:
    facts = results.read_published()
    known = {(figure.data, figure.model) for figure in facts.figures}
    for row in facts.tables["glance"]:
        assert ((row.data, row.beside) in known) != bool(row.remark), row.config


def test_hardware_is_sorted_by_machine_and_minutes(copy: Path) -> None:
    name = next(iter(ledger.runs(copy)))
    path = copy / "runs" / name / "run.json"
    tree = json.loads(path.read_text())
    tree["legs"] = [{**tree["legs"][0], "gpu": "A Fast GPU"}]
    tree["minutes"] = 0.4
    path.write_text(json.dumps(tree))
    rows = results.table("hardware", root=copy).rows
    assert ("A Fast GPU", "< 1") in [row[:2] for row in rows]
    keys = [(row[0], int(row[1].replace("< 1", "0"))) for row in rows]
    assert keys == sorted(keys)
    assert len(rows) == len(ledger.runs(copy))
