"""Which figures a report has, under which names and captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from stages.report import views
from stages.report.figures import picture, tradeoff, widths
from stages.report.results import Results, Summary
from stages.report.views import ClaimView


@dataclass(frozen=True)
class Planned:
    """A drawn figure; `paper` is None for those of the whole report, `stem` the file name without ending."""

    paper: str | None
    stem: str
    caption: str
    figure: Figure


def sheets(results: Results, claims: list[ClaimView]) -> list[Callable[[], Iterator[Planned]]]:
    """What draws the figures, in the report's order: one call for those of the whole report, one for each paper and scale.

    A call draws one figure at a time, so that they do not all stay in memory.
    """
    return [partial(_of_report, claims), *(partial(_of_paper, summary) for summary in results.summaries)]


def _of_report(claims: list[ClaimView]) -> Iterator[Planned]:
    # All claims stand in the tables, each with its interval; a picture of so many rows could not be read.
    caption = "The first headline claim of each paper, published and measured, and the verdicts of all its claims."
    yield Planned(None, "claims", caption, picture.draw(claims))


def _of_paper(summary: Summary) -> Iterator[Planned]:
    """The figures of one paper at one scale, data set by data set."""
    order = [*summary.about["arms"], *(arm for arm in summary.arms["arm"].unique() if arm not in summary.about["arms"])]
    for dataset in summary.arms["dataset"].unique():
        place = f"{views.dataset_title(summary.about, dataset)}, scale {summary.scale}"
        stem = f"{summary.slug}_{summary.scale}_{dataset}"
        drawn = tradeoff.draw(summary.arms[summary.arms["dataset"] == dataset], order)
        if drawn is not None:
            yield Planned(summary.slug, f"{stem}_accuracy", f"Accuracy of all arms by their MACs ({place}).", drawn)
        drawn = widths.draw(summary.layers[summary.layers["dataset"] == dataset], order, summary.about["arm_titles"])
        if drawn is not None:
            yield Planned(summary.slug, f"{stem}_widths", f"Channels that each arm keeps ({place}).", drawn)
