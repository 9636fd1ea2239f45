"""The Pixel RNN: the chain rule over sub-pixels, in the layers of Table 1."""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from nvp.autoregressive import sampling
from nvp.autoregressive.config import OutputKind, PixelRNNConfig
from nvp.autoregressive.layers import Head, ResidualLayer
from nvp.autoregressive.masked_conv import MaskedConv2d, colour_groups
from nvp.autoregressive.output import Mixture, Output, Softmax
from nvp.errors import NVPError
from nvp.model.autocast import as_multiplied, without_autocast
from nvp.model.protocol import ImageModel, check_count


class PixelRNN(ImageModel):
    """p(x) = prod_i p(x_i | x_1, ..., x_{i-1}), pixel by pixel (eq 1), R, then G, then B (eq 2).

    The likelihood is exact (dropout, in training mode, makes it noisy). The mixture output is a
    density, scored on dequantised images: its likelihood is a bound. The parts of the network are
    `first`, `layers`, `head` and `output`.

    >>> config = PixelRNNConfig(kind="row_lstm", image_shape=(1, 28, 28), levels=2, num_layers=2,
    ...                         hidden=16)
    >>> nats = PixelRNN(config).log_prob(torch.zeros(4, 1, 28, 28, dtype=torch.uint8))
    """

    autoregressive = True

    def __init__(self, config: PixelRNNConfig) -> None:
        super().__init__()
        self.config = config
        self.image_shape = config.image_shape
        self.levels = config.levels
        colours, side = config.image_shape[0], config.first_kernel
        self.likelihood = "exact"
        self.output: Output = Softmax(config.levels)
        if config.output == OutputKind.MIXTURE:
            self.likelihood = "bound"
            self.output = Mixture(config.levels, config.num_components, config.num_scales)
        wide = colour_groups(2 * config.hidden, colours)
        self.first = MaskedConv2d("A", colour_groups(colours, colours), wide, (side, side))
        layers = [ResidualLayer(config) for _ in range(config.num_layers)]
        self.layers = cast(Sequence[ResidualLayer], nn.ModuleList(layers))
        self.head = Head(2 * config.hidden, config.head, colours, self.output)

    def logits(self, images: Tensor) -> Tensor:
        """Log-probabilities of every level, (N, C, H, W, levels), nats; uint8 (N, C, H, W) in.

        Those of a softmax are not normalised. Those of a mixture are, except for the mass that lies
        outside of all levels. Raises `NVPError` for images that do not fit.
        """
        return self.output.logits(self.parameters_of(self.check_images(images)))

    def _log_probs(
        self,
        images: Tensor,
        num_draws: int,
        generator: torch.Generator | None,
        y: Tensor | None = None,
        biases: list[Tensor] | None = None,
    ) -> Iterator[Tensor]:
        """The log-probability of each image, (N,), in nats, once for each set of noise.

        `biases` holds a map (N, `bias_maps(config)`, H, W) for each layer (section 3.6).
        """
        parameters = self.parameters_of(images, biases)
        for _ in range(num_draws):
            yield self.output.log_prob(parameters, images, generator).flatten(1).sum(1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Draw sub-pixel after sub-pixel: uint8, (n, C, H, W), values 0..levels-1.

        `temperature` divides the logits; for a mixture it divides those of the components, and
        multiplies the scales. Raises `NVPError` for a temperature below 1e-6, n < 1, or labels.
        """
        self.condition(labels, n)
        images = torch.zeros(n, *self.image_shape, dtype=torch.uint8, device=self.device)
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

        uint8 (N, C, H, W) -> (N, num_samples, C, H, W). Raises `NVPError` for images that do
        not fit, `visible_rows` outside 0..H, `num_samples` < 1, or a temperature below 1e-6.
        """
        self.check_images(images)
        height = self.image_shape[1]
        if visible_rows not in range(height + 1):
            raise NVPError(
                f"visible_rows must be a whole number in 0..{height}, got {visible_rows!r}"
            )
        check_count("num_samples", num_samples)
        repeated = images.repeat_interleave(num_samples, dim=0)
        filled = sampling.fill(
            self, repeated, visible_rows, generator=generator, temperature=temperature
        )
        return filled.unflatten(0, (len(images), num_samples))

    def parameters_of(self, images: Tensor, biases: list[Tensor] | None = None) -> Tensor:
        """The output's parameters for every sub-pixel, (N, C, H, W, size)."""
        x = self.centred(images)
        with without_autocast(x):  # bfloat16 would move the levels
            x = self.first(x)
        # With one channel both layouts look the same, and PyTorch would choose the slower one.
        x = as_multiplied(x).contiguous(memory_format=torch.channels_last)
        total = None
        for i, layer in enumerate(self.layers):
            x, skipped = layer(x, None if biases is None else biases[i])
            if skipped is not None:
                total = skipped if total is None else total + skipped
        return self.output.per_pixel(self.head(x if total is None else x + total))

    def centred(self, images: Tensor) -> Tensor:
        """Levels of any shape as numbers from -1 to 1, the only preprocessing (section 5.2)."""
        weight = self.first.weight
        return images.to(weight.device, weight.dtype) * (2 / (self.levels - 1)) - 1
