"""Configurations: what is refused and in which words, overrides, and every file of configs/."""

import math
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import tiny
import torch
from tiny import refusal

from nvp import RealNVPConfig, paths
from nvp.config import Optimiser, load_config, parse_config
from nvp.flows.coupling import AffineOrder
from nvp.flows.preprocess import LogitForm
from nvp.model.config import Section
from nvp.tables.rows import read_costs

CONFIGS = sorted((paths.repository_root() / "configs").glob("**/*.yaml"))
RECORDED = sorted((paths.results_root() / "runs").glob("*/config.yaml"))


@pytest.mark.parametrize("path", CONFIGS + RECORDED, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_configuration_builds_a_model_of_the_sizes_that_its_title_says(path: Path) -> None:
    """If a number of parameters differs, run workflow/costs.py. `name` is that of the file.

    A Pixel RNN named after cifar10 or imagenet is the paper's, unless "small" follows.
    """
    config = load_config(path)
    with torch.device("meta"):  # takes no memory and no time
        model = config.build_model()
    if path.parent.name == "configs":
        assert config.name == path.stem
        if cost := read_costs().get(config.name):  # of a row of the papers' tables
            assert sum(parameter.numel() for parameter in model.parameters()) == cost.parameters
            assert 0 < cost.gigabytes(config) < 80
    for pattern, names in {
        r"(\d+) (?:blocks|layers?)": ("num_blocks", "num_layers", "blocks", "layers"),
        r"h=(\d+)": ("hidden",),
        r"(\d+) maps|width (\d+)|of (\d+) features": ("width",),
        r"(\d+) latents": ("latent",),
    }.items():
        if said := re.search(pattern, config.title):
            size = int(next(filter(None, said.groups())))
            assert size in {getattr(config.model, name, None) for name in names}
    of_a_set = re.match("(cifar10|imagenet32|imagenet64)-(?!small)", config.name)
    if of_a_set and model.autoregressive:  # of the second paper
        assert config.training.optimiser is Optimiser.RMSPROP


def refused(tree: dict[str, Any]) -> str:
    """The one line with which a tree is refused."""
    with refusal("^mine.yaml: ") as caught:
        parse_config(tree, "mine.yaml")
    return str(caught.value)


def test_a_preset_is_expanded_and_changed() -> None:
    tree = tiny.config_tree()
    tree["model"] |= {"preset": "official", "logit": "paper"}
    model = parse_config(tree, "mine.yaml").model
    assert model.affine_order is AffineOrder.SHIFT_THEN_SCALE
    sizes = {"num_scales": 2, "num_blocks": 0, "width": 4}
    assert model == RealNVPConfig.official((1, 8, 8), logit="paper", **sizes)
    del tree["model"]["preset"]
    assert parse_config(tree, "mine.yaml").model.affine_order is AffineOrder.SCALE_THEN_SHIFT


@pytest.mark.parametrize(
    ("section", "key", "hint"),
    [
        (None, "traning", "did you mean `training`? valid keys of a configuration: name, title"),
        ("training", "stepz", "did you mean `steps`? valid keys of training: steps, minutes"),
        ("model", "widht", "did you mean `width`? valid keys of realnvp: preset, family"),
        ("model", "hidden", "valid keys of realnvp"),  # which is a Pixel RNN's
    ],
)
def test_an_unknown_key_is_named_and_so_are_those_of_its_section(section, key, hint) -> None:
    tree = tiny.config_tree()
    (tree if section is None else tree[section])[key] = 3
    where = key if section is None else f"{section}.{key}"
    assert f" {where}: unknown key; {hint}" in refused(tree)


@pytest.mark.parametrize("where", ["name", "model", "data.name", "model.image_shape"])
def test_a_required_key_that_is_spelt_wrong_is_told_from_a_missing_one(where) -> None:
    tree = tiny.config_tree()
    *sections, key = where.split(".")
    section = tree[sections[0]] if sections else tree
    section[key + "s"] = section.pop(key)
    assert f" {where}s: unknown key; did you mean `{key}`?" in refused(tree)
    del section[key + "s"]
    assert f" {where}: Field required" in refused(tree)


def test_no_size_fills_the_memory() -> None:
    flow, pixels, huge = tiny.config_tree(), tiny.pixelrnn_tree(), 10**9 + 1
    for tree, keys in (
        (flow, ("width", "num_blocks", "num_scales")),
        (pixels, ("num_layers", "hidden", "head", "first_kernel", "kernel_size")),
    ):
        for key in keys:
            changed = {**tree, "model": {**tree["model"], key: huge}}
            assert f" model.{key}: Input should be less than or equal to" in refused(changed)
    flow["model"]["image_shape"] = [1, huge, huge]
    assert " model.image_shape.1: Input should be less than or equal to" in refused(flow)
    flow["model"] = {"family": "gaussian", "image_shape": [3, 512, 512]}
    assert " model: images of 786432 sub-pixels have a covariance of" in refused(flow)


@pytest.mark.parametrize(
    ("section", "key", "value", "complaint"),
    [
        ("model", "preset", "papre", "model: preset must be paper or official, got 'papre'"),
        ("model", "preset", ["paper"], "model: preset must be paper or official"),
        ("model", "family", "glow", "model: unknown family 'glow'; use realnvp, pixelrnn, "),
        ("model", "family", "pixelrn", "model: unknown family 'pixelrn'; did you mean `pixelrnn`?"),
        ("model", "family", ["vae"], "model: unknown family ['vae'];"),
        ("model", "levels", 2, "model.levels: Input should be 256"),
        ("model", "image_shape", [28, 28], "model: image_shape must be [channels, height, width]"),
        ("model", "image_shape", [1, 0, 8], "model.image_shape"),
        ("model", "image_shape", [1, 7, 8], "7x8 is not divisible by 2: use fewer scales or pad"),
        ("model", "image_shape", [1, 8, 7], "8x7 is not divisible by 2: use fewer scales or pad"),
        ("training", "batch_size", 1, "training.batch_size"),
        ("training", "betas", [2, 3], "training.betas.0: Input should be less than 1"),
        ("training", "seed", 99999999999999999999, "training.seed: Input should be less than"),
        ("training", "minutes", math.inf, "training.minutes: Input should be a finite number"),
        ("training", "clip_norm", math.nan, "training.clip_norm"),
        ("training", "steps", None, "training: set steps, minutes or both: a run needs a budget"),
    ],
)
def test_bad_values_are_named(section: str, key: str, value: Any, complaint: str) -> None:
    tree = tiny.config_tree()
    tree[section][key] = value
    assert complaint in refused(tree)


def test_numbers_are_those_of_yaml_1_2_and_some_may_be_infinite(tmp_path: Path) -> None:
    keys = ("clip_norm", "checkpoint_minutes", "validate_minutes")
    changes = ["steps=010", "learning_rate=1e-2", *(f"{key}=.Inf" for key in keys)]
    path = tiny.write_config(tmp_path / "tiny.yaml")
    config = load_config(path, [f"training.{change}" for change in changes])
    assert (config.training.steps, config.training.learning_rate) == (10, 0.01)
    assert [getattr(config.training, key) for key in keys] == [math.inf] * 3
    kept = tiny.write_config(tmp_path / "kept.yaml", config.model_dump(mode="json"))
    assert load_config(kept) == config


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"hiden": 3}, ".hiden: unknown key; did you mean `hidden`? valid keys of pixelrnn: "),
        ({"num_classes": 3}, ".num_classes: this family takes no labels: leave the"),
        ({"kernel_size": 4}, ": kernel_size must be odd"),
        ({"kind": "diagonal_bilstm", "kernel_size": 5}, ": kernel_size is for the other kinds"),
        ({"num_scales": 2}, ": num_scales is for model.output: mixture"),
        ({"image_shape": [2, 8, 8]}, ": image_shape must have 1 or 3 channels"),
        ({"image_shape": [3, 8, 8], "head": 2}, ": hidden and head must be at least 3"),
        ({"image_shape": [3, 8, 8], "hidden": 2}, ": hidden and head must be at least 3"),
        ({"output": "mixture", "num_scales": 9}, ".num_scales: Input should be less than or equal"),
        ({"levels": 1}, ".levels: Input should be greater than or equal to 2"),
    ],
)
def test_bad_keys_of_a_pixel_rnn_are_named(keys: dict[str, Any], complaint: str) -> None:
    tree = tiny.pixelrnn_tree()
    tree["model"] |= keys
    assert f" model{complaint}" in refused(tree)


def test_bad_keys_of_a_multi_scale_pixel_rnn_are_named() -> None:
    tree = tiny.pixelrnn_tree()
    large = {key: value for key, value in tree["model"].items() if key != "family"}
    small = {**large, "image_shape": [1, 4, 4]}
    tree["model"] = {"family": "multiscale_pixelrnn", "small": small, "large": large}
    config = parse_config(tree, "mine.yaml").model
    assert (config.image_shape, config.levels, config.num_classes) == ((1, 8, 8), 2, 0)
    small["hiden"] = 3
    hint = "did you mean `hidden`? valid keys of small: "
    assert f" model.small.hiden: unknown key; {hint}" in refused(tree)
    del small["hiden"]
    small["levels"] = 3
    assert " model: small.levels and large.levels must be the same" in refused(tree)


def test_a_name_must_do_for_a_folder_and_a_section_has_keys() -> None:
    for name in ("", "Upper Case", "../elsewhere", "a/b", ".hidden"):
        complaint = f"name: {name!r} cannot name a folder: use lower-case letters"
        assert complaint in refused({**tiny.config_tree(), "name": name})
    for section in ("model", "data", "training"):
        assert f" {section}: " in refused({**tiny.config_tree(), section: "none"})


def test_an_override_sets_a_key_of_any_section(tmp_path: Path) -> None:
    path = tiny.write_config(tmp_path / "tiny.yaml")
    budget = ["training.minutes=5", "training.learning_rate=1e-2", "training.steps=null"]
    others = ["data.flips=true", "model.logit=paper", "title=a=b", "evaluation.num_draws=3"]
    config = load_config(path, [*budget, *others])
    training = config.training
    assert (training.minutes, training.steps, training.learning_rate) == (5, None, 0.01)
    assert (config.data.flips, config.evaluation.num_draws, config.title) == (True, 3, "a=b")
    assert config.model.logit is LogitForm.PAPER
    path.write_text(path.read_text().partition("training:")[0] + "training:\n")  # without keys
    assert load_config(path, ["training.minutes=5"]).training.minutes == 5


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("training.minutes", "should look like training.minutes=5"),
        ("=5", "should look like training.minutes=5"),
        ("name.a=5", "name has no keys below it"),
        ("training.steps=[1", "is not YAML"),
        ("training.stepz=5", "training.stepz: unknown key"),
        # What is no number is not made one.
        ("training.steps=yes", "training.steps: must not be true or false, got True"),
        ("model.image_shape=[true,8,8]", "model.image_shape: must not be true or false"),
        ("model.norm_scope=null model.norm_momentum=0.5", "model: norm_momentum needs norms: set"),
        ("model.norm_scope=null model.norm_running_average=yes", "average needs norms: set"),
        ("training.minutes=4:30", "tiny.yaml --set training.minutes=4:30: training.minutes: Input"),
        ("training.steps=0x10", "training.steps: Input should be a valid integer"),
    ],
)
def test_bad_overrides_are_one_line(override: str, complaint: str, tmp_path: Path) -> None:
    path = tiny.write_config(tmp_path / "tiny.yaml")
    with refusal(re.escape(complaint)):
        load_config(path, override.split())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\xff\xfe\x00", "is not YAML"),
        (b"name: 2020-13-45", "is not YAML: month must be in 1..12"),
        *((b"name: !!" + tag, "is not YAML") for tag in (b"bool x", b"timestamp x", b"int ''")),
        (b"training: {steps: 1}\ntraining: {}", "training is given twice at line 2, column 1"),
        (b"- 1", "should hold the keys name, model, data and training"),
    ],
)
def test_files_that_are_no_configuration(content, complaint, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with refusal(re.escape(complaint)):
        load_config(path)


def test_a_field_of_ones_own_may_take_truth_values() -> None:
    class Own(Section):
        mask: list[bool] | None = None
        always: Literal[True] = True
        anything: Any = None

    given = {"mask": [True, False], "always": True, "anything": True}
    assert Own(**given).model_dump() == given
