"""The HTML pages: self-contained, without scripts or outside requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages.report import markdown, text, views
from stages.report.results import Results
from stages.report.views import ClaimView

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Picture:
    """A figure inside a page: safe SVG markup of `style.embed` and its caption (escaped by the template)."""

    svg: Markup
    caption: str


@cache
def _environment() -> Environment:
    """Templates in which every value is escaped and a name that does not exist is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["slug"] = lambda verdict: verdict.replace(" ", "-")
    return environment


def _css() -> Markup:
    return Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))


def claims_page(claims: Sequence[ClaimView]) -> str:
    """reports/claims.html: the claims table alone."""
    template = _environment().get_template("claims.html.j2")
    return template.render(css=_css(), claims=claims, counted=markdown.counted(list(claims)))


def index_page(results: Results, claims: Sequence[ClaimView], figures: dict[str, list[Picture]]) -> str:
    """reports/index.html: claims, rules, figures, arms, audit. `figures` maps papers to their pictures."""
    return _environment().get_template("index.html.j2").render(
        css=_css(), claims=claims, tally=views.tally(list(claims)), meanings=list(text.MEANINGS.items()), kept=text.KEPT,
        audit_header=views.AUDIT_HEADER,
        papers=[_paper(results, slug, figures.get(slug, [])) for slug in results.slugs],
        audit_ok=int(results.audit["ok"].sum()), audit_count=len(results.audit), costs=_costs(results),
    )  # fmt: skip


def _paper(results: Results, slug: str, figures: list[Picture]) -> dict:
    """What the template shows of one paper, at all its scales."""
    audit = results.audit[results.audit["paper"] == slug]
    summaries = results.of(slug)
    return {
        "slug": slug,
        "about": summaries[-1].about,
        "arms": [view for summary in summaries for view in views.arms_views(summary)],
        "figures": figures,
        "audit": views.audit_rows(results, slug),
        "audit_classes": ["right" if ok else "wrong" for ok in audit["ok"]],
        "published": markdown.published_rows(summaries[-1].about),
    }


def _costs(results: Results) -> list[list[str]]:
    """Core-seconds of each paper and scale, where they are known."""
    known = results.claims.dropna(subset=["core_seconds"]).drop_duplicates(["paper", "scale"])
    return [[row.paper, row.scale, f"{row.core_seconds:,.0f}"] for row in known.itertuples()]
