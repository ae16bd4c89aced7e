"""Kept channels: one cell a layer and arm, so that re-allocation of width between layers shows at a glance."""

from __future__ import annotations

import pandas
import seaborn
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.report import text
from stages.report.figures import style

WRITTEN = 18  # with more layers than this the numbers would overlap, and colour alone tells
LEFT, BAR = 2.6, 0.75  # inches for the arms' titles and for the colour bar


def draw(layers: pandas.DataFrame, order: list[str], titles: dict[str, str]) -> Figure | None:
    """The figure for one paper, scale and data set (rows of layers.csv); None when no arm lists its layers."""
    if layers.empty:
        return None
    arms = [arm for arm in order if arm in set(layers["arm"])]
    names = layers.sort_values("position", kind="stable")["layer"].drop_duplicates().tolist()
    kept = layers.pivot(index="arm", columns="layer", values="kept_mean").loc[arms, names]
    channels = layers.pivot(index="arm", columns="layer", values="channels").loc[arms, names]
    written = len(names) <= WRITTEN
    labels = _layer_labels(names, channels.max(axis=0).tolist(), written)
    style.apply()
    bottom = 0.62 if written else 0.3 + 0.075 * max(map(len, labels))
    cells = max(3.2, (0.6 if written else 0.27) * len(names))
    width, height = LEFT + cells + BAR, 0.5 + bottom + 0.33 * len(arms)
    figure = pyplot.figure(figsize=(width, height))
    axis = figure.add_axes((LEFT / width, bottom / height, cells / width, 1 - (0.5 + bottom) / height))
    bar = figure.add_axes((1 - (BAR - 0.12) / width, bottom / height, 0.12 / width, 1 - (0.5 + bottom) / height))
    seaborn.heatmap(
        kept / channels, ax=axis, cbar_ax=bar, vmin=0, vmax=1, cmap=seaborn.light_palette("#0173b2", as_cmap=True),
        linewidths=1.5, linecolor=style.PAPER, annot=kept.map(_count) if written else None, fmt="",
        annot_kws={"fontsize": 8.5},
        cbar_kws={"label": "part kept", "ticks": [0, 0.5, 1]},
    )  # fmt: skip
    figure.text(
        0.1 / width,
        1 - 0.27 / height,
        "Kept channels of each layer, mean over repetitions",
        fontweight="bold",
        fontsize=10.5,
    )
    _finish(axis, [titles.get(arm, arm) for arm in arms], labels, written)
    bar.tick_params(length=0)
    return figure


def _count(value: float) -> str:
    """Kept channels, with a decimal only where repetitions differ."""
    return "" if text.absent(value) else f"{value:.0f}" if float(value).is_integer() else f"{value:.1f}"


def _layer_labels(names: list[str], full: list[float], written: bool) -> list[str]:
    """Layer names (over their full width where there is room); every second or third is left blank when there are
    many.
    """
    if written:
        return [f"{name.replace('blocks.', '')}\nof {width:.0f}" for name, width in zip(names, full, strict=True)]
    return [f"{name} ({width:.0f})" for name, width in zip(names, full, strict=True)]


def _finish(axis: Axes, titles: list[str], labels: list[str], written: bool) -> None:
    """Arm titles on the left, layers below."""
    axis.set_yticks(
        [i + 0.5 for i in range(len(titles))],
        ["\n".join(text.wrap(title, 36)[:2]) for title in titles],
        fontsize=8.5,
        rotation=0,
    )
    axis.set_xticks([i + 0.5 for i in range(len(labels))], labels, fontsize=8, rotation=0 if written else 90)
    axis.set(xlabel="", ylabel="")
    axis.tick_params(length=0, colors=style.INK)
