"""Stage: accuracy against MACs of all arms, and what the two ways of sampling train."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, field, stage

if TYPE_CHECKING:
    import numpy
    import pandas

REPORTS = Path("reports/pictures/focusformer")
DATASET = "digits"
DRAWN = ("uniform", "focus")  # supernets of the cost distribution
SAMPLINGS = {"uniform": "uniform sampling", "focus": "the sampler, with its share of exploration"}


@dataclass
class Config:
    """Settings of the stage."""

    scales: list[str] = MISSING
    seeds: list[int] = MISSING
    arms: list[str] = field(default_factory=list, help="arms in the order of their colours")
    arm_titles: dict[str, Any] = field(default_factory=dict, help="arms as a reader meets them")


def points(scale: str, seeds: list[int]) -> "pandas.DataFrame":
    """One row an arm and budget: mean MACs and accuracy over the repetitions, with the accuracy's 95 % interval."""
    import pandas

    from stages.lib import artifacts, files
    from stages.lib.statistics import mean_interval

    folder = files.RUNS / "focusformer" / "metrics" / scale / DATASET
    rows = [row for seed in seeds for row in artifacts.read_json(folder / f"{seed}.json")["rows"]]
    table = pandas.DataFrame(rows).pivot_table(index=["arm", "seed"], columns="metric", values="value")
    made = []
    for arm, part in table.groupby(level="arm", sort=True):
        for budget in range(1, sum(name.startswith("macs_") for name in table.columns) + 1):
            reached = mean_interval(part[f"accuracy_{budget}"].tolist())
            made.append({"arm": arm, "budget": budget, "macs": part[f"macs_{budget}"].mean(), "accuracy": reached.mean,
                         "low": reached.low, "high": reached.high, "n": reached.n})  # fmt: skip
    return pandas.DataFrame(made)


def fronts(panels: dict[str, "pandas.DataFrame"], arms: list[str], titles: dict[str, str]):
    """Fronts of all arms, one panel a scale."""
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5.6 * len(panels), 5.2), squeeze=False, layout="constrained")
    for axis, (scale, table) in zip(axes[0], panels.items(), strict=True):
        for arm, (colour, marker) in style.arm_style(arms).items():
            part = table[table.arm == arm].sort_values("macs")
            spread = [part.accuracy - part.low, part.high - part.accuracy]
            axis.errorbar(part.macs / 1000, part.accuracy, yerr=spread, color=colour, marker=marker, capsize=2.5,
                          linewidth=1.3, markersize=5, label=titles[arm])  # fmt: skip
        axis.set(title=f"Digits, {scale}: means of n = {int(table.n.max())}", xlabel="thousand MACs", ylabel="accuracy")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(panels))
    return figure


def drawn_costs(scale: str, seeds: list[int], name: str) -> "numpy.ndarray":
    """MACs of the steps of all repetitions of a supernet, from the step on at which a sampler may be at work."""
    import numpy

    from stages.lib import artifacts
    from stages.papers.focusformer import experiment

    found = []
    for seed in seeds:
        path = experiment.supernet_folder(scale, DATASET, name, seed) / "costs.npz"
        with numpy.load(path, allow_pickle=False) as arrays:
            keys = sorted(arrays.files)
        found += artifacts.read_npz(path, *keys)
    return numpy.concatenate([costs[len(costs) // 2 :] for costs in found])


def distributions(panels: dict[str, dict[str, "numpy.ndarray"]]):
    """Histograms of the trained architectures' MACs, one panel a scale."""
    import seaborn
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5.6 * len(panels), 4.0), squeeze=False, layout="constrained")
    for axis, (scale, found) in zip(axes[0], panels.items(), strict=True):
        for name, colour in zip(DRAWN, style.COLOURS, strict=False):
            seaborn.histplot(x=found[name] / 1000, bins=40, stat="density", element="step", alpha=0.25, color=colour,
                             label=SAMPLINGS[name], ax=axis)  # fmt: skip
        axis.set(title=f"Digits, {scale}: second half of the training", xlabel="thousand MACs of a step's architecture")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


@stage(
    Config, files={"arms": "focusformer/claim:arms", "arm_titles": "focusformer/claim:arm_titles"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Write fronts and costs as .png and .svg to reports/pictures/focusformer/."""
    from stages.report.figures import style

    scales = [scale for scale in cfg.scales if Path(f"params/focusformer/{scale}.yaml").is_file() and scale != "paper"]
    table = {scale: points(scale, cfg.seeds) for scale in scales}
    style.save(fronts(table, cfg.arms, cfg.arm_titles), REPORTS / "fronts")
    costs = {scale: {name: drawn_costs(scale, cfg.seeds, name) for name in DRAWN} for scale in scales}
    style.save(distributions(costs), REPORTS / "costs")


if __name__ == "__main__":
    main()
