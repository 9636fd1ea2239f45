"""The benchmark of the families, two images at a time. Nothing here looks at how long it took."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import families
from nvp.config import load_config
from nvp.paths import repository_root


@pytest.mark.slow
def test_every_family_is_timed_at_what_it_can_do(tmp_path: Path) -> None:
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
        **dict.fromkeys(("gaussian", "vae", "realnvp", "pixelrnn"), everything),
        "gan": everything - {"score"},
    }
    assert all(
        t > 0 and len(those) == 1
        for each in times.values()
        for those in each.values()
        for t in those
    )
