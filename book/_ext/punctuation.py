"""Sphinx extension: no line begins with the comma that follows a formula.

A formula is a box to a browser, which may break a line on either side of it, whatever comes next;
only a word joiner (U+2060) between the two forbids that.
"""

import re

from docutils import nodes
from sphinx.application import Sphinx

WORD_JOINER = "\u2060"


def join(_app: Sphinx, doctree: nodes.document, _name: str) -> None:
    """Put a word joiner between every formula in a line and the punctuation behind it."""
    for formula in list(doctree.findall(nodes.math)):
        place = formula.parent.index(formula) + 1
        after = formula.parent[place] if place < len(formula.parent) else None
        if isinstance(after, nodes.Text) and re.match(r"[.,;:!?)\]’”-]", after):
            formula.parent.replace(after, nodes.Text(WORD_JOINER + after))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the hook."""
    app.connect("doctree-resolved", join)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
