"""The device that a name stands for."""

import os

import torch

from nvp.errors import NVPError


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is a CUDA GPU where there is one, else the CPU.

    Raises `NVPError` for a device that cannot compute here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.index is not None and os.environ.get("WORLD_SIZE", "1") != "1":
            raise NVPError(f"several processes cannot share {name}: use {device.type} or auto")
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).split("\n")[0]
        why = "" if reason.startswith("Expected one of") else f" ({reason[:100]})"
        raise NVPError(f"there is no device {name!r} here{why}: use cpu or auto") from error
    return device
