"""One measurement: `python -m benchmarks.measure_pixelrnn NAME SETTING BATCH STEPS`.

NAME is KIND/CONTENDER, KIND/sampling, or `ceiling` for the machine's own convolutions. Prints one
line of JSON.
"""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contenders_pixelrnn import CONTENDERS, SAMPLING
from benchmarks.measure import CEILING, convolution_rates, peak_megabytes, seconds
from benchmarks.settings import PIXEL_SETTINGS, PixelSetting
from nvp import PixelRNN
from nvp.autoregressive.config import Kind
from nvp.autoregressive.sampling import fill_by_definition
from nvp.model.protocol import use_channels_last
from nvp.training.precision import faster_precision

NAMES = (
    CEILING,
    *(f"{kind}/{name}" for kind, those in CONTENDERS.items() for name in (*those, SAMPLING)),
)


def measure(name: str, setting: PixelSetting, batch: int, steps: int) -> dict[str, Any]:
    """What is called `name` in NAMES."""
    torch.manual_seed(0)
    if name == CEILING:
        return measure_ceiling(setting, batch)
    kind, contender = name.split("/")
    if contender == SAMPLING:
        return measure_sampling(Kind(kind), setting, batch, steps)
    return measure_contender(Kind(kind), contender, setting, batch, steps)


def measure_contender(
    kind: Kind, name: str, setting: PixelSetting, batch: int, steps: int
) -> dict[str, Any]:
    """Seconds of training steps and evaluations; memory; FLOPs; bits/dim of noise.

    Random bits hold 1 bit a sub-pixel, so that a sound likelihood gives at least 1: one that is
    not finite or lower raises `RuntimeError`.
    """
    images, fresh = torch.randint(2, (2, batch, 1, setting.side, setting.side)).to(torch.uint8)
    contender = CONTENDERS[kind][name](setting, kind, batch)
    contender.model.train()
    step = seconds(lambda: contender.step(images), steps)
    memory = peak_megabytes()  # before evaluation: it is training that needs it
    contender.model.eval()
    with torch.no_grad():
        with FlopCounterMode(display=False, custom_mapping=scan_flops()) as counter:
            nats = contender.log_prob(fresh).double()
        evaluate = seconds(lambda: contender.log_prob(fresh), steps)
    bits = -nats.mean().item() / (setting.side**2 * math.log(2))
    if not (math.isfinite(bits) and bits > 0.98):
        raise RuntimeError(f"{name} scores noise {bits} bits/dim: its likelihood is not sound")
    return {
        "step": step,
        "evaluate": evaluate,
        "peak_megabytes": memory,
        "gflop_per_image": counter.get_total_flops() / batch / 1e9,
        "parameters": sum(p.numel() for p in contender.model.parameters()),
        "bits_per_dim_of_noise": bits,
    }


def scan_flops() -> dict[Any, Any]:
    """For `FlopCounterMode`, which knows nothing of the compiled scan: two a multiply-add."""
    if not hasattr(torch.ops.nvp_scan, "forward"):  # not built, or not used
        return {}

    def count(gates: list[int], weight: list[int], *_: Any, **__: Any) -> int:
        # Every pixel, (N, H, W), multiplies its neighbours' states with all weights once.
        return 2 * math.prod(gates[:3]) * math.prod(weight)

    return {torch.ops.nvp_scan.forward: count}


def measure_sampling(kind: Kind, setting: PixelSetting, batch: int, steps: int) -> dict[str, Any]:
    """Seconds of drawing `batch` images, of one forward pass, and of rows drawn by definition.

    `differ` counts the images whose last rows came out otherwise by definition, under the same
    random numbers: none, but for what rounding does to a draw that falls on a border.
    """
    model = PixelRNN(setting.config(kind)).eval()
    use_channels_last(model)
    images = torch.randint(2, (batch, *model.image_shape)).to(torch.uint8)
    with torch.no_grad():
        forward = seconds(lambda: model.parameters_of(images), steps)
        sample = seconds(lambda: model.sample(batch), steps)
        first = setting.side - setting.rows_by_definition
        started = time.perf_counter()
        slow = fill_by_definition(model, images, first, generator=torch.manual_seed(1))
        by_definition = time.perf_counter() - started
        fast = model.complete(images, first, 1, generator=torch.manual_seed(1))[:, 0]
    return {
        "forward": forward,
        "sample": sample,
        "pixels": setting.side**2,
        "by_definition": by_definition,
        "passes_by_definition": setting.rows_by_definition * setting.side,
        "differ": int((slow != fast).flatten(1).any(1).sum()),
    }


def measure_ceiling(setting: PixelSetting, batch: int) -> dict[str, Any]:
    """GFLOP/s of the PixelCNN's two convolutions, forward and backward, each way."""
    side, hidden = setting.side, setting.pixelcnn[1]
    rates = {
        f"3x3, {hidden} maps, {side}x{side}": convolution_rates(3, hidden, hidden, side, batch),
        f"1x1, {hidden} to {2 * hidden} maps, {side}x{side}": convolution_rates(
            1, hidden, 2 * hidden, side, batch
        ),
    }
    return {"gflop_per_second": rates, "auto": faster_precision(torch.device("cpu")).value}


if __name__ == "__main__":
    name, setting, batch, steps = sys.argv[1], PIXEL_SETTINGS[sys.argv[2]], *map(int, sys.argv[3:5])
    print(json.dumps(measure(name, setting, batch, steps)))
