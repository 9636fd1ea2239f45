"""The parts of the flow by themselves: masks, logit, priors, batch norm."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, SigmoidTransform, TransformedDistribution, Uniform

from nvp.flows.batchnorm import EPSILON, CouplingBatchNorm, NormScope
from nvp.flows.coupling import AffineOrder, ChannelCoupling
from nvp.flows.masks import Half, Parity, channel_mask, checkerboard_mask
from nvp.flows.preprocess import Logit, LogitForm
from nvp.flows.prior import PriorName
from nvp.flows.squeeze import SqueezeOrder, squeeze, unsqueeze
from nvp.flows.toy import ToyData
from nvp.model.dequantisation import dequantise, uniform_noise
from nvp.testing import check_bijection


def test_a_word_means_what_the_name_of_an_option_means() -> None:
    """A configuration takes both, and a copy of one (`model_copy`) keeps a word as it is."""
    x, b, net = torch.rand(1, 4, 2, 2), checkerboard_mask(2, 2), nn.Conv2d(2, 4, 1)
    settings = {"momentum": 0.1, "running_average": False}
    for words, use in (
        (Parity, lambda word: checkerboard_mask(2, 2, word)),
        (Half, lambda word: channel_mask(4, word)),
        (LogitForm, lambda word: Logit(word)(x)[0]),
        (SqueezeOrder, lambda word: squeeze(x, word)),
        (SqueezeOrder, lambda word: unsqueeze(x, word)),
        (NormScope, lambda w: CouplingBatchNorm(4, w, **settings)(x, b)[0]),
        (AffineOrder, lambda w: ChannelCoupling(Half.FIRST, net, scale_init=1, order=w)(x)[0]),
    ):
        assert all(torch.equal(use(word), use(str(word))) for word in words)
        with pytest.raises(ValueError, match=f"'other' is not a valid {words.__name__}"):
            use("other")


@pytest.mark.parametrize("form", LogitForm)
def test_logit_derivative_and_inverse(form: LogitForm) -> None:
    x = torch.rand(3, 1, 4, 4, dtype=torch.float64)
    check_bijection(Logit(form, 0.1), x)
    k = 2 if form is LogitForm.SYMMETRIC else 1
    assert torch.allclose(Logit(form, 0.1)(x)[0], torch.logit(0.1 + (1 - 0.1 * k) * x))


@pytest.mark.parametrize("form", LogitForm)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logit_is_finite_at_black_and_white(form: LogitForm, dtype: torch.dtype) -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2)
    most = 1 - torch.finfo(dtype).eps / 2  # the largest number below 1
    for noise in (0.0, 0.5, most):
        y, log_det = Logit(form)(dequantise(pixels, torch.full(pixels.shape, noise, dtype=dtype)))
        assert torch.isfinite(y).all()
        assert torch.isfinite(log_det).all()
        if form is LogitForm.SYMMETRIC:
            assert y.abs().max() < 2.9445  # logit(0.95)


def test_dequantisation_stays_in_its_bin() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).expand(50, 256)
    noise = uniform_noise(pixels.shape, torch.Generator().manual_seed(0), torch.float64)
    assert torch.equal((256 * dequantise(pixels, noise)).floor(), pixels.double())
    assert 0.48 < noise.mean() < 0.52


LOGISTIC = TransformedDistribution(Uniform(0.0, 1.0), SigmoidTransform().inv, validate_args=False)
# Of one dimension, and its entropy.
REFERENCES = {
    PriorName.GAUSSIAN: (Normal(0.0, 1.0), 0.5 * math.log(2 * math.pi * math.e)),
    PriorName.LOGISTIC: (LOGISTIC, 2.0),
}


@pytest.mark.parametrize("name", PriorName)
def test_a_prior_scores_as_pytorch_does_and_draws_so(name: PriorName, monkeypatch) -> None:
    prior, (reference, entropy) = name.build(), REFERENCES[name]
    z = torch.linspace(-25, 25, 90, dtype=torch.float64).view(5, 2, 3, 3)
    assert torch.allclose(prior.log_prob(z), reference.log_prob(z).sum(dim=(1, 2, 3)), rtol=1e-6)
    drawn = prior.sample((100, 1, 10, 10), torch.Generator().manual_seed(0))
    assert -prior.log_prob(drawn).mean().item() / 100 == pytest.approx(entropy, abs=0.03)
    assert abs(drawn.mean().item()) < 0.05
    monkeypatch.setattr("nvp.flows.prior.uniform_noise", lambda size, *_: torch.zeros(size))
    assert prior.sample((2, 1)).isfinite().all()


@pytest.mark.usefixtures("double")
def test_draws_are_float32_whatever_the_default_is() -> None:
    for prior in PriorName:
        assert prior.build().sample((1, 1, 2, 2)).dtype == torch.float32
    assert all(data.sample(3).dtype == torch.float32 for data in ToyData)


def norm_and_input(scope: NormScope) -> tuple[CouplingBatchNorm, Tensor, Tensor]:
    norm = CouplingBatchNorm(2, scope, momentum=0.25, running_average=False).double()
    x = 3 * torch.randn(6, 2, 4, 4, dtype=torch.float64) + 1
    return norm, x, checkerboard_mask(4, 4)


@pytest.mark.parametrize("scope", NormScope)
@pytest.mark.parametrize("running_average", [False, True])
def test_norm_of_a_batch(scope: NormScope, running_average: bool) -> None:
    """Eq 17: each of the scalars that move counts. The official code's moments count zeros too.

    In the form of appendix E it normalises with rho times the old averages + (1 - rho) times this
    batch's moments.
    """
    norm, x, b = norm_and_input(scope)
    norm.running_average = running_average
    assert norm.running_mean.tolist() == [0, 0]
    assert norm.running_var.tolist() == [1, 1]
    norm(x + 5, b)
    old_mean, old_var = norm.running_mean, norm.running_var
    z, log_det = norm(x.requires_grad_(), b)
    by_channel = (x * ~b if scope is NormScope.OFFICIAL else x).movedim(1, 0).flatten(2)
    if scope is NormScope.TRANSFORMED:
        by_channel = by_channel[:, :, ~b.flatten()]
    mean, var = by_channel.mean(dim=(1, 2)), by_channel.var(dim=(1, 2), correction=0)
    next_mean, next_var = 0.75 * old_mean + 0.25 * mean, 0.75 * old_var + 0.25 * var
    assert torch.allclose(norm.running_mean, next_mean)
    assert torch.allclose(norm.running_var, next_var)
    assert not norm.running_mean.requires_grad
    if running_average:
        mean, var = next_mean, next_var
    normalised = (x - mean[:, None, None]) / (var + EPSILON).sqrt()[:, None, None]
    moved = torch.ones_like(b) if scope is NormScope.WHOLE else ~b
    by_hand = torch.where(moved, normalised, x)
    assert torch.allclose(z, by_hand)
    expected = -0.5 * moved.sum() * torch.log(var + EPSILON).sum()
    assert torch.allclose(log_det, expected.expand(6))
    # Gradients flow through the moments of the batch, with the averages of before held constant.
    totals = ((z**3).sum() + log_det.sum(), (by_hand**3).sum() + 6 * expected)
    slopes = (torch.autograd.grad(total, x, retain_graph=True)[0] for total in totals)
    assert torch.allclose(*slopes)


@pytest.mark.parametrize("scope", NormScope)
def test_the_inverse_of_a_norm_uses_running_averages_in_training_too(scope: NormScope) -> None:
    norm, x, b = norm_and_input(scope)
    norm(x, b)
    z, log_det = norm.eval()(x, b)
    back, log_det_back = norm.train().inverse(z, b)
    assert (back - x).abs().max() < 1e-12
    assert (log_det + log_det_back).abs().max() < 1e-9
