"""Sphinx extension: pages that need no network.

MathJax is copied from the installed package django-static-mathjax (MathJax 3.2.2, Apache-2.0)
next to the pages, where `mathjax_path` of _config.yml looks for it. The scripts of
sphinx-thebe, which Jupyter Book always loads, are left out. The search shows no excerpts of
pages that come from a disk, since it would fetch them.
"""

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

# tex-svg.js carries its own glyphs; the extensions are what it fetches by need, beside itself.
MATHJAX = ("LICENSE", "es5/tex-svg.js", "es5/input/tex/extensions")
SEARCH = 'if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;'
# Settings that ask for parts of MathJax that are not copied: it would wait for them for ever.
MENU = 'try { localStorage.removeItem("MathJax-Menu-Settings"); } catch {}'


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Put MathJax at mathjax/ of the built book, where `mathjax_path` looks for it."""
    if error or app.builder.format != "html":
        return
    package = Path(str(files("mathjax"))) / "static" / "mathjax"
    for name in MATHJAX:
        source = package / name
        target = Path(app.outdir, "mathjax", name.removeprefix("es5/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)


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
