"""The condition y of a conditional model: the class of an image, or a vector of attributes.

Labels are (N,) integers in 0..K-1, or (N, K) real numbers, K being the model's `num_classes`. A
loop slices, counts and moves images with labels like images alone, and takes the two apart by
`images_and_labels`. Labels are attached only if the model is conditional.
"""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from nvp.errors import NVPError


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images, (N, C, H, W), and a label for each, (N,) or (N, K)."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        for what, given in vars(self).items():
            if not hasattr(given, "to"):  # an array of NumPy, or a list
                raise NVPError(f"{what} must be a torch.Tensor, got {type(given).__name__}")
        if len(self.images) != len(self.labels):
            raise NVPError(
                f"labels hold {len(self.labels)} for {len(self.images)} images: pass one for each"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: slice | Tensor) -> "Labelled":
        return Labelled(self.images[which], self.labels[which])

    def to(self, device: torch.device) -> "Labelled":
        """The same on a device."""
        return Labelled(self.images.to(device), self.labels.to(device))


Examples: TypeAlias = Tensor | Labelled


def images_and_labels(examples: Examples) -> tuple[Tensor, Tensor | None]:
    """The images, and their labels if they have any."""
    if isinstance(examples, Labelled):
        return examples.images, examples.labels
    return examples, None


def check_labels(labels: Tensor | None, number: int, num_classes: int) -> None:
    """Raise `NVPError` for labels that a model of `num_classes` cannot take for `number` images."""
    if num_classes == 0:
        if labels is not None:
            raise NVPError("this model takes no labels: leave them out, or use one with classes")
        return
    if labels is None:
        raise NVPError(
            f"this model is conditional: pass labels, integers (N,) in 0..{num_classes - 1} or "
            f"vectors (N, {num_classes}); `evaluate` and `score_images` take them as "
            "nvp.model.labels.Labelled(images, labels)"
        )
    if not isinstance(labels, Tensor):
        raise NVPError(f"labels must be a torch.Tensor, got {type(labels).__name__}")
    if labels.shape[:1] != (number,):
        raise NVPError(f"labels are {tuple(labels.shape)} for {number} images: pass one for each")
    if labels.shape[1:] == (num_classes,):
        if not labels.isfinite().all():
            raise NVPError("a label is not finite: fix the vectors, or leave their images out")
        return
    if labels.ndim != 1 or labels.is_floating_point() or labels.dtype is torch.bool:
        raise NVPError(
            f"labels must be integers (N,) or vectors (N, {num_classes}), got {labels.dtype} "
            f"{tuple(labels.shape)}: the model has model.num_classes = {num_classes}"
        )
    labels = labels.long()  # a byte cannot be compared with every number of classes
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        raise NVPError(
            f"labels must be in 0..{num_classes - 1}, there is a {int(labels[outside][0])}: "
            "use the data's own classes, or a larger model.num_classes"
        )
