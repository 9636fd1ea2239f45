"""Preset `official`: what its quirks do in training, at the start and in samples; and its sizes.

What it computes with given weights and moments is compared in tests/test_numpy_parity.py.
"""

import math

import pytest
import torch
from pixels import generator, lived, perturb, small_flow
from torch import Tensor, nn

from nvp import RealNVPConfig
from nvp.flows.bijection import Composition
from nvp.flows.coupling import ChannelCoupling, CheckerboardCoupling
from nvp.flows.resnet import WeightNormConv2d


def of_type(model: nn.Module, kind: type) -> list:
    return [module for module in model.modules() if isinstance(module, kind)]


def test_gains_and_scales_start_as_in_the_code() -> None:
    """g starts at 1.2247 for 3x3 and at 0.4082 for 1x1, whatever the width; scales at 0 and 1."""
    for width in (4, 6):
        model = small_flow("official", width=width)
        for conv in of_type(model, WeightNormConv2d):
            bound = math.sqrt(2 / conv.v.shape[1])
            assert 0.5 * bound < conv.v.abs().max() <= bound
            assert conv.bias is None or (conv.bias == 0).all()
            if conv.g is not None:
                start = {3: 1.2247, 1: 0.4082}[conv.v.shape[2]]
                assert torch.allclose(conv.g, torch.tensor(start), atol=5e-5)
        for kind, start in ((CheckerboardCoupling, 0.0), (ChannelCoupling, 1.0)):
            assert all(coupling.scale.item() == start for coupling in of_type(model, kind))


def test_l2_covers_magnitudes_and_checkerboard_scalars_but_not_channel_scalars() -> None:
    images = torch.full((2, 3, 8, 8), 99, dtype=torch.uint8)
    for preset, place, number in (("paper", "", 10), ("official", "checkerboard", 7)):
        model = small_flow(preset)
        perturb(model)
        named = dict(model.named_parameters())
        magnitudes = [p for name, p in named.items() if name.endswith(".g")]
        scalars = [p for name, p in named.items() if place in name and name.endswith(".scale")]
        assert len(scalars) == number
        by_hand = 5e-5 * sum(p.square().sum().item() for p in [*magnitudes, *scalars])
        model.double().eval()
        loss = model.loss(images, generator())
        log_prob = model.log_prob(images, generator=generator())
        assert (loss + log_prob.mean()).item() == pytest.approx(by_hand, rel=1e-5)
    for coupling in of_type(model, ChannelCoupling):
        del coupling.scale  # a coupling of another kind may have none
    assert model.weight_scale_penalty().item() == pytest.approx(by_hand, rel=1e-5)
    model.flow = Composition([])  # nor gains
    assert model.weight_scale_penalty() == 0


def test_samples_are_shown_without_undoing_the_data_constraint() -> None:
    """Black comes out as 12 and white as 242: 0.05 and 0.95 of 255, truncated."""
    pixels = torch.tensor([0, 255], dtype=torch.uint8).repeat(2, 3, 8, 4)
    for preset, expected in (("official", {12, 13, 241, 242}), ("paper", {0, 255})):
        model = small_flow(preset).eval()
        assert set(model.decode(model.encode(pixels, generator())).unique().tolist()) <= expected


def test_sampling_takes_the_statistics_of_the_sample_inside_the_nets() -> None:
    """As the code's sampling does; the norms of the couplings' outputs stay as they are."""
    model = lived(RealNVPConfig.official((1, 8, 8), num_blocks=0, width=4))
    kept = {name: value.clone() for name, value in model.state_dict().items()}

    def drawn(n: int) -> Tensor:
        return model.sample(n, generator=generator())[:1]

    assert not torch.equal(drawn(2), drawn(20))  # an image depends on those drawn beside it
    assert not model.training
    torch.testing.assert_close(model.state_dict(), kept, rtol=0, atol=0)
    plain = lived(RealNVPConfig.paper((1, 8, 8), num_blocks=0, width=4))
    alone, beside = (plain.sample(n, generator=generator()) for n in (2, 20))
    assert torch.equal(alone, beside[:2])


def test_scales_blocks_and_maps_follow_the_height() -> None:
    """At 64x64 the code has four blocks where the paper has two."""
    paper, official = RealNVPConfig.paper, RealNVPConfig.official
    for preset, height, sizes in (
        *((paper, 32, (2, 8, 64)), (official, 32, (2, 8, 64))),
        *((paper, 64, (5, 2, 32)), (official, 64, (5, 4, 32))),
        *((paper, 28, (2, 2, 32)), (official, 28, (2, 2, 32))),
    ):
        config = preset((3, height, height))
        assert (config.num_scales, config.num_blocks, config.width) == sizes
