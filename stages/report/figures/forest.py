"""Forest plot: the paired difference of every claim with its interval and margin, one panel a metric."""

from __future__ import annotations

import pandas
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from stages.lib import statistics
from stages.report import text
from stages.report.figures import style
from stages.report.views import axis_limits, gain

LEFT, MIDDLE, RIGHT = 4.15, 3.5, 2.35  # widths in inches: sentences, plot, figures
LINE = 0.165  # height of a line of text
ABOVE, BELOW = 0.42, 0.55  # inches around a panel: its title, its axis
WRAP = 58
SHAPES = {
    statistics.REPRODUCED: "o",
    statistics.WITHIN_TOLERANCE: "s",
    statistics.INCONCLUSIVE: "D",
    statistics.CONTRADICTED: "X",
}


def draw(claims: pandas.DataFrame) -> Figure | None:
    """The figure for rows of claims.csv with a `margin` column; None when no claim was measured."""
    rows = claims[claims["difference"].notna()]
    if rows.empty:
        return None
    style.apply()
    groups = [(metric, list(group.itertuples())) for metric, group in rows.groupby("metric", sort=False)]
    heights = [sum(map(_height, group)) for _, group in groups]
    width, total = LEFT + MIDDLE + RIGHT, sum(heights) + (ABOVE + BELOW) * len(groups)
    figure = pyplot.figure(figsize=(width, total))
    top = total
    for (metric, group), height in zip(groups, heights, strict=True):
        top -= ABOVE + height
        axis = figure.add_axes((LEFT / width, top / total, MIDDLE / width, height / total))
        _panel(axis, metric, group, height)
        top -= BELOW
    return figure


def _height(row: object) -> float:
    """Inches that a claim's row takes."""
    return LINE * (len(text.wrap(row.claim, WRAP)) + 1) + 0.17


def _panel(axis: Axes, metric: str, rows: list, height: float) -> None:
    """All claims on one metric, from the top down; y is in inches, so that text and marks meet."""
    axis.set(ylim=(height, 0), xlim=axis_limits(rows), yticks=[])
    at = 0.0
    for number, row in enumerate(rows):
        if number % 2 == 0:
            _band(axis, at, at + _height(row))
        _row(axis, row, at + _height(row) / 2)
        at += _height(row)
    axis.axvline(0, color=style.INK, linewidth=1.1)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    if max(map(abs, axis.get_xlim())) > 1000:
        axis.xaxis.set_major_formatter(EngFormatter(sep="\N{THIN SPACE}"))
    axis.set_xlabel("difference in the claimed direction", color=style.MUTED, fontsize=8.5)
    axis.text(
        -LEFT / MIDDLE + 0.035,
        -0.13,
        text.sentence(text.metric_label(metric)),
        transform=axis.get_yaxis_transform(),
        fontweight="bold",
        fontsize=10.5,
    )
    axis.spines[["left", "right", "top"]].set_visible(False)


def _band(axis: Axes, top: float, bottom: float) -> None:
    """A pale band behind a whole row, sentences and figures included."""
    left, right = -LEFT / MIDDLE + 0.02, 1 + RIGHT / MIDDLE - 0.02
    axis.fill_between(
        [left, right],
        top,
        bottom,
        transform=axis.get_yaxis_transform(),
        color=style.BAND,
        alpha=style.BAND_ALPHA,
        linewidth=0,
        clip_on=False,
        zorder=0,
    )


def _row(axis: Axes, row: object, y: float) -> None:
    """One claim: its sentence, the interval (the margin as a dashed tick), the verdict and the figures."""
    colour = style.VERDICT_COLOURS[row.verdict]
    middle, low, high = gain(row)
    if not text.absent(row.margin):
        axis.plot([-row.margin] * 2, [y - 0.16, y + 0.16], color=style.INK, linewidth=1.3, linestyle=(0, (2, 1.2)))
    axis.plot([low, high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
    shape = SHAPES.get(row.verdict, "o")
    axis.plot(
        middle,
        y,
        marker=shape,
        markersize=6.5,
        color=colour,
        markeredgecolor=style.PAPER,
        markeredgewidth=0.8,
        clip_on=False,
    )
    lines = text.wrap(row.claim, WRAP)
    place = {"transform": axis.get_yaxis_transform(), "va": "center"}
    top = y - LINE * (len(lines) + 1) / 2
    for i, line in enumerate(lines):
        axis.text(-LEFT / MIDDLE + 0.035, top + (i + 0.5) * LINE, line, fontsize=9, **place)
    aside = " \N{MIDDLE DOT} ".join([row.paper, row.kind, f"scale {row.scale}", f"{row.n_seeds:.0f} repetitions"])
    axis.text(-LEFT / MIDDLE + 0.035, top + (len(lines) + 0.5) * LINE, aside, fontsize=8, color=style.MUTED, **place)
    axis.text(1.05, y - 0.58 * LINE, row.verdict, color=colour, fontweight="bold", fontsize=9, **place)
    axis.text(1.05, y + 0.52 * LINE, text.difference(row.difference, row.ci_low, row.ci_high), fontsize=8.5, **place)
