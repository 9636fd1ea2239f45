"""nbval compares no pictures: neither PNG, by default, nor line art as SVG."""

import pytest


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Skip SVG in the comparison of a notebook with its record."""
    if collector.path.suffix == ".ipynb":
        collector.skip_compare += ("image/svg+xml",)
