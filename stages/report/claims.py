"""From metric rows to rows of claims.csv: each claim's paired difference, its interval and the verdict."""

from __future__ import annotations

import pandas

from stages.lib.errors import StageError
from stages.lib.statistics import NOT_TESTABLE, paired_interval, verdict
from stages.report.schema import Claim, Paper

# The published order of claims.csv; other programs read it by position or name.
COLUMNS = [
    "paper", "kind", "title", "claim", "metric", "better", "method_arm", "baseline_arm", "published_method",
    "published_baseline", "method_mean", "baseline_mean", "difference", "ci_low", "ci_high", "n_seeds", "verdict",
    "scale", "source", "core_seconds",
]  # fmt: skip
# What the report shows beside them; kept in runs/results only.
EXTRA = ["id", "dataset", "test", "margin", "published_unit", "read_from", "flag"]
# Larger scales last: where a claim is testable nowhere, its row stands at the largest scale tried.
SCALES = ["smoke", "small", "medium", "paper"]


def claims_table(
    rows: pandas.DataFrame, paper: Paper, slug: str, scale: str, sources: dict[str, str], source: str
) -> pandas.DataFrame:
    """One row a claim, in claim.yaml's order. `sources` maps the measured data sets, `source` stands for those not
    measured.
    """
    table = []
    for claim in paper.claims:
        measured = (
            _measured(rows, claim, f"{slug} {scale}") if scale in claim.scales else {"n_seeds": 0, "verdict": NOT_TESTABLE}
        )
        told = {name: getattr(claim, name) for name in [*COLUMNS, *EXTRA] if hasattr(claim, name)}
        where = {"paper": slug, "title": paper.title, "scale": scale, "source": sources.get(claim.dataset, source)}
        table.append({**told, **where, **measured})
    return pandas.DataFrame(table, columns=COLUMNS + EXTRA)


def _measured(rows: pandas.DataFrame, claim: Claim, where: str) -> dict:
    """Means, difference, interval and verdict of one claim. Raises StageError if an arm lacks the metric or the
    seeds differ.
    """
    method, baseline = (_values(rows, claim, arm, where) for arm in (claim.method_arm, claim.baseline_arm))
    if list(method.index) != list(baseline.index):
        raise StageError(
            f"{where}: claim {claim.id}: {claim.method_arm} and {claim.baseline_arm} differ in repetitions: no pairs"
        )
    interval = paired_interval(method.tolist(), baseline.tolist())
    return {
        "method_mean": float(method.mean()),
        "baseline_mean": float(baseline.mean()),
        "difference": interval.mean,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "n_seeds": interval.n,
        "verdict": verdict(interval, test=claim.test, better=claim.better, margin=claim.margin),
    }


def _values(rows: pandas.DataFrame, claim: Claim, arm: str, where: str) -> pandas.Series:
    """The claim's metric of one arm, indexed and sorted by repetition."""
    found = rows[(rows["dataset"] == claim.dataset) & (rows["arm"] == arm) & (rows["metric"] == claim.metric)]
    if found.empty:
        raise StageError(f"{where}: claim {claim.id} needs {claim.metric} of arm {arm} on {claim.dataset}; its files hold none")
    return found.set_index("seed")["value"].sort_index()


def merge(tables: list[pandas.DataFrame]) -> pandas.DataFrame:
    """All papers' and scales' rows for the report: headlines first, then by paper, claim and scale.

    A claim that was measured at some scale loses its "not testable" rows at others; one measured nowhere keeps a single
    row, at the largest scale present.
    """
    rows = pandas.concat([table.assign(place=range(len(table))) for table in tables], ignore_index=True)
    rows["scale_place"] = rows["scale"].map({scale: i for i, scale in enumerate(SCALES)}).fillna(len(SCALES))
    keep = []
    for _, group in rows.groupby(["paper", "id"], sort=False):
        measured = group[group["difference"].notna()]
        keep += list(measured.index) if len(measured) else [group["scale_place"].idxmax()]
    rows = rows.loc[keep].assign(mechanism=lambda t: t["kind"] != "headline")
    rows = rows.sort_values(["mechanism", "paper", "place", "scale_place"], kind="stable")
    return rows[COLUMNS + EXTRA].reset_index(drop=True)
