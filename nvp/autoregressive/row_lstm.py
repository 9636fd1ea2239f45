"""The Row LSTM of section 3.1."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nvp.autoregressive import lstm
from nvp.autoregressive.scan import scan


class RowLSTM(nn.Module):
    """Eq 3, a row at a time, from the top: (N, features, H, W) -> (N, h, H, W).

    Both convolutions are k wide along the row. Input to state has mask B; state to state reads the
    row above, without a mask. The hidden state of a pixel depends on the triangle above it, which
    widens by k - 1 columns a row. Through the input it depends on its left neighbours, too.
    """

    roles = lstm.ROLES

    def __init__(
        self, features: int, hidden: int, num_colours: int, kernel_size: int, width: int
    ) -> None:
        super().__init__()
        self.input_to_state = lstm.input_to_state(
            features, hidden, num_colours, 1, (1, kernel_size)
        )
        self.state_to_state = lstm.state_to_state(1, kernel_size, hidden)
        self.initial = lstm.initial_states(1, width, hidden)

    def extra_repr(self) -> str:
        return f"hidden={self.initial.shape[-1]}, k={self.state_to_state.shape[1]}"

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """`bias`, (N, 4h, H, W), is added to the input-to-state map (section 3.6)."""
        gates = self.input_to_state(x)
        gates = lstm.split_gates(gates if bias is None else gates + bias, 1)
        taps = self.state_to_state.shape[1]
        states = scan(scan_rows, gates, self.state_to_state, self.initial, taps)
        return states.permute(0, 3, 1, 2)


def scan_rows(gates: Tensor, weight: Tensor, initial: Tensor, kernel: int) -> Tensor:
    """The recurrence in PyTorch, row by row; shapes as in `nvp.autoregressive.scan.raster_lstm`."""
    rows = gates.flatten(3).unbind(1)  # each (N, W, 4h)
    kernel_weight = weight[0].permute(2, 1, 0)  # a 1-D convolution's (4h, h, taps)
    h, c = initial[0].unsqueeze(1).expand(-1, len(gates), -1, -1)  # each (N, W, h)
    states = []
    for row in rows:
        above = F.conv1d(h.transpose(1, 2), kernel_weight, padding=kernel // 2)
        h, c = lstm.lstm_cell(row + above.transpose(1, 2), c)
        states.append(h)
    return torch.stack(states, dim=1)
