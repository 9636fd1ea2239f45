"""Classes that a chapter offers for copying run in a notebook that has no `nvp`."""

import ast
from pathlib import Path
from typing import Any

import jupytext
import torch

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
IMPORTS = """
import itertools
import torch
import torch.nn.functional as F
from torch import nn
"""


def copied(chapter: str, *classes: str) -> dict[str, Any]:
    """The names of an empty notebook, after the cells of the chapter that define these classes."""
    names: dict[str, Any] = {}
    exec(IMPORTS, names)
    for cell in jupytext.read(NOTEBOOKS / f"{chapter}.py").cells:
        if cell.cell_type != "code":
            continue
        defined = {node.name for node in ast.parse(cell.source).body if hasattr(node, "name")}
        if defined & set(classes):
            exec(cell.source, names)
    assert set(classes) <= set(names)
    return names


def test_real_nvp_is_three_cells() -> None:
    names = copied("06_networks", "Network", "BatchNorm", "RealNVP")
    model = names["RealNVP"](channels=1, side=8, maps=2, scales=2)
    images = torch.randint(256, (16, 1, 8, 8))
    model.log_prob(images).mean().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert model.eval().sample(2).shape == (2, 1, 8, 8)


def test_the_pixel_rnns_are_three_cells() -> None:
    names = copied("12_pixelcnn", "MaskedConv", "PixelCNN", "PixelRNN")
    images = torch.randint(4, (2, 3, 5, 6))
    for layer in ("RowLSTM", "DiagonalBiLSTM", "PixelCNN"):
        model = names["PixelRNN"](names[layer], (3, 5, 6), levels=4, h=6, head=6)
        logits = model(images)
        assert logits.shape == (2, 4, 3, 5, 6)
        logits.sum().backward()
        assert all(weight.grad is not None for weight in model.parameters()), layer
