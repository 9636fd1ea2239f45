"""Sphinx extension: citations without a search through all installed packages for each of them."""

from functools import cache

import pybtex.plugin
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Keep what sphinxcontrib-bibtex asks for at every citation: its style."""
    pybtex.plugin.find_plugin = cache(pybtex.plugin.find_plugin)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
