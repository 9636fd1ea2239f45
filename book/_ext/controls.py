"""Sphinx extension: what folds, and the rows of tables, are read aloud by the words beside them.

The page that is open is called the current one, and buttons keep the focus of the keyboard. The
theme names every control that folds "Toggle hidden content", and those of a list of pages nothing.
"""

from pathlib import Path

from sphinx.application import Sphinx

# In which files what stands for what.
NAMES = {
    "*.html": {
        '<summary aria-label="Toggle hidden content">': "<summary>",
        # The first cell of a row names the row, and is read with each of its cells.
        '<tr class="row-even"><td': '<tr class="row-even"><td role="rowheader"',
        '<tr class="row-odd"><td': '<tr class="row-odd"><td role="rowheader"',
        # An empty one continues the row above, and names nothing.
        ' role="rowheader" class="text-left"><p></p></td>': ' class="text-left"><p></p></td>',
        # A role that is withdrawn, and which a list may not hold.
        'role="doc-biblioentry"': 'role="listitem"',
        # The space before the link is not underlined with it.
        "Solution to<a class": "Solution to <a class",
        '<summary><span class="toctree-toggle"': (
            '<summary aria-label="pages of this part"><span class="toctree-toggle"'
        ),
        '<a class="current reference internal"': (
            '<a aria-current="page" class="current reference internal"'
        ),
    },
    # A tooltip leaves with the mouse's click; a key keeps its place.
    "sphinx-book-theme.js": {"(()=>{t.blur()})": "(e=>{e.detail&&t.blur()})"},
    # Code that scrolls is a stop of the Tab key. In a solution it has a width once it is unfolded.
    "pydata-sphinx-theme.js": {
        'window.addEventListener("resize",t)': '["resize","click"].map(e=>addEventListener(e,t))'
    },
    "togglebutton.js": {
        "Toggle hidden content": "${item.querySelector('.admonition-title').textContent.trim()}",
        # A link in a title leads away. The script would fold what was folded or unfolded last.
        "console.log(`[togglebutton]: Couldn't find button for ${click.target}`);": "return;",
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


def setup(app: Sphinx) -> None:
    """Register the hook."""
    app.connect("build-finished", name_controls)
