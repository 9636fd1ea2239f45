"""Two processes that share each batch learn what one does, and go on where one stopped."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import typer
from ledgers import content
from tiny import refusal
from torch import Tensor

from nvp.cli.terminal import one_line
from nvp.config import Precision, RunConfig
from nvp.data.splits import training_data
from nvp.devices import pick_device
from nvp.ledger.enter import record
from nvp.ledger.entry import RecordedScores, runs
from nvp.ledger.reopen import resume
from nvp.likelihood import score_images
from nvp.model.labels import Labelled
from nvp.model.protocol import batch_statistics
from nvp.paths import repository_root
from nvp.runs.folder import RunFolder
from nvp.runs.log import read_log
from nvp.runs.tensors import load_tensors
from nvp.training.distributed import _WholeBatch, agree, is_first, processes, shared
from nvp.training.loop import next_batch, prepare, training_step
from nvp.training.state import State, begin

STEPS = 10  # of more than three epochs


def in_processes(work: Callable[[], Any], number: int = 2) -> list[int]:
    """Do `work` in forked processes that form one group; their exit codes, 0 for a good end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(rank: int) -> None:
        group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": number, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in group.items()})
        os.environ["MASTER_ADDR"] = "127.0.0.1"
        try:
            with one_line(), processes():
                work()
        except typer.Exit as error:
            sys.exit(error.exit_code)

    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=run, args=(rank,)) for rank in range(number)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return [child.exitcode for child in children]


def found_by_two(work: Callable[[], Any], folder: Path) -> list[Any]:
    """What `work` returns in the first of two processes, and in the other one."""

    def keep() -> None:
        torch.save(work(), folder / str(is_first()))

    assert in_processes(keep) == [0, 0]
    return [torch.load(folder / name) for name in ("True", "False")]


def real_nvp(**model: Any) -> RunConfig:
    changes = {"model": {"num_scales": 1, **model}, "data": {"flips": True}}
    return tiny.configured(tiny.config_tree(), **changes)


def pixel_rnn(kind: str, **model: Any) -> RunConfig:
    return tiny.configured(tiny.pixelrnn_tree(), model={"kind": kind, **model})


def trained_by(name: str, **training: Any) -> RunConfig:
    """One of `CONFIGS` with these settings of training."""
    return tiny.configured(CONFIGS[name].model_dump(mode="json"), training=training)


DIFFUSION = {"family": "diffusion", "image_shape": [1, 8, 8], "width": 8}
CONFIGS = {
    "statistics of the batch": real_nvp(norm_running_average=False),
    "running averages": real_nvp(norm_running_average=True),
    "official preset": real_nvp(preset="official"),
    "pixelcnn": pixel_rnn("pixelcnn", dropout=0.3),
    "diagonal bilstm": pixel_rnn("diagonal_bilstm"),
    "diffusion": tiny.configured(tiny.config_tree() | {"model": DIFFUSION}),
}


def few_steps(config: RunConfig, root: Path) -> dict[str, Tensor]:
    """The losses and all gradients of `STEPS` steps, and the weights after them."""
    data = training_data(config, root)
    state = begin(config, torch.device("cpu"), len(data.images))
    gradients: list[Tensor] = []

    def keep(*_: Any) -> None:
        gradients.extend(p.grad.flatten() for p in state.model.parameters() if p.grad is not None)

    state.optimiser.register_step_pre_hook(keep)
    losses = [
        training_step(state, next_batch(state, data.images, config), config.training, 0.0)[0]
        for _ in range(STEPS)
    ]
    weights = torch.cat([tensor.flatten().double() for tensor in state.model.state_dict().values()])
    return {
        "losses": torch.tensor(losses),
        "gradients": torch.cat(gradients).reshape(STEPS, -1),
        "weights": weights,
        "noise": state.noise.get_state().double(),
    }


def test_moments_in_half_precision_are_those_of_the_whole_batch(root: Path, tmp_path: Path) -> None:
    """There one process has a compiled norm, which takes the moments of the rows that it sees."""
    config = trained_by("statistics of the batch", precision="bf16")

    def averages() -> dict[str, Tensor]:
        data = training_data(config, root)
        state = begin(config, torch.device("cpu"), len(data.images))
        training_step(state, next_batch(state, data.images, config), config.training, 0.0)
        return dict(state.model.named_buffers())

    expected = averages()
    first, other = found_by_two(averages, tmp_path)
    torch.testing.assert_close(first, other, rtol=0, atol=0)
    torch.testing.assert_close(first, expected, rtol=0, atol=5e-4)  # rounding alone


@pytest.mark.slow
@pytest.mark.usefixtures("double")  # Adam makes steps of what in float32 is rounding alone
@pytest.mark.parametrize(
    ("name", "optimiser"),
    [
        *((name, "adam") for name in CONFIGS),
        # Which divides the matrices of its steps: directions, and kernels of both kinds.
        *((name, "muon") for name in ("statistics of the batch", "diagonal bilstm")),
    ],
)
def test_two_processes_learn_what_one_does(name, optimiser, root: Path, tmp_path: Path) -> None:
    config = trained_by(name, optimiser=optimiser, batch_size=18)
    found, _ = found_by_two(lambda: few_steps(config, root), tmp_path)
    torch.testing.assert_close(found, few_steps(config, root), rtol=1e-5, atol=1e-5)


def test_scores_do_not_depend_on_the_number_of_processes(root: Path, tmp_path: Path) -> None:
    config = CONFIGS["official preset"]
    images = training_data(config, root).whole[:31]
    model = begin(config, torch.device("cpu"), 54).model.eval()
    conditional = begin(real_nvp(num_classes=3), torch.device("cpu"), 54).model.eval()
    labelled = Labelled(images, torch.arange(31) % 3)

    def scores() -> list[Tensor]:
        plain = score_images(shared(model), images, batch_size=10)
        told = score_images(shared(conditional), labelled, batch_size=10)
        with batch_statistics(model):
            some = score_images(shared(model), images[:25], num_draws=2, batch_size=10)
        few, draw = labelled[:30], torch.Generator().manual_seed(0)
        lost = shared(conditional).loss(few.images, draw, labels=few.labels)
        return [plain, told, some, torch.tensor(agree(lost.item()))]

    found, _ = found_by_two(scores, tmp_path)
    torch.testing.assert_close(found, scores())


@pytest.mark.slow
def test_two_processes_record_what_one_does(trained: Path, recorded: Path, tmp_path: Path) -> None:
    options = {"data_root": trained / "data", "first": 20, "num_draws": 4, "device": "cpu"}

    def work() -> None:
        assert record(trained / "run", root=tmp_path, **options).name == "tiny"

    assert in_processes(work) == [0, 0]
    ours, expected = (runs(root)["tiny"] for root in (tmp_path, recorded))
    for name in RecordedScores.model_fields:
        found, score = (getattr(run.scores, name) for run in (ours, expected))
        assert found.bits_per_dim == pytest.approx(score.bits_per_dim, abs=2e-6)  # each is rounded
    assert {p.name for p in ours.folder.iterdir()} == {p.name for p in expected.folder.iterdir()}


def test_a_taken_name_ends_all_processes_in_one_line(trained: Path, own: Path, capfd) -> None:
    own = own.rename(own.with_name("gloo"))  # a word of PyTorch's own errors
    before = content(own)
    options = {"data_root": trained / "data", "first": 20, "root": own, "device": "cpu"}

    def work() -> None:
        print("said")
        record(trained / "run", **options)

    assert in_processes(work) == [2, 2]
    told = capfd.readouterr()
    assert told.out.count("said") == 1  # by the first
    lines = told.err.splitlines()
    lines = [line for line in lines if not line.startswith("[W")]  # PyTorch's own warnings
    assert len(lines) == 1
    assert lines[0].startswith("nvp: ")
    assert "is there already: pass --replace" in lines[0]
    assert content(own) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "legs"),
    [
        ("pixelcnn", (2, 1)),
        ("pixelcnn", (1, 2)),
        ("statistics of the batch", (2, 2)),  # which are estimated again to validate
    ],
)
def test_a_run_goes_on_in_another_number_of_processes(name, legs, root, tmp_path: Path) -> None:
    def train(folder: Path, steps: int) -> None:
        config = trained_by(name, steps=steps, early_stopping=True, validate_minutes=1e-9)
        prepare(config, folder, data_root=root, device="cpu").run()

    train(tmp_path / "whole", 4)
    for number, steps in zip(legs, (2, 4), strict=True):
        done = in_processes(lambda steps=steps: train(tmp_path / "parts", steps), number)
        assert done == [0] * number
    whole, parts = (read_log(RunFolder(tmp_path / name).log) for name in ("whole", "parts"))
    assert [row["step"] for row in parts] == [1, 2, 3, 4]
    for column in ("loss", "gradient_norm", "validation"):
        found, expected = ([row[column] for row in rows] for rows in (parts, whole))
        assert found == pytest.approx(expected, rel=1e-5)


def test_two_processes_reopen_a_recorded_run(trained: Path, recorded: Path, tmp_path: Path) -> None:
    entry, folder, data_root = recorded / "runs" / "tiny", tmp_path / "run", trained / "data"
    goes_on = partial(resume, entry, ["training.steps=4"], folder, data_root=data_root)
    assert in_processes(goes_on) == [0, 0]
    legs = load_tensors(RunFolder(folder).checkpoint)[1]["legs"]
    assert [leg["processes"] for leg in legs] == [1, 2]


def test_batches_that_cannot_be_shared_are_refused(root: Path, tmp_path: Path, capfd) -> None:
    for number, size, complaint in (
        (3, 8, "3 processes cannot share training.batch_size 8 equally"),
        (2, 2, "2 processes would have one image each of training.batch_size 2"),
    ):
        config = tiny.pixelrnn_configuration(batch_size=size)
        work = partial(prepare, config, tmp_path / "run", data_root=root, device="cpu")
        assert in_processes(work, number) == [2] * number
        assert complaint in capfd.readouterr().err
        assert not (tmp_path / "run").exists()


def test_rows_of_noise_are_those_of_the_whole_batch() -> None:
    """However a model names their shape; a number for all images is the same in all processes."""

    def noise(n: int) -> list[Tensor]:
        draw = partial(torch.randn, generator=torch.Generator().manual_seed(0))
        return [draw(()), draw(1), draw(n, 3), draw((n, 3)), draw(size=(n, 3))]

    def work() -> None:
        with _WholeBatch(4) as rows:
            found = noise(2)
        for ours, whole in zip(found, noise(4), strict=True):
            assert torch.equal(ours, whole[rows.own] if whole.ndim == 2 else whole)

    assert in_processes(work) == [0, 0]


def test_processes_agree_on_minutes_and_precision(root: Path, tmp_path: Path, monkeypatch) -> None:
    """Though the first takes longer to begin, and finds another precision faster."""
    # One step is taken all the same.
    config = tiny.pixelrnn_configuration(steps=None, minutes=1e-9, precision="auto")
    faster = {True: Precision.BF16, False: Precision.FP32}
    monkeypatch.setattr("nvp.training.state.faster_precision", lambda _: faster[is_first()])

    def agreed() -> tuple[float, str]:
        job = prepare(config, tmp_path / "run", data_root=root, device="cpu")
        job.state.model.initialise = lambda _: time.sleep(0.1 * is_first())
        job.run()
        return job.state.minutes, job.state.precision.value

    first, other = found_by_two(agreed, tmp_path)
    assert first == other


@pytest.mark.usefixtures("handled")
def test_a_stop_of_one_process_stops_all(root: Path, tmp_path: Path, monkeypatch) -> None:
    def interrupted(state: State, *rest: Any) -> tuple[float, float]:
        if state.step == 3 and not is_first():
            os.kill(os.getpid(), signal.SIGTERM)
        return training_step(state, *rest)

    def work() -> None:
        config = tiny.pixelrnn_configuration(steps=9)
        with refusal("stopped after step 4"):
            prepare(config, tmp_path / "run", data_root=root, device="cpu").run()

    monkeypatch.setattr("nvp.training.loop.training_step", interrupted)
    assert in_processes(work) == [0, 0]


@pytest.mark.parametrize("size", ["2", "x"])
def test_processes_that_torchrun_did_not_start_are_one_line(size: str, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.delenv("RANK", raising=False)
    with refusal("start them by torchrun, or unset WORLD_SIZE"):
        processes().__enter__()


def of_rank(rank: int, launcher: int) -> int:
    """The process of that rank among the children of `torchrun`."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise LookupError(f"no process of rank {rank}")


@pytest.mark.nightly
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_all_and_the_run_goes_on(rank: int, tmp_path: Path) -> None:
    tiny.write_data(tmp_path / "data")
    config, run = tiny.write_config(tmp_path / "tiny.yaml"), RunFolder(tmp_path / "run")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    where = ("--run-folder", run.path, "--data-root", tmp_path / "data", "--device", "cpu")
    often = ("--set", "training.steps=100000", "--set", "training.checkpoint_minutes=1e-9")
    launched = subprocess.Popen(
        [sys.executable, *torchrun, "-m", "nvp.cli", "train", config, *where, *often],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository_root())},
    )
    while len(read_log(run.log)) < 5:
        assert launched.poll() is None
        time.sleep(0.1)
    os.kill(of_rank(rank, launched.pid), signal.SIGKILL)
    _, errors = launched.communicate(timeout=60)
    assert launched.returncode != 0
    assert errors.count("another process of this run ended: the last checkpoint is kept") == 1
    last = read_log(run.log)[-1]["step"]
    tiny.done(*tiny.going_on(tmp_path, int(last) + 3))
    assert read_log(run.log)[-1]["step"] == last + 3


def test_more_processes_than_gpus_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with refusal("nproc-per-node=2 fits"), processes():
        pytest.fail("it went on")
    with refusal("several processes cannot share cuda:0: use cuda or auto"):
        pick_device("cuda:0")
