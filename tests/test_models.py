"""Every family at once: it keeps the protocol, resumes exactly, and says what it is made of."""

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from pixels import generator, randomised
from tiny import refusal

from nvp.autoregressive.sampling import LEAST_TEMPERATURE
from nvp.config import FAMILIES, family_of
from nvp.model import ImageModel
from nvp.model.custom import build
from nvp.testing import check_model

FLOW = {"family": "realnvp", "image_shape": [1, 8, 8], "num_blocks": 0, "width": 4}
PIXELS = {
    **{"family": "pixelrnn", "image_shape": [1, 4, 5], "first_kernel": 3},
    **{"num_layers": 2, "hidden": 6, "head": 8},
}
MIXTURE = {"output": "mixture", "num_components": 2, "num_scales": 2}
SMALL, LARGE = ({**PIXELS, "kind": "row_lstm", "image_shape": [1, k, k]} for k in (4, 8))
DIFFUSION = {"family": "diffusion", "width": 8, "blocks": 1, "steps": 4, "times": 2}
CASES: dict[str, dict[str, Any]] = {
    "realnvp": {**FLOW, "preset": "paper"},
    "realnvp, official": {**FLOW, "preset": "official", "image_shape": [3, 8, 8], "num_blocks": 1},
    "realnvp, appendix E": {**FLOW, "norm_running_average": True},
    "realnvp, without norms, plain networks": {
        **{**FLOW, "norm_scope": None, "prior": "logistic", "num_blocks": 1},
        **{"weight_norm": False, "skips": False},
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
    "two scales, mixture": {
        **{"family": "multiscale_pixelrnn", "width": 4},
        **{"small": {**SMALL, **MIXTURE}, "large": LARGE},
    },
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
    return build(family_of(CASES[case]).model_validate(CASES[case]))


@pytest.mark.parametrize("case", CASES)
def test_a_model_keeps_the_protocol(case: str) -> None:
    model = model_of(case)
    labels = torch.arange(8) % 3 if model.num_classes else None
    check_model(model, tiny.images_of(model), labels)
    with refusal(r"use log_prob\(images\)"):
        model(tiny.images_of(model))
    assert f"image_shape={tuple(model.image_shape)}" in str(model)
    if not model.autoregressive and model.likelihood != "none":
        with refusal("bfloat16, too coarse"):
            model.bfloat16().loss(tiny.images_of(model), labels=labels)


@pytest.mark.parametrize("case", CASES)
def test_the_least_temperature_leaves_no_chance_and_none_below_it_is_taken(case: str) -> None:
    model = randomised(model_of(case), seed=2).float().eval()  # of some seeds one draws black
    labels = torch.zeros(5, dtype=torch.int64) if model.num_classes else None
    least = LEAST_TEMPERATURE if model.autoregressive else 0.0
    drawn = model.sample(5, generator=generator(), temperature=least, labels=labels)
    assert (drawn == drawn[0]).all()
    assert drawn.any(), "all black: NaN, or by chance, as another seed tells"
    for temperature in (math.nextafter(least, -1), -1.0, math.inf, math.nan):
        with refusal("temperature must be a finite number"):
            model.sample(5, temperature=temperature, labels=labels)


@pytest.mark.parametrize(
    ("case", "latents"), [("realnvp", (1, 8, 8)), ("gaussian", (1, 4, 4)), ("gan", (3,))]
)
def test_a_temperature_multiplies_the_latents(case: str, latents: tuple[int, ...]) -> None:
    model = randomised(model_of(case)).float().eval()
    z = 0.5 * torch.randn(5, *latents, generator=generator())
    drawn = model.sample(5, generator=generator(), temperature=0.5)
    assert torch.equal(drawn, model.decode(z.double()))  # whatever their type


@pytest.mark.parametrize("case", CASES)
def test_a_model_of_damaged_weights_draws_no_black_images(case: str) -> None:
    model = model_of(case).eval()
    for weight in model.parameters():
        torch.nn.init.constant_(weight, math.nan)
    with refusal("is nan: look for weights"):
        model.sample(2, labels=torch.zeros(2, dtype=torch.int64) if model.num_classes else None)


BY_MUON, BY_RMSPROP = {"optimiser": "muon"}, {"optimiser": "rmsprop", "early_stopping": True}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "training"),
    [
        *(("realnvp, appendix E", BY_MUON), ("row lstm, dropout", BY_MUON)),
        *(("row lstm, mixture", BY_RMSPROP), ("two scales, mixture", {})),
        *((family, {}) for family in ("gaussian", "vae", "gan", "diffusion")),
    ],
    ids=str,
)
def test_resuming_is_exact(case: str, training: dict[str, Any], root: Path, tmp_path: Path) -> None:
    shape = {"image_shape": [1, 8, 8]} if "image_shape" in CASES[case] else {}
    tree = {**tiny.config_tree(), "model": {**CASES[case], **shape}}
    tree["training"] |= training
    tiny.check_resuming(lambda n: tiny.configured(tree, training={"steps": n}), tmp_path, root)
