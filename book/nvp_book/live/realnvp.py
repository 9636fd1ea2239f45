"""The content of the live figure `images`: a Real NVP, images, and a picture for no script.

The weights go into the page as a safetensors file, parameters in half precision as a recorded run
keeps them; realnvp.js reads it and computes what the model does in evaluation mode.
"""

import copy
import functools
import math

import torch
from PIL import Image
from torch import Tensor

from nvp.data import EMBEDDED, load
from nvp.flows.realnvp import RealNVP
from nvp.ledger.entry import runs
from nvp.model.dequantisation import dequantise
from nvp.runs.sheet import encode
from nvp_book.figures.samples import tile
from nvp_book.live.tensors import base64_text, weights_text

RUN = "live-fashion"
NUM_IMAGES = 20  # the first embedded test images, shown four at a time
ALT = (
    "Eight rows of eight pictures. Four of them are test images; from each to the next the "
    "pictures change little by little, through mixtures."
)


@functools.cache
def recorded() -> tuple[dict[str, str], str]:
    """`content` of the recorded run and the first embedded test images."""
    model = runs()[RUN].load_model()
    assert isinstance(model, RealNVP)
    return content(model, load(EMBEDDED, "test", limit=NUM_IMAGES).images)


def content(model: RealNVP, images: Tensor) -> tuple[dict[str, str], str]:
    """Weights, `images` (N, 1, H, W) uint8, and the picture for where no script runs, in HTML.

    The script computes the preset `paper` alone, and shows four images at a time.
    """
    model = copy.deepcopy(model).cpu().float().eval()
    sheet = Image.fromarray(tile(decoded_manifold(model, images[:4]), columns=8)[..., 0])
    data = {
        "weights": weights_text(model.flow, model.config),
        "images": base64_text(images.numpy().tobytes()),
    }
    picture = base64_text(encode(sheet))
    return data, f'<p><img alt="{ALT}" src="data:image/png;base64,{picture}"></p>'


@torch.no_grad()
def decoded_manifold(model: RealNVP, images: Tensor) -> Tensor:
    """Figure 6 for four images (4, 1, H, W) uint8: uint8, (64, 1, H, W), row by row.

    Both angles of eq 19 take eight values of a full turn, the first one downwards.
    """
    y, _ = model.logit(dequantise(images, torch.full(images.shape, 0.5)))
    z, _ = model.flow(y)
    angles = torch.arange(8) * math.pi / 4
    turn = torch.stack([angles.cos(), angles.sin()], dim=1)
    factors = torch.einsum("ai,bj->abij", turn, turn).reshape(-1, 4)
    return model.decode((factors @ z.flatten(1)).reshape(-1, *model.image_shape))
