"""The Real NVP of images in the page: its JavaScript, run in Node.js, against PyTorch."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from node import evaluate
from nvp_book import live
from nvp_book.live import realnvp as live_images
from nvp_book.live.tensors import weights_text
from PIL import Image
from torch import Tensor

from nvp import RealNVP
from nvp.data import EMBEDDED, load
from nvp.ledger.entry import runs
from nvp.model.dequantisation import dequantise

pytestmark = pytest.mark.slow

TOLERANCE = 1e-6  # of float64 against float64
FLOW = ["tensors.js", "realnvp.js"]
# Pixels in [0, 1] -> logits, latents and their log-determinant, and what 0.9 z decodes to.
BOTH_WAYS = """(flow => [...pixels].map(image => {
  const logits = logitsOf(flow, Float64Array.from(image));
  const there = encode(flow, logits);
  const back = decode(flow, there.z.map(value => 0.9 * value));
  return {
    z: [...there.z],
    logDet: there.logDet,
    bits: bitsPerDim(flow, { logits, ...there }),
    pixels: [...pixelsOf(flow, back.logits)],
    logDetBack: back.logDet,
  };
}))(readRealNVP(weights))"""


def middle(images: Tensor) -> Tensor:
    """Pixels in [0, 1], float64, with 1/2 for the noise of dequantisation."""
    return dequantise(images, torch.full(images.shape, 0.5, dtype=torch.float64))


def finest_first(model: RealNVP, z: Tensor) -> Tensor:
    """Latents in image layout -> (N, D), as the figure has them: eq 16."""
    return torch.cat([part.flatten(1) for part in model.latents_by_scale(z)], dim=1)


def by_javascript(model: RealNVP, pixels: Tensor) -> list[Tensor]:
    """What the script says of images: a row of each tensor is of one."""
    weights = weights_text(model.flow, model.config)
    rows = evaluate(FLOW, BOTH_WAYS, weights=weights, pixels=pixels.flatten(1).tolist())
    names = ("z", "logDet", "bits", "pixels", "logDetBack")
    return [torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in names]


@torch.no_grad()
def by_pytorch(model: RealNVP, pixels: Tensor) -> list[Tensor]:
    y, change = model.logit(pixels)
    z, log_det = model.flow(y)
    back, log_det_back = model.flow.inverse(0.9 * z)
    size = model.num_dimensions
    nats = model.prior.log_prob(z) + log_det + change - size * np.log(256)
    decoded = model.logit.inverse(back)[0].flatten(1)
    bits = -nats / (size * np.log(2))
    return [finest_first(model, z), log_det, bits, decoded, log_det_back]


def recorded_model() -> RealNVP:
    return runs()[live_images.RUN].load_model().double()


def test_the_flow_in_the_page_is_the_recorded_run() -> None:
    model = recorded_model()
    pixels = middle(load(EMBEDDED, "test", limit=3).images)
    for ours, theirs in zip(by_javascript(model, pixels), by_pytorch(model, pixels), strict=True):
        assert (ours - theirs).abs().max() < TOLERANCE
    data, _ = live_images.recorded()
    assert data["weights"] == weights_text(model.flow, model.config)


def test_the_manifold_is_figure_6() -> None:
    model = recorded_model()
    images = load(EMBEDDED, "test", limit=4).images
    with torch.no_grad():
        z, _ = model.flow(model.logit(middle(images))[0])
    expression = (
        "((flow, four) => [...pixelsOf(flow,"
        " decode(flow, onManifold(four, Math.PI / 4, 3 * Math.PI / 4)).logits)])"
        "(readRealNVP(weights), latents.map(z => Float64Array.from(z)))"
    )
    weights = weights_text(model.flow, model.config)
    latents = finest_first(model, z).tolist()
    shown = torch.tensor(evaluate(FLOW, expression, weights=weights, latents=latents))
    stated = live_images.decoded_manifold(model.float(), images).view(8, 8, -1)[1, 3]
    # The script paints floor(256 x); float32 may round to the level beside it.
    assert ((256 * shown).floor().clamp(0, 255) - stated).abs().max() <= 1


def test_a_picture_stands_in_where_no_script_runs() -> None:
    for html, largest in ((live.completion().data, 4e5), (live.images().data, 1e6)):
        assert len(html) < largest
        place, _ = html.split("<script>")
        (picture,) = re.findall(r'<img alt="[^"]+" src="data:image/png;base64,([^"]+)">', place)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
    assert sheet.shape == (238, 238)  # eight pictures, and two pixels between them
    corner, first = torch.tensor(sheet[:28, :28]), load(EMBEDDED, "test", limit=1).images[0, 0]
    assert (corner.int() - first.int()).abs().max() <= 1  # it is image 1, encoded and decoded
