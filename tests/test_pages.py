"""Parts of pages that follow from the ledger, and the picture of the rooms from the source."""

import re
from itertools import chain, combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from nvp_book import figures, rooms
from nvp_book.figures.densities import show_map
from nvp_book.figures.pixels import undrawn
from nvp_book.pages import COLOUR, folded_entries, progress, sheets

import nvp
from nvp.ledger.entry import runs
from nvp.paths import repository_root
from nvp.tables.build import NAMES

ROOT = repository_root()


def test_every_table_stands_in_the_book() -> None:
    sources = chain(*(ROOT.glob(each) for each in ("book/*.md", "notebooks/*.py")))
    pages = "".join(page.read_text() for page in sources)
    assert [name for name in NAMES if f"results/tables/{name}.md" not in pages] == []


def test_every_chapter_is_in_the_book() -> None:
    listed = re.findall(r"- file: (notebooks/.*)", (ROOT / "_toc.yml").read_text())
    chapters = sorted(ROOT.glob("notebooks/[0-9]*.py"))
    assert listed == [f"notebooks/{source.stem}" for source in chapters]
    before, _, _ = (ROOT / "_toc.yml").read_text().partition("caption: Appendices")
    summary = (ROOT / "book/summary.md").read_text()
    for source in chapters[: before.count("- file: notebooks/")]:
        label = re.findall(r"^# \((\S+)\)=", source.read_text(), re.M)[0]
        assert f"{{ref}}`{label}`" in summary, f"book/summary.md leaves out {source.stem}"


def test_samples_in_colour_stand_beside_real_images() -> None:
    pictured = runs()["quickstart"]
    shown = sheets(dict.fromkeys(COLOUR, pictured))
    assert shown.index("quickstart/real.png") < shown.index("quickstart/samples.png")
    assert shown.count("quickstart/samples.png") == len(COLOUR)


def test_the_page_prints_what_training_printed() -> None:
    run = runs()["binarized-mnist-diagonal-1"]
    shown = progress(run, minutes=(0, 1000))
    assert shown.count(f"{run.name}: step") == 2
    assert f"step {run.record.steps} " in shown
    hours, minutes = divmod(round(run.record.minutes), 60)
    assert f"{hours}:{minutes:02}:00 gone, 0:00:00 to go" in " ".join(shown.split())


def test_every_entry_is_folded_under_its_title_with_its_commits_and_files() -> None:
    _, *parts = folded_entries(runs()).split(":::{dropdown} ")
    for part, (name, run) in zip(parts, runs().items(), strict=True):
        assert part.splitlines()[1].split("`")[1] == name
        assert part.startswith(run.record.title)
        (trained_by,) = re.findall(r"^\| trained by \| (.*) \|$", part, re.M)
        assert all(leg.commit[:9] in trained_by for leg in run.record.legs if leg.commit)
        drawn = {path.name for path in run.folder.glob("*.png")}
        assert drawn == set(re.findall(r"\]\((\w+\.png)\)", run.files.card.read_text()))
        paths = re.findall(r"<\.\./(results/\S+)>", part)
        assert len(paths) == 3
        assert all((ROOT / path).is_file() for path in paths)
        assert f"`nvp train results/runs/{name}/config.yaml`" in part


def test_every_room_is_drawn_and_listed_once() -> None:
    """If boxes overlap, move a room of that floor in `ACROSS` of nvp_book/rooms.py."""
    names = [name for floor in rooms.floors() for name in floor]
    package = Path(nvp.__file__).parent
    here = {path.stem for path in package.glob("*.py") if path.stem != "__init__"}
    here |= {path.parent.name for path in package.glob("*/__init__.py")}
    assert sorted(names) == sorted(here)
    figures.use_style()
    (axes,) = rooms.plot_rooms().axes
    assert sorted(text.get_text() for text in axes.texts) == sorted([*names, rooms.BOOK])
    boxes = [patch.get_extents() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert len(axes.patches) == len(names) + 1 + len(rooms.arrows())
    rows = rooms.table().rows
    assert [row[0] for row in rows] == [f"`{name}`" for name in names]
    assert all(purpose and lines != "0" for _, purpose, _, lines in rows)


@pytest.mark.parametrize(
    ("drawn", "kind"),
    [(np.eye(2), "image/svg+xml"), (np.eye(2, dtype=np.uint8), "image/png")],
    ids=["a drawing", "an image"],
)
def test_a_figure_is_shown_in_one_format(drawn: np.ndarray, kind: str) -> None:
    shell = SimpleNamespace(display_formatter=DisplayFormatter())
    figures.choose_formats(shell)
    figure = Figure()
    figure.subplots().imshow(drawn)
    shown, _ = shell.display_formatter.format(figure)
    assert set(shown) == {"text/plain", kind}


def test_a_heavy_drawing_is_shown_as_dots_of_its_size() -> None:
    figure = Figure(figsize=(5, 2))
    figure.subplots().scatter(*np.random.default_rng(0).random((2, 5000)))
    shown, about = figures.shown(figure)
    assert set(shown) == {"image/png"}
    assert 4 * 96 < about["image/png"]["width"] < 6 * 96  # CSS pixels, with its margins


def test_a_map_has_its_first_coordinate_across() -> None:
    shown = show_map(Figure().subplots(), np.array([[0, 1], [2, 3]]), 0, 2)
    assert (shown.get_array().tolist(), shown.origin) == ([[0, 2], [1, 3]], "lower")


def test_a_quarter_of_the_pixels_is_drawn() -> None:
    images = undrawn(torch.zeros(1, 3, 4, 5, dtype=torch.uint8), 0.25)
    assert (images == 0).all(dim=1).flatten().nonzero().flatten().tolist() == list(range(5))


def test_arrows_point_down_and_none_follows_from_others() -> None:
    floor_of = {name: i for i, floor in enumerate(rooms.floors(), start=1) for name in floor}
    floor_of[rooms.BOOK] = 0
    arrows = rooms.arrows()
    assert all(floor_of[one] < floor_of[other] for one, other in arrows)
    assert ("tables", "ledger") in arrows
    assert ("cli", "errors") not in arrows
