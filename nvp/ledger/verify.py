"""Scoring every recorded weight again: `nvp verify`."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from nvp.data import MissingData
from nvp.data.splits import examples, load_split
from nvp.devices import pick_device
from nvp.errors import NVPError
from nvp.files import sha256
from nvp.ledger import pictures
from nvp.ledger.entry import RecordedDraw, Run, entry_folders, read_run
from nvp.ledger.scoring import describe_draw, in_float64, score, score_probe, tolerance
from nvp.likelihood import Score, summarise
from nvp.runs.load import TrainedRun, load_run

# Both are computed in float64 from the same noise, so only rounding is left.
PROBE_TOLERANCE = 1e-4  # bits/dim
DRAW_TOLERANCE = 1e-3  # levels: rounding may change a few sampled levels by one


@dataclass(frozen=True)
class Check:
    """One check of a run: what the ledger says, what was found, and whether they agree."""

    run: str
    what: str
    recorded: str
    found: str
    outcome: Literal["agrees", "differs", "not checked"]


def verify(
    names: Collection[str] = (),
    *,
    quick: bool = False,
    data_root: Path | None = None,
    device: str = "auto",
    root: Path | None = None,
) -> Iterator[Check]:
    """Check each recorded run, or those named: its weights' SHA-256, and its score on probe images.

    Unless `quick`, also check its samples, and its score on the full test set where that is under
    the data root. A model without likelihood has no scores: its samples from fixed noise are
    described and compared. Each check is yielded as soon as it is made. A run whose record or
    weights cannot be read counts as differing, and the others are still checked. Raises `NVPError`
    for a name that the ledger does not have, and for a device that is not here.
    """
    recorded = entry_folders(root)
    if unknown := sorted(set(names) - {folder.name for folder in recorded}):
        raise NVPError(f"no recorded run is called {', '.join(unknown)}: see results/runs/")
    pick_device(device)  # one that is not here is no fault of a run
    for folder in recorded:
        if names and folder.name not in names:
            continue
        try:
            yield from _check(read_run(folder), quick, data_root, device)
        except (NVPError, OSError) as error:
            yield Check(folder.name, "record and weights", "readable", str(error), "differs")


def _check(run: Run, quick: bool, data_root: Path | None, device: str) -> Iterator[Check]:
    entry = run.record
    if entry.weights is None:
        figure = f"{run.score}" if run.has_likelihood else "no likelihood"
        yield Check(run.name, "test set", figure, "no weights are kept", "not checked")
        return
    if not run.files.weights.is_file():
        raise NVPError(f"{run.files.weights} is missing: restore it with git checkout")
    found = sha256(run.files.weights)
    noted = entry.weights.sha256
    yield _answer(run, "weights, SHA-256", noted[:12], found[:12], found == noted)
    trained = load_run(run.folder, device=device, trust=True)
    if entry.draw is not None:
        yield _compare_draws(run, entry.draw, describe_draw(trained, entry.draw.num_images))
    else:
        probe = summarise(score_probe(trained, run.scores.probe.num_images))
        yield _compare(run, "probe images", run.scores.probe, probe, PROBE_TOLERANCE)
    if not quick:
        yield _check_samples(run, trained)
        if run.has_likelihood:
            yield _check_test_set(run, trained, data_root)


def _check_samples(run: Run, trained: TrainedRun) -> Check:
    what, picture = "samples", run.files.samples
    if not picture.is_file():
        return Check(run.name, what, "no picture", f"run nvp pictures {run.name}", "not checked")
    try:
        share = pictures.differing(picture, in_float64(trained))
    except NVPError as error:  # the scores are checked all the same
        return Check(run.name, what, picture.name, str(error), "differs")
    found = f"{share:.1%} of the pixels differ"
    return _answer(run, what, picture.name, found, share <= pictures.TOLERANCE)


def _check_test_set(run: Run, trained: TrainedRun, data_root: Path | None) -> Check:
    entry = run.record
    what = f"test set of {entry.data.name}"
    try:
        test = load_split(trained.config, "test", data_root)
    except MissingData:
        return Check(run.name, what, str(run.score), "the set is not here", "not checked")
    except NVPError as error:
        return Check(run.name, what, str(run.score), str(error), "differs")
    if len(test) != entry.data.test_images:  # as where the record's copy of CIFAR-10 lacked a few
        found = f"{len(test):,} images are here, {entry.data.test_images:,} in the record"
        return Check(run.name, what, str(run.score), found, "not checked")
    if test.checksum != entry.data.test_sha256:
        return Check(run.name, what, str(run.score), "other images", "differs")
    scores = score(trained, examples(trained.config, test), f"{run.name}, test set")
    return _compare(run, what, run.score, summarise(scores), tolerance(run.config))


def _compare(run: Run, what: str, recorded: Score, found: Score, margin: float) -> Check:
    digits = 4 if margin > PROBE_TOLERANCE else 6
    a, b = ((score.bits_per_dim, score.standard_error) for score in (recorded, found))
    before, now = (f"{mean:.{digits}f} ± {error:.{digits}f} bits/dim" for mean, error in (a, b))
    return _answer(run, what, before, now, np.allclose(a, b, rtol=0, atol=margin))


def _compare_draws(run: Run, recorded: RecordedDraw, found: RecordedDraw) -> Check:
    what = "draws from fixed noise, as it has no likelihood"
    a, b = ((draw.mean, draw.standard_deviation) for draw in (recorded, found))
    before, now = (f"levels {mean:.3f} ± {deviation:.3f}" for mean, deviation in (a, b))
    return _answer(run, what, before, now, np.allclose(a, b, rtol=0, atol=DRAW_TOLERANCE))


def _answer(run: Run, what: str, recorded: str, found: str, agrees: bool) -> Check:
    return Check(run.name, what, recorded, found, "agrees" if agrees else "differs")
