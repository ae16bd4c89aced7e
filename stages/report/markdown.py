"""The Markdown reports: padded tables that also read well in a terminal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from stages.report import text, views
from stages.report.results import Results
from stages.report.views import ClaimView

NOTE = "<!-- Written by stages/report/report.py from runs/; edits are lost. -->"


def escape(cell: str) -> str:
    """Text that Markdown shows as it stands, on one line."""
    for mark in "\\`*_[]|":
        cell = cell.replace(mark, f"\\{mark}")
    return " ".join(cell.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


def cell(value: str) -> str:
    """A table's cell, with fewer escapes: underscores in slugs and brackets of intervals do no harm, a link's
    bracket would.
    """
    return re.sub(r"\\\](?!\()", "]", escape(value)).replace("\\_", "_").replace("\\[", "[")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A pipe table with padded columns; columns whose index is in `right` are aligned to the right."""
    lines = [[cell(value) for value in row] for row in [header, *rows]]
    widths = [max(3, *(_width(row[i]) for row in lines)) for i in range(len(header))]
    rule = ["-" * (w - 1) + ":" if i in right else "-" * w for i, w in enumerate(widths)]
    padded = [[_pad(value, widths[i], i in right) for i, value in enumerate(row)] for row in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in [padded[0], rule, *padded[1:]]) + "\n"


def _width(value: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in value)


def _pad(value: str, width: int, right: bool) -> str:
    """The text filled up with spaces."""
    fill = " " * (width - _width(value))
    return fill + value if right else value + fill


def counted(claims: list[ClaimView]) -> str:
    """A line such as: 7 claims: 4 reproduced, 2 inconclusive, 1 contradicted."""
    parts = [f"{count} {verdict}" for verdict, count in views.tally(claims) if count]
    total = len(views.largest_scale(claims))
    return f"{total} claim{'s' * (total != 1)}: {', '.join(parts)}."


def claims_page(claims: list[ClaimView]) -> str:
    """reports/claims.md: a table to glance at, then every claim in full, then how verdicts are made."""
    lines = [NOTE, "", "# Claims: published and measured", "", counted(claims), ""]
    lines += ["![The claims as a table](figures/claims.png)", "", claims_table(claims), "## The claims in full", ""]
    for view in claims:
        lines += [*claim_lines(view), ""]
    return "\n".join([*lines, *how_to_read(), ""])


def claims_table(claims: list[ClaimView]) -> str:
    """The short table, one row a claim."""
    header = [
        "#",
        "paper",
        "kind",
        "method vs baseline",
        "metric",
        "here",
        "difference [95 % interval]",
        "n",
        "scale",
        "verdict",
    ]
    rows = [
        [
            str(v.number),
            v.paper,
            v.kind,
            f"{v.method_arm} vs {v.baseline_arm}",
            v.metric,
            v.measured,
            v.difference,
            str(v.seeds),
            v.scale,
            v.verdict,
        ]
        for v in claims
    ]
    return table(header, rows, right=(0, 7))


def claim_lines(view: ClaimView) -> list[str]:
    """One claim in full."""
    lines = [
        f"**{view.number}. {escape(view.claim)}**  ",
        f"*{view.verdict}* \N{MIDDLE DOT} {view.paper}, {view.kind}  ",
    ]
    origin = f" ({escape(view.read_from)})" if view.read_from else ""
    lines.append(f"published: {escape(view.published)}{origin}  ")
    place = f"{escape(view.metric)}, {escape(view.dataset)}, scale {view.scale}, source {view.source}"
    if view.bar is None:
        return [*lines, f"here: not measured ({place})"]
    lines.append(f"here: {view.measured}, difference {cell(view.difference)}, {view.seeds} repetitions ({place})  ")
    lines.append(
        f"compared: {escape(view.method)} against {escape(view.baseline)}" + (f"; margin {view.margin}" if view.margin else "")
    )
    return [*lines[:-1], f"{lines[-1]}  ", text.sentence(f"{view.power}.")] if view.power else lines


def how_to_read() -> list[str]:
    """The rules of the verdicts."""
    lines = ["## How verdicts are made", ""]
    lines += [
        "Method and baseline are compared seed by seed: same data order and, where possible, same initial weights.",
        "",
    ]
    lines += [f"- **{verdict}**: {meaning}." for verdict, meaning in text.MEANINGS.items()]
    return [
        *lines,
        "",
        text.KEPT,
        "",
        "Published and measured figures come from different data and sizes: compare directions, not digits.",
    ]


def audit_page(results: Results) -> str:
    """reports/audit.md: one table a paper."""
    wrong = int((~results.audit["ok"].astype(bool)).sum())
    lines = [NOTE, "", "# Audit: published figures computed without training", ""]
    lines += [
        f"{len(results.audit) - wrong} of {len(results.audit)} figures agree within their tolerance; {wrong} do not. "
        f"Of those, {wrong - len(results.unexplained())} are the publication's own (the reason stands with the row).",
        "",
    ]
    for slug in results.slugs:
        lines += [f"## {slug}", "", audit_table(results, slug), ""]
    return "\n".join(lines)


def audit_table(results: Results, slug: str) -> str:
    """The audit of one paper."""
    rows = views.audit_rows(results, slug)
    return (
        table(views.AUDIT_HEADER, rows, right=(2, 3, 4, 5))
        if rows
        else "No figure of this paper can be checked without training.\n"
    )


def paper_page(results: Results, slug: str, claims: list[ClaimView], figures: list[tuple[str, str]]) -> str:
    """reports/papers/<slug>.md. `figures` are (path as seen from there, caption)."""
    about = results.of(slug)[-1].about
    lines = [
        NOTE,
        "",
        f"# {escape(about['title'])}",
        "",
        f"{escape(about['authors'])}. {escape(about['venue'])}, {about['year']}. <{about['url']}>",
        "",
    ]
    lines += ["## Claims", "", claims_table(claims)]
    for view in claims:
        lines += [*claim_lines(view), ""]
    lines += [
        "## All arms",
        "",
        "Mean \N{PLUS-MINUS SIGN} half of the 95 % interval over n repetitions; without an interval: the same in all.",
        "",
    ]
    for summary in results.of(slug):
        for view in views.arms_views(summary):
            lines += [
                f"### {escape(view.title)} (scale {view.scale}, source {view.source}, {about['eval_split']} split)",
                "",
            ]
            lines += [f"{text.sentence(escape(view.about))}.", ""] if view.about else []
            lines += [table(view.header, view.rows, right=range(2, len(view.header)))]
    lines += ["## Figures", ""] if figures else []
    for name, caption in figures:
        lines += [f"![{escape(caption)}]({name})", ""]
    lines += ["## How the setting was chosen", "", escape(about["setting"]), "", "## Published figures", ""]
    lines += [
        table(["quantity", "value", "read from", "how sure"], published_rows(about)),
        "## Audit",
        "",
        audit_table(results, slug),
    ]
    return "\n".join(lines)


def published_rows(about: dict) -> list[list[str]]:
    """The paper's own figures as texts."""
    return [
        [row["quantity"], text.plain(row["value"], row["unit"]), row["read_from"], row["flag"]] for row in about["published"]
    ]
