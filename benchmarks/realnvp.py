"""Time Real NVP next to its peers: `python -m benchmarks.realnvp`.

Every measurement is a fresh process, one at a time, and the contenders take turns: what slows the
machine for a while then slows all of them, and ratios hold. Writes results.json and results.md.
"""

from __future__ import annotations

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

from benchmarks.contenders import CONTENDERS
from benchmarks.measure import CEILING
from benchmarks.report import render
from benchmarks.settings import SETTINGS

HERE = Path(__file__).resolve().parent
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "bf16", "sve")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.realnvp", description=__doc__)
    parser.add_argument("--setting", choices=[*SETTINGS, "all"], default="small")
    parser.add_argument("--batch", type=int, default=64, help="images in a batch")
    parser.add_argument("--repeats", type=int, help="rounds, each a process for every contender")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the results")
    options = parser.parse_args(arguments)
    if options.batch < 2 or (options.repeats is not None and options.repeats < 1):
        parser.error("--batch must be at least 2 and --repeats at least 1")
    names = ["small", "paper"] if options.setting == "all" else [options.setting]
    file = options.output / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    started = time.perf_counter()
    for name in names:
        results[name] = run(name, options.batch, options.repeats or SETTINGS[name].rounds)
        options.output.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(results, indent=1) + "\n")
        (options.output / "results.md").write_text(render(results))
    print(render({name: results[name] for name in names}))
    took = (time.perf_counter() - started) / 60
    print(f"{took:.1f} minutes in all; written to {file} and {file.with_suffix('.md')}")


def run(setting: str, batch: int, rounds: int) -> dict[str, Any]:
    """All measurements of one setting: for each name, one per round."""
    record: dict[str, Any] = {
        "what": str(SETTINGS[setting]),
        "batch": batch,
        "steps": SETTINGS[setting].steps,
        "machine": machine(),
        "measured": {name: [] for name in (CEILING, *CONTENDERS)},
    }
    started = time.perf_counter()
    jobs = [(turn, name) for turn in range(rounds) for name in record["measured"]]
    for done, (turn, name) in enumerate(jobs):
        passed = time.perf_counter() - started
        left = f", about {passed / done * (len(jobs) - done) / 60:.1f} to go" if done else ""
        print(
            f"{setting} {done + 1}/{len(jobs)}: {name}, round {turn + 1} of {rounds} "
            f"({passed / 60:.1f} minutes gone{left})",
            flush=True,
        )
        record["measured"][name].append(measured(name, setting, batch))
    return record


def measured(name: str, setting: str, batch: int) -> dict[str, Any]:
    """One measurement in a fresh process; exits with its last words if it fails."""
    command = [sys.executable, "-m", "benchmarks.measure", name, setting]
    command += [str(batch), str(SETTINGS[setting].steps)]
    child = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    if child.returncode:
        if child.returncode < 0:
            why = f"killed by signal {-child.returncode}; out of memory? try a lower --batch"
        else:
            why = (child.stderr.strip().splitlines() or ["it said nothing"])[-1]
        sys.exit(f"{name} could not be measured: {why}")
    measurement: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return measurement


def machine() -> dict[str, Any]:
    """What the figures depend on, the load before the run included."""
    cpu, flags = platform.processor() or platform.machine(), set()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = [line.partition(":") for line in information.read_text().splitlines()]
        values = {key.strip(): value.strip() for key, _, value in lines}
        cpu = values.get("model name", cpu)
        flags = set(values.get("flags", values.get("Features", "")).split())
    return {
        "cpu": cpu,
        "flags": [flag for flag in FLAGS if flag in flags],
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


if __name__ == "__main__":
    main()
