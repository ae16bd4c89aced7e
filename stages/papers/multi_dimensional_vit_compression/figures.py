"""Stage: how the searches fared, and what their policies keep."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, field, stage
from stages.papers.multi_dimensional_vit_compression.settings import Search, Train

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REPORTS = Path("reports/pictures/multi_dimensional_vit_compression")
PAIRS = {"budget": ("joint", "random_search"), "tight": ("tight", "tight_random_search")}
TITLES = ("Gaussian process", "random policies")
SITES = ("heads", "neurons")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a data set on which the search was run")
    seeds: list[int] = MISSING
    repeats: int = field(help="repetitions of a matrix seed")
    train: Train = field(default_factory=Train)
    search: Search = field(default_factory=Search)


def best_so_far(scores: list[float], length: int) -> list[float]:
    """The highest score up to each evaluation, carried on to `length` where a search ended earlier."""
    made = [max(scores[: i + 1]) for i in range(len(scores))]
    return made + made[-1:] * (length - len(made))


def gains(scores: list[float], options: Search) -> list[float]:
    """`best_so_far` less the best of the first random policies, which both searches of a repetition have in common."""
    return [one - max(scores[: options.initial]) for one in best_so_far(scores, options.evaluations)]


def draw_search(found: list[dict[str, Any]], options: Search) -> "Figure":
    """Gain in held-out accuracy against evaluations, one panel a budget: means with 95 % intervals."""
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    figure, axes = pyplot.subplots(1, len(PAIRS), figsize=(9.6, 3.9), sharey=True, layout="constrained")
    for axis, (key, arms) in zip(axes, PAIRS.items(), strict=True):
        for arm, title, colour, mark in zip(arms, TITLES, style.COLOURS, style.MARKERS, strict=False):
            _curve(axis, [one[arm]["trials"] for one in found], options, title, colour, mark)
        axis.axvline(options.initial + 0.5, color=style.MUTED, linewidth=1, linestyle=":")
        share = round(100 * getattr(options, key))
        axis.set(title=f"{share} % of the dense FLOPs, n = {len(found)}", xlabel="policies scored")
    axes[0].set_ylabel("best held-out accuracy so far,\nless that at the dotted line")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    figure.suptitle("Left of the dotted line both score the same random policies.", fontsize=8.5, color=style.MUTED)
    return figure


def _curve(axis: "Axes", trials: list[list[dict]], options: Search, title: str, colour: str, mark: str) -> None:
    """One search's mean over the repetitions."""
    from stages.lib.statistics import mean_interval

    curves = [gains([trial["score"] for trial in one], options) for one in trials]
    points = [mean_interval(values) for values in zip(*curves, strict=True)]
    x = range(1, options.evaluations + 1)
    axis.plot(x, [point.mean for point in points], color=colour, marker=mark, markersize=3.5, linewidth=1.4, label=title)
    if len(curves) > 1:
        axis.fill_between(x, [p.low for p in points], [p.high for p in points], color=colour, alpha=0.12, linewidth=0)


def draw_policies(found: list[dict[str, Any]], full: dict[str, int], options: Search) -> "Figure":
    """Shares of the heads, neurons and tokens that the searched policies keep: repetitions and means."""
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    from stages.report.figures import style

    style.apply()
    figure, axes = pyplot.subplots(1, 3, figsize=(9.6, 3.8), sharey=True, layout="constrained",
                                   gridspec_kw={"width_ratios": [3, 3, 1.4]})  # fmt: skip
    budgets = [f"{round(100 * getattr(options, key))} %" for key in PAIRS]
    looks = list(zip(budgets, style.COLOURS, style.MARKERS, strict=False))
    for place, ((method, _), (_, *look)) in enumerate(zip(PAIRS.values(), looks, strict=True)):
        policies = [one[method]["policy"] for one in found]
        for axis, site in zip(axes, SITES, strict=False):
            for block, kept in enumerate(zip(*(one[site] for one in policies), strict=True), 1):
                _spread(axis, block + 0.36 * (place - 0.5), [100 * count / full[site] for count in kept], *look)
        _spread(axes[2], place, [100 * (1 - one["sparsity"]) for one in policies], *look)
    least = 100 * (1 - options.bound)
    for axis, title in zip(axes, ("heads kept (%)", "neurons kept (%)", "tokens kept (%)"), strict=True):
        axis.set(title=title, ylim=(least - 6, 106))
        axis.axhline(least, color=style.MUTED, linewidth=1, linestyle=":")
    for axis in axes[:2]:
        axis.set(xlabel="block", xticks=range(1, len(found[0]["joint"]["policy"]["heads"]) + 1))
    axes[2].set(
        xlabel="at each reducing block", xticks=range(len(budgets)), xticklabels=budgets, xlim=(-0.6, len(budgets) - 0.4)
    )
    handles = [Line2D([], [], color=colour, marker=mark, label=f"{name} of the FLOPs") for name, colour, mark in looks]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    figure.suptitle("The dotted line is the least that a policy may keep.", fontsize=8.5, color=style.MUTED)
    return figure


def _spread(axis: "Axes", x: float, values: list[float], colour: str, mark: str) -> None:
    """Repetitions side by side as faint points, and their mean."""
    across = [x + 0.24 * ((i + 0.5) / len(values) - 0.5) for i in range(len(values))]
    axis.plot(across, values, color=colour, marker=mark, markersize=4, linestyle="", alpha=0.45, markeredgewidth=0)
    axis.plot([x], [sum(values) / len(values)], color=colour, marker=mark, markersize=8)


@stage(
    Config,
    files={"train": "multi_dimensional_vit_compression/{scale}:{dataset}.train",
           "search": "multi_dimensional_vit_compression/{scale}:{dataset}.compress.search",
           "repeats": "multi_dimensional_vit_compression/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Write search-<scale> and policies-<scale> to reports/pictures/multi_dimensional_vit_compression, as .png and .svg."""
    from stages.papers.multi_dimensional_vit_compression import saved
    from stages.report.figures import style

    found = [arms for seed in cfg.seeds for arms in saved.policies(cfg.scale, cfg.dataset, seed, cfg.repeats)]
    full = {"heads": cfg.train.net.heads, "neurons": cfg.train.net.hidden}
    drawn = {"search": draw_search(found, cfg.search), "policies": draw_policies(found, full, cfg.search)}
    for name, figure in drawn.items():
        style.save(figure, REPORTS / f"{name}-{cfg.scale}")


if __name__ == "__main__":
    main()
