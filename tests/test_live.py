"""The live figures' rules and mathematics, run in Node.js, agree with PyTorch."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from node import evaluate
from nvp_book import live
from pixels import config, flow_from, generator, perturb, randomised, reached
from torch import Tensor, nn

from nvp import PixelRNN, RealNVPConfig
from nvp.autoregressive.masked_conv import MaskedConv2d, colour_groups
from nvp.flows.bijection import Composition
from nvp.flows.realnvp import Scale
from nvp.flows.squeeze import SqueezeOrder, squeeze, unsqueeze
from nvp.flows.toy import ToyData, ToyFlow

pytestmark = pytest.mark.slow


def drawn_sets(height: int, width: int, **model: Any) -> Tensor:
    """[p, q]: whether the figure says that pixel p sees pixel q, (D, D) bool."""
    expression = (
        "mapsOf(model, board).at(-1)"
        ".map(set => [...Array(board.height * board.width).keys()]"
        ".map(q => Number((set >> BigInt(q)) & 1n)))"
    )
    board = {"height": height, "width": width}
    return torch.tensor(evaluate(["receptive.js"], expression, model=model, board=board)).bool()


def measured_sets(function: Callable[[Tensor], Tensor], height: int, width: int) -> Tensor:
    """[p, q]: whether output p of a map (N, 1, H, W) to (N, ?, H, W) moves with pixel q."""
    images = torch.randn(4, 1, height, width, generator=generator())
    return reached(lambda x: function(x).flatten(2).mT, images)


KINDS = {"convolutions": "pixelcnn", "row": "row_lstm", "diagonal": "diagonal_bilstm"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("first", "kernel", "count"), [(3, 3, 2), (5, 3, 3), (3, 5, 3)])
def test_pixel_rnns_see_what_is_drawn(kind: str, first: int, kernel: int, count: int) -> None:
    height, width = 7, 8
    sizes = {"num_layers": count - 1, "hidden": 8, "first_kernel": first, "kernel_size": kernel}
    model = randomised(PixelRNN(config(KINDS[kind], (1, height, width), **sizes))).float()
    drawn = drawn_sets(
        height, width, kind=kind, count=count, mask="A", first=first, kernel=kernel, blocks=0
    )
    measured = measured_sets(lambda x: model.parameters_of(x)[:, 0].movedim(-1, 1), height, width)
    assert torch.equal(drawn, measured)


@pytest.mark.parametrize("mask", ["A", "B"])
@pytest.mark.parametrize("count", [1, 3])
def test_masked_convolutions_see_what_is_drawn(mask: Any, count: int) -> None:
    grey, features = colour_groups(1, 1), colour_groups(6, 1)
    masks = [mask] + ["B"] * (count - 1)
    layers = [
        MaskedConv2d(m, features if i else grey, features, (3, 3)) for i, m in enumerate(masks)
    ]
    stack = randomised(nn.Sequential(*layers)).float()
    drawn = drawn_sets(6, 7, kind="convolutions", count=count, mask=mask, first=3, kernel=3)
    measured = measured_sets(stack, 6, 7)
    assert torch.equal(drawn, measured)
    # Mask A is what keeps a pixel from seeing itself.
    assert measured.diagonal().any() == (mask == "B")


@pytest.mark.parametrize(
    ("kind", "count", "blocks", "order"),
    [
        *(("checkerboard", count, blocks, "position") for count, blocks in ((1, 0), (3, 1))),
        *(("channels", 1, *each) for each in ((0, "diagonal"), (1, "position"))),
        *(("channels", 3, *each) for each in ((0, "position"), (1, "diagonal"))),
        *(("scale", 5, *each) for each in ((0, "diagonal"), (1, "position"))),
    ],
)
def test_couplings_see_what_is_drawn(kind: str, count: int, blocks: int, order: str) -> None:
    height, width = 8, 10
    orders = {"position": SqueezeOrder.POSITION_MAJOR, "diagonal": SqueezeOrder.DIAGONAL}
    config = RealNVPConfig.paper(
        (1, height, width), num_scales=2, num_blocks=blocks, width=16, channel_squeeze=orders[order]
    )
    scale = randomised(Scale(config, 0)).float().eval()
    boards = [] if kind == "channels" else list(scale.checkerboard.bijections)[:count]
    halves = list(scale.channelwise.bijections)[: count - len(boards)]

    def encode(images: Tensor) -> Tensor:
        images = squeeze(Composition(boards)(images)[0], orders[order])
        return unsqueeze(Composition(halves)(images)[0], orders[order])

    drawn = drawn_sets(height, width, kind=kind, count=count, blocks=blocks, order=order)
    measured = measured_sets(encode, height, width)
    assert torch.equal(drawn, measured)


RECORDED = json.loads((live.SOURCES / live.FLOWS).read_text())


def in_javascript(
    data: Any, *ways: tuple[Tensor, float, float]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The figure's `move` of points between two levels, and its `logDensity` of what comes out."""
    expression = (
        "ways.map(way => move(readFlow(data.weights), ...way)).map(moved => "
        "[moved.points, moved.logDet, logDensity(moved, [0, 0], 1)].map(a => [...a]))"
    )
    flat = [(points.flatten().tolist(), start, end) for points, start, end in ways]
    found = [
        [torch.tensor(values, dtype=torch.float64) for values in results]
        for results in evaluate(["flow.js"], expression, data=data, ways=flat)
    ]
    return [(moved.reshape(-1, 2), change, density) for moved, change, density in found]


@pytest.mark.parametrize("name", ToyData)
def test_the_flow_is_that_of_pytorch(name: str) -> None:
    data = RECORDED[name]
    flow = flow_from(data)
    x = ToyData(name).sample(200, seed=3)
    with torch.no_grad():
        z, log_det = flow(x)
        back, log_det_back = flow.inverse(z)
        parts = [Composition(flow.couplings[: level + 1]) for level in range(len(flow.couplings))]
        steps = [part(x[..., None, None])[0].flatten(1) for part in parts]
        density = flow.log_prob(x)
    ways = [(x, 0, level + 1) for level in range(len(steps))]
    *moved, (returned, change_back, _) = in_javascript(data, *ways, (z, len(steps), 0))
    found = [*(points for points, *_ in moved), *moved[-1][1:], returned, change_back]
    stated = [*steps, log_det, density, back, log_det_back]
    for ours, theirs in zip(found, stated, strict=True):
        assert (ours - theirs).abs().max() < 1e-3


def test_levels_between_two_couplings_are_bijections() -> None:
    data = RECORDED["moons"]
    x = ToyData.MOONS.sample(50, seed=4).double()
    step = 1e-5
    right, up = (x + step * e for e in torch.eye(2).double())
    (h, log_det, _), (whole, whole_det, _), (right, *_), (up, *_) = in_javascript(
        data, (x, 0, 2.3), (x, 0, 6), (right, 0, 2.3), (up, 0, 2.3)
    )
    (back, log_det_back, _), (z, rest, _) = in_javascript(data, (h, 2.3, 0), (h, 2.3, 6))
    assert (back - x).abs().max() < 1e-9
    assert (log_det + log_det_back).abs().max() < 1e-9
    # Two ways to the same place, and the volume that finite differences see.
    assert (z - whole).abs().max() < 1e-9
    assert (log_det + rest - whole_det).abs().max() < 1e-9
    right, up = right - h, up - h
    area = (right[:, 0] * up[:, 1] - right[:, 1] * up[:, 0]) / step**2
    assert (area.log() - log_det).abs().max() < 1e-3


@pytest.mark.parametrize("name", ToyData)
def test_a_recorded_flow_is_better_than_a_gaussian(name: str) -> None:
    points, fresh = ToyData(name).sample(5000, seed=1), ToyData(name).sample(5000, seed=2)
    gaussian = torch.distributions.MultivariateNormal(points.mean(0), points.T.cov())
    with torch.no_grad():
        flow = flow_from(RECORDED[name]).log_prob(fresh).mean()
    assert flow > gaussian.log_prob(fresh).mean() + 0.3  # nats per point


def test_the_weights_in_the_page_are_those_of_the_flow() -> None:
    flow = ToyFlow(num_couplings=3, width=4)
    perturb(flow)
    points = torch.randn(70, 2)
    again = flow_from(live.flow_data(flow, points))
    assert (again(points)[0] - flow(points)[0]).abs().max() < 1e-3


def test_data_cannot_end_the_script() -> None:
    assert live.fragment("masks", {"name": "</script>"}).count("</script>") == 1
