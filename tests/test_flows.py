"""The flow in float64, with random weights: exact log-determinants, inverses and gradients."""

import re
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from pixels import generator, lived, noise, small_flow
from tiny import refusal
from torch import Tensor, nn

from nvp import RealNVP, RealNVPConfig
from nvp.flows.batchnorm import NormScope
from nvp.flows.coupling import AffineOrder, ChannelCoupling, CheckerboardCoupling
from nvp.flows.masks import Half, Parity
from nvp.flows.realnvp import MultiScaleFlow
from nvp.flows.squeeze import SqueezeOrder, squeeze
from nvp.model import ModelConfig
from nvp.testing import check_bijection

SMALL: dict[str, Any] = {"num_blocks": 1, "width": 4}
ORDERS = list(SqueezeOrder)
SQUEEZES: dict[str, dict[str, Any]] = {
    f"{channels} squeeze": {
        **{"image_shape": (3, 4, 4), "channel_squeeze": channels, "factor_out_squeeze": factor_out}
    }
    for channels, factor_out in zip(ORDERS, ORDERS[1:] + ORDERS[:1], strict=True)
}
SHAPES: dict[str, dict[str, Any]] = {
    "down to one pixel": {"num_scales": 3},
    "an odd side never squeezed": {"image_shape": (1, 7, 7), "num_scales": 1},
    "not square, then odd": {"image_shape": (2, 6, 10), "num_scales": 2},
    "no block": {"image_shape": (1, 8, 8), "num_scales": 3, "num_blocks": 0},
    "two blocks": {"image_shape": (1, 8, 8), "num_scales": 2, "num_blocks": 2},
    "a scale a channel": {
        **{"scale_per_channel": True, "concatenated_relu": False, "mask_channel": False}
    },
    "scales of one": {"checkerboard_scale_init": 1.0, "concatenated_relu": False},
}
CONFIGS = {
    name: RealNVPConfig.paper(**{"image_shape": (1, 4, 4), **SMALL, **changes})
    for name, changes in {**SQUEEZES, **SHAPES}.items()
}
CONFIGS["paper"] = RealNVPConfig.paper((3, 8, 8), **SMALL)
CONFIGS["official"] = RealNVPConfig.official((1, 8, 8), **SMALL)


def images(config: RealNVPConfig) -> Tensor:
    """Two, as logits of about the range that pixels have, |y| < 3."""
    return 1.5 * torch.randn(2, *config.image_shape, generator=generator(1), dtype=torch.float64)


@cache
def flow_of(config: RealNVPConfig) -> MultiScaleFlow:
    """The flow of a model as after training; do not change it."""
    with torch.random.fork_rng():  # whether it was made before changes no random number
        return lived(config).flow


@pytest.mark.parametrize("name", CONFIGS)
def test_log_det_and_inverse_are_exact(name: str) -> None:
    config = CONFIGS[name]
    # At a last scale of one pixel, half of the couplings have nothing to change.
    gradients = config.image_shape[1] > 2 ** (config.num_scales - 1)
    check_bijection(flow_of(config), images(config), gradients=gradients)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_single_precision_loses_little(name: str) -> None:
    flow, x = deepcopy(flow_of(CONFIGS[name])).float(), images(CONFIGS[name]).float()
    z, log_det = flow(x)
    back, log_det_back = flow.inverse(z)
    assert (back - x).abs().max() < 1e-5
    assert (log_det + log_det_back).abs().max() < 1e-4


@pytest.mark.parametrize("scope", [*NormScope, None])
@pytest.mark.parametrize("order", AffineOrder)
@pytest.mark.parametrize("which", [0, 1])  # what one keeps, the next one changes
@pytest.mark.parametrize(("kind", "channels"), [("checkerboard", 1), ("channelwise", 4)])
def test_a_coupling_changes_its_half_by_the_other(kind, channels, which, order, scope) -> None:
    config = RealNVPConfig.paper((1, 4, 4), affine_order=order, norm_scope=scope, **SMALL)
    layer = getattr(flow_of(config).scales[0], kind).bijections[which]
    x = torch.randn(1, channels, 4, 4, dtype=torch.float64)
    check_bijection(layer, x)
    b = layer.mask(x).expand_as(x)
    y = layer(x)[0]
    assert (y != x)[~b].all()
    if scope is NormScope.WHOLE:
        assert (y != x)[b].all()
    else:
        assert torch.equal(y[b], x[b])
    # What is kept decides on t and s; what is changed has no say.
    t, s = layer.shift_and_log_scale(x, layer.mask(x))
    elsewhere = torch.where(b, x, torch.randn_like(x))
    assert all(map(torch.equal, layer.shift_and_log_scale(elsewhere, layer.mask(x)), (t, s)))
    conditioned = torch.where(b, torch.randn_like(x), x)
    assert not torch.allclose(layer.shift_and_log_scale(conditioned, layer.mask(x))[0], t)
    assert (t[b] == 0).all()
    assert (s[b] == 0).all()
    assert (s.abs() < layer.scale.abs()).all()


def test_what_does_not_fit_a_coupling_is_refused() -> None:
    x, net = torch.randn(1, 2, 4, 4), nn.Conv2d(2, 4, 1)
    # Two maps would be broadcast, and the log-determinant wrong.
    for made, got in ((x, re.escape("(1, 2, 4, 4)")), ((x, x), "tuple")):
        coupling = CheckerboardCoupling(Parity.ODD, nn.Identity(), scale_init=1.0)
        coupling.net.register_forward_hook(lambda *_, made=made: made)
        with refusal(f"to t and s in one tensor, .*, got {got}: fix the net"):
            coupling(x)
    coupling = CheckerboardCoupling(Parity.ODD, net, scale_init=1.0, scale_channels=3)
    with refusal("scale_channels must be 1 or the 2 channels, got 3"):
        coupling(x)
    with refusal("halves the channels, got 3: squeeze first"):
        ChannelCoupling(Half.SECOND, net, scale_init=1.0)(torch.randn(1, 3, 4, 4))


@pytest.mark.parametrize("order", SqueezeOrder)
@pytest.mark.parametrize(
    ("num_scales", "shapes"),
    [(1, [(3, 8, 4)]), (2, [(6, 4, 2)] * 2), (3, [(6, 4, 2), (12, 2, 1), (12, 2, 1)])],
)
def test_latents_by_scale(order: SqueezeOrder, num_scales: int, shapes: list) -> None:
    sizes = {**SMALL, "num_scales": num_scales}
    model = lived(RealNVPConfig.paper((3, 8, 4), factor_out_squeeze=order, **sizes))
    x = images(model.config)
    z = model.flow(x)[0]
    latents = model.latents_by_scale(z)
    assert [tuple(latent.shape[1:]) for latent in latents] == shapes
    assert torch.equal(model.flow.merge(latents), z)
    # The finest latents are the second half of what the first scale made.
    h = model.flow.scales[0](x)[0]
    assert torch.equal(latents[0], h if num_scales == 1 else squeeze(h, order)[:, 6:])


def test_a_flow_inverts_at_any_size() -> None:
    model = lived(RealNVPConfig.paper((1, 8, 8), **SMALL))
    z = torch.randn(2, 1, 16, 16, dtype=torch.float64)
    x, log_det = model.flow.inverse(z)
    again, log_det_forward = model.flow(x)
    assert (again - z).abs().max() < 1e-9
    assert (log_det + log_det_forward).abs().max() < 1e-9
    assert model.decode(z).shape == (2, 1, 16, 16)
    assert [tuple(part.shape) for part in model.latents_by_scale(z)] == [(2, 2, 8, 8)] * 2


@pytest.mark.parametrize("shape", [(2, 1, 7, 8), (2, 1, 8, 6), (2, 3, 8, 8), (1, 8, 8)])
def test_latents_that_the_scales_cannot_halve(shape: tuple[int, ...]) -> None:
    model = RealNVP(RealNVPConfig.paper((1, 8, 8), num_scales=3, **SMALL))
    complaint = r"z must be \(N, 1, H, W\) with sides divisible by 4.*: crop or pad it"
    for use in (model.decode, model.latents_by_scale):
        with refusal(complaint):
            use(torch.zeros(shape))


def test_tensors_follow_their_input_to_its_device_and_type() -> None:
    model = lived(RealNVPConfig.paper((1, 4, 4), **SMALL)).float().to("meta")
    for mode in (True, False):
        z, log_det = model.train(mode).flow(images(model.config).float().to("meta"))
        back = model.flow.inverse(z)[0]
        assert {t.device.type for t in (z, log_det, back)} == {"meta"}
        assert {t.dtype for t in (z, log_det, back)} == {torch.float32}


OF_SAMPLES = {"undo_data_constraint", "sample_batch_statistics"}
OPTIONS: dict[str, Any] = {
    **{"num_scales": 1, "num_blocks": 0, "width": 8, "weight_norm": False, "skips": False},
    **{"affine_order": "shift_then_scale", "first_kept": "even", "norm_scope": "official"},
    **{"channel_squeeze": "channel_major", "factor_out_squeeze": "position_major"},
    "penalise_channel_scales": False,
    **{"norm_momentum": 0.3, "checkerboard_scale_init": 0.5, "channel_scale_init": 0.5},
    **{"scale_per_channel": True, "concatenated_relu": False, "mask_channel": False},
    **{"prior": "logistic", "weight_scale_l2": 0.25},
    **{"norm_running_average": True, "alpha": 0.1, "logit": "paper"},
}


@pytest.mark.parametrize(
    "option", sorted(RealNVPConfig.model_fields.keys() - ModelConfig.model_fields - OF_SAMPLES)
)
def test_every_option_reaches_the_model(option: str) -> None:
    """With another value the same seeds give another loss, in training or after a step of it."""
    losses = []
    for changes in ({}, {option: OPTIONS[option]}):
        model = small_flow(**changes)
        steps = (model.train(mode).loss(noise(4, 3, 8, 8), generator()) for mode in (True, False))
        losses.append([loss.item() for loss in steps])
    assert losses[0] != losses[1]
