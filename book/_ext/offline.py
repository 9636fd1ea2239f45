"""Sphinx extension: equations that need no network.

MathJax is copied from the installed package django-static-mathjax (MathJax 3.2.2, Apache-2.0)
next to the pages; _config.yml points `mathjax_path` there.
"""

import shutil
from importlib.resources import files
from pathlib import Path

from sphinx.application import Sphinx

# tex-svg.js carries its own glyphs; the extensions are what it fetches by need, beside itself.
MATHJAX = ("LICENSE", "es5/tex-svg.js", "es5/input/tex/extensions")


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


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the hook."""
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
