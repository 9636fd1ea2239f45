"""What several test files share: one thread, so that times and sums do not depend on the machine,
a browser, and models whose weights and statistics are far from their first values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny
import torch
from browser import CHROMIUM, Browser
from programs import missing
from torch import nn

from nvp import RealNVP, RealNVPConfig

torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that ask for a browser."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the set `tiny`: 60 training images, 8x8, of which 6 are held out; and
    `tiny-binary`, which has a validation split.
    """
    folder = tmp_path_factory.mktemp("data")
    tiny.write_data(folder)
    tiny.write_binary_data(folder)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium; a test that asks for it is skipped where there is none."""
    if CHROMIUM is None:
        missing("Chromium")
    with Browser(CHROMIUM) as browser:
        yield browser


@pytest.fixture
def perturb() -> Callable[[nn.Module, float], None]:
    """Add normal noise of this size to every parameter: scales that start at 0 no longer are."""

    def move(module: nn.Module, size: float = 0.3) -> None:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(size * torch.randn_like(parameter))

    return move


@pytest.fixture
def lived(perturb) -> Callable[..., RealNVP]:
    """Build a model in float64, in evaluation mode, with random weights and running statistics."""

    def build(config: RealNVPConfig, size: float = 0.3, batches: int = 3) -> RealNVP:
        torch.manual_seed(0)
        model = RealNVP(config).double().train()
        perturb(model, size)
        with torch.no_grad():
            for _ in range(batches):
                model.flow(1.5 * torch.randn(8, *config.image_shape, dtype=torch.float64) + 0.2)
        return model.eval()

    return build
