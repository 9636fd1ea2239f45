"""The benchmark of the families, two images at a time. Nothing here looks at how long it took."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import coverage, families
from nvp.config import RunConfig, load_config
from nvp.paths import repository_root


def narrow(path: Path) -> RunConfig:
    """A configuration with fewer features, which keeps its family and its images."""
    config = load_config(path)
    few = {"width": 8, "hidden": 4, "num_blocks": 0, "num_layers": 1, "blocks": 1, "steps": 2}
    changes = {key: few[key] for key in few.keys() & type(config.model).model_fields.keys()}
    return config.model_copy(update={"model": config.model.model_copy(update=changes)})


@pytest.mark.slow
def test_every_family_is_timed_at_what_it_can_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families, "load_config", narrow)
    families.main(["--batch", "2", "--repeats", "1", "--output", str(tmp_path)])
    results = json.loads((tmp_path / "results_families.json").read_text())
    assert results["machine"]["threads"] == 1
    times = results["seconds_an_image"]
    kinds = {
        load_config(repository_root() / f"configs/{name}.yaml").model.family: set(those)
        for name, those in times.items()
    }
    everything = {"train", "score", "sample"}
    assert kinds == {
        **dict.fromkeys(("gaussian", "vae", "realnvp", "pixelrnn", "diffusion"), everything),
        "gan": everything - {"score"},
    }
    assert all(
        t > 0 and len(those) == 1
        for each in times.values()
        for those in each.values()
        for t in those
    )


def test_coverage_counts_the_balls_that_hold_a_sample() -> None:
    """Six copies of one image and a far one: the radius around a copy is 0, and a copy fills it."""
    test = torch.zeros(7, 1, 28, 28, dtype=torch.uint8)
    test[6] = 255
    of_test = coverage.Coverage(test)
    assert of_test(test[:1]) == 1.0  # and the ball around the far image reaches to the copies
    assert of_test(torch.full_like(test[:1], 200)) == pytest.approx(1 / 7)


def test_what_is_known_of_other_runs_is_kept(tmp_path: Path) -> None:
    for name in ("fashion-mnist-gan", "fashion-mnist-gaussian"):
        arguments = ["--run", name, "--count", "20", "--seeds", "2", "--output", str(tmp_path)]
        coverage.main(arguments)
    results = json.loads((tmp_path / "results_coverage.json").read_text())
    assert set(results["runs"]) == {"fashion-mnist-gan", "fashion-mnist-gaussian"}
    for found in (results["real"], *results["runs"].values()):
        assert len(found["coverage"]) == 2
        assert sum(found["classes"]) == pytest.approx(1)
        assert found["from_nearest_training_image"] > 0
