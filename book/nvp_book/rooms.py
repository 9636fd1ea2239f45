"""The rooms of the package and who imports whom: the picture and the table of "Architecture".

Both are made from the source as it is: the imports that grimp finds, and the order of the rooms
that import-linter checks (`tool.importlinter` of pyproject.toml).
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grimp
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path as Curve

import nvp
from nvp.paths import repository_root
from nvp.tables.cells import Table
from nvp_book import figures
from nvp_book.figures import diagram

BOOK = "nvp_book"
Arrow = tuple[str, str]  # the room that imports, and the one that it imports from
Place = tuple[float, float, float]  # of a box: its middle, x and y, and its width

# Of the drawing: width of the page, and height of a floor, height of a box, gap between boxes.
WIDTH, FLOOR, HEIGHT, GAP = 20.0, 1.6, 0.95, 0.5


@dataclass(frozen=True)
class Room:
    """A sub-package of `nvp`, or one of the modules at its top."""

    name: str
    purpose: str  # the first line of its docstring
    modules: int
    lines: int


def read_room(name: str) -> Room:
    """The room `name` as its source has it."""
    folder = Path(nvp.__file__).parent
    inside = sorted((folder / name).rglob("*.py")) or [folder / f"{name}.py"]
    first = folder / name / "__init__.py" if len(inside) > 1 else inside[0]
    docstring = ast.get_docstring(ast.parse(first.read_text())) or ""
    lines = sum(len(path.read_text().splitlines()) for path in inside)
    modules = sum(path.name != "__init__.py" for path in inside)
    return Room(name, " ".join(docstring.split("\n\n")[0].split()), modules, lines)


def floors() -> list[list[Room]]:
    """The rooms, floor by floor from the top, in the order that import-linter checks."""
    project = tomllib.loads((repository_root() / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["type"] == "layers")
    here = {path.stem for path in Path(nvp.__file__).parent.iterdir()}
    named = [[name.strip("() ") for name in layer.split("|")] for layer in layers]
    return [[read_room(name) for name in floor if name in here] for floor in named]


def arrows() -> set[Arrow]:
    """Who imports from whom, without the arrows that follow from others."""
    graph = grimp.build_graph("nvp", BOOK, cache_dir=None)
    every = {
        (_room_of(module), _room_of(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }
    return reduced({(one, other) for one, other in every if one != other and one and other})


def _room_of(module: str) -> str:
    """The room of a module; of `nvp` itself, which only gathers names, an empty one."""
    package, _, rest = module.partition(".")
    return package if package == BOOK else rest.split(".")[0]


def reduced(arrows: set[Arrow]) -> set[Arrow]:
    """The arrows without those that follow from others. `ValueError` names a circle."""
    beyond: dict[str, set[str]] = {}  # all that can be reached from a room
    for room in {one for one, _ in arrows}:
        reached, edge = set[str](), {room}
        while edge := {other for one, other in arrows if one in edge} - reached:
            reached |= edge
        beyond[room] = reached
    if circle := sorted(room for room, reached in beyond.items() if room in reached):
        raise ValueError(f"rooms import each other in a circle: {', '.join(circle)}")
    return {
        (one, other)
        for one, other in arrows
        if not any(other in beyond.get(step, ()) for start, step in arrows if start == one)
    }


def plot_rooms() -> Figure:
    """The rooms as boxes, floor upon floor, with the arrows between them."""
    first, *rest = [[room.name for room in floor] for floor in floors()]
    plan = [[BOOK, *first], *rest]
    axes = diagram.sheet(WIDTH, FLOOR * len(plan))
    floor_of = {name: floor for floor, names in enumerate(plan) for name in names}
    places = dict(_places(plan))
    for name, (x, y, width) in places.items():
        fill = figures.PALE if name == BOOK else "white"
        diagram.box(axes, (x, y), (width, HEIGHT), name, fill=fill, fontsize=9.5)
    lanes = {-1: 0, 1: 0}  # how many arrows go past other floors, on the left and on the right
    for one, other in sorted(arrows(), key=lambda arrow: (floor_of[arrow[1]], arrow)):
        floors_between = range(floor_of[one] + 1, floor_of[other])
        between = [places[name] for name, floor in floor_of.items() if floor in floors_between]
        if between:
            side = -1 if places[other][0] < WIDTH / 2 - 0.1 else 1
            lanes[side] += 1
            _go_around(axes, places[one], places[other], between, side, lanes[side])
        else:
            _go_down(axes, places[one], places[other])
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    return figure


def _places(plan: list[list[str]]) -> Iterator[tuple[str, Place]]:
    """A place for each room; every floor is centred."""
    for floor, names in enumerate(plan):
        widths = [1.2 + 0.2 * len(name) for name in names]
        x = (WIDTH - sum(widths) - GAP * (len(names) - 1)) / 2
        for name, width in zip(names, widths, strict=True):
            yield name, (x + width / 2, FLOOR * (len(plan) - floor - 0.5), width)
            x += width + GAP


def _go_down(axes: Axes, one: Place, other: Place) -> None:
    """To the floor below."""
    lean = max(-0.4, min(0.4, (other[0] - one[0]) / 10)) * one[2]
    start, end = (one[0] + lean, one[1] - HEIGHT / 2), (other[0], other[1] + HEIGHT / 2)
    diagram.arrow(axes, start, end, colour=figures.GREY)


def _go_around(
    axes: Axes, one: Place, other: Place, between: list[Place], side: int, lane: int
) -> None:
    """Past the boxes `between`, on the left (`side` -1) or on the right (1)."""
    start, end = ((x + side * width / 2, y) for x, y, width in (one, other))
    widest = max(side * (x - WIDTH / 2) + width / 2 for x, _, width in [one, other, *between])
    # A cubic curve reaches three quarters of the way to its two handles.
    handle = WIDTH / 2 + side * (widest + 0.9 + 0.35 * lane) * 1.15
    path = Curve(
        [start, (handle, start[1]), (handle, end[1]), end],
        [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4],
    )
    axes.add_patch(
        FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=10, color=figures.GREY, lw=1.2)
    )


def table() -> Table:
    """A row for each room, from the top: what it holds, and how large it is."""
    rows: list[tuple[str, ...]] = [
        (f"`{room.name}`", room.purpose.replace("|", r"\|"), str(room.modules), f"{room.lines:,}")
        for floor in floors()
        for room in floor
    ]
    return Table("", ("room", "what it holds", "modules", "lines"), rows)
