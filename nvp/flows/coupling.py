"""Affine coupling layers, with a checkerboard or a channel-wise mask (sections 3.2 to 3.4)."""

from abc import abstractmethod
from enum import StrEnum
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvp.errors import NVPError
from nvp.flows.batchnorm import CouplingBatchNorm
from nvp.flows.bijection import Bijection, sum_over_image
from nvp.flows.masks import Half, Parity, channel_mask, checkerboard_mask
from nvp.model.roles import Role


class AffineOrder(StrEnum):
    """The paper scales, then shifts: x exp(s) + t. The official code shifts first: (x + t) exp(s).

    Both describe the same maps (t' = t exp(s)) with the same log-determinants, but they train
    differently.
    """

    SCALE_THEN_SHIFT = "scale_then_shift"
    SHIFT_THEN_SCALE = "shift_then_scale"


class AffineCoupling(Bijection):
    """z = b x + (1 - b) (x exp(s(b x)) + t(b x)), log|det| = sum of (1 - b) s  (eqs 4 to 9).

    x and z are (N, C, H, W). `net` maps the kept part to t and the pre-activation of s, in this
    order: 2 C maps under a checkerboard, C under a channel-wise mask. s is bounded: a learned scale
    times tanh (section 4.1). The scale starts at `scale_init`; `scale_channels` is 1, or C for one
    scale a channel. A condition y is passed to `net` with b x (appendix F). `order` may put the
    shift first. With `norm`, z is then normalised, and the norm's log-determinant is added.
    """

    roles: ClassVar = {"scale": Role.TANH_SCALE}

    def __init__(
        self,
        kept: Parity | Half,
        net: nn.Module,
        *,
        scale_init: float,
        scale_channels: int = 1,
        order: AffineOrder = AffineOrder.SCALE_THEN_SHIFT,
        norm: CouplingBatchNorm | None = None,
    ) -> None:
        super().__init__()
        self.kept = kept
        self.net = net
        self.scale = nn.Parameter(torch.full((scale_channels, 1, 1), float(scale_init)))
        self.order = AffineOrder(order)
        self.norm = norm

    def extra_repr(self) -> str:
        return f"kept={self.kept}, order={self.order}"

    @abstractmethod
    def mask(self, x: Tensor) -> Tensor:
        """b, bool, broadcastable to x."""

    @abstractmethod
    def net_output(self, x: Tensor, b: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """t and the pre-activation of s, each of the shape of x; 0 where b = 1.

        They depend on b x and y only.
        """

    def ask_net(self, kept: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """t and the pre-activation of s, halves of the net's output, from the kept part and y.

        Raises `NVPError` for an output of another shape.
        """
        output = self.net(kept) if y is None else self.net(kept, y)
        expected = (len(kept), 2 * kept.shape[1], *kept.shape[2:])
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        if got != expected:  # one map would be broadcast, and the log-determinant wrong
            raise NVPError(
                f"the net of a {type(self).__name__} must map {tuple(kept.shape)} to t and s in "
                f"one tensor, {expected}, got {got}: fix the net"
            )
        t, raw = output.chunk(2, dim=1)
        return t, raw

    def shift_and_log_scale(
        self, x: Tensor, b: Tensor, y: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(1 - b) t(b x) and (1 - b) s(b x), each of the shape of x."""
        t, raw = self.net_output(x, b, y)
        if len(self.scale) not in (1, x.shape[1]):  # it would be broadcast, too
            raise NVPError(
                f"scale_channels must be 1 or the {x.shape[1]} channels, got {len(self.scale)}"
            )
        # The affine map and its sums keep the precision of x, whatever that of the network.
        return t.to(x.dtype), self.scale * torch.tanh(raw.to(x.dtype))

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        b = self.mask(x)
        t, s = self.shift_and_log_scale(x, b, y)
        scale_first = self.order == AffineOrder.SCALE_THEN_SHIFT
        z = x * s.exp() + t if scale_first else (x + t) * s.exp()
        log_det = sum_over_image(s)
        if self.norm is not None:
            z, norm_log_det = self.norm(z, b)
            log_det = log_det + norm_log_det
        return z, log_det

    def inverse(self, z: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        b = self.mask(z)
        log_det = z.new_zeros(len(z))
        if self.norm is not None:
            z, log_det = self.norm.inverse(z, b)
        t, s = self.shift_and_log_scale(z, b, y)
        scale_first = self.order == AffineOrder.SCALE_THEN_SHIFT
        x = (z - t) * (-s).exp() if scale_first else z * (-s).exp() - t
        return x, log_det - sum_over_image(s)


class CheckerboardCoupling(AffineCoupling):
    """A coupling under the checkerboard of section 3.4: squares of parity `kept` have b = 1."""

    kept: Parity

    def mask(self, x: Tensor) -> Tensor:
        return checkerboard_mask(x.shape[2], x.shape[3], self.kept, x.device)

    def net_output(self, x: Tensor, b: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        t, raw = self.ask_net(x * b, y)
        return t * ~b, raw * ~b


class ChannelCoupling(AffineCoupling):
    """A coupling under the channel-wise mask of section 3.4: one half of the channels has b = 1."""

    kept: Half

    def mask(self, x: Tensor) -> Tensor:
        return channel_mask(x.shape[1], self.kept, x.device)

    def net_output(self, x: Tensor, b: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # The net reads the kept half, and its output is for the other half.
        first, second = x.chunk(2, dim=1)
        keeps_first = self.kept == Half.FIRST
        t, raw = self.ask_net(first if keeps_first else second, y)
        half = first.shape[1]
        around = (0, 0, 0, 0, half, 0) if keeps_first else (0, 0, 0, 0, 0, half)
        return F.pad(t, around), F.pad(raw, around)
