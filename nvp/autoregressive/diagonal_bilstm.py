"""The Diagonal BiLSTM of section 3.2, with the skewing of Figure 3."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nvp.autoregressive import lstm
from nvp.autoregressive.scan import DIAGONAL, scan


class DiagonalBiLSTM(nn.Module):
    """Diagonals from both upper corners: (N, features, H, W) -> (N, h, H, W).

    Input to state is a 1x1 convolution (mask B), state to state a 2x1 convolution over the skewed
    map: the left neighbour and the pixel above. The mirrored direction has weights of its own. Its
    map is shifted down by one row; otherwise each pixel would see those to its right. The hidden
    state at a place depends on the input at that place and at all earlier ones.
    """

    roles = lstm.ROLES

    def __init__(self, features: int, hidden: int, num_colours: int, height: int) -> None:
        super().__init__()
        self.input_to_state = lstm.input_to_state(features, hidden, num_colours, 2, (1, 1))
        self.state_to_state = lstm.state_to_state(2, 2, hidden)
        self.initial = lstm.initial_states(2, height, hidden)

    def extra_repr(self) -> str:
        return f"hidden={self.initial.shape[-1]}"

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """`bias`, (N, 8h, H, W), is added to the input-to-state map (section 3.6)."""
        gates = self.input_to_state(x)
        gates = lstm.split_gates(gates if bias is None else gates + bias, 2)
        states = scan(scan_diagonals, gates, self.state_to_state, self.initial, DIAGONAL)
        return states.permute(0, 3, 1, 2)


def skew(x: Tensor) -> Tensor:
    """Figure 3: shift row r right by r places, (..., H, W) -> (..., H, W + H - 1), zeros around."""
    height, width = x.shape[-2:]
    # A padded row is one longer than a row of the skewed map. Laid end to end, and cut at that
    # shorter length, row r starts r places later.
    padded = F.pad(x, (0, height)).flatten(-2)
    return padded[..., : height * (width + height - 1)].unflatten(-1, (height, -1))


def unskew(x: Tensor) -> Tensor:
    """The inverse of `skew`: (..., H, W + H - 1) -> (..., H, W)."""
    height = x.shape[-2]
    width = x.shape[-1] - height + 1
    flat = F.pad(x.flatten(-2), (0, height))
    return flat.unflatten(-1, (height, -1))[..., :width]


def shift_down(x: Tensor) -> Tensor:
    """Every row moves down by one, zeros enter at the top and the last row leaves: (..., H, W)."""
    return F.pad(x, (0, 0, 1, 0))[..., :-1, :]


def scan_diagonals(gates: Tensor, weight: Tensor, initial: Tensor, kernel: int) -> Tensor:
    """The recurrence in PyTorch, a skewed column at a time, both directions in one scan.

    Shapes as in `nvp.autoregressive.scan.raster_lstm`; `kernel` has no effect. A row keeps its
    learned initial state until its first pixel, so that the zeros of skewing are never read.
    """
    images, height = gates.shape[:2]
    maps = gates.flatten(4).permute(3, 0, 4, 1, 2)  # (directions, N, 4h, H, W)
    maps = torch.stack([maps[0], maps[1].flip(-1)])
    columns = skew(maps).permute(4, 0, 1, 3, 2).unbind(0)  # each (directions, N, H, 4h)
    left, above = weight.unbind(1)  # each (directions, h, 4h)
    h, c = initial.unsqueeze(2).expand(-1, -1, images, -1, -1).unbind(1)
    rows = torch.arange(height, device=gates.device)[:, None]
    states = []
    for step, column in enumerate(columns):
        state = h.flatten(1, 2)
        # The pixel above stands, in the previous skewed column, one row up; zeros above the top.
        upper = shift_down(h).flatten(1, 2)
        recurrent = torch.baddbmm(torch.bmm(state, left), upper, above)
        new_h, new_c = lstm.lstm_cell(column + recurrent.unflatten(1, (images, height)), c)
        begun = rows <= step
        h, c = torch.where(begun, new_h, h), torch.where(begun, new_c, c)
        states.append(h)
    both = unskew(torch.stack(states, dim=-1).transpose(2, 3))  # (directions, N, h, H, W)
    return (both[0] + shift_down(both[1].flip(-1))).permute(0, 2, 3, 1)
