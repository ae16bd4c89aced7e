"""Stage: utility-privacy curves under the worst attacker, and what each family of attackers sees."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, field, stage

if TYPE_CHECKING:
    import pandas

REPORTS = Path("reports/pictures/privacy_adversarial_features")
CURVES = ("kdi_net", "kdi_linear", "di_linear", "confusion_net", "closed_adversary_net", "minimax_filter", "ruca")
POINTS = ("dca", "desensitised", "pca", "raw")
SEEN = ("raw", "pca", "dca", "ruca", "desensitised", "di_linear", "hsic_linear", "kdi_linear", "minimax_filter",
        "confusion_net", "minimax_net", "closed_adversary_net", "kdi_net")  # fmt: skip
FAMILIES = {"linear": "logistic", "rbf": "kernel", "mlp": "net", "neighbours": "neighbours", "": "worst"}
PANELS = (("mixture", ""), ("digits", ""), ("motionsense", "_gender"), ("motionsense", "_subject"))


@dataclass
class Config:
    """Settings of the stage."""

    scale: str = field(help="smoke, small, medium")
    seeds: list[int] = MISSING
    arm_titles: dict[str, Any] = field(default_factory=dict, help="arms as a reader meets them")
    dataset_titles: dict[str, Any] = field(default_factory=dict, help="data sets as a reader meets them")


def means(scale: str, dataset: str, seeds: list[int]) -> "tuple[pandas.DataFrame, int]":
    """Mean of every metric (columns) of every arm (rows) over the repetitions, and how many those are."""
    import pandas

    from stages.lib import artifacts, files
    from stages.papers.privacy_adversarial_features.tables import SLUG

    folder = files.RUNS / SLUG / "metrics" / scale / dataset
    rows = [row for seed in seeds for row in artifacts.read_json(folder / f"{seed}.json")["rows"]]
    table = pandas.DataFrame(rows)
    return table.pivot_table(index="arm", columns="metric", values="value", aggfunc="mean"), table.seed.nunique()


def panel(axis: Any, table: "pandas.DataFrame", ending: str, titles: dict[str, str]) -> None:
    """Curves of the methods with a price and points of those without."""
    from stages.report.figures import style

    looks = style.arm_style([*CURVES, *POINTS])
    for arm in CURVES:
        colour, marker = looks[arm]
        count = sum(name.startswith("utility_") and name.removeprefix("utility_").removesuffix(ending).isdigit()
                    for name in table.columns if name.endswith(ending))  # fmt: skip
        x, y = ([table.loc[arm, f"{name}_{place}{ending}"] for place in range(count)] for name in ("utility", "sensitive"))
        axis.plot(x, y, color=colour, marker=marker, linewidth=1.3, markersize=5, label=titles[arm])
    for arm in POINTS:
        colour, marker = looks[arm]
        axis.plot(table.loc[arm, f"utility{ending}"], table.loc[arm, f"sensitive{ending}"], color=colour, marker=marker,
                  linestyle="none", markersize=8, markerfacecolor="none", markeredgewidth=1.5, label=titles[arm])  # fmt: skip
    axis.axhline(table.loc["raw", f"sensitive_chance{ending}"], color=style.MUTED, linestyle="--", linewidth=1.0)


def curves(scale: str, seeds: list[int], titles: dict[str, str], datasets: dict[str, str]) -> Any:
    """One panel a data set and secret."""
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    figure, axes = pyplot.subplots(2, 2, figsize=(10.5, 9.0), layout="constrained")
    for axis, (dataset, ending) in zip(axes.flat, PANELS, strict=True):
        table, count = means(scale, dataset, seeds)
        panel(axis, table, ending, titles)
        secret = f", {ending[1:]} secret" if ending else ""
        axis.set(title=f"{datasets[dataset].partition(':')[0]}{secret} (n = {count})", xlabel="accuracy on what is of use",
                 ylabel="worst attacker's accuracy")  # fmt: skip
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def seen(scale: str, seeds: list[int], titles: dict[str, str]) -> Any:
    """Attackers' accuracies on the secret of the mixture as a table in colours."""
    import seaborn
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    table, count = means(scale, "mixture", seeds)
    shown = table.loc[list(SEEN), [f"sensitive_{name}" if name else "sensitive" for name in FAMILIES]]
    shown.columns, shown.index = list(FAMILIES.values()), [titles[arm] for arm in SEEN]
    figure, axis = pyplot.subplots(figsize=(8.2, 5.2), layout="constrained")
    seaborn.heatmap(shown, annot=True, fmt=".2f", cmap="rocket_r", vmin=0.0, vmax=1.0, linewidths=0.5, ax=axis,
                    cbar_kws={"label": "accuracy on the secret"})  # fmt: skip
    chance = table.loc["raw", "sensitive_chance"]
    axis.set(title=f"Mixture, {scale} (n = {count}); majority rate {chance:.2f}", xlabel="attacker", ylabel="")
    return figure


@stage(
    Config, files={"arm_titles": "privacy_adversarial_features/claim:arm_titles",
                   "dataset_titles": "privacy_adversarial_features/claim:dataset_titles"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Write curves and attackers of one scale as .png and .svg to reports/pictures/privacy_adversarial_features/."""
    from stages.report.figures import style

    style.save(curves(cfg.scale, cfg.seeds, cfg.arm_titles, cfg.dataset_titles), REPORTS / f"curves-{cfg.scale}")
    style.save(seen(cfg.scale, cfg.seeds, cfg.arm_titles), REPORTS / f"attackers-{cfg.scale}")


if __name__ == "__main__":
    main()
