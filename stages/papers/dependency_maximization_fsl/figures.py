"""Stage: labels round after round of self-training, and accuracy by shots."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, field, stage

if TYPE_CHECKING:
    import pandas

REPORTS = Path("reports/pictures/dependency_maximization_fsl")
DATASETS = ("glyphs", "mnist_fs")
SELECTIONS = ("dm_ida", "dm_random", "dm_confidence", "ce_ida")
SHOTS = {"one_shot": 1, "five_shot": 5}  # settings with all images as query images


@dataclass
class Config:
    """Settings of the stage."""

    scales: list[str] = MISSING
    seeds: list[int] = MISSING
    arm_titles: dict[str, Any] = field(default_factory=dict, help="arms as a reader meets them")
    dataset_titles: dict[str, Any] = field(default_factory=dict, help="data sets as a reader meets them")


def metrics(scale: str, dataset: str, seeds: list[int]) -> "pandas.DataFrame":
    """All values of a data set, one column a metric, indexed by arm and repetition."""
    import pandas

    from stages.lib import artifacts
    from stages.papers.dependency_maximization_fsl.places import metrics_file

    rows = [row for seed in seeds for row in artifacts.read_json(metrics_file(scale, dataset, seed))["rows"]]
    return pandas.DataFrame(rows).pivot_table(index=["arm", "seed"], columns="metric", values="value")


def by_round(table: "pandas.DataFrame", arm: str, kind: str) -> list[float]:
    """Means over repetitions of a share after round 1, 2, ... of the one-shot setting."""
    names = [name for name in table.columns if name.startswith(f"{kind}_one_shot_round_")]
    ordered = sorted(names, key=lambda name: int(name.rpartition("_")[2]))
    return [float(table.loc[arm][name].mean()) for name in ordered]


def by_shots(table: "pandas.DataFrame", arm: str) -> list[tuple[int, Any]]:
    """(shots, mean accuracy with its interval over repetitions) of the settings that the arm was measured in."""
    from stages.lib.statistics import mean_interval

    found = [(shots, table.loc[arm].get(f"accuracy_{name}")) for name, shots in SHOTS.items()]
    return [(shots, mean_interval(own.tolist())) for shots, own in found if own is not None and own.notna().all()]


def rounds_figure(panels: dict[tuple[str, str], "pandas.DataFrame"], cfg: Config):
    """Two rows of panels: labels of the selected points, and of all unlabelled points before each selection."""
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    figure, axes = pyplot.subplots(
        2, len(panels), figsize=(4.6 * len(panels), 6.6), squeeze=False, sharex=True, layout="constrained"
    )
    looks = style.arm_style(list(SELECTIONS))
    for column, ((scale, dataset), table) in enumerate(panels.items()):
        for kind, axis in zip(("selected", "pseudo"), axes[:, column], strict=True):
            for arm, (colour, marker) in looks.items():
                if arm in table.index.get_level_values("arm"):
                    values = by_round(table, arm, kind)
                    axis.plot(range(1, len(values) + 1), values, color=colour, marker=marker, markersize=5, linewidth=1.4,
                              label=cfg.arm_titles[arm])  # fmt: skip
            axis.xaxis.get_major_locator().set_params(integer=True)
        axes[0, column].set(
            title=f"{cfg.dataset_titles[dataset]}, {scale}", ylabel="right among selected" if column == 0 else ""
        )
        axes[1, column].set(xlabel="round", ylabel="right among all unlabelled" if column == 0 else "")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=1 if len(panels) < 2 else 2)
    return figure


def shots_figure(panels: dict[tuple[str, str], "pandas.DataFrame"], cfg: Config):
    """Accuracy of the arms with one and with five labelled images a class."""
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4.6 * len(panels), 5.6), squeeze=False, layout="constrained")
    for axis, ((scale, dataset), table) in zip(axes[0], panels.items(), strict=True):
        arms = [arm for arm in cfg.arm_titles if arm in table.index.get_level_values("arm") and len(by_shots(table, arm)) > 1]
        for place, (arm, (colour, marker)) in enumerate(style.arm_style(arms).items()):
            points = by_shots(table, arm)
            at = [shots + 0.09 * (place - (len(arms) - 1) / 2) for shots, _ in points]  # side by side, not over each other
            spread = [[one.mean - one.low for _, one in points], [one.high - one.mean for _, one in points]]
            axis.errorbar(at, [one.mean for _, one in points], yerr=spread, color=colour, marker=marker, capsize=2.5,
                          linewidth=1.2, markersize=5, label=cfg.arm_titles[arm])  # fmt: skip
        count = int(table.groupby(level="arm").size().max())
        axis.set(title=f"{cfg.dataset_titles[dataset]}, {scale}: means of n = {count}", xlabel="labelled images a class",
                 ylabel="accuracy of query images", xticks=sorted(SHOTS.values()))  # fmt: skip
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=1 if len(panels) < 2 else 2)
    return figure


@stage(
    Config,
    files={"arm_titles": "dependency_maximization_fsl/claim:arm_titles",
           "dataset_titles": "dependency_maximization_fsl/claim:dataset_titles"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Write rounds and shots as .png and .svg to reports/pictures/dependency_maximization_fsl/."""
    from stages.report.figures import style

    folder = Path("params/dependency_maximization_fsl")
    scales = [scale for scale in cfg.scales if (folder / f"{scale}.yaml").is_file() and scale != "paper"]
    panels = {(scale, dataset): metrics(scale, dataset, cfg.seeds) for scale in scales for dataset in DATASETS}
    style.save(rounds_figure(panels, cfg), REPORTS / "rounds")
    style.save(shots_figure(panels, cfg), REPORTS / "shots")


if __name__ == "__main__":
    main()
