"""Stage: the comparison's table and figure."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.stage import MISSING, field, stage

if TYPE_CHECKING:
    import pandas

REPORTS = Path("reports/compare")
TITLES = {
    "dense": "dense, the same passes",
    "dcp": "DCP",
    "di": "discriminant information",
    "chex": "CHEX",
    "manidp": "ManiDP (mean over images)",
    "l1": "L1 norm",
    "random": "random channels",
    "thin_scratch": "thin net from scratch",
}
COLUMNS = ["scale", "dataset", "budget", "method", "macs_ratio", "accuracy", "ci_low", "ci_high"]
COLUMNS += ["against_scratch", "against_low", "against_high", "bytes", "n_seeds"]


@dataclass
class Config:
    scales: list[str] = MISSING
    seeds: list[int] = MISSING
    datasets: str = field(help="names of the data sets, joined by +")


def rows_of(cfg: Config) -> list[dict]:
    """All measured rows, each with its scale. Raises StageError where a file of the grid is missing."""
    from stages.compare.channel_pruning import output
    from stages.lib import artifacts

    found = []
    for scale in cfg.scales:
        if not Path(f"params/channel_pruning/{scale}.yaml").is_file():
            continue
        for dataset in cfg.datasets.split("+"):
            cells = sorted(path for path in output.place("metrics", scale, dataset).glob("*/*") if path.is_dir())
            for seed in cfg.seeds:
                paths = [output.trained(scale, dataset, seed) / "reference.json", *(cell / f"{seed}.json" for cell in cells)]
                found += [{"scale": scale, **row} for path in paths for row in artifacts.read_json(path)["rows"]]
    return found


def summary(rows: list[dict]) -> "pandas.DataFrame":
    """One line a method and budget: means, 95 % intervals, the paired difference to the thin net from scratch."""
    import pandas

    from stages.lib.statistics import mean_interval, paired_interval

    table = pandas.DataFrame(rows)
    scratch = table[table.method == "thin_scratch"].set_index(["scale", "dataset", "budget", "seed"]).accuracy
    lines = []
    for (scale, dataset, budget, method), part in table.groupby(["scale", "dataset", "budget", "method"], sort=True):
        reached = mean_interval(part.accuracy.tolist())
        line = {"scale": scale, "dataset": dataset, "budget": budget, "method": method, "n_seeds": len(part)}
        line |= {"macs_ratio": part.macs_ratio.mean(), "bytes": part.bytes.mean(), "accuracy": reached.mean}
        line |= {"ci_low": reached.low, "ci_high": reached.high}
        if budget != "all" and method != "thin_scratch":
            peers = [scratch[scale, dataset, budget, seed] for seed in part.seed]
            difference = paired_interval(part.accuracy.tolist(), peers)
            line["against_scratch"] = difference.mean
            line["against_low"], line["against_high"] = difference.low, difference.high
        lines.append(line)
    found = pandas.DataFrame(lines, columns=COLUMNS)
    order = {name: number for number, name in enumerate(TITLES)}
    found["place"] = found.method.map(order)
    found["wide"] = found.groupby(["scale", "dataset", "budget"]).macs_ratio.transform("max").round(1)
    found = found.sort_values(["scale", "dataset", "wide", "place"], ascending=[True, True, False, True], ignore_index=True)
    return found[COLUMNS]


def text(table: "pandas.DataFrame") -> str:
    """The Markdown page."""
    from stages.report import markdown

    lines = ["# Channel pruning: methods side by side", ""]
    lines.append(
        "One net, the same data, seeds and passes over the data for every method; `params/channel_pruning/` has the settings. "
        "Accuracy on the test split with 95 % intervals over seeds; the last column is the paired difference to the thin net "
        "of uniform width that trained from scratch for as many passes. MACs are measured shares of the dense net's."
    )
    for (scale, dataset), part in table.groupby(["scale", "dataset"], sort=True):
        rows = [
            [row.budget, TITLES[row.method], f"{row.macs_ratio:.3f}", _with(row.accuracy, row.ci_low, row.ci_high, ""),
             _with(row.against_scratch, row.against_low, row.against_high, "+"), f"{row.bytes:.0f}", str(row.n_seeds)]
            for row in part.itertuples()
        ]  # fmt: skip
        header = ["budget", "method", "MACs", "accuracy", "against scratch", "bytes", "seeds"]
        lines += ["", f"## {dataset}, {scale}", "", markdown.table(header, rows, right=[2, 3, 4, 5, 6]).rstrip()]
    return "\n".join([*lines, "", "![Accuracy against MACs](channel_pruning.png)", ""])


def _with(value: float, low: float, high: float, sign: str) -> str:
    """A figure with its interval; empty where there is none."""
    return "" if value != value else f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def figure(table: "pandas.DataFrame"):
    """Accuracy against MACs, one panel a data set and scale, one line a method with its intervals."""
    import seaborn
    from matplotlib.figure import Figure

    panels = list(table.groupby(["scale", "dataset"], sort=True))
    drawn = Figure(figsize=(5.4 * len(panels), 4.2), layout="constrained")
    colours = dict(zip(TITLES, seaborn.color_palette("colorblind", len(TITLES)), strict=True))
    for index, ((scale, dataset), part) in enumerate(panels, start=1):
        axes = drawn.add_subplot(1, len(panels), index)
        for method in TITLES:
            line = part[part.method == method].sort_values("macs_ratio")
            spread = [(line.accuracy - line.ci_low).clip(lower=0), (line.ci_high - line.accuracy).clip(lower=0)]
            axes.errorbar(line.macs_ratio, line.accuracy, yerr=spread, color=colours[method], marker="o", capsize=3,
                          linewidth=1.4, label=TITLES[method])  # fmt: skip
        axes.set(title=f"{dataset}, {scale}", xlabel="share of the dense net's MACs", ylabel="accuracy")
        axes.grid(alpha=0.3)
    handles, labels = drawn.axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return drawn


@stage(Config)
def main(cfg: Config) -> None:
    """Write reports/compare/channel_pruning.csv, .md, .png and .svg."""
    from stages.lib import artifacts
    from stages.report.figures import style

    table = summary(rows_of(cfg))
    artifacts.write_csv(REPORTS / "channel_pruning.csv", table)
    artifacts.write_bytes(REPORTS / "channel_pruning.md", text(table).encode())
    style.save(figure(table), REPORTS / "channel_pruning")


if __name__ == "__main__":
    main()
