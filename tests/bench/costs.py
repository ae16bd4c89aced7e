"""The table of costs in the report."""

from __future__ import annotations

import csv
from pathlib import Path

from workflow import costs


def collect(folder: Path, table: Path) -> None:
    """Sum the noted seconds by paper and scale into `table`; rows of other papers and scales stay as they are.

    The report reads the table, so it is only rewritten here, on demand: a timing must not change a report by itself.
    """
    rows = {}
    if table.exists():
        with table.open(newline="") as handle:
            rows = {(row["paper"], row["scale"]): row["core_seconds"] for row in csv.DictReader(handle)}
    rows.update({key: f"{value:.0f}" for key, value in costs.by_paper(folder).items()})
    table.parent.mkdir(exist_ok=True)
    with table.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["paper", "scale", "core_seconds"])
        writer.writerows([*key, value] for key, value in sorted(rows.items()))
