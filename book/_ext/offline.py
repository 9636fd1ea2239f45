"""Sphinx extension: pages that need no network.

MathJax is copied from the installed package django-static-mathjax (MathJax 3.2.2, Apache-2.0)
next to the pages, where `mathjax_path` of _config.yml looks for it. The scripts of
sphinx-thebe, which Jupyter Book always loads, are left out. The search shows no excerpts of
pages that come from a disk, since it would fetch them.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.fileutil import copy_asset

# What goes where. tex-svg.js carries its own glyphs, and fetches the extensions by need.
MATHJAX = {"LICENSE": "", "es5/tex-svg.js": "", "es5/input/tex/extensions": "input/tex/extensions"}
SEARCH = 'if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;'
# Settings that ask for parts of MathJax that are not copied: it would wait for them for ever.
MENU = 'try { localStorage.removeItem("MathJax-Menu-Settings"); } catch {}'


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Put MathJax at mathjax/ of the built book, where `mathjax_path` looks for it."""
    if error or app.builder.format != "html":
        return
    package = Path(str(files("mathjax"))) / "static" / "mathjax"
    for name, folder in MATHJAX.items():
        copy_asset(package / name, Path(app.outdir, "mathjax", folder))


def leave_out_thebe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Drop the scripts for live kernels: they are for unpkg.com, and declared twice."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script.filename} {script.attributes.get('body')}"
    ]


def setup(app: Sphinx) -> None:
    """Register the hooks, and the lines for the search and for MathJax."""
    app.add_js_file(None, body=SEARCH)
    app.add_js_file(None, body=MENU)
    app.connect("html-page-context", leave_out_thebe, priority=900)
    app.connect("build-finished", copy_mathjax)
