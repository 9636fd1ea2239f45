"""Masks A and B, written out by hand, and how the weights under them begin and move."""

from __future__ import annotations

import pytest
import torch
from pixels import generator

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


def test_forget_gates_start_open() -> None:
    """Gates are in the order o, f, i, g, in each direction."""
    bias = input_to_state(6, 3, 1, 2, (1, 1)).bias.unflatten(0, (2, 4, 3))
    assert torch.equal(bias[:, 1], torch.ones(2, 3))
    assert (bias[:, [0, 2, 3]].abs() < 1).all()


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
