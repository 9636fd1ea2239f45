"""Saving and loading without pickles: tensors in safetensors, all else in its JSON header."""

import json
import zlib
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from nvp.errors import NVPError
from nvp.files import read, write

FORMAT = "nvp-2"
NAMELESS = "nvp-1"  # the format before: its checksum covers no names


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write named tensors and a JSON-able header to `path`, atomically."""
    plain = {  # copies: a tensor of several names is stored once for each, and shares no memory
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    text = json.dumps(header)
    metadata = {"format": FORMAT, "header": text, "crc32": _crc32(plain, text)}
    write(path, _ordered(safetensors.torch.save(plain, metadata=metadata)))


def _ordered(content: bytes) -> bytes:
    """The same file with its header sorted: the library writes metadata in an order by chance."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of 8 bytes
    return len(header).to_bytes(8, "little") + header + content[end:]


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote. Raises `NVPError` for a missing, damaged or foreign file."""
    content = read(path)  # at once: another process may replace the file meanwhile
    try:
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (safetensors.SafetensorError, ValueError, KeyError) as error:  # KeyError: a new type
        raise NVPError(f"{path} is damaged ({error}): restore it or start the run again") from error
    if metadata.get("format") not in (FORMAT, NAMELESS):
        raise NVPError(f"{path} was not written by this package: restore it")
    header = metadata.get("header", "")
    named = metadata["format"] == FORMAT
    if metadata.get("crc32") != _crc32(tensors, header, named):
        raise NVPError(
            f"{path} is damaged (its checksum differs): restore it or start the run again"
        )
    return tensors, json.loads(header)


def _crc32(tensors: dict[str, Tensor], header: str, named: bool = True) -> str:
    """A checksum of the header and every tensor; if `named`, also of its name, type and shape.

    Files of safetensors have none themselves.
    """
    crc = zlib.crc32(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        if named:
            crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def load_weights(module: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Fill `module` (any float type) from tensors named as in its state dict.

    Raises `NVPError` where a name is missing or unknown, or a shape differs.
    """
    state = module.state_dict()
    missing, foreign = state.keys() - tensors.keys(), tensors.keys() - state.keys()
    shapes = [n for n in state.keys() & tensors.keys() if state[n].shape != tensors[n].shape]
    if missing or foreign or shapes:
        example = sorted([*missing, *foreign, *shapes])[0]
        raise NVPError(
            f"{source} belongs to another model: {len(missing)} tensors missing, {len(foreign)} "
            f"unknown, {len(shapes)} of another shape, such as {example}; use the run's own config"
        )
    module.load_state_dict(tensors)


def halved(module: nn.Module) -> dict[str, Tensor]:
    """The state of a model with parameters in float16.

    Running means and variances stay: they set the scale of everything, and are few.
    """
    return module.state_dict() | {name: p.detach().half() for name, p in module.named_parameters()}


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put `prefix.` before every name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def part(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under `prefix.`, without it."""
    return {
        name.removeprefix(f"{prefix}."): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{prefix}.")
    }


def optimiser_tensors(
    optimiser: torch.optim.Optimizer, names: dict[Tensor, str]
) -> dict[str, Tensor]:
    """The state of an optimiser by parameter name: `NAME/exp_avg` and so on."""
    return {
        f"{names[parameter]}/{key}": value
        for parameter, state in optimiser.state.items()
        for key, value in state.items()
    }


def load_optimiser(
    optimiser: torch.optim.Optimizer, names: dict[Tensor, str], tensors: dict[str, Tensor]
) -> None:
    """Put back what `optimiser_tensors` took, on each parameter's device."""
    parameters = {name: parameter for parameter, name in names.items()}
    for path, value in tensors.items():
        name, _, key = path.rpartition("/")
        parameter = parameters[name]
        # Fused Adam walks parameter and moments in memory order: channels_last must be so in both.
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter.detach()).copy_(value)
        elif optimiser.defaults.get("fused"):  # a step, where PyTorch keeps it
            value = value.to(parameter.device)
        optimiser.state[parameter][key] = value
