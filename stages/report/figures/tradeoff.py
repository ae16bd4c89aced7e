"""Accuracy against MACs: one point an arm with its 95 % interval, one panel before and one after fine-tuning.

Most arms of a paper have the same MACs by design, so that a true MACs axis would draw them on top of one another. The
axis therefore has one column a distinct MACs count, in increasing order, and the arms of a column stand side by side.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pandas
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.report import text
from stages.report.figures import style

PANELS = ("accuracy_before", "accuracy_after")
SAME = 0.005  # relative difference below which MACs share a column
LEFT, LEGEND = 0.75, 3.0  # inches
PLACE, LABEL, GAP = 0.21, 2.3, 0.5  # inches of an arm's place on the axis; a label's width and a gap, in places


def draw(arms: pandas.DataFrame, order: list[str]) -> Figure | None:
    """The figure for one paper, scale and data set (rows of arms.csv); None when no arm has both an accuracy and
    MACs.
    """
    panels = {metric: points for metric in PANELS if len(points := _points(arms, metric, order))}
    if not panels:
        return None
    style.apply()
    looks = style.arm_style(order)
    labels = _labels(arms, order)
    height = max(4.1, 0.6 + 0.165 * sum(label.count("\n") + 1.4 for label in labels.values()))
    reach = max(columns(points["macs"].tolist())[-1].right for points in panels.values())
    width = max(3.4, PLACE * (reach + 2 * GAP) * 1.2)  # a fifth goes to the space between panels
    figure, axes = pyplot.subplots(1, len(panels), figsize=(LEFT + LEGEND + width * len(panels), height), squeeze=False)
    for axis, (metric, points) in zip(axes[0], panels.items(), strict=True):
        _panel(axis, points, looks)
        axis.set_title(text.sentence(text.metric_label(metric)))
    axes[0][0].set_ylabel("accuracy")
    _legend(figure, labels, looks)
    seeds = sorted({int(n) for n in arms.loc[arms["metric"].isin(PANELS), "n_seeds"]})
    count = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    note = f"Bars: 95 % interval of the mean over {count} repetitions."
    figure.text(LEFT / figure.get_figwidth(), 0.1 / height, note, color=style.MUTED, fontsize=8)
    return figure


def _labels(arms: pandas.DataFrame, order: list[str]) -> dict[str, str]:
    """The arms' titles, wrapped, in the order of claim.yaml."""
    titles = dict(zip(arms["arm"], arms["title"], strict=True))
    return {arm: "\n".join(text.wrap(titles[arm], 33)) for arm in order if arm in titles}


def _points(arms: pandas.DataFrame, metric: str, order: list[str]) -> pandas.DataFrame:
    """Rows arm, mean, ci_low, ci_high, macs of the arms that have both, by MACs and then in the order of claim.yaml."""
    macs = arms[arms["metric"] == "macs"].set_index("arm")["mean"].rename("macs")
    rows = arms[arms["metric"] == metric].join(macs, on="arm", how="inner")
    rows = rows.assign(place=rows["arm"].map({arm: i for i, arm in enumerate(order)}))
    return rows.sort_values(["macs", "place"], kind="stable")


@dataclass
class Column:
    """Arms of (nearly) one MACs count, side by side from `left` to `right`."""

    macs: list[float]
    left: float = 0.0

    @property
    def right(self) -> float:
        """The right end; a column of few arms is as wide as its label."""
        return self.left + max(len(self.macs), LABEL)

    @property
    def places(self) -> list[float]:
        """One place an arm, centred in the column."""
        first = (self.left + self.right - len(self.macs) + 1) / 2
        return [first + i for i in range(len(self.macs))]


def columns(macs: list[float]) -> list[Column]:
    """These sorted MACs counts in columns of (nearly) equal ones, from left to right with a gap between them."""
    found: list[Column] = []
    for value in macs:
        if found and value - found[-1].macs[0] <= SAME * value:
            found[-1].macs.append(value)
        else:
            found.append(Column([value], left=0.0))
    for before, column in itertools.pairwise(found):
        column.left = before.right + GAP
    return found


def _panel(axis: Axes, points: pandas.DataFrame, looks: dict[str, tuple[str, str]]) -> None:
    """Markers with error bars, each column shaded."""
    found = columns(points["macs"].tolist())
    places = [place for column in found for place in column.places]
    for x, row in zip(places, points.itertuples(), strict=True):
        colour, marker = looks[row.arm]
        bars = None if text.absent(row.ci_low) else [[row.mean - row.ci_low], [row.ci_high - row.mean]]
        axis.errorbar(
            x, row.mean, yerr=bars, fmt=marker, color=colour, ecolor=colour, markersize=7, elinewidth=1.5, capsize=2.5,
            markeredgecolor=style.PAPER, markeredgewidth=0.8,
        )  # fmt: skip
    for column in found:
        axis.axvspan(column.left, column.right, color=style.BAND, alpha=style.BAND_ALPHA, linewidth=0)
    axis.set_xlim(-GAP, found[-1].right + GAP)
    middles = [(column.left + column.right) / 2 for column in found]
    axis.set_xticks(middles, [text.engineering(sum(column.macs) / len(column.macs)) for column in found])
    axis.set_xlabel("MACs (in increasing order, not to scale)")
    axis.grid(visible=False, axis="x")
    axis.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, labels: dict[str, str], looks: dict[str, tuple[str, str]]) -> None:
    """Arms to the right of the panels."""
    handles = [pyplot.Line2D([], [], color=looks[a][0], marker=looks[a][1], linestyle="", markersize=7) for a in labels]
    width, height = figure.get_figwidth(), figure.get_figheight()
    top = 1 - 0.4 / height
    figure.subplots_adjust(left=LEFT / width, right=1 - LEGEND / width, top=top, bottom=0.9 / height, wspace=0.25)
    figure.legend(
        handles, list(labels.values()), loc="upper left", bbox_to_anchor=(1 - (LEGEND - 0.1) / width, top),
        borderaxespad=0, handletextpad=0.4, labelspacing=0.5,
    )  # fmt: skip
