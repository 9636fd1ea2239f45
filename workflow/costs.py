"""Count what a training step of each row of the papers' tables takes: results/costs.json.

    python workflow/costs.py

Takes some minutes, no GPU and no data. Run it where a model or a batch size changes: tests compare
only the numbers of parameters with the configurations, and all counts of one of them.
"""

import argparse
import json
from dataclasses import asdict

from nvp.files import write_text
from nvp.paths import results_root
from nvp.tables.published import read_published
from nvp.tables.rows import COSTS, TABLES
from nvp.training.cost import count_step

if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    facts = read_published()
    costs = {}
    for row in (row for table in TABLES for row in facts.rows(table)):
        costs[row.config] = asdict(count_step(row.planned))
        print(row.config, costs[row.config], flush=True)
    write_text(results_root() / COSTS, json.dumps(costs, indent=2) + "\n")
