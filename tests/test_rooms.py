"""The picture of the rooms on the page "Architecture" shows what the source has."""

from __future__ import annotations

from pathlib import Path

from nvp_book import figures, rooms

import nvp


def test_every_room_is_drawn_and_listed_once() -> None:
    names = [room.name for floor in rooms.floors() for room in floor]
    package = Path(nvp.__file__).parent
    here = {path.stem for path in package.glob("*.py") if path.stem != "__init__"}
    here |= {path.parent.name for path in package.glob("*/__init__.py")}
    assert sorted(names) == sorted(here)
    figures.use_style()
    (axes,) = rooms.plot_rooms().axes
    assert sorted(text.get_text() for text in axes.texts) == sorted([*names, rooms.BOOK])
    assert len(axes.patches) == len(names) + 1 + len(rooms.arrows())
    assert [row[0] for row in rooms.table().rows] == [f"`{name}`" for name in names]
    assert all(room.purpose and room.lines for floor in rooms.floors() for room in floor)


def test_arrows_point_down_and_none_follows_from_others() -> None:
    floor_of = {room.name: i for i, floor in enumerate(rooms.floors(), start=1) for room in floor}
    floor_of[rooms.BOOK] = 0
    arrows = rooms.arrows()
    assert all(floor_of[one] < floor_of[other] for one, other in arrows)
    assert ("tables", "ledger") in arrows
    assert ("cli", "errors") not in arrows
