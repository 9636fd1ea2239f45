"""Time Real NVP next to its peers: `python -m benchmarks.realnvp`.

Writes results.json and results.md.
"""

from typing import Any

from benchmarks import processes
from benchmarks.benchmark import BF16, FP32, PLAIN, Benchmark, Setting, TimedKind, ours, peer
from nvp.config import Precision
from nvp.flows.config import RealNVPConfig


def setting(
    image_shape: tuple[int, int, int], num_blocks: int, width: int, **repeats: Any
) -> Setting:
    """The paper's model of two scales at some size, and the convolutions of its first scale."""
    channels, height, side = image_shape
    config = RealNVPConfig.paper(image_shape, num_scales=2, num_blocks=num_blocks, width=width)
    what = f"{height}x{side}x{channels}, {num_blocks} blocks, {width} maps, 2 scales"
    convolutions = ((3, width, width, side), (3, 2 * width, 2 * width, side // 2))
    return Setting(what, {"realnvp": config}, convolutions, **repeats)


BENCHMARK = Benchmark(
    name="realnvp",
    title="Real NVP next to its peers",
    kinds={
        "realnvp": TimedKind(
            "Real NVP",
            {
                FP32: ours(Precision.FP32),
                BF16: ours(Precision.BF16),
                PLAIN: peer("plain_realnvp", "PlainRealNVP"),
                "normflows": peer("library", "LibraryRealNVP"),
            },
        )
    },
    settings={
        "tiny": setting((1, 8, 8), num_blocks=1, width=8, rounds=1, steps=1),
        "small": setting((1, 28, 28), num_blocks=2, width=32),
        "paper": setting((3, 32, 32), num_blocks=8, width=64, rounds=2, steps=2),
    },
    stem="results",
)

if __name__ == "__main__":
    processes.main(BENCHMARK)
