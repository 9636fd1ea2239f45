"""The rooms of the package and who imports whom: the picture and the table of "Architecture".

Both are made from the source as it is: the imports that grimp finds, and the order of the rooms
that import-linter checks (`tool.importlinter` of pyproject.toml).
"""

import ast
import tomllib
from itertools import pairwise
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

# The heights of a floor and of a box, the width of the picture, and the middle of each box.
# Nothing stands above a room that a long arrow leads to.
FLOOR, HEIGHT, WIDE = 1.8, 0.95, 24.6
ACROSS = {
    **{BOOK: 1.5, "cli": 4.4, "testing": 11.5},
    **dict.fromkeys(("tables", "ledger", "training", "runs", "data", "config", "baselines"), 2),
    **{"flows": 5.2, "autoregressive": 8.9, "likelihood": 13.1, "model": 7, "devices": 16.3},
    **{"progress": 18.3, "files": 21, "paths": 23.4, "errors": 13},
}


def floors() -> list[list[str]]:
    """The rooms, floor by floor from the top, in the order that import-linter checks.

    A room is a sub-package of `nvp`, or one of the modules at its top.
    """
    project = tomllib.loads((repository_root() / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["type"] == "layers")
    return [layer.split(" | ") for layer in layers]


def arrows() -> set[Arrow]:
    """Who imports from whom, without the arrows that follow from others."""
    import networkx as nx  # which takes half a second

    graph = grimp.build_graph("nvp", BOOK, cache_dir=None)
    every = {
        (_room_of(module), _room_of(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }
    rooms = nx.DiGraph((one, other) for one, other in every if one != other and one and other)
    return set(nx.transitive_reduction(rooms).edges)


def _room_of(module: str) -> str:
    """The room of a module; of `nvp` itself, which only gathers names, an empty one."""
    package, _, rest = module.partition(".")
    return package if package == BOOK else rest.split(".")[0]


def plot_rooms() -> Figure:
    """The rooms as boxes, floor upon floor, with the arrows between them."""
    first, *rest = floors()
    rooms = [[BOOK, *first], *rest]
    levels = [FLOOR * (len(rooms) - floor - 0.5) for floor in range(len(rooms))]
    places = {
        name: (ACROSS[name], y) for y, names in zip(levels, rooms, strict=True) for name in names
    }
    axes = diagram.sheet(WIDE, FLOOR * len(rooms))
    for one, other in sorted(arrows()):
        (_, high), (x, low) = places[one], places[other]
        way = [(x, y) for y in levels if low < y < high]  # past the floors between, above its end
        _plot_arrow(axes, [places[one], *way, places[other]])
    for name, place in places.items():
        fill = figures.PALE if name == BOOK else "white"
        size = (1.0 + 0.22 * len(name), HEIGHT)
        diagram.box(axes, place, size, name, fill=fill, fontsize=9)
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    return figure


def _plot_arrow(axes: Axes, points: list[tuple[float, float]]) -> None:
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
    rows: list[tuple[str, ...]] = []
    folder = Path(nvp.__file__).parent
    for name in (name for floor in floors() for name in floor):
        inside = sorted((folder / name).rglob("*.py")) or [folder / f"{name}.py"]
        first = folder / name / "__init__.py" if len(inside) > 1 else inside[0]
        docstring = ast.get_docstring(ast.parse(first.read_text())) or ""
        purpose = " ".join(docstring.split("\n\n")[0].split()).replace("|", r"\|")
        lines = sum(len(path.read_text().splitlines()) for path in inside)
        modules = sum(path.name != "__init__.py" for path in inside)
        rows.append((f"`{name}`", purpose, str(modules), f"{lines:,}"))
    return Table("", ("room", "what it holds", "modules", "lines"), rows)
