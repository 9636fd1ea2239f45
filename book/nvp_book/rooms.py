"""The rooms of the package and who imports whom: the picture and the table of "Architecture".

Both are made from the source as it is: the imports that grimp finds, and the order of the rooms
that import-linter checks (`tool.importlinter` of pyproject.toml).
"""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, pairwise
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

# Of the drawing: the height of a floor, the height of a box, and the gap between boxes.
FLOOR, HEIGHT, GAP = 1.8, 0.95, 0.5


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
    ways = {arrow: [arrow[0]] for arrow in sorted(arrows())}
    rooms = [[BOOK, *first], *rest]
    plan = _with_passages(rooms, ways)
    middles = _middles(plan, ways)
    left = min(x - _width(name) / 2 for name, x in middles.items()) - GAP
    right = max(x + _width(name) / 2 for name, x in middles.items()) + GAP
    axes = diagram.sheet(right - left, FLOOR * len(plan))
    places = {
        name: (middles[name] - left, FLOOR * (len(plan) - floor - 0.5))
        for floor, names in enumerate(plan)
        for name in names
    }
    for way in ways.values():
        _draw_arrow(axes, [places[name] for name in way])
    for name in chain(*rooms):
        fill = figures.PALE if name == BOOK else "white"
        diagram.box(axes, places[name], (_width(name), HEIGHT), name, fill=fill, fontsize=9)
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    return figure


def _with_passages(plan: list[list[str]], ways: dict[Arrow, list[str]]) -> list[list[str]]:
    """The floors with a passage wherever an arrow goes past one; `ways` gets what each arrow meets.

    Names of passages are those of the arrow and of the floor. Each floor is sorted by where its
    neighbours are, so that few arrows cross.
    """
    floor_of = {name: floor for floor, names in enumerate(plan) for name in names}
    plan = [list(names) for names in plan]
    for arrow, way in ways.items():
        for floor in range(floor_of[arrow[0]] + 1, floor_of[arrow[1]]):
            way.append(f"{arrow[0]} {arrow[1]} {floor}")
            plan[floor].append(way[-1])
        way.append(arrow[1])
    near = _neighbours(ways)
    for _ in range(4):
        for i in (*range(1, len(plan)), *range(len(plan) - 2, -1, -1)):
            order = {name: place / len(names) for names in plan for place, name in enumerate(names)}
            plan[i].sort(key=lambda name: _mean([order[each] for each in near[name]], order[name]))
    return plan


def _middles(plan: list[list[str]], ways: dict[Arrow, list[str]]) -> dict[str, float]:
    """Where the middle of each box or passage is: near its neighbours, and clear of the next."""
    near = _neighbours(ways)
    middles = {name: float(2 * place) for names in plan for place, name in enumerate(names)}
    for _ in range(200):
        for names in plan:
            wanted = [_mean([middles[near_by] for near_by in near[name]], 0) for name in names]
            steps = [(_width(a) + _width(b)) / 2 + GAP for a, b in pairwise(names)]
            rightwards, leftwards = list(wanted), list(wanted)
            for i, step in enumerate(steps):
                rightwards[i + 1] = max(rightwards[i + 1], rightwards[i] + step)
            for i, step in reversed(list(enumerate(steps))):
                leftwards[i] = min(leftwards[i], leftwards[i + 1] - step)
            for name, one, other in zip(names, rightwards, leftwards, strict=True):
                middles[name] = (one + other) / 2
    return middles


def _neighbours(ways: dict[Arrow, list[str]]) -> dict[str, list[str]]:
    """The names that a way leads to or comes from, one floor up or down."""
    near: dict[str, list[str]] = defaultdict(list)
    for way in ways.values():
        for one, other in pairwise(way):
            near[one].append(other)
            near[other].append(one)
    return near


def _width(name: str) -> float:
    """Of a box or of a passage, which has spaces in its name."""
    return 0.3 if " " in name else 1.0 + 0.22 * len(name)


def _mean(values: list[float], otherwise: float) -> float:
    """The mean, or something else of no values."""
    return sum(values) / len(values) if values else otherwise


def _draw_arrow(axes: Axes, points: list[tuple[float, float]]) -> None:
    """From the foot of the first box to the head of the last, through the passages between."""
    (x, y), *between, (end, top) = points
    points = [(x, y - HEIGHT / 2), *between, (end, top + HEIGHT / 2)]
    corners, codes = [points[0]], [Curve.MOVETO]
    for (x, y), (end, top) in pairwise(points):
        corners += [(x, (y + top) / 2), (end, (y + top) / 2), (end, top)]
        codes += [Curve.CURVE4] * 3
    path = Curve(corners, codes)
    axes.add_patch(
        FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=9, color=figures.GREY, lw=1.1)
    )


def table() -> Table:
    """A row for each room, from the top: what it holds, and how large it is."""
    rows: list[tuple[str, ...]] = [
        (f"`{room.name}`", room.purpose.replace("|", r"\|"), str(room.modules), f"{room.lines:,}")
        for floor in floors()
        for room in floor
    ]
    return Table("", ("room", "what it holds", "modules", "lines"), rows)
