"""Every family at once: it keeps the protocol, resumes exactly, and says what it is made of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from pixels import generator, randomised
from tiny import refusal

from nvp.autoregressive.sampling import LEAST_TEMPERATURE
from nvp.config import FAMILIES, RunConfig, family_of, parse_config
from nvp.model import ImageModel
from nvp.model.custom import build
from nvp.testing import check_model

FLOW = {"family": "realnvp", "image_shape": [1, 8, 8], "num_blocks": 1, "width": 4}
PIXELS = {
    **{"family": "pixelrnn", "image_shape": [1, 4, 5], "first_kernel": 3},
    **{"num_layers": 2, "hidden": 6, "head": 8},
}
MIXTURE = {"output": "mixture", "num_components": 2, "num_scales": 2}
SMALL, LARGE = ({**PIXELS, "kind": "row_lstm", "image_shape": [1, k, k]} for k in (4, 8))
TWO_SCALES = {"family": "multiscale_pixelrnn", "small": SMALL, "large": LARGE, "width": 4}
DIFFUSION = {"family": "diffusion", "width": 8, "blocks": 1, "steps": 4, "times": 2}
CASES: dict[str, dict[str, Any]] = {
    "realnvp": {**FLOW, "preset": "paper"},
    "realnvp, official": {**FLOW, "preset": "official", "image_shape": [3, 8, 8]},
    "realnvp, appendix E": {**FLOW, "norm_running_average": True},
    "realnvp, without norms": {**FLOW, "norm_scope": None, "prior": "logistic"},
    "realnvp, plain networks": {
        **{**FLOW, "weight_norm": False, "skips": False, "norm_scope": "transformed"}
    },
    "realnvp, conditional": {**FLOW, "preset": "paper", "num_classes": 3},
    "pixelcnn": {**PIXELS, "kind": "pixelcnn"},
    "pixelcnn, colours": {**PIXELS, "kind": "pixelcnn", "image_shape": [3, 3, 4], "hidden": 7},
    "row lstm, binary": {**PIXELS, "kind": "row_lstm", "levels": 2},
    "row lstm, mixture": {**PIXELS, "kind": "row_lstm", **MIXTURE},
    "row lstm, dropout": {**PIXELS, "kind": "row_lstm", "dropout": 0.2, "hidden": 12},
    "diagonal bilstm": {**PIXELS, "kind": "diagonal_bilstm", "residual": False},
    "diagonal bilstm, colours": {
        **{**PIXELS, "kind": "diagonal_bilstm", "image_shape": [3, 3, 4], "skip": False}
    },
    "two scales": TWO_SCALES,
    "two scales, mixture": {**TWO_SCALES, "small": {**SMALL, **MIXTURE}},
    "gaussian": {"family": "gaussian", "image_shape": [1, 4, 4]},
    "gaussian, binary": {"family": "gaussian", "image_shape": [3, 2, 4], "levels": 2},
    "vae": {"family": "vae", "image_shape": [1, 8, 8], "latent": 3, "width": 4},
    "vae, colours": {"family": "vae", "image_shape": [3, 4, 8], "levels": 5, "width": 4},
    "diffusion": {**DIFFUSION, "image_shape": [1, 8, 8]},
    "diffusion, colours": {**DIFFUSION, "image_shape": [3, 4, 8], "levels": 5},
    "gan": {"family": "gan", "image_shape": [1, 8, 8], "latent": 3, "width": 4},
    "gan, binary": {"family": "gan", "image_shape": [3, 4, 8], "levels": 2, "width": 4},
}


def test_every_family_has_a_case() -> None:
    assert {case["family"] for case in CASES.values()} == set(FAMILIES)


def model_of(case: str) -> ImageModel:
    torch.manual_seed(0)
    return build(family_of(CASES[case]).model_validate(CASES[case]))


@pytest.mark.parametrize("case", CASES)
def test_a_model_keeps_the_protocol(case: str) -> None:
    model = model_of(case)
    labels = torch.arange(8) % 3 if model.num_classes else None
    check_model(model, tiny.images_of(model), labels)


@pytest.mark.parametrize("case", CASES)
def test_the_least_temperature_leaves_no_chance_and_none_below_it_is_taken(case: str) -> None:
    model = randomised(model_of(case), seed=2).float().eval()  # of some seeds one draws black
    labels = torch.zeros(5, dtype=torch.int64) if model.num_classes else None
    least = LEAST_TEMPERATURE if model.autoregressive else 0.0
    drawn = model.sample(5, generator=generator(), temperature=least, labels=labels)
    assert (drawn == drawn[0]).all()
    assert drawn.any()
    for temperature in (math.nextafter(least, -1), -1.0, math.inf, math.nan):
        with refusal("temperature must be a finite number"):
            model.sample(5, temperature=temperature, labels=labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        *("realnvp, appendix E", "row lstm, mixture", "row lstm, dropout", "two scales, mixture"),
        *("gaussian", "vae", "gan", "diffusion"),
    ],
)
def test_resuming_is_exact(case: str, root: Path, tmp_path: Path) -> None:
    tree = tiny.config_tree()
    tree["model"] = CASES[case]
    if "image_shape" in CASES[case]:
        tree["model"] = {**CASES[case], "image_shape": [1, 8, 8]}

    def configure(steps: int) -> RunConfig:
        tree["training"]["steps"] = steps
        return parse_config(tree, case)

    tiny.check_resuming(configure, tmp_path, root)


def test_a_printed_model_says_what_its_parts_are() -> None:
    flow, pixels, masked = (
        str(model_of(case))
        for case in ("realnvp, official", "row lstm, binary", "pixelcnn, colours")
    )
    for words in (
        *("Logit(alpha=0.05, slope=0.9)", "factor_out=diagonal", "squeeze=channel_major"),
        *("CheckerboardCoupling(", "kept=even, order=shift_then_scale", "kept=second, order="),
        *("WeightNormConv2d(7, 4, kernel=3x3, bias)", "ShiftedBatchNorm(4, momentum=0.1)"),
        "CouplingBatchNorm(3, scope=official, momentum=0.1)",
        "kept=odd, concatenated_relu=True, mask_channel=True",
    ):
        assert words in flow
    for words in ("hidden=6, k=3", "Softmax(levels=2, size=1)", "residual=True, dropout=0.0"):
        assert words in pixels
    assert "MaskedConv2d(mask A, 3, 14, kernel=3x3)" in masked
    assert "MaskedConv2d(mask B, 14, 7, kernel=1x1)" in masked
