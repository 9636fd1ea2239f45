"""Files of an entropy coder: lossless, as long as the model says, and only for that model."""

import math
import sys

import pytest
import torch
from pixels import OUTPUTS, config, randomised, small_flow
from tiny import images_of as any_images
from tiny import refusal
from torch import Tensor

from nvp import PixelRNN
from nvp.autoregressive.coding import RESOLUTION, decode, encode, frequencies
from nvp.autoregressive.config import Kind
from nvp.errors import NVPError


def tiny(kind: str = "row_lstm", channels: int = 1, **changes: object) -> PixelRNN:
    """A model with random weights; float32, as recorded ones are."""
    return randomised(PixelRNN(config(kind, (channels, 4, 5), **changes))).float()


def bits(counts: Tensor, images: Tensor) -> float:
    """-log2 of the probability that `counts`, (D, N, levels), give to all of the images."""
    levels = images.movedim(1, 3).flatten(1).T.long().unsqueeze(-1)
    of_levels = counts.double() / counts.sum(dim=-1, keepdim=True)
    return -of_levels.gather(-1, levels).log2().sum().item()


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("channels", "output"), [(1, OUTPUTS[0]), *((3, output) for output in OUTPUTS)], ids=str
)
def test_a_file_is_lossless_and_as_long_as_it_is_improbable(kind, channels, output) -> None:
    model = tiny(kind, channels, **output)
    images = any_images(model)
    file = encode(model, images)
    assert torch.equal(decode(model, file, len(images)), images)
    expected = bits(frequencies(model, images), images)
    assert expected - 0.01 < 8 * len(file) < expected + 64


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("levels", [2, 256])
def test_the_coder_is_told_what_the_model_says(kind: Kind, levels: int) -> None:
    model = tiny(kind, 3, levels=levels, hidden=6).double()
    images = any_images(model)
    counts = frequencies(model, images)
    with torch.no_grad():
        forward = torch.softmax(model.logits(images), dim=-1).permute(2, 3, 1, 0, 4).flatten(0, 2)
        nats = model.log_prob(images).sum().item()
    assert torch.equal(counts, (RESOLUTION * forward).round().int() + 1)
    assert counts.min() >= 1
    # One more for each level costs (levels / 2^20) / ln 2 bits a sub-pixel.
    assert abs(bits(counts, images) + nats / math.log(2)) < 1e-3 * images.numel()


@pytest.mark.parametrize("kind", Kind)
def test_counts_are_those_of_any_batch(kind: Kind) -> None:
    model = tiny(kind, levels=256)
    images = any_images(model)
    alone = torch.cat([frequencies(model, image[None]) for image in images], dim=1)
    assert torch.equal(frequencies(model, images), alone)
    assert torch.equal(decode(model, encode(model, images[2:3]), 1), images[2:3])


def test_a_model_that_differs_a_little_cannot_read_a_file() -> None:
    model, other = tiny(levels=256), tiny(levels=256)
    images = any_images(model)
    file = encode(model, images)
    with torch.no_grad():
        other.head.convs[2].bias[7] += 0.01
    try:
        read = decode(other, file, len(images))
    except NVPError:
        return
    assert not torch.equal(read, images)


def test_the_model_stays_as_it_was() -> None:
    model = tiny()
    output, weights = model.output, [p.clone() for p in model.parameters()]
    encode(model, any_images(model))
    assert model.output is output
    torch.testing.assert_close(list(model.parameters()), weights, rtol=0, atol=0)


def test_what_cannot_be_coded_or_decoded_is_refused(monkeypatch) -> None:
    model = tiny()
    images = any_images(model)
    flow, broken = small_flow(), tiny()
    next(broken.parameters()).data.fill_(torch.nan)
    for words, call in {
        "its weights are damaged": lambda: encode(broken, images),
        "RealNVP does not give": lambda: encode(flow, any_images(flow)),
        "values in 0..1": lambda: encode(model, images + 2),
        "uint8": lambda: encode(model, images.float()),
        "n must be at least 1": lambda: decode(model, b"", 0),
        "cut off": lambda: decode(model, b"abc", 1),
        "not made by this model": lambda: decode(model, b"\xff" * 40, 7),
    }.items():
        with refusal(words):
            call()
    monkeypatch.setitem(sys.modules, "constriction", None)
    with refusal("pip install constriction"):
        encode(model, images)
