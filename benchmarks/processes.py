"""Measurements, each in a process of its own, one at a time: for benchmarks against peers.

The contenders take turns, round after round: what slows the machine for a while then slows all of
them, and ratios hold.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.benchmark import Benchmark
from benchmarks.report import render
from nvp.files import write_text
from nvp.progress import counting
from nvp.runs.provenance import code_commit, cpu_name

HERE = Path(__file__).resolve().parent
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "bf16", "sve")


def main(benchmark: Benchmark, arguments: list[str] | None = None) -> None:
    """Measure what the arguments ask for; write the results as JSON and as Markdown."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{benchmark.name}", description=f"{benchmark.title}, timed."
    )
    parser.add_argument("--setting", choices=[*benchmark.settings, "all"], default="small")
    parser.add_argument("--batch", type=int, help="images in a batch")
    parser.add_argument("--repeats", type=int, help="rounds, each a process for every contender")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the results")
    options = parser.parse_args(arguments)
    batch_is_low = options.batch is not None and options.batch < 2
    if batch_is_low or (options.repeats is not None and options.repeats < 1):
        parser.error("--batch must be at least 2 and --repeats at least 1")
    every = [name for name in benchmark.settings if name != "tiny"]  # which is for tests
    names = every if options.setting == "all" else [options.setting]
    file = options.output / f"{benchmark.stem}.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    started, conditions = time.perf_counter(), machine()  # before any load of its own
    for name in names:
        setting = benchmark.settings[name]
        batch, rounds = options.batch or setting.batch, options.repeats or setting.rounds
        results[name] = run(benchmark, name, batch, rounds, conditions)
        write_text(file, json.dumps(results, indent=1) + "\n")
        write_text(file.with_suffix(".md"), render(benchmark, results))
    print(render(benchmark, {name: results[name] for name in names}))
    took = (time.perf_counter() - started) / 60
    print(f"{took:.1f} minutes in all; written to {file} and {file.with_suffix('.md')}")


def run(
    benchmark: Benchmark, setting: str, batch: int, rounds: int, conditions: dict[str, Any]
) -> dict[str, Any]:
    """All measurements of one setting: for each name, one per round."""
    chosen = benchmark.settings[setting]
    record: dict[str, Any] = {
        "what": chosen.what,
        "batch": batch,
        "steps": chosen.steps,
        "machine": conditions,
        "measured": {name: [] for name in benchmark.names},
    }
    jobs = rounds * benchmark.names
    with counting(setting, len(jobs)) as progress:
        for done, name in enumerate(jobs, start=1):
            measurement = measured(benchmark.name, name, setting, batch, chosen.steps)
            record["measured"][name].append(measurement)
            progress(done)
    return record


def measured(benchmark: str, name: str, setting: str, batch: int, steps: int) -> dict[str, Any]:
    """One measurement in a fresh process; exits with its last words if it fails."""
    command = [sys.executable, "-m", "benchmarks.measure", benchmark, name, setting]
    command += [str(batch), str(steps)]
    child = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    if child.returncode:
        if child.returncode < 0:
            why = f"killed by signal {-child.returncode}; out of memory? try a lower --batch"
        else:
            why = (child.stderr.strip().splitlines() or ["it said nothing"])[-1]
        sys.exit(f"{name} could not be measured: {why}")
    return json.loads(child.stdout.splitlines()[-1])


def machine() -> dict[str, Any]:
    """The conditions of a measurement, the load before it included."""
    information = Path("/proc/cpuinfo")
    words = set(information.read_text().split()) if information.exists() else set()
    return {
        "cpu": cpu_name(),
        "flags": [flag for flag in FLAGS if flag in words],
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "commit": code_commit(),
    }
