"""A data set and a run that take no time: 8x8 images, models of a few thousand weights."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pixels import noise
from torch import Tensor
from typer.testing import CliRunner, Result

from nvp.cli import app
from nvp.config import RunConfig, parse_config
from nvp.errors import NVPError
from nvp.model import ImageModel
from nvp.paths import results_root
from nvp.runs.folder import RunFolder
from nvp.runs.log import read_log
from nvp.runs.tensors import load_tensors
from nvp.training.loop import prepare
from nvp.training.state import State, begin


def write_data(root: Path, name: str = "tiny", side: int = 8, seed: int = 0) -> None:
    """A folder of .npy files with 60 training and 30 test images: a bright square that moves."""
    rng = np.random.default_rng(seed)
    folder = root / name
    folder.mkdir(parents=True)
    for split, count in (("train", 60), ("test", 30)):
        images = rng.integers(0, 40, (count, side, side, 1), dtype=np.uint8)
        for image, row in zip(images, rng.integers(0, side - 3, count), strict=True):
            image[row : row + 3, 2:5] += 180
        np.save(folder / f"{split}_images.npy", images)


def config_tree() -> dict:
    """A configuration for `write_data`'s images; two steps."""
    return {
        "name": "tiny",
        "title": "A tiny Real NVP",
        "model": {
            **{"preset": "paper", "image_shape": [1, 8, 8]},
            **{"num_scales": 2, "num_blocks": 0, "width": 4},
        },
        "data": {"name": "tiny"},
        "training": {"steps": 2, "batch_size": 8, "log_every": 1, "precision": "fp32"},
        "evaluation": {"batch_size": 10, "validation_images": 6, "statistics_images": 40},
    }


def configured(tree: dict, **changes: Mapping[str, Any]) -> RunConfig:
    """The configuration of a tree with these changes to its sections."""
    changed = {name: {**tree[name], **values} for name, values in changes.items()}
    return parse_config({**tree, **changed}, tree["name"])


def configuration(**training: Any) -> RunConfig:
    """`config_tree()` with one residual block, for tests of the loop itself."""
    return configured(config_tree(), model={"num_blocks": 1}, training=training)


def write_binary_data(root: Path, name: str = "tiny-binary") -> None:
    """`write_data`'s squares in black and white, with 30 validation images besides."""
    rng = np.random.default_rng(0)
    folder = root / name
    folder.mkdir(parents=True)
    for split, count in (("train", 60), ("validation", 30), ("test", 30)):
        images = (rng.random((count, 8, 8, 1)) < 0.1).astype(np.uint8)
        for image, row in zip(images, rng.integers(0, 5, count), strict=True):
            image[row : row + 3, 2:5] = 1
        np.save(folder / f"{split}_images.npy", images)


def pixelrnn_tree() -> dict:
    """A configuration for `write_binary_data`'s images; two steps."""
    return {
        **config_tree(),
        "name": "tiny-pixelrnn",
        "title": "A tiny PixelCNN",
        "model": {
            **{"family": "pixelrnn", "kind": "pixelcnn", "image_shape": [1, 8, 8], "levels": 2},
            **{"num_layers": 1, "hidden": 4, "head": 8},
        },
        "data": {"name": "tiny-binary"},
    }


def fresh_state(config: RunConfig | None = None, **training: Any) -> State:
    """A run of `config`, or of `configuration(**training)`, before its first step."""
    return begin(config or configuration(**training), torch.device("cpu"), 54)


def batch(n: int = 8) -> Tensor:
    """Noise of the size of `write_data`'s images."""
    return noise(n, 1, 8, 8)


def images_of(model: ImageModel) -> Tensor:
    """Eight images of noise, of the model's shape and levels."""
    return noise(8, *model.image_shape, levels=model.levels)


def pixelrnn_configuration(**training: Any) -> RunConfig:
    """`pixelrnn_tree()`, for tests of the loop itself."""
    return configured(pixelrnn_tree(), training=training)


def write_config(path: Path, tree: dict | None = None) -> Path:
    """Write a configuration, `config_tree()` by default."""
    path.write_text(yaml.safe_dump(tree or config_tree()))
    return path


def nvp(*arguments: object) -> Result:
    """Run the command line in this process; an exception that it lets out fails the test."""
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)


def done(*arguments: object) -> str:
    """The output of a command that succeeds."""
    result = nvp(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def train(folder: Path, tree: dict | None = None) -> Path:
    """Data, configuration and a run of two steps under `folder`; returns the run folder."""
    write_data(folder / "data")
    write_binary_data(folder / "data")
    config = write_config(folder / "tiny.yaml", tree)
    run = folder / "run"
    done("train", config, "--run-folder", run, "--data-root", folder / "data")
    return run


def going_on(folder: Path, steps: int) -> tuple[object, ...]:
    """The command by which the run of `train` goes on, to so many steps."""
    where = ("--resume", folder / "run", "--data-root", folder / "data")
    return ("train", *where, "--set", f"training.steps={steps}")


def losses(folder: Path) -> list[tuple[float, float, float]]:
    """Step, loss and length of the gradient in each row of a run's log."""
    rows = read_log(RunFolder(folder).log)
    return [(row["step"], row["loss"], row["gradient_norm"]) for row in rows]


def check_resuming(configure: Callable[[int], RunConfig], folder: Path, data_root: Path) -> None:
    """A run of 5 steps that stopped twice ends, bit for bit, as one that never did."""
    whole, parts = RunFolder(folder / "whole"), RunFolder(folder / "parts")
    # Stopped within the first epoch of 3 steps, then within the second.
    for run, steps in ((whole, 5), (parts, 2), (parts, 4), (parts, 5)):
        config = configured(configure(steps).model_dump(mode="json"), training={"batch_size": 18})
        prepare(config, run.path, data_root=data_root).run()
    assert losses(parts.path) == losses(whole.path)
    (expected, header), (tensors, again) = (load_tensors(run.checkpoint) for run in (whole, parts))
    assert header["step"] == again["step"] == 5
    torch.testing.assert_close(tensors, expected, rtol=0, atol=0)


def ledger(root: Path) -> Path:
    """A ledger without entries: the published figures alone."""
    root.mkdir(exist_ok=True)
    shutil.copy(results_root() / "published.yaml", root)
    return root


def fails(*arguments: object) -> str:
    """The one line that a failing command prints."""
    result = nvp(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("nvp: ")
    return result.stderr


@contextmanager
def two_threads() -> Iterator[None]:
    """PyTorch computes here on two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def refusal(match: str | None = None, error: type[NVPError] = NVPError) -> Iterator[Any]:
    """What is done here is refused in one line, and in words that `match` finds."""
    with pytest.raises(error, match=match) as caught:
        yield caught
    assert "\n" not in str(caught.value)
