"""Sphinx extension: the directive `live-figure`, whose argument names a figure of nvp_book.live.

The figure is put together when the page is built, so no page carries a copy that could be stale.
"""

from docutils import nodes
from nvp_book import live
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from nvp.errors import NVPError


class LiveFigure(SphinxDirective):
    """Place and script of one live figure, in the page as they are."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        try:
            html = live.fragment(self.arguments[0])
        except NVPError as error:
            raise self.error(str(error)) from error
        return [nodes.raw("", html, format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("live-figure", LiveFigure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
