"""Stage: accuracy over the rounds of every arm, and what label rates and wrong priors do."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, field, stage

if TYPE_CHECKING:
    import pandas

REPORTS = Path("reports/pictures/fedpu")
DATASETS = ("mnist", "digits")
CURVES = {"iid": "all classes at every client", "noniid": "five classes at every client"}
OVER_ROUNDS = ("fedpu", "clamped", "risk", "code_v1", "positives_only", "pseudo_label", "one_negative", "supervised")
OVER_RATES = ("fedpu", "positives_only")
FACTORS = {"fedpu_half": 0.5, "fedpu": 1.0, "fedpu_double": 2.0}


@dataclass
class Config:
    """Settings of the stage."""

    scales: list[str] = MISSING
    seeds: list[int] = MISSING
    arms: list[str] = field(default_factory=list, help="arms in the order of their colours")
    arm_titles: dict[str, Any] = field(default_factory=dict, help="arms as a reader meets them")


def folder_of(scale: str, dataset: str, seed: int) -> Path:
    """Where the stage `federate` leaves its rounds."""
    return Path("runs/fedpu/federations", scale, dataset, str(seed))


def curves(scale: str, dataset: str, seeds: list[int]) -> "pandas.DataFrame":
    """The rows of all rounds.csv of a scale and data set. Raises StageError if one is missing or damaged."""
    import pandas

    from stages.lib import artifacts

    tables = []
    for seed in seeds:
        folder = folder_of(scale, dataset, seed)
        artifacts.verify_manifest(folder / "manifest.json")
        tables.append(pandas.read_csv(folder / "rounds.csv"))
    return pandas.concat(tables)


def label_rates(scale: str, dataset: str, seeds: list[int]) -> dict[str, float]:
    """Label rate by scene, of the scenes that differ from iid in nothing else."""
    from stages.lib import artifacts

    made = artifacts.read_json(folder_of(scale, dataset, seeds[0]) / "manifest.json")
    scenes = made["config"]["params"]["scenes"]
    return {name: own["label_rate"] for name, own in scenes.items() if name == "iid" or name.startswith("rate_")}


def over_rounds(tables: dict[tuple[str, str], "pandas.DataFrame"], arms: list[str], titles: dict[str, str]):
    """Mean accuracy after each round; a row a scale and division, a column a data set."""
    from matplotlib import pyplot, ticker

    from stages.report.figures import style

    style.apply()
    scales = list(dict.fromkeys(scale for scale, _ in tables))
    rows = [(scale, scene) for scale in scales for scene in CURVES]
    size = (5.4 * len(DATASETS), 3.7 * len(rows) + 0.9)
    figure, axes = pyplot.subplots(len(rows), len(DATASETS), figsize=size, squeeze=False, sharex="row", layout="constrained")
    looks = style.arm_style(arms)
    for line, (scale, scene) in zip(axes, rows, strict=True):
        for axis, dataset in zip(line, DATASETS, strict=True):
            table = tables[scale, dataset]
            part = table[table.scene == scene]
            for arm in (arm for arm in OVER_ROUNDS if arm in set(part.arm)):
                mean = part[part.arm == arm].groupby("round").accuracy.mean()
                colour, marker = looks[arm]
                axis.plot(mean.index, mean, color=colour, marker=marker, markevery=max(1, len(mean) // 6), markersize=4.5,
                          linewidth=1.4, label=titles[arm])  # fmt: skip
            axis.set(title=f"{dataset}, {scale}: {CURVES[scene]}", xlabel="round", ylabel="accuracy of the global net")
            axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    handles = {text: handle for axis in axes.flat for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=2)
    return figure


def last_rounds(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """One row a scene, arm and repetition: the accuracy after the last round."""
    return table[table["round"] == table["round"].max()]


def points(
    table: "pandas.DataFrame", pairs: list[tuple[float, str, str]]
) -> tuple[list[float], list[float], list[list[float]]]:
    """(positions, means, interval's two half-widths) of (position, scene, arm)."""
    from stages.lib.statistics import mean_interval

    found = []
    for position, scene, arm in pairs:
        values = table[(table.scene == scene) & (table.arm == arm)].accuracy.tolist()
        if values:
            found.append((position, mean_interval(values)))
    spread = [[one.mean - one.low for _, one in found], [one.high - one.mean for _, one in found]]
    return [position for position, _ in found], [one.mean for _, one in found], spread


def sensitivity(tables: dict[str, "pandas.DataFrame"], rates: dict[str, dict[str, float]], arms: list[str], titles):
    """Accuracy over label rates, and over factors on the priors of positive classes; a row a scale. MNIST, iid."""
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    figure, axes = pyplot.subplots(len(tables), 2, figsize=(10.8, 3.9 * len(tables) + 0.6), squeeze=False, layout="constrained")
    looks = style.arm_style(arms)
    for (left, right), (scale, table) in zip(axes, tables.items(), strict=True):
        last, known = last_rounds(table), sorted((rate, scene) for scene, rate in rates[scale].items())
        for arm in OVER_RATES:
            x, y, spread = points(last, [(rate, scene, arm) for rate, scene in known])
            colour, marker = looks[arm]
            left.errorbar(
                x, y, yerr=spread, color=colour, marker=marker, capsize=3, markersize=5, linewidth=1.4, label=titles[arm]
            )
        left.set(title=f"mnist, {scale}: label rate", xlabel="labelled share of a positive class", ylabel="accuracy")
        x, y, spread = points(last, [(factor, "iid", arm) for arm, factor in FACTORS.items()])
        colour, marker = looks["fedpu"]
        right.errorbar(x, y, yerr=spread, color=colour, marker=marker, capsize=3, markersize=5, linewidth=1.4)
        _, (plain, *_), _ = points(last, [(1.0, "iid", "positives_only")])
        right.axhline(plain, color=looks["positives_only"][0], linestyle="--", linewidth=1.4)
        right.set_xscale("log", base=2)
        right.set_xticks(x, [f"x {factor:g}" for factor in x])
        right.minorticks_off()
        right.set(title=f"mnist, {scale}: wrong priors", xlabel="factor on the priors of positive classes", ylabel="accuracy")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


@stage(Config, files={"arms": "fedpu/claim:arms", "arm_titles": "fedpu/claim:arm_titles"})
def main(cfg: Config) -> None:
    """Write rounds and sensitivity as .png and .svg to reports/pictures/fedpu/."""
    from stages.report.figures import style

    scales = [scale for scale in cfg.scales if Path(f"params/fedpu/{scale}.yaml").is_file() and scale != "paper"]
    tables = {(scale, dataset): curves(scale, dataset, cfg.seeds) for scale in scales for dataset in DATASETS}
    style.save(over_rounds(tables, cfg.arms, cfg.arm_titles), REPORTS / "rounds")
    rates = {scale: label_rates(scale, "mnist", cfg.seeds) for scale in scales}
    first = {scale: tables[scale, "mnist"] for scale in scales}
    style.save(sensitivity(first, rates, cfg.arms, cfg.arm_titles), REPORTS / "sensitivity")


if __name__ == "__main__":
    main()
