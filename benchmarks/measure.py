"""One measurement in a process of its own.

`python -m benchmarks.measure BENCHMARK NAME SETTING BATCH STEPS` prints one line of JSON. NAME is
one of the benchmark's: KIND/CONTENDER, KIND/sampling, or `ceiling` for the machine's convolutions.
"""

import importlib
import json
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.benchmark import CEILING, SAMPLING, Benchmark, Setting
from nvp import PixelRNN, PixelRNNConfig
from nvp.likelihood import bits_per_dim
from nvp.model.protocol import use_channels_last
from nvp.testing import fill_by_definition
from nvp.training.allocator import keep_freed_memory
from nvp.training.state import faster_precision

CEILING_REPEATS = 10
FORMATS = {
    "fp32 NCHW": (torch.float32, torch.contiguous_format),
    "fp32 NHWC": (torch.float32, torch.channels_last),
    "bf16 NHWC": (torch.bfloat16, torch.channels_last),
}


def measure(
    benchmark: Benchmark, name: str, setting: Setting, batch: int, steps: int
) -> dict[str, Any]:
    """The measurement that the benchmark calls `name`."""
    torch.manual_seed(0)
    if name == CEILING:
        return measure_ceiling(setting, batch)
    kind, contender = name.split("/")
    if contender == SAMPLING:
        return measure_sampling(setting, kind, batch, steps)
    return measure_contender(benchmark, setting, kind, contender, batch, steps)


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


def measure_contender(
    benchmark: Benchmark, setting: Setting, kind: str, name: str, batch: int, steps: int
) -> dict[str, Any]:
    """Seconds of training steps, evaluations and samplings; memory; FLOPs; bits/dim of noise.

    Uniform noise holds log2(levels) bits a sub-pixel, and no sound likelihood gives less. One that
    gives less than 98 % of it, or is not finite, raises `RuntimeError`.
    """
    config = setting.models[kind]
    images, fresh = torch.randint(config.levels, (2, batch, *config.image_shape)).to(torch.uint8)
    contender = benchmark.kinds[kind].contenders[name](config, batch)
    model: Any = contender.model.train()
    step = seconds(lambda: contender.step(images), steps)
    memory = peak_megabytes()  # before evaluation: training needs it
    model.eval()
    with torch.no_grad():
        with FlopCounterMode(display=False, custom_mapping=scan_flops()) as counter:
            nats = model.log_prob(fresh)
        found = {"step": step, "evaluate": seconds(lambda: model.log_prob(fresh), steps)}
        if not benchmark.draws_by_pixel:
            found["sample"] = seconds(lambda: model.sample(batch), steps)
    bits = bits_per_dim(nats, config.image_shape).mean().item()
    if not (math.isfinite(bits) and bits > 0.98 * math.log2(config.levels)):
        raise RuntimeError(f"{name} scores noise {bits} bits/dim: its likelihood is not sound")
    return {
        **found,
        "peak_megabytes": memory,
        "gflop_per_image": counter.get_total_flops() / batch / 1e9,
        "parameters": sum(p.numel() for p in model.parameters()),
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


def measure_sampling(setting: Setting, kind: str, batch: int, steps: int) -> dict[str, Any]:
    """Seconds of drawing `batch` images, and of a row drawn by definition.

    `differ` counts the images whose last row came out otherwise by definition, under the same
    random numbers: none, but for what rounding does to a draw that falls on a border.
    """
    keep_freed_memory()  # as `nvp sample` does
    config = setting.models[kind]
    assert isinstance(config, PixelRNNConfig)
    model = PixelRNN(config).eval()
    use_channels_last(model)
    images = torch.randint(config.levels, (batch, *config.image_shape)).to(torch.uint8)
    colours, height, width = config.image_shape
    with torch.no_grad():
        sample = seconds(lambda: model.sample(batch), steps)
        started = time.perf_counter()
        slow = fill_by_definition(model, images, height - 1, generator=torch.manual_seed(1))
        by_definition = time.perf_counter() - started
        fast = model.complete(images, height - 1, 1, generator=torch.manual_seed(1))[:, 0]
    return {
        "sample": sample,
        "sub_pixels": colours * height * width,
        "by_definition": by_definition,
        "passes_by_definition": colours * width,
        "differ": int((slow != fast).flatten(1).any(1).sum()),
    }


def measure_ceiling(setting: Setting, batch: int) -> dict[str, Any]:
    """GFLOP/s of the setting's convolutions, forward and backward, in each precision and layout."""
    rates = {}
    for kernel, inputs, outputs, side in setting.convolutions:
        maps = f"{inputs}" if inputs == outputs else f"{inputs} to {outputs}"
        name = f"{kernel}x{kernel}, {maps} maps, {side}x{side}"
        rates[name] = convolution_rates(kernel, inputs, outputs, side, batch)
    return {"gflop_per_second": rates, "auto": faster_precision(torch.device("cpu")).value}


def convolution_rates(
    kernel: int, inputs: int, outputs: int, side: int, batch: int
) -> dict[str, list[float]]:
    """GFLOP/s of one convolution, forward and backward, in each precision and layout."""
    gflop = 3 * 2 * batch * side**2 * kernel**2 * inputs * outputs / 1e9
    rates: dict[str, list[float]] = {}
    image, filters = (batch, inputs, side, side), (outputs, inputs, kernel, kernel)
    for name, (dtype, layout) in FORMATS.items():
        x, weight, gradient = (
            torch.randn(shape, dtype=dtype).to(memory_format=layout)
            for shape in (image, filters, (batch, outputs, side, side))
        )
        x.requires_grad_()
        weight.requires_grad_()

        def both(x: Tensor = x, weight: Tensor = weight, gradient: Tensor = gradient) -> None:
            y = F.conv2d(x, weight, padding=kernel // 2)
            torch.autograd.grad(y, (x, weight), gradient)

        rates[name] = [gflop / took for took in seconds(both, CEILING_REPEATS)]
    return rates


if __name__ == "__main__":
    module, name, setting, *numbers = sys.argv[1:]
    benchmark: Benchmark = importlib.import_module(f"benchmarks.{module}").BENCHMARK
    print(json.dumps(measure(benchmark, name, benchmark.settings[setting], *map(int, numbers))))
