"""Real NVP given y: exact for every y, changed by it, and clear about labels that do not fit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pixels import generator, lived, noise
from tiny import refusal
from torch import Tensor

from nvp import RealNVP, RealNVPConfig
from nvp.flows.masks import Parity
from nvp.flows.resnet import InputTreatment
from nvp.model.labels import Labelled, check_labels
from nvp.runs.sheet import write_samples
from nvp.testing import check_bijection

SMALL: dict[str, Any] = {"num_blocks": 1, "width": 4, "num_classes": 3}
CONFIGS = [
    RealNVPConfig.paper((1, 4, 4), **SMALL),
    RealNVPConfig.paper((2, 4, 4), concatenated_relu=False, mask_channel=False, **SMALL),
    RealNVPConfig.official((3, 4, 4), **SMALL),
]
CLASSES = torch.tensor([0, 1, 2, 1])
ATTRIBUTES = torch.randn(4, 3, dtype=torch.float64, generator=generator())


@pytest.fixture(scope="module")
def model() -> RealNVP:
    """Conditional on three classes, 8x8 images, float64, far from its first values."""
    return lived(RealNVPConfig.paper((1, 8, 8), **SMALL))


@pytest.mark.parametrize("config", CONFIGS)
def test_exact_for_each_y(config: RealNVPConfig) -> None:
    flow = lived(config).flow
    x = 1.5 * torch.randn(2, *config.image_shape, dtype=torch.float64)
    check_bijection(flow, x, ATTRIBUTES[1:3])  # each point with a y of its own


@pytest.mark.parametrize("config", CONFIGS)
def test_a_class_is_its_one_hot_vector(config: RealNVPConfig) -> None:
    model, images = lived(config), noise(4, *config.image_shape)
    one_hot = torch.eye(3, dtype=torch.float64)[CLASSES]
    classes, vectors, others = (
        model.log_prob(images, generator=generator(), labels=labels)
        for labels in (CLASSES.byte(), one_hot, (CLASSES + 1) % 3)
    )
    assert torch.equal(vectors, classes)
    assert (others - classes).abs().min() > 1e-3


@pytest.mark.parametrize("config", CONFIGS)
def test_gradients_reach_each_channel_that_carries_y(config: RealNVPConfig) -> None:
    model = lived(config)
    model.loss(noise(4, *config.image_shape), generator(), labels=CLASSES).backward()
    first = [p for name, p in model.named_parameters() if name.endswith("conv_in.v")]
    assert len(first) == 10
    for v in first:
        assert (v.grad[:, -3:].abs().amax(dim=(0, 2, 3)) > 1e-9).all()


def test_attributes_change_and_images_come_back(model: RealNVP) -> None:
    """Appendix F: encode with y; y gives the image back, y' another one from the same z."""
    images = noise(4, 1, 8, 8)
    z = model.encode(images, generator(), labels=CLASSES)
    assert torch.equal(model.decode(z, labels=CLASSES), images)
    others = (CLASSES + 1) % 3
    changed = model.decode(z, labels=others)
    assert ((changed != images).sum(dim=(1, 2, 3)) > 8).all()
    # The change can be undone: z is that of the changed image under y'.
    y = torch.eye(3, dtype=torch.float64)
    x = model.flow.inverse(z, y[others])[0]
    assert torch.allclose(model.flow(x, y[others])[0], z, atol=1e-9)
    assert torch.equal(model.decode(z, labels=y[CLASSES]), images)


def test_negative_attributes_pass_the_rectifier() -> None:
    choices = {"concatenated_relu": True, "mask_channel": True, "num_classes": 3}
    treatment = InputTreatment(1, Parity.ODD, **choices)
    h = treatment.eval()(torch.randn(4, 1, 2, 5), ATTRIBUTES.float())
    assert h.shape == (4, treatment.out_channels, 2, 5)
    assert (h[:, -3:] == ATTRIBUTES.float()[:, :, None, None]).all()


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (None, r"conditional: pass labels, integers \(N,\) in 0..2 or vectors \(N, 3\)"),
        ([0, 1, 2, 2], "labels must be a torch.Tensor, got list"),
        (CLASSES[:3], r"labels are \(3,\) for 4 images"),
        (torch.tensor([0, 1, 3, 2]), "labels must be in 0..2, there is a 3"),
        (torch.tensor([0, -1, 1, 2]), "labels must be in 0..2, there is a -1"),
        (torch.zeros(4), r"integers \(N,\) or vectors \(N, 3\), got torch.float32 \(4,\)"),
        (torch.zeros(4, 2).long(), r"got torch.int64 \(4, 2\)"),
        (CLASSES > 0, r"got torch.bool \(4,\)"),
        (torch.full((4, 3), torch.nan), "a label is not finite"),
    ],
)
def test_labels_that_do_not_fit(labels: Tensor | None, match: str, model: RealNVP) -> None:
    images, z = noise(4, 1, 8, 8), torch.zeros(4, 1, 8, 8)
    takes = {"log_prob": images, "loss": images, "encode": images, "decode": z, "sample": 4}
    for method, given in takes.items():
        with refusal(match):
            getattr(model, method)(given, labels=labels)


def test_each_image_has_one_label_and_a_byte_is_one_of_any_number_of_classes() -> None:
    check_labels(torch.tensor([0, 255], dtype=torch.uint8), 2, 300)
    with refusal("labels hold 4 for 3 images"):
        Labelled(noise(3, 1, 8, 8), CLASSES)
    with refusal("labels must be a torch.Tensor, got list"):
        Labelled(noise(4, 1, 8, 8), CLASSES.tolist())


def test_labels_for_a_model_that_takes_none(tmp_path: Path) -> None:
    model = lived(RealNVPConfig.paper((1, 8, 8), num_blocks=1, width=4))
    with refusal("takes no labels: leave --label out"):
        write_samples(model, tmp_path / "sheet.png", 4, label=1)
