"""Tables from what was measured."""

from statistics import median, mode
from typing import Any

from benchmarks.benchmark import CEILING, FP32, PLAIN, SAMPLING, Benchmark
from nvp.tables.cells import Table

# Units that multiply bfloat16 matrices, by the processor's flags, the fastest first.
MATRIX_UNITS = ("amx_bf16", "avx512_bf16", "bf16")


def render(benchmark: Benchmark, results: dict[str, Any]) -> str:
    """Markdown for every setting in `results`."""
    parts = [f"# {benchmark.title}", f"Made by `python -m benchmarks.{benchmark.name}`."]
    parts += [section(benchmark, name, record) for name, record in results.items()]
    return "\n\n".join(parts) + "\n"


def section(benchmark: Benchmark, name: str, record: dict[str, Any]) -> str:
    machine = record["machine"]
    unit = next((unit for unit in MATRIX_UNITS if unit in machine["flags"]), "none")
    picked = mode(run["auto"] for run in record["measured"][CEILING])  # most often
    parts = [
        f"## {name}: {record['what']}; batch {record['batch']}",
        f"{machine['cpu']} ({', '.join(machine['flags'])}), matrix unit {unit}, "
        f"{machine['threads']} threads, load {machine['load_before']} before the run; PyTorch "
        f"{machine['torch']}, {machine['date']}. Medians over {len(record['measured'][CEILING])} "
        f"processes of {record['steps']} repeats. Peak memory is that of the process in training, "
        "its libraries included. FLOPs are two a multiply-add, a step is three forwards. The "
        "ceiling is the first convolution below in the same round, in the precision and layout "
        f"that are fastest for it. `nvp train` picks {picked} here.",
        *(contender_table(benchmark, kind, record) for kind in benchmark.kinds),
    ]
    if benchmark.draws_by_pixel:
        parts.append(sampling_table(benchmark, record))
    return "\n\n".join([*parts, ceiling_table(record)])


def contender_table(benchmark: Benchmark, kind: str, record: dict[str, Any]) -> str:
    """Medians of each contender of one kind, and what follows from them."""
    first = [next(iter(run["gflop_per_second"].values())) for run in record["measured"][CEILING]]
    ceilings = [max(map(median, rates.values())) for rates in first]
    plain = record["measured"][f"{kind}/{PLAIN}"]
    rows = []
    for name in benchmark.kinds[kind].contenders:
        runs = record["measured"][f"{kind}/{name}"]
        step, gflop = middle(runs, "step"), runs[0]["gflop_per_image"]
        work = 3 * gflop * record["batch"]
        ratios = [median(p["step"]) / median(r["step"]) for p, r in zip(plain, runs, strict=True)]
        shares = [100 * work / median(r["step"]) / c for r, c in zip(runs, ceilings, strict=True)]
        row = {
            benchmark.kinds[kind].title: name,
            "step": f"{1000 * step:.0f} ms",
            "plain over it": by_round(ratios, ".2f"),
            "evaluate": f"{1000 * middle(runs, 'evaluate'):.0f} ms",
            "peak memory": f"{median(run['peak_megabytes'] for run in runs):.0f} MB",
            "parameters": f"{runs[0]['parameters']}",
            "GFLOP an image": f"{gflop:.3g}",
            "GFLOP/s": f"{work / step:.3g}",
            "% of ceiling": by_round(shares, ".0f"),
        }
        if not benchmark.draws_by_pixel:
            row["sample"] = f"{1000 * middle(runs, 'sample'):.0f} ms"
        rows.append(row)
    return table(rows)


def sampling_table(benchmark: Benchmark, record: dict[str, Any]) -> str:
    """Cached sampling, and by definition: estimated as one forward pass for every sub-pixel."""
    rows = []
    for key, kind in benchmark.kinds.items():
        runs = record["measured"][f"{key}/{SAMPLING}"]
        # A pass in evaluation keeps freed memory, as `nvp sample` does.
        forward = middle(record["measured"][f"{key}/{FP32}"], "evaluate")
        sample, estimated = middle(runs, "sample"), runs[0]["sub_pixels"] * forward
        took, passes = median(r["by_definition"] for r in runs), runs[0]["passes_by_definition"]
        row = {
            f"drawing {record['batch']} images, fp32": kind.title,
            "cached": f"{sample:.2f} s",
            "one pass": f"{1000 * forward:.0f} ms",
            "by definition (estimated)": f"{estimated:.0f} s",
            "over cached": f"{estimated / sample:.0f}",
            "passes really run": f"{passes} in {took:.2f} s, {1000 * took / passes:.0f} ms each",
            "images differing": f"{max(run['differ'] for run in runs)}",
        }
        rows.append(row)
    return table(rows)


def ceiling_table(record: dict[str, Any]) -> str:
    """Median GFLOP/s by shape of the convolution, then by precision and layout."""
    runs = [run["gflop_per_second"] for run in record["measured"][CEILING]]
    rows = []
    for shape, names in runs[0].items():
        of_shape = [run[shape] for run in runs]
        rates = {name: f"{middle(of_shape, name):.0f}" for name in names}
        rows.append({"GFLOP/s, forward and backward": shape, **rates})
    return table(rows)


def middle(runs: list[dict[str, Any]], key: str) -> float:
    """The median of what all `runs` measured under `key`."""
    return median(value for run in runs for value in run[key])


def by_round(values: list[float], digits: str) -> str:
    """The middle round, and the range."""
    middle, least, most = (f"{f(values):{digits}}" for f in (median, min, max))
    return f"{middle} ({least} to {most})"


def table(rows: list[dict[str, str]]) -> str:
    """A Markdown table."""
    return Table("", tuple(rows[0]), [tuple(row.values()) for row in rows]).markdown()
