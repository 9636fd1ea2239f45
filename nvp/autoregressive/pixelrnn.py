"""The Pixel RNN: the chain rule over sub-pixels, in the layers of Table 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nvp.autoregressive import sampling
from nvp.autoregressive.config import Kind, OutputKind, PixelRNNConfig
from nvp.autoregressive.diagonal_bilstm import DiagonalBiLSTM
from nvp.autoregressive.masked_conv import MaskedConv2d, colour_groups
from nvp.autoregressive.output import Mixture, Output, Softmax
from nvp.autoregressive.pixelcnn import PixelCNNBlock
from nvp.autoregressive.row_lstm import RowLSTM
from nvp.errors import NVPError
from nvp.model.protocol import ImageModel, check_count


class ResidualLayer(nn.Module):
    """Figure 5: a core (2h -> h), a 1x1 up to 2h, and the sum with the input.

    With `skip` a second 1x1 (h -> 2h) leads to the head. Both have mask B. In training each map of
    the core is left out of each image with probability `dropout`, whole, and the others are scaled
    to make up for it (Tompson et al., 2015). Sampling leaves none out.
    """

    def __init__(self, core: nn.Module, hidden: int, num_colours: int, config: PixelRNNConfig):
        super().__init__()
        narrow, wide = colour_groups(hidden, num_colours), colour_groups(2 * hidden, num_colours)
        self.core = core
        self.up = MaskedConv2d("B", narrow, wide)
        self.skip = MaskedConv2d("B", narrow, wide) if config.skip else None
        self.residual = config.residual
        self.dropout = config.dropout

    def forward(self, x: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(N, 2h, H, W) -> the next layer's input and what goes to the head, or None."""
        h = F.dropout2d(self.core(x, bias), self.dropout, self.training)
        up = self.up(h)
        return (x + up if self.residual else up), None if self.skip is None else self.skip(h)


class Head(nn.Module):
    """Two ReLU, 1x1 (mask B) pairs of `maps` features, then a ReLU and the output's 1x1."""

    def __init__(self, features: int, maps: int, num_colours: int, output: Output) -> None:
        super().__init__()
        wide, groups = colour_groups(features, num_colours), colour_groups(maps, num_colours)
        # Of the outputs the first `size` are red's, then green's, then blue's.
        of_outputs = torch.arange(num_colours).repeat_interleave(output.size)
        self.convs = nn.ModuleList(
            [
                MaskedConv2d("B", wide, groups),
                MaskedConv2d("B", groups, groups),
                MaskedConv2d("B", groups, of_outputs),
            ]
        )
        self.in_full = output.in_full

    def forward(self, x: Tensor) -> Tensor:
        if not self.in_full:
            return self._convolve(x)
        with torch.autocast(x.device.type, enabled=False):
            return self._convolve(_at_least_float32(x))

    def _convolve(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv(F.relu(x))
        return x


class PixelRNN(ImageModel):
    """p(x) = prod_i p(x_i | x_1, ..., x_{i-1}), pixel by pixel and R, then G, then B (section 2).

    >>> config = PixelRNNConfig(kind="row_lstm", image_shape=(1, 28, 28), levels=2, num_layers=2,
    ...                         hidden=16)
    >>> nats = PixelRNN(config).log_prob(torch.zeros(4, 1, 28, 28, dtype=torch.uint8))
    """

    def __init__(self, config: PixelRNNConfig) -> None:
        super().__init__()
        self.config = config
        self.image_shape = config.image_shape
        self.levels = config.levels
        colours, hidden = config.image_shape[0], config.hidden
        self.output: Output = (
            Softmax(config.levels)
            if config.output is OutputKind.DISCRETE
            else Mixture(config.levels, config.num_components, config.num_scales)
        )
        wide = colour_groups(2 * hidden, colours)
        side = config.first_kernel
        self.first = MaskedConv2d("A", torch.arange(colours), wide, (side, side))
        self.layers = nn.ModuleList(
            ResidualLayer(_core(config), hidden, colours, config) for _ in range(config.num_layers)
        )
        self.head = Head(2 * hidden, config.head, colours, self.output)

    def logits(self, images: Tensor) -> Tensor:
        """Log-probabilities of every level, (N, C, H, W, levels); uint8 in.

        Unnormalised, but for the mixture output.
        """
        self.check_images(images)
        return self.output.logits(self.parameters_of(images))

    def log_prob(
        self, images: Tensor, *, num_draws: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """log p(x), (N,), nats, exact; uint8 in. (Dropout, in training mode, makes it noisy.)

        The mixture output is a density, scored on noise from `generator`: a lower bound, and with
        `num_draws` > 1 the importance-weighted one.
        """
        return self.conditional_log_prob(images, None, num_draws, generator)

    def conditional_log_prob(
        self,
        images: Tensor,
        biases: list[Tensor] | None,
        num_draws: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """As `log_prob`, given a map for each layer to add to its input-to-state map (section 3.6).

        `biases` has one (N, `bias_maps(config)`, H, W) a layer. Raises `NVPError` for another
        number of them.
        """
        self.check_images(images)
        check_count("num_draws", num_draws)
        if biases is not None and len(biases) != len(self.layers):
            raise NVPError(f"biases must be one for each of {len(self.layers)}, got {len(biases)}")
        parameters = self.parameters_of(images, biases)
        images = images.to(parameters.device)
        if self.config.output is OutputKind.DISCRETE:
            num_draws = 1
        draws = [
            self.output.log_prob(parameters, images, generator).flatten(1).sum(1)
            for _ in range(num_draws)
        ]
        return torch.logsumexp(torch.stack(draws), dim=0) - math.log(num_draws)

    def loss(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Mean nats per image."""
        return -self.log_prob(images, generator=generator).mean()

    @torch.no_grad()
    def sample(
        self, n: int, *, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Draw sub-pixel after sub-pixel: uint8, (n, C, H, W), values 0..levels-1.

        The logits are divided by `temperature`; of a mixture those of the components, and the
        scales are multiplied by it. Raises `NVPError` if it is below a millionth, or n < 1.
        """
        check_count("n", n)
        device = self.first.weight.device
        images = torch.zeros(n, *self.image_shape, dtype=torch.uint8, device=device)
        return sampling.fill(self, images, 0, generator=generator, temperature=temperature)

    @torch.no_grad()
    def complete(
        self,
        images: Tensor,
        visible_rows: int,
        num_samples: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Keep the first `visible_rows` rows of each image and draw the others (Figure 1).

        uint8 (N, C, H, W) -> (N, num_samples, C, H, W). Raises `NVPError` for rows that the image
        does not have.
        """
        self.check_images(images)
        height = self.image_shape[1]
        if visible_rows not in range(height + 1):
            raise NVPError(f"visible_rows must be 0, 1, ... or the height {height}: {visible_rows}")
        check_count("num_samples", num_samples)
        repeated = images.repeat_interleave(num_samples, dim=0)
        filled = sampling.fill(
            self, repeated, visible_rows, generator=generator, temperature=temperature
        )
        return filled.unflatten(0, (len(images), num_samples))

    def parameters_of(self, images: Tensor, biases: list[Tensor] | None = None) -> Tensor:
        """The output's parameters for every sub-pixel, (N, C, H, W, size)."""
        # One channel looks the same in either layout, so PyTorch would choose the slower one.
        x = self.first(self.centred(images)).contiguous(memory_format=torch.channels_last)
        total = None
        for i, layer in enumerate(self.layers):
            x, skipped = layer(x, None if biases is None else biases[i])
            if skipped is not None:
                total = skipped if total is None else total + skipped
        parameters = self.head(x if total is None else x + total)
        # A sum over so many sub-pixels needs more digits than bfloat16 has.
        return self.output.per_pixel(_at_least_float32(parameters))

    def centred(self, images: Tensor) -> Tensor:
        """Levels as numbers from -1 to 1: all the preprocessing there is (section 5.1)."""
        weight = self.first.weight
        return images.to(weight.device, weight.dtype) * (2 / (self.levels - 1)) - 1


def bias_maps(config: PixelRNNConfig) -> int:
    """The number of maps that biasing a layer takes: those of its input-to-state map."""
    return {Kind.PIXELCNN: 1, Kind.ROW_LSTM: 4, Kind.DIAGONAL_BILSTM: 8}[
        config.kind
    ] * config.hidden


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _core(config: PixelRNNConfig) -> nn.Module:
    colours, height, width = config.image_shape
    features, hidden = 2 * config.hidden, config.hidden
    match config.kind:
        case Kind.PIXELCNN:
            return PixelCNNBlock(features, hidden, colours, config.kernel_size)
        case Kind.ROW_LSTM:
            return RowLSTM(features, hidden, colours, config.kernel_size, width)
        case Kind.DIAGONAL_BILSTM:
            return DiagonalBiLSTM(features, hidden, colours, height)
