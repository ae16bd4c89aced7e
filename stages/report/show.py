"""The claims on a terminal, and where the reports lie.

python -m stages.report.show
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from stages.lib.errors import StageError, report

REPORTS = Path("reports")
COLOURS = {
    "reproduced": "32",
    "within tolerance": "36",
    "inconclusive": "33",
    "contradicted": "31",
    "not testable at this scale": "90",
}
PLACES = [
    ("index.html", "the whole report, for a browser"),
    ("claims.md", "claims in full"),
    ("claims.csv", "claims for programs"),
    ("audit.md", "published figures computed without training"),
    ("papers/", "all arms of each paper"),
    ("figures/", "figures as png and svg"),
]


def render(table: list[dict[str, str]], width: int, colour: bool) -> str:
    """The rows of claims.csv (as texts) in lines of at most `width` characters."""
    from stages.report import text

    lines: list[str] = []
    for number, row in enumerate(table, 1):
        verdict = f"\x1b[1;{COLOURS.get(row['verdict'], '0')}m{row['verdict']}\x1b[0m" if colour else row["verdict"].upper()
        lines += [f"{number:>3}  {verdict}  {row['paper']}, {row['kind']}"]
        lines += [f"     {line}" for line in text.wrap(row["claim"], max(40, width - 6))]
        if row["difference"]:
            method, baseline, mean, low, high = (
                _number(row[k]) for k in ("method_mean", "baseline_mean", "difference", "ci_low", "ci_high")
            )
            places = text.decimals(method, baseline)
            means = f"{row['method_arm']} {text.number(method, places)}, "
            means += f"{row['baseline_arm']} {text.number(baseline, places)}"
            lines += [f"     {line}" for line in text.wrap(f"{text.metric_label(row['metric'])}: {means}", max(40, width - 6))]
            lines += [f"     difference {text.difference(mean, low, high)}"]
        repetitions = f", n = {row['n_seeds']}" if row["difference"] else ""
        lines += [f"     scale {row['scale']}, source {row['source']}{repetitions}", ""]
    return "\n".join(lines)


def _number(value: str) -> float:
    return float(value) if value else float("nan")


def main() -> int:
    """Print the table; exit status 1 with one line when there is no report yet."""
    import csv

    path = REPORTS / "claims.csv"
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            table = list(csv.DictReader(handle))
    except OSError as error:
        return report(StageError(f"{path}: {error.strerror}; make the report first (make report)"))
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    places = [f"  {REPORTS}/{name:<14} {what}" for name, what in PLACES if (REPORTS / name).exists()]
    try:
        print(render(table, min(shutil.get_terminal_size().columns, 110), colour), *places, sep="\n", flush=True)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
