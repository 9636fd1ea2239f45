"""The ablation: the two switches that only it uses, its runner, and its statistics."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from nvp_book.ablation import (
    STUDENT,
    Ablation,
    Mean,
    VariantRun,
    compare,
    experiment,
    load_ablation,
    read_rows,
    write_rows,
)
from pixels import generator, noise, small_flow
from tiny import refusal

from nvp import RealNVPConfig
from nvp.data import load
from nvp.errors import NVPError
from nvp.files import locked
from nvp.flows.config import preset_fields
from nvp.flows.resnet import CouplingNet, TrunkNet, WeightNormConv2d
from nvp.likelihood import evaluate
from nvp.runs.load import load_run
from nvp.training.loop import prepare
from workflow import ablation as runner

SHAPE = (1, 28, 28)


@pytest.fixture
def small(root: Path, tmp_path: Path, monkeypatch) -> Ablation:
    """Two variants of a model for tiny images, two steps, two seeds."""
    monkeypatch.setenv("NVP_DATA", str(root))
    tiny.write_config(tmp_path / "base.yaml", tiny.pixelrnn_tree())
    variants = [{"name": "plain", "title": "as it is"}, {"name": "wide", "title": "wider"}]
    variants[1]["set"] = ["model.hidden=6"]
    tree = {"base": "base.yaml", "seeds": [0, 1], "variants": variants}
    (tmp_path / "ablation.yaml").write_text(yaml.safe_dump(tree))
    return load_ablation(tmp_path / "ablation.yaml")


def run_all(ablation: Ablation, output: Path) -> int:
    with ThreadPoolExecutor(1) as pool:
        return runner.run_all(ablation, output, pool)


def row(variant: str, seed: int, test: float, settings: str = "") -> VariantRun:
    numbers = {"steps": 1, "seconds": 1, "parameters": 1, "standard_error": 0.1}
    scores = dict.fromkeys(("train_halfway", "train", "validation"), test + 1)
    words = {"settings": settings, "commit": "", "hardware": "", "torch": "", "finished": ""}
    return VariantRun(variant=variant, seed=seed, test=test, **numbers, **scores, **words)


def test_recorded_runs_are_not_made_again(small: Ablation, tmp_path: Path, monkeypatch) -> None:
    output = tmp_path / "rows.csv"
    assert run_all(small, output) == 0
    rows = read_rows(output, small)
    jobs = [("plain", 0), ("plain", 1), ("wide", 0), ("wide", 1)]
    assert [(r.variant, r.seed) for r in rows] == jobs
    assert all(r.steps == 2 and math.isfinite(r.test) and r.standard_error > 0 for r in rows)
    assert {r.precision for r in rows} <= {"fp32", "bf16"}
    for r in rows:  # two steps, each with a row of the log
        losses = list(map(float, r.curve.split()))
        assert losses == pytest.approx([r.train_halfway, r.train], abs=1e-4)
    prepare(small.config(small.baseline, 1), tmp_path / "run", device="cpu").run()
    model = load_run(tmp_path / "run", device="cpu").model
    again = evaluate(model, load("tiny-binary", "test").images)
    found = (again.bits_per_dim, again.standard_error)
    assert (rows[1].test, rows[1].standard_error) == pytest.approx(found, abs=2e-5)
    assert rows[0].parameters < rows[2].parameters
    assert rows[0].test != rows[1].test

    made, actual = [], runner.run
    monkeypatch.setattr(runner, "run", lambda *a: made.append((a[2].name, a[3])) or actual(*a))
    write_rows(rows[:2] + rows[3:], output)
    assert run_all(small, output) == 0
    assert made == [("wide", 0)]
    again = [r.model_copy(update={"seconds": 0}) for r in read_rows(output, small)]
    assert again == [r.model_copy(update={"seconds": 0}) for r in rows]  # and it is deterministic
    assert run_all(small, output) == 0
    assert made == [("wide", 0)]


def test_a_table_holds_one_experiment(small: Ablation, tmp_path: Path) -> None:
    """No row of other settings, of another variant, or of a seed that its variant has not."""
    wide = small.variants[1].model_copy(update={"seeds": (5,)})
    own = small.model_copy(update={"variants": (small.baseline, wide)})
    assert list(own.runs) == [("plain", 0), ("plain", 1), ("wide", 5)]
    for name, settings in (("plain", "other"), ("gone", ""), ("wide", small.settings(wide))):
        write_rows([row(name, 0, 4.0, settings)], tmp_path / "rows.csv")
        with refusal(f"{name}, seed 0, was made with other settings"):
            run_all(own, tmp_path / "rows.csv")


@pytest.mark.usefixtures("small")
def test_a_table_is_written_by_one_process(tmp_path: Path, capsys) -> None:
    file, output = tmp_path / "ablation.yaml", tmp_path / "rows.csv"
    with locked(output.with_suffix(".lock")):
        assert runner.main([str(file), "--output", str(output)]) == 2
    assert "is in use by process" in capsys.readouterr().err
    assert not output.exists()


def test_a_run_that_fails_is_named(small: Ablation, tmp_path: Path, monkeypatch, capsys) -> None:
    def run(_ablation: Ablation, _machine, variant, seed: int) -> VariantRun:
        if variant.name == "wide":
            raise RuntimeError("no memory") if seed else NVPError("the loss is nan")
        return row(variant.name, seed, 4.0, small.settings(variant))

    monkeypatch.setattr(runner, "run", run)
    assert run_all(small, tmp_path / "rows.csv") == 1
    assert {r.variant for r in read_rows(tmp_path / "rows.csv", small)} == {"plain"}
    told = capsys.readouterr().out
    assert "wide, seed 0: failed: the loss is nan" in told
    assert "wide, seed 1: failed: RuntimeError: no memory" in told


def test_differences_are_paired_by_seed(small: Ablation) -> None:
    rows = [row("plain", 0, 4.0), row("plain", 1, 5.0), row("wide", 0, 4.1), row("wide", 1, 5.3)]
    base, wide = compare(small, rows).values()
    assert base.differences == ()
    assert wide.test.mean == pytest.approx(4.7)
    assert wide.test.error == pytest.approx(0.6)  # 1.2 / sqrt(2), over sqrt(2)
    assert wide.difference.mean == pytest.approx(0.2)
    assert wide.difference.error == pytest.approx(0.1)
    assert wide.halfway == pytest.approx((0.1, 0.3))
    _, alone = compare(small, rows[:3]).values()
    assert alone.differences == pytest.approx((0.1,))
    assert math.isnan(alone.difference.error)
    assert list(compare(small, rows[:2])) == ["plain"]


@pytest.mark.parametrize("freedom", range(1, len(STUDENT) + 1))
def test_an_interval_is_that_of_students_t(freedom: int) -> None:
    values = [(-1.0) ** i for i in range(freedom + 1)]
    found = Mean.of(values)
    t = torch.linspace(0, found.half_width / found.error, 10_001, dtype=torch.float64)
    density = torch.distributions.StudentT(torch.tensor(float(freedom))).log_prob(t).exp()
    assert 2 * torch.trapezoid(density, t).item() == pytest.approx(0.95, abs=1e-4)
    assert not found.beyond_chance
    assert Mean.of([value + 100 for value in values]).beyond_chance


def test_every_difference_of_the_presets_is_a_variant() -> None:
    """Each variant changes one field.

    Fields that act on samples alone have none, since they cannot change a likelihood.
    """
    ablation, _ = experiment()
    base, *others = (ablation.config(v, 1).model.model_dump() for v in ablation.variants)
    assert ablation.config(ablation.baseline, 1).training.seed == 1
    assert base == RealNVPConfig.paper(SHAPE, num_scales=3, num_blocks=1, width=8).model_dump()
    base |= {"start": "rotation", "networks": "same"}  # of families that examples/ adds
    changes = [{key: m[key] for key in m if m[key] != base[key]} for m in others]
    assert all(changes)
    single = [change for change in changes if len(change) == 1]
    official = preset_fields("official", SHAPE)
    of_samples = {"undo_data_constraint", "sample_batch_statistics"}
    for key in official.keys() - preset_fields("paper", SHAPE).keys() - of_samples:
        assert {key: official[key]} in single
    *preset, wide, masks = (set(change) for change in changes if len(change) > 1)
    assert [len(change) for change in preset] == [7]  # the whole preset
    assert (wide, masks) == ({"family", "networks"}, {"family", "start"})


def test_without_weight_norm_it_is_the_same_function_at_first() -> None:
    normed, plain = models = [small_flow(weight_norm=each) for each in (True, False)]
    images = noise(4, *plain.image_shape)
    scores = [m.log_prob(images, generator=generator()) for m in models]
    assert torch.allclose(*scores, rtol=1e-5)
    assert any(isinstance(m, WeightNormConv2d) for m in normed.modules())
    assert not any(isinstance(m, WeightNormConv2d) for m in plain.modules())
    assert len(list(plain.parameters())) < len(list(normed.parameters()))  # no gains
    assert plain.weight_scale_penalty() < normed.weight_scale_penalty()


def test_without_skips_no_weight_is_of_a_skip() -> None:
    for skips, kind in ((True, CouplingNet), (False, TrunkNet)):
        model = small_flow(num_blocks=2, skips=skips)
        nets = [m for m in model.modules() if isinstance(m, CouplingNet)]
        assert {type(net) for net in nets} == {kind}
        assert any("skip" in name for name, _ in nets[0].named_parameters()) == skips
