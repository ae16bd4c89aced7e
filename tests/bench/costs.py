"""Core-seconds of each paper and scale, from what the engine noted when it computed the stages."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

ADDRESS = re.compile(r"stages/papers/(?P<paper>[^/]+)/dvc\.yaml:\w+@(?P<scale>smoke|small|medium|paper)\b")


def collect(folder: Path, table: Path) -> None:
    """Sum the noted seconds by paper and scale into `table`; rows of other papers and scales stay as they are.

    The report reads the table, so it is only rewritten here, on demand: a timing must not change a report by itself.
    """
    rows = {}
    if table.exists():
        with table.open(newline="") as handle:
            rows = {(row["paper"], row["scale"]): row["core_seconds"] for row in csv.DictReader(handle)}
    sums: dict[tuple[str, str], float] = {}
    for path in sorted(folder.glob("*.json")):
        note = json.loads(path.read_text())
        match = ADDRESS.match(note["stage"])
        if match:
            key = (match["paper"], match["scale"])
            sums[key] = sums.get(key, 0.0) + note["core_seconds"]
    rows.update({key: f"{value:.0f}" for key, value in sums.items()})
    table.parent.mkdir(exist_ok=True)
    with table.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["paper", "scale", "core_seconds"])
        writer.writerows([*key, value] for key, value in sorted(rows.items()))
