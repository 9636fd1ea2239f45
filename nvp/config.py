"""Typed configurations, read from `configs/*.yaml`. Unknown keys are refused.

`model.family` chooses the model: one of `FAMILIES`, or one of your own (`nvp.model.custom`).
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializeAsAny,
    Tag,
    ValidationError,
    model_validator,
)

from nvp.autoregressive.config import MultiScaleConfig, PixelRNNConfig
from nvp.autoregressive.multiscale import MultiScalePixelRNN
from nvp.autoregressive.pixelrnn import PixelRNN
from nvp.baselines.gan import GAN, GANConfig
from nvp.baselines.gaussian import Gaussian, GaussianConfig
from nvp.baselines.vae import VAE, VAEConfig
from nvp.errors import NVPError
from nvp.flows.config import Preset, RealNVPConfig, preset_fields
from nvp.flows.realnvp import RealNVP
from nvp.model.custom import OwnConfig, is_path, own_config
from nvp.model.protocol import ImageModel


class DataConfig(BaseModel):
    """Which images, and what training does to them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    flips: bool = False  # horizontal, in training: CIFAR-10, CelebA, LSUN (section 4.1)
    crop: int | None = Field(None, ge=1)  # side of a random square in training, else of the centre
    limit: int | None = Field(None, ge=1)  # use only the first so many training images


class Precision(StrEnum):
    """What the networks compute in during training; log-dets and sums are float32 always.

    AUTO times a convolution both ways on the machine at hand and takes the faster.
    """

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


class Optimiser(StrEnum):
    """The rule that turns gradients into steps."""

    ADAM = "adam"  # Real NVP
    RMSPROP = "rmsprop"  # Pixel RNN, which gives none of its constants
    MUON = "muon"  # of neither paper: the kernels by orthogonal steps, the rest by Adam


LARGEST_SEED = 2**63 - 1  # of PyTorch's generators
Beta = Annotated[float, Field(ge=0, lt=1)]


class TrainingConfig(BaseModel):
    """Optimisation. The defaults are Real NVP's, and where it is silent the official code's."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)  # of training, over all resumptions
    batch_size: int = Field(64, ge=2)
    optimiser: Optimiser = Optimiser.ADAM
    learning_rate: float = Field(1e-3, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)  # of Adam
    alpha: float = Field(0.99, ge=0, lt=1)  # of RMSprop: PyTorch's default, the paper has none
    epsilon: float = Field(1e-8, gt=0)  # of Adam and RMSprop
    clip_norm: float = Field(100.0, gt=0, allow_inf_nan=True)  # inf: gradients are not clipped
    tanh_scale_rate: float = Field(1.0, gt=0)  # times learning_rate, for the learned scales of tanh
    relative_step: float = Field(0.02, gt=0)  # of Muon: ||step|| / ||v|| of weight-normalised v
    weight_decay: float = Field(0.0, ge=0)  # of Muon's kernels: times the rate, a step
    warmup_steps: int = Field(0, ge=0)
    anneal: float = Field(0.0, ge=0, le=1)  # last share of the budget in which the rate falls to 0
    ema_decay: float = Field(0.999, ge=0, lt=1)
    early_stopping: bool = False  # keep the averaged weights that validation likes best
    precision: Precision = Precision.AUTO
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    log_every: int = Field(50, ge=1)  # steps
    checkpoint_minutes: float = Field(5.0, gt=0, allow_inf_nan=True)  # inf: at the end alone
    validate_minutes: float = Field(10.0, gt=0, allow_inf_nan=True)  # the same

    @model_validator(mode="after")
    def _has_a_budget(self) -> TrainingConfig:
        if self.steps is None and self.minutes is None:
            raise ValueError("set steps, minutes or both: a run needs a budget")
        return self

    @model_validator(mode="after")
    def _only_muon_has_them(self) -> TrainingConfig:
        for name in ("weight_decay", "relative_step"):
            differs = getattr(self, name) != type(self).model_fields[name].default
            if differs and self.optimiser is not Optimiser.MUON:
                raise ValueError(f"{name} is for training.optimiser: muon")
        return self


class EvaluationConfig(BaseModel):
    """How a finished run is scored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_draws: int = Field(1, ge=1)  # of the noise, an image; the ledger's figure has one
    batch_size: int = Field(250, ge=1)
    # In training: the last images of the training set, which are held out, or as many of the
    # validation split where there is one.
    validation_images: int = Field(1000, ge=2)
    statistics_images: int = Field(10000, ge=2)  # training images that re-estimate batch norm


FAMILIES = ("realnvp", "pixelrnn", "multiscale_pixelrnn", "gaussian", "vae", "gan")
_THEIRS, _OWN = "a family", "an own family"


def _whose(model: Any) -> str:
    family = model.get("family") if isinstance(model, dict) else getattr(model, "family", None)
    return _OWN if is_path(family) else _THEIRS


_Family = Annotated[
    RealNVPConfig | PixelRNNConfig | MultiScaleConfig | GaussianConfig | VAEConfig | GANConfig,
    Field(discriminator="family"),
]
ModelConfig = Annotated[
    Annotated[_Family, Tag(_THEIRS)]
    | Annotated[SerializeAsAny[OwnConfig], BeforeValidator(own_config), Tag(_OWN)],
    Discriminator(_whose),
]


NAME = r"^[a-z0-9][a-z0-9._-]*$"  # so that it does for a folder


class RunConfig(BaseModel):
    """One run: a model, data, and how to train and score it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME)
    title: str = ""
    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)

    def build_model(self) -> ImageModel:
        """A fresh model; its weights come from PyTorch's global generator."""
        match self.model:
            case PixelRNNConfig():
                return PixelRNN(self.model)
            case MultiScaleConfig():
                return MultiScalePixelRNN(self.model)
            case GaussianConfig():
                return Gaussian(self.model)
            case VAEConfig():
                return VAE(self.model)
            case GANConfig():
                return GAN(self.model)
            case OwnConfig():
                return self.model.build()
            case _:
                return RealNVP(self.model)

    @property
    def levels(self) -> int:
        """How many values a sub-pixel of the images may have."""
        return 256 if isinstance(self.model, RealNVPConfig) else self.model.levels

    @property
    def num_classes(self) -> int:
        """How many classes, or attributes, the model is told of; 0 where it is not conditional."""
        return self.model.num_classes if isinstance(self.model, RealNVPConfig | OwnConfig) else 0


def load_config(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """Read a YAML file, apply overrides such as "training.minutes=5", and check every key."""
    try:
        tree = yaml.safe_load(path.read_text())
    except OSError as error:
        raise NVPError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise NVPError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise NVPError(f"{path} should hold the keys name, model, data and training")
    for override in overrides or []:
        _apply(tree, override)
    return parse_config(tree, str(path))


def parse_config(tree: dict[str, Any], source: str) -> RunConfig:
    """Check a tree of plain values that came from `source`; `NVPError` names the first fault."""
    tree = dict(tree)
    model = tree.get("model")
    if isinstance(model, dict):
        model = tree["model"] = {"family": "realnvp", **model}
        if model["family"] not in FAMILIES and not is_path(model["family"]):
            raise NVPError(
                f"{source}: model.family: must be {', '.join(FAMILIES)}, or module:Class for a "
                f"model of your own, got {model['family']!r}"
            )
    try:
        if isinstance(model, dict) and model["family"] == "realnvp" and "preset" in model:
            tree["model"] = _expand_preset(model, source)
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        # Within the unions of models the path names the family too, which no file does.
        unions = {*FAMILIES, _THEIRS, _OWN}
        keys = [str(part) for part in first["loc"] if part not in unions]
        where = ".".join(keys) or "the configuration"
        what = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            what = "unknown key"
        raise NVPError(f"{source}: {where}: {what} (see the classes in nvp/config.py)") from error


def _expand_preset(model: dict[str, Any], source: str) -> dict[str, Any]:
    """The preset's fields, and over them those that `model` sets itself."""
    preset, shape = model["preset"], model.get("image_shape")
    if preset not in get_args(Preset):
        raise NVPError(f"{source}: model.preset must be paper or official, got {preset!r}")
    if not isinstance(shape, list) or len(shape) != 3:
        raise NVPError(
            f"{source}: model.image_shape must be [channels, height, width], such as [1, 28, 28], "
            f"got {shape!r}"
        )
    changes = {key: value for key, value in model.items() if key != "preset"}
    return {**preset_fields(preset, (shape[0], shape[1], shape[2])), **changes}


def _apply(tree: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not (path and equals):
        raise NVPError(f"override {override!r} should look like training.minutes=5")
    *parents, last = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise NVPError(f"override {override!r}: {parent} has no keys below it")
    try:
        tree[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise NVPError(f"override {override!r}: {text!r} is not YAML, try quotes") from error
