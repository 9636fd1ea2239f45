"""Which images a run trains on, and which it is validated with."""

from dataclasses import dataclass
from pathlib import Path

import torch

from nvp.config import RunConfig
from nvp.data.formats import NoValidationSplit
from nvp.data.sets import Dataset, load
from nvp.errors import NVPError
from nvp.model.labels import Examples, Labelled, check_labels
from nvp.model.protocol import check_levels

BLOCK_IMAGES = 10_000


def load_split(
    config: RunConfig, split: str, data_root: str | Path | None = None, limit: int | None = None
) -> Dataset:
    """A split of the data set of `config`, with its `data.crop`; the first `limit` images.

    Of "train" they are those within `data.limit`.
    """
    limits = [limit, config.data.limit if split == "train" else None]
    number = min((each for each in limits if each is not None), default=None)
    return load(config.data.name, split, root=data_root, limit=number, crop=config.data.crop)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The training images of a run: all, those that it trains on, and those that validate it."""

    name: str
    checksum: str  # `nvp.data.on_disk.fingerprint` of all
    labels_checksum: str | None  # that of their labels, of a conditional model
    whole: Examples
    images: Examples
    validation: Examples

    def check(self, checksum: str, labels_checksum: str | None, trained: Path) -> None:
        """Raise `NVPError` unless images and labels have these checksums, noted by `trained`.

        A run that noted no checksum of labels (None) takes any labels.
        """
        labels_differ = labels_checksum not in (None, self.labels_checksum)
        if self.checksum != checksum or labels_differ:
            what = "labels" if self.checksum == checksum else "images"
            raise NVPError(
                f"the training {what} of {self.name} found here are not those of {trained}: "
                "point --data-root at the set it was trained on"
            )


def training_data(config: RunConfig, data_root: str | Path | None = None) -> TrainingData:
    """The training images of a configuration, checked, and those for validation by `hold_out`."""
    data = load_split(config, "train", data_root)
    whole = examples(config, data)
    labels = data.labels_checksum if config.model.num_classes else None
    held_out = hold_out(whole, config, data_root)
    return TrainingData(data.name, data.checksum, labels, whole, *held_out)


def examples(config: RunConfig, data: Dataset) -> Examples:
    """The images of `data`, and with them their labels if the model is conditional.

    Raises `NVPError` when the model was not made for them: their shape, levels or labels.
    """
    model, name = config.model, config.data.name
    if data.image_shape != tuple(model.image_shape):
        raise NVPError(
            f"model.image_shape is {list(model.image_shape)} but {name} holds "
            f"{list(data.image_shape)} {data.split} images: change one of the two in the "
            "configuration"
        )
    if model.levels > 2 and int(data.images[:100].to("cpu").max()) == 1:
        raise NVPError(
            f"{name} holds images of two levels, and model.levels is {model.levels}: take a model "
            "of two levels, such as a Pixel RNN with model.levels 2"
        )
    blocks = range(0, len(data), BLOCK_IMAGES) if model.levels < 256 else ()
    for start in blocks:  # not all of a large set at once
        check_levels(data.images[start : start + BLOCK_IMAGES].to("cpu"), model.levels)
    if model.num_classes == 0:
        return data.images
    if data.labels is None:
        raise NVPError(
            f"{name} has no {data.split} labels, and model.num_classes = {model.num_classes} needs "
            "them: add them (data/README.md says how), or set model.num_classes to 0"
        )
    try:
        check_labels(data.labels, len(data), model.num_classes)
    except NVPError as error:
        raise NVPError(f"{name}, {data.split}: {error}") from error
    return Labelled(data.images, data.labels)


def scored(config: RunConfig, data: Dataset) -> Examples:
    """`examples`, for images to score. Raises `NVPError` also for fewer than two."""
    if len(data) < 2:
        raise NVPError(
            f"{config.data.name} has one {data.split} image, whose score has no standard error: "
            "add images"
        )
    return examples(config, data)


def hold_out(
    images: Examples, config: RunConfig, data_root: str | Path | None = None
) -> tuple[Examples, Examples]:
    """The images to train on, and those for validation.

    The images for validation are the whole validation split, if the data set has one. Else they are
    the last of the training `images`: `evaluation.validation_images` of them, but at most a tenth,
    and at least two, since a standard error needs two. Raises `NVPError` for a split of one image,
    and where fewer than two are left to train on.
    """
    try:
        validation = load_split(config, "validation", data_root)
    except NoValidationSplit:
        wanted = config.evaluation.validation_images
        border = len(images) - max(2, min(wanted, len(images) // 10))
        kept, held_out = images[:border], images[border:]
    else:
        kept, held_out = images, scored(config, validation)
    if len(kept) < 2:
        more = "add images" if config.data.limit is None else "raise data.limit or add images"
        raise NVPError(
            f"of {len(images)} training images of {config.data.name} {len(kept)} are left to train "
            f"on beside those for validation, and a batch needs 2: {more}"
        )
    return kept, held_out


def spread(images: Examples, number: int) -> Examples:
    """At most `number` of the images, evenly spread: files may be sorted by class."""
    number = min(number, len(images))
    return images[torch.arange(number) * len(images) // number]


def shuffled(images: Examples, number: int) -> Examples:
    """At most `number` of the images, always the same ones, in a fixed random order.

    Batch norms take their statistics from these images: batches of a single class would bias them.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order[:number]]
