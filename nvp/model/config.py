"""The configuration of a model: its fields are the keys of a file, and `build` makes the model.

A `Width` is an integer from 1 to 65,536, and a `Depth` one from 1 to 256.
"""

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, TypeAlias, Unpack

from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, field_validator

from nvp.model.protocol import ImageModel

# Bounds far above any model that is trained: without them a slip of the hand fills the memory.
LARGEST_SIDE = 4096
Side: TypeAlias = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
Shape: TypeAlias = tuple[Side, Side, Side]  # (C, H, W)
Width: TypeAlias = Annotated[int, Field(ge=1, le=65536)]  # features of a layer
Depth: TypeAlias = Annotated[int, Field(ge=1, le=256)]  # layers or parts


class Section(BaseModel):
    """The base of configurations and records: refuses unknown keys, and `true` for a number.

    A text may stand for a member of an enum; mypy then needs `plugins = ["pydantic.mypy"]`.
    An instance cannot be changed. In Python a wrong value raises pydantic's ValidationError, a
    ValueError. In a file it is an `NVPError`, which names the key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _is_no_truth_value(cls, value: Any, valid: ValidatorFunctionWrapHandler) -> Any:
        found = valid(value)
        several = isinstance(value, list | tuple) and isinstance(found, list | tuple)
        pairs = zip(value, found, strict=False) if several else [(value, found)]
        if any(isinstance(given, bool) and not isinstance(taken, bool) for given, taken in pairs):
            raise ValueError(f"must not be true or false, got {value}")
        return found


class Family(Section, ABC):
    """The base of all configurations of models: the name of a family, and `build`.

    The name is given with the class, `class GANConfig(ModelConfig, family="gan")`. A class without
    one is named by its place, `module:Class`; so is a subclass of a family's configuration.
    """

    _name: ClassVar[str]

    family: str = Field(default="", validate_default=True)

    def __init_subclass__(cls, family: str = "", **options: Unpack[ConfigDict]) -> None:
        super().__init_subclass__(**options)
        cls._name = family or f"{cls.__module__}:{cls.__qualname__}"

    @abstractmethod
    def build(self) -> ImageModel:
        """A fresh model; its weights come from PyTorch's global generator."""

    @classmethod
    def name(cls) -> str:
        """The value of `family`: the name of a family, or `module:Class`."""
        return cls._name

    @classmethod
    def keys(cls) -> list[str]:
        """The keys that a file may have."""
        return list(cls.model_fields)

    @field_validator("family")
    @classmethod
    def _is_its_own(cls, family: str) -> str:
        if family not in ("", cls._name):
            raise ValueError(f"this is a configuration of {cls._name}: leave it out")
        return cls._name


class ModelConfig(Family):
    """The base of a model's configuration: fields of a subclass are the keys of its file.

    `image_shape`, `levels` and `num_classes` must be those of the model that `build` makes.
    """

    image_shape: Shape  # (C, H, W), each from 1 to 4,096
    levels: int = Field(default=256, ge=2, le=256)  # of a sub-pixel: 2 for binary images
    num_classes: int = Field(default=0, ge=0, le=65536)  # classes or attributes
