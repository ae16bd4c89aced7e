"""Reading a paper's metrics: exactly the files that the plan lists, checked before anything is computed from them.

The list comes from claim.yaml (arms, data sets) and params/config.yaml (seeds), never from what lies in the folder: a
missing file is an error, and the file of a seed or arm that is no longer asked for is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas

from stages.lib import artifacts
from stages.lib.errors import StageError
from stages.report.schema import Paper

ROW = {"dataset": str, "arm": str, "seed": int, "metric": str, "value": (int, float)}
LAYER = {"dataset": str, "arm": str, "seed": int, "layer": str, "channels": int, "kept": int}


@dataclass(frozen=True)
class Listed:
    """A metrics file that must exist. `arm` is None where one file holds all arms of its data set."""

    path: Path
    dataset: str
    arm: str | None
    repetitions: range


def datasets(paper: Paper, scale: str) -> list[str]:
    """Data sets on which some claim is tested at this scale, in the order of claim.yaml."""
    return list(dict.fromkeys(claim.dataset for claim in paper.claims if scale in claim.scales))


def listed(paper: Paper, scale: str, folder: Path, seeds: Sequence[int], repeats: int) -> list[Listed]:
    """Every file of the grid. Matrix seed s stands for the repetitions s * repeats ... s * repeats + repeats - 1."""
    files = []
    for dataset in datasets(paper, scale):
        single = dataset in paper.single_files
        for arm in [None] if single else paper.arms:
            for seed in seeds:
                name = [dataset, f"{seed}.json"] if arm is None else [dataset, arm, f"{seed}.json"]
                files.append(Listed(folder.joinpath(*name), dataset, arm, range(seed * repeats, (seed + 1) * repeats)))
    return files


def read(files: Sequence[Listed]) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """All metric rows and all layer rows. Raises StageError naming the first file that is missing, foreign or
    inconsistent.
    """
    missing = [file.path for file in files if not file.path.is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise StageError(
            f"{missing[0]}{more}: missing; expected a file per data set, arm and seed; run the paper's stages first"
        )
    rows: list[dict] = []
    layers: list[dict] = []
    for file in files:
        content = artifacts.read_json(file.path)
        if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
            raise StageError(f"{file.path}: expected an object with the key rows; run the stage that makes it again")
        rows += _checked(content["rows"], ROW, file)
        layers += _checked(content.get("layers", []), LAYER, file)
        _check_seeds(rows[-len(content["rows"]) :] if content["rows"] else [], file)
    table = pandas.DataFrame(rows, columns=list(ROW))
    layer_table = pandas.DataFrame(layers, columns=list(LAYER))
    _refuse_repeats(table, ["dataset", "arm", "seed", "metric"])
    _refuse_repeats(layer_table, ["dataset", "arm", "seed", "layer"])
    return table, layer_table


def _checked(rows: object, columns: dict, file: Listed) -> list[dict]:
    """The rows, if each has exactly these columns with finite values and belongs to this file."""
    if not isinstance(rows, list):
        raise StageError(f"{file.path}: expected a list of rows, got {type(rows).__name__}")
    for number, row in enumerate(rows):
        where = f"{file.path}: row {number}"
        if not isinstance(row, dict) or set(row) != set(columns):
            raise StageError(f"{where}: expected the columns {', '.join(columns)}, got {row}")
        for name, kind in columns.items():
            if not isinstance(row[name], kind) or isinstance(row[name], bool):
                raise StageError(f"{where}: {name} has a wrong type: {row[name]!r}")
            if isinstance(row[name], float) and not math.isfinite(row[name]):
                raise StageError(
                    f"{where}: {row.get('metric', name)} is {row[name]}, expected a finite number; see that run's log"
                )
        if row["dataset"] != file.dataset or file.arm not in (None, row["arm"]):
            raise StageError(f"{where}: holds {row['dataset']}/{row['arm']}, expected {file.dataset}/{file.arm or 'any arm'}")
    return rows


def _check_seeds(rows: list[dict], file: Listed) -> None:
    """Each arm and metric of the file covers exactly the file's repetitions."""
    found: dict[tuple[str, str], set[int]] = {}
    for row in rows:
        found.setdefault((row["arm"], row["metric"]), set()).add(row["seed"])
    if not found:
        raise StageError(f"{file.path}: holds no rows; run the stage that makes it again")
    for (arm, metric), seeds in found.items():
        if seeds != set(file.repetitions):
            first, last = file.repetitions[0], file.repetitions[-1]
            raise StageError(
                f"{file.path}: {arm} {metric} has repetitions {sorted(seeds)}, expected {first} to {last}; "
                "see seeds and repeats in params"
            )


def _refuse_repeats(table: pandas.DataFrame, key: list[str]) -> None:
    """StageError if one measurement stands twice."""
    twice = table[table.duplicated(key)]
    if len(twice):
        raise StageError(f"metrics: {', '.join(f'{k} {twice.iloc[0][k]}' for k in key)} stands in two rows")
