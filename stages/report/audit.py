"""The audit: published figures that need no training, set beside what was computed. Each paper's audit stage writes
its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas

from stages.lib.errors import StageError

COLUMNS = [
    "paper",
    "configuration",
    "quantity",
    "published",
    "computed",
    "relative_error",
    "tolerance",
    "ok",
    "read_from",
]


def load(folder: Path, papers: Sequence[str]) -> pandas.DataFrame:
    """The rows of <folder>/<paper>.csv of every paper. Raises StageError for a missing file, a wrong column or an
    `ok` that is not true.
    """
    tables = [_load_one(folder / f"{paper}.csv", paper) for paper in papers]
    return pandas.concat(tables, ignore_index=True) if tables else pandas.DataFrame(columns=COLUMNS)


def _load_one(path: Path, paper: str) -> pandas.DataFrame:
    """One paper's rows, checked."""
    if not path.is_file():
        raise StageError(f"{path}: missing; run the audit stage of {paper} first")
    try:
        table = pandas.read_csv(path, dtype={"paper": str, "configuration": str, "quantity": str, "read_from": str})
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise StageError(f"{path}: not a table ({error}); run the audit stage of {paper} again") from error
    if list(table.columns) != COLUMNS:
        raise StageError(f"{path}: expected the columns {', '.join(COLUMNS)}, got {', '.join(map(str, table.columns))}")
    for column in ("published", "computed", "tolerance"):
        if table[column].isna().any() or not pandas.api.types.is_numeric_dtype(table[column]):
            raise StageError(f"{path}: column {column} holds something that is not a number")
    if not set(table["ok"].astype(str)) <= {"True", "False"}:
        raise StageError(f"{path}: column ok: expected True or False")
    if set(table["paper"]) - {paper}:
        raise StageError(f"{path}: holds rows of {', '.join(sorted(set(table['paper']) - {paper}))}")
    return table.assign(ok=_within(table, path))


def _within(table: pandas.DataFrame, path: Path) -> pandas.Series:
    """Whether computed and published agree, derived anew; StageError if the file's own `ok` says something else."""
    error = (table["computed"] - table["published"]).abs() / table["published"].abs().where(table["published"] != 0, 1)
    within = error <= table["tolerance"] * (1 + 1e-9) + 1e-15
    wrong = table[within != (table["ok"].astype(str) == "True")]
    if len(wrong):
        row = wrong.iloc[0]
        raise StageError(
            f"{path}: {row['configuration']} {row['quantity']}: ok is {row['ok']}, its figures say otherwise; "
            "run its stage again"
        )
    return within
