"""Sphinx extension: the controls that fold and unfold are read aloud by the words beside them.

The theme gives them one hidden name, "Toggle hidden content", and those of a list of pages none.
"""

from pathlib import Path

from sphinx.application import Sphinx

# In which files what stands for what.
NAMES = {
    "*.html": {
        '<summary aria-label="Toggle hidden content">': "<summary>",
        # The space before the link is not underlined with it.
        "Solution to<a class": "Solution to <a class",
        '<summary><span class="toctree-toggle"': (
            '<summary aria-label="pages of this part"><span class="toctree-toggle"'
        ),
    },
    "togglebutton.js": {
        "Toggle hidden content": "${item.querySelector('.admonition-title').textContent.trim()}"
    },
}


def name_controls(app: Sphinx, error: Exception | None) -> None:
    """Put the names into every page, once all are written."""
    if error or app.builder.format != "html":
        return
    for pattern, names in NAMES.items():
        for path in Path(app.outdir).rglob(pattern):
            text = path.read_text()
            for old, new in names.items():
                text = text.replace(old, new)
            path.write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the hook."""
    app.connect("build-finished", name_controls)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
