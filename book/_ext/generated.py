"""Sphinx extension: the parts of pages that are made from the source and from the ledger.

They are written before pages are read, so no page carries a copy that could be stale: parts of
pages into book/generated/, and a page for each section of book/api.md into book/api/.
"""

from pathlib import Path

from nvp_book import figures, live, pages, rooms
from sphinx.application import Sphinx

from nvp.ledger.entry import runs

RUN = "binarized-mnist-diagonal-1"  # the run that the page "Run it and reproduce it" makes again


def write(app: Sphinx) -> None:
    """Write all parts for this build."""
    folder = Path(app.srcdir, "book", "generated")
    folder.mkdir(exist_ok=True)
    figures.use_style()
    rooms.plot_rooms().savefig(folder / "rooms.svg", metadata={"Date": None})
    ledger = runs()
    parts = {
        "rooms": rooms.table().markdown(),
        "sheets": pages.sheets(ledger),
        "progress": pages.progress(ledger[RUN], minutes=(10, 30, 130)),
        "entries": pages.folded_entries(ledger),
    }
    for figure in (live.masks, live.plane, live.images, live.completion):
        parts[figure.__name__] = f"```{{raw}} html\n{figure().data}\n```\n"
    reference = Path(app.srcdir, "book", "api")
    reference.mkdir(exist_ok=True)
    overview = reference.with_suffix(".md").read_text()
    for place, texts in ((folder, parts), (reference, pages.reference(overview))):
        for name, text in texts.items():
            (place / f"{name}.md").write_text(text)


def setup(app: Sphinx) -> None:
    """Register the hook."""
    app.connect("builder-inited", write)
