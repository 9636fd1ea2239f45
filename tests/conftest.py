"""What several test files share: one thread, tiny runs and ledgers, and a browser.

With one thread, times and sums do not depend on the machine.
"""

import itertools
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from browser import CHROMIUM, Browser, missing

from nvp.ledger.enter import record
from nvp.runs.folder import RunFolder
from nvp.runs.log import read_log
from nvp.runs.tensors import load_tensors, save_tensors
from nvp.training.interrupt import SIGNALS

torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that ask for a browser."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A test draws the same random numbers, whichever tests this process ran before."""
    torch.manual_seed(0)


@pytest.fixture
def double() -> Iterator[None]:
    """New tensors, models among them, are float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    """A data root with the sets `tiny` and `tiny-binary`, which has a validation split.

    The first has 60 training images, 8x8, of which 6 are held out.
    """
    folder = tmp_path_factory.mktemp("data")
    tiny.write_data(folder)
    tiny.write_binary_data(folder)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The folder around data and a run of two steps; do not change it."""
    folder = tmp_path_factory.mktemp("trained")
    tiny.train(folder)
    return folder


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    """A copy of that folder to change: `run`, `data` and `tiny.yaml`."""
    return Path(shutil.copytree(trained, tmp_path / "home"))


@pytest.fixture(scope="session")
def recorded(trained: Path, tmp_path_factory) -> Path:
    """A ledger that holds that run, beside the published figures; do not change it."""
    root = tiny.ledger(tmp_path_factory.mktemp("results"))
    record(trained / "run", data_root=trained / "data", first=20, num_draws=4, root=root)
    return root


@pytest.fixture
def own(recorded: Path, tmp_path: Path) -> Path:
    """A copy of that ledger to change."""
    return Path(shutil.copytree(recorded, tmp_path / "own"))


@pytest.fixture(scope="session")
def pixelrnn(tmp_path_factory) -> Path:
    """A folder around `data`, `tiny.yaml`, a `run` and `results`, a ledger that holds the run.

    The run is of a PixelCNN of binary images, three steps with early stopping. Do not change it.
    """
    folder = tmp_path_factory.mktemp("pixelrnn")
    tree = tiny.pixelrnn_tree()
    tree["training"] |= {"early_stopping": True, "validate_minutes": 1e-9, "steps": 3}
    tree["training"]["optimiser"] = "muon"
    run = tiny.train(folder, tree)
    log = read_log(RunFolder(run).log)
    assert min(log, key=lambda row: row["validation"]) is log[-1]
    # As if step 2 had been the best, so that it can be told from the last one.
    tensors, header = load_tensors(RunFolder(run).checkpoint)
    header["best"]["step"] = 2
    save_tensors(RunFolder(run).checkpoint, tensors, header)
    root = tiny.ledger(folder / "results")
    record(run, data_root=folder / "data", first=20, num_draws=4, root=root)
    return folder


@pytest.fixture
def pixel_home(pixelrnn: Path, tmp_path: Path) -> Path:
    """A copy of that folder to change. Its steps are cheaper than those of `home`."""
    return Path(shutil.copytree(pixelrnn, tmp_path / "pixel_home"))


@pytest.fixture(scope="session")
def gan(tmp_path_factory) -> Path:
    """The same folder of a GAN; do not change it."""
    folder = tmp_path_factory.mktemp("gan")
    tree = tiny.config_tree() | {"name": "a-gan", "title": "A tiny GAN"}
    tree["model"] = {"family": "gan", "image_shape": [1, 8, 8], "latent": 3, "width": 4}
    root = tiny.ledger(folder / "results")
    record(tiny.train(folder, tree), data_root=folder / "data", root=root)
    return folder


@pytest.fixture
def handled() -> Iterator[None]:
    """Signals as a terminal has them: the background ignores Ctrl-C, and nohup SIGHUP."""
    former = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.fixture
def clock() -> SimpleNamespace:
    """In the place of the module `time`: a reading is a minute after the last one."""
    return SimpleNamespace(perf_counter=itertools.count(0, 60).__next__)


@pytest.fixture
def compiler(monkeypatch) -> None:
    """Operators in C++ may be built; a test that asks for it is skipped where they cannot."""
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    monkeypatch.delenv("NVP_PLAIN", raising=False)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium; a test that asks for it is skipped where there is none."""
    if CHROMIUM is None:
        missing("Chromium")
    with closing(Browser(CHROMIUM)) as browser:
        yield browser
