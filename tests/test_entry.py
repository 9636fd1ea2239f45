"""Reading the ledger: a damaged record is named, and every recorded run keeps its promises."""

import json
import math
from pathlib import Path

import pytest
import torch
from ledgers import rewrite
from tiny import refusal

from nvp.ledger import enter
from nvp.ledger import entry as ledger
from nvp.ledger.scoring import probe_images
from nvp.runs.load import load_run


def test_an_entry_is_read_from_within_its_folder(own: Path, monkeypatch) -> None:
    monkeypatch.chdir(own / "runs" / "tiny")
    assert ledger.read_run(Path()).name == "tiny"


def test_an_entry_of_a_newer_schema_is_refused_in_one_line(own: Path) -> None:
    rewrite(own, "schema", 2)
    rewrite(own, "weather", "fine")  # which a newer schema may have
    for read, folder in ((ledger.runs, own), (load_run, own / "runs" / "tiny")):
        with refusal("has schema 2, this code reads up to 1: use a newer"):
            read(folder)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("name", "other", "record of other"),
        ("title", None, "damaged: title"),
        ("minutes", math.nan, "damaged: minutes: Input should be a finite number"),
        ("scores", None, "give scores or draw, one of them"),
        ("draw", {"mean": 1.0, "standard_deviation": 1.0, "num_images": 9}, "one of them"),
    ],
)
def test_what_no_record_can_hold_is_named(key: str, value: object, match: str, own: Path) -> None:
    rewrite(own, key, value)
    with refusal(match):
        ledger.runs(own)


def test_a_small_figure_keeps_its_digits(own: Path) -> None:
    entry = ledger.runs(own)["tiny"].record
    changed = {"learning_rate": 1.25e-05, "clip_norm": 1 / 3}
    leg = entry.legs[0].model_copy(update={"changed": changed})
    text = ledger.record_text(entry.model_copy(update={"legs": [leg]}))
    assert json.loads(text)["legs"][0]["changed"] == {**changed, "clip_norm": 0.333333}
    for run in ledger.runs().values():  # which are written again as they are
        assert ledger.Record.model_validate_json(ledger.record_text(run.record)) == run.record


def test_no_recorded_run_is_below_its_floor() -> None:
    before = torch.get_rng_state()
    for run in ledger.runs().values():
        if run.has_likelihood:
            autoregressive = run.fresh_model.autoregressive
            enter.check_floor(run.config, run.score, autoregressive=autoregressive)
    assert torch.equal(torch.get_rng_state(), before)  # a question draws nothing


@pytest.mark.slow
def test_a_recorded_flow_inverts() -> None:
    """Trained scales amplify rounding: float32 loses two digits more than with random weights."""
    x = torch.logit(0.05 + 0.9 * (probe_images((1, 28, 28))[:8].double() + 0.5) / 256)
    flows = [
        run
        for run in ledger.runs().values()
        if run.config.model.family == "realnvp"
        and run.record.weights
        and not run.config.model.num_classes
        and run.config.model.image_shape == (1, 28, 28)
    ]
    assert flows
    for run in flows:
        flow = run.load_model().flow
        for dtype, error in ((torch.float64, 1e-9), (torch.float32, 1e-3)):
            z, log_det = flow.to(dtype)(x.to(dtype))
            again, back = flow.inverse(z)
            assert (again - x).abs().max() < error, run.name
            assert (log_det + back).abs().max() < 1e3 * error, run.name
