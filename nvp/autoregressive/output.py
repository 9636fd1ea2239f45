"""The distribution of one sub-pixel: a softmax over its levels, or a density (section 5.3)."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nvp.autoregressive.softmax import compiled, log_softmax_at
from nvp.errors import NVPError
from nvp.model.autocast import at_least_float32
from nvp.model.dequantisation import dequantise, normal_noise, quantise, uniform_noise


class Output(nn.Module, ABC):
    """A distribution over the levels 0..levels-1, for every sub-pixel by itself.

    A `PixelRNN` with another one sets `output`, and then
    `head = Head(2 * config.hidden, config.head, config.image_shape[0], output)`.
    """

    needs_float32: bool = False  # True: bfloat16 is too coarse, so autocast leaves its head alone

    def __init__(self, levels: int, size: int) -> None:
        super().__init__()
        self.levels = levels
        self.size = size  # parameters of one sub-pixel

    def extra_repr(self) -> str:
        return f"levels={self.levels}, size={self.size}"

    def per_pixel(self, parameters: Tensor) -> Tensor:
        """(N, C * size, H, W) -> (N, C, H, W, size)."""
        return parameters.permute(0, 2, 3, 1).unflatten(-1, (-1, self.size)).permute(0, 3, 1, 2, 4)

    @abstractmethod
    def logits(self, parameters: Tensor) -> Tensor:
        """Parameters (..., size) -> (..., levels): log-probabilities plus any constant."""

    @abstractmethod
    def log_prob(
        self, parameters: Tensor, images: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """log p of each sub-pixel, in nats: parameters (..., size), images (...) -> (...)."""

    @abstractmethod
    def draw(
        self, parameters: Tensor, generator: torch.Generator | None, temperature: float
    ) -> Tensor:
        """Parameters (N, size) -> N levels, uint8."""


class Softmax(Output):
    """Softmax over 3 to 256 levels; for two levels one sigmoid, whose logits are 0 and a."""

    def __init__(self, levels: int) -> None:
        super().__init__(levels, 1 if levels == 2 else levels)

    def logits(self, parameters: Tensor) -> Tensor:
        parameters = at_least_float32(parameters)
        if self.levels > 2:
            return parameters
        return F.pad(parameters, (1, 0))

    def log_prob(
        self, parameters: Tensor, images: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        if compiled(parameters):
            return log_softmax_at(parameters, images)
        # A sum over so many sub-pixels needs more digits than bfloat16 has.
        parameters = at_least_float32(parameters)
        if self.levels == 2:
            a = parameters.squeeze(-1)
            return -F.binary_cross_entropy_with_logits(a, images.to(a.dtype), reduction="none")
        logs = torch.log_softmax(parameters, dim=-1)
        return logs.gather(-1, images.long().unsqueeze(-1)).squeeze(-1)

    def draw(
        self, parameters: Tensor, generator: torch.Generator | None, temperature: float
    ) -> Tensor:
        probabilities = torch.softmax(self.logits(parameters) / temperature, dim=-1)
        return _choose(probabilities, generator).to(torch.uint8)


class Mixture(Output):
    """A density over x~ = (x + u) / levels in [0, 1), u ~ U[0, 1): Gaussian scale mixtures, mixed.

    p(x~) = sum_kl w_kl N(x~; m_k, s_kl^2): each of K components has one mean and S scales.
    Section 5.3 compares such an output, an MCGSM (mixture of conditional Gaussian scale mixtures),
    with the softmax in the same Row LSTM. It does not give its parametrisation. Here the network
    computes all parameters. log P(x) >= E_u log p(x~) - log(levels). Values outside [0, 1) are of
    no level: their mass counts as lost in a score, and what is drawn there becomes the nearest
    level.
    """

    # bfloat16 moves a mean by more than a narrow scale, and the gradient then points elsewhere.
    needs_float32 = True

    def __init__(self, levels: int, num_components: int, num_scales: int) -> None:
        self.sizes = [num_components * num_scales, num_components, num_components * num_scales]
        super().__init__(levels, sum(self.sizes))
        self.shape = (num_components, num_scales)

    def _parts(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights, means and log-scales, each (..., K S), in float32 or more."""
        parameters = at_least_float32(parameters)
        weights, means, scales = parameters.split(self.sizes, dim=-1)
        components, num_scales = self.shape
        # Before training: means spread over [0, 1], scales from a fifth of the range down.
        places = (torch.arange(components, device=means.device) + 0.5) / components
        first = -1.5 - torch.arange(num_scales, device=means.device).repeat(components)
        means = (means + places.to(means.dtype)).repeat_interleave(num_scales, dim=-1)
        return torch.log_softmax(weights, dim=-1), means, (scales + first).clamp(min=-9.0)

    def logits(self, parameters: Tensor) -> Tensor:
        """Log of the mass of each level's bin, (..., levels); mass outside [0, 1) is lost."""
        log_weights, means, log_scales = self._parts(parameters)
        edges = torch.arange(self.levels + 1, device=means.device, dtype=means.dtype) / self.levels
        scaled = (edges - means.unsqueeze(-1)) / (math.sqrt(2) * log_scales.exp().unsqueeze(-1))
        lower, upper = scaled[..., :-1], scaled[..., 1:]
        # A bin above the mean is replaced by its mirror image: erfc near 2 loses the digits.
        above = lower > 0
        lower, upper = torch.where(above, -upper, lower), torch.where(above, -lower, upper)
        share = (torch.erfc(-upper) - torch.erfc(-lower)) / 2
        mass = (log_weights.exp().unsqueeze(-1) * share).sum(-2)
        return mass.clamp(min=torch.finfo(mass.dtype).tiny).log()

    def log_prob(
        self, parameters: Tensor, images: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        log_weights, means, log_scales = self._parts(parameters)
        noise = uniform_noise(images.shape, generator, means.dtype)
        value = dequantise(images, noise, self.levels)
        standard = (value.unsqueeze(-1) - means) * (-log_scales).exp()
        logs = log_weights - log_scales - 0.5 * (standard.square() + math.log(2 * math.pi))
        return torch.logsumexp(logs, dim=-1) - math.log(self.levels)

    def draw(
        self, parameters: Tensor, generator: torch.Generator | None, temperature: float
    ) -> Tensor:
        log_weights, means, log_scales = self._parts(parameters)
        weights = torch.softmax(log_weights / temperature, dim=-1)
        chosen = _choose(weights, generator).unsqueeze(-1)
        noise = normal_noise((len(chosen),), generator, means.dtype)
        scale = temperature * log_scales.gather(-1, chosen).squeeze(-1).exp()
        value = means.gather(-1, chosen).squeeze(-1) + scale * noise.to(means.device)
        return quantise(value, self.levels)


def _choose(probabilities: Tensor, generator: torch.Generator | None) -> Tensor:
    """One index for each row of (N, K), by inverting the cumulative sum.

    It takes one uniform each. `torch.multinomial` takes K, and at 256 levels 4 times as long for 16
    images, 9 times for 256.
    """
    uniform = uniform_noise((len(probabilities), 1), generator, probabilities.dtype)
    reached = probabilities.cumsum(dim=-1)
    if reached[:, -1].isnan().any():  # which would draw black
        raise NVPError("a probability is nan: look for weights that are not finite")
    # Rounding may leave the last sum below 1. A number above it takes the last index that has any
    # probability, which is the first to reach that sum.
    return ((reached <= uniform.to(reached.device)) & (reached < reached[:, -1:])).sum(dim=-1)
