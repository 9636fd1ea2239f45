"""Time Real NVP next to its peers: `python -m benchmarks.realnvp`.

Writes results.json and results.md.
"""

from __future__ import annotations

from benchmarks import processes
from benchmarks.contenders import CONTENDERS
from benchmarks.measure import CEILING
from benchmarks.report import render
from benchmarks.settings import SETTINGS

BENCHMARK = processes.Benchmark(
    prog="python -m benchmarks.realnvp",
    description=__doc__,
    module="benchmarks.measure",
    names=(CEILING, *CONTENDERS),
    settings=SETTINGS,
    everything=("small", "paper"),
    render=render,
    stem="results",
)


def main(arguments: list[str] | None = None) -> None:
    """Measure and report; the arguments are those of the command line."""
    processes.main(BENCHMARK, arguments)


if __name__ == "__main__":
    main()
