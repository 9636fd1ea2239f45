"""Every row of the papers' tables: its published figure, what it costs, whether it was run."""

import json

from nvp.config import RunConfig
from nvp.errors import NVPError
from nvp.files import read
from nvp.ledger.entry import Run
from nvp.paths import results_root
from nvp.tables.cells import Table, cite, deviation, scored
from nvp.tables.published import UNVERIFIED, Published, published_figure
from nvp.training.cost import FLOPS_A_SECOND, SECONDS_AN_OPERATION, Cost

TABLES = ("table1", "binarized-mnist", "pixelrnn")  # Real NVP's Table 1, Pixel RNN's 4 to 6
COSTS = "costs.json"  # by workflow/costs.py


def paper_rows(facts: Published, ledger: dict[str, Run]) -> Table:
    """One line for each row of Real NVP's Table 1 and of Pixel RNN's Tables 4 to 6.

    Costs and configurations are those of this checkout, wherever the ledger is.
    """
    costs = read_costs()
    lines: list[tuple[str, ...]] = []
    for row in (row for name in TABLES for row in facts.rows(name)):
        config = row.planned
        if row.config not in costs:
            raise NVPError(f"{COSTS} lacks {row.config}: run `.venv/bin/python workflow/costs.py`")
        cost, run = costs[row.config], ledger.get(row.config)
        figure = published_figure(facts, row)
        printed = "no score was found in print"
        if figure is not None:
            printed = f"{figure.cell_with_unit}: {cite(figure)}"
        # On the images that the paper scores.
        here = f"not run: `nvp train configs/{row.config}.yaml`"
        if run is not None:
            here = f"{scored(run, row)}, recorded{deviation(run, config)}"
        lines.append(
            (
                f"{row.model} on {row.title}",
                printed,
                here,
                f"{cost.parameters / 1e6:.2f} M",
                f"{cost.gigabytes(config):.1f} GB",
                _length(config, cost, run),
            )
        )
    caption = (
        "Bits/dim or, for binarised MNIST, nats; test images for CIFAR-10 and MNIST, validation "
        f"images for the others. {UNVERIFIED} unverified. Parameters, memory and steps are of the "
        "configuration. (One that sets minutes alone has the steps of its run.) Parameters are "
        "counted, with those that the masks of a Pixel RNN hide. Memory and hours are estimates "
        "for one GPU of 80 GB, and were not measured. Memory is that of weights, gradients, "
        "moments, the average, and what the backward pass keeps at the configuration's batch size, "
        "in float32. A step takes the longer of its counted arithmetic, at "
        f"{FLOPS_A_SECOND / 1e12:.0f} TFLOP/s, and its counted operations, at "
        f"{SECONDS_AN_OPERATION * 1e6:.0f} microseconds each."
    )
    header = ("row", "published", "this code", "parameters", "memory", "steps (hours)")
    return Table(caption, header, lines)


def read_costs() -> dict[str, Cost]:
    """The counts by name of configuration, those of this checkout."""
    path = results_root() / COSTS
    content = read(path)
    try:
        return {name: Cost(**each) for name, each in json.loads(content).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise NVPError(f"{path} is damaged ({error}): restore it with git checkout") from error


def _length(config: RunConfig, cost: Cost, run: Run | None) -> str:
    """Steps and hours: the configuration's steps or, where it sets minutes alone, the run's."""
    steps = config.training.steps or (run.record.steps if run is not None else None)
    if steps is None:
        return f"{config.training.minutes:.0f} minutes, its budget"
    return f"{steps:,} ({cost.hours(steps):.1f})"
