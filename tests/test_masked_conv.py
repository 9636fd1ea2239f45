"""Masks A and B, written out by hand; the convolution that bears them; the gates' colours."""

from __future__ import annotations

import pytest
import torch
from pixels import generator
from torch.nn import functional as F

from nvp.autoregressive.lstm import input_to_state, state_to_state
from nvp.autoregressive.masked_conv import Mask, MaskedConv2d, colour_groups, conv_mask

RGB = torch.arange(3)
# What a feature may see at the centre of its kernel: rows are its own colour, columns the seen.
CENTRE: dict[Mask, list[list[int]]] = {
    "A": [
        [0, 0, 0],  # red sees nothing of its own pixel,
        [1, 0, 0],  # green sees red,
        [1, 1, 0],  # blue sees red and green
    ],
    "B": [
        [1, 0, 0],  # and each its own colour
        [1, 1, 0],
        [1, 1, 1],
    ],
}
masks = pytest.mark.parametrize("mask", ["A", "B"])


def test_colour_groups() -> None:
    assert colour_groups(7, 3).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert colour_groups(4, 1).tolist() == [0, 0, 0, 0]


@masks
def test_3x3_masks_of_three_colours(mask: Mask) -> None:
    allowed = conv_mask(mask, RGB, RGB, (3, 3))
    for own in range(3):
        for seen in range(3):
            assert allowed[own, seen].tolist() == [
                [1, 1, 1],
                [1, CENTRE[mask][own][seen], 0],
                [0, 0, 0],
            ]


@masks
def test_1x1_masks_of_three_colours(mask: Mask) -> None:
    assert conv_mask(mask, RGB, RGB, (1, 1))[..., 0, 0].tolist() == CENTRE[mask]


@masks
def test_masks_of_one_colour(mask: Mask) -> None:
    grey = torch.zeros(1, dtype=torch.int64)
    centre = {"A": 0, "B": 1}[mask]
    assert conv_mask(mask, grey, grey, (3, 3))[0, 0].tolist() == [
        [1, 1, 1],
        [1, centre, 0],
        [0, 0, 0],
    ]
    assert conv_mask(mask, grey, grey, (1, 5))[0, 0].tolist() == [[1, 1, centre, 0, 0]]


def test_features_cycle_through_the_colours() -> None:
    """Four features in, five out: R, G, B, R and R, G, B, R, G."""
    allowed = conv_mask("B", colour_groups(5, 3), colour_groups(4, 3), (1, 1))[..., 0, 0]
    assert allowed.tolist() == [
        [1, 0, 0, 1],
        [1, 1, 0, 1],
        [1, 1, 1, 1],
        [1, 0, 0, 1],
        [1, 1, 0, 1],
    ]


@pytest.mark.parametrize("directions", [1, 2])
def test_all_gates_of_a_unit_have_its_colour(directions: int) -> None:
    """Width 4, which three does not divide: over all 16 outputs unit 0 would be R, G, B, R."""
    conv = input_to_state(8, 4, 3, directions, (1, 1))
    of_gates = conv.mask[..., 0, 0].unflatten(0, (directions, 4, 4))
    red, green, blue = [1, 0, 0] * 2 + [1, 0], [1, 1, 0] * 2 + [1, 1], [1] * 8
    for gates in of_gates.flatten(0, 1):
        assert gates.tolist() == [red, green, blue, red]


def test_forget_gates_start_open() -> None:
    """Gates are in the order o, f, i, g, in each direction."""
    bias = input_to_state(6, 3, 1, 2, (1, 1)).bias.unflatten(0, (2, 4, 3))
    assert torch.equal(bias[:, 1], torch.ones(2, 3))
    assert (bias[:, [0, 2, 3]].abs() < 1).all()


@masks
@pytest.mark.parametrize("kernel_size", [(7, 7), (3, 3), (1, 3), (1, 1)])
def test_convolution(mask: Mask, kernel_size: tuple[int, int]) -> None:
    """It equals a convolution whose forbidden weights are 0, and keeps the size of the map."""
    conv = MaskedConv2d(mask, colour_groups(4, 3), colour_groups(5, 3), kernel_size).double()
    x = torch.randn(2, 4, 6, 5, generator=generator(), dtype=torch.float64)
    weight = conv.weight.detach().clone()
    weight[conv.mask == 0] = 0
    expected = F.conv2d(x, weight, conv.bias, padding=(kernel_size[0] // 2, kernel_size[1] // 2))
    assert torch.equal(conv(x), expected)
    assert torch.equal(conv.masked_weight(), weight)
    assert conv(x).shape == (2, 5, 6, 5)
    assert set(conv.state_dict()) == {"weight", "bias"}


@masks
def test_no_optimiser_moves_a_forbidden_weight(mask: Mask) -> None:
    """Momentum and weight decay change what is stored; what is in use stays 0."""
    conv = MaskedConv2d(mask, RGB, RGB, (3, 3))
    optimiser = torch.optim.SGD(conv.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    x = torch.randn(2, 3, 4, 4, generator=generator())
    for _ in range(3):
        optimiser.zero_grad()
        conv(x).square().sum().backward()
        assert conv.weight.grad is not None
        assert not conv.weight.grad[conv.mask == 0].any()
        assert conv.weight.grad[conv.mask == 1].all()
        optimiser.step()
    assert not conv.masked_weight()[conv.mask == 0].any()
    assert conv.masked_weight()[conv.mask == 1].all()


def test_first_weights_are_scaled_by_the_inputs_that_are_there() -> None:
    conv = MaskedConv2d("B", colour_groups(6, 3), colour_groups(6, 3), (7, 7))
    used = conv.mask.flatten(1).sum(1).mean().item()
    assert conv.weight.abs().max().item() == pytest.approx(used**-0.5, rel=0.02)
    assert state_to_state(2, 3, 16).abs().max().item() == pytest.approx(48**-0.5, rel=0.02)
