"""Count what a training step of each row of the papers' tables takes: results/costs.json.

    python workflow/costs.py

Takes some minutes, no GPU and no data. Run it where a model or a batch size changes: tests compare
only the numbers of parameters with the configurations, and all counts of one of them.
"""

import argparse
import json
from dataclasses import asdict

from nvp.config import load_config
from nvp.files import write_text
from nvp.paths import repository_root, results_root
from nvp.tables.published import read_published
from nvp.tables.rows import COSTS, TABLES
from nvp.training.cost import Cost, count_step

if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    facts = read_published()
    names = [row.config for table in TABLES for row in facts.rows(table)]
    configs = {name: load_config(repository_root() / "configs" / f"{name}.yaml") for name in names}
    counted: dict[str, Cost] = {}  # by model and batch size, which several rows share
    costs = {}
    for name, config in configs.items():
        key = f"{config.model.model_dump_json()} {config.training.batch_size}"
        if key not in counted:
            counted[key] = count_step(config)
        costs[name] = asdict(counted[key])
        print(name, costs[name], flush=True)
    write_text(results_root() / COSTS, json.dumps(costs, indent=2) + "\n")
