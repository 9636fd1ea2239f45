"""One measurement in a process of its own: `python -m benchmarks.measure NAME SETTING BATCH STEPS`.

NAME is a contender, or `ceiling` for the machine's own convolutions. Prints one line of JSON.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contenders import CONTENDERS
from benchmarks.settings import SETTINGS, Setting
from nvp.training.precision import faster_precision

CEILING = "ceiling"
CEILING_REPEATS = 10


def seconds(action: Callable[[], object], times: int) -> list[float]:
    """Wall time of each of `times` calls, after one that does not count."""
    action()
    measured = []
    for _ in range(times):
        started = time.perf_counter()
        action()
        measured.append(time.perf_counter() - started)
    return measured


def peak_megabytes() -> float:
    """The largest resident set that this process has had, in units of 10^6 bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would also count the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure_contender(name: str, setting: Setting, batch: int, steps: int) -> dict[str, object]:
    """Seconds of training steps, evaluations and samplings; memory; FLOPs; bits/dim of noise.

    Uniform noise holds 8 bits a scalar, so that a sound likelihood gives at least 8: one that is
    not finite or lower raises `RuntimeError`.
    """
    torch.manual_seed(0)
    images = torch.randint(256, (batch, *setting.image_shape), dtype=torch.uint8)
    fresh = torch.randint(256, (batch, *setting.image_shape), dtype=torch.uint8)
    contender = CONTENDERS[name](setting, batch)
    contender.model.train()
    step = seconds(lambda: contender.step(images), steps)
    memory = peak_megabytes()  # before evaluation: it is training that needs it
    contender.model.eval()
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            nats = contender.log_prob(fresh).double()
        evaluate = seconds(lambda: contender.log_prob(fresh), steps)
        sample = seconds(lambda: contender.sample(batch), steps)
    bits = -nats.mean().item() / (math.prod(setting.image_shape) * math.log(2))
    if not (math.isfinite(bits) and bits > 7.9):
        raise RuntimeError(f"{name} scores noise {bits} bits/dim: its likelihood is not sound")
    return {
        "step": step,
        "evaluate": evaluate,
        "sample": sample,
        "peak_megabytes": memory,
        "gflop_per_image": counter.get_total_flops() / batch / 1e9,
        "parameters": sum(p.numel() for p in contender.model.parameters()),
        "bits_per_dim_of_noise": bits,
    }


def measure_ceiling(setting: Setting, batch: int) -> dict[str, object]:
    """GFLOP/s of the two 3x3 convolutions that do the work, forward and backward, each way."""
    height, maps = setting.image_shape[1], setting.width
    rates = {
        f"3x3, {maps} maps, {height}x{height}": convolution_rates(3, maps, maps, height, batch),
        f"3x3, {2 * maps} maps, {height // 2}x{height // 2}": convolution_rates(
            3, 2 * maps, 2 * maps, height // 2, batch
        ),
    }
    return {"gflop_per_second": rates, "auto": faster_precision(torch.device("cpu")).value}


def convolution_rates(
    kernel: int, inputs: int, outputs: int, side: int, batch: int
) -> dict[str, list[float]]:
    """GFLOP/s of a convolution, forward and backward, in each precision and layout."""
    formats = {
        "fp32 NCHW": (torch.float32, torch.contiguous_format),
        "fp32 NHWC": (torch.float32, torch.channels_last),
        "bf16 NHWC": (torch.bfloat16, torch.channels_last),
    }
    gflop = 3 * 2 * batch * side**2 * kernel**2 * inputs * outputs / 1e9
    rates: dict[str, list[float]] = {}
    for name, (dtype, layout) in formats.items():
        x, weight, gradient = (
            torch.randn(shape, dtype=dtype).to(memory_format=layout)
            for shape in (
                (batch, inputs, side, side),
                (outputs, inputs, kernel, kernel),
                (batch, outputs, side, side),
            )
        )
        x.requires_grad_()
        weight.requires_grad_()

        def both(x: Tensor = x, weight: Tensor = weight, gradient: Tensor = gradient) -> None:
            y = F.conv2d(x, weight, padding=kernel // 2)
            torch.autograd.grad(y, (x, weight), gradient)

        rates[name] = [gflop / took for took in seconds(both, CEILING_REPEATS)]
    return rates


if __name__ == "__main__":
    name, setting, batch, steps = sys.argv[1], SETTINGS[sys.argv[2]], *map(int, sys.argv[3:5])
    if name == CEILING:
        print(json.dumps(measure_ceiling(setting, batch)))
    else:
        print(json.dumps(measure_contender(name, setting, batch, steps)))
