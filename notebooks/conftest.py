"""How nbval runs the chapters, and what of their outputs it compares."""

from importlib.metadata import EntryPoint

import pytest
from jupyter_client.provisioning import KernelProvisionerFactory


def pytest_configure() -> None:
    """Fork the kernels: most would spend eight seconds on imports."""
    factory = KernelProvisionerFactory.instance()
    factory.default_provisioner_name = "forked"
    factory.provisioners["forked"] = EntryPoint(
        "forked", "nvp_book.kernels:ForkedProvisioner", factory.GROUP_NAME
    )


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Compare no pictures: nbval leaves PNG out by itself, but not SVG."""
    if collector.path.suffix == ".ipynb":
        collector.skip_compare += ("image/svg+xml",)
