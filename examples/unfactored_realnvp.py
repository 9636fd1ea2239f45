"""Real NVP without the factoring out of section 3.6: all dimensions go through all scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

from torch import Tensor, nn

from nvp.flows.config import RealNVPConfig
from nvp.flows.realnvp import MultiScaleFlow, RealNVP, Scale
from nvp.flows.squeeze import squeeze, unsqueeze


class UnfactoredRealNVPConfig(RealNVPConfig):
    """A Real NVP whose scale k has 4^(k-1) C channels, where Real NVP has 2^(k-1) C.

    Its networks are `same`, as wide as those of Real NVP, or grow in `proportion` to the channels.
    """

    networks: Literal["same", "proportion"] = "same"

    def build(self) -> UnfactoredRealNVP:
        return UnfactoredRealNVP(self)


class UnfactoredFlow(MultiScaleFlow):
    """f with a squeeze between scales: (N, C, H, W) -> z in image layout, the same shape."""

    def __init__(self, first: Scale, config: UnfactoredRealNVPConfig) -> None:
        nn.Module.__init__(self)
        channels, height, width = config.image_shape
        self.order = config.factor_out_squeeze
        scales = [first]
        for k in range(1, config.num_scales):  # `Scale` doubles channels and maps k times itself
            maps = config.width * (2**k if config.networks == "proportion" else 1)
            sizes = {"image_shape": (channels * 2**k, height, width), "width": maps}
            scales.append(Scale(config.model_copy(update=sizes), k))
        self.scales = cast(Sequence[Scale], nn.ModuleList(scales))

    def extra_repr(self) -> str:
        return f"squeeze={self.order}"

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = x.new_zeros(len(x))
        for k, scale in enumerate(self.scales):
            x, step = scale(squeeze(x, self.order) if k else x, y)
            log_det = log_det + step
        return self.merge([x]), log_det

    def inverse(self, z: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        (x,), log_det = self.split(z), z.new_zeros(len(z))
        for k in reversed(range(len(self.scales))):
            x, step = self.scales[k].inverse(x, y)
            x, log_det = unsqueeze(x, self.order) if k else x, log_det + step
        return x, log_det

    def split(self, z: Tensor) -> list[Tensor]:
        """z in image layout -> [z] as the last of L scales leaves it.

        That is (N, 4^(L-1) C, H / 2^(L-1), W / 2^(L-1)).
        """
        for _ in self.scales[1:]:
            z = squeeze(z, self.order)
        return [z]

    def merge(self, latents: list[Tensor]) -> Tensor:
        """The inverse of `split`."""
        (z,) = latents
        for _ in self.scales[1:]:
            z = unsqueeze(z, self.order)
        return z


class UnfactoredRealNVP(RealNVP):
    """Every dimension meets the prior after the last scale. The first scale is Real NVP's."""

    def __init__(self, config: UnfactoredRealNVPConfig) -> None:
        super().__init__(config)
        self.flow = UnfactoredFlow(self.flow.scales[0], config)
