"""The live figures in headless Chromium: driven by mouse, finger and keyboard, and read again."""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import OVERFLOW, Browser
from nvp_book import live
from nvp_book.live import pixelrnn as completion
from nvp_book.live import realnvp as manifold
from nvp_book.selection import binary_digits
from pixels import config, flow_from, lived, noise, randomised
from test_live import RECORDED
from test_live_images import by_pytorch, middle, recorded_model
from torch import Tensor

from nvp import PixelRNN, RealNVPConfig
from nvp.data import EMBEDDED, load
from nvp.flows.bijection import Composition
from nvp.ledger.entry import runs

PAGE = (
    '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    "<title>A figure</title>\n<body>\n{body}\n</body></html>\n"
)


class Figure:
    """A live figure in a page of its own, driven by mouse, finger and keyboard."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    def value(self, expression: str) -> Any:
        """The value of an expression in which `root` is the figure."""
        root = "document.querySelector('.nvp-live').shadowRoot"
        return self.browser.value(f"(root => {expression})({root})")

    @property
    def status(self) -> str:
        """The line of text under the figure."""
        return self.value("root.querySelector('.status').textContent")

    def choose(self, name: str, value: str) -> None:
        """Click the radio button of this name and value."""
        self.click(f'input[name={name}][value="{value}"]')

    def slide(self, name: str, value: float) -> None:
        """Move a slider, as a user's hand would."""
        self.value(
            f"{{ const input = root.querySelector('input[name={name}]'); input.value = {value};"
            " input.dispatchEvent(new Event('input')); }"
        )
        self.settle()

    def middle(self, selector: str) -> tuple[float, float]:
        """The middle of an element, scrolled into view, in the window."""
        x, y = self.value(
            f"{{ const node = root.querySelector('{selector}');"
            " node.scrollIntoView({block: 'center'}); const box = node.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; }"
        )
        return x, y

    def click(self, selector: str) -> None:
        self.drag(selector, (0, 0))

    def drag(self, selector: str, by: tuple[float, float], off: float = 0) -> None:
        """Press the mouse `off` the middle of an element, move it by so many pixels, release it."""
        x, y = self.middle(selector)
        here = {"x": x + off, "y": y, "button": "left", "clickCount": 1}
        there = {**here, "x": x + off + by[0], "y": y + by[1]}
        for kind, at, held in (("Pressed", here, 1), ("Moved", there, 1), ("Released", there, 0)):
            self.browser.call("Input.dispatchMouseEvent", type=f"mouse{kind}", buttons=held, **at)
        self.settle()

    def tap(self, selector: str, by: tuple[float, float] = (0, 0)) -> None:
        """The same with a finger."""
        self.browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
        x, y = self.middle(selector)
        touches = [[{"x": x + part * by[0], "y": y + part * by[1]}] for part in (0, 0.5, 1)]
        kinds = ("touchStart", "touchMove", "touchMove", "touchEnd")
        for kind, points in zip(kinds, [*touches, []], strict=True):
            self.browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        self.settle()

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.browser.call("Input.dispatchKeyEvent", type=kind, key=key)
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for has been drawn."""
        self.browser.value("new Promise(d => requestAnimationFrame(() => setTimeout(d, 50)))")

    def wait(self, condition: str) -> Any:
        """The value of an expression once it is true; an error at the browser's time limit."""
        step = f"{{ const found = {condition}; found ? done(found) : setTimeout(wait, 50); }}"
        return self.value(f"new Promise(done => {{ const wait = () => {step}; wait(); }})")


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Figure]]:
    """Open a figure of this name from the disk; afterwards it must have been quiet."""

    def check() -> None:
        assert browser.errors() == []
        assert all(url.startswith(("file:", "data:")) for url in browser.requests())

    def open_page(name: str, html: str | None = None, **how: Any) -> Figure:
        """`html` is the figure of a small model, which takes no time."""
        check()  # of the figure before, whose events are forgotten now
        page = tmp_path / f"{name}.html"
        page.write_text(PAGE.format(body=html or getattr(live, name)().data), encoding="utf-8")
        assert page.stat().st_size < 3e6
        browser.open(page, **how)
        assert browser.value(OVERFLOW) <= 0
        return Figure(browser)

    browser.events.clear()
    yield open_page
    check()


KINDS_DRAWN = "[...root.querySelectorAll('.board .cell')].map(cell => cell.dataset.kind)"


def drawn_board(figure: Figure) -> list[tuple[int, int]]:
    """The (row, column) of every cell that the board shows as seen."""
    kinds = figure.value(KINDS_DRAWN)
    assert len(kinds) == 14 * 14
    return [divmod(p, 14) for p, kind in enumerate(kinds) if kind in ("seen", "leak")]


def test_a_chosen_pixel_shows_what_it_sees(opened: Callable[..., Figure]) -> None:
    figure = opened("masks")
    figure.choose("first", "3")
    figure.slide("count", 1)
    figure.click(".board .cell:nth-of-type(33)")  # row 2, column 4, both from 0
    context = [(1, 3), (1, 4), (1, 5), (2, 3)]
    assert drawn_board(figure) == context
    assert "Row 3, column 5: sees 4 of the 32 earlier pixels" in figure.status
    figure.press("ArrowDown")
    assert drawn_board(figure) == [(row + 1, column) for row, column in context]
    figure.choose("mask", "B")
    assert drawn_board(figure)[-1] == (3, 4)
    assert "leak" in figure.value(KINDS_DRAWN)
    figure.choose("mask", "A")
    figure.choose("seenBy", "seenBy")
    assert drawn_board(figure) == [(3, 5), (4, 3), (4, 4), (4, 5)]
    figure.choose("kind", "checkerboard")
    figure.choose("seenBy", "sees")
    assert drawn_board(figure) == [(3, 4)]  # 3 + 4 is odd: kept
    figure.press("ArrowLeft")  # the radio button has the focus: the board does not move
    assert "Row 4, column 5" in figure.status
    figure.choose("kind", "channels")
    places = "new Set([...root.querySelectorAll('.squeezed .cell')].map(c => c.outerHTML)).size"
    assert figure.value(places) == 14 * 14  # each cell of the board has a place of its own
    assert figure.value("root.querySelector('.squeezed').hidden") is False


def test_masks_work_under_a_finger(opened: Callable[..., Figure], browser: Browser) -> None:
    figure = opened("masks", width=390)
    assert figure.value("root.querySelector('.board .cell').getBoundingClientRect().width") > 22
    figure.tap(".board .cell:nth-of-type(33)")
    assert "Row 3, column 5" in figure.status
    figure.tap(".board .cell:nth-of-type(20)", (0, -120))  # scrolls the page
    assert "Row 3, column 5" in figure.status
    for kind in ("row", "diagonal", "checkerboard", "channels", "scale"):
        figure.choose("kind", kind)
        assert browser.value(OVERFLOW) <= 0


PLAY = "[data-control=level] + button"


def place(figure: Figure, panel: str, which: int) -> Tensor:
    """Where a handle of a panel is drawn, in the plane."""
    handle = f'[data-panel={panel}] .handle[data-which="{which}"]'
    x, y = figure.value(
        f"root.querySelector('{handle}').getAttribute('transform').match(/[-.\\d]+/g).map(Number)"
    )
    return torch.tensor([x, -y]) / 100


def greys(
    figure: Figure, canvas: str, side: int = 28, left: int = 0, top: int = 0, channel: int = 0
) -> Tensor:
    """The levels of a square on a canvas, (side, side)."""
    levels = figure.value(
        f"[...root.querySelector('{canvas}').getContext('2d')"
        f".getImageData({left}, {top}, {side}, {side}).data].filter((_, i) => i % 4 === {channel})"
    )
    return torch.tensor(levels).reshape(side, side)


def density(figure: Figure, panel: str) -> Tensor:
    """The density that a panel shows, as a share of the greatest that it can show, (64, 64)."""
    return (greys(figure, f"[data-panel={panel}] canvas", 64, channel=3) / 255).pow(1 / 0.6)


@pytest.mark.parametrize("name", ["moons", "rings"])
def test_a_dragged_point_moves_on_both_sides(opened: Callable[..., Figure], name: str) -> None:
    figure = opened("plane")
    figure.choose("set", name)
    flow = flow_from(RECORDED[name])
    for panel, other in (("x", "z"), ("z", "x")):
        before = place(figure, panel, 1)
        figure.drag(f'[data-panel={panel}] .handle[data-which="1"]', (-25, 15), off=5)
        moved = place(figure, panel, 1)
        side = figure.value("root.querySelector('.square').clientWidth")
        # A pixel of the screen, at most, between where the mouse went and where the point is.
        assert (moved - before - torch.tensor([-25, -15]) * 6.6 / side).abs().max() < 0.04
        with torch.no_grad():
            image = (flow if panel == "x" else flow.inverse)(moved[None])[0][0]
        assert (place(figure, other, 1) - image).abs().max() < 0.02
    x, z = place(figure, "x", 1), place(figure, "z", 1)
    numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", figure.status.replace("−", "-"))]
    with torch.no_grad():
        expected = [2, *x, *z, flow(x[None])[1].item(), flow.log_prob(x[None]).item()]
    # Both places are written with two decimals.
    assert torch.allclose(torch.tensor(numbers), torch.tensor(expected), atol=0.06)


def test_a_dragged_gaussian_takes_the_density_along(opened: Callable[..., Figure]) -> None:
    figure = opened("plane")
    flow = flow_from(RECORDED["moons"])
    axis = (torch.arange(64) + 0.5) * 6.6 / 64 - 3.3
    rows, columns = torch.meshgrid(-axis, axis, indexing="ij")
    lattice = torch.stack([columns.flatten(), rows.flatten()], dim=1)
    grid = "root.querySelector('[data-panel=x] .grid').getAttribute('d')"
    lines = figure.value(grid)
    with torch.no_grad():
        z, log_det = flow(lattice)
        largest = flow.log_prob(lattice).max()

    def shown_and_stated(spread: float) -> tuple[Tensor, Tensor]:
        gaussian = torch.distributions.Normal(place(figure, "z", -1), spread)
        stated = (gaussian.log_prob(z).sum(1) + log_det - largest).exp().clamp(max=1)
        return density(figure, "x"), stated.reshape(64, 64)

    shown, stated = shown_and_stated(1)
    assert (shown - stated).abs().max() < 0.02
    figure.drag('[data-panel=z] .handle[data-which="-1"]', (40, -30))
    figure.slide("spread", 0.5)
    assert place(figure, "z", -1).norm() > 0.3
    moved, stated = shown_and_stated(0.5)
    assert (moved - stated).abs().max() < 0.02
    assert (moved - shown).abs().max() > 0.5
    assert figure.value(grid) != lines
    figure.choose("dots", "samples")
    path = "root.querySelector('[data-panel={}] .dots').getAttribute('d')"
    x, z = (
        torch.tensor([[float(a), -float(b)] for a, b in re.findall(r"M(\S+) ([-.\d]+)h0", dots)])
        for dots in (figure.value(path.format(panel)) for panel in "xz")
    )
    with torch.no_grad():
        assert (flow.inverse(z / 100)[0] - x / 100).abs().median() < 0.01
    assert (z.mean(0) / 100 - place(figure, "z", -1)).abs().max() < 0.05
    assert (z.std(0) / 100 - 0.5).abs().max() < 0.05


def test_the_couplings_are_stepped_through(opened: Callable[..., Figure]) -> None:
    figure = opened("plane")
    flow = flow_from(RECORDED["moons"])
    x = place(figure, "x", 2)
    with torch.no_grad():
        parts = [Composition(flow.couplings[:level]) for level in range(len(flow.couplings) + 1)]
        steps = [part(x[None, :, None, None])[0].flatten() for part in parts]
    for level, step in enumerate(steps):
        figure.slide("level", level)
        assert (place(figure, "z", 2) - step).abs().max() < 0.02
    figure.slide("level", 0)
    assert torch.equal(density(figure, "x"), density(figure, "z"))
    figure.click(PLAY)
    figure.wait("+root.querySelector('input[name=level]').value > 0")


def test_the_plane_works_with_finger_and_keyboard(opened: Callable[..., Figure]) -> None:
    figure = opened("plane", width=390)
    handle = '[data-panel=x] .handle[data-which="3"]'
    before = place(figure, "x", 3), place(figure, "z", 3)
    figure.value(f"root.querySelector('{handle}').focus()")
    figure.press("ArrowRight")
    assert torch.allclose(place(figure, "x", 3) - before[0], torch.tensor([0.05, 0.0]), atol=1e-3)
    assert not torch.equal(place(figure, "z", 3), before[1])
    assert "Point 4: x = " in figure.status
    figure.tap(handle, (0, -60))
    assert place(figure, "x", 3)[1] > before[0][1] + 0.8


def far(picture: Tensor, image: Tensor) -> int:
    return int((picture - image.int()).abs().max())


def test_sliders_walk_between_the_four_images(opened: Callable[..., Figure]) -> None:
    figure = opened("images", width=390, height=600)  # the map is out of sight, so it waits
    four = load(EMBEDDED, "test", limit=4).images
    bits, seen = by_pytorch(recorded_model(), middle(four))[2], []
    for i, (phi, psi) in enumerate([(0, 0), (0, 90), (90, 0), (90, 90), (0, 45)]):
        figure.slide("phi", phi)
        figure.slide("psi", psi)
        seen.append(greys(figure, ".picture canvas"))
        if i < 4:  # encoded and decoded: the image itself
            assert far(seen[-1], four[i, 0]) == 0
            assert f"Bits/dim of x: {bits[i]:.2f}." in figure.status
    assert min(far(seen[4], image[0]) for image in four) > 50
    figure.slide("temperature", 0.5)
    assert far(greys(figure, ".picture canvas"), seen[4]) > 50
    told = r"φ = 0°, φ′ = 45°\. All latents kept\. Mean square of z: 0\.\d\d\."
    assert re.match(told, figure.status)


SMALL = noise(8, 1, 8, 8)


def small_flow() -> str:
    """The figure of these images and of a Real NVP whose three scales take no time."""
    sizes: dict[str, Any] = {"num_scales": 3, "num_blocks": 0, "width": 2}
    model = lived(RealNVPConfig.paper((1, 8, 8), **sizes))
    return live.fragment("images", *manifold.content(model, SMALL))


def test_latents_are_given_up_finest_first(opened: Callable[..., Figure]) -> None:
    figure = opened("images", small_flow())
    figure.slide("phi", 0)
    figure.slide("psi", 0)
    moved = []
    for kept, named in (
        (100, "All latents kept"),
        (75, "Latents drawn anew: 50% of z¹"),
        (50, "Latents drawn anew: all of z¹"),
        (25, "Latents drawn anew: all of z¹, all of z²"),
        (0, "Latents drawn anew: all of z¹, all of z², all of z³"),
    ):
        figure.slide("kept", kept)
        assert f"{named}. " in figure.status
        moved.append((greys(figure, ".picture canvas", 8) - SMALL[0, 0].int()).abs().float().mean())
    assert moved[0] == 0
    assert moved == sorted(moved)
    # Nothing is left: all places show one picture, and another one when drawn again.
    sample = greys(figure, ".picture canvas", 8)
    figure.slide("phi", 200)
    assert far(greys(figure, ".picture canvas", 8), sample) == 0
    figure.click("button")
    assert far(greys(figure, ".picture canvas", 8), sample) > 50
    figure.choose("others", "zero")
    assert "Mean square of z: 0.00." in figure.status


def test_the_map_is_drawn_and_chosen_from(opened: Callable[..., Figure]) -> None:
    figure = opened("images", small_flow(), width=390)
    figure.middle(".map")  # scrolls there
    paint = "root.querySelector('.map canvas').getContext('2d')"
    figure.wait(f"{paint}.getImageData(75, 75, 1, 1).data[3]")
    # The four images at 0 and 90 degrees, and again the first after half a turn of both angles.
    for i, row, column in ((0, 0, 0), (1, 0, 2), (2, 2, 0), (3, 2, 2), (0, 4, 4)):
        assert far(greys(figure, ".map canvas", 8, 1 + 10 * column, 1 + 10 * row), SMALL[i, 0]) == 0
    figure.click(".map")  # its middle is the upper left corner of a picture
    angles = figure.value("['phi', 'psi'].map(n => +root.querySelector(`[name=${n}]`).value)")
    assert angles == [180, 180]
    figure.value("root.querySelector('[name=phi]').focus()")
    figure.press("ArrowRight")
    assert figure.status.startswith("φ = 185°, φ′ = 180°")
    last = f"[...{paint}.getImageData(71, 71, 8, 8).data]"
    before = figure.value(last)
    figure.click("button:last-child")
    assert figure.value(f"(dispatchEvent(new Event('beforeprint')), {last})") != before  # at once
    figure.slide("phi", 0)
    figure.slide("psi", 0)
    assert far(greys(figure, ".picture canvas", 8), SMALL[4, 0]) == 0


def levels(figure: Figure, canvas: str) -> Tensor:
    """What is painted there when all is drawn: 0 and 1, (28, 28)."""
    figure.wait("root.querySelector('.time').textContent.includes(' ms for ')")
    return greys(figure, canvas) // 255


def test_the_rest_of_a_scribble_is_drawn_several_times(opened: Callable[..., Figure]) -> None:
    figure = opened("completion")
    digit = levels(figure, ".square canvas")
    assert torch.equal(digit[:14], binary_digits()[22, 0, :14])
    first = [levels(figure, f".drawing:nth-child({i + 1}) canvas") for i in range(6)]
    assert all(torch.equal(image[:14], digit[:14]) for image in first)
    assert len({image.numpy().tobytes() for image in first}) > 3
    spoken = "root.querySelector('.status').role"
    assert figure.value(spoken) is None  # nobody asked for anything yet
    figure.click(".drawing:nth-child(3)")
    figure.value("void root.querySelector('.drawing').focus()")
    assert figure.value(spoken) == "status"
    assert torch.equal(levels(figure, ".square canvas"), first[2])
    (shown,) = re.findall(r"Upper half: ([\d.]+) nats\. Completion 3: ([\d.]+) nats", figure.status)
    told = r": (no )?ink, ([\d.]+) nats; ink had probability (\d\.\d+)"
    ((no, cost, chance),) = re.findall(told, figure.status)
    likely = math.exp(-float(cost))
    assert float(chance) == pytest.approx(1 - likely if no else likely, abs=0.02)
    model = runs()[completion.RUN].load_model().double()
    total = -model.log_prob(first[2][None, None].byte()).item()
    assert sum(map(float, shown)) == pytest.approx(total, abs=0.11)  # one decimal each
    figure.click(".controls button:last-child")
    assert not torch.equal(levels(figure, ".drawing:nth-child(3) canvas"), first[2])


def test_a_digit_is_scribbled_by_mouse_finger_and_keyboard(opened: Callable[..., Figure]) -> None:
    sizes = {"hidden": 2, "head": 2}  # a network that takes no time
    network = randomised(PixelRNN(config("diagonal_bilstm", (1, 28, 28), **sizes)))
    html = live.fragment("completion", completion.content(network, binary_digits()[:1]))
    figure = opened("completion", html, width=390)
    figure.click(".controls button")
    assert levels(figure, ".square canvas")[:14].sum() == 0
    figure.drag(".paper", (60, 0))
    stroke = levels(figure, ".square canvas")[:14]
    assert 8 < stroke.sum() < 40
    assert stroke.any(dim=1).sum() <= 3  # a line along the rows
    figure.choose("pen", "erase")
    figure.tap(".paper")
    left = levels(figure, ".square canvas")[:14].sum()
    assert 0 < left < stroke.sum()
    figure.choose("pen", "draw")
    figure.value("root.querySelector('.square').focus()")
    for _ in range(4):
        figure.press("ArrowUp")
    figure.press(" ")
    assert levels(figure, ".square canvas")[:14].sum() == left + 1
    assert ": ink, " in figure.status


# Ratios of luminance between what is written and what it is written on (WCAG 2, 1.4.3).
CONTRASTS = """{
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const style = (node) => getComputedStyle(node);
  const ratio = (a, b) => Math.max(light(a) / light(b), light(b) / light(a));
  return [...root.querySelectorAll(PAIRS)].map((node) => node.tagName === "g"
    ? ratio(style(node.firstChild).fill, style(node.lastChild).fill)
    : ratio(style(node).color, style(node).backgroundColor));
}"""


@pytest.mark.parametrize("dark", [False, True])
def test_every_letter_can_be_read(opened: Callable[..., Figure], dark: bool) -> None:
    figure = opened("masks", dark=dark)
    assert figure.value("root.host.dataset.theme") == ("dark" if dark else "light")
    figure.choose("mask", "B")
    figure.slide("count", 8)
    figure.value("new Promise(done => setTimeout(done, 400))")  # colours fade in
    kinds = set(figure.value("[...root.querySelectorAll('.key .cell')].map(c => c.dataset.kind)"))
    assert kinds == {"seen", "unseen", "later", "leak"}
    assert min(figure.value(CONTRASTS.replace("PAIRS", "'.key .cell, .choice span'"))) >= 4.5


def test_nothing_moves_for_those_who_ask(opened: Callable[..., Figure], browser: Browser) -> None:
    figure = opened("masks")
    still = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    duration = "getComputedStyle(root.querySelector('.cell rect')).transitionDuration"
    assert figure.value(duration) != "0s"
    browser.call("Emulation.setEmulatedMedia", features=still)
    assert figure.value(duration) == "0s"
    figure = opened("plane")
    browser.call("Emulation.setEmulatedMedia", features=still)
    figure.slide("level", 0)
    figure.click(PLAY)
    # Whole couplings, and nothing between.
    assert figure.wait("+root.querySelector('input[name=level]').value") == 1


def test_a_figure_follows_the_pages_theme(opened: Callable[..., Figure], browser: Browser) -> None:
    figure = opened("masks")
    for change, theme in (
        ("document.body.dataset.jpThemeLight = 'false'", "dark"),  # JupyterLab
        ("document.documentElement.dataset.theme = 'light'", "light"),  # the book
        ("document.documentElement.dataset.theme = 'dark'", "dark"),
    ):
        browser.value(change)
        figure.settle()
        assert figure.value("root.host.dataset.theme") == theme
