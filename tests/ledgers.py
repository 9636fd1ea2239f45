"""Changing a ledger, and comparing it."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from nvp.ledger.entry import read_run
from nvp.ledger.reopen import reopen
from nvp.ledger.verify import Check
from nvp.training.loop import Job, prepare


def rewrite(root: Path, path: str, value: object, name: str = "tiny") -> None:
    """Change one value of a run's record, named as "scores.test.bits_per_dim"."""
    file = root / "runs" / name / "run.json"
    tree = json.loads(file.read_text())
    *parents, last = path.split(".")
    place = tree
    for parent in parents:
        place = place[parent]
    place[last] = value
    file.write_text(json.dumps(tree))


def rename(root: Path, new: str, old: str = "tiny", *, copy: bool = False) -> None:
    """Give an entry another name, or with `copy` make a second one of that name."""
    (shutil.copytree if copy else os.rename)(root / "runs" / old, root / "runs" / new)
    rewrite(root, "name", new, new)


def states(checks: Iterable[Check]) -> dict[str, str]:
    """The state of each check by its first word."""
    return {check.what.split()[0].strip(","): check.outcome for check in checks}


def content(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`, by its path there."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def reopened(entry: Path, folder: Path, data_root: Path) -> Job:
    """A run in `folder` that begins where an entry of the ledger ends."""
    run = read_run(entry)
    job = prepare(run.config, folder, data_root=data_root, device="cpu")
    reopen(job, run)
    return job
