"""The benchmark table: one row a measurement, its reference measured in the same run, and the goal."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("name", "ours", "reference", "ratio", "goal")


@dataclass
class Row:
    """One benchmark. `ratio` is ours/reference unless the name says otherwise; `goal` is in words of the ratio."""

    name: str
    ours: str
    reference: str
    ratio: float
    goal: str

    def cells(self) -> list[str]:
        """The row as text."""
        return [self.name, self.ours, self.reference, f"{self.ratio:.3g}", self.goal]


def write(rows: Iterable[Row], folder: Path) -> None:
    """Write benchmarks.csv and benchmarks.md; rows of other benchmarks already in the CSV are kept."""
    path = folder / "benchmarks.csv"
    kept: dict[str, list[str]] = {}
    if path.exists():
        with path.open(newline="") as handle:
            kept = {cells[0]: cells for cells in list(csv.reader(handle))[1:]}
    kept.update({row.name: row.cells() for row in rows})
    folder.mkdir(exist_ok=True)
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(kept.values())
    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS), *(" | ".join(cells) for cells in kept.values())]
    text = "# Benchmarks\n\nMeasured by `make bench` on one machine; each reference in the same run. Timings are noisy: read the ratios.\n\n"
    (folder / "benchmarks.md").write_text(text + "".join(f"| {line} |\n" for line in lines))
