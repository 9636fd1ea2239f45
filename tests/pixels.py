"""What the tests of Pixel RNNs and flows share: models small enough to check in full.

Random weights in float64, which sub-pixel moves which, and all images that there are.
"""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from nvp import PixelRNN, PixelRNNConfig, RealNVP, RealNVPConfig
from nvp.flows.toy import ToyFlow
from nvp.testing.common import seeded as generator

OUTPUTS: list[dict[str, Any]] = [
    {"levels": 3},
    {"levels": 2},
    {"levels": 4, "output": "mixture", "num_components": 2, "num_scales": 2},
]
# Each connection with the first output, and each other output with all connections.
VARIANTS: list[dict[str, Any]] = [
    *(
        {"residual": residual, "skip": skip, **OUTPUTS[0]}
        for residual, skip in product([True, False], repeat=2)
    ),
    *OUTPUTS[1:],
]


def config(kind: str, image_shape: tuple[int, ...] = (1, 3, 4), **changes: Any) -> PixelRNNConfig:
    """A tiny Pixel RNN of this kind."""
    settings = {"levels": 2, "num_layers": 1, "hidden": 4, "head": 12, "first_kernel": 3} | changes
    if kind == "diagonal_bilstm":
        settings.pop("kernel_size", None)
    return PixelRNNConfig(kind=kind, image_shape=image_shape, **settings)


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """In float64, every parameter from N(0, 0.3^2): biases and first states are no longer 0."""
    torch.manual_seed(seed)
    for parameter in model.double().parameters():
        nn.init.normal_(parameter, 0.0, 0.3)
    return model


def flow_from(data: Mapping[str, Any]) -> ToyFlow:
    """The flow that `live.flow_data` wrote down, its weights rounded as they are in the page."""
    weights = {name: torch.tensor(value) for name, value in data["weights"].items()}
    num_couplings = sum(name.endswith(".scale") for name in weights)
    flow = ToyFlow(num_couplings, width=len(weights["couplings.0.net.1.bias"]))
    flow.load_state_dict(weights)
    return flow


def perturb(module: nn.Module, size: float = 0.3) -> None:
    """Add normal noise of this size to every parameter: scales that start at 0 no longer are."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn_like(parameter))


def small_flow(preset: str = "paper", **changes: Any) -> RealNVP:
    """A Real NVP with few features and first values, the same each time; of 8x8 images."""
    torch.manual_seed(0)
    sizes = {"image_shape": (3, 8, 8), "num_blocks": 1, "width": 4}
    return RealNVP(RealNVPConfig.model_validate({"preset": preset, **sizes, **changes}))


def lived(config: RealNVPConfig) -> RealNVP:
    """A Real NVP as after training: float64, evaluation mode, random weights, moved statistics."""
    torch.manual_seed(0)
    model = RealNVP(config).double().train()
    perturb(model)
    with torch.no_grad():
        for _ in range(3):
            x = 1.5 * torch.randn(8, *config.image_shape, dtype=torch.float64) + 0.2
            y = torch.randn(8, config.num_classes, dtype=torch.float64)  # (8, 0) without classes
            model.flow(x, y)
    return model.eval()


def noise(n: int, *shape: int, levels: int = 256, seed: int = 0) -> Tensor:
    """`n` images of this shape, by default that of `small_flow`, in which all levels are alike."""
    size = (n, *(shape or (3, 8, 8)))
    return torch.randint(levels, size, generator=generator(seed), dtype=torch.uint8)


def in_order(x: Tensor) -> Tensor:
    """(N, C, H, W, ...) -> (N, D, ...), sub-pixels by row, then column, then colour."""
    return x.movedim(1, 3).flatten(1, 3)


def moved_by_change(model: PixelRNN, trials: int = 8) -> Tensor:
    """[o, i]: whether anything said of sub-pixel o moves when sub-pixel i of the image changes.

    (D, D) bool: by each of the D changes to each of `trials` random images.
    """
    channels, height, width = model.image_shape
    size = model.num_dimensions
    image = torch.randint(model.levels, (trials, 1, size), generator=generator())
    changed = (image + torch.eye(size, dtype=torch.int64)) % model.levels
    images = torch.cat([image, changed], dim=1).flatten(0, 1)
    images = images.unflatten(1, (height, width, channels)).movedim(3, 1)
    outputs = in_order(model.parameters_of(images)).detach().unflatten(0, (trials, size + 1))
    return ((outputs[:, 1:] - outputs[:, :1]).abs().amax(-1) > 1e-13).any(0).T


def moved_by_gradient(model: PixelRNN, trials: int = 8) -> Tensor:
    """The same by the gradient of what is said of sub-pixel o, at `trials` images of any reals."""
    images = torch.rand(trials, *model.image_shape, generator=generator(), dtype=torch.float64)
    return reached(lambda x: in_order(model.parameters_of(x)), images * (model.levels - 1))


def reached(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """[o, i]: whether output o of a map (N, C, H, W) to (N, D, ?) has a gradient at sub-pixel i.

    (D, D) bool: at any of the images.
    """
    size = images[0].numel()
    # One copy of each image for each output asked about: all gradients in one pass.
    copies = images.repeat_interleave(size, dim=0).requires_grad_()
    asked = function(copies).unflatten(0, (-1, size)).diagonal(dim1=1, dim2=2)  # (n, ?, D)
    mixed = asked * torch.randn(asked.shape[1], 1, generator=generator(), dtype=asked.dtype)
    (gradient,) = torch.autograd.grad(mixed.sum(), copies)
    return (in_order(gradient).unflatten(0, (-1, size)) != 0).any(0)


def names(model: PixelRNN, pairs: Tensor) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The (row, column, colour) of both sub-pixels, for every true entry of (D, D)."""
    channels, height, width = model.image_shape
    places = list(product(range(height), range(width), range(channels)))
    return [(places[o], places[i]) for o, i in pairs.nonzero().tolist()]
