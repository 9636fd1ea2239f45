"""Entering a trained run into the ledger: `nvp record`."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from nvp.config import NAME, NAME_RULE, RunConfig, save_config
from nvp.data.sets import Dataset
from nvp.data.splits import examples, load_split
from nvp.errors import NVPError
from nvp.files import LOCK, empty, locked, replace_folder, sha256, write, write_text
from nvp.ledger.entry import (
    Record,
    RecordedData,
    RecordedDraw,
    RecordedScores,
    RecordedWeights,
    Run,
    entry_folders,
    read_run,
    record_text,
)
from nvp.ledger.pictures import write_pictures
from nvp.ledger.scoring import check_own, describe_draw, probe_images, score, score_probe, tolerance
from nvp.likelihood import Score, summarise
from nvp.model.custom import is_path
from nvp.model.labels import Examples
from nvp.model.protocol import batch_norms, check_count
from nvp.paths import results_root
from nvp.runs.folder import RunFolder
from nvp.runs.load import TrainedRun, load_run, read_config
from nvp.runs.log import log_until
from nvp.runs.provenance import code_commit
from nvp.runs.tensors import halved, save_tensors
from nvp.training.distributed import is_first, together

MAX_BYTES = 12_000_000  # of one run's weights, so that the repository stays small
# By data set, scores that few published autoregressive models beat: bits/dim, or nats for two
# levels. A model below them is presumed to see what it predicts, until it is shown not to.
FLOORS = {"cifar10": 2.8, "binarized-mnist": 78.0}


def record(
    folder: str | Path,
    *,
    name: str | None = None,
    data_root: str | Path | None = None,
    num_draws: int = 8,
    first: int = 1000,
    keep_weights: bool | None = None,
    replace: bool = False,
    device: str = "auto",
    trust: bool = False,
    root: str | Path | None = None,
) -> Run:
    """Score the run in `folder` on its full test set, and write it to `root`/runs/NAME.

    The first `first` test images are also scored with `num_draws` sets of noise, and with the
    statistics of each batch. Weights are kept in half precision if the test score is the same
    within `tolerance`, else in float32. By default those over 12 MB are left out, and a line says
    so. `nvp.ledger.pictures` adds pictures. A model without likelihood is not scored: the images
    that it samples from fixed noise are described instead. With several processes each scores a
    part of the images, and the first writes.

    Raises `NVPError`, and writes nothing, for weights over 12 MB if `keep_weights` is True, for a
    damaged log, and as `entry_folder` and `check_floor` do.
    """
    check_count("num_draws", num_draws)  # before hours of scoring
    if first < 2:
        raise NVPError(f"first must be 2 or more, as one score has no standard error, got {first}")
    commit = code_commit()  # of the code that scores: a commit may be made meanwhile
    files = RunFolder(Path(folder))
    if not files.checkpoint.is_file():
        raise NVPError(
            f"there is no {files.checkpoint}: wait for it, or name the folder that nvp train "
            "wrote, such as build/runs/NAME"
        )
    config = read_config(files, trust=trust)
    ledger = Path(root or results_root())
    target = entry_folder(config.name if name is None else name, ledger, replace)
    run = load_run(folder, data_root=data_root, device=device, trust=trust)
    assert run.training is not None
    size = 2 * sum(p.numel() for p in run.model.parameters())
    keep = keep_weights is not False and fits(size, "in half precision", keep_weights)
    test = load_split(config, "test", data_root)
    images = examples(config, test)
    if run.model.likelihood != "none":
        probe_images(run.model.image_shape)  # missing outside a checkout: before hours of scoring
    if is_path(config.model.family):  # before hours of scoring, not after them
        check_own(run)
    log = log_until(files.log, run.training.header.step)
    if is_first() and log.count(b"\n") == 1:  # the header
        print(f"nvp: {files.log} has no rows: the entry has no curve", file=sys.stderr)
    together()  # before one of the processes writes what others check for
    with new_entry(target) if is_first() else nullcontext() as entry:
        entry_folder(target.name, ledger, replace)  # another process may have taken the name
        scores, draw = None, None
        if run.model.likelihood != "none":
            validation = run.training.data.validation
            scores = score_all(run, images, validation, num_draws, first, keep)
        else:
            draw = describe_draw(run)
        if entry is not None:
            weights = store_weights(run, entry.weights, keep_weights) if keep else None
            write_pictures(run, entry, images)
            if RunFolder(target).filmstrip.is_file():
                line = f"nvp: the filmstrip of {target.name} is left out, as it was of another run"
                print(f"{line}: nvp pictures --film makes one again", file=sys.stderr)
            save_config(entry.config, run.config)  # of the checkpoint: what trained it
            write(entry.log, log)
            told = describe(run, test, target.name, commit, scores, draw, weights)
            write_text(entry.record, record_text(told))
    together()
    return read_run(target)


@contextmanager
def new_entry(target: Path) -> Iterator[RunFolder]:
    """A folder to write an entry to, which takes the place of `target` at the end of the block.

    Where that fails, `target` is as it was. Raises `NVPError` while another process writes it.
    """
    part = target.with_name(f".{target.name}.part")
    with locked(part):
        empty(part)
        try:
            yield RunFolder(part)
            replace_folder(part, target)
        except OSError as error:
            raise NVPError(
                f"cannot write {target} ({error}): nothing was recorded; free some space, or make "
                "the folder writable"
            ) from error
        finally:
            empty(part)
    (target / LOCK).unlink(missing_ok=True)


def entry_folder(name: str, root: Path, replace: bool) -> Path:
    """The folder of an entry `name` in the ledger at `root`.

    Raises `NVPError` for a name that cannot be a folder's, and for one that is taken. To `replace`
    removes what is there, so that must be an entry.
    """
    if not re.fullmatch(NAME, name):
        raise NVPError(f"--name {name!r} cannot name a folder of the ledger: {NAME_RULE}")
    target = root / "runs" / name
    if target.exists() and not replace:
        raise NVPError(f"{target} is there already: pass --replace, or another --name")
    if not replace:
        entry_folders(root)  # refuses an entry out of place, which the new one would remove
    entry = RunFolder(target)
    if target.exists() and not entry.is_recorded:
        raise NVPError(
            f"{target} holds no {entry.record.name}, so it is no entry to replace: remove it "
            "yourself, or pass another --name"
        )
    return target


def score_all(
    run: TrainedRun,
    images: Examples,
    validation: Examples,
    num_draws: int,
    first: int,
    may_round: bool,
) -> RecordedScores:
    """Every score of a record. With `may_round`, `round_weights` rounds the weights in place."""
    trained = score(run, images, "test set")
    check_floor(run.config, summarise(trained), autoregressive=run.model.autoregressive)
    kept = round_weights(run, images, trained) if may_round else trained
    draws = score(run, images[:first], f"{num_draws} sets of noise", num_draws=num_draws)
    batches = kept[:first]
    if batch_norms(run.model):
        batches = score(run, images[:first], "batch statistics", of_batches=True)
    return RecordedScores(
        test=summarise(kept),
        before_rounding=summarise(trained),
        validation=summarise(score(run, validation, "validation set")),
        first=summarise(kept[:first]),
        first_batch_statistics=summarise(batches),
        first_more_draws=summarise(draws, num_draws),
        probe=summarise(score_probe(run)),
    )


def check_floor(config: RunConfig, score: Score, *, autoregressive: bool) -> None:
    """Raise `NVPError` for a test score that is impossible, or so low that a leak is likely.

    A score below 0 means a probability above 1. An autoregressive model whose score is below the
    floor of its data set probably sees what it predicts.
    """
    figure, unit = score.bits_per_dim, "bits/dim"
    if figure < 0:
        raise NVPError(
            f"{config.name} scores {figure:.3f} bits/dim, which says that images have "
            "probabilities above 1: look for a log-determinant or a normalisation that is wrong"
        )
    floor = FLOORS.get(config.data.name)
    if floor is None or not autoregressive:
        return
    if config.is_binary:
        figure, unit = score.nats(config.model.image_shape)[0], "nats"
    if figure < floor:
        raise NVPError(
            f"{config.name} scores {figure:.2f} {unit} on {config.data.name}, below {floor:g}, as "
            "if it saw the sub-pixels that it predicts: show with nvp.testing.check_model that "
            "it sees none, then lower FLOORS in nvp/ledger/enter.py"
        )


def fits(size: int, how: str, asked: bool | None) -> bool:
    """Whether weights of `size` bytes may be kept in a repository; a line says where not.

    Raises `NVPError` instead where they were `asked` for.
    """
    if size <= MAX_BYTES:
        return True
    line = f"the weights take {size / 1e6:.1f} MB {how}, at most {MAX_BYTES / 1e6:.0f} MB are kept"
    if asked:
        raise NVPError(f"{line}: leave --weights out, or pass --no-weights")
    if is_first():
        print(f"nvp: {line}: they are left out", file=sys.stderr)
    return False


def round_weights(run: TrainedRun, images: Examples, trained: Tensor) -> Tensor:
    """Round the model's parameters to float16, unless the test score changes by over `tolerance`.

    `trained` are the scores of `images` before, (N,). Returns the scores afterwards, (N,).
    """
    parameters = list(run.model.parameters())
    exact = [p.detach().clone() for p in parameters]
    for p in parameters:
        p.data = p.data.half().float()
    rounded = score(run, images, "in half precision")
    if abs(float(rounded.mean() - trained.mean())) <= tolerance(run.config):
        return rounded
    for p, value in zip(parameters, exact, strict=True):
        p.data = value
    return trained


def store_weights(run: TrainedRun, path: Path, asked: bool | None) -> RecordedWeights | None:
    """Write the model: in half precision if its parameters were rounded to it, else as they are.

    None where it is too large, as `fits` says.
    """
    tensors, how = halved(run.model), "in half precision"
    halves = all(torch.equal(p, p.half().float()) for p in run.model.parameters())
    if not halves:
        tensors = run.model.state_dict()
        how = (
            "in float32, since with half precision the test score was not shown to stay within "
            f"{tolerance(run.config):.1g} bits/dim"
        )
    save_tensors(path, tensors, {"config": run.config.model_dump(mode="json")})
    size = path.stat().st_size
    if not fits(size, how, asked):
        path.unlink()
        return None
    return RecordedWeights(
        precision="float16" if halves else "float32", bytes=size, sha256=sha256(path)
    )


def describe(
    run: TrainedRun,
    test: Dataset,
    name: str,
    commit: str | None,
    scores: RecordedScores | None,
    draw: RecordedDraw | None,
    weights: RecordedWeights | None,
) -> Record:
    """The record of a run, from its checkpoint's header and its scores."""
    assert run.training is not None
    settings, header, data = run.config.training, run.training.header, run.training.data
    step, share = header.step, settings.spent(header.step, header.minutes)
    return Record(
        name=name,
        title=run.config.title or name,
        recorded=datetime.now(UTC).date().isoformat(),
        state="finished" if share >= 1 else "interrupted",
        share_of_budget=share,
        steps=step,
        chosen_step=header.best.step if header.best else None,
        images=step * settings.batch_size,
        minutes=header.minutes,
        precision=header.precision.value,
        seed=settings.seed,
        parameters=sum(p.numel() for p in run.model.parameters()),
        legs=header.legs,
        commit=commit,
        data=RecordedData(
            name=run.config.data.name,
            train_images=len(data.whole),
            held_out=len(data.whole) - len(data.images),
            train_sha256=data.checksum,
            train_labels_sha256=data.labels_checksum,
            test_images=len(test),
            test_sha256=test.checksum,
        ),
        scores=scores,
        draw=draw,
        weights=weights,
    )
