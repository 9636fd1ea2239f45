"""Lossless coding of images by a Pixel RNN, in about -log2 P(image) bits (section 2).

The chain rule gives the probability of each level of a sub-pixel given those before it, and an
entropy coder needs nothing else. The decoder is the sampler of section 3.5 with a file in place of
its random numbers.

Encoder and decoder must get the same numbers, to the last bit. So both take the sampler's steps, on
the CPU in float64, and round each probability to an integer. Batches of other sizes and other
machines add in another order. That changes a float64 probability by about 1e-15, and its integer
only if it crosses a half, which is rare but not impossible.
"""

import copy
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nvp.autoregressive.pixelrnn import PixelRNN
from nvp.errors import NVPError
from nvp.model.protocol import ImageModel

RESOLUTION = 2**20  # the coder itself works with 24 bits
Draw = Callable[[Tensor], Tensor]  # counts (N, levels) -> the levels (N,) of one sub-pixel


def frequencies(model: ImageModel, images: Tensor) -> Tensor:
    """The frequencies by which the coder codes uint8 `images`, (N, C, H, W): (H W C, N, levels).

    They are int32 of at least 1, in the ratios of the conditional probabilities. Sub-pixels are in
    coding order: by rows, then columns, then colours. Raises `NVPError` for a model that is no
    `PixelRNN`, and for images that do not fit the model.
    """
    seen: list[Tensor] = []
    _walk(model, images, lambda counts, _: seen.append(counts))
    return torch.stack(seen)


def encode(model: ImageModel, images: Tensor) -> bytes:
    """The file, without a header, from which `decode` makes uint8 `images`, (N, C, H, W), again.

    All images are in one stream of 32-bit words, so that its end is paid for once. With the mixture
    output, probability outside the levels is redistributed among them, and the file is as long as
    that distribution implies. Raises `NVPError` as `frequencies` does, and without the package
    constriction.
    """
    streams = _streams()
    coder, family = streams.queue.RangeEncoder(), streams.model.Categorical(perfect=False)

    def write(counts: Tensor, symbols: Tensor) -> None:
        coder.encode(symbols.int().numpy(), family, counts.float().numpy())

    _walk(model, images, write)
    return coder.get_compressed().astype("<u4").tobytes()


def decode(model: ImageModel, file: bytes, count: int) -> Tensor:
    """The `count` images, uint8 (count, C, H, W), of which `encode` made `file`.

    It needs the same model and count. Another model or count, or a file that was cut short, is
    seldom detected: the result is then random samples. Raises `NVPError` where it is detected, for
    a model that is no `PixelRNN`, a count below 1, and without the package constriction.
    """
    streams = _streams()
    if len(file) % 4:
        raise NVPError(
            f"a file of {len(file)} bytes does not consist of 32-bit words, so it is cut off: pass "
            "the whole file"
        )
    coder = streams.queue.RangeDecoder(np.frombuffer(file, "<u4").astype(np.uint32))
    family = streams.model.Categorical(perfect=False)

    def read(counts: Tensor) -> Tensor:
        return torch.from_numpy(coder.decode(family, counts.float().numpy())).to(torch.uint8)

    try:
        return _sample(model, count, read)
    except AssertionError as error:  # which is what the coder raises
        raise NVPError(
            "this file was not made by this model from this number of images: use those of `encode`"
        ) from error


def _walk(model: ImageModel, images: Tensor, visit: Callable[[Tensor, Tensor], None]) -> None:
    """Call `visit` with the counts (N, levels) and the levels (N,) of each sub-pixel in order."""
    model.check_images(images)
    levels = iter(images.cpu().permute(2, 3, 1, 0).flatten(0, 2))

    def draw(counts: Tensor) -> Tensor:
        known = next(levels)
        visit(counts, known)
        return known

    _sample(model, len(images), draw)


def _sample(model: ImageModel, count: int, draw: Draw) -> Tensor:
    """Sample `count` images with `draw` in place of random numbers."""
    if not isinstance(model, PixelRNN):
        raise NVPError(
            f"a {type(model).__name__} does not give the probability of a sub-pixel "
            "given those before it: code with a PixelRNN"
        )
    model = copy.deepcopy(model).cpu().double()
    output = model.output

    def coded(parameters: Tensor, generator: object, temperature: float) -> Tensor:
        probabilities = torch.softmax(output.logits(parameters), dim=-1)
        if not probabilities.isfinite().all():
            raise NVPError(
                "this model gives no finite probabilities: its weights are damaged, load them again"
            )
        return draw((RESOLUTION * probabilities).round().int() + 1)

    output.draw = coded  # type: ignore[method-assign]  # of this copy alone
    return model.sample(count)


def _streams() -> Any:
    """The stream coders of constriction, which only this file needs."""
    try:
        return importlib.import_module("constriction").stream
    except ImportError as error:
        raise NVPError(
            "coding needs the package constriction: `pip install constriction`, or install nvp "
            "with its extra `book`"
        ) from error
