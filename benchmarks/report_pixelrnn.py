"""Tables from what was measured of the Pixel RNNs."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.contenders_pixelrnn import BF16, CONTENDERS, PLAIN, SAMPLING
from benchmarks.measure import CEILING
from benchmarks.report import ceiling_rates, chosen, middle, table
from nvp.autoregressive.config import Kind

TITLES = {
    Kind.DIAGONAL_BILSTM: "Diagonal BiLSTM",
    Kind.ROW_LSTM: "Row LSTM",
    Kind.PIXELCNN: "PixelCNN",
}
# How many times shorter a step is than the plain one's; and, of drawing images, than by definition.
LEAST_SPEED_UP = {Kind.DIAGONAL_BILSTM: 6, Kind.ROW_LSTM: 2}
LEAST_SAMPLING_SPEED_UP = {Kind.DIAGONAL_BILSTM: 20, Kind.ROW_LSTM: 20, Kind.PIXELCNN: 50}
AIM = 12  # of the Diagonal BiLSTM, beyond its goal
LEAST_SHARE = 0.6  # of the ceiling, by the PixelCNN
FORMATS = {PLAIN: "fp32 NCHW", BF16: "bf16 NHWC"}  # of the convolutions; else fp32 NHWC


def render(results: dict[str, Any]) -> str:
    """Markdown for every setting in `results`."""
    parts = ["# Pixel RNNs next to plain code", "Made by `python -m benchmarks.pixelrnn`."]
    parts += [section(name, record) for name, record in results.items()]
    return "\n\n".join(parts) + "\n"


def section(name: str, record: dict[str, Any]) -> str:
    machine = record["machine"]
    ceilings = ceiling_rates(record)
    return "\n\n".join(
        [
            f"## {name}: {record['what']}; batch {record['batch']}",
            f"{machine['cpu']} ({', '.join(machine['flags'])}), {machine['threads']} threads, "
            f"load {machine['load_before']} before the run; PyTorch {machine['torch']}, "
            f"{machine['date']}. Medians over {len(record['measured'][CEILING])} processes of "
            f"{record['steps']} repeats. Peak memory is that of training, FLOPs are two a "
            "multiply-add (masked weights and the corners of a skewed map included), a step is "
            "three forwards; the ceiling is the 3x3 convolution below in the contender's own "
            f"precision and layout. `nvp train` picks {chosen(record).removeprefix('nvp ')} here.",
            *(contender_table(kind, record) for kind in CONTENDERS),
            sampling_table(record),
            table(
                ["GFLOP/s, forward and backward", *next(iter(ceilings.values()))],
                [
                    [shape, *(f"{rate:.0f}" for rate in row.values())]
                    for shape, row in ceilings.items()
                ],
            ),
            goals(record),
        ]
    )


def contender_table(kind: Kind, record: dict[str, Any]) -> str:
    head = "step|plain over it|evaluate|peak memory|parameters|GFLOP an image|GFLOP/s|of ceiling"
    rows = [
        [
            name,
            f"{1000 * figures['step']:.0f} ms",
            f"{figures['speed_up']:.2f}",
            f"{1000 * figures['evaluate']:.0f} ms",
            f"{figures['peak_megabytes']:.0f} MB",
            f"{figures['parameters']}",
            f"{figures['gflop_per_image']:.3g}",
            f"{figures['gflop_per_second']:.3g}",
            f"{100 * figures['share']:.0f} %",
        ]
        for name, figures in summaries(kind, record).items()
    ]
    return table([TITLES[kind], *head.split("|")], rows)


def summaries(kind: Kind, record: dict[str, Any]) -> dict[str, dict[str, float]]:
    """For each contender of this kind: medians in seconds, and what follows from them."""
    ceiling = next(iter(ceiling_rates(record).values()))
    plain = middle(record["measured"][f"{kind}/{PLAIN}"], "step")
    found = {}
    for name in CONTENDERS[kind]:
        runs = record["measured"][f"{kind}/{name}"]
        step, gflop = middle(runs, "step"), runs[0]["gflop_per_image"]
        rate = 3 * gflop * record["batch"] / step
        found[name] = {
            "step": step,
            "speed_up": plain / step,
            "evaluate": middle(runs, "evaluate"),
            "peak_megabytes": median(run["peak_megabytes"] for run in runs),
            "parameters": runs[0]["parameters"],
            "gflop_per_image": gflop,
            "gflop_per_second": rate,
            "share": rate / ceiling[FORMATS.get(name, "fp32 NHWC")],
        }
    return found


def sampling_table(record: dict[str, Any]) -> str:
    """Cached sampling, and by definition: estimated as one forward pass for every pixel."""
    head = (
        "cached|one pass|by definition (estimated)|over cached|passes really run|images differing"
    )
    rows = []
    for kind in CONTENDERS:
        figures = sampling(kind, record)
        passes, took = figures["passes"], figures["by_definition"]
        rows.append(
            [
                TITLES[kind],
                f"{figures['sample']:.2f} s",
                f"{1000 * figures['forward']:.0f} ms",
                f"{figures['estimated']:.0f} s",
                f"{figures['speed_up']:.0f}",
                f"{passes:.0f} in {took:.2f} s, {1000 * took / passes:.0f} ms each",
                f"{figures['differ']:.0f}",
            ]
        )
    return table([f"drawing {record['batch']} images, fp32", *head.split("|")], rows)


def sampling(kind: Kind, record: dict[str, Any]) -> dict[str, float]:
    """Medians in seconds, and what follows from them."""
    runs = record["measured"][f"{kind}/{SAMPLING}"]
    sample, forward = middle(runs, "sample"), middle(runs, "forward")
    estimated = runs[0]["pixels"] * forward
    return {
        "sample": sample,
        "forward": forward,
        "estimated": estimated,
        "speed_up": estimated / sample,
        "by_definition": median(run["by_definition"] for run in runs),
        "passes": runs[0]["passes_by_definition"],
        "differ": max(run["differ"] for run in runs),
    }


def goals(record: dict[str, Any]) -> str:
    """What this project set out to reach, in the precision that `nvp train` picks."""
    name = chosen(record)
    lines: list[tuple[str, float, float]] = []
    for kind, goal in LEAST_SPEED_UP.items():
        speed_up = summaries(kind, record)[name]["speed_up"]
        lines.append((f"{TITLES[kind]}: plain step over ours", speed_up, goal))
        if kind is Kind.DIAGONAL_BILSTM:
            lines.append(("the same, the aim", speed_up, AIM))
    share = summaries(Kind.PIXELCNN, record)[BF16]["share"]
    lines.append(("PixelCNN, bf16 whatever is picked: share of the ceiling", share, LEAST_SHARE))
    for kind, goal in LEAST_SAMPLING_SPEED_UP.items():
        speed_up = sampling(kind, record)["speed_up"]
        lines.append((f"{TITLES[kind]}: drawing by definition over cached", speed_up, goal))
    rows = [
        [what, f"{value:.2f}", f"at least {goal:g}", "yes" if value >= goal else "no"]
        for what, value, goal in lines
    ]
    return table([f"goal for {name}", "measured", "goal", "reached"], rows)
