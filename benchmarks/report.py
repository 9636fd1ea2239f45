"""Tables from what was measured."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

from benchmarks.contenders import PLAIN
from benchmarks.measure import CEILING

# Of the training step: its time over that of plain code, its share of the ceiling, its megabytes.
MOST_OF_PLAIN = 0.52
LEAST_SHARE = {"small": 0.65, "paper": 0.85}
MOST_MEGABYTES = {"paper": 3400}


def render(results: dict[str, Any]) -> str:
    """Markdown for every setting in `results`."""
    parts = ["# Real NVP next to its peers", "Made by `python -m benchmarks.realnvp`."]
    parts += [section(name, record) for name, record in results.items()]
    return "\n\n".join(parts) + "\n"


def section(name: str, record: dict[str, Any]) -> str:
    machine = record["machine"]
    measured = record["measured"]
    rounds = len(measured[PLAIN])
    ceilings = ceiling_rates(record)
    return "\n\n".join(
        [
            f"## {name}: {record['what']}, batch {record['batch']}",
            f"{machine['cpu']} ({', '.join(machine['flags'])}), {machine['threads']} threads, "
            f"load {machine['load_before']} before the run; PyTorch {machine['torch']}, "
            f"{machine['date']}. Medians over {rounds} processes of {record['steps']} repeats. "
            "Peak memory is that of training, FLOPs are two a multiply-add, a step is three "
            "forwards; the ceiling is the fastest convolution of the full resolution below.",
            contender_table(record),
            table(
                ["GFLOP/s, forward and backward", *next(iter(ceilings.values()))],
                [
                    [shape, *(f"{rate:.0f}" for rate in row.values())]
                    for shape, row in ceilings.items()
                ],
            ),
            goals(name, record),
        ]
    )


def contender_table(record: dict[str, Any]) -> str:
    head = "contender|step|of plain|evaluate|sample|peak memory|GFLOP an image|GFLOP/s|of ceiling"
    rows = []
    for name, figures in summaries(record).items():
        picked = " (`nvp train` picks it)" if name == chosen(record) else ""
        rows.append(
            [
                name + picked,
                f"{1000 * figures['step']:.0f} ms",
                f"{figures['of_plain']:.2f}",
                f"{1000 * figures['evaluate']:.0f} ms",
                f"{1000 * figures['sample']:.0f} ms",
                f"{figures['peak_megabytes']:.0f} MB",
                f"{figures['gflop_per_image']:.3g}",
                f"{figures['gflop_per_second']:.0f}",
                f"{100 * figures['share']:.0f} %",
            ]
        )
    return table(head.split("|"), rows)


def goals(name: str, record: dict[str, Any]) -> str:
    """What this project set out to reach in the precision that `nvp train` picks."""
    figures = summaries(record)[chosen(record)]
    lines = [("step over plain fp32 NCHW", figures["of_plain"], "at most", MOST_OF_PLAIN)]
    if name in LEAST_SHARE:
        lines.append(("share of the ceiling", figures["share"], "at least", LEAST_SHARE[name]))
    if name in MOST_MEGABYTES:
        gigabytes = figures["peak_megabytes"] / 1000
        lines.append(("peak memory, GB", gigabytes, "at most", MOST_MEGABYTES[name] / 1000))
    rows = []
    for what, value, side, goal in lines:
        reached = value <= goal if side == "at most" else value >= goal
        rows.append([what, f"{value:.2f}", f"{side} {goal:.2f}", "yes" if reached else "no"])
    # The shortest step that this machine's convolutions allow: all of its FLOPs at the ceiling.
    least = figures["of_plain"] * figures["share"]
    rows.insert(1, ["the same, were every FLOP at the ceiling", f"{least:.2f}", "", ""])
    return table([f"goal for {chosen(record)}", "measured", "goal", "reached"], rows)


def summaries(record: dict[str, Any]) -> dict[str, dict[str, float]]:
    """For each contender: medians in seconds, and what follows from them."""
    ceiling = max(next(iter(ceiling_rates(record).values())).values())
    contenders = {name: runs for name, runs in record["measured"].items() if name != CEILING}
    plain = middle(contenders[PLAIN], "step")
    found = {}
    for name, runs in contenders.items():
        step = middle(runs, "step")
        gflop = runs[0]["gflop_per_image"]
        rate = 3 * gflop * record["batch"] / step
        found[name] = {
            "step": step,
            "of_plain": step / plain,
            "evaluate": middle(runs, "evaluate"),
            "sample": middle(runs, "sample"),
            "peak_megabytes": median(run["peak_megabytes"] for run in runs),
            "gflop_per_image": gflop,
            "gflop_per_second": rate,
            "share": rate / ceiling,
        }
    return found


def ceiling_rates(record: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Median GFLOP/s by shape of the convolution, then by precision and layout."""
    runs = [run["gflop_per_second"] for run in record["measured"][CEILING]]
    return {
        shape: {name: median(rate for run in runs for rate in run[shape][name]) for name in row}
        for shape, row in runs[0].items()
    }


def chosen(record: dict[str, Any]) -> str:
    """The contender with the precision that `nvp train` chose most often."""
    votes = Counter(run["auto"] for run in record["measured"][CEILING])
    return f"nvp {votes.most_common(1)[0][0]}"


def middle(runs: list[dict[str, Any]], key: str) -> float:
    return median(value for run in runs for value in run[key])


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, its columns aligned so that it reads in a terminal too."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells: list[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        aligned = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        return f"| {' | '.join(aligned)} |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, rows)])
