"""Where a run was made: the machine, the versions, the commit of the code."""

import contextlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import BaseModel

from nvp.config import RunConfig, differences
from nvp.paths import repository_root

# Settings whose changes legs note.
NOTED = (
    *(f"training.{key}" for key in ("learning_rate", "relative_step", "clip_norm", "weight_decay")),
    *(f"model.{part}dropout" for part in ("", "small.", "large.")),  # of two scales
)


# No `Section`: `changed` may hold a clip_norm of inf.
class Leg(BaseModel, extra="forbid", frozen=True):
    """A stretch of training on one machine, by the same code and settings, and when it began.

    A run has several if its machine, code, versions or settings changed.
    """

    started: str  # UTC, ISO 8601
    cpu: str
    cores: int  # the threads of PyTorch in all processes, at most the cores that they may use
    gpu: str | None
    torch: str
    commit: str | None
    precision: str | None = None  # of the networks; None: not noted
    processes: int = 1  # that share each batch, each with its GPU if there are some
    # If it began from recorded weights, their step: moments, order and noise began anew. None: it
    # began at the start, or from a checkpoint.
    reopened_at: int | None = None
    from_step: int | None = None  # the number of steps before it; None: not noted
    changed: dict[str, float] = {}  # settings that were others before, such as "model.dropout"

    @property
    def hardware(self) -> str:
        """Such as "2 cores of AMD EPYC", "NVIDIA H100" or "8 x NVIDIA H100"."""
        if self.gpu:
            return f"{self.processes} x " * (self.processes > 1) + self.gpu
        shared = f" in {self.processes} processes" * (self.processes > 1)
        return f"{self.cores} core{'s' * (self.cores > 1)} of {self.cpu}{shared}"


def current_leg(device: torch.device, precision: str | None = None, processes: int = 1) -> Leg:
    """A `Leg` that begins now: this machine, its versions, and the commit of the code."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = None if device.type == "cpu" else device.type
    if gpu == "cuda":
        gpu = torch.cuda.get_device_name(device)
    return Leg(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu=cpu_name(),
        cores=min(allowed or 1, processes * torch.get_num_threads()),
        gpu=gpu,
        torch=str(torch.__version__),
        commit=code_commit(),
        precision=precision,
        processes=processes,
    )


def note_leg(legs: list[Leg], leg: Leg, step: int, before: RunConfig, now: RunConfig) -> None:
    """Add `leg` to `legs`, unless the last one has the same machine, code and settings.

    A leg that begins with recorded weights is added in any case. Each notes the settings of
    `NOTED` that differ between `before`, the configuration of the checkpoint after `step`, and
    `now`, the one that goes on.
    """
    changed = {
        key: value
        for key, (_, value) in differences(before, now).items()
        if key in NOTED and isinstance(value, float)
    }
    since = {"started", "reopened_at", "from_step", "changed"}
    same = legs and legs[-1].model_dump(exclude=since) == leg.model_dump(exclude=since)
    if changed or not same or leg.reopened_at is not None:
        legs.append(leg.model_copy(update={"from_step": step, "changed": changed}))


def code_commit() -> str | None:
    """The commit of this checkout, "+" appended where `nvp/` or `examples/` differ from it.

    Without git, as on a rented machine with a copy of the code, it is the variable NVP_COMMIT, else
    None. The same holds where this package is not in `nvp/` of `repository_root()`, whose commits
    are then of other code.
    """
    root = repository_root()
    if Path(__file__).resolve().is_relative_to((root / "nvp").resolve()):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            commit = _git(root, "rev-parse", "HEAD")
            changed = _git(root, "status", "--porcelain", "--", "nvp", "examples")
            return commit + ("+" if changed else "")
    return os.environ.get("NVP_COMMIT")


def _git(root: Path, *arguments: str) -> str:
    # Without the lock of `git status`, which would stop a commit at the same time. In a container
    # another user may own the checkout, which git would refuse.
    trusted = ("-c", "safe.directory=*")
    command = ["git", "--no-optional-locks", *trusted, "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def cpu_name() -> str:
    """The model of the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
