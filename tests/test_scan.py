"""The compiled LSTM scan against the plain one, which test_numpy_parity.py compares with eq 3."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from pixels import config, generator
from torch import Tensor

from nvp import PixelRNN
from nvp.autoregressive import scan
from nvp.autoregressive.diagonal_bilstm import scan_diagonals
from nvp.autoregressive.row_lstm import scan_rows
from nvp.autoregressive.scan import DIAGONAL, raster_lstm

Inputs = tuple[Tensor, Tensor, Tensor]

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
kernels = pytest.mark.parametrize("kernel", [DIAGONAL, 3, 5])


@pytest.fixture(autouse=True)
def built(compiler: None) -> None:
    """The compiled scan; a machine with a compiler must be able to build it."""
    assert scan.compiled(torch.zeros(1))


def inputs(
    kernel: int, n: int, height: int, width: int, hidden: int, dtype: torch.dtype = torch.float64
) -> Inputs:
    """Gates, weight and initial states, as `raster_lstm` takes them."""
    directions, taps, length = (2, 2, height) if kernel == DIAGONAL else (1, kernel, width)
    shapes = [
        (n, height, width, directions, 4, hidden),
        (directions, taps, hidden, 4 * hidden),
        (directions, 2, length, hidden),
    ]
    draw = generator()
    return tuple(torch.randn(s, generator=draw, dtype=dtype).requires_grad_() for s in shapes)


def results(run: Any, values: Inputs, kernel: int) -> list[Tensor]:
    """The map, and the gradients of a random mixture of its entries."""
    out = run(*values, kernel)
    cotangent = torch.randn(out.shape, generator=generator(1), dtype=torch.float64).to(out.dtype)
    return [out.detach(), *torch.autograd.grad((out * cotangent).sum(), values)]


def plain(kernel: int) -> Any:
    return scan_diagonals if kernel == DIAGONAL else scan_rows


def check_compiled(values: Inputs, kernel: int, tolerance: float) -> None:
    """Against the plain scan: the map and the gradients, and no number that is not finite."""
    fast, slow = results(raster_lstm, values, kernel), results(plain(kernel), values, kernel)
    for a, b in zip(fast, slow, strict=True):
        assert a.shape == b.shape
        assert a.isfinite().all()
        assert (a - b).abs().max() <= tolerance * max(1.0, b.abs().max().item())


@kernels
@pytest.mark.parametrize(
    ("size", "hidden", "n", "dtype"),
    [
        *product([(4, 5)], [1, 3, 8, 11, 16, 29, 37], [1, 8, 9], [torch.float64]),
        *product([(1, 6), (6, 1), (1, 1)], [3], [1], [torch.float64]),
        *product([(5, 4), (1, 6), (6, 1), (1, 1)], [3, 8, 16, 19], [9], [torch.float32]),
    ],
)
def test_compiled_equals_plain(kernel, size, hidden, n, dtype) -> None:
    check_compiled(inputs(kernel, n, *size, hidden, dtype), kernel, TOLERANCE[dtype])


@kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_closed_and_open_gates(kernel: int, dtype: torch.dtype) -> None:
    """Where exponentials overflow, gates are 0 or 1 and nothing is nan."""
    gates, weight, initial = inputs(kernel, 3, 4, 3, 5, dtype)
    for size in (30.0, 300.0, 1e4):
        values = (size * gates.detach()).requires_grad_(), weight, initial
        check_compiled(values, kernel, TOLERANCE[dtype])


@kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_nan_stays_nan(kernel: int, dtype: torch.dtype) -> None:
    """So that a step which ruins the weights is found."""
    gates, weight, initial = (x.detach() for x in inputs(kernel, 3, 4, 3, 5, torch.float32))
    gates, wide = gates.to(dtype), torch.float64 if dtype is torch.float64 else torch.float32
    if dtype is torch.bfloat16 and not torch.ops.nvp_scan.tiles():
        pytest.skip("no unit for bfloat16 matrices")
    assert scan.compiled(gates)
    weight, initial = weight.to(wide), initial.to(wide)
    assert raster_lstm(gates, weight.fill_(0), initial, kernel).isfinite().all()
    assert raster_lstm(gates, weight.fill_(math.nan), initial, kernel).isnan().any()
    gates[0, 1, 1], weight = math.nan, weight.fill_(0)
    assert raster_lstm(gates, weight, initial, kernel).isnan().any()


@kernels
def test_any_layout_in_memory(kernel: int) -> None:
    """Gates, weights and the map's gradient need not be contiguous."""
    values = inputs(kernel, 3, 4, 5, 6)
    strange = tuple(x.detach().mT.contiguous().mT.requires_grad_() for x in values)
    out, again = raster_lstm(*values, kernel), raster_lstm(*strange, kernel)
    slope = torch.randn(out.shape, generator=generator(1), dtype=out.dtype).mT.contiguous().mT
    fast = torch.autograd.grad(again, strange, slope)
    slow = torch.autograd.grad(out, values, slope.contiguous())
    assert torch.equal(out, again)
    assert all(torch.equal(a, b) for a, b in zip(fast, slow, strict=True))


@pytest.mark.parametrize("kind", ["row_lstm", "diagonal_bilstm"])
@pytest.mark.parametrize("tiles", [True, False])
@torch.no_grad()
def test_the_compiled_scan_takes_bfloat16_where_it_can(kind: str, tiles: bool, monkeypatch) -> None:
    """Elsewhere it stays in full, like the plain one."""
    if tiles and not torch.ops.nvp_scan.tiles():
        pytest.skip("no unit for bfloat16 matrices")
    monkeypatch.setattr(torch.ops.nvp_scan, "tiles", lambda: tiles)
    layer = PixelRNN(config(kind, (1, 6, 5), hidden=8)).layers[0].core
    with torch.autocast("cpu", torch.bfloat16):
        states = layer(torch.randn(3, 16, 6, 5, generator=generator()))
    assert states.dtype is (torch.bfloat16 if tiles else torch.float32)


@kernels
@pytest.mark.parametrize("hidden", [3, 16, 19, 48])
@pytest.mark.parametrize("n", [1, 9])
@pytest.mark.parametrize("size", [(12, 9), (1, 6), (6, 1)])
def test_tiles_sum_in_float32(kernel: int, hidden: int, n: int, size: tuple[int, int]) -> None:
    """In bfloat16 the scan is as near to the plain one as rounding its inputs leaves it."""
    if not torch.ops.nvp_scan.tiles():
        pytest.skip("no unit for bfloat16 matrices")
    gates, weight, initial = (x.detach() for x in inputs(kernel, n, *size, hidden, torch.float32))
    weight = weight / (weight.shape[1] * hidden) ** 0.5
    half = gates.bfloat16().requires_grad_(), weight.requires_grad_(), initial.requires_grad_()
    full = tuple(x.detach().double().requires_grad_() for x in half)
    fast, slow = results(raster_lstm, half, kernel), results(plain(kernel), full, kernel)
    assert [x.dtype for x in fast] == [torch.bfloat16] * 2 + [torch.float32] * 2
    for a, b in zip(fast, slow, strict=True):
        assert (a - b).norm() < 0.01 * b.norm()


def test_shapes_that_do_not_fit_are_refused() -> None:
    gates, weight = torch.zeros(1, 3, 4, 1, 4, 5), torch.zeros(1, 3, 5, 20)
    with pytest.raises(RuntimeError, match="initial must be"):
        raster_lstm(gates, weight, torch.zeros(1, 2, 3, 5), 3)
    with pytest.raises(RuntimeError, match="weight must be"):
        raster_lstm(gates, weight[:, :2], torch.zeros(1, 2, 4, 5), 3)
    with pytest.raises(RuntimeError, match="weight must be"):
        raster_lstm(gates, weight[:, :2], torch.zeros(1, 2, 3, 5), DIAGONAL)
