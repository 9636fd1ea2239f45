"""The book builds without a warning, and its pages read from the disk alone."""

import base64
import io
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from browser import OVERFLOW, Browser
from PIL import Image

from workflow import book as builder

pytestmark = pytest.mark.book

ROOT = Path(__file__).resolve().parent.parent
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
LISTED = [chapter for part in TOC["parts"] for chapter in part["chapters"]]
PAGES = [
    TOC["root"],
    *(page["file"] for chapter in LISTED for page in (chapter, *chapter.get("sections", []))),
]
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]
ALL = "document.querySelectorAll"
# Equations that MathJax could not read are drawn as an error, in the page and nowhere else.
BROKEN_EQUATIONS = f"{ALL}('[data-mml-node=merror]').length"
EQUATIONS = f"{ALL}('.math').length"
RENDERED = f"{ALL}('.math mjx-container > svg').length"
# What folds is read aloud by its words or its name; a formula is no stop of the Tab key.
MUTE = f"[...{ALL}('summary')].filter(s => !(s.ariaLabel || s.textContent.trim()))"
HIDDEN_NAMES = f"{ALL}('[aria-label^=\"Toggle hidden\"]').length"
NAMELESS_ROWS = f"{ALL}('tbody td:first-child:not([role], :has(> p:empty))').length"
NAMES_OF_NOTHING = f"{ALL}('td[role]:has(> p:empty)').length"
TAB_STOPS = f"{ALL}('mjx-container[tabindex=\"0\"]').length"
# So is what scrolls, if only by the overhang of a slanted letter.
SCROLLING = (
    f"[...{ALL}('.bd-article :not(td) > p span.math')]"
    ".filter(m => m.scrollWidth > m.clientWidth).length"
)
UNREACHABLE = (
    f"[...{ALL}('pre[tabindex=\"-1\"]')].filter(p => p.scrollWidth > p.clientWidth).length"
)
THEME = "document.documentElement.dataset.theme"
BROKEN_IMAGES = "[...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
# A fence whose title holds a backtick is none: it stays text, and what follows becomes code.
BROKEN_FENCES = f"[...{ALL}('.bd-article p')].filter(p => /^```/.test(p.innerText)).length"


def build(notebooks: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "workflow" / "book.py", notebooks, target]
    return subprocess.run(command, text=True, capture_output=True)


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
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


def test_every_page_is_there_and_small_enough_to_send_and_to_open(book: Path) -> None:
    assert (book / "index.html").is_file()
    assert [page for page in PAGES if (book / f"{page}.html").stat().st_size > 3e6] == []
    assert sum(file.stat().st_size for file in book.rglob("*") if file.is_file()) < 60e6


@pytest.mark.parametrize("page", PAGES)
def test_a_page_needs_no_network_and_fits_a_phone(book: Path, browser: Browser, page: str) -> None:
    browser.open(book / f"{page}.html", width=390, height=200)  # nothing here looks at pixels
    assert browser.value(OVERFLOW) <= 0
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:"))] == []
    assert browser.errors() == []
    assert browser.value(BROKEN_IMAGES) == []
    assert browser.value(BROKEN_FENCES) == 0
    assert browser.value(BROKEN_EQUATIONS) == 0
    assert browser.value(RENDERED) == browser.value(EQUATIONS)
    assert browser.value(f"{MUTE}.length") == 0
    assert browser.value(HIDDEN_NAMES) == browser.value(TAB_STOPS) == 0
    assert browser.value(NAMELESS_ROWS) == browser.value(NAMES_OF_NOTHING) == 0


def test_a_picture_that_reaches_into_the_margin_is_not_cut(book: Path, browser: Browser) -> None:
    browser.open(book / "notebooks/14_pixelrnn_results.html", width=1280)
    left, top, right, bottom = browser.value("""(() => {
        const picture = document.querySelector("#fig-digit-samples img");
        picture.scrollIntoView({block: "center", behavior: "instant"});
        const box = picture.getBoundingClientRect();
        const cell = picture.closest(".cell_output").getBoundingClientRect();
        return [box.left, box.top, cell.left, box.bottom];
    })()""")
    assert right - left > 10
    shot = browser.call("Page.captureScreenshot")
    with Image.open(io.BytesIO(base64.b64decode(shot["data"]))) as image:
        darkest, _ = image.convert("L").crop((left, top, right, bottom)).getextrema()
    assert darkest < 50


def test_a_formula_that_fits_is_no_stop_of_the_tab_key(book: Path, browser: Browser) -> None:
    browser.open(book / "notebooks/21_when_it_diverges.html")
    assert browser.value(SCROLLING) == 0


def test_code_in_a_solution_can_be_scrolled_by_keyboard(book: Path, browser: Browser) -> None:
    browser.open(book / "notebooks/08_latents.html", width=1280)
    browser.value(f"{ALL}('.solution .toggle-button').forEach(b => b.click())")
    browser.value("new Promise(done => setTimeout(done, 500))")  # the theme waits for 300 ms
    assert browser.value(UNREACHABLE) == 0


def test_a_dark_page_is_printed_in_light_colours(book: Path, browser: Browser) -> None:
    browser.open(book / "book/own_images.html", dark=True)
    assert browser.value(THEME) == "dark"
    browser.value("void dispatchEvent(new Event('beforeprint'))")
    assert browser.value(THEME) == "light"
    browser.value("void dispatchEvent(new Event('afterprint'))")
    assert browser.value(THEME) == "dark"
    # In one turn, as window.print() does: no observer is told between.
    browser.open(book / "book/live.html", dark=True)
    figure = "document.querySelector('.nvp-live').dataset.theme"
    assert browser.value(f"(dispatchEvent(new Event('beforeprint')), {figure})") == "light"


def test_a_search_finds_either_spelling(book: Path, browser: Browser) -> None:
    browser.open(book / "search.html")
    find = "Search._performSearch(...Search._parseQuery('{}')).map(r => r[0])"
    for british, american in (
        ("dequantisation", "dequantization"),
        ("neighbouring", "neighboring"),
        ("colours", "colors"),
        ("centre", "center"),
        ("grey", "gray"),
    ):
        chapters = {page for page in browser.value(find.format(american)) if "notebooks/" in page}
        assert len(chapters) > 2, american
        assert chapters <= set(browser.value(find.format(british)))


def test_the_welcome_page_has_its_equation(book: Path, browser: Browser) -> None:
    """Also where MathJax once stored that it needs a part that is not here."""
    browser.open(book / "index.html")
    browser.value("localStorage.setItem('MathJax-Menu-Settings', '{\"explorer\": true}')")
    browser.open(book / "index.html")
    assert browser.value(RENDERED) > 0


@pytest.fixture
def small_book(tmp_path: Path, monkeypatch) -> Path:
    """The root of a book of one page and one notebook."""
    toc = {"format": "jb-book", "root": "welcome", "parts": [{"chapters": [{"file": CHAPTERS[0]}]}]}
    config = {"title": "Small", "execute": {"execute_notebooks": "off"}}
    for name, tree in (("_toc.yml", toc), ("_config.yml", config)):
        (tmp_path / name).write_text(yaml.safe_dump(tree))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Chapter")])
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / f"{CHAPTERS[0]}.ipynb")
    (tmp_path / "welcome.md").write_text("# Welcome")
    monkeypatch.setattr(builder, "ROOT", tmp_path)
    monkeypatch.setattr(builder, "SOURCES", ("_config.yml", "_toc.yml", "welcome.md"))
    return tmp_path


def test_a_warning_is_an_error(small_book: Path, capfd) -> None:
    (small_book / "welcome.md").write_text("# Welcome\n\nSee {doc}`no_such_page`.")
    with pytest.raises(ValueError, match="warnings are errors"):
        builder.build(small_book / "notebooks", small_book / "html")
    assert "no_such_page" in capfd.readouterr().err
    assert not (small_book / "html").exists()


def test_sphinx_alone_builds_the_book(small_book: Path) -> None:
    (small_book / "welcome.md").write_text("# Welcome\n\nSee {doc}`" + CHAPTERS[0] + "`.")
    builder.build(small_book / "notebooks", small_book / "html", plain=True)
    assert (small_book / "html" / f"{CHAPTERS[0]}.html").is_file()


def test_a_notebook_that_raised_is_not_built(small_book: Path) -> None:
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no luck", traceback=[])
    cell = nbformat.v4.new_code_cell("fail()", outputs=[error])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    path = small_book / f"{CHAPTERS[0]}.ipynb"
    nbformat.write(notebook, path)
    with pytest.raises(ValueError, match=rf"{path}, cell 0: ValueError: no luck"):
        builder.build(small_book / "notebooks", small_book / "html")
