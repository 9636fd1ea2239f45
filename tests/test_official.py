"""Preset `official`: each quirk of the authors' code, and the sizes that it gives.

The paper's choice is checked beside it where the two differ, so that no test passes for both.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from nvp import RealNVP, RealNVPConfig
from nvp.flows.batchnorm import EPSILON, CouplingBatchNorm, NormScope
from nvp.flows.coupling import AffineCoupling, ChannelCoupling, CheckerboardCoupling
from nvp.flows.masks import Half, Parity, checkerboard_mask
from nvp.flows.resnet import (
    BATCH_NORM_EPSILON,
    CouplingNet,
    InputTreatment,
    ResidualBlock,
    ShiftedBatchNorm,
    WeightNormConv2d,
)


def official(shape: tuple[int, int, int] = (3, 8, 8), **changes) -> RealNVP:
    torch.manual_seed(0)
    return RealNVP(RealNVPConfig.official(shape, **{"num_blocks": 1, "width": 4, **changes}))


def paper(shape: tuple[int, int, int] = (3, 8, 8), **changes) -> RealNVP:
    torch.manual_seed(0)
    return RealNVP(RealNVPConfig.paper(shape, **{"num_blocks": 1, "width": 4, **changes}))


def of_type(model: nn.Module, kind: type) -> list:
    return [module for module in model.modules() if isinstance(module, kind)]


class Constant(nn.Module):
    """A net that gives t = 2 and s = 0.5 before the tanh, whatever it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.full_like(x, 2.0), torch.full_like(x, 0.5)], dim=1)


@pytest.mark.parametrize("kind", [CheckerboardCoupling, ChannelCoupling])
def test_shift_then_scale(kind: type[AffineCoupling]) -> None:
    x = torch.full((1, 4, 2, 2), 3.0)
    results = {}
    for model in (official(norm_scope=None), paper(norm_scope=None)):
        coupling = of_type(model, kind)[0]
        coupling.net = Constant()
        nn.init.ones_(coupling.scale)
        y = coupling(x)[0]
        results[model.config.affine_order] = y[y != 3].unique()
    e = math.exp(math.tanh(0.5))
    assert results["shift_then_scale"].tolist() == pytest.approx([(3 + 2) * e])
    assert results["scale_then_shift"].tolist() == pytest.approx([3 * e + 2])


def test_first_checkerboard_keeps_even_squares() -> None:
    model = official()
    kept = [
        [coupling.kept for coupling in of_type(scale, CheckerboardCoupling)]
        for scale in model.flow.scales
    ]
    even, odd = Parity.EVEN, Parity.ODD
    assert kept == [[even, odd, even], [even, odd, even, odd]]
    first = of_type(model, CheckerboardCoupling)[0]
    nn.init.ones_(first.scale)
    x = torch.randn(4, 3, 8, 8)
    stays = (first(x)[0] == x).all(dim=0).all(dim=0)
    assert torch.equal(stays, checkerboard_mask(8, 8, Parity.EVEN)[0, 0])
    assert of_type(paper(), CheckerboardCoupling)[0].kept is Parity.ODD


def test_channel_couplings_keep_the_first_half_first() -> None:
    kept = [coupling.kept for coupling in of_type(official(), ChannelCoupling)]
    assert kept == [Half.FIRST, Half.SECOND, Half.FIRST]


def changed_by_first_channel_coupling(model: RealNVP) -> Tensor:
    """Which sub-pixels of one 2 x 2 block, (C, 2, 2), the first channel coupling changes."""
    scale = model.flow.scales[0]
    scale.checkerboard.bijections = nn.ModuleList()
    scale.channelwise.bijections = scale.channelwise.bijections[:1]
    scale.channelwise.bijections[0].norm = None
    x = torch.randn(4, 3, 8, 8)
    return (scale(x)[0] != x).all(dim=0)[:, :2, :2]


def test_channel_couplings_use_the_channel_major_squeeze() -> None:
    """It keeps all of red and the top row of green; figure 3 would keep the top row of all."""
    by_code = changed_by_first_channel_coupling(official())
    assert by_code.int().tolist() == [[[0, 0], [0, 0]], [[0, 0], [1, 1]], [[1, 1], [1, 1]]]
    by_paper = changed_by_first_channel_coupling(paper())
    assert by_paper.int().tolist() == [[[0, 0], [1, 1]]] * 3


def test_factoring_out_keeps_top_left_and_bottom_right() -> None:
    """The diagonal, position by position: even squares go on, odd ones leave, in all colours."""
    block = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    z = torch.stack([block, 10 + block, 20 + block])[None].repeat(1, 1, 4, 4)
    finest, coarsest = official().latents_by_scale(z)
    assert coarsest[0, :, 0, 0].tolist() == [0, 10, 20, 3, 13, 23]
    assert finest[0, :, 0, 0].tolist() == [1, 11, 21, 2, 12, 22]


def test_checkerboard_norm_counts_the_zeros_of_the_kept_half() -> None:
    """Of true mean m and variance v it takes m/2 and v/2 + m^2/4."""
    norm = of_type(official(), CouplingBatchNorm)[0].double()
    assert norm.scope is NormScope.OFFICIAL
    b = checkerboard_mask(8, 8, Parity.EVEN)
    x = 2 * torch.randn(64, 3, 8, 8, dtype=torch.float64) + 1.5
    changed = x.permute(1, 0, 2, 3)[:, :, ~b[0, 0]]
    m, v = changed.mean(dim=(1, 2)), changed.var(dim=(1, 2), correction=0)
    mean, var = norm.batch_moments(x, b)
    assert torch.allclose(mean, m / 2)
    assert torch.allclose(var, v / 2 + m**2 / 4)
    assert of_type(paper(), CouplingBatchNorm)[0].scope is NormScope.WHOLE


def test_checkerboard_norm_leaves_a_standard_deviation_of_root_two() -> None:
    norm = of_type(official(), CouplingBatchNorm)[0].double()
    b = checkerboard_mask(8, 8, Parity.EVEN)
    x = torch.randn(256, 3, 8, 8, dtype=torch.float64)
    x = x - (x * ~b).mean(dim=(0, 2, 3), keepdim=True) * 2  # m = 0
    z = norm(x, b)[0]
    half = z[(~b).expand_as(z)]
    assert half.std().item() == pytest.approx(math.sqrt(2), abs=1e-3)
    assert torch.equal(z[b.expand_as(z)], x[b.expand_as(x)])


def test_channel_norm_is_a_plain_one_over_the_changed_half() -> None:
    coupling = of_type(official(), ChannelCoupling)[0]
    x = 3 * torch.randn(64, 12, 4, 4) + 1
    z, _ = coupling.norm(x, coupling.mask(x))
    assert torch.equal(z[:, :6], x[:, :6])
    assert z[:, 6:].mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert (z[:, 6:].std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3


def test_epsilon_and_momentum() -> None:
    assert EPSILON == BATCH_NORM_EPSILON == 1e-4
    norms = of_type(official(), CouplingBatchNorm) + of_type(official(), ShiftedBatchNorm)
    assert {norm.momentum for norm in norms} == {0.1}
    assert not any(norm.running_average for norm in of_type(official(), CouplingBatchNorm))
    norm = ShiftedBatchNorm(1)
    x = torch.full((2, 1, 2, 2), 4.0)
    assert norm(x).abs().max() == 0
    assert norm.running_mean.item() == pytest.approx(0.9 * 0 + 0.1 * 4)
    assert norm.running_var.item() == pytest.approx(0.9 * 1 + 0.1 * 0)
    # In evaluation (x - mean) / sqrt(var + 1e-4), and a shift but no gain.
    assert [name for name, _ in norm.named_parameters()] == ["beta"]
    expected = (4.0 - 0.4) / math.sqrt(0.9 + 1e-4)
    assert norm.eval()(x).unique().tolist() == pytest.approx([expected])


def test_kept_half_is_doubled_after_its_norm_under_a_checkerboard_only() -> None:
    x = torch.full((1, 2, 2, 2), 3.0)
    for kept, factor in ((Parity.EVEN, 2.0), (None, 1.0)):
        treatment = InputTreatment(2, kept, concatenated_relu=True, mask_channel=False).eval()
        assert treatment(x).max().item() == pytest.approx(3 * factor, rel=1e-3)


def test_concatenated_relu_and_mask_channel() -> None:
    x = torch.tensor([[[[1.0, -2.0], [-3.0, 4.0]]]])
    treatment = InputTreatment(1, Parity.EVEN, concatenated_relu=True, mask_channel=True).eval()
    positive, negative, mask = (treatment(x)[0] / torch.tensor([2, 2, 1])[:, None, None]).round()
    assert positive.tolist() == [[1, 0], [0, 4]]
    assert negative.tolist() == [[0, 2], [3, 0]]
    assert mask.tolist() == [[1, 0], [0, 1]]
    # 2 c + 1 maps into a checkerboard net, twice the kept ones into a channel-wise net.
    checkerboard, channelwise = (
        [coupling.net.conv_in.v.shape[1] for coupling in of_type(official(), kind)]
        for kind in (CheckerboardCoupling, ChannelCoupling)
    )
    assert checkerboard == [2 * 3 + 1] * 3 + [2 * 6 + 1] * 4
    assert channelwise == [2 * 6] * 3


def test_learned_scales_are_scalars_that_start_at_0_and_1() -> None:
    for kind, start in ((CheckerboardCoupling, 0.0), (ChannelCoupling, 1.0)):
        for coupling in of_type(official(), kind):
            assert coupling.scale.numel() == 1
            assert coupling.scale.item() == start


def test_initial_magnitudes() -> None:
    """g starts at 1.2247 for 3x3 and at 0.4082 for 1x1, whatever the width."""
    for width in (4, 6):
        for conv in of_type(official(width=width), WeightNormConv2d):
            bound = math.sqrt(2 / conv.v.shape[1])
            assert conv.v.abs().max() <= bound
            assert conv.v.abs().max() > 0.5 * bound
            assert conv.bias is None or (conv.bias == 0).all()
            if conv.g is not None:
                start = {3: 1.2247, 1: 0.4082}[conv.v.shape[2]]
                assert torch.allclose(conv.g, torch.tensor(start), atol=5e-5)


def test_filters_have_unit_norm_where_there_is_no_magnitude() -> None:
    net = of_type(official(), CouplingNet)[0]
    block = of_type(net, ResidualBlock)[0]
    convs = [net.conv_in, net.skip_in, block.conv1, block.conv2, *net.skips, net.conv_out]
    assert [conv.g is not None for conv in convs] == [False, True, False, True, True, True]
    assert [conv.bias is not None for conv in convs] == [True, True, False, True, True, True]
    assert [conv.v.shape[2] for conv in convs] == [3, 1, 3, 3, 1, 1]
    for conv in convs:
        # The response to a unit impulse at each input channel is the (mirrored) filter itself.
        impulses = torch.zeros(conv.v.shape[1], conv.v.shape[1], 5, 5)
        impulses[range(len(impulses)), range(len(impulses)), 2, 2] = 1
        bias = 0 if conv.bias is None else conv.bias[:, None, None]
        norm = (conv(impulses) - bias).square().sum(dim=(0, 2, 3)).sqrt()
        expected = torch.ones_like(norm) if conv.g is None else conv.g
        assert torch.allclose(norm, expected, atol=1e-5)


def test_skips_read_the_first_convolution_and_every_block() -> None:
    """The output is made from the sum of the 1x1 skips alone, not from the trunk."""
    net = of_type(official(num_blocks=3), CouplingNet)[0]
    assert len(net.blocks) == len(net.skips) == 3
    for skip in (net.skip_in, *net.skips):
        nn.init.zeros_(skip.g)
    x = torch.randn(4, 3, 8, 8)
    assert torch.allclose(net(x), torch.zeros(1), atol=1e-6)


def test_widths_double_in_the_channel_couplings_and_at_each_scale() -> None:
    model = official((1, 16, 16), num_scales=3)
    widths = [
        [coupling.net.conv_in.v.shape[0] for coupling in of_type(scale, AffineCoupling)]
        for scale in model.flow.scales
    ]
    assert widths == [[4] * 3 + [8] * 3, [8] * 3 + [16] * 3, [16] * 4]


def test_l2_covers_magnitudes_and_checkerboard_scalars_but_not_channel_scalars(perturb) -> None:
    images = torch.full((2, 3, 8, 8), 99, dtype=torch.uint8)
    models = {"official": official(), "paper": paper()}
    for preset, model in models.items():
        perturb(model)
        named = dict(model.named_parameters())
        magnitudes = [p for name, p in named.items() if name.endswith(".g")]
        scalars = [p for name, p in named.items() if name.endswith(".scale")]
        if preset == "official":
            scalars = [p for name, p in named.items() if "checkerboard" in name and p.ndim == 3]
            assert len(scalars) == 7
        else:
            assert len(scalars) == 10
        by_hand = 5e-5 * sum(p.square().sum().item() for p in [*magnitudes, *scalars])
        assert model.weight_scale_penalty().item() == pytest.approx(by_hand, rel=1e-5)
        model.double().eval()
        loss = model.loss(images, torch.Generator().manual_seed(0))
        log_prob = model.log_prob(images, generator=torch.Generator().manual_seed(0))
        assert (loss + log_prob.mean()).item() == pytest.approx(by_hand, rel=1e-5)


def test_samples_are_shown_without_undoing_the_data_constraint() -> None:
    """Black comes out as 12 and white as 242: 0.05 and 0.95 of 255, truncated."""
    pixels = torch.tensor([0, 255], dtype=torch.uint8).repeat(2, 3, 8, 4)
    for model, expected in ((official().eval(), {12, 13, 241, 242}), (paper().eval(), {0, 255})):
        shown = model.decode(model.encode(pixels, torch.Generator().manual_seed(0)))
        assert set(shown.unique().tolist()) <= expected


def test_sampling_takes_the_statistics_of_the_sample_inside_the_nets(lived) -> None:
    """As the code's sampling does; the norms of the couplings' outputs stay as they are."""
    model = lived(RealNVPConfig.official((1, 8, 8), num_blocks=0, width=4))
    kept = {name: value.clone() for name, value in model.state_dict().items()}

    def drawn(n: int) -> Tensor:
        return model.sample(n, generator=torch.Generator().manual_seed(0))[:1]

    assert not torch.equal(drawn(2), drawn(20))  # an image depends on those drawn beside it
    after = model.state_dict()
    assert not model.training
    assert all(torch.equal(kept[name], after[name]) for name in kept)
    plain = lived(RealNVPConfig.paper((1, 8, 8), num_blocks=0, width=4))
    alone, beside = (plain.sample(n, generator=torch.Generator().manual_seed(0)) for n in (2, 20))
    assert torch.equal(alone, beside[:2])


def test_inverse_normalises_by_running_averages_even_in_training() -> None:
    coupling = of_type(official(), CheckerboardCoupling)[0].train()
    coupling.norm.running_mean.fill_(0.5)
    coupling.norm.running_var.fill_(4.0)
    z = torch.randn(8, 3, 8, 8)  # s = 0 at the start, and t is taken away from what the norm gives
    x, log_det = coupling.inverse(z)
    b = coupling.mask(z)
    t, _ = coupling.shift_and_log_scale(z, b)
    assert torch.allclose(x, torch.where(b, z, 2.000025 * z + 0.5 - t), atol=1e-4)
    assert torch.allclose(log_det, torch.tensor(96 * math.log(2)), atol=0.01)
    assert torch.equal(coupling.norm.running_mean, torch.full((3,), 0.5))


def count(config: RealNVPConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in RealNVP(config).parameters())


def test_parameter_counts() -> None:
    """Cf. our counts in the ledger of differences; the paper gives none."""
    assert count(RealNVPConfig.official((3, 32, 32))) == 19_609_545
    imagenet = RealNVPConfig.official((3, 32, 32), num_scales=4, num_blocks=4, width=32)
    assert count(imagenet) == 46_220_359
    big = RealNVPConfig.official((1, 28, 28), num_scales=2, num_blocks=8, width=64)
    assert round(count(big) / 1e6, 1) == 19.5
    small = RealNVPConfig.official((1, 28, 28), num_scales=3, num_blocks=4, width=32)
    assert round(count(small) / 1e6, 1) == 11.1


def test_64x64_has_four_blocks_where_the_paper_has_two() -> None:
    by_code, by_paper = RealNVPConfig.official((3, 64, 64)), RealNVPConfig.paper((3, 64, 64))
    assert (by_code.num_scales, by_code.num_blocks, by_code.width) == (5, 4, 32)
    assert (by_paper.num_scales, by_paper.num_blocks, by_paper.width) == (5, 2, 32)
    assert round(count(by_code) / 1e6, 1) == 185.9
    assert round(count(by_paper) / 1e6, 1) == 96.4
