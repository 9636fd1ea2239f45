"""The role of each parameter of a model. The optimiser asks for roles, never for names or types."""

from enum import StrEnum

from torch import nn


class Role(StrEnum):
    """A module names the roles of its own parameters: `roles = {"v": Role.DIRECTION}`.

    A parameter that it does not name is a BIAS if it is a vector, and a KERNEL if it is larger.
    So name a larger one that is no kernel, such as a scale (C, 1, 1): Muon would orthogonalise it.
    """

    KERNEL = "kernel"  # a matrix, or a convolution's filters, transposed or not
    DIRECTION = "direction"  # v of weight normalisation, g v / ||v||: its length has no effect
    GAIN = "gain"  # g of weight normalisation
    TANH_SCALE = "tanh scale"  # the learned bound of s (section 4.1 of Real NVP)
    RECURRENT = "recurrent"  # (directions, taps, h, 4h): from earlier states to the gates
    FIRST_STATE = "first state"  # h and c before the first row or column
    BIAS = "bias"


def parameter_roles(model: nn.Module) -> dict[nn.Parameter, Role]:
    """The role of every parameter of `model`, in the order of `model.parameters()`."""
    roles: dict[nn.Parameter, Role] = {}
    for module in model.modules():
        said: dict[str, Role] = getattr(module, "roles", {})
        for name, parameter in module.named_parameters(recurse=False):
            roles[parameter] = said.get(name, Role.KERNEL if parameter.ndim > 1 else Role.BIAS)
    return roles
