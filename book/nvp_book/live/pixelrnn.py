"""The content of the live figure `completion`: a Pixel RNN, digits to begin with, and a picture.

The weights go into the page as a safetensors file in half precision, as the recorded run keeps
them; pixelrnn.js reads it and computes in float64, pixel by pixel.
"""

import functools

import numpy as np
from torch import Tensor

from nvp.autoregressive.pixelrnn import PixelRNN
from nvp.ledger.entry import runs
from nvp_book.live.tensors import base64_text, weights_text
from nvp_book.selection import binary_digits

RUN = "binarized-mnist-diagonal-1"
ALT = (
    "Eight rows of eight binary digits: in each the upper half of a test digit, six completions, "
    "and the digit itself."
)


@functools.cache
def recorded() -> tuple[dict[str, str], str]:
    """`content` of the recorded run and its test digits, and for no script its completions."""
    run = runs()[RUN]
    model = run.load_model()
    assert isinstance(model, PixelRNN)
    picture = base64_text(run.files.completions.read_bytes())
    still = f'<p><img alt="{ALT}" src="data:image/png;base64,{picture}"></p>'
    return content(model, binary_digits()), still


def content(model: PixelRNN, images: Tensor) -> dict[str, str]:
    """Weights of a Diagonal BiLSTM, and `images` (N, 1, H, W) of 0 and 1 to begin with, uint8."""
    bits = np.packbits(images.numpy())
    return {"weights": weights_text(model, model.config), "images": base64_text(bits.tobytes())}
