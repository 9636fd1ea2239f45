"""The multi-scale Pixel RNN of section 3.6."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nvp.autoregressive import sampling
from nvp.autoregressive.config import MultiScaleConfig
from nvp.autoregressive.layers import bias_maps
from nvp.autoregressive.pixelrnn import PixelRNN
from nvp.model.autocast import as_multiplied, without_autocast
from nvp.model.protocol import ImageModel


class Upsampler(nn.Module):
    """7x7 convolutions, deconvolutions that double the side, then a 1x1 for each layer.

    (N, C, h, w) -> one bias (N, maps, factor h, factor w) for each of `num_layers` layers. The
    small image is known, so nothing here is masked. Each 7x7 reaches 3 pixels further, and there
    are as many as lead from one edge to the other: every pixel sees the whole small image, as in
    Figure 2. The paper does not give the number of layers.
    """

    def __init__(
        self, small_shape: tuple[int, int, int], factor: int, width: int, maps: int, num_layers: int
    ) -> None:
        super().__init__()
        features, height, across = small_shape
        body: list[nn.Module] = []
        for _ in range(math.ceil((max(height, across) - 1) / 3)):
            body += [nn.Conv2d(features, width, 7, padding="same"), nn.ReLU()]
            features = width
        for _ in range(factor.bit_length() - 1):
            body += [nn.ConvTranspose2d(features, width, 4, stride=2, padding=1), nn.ReLU()]
            features = width
        self.body = nn.Sequential(*body)
        self.biases = nn.ModuleList(nn.Conv2d(width, maps, 1) for _ in range(num_layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        with without_autocast(x):  # bfloat16 would move the levels
            x = self.body[0](x)
        features = self.body[1:](as_multiplied(x))
        return [bias(features) for bias in self.biases]


class MultiScalePixelRNN(ImageModel):
    """A Pixel RNN draws every `factor`-th row and column; a second one draws the image given those.

    log p(small) + log p(image | small) is exact for the pair. It is a lower bound on log p(image),
    since the second model can also draw the image given another small one. With softmax outputs the
    bound has no noise, so more sets of noise do not change it.
    """

    likelihood = "bound"
    autoregressive = True

    def __init__(self, config: MultiScaleConfig) -> None:
        super().__init__()
        self.config = config
        self.image_shape = config.image_shape
        self.levels = config.levels
        small, large = config.small, config.large
        self.small, self.large = PixelRNN(small), PixelRNN(large)
        self.upsampler = Upsampler(
            small.image_shape, config.factor, config.width, bias_maps(large), large.num_layers
        )

    def subsample(self, images: Tensor) -> Tensor:
        """The pixels on the regular grid of Figure 2, (N, C, H / factor, W / factor)."""
        factor = self.config.factor
        return images[:, :, ::factor, ::factor]

    def _log_probs(
        self, images: Tensor, num_draws: int, generator: torch.Generator | None, y: Tensor | None
    ) -> Iterator[Tensor]:
        small = self.subsample(images)
        own = self.small._log_probs(small, num_draws, generator)
        biases = self.upsampler(self.small.centred(small))
        given = self.large._log_probs(images, num_draws, generator, biases=biases)
        return map(torch.add, own, given)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Draw a small image, then the full one given it: uint8, (n, C, H, W)."""
        small = self.small.sample(n, generator=generator, temperature=temperature, labels=labels)
        return self.enlarge(small, generator=generator, temperature=temperature)

    @torch.no_grad()
    def enlarge(
        self, small: Tensor, *, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Draw full images given small ones: uint8, (N, C, h, w) -> (N, C, factor h, factor w).

        Raises `NVPError` for `small` of another type, shape or level than those of the small model,
        and for a temperature below 1e-6.
        """
        self.small.check_images(small)
        images = torch.zeros(len(small), *self.image_shape, dtype=torch.uint8, device=small.device)
        biases = self.upsampler(self.small.centred(small))
        return sampling.fill(
            self.large, images, 0, biases=biases, generator=generator, temperature=temperature
        )
