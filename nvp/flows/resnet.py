"""The network behind s and t, in the layout of the official code, the only source for it.

The paper says: convolutional residual networks with rectifiers, batch norm, weight norm, and
skip connections to the output (sections 3.4, 3.7, 4.1).
"""

import math
from collections.abc import Sequence
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvp.flows.batchnorm import EPSILON
from nvp.flows.conv_add import conv_add, fused
from nvp.flows.masks import Parity, checkerboard_mask
from nvp.flows.norm_relu import compiled, norm_relu
from nvp.model.protocol import is_whole_batch
from nvp.model.roles import Role


class WeightNormConv2d(nn.Module):
    """A weight-normalised convolution, odd kernel, zero padding: (N, i, H, W) -> (N, o, H, W).

    Each output channel's filter v is divided by its L2 norm and, with `magnitude`, multiplied by
    a learned g: w = g v / ||v||. Without `magnitude` filters have norm 1; inside a block the next
    batch norm cancels any gain.
    """

    roles: ClassVar = {"v": Role.DIRECTION, "g": Role.GAIN}

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, magnitude: bool, bias: bool
    ) -> None:
        super().__init__()
        bound = math.sqrt(2 / in_channels)
        v = torch.empty(out_channels, in_channels, kernel, kernel).uniform_(-bound, bound)
        self.v = nn.Parameter(v)
        # Half the root mean square norm of the raw filters: the official code divides by 12, where
        # a uniform distribution over -bound..bound has the variance bound^2 / 3.
        norm = bound * math.sqrt(in_channels * kernel**2 / 12)
        self.g = nn.Parameter(torch.full((out_channels,), norm)) if magnitude else None
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.padding = kernel // 2

    def extra_repr(self) -> str:
        out_channels, in_channels, kernel, _ = self.v.shape
        parts = ", magnitude" * (self.g is not None) + ", bias" * (self.bias is not None)
        return f"{in_channels}, {out_channels}, kernel={kernel}x{kernel}{parts}"

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)

    @property
    def weight(self) -> Tensor:
        """w = g v / ||v||, (out_channels, in_channels, kernel, kernel)."""
        g = self.v.new_ones(len(self.v)) if self.g is None else self.g
        return torch._weight_norm(self.v, g[:, None, None, None])  # as PyTorch's own weight norm

    def plain(self) -> nn.Conv2d:
        """The same function with its weights themselves as parameters."""
        out_channels, in_channels, kernel, _ = self.v.shape
        conv = nn.Conv2d(in_channels, out_channels, kernel, padding=self.padding, device="meta")
        conv.weight, conv.bias = nn.Parameter(self.weight.detach()), self.bias
        return conv


def add_conv(
    total: Tensor, conv: WeightNormConv2d | nn.Conv2d, x: Tensor, *, keep: bool = False
) -> Tensor:
    """total + conv(x), in one operation where possible; may overwrite `total` unless `keep`."""
    if conv.bias is None or total.dtype is not x.dtype or not fused(x):
        # In place, here and below: no backward pass needs the output of a norm or convolution.
        return conv(x).add_(total)
    return conv_add(total.clone() if keep else total, x, conv.weight, conv.bias)


class ShiftedBatchNorm(nn.Module):
    """Batch norm inside the nets: (h - mean) / sqrt(variance + 1e-4) + beta, with no gain.

    A positive gain would add nothing: the convolution after the ReLU can take it up. Training uses
    the statistics of the batch; evaluation uses moving averages (0.9 of the old, 0.1 of the new),
    of unbiased variances as everywhere in PyTorch. Section 3.7 introduces the running averages of
    appendix E beside these norms; here only those after couplings have them.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(channels))
        self.momentum = 0.1
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def extra_repr(self) -> str:
        return f"{len(self.beta)}, momentum={self.momentum}"

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            weight=torch.ones_like(self.beta),  # without one PyTorch has no second derivative
            bias=self.beta,
            training=self.training,
            momentum=self.momentum,
            eps=EPSILON,
        )

    def rectified(self, x: Tensor) -> Tensor:
        """relu(norm(x)), in training by one compiled operator where there is one for x.

        That operator takes the moments of x itself, so it needs the whole batch.
        """
        return self.branch(x)[0]

    def branch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`rectified(x)`, and x for the shortcut: the operator adds the gradients of both."""
        if not (self.training and is_whole_batch(x) and compiled(x, self.beta)):
            return F.relu_(self(x)), x
        out, x, mean, variance = norm_relu(x, self.beta, EPSILON)
        count = x.numel() / len(mean)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return out, x


class ResidualBlock(nn.Module):
    """h + conv(relu(bn(conv(relu(bn(h)))))), both 3x3; (N, width, H, W) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = ShiftedBatchNorm(width)
        self.conv1 = WeightNormConv2d(width, width, 3, magnitude=False, bias=False)
        self.norm2 = ShiftedBatchNorm(width)
        self.conv2 = WeightNormConv2d(width, width, 3, magnitude=True, bias=True)

    def forward(self, h: Tensor) -> Tensor:
        inner, h = self.norm1.branch(h)
        inner = self.norm2.rectified(self.conv1(inner))
        return add_conv(h, self.conv2, inner, keep=True)


class InputTreatment(nn.Module):
    """(N, channels, H, W), the kept part -> (N, out_channels, H, W), as the official code has it.

    Batch norm; for a checkerboard a factor of 2; [h, -h], so that the ReLU is a concatenated one;
    and the checkerboard itself as one more channel. The code gives no reason for the factor. (Half
    of the norm's input is zeros, so kept squares of mean 0 have a standard deviation of sqrt(2)
    after it; the factor makes that 2 sqrt(2).)

    A conditional net sees y, (N, num_classes), as num_classes more channels, each constant over the
    image. Appendix F makes f and g depend on y; we could not verify how, and the official code has
    no such model. We append y to the channels, as that code appends the mask.
    """

    def __init__(
        self,
        channels: int,
        kept: Parity | None,
        *,
        concatenated_relu: bool,
        mask_channel: bool,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.norm = ShiftedBatchNorm(channels)
        self.kept = kept
        self.concatenated_relu = concatenated_relu
        self.mask_channel = mask_channel and kept is not None
        self.out_channels = channels * (1 + concatenated_relu) + self.mask_channel + num_classes

    def extra_repr(self) -> str:
        kept = f"kept={self.kept}, " * (self.kept is not None)
        return f"{kept}concatenated_relu={self.concatenated_relu}, mask_channel={self.mask_channel}"

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.norm(x)
        if self.kept is not None:
            h = 2 * h
        parts = [h, -h] if self.concatenated_relu else [h]
        if self.kept is not None and self.mask_channel:
            b = checkerboard_mask(x.shape[2], x.shape[3], self.kept, h.device).to(h)
            parts.append(b.expand(len(x), -1, -1, -1))
        h = torch.cat(parts, dim=1)
        if self.concatenated_relu:
            h = F.relu(h)
        if y is not None:  # after the rectifier: attributes may be negative
            h = torch.cat([h, y[:, :, None, None].expand(-1, -1, *h.shape[2:])], dim=1)
        return h


class CouplingNet(nn.Module):
    """From the kept part to t and the pre-activation of s: (N, i, H, W) -> (N, 2 o, H, W).

    A 3x3 convolution and `num_blocks` residual blocks of `width` maps. A 1x1 skip leads from the
    first convolution and from every block into a sum, which a last 1x1 convolution reads. Its maps
    are laid out channels last, which PyTorch cannot do under `torch.func.vmap`.
    """

    def __init__(
        self, treatment: InputTreatment, out_channels: int, width: int, num_blocks: int
    ) -> None:
        super().__init__()

        def skip() -> WeightNormConv2d:
            return WeightNormConv2d(width, width, 1, magnitude=True, bias=True)

        self.treatment = treatment
        self.conv_in = WeightNormConv2d(
            treatment.out_channels, width, 3, magnitude=False, bias=True
        )
        self.skip_in = skip()
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(num_blocks))
        skips = nn.ModuleList(skip() for _ in range(num_blocks))
        self.skips = cast(Sequence[WeightNormConv2d | nn.Conv2d], skips)
        self.norm_out = ShiftedBatchNorm(width)
        self.conv_out = WeightNormConv2d(width, 2 * out_channels, 1, magnitude=True, bias=True)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.treatment(x, y).contiguous(memory_format=torch.channels_last)
        h = self.conv_in(h)
        total = self.skip_in(h)
        for block, skip in zip(self.blocks, self.skips, strict=True):
            h = block(h)
            total = add_conv(total, skip, h)
        return self.conv_out(self.norm_out.rectified(total))


class TrunkNet(CouplingNet):
    """`CouplingNet` without skips: the last convolution reads the last block. For the ablation."""

    def __init__(
        self, treatment: InputTreatment, out_channels: int, width: int, num_blocks: int
    ) -> None:
        super().__init__(treatment, out_channels, width, num_blocks)
        del self.skip_in, self.skips

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.treatment(x, y).contiguous(memory_format=torch.channels_last)
        h = self.conv_in(h)
        for block in self.blocks:
            h = block(h)
        return self.conv_out(self.norm_out.rectified(h))


def remove_weight_norm(net: nn.Module) -> None:
    """Replace each weight-normalised convolution by a plain one that computes the same."""
    for name, module in net.named_children():
        if isinstance(module, WeightNormConv2d):
            setattr(net, name, module.plain())
        else:
            remove_weight_norm(module)
