"""The live figures: their JavaScript agrees with PyTorch, and their pages do what they promise."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import CHROMIUM, Browser
from torch import Tensor, nn

from nvp import PixelRNN, PixelRNNConfig, RealNVPConfig
from nvp.autoregressive.masked_conv import MaskedConv2d, colour_groups
from nvp.errors import NVPError
from nvp.figures import live
from nvp.flows.realnvp import Scale
from nvp.flows.squeeze import SqueezeOrder, squeeze, unsqueeze
from nvp.flows.toy import ToyData, ToyFlow

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
Map = Callable[[Tensor], Tensor]


def evaluate(files: Sequence[str], expression: str, **given: Any) -> Any:
    """The value of a JavaScript expression in Node, after these files and constants."""
    assert NODE is not None
    lines = [(live.SOURCES / name).read_text() for name in files]
    lines += [f"const {name} = {json.dumps(value)};" for name, value in given.items()]
    lines.append(f"process.stdout.write(JSON.stringify({expression}));")
    command = [NODE, "--input-type=commonjs", "-"]
    result = subprocess.run(command, input="\n".join(lines), text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def drawn_sets(height: int, width: int, **model: Any) -> Tensor:
    """[p, q]: whether the figure says that pixel p sees pixel q, (D, D) bool."""
    expression = (
        "mapsOf(model, board).at(-1)"
        ".map(set => [...Array(board.height * board.width).keys()]"
        ".map(q => Number((set >> BigInt(q)) & 1n)))"
    )
    board = {"height": height, "width": width}
    return torch.tensor(evaluate(["receptive.js"], expression, model=model, board=board)).bool()


def measured_sets(function: Map, height: int, width: int, trials: int = 3) -> Tensor:
    """[p, q]: whether the gradient of output p at pixel q is not 0 at some of `trials` images.

    `function` maps (N, 1, H, W) to (N, ?, H, W); all features of a pixel are asked about.
    """
    size = height * width
    moved = torch.zeros(size, size, dtype=torch.bool)
    for trial in range(trials):
        generator = torch.Generator().manual_seed(trial)
        image = torch.randn(1, 1, height, width, generator=generator, dtype=torch.float64)
        images = image.repeat(size, 1, 1, 1).requires_grad_()  # one copy for each pixel asked
        outputs = function(images).flatten(2)
        weights = torch.randn(outputs.shape[1], generator=generator, dtype=torch.float64)
        asked = outputs.diagonal(dim1=0, dim2=2).T @ weights
        (gradient,) = torch.autograd.grad(asked.sum(), images)
        moved |= gradient.flatten(1) != 0
    return moved


def randomised(module: nn.Module) -> nn.Module:
    """In float64 and evaluation mode, every parameter normal: nothing is 0 by chance."""
    torch.manual_seed(0)
    for parameter in module.double().eval().parameters():
        nn.init.normal_(parameter, 0.0, 0.4)
    return module


KINDS = {"convolutions": "pixelcnn", "row": "row_lstm", "diagonal": "diagonal_bilstm"}


@needs_node
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("first", "kernel", "count"), [(3, 3, 2), (5, 3, 3), (3, 5, 3)])
def test_pixel_rnns_see_what_is_drawn(kind: str, first: int, kernel: int, count: int) -> None:
    height, width = 7, 8
    config = PixelRNNConfig(
        kind=KINDS[kind],
        image_shape=(1, height, width),
        levels=2,
        num_layers=count - 1,
        hidden=8,
        head=8,
        first_kernel=first,
        kernel_size=kernel,
    )
    model = randomised(PixelRNN(config))
    assert isinstance(model, PixelRNN)

    def outputs(images: Tensor) -> Tensor:
        return model.parameters_of(images)[:, 0].movedim(-1, 1)

    drawn = drawn_sets(
        height, width, kind=kind, count=count, mask="A", first=first, kernel=kernel, blocks=0
    )
    assert torch.equal(drawn, measured_sets(outputs, height, width))


@needs_node
@pytest.mark.parametrize("mask", ["A", "B"])
@pytest.mark.parametrize("count", [1, 3])
def test_masked_convolutions_see_what_is_drawn(mask: Any, count: int) -> None:
    grey, features = colour_groups(1, 1), colour_groups(6, 1)
    masks = [mask] + ["B"] * (count - 1)
    layers = [
        MaskedConv2d(m, features if i else grey, features, (3, 3)) for i, m in enumerate(masks)
    ]
    stack = randomised(nn.Sequential(*layers))
    drawn = drawn_sets(6, 7, kind="convolutions", count=count, mask=mask, first=3, kernel=3)
    measured = measured_sets(stack, 6, 7)
    assert torch.equal(drawn, measured)
    # Mask A is what keeps a pixel from seeing itself.
    assert measured.diagonal().any() == (mask == "B")


@needs_node
@pytest.mark.parametrize("order", ["position", "diagonal"])
@pytest.mark.parametrize("blocks", [0, 1])
@pytest.mark.parametrize(
    ("kind", "count"),
    [("checkerboard", 1), ("checkerboard", 3), ("channels", 1), ("channels", 3), ("scale", 5)],
)
def test_couplings_see_what_is_drawn(kind: str, count: int, blocks: int, order: str) -> None:
    height, width = 8, 10
    orders = {"position": SqueezeOrder.POSITION_MAJOR, "diagonal": SqueezeOrder.DIAGONAL}
    config = RealNVPConfig.paper(
        (1, height, width),
        num_scales=2,
        num_blocks=blocks,
        width=16,
        channel_squeeze=orders[order],
    )
    scale = randomised(Scale(config, 0))
    assert isinstance(scale, Scale)
    boards, halves = list(scale.checkerboard.bijections), list(scale.channelwise.bijections)
    if kind == "channels":
        boards, halves = [], halves[:count]
    else:
        boards, halves = boards[:count], halves[: max(count - len(boards), 0)]

    def encode(images: Tensor) -> Tensor:
        for layer in boards:
            images, _ = layer(images)
        images = squeeze(images, orders[order])
        for layer in halves:
            images, _ = layer(images)
        return unsqueeze(images, orders[order])

    drawn = drawn_sets(height, width, kind=kind, count=count, blocks=blocks, order=order)
    measured = measured_sets(encode, height, width, trials=6)
    assert torch.equal(drawn, measured)


RECORDED = json.loads((live.SOURCES / "flows.json").read_text())


def in_javascript(
    data: Any, points: Tensor, start: float, end: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The figure's `move` between two levels, and its `logDensity` of what comes out."""
    expression = (
        "(moved => [moved.points, moved.logDet, logDensity(moved, [0, 0], 1)].map(a => [...a]))"
        "(move(readFlow(data.weights), points, start, end))"
    )
    flat = points.flatten().tolist()
    results = evaluate(["flow.js"], expression, data=data, points=flat, start=start, end=end)
    moved, log_det, log_density = (torch.tensor(r, dtype=torch.float64) for r in results)
    return moved.reshape(-1, 2), log_det, log_density


@needs_node
@pytest.mark.parametrize("name", ToyData)
def test_the_flow_is_that_of_pytorch(name: str) -> None:
    data = RECORDED[name]
    flow = live.flow_from(data)
    x = ToyData(name).sample(200, seed=3)
    with torch.no_grad():
        z, log_det = flow(x)
        back, log_det_back = flow.inverse(z)
        steps = flow.trace(x)
        density = flow.log_prob(x)
    moved, change, log_density = in_javascript(data, x, 0, len(steps))
    assert (moved - z).abs().max() < 1e-3
    assert (change - log_det).abs().max() < 1e-3
    assert (log_density - density).abs().max() < 1e-3
    moved, change, _ = in_javascript(data, z, len(steps), 0)
    assert (moved - back).abs().max() < 1e-3
    assert (change - log_det_back).abs().max() < 1e-3
    for level, step in enumerate(steps, start=1):
        assert (in_javascript(data, x, 0, level)[0] - step).abs().max() < 1e-3


@needs_node
def test_levels_between_two_couplings_are_bijections() -> None:
    data = RECORDED["moons"]
    x = ToyData.MOONS.sample(50, seed=4).double()
    h, log_det = in_javascript(data, x, 0, 2.3)[:2]
    back, log_det_back = in_javascript(data, h, 2.3, 0)[:2]
    assert (back - x).abs().max() < 1e-9
    assert (log_det + log_det_back).abs().max() < 1e-9
    # Two ways to the same place, and the volume that finite differences see.
    z, rest = in_javascript(data, h, 2.3, 6)[:2]
    whole, whole_det = in_javascript(data, x, 0, 6)[:2]
    assert (z - whole).abs().max() < 1e-9
    assert (log_det + rest - whole_det).abs().max() < 1e-9
    step = 1e-5
    right, up = (in_javascript(data, x + step * e, 0, 2.3)[0] - h for e in torch.eye(2).double())
    area = (right[:, 0] * up[:, 1] - right[:, 1] * up[:, 0]) / step**2
    assert (area.log() - log_det).abs().max() < 1e-3


@pytest.mark.parametrize("name", ToyData)
def test_a_recorded_flow_is_better_than_a_gaussian(name: str) -> None:
    points, fresh = ToyData(name).sample(5000, seed=1), ToyData(name).sample(5000, seed=2)
    gaussian = torch.distributions.MultivariateNormal(points.mean(0), points.T.cov())
    with torch.no_grad():
        flow = live.flow_from(RECORDED[name]).log_prob(fresh).mean()
    assert flow > gaussian.log_prob(fresh).mean() + 0.3  # nats per point


def test_a_flow_of_ones_own_is_shown(perturb: Callable[..., None]) -> None:
    flow = ToyFlow(num_couplings=3, width=4)
    perturb(flow)
    points = torch.randn(70, 2)
    html = live.plane({"mine": (flow, points)}).data
    assert html is not None
    assert '"mine"' in html
    again = live.flow_from(live.flow_data(flow, points))
    assert (again(points)[0] - flow(points)[0]).abs().max() < 1e-3


class Figure:
    """A live figure in a page of its own, driven by mouse, finger and keyboard."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    def value(self, expression: str) -> Any:
        """The value of an expression in which `root` is the figure."""
        root = "document.querySelector('.nvp-live').shadowRoot"
        return self.browser.value(f"(root => {expression})({root})")

    def choose(self, name: str, value: str) -> None:
        """Click the radio button of this name and value."""
        self.click(f'input[name={name}][value="{value}"]')

    def slide(self, name: str, value: float) -> None:
        """Move a slider, as a user's hand would."""
        self.value(
            f"{{ const input = root.querySelector('input[name={name}]'); input.value = {value};"
            " input.dispatchEvent(new Event('input')); }"
        )

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

    def drag(self, selector: str, by: tuple[float, float]) -> None:
        """Press the mouse on the middle of an element, move it by so many pixels, release it."""
        x, y = self.middle(selector)
        there = (x + by[0], y + by[1])
        events = [("mousePressed", (x, y)), ("mouseMoved", there), ("mouseReleased", there)]
        for kind, (left, top) in events:
            self.browser.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=left,
                y=top,
                button="left",
                buttons=int(kind != "mouseReleased"),
                clickCount=1,
            )
        self.settle()

    def tap(self, selector: str) -> None:
        x, y = self.middle(selector)
        touch = [{"x": x, "y": y}]
        self.browser.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=touch)
        self.browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        self.settle()

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.browser.call("Input.dispatchKeyEvent", type=kind, key=key)
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for has been drawn."""
        self.browser.value("new Promise(d => requestAnimationFrame(() => setTimeout(d, 50)))")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with Browser(CHROMIUM) as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Figure]]:
    """Open a figure of this name from the disk; afterwards it must have been quiet."""

    def open_page(name: str, **how: Any) -> Figure:
        page = tmp_path / f"{name}.html"
        page.write_text(live.page(name), encoding="utf-8")
        assert page.stat().st_size < 3e6
        browser.open(page, **how)
        return Figure(browser)

    yield open_page
    assert browser.errors() == []
    assert all(url.startswith("file:") for url in browser.requests())


WIDE_OVER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
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
    status = figure.value("root.querySelector('.status').textContent")
    assert re.match(r"Row 3, column 5: sees 4 of the 32 earlier pixels", status)
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
    figure.choose("kind", "channels")
    assert figure.value("root.querySelectorAll('.squeezed .cell').length") == 14 * 14
    assert figure.value("root.querySelector('.squeezed').hidden") is False


def test_masks_work_under_a_finger(opened: Callable[..., Figure], browser: Browser) -> None:
    figure = opened("masks", width=390)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
    assert browser.value(WIDE_OVER) <= 0
    assert figure.value("root.querySelector('.board .cell').getBoundingClientRect().width") > 22
    figure.tap(".board .cell:nth-of-type(33)")
    assert "Row 3, column 5" in figure.value("root.querySelector('.status').textContent")
    for kind in ("row", "diagonal", "checkerboard", "channels", "scale"):
        figure.choose("kind", kind)
        assert browser.value(WIDE_OVER) <= 0


PLAY = "[data-control=level] + button"


def place(figure: Figure, panel: str, which: int) -> Tensor:
    """Where a handle of a panel is drawn, in the plane."""
    handle = f'[data-panel={panel}] .handle[data-which="{which}"]'
    x, y = figure.value(
        f"root.querySelector('{handle}').getAttribute('transform').match(/[-.\\d]+/g).map(Number)"
    )
    return torch.tensor([x, -y]) / 100


def density(figure: Figure, panel: str) -> Tensor:
    """The density that a panel shows, as a share of the greatest that it can show, (64, 64)."""
    alpha = figure.value(
        f"{{ const canvas = root.querySelector('[data-panel={panel}] canvas');"
        " const { data } = canvas.getContext('2d')"
        ".getImageData(0, 0, canvas.width, canvas.height);"
        " return [...data].filter((_, i) => i % 4 === 3); }"
    )
    return (torch.tensor(alpha) / 255).pow(1 / 0.6).reshape(64, 64)


@pytest.mark.parametrize("name", ["moons", "rings"])
def test_a_dragged_point_moves_on_both_sides(opened: Callable[..., Figure], name: str) -> None:
    figure = opened("plane")
    figure.choose("set", name)
    flow = live.flow_from(RECORDED[name])
    for panel, other in (("x", "z"), ("z", "x")):
        before = place(figure, panel, 1)
        figure.drag(f'[data-panel={panel}] .handle[data-which="1"]', (-25, 15))
        moved = place(figure, panel, 1)
        side = figure.value("root.querySelector('.square').clientWidth")
        # A pixel of the screen, at most, between where the mouse went and where the point is.
        assert (moved - before - torch.tensor([-25, -15]) * 6.6 / side).abs().max() < 0.04
        with torch.no_grad():
            image = (flow if panel == "x" else flow.inverse)(moved[None])[0][0]
        assert (place(figure, other, 1) - image).abs().max() < 0.02
    status = figure.value("root.querySelector('.status').textContent")
    x, z = place(figure, "x", 1), place(figure, "z", 1)
    numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", status.replace("−", "-"))]
    with torch.no_grad():
        expected = [2, *x, *z, flow(x[None])[1].item(), flow.log_prob(x[None]).item()]
    # Both places are written with two decimals.
    assert torch.allclose(torch.tensor(numbers), torch.tensor(expected), atol=0.06)


def test_a_dragged_gaussian_takes_the_density_along(opened: Callable[..., Figure]) -> None:
    figure = opened("plane")
    flow = live.flow_from(RECORDED["moons"])
    axis = (torch.arange(64) + 0.5) * 6.6 / 64 - 3.3
    rows, columns = torch.meshgrid(-axis, axis, indexing="ij")
    lattice = torch.stack([columns.flatten(), rows.flatten()], dim=1)
    grid = "root.querySelector('[data-panel=x] .grid').getAttribute('d')"
    lines = figure.value(grid)
    with torch.no_grad():
        z, log_det = flow(lattice)
        largest = flow.log_prob(lattice).max()

    def shown_and_stated(spread: float) -> tuple[Tensor, Tensor]:
        mean = place(figure, "z", -1)
        gaussian = torch.distributions.Normal(mean, spread)
        stated = (gaussian.log_prob(z).sum(1) + log_det - largest).exp().clamp(max=1)
        return density(figure, "x"), stated.reshape(64, 64)

    shown, stated = shown_and_stated(1)
    assert (shown - stated).abs().max() < 0.02
    figure.drag('[data-panel=z] .handle[data-which="-1"]', (40, -30))
    figure.slide("spread", 0.5)
    figure.settle()
    assert place(figure, "z", -1).norm() > 0.3
    moved, stated = shown_and_stated(0.5)
    assert (moved - stated).abs().max() < 0.02
    assert (moved - shown).abs().max() > 0.5
    assert figure.value(grid) != lines


def test_the_couplings_are_stepped_through(opened: Callable[..., Figure]) -> None:
    figure = opened("plane")
    flow = live.flow_from(RECORDED["moons"])
    x = place(figure, "x", 2)
    with torch.no_grad():
        steps = [x, *(step[0] for step in flow.trace(x[None]))]
    for level, step in enumerate(steps):
        figure.slide("level", level)
        figure.settle()
        assert (place(figure, "z", 2) - step).abs().max() < 0.02
    figure.slide("level", 0)
    figure.settle()
    assert torch.equal(density(figure, "x"), density(figure, "z"))
    figure.click(PLAY)
    figure.value("new Promise(done => setTimeout(done, 1500))")
    assert float(figure.value("root.querySelector('input[name=level]').value")) > 0


def test_the_plane_works_with_finger_and_keyboard(
    opened: Callable[..., Figure], browser: Browser
) -> None:
    figure = opened("plane", width=390)
    assert browser.value(WIDE_OVER) <= 0
    handle = '[data-panel=x] .handle[data-which="3"]'
    before = place(figure, "x", 3), place(figure, "z", 3)
    figure.value(f"root.querySelector('{handle}').focus()")
    figure.press("ArrowRight")
    assert torch.allclose(place(figure, "x", 3) - before[0], torch.tensor([0.05, 0.0]), atol=1e-3)
    assert not torch.equal(place(figure, "z", 3), before[1])
    assert "Point 4: x = " in figure.value("root.querySelector('.status').textContent")
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
    left, top = figure.middle(handle)
    for kind, points in (
        ("touchStart", [{"x": left, "y": top}]),
        ("touchMove", [{"x": left, "y": top - 30}]),
        ("touchMove", [{"x": left, "y": top - 60}]),
        ("touchEnd", []),
    ):
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    figure.settle()
    assert place(figure, "x", 3)[1] > before[0][1] + 0.8


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
    ratios = figure.value(CONTRASTS.replace("PAIRS", "'.key .cell, .choice span'"))
    assert min(ratios) >= 4.5


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
    levels = set()
    for _ in range(20):
        levels.add(float(figure.value("root.querySelector('input[name=level]').value")))
        figure.value("new Promise(done => setTimeout(done, 100))")
    assert max(levels) > 0
    assert all(level.is_integer() for level in levels)  # whole couplings, and nothing between


def test_the_figure_follows_the_theme_of_the_page(
    opened: Callable[..., Figure], browser: Browser
) -> None:
    figure = opened("masks")
    for change, theme in (
        ("document.body.dataset.jpThemeLight = 'false'", "dark"),  # JupyterLab
        ("document.documentElement.dataset.theme = 'light'", "light"),  # the book
        ("document.documentElement.dataset.theme = 'dark'", "dark"),
    ):
        browser.value(change)
        figure.settle()
        assert figure.value("root.host.dataset.theme") == theme


def test_a_figure_that_is_not_there_is_named() -> None:
    with pytest.raises(NVPError, match="no live figure 'mask'"):
        live.fragment("mask")


def test_data_cannot_end_the_script() -> None:
    assert live.fragment("masks", {"name": "</script>"}).count("</script>") == 1
