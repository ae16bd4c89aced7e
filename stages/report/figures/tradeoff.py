"""Accuracy against MACs: one point an arm with its 95 % interval, one panel before and one after fine-tuning.

Most arms of a paper have the same MACs by design, so that a true MACs axis would draw them on top of one another. The axis therefore has one
column a distinct MACs count, in increasing order, and the arms of a column stand side by side.
"""

from __future__ import annotations

import pandas
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.report import text
from stages.report.figures import style

PANELS = ("accuracy_before", "accuracy_after")
SAME = 0.005  # relative difference below which MACs share a column
LEGEND = 2.75  # inches


def draw(arms: pandas.DataFrame, order: list[str]) -> Figure | None:
    """The figure for one paper, scale and data set (rows of arms.csv); None when no arm has both an accuracy and MACs."""
    panels = {metric: points for metric in PANELS if len(points := _points(arms, metric, order))}
    if not panels:
        return None
    style.apply()
    looks = style.arm_style(order)
    figure, axes = pyplot.subplots(1, len(panels), figsize=(0.8 + LEGEND + 3.4 * len(panels), 4.1), squeeze=False)
    for axis, (metric, points) in zip(axes[0], panels.items(), strict=True):
        _panel(axis, points, looks)
        axis.set_title(text.sentence(text.metric_label(metric)))
    axes[0][0].set_ylabel("accuracy")
    _legend(figure, arms, order, looks)
    return figure


def _points(arms: pandas.DataFrame, metric: str, order: list[str]) -> pandas.DataFrame:
    """Rows arm, mean, ci_low, ci_high, macs of the arms that have both, by MACs and then in the order of claim.yaml."""
    macs = arms[arms["metric"] == "macs"].set_index("arm")["mean"].rename("macs")
    rows = arms[arms["metric"] == metric].join(macs, on="arm", how="inner")
    rows = rows.assign(place=rows["arm"].map({arm: i for i, arm in enumerate(order)}))
    return rows.sort_values(["macs", "place"], kind="stable")


def columns(macs: list[float]) -> list[int]:
    """The column (0, 1, ...) of each of these sorted MACs counts."""
    found, first = [], None
    for value in macs:
        if first is None or value - first > SAME * value:
            first, column = value, (found[-1] + 1 if found else 0)
        else:
            column = found[-1]
        found.append(column)
    return found


def _panel(axis: Axes, points: pandas.DataFrame, looks: dict[str, tuple[str, str]]) -> None:
    """Markers with error bars, columns separated by a gap of one place and shaded in turn."""
    column = columns(points["macs"].tolist())
    places = [i + 1.0 * c for i, c in enumerate(column)]
    for x, row in zip(places, points.itertuples(), strict=True):
        colour, marker = looks[row.arm]
        bars = None if text.absent(row.ci_low) else [[row.mean - row.ci_low], [row.ci_high - row.mean]]
        axis.errorbar(
            x, row.mean, yerr=bars, fmt=marker, color=colour, ecolor=colour, markersize=7, elinewidth=1.5, capsize=2.5,
            markeredgecolor=style.PAPER, markeredgewidth=0.8,
        )  # fmt: skip
    middles, labels = [], []
    for number in sorted(set(column)):
        inside = [x for x, c in zip(places, column, strict=True) if c == number]
        mean = points["macs"].iloc[[i for i, c in enumerate(column) if c == number]].mean()
        axis.axvspan(min(inside) - 0.8, max(inside) + 0.8, color=style.BAND, alpha=style.BAND_ALPHA, linewidth=0)
        middles.append((min(inside) + max(inside)) / 2)
        labels.append(text.engineering(mean))
    axis.set_xticks(middles, labels, rotation=0 if len(labels) <= 4 else 45)
    axis.set_xlim(-1.3, max(places) + 1.3)
    axis.set_xlabel("MACs (in increasing order, not to scale)")
    axis.grid(visible=False, axis="x")
    axis.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, arms: pandas.DataFrame, order: list[str], looks: dict[str, tuple[str, str]]) -> None:
    """Arms to the right of the panels, their titles wrapped, and a note on what the bars are."""
    titles = dict(zip(arms["arm"], arms["title"], strict=True))
    shown = [arm for arm in order if arm in titles]
    handles = [pyplot.Line2D([], [], color=looks[a][0], marker=looks[a][1], linestyle="", markersize=7) for a in shown]
    labels = ["\n".join(text.wrap(titles[arm], 34)) for arm in shown]
    width = figure.get_figwidth()
    figure.subplots_adjust(left=0.72 / width, right=1 - LEGEND / width, top=0.9, bottom=0.2, wspace=0.25)
    anchor = (1 - (LEGEND - 0.1) / width, 0.91)
    figure.legend(handles, labels, loc="upper left", bbox_to_anchor=anchor, borderaxespad=0, handletextpad=0.4, labelspacing=0.55)
    seeds = sorted({int(n) for n in arms.loc[arms["metric"].isin(PANELS), "n_seeds"]})
    count = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    figure.text(0.72 / width, 0.025, f"Bars: 95 % interval of the mean over {count} repetitions.", color=style.MUTED, fontsize=8)
