"""Losses that are not finite: where they come from, and a remedy."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from nvp.errors import NVPError
from nvp.model.labels import Examples
from nvp.model.protocol import batch_norms, batch_statistics
from nvp.runs.folder import RunFolder
from nvp.training.distributed import agree
from nvp.training.state import State


class Divergence(NVPError):
    """A loss or a gradient that is not finite."""


@contextmanager
def _as_in_training(model: nn.Module) -> Iterator[None]:
    """Within this block norms compute as in a step; their averages are put back at its end."""
    momenta = [(norm, norm.momentum) for norm in batch_norms(model)]
    with batch_statistics(model):
        for norm, momentum in momenta:  # with 0, norms by running averages would not use them
            norm.momentum = momentum
        yield


def check_sound(state: State, batch: Examples) -> None:
    """Raise `Divergence` when the loss on `batch` is not finite; `state` stays as it is."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad(), _as_in_training(state.model):
        loss = agree(state.loss(batch, noise).item())
    if not math.isfinite(loss):
        raise Divergence(explain(state, batch, loss, noise.manual_seed(0)))


def explain(state: State, batch: Examples, loss: float, noise: torch.Generator) -> str:
    """One line that names the first module whose output was not finite.

    That `loss` is computed again; `noise` is as it was before.
    """
    names = {module: name for name, module in state.model.named_modules() if name}
    found: list[str] = []

    # Parts are done before the whole, so the first one found is the smallest at fault.
    def look(module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs = output if isinstance(output, tuple) else (output,)
        tensors = [each for each in outputs if isinstance(each, Tensor)]
        if module in names and not all(torch.isfinite(t).all() for t in tensors):
            found.append(names[module])

    with torch.no_grad(), _as_in_training(state.model), register_module_forward_hook(look):
        state.loss(batch, noise)
    where = f", first in layer {found[0]}" if found else ""
    if math.isfinite(loss):
        values = f"; values are not finite{where}" if found else ""
        return f"the gradient is not finite at step {state.step}, the loss is {loss:.5g}{values}"
    return f"the loss is {loss} at step {state.step}, not finite{where or ' after the last layer'}"


def advice(folder: RunFolder, step: int, options: str) -> str:
    """The remedy for a run in `folder` that diverged at `step`; `options` by `next_options`."""
    if step == 0:
        return (
            "no step was made, so no rate is at fault: look at the images and at the model, whose "
            "mistakes nvp.testing.check_model names"
        )
    if not folder.checkpoint.is_file():
        return (
            "there is no checkpoint yet: give the same command with a lower training.learning_rate "
            "(by Muon also training.relative_step) or training.clip_norm"
        )
    return (
        "the last good checkpoint is kept: go on from it with a lower rate, `nvp train --resume "
        f"{folder.quoted}{options} --set training.learning_rate=...` (by Muon also "
        "training.relative_step), or a lower training.clip_norm"
    )
