"""The tables of results: made from the ledger and the published figures, and in step with them."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from ledgers import rename, rewrite
from nvp_book.pages import folded_entries

from nvp.ledger import entry as ledger
from nvp.paths import repository_root, results_root
from nvp.tables import build as results
from nvp.tables.card import card
from nvp.tables.cells import Table, code, text
from nvp.tables.published import read_published
from nvp.tables.readme import readme_parts

REPOSITORY = repository_root()


def reconfigure(root: Path, **changes: dict[str, int]) -> None:
    config = tiny.configured(tiny.config_tree(), **changes)
    tiny.write_config(root / "runs" / "tiny" / "config.yaml", config.model_dump(mode="json"))


def test_every_cell_is_recorded_published_or_not_run(own: Path) -> None:
    rewrite(own, "data.name", "cifar10")
    rows = {row[0]: row[1:] for row in results.table("table1", root=own).rows}
    assert len(rows) == 7
    score = ledger.runs(own)["tiny"].score
    assert rows["CIFAR-10"][:4] == ("3.00", "3.49", "< 3.59", "< 3.28")
    assert rows["CIFAR-10"][4].startswith(f"{score.bits_per_dim:.3f} ± {score.standard_error:.3f}")
    assert rows["ImageNet 32x32"][:4] == ("3.86 (3.83)", "4.28 (4.26)", "< 4.40 (4.35)", "–")
    for title, cells in rows.items():
        if title != "CIFAR-10":
            assert "not run: `nvp train configs/" in cells[-1]
    rename(own, "chosen", copy=True)  # by its validation score, however it scores on test images
    rewrite(own, "scores.validation.bits_per_dim", 1.0, "chosen")
    rewrite(own, "scores.test.bits_per_dim", 9.0, "chosen")
    assert "recorded (`chosen`)" in results.table("table1", root=own).markdown()


def test_a_recorded_run_stands_above_the_yardsticks(own: Path) -> None:
    rewrite(own, "data.name", "mnist")
    rows = results.table("28x28", root=own).rows
    assert rows[0][:2] == ("MNIST", "**A tiny Real NVP, this code**")
    assert "2 steps" in rows[0][3]
    assert rows[1] == ("MNIST", "Real NVP, this code", *rows[1][2:])
    assert rows[1][3].startswith("`nvp train configs/mnist.yaml`")  # it is not the tiny run
    kinds = ("recorded (", "published: ", "`nvp train configs/", "no Real NVP")
    assert all(row[3].startswith(kinds) for row in rows)
    reconfigure(own, model={"num_classes": 3})
    told = results.table("28x28", root=own).rows[0][3]
    assert told.startswith("recorded (`tiny`), a bound, given labels: ")


@pytest.mark.parametrize("changes", [{"data": {"crop": 8}}, {"model": {"num_classes": 3}}])
@pytest.mark.parametrize("name", ["table1", "epochs"])
def test_a_run_that_does_not_compare_is_left_out(name, changes, own: Path) -> None:
    rewrite(own, "data.name", "cifar10")
    reconfigure(own, **changes)
    assert not re.search("`tiny`|tiny Real NVP", results.table(name, root=own).markdown())


def test_a_recorded_variant_shows_its_validation_figure(own: Path) -> None:
    rows = results.table("pixelrnn-variants", root=own).rows
    assert all(row[1].startswith("not run: `cifar10-row-lstm") for row in rows)
    rename(own, "cifar10-row-lstm-1")
    shown = [row[1] for row in results.table("pixelrnn-variants", root=own).rows]
    validation = ledger.runs(own)["cifar10-row-lstm-1"].scores.validation
    bits, error = validation.bits_per_dim, validation.standard_error
    assert shown[4].startswith(f"{bits:.3f} ± {error:.3f} (cifar10-row-lstm-1 with other settings")
    assert all(cell.startswith("not run") for cell in (*shown[:4], *shown[5:]))


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("-0.000 ± 0.002", "0.000_±_0.002"),
        ("-0.05 ± 0.02", "−0.05_±_0.02"),
        ("k = 3, 28 × 28 pixels", "k_=_3, 28_×_28 pixels"),
        ("finished at 35 % of it", "finished at 35_% of it"),
        ("row-lstm, a - b", "row-lstm, a - b"),
    ],
)
def test_figures_are_set_and_do_not_break_across_lines(cell: str, text: str) -> None:
    table = Table("", ("what", "figure"), [("row", cell)])
    assert f"| row | {text} |".replace("_", "\u00a0") in table.markdown()


def test_a_table_that_is_not_there_is_named() -> None:
    with tiny.refusal("there is no table 'table9': use 28x28, "):
        results.table("table9")


def test_only_columns_of_figures_are_flush_right() -> None:
    rows = [("a", "1,024", "64, not of an image", "exact"), ("b", "–", "none", "bound")]
    table = Table("", ("what", "figures", "long words", "short words"), rows)
    assert table.markdown().splitlines()[1] == "| :-- | --: | :-- | :-- |"


@pytest.mark.slow
def test_tables_are_written_between_the_markers_only(own: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    readme = repository / "README.md"
    readme.write_text("before\n<!-- results:begin -->\nold\n<!-- results:end -->\nafter\n")
    changed = results.write_tables(own, repository)
    assert {path.name for path in changed} == {*(f"{n}.md" for n in results.NAMES), "README.md"}
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert results.table("glance", root=own).markdown() in text
    assert results.write_tables(own, repository) == []
    readme.write_text("<!-- results:begin -->\n")
    with tiny.refusal(r"results:end"):
        results.write_tables(own, repository)


@pytest.mark.slow
def test_a_configuration_begins_with_what_to_expect(own: Path, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    config = tmp_path / "configs" / "tiny.yaml"
    written = "# Why it is so.\n" + yaml.safe_dump(tiny.config_tree())
    config.write_text(written)
    config.with_name("own.yaml").write_bytes(b"name: m\xfcnchen")  # of a user, in Latin-1
    config.with_name(".#own.yaml").symlink_to("an editor's lock")
    run = ledger.runs(own)["tiny"]
    results.write_tables(own, tmp_path)
    assert config.with_name("own.yaml").read_bytes() == b"name: m\xfcnchen"  # as it was
    lines = config.read_text().splitlines()
    told = " ".join(line.removeprefix("#: ") for line in lines if line.startswith("#: "))
    assert told.startswith(f"Expect {run.score.bits_per_dim:.3f} bits/dim ")
    assert "2 steps, 0.296 epochs, seconds, on " in told
    assert config.read_text().endswith(written)
    assert results.write_tables(own, tmp_path) == []
    config.write_text(config.read_text().replace("batch_size: 8", "batch_size: 9"))
    results.write_tables(own, tmp_path)
    assert config.read_text().startswith("#: Recorded with other settings (training.batch_size):")
    shutil.rmtree(run.folder)
    results.write_tables(own, tmp_path)  # a run that is gone leaves no expectation
    assert config.read_text() == written.replace("batch_size: 8", "batch_size: 9")


def test_a_card_says_what_a_run_is(own: Path) -> None:
    run = ledger.runs(own)["tiny"]
    _, front, page = card(run).split("---\n", 2)
    (result,) = yaml.safe_load(front)["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == run.score.bits_per_dim
    score = f"{run.score.bits_per_dim:.4f} ± {run.score.standard_error:.4f}"
    assert f"| test images | 30 | {score} |".replace(" ± ", "\u00a0±\u00a0") in page
    assert "The likelihood is a lower bound" in page
    assert "![Samples at temperature 1](samples.png)" in page
    for name in re.findall(r"\]\(([\w.]+)\)", page):
        assert (run.folder / name).is_file()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    variables: dict[str, Any] = {}
    exec(code.replace("runs()", "runs(root)"), {"root": own}, variables)
    assert variables["log_prob"].shape == (16,)


def test_a_card_without_weights_says_how_to_train_it(own: Path) -> None:
    rewrite(own, "weights", None)
    page = card(ledger.runs(own)["tiny"])
    assert "No weights are kept. Train it: `nvp train results/runs/tiny/config.yaml`" in page
    assert "the weights that are kept" not in page


def test_titles_are_text(own: Path) -> None:
    """A title with marks of Markdown and a line break leaves the rows and columns as they are."""
    title = "a | b\n# <b>c</b> `d` [e](f) \\ *g* {h}"
    rewrite(own, "title", title)
    rewrite(own, "data.name", "a|`b`")
    for name in ("hardware", "runs"):
        table = results.table(name, root=own)
        lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
        assert len(lines) == len(table.rows) + 2
        for line in lines:
            assert len(re.findall(r"(?<!\\)\|", line)) == len(table.header) + 1
        if name != "runs":
            assert "<b>" not in re.sub(r"\\.", "", table.markdown())
            cells = [cell for row in table.plain().rows for cell in row]
            assert any(" ".join(title.split()) in cell for cell in cells)
    page = folded_entries(ledger.runs(own))
    assert text(title) in page
    assert code("a|`b`") in page


@pytest.mark.slow
def test_what_follows_from_the_ledger_is_in_step() -> None:
    """If this fails, run `nvp tables`."""
    for path, content in results.generated(results_root(), REPOSITORY).items():
        assert path.read_text("utf-8") == content, path.relative_to(REPOSITORY)
    readme = (REPOSITORY / "README.md").read_text()
    parts = readme_parts(read_published(), ledger.runs())
    assert all(f"<!-- {name}:begin -->" in readme for name in parts)
