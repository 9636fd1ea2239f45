"""A model of your own in a configuration: `family: module:Class` names the class to import.

    model:
      family: mixing:MixedConfig
      image_shape: [1, 28, 28]
      width: 8

The class is a `ModelConfig`, or a subclass of a family's configuration. The module may be a file
in a folder on PYTHONPATH, or part of an installed package. To read such a configuration is to run
that module, so read only those that you trust.
"""

from importlib import import_module
from inspect import isabstract

import torch
from torch.nn.parameter import is_lazy

from nvp.errors import NVPError, first_fault
from nvp.model.config import Family
from nvp.model.protocol import ImageModel


def is_path(family: object) -> bool:
    """Whether `family` names a class, by "module:Class", and not one of the package's families."""
    module, _, name = str(family).partition(":")
    return all(part.isidentifier() for part in (*module.split("."), *name.split(".")))


def import_family(path: str) -> type[Family]:
    """The class that `path`, "module:Class", names.

    Raises `ValueError` for a module that cannot be imported, and for a class that is not there or
    that makes no model.
    """
    module, _, name = path.partition(":")
    try:
        found: object = import_module(module)
        for part in name.split("."):
            found = getattr(found, part, None)
    except (Exception, SystemExit) as error:  # whatever a module of others may do
        reason = first_fault(error) if isinstance(error, Exception) else "it ends the program"
        raise ValueError(
            f"family names {module}, which cannot be imported ({reason}): correct it, put the "
            f"folder of {module.partition('.')[0]} on PYTHONPATH, or install it"
        ) from error
    if found is None:
        raise ValueError(f"family names {name}, but {module} has no {name}: correct its spelling")
    if not isinstance(found, type) or not issubclass(found, Family) or isabstract(found):
        raise ValueError(
            f"family names {name} of {module}, which is no subclass of ModelConfig with a build(): "
            "name such a class"
        )
    return found


def build(config: Family) -> ImageModel:
    """The model that `config.build()` makes.

    Raises `NVPError` for anything but an `ImageModel` with parameters, whose shape, levels and
    classes are those of the configuration.
    """
    model = config.build()
    if not isinstance(model, ImageModel):
        raise NVPError(
            f"{config.family}: build() returns {type(model).__name__}, which is no ImageModel: "
            "return the model, of a class that derives from nvp.model.ImageModel"
        )
    for name in ("image_shape", "levels", "num_classes"):
        own, asked = getattr(model, name, None), getattr(config, name)
        if own != asked:
            raise NVPError(
                f"{config.family}: the model has {name} {own}, its configuration {asked}: set "
                f"self.{name} = config.{name} in {type(model).__name__}"
            )
    if any(map(is_lazy, (*model.parameters(), *model.buffers()))):
        what = f"{config.family}: {type(model).__name__} has a lazy layer"
        raise NVPError(f"{what}, whose size is not known: give it its size")
    if not any(True for _ in model.parameters()):
        raise NVPError(
            f"{config.family}: {type(model).__name__} has no parameters, so there is nothing to "
            "train: register them as nn.Parameter"
        )
    return model


def check_repeats(config: Family, device: torch.device) -> None:
    """Raise `NVPError` where two models of `config` with one state dict differ in their loss.

    A part outside the state dict is then made anew at each build, as by a random number or by a
    layer in a list. Seeds PyTorch's global generator.
    """
    models = [build(config).to(device).eval() for _ in range(2)]
    with torch.no_grad():
        for weight in models[0].parameters():  # a last layer of zeros hides those before it
            weight.add_(0.1 * torch.randn_like(weight))
    models[1].load_state_dict(models[0].state_dict())
    images = torch.randint(models[0].levels, (2, *models[0].image_shape)).byte()
    labels = torch.zeros(2, dtype=torch.int64) if models[0].num_classes else None
    losses = []
    for model in models:
        torch.manual_seed(0)
        loss = model.loss(images, torch.Generator().manual_seed(0), labels=labels)
        losses.append(torch.as_tensor(loss).detach())  # `State.loss` names what is no tensor
    if not torch.allclose(losses[0], losses[1], equal_nan=True):
        raise NVPError(
            f"{config.family}: build() makes a different model each time, even with the same state "
            "dict: keep what is random in a parameter or a persistent buffer and layers in an "
            "nn.ModuleList, and let loss draw from its generator"
        )
