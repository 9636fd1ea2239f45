"""The layers between the first convolution and the output: residual layers and the head."""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from nvp.autoregressive.config import Kind, PixelRNNConfig
from nvp.autoregressive.diagonal_bilstm import DiagonalBiLSTM
from nvp.autoregressive.masked_conv import MaskedConv2d, colour_groups
from nvp.autoregressive.output import Output
from nvp.autoregressive.pixelcnn import PixelCNNBlock
from nvp.autoregressive.row_lstm import RowLSTM
from nvp.model.autocast import without_autocast

Core = PixelCNNBlock | RowLSTM | DiagonalBiLSTM


class ResidualLayer(nn.Module):
    """Figure 5: a core (2h -> h), a 1x1 up to 2h and, if `residual`, the sum with the input.

    With `config.skip` a second 1x1 (h -> 2h) leads to the head, which reads the sum of these and of
    the last layer's output. Section 3.3 does not give the form of skip connections: this is ours.
    Both 1x1s have mask B. In training each whole map of the core is dropped from each image with
    probability `config.dropout` (Tompson et al., 2015). The others are scaled to make up for it.
    Sampling drops none.
    """

    def __init__(self, config: PixelRNNConfig) -> None:
        super().__init__()
        colours = config.image_shape[0]
        narrow, wide = (colour_groups(k * config.hidden, colours) for k in (1, 2))
        self.core = _core(config)
        self.up = MaskedConv2d("B", narrow, wide)
        self.skip = MaskedConv2d("B", narrow, wide) if config.skip else None
        self.residual = config.residual
        self.dropout = config.dropout

    def extra_repr(self) -> str:
        return f"residual={self.residual}, dropout={self.dropout}"

    def forward(self, x: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(N, 2h, H, W) -> the next layer's input, and the map for the head or None."""
        h = F.dropout2d(self.core(x, bias), self.dropout, self.training)
        up = self.up(h)
        return (x + up if self.residual else up), None if self.skip is None else self.skip(h)


def _core(config: PixelRNNConfig) -> Core:
    colours, height, width = config.image_shape
    features, hidden = 2 * config.hidden, config.hidden
    match config.kind:
        case Kind.PIXELCNN:
            return PixelCNNBlock(features, hidden, colours, config.kernel_size)
        case Kind.ROW_LSTM:
            return RowLSTM(features, hidden, colours, config.kernel_size, width)
        case Kind.DIAGONAL_BILSTM:
            return DiagonalBiLSTM(features, hidden, colours, height)


def bias_maps(config: PixelRNNConfig) -> int:
    """How many feature maps a layer's bias has: 4h a direction for an LSTM, h for a PixelCNN.

    Section 3.6 has 4h a layer. Maps for each direction, and those of a PixelCNN, are our choice.
    """
    gates = {Kind.PIXELCNN: 1, Kind.ROW_LSTM: 4, Kind.DIAGONAL_BILSTM: 8}
    return gates[config.kind] * config.hidden


class Head(nn.Module):
    """Twice ReLU and a 1x1 (mask B) to `maps` features, then ReLU and the 1x1 of the output.

    (N, features, H, W) -> (N, C * output.size, H, W), the parameters of every sub-pixel. Section 4
    has two 1x1s. It does not say whether the second is the output: we read the output as a third.
    """

    def __init__(self, features: int, maps: int, num_colours: int, output: Output) -> None:
        super().__init__()
        wide, groups = colour_groups(features, num_colours), colour_groups(maps, num_colours)
        # Of the outputs the first `size` are red's, then green's, then blue's.
        of_outputs = colour_groups(num_colours, num_colours).repeat_interleave(output.size)
        convs = [MaskedConv2d("B", *ends) for ends in pairwise([wide, groups, groups, of_outputs])]
        self.convs = cast(Sequence[MaskedConv2d], nn.ModuleList(convs))
        self.needs_float32 = output.needs_float32

    def forward(self, x: Tensor) -> Tensor:
        if self.needs_float32:
            x = x.to(self.convs[0].weight.dtype)
        with without_autocast(x) if self.needs_float32 else nullcontext():
            for conv in self.convs:
                x = conv(F.relu(x))
        return x
