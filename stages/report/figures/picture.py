"""One row a paper, for the README and for slides: its first headline claim, and the verdicts of all its claims."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from stages.lib.statistics import NOT_TESTABLE
from stages.report import text, views
from stages.report.figures import style
from stages.report.views import ClaimView

# Left edges in inches of the columns, and the whole width.
CLAIM, PUBLISHED, HERE, BAR, VERDICT, WIDTH = 0.15, 4.75, 6.5, 8.25, 10.5, 12.55
LINE, WRAP, WRAP_CONTEXT = 0.178, 62, 74


def draw(claims: Sequence[ClaimView]) -> Figure:
    """The table of all papers that these claims are of; y is in inches from the top."""
    style.apply()
    shown = views.first_headlines(list(claims))
    height = 0.52 + sum(map(_height, shown)) + 0.3 + LINE
    figure = pyplot.figure(figsize=(WIDTH, height))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, WIDTH), ylim=(height, 0))
    axis.axis("off")
    for x, name in [
        (CLAIM, "claim"),
        (PUBLISHED, "published"),
        (HERE, "measured here"),
        (BAR, "difference, 95 % interval"),
        (VERDICT, "verdict; below, of all claims"),
    ]:
        axis.text(x, 0.3, name, color=style.MUTED, fontsize=9, va="center")
    axis.plot([CLAIM, WIDTH - 0.15], [0.48] * 2, color=style.MUTED, linewidth=1)
    top = 0.52
    for view in shown:
        _row(axis, view, top, _height(view))
        _verdicts(axis, [claim for claim in claims if claim.paper == view.paper], top + 0.1 + 2.1 * LINE)
        top += _height(view)
    notes = [
        "Each paper's first headline claim. Right of the solid line is the claimed direction; dashed: margin fixed beforehand.",
        "Strips: how many of all claims of the paper have which verdict, in the boxes' colours; palest: not testable here.",
    ]
    _stack(axis, CLAIM, top + 0.16, notes, 8)
    return figure


def _context(view: ClaimView) -> list[str]:
    """Where the claim was measured, in lines."""
    parts = [view.paper, view.kind, view.dataset]
    return text.wrap(" \N{MIDDLE DOT} ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts), WRAP_CONTEXT)


def _height(view: ClaimView) -> float:
    """Inches of a claim's row: its sentence and the lines of context, or its longest other column."""
    lines = len(text.wrap(view.claim, WRAP)) + len(_context(view))
    return LINE * max(3.3, lines, len(text.wrap(view.published, 24)), len(text.wrap(view.metric, 28)) + 2) + 0.2


def _row(axis: Axes, view: ClaimView, top: float, height: float) -> None:
    """One claim."""
    axis.plot([CLAIM, WIDTH - 0.15], [top + height] * 2, color=style.LINE, linewidth=0.8)
    lines = text.wrap(view.claim, WRAP)
    first = top + 0.1 + LINE / 2
    _stack(axis, CLAIM, first, lines, 9)
    _stack(axis, CLAIM, first + len(lines) * LINE, _context(view), 8)
    _stack(axis, PUBLISHED, first, text.wrap(view.published, 24), 9)
    _stack(axis, HERE, first, [view.measured], 9)
    scale = view.scale.partition(" ")[0]  # the column has no room for the commit of kept figures; the tables tell it
    place = f"scale {scale}" + (f", n = {view.seeds}" if view.seeds else "")
    _stack(axis, HERE, first + LINE, [*text.wrap(view.metric, 28), place], 8)
    _stack(axis, BAR, first, [view.difference], 9)
    if view.bar is not None:
        _bar(axis, view, first + 1.45 * LINE)
    _chip(axis, view.verdict, first)


def _stack(axis: Axes, x: float, y: float, lines: list[str], size: float) -> None:
    """Lines of text below one another; the small ones are muted."""
    for i, line in enumerate(lines):
        axis.text(x, y + i * LINE, line, va="center", fontsize=size, color=style.MUTED if size < 9 else style.INK)


def _bar(axis: Axes, view: ClaimView, y: float) -> None:
    """The interval on the axis that all claims of its paper and metric share."""
    left, width, colour = BAR, VERDICT - BAR - 0.3, style.VERDICT_COLOURS[view.verdict]

    def x(place: float) -> float:
        return left + width * place / 100

    axis.plot([left, left + width], [y, y], color=style.LINE, linewidth=0.8)
    axis.plot([x(view.bar.zero)] * 2, [y - 0.1, y + 0.1], color=style.INK, linewidth=1)
    if view.bar.margin is not None:
        axis.plot([x(view.bar.margin)] * 2, [y - 0.1, y + 0.1], color=style.INK, linewidth=1, linestyle=(0, (2, 1.2)))
    axis.plot([x(view.bar.low), x(view.bar.high)], [y, y], color=colour, linewidth=3, solid_capstyle="butt")
    axis.plot(x(view.bar.middle), y, marker="o", markersize=6, color=colour, markeredgecolor=style.PAPER, markeredgewidth=0.8)


def _verdicts(axis: Axes, claims: list[ClaimView], y: float) -> None:
    """A strip in which every verdict has its share, with how many claims it is."""
    counts = [(verdict, count) for verdict, count in views.tally(claims) if count]
    left, width = VERDICT, WIDTH - 0.15 - VERDICT
    for verdict, count in counts:
        share = width * count / sum(count for _, count in counts)
        axis.add_patch(Rectangle((left, y), share, 0.19, facecolor=style.VERDICT_COLOURS[verdict], linewidth=0))
        if share > 0.14:
            place = {"va": "center", "ha": "center", "fontsize": 8, "color": "#ffffff"}
            axis.text(left + share / 2, y + 0.1, str(count), **place)
        left += share


def _chip(axis: Axes, verdict: str, y: float) -> None:
    """The verdict in a rounded box of its colour (in two lines where it is long)."""
    colour = style.VERDICT_COLOURS[verdict]
    lines = text.wrap(verdict, 17)
    width, height = 0.2 + 0.083 * max(map(len, lines)), LINE * len(lines) + 0.09
    measured = verdict != NOT_TESTABLE  # without a measurement the box stays empty
    fill, ink = (colour, "#ffffff") if measured else ("none", style.MUTED)
    shape = "round,pad=0,rounding_size=0.1"
    axis.add_patch(
        FancyBboxPatch((VERDICT, y - LINE / 2 - 0.045), width, height, boxstyle=shape, facecolor=fill, edgecolor=colour)
    )
    for i, line in enumerate(lines):
        axis.text(
            VERDICT + width / 2,
            y + i * LINE,
            line,
            color=ink,
            fontsize=8.5,
            fontweight="bold",
            ha="center",
            va="center",
        )
