"""What the report stands on: the summaries of every paper and scale, the audit, the costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas

from stages.lib import artifacts
from stages.lib.errors import StageError
from stages.report import arms, audit, claims
from stages.report.claims import SCALES


@dataclass(frozen=True)
class Summary:
    """One paper at one scale: the content of paper.json and its tables. What this run computed has no `commit`; kept figures
    have the commit they were measured at, and what that cost.
    """

    about: dict
    claims: pandas.DataFrame
    arms: pandas.DataFrame
    layers: pandas.DataFrame
    commit: str = ""
    core_seconds: float | None = None

    @property
    def slug(self) -> str:
        """The paper's slug."""
        return self.about["slug"]

    @property
    def scale(self) -> str:
        """The scale of these results."""
        return self.about["scale"]


@dataclass(frozen=True)
class Results:
    """Everything that is reported; `claims` is the merged table with core_seconds filled in."""

    summaries: list[Summary]
    claims: pandas.DataFrame
    audit: pandas.DataFrame
    inputs: list[Path]

    def of(self, slug: str) -> list[Summary]:
        """The summaries of one paper, by scale."""
        return [summary for summary in self.summaries if summary.slug == slug]

    def errata(self, slug: str) -> dict[str, str]:
        """Why audited figures of a paper do not agree, by "configuration: quantity"."""
        return self.of(slug)[0].about.get("errata", {})

    def pictures(self, slug: str) -> dict[str, str]:
        """Captions of the pictures that the paper's own stage drew in this run, by name without ending."""
        found: dict[str, str] = {}
        for summary in self.of(slug):
            if not summary.commit:
                told = summary.about.get("pictures", {})
                found |= {name.replace("{scale}", summary.scale): caption for name, caption in told.items()}
        return found

    def unexplained(self) -> pandas.DataFrame:
        """Rows of the audit that neither agree nor have a reason in their paper's errata."""
        reasons = {slug: self.errata(slug) for slug in self.slugs}
        told = [_entry(row) in reasons.get(row.paper, {}) for row in self.audit.itertuples()]
        return self.audit[~self.audit["ok"].astype(bool) & ~pandas.Series(told, index=self.audit.index, dtype=bool)]

    @property
    def slugs(self) -> list[str]:
        """The papers' slugs in the order of the report."""
        return list(dict.fromkeys(summary.slug for summary in self.summaries))


def expected(params: Path, scales: Sequence[str]) -> list[tuple[str, str]]:
    """(paper, scale) of everything that has to be reported: every folder of params with a claim.yaml, at each scale
    that it has.
    """
    unknown = [scale for scale in scales if scale not in SCALES]
    if unknown or not scales:
        raise StageError(f"scales={list(scales)}: expected one or more of {', '.join(SCALES)}")
    papers = sorted(path.parent.name for path in params.glob("*/claim.yaml"))
    return [
        (paper, scale)
        for paper in papers
        for scale in SCALES
        if scale in scales and (params / paper / f"{scale}.yaml").is_file()
    ]


def load(grid: Sequence[tuple[str, str]], runs: Path, costs: Path, kept: Path) -> Results:
    """All results of these (paper, scale) pairs, and those of their papers at other scales that `kept` holds.

    Raises:
        StageError: Something is missing or altered; the message names it.
    """
    if not grid:
        raise StageError("params: no paper has a claim.yaml and one of the scales; nothing to report")
    papers = list(dict.fromkeys(paper for paper, _ in grid))
    others = [(paper, scale) for paper in papers for scale in SCALES if (kept / paper / scale).is_dir()]
    folders = {pair: runs / "results" / "/".join(pair) for pair in grid}
    folders |= {pair: kept / "/".join(pair) for pair in others if pair not in folders}
    grid = sorted(folders, key=lambda pair: (papers.index(pair[0]), SCALES.index(pair[1])))
    summaries = [_summary(folders[pair], kept in folders[pair].parents) for pair in grid]
    merged = claims.merge([summary.claims for summary in summaries])
    cost = {(each.slug, each.scale): each.core_seconds for each in summaries if each.core_seconds} | _costs(costs)
    seconds = [cost.get((paper, scale)) for paper, scale in zip(merged["paper"], merged["scale"], strict=True)]
    merged["core_seconds"] = pandas.Series(seconds, dtype="float64")
    inputs = [folders[pair] / "manifest.json" for pair in grid] + [runs / "audit" / f"{paper}.csv" for paper in papers]
    found = Results(summaries, merged, audit.load(runs / "audit", papers), inputs + ([costs] if costs.is_file() else []))
    _check_errata(found)
    return found


def _entry(row: object) -> str:
    """How an erratum names a row of the audit."""
    return f"{row.configuration}: {row.quantity}"


def _check_errata(found: Results) -> None:
    """StageError for an erratum of a figure that agrees or is not audited."""
    for slug in found.slugs:
        rows = found.audit[found.audit["paper"] == slug]
        wrong = {_entry(row) for row in rows.itertuples() if not row.ok}
        for entry in found.errata(slug):
            if entry not in wrong:
                raise StageError(f"params/{slug}/claim.yaml: errata: {entry!r}: the audit has no such wrong figure")


def _summary(folder: Path, kept: bool) -> Summary:
    """One paper at one scale, its files equal to their manifest; `kept` from an earlier commit, which is noted beside it."""
    if not (folder / "manifest.json").is_file():
        raise StageError(
            f"{folder / 'manifest.json'}: missing; run stages/report/summarise.py paper={folder.parent.name} "
            f"scale={folder.name} first"
        )
    artifacts.verify_manifest(folder / "manifest.json")
    origin = artifacts.read_json(folder / "commit.json") if kept else {}
    if kept and not (isinstance(origin, dict) and origin.get("commit")):
        raise StageError(f"{folder / 'commit.json'}: names no commit; measure again: python -m workflow.keep {folder.name}")
    return Summary(
        artifacts.read_json(folder / "paper.json"),
        _table(folder / "claims.csv", claims.COLUMNS + claims.EXTRA),
        _table(folder / "arms.csv", arms.COLUMNS),
        _table(folder / "layers.csv", arms.LAYER_COLUMNS),
        origin.get("commit", ""),
        origin.get("core_seconds"),
    )


_TEXTS = [
    "paper",
    "kind",
    "title",
    "claim",
    "metric",
    "better",
    "method_arm",
    "baseline_arm",
    "verdict",
    "scale",
    "source",
    "id",
    "dataset",
]
_TEXTS += ["test", "published_unit", "read_from", "flag", "arm", "role", "layer"]


def _table(path: Path, columns: list[str]) -> pandas.DataFrame:
    """A table with exactly these columns; numbers come back to the last digit, empty texts stay texts."""
    types = {name: str for name in _TEXTS if name in columns}
    table = pandas.read_csv(path, dtype=types, keep_default_na=True)
    if list(table.columns) != columns:
        raise StageError(f"{path}: expected the columns {', '.join(columns)}; run its stage again")
    return table.assign(**{name: table[name].fillna("") for name in types})


def _costs(path: Path) -> dict[tuple[str, str], float]:
    """core_seconds by (paper, scale); empty where nothing was measured."""
    if not path.is_file():
        return {}
    table = pandas.read_csv(path, dtype={"paper": str, "scale": str})
    known = {"paper", "scale", "core_seconds"} <= set(table.columns)
    if not known or (len(table) and not pandas.api.types.is_numeric_dtype(table["core_seconds"])):
        raise StageError(
            f"{path}: expected the columns paper, scale, core_seconds (a number); make it again with the benchmark run"
        )
    if table.duplicated(["paper", "scale"]).any():
        raise StageError(f"{path}: a paper and scale stand in two rows; make it again with the benchmark run")
    return {(row.paper, row.scale): float(row.core_seconds) for row in table.itertuples()}
