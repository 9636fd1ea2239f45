"""Live figures: plain JavaScript that goes with the page, for the book and for JupyterLab.

A figure is one fragment of HTML: an empty place, and a script that carries its style, its data and
its code, and fetches nothing. The sources are in book/live; the rules and the mathematics stand in
files of their own, without a browser, and the tests compare those with the package.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nvp.errors import NVPError
from nvp.paths import repository_root

if TYPE_CHECKING:
    from IPython.display import HTML

SOURCES = repository_root() / "book" / "live"
# The scripts of each figure, in the order in which they are put together.
FIGURES = {"masks": ("live.js", "receptive.js", "masks.js")}
PAGE = (
    '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    "<title>{title}</title>\n<body>\n{body}\n</body></html>\n"
)


def masks() -> HTML:
    """What a pixel sees, and what sees it: Real NVP's masks, and the layers of the Pixel RNN."""
    return _shown(fragment("masks"))


def fragment(name: str, data: object = None) -> str:
    """The HTML of a figure: its place and its script, in which `data` is the constant DATA.

    Raises `NVPError` for a name that no figure has, and where the sources are not there.
    """
    if name not in FIGURES:
        raise NVPError(f"no live figure {name!r}; there are: {', '.join(FIGURES)}")
    constants: dict[str, Any] = {"STYLE": _source("live.css"), "DATA": data}
    # Inside a script, only "</" would be read as markup.
    lines = [
        f"const {key} = {json.dumps(value, separators=(',', ':'))};".replace("</", "<\\/")
        for key, value in constants.items()
    ]
    script = "\n".join([*lines, *map(_source, FIGURES[name])])
    return (
        f'<div class="nvp-live" data-figure="{name}">This figure needs JavaScript.</div>\n'
        f"<script>\n(() => {{\n{script}\n}})();\n</script>"
    )


def page(name: str, data: object = None) -> str:
    """A whole HTML page with nothing but the figure."""
    return PAGE.format(title=f"Live figure: {name}", body=fragment(name, data))


def _source(name: str) -> str:
    path = SOURCES / name
    if not path.is_file():
        raise NVPError(f"{path} is missing: live figures need a checkout of the repository")
    return path.read_text(encoding="utf-8")


def _shown(html: str) -> HTML:
    from IPython.display import HTML  # only a notebook needs it, and has it

    return HTML(html)
