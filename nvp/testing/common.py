"""Parts that the checks of bijections and of models share."""

import copy
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from nvp.errors import NVPError
from nvp.model.protocol import batch_norms

TOLERANCE = 1e-11  # in float64


def moved(module: Any, size: float = 0.1) -> Any:
    """A copy with noise of this `size` added to parameters and statistics of batch norms."""
    module = copy.deepcopy(module)
    generator = seeded()

    def noise(like: Tensor) -> Tensor:
        return size * torch.randn(like.shape, generator=generator).to(like)

    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(noise(parameter))
        for norm in batch_norms(module):
            norm.running_mean.add_(noise(norm.running_mean))
            norm.running_var.mul_(noise(norm.running_var).exp())
    return module


def seeded(seed: int = 0) -> torch.Generator:
    """A new generator on the CPU with this seed."""
    return torch.Generator().manual_seed(seed)


def near(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape agree in float64: `off(a, b)` is below 1e-11."""
    return bool(off(a, b) < TOLERANCE)


def off(a: Tensor, b: Tensor) -> Tensor:
    """The largest difference, relative to the largest number of `b` if that is above 1."""
    return (a - b).abs().max() / b.abs().max().clamp(min=1)


def require(holds: bool, complaint: str) -> None:
    """Raise `AssertionError` with the `complaint` unless it holds."""
    if not holds:
        raise AssertionError(complaint)


def require_refusal(what: str, call: Callable[..., object], *given: Any, **options: Any) -> None:
    """Require that the `call`, of `what`, raises `NVPError` with one line."""
    try:
        call(*given, **options)
    except NVPError as error:
        require("\n" not in str(error), f"{what} raises NVPError with more than one line")
    except Exception as error:
        raise AssertionError(f"{what} gives {type(error).__name__}, not NVPError") from error
    else:
        raise AssertionError(f"{what} does not raise NVPError")


def check_parts(whole: nn.Module) -> None:
    """Require that each tensor and layer kept is a parameter, a buffer or a registered module."""
    registered = {id(part) for part in chain(whole.parameters(), whole.modules())}
    for where, module in whole.named_modules():
        for name, value in vars(module).items():
            parts = (p for p in inside(value) if isinstance(p, Tensor | nn.Module))
            require(
                name == "_buffers" or all(id(p) in registered for p in parts),
                f"{where or type(whole).__name__} keeps {name} outside its state: make it a "
                "parameter, a buffer or an nn.ModuleList",
            )


def inside(value: object) -> Iterator[object]:
    """The items of a dict, a list or a tuple, at any depth; any other value itself."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from inside(each)
    else:
        yield value


def check_gradients(module: nn.Module) -> None:
    """Require a gradient of every parameter that is trained, after a backward pass."""
    for name, p in module.named_parameters():
        if p.requires_grad:
            grad = torch.zeros(()) if p.grad is None else p.grad
            require(bool(grad.any()), f"{name} has no gradient")
            require(bool(grad.isfinite().all()), f"the gradient of {name} is not finite")
