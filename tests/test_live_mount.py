"""Live figures beside others in a page, and beside the shortcuts of a browser."""

from pathlib import Path

import torch
from browser import Browser
from nvp_book import live

from nvp.flows.toy import ToyFlow

PAGE = "<!doctype html><meta charset='utf-8'><title>Figures</title><body>{body}</body>"
# As a notebook does: scripts that are made again run only where they are attached, all at once.
ATTACH = """{
  const all = document.createElement("div");
  all.innerHTML = document.querySelector("template").innerHTML;
  for (const script of all.querySelectorAll("script")) {
    const again = document.createElement("script");
    again.textContent = script.textContent;
    script.replaceWith(again);
  }
  document.body.append(all);
}"""
SETS = """[...document.querySelectorAll(".nvp-live")].map((host) =>
  [...host.shadowRoot.querySelectorAll("input[name=set]")].map((input) => input.value))"""
# Whether the board of a figure leaves a key to the browser.
LEFT = """document.querySelector("[data-figure^={name}]").shadowRoot.querySelector("[tabindex='0']")
  .dispatchEvent(new KeyboardEvent("keydown", {{cancelable: true, {key}}}))"""


def test_figures_of_one_kind_have_data_of_their_own(browser: Browser, tmp_path: Path) -> None:
    data = live.flow_data(ToyFlow(num_couplings=1, width=2), torch.randn(5, 2))
    both = "".join(live.fragment("plane", {name: data}) for name in ("one", "two"))
    page = tmp_path / "two.html"
    page.write_text(PAGE.format(body=f"<template>{both}</template>"), encoding="utf-8")
    browser.open(page)
    browser.value(ATTACH)
    assert browser.value(SETS) == [["one"], ["two"]]
    # JupyterLab leaves the keys to what says so.
    assert browser.value("document.querySelectorAll('[data-lm-suppress-shortcuts]').length") == 2


def test_shortcuts_are_left_to_the_browser(browser: Browser, tmp_path: Path) -> None:
    page, names = tmp_path / "three.html", ("masks", "plane", "completion")
    body = "".join(getattr(live, name)().data for name in names)
    page.write_text(PAGE.format(body=body), encoding="utf-8")
    browser.open(page)
    for name in names:
        assert not browser.value(LEFT.format(name=name, key="key: 'ArrowLeft'")), name
        for modifier in ("altKey", "ctrlKey", "metaKey"):
            key = f"key: 'ArrowLeft', {modifier}: true"
            assert browser.value(LEFT.format(name=name, key=key)), name
    # A space draws or does nothing, but never scrolls the page away.
    for key in (" ", "ArrowDown", " "):
        assert not browser.value(LEFT.format(name="completion", key=f"key: '{key}'"))


def test_a_replaced_figure_is_let_go(browser: Browser, tmp_path: Path) -> None:
    """As by a notebook's cell that runs again."""
    page = tmp_path / "one.html"
    page.write_text(PAGE.format(body=live.images().data), encoding="utf-8")
    browser.open(page)
    browser.value(
        "{ const host = document.querySelector('.nvp-live'); host.remove();"
        " window.former = new WeakRef(host); }"
    )

    def is_gone() -> bool:
        browser.value("new Promise(done => setTimeout(done, 100))")
        browser.call("HeapProfiler.collectGarbage")
        return browser.value("former.deref() === undefined")

    assert any(is_gone() for _ in range(50))  # as soon as its timers end
