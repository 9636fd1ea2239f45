"""The parts that both LSTM layers share: the gates of eq 3."""

import math

import torch
from torch import Tensor, nn

from nvp.autoregressive.masked_conv import MaskedConv2d, colour_groups
from nvp.model.roles import Role

ROLES = {"state_to_state": Role.RECURRENT, "initial": Role.FIRST_STATE}


def lstm_cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Eq 3: gates (..., 4h) in the order o, f, i, g and the cell (..., h) -> h and c, (..., h).

    o, f and i are logistic, the content g is a tanh.
    """
    o, f, i, content = gates.chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(content)
    return torch.sigmoid(o) * torch.tanh(c), c


def input_to_state(
    features: int, hidden: int, num_colours: int, directions: int, kernel_size: tuple[int, int]
) -> MaskedConv2d:
    """K^is of eq 3: the mask B convolution that makes the input-to-state map.

    (N, features, H, W) -> (N, directions 4h, H, W). The colours cycle over the h units, alike in
    every gate. If they cycled over all 4h outputs, a unit would have gates of several colours where
    three does not divide h, and leak.
    """
    own = colour_groups(hidden, num_colours).repeat(4 * directions)
    conv = MaskedConv2d("B", colour_groups(features, num_colours), own, kernel_size)
    with torch.no_grad():
        # A forget gate that starts open lets gradients through the scan from the first step on.
        conv.bias.view(directions, 4, hidden)[:, 1] = 1.0
    return conv


def state_to_state(directions: int, taps: int, hidden: int) -> nn.Parameter:
    """K^ss of eq 3: the weights from the hidden states of `taps` neighbours to the gates.

    Shape (directions, taps, h, 4h). Every neighbour is an earlier pixel, so no mask is needed.
    """
    bound = 1 / math.sqrt(taps * hidden)
    return nn.Parameter(torch.empty(directions, taps, hidden, 4 * hidden).uniform_(-bound, bound))


def initial_states(directions: int, length: int, hidden: int) -> nn.Parameter:
    """The learned h and c before the first row or column, (directions, 2, length, h) (section 5.2).

    `length` is the width for the Row LSTM, the height for the Diagonal BiLSTM.
    """
    return nn.Parameter(torch.zeros(directions, 2, length, hidden))


def split_gates(gates: Tensor, directions: int) -> Tensor:
    """(N, directions 4h, H, W) -> (N, H, W, directions, 4, h), the layout in memory."""
    return gates.permute(0, 2, 3, 1).unflatten(-1, (directions, 4, -1))
