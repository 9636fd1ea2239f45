"""Nats, bits per dimension, and the scoring of a data set."""

import math
from contextlib import nullcontext
from operator import attrgetter
from typing import Any

import pytest
import torch
from pixels import generator, lived, noise, small_flow
from tiny import refusal
from torch import Tensor, nn

from nvp import likelihood
from nvp.flows.bijection import Composition
from nvp.likelihood import bits_per_dim, evaluate, reestimate_statistics, score_images
from nvp.model.autocast import ROUNDING, full_float32
from nvp.model.protocol import ImageModel, batch_norms, batch_statistics, use_channels_last
from nvp.runs.sheet import draw


class PerPixel(ImageModel):
    """Each pixel is uniform, and some images are impossible: a model whose scores are known."""

    image_shape = (1, 2, 2)
    likelihood = "exact"
    sample = None  # it is only scored

    def _log_probs(self, images, num_draws, generator, y):
        nats = -8 * math.log(2) * torch.ones(images.shape).sum(dim=(1, 2, 3))
        yield torch.where(images[:, 0, 0, 0] == 0, -math.inf, nats)


def test_the_constant_of_bits_per_dim() -> None:
    nats = torch.tensor([-8 * math.log(2) * 12, -12.0, 0.0])
    bits = bits_per_dim(nats, (3, 2, 2))
    assert bits.dtype == torch.float64
    assert bits.tolist() == pytest.approx([8, 1 / math.log(2), 0])
    with pytest.raises(ValueError, match="too many values"):
        bits_per_dim(nats, (3, 3, 2, 2))  # the shape of a batch


def test_noise_costs_8_21_bits_under_the_identity() -> None:
    model = small_flow()
    model.flow = Composition([])
    score = evaluate(model, noise(500))
    assert score.bits_per_dim == pytest.approx(8.21, abs=0.01)
    assert score.standard_error < 0.005


def test_a_score_follows_from_its_seed_and_its_draws() -> None:
    model, images = small_flow(), noise(30)
    asked = ((1, 1), (1, 1), (2, 1), (1, 20))  # seeds, and numbers of draws
    one, again, other, many = (evaluate(model, images, seed=s, num_draws=n) for s, n in asked)
    assert one == again != other
    assert many.bits_per_dim < one.bits_per_dim
    assert (one.num_draws, many.num_draws) == (1, 20)
    assert one == evaluate(model.eval(), images, seed=1)  # it was in training mode before
    first, second = score_images(model, images.repeat(2, 1, 1, 1), batch_size=30).split(30)
    assert not torch.equal(first, second)  # each batch has noise of its own


def test_score_and_its_standard_error() -> None:
    scores = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    score = likelihood.summarise(scores, num_draws=2)
    assert (score.bits_per_dim, score.num_images, score.num_draws) == (3.0, 4, 2)
    # Deviations -2, -1, 0, 3: variance 14 / 3 over n - 1, divided by n.
    assert score.standard_error == pytest.approx(math.sqrt(14 / 3 / 4))
    assert str(score) == "3.0000 ± 1.0801 bits/dim"
    assert math.isnan(likelihood.summarise(scores[:1], num_draws=1).standard_error)


def test_scores_and_latents_are_of_full_float32() -> None:
    """Whatever a program allows; afterwards it allows the same."""
    parts = attrgetter(*ROUNDING)(torch.backends)
    allowed = ["tf32", "ieee", "tf32", "bf16", "none", "bf16"]
    model, seen = small_flow().eval(), []
    net = model.flow.scales[0].checkerboard.bijections[0].net
    net.register_forward_hook(lambda *_: seen.append([p.fp32_precision for p in parts]))
    with full_float32():  # whose end undoes what is set here
        for part, precision in zip(parts, allowed, strict=True):
            part.fp32_precision = precision
        before = [part.fp32_precision for part in parts]
        score_images(model, noise(2))
        model.decode(model.encode(noise(2)))
        with refusal():  # an error leaves them as they were, too
            score_images(model, None)
        assert [part.fp32_precision for part in parts] == before
    assert seen == 3 * [["ieee"] * len(parts)]


def test_what_is_scored_is_a_tensor_of_some_images() -> None:
    model, images = small_flow(), noise(4)
    for score in (evaluate, reestimate_statistics):
        with refusal("batch_size must be at least 1, got -1"):
            score(model, images, batch_size=-1)
        with refusal("the number of images must be at least 1, got 0"):
            score(model, images[:0])
        for other in (images.numpy(), list(images), (images, images), None):
            got = type(other).__name__
            with refusal(rf"images must be a torch.Tensor or, .* got {got}"):
                score(model, other)
    with refusal("number must be at least 1, got 0"):
        draw(model, 0)


def test_half_precision_seeds_and_lost_weights_are_refused() -> None:
    model = small_flow()
    with refusal("generator must be a torch.Generator, got int: pass"):
        model.sample(1, generator=0)
    with refusal("bfloat16, too coarse"):
        small_flow().bfloat16().encode(noise(2))
    next(model.parameters()).data.fill_(math.nan)
    with refusal("a weight of the model is not finite"):
        draw(model, 1)


def test_a_callers_autocast_changes_no_score() -> None:
    model, images = small_flow().eval(), noise(20)
    reestimate_statistics(model, images)
    expected = score_images(model, images)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.log_prob(images, generator=generator())
        assert not torch.equal(bits_per_dim(half.detach(), model.image_shape), expected)
        assert torch.equal(score_images(model, images), expected)
        reestimate_statistics(model, images)
    assert torch.equal(score_images(model, images), expected)
    with torch.autocast("mps", torch.bfloat16), full_float32():
        assert not torch.is_autocast_enabled("mps")


def test_only_running_statistics_make_a_batch_norm() -> None:
    model = nn.Sequential(nn.Identity(), nn.BatchNorm2d(1), nn.InstanceNorm2d(1)).eval()
    model[0].momentum = 0.5  # as a codebook has one
    assert batch_norms(model) == [model[1]]
    with batch_statistics(model):
        assert (model[0].momentum, model[0].training) == (0.5, False)
        assert (model[1].momentum, model[1].training) == (0.0, True)


def test_a_model_must_give_one_number_for_each_image(monkeypatch) -> None:
    for given in (None, [], [None], [torch.ones(())], [torch.ones(3)], [torch.ones(4, 1)]):
        monkeypatch.setattr(PerPixel, "_log_probs", lambda *_, given=given: given)
        with refusal(r"PerPixel\._log_probs must yield tensors \(4,\)"):
            evaluate(PerPixel(), noise(4, 1, 2, 2))
    monkeypatch.setattr(PerPixel, "log_prob", lambda *_, **__: torch.zeros(3))
    with refusal(r"PerPixel\.log_prob gave \(3,\) scores for 4 images"):
        evaluate(PerPixel(), noise(4, 1, 2, 2))


def test_scoring_reports_progress_and_leaves_no_gradient() -> None:
    model, done = small_flow().eval(), []
    for work in (score_images, reestimate_statistics):
        work(model, noise(25), batch_size=10, progress=done.append)
    assert done == 2 * [10, 20, 25]
    assert not score_images(model, noise(3)).requires_grad


@pytest.mark.parametrize("work", [evaluate, reestimate_statistics])
@pytest.mark.parametrize("stopped", [False, True])
def test_modes_and_momenta_are_restored_even_after_an_interrupt(work, stopped, monkeypatch) -> None:
    model, batches = small_flow(), []
    model.flow.scales[0].eval()  # a part may be frozen
    modes = [module.training for module in model.modules()]
    averages, log_prob = [average.clone() for average in model.buffers()], model.log_prob

    def interrupted(images: Tensor, **keywords: Any) -> Tensor:
        batches.append(images)
        if stopped and len(batches) == 2:
            raise KeyboardInterrupt
        return log_prob(images, **keywords)

    monkeypatch.setattr(model, "log_prob", interrupted)
    with pytest.raises(KeyboardInterrupt) if stopped else nullcontext():
        work(model, noise(30), batch_size=10)
    assert [module.training for module in model.modules()] == modes
    assert {norm.momentum for norm in batch_norms(model)} == {0.1}
    assert not stopped or all(map(torch.equal, averages, model.buffers()))


def test_images_without_a_likelihood_are_an_error() -> None:
    images = noise(6, 1, 2, 2) | 1
    assert evaluate(PerPixel(), images).bits_per_dim == pytest.approx(8)
    images[:2] = 0
    with refusal("2 of 6 images have no finite likelihood: the weights"):
        evaluate(PerPixel(), images)


def test_channels_last_leaves_other_ranks_alone() -> None:
    model = small_flow()
    model.other = nn.Parameter(torch.zeros(2, 3, 4, 5, 6))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    use_channels_last(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_reestimated_statistics_are_means_over_images() -> None:
    """Of the first norm of the flow and of the first inside a net, by hand; the last is short."""
    model, images = small_flow(), noise(40)
    nn.init.ones_(model.flow.scales[0].checkerboard.bijections[0].scale)
    coupling = model.flow.scales[0].checkerboard.bijections[0]
    inner = coupling.net.treatment.norm
    by_hand, draw_noise = torch.zeros(2, 2, 3), generator()
    with torch.no_grad():
        for batch in images.split(16):
            u = torch.rand(batch.shape, generator=draw_noise)
            y, _ = model.logit((batch + u) / 256)
            b = coupling.mask(y)
            model.train()
            t, s = coupling.shift_and_log_scale(y, b)
            for i, x in enumerate((y * b, y * s.exp() + t)):
                moments = torch.var_mean(x, (0, 2, 3), correction=1 - i)
                by_hand[i] += len(batch) / 40 * torch.stack(moments)
    model.eval()
    for norm in batch_norms(model):
        for before in (norm.running_mean, norm.running_var):
            before.fill_(math.inf)  # does not count
    reestimate_statistics(model, images, batch_size=16)
    for norm, (variance, mean) in zip((inner, coupling.norm), by_hand, strict=True):
        assert torch.allclose(norm.running_mean, mean, atol=1e-4)
        assert torch.allclose(norm.running_var, variance, rtol=1e-4)


def test_no_image_is_a_batch_of_its_own() -> None:
    """At a last scale of one pixel its norm would have no variance."""
    model = small_flow(image_shape=(1, 2, 2), num_scales=2, num_blocks=0, width=2)
    images = noise(7, 1, 2, 2)
    reestimate_statistics(model, images, batch_size=3)
    assert all(torch.isfinite(norm.running_mean).all() for norm in batch_norms(model))
    with batch_statistics(model):
        assert len(score_images(model, images, batch_size=3)) == 7
    counts = [[part.stop - part.start for part in likelihood.batches(n, 3)] for n in range(1, 8)]
    assert counts == [[1], [2], [3], [4], [3, 2], [3, 3], [3, 4]]


@pytest.mark.parametrize("running_average", [False, True])
def test_batch_statistics_learn_nothing(running_average: bool) -> None:
    model = lived(small_flow(norm_running_average=running_average).config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    moved = noise(20) // 4  # darker than what the statistics were taken from
    outside = evaluate(model, moved).bits_per_dim
    coupling = model.flow.scales[0].checkerboard.bijections[0]
    x = torch.randn(50, 3, 8, 8, dtype=torch.float64)
    with batch_statistics(model):
        assert all(norm.training for norm in batch_norms(model))
        assert not model.training  # nor is anything else, such as dropout
        inside = score_images(model, moved).mean().item()
        y = coupling(x)[0]  # normalised by its own moments, in the form of appendix E too
    assert y.mean(dim=(0, 2, 3)).abs().max() < 1e-9
    assert (y.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3
    assert abs(inside - outside) > 0.01
    with refusal():  # an error does not leave the model changed either
        reestimate_statistics(model, moved.float())
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_model_can_go_on_after_inference_mode() -> None:
    model = small_flow()
    with torch.inference_mode():
        reestimate_statistics(model, noise(8))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    reestimate_statistics(model, noise(8, seed=1))
    model.load_state_dict(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
