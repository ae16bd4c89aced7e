"""Table rows put into words once, for every rendering: Markdown, HTML, terminal and picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas

from stages.lib.statistics import INCONCLUSIVE, VERDICTS, Interval, seeds_needed, spread_of
from stages.report import text
from stages.report.results import Results, Summary


@dataclass(frozen=True)
class Bar:
    """Where an interval's marks stand on its axis, in per cent of the width; None where there is no such mark."""

    low: float
    high: float
    middle: float
    zero: float
    margin: float | None


@dataclass(frozen=True)
class ClaimView:
    """A row of claims.csv as text."""

    number: int
    id: str
    paper: str
    kind: str
    claim: str
    verdict: str
    metric: str
    dataset: str
    scale: str
    source: str
    method: str
    baseline: str
    method_arm: str
    baseline_arm: str
    published: str
    read_from: str
    measured: str
    difference: str
    seeds: int
    margin: str
    power: str
    core_seconds: str
    bar: Bar | None


def claim_views(results: Results) -> list[ClaimView]:
    """Every claim in the report's order, numbered from 1."""
    summaries = {(s.slug, s.scale): s for s in results.summaries}
    rows = list(results.claims.itertuples())
    axes = {}
    for row in rows:
        if not text.absent(row.difference):
            axes.setdefault((row.paper, row.metric), []).append(row)
    limits = {key: axis_limits(group) for key, group in axes.items()}
    return [_claim_view(i, row, summaries[row.paper, row.scale], limits) for i, row in enumerate(rows, 1)]


def _claim_view(number: int, row: object, summary: Summary, limits: dict) -> ClaimView:
    """One row."""
    about, titles = summary.about, summary.about["arm_titles"]
    measured = not text.absent(row.difference)
    return ClaimView(
        number=number, id=row.id, paper=row.paper, kind=row.kind, claim=row.claim, verdict=row.verdict,
        metric=text.metric_label(row.metric), dataset=dataset_title(about, row.dataset),
        scale=scale_title(summary), source=row.source,
        method=titles.get(row.method_arm, row.method_arm), baseline=titles.get(row.baseline_arm, row.baseline_arm),
        method_arm=row.method_arm, baseline_arm=row.baseline_arm,
        published=published(row), read_from=_read_from(row),
        measured=_versus(row) if measured else text.DASH,
        difference=text.difference(row.difference, row.ci_low, row.ci_high), seeds=int(row.n_seeds),
        margin="" if text.absent(row.margin) else text.number(row.margin), power=power(row),
        core_seconds=text.seconds(row.core_seconds), bar=_bar(row, limits[row.paper, row.metric]) if measured else None,
    )  # fmt: skip


def largest_scale(claims: list[ClaimView]) -> list[ClaimView]:
    """Of a claim that was measured at several scales the row of the largest."""
    last = {(view.paper, view.id): view.number for view in claims}
    return [view for view in claims if view.number == last[view.paper, view.id]]


def first_headlines(claims: list[ClaimView]) -> list[ClaimView]:
    """The first headline claim of each paper at its largest scale; the first claim of a paper that has none."""
    found: dict[str, ClaimView] = {}
    for view in largest_scale(claims):
        if view.paper not in found or (view.kind == "headline" and found[view.paper].kind != "headline"):
            found[view.paper] = view
    return list(found.values())


def scale_title(summary: Summary) -> str:
    """The scale; with the commit where the figures were kept from there."""
    return f"{summary.scale} ({summary.commit[:7]})" if summary.commit else summary.scale


def _versus(row: object) -> str:
    """Both means, to the same number of decimals."""
    places = text.decimals(row.method_mean, row.baseline_mean)
    return f"{text.number(row.method_mean, places)} vs {text.number(row.baseline_mean, places)}"


def dataset_title(about: dict, dataset: str) -> str:
    """A data set in words; its name where the paper says nothing about it."""
    return about["datasets"].get(dataset, {}).get("title") or about.get("dataset_titles", {}).get(dataset, dataset)


def published(row: object) -> str:
    """The paper's two figures with their unit."""
    unit = row.published_unit
    if text.absent(row.published_method) and text.absent(row.published_baseline):
        return text.DASH
    if text.absent(row.published_baseline):
        return text.plain(row.published_method, unit)
    method, baseline = row.published_method, row.published_baseline
    return f"{text.plain(method, beside=baseline)} vs {text.plain(baseline, unit, beside=method)}"


def _read_from(row: object) -> str:
    """Where the published figures stand; anything less sure than reading is said."""
    if not row.read_from:
        return ""
    return row.read_from if row.flag == "read" else f"{row.read_from} ({row.flag})"


def gain(row: object) -> tuple[float, float, float]:
    """Difference and bounds turned so that larger is the claimed direction (bounds equal the difference where there
    are none).
    """
    low, high = (row.difference, row.difference) if text.absent(row.ci_low) else (row.ci_low, row.ci_high)
    return (row.difference, low, high) if row.better == "higher" else (-row.difference, -high, -low)


def axis_limits(rows: list) -> tuple[float, float]:
    """Bounds of an axis that shows zero, every interval and every margin of these rows."""
    marks = [0.0]
    for row in rows:
        marks += [*gain(row), 0.0 if text.absent(row.margin) else -row.margin]
    reach = (max(marks) - min(marks)) or 1.0
    return min(marks) - 0.08 * reach, max(marks) + 0.08 * reach


def _bar(row: object, limits: tuple[float, float]) -> Bar:
    """The row's marks on an axis with these limits."""

    def place(value: float) -> float:
        return round(100 * (value - limits[0]) / (limits[1] - limits[0]), 2)

    middle, low, high = (place(value) for value in gain(row))
    return Bar(low, high, middle, place(0.0), None if text.absent(row.margin) else place(-row.margin))


def power(row: object) -> str:
    """For an inconclusive claim: how many repetitions would settle a difference of the size that was seen. Otherwise
    nothing.
    """
    if row.verdict != INCONCLUSIVE or text.absent(row.ci_low) or row.n_seeds < 2:
        return ""
    middle = gain(row)[0]
    reach = abs(middle) if text.absent(row.margin) else abs(middle + row.margin)
    spread = spread_of(Interval(row.difference, row.ci_low, row.ci_high, int(row.n_seeds)))
    needed = seeds_needed(spread, reach) if reach > 0 and math.isfinite(spread) else None
    return (
        "no number of repetitions would settle it"
        if needed is None
        else f"about {needed:,} repetitions would settle a difference of this size"
    )


def tally(claims: list[ClaimView]) -> list[tuple[str, int]]:
    """(verdict, how many claims) in the fixed order of verdicts, absent ones included."""
    counted = largest_scale(claims)
    return [(verdict, sum(view.verdict == verdict for view in counted)) for verdict in VERDICTS]


@dataclass(frozen=True)
class ArmsView:
    """All arms of one paper, scale and data set: a header and rows of texts, with the slug and role of each row's
    arm.
    """

    dataset: str
    title: str
    source: str
    scale: str
    about: str
    header: list[str]
    rows: list[list[str]]
    arms: list[str]
    roles: list[str]


def arms_views(summary: Summary) -> list[ArmsView]:
    """One table a data set: arms down, metrics across, each cell mean and half-width; the last column counts
    repetitions.
    """
    return [_arms_view(summary, dataset, table) for dataset, table in summary.arms.groupby("dataset", sort=False)]


def _arms_view(summary: Summary, dataset: str, table: pandas.DataFrame) -> ArmsView:
    """One data set."""
    metrics = text.metric_order(table["metric"].tolist())
    cells = {(row.arm, row.metric): text.plus_minus(row.mean, row.ci_low, row.ci_high) for row in table.itertuples()}
    first = table.drop_duplicates("arm")
    rows = []
    for arm in first.itertuples():
        seeds = sorted(set(table.loc[table["arm"] == arm.arm, "n_seeds"]))
        count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]}{text.DASH}{seeds[-1]}"
        rows.append(
            [
                arm.title,
                arm.role.replace("_", " "),
                *(cells.get((arm.arm, metric), text.DASH) for metric in metrics),
                count,
            ]
        )
    header = ["arm", "role", *map(text.metric_label, metrics), "n"]
    source = table["source"].iloc[0]
    title, about = dataset_title(summary.about, dataset), summary.about["datasets"].get(dataset, {}).get("about", "")
    return ArmsView(
        dataset, title, source, scale_title(summary), about, header, rows, first["arm"].tolist(), first["role"].tolist()
    )


AUDIT_HEADER = ["configuration", "quantity", "published", "computed", "relative error", "tolerance", "ok", "read from"]


def audit_rows(results: Results, slug: str) -> list[list[str]]:
    """The audit of one paper as texts, in AUDIT_HEADER's order; the reason of a wrong figure stands with its source."""
    reasons = results.errata(slug)
    return [
        [
            row.configuration, row.quantity, audit_number(row.published), audit_number(row.computed),
            f"{text.number(100 * row.relative_error, 2)} %", f"{text.number(100 * row.tolerance, 2)} %",
            "yes" if row.ok else "NO",
            "; ".join(filter(None, [row.read_from, reasons.get(f"{row.configuration}: {row.quantity}")])),
        ]
        for row in results.audit[results.audit["paper"] == slug].itertuples()
    ]  # fmt: skip


def audit_number(value: float) -> str:
    """A published or computed figure: whole numbers in full, others with six digits."""
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:,.6g}"
