"""Sphinx extension: the picture and the table of the rooms of the package, from its source.

They are written next to the pages before these are read, so no page carries a copy that could be
stale: book/generated/rooms.svg and book/generated/rooms.md.
"""

from pathlib import Path

from nvp_book import figures, rooms
from sphinx.application import Sphinx


def write(app: Sphinx) -> None:
    """Write both for this build."""
    folder = Path(app.srcdir, "book", "generated")
    folder.mkdir(exist_ok=True)
    figures.use_style()
    rooms.plot_rooms().savefig(folder / "rooms.svg", metadata={"Date": None})
    (folder / "rooms.md").write_text(rooms.table().markdown())


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the hook."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
