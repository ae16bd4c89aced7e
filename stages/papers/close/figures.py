"""Stage: ranking quality over the budget, all arms with intervals."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

PANELS = {"kendall": "KD (Kendall's tau)", "precision": "P@topK", "best_rank": "BR@K (lower is better)"}


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scales: list[str] = MISSING
    seeds: list[int] = MISSING
    dataset: str = field(help="a prepared data set")
    out: str = field(default="reports/pictures/close", help="folder of the pictures")
    claim: dict[str, Any] = field(help="order and titles of the arms")


def curves(scale: str, dataset: str, seeds: list[int]) -> "pandas.DataFrame":
    """Rows (arm, seed, epoch, metrics) of all seeds. StageError where a file is missing or holds none."""
    import pandas

    from stages.lib import artifacts, files

    rows = []
    for seed in seeds:
        path = files.RUNS / "close" / "metrics" / scale / dataset / f"{seed}.json"
        found = artifacts.read_json(path)
        if not isinstance(found, dict) or not found.get("curves"):
            raise StageError(f"{path}: holds no curves; run the rank stage again")
        rows += found["curves"]
    return pandas.DataFrame(rows)


def draw(tables: "dict[str, pandas.DataFrame]", titles: dict[str, str]) -> "Figure":
    """One row a scale, one panel a metric, one line an arm: mean over the repetitions with its 95 % interval."""
    from matplotlib import pyplot

    from stages.lib.statistics import mean_interval
    from stages.report.figures import style

    style.apply()
    looks = style.arm_style(list(titles))
    drawn, grid = pyplot.subplots(
        len(tables), len(PANELS), figsize=(4.4 * len(PANELS), 3.3 * len(tables) + 1.1), squeeze=False, layout="constrained"
    )
    for axes, (scale, table) in zip(grid, tables.items(), strict=True):
        for axis, (metric, label) in zip(axes, PANELS.items(), strict=True):
            shift = (table.epoch.max() - table.epoch.min()) / 90
            for place, (arm, title) in enumerate(titles.items()):
                part = table[table.arm == arm].groupby("epoch")[metric]
                spans = {epoch: mean_interval(values.tolist()) for epoch, values in part}
                x = [epoch + shift * (place - len(titles) / 2) for epoch in spans]
                means = [span.mean for span in spans.values()]
                errors = [0.0 if span.n < 2 else span.half_width for span in spans.values()]
                colour, marker = looks[arm]
                axis.errorbar(x, means, yerr=errors, color=colour, marker=marker, markersize=5, capsize=2, linewidth=1.4,
                              elinewidth=0.8, label=title)  # fmt: skip
            repetitions = table.seed.nunique()
            axis.set(title=f"{label}, {scale}", xlabel=f"epochs of the supernet ({repetitions} repetitions)")
            if metric != "kendall":
                axis.set_ylim(bottom=0)  # shares; intervals by Student's t do not know that
    handles, labels = grid[0][0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=3)
    return drawn


@stage(Config, files={"claim": "close/claim"})
def main(cfg: Config) -> None:
    """Write ranking.png and ranking.svg."""
    from stages.report.figures import style

    available = [scale for scale in cfg.scales if Path(f"params/close/{scale}.yaml").is_file()]
    if not available:
        raise StageError(f"scales={cfg.scales}: none has a file in params/close")
    tables = {scale: curves(scale, cfg.dataset, cfg.seeds) for scale in available}
    titles = {arm: cfg.claim["arm_titles"][arm] for arm in cfg.claim["arms"]}
    paths = style.save(draw(tables, titles), Path(cfg.out) / "ranking")
    print(", ".join(map(str, paths)))


if __name__ == "__main__":
    main()
