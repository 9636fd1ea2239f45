"""Sphinx extension: a page is printed in light colours, also where the screen is dark.

The theme would print pale code and formulas on white, or black headings on black.
"""

from sphinx.application import Sphinx

LIGHT = """(() => {
  const { dataset } = document.documentElement;
  let theme;
  addEventListener("beforeprint", () => { theme = dataset.theme; dataset.theme = "light"; });
  addEventListener("afterprint", () => { dataset.theme = theme; });
})();"""


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the script."""
    app.add_js_file(None, body=LIGHT)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
