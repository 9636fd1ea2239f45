"""The flow in float64, with random weights: exact log-determinants, inverses and gradients."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from tiny import refusal
from torch import Tensor

from nvp import RealNVP, RealNVPConfig
from nvp.flows.batchnorm import CouplingBatchNorm, NormScope
from nvp.flows.bijection import Composition
from nvp.flows.coupling import AffineCoupling, AffineOrder, ChannelCoupling, CheckerboardCoupling
from nvp.flows.masks import Half, Parity
from nvp.flows.prior import LogisticPrior
from nvp.flows.resnet import CouplingNet, InputTreatment
from nvp.flows.squeeze import SqueezeOrder, squeeze
from nvp.testing import check_bijection

SMALL: dict[str, Any] = {"num_blocks": 1, "width": 4}
SCOPES = [*NormScope, None]

# Each value occurs; all combinations in one coupling are below.
NORMS: dict[str, dict[str, Any]] = {
    f"{scope} norm, {order}": {"affine_order": order, "first_kept": parity, "norm_scope": scope}
    for (order, parity), scope in zip(product(AffineOrder, Parity), SCOPES, strict=True)
}
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
    for name, changes in {**NORMS, **SQUEEZES, **SHAPES}.items()
}
for preset in (RealNVPConfig.paper, RealNVPConfig.official):
    for channels in (1, 3):
        name = f"{preset.__name__}, {channels} channels"
        CONFIGS[name] = preset((channels, 8, 8), num_scales=2, **SMALL)


def images(config: RealNVPConfig, n: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Logits of about the range that pixels have, |y| < 3."""
    generator = torch.Generator().manual_seed(1)
    return 1.5 * torch.randn(n, *config.image_shape, generator=generator, dtype=dtype)


@pytest.mark.parametrize("name", CONFIGS)
def test_log_det_and_inverse_are_exact(name: str, lived) -> None:
    config = CONFIGS[name]
    # At a last scale of one pixel, half of the couplings have nothing to change.
    gradients = config.image_shape[1] > 2 ** (config.num_scales - 1)
    check_bijection(lived(config).flow, images(config, 2), gradients=gradients)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*NORMS, "down to one pixel", "paper, 3 channels", "official, 3 channels"]
)
def test_float32_inverse(name: str, lived) -> None:
    config = CONFIGS[name]
    flow, x = lived(config).flow.float(), images(config, 4, torch.float32)
    z, log_det = flow(x)
    assert z.dtype == log_det.dtype == torch.float32
    assert (flow.inverse(z)[0] - x).abs().max() < 1e-5


def coupling(
    kept: Parity | Half, channels: int, order: AffineOrder, scope: NormScope | None
) -> AffineCoupling:
    """A coupling far from its first values, in evaluation mode, float64."""
    torch.manual_seed(0)
    seen = channels if isinstance(kept, Parity) else channels // 2
    parity = kept if isinstance(kept, Parity) else None
    treatment = InputTreatment(seen, parity, concatenated_relu=True, mask_channel=True)
    net = CouplingNet(treatment, seen, width=4, num_blocks=1)
    norm = scope and CouplingBatchNorm(channels, scope, momentum=0.1, running_average=False)
    options: dict[str, Any] = {"scale_init": 0.7, "order": order, "norm": norm}
    if isinstance(kept, Parity):
        layer: AffineCoupling = CheckerboardCoupling(kept, net, **options)
    else:
        layer = ChannelCoupling(kept, net, **options)
    layer.double().train()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for _ in range(3):
            layer(torch.randn(8, channels, 4, 4, dtype=torch.float64) + 0.5)
    return layer.eval()


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("order", AffineOrder)
@pytest.mark.parametrize(
    ("kept", "channels"), [(Parity.ODD, 1), (Parity.EVEN, 3), (Half.FIRST, 2), (Half.SECOND, 4)]
)
def test_one_coupling(kept, channels: int, order: AffineOrder, scope: NormScope | None) -> None:
    layer = coupling(kept, channels, order, scope)
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


class Forgetful(CheckerboardCoupling):
    """Sums s over kept pixels too: the usual mistake."""

    def net_output(self, x, b, y=None):
        t, raw = self.net(x * b).chunk(2, dim=1)
        return t * ~b, raw


class Peeking(CheckerboardCoupling):
    """Lets the net see what it changes."""

    def net_output(self, x, b, y=None):
        t, raw = self.net(x).chunk(2, dim=1)
        return t * ~b, raw * ~b


@pytest.mark.parametrize("mistake", [Forgetful, Peeking])
def test_a_wrong_coupling_would_be_caught(mistake: type[CheckerboardCoupling]) -> None:
    layer = coupling(Parity.ODD, 1, AffineOrder.SCALE_THEN_SHIFT, None)
    layer.__class__ = mistake
    with pytest.raises(AssertionError):
        check_bijection(layer, torch.randn(1, 1, 4, 4, dtype=torch.float64))


@pytest.mark.parametrize("order", SqueezeOrder)
@pytest.mark.parametrize(
    ("num_scales", "shapes"),
    [(1, [(3, 8, 4)]), (2, [(6, 4, 2)] * 2), (3, [(6, 4, 2), (12, 2, 1), (12, 2, 1)])],
)
def test_latents_by_scale(order: SqueezeOrder, num_scales: int, shapes: list, lived) -> None:
    sizes = {**SMALL, "num_scales": num_scales}
    model = lived(RealNVPConfig.paper((3, 8, 4), factor_out_squeeze=order, **sizes))
    x = images(model.config, 2)
    z = model.flow(x)[0]
    latents = model.latents_by_scale(z)
    assert [tuple(latent.shape[1:]) for latent in latents] == shapes
    assert torch.equal(model.flow.merge(latents), z)
    # The finest latents are the second half of what the first scale made.
    h = model.flow.scales[0](x)[0]
    expected = h if num_scales == 1 else squeeze(h, order)[:, 6:]
    assert torch.equal(latents[0], expected)


def test_fully_convolutional(lived) -> None:
    config = RealNVPConfig.paper((1, 8, 8), **SMALL)
    model = lived(config)
    z = torch.randn(2, 1, 16, 16, dtype=torch.float64)
    x, log_det = model.flow.inverse(z)
    again, log_det_forward = model.flow(x)
    assert (again - z).abs().max() < 1e-9
    assert (log_det + log_det_forward).abs().max() < 1e-9
    assert model.decode(z).shape == (2, 1, 16, 16)
    assert [tuple(part.shape) for part in model.latents_by_scale(z)] == [(2, 2, 8, 8)] * 2


@pytest.mark.parametrize(
    "shape", [(2, 1, 7, 8), (2, 1, 8, 6), (2, 3, 8, 8), (1, 8, 8), (1, 1, 0, 0)]
)
def test_latents_that_the_scales_cannot_halve(shape: tuple[int, ...], lived) -> None:
    model = lived(RealNVPConfig.paper((1, 8, 8), num_scales=3, **SMALL))
    complaint = r"z must be \(N, 1, H, W\) with sides divisible by 4.*: crop or pad it"
    for use in (model.decode, model.latents_by_scale):
        with refusal(complaint):
            use(torch.zeros(shape))


def test_double_and_device_moves(lived) -> None:
    model = lived(RealNVPConfig.paper((1, 4, 4), **SMALL))
    x = images(model.config, 2)
    z, log_det = model.flow(x)
    assert z.dtype == log_det.dtype == torch.float64
    assert torch.allclose(model.float().flow(x.float())[0].double(), z, atol=1e-4)
    # On a device of its own, every tensor that the flow makes must follow its input there.
    model = model.to("meta")
    for mode in (True, False):
        z, log_det = model.train(mode).flow(x.float().to("meta"))
        assert z.device.type == log_det.device.type == "meta"
        assert model.flow.inverse(z)[0].device.type == "meta"


def test_encode_and_decode(lived) -> None:
    config = RealNVPConfig.paper((3, 8, 8), **SMALL)
    model = lived(config)
    pixels = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    pixels[0], pixels[1] = 0, 255
    z = model.encode(pixels, torch.Generator().manual_seed(0))
    assert z.shape == pixels.shape
    assert torch.equal(model.decode(z), pixels)


def _first(model: RealNVP) -> Any:
    return model.flow.scales[0].checkerboard.bijections[0]


def test_the_penalty_asks_roles_and_may_find_none() -> None:
    """A coupling of another kind may have neither gains nor scales of tanh."""
    model = RealNVP(RealNVPConfig.paper((1, 4, 4), num_scales=1, num_blocks=0, width=2))
    assert model.weight_scale_penalty() > 0
    model.flow = Composition([])
    assert model.weight_scale_penalty() == 0


def _penalty_of_a_unit(model: RealNVP) -> float:
    named = model.named_parameters()
    squares = [p.square().sum().item() for name, p in named if name.endswith((".g", ".scale"))]
    return model.weight_scale_penalty().item() / sum(squares)


@pytest.mark.parametrize(
    ("option", "value", "found"),
    [
        ("norm_momentum", 0.3, lambda m: _first(m).norm.momentum),
        ("checkerboard_scale_init", 0.5, lambda m: _first(m).scale.item()),
        (
            "channel_scale_init",
            0.5,
            lambda m: m.flow.scales[0].channelwise.bijections[0].scale.item(),
        ),
        ("scale_per_channel", True, lambda m: _first(m).scale.numel() == 3),
        ("concatenated_relu", False, lambda m: _first(m).net.treatment.concatenated_relu),
        ("mask_channel", False, lambda m: _first(m).net.treatment.mask_channel),
        ("prior", "logistic", lambda m: {LogisticPrior: "logistic"}.get(type(m.prior))),
        ("weight_scale_l2", 0.25, _penalty_of_a_unit),
    ],
)
def test_every_option_reaches_the_model(option: str, value: Any, found: Any) -> None:
    model = RealNVP(RealNVPConfig.paper((3, 8, 8), **{**SMALL, option: value}))
    assert found(model) == (value if isinstance(value, str) else pytest.approx(value))
