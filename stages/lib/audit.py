"""A row of the audit: a published figure beside the one computed here, without training."""

from typing import Any


def audit_row(
    paper: str, configuration: str, quantity: str, published: float, computed: float, tolerance: float, read_from: str
) -> dict[str, Any]:
    """One row in the columns of reports/audit.csv.

    Args:
        paper: The paper's slug, as its folder is called.
        configuration: The net or setting, and `quantity` what was published of it; together they name the row.
        published: The published figure, in the unit that the quantity names; not 0.
        computed: The same, computed here.
        tolerance: Greatest relative error that still counts as agreement; 0 for integers.
        read_from: Where the published figure was read, and how (read, computed, recalled, inferred).
    """
    # The difference of integers is exact; some exceed what a float holds.
    error = (computed - published) / published
    return {
        "paper": paper, "configuration": configuration, "quantity": quantity, "published": published, "computed": computed,
        "relative_error": error, "tolerance": tolerance, "ok": abs(error) <= tolerance, "read_from": read_from,
    }  # fmt: skip


def write_audit(path: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows as CSV and say which of them differ. Raises StageError if the file cannot be written."""
    from stages.lib.artifacts import write_csv

    write_csv(path, rows)
    for row in rows:
        if not row["ok"]:
            print(
                f"differs: {row['configuration']}: {row['quantity']}: published {row['published']}, computed {row['computed']}"
            )
    print(f"{sum(row['ok'] for row in rows)} of {len(rows)} published figures agree; {path}")
