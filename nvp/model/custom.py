"""A model of your own in a configuration: `family: module:Class` names the class to import.

    model:
      family: mixing:MixedConfig
      image_shape: [1, 28, 28]
      width: 8

The module may be a file in a folder on PYTHONPATH, or part of an installed package. To read such
a configuration is to run that module, so read only those that you trust.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from inspect import isabstract
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from nvp.model.protocol import ImageModel


class OwnConfig(BaseModel, ABC):
    """The base of such a class: its fields are the keys that the file may have, and no others.

    `family` is where the class is found; made in Python, it finds that out by itself. `levels` and
    `num_classes` must be those of the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str = ""
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    levels: int = Field(256, ge=2, le=256)
    num_classes: int = Field(0, ge=0)

    @abstractmethod
    def build(self) -> ImageModel:
        """A fresh model; its weights come from PyTorch's global generator."""

    @model_validator(mode="before")
    @classmethod
    def _knows_where_it_is(cls, tree: Any) -> Any:
        here = {"family": f"{cls.__module__}:{cls.__qualname__}"}
        return {**here, **tree} if isinstance(tree, dict) else tree


def is_path(family: object) -> bool:
    """Whether `family` names a class, by "module:Class", and not one of the package's families."""
    module, _, name = str(family).partition(":")
    return all(part.isidentifier() for part in (*module.split("."), name))


def own_config(tree: Any) -> Any:
    """The `OwnConfig` that a mapping with such a `family` describes; other values as they are.

    Raises `ValueError` for a module that cannot be imported, and for a class that is not there or
    is no `OwnConfig` with a `build`.
    """
    if not isinstance(tree, dict):
        return tree
    module, _, name = str(tree["family"]).partition(":")
    try:
        found = getattr(import_module(module), name, None)
    except Exception as error:  # whatever a module of others may do
        raise ValueError(
            f"family names {module}, which cannot be imported ({error}): mend it, or put the "
            f"folder of {module.partition('.')[0]} on PYTHONPATH, or install it"
        ) from error
    if not isinstance(found, type) or not issubclass(found, OwnConfig) or isabstract(found):
        raise ValueError(
            f"family names {name} of {module}, which is no subclass of OwnConfig with a build()"
        )
    return found.model_validate(tree)
