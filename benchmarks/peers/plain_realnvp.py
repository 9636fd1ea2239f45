"""The same Real NVP as `RealNVPConfig.paper` makes, written as one would without thinking of speed.

float32, NCHW, `torch.nn` modules throughout, an Adam that is not fused. With the same weights it
gives the same likelihoods as `nvp` (tests/test_benchmarks.py), so their times can be compared.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from nvp.flows.config import RealNVPConfig

EPSILON = 1e-4
ALPHA = 0.05


def conv(inputs: int, outputs: int, kernel: int, bias: bool = True) -> nn.Module:
    return weight_norm(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width, eps=EPSILON)
        self.conv1 = conv(width, width, 3, bias=False)
        self.norm2 = nn.BatchNorm2d(width, eps=EPSILON)
        self.conv2 = conv(width, width, 3)

    def forward(self, h: Tensor) -> Tensor:
        inner = self.conv1(F.relu(self.norm1(h)))
        return h + self.conv2(F.relu(self.norm2(inner)))


class Net(nn.Module):
    def __init__(self, inputs: int, extra: int, width: int, blocks: int) -> None:
        super().__init__()
        self.norm_in = nn.BatchNorm2d(inputs, eps=EPSILON)
        self.conv_in = conv(2 * inputs + extra, width, 3)
        self.skip_in = conv(width, width, 1)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.skips = nn.ModuleList(conv(width, width, 1) for _ in range(blocks))
        self.norm_out = nn.BatchNorm2d(width, eps=EPSILON)
        self.conv_out = conv(width, 2 * inputs, 1)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        h = self.norm_in(x)
        parts = [h, -h]
        if mask is not None:
            parts = [2 * h, -2 * h, mask.expand(len(x), -1, -1, -1)]
        h = self.conv_in(F.relu(torch.cat(parts, dim=1)))
        total = self.skip_in(h)
        for block, skip in zip(self.blocks, self.skips, strict=True):
            h = block(h)
            total = total + skip(h)
        return self.conv_out(F.relu(self.norm_out(total))).chunk(2, dim=1)


class Coupling(nn.Module):
    """x -> b x + (1 - b) (x exp(s) + t), then batch norm; b = 1 in half `kept`, 0 or 1."""

    mask: Tensor

    def __init__(
        self, shape: tuple[int, int, int], kept: int, board: bool, width: int, blocks: int
    ) -> None:
        super().__init__()
        channels, rows, columns = shape
        self.board, self.kept = board, kept
        seen = channels if board else channels // 2
        self.net = Net(seen, int(board), width, blocks)
        self.scale = nn.Parameter(torch.tensor(0.0 if board else 1.0))
        self.norm = nn.BatchNorm2d(channels, eps=EPSILON, affine=False)
        squares = torch.arange(rows)[:, None] + torch.arange(columns)
        self.register_buffer("mask", ((squares + kept + 1) % 2)[None, None].float())

    def shift_and_log_scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.board:
            t, s = self.net(x * self.mask, self.mask)
            return t * (1 - self.mask), self.scale * torch.tanh(s) * (1 - self.mask)
        t, s = self.net(x.chunk(2, dim=1)[self.kept], None)
        s = self.scale * torch.tanh(s)
        zeros = torch.zeros_like(t)
        if self.kept == 0:
            return torch.cat([zeros, t], dim=1), torch.cat([zeros, s], dim=1)
        return torch.cat([t, zeros], dim=1), torch.cat([s, zeros], dim=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        t, s = self.shift_and_log_scale(x)
        y = x * torch.exp(s) + t
        var = y.var(dim=(0, 2, 3), unbiased=False) if self.training else self.norm.running_var
        pixels = x.shape[2] * x.shape[3]
        log_det = s.sum(dim=(1, 2, 3)) - 0.5 * pixels * torch.log(var + EPSILON).sum()
        return self.norm(y), log_det

    def inverse(self, z: Tensor) -> Tensor:
        mean = self.norm.running_mean[:, None, None]
        y = z * torch.sqrt(self.norm.running_var + EPSILON)[:, None, None] + mean
        t, s = self.shift_and_log_scale(y)
        return (y - t) * torch.exp(-s)


def squeeze(x: Tensor, corners: tuple[int, ...]) -> Tensor:
    """(N, c, H, W) -> (N, 4c, H/2, W/2): all channels of the first corner, then of the next."""
    return torch.cat([F.pixel_unshuffle(x, 2)[:, corner::4] for corner in corners], dim=1)


def unsqueeze(z: Tensor, corners: tuple[int, ...]) -> Tensor:
    parts = z.chunk(4, dim=1)
    ordered = torch.stack([parts[corners.index(corner)] for corner in range(4)], dim=2)
    return F.pixel_shuffle(ordered.flatten(1, 2), 2)


ROWS = (0, 1, 2, 3)
DIAGONALS = (0, 3, 1, 2)


class PlainRealNVP(nn.Module):
    def __init__(self, config: RealNVPConfig) -> None:
        super().__init__()
        channels, height, width = self.shape = config.image_shape
        self.board, self.channelwise = nn.ModuleList(), nn.ModuleList()
        for index in range(config.num_scales):
            factor = 2**index
            shape = (channels * factor, height // factor, width // factor)
            half = (4 * shape[0], shape[1] // 2, shape[2] // 2)
            maps, blocks = config.width * factor, config.num_blocks
            last = index == config.num_scales - 1
            self.board.append(
                nn.ModuleList(
                    Coupling(shape, 1 - i % 2, True, maps, blocks) for i in range(4 if last else 3)
                )
            )
            if not last:
                self.channelwise.append(
                    nn.ModuleList(Coupling(half, i % 2, False, 2 * maps, blocks) for i in range(3))
                )

    def log_prob(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) -> a lower bound on log P, (N,), nats."""
        x = (images + torch.rand(images.shape)) / 256
        x = ALPHA + (1 - 2 * ALPHA) * x
        constant = math.log(1 - 2 * ALPHA) - math.log(256)
        log_prob = (constant - torch.log(x) - torch.log(1 - x)).sum(dim=(1, 2, 3))
        h = torch.log(x) - torch.log(1 - x)
        for index, board in enumerate(self.board):
            for coupling in board:
                h, log_det = coupling(h)
                log_prob = log_prob + log_det
            if index < len(self.channelwise):
                h = squeeze(h, ROWS)
                for coupling in self.channelwise[index]:
                    h, log_det = coupling(h)
                    log_prob = log_prob + log_det
                h, z = squeeze(unsqueeze(h, ROWS), DIAGONALS).chunk(2, dim=1)
                log_prob = log_prob + gaussian(z)
        return log_prob + gaussian(h)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """uint8 images, (n, C, H, W)."""
        channels, height, width = self.shape
        factor = 2 ** len(self.channelwise)
        h = torch.randn(n, channels * factor, height // factor, width // factor)
        for index, board in reversed(list(enumerate(self.board))):
            if index < len(self.channelwise):
                h = unsqueeze(torch.cat([h, torch.randn(h.shape)], dim=1), DIAGONALS)
                h = squeeze(h, ROWS)
                for coupling in reversed(self.channelwise[index]):
                    h = coupling.inverse(h)
                h = unsqueeze(h, ROWS)
            for coupling in reversed(board):
                h = coupling.inverse(h)
        x = (torch.sigmoid(h) - ALPHA) / (1 - 2 * ALPHA)
        return (256 * x).clamp(0, 255).to(torch.uint8)


def gaussian(z: Tensor) -> Tensor:
    return (-0.5 * (z**2 + math.log(2 * math.pi))).sum(dim=(1, 2, 3))
