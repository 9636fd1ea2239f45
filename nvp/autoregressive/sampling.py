"""Drawing images sub-pixel by sub-pixel, with cached features and states.

Section 3.5: sampling is sequential for all three models. A forward pass per sub-pixel would
compute all pixels each time. Here each layer computes one pixel, from the features and states that
it kept of earlier ones, once for each of the C colours. A whole image then costs the arithmetic of
about C forward passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, get_args

import torch
from torch import Size, Tensor, nn
from torch.nn import functional as F

from nvp.autoregressive.diagonal_bilstm import DiagonalBiLSTM
from nvp.autoregressive.layers import Core, Head, ResidualLayer
from nvp.autoregressive.lstm import lstm_cell
from nvp.autoregressive.masked_conv import MaskedConv2d
from nvp.autoregressive.pixelcnn import PixelCNNBlock
from nvp.autoregressive.row_lstm import RowLSTM
from nvp.errors import NVPError
from nvp.model.autocast import without_autocast
from nvp.model.protocol import check_temperature

if TYPE_CHECKING:  # which imports this file
    from nvp.autoregressive.pixelrnn import PixelRNN

IMAGES_A_THREAD = 256
# At this one the largest logit practically always wins. Far smaller ones make the logits infinite.
LEAST_TEMPERATURE = 1e-6


def fill(
    model: PixelRNN,
    images: Tensor,
    first_row: int,
    *,
    biases: list[Tensor] | None = None,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """A copy of uint8 `images`, (N, C, H, W), with all rows from `first_row` on drawn anew.

    `biases` holds a map (N, `bias_maps(config)`, H, W) for each layer, which its core adds (section
    3.6). The layers' `forward` is not called. Raises `NVPError` for a part with a `forward`, or a
    model with a `parameters_of`, of its own, and for a temperature below 1e-6.
    """
    check_temperature(temperature, LEAST_TEMPERATURE)
    device, images = images.device, images.to(model.first.weight.device, copy=True)
    _, colours, height, width = images.shape
    pixels = _Pixels(model, images.shape, biases)
    # In half precision the states of a recurrence and the mixture's means would be too coarse.
    with _few_threads(len(images)), without_autocast(images):
        for row in range(height):
            for column in range(width):
                if row < first_row:
                    pixels.features_at(images[:, :, row, column], row, column)
                    continue
                # A colour is drawn given those before it: the pixel is computed once for each.
                for colour in range(colours):
                    parameters = pixels.parameters_at(images[:, :, row, column], row, column)
                    drawn = model.output.draw(parameters[:, colour], generator, temperature)
                    images[:, colour, row, column] = drawn
                # The finished pixel: by mask A its last colour changes no feature of it.
                pixels.first.put(model.centred(images[:, :, row, column]), row, column)
            for layer in pixels.layers:
                layer.core.end_row(row)
    return images.to(device)


@contextmanager
def _few_threads(count: int) -> Iterator[None]:
    """One thread for every `IMAGES_A_THREAD` images: one pixel is too little work to share.

    Threads that synchronise after each step cost more than they save, most of all where other
    programs keep the cores busy.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, count // IMAGES_A_THREAD)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Pixels:
    """All layers of a network, one pixel at a time, in raster order."""

    def __init__(self, model: PixelRNN, shape: Size, biases: list[Tensor] | None) -> None:
        _check_known(model)
        self.model = model
        self.first = _Conv(model.first, shape)
        self.layers = [
            _Residual(layer, shape, None if biases is None else biases[i])
            for i, layer in enumerate(model.layers)
        ]
        self.head = [_Conv(conv, shape) for conv in model.head.convs]

    def parameters_at(self, pixel: Tensor, row: int, column: int) -> Tensor:
        """The output's parameters at a pixel, (N, C, size)."""
        x = self.features_at(pixel, row, column)
        for conv in self.head:
            x = conv(F.relu(x), row, column)
        return x.unflatten(-1, (-1, self.model.output.size))

    def features_at(self, pixel: Tensor, row: int, column: int) -> Tensor:
        """The features that the head reads at a pixel, (N, features).

        `pixel`, (N, C), holds the colours so far. The method may be called again for the same pixel
        when more of its colours are known.
        """
        x = self.first(self.model.centred(pixel), row, column)
        total: Tensor | None = None
        for layer in self.layers:
            x, skipped = layer(x, row, column)
            if skipped is not None:
                total = skipped if total is None else total + skipped
        return x if total is None else x + total


class _Conv:
    """A masked convolution at one pixel, plus the map `added`; keeps the map of its inputs."""

    def __init__(self, conv: MaskedConv2d, shape: Size, added: Tensor | None = None) -> None:
        count, _, height, width = shape
        side, self.added = conv.weight.shape[2:], added
        self.rows, self.columns = side[0] // 2 + 1, side[1]
        # Only rows up to the centre have weights. The map is (N, H, W, in), so is the patch.
        weight = conv.masked_weight()[:, :, : self.rows].permute(0, 2, 3, 1)
        self.weight, self.bias = weight.flatten(1).contiguous(), conv.bias
        self.pointwise = tuple(side) == (1, 1)
        if not self.pointwise:
            size = (count, height + self.rows - 1, width + self.columns - 1, weight.shape[-1])
            self.map = torch.zeros(size, dtype=weight.dtype, device=weight.device)

    def put(self, x: Tensor, row: int, column: int) -> None:
        self.map[:, row + self.rows - 1, column + self.columns // 2] = x

    def __call__(self, x: Tensor, row: int, column: int) -> Tensor:
        """(N, in) at the pixel -> (N, out)."""
        if not self.pointwise:
            self.put(x, row, column)
            x = self.map[:, row : row + self.rows, column : column + self.columns].flatten(1)
        y = F.linear(x, self.weight, self.bias)
        return y if self.added is None else y + self.added[:, :, row, column]


class _Residual:
    """`ResidualLayer` at one pixel."""

    def __init__(self, layer: ResidualLayer, shape: Size, bias: Tensor | None) -> None:
        self.core = _core(layer.core, shape, bias)
        self.up = _Conv(layer.up, shape)
        self.skip = None if layer.skip is None else _Conv(layer.skip, shape)
        self.residual = layer.residual

    def __call__(self, x: Tensor, row: int, column: int) -> tuple[Tensor, Tensor | None]:
        h = self.core(x, row, column)
        up = self.up(h, row, column)
        skipped = None if self.skip is None else self.skip(h, row, column)
        return (x + up if self.residual else up), skipped


class _PixelCNNBlock:
    """`PixelCNNBlock` at one pixel."""

    def __init__(self, block: PixelCNNBlock, shape: Size, bias: Tensor | None) -> None:
        self.reduce, self.conv = _Conv(block.reduce, shape), _Conv(block.conv, shape, bias)

    def __call__(self, x: Tensor, row: int, column: int) -> Tensor:
        return F.relu(self.conv(F.relu(self.reduce(F.relu(x), row, column)), row, column))

    def end_row(self, row: int) -> None:
        """Nothing waits for the end of a row."""


class _RowLSTM:
    """`RowLSTM` at one pixel; keeps the states of this row and of the one above."""

    def __init__(self, layer: RowLSTM, shape: Size, bias: Tensor | None) -> None:
        self.gates = _Conv(layer.input_to_state, shape, bias)
        self.weight = layer.state_to_state[0].flatten(0, 1)  # (taps h, 4h)
        self.taps = layer.state_to_state.shape[1]
        h, c = layer.initial[0].unsqueeze(2).expand(-1, -1, shape[0], -1)  # each (W, N, h)
        self.border = [torch.zeros_like(h[0])] * (self.taps // 2)
        self.h, self.c = list(h), list(c)
        self.end_row(-1)  # they stand above the first row

    def __call__(self, x: Tensor, row: int, column: int) -> Tensor:
        states = torch.cat(self.above[column : column + self.taps], dim=1)
        gates = torch.addmm(self.gates(x, row, column), states, self.weight)
        self.h[column], self.c[column] = lstm_cell(gates, self.cells[column])
        return self.h[column]

    def end_row(self, row: int) -> None:
        """This row's states become those of the row above."""
        self.above, self.cells = [*self.border, *self.h, *self.border], list(self.c)


class _DiagonalBiLSTM:
    """`DiagonalBiLSTM` at one pixel.

    The map from right to left reaches a pixel one row late. So it is computed for a whole row
    when that is complete, and read while the next is drawn.
    """

    def __init__(self, layer: DiagonalBiLSTM, shape: Size, bias: Tensor | None) -> None:
        self.gates = _Conv(layer.input_to_state, shape, bias)
        self.weight = layer.state_to_state.contiguous()  # (directions, taps, h, 4h)
        self.first = layer.initial.unsqueeze(3).expand(-1, -1, -1, shape[0], -1)  # (2, 2, H, N, h)
        nothing = [torch.zeros_like(self.first[0, 0, 0])] * shape[3]
        self.above, self.right = nothing.copy(), nothing.copy()  # both of the row above
        self.h, self.c = nothing.copy(), nothing.copy()
        self.waiting = nothing.copy()  # gates of the other direction, (N, 4h)

    def __call__(self, x: Tensor, row: int, column: int) -> Tensor:
        ours, self.waiting[column] = self.gates(x, row, column).chunk(2, dim=1)
        h, c = (self.h[column - 1], self.c[column - 1]) if column else self.first[0, :, row]
        self.h[column], self.c[column] = self._cell(0, ours, h, self.above[column], c)
        return self.h[column] + self.right[column]

    def end_row(self, row: int) -> None:
        """Run the other direction over the row that is complete."""
        h, c = self.first[1, :, row]
        for column in reversed(range(len(self.h))):
            h, c = self._cell(1, self.waiting[column], h, self.right[column], c)
            self.right[column] = h
        self.above = list(self.h)

    def _cell(
        self, direction: int, gates: Tensor, beside: Tensor, above: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor]:
        left, up = self.weight[direction]
        return lstm_cell(torch.addmm(torch.addmm(gates, beside, left), above, up), c)


def _check_known(model: PixelRNN) -> None:
    kinds = (nn.ModuleList, MaskedConv2d, Head, ResidualLayer, *get_args(Core))
    known = [kind.forward for kind in kinds]
    wholes = (model.first, *model.layers, model.head)
    named = [pair for whole in wholes for pair in whole.named_modules()]
    # A weight with a parametrisation is read as `forward` reads it.
    parts: list[nn.Module] = [part for name, part in named if "parametrizations" not in name]
    unknown = [part for part in parts if type(part).forward not in known]
    if type(model).parameters_of.__module__ != "nvp.autoregressive.pixelrnn":
        unknown.append(model)
    if unknown:
        raise NVPError(
            f"sampling does not know the layer {type(unknown[0]).__name__}: override `sample`, and "
            "draw by nvp.testing.fill_by_definition"
        )


def _core(
    core: Core, shape: Size, bias: Tensor | None
) -> _PixelCNNBlock | _RowLSTM | _DiagonalBiLSTM:
    match core:
        case PixelCNNBlock():
            return _PixelCNNBlock(core, shape, bias)
        case RowLSTM():
            return _RowLSTM(core, shape, bias)
        case DiagonalBiLSTM():
            return _DiagonalBiLSTM(core, shape, bias)
