"""`python -m tests.bench [NAME ...]`, names of PARTS, costs or compare: run the benchmarks, write reports/benchmarks.{md,csv}
and reports/costs.csv."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench import (
    activation,
    circulant,
    compare,
    costs,
    discriminant,
    dynamic,
    engine,
    episodes,
    ghost,
    latency,
    multi_dimensional,
    parallel,
    scale,
    search,
    shards,
    table,
    training,
)

PARTS = {
    "training": training.rows,
    "latency": latency.rows,
    "discriminant": discriminant.rows,
    "dynamic": dynamic.rows,
    "search": search.rows,
    "circulant": circulant.rows,
    "multi_dimensional": multi_dimensional.rows,
    "ghost": ghost.rows,
    "episodes": episodes.rows,
    "activation": activation.rows,
    "shards": shards.rows,
    "parallel": parallel.rows,
    "engine": engine.rows,
    "scale": scale.rows,
}


def main() -> None:
    """Run the named benchmarks, all by default."""
    chosen = sys.argv[1:] or ["costs", "compare", *PARTS]
    reports = Path("reports")
    for name in chosen:
        if name == "costs":
            costs.collect(Path("runs/.costs"), reports / "costs.csv")
            continue
        if name == "compare":
            compare.write(reports)
            continue
        rows = PARTS[name]()
        table.write(rows, reports)
        for row in rows:
            print(" | ".join(row.cells()), flush=True)


if __name__ == "__main__":
    main()
