"""The book builds without a warning, and its pages read from the disk alone."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from browser import Browser

pytestmark = pytest.mark.book

ROOT = Path(__file__).resolve().parent.parent
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
LISTED = [chapter for part in TOC["parts"] for chapter in part["chapters"]]
PAGES = [
    TOC["root"],
    *(page["file"] for chapter in LISTED for page in (chapter, *chapter.get("sections", []))),
]
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]
# Equations that MathJax could not read are drawn as an error, in the page and nowhere else.
BROKEN_EQUATIONS = "document.querySelectorAll('[data-mml-node=merror]').length"
EQUATIONS = "document.querySelectorAll('.math').length"
RENDERED = "document.querySelectorAll('.math mjx-container > svg').length"
BROKEN_IMAGES = "[...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def build(notebooks: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "workflow" / "book.py", notebooks, target]
    return subprocess.run(command, text=True, capture_output=True)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book, built from the recorded notebooks."""
    target = tmp_path_factory.mktemp("book") / "html"
    result = build(ROOT / "notebooks", target)
    assert result.returncode == 0, result.stderr
    return target


def test_only_a_book_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not to be lost")
    result = build(ROOT / "notebooks", tmp_path)
    assert result.returncode == 1
    assert "holds no book to replace" in result.stderr
    assert (tmp_path / "notes.txt").read_text() == "not to be lost"


def copy_chapters(target: Path, extra: nbformat.NotebookNode) -> None:
    """Copy the recorded notebooks to `target`, with one more cell at the end of the first."""
    for page in CHAPTERS:
        notebook = nbformat.read(ROOT / f"{page}.ipynb", as_version=4)
        if page == CHAPTERS[0]:
            notebook.cells.append(extra)
        nbformat.write(notebook, target / f"{Path(page).name}.ipynb")


def test_every_page_is_there(book: Path) -> None:
    assert [page for page in PAGES if not (book / f"{page}.html").is_file()] == []
    assert (book / "index.html").is_file()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_needs_no_network(book: Path, browser: Browser, page: str) -> None:
    browser.open(book / f"{page}.html")
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:"))] == []
    assert browser.errors() == []
    assert browser.value(BROKEN_IMAGES) == []
    assert browser.value(BROKEN_EQUATIONS) == 0
    assert browser.value(RENDERED) == browser.value(EQUATIONS)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_a_small_screen(book: Path, browser: Browser, page: str) -> None:
    browser.open(book / f"{page}.html", width=390)
    assert browser.value(OVERFLOW) <= 0


def test_the_welcome_page_has_its_equation(book: Path, browser: Browser) -> None:
    browser.open(book / "index.html")
    assert browser.value(RENDERED) > 0


def test_a_warning_is_an_error(tmp_path: Path) -> None:
    copy_chapters(tmp_path, nbformat.v4.new_markdown_cell("See {doc}`no_such_page`."))
    result = build(tmp_path, tmp_path / "html")
    assert result.returncode != 0
    assert "no_such_page" in result.stderr
    assert not (tmp_path / "html").exists()


def test_a_notebook_that_raised_is_not_built(tmp_path: Path) -> None:
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no luck", traceback=[])
    copy_chapters(tmp_path, nbformat.v4.new_code_cell("fail()", outputs=[error]))
    result = build(tmp_path, tmp_path / "html")
    assert result.returncode != 0
    assert f"{Path(CHAPTERS[0]).name}.ipynb" in result.stderr
    assert "ValueError: no luck" in result.stderr
    assert "Traceback" not in result.stderr
