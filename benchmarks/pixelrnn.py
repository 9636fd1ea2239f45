"""Time the Pixel RNNs next to plain code: `python -m benchmarks.pixelrnn`.

Writes results_pixelrnn.json and results_pixelrnn.md.
"""

from __future__ import annotations

from benchmarks import processes
from benchmarks.measure_pixelrnn import NAMES
from benchmarks.report_pixelrnn import render
from benchmarks.settings import PIXEL_SETTINGS

BENCHMARK = processes.Benchmark(
    prog="python -m benchmarks.pixelrnn",
    description=__doc__,
    module="benchmarks.measure_pixelrnn",
    names=NAMES,
    settings=PIXEL_SETTINGS,
    everything=("small", "small-16"),
    render=render,
    stem="results_pixelrnn",
)


def main(arguments: list[str] | None = None) -> None:
    """Measure and report; the arguments are those of the command line."""
    processes.main(BENCHMARK, arguments)


if __name__ == "__main__":
    main()
