"""Sphinx extension: no line begins with the comma that follows a formula, or breaks in 3 × 3.

A formula is a box to a browser, which may break a line on either side of it, whatever comes next.
So the two are put into one element, in which nvp.css forbids that.
"""

import re

from docutils import nodes
from sphinx.application import Sphinx


def join(_app: Sphinx, doctree: nodes.document, _name: str) -> None:
    """Put every formula in a line and the punctuation behind it into one inline element.

    Around a × between numbers it puts spaces that do not break. Code is left as it is, since it is
    copied.
    """
    for text in [text for text in doctree.findall(nodes.Text) if " × " in text]:
        if isinstance(text.parent, nodes.literal | nodes.literal_block):  # a block would be grey
            continue
        text.parent.replace(text, nodes.Text(re.sub(r"(?<=\w) × (?=\w)", "\u00a0×\u00a0", text)))
    for formula in list(doctree.findall(nodes.math)):
        parent = formula.parent
        place = parent.index(formula)
        after = parent[place + 1] if place + 1 < len(parent) else None
        if isinstance(after, nodes.Text) and (marks := re.match(r"[.,;:!?)\]’”-]+", after)):
            both = nodes.inline("", "", formula, nodes.Text(marks[0]), classes=["unbroken"])
            parent[place : place + 2] = [both, nodes.Text(after[marks.end() :])]


def setup(app: Sphinx) -> None:
    """Register the hook."""
    app.connect("doctree-resolved", join)
