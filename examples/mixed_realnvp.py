"""Real NVP with learned mixing of channels (Kingma and Dhariwal 2018, arXiv 1807.03039).

Channel-wise couplings alternate between the halves of the channels. Here each keeps the first half,
and a learned 1 x 1 convolution before it, Glow's, decides what the halves are.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvp.flows.bijection import Bijection, Composition
from nvp.flows.config import RealNVPConfig
from nvp.flows.coupling import ChannelCoupling
from nvp.flows.masks import Half
from nvp.flows.realnvp import RealNVP
from nvp.model.autocast import without_autocast
from nvp.model.roles import Role


class MixedRealNVPConfig(RealNVPConfig):
    """A Real NVP whose 1 x 1 convolutions begin as `start`: rotations, or Real NVP's own masks."""

    start: Literal["rotation", "swap"] = "rotation"

    def build(self) -> MixedRealNVP:
        return MixedRealNVP(self)


class InvertibleConv(Bijection):
    """y = W x at every pixel, W = P L (U + diag(s)) (Glow, equations 9 to 11): (N, C, H, W).

    W begins as `start`, (C, C). P and the signs of s stay; L, U and log|s| are learned.
    """

    roles: ClassVar = {"factors": Role.BIAS}  # no kernel: Muon would mix L, U and log|s|
    P: Tensor
    sign: Tensor

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        P, L, U = torch.linalg.lu(start)
        s = U.diagonal()
        self.register_buffer("P", P)
        self.register_buffer("sign", s.sign())
        # L below the diagonal, U above it, log|s| on it.
        self.factors = nn.Parameter(L.tril(-1) + U.triu(1) + s.abs().log().diag())

    def weight(self) -> Tensor:
        """W, (C, C)."""
        s = self.sign * self.factors.diagonal().exp()
        L = self.factors.tril(-1) + torch.eye(len(s), dtype=s.dtype, device=s.device)
        return self.P @ L @ (self.factors.triu(1) + s.diag())

    def _log_det(self, x: Tensor) -> Tensor:
        return (x.shape[2] * x.shape[3] * self.factors.diagonal().sum()).expand(len(x))

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with without_autocast(x):  # bfloat16 would move the image
            return F.conv2d(x, self.weight()[:, :, None, None]), self._log_det(x)

    def inverse(self, z: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with without_autocast(z):
            inverse = torch.linalg.inv(self.weight())
            return F.conv2d(z, inverse[:, :, None, None]), -self._log_det(z)


class MixedRealNVP(RealNVP):
    """Learned mixing in place of alternating masks."""

    def __init__(self, config: MixedRealNVPConfig) -> None:
        super().__init__(config)
        channels = 4 * config.image_shape[0]
        for scale in self.flow.scales[:-1]:  # the last has no channel-wise couplings
            couplings = [m for m in scale.modules() if isinstance(m, ChannelCoupling)]
            # The masks of Real NVP, seen from the first half: as it is, swapped, swapped back.
            identity = torch.eye(channels)
            swap = identity.roll(channels // 2, dims=0)
            steps: list[Bijection] = []
            for coupling, masks in zip(couplings, (identity, swap, swap), strict=True):
                rotation = torch.linalg.qr(torch.randn(channels, channels)).Q
                coupling.kept = Half.FIRST
                start = rotation if config.start == "rotation" else masks
                steps += [InvertibleConv(start), coupling]
            scale.channelwise = Composition(steps)
            channels *= 2
