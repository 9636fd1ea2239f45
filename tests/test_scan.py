"""The compiled LSTM scan against the plain one, which test_numpy_parity.py compares with eq 3."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from pixels import config, generator, randomised
from tiny import two_threads
from torch import Tensor

from nvp import PixelRNN
from nvp.autoregressive import scan
from nvp.autoregressive.diagonal_bilstm import scan_diagonals, skew, unskew
from nvp.autoregressive.row_lstm import scan_rows
from nvp.autoregressive.scan import DIAGONAL, raster_lstm
from nvp.errors import NVPError
from nvp.model import native

Inputs = tuple[Tensor, Tensor, Tensor]

kernels = pytest.mark.parametrize("kernel", [DIAGONAL, 3, 5])


@pytest.fixture
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
    gates, weight, initial = (
        torch.randn(shape, generator=draw, dtype=dtype).requires_grad_() for shape in shapes
    )
    return gates, weight, initial


def results(run: Any, values: Inputs, kernel: int) -> list[Tensor]:
    """The map, and the gradients of a random mixture of its entries."""
    out = run(*values, kernel)
    cotangent = torch.randn(out.shape, generator=generator(1), dtype=torch.float64).to(out.dtype)
    return [out.detach(), *torch.autograd.grad((out * cotangent).sum(), values)]


def plain(kernel: int) -> Any:
    return scan_diagonals if kernel == DIAGONAL else scan_rows


def assert_close(fast: list[Tensor], slow: list[Tensor], tolerance: float) -> None:
    for a, b in zip(fast, slow, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * max(1.0, b.abs().max().item())


@kernels
@pytest.mark.parametrize(
    ("size", "hidden", "n"),
    [
        *product([(4, 5)], [1, 3, 8, 11, 16], [1, 8, 9]),
        *((size, *each) for size in [(1, 6), (6, 1), (1, 1)] for each in [(3, 1), (11, 9)]),
    ],
)
@pytest.mark.usefixtures("built")
def test_compiled_equals_plain(kernel: int, size: tuple[int, int], hidden: int, n: int) -> None:
    values = inputs(kernel, n, *size, hidden)
    fast, slow = results(raster_lstm, values, kernel), results(plain(kernel), values, kernel)
    assert_close(fast, slow, 1e-10)


@kernels
@pytest.mark.parametrize("hidden", [3, 8, 16, 19])
@pytest.mark.usefixtures("built")
def test_compiled_in_float32(kernel: int, hidden: int) -> None:
    values = inputs(kernel, 9, 5, 4, hidden, torch.float32)
    fast, slow = results(raster_lstm, values, kernel), results(plain(kernel), values, kernel)
    assert_close(fast, slow, 1e-5)


@kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.usefixtures("built")
def test_closed_and_open_gates(kernel: int, dtype: torch.dtype) -> None:
    """Where exponentials overflow, gates are 0 or 1 and nothing is nan."""
    gates, weight, initial = inputs(kernel, 3, 4, 3, 5, dtype)
    for size in (30.0, 300.0, 1e4):
        values = (size * gates.detach()).requires_grad_(), weight, initial
        fast, slow = results(raster_lstm, values, kernel), results(plain(kernel), values, kernel)
        assert all(x.isfinite().all() for x in fast)
        assert_close(fast, slow, 1e-5 if dtype == torch.float32 else 1e-10)


@kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.usefixtures("built")
def test_nan_stays_nan(kernel: int, dtype: torch.dtype) -> None:
    """So that a step which ruins the weights is found."""
    gates, weight, initial = (x.detach() for x in inputs(kernel, 3, 4, 3, 5, torch.float32))
    gates, wide = gates.to(dtype), torch.float64 if dtype is torch.float64 else torch.float32
    if not scan.compiled(gates):
        pytest.skip(f"no compiled scan of {dtype} on this processor")
    weight, initial = weight.to(wide), initial.to(wide)
    assert raster_lstm(gates, weight.fill_(0), initial, kernel).isfinite().all()
    assert raster_lstm(gates, weight.fill_(math.nan), initial, kernel).isnan().any()
    gates[0, 1, 1], weight = math.nan, weight.fill_(0)
    assert raster_lstm(gates, weight, initial, kernel).isnan().any()


@kernels
@pytest.mark.usefixtures("built")
def test_threads_change_no_bit(kernel: int) -> None:
    values = inputs(kernel, 19, 4, 5, 11)
    with two_threads():
        two = results(raster_lstm, values, kernel)
    one = results(raster_lstm, values, kernel)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@kernels
@pytest.mark.usefixtures("built")
def test_gradients_by_differences(kernel: int) -> None:
    assert torch.autograd.gradcheck(
        lambda *values: raster_lstm(*values, kernel), inputs(kernel, 2, 2, 3, 2)
    )


@pytest.mark.usefixtures("built")
def test_no_second_derivatives() -> None:
    """The compiled scan has none: an error, not a wrong number.

    PyTorch's own refusal comes too late for a gradient of chosen weights, which leaves a part out.
    """
    values = inputs(3, 1, 2, 2, 2)
    total = raster_lstm(*values, 3).square().sum()
    with pytest.raises(NVPError, match="NVP_PLAIN=1"):
        torch.autograd.grad(total, values[0], create_graph=True)


@kernels
@pytest.mark.usefixtures("built")
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


@kernels
def test_no_images(kernel: int) -> None:
    values = inputs(kernel, 0, 4, 5, 6)
    for run in (raster_lstm, plain(kernel)) if scan.compiled(values[0]) else (plain(kernel),):
        out, *gradients = results(run, values, kernel)
        assert out.shape == (0, 4, 5, 6)
        assert not any(gradient.any() for gradient in gradients)


def test_skew() -> None:
    """Figure 3: each row starts one place later than the one above."""
    x = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    skewed = [[1, 2, 3, 0, 0], [0, 4, 5, 6, 0], [0, 0, 7, 8, 9]]
    assert skew(x).tolist() == skewed
    assert torch.equal(unskew(torch.tensor(skewed)), x)


@pytest.mark.parametrize("kind", ["row_lstm", "diagonal_bilstm"])
@pytest.mark.usefixtures("built")
def test_model_without_the_compiled_scan(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(PixelRNN(config(kind, (3, 4, 5), num_layers=2)))
    images = torch.randint(2, (3, 3, 4, 5), generator=generator(), dtype=torch.uint8)
    fast = model.log_prob(images)
    fast.sum().backward()
    gradients = [p.grad for p in model.parameters()]
    model.zero_grad()
    monkeypatch.setenv("NVP_PLAIN", "1")
    monkeypatch.setattr(native, "_build", lambda *_: pytest.fail("built all the same"))
    slow = model.log_prob(images)
    slow.sum().backward()
    assert_close([fast, *gradients], [slow, *(p.grad for p in model.parameters())], 1e-10)


@pytest.mark.parametrize("kind", ["row_lstm", "diagonal_bilstm"])
@torch.no_grad()
def test_the_plain_scan_is_in_full_under_autocast(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what the layer does only the convolution before the scan is in half precision."""
    monkeypatch.setenv("NVP_PLAIN", "1")
    layer = PixelRNN(config(kind, (1, 6, 5), hidden=8)).layers[0].core
    x = torch.randn(3, 16, 6, 5, generator=generator())
    with torch.autocast("cpu", torch.bfloat16):
        half, states = layer.input_to_state(x), layer(x)
    assert half.dtype is torch.bfloat16
    assert states.dtype is torch.float32
    monkeypatch.setattr(layer.input_to_state, "forward", lambda _: half.float())
    assert torch.equal(states, layer(x))


@pytest.mark.parametrize("kind", ["row_lstm", "diagonal_bilstm"])
@pytest.mark.parametrize("tiles", [True, False])
@pytest.mark.usefixtures("built")
@torch.no_grad()
def test_the_compiled_scan_takes_bfloat16_where_it_can(
    kind: str, tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
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
@pytest.mark.usefixtures("built")
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
