"""Sphinx extension: the controls that fold and unfold are read aloud by the words that they show.

The theme gives folded cells one hidden name, whatever stands on them, and a list of pages none.
"""

from pathlib import Path

from sphinx.application import Sphinx

NAMES = {
    '<summary aria-label="Toggle hidden content">': "<summary>",
    '<summary><span class="toctree-toggle"': (
        '<summary aria-label="pages of this part"><span class="toctree-toggle"'
    ),
}


def name_controls(app: Sphinx, error: Exception | None) -> None:
    """Put the names into every page, once all are written."""
    if error or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text()
        for old, new in NAMES.items():
            text = text.replace(old, new)
        page.write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the hook."""
    app.connect("build-finished", name_controls)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
