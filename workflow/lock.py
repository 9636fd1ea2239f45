"""Print the lock of the environment that runs this file: `make lock` keeps what it prints.

It has exact versions of what pip installed, but for `RANGES` and `SKIPPED`.
"""

import argparse
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

HEADER = """\
# Everything the project needs, at the versions it was tested with (Python {0.major}.{0.minor}).
# Made by `make lock`. Used as: pip install -c requirements.lock -e '.[cli,import,book,dev]'
# torch and torchvision are ranges: their builds (CPU, CUDA, ROCm) differ from machine to machine.
"""
RANGES = ("torch", "torchvision")
# The project itself, what belongs to the venv, and what comes only with some builds of torch.
SKIPPED = ("nvp", "pip", "setuptools", "wheel", "triton", "nvidia-", "cuda-")


def lock() -> str:
    """The text of requirements.lock."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["cli"]]
    ranges = [line for line in wanted if line.split(">")[0] in RANGES]
    pins = {
        f"{dist.name}=={dist.version}"
        for dist in distributions()
        if dist.name not in RANGES and not dist.name.lower().startswith(SKIPPED)
    }
    header = HEADER.format(sys.version_info)
    return header + "\n".join(sorted(pins.union(ranges), key=str.lower))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(lock())
