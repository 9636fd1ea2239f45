"""The Pixel RNN in the page: its JavaScript, run in Node.js, against PyTorch."""

import pytest
import torch
from node import evaluate
from nvp_book.live import pixelrnn as live_completion
from nvp_book.live.tensors import weights_text
from nvp_book.selection import binary_digits
from pixels import config, generator, noise, randomised
from torch import Tensor

from nvp import PixelRNN
from nvp.ledger.entry import runs

pytestmark = pytest.mark.slow

TOLERANCE = 1e-9  # of float64 against float64
FILES = ["tensors.js", "pixelrnn.js"]
# What each pixel of an image costs; pixels from `first` on are drawn by the uniform numbers.
COSTS = """((network) => images.map((image) => {
  const state = beginImage(network);
  image.forEach((level, p) =>
    nextPixel(network, state, (logit) => p < first ? level : drawnLevel(logit, uniform[p - first]))
  );
  return { costs: [...state.costs], image: [...state.image] };
}))(readPixelRNN(weights))"""


def by_javascript(
    model: PixelRNN, images: Tensor, first: int, uniform: list[float]
) -> tuple[Tensor, Tensor]:
    """Nats of each pixel, (N, D), and the images, (N, D), drawn from pixel `first` on."""
    weights, pixels = weights_text(model, model.config), images.flatten(1).tolist()
    given = {"weights": weights, "images": pixels, "first": first, "uniform": uniform}
    answers = evaluate(FILES, COSTS, **given)
    costs = torch.tensor([answer["costs"] for answer in answers], dtype=torch.float64)
    return costs, torch.tensor([answer["image"] for answer in answers])


@torch.no_grad()
def by_pytorch(model: PixelRNN, images: Tensor) -> Tensor:
    """Nats of each pixel, (N, D)."""
    logs = torch.log_softmax(model.logits(images), dim=-1)
    return -logs.gather(-1, images.long().unsqueeze(-1)).flatten(1)


def test_the_network_in_the_page_is_the_recorded_run() -> None:
    model, digits = runs()[live_completion.RUN].load_model().double(), binary_digits()[::21]
    costs, _ = by_javascript(model, digits, 784, [])
    assert (costs - by_pytorch(model, digits)).abs().max() < TOLERANCE
    data, _ = live_completion.recorded()
    assert data["weights"] == weights_text(model, model.config)


def test_it_draws_what_the_package_draws() -> None:
    sizes = {"num_layers": 2, "hidden": 3, "first_kernel": 5}
    model = randomised(PixelRNN(config("diagonal_bilstm", (1, 5, 7), **sizes)))
    model = model.half().double()  # rounded as in a page
    images, draw = noise(1, 1, 5, 7, levels=2), generator(3)
    theirs = model.complete(images, 2, 1, generator=generator(3))[:, 0]
    uniform = [torch.rand(1, generator=draw, dtype=torch.float64).item() for _ in range(3 * 7)]
    costs, drawn = by_javascript(model, images, 2 * 7, uniform)
    assert torch.equal(drawn, theirs.flatten(1).long())
    assert (costs - by_pytorch(model, theirs)).abs().max() < TOLERANCE
