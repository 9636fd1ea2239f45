"""The book's own Sphinx extensions: no module is forgotten, and plain docstrings become pages."""

import doctest
import importlib
import inspect
import pkgutil
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from docutils import nodes
from docutils.utils import new_document
from nvp_book import pages

import nvp
from nvp.config import DataConfig, Optimiser
from nvp.data.importing.source import Picture
from nvp.paths import repository_root

BOOK = repository_root() / "book"
sys.path.insert(0, str(BOOK / "_ext"))
import docstrings  # noqa: E402
import punctuation  # noqa: E402
import repository  # noqa: E402

PAGES = pages.reference((BOOK / "api.md").read_text())
LISTED = [name for page in PAGES.values() for name in re.findall(r"automodule:: (\S+)", page)]
MODULES = {
    found.name
    for found in pkgutil.walk_packages(nvp.__path__, "nvp.")
    if not found.ispkg and not found.name.startswith("nvp.cli")
}


def rst(text: str, module: str = "nvp.flows.coupling") -> str:
    """A docstring as the pages have it."""
    return "\n".join(docstrings.restructured(inspect.cleandoc(text).splitlines(), module))


def test_every_module_has_its_place_and_only_one() -> None:
    """If this fails for a new module, add it to book/api.md."""
    assert sorted(LISTED) == sorted(MODULES)
    assert docstrings.MODULES == LISTED
    assert all(importlib.import_module(name).__doc__ for name in LISTED)


def test_the_pages_are_in_the_book() -> None:
    toc = yaml.safe_load((repository_root() / "_toc.yml").read_text())
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    (api,) = (chapter for chapter in chapters if chapter["file"] == "book/api")
    assert [each["file"] for each in api["sections"]] == [f"book/api/{name}" for name in PAGES]


def test_what_can_be_imported_from_the_package_itself_is_named() -> None:
    overview = (BOOK / "api.md").read_text()
    assert all(f"`{name} <nvp." in overview for name in nvp.__all__ if not name.endswith("Config"))


def test_examples_in_docstrings_run() -> None:
    results = {name: doctest.testmod(importlib.import_module(name)) for name in LISTED}
    assert sum(result.failed for result in results.values()) == 0
    with_examples = {name for name, result in results.items() if result.attempted}
    assert {"nvp.autoregressive.pixelrnn", "nvp.flows.realnvp"} <= with_examples


def test_marks_are_text_and_code_is_code() -> None:
    assert rst("log |det df/dx|, *given, alpha_") == "log \\|det df/dx\\|, \\*given, alpha\\_\n"
    assert rst("x -> z, `f -> g`") == "x → z, ``f -> g``\n"
    assert rst("`net` maps |x|") == "``net`` maps \\|x\\|\n"
    with pytest.raises(ValueError, match=r"nvp\.flows\.coupling has an odd number of backticks"):
        rst("one `tick")


def test_names_of_the_pages_are_links() -> None:
    link = ":py:obj:`AffineOrder <nvp.flows.coupling.AffineOrder>`"
    text = "`AffineOrder` and `nvp.training.loop`"
    assert rst(text) == f"{link} and :py:mod:`nvp.training.loop`\n"
    found = ":py:obj:`nvp.model.labels.Labelled <nvp.model.labels.Labelled>`"
    assert rst("`nvp.model.labels.Labelled`s") == f"{found}\\ s\n"
    name = "nvp.model.labels.nothing"
    assert rst(f"`{name}` `Path`", "nvp.data.sets") == f"``{name}`` ``Path``\n"


def test_lists_examples_and_literal_text() -> None:
    assert rst("* a\n* b,\n  c*d") == "* a\n* b, c\\*d\n"
    assert rst(">>> a = b*c\n... | d") == ">>> a = b*c\n... | d\n"
    literal = "    model:\n      width: 8\n\nso."
    assert rst(f"As in\n\n{literal}") == f"As in\n\n::\n\n{literal}\n"


def test_fields_stand_as_in_the_source() -> None:
    directive, _, _, _, first, *_, last = docstrings.fields(DataConfig)
    assert directive == ".. code-block:: python"
    assert first.startswith("    name: str  # of a set, or a folder of .npy files")
    assert last.startswith("    limit: int | None = Field(default=None, ge=1)  # use only")
    assert '    ADAM = "adam"  # Real NVP' in docstrings.fields(Optimiser)
    assert docstrings.fields(Picture)[-1] == "    label: int | np.ndarray | None = None"
    assert docstrings.skip_member(None, "attribute", "label", Picture.label, False, None)
    assert docstrings.fields(nvp.RealNVP) == []


def test_buttons_follow_from_the_address_of_the_repository() -> None:
    config: Any = SimpleNamespace(html_theme_options={"repository_url": ""})
    repository.add_buttons(None, config)
    assert config.html_theme_options == {"repository_url": ""}
    config.html_theme_options["repository_url"] = "https://github.com/someone/nvp"
    repository.add_buttons(None, config)
    assert config.html_theme_options["use_repository_button"]
    assert "binderhub_url" in config.html_theme_options["launch_buttons"]


def test_punctuation_stays_with_the_formula_before_it() -> None:
    paragraph = nodes.paragraph()
    for text in (", so", " and", ". Then"):
        paragraph += [nodes.math(text="x"), nodes.Text(text)]
    paragraph += nodes.math(text="last")
    document = new_document("page")
    document += paragraph
    punctuation.join(None, document, "page")
    kinds = [type(part).__name__ for part in paragraph]
    assert kinds == ["inline", "Text", "math", "Text", "inline", "Text", "math"]
    assert [paragraph[i].astext() for i in (0, 1, 4, 5)] == ["x,", " so", "x.", " Then"]


def test_a_product_of_sides_stays_on_one_line_and_code_is_left_as_it_is() -> None:
    document = new_document("page")
    document += [nodes.paragraph("", "28 × 28"), nodes.literal_block("28 × 28", "28 × 28")]
    punctuation.join(None, document, "page")
    assert [part.astext() for part in document] == ["28\u00a0×\u00a028", "28 × 28"]
