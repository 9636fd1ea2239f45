"""The three Pixel RNNs as public PyTorch code writes them.

float32, NCHW, `torch.nn` modules, loops over rows and columns that index and stack. With the same
weights they give the same logits as `nvp` (tests/test_benchmarks.py), so their times can
be compared. States start from zeros, as they do in public code: `nvp` learns its first ones.
"""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvp.autoregressive.config import Kind, PixelRNNConfig


def groups(maps: int, colours: int) -> Tensor:
    """The colour of each map."""
    return torch.arange(maps) % colours


class Masked(nn.Conv2d):
    """A convolution of "same" size over the rows above and the pixels to the left.

    Of its own pixel it reads the colours before that of the output and, B, that colour too.
    """

    mask: Tensor

    def __init__(
        self, kind: str, inputs: Tensor, outputs: Tensor, kernel: tuple[int, int] = (1, 1)
    ) -> None:
        rows, columns = kernel
        padding = (rows // 2, columns // 2)
        super().__init__(len(inputs), len(outputs), kernel, padding=padding)
        mask = torch.ones_like(self.weight)
        mask[:, :, rows // 2 + 1 :] = 0
        mask[:, :, rows // 2, columns // 2 + 1 :] = 0
        before = inputs <= outputs[:, None] if kind == "B" else inputs < outputs[:, None]
        mask[:, :, rows // 2, columns // 2] = before.float()
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

    def __init__(self, hidden: int, colours: int) -> None:
        super().__init__()
        self.hidden = hidden
        gates = groups(hidden, colours).repeat(4)
        self.input_to_state = Masked("B", groups(2 * hidden, colours), gates)
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
    def __init__(self, hidden: int, colours: int) -> None:
        super().__init__()
        self.left, self.right = DiagonalScan(hidden, colours), DiagonalScan(hidden, colours)

    def forward(self, x: Tensor) -> Tensor:
        right = torch.flip(self.right(torch.flip(x, [3])), [3])
        down = torch.cat([torch.zeros_like(right[:, :, :1]), right[:, :, :-1]], dim=2)
        return self.left(x) + down


class Row(nn.Module):
    def __init__(self, hidden: int, colours: int, kernel: int) -> None:
        super().__init__()
        self.hidden = hidden
        gates = groups(hidden, colours).repeat(4)
        self.input_to_state = Masked("B", groups(2 * hidden, colours), gates, (1, kernel))
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
    def __init__(self, hidden: int, colours: int, kernel: int) -> None:
        super().__init__()
        narrow, wide = groups(hidden, colours), groups(2 * hidden, colours)
        self.reduce = Masked("B", wide, narrow)
        self.conv = Masked("B", narrow, narrow, (kernel, kernel))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(F.relu(self.reduce(F.relu(x)))))


class Layer(nn.Module):
    def __init__(self, core: nn.Module, hidden: int, colours: int) -> None:
        super().__init__()
        self.core = core
        narrow, wide = groups(hidden, colours), groups(2 * hidden, colours)
        self.up = Masked("B", narrow, wide)
        self.skip = Masked("B", narrow, wide)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.core(x)
        return x + self.up(h), self.skip(h)


class PlainPixelRNN(nn.Module):
    def __init__(self, config: PixelRNNConfig) -> None:
        super().__init__()
        hidden, kernel, colours = config.hidden, config.kernel_size, config.image_shape[0]
        cores: dict[Kind, Callable[[], nn.Module]] = {
            Kind.DIAGONAL_BILSTM: lambda: Diagonal(hidden, colours),
            Kind.ROW_LSTM: lambda: Row(hidden, colours, kernel),
            Kind.PIXELCNN: lambda: Block(hidden, colours, kernel),
        }
        self.levels, side = config.levels, config.first_kernel
        wide, head = groups(2 * hidden, colours), groups(config.head, colours)
        self.first = Masked("A", groups(colours, colours), wide, (side, side))
        self.layers = nn.ModuleList(
            Layer(cores[config.kind](), hidden, colours) for _ in range(config.num_layers)
        )
        numbers = 1 if config.levels == 2 else config.levels  # for each sub-pixel
        self.head = nn.Sequential(
            nn.ReLU(),
            Masked("B", wide, head),
            nn.ReLU(),
            Masked("B", head, head),
            nn.ReLU(),
            Masked("B", head, torch.arange(colours).repeat_interleave(numbers)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) -> the logits of the levels, or that of a 1, (N, C, levels, H, W)."""
        x = self.first(2 * images.float() / (self.levels - 1) - 1)
        skips = []
        for layer in self.layers:
            x, skipped = layer(x)
            skips.append(skipped)
        return cast(Tensor, self.head(sum(skips, start=x))).unflatten(1, (images.shape[1], -1))

    def log_prob(self, images: Tensor) -> Tensor:
        """log p of each image, (N,), nats."""
        logits = self(images)
        if self.levels == 2:
            losses = F.binary_cross_entropy_with_logits(
                logits.squeeze(2), images.float(), reduction="none"
            )
        else:
            losses = F.cross_entropy(logits.transpose(1, 2), images.long(), reduction="none")
        return -losses.sum(dim=(1, 2, 3))
