"""The models again, in NumPy, from the papers' equations alone.

Nothing here calls the package but for its weights, by name. All in float64.
"""

import numpy as np
import pixels
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nvp import PixelRNN, RealNVPConfig

Array = NDArray[np.float64]
Weights = dict[str, Array]
EPSILON = 1e-4


def under(weights: Weights, prefix: str) -> Weights:
    """The weights of a part, by their names within it."""
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def weights_of(model: torch.nn.Module) -> Weights:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def sums(x: Array, kernel: Array) -> Array:
    """A convolution, zeros around."""
    around = [(0, 0), *((side // 2, side // 2) for side in kernel.shape[2:])]
    windows = sliding_window_view(np.pad(x, around), kernel.shape[2:], axis=(1, 2))
    return np.einsum("oidr,ihwdr->ohw", kernel, windows)


# Real NVP. Maps are (C, H, W).


def convolve(x: Array, weights: Weights) -> Array:
    """g v / ||v||, the norm over all but the output channel; without g it is 1."""
    v = weights["v"]
    gain = weights.get("g", np.ones(len(v))) / np.sqrt((v**2).sum((1, 2, 3)))
    bias = weights.get("bias", np.zeros(len(v)))
    return gain[:, None, None] * sums(x, v) + bias[:, None, None]


def normalise(x: Array, weights: Weights) -> Array:
    """A norm inside s and t: moving averages and a learned shift, no gain."""
    mean, variance, beta = (
        weights[name][:, None, None] for name in ("running_mean", "running_var", "beta")
    )
    return (x - mean) / np.sqrt(variance + EPSILON) + beta


def net(x: Array, board: Array | None, weights: Weights) -> tuple[Array, Array]:
    """Section 3.4 and 4.1: t, and the pre-activation of s."""
    h = normalise(x, under(weights, "treatment.norm."))
    parts = [h, -h] if board is None else [2 * h, -2 * h, board[None]]
    h = convolve(relu(np.concatenate(parts)), under(weights, "conv_in."))
    total = convolve(h, under(weights, "skip_in."))
    for index in range(sum(name.endswith("conv2.v") for name in weights)):
        block = under(weights, f"blocks.{index}.")
        y = relu(normalise(h, under(block, "norm1.")))
        y = relu(normalise(convolve(y, under(block, "conv1.")), under(block, "norm2.")))
        h = h + convolve(y, under(block, "conv2."))
        total = total + convolve(h, under(weights, f"skips.{index}."))
    out = convolve(relu(normalise(total, under(weights, "norm_out."))), under(weights, "conv_out."))
    return out[: len(out) // 2], out[len(out) // 2 :]


def couple(
    x: Array, kept: Array, board: bool, official: bool, weights: Weights
) -> tuple[Array, float]:
    """Equations 4 to 9 where `kept` is 0, and equations 17 and 18 for what the norm moves."""
    inside = under(weights, "net.")
    if board:
        t, raw = net(x * kept, kept[0], inside)
    else:
        half = kept[:, 0, 0] == 1
        t, raw = np.zeros_like(x), np.zeros_like(x)
        t[~half], raw[~half] = net(x[half], None, inside)
    s = weights["scale"] * np.tanh(raw)
    z, log_det = x.copy(), 0.0
    mean, variance = weights["norm.running_mean"], weights["norm.running_var"] + EPSILON
    for at in np.ndindex(*x.shape):
        if kept[at] == 0:
            z[at] = (x[at] + t[at]) * np.exp(s[at]) if official else x[at] * np.exp(s[at]) + t[at]
            log_det += s[at]
        if kept[at] == 0 or not official:  # the paper's norm is of the whole output
            z[at] = (z[at] - mean[at[0]]) / np.sqrt(variance[at[0]])
            log_det -= 0.5 * np.log(variance[at[0]])
    return z, log_det


# Of the rows and columns of a block of 2x2: top left, top right, bottom left, bottom right.
PLAIN, DIAGONAL = [(0, 0), (0, 1), (1, 0), (1, 1)], [(0, 0), (1, 1), (0, 1), (1, 0)]


def channels(count: int, places: list[tuple[int, int]], colours_first: bool) -> list[tuple]:
    """For each channel after a squeeze its channel before, and its place in the block."""
    if colours_first:
        return [(colour, *place) for colour in range(count) for place in places]
    return [(colour, *place) for place in places for colour in range(count)]


def squeeze(x: Array, order: list[tuple]) -> Array:
    return np.stack([x[colour, row::2, column::2] for colour, row, column in order])


def unsqueeze(x: Array, order: list[tuple]) -> Array:
    out = np.zeros((len(x) // 4, 2 * x.shape[1], 2 * x.shape[2]))
    for channel, (colour, row, column) in zip(x, order, strict=True):
        out[colour, row::2, column::2] = channel
    return out


def scale(x: Array, last: bool, official: bool, weights: Weights) -> tuple[Array, float]:
    """Section 3.6: three checkerboards, a squeeze, three channel-wise couplings; or four boards."""
    total = 0.0
    rows, columns = np.indices(x.shape[1:])
    for index in range(4 if last else 3):
        odd_kept = index % 2 == (1 if official else 0)
        board = ((rows + columns) % 2 == odd_kept).astype(float)
        part = under(weights, f"checkerboard.bijections.{index}.")
        x, log_det = couple(x, np.stack([board] * len(x)), True, official, part)
        total += log_det
    if last:
        return x, total
    order = channels(len(x), PLAIN, colours_first=official)
    x = squeeze(x, order)
    for index in range(3):
        kept = np.zeros_like(x)
        half = len(x) // 2
        kept[half:] = index % 2
        kept[:half] = 1 - index % 2
        part = under(weights, f"channelwise.bijections.{index}.")
        x, log_det = couple(x, kept, False, official, part)
        total += log_det
    return unsqueeze(x, order), total


def flow(x: Array, official: bool, weights: Weights) -> tuple[Array, float]:
    """Equations 13 to 16 with two scales: z in image layout, and log|det|."""
    h, first = scale(x, False, official, under(weights, "scales.0."))
    order = channels(len(x), DIAGONAL, colours_first=False)
    h = squeeze(h, order)
    half = len(h) // 2
    h[:half], second = scale(h[:half], True, official, under(weights, "scales.1."))
    return unsqueeze(h, order), first + second


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_a_real_nvp(preset: str) -> None:
    sizes = {"num_scales": 2, "num_blocks": 2, "width": 2, "preset": preset}
    model = pixels.lived(RealNVPConfig.model_validate({"image_shape": (3, 4, 4), **sizes}))
    image = pixels.noise(1, 3, 4, 4, seed=1)
    noise = torch.rand(image.shape, generator=pixels.generator(2), dtype=torch.float64)
    x = (image[0].numpy() + noise[0].numpy()) / 256
    p = 0.05 + 0.9 * x
    z, log_det = flow(np.log(p / (1 - p)), preset == "official", under(weights_of(model), "flow."))
    log_prior = -0.5 * (z**2 + np.log(2 * np.pi)).sum()
    of_logit = (np.log(0.9) - np.log(p) - np.log(1 - p)).sum()
    expected = log_prior + log_det + of_logit - x.size * np.log(256)
    with torch.no_grad():
        found = model.encode(image, pixels.generator(2))[0].numpy()
        nats = model.log_prob(image, generator=pixels.generator(2)).item()
    np.testing.assert_allclose(found, z, rtol=1e-9, atol=1e-9)
    assert nats == pytest.approx(expected, rel=1e-11)


# Pixel RNN. A feature's colour is its number modulo the colours. Maps are (features, H, W).


def masked(x: Array, weights: Weights, letter: str, own: list[int], colours: int) -> Array:
    """A convolution of section 3.4; `own` are the colours of its outputs."""
    kernel = weights["weight"].copy()
    middle = kernel.shape[2] // 2, kernel.shape[3] // 2
    for o, i, *place in np.ndindex(*kernel.shape):
        before = tuple(place) < middle
        if tuple(place) == middle:
            before = i % colours < own[o] or (letter == "B" and i % colours == own[o])
        kernel[o, i, *place] *= before
    return sums(x, kernel) + weights["bias"][:, None, None]


def cell(gates: Array, c: Array) -> tuple[Array, Array]:
    """Equation 3, for one pixel: the gates o, f, i, g of h units each."""
    o, f, i, g = gates.reshape(4, -1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def row_lstm(gates: Array, weights: Weights) -> Array:
    """Section 3.1: a pixel reads the h of k pixels of the row above it, and the c of the middle."""
    kernel, (h, c) = weights["state_to_state"][0], weights["initial"][0]
    out = np.zeros((h.shape[1], *gates.shape[1:]))
    for row in range(gates.shape[1]):
        above, cells = h.copy(), c.copy()
        h, c = np.zeros_like(h), np.zeros_like(c)
        for column in range(gates.shape[2]):
            total = gates[:, row, column].copy()
            for tap, weight in enumerate(kernel):
                at = column + tap - len(kernel) // 2
                if 0 <= at < len(above):
                    total += above[at] @ weight
            h[column], c[column] = cell(total, cells[column])
            out[:, row, column] = h[column]
    return out


def diagonal(gates: Array, kernel: Array, initial: Array) -> Array:
    """Section 3.2, one direction: a pixel reads h left of it and above it, and c left of it."""
    left, above = kernel
    h, c = initial  # of each row, before its first pixel
    out = np.zeros((h.shape[1], *gates.shape[1:]))
    for row in range(gates.shape[1]):
        state, memory = h[row], c[row]
        for column in range(gates.shape[2]):
            total = gates[:, row, column] + state @ left
            if row > 0:
                total = total + out[:, row - 1, column] @ above
            state, memory = cell(total, memory)
            out[:, row, column] = state
    return out


def core(kind: str, x: Array, weights: Weights, hidden: int, colours: int) -> Array:
    """The input-to-state convolution and the recurrence of a layer, or the PixelCNN's block."""
    own = [unit % colours for unit in range(hidden)]
    if kind == "pixelcnn":
        h = masked(relu(x), under(weights, "reduce."), "B", own, colours)
        return relu(masked(relu(h), under(weights, "conv."), "B", own, colours))
    inputs = under(weights, "input_to_state.")
    if kind == "row_lstm":
        return row_lstm(masked(x, inputs, "B", 4 * own, colours), weights)
    gates = masked(x, inputs, "B", 8 * own, colours)
    kernel, initial = weights["state_to_state"], weights["initial"]
    out = diagonal(gates[: 4 * hidden], kernel[0], initial[0])
    mirrored = diagonal(gates[4 * hidden :, :, ::-1], kernel[1], initial[1])[:, :, ::-1]
    out[:, 1:] += mirrored[:, :-1]  # shifted down by one row
    return out


def log_probability(kind: str, image: NDArray[np.uint8], model: PixelRNN) -> float:
    """log p of equation 1, summed pixel by pixel and colour by colour."""
    weights, config = weights_of(model), model.config
    colours, levels, hidden = len(image), config.levels, config.hidden
    wide = [feature % colours for feature in range(2 * hidden)]
    x = image * (2 / (levels - 1)) - 1
    x = masked(x, under(weights, "first."), "A", wide, colours)
    total = np.zeros_like(x)
    for index in range(config.num_layers):
        layer = under(weights, f"layers.{index}.")
        h = core(kind, x, under(layer, "core."), hidden, colours)
        up = masked(h, under(layer, "up."), "B", wide, colours)
        x = x + up if config.residual else up
        if config.skip:
            total += masked(h, under(layer, "skip."), "B", wide, colours)
    x = x + total
    maps = [feature % colours for feature in range(config.head)]
    outputs = [colour for colour in range(colours) for _ in range(levels if levels > 2 else 1)]
    for index, own in enumerate((maps, maps, outputs)):
        x = masked(relu(x), under(weights, f"head.convs.{index}."), "B", own, colours)
    nats = 0.0
    for colour, row, column in np.ndindex(*image.shape):
        logits = x[[o == colour for o in outputs], row, column]
        if levels == 2:  # one sigmoid
            logits = np.array([0.0, logits[0]])
        nats += logits[image[colour, row, column]] - np.log(np.exp(logits).sum())
    return nats


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("kind", ["pixelcnn", "row_lstm", "diagonal_bilstm"])
def test_a_pixel_rnn(kind: str, colours: int, residual: bool, monkeypatch) -> None:
    monkeypatch.setenv("NVP_PLAIN", "1")  # the compiled scan is compared with the plain one
    changes = {"num_layers": 2, "levels": 3 if residual else 2, "residual": residual}
    changes["kernel_size"] = 5 if residual else 3
    config = pixels.config(kind, (colours, 3, 4), **changes, skip=residual)
    model = pixels.randomised(PixelRNN(config))
    image = pixels.noise(1, *model.image_shape, levels=model.levels)
    with torch.no_grad():
        nats = model.log_prob(image).item()
    assert nats == pytest.approx(log_probability(kind, image[0].numpy(), model), rel=1e-12)
