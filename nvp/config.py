"""Typed configurations, read from `configs/*.yaml`. Unknown keys are refused.

`model.family` chooses the model: one of `FAMILIES`, or one of your own (`nvp.model.custom`).
"""

import math
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from nvp.autoregressive.config import MultiScaleConfig, PixelRNNConfig
from nvp.baselines.diffusion import DiffusionConfig
from nvp.baselines.gan import GANConfig
from nvp.baselines.gaussian import GaussianConfig
from nvp.baselines.vae import VAEConfig
from nvp.errors import NVPError
from nvp.files import read_yaml, write_text
from nvp.flows.config import RealNVPConfig
from nvp.model.config import Family, ModelConfig, Section
from nvp.model.custom import build, import_family, is_path
from nvp.model.protocol import ImageModel


class DataConfig(Section):
    """The data set, and how training augments it."""

    name: str  # of a set, or a folder of .npy files: `nvp.data.sets`
    flips: bool = False  # horizontal, in training: CIFAR-10, CelebA, LSUN (Real NVP, section 4.1)
    # The side of a square that is cut out: at random in training, else at the centre.
    crop: int | None = Field(default=None, ge=1)
    limit: int | None = Field(default=None, ge=1)  # use only the first `limit` training images


class Precision(StrEnum):
    """The arithmetic of the networks in training; log-dets and sums are always in float32.

    AUTO measures how long a convolution takes in each on this machine, and takes the faster. With
    FP32 an NVIDIA GPU still rounds the factors of a convolution to 10 bits (TF32), as PyTorch does
    by default. Scoring, `RealNVP.encode` and `decode` do not (`nvp.model.autocast.full_float32`).
    """

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


class Optimiser(StrEnum):
    """The rule that turns gradients into steps."""

    ADAM = "adam"  # Real NVP
    ADAMAX = "adamax"  # of neither paper; later flows use it (Glow's code)
    RMSPROP = "rmsprop"  # Pixel RNN, which gives none of its constants
    MUON = "muon"  # of neither paper: orthogonal steps for kernels and recurrent weights, else Adam


# The optimisers that use a setting. With another one the setting is refused.
OPTIMISERS_WITH = {
    "betas": (Optimiser.ADAM, Optimiser.ADAMAX, Optimiser.MUON),
    "alpha": (Optimiser.RMSPROP,),
    "weight_decay": (Optimiser.MUON,),
    "relative_step": (Optimiser.MUON,),
}
LARGEST_SEED = 2**63 - 1  # half of what PyTorch's generators take
Beta = Annotated[float, Field(ge=0, lt=1)]


class TrainingConfig(Section):
    """Optimisation. The defaults are Real NVP's, and where it is silent the official code's.

    Averaged weights (`ema_decay`) and `precision` are ours.
    """

    steps: int | None = Field(default=None, ge=1, le=10**18)  # or minutes: the first ends the run
    minutes: float | None = Field(default=None, gt=0)  # of training steps, over all resumptions
    batch_size: int = Field(default=64, ge=2)  # of all processes together
    optimiser: Optimiser = Optimiser.ADAM
    learning_rate: float = Field(default=1e-3, gt=0)
    # Of Adam and Adamax; of Muon only for the parameters that it leaves to Adam.
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    alpha: float = Field(default=0.99, ge=0, lt=1)  # of RMSprop: PyTorch's, as the paper has none
    epsilon: float = Field(default=1e-8, gt=0)  # of all optimisers
    clip_norm: float = Field(default=100.0, gt=0, allow_inf_nan=True)  # inf: no clipping
    tanh_scale_rate: float = Field(default=1.0, gt=0)  # times learning_rate, for tanh scales
    # Of Muon: ||step|| / ||v|| of weight-normalised v.
    relative_step: float = Field(default=0.02, gt=0)
    # In each step Muon multiplies kernels and recurrent weights by 1 - rate * weight_decay.
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_steps: int = Field(default=0, ge=0)  # in which the rate rises from 0
    # The last share of the budget, in which the rate falls to 0.
    anneal: float = Field(default=0.0, ge=0, le=1)
    # The share of itself that the average of the weights keeps in a step, once the run is long
    # enough.
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    early_stopping: bool = False  # keep the averaged weights with the best validation score
    precision: Precision = Precision.AUTO
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    log_every: int = Field(default=50, ge=1)  # steps
    # Between checkpoints. A stop, a failed validation and the end save one, too. With inf there
    # are no others.
    checkpoint_minutes: float = Field(default=5.0, gt=0, allow_inf_nan=True)
    validate_minutes: float = Field(default=10.0, gt=0, allow_inf_nan=True)  # inf: at the end only

    @model_validator(mode="after")
    def _has_a_budget_and_nothing_idle(self) -> Self:
        if self.steps is None and self.minutes is None:
            raise ValueError("set steps, minutes or both: a run needs a budget")
        for name, users in OPTIMISERS_WITH.items():
            differs = getattr(self, name) != type(self).model_fields[name].default
            if differs and self.optimiser not in users:
                raise ValueError(f"{name} is for optimiser: {' or '.join(users)}; leave it out")
        return self

    def spent(self, steps: int, minutes: float) -> float:
        """The share of the budget that is used up, in 0..1; of two budgets, the larger share."""
        shares = (steps / (self.steps or math.inf), minutes / (self.minutes or math.inf))
        return min(1.0, max(shares))


class EvaluationConfig(Section):
    """How a run is scored, in training and after it."""

    # Sets of noise an image in `nvp evaluate`; the ledger's score has one.
    num_draws: int = Field(default=1, ge=1)
    batch_size: int = Field(default=250, ge=2)
    # Training validates with so many images of the validation split. Without that split it holds
    # out so many of the last training images: at most a tenth, at least two.
    validation_images: int = Field(default=1000, ge=2)
    # Training images that re-estimate batch norms or go to `initialise`; closed-form fits get all.
    statistics_images: int = Field(default=10000, ge=2)


_CLASSES: tuple[type[Family], ...] = (
    *(RealNVPConfig, PixelRNNConfig, MultiScaleConfig),
    *(GaussianConfig, VAEConfig, GANConfig, DiffusionConfig),
)
FAMILIES = {config.name(): config for config in _CLASSES}


def family_of(model: dict[str, Any]) -> type[Family]:
    """The class that the key `family` names, Real NVP's without it. `ValueError` if unknown."""
    family = model.get("family", RealNVPConfig.name())
    if is_path(family):
        return import_family(family)
    if not isinstance(family, str) or family not in FAMILIES:
        raise ValueError(
            f"unknown family {family!r};{_guess(str(family), list(FAMILIES))} use "
            f"{', '.join(FAMILIES)}, or module:Class for a model of your own"
        )
    return FAMILIES[family]


def _model(model: Any) -> Any:
    """A model's configuration from the keys of a file; from Python it may be one already."""
    if isinstance(model, Family):
        return model
    if not isinstance(model, dict):
        got = f"a {type(model).__name__}" if isinstance(model, ImageModel) else repr(model)
        raise ValueError(f"must hold the keys of a model, or be its configuration, got {got}")
    return family_of(model).model_validate(model)


AnyModel = Annotated[SerializeAsAny[ModelConfig | MultiScaleConfig], BeforeValidator(_model)]
NAME = r"^[a-z0-9][a-z0-9._-]*$"  # so that it can name a folder
NAME_RULE = "use lower-case letters, digits, '.', '_' and '-', and begin with a letter or a digit"


class RunConfig(Section):
    """One run: a model, data, and how to train and score it."""

    name: str = Field(pattern=NAME)  # lower-case letters, digits, ".", "_" and "-"
    title: str = ""
    model: AnyModel  # the configuration of its family
    data: DataConfig
    training: TrainingConfig
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)

    @property
    def is_binary(self) -> bool:
        """Whether its unit is nats an image, as is usual for images of two levels."""
        return self.model.levels == 2

    def build_model(self) -> ImageModel:
        """A fresh model; its weights come from PyTorch's global generator.

        Raises `NVPError` for a model of one's own that does not fit its configuration.
        """
        return build(self.model)


def load_config(path: str | Path, overrides: list[str] | None = None) -> RunConfig:
    """Read a YAML file, apply overrides such as "training.minutes=5", and check every key.

    Raises `NVPError` for a file or an override that cannot be read, and for the first fault in it.
    """
    try:
        tree = read_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        instead = f", or go on with a run by --resume {path}" if Path(path).is_dir() else ""
        raise NVPError(
            f"cannot read the configuration {path} ({error.strerror}): name a file, such as "
            f"configs/mnist.yaml{instead}"
        ) from error
    except ValueError as error:
        raise NVPError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise NVPError(f"{path} should hold the keys name, model, data and training")
    for override in overrides or []:
        _apply(tree, override)
    return parse_config(tree, " --set ".join([str(path), *(overrides or [])]))


def save_config(path: Path, config: RunConfig) -> None:
    """Write a configuration, atomically, as `load_config` reads it."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def parse_config(tree: dict[str, Any], source: str) -> RunConfig:
    """Check a tree of plain values that came from `source`; `NVPError` names the first fault."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        errors = error.errors()
    # A key that is spelt wrong comes before the one that it leaves missing.
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    keys = [str(part) for part in first["loc"]]
    where = ".".join(keys) or "the configuration"
    given = first["input"]
    match first["type"]:
        case "extra_forbidden":
            fault = _unknown(keys, tree)
        case "string_pattern_mismatch" if keys == ["name"]:
            fault = f"{given!r} cannot name a folder: {NAME_RULE}"
        case "literal_error" if keys[-1] == "num_classes":
            fault = "this family takes no labels: leave the key out, or use family: realnvp"
        case kind:
            fault = first["msg"].removeprefix("Value error, ")
            if kind != "value_error" and isinstance(given, str | int | float):
                fault += f", got {given!r}"
    raise NVPError(f"{source}: {where}: {fault}")


def differences(one: RunConfig, other: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, such as "training.seed", with both values; titles do not count."""

    def flat(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in tree.items():
            nested = isinstance(value, dict) and value
            found |= flat(value, f"{above}{key}.") if nested else {above + key: value}
        return found

    a, b = (flat(config.model_dump(mode="json", exclude={"title"})) for config in (one, other))
    pairs = {key: (a.get(key), b.get(key)) for key in sorted(a.keys() | b.keys())}
    return {key: (before, now) for key, (before, now) in pairs.items() if before != now}


def _unknown(keys: list[str], tree: dict[str, Any]) -> str:
    """The complaint about an unknown key, whose path is `keys`: a guess, and the valid keys."""
    section: Any = RunConfig
    where = "a configuration"
    for key in keys[:-1]:
        where = key
        section = section.model_fields[key].annotation
        if key == "model":
            section = family_of(tree["model"])
            where = section.name()
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return "unknown key"  # of a model of one's own: in a list, say, or an optional section
    valid = section.keys() if issubclass(section, Family) else list(section.model_fields)
    return f"unknown key;{_guess(keys[-1], valid)} valid keys of {where}: {', '.join(valid)}"


def _guess(word: str, valid: list[str]) -> str:
    close = get_close_matches(word, valid, n=1)
    return f" did you mean `{close[0]}`?" if close else ""


def _apply(tree: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not (path and equals):
        raise NVPError(f"--set {override!r} should look like training.minutes=5")
    *parents, last = path.split(".")
    for parent in parents:
        if tree.get(parent) is None:  # not there, or without keys
            tree[parent] = {}
        tree = tree[parent]
        if not isinstance(tree, dict):
            raise NVPError(f"--set {override!r}: {parent} has no keys below it: leave the rest out")
    try:
        tree[last] = read_yaml(text)
    except ValueError as error:
        raise NVPError(
            f"--set {override!r}: {text!r} is not YAML, check brackets and quotes"
        ) from error
