"""The three Pixel RNNs as public PyTorch code writes them, for binary images of one channel.

float32, NCHW, `torch.nn` modules, loops over rows and columns that index and stack. With the same
weights they give the same logits as `nvp` (tests/test_benchmarks.py), so their times can
be compared. States start from zeros, as they do in public code: `nvp` learns its first ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvp.autoregressive.config import Kind, PixelRNNConfig


class Masked(nn.Conv2d):
    """A convolution of "same" size over the rows above, the pixels to the left and, B, its own."""

    mask: Tensor

    def __init__(self, kind: str, inputs: int, outputs: int, kernel: tuple[int, int]) -> None:
        rows, columns = kernel
        super().__init__(inputs, outputs, kernel, padding=(rows // 2, columns // 2))
        mask = torch.ones(kernel)
        mask[rows // 2 + 1 :] = 0
        mask[rows // 2, columns // 2 + (kind == "B") :] = 0
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    o, f, i, g = torch.chunk(gates, 4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def skew(x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    skewed = x.new_zeros(n, channels, height, width + height - 1)
    for row in range(height):
        skewed[:, :, row, row : row + width] = x[:, :, row]
    return skewed


def unskew(x: Tensor) -> Tensor:
    height = x.shape[2]
    width = x.shape[3] - height + 1
    return torch.stack([x[:, :, row, row : row + width] for row in range(height)], dim=2)


class DiagonalScan(nn.Module):
    """One direction, left to right: a column of the skewed map at a time."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.input_to_state = Masked("B", 2 * hidden, 4 * hidden, (1, 1))
        self.state_to_state = nn.Conv1d(hidden, 4 * hidden, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        z = skew(self.input_to_state(x))
        h = c = x.new_zeros(len(x), self.hidden, x.shape[2])
        states = []
        for t in range(z.shape[3]):
            gates = z[..., t] + self.state_to_state(F.pad(h, (1, 0)))
            h, c = cell(gates, c)
            states.append(h)
        return unskew(torch.stack(states, dim=3))


class Diagonal(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.left, self.right = DiagonalScan(hidden), DiagonalScan(hidden)

    def forward(self, x: Tensor) -> Tensor:
        right = torch.flip(self.right(torch.flip(x, [3])), [3])
        down = torch.cat([torch.zeros_like(right[:, :, :1]), right[:, :, :-1]], dim=2)
        return self.left(x) + down


class Row(nn.Module):
    def __init__(self, hidden: int, kernel: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.input_to_state = Masked("B", 2 * hidden, 4 * hidden, (1, kernel))
        self.state_to_state = nn.Conv1d(hidden, 4 * hidden, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        z = self.input_to_state(x)
        h = c = x.new_zeros(len(x), self.hidden, x.shape[3])
        states = []
        for t in range(z.shape[2]):
            h, c = cell(z[:, :, t] + self.state_to_state(h), c)
            states.append(h)
        return torch.stack(states, dim=2)


class Block(nn.Module):
    def __init__(self, hidden: int, kernel: int) -> None:
        super().__init__()
        self.reduce = Masked("B", 2 * hidden, hidden, (1, 1))
        self.conv = Masked("B", hidden, hidden, (kernel, kernel))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(F.relu(self.reduce(F.relu(x)))))


class Layer(nn.Module):
    def __init__(self, core: nn.Module, hidden: int) -> None:
        super().__init__()
        self.core = core
        self.up = Masked("B", hidden, 2 * hidden, (1, 1))
        self.skip = Masked("B", hidden, 2 * hidden, (1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.core(x)
        return x + self.up(h), self.skip(h)


class PlainPixelRNN(nn.Module):
    def __init__(self, config: PixelRNNConfig) -> None:
        super().__init__()
        hidden, kernel = config.hidden, config.kernel_size
        cores: dict[Kind, Callable[[], nn.Module]] = {
            Kind.DIAGONAL_BILSTM: lambda: Diagonal(hidden),
            Kind.ROW_LSTM: lambda: Row(hidden, kernel),
            Kind.PIXELCNN: lambda: Block(hidden, kernel),
        }
        side = config.first_kernel
        self.first = Masked("A", 1, 2 * hidden, (side, side))
        self.layers = nn.ModuleList(
            Layer(cores[config.kind](), hidden) for _ in range(config.num_layers)
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(2 * hidden, config.head, 1),
            nn.ReLU(),
            nn.Conv2d(config.head, config.head, 1),
            nn.ReLU(),
            nn.Conv2d(config.head, 1, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, 1, H, W), 0 or 1 -> the logit of a 1, (N, 1, H, W)."""
        x = self.first(2 * images.float() - 1)
        skips = []
        for layer in self.layers:
            x, skipped = layer(x)
            skips.append(skipped)
        return cast(Tensor, self.head(sum(skips, start=x)))

    def log_prob(self, images: Tensor) -> Tensor:
        """log p of each image, (N,), nats."""
        losses = F.binary_cross_entropy_with_logits(self(images), images.float(), reduction="none")
        return -losses.sum(dim=(1, 2, 3))
