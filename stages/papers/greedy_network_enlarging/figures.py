"""Stage: two pictures, where each arm puts its MACs and how the candidates of every step fared."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, field, stage
from stages.papers.greedy_network_enlarging.settings import Search

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REPORTS = Path("reports/pictures/greedy_network_enlarging")
TITLES = {
    "base": "base", "greedy": "greedy enlarging", "uniform": "compound scaling", "uniform_width": "one width factor",
    "random_best": "best random allocation",
}  # fmt: skip
DIMENSIONS = ("depth", "width", "resolution")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a data set on which the search was run")
    seeds: list[int] = MISSING
    repeats: int = field(help="repetitions of a matrix seed")
    search: Search = field(default_factory=Search)


def shares(nets: list[dict[str, Any]]) -> "dict[str, dict[str, float]]":
    """Mean share of the MACs by arm and by stem, stage and head; `nets` holds the arms of each repetition."""
    found: dict[str, dict[str, float]] = {}
    for arm in TITLES:
        rows = [net["macs"] for repetition in nets for net in repetition["arms"][arm]]
        # JSON has sorted the keys.
        groups = ["stem", *sorted((name for name in rows[0] if name.isdigit()), key=int), "head"]
        found[arm] = {group: sum(row[group] / sum(row.values()) for row in rows) / len(rows) for group in groups}
    return found


def draw_shares(found: "dict[str, dict[str, float]]", total: dict[str, float]) -> "Figure":
    """One bar an arm, divided into stem, stages and head; `total` holds the mean MACs by arm."""
    import seaborn
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    arms = list(found)[::-1]
    groups = [group for group in found["base"] if any(found[arm][group] for arm in arms)]
    inks = seaborn.color_palette("Blues", len(groups) + 1).as_hex()[1:]
    figure, axis = pyplot.subplots(figsize=(8.4, 0.9 + 0.5 * len(arms)), layout="constrained")
    left = dict.fromkeys(arms, 0.0)
    for place, group in enumerate(groups):
        widths = [100 * found[arm][group] for arm in arms]
        label = f"stage {group}" if group.isdigit() else group
        axis.barh(range(len(arms)), widths, left=[left[arm] for arm in arms], color=inks[place], label=label, height=0.66)
        for y, (arm, width) in enumerate(zip(arms, widths, strict=True)):
            if width > 4:
                ink = style.INK if place < len(groups) / 2 else style.PAPER
                axis.text(left[arm] + width / 2, y, f"{width:.0f}", ha="center", va="center", fontsize=8.5, color=ink)
            left[arm] += width
    axis.set_yticks(range(len(arms)), [f"{TITLES[arm]}\n{total[arm] / 1e3:.0f} k MACs" for arm in arms])
    axis.set(xlim=(0, 100), xlabel="share of the net's MACs (%), mean over repetitions", title="Where the MACs go")
    axis.grid(visible=False, axis="y")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper")
    return figure


def draw_ladder(steps: list[list[dict[str, Any]]]) -> "Figure":
    """One panel a step: the score of every candidate in every repetition, winners filled and counted."""
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    from stages.report.figures import style

    style.apply()
    figure, axes = pyplot.subplots(1, len(steps), figsize=(3.7 * len(steps), 3.6), sharey=True, squeeze=False,
                                   layout="constrained")  # fmt: skip
    looks = dict(zip(DIMENSIONS, zip(style.COLOURS, style.MARKERS), strict=False))
    for number, (axis, repetitions) in enumerate(zip(axes[0], steps, strict=True), start=1):
        _panel(axis, repetitions, looks)
        axis.set_title(f"step {number}: {repetitions[0]['budget'] / 1e3:.0f} k MACs", pad=18)
    axes[0][0].set_ylabel("accuracy on held-out\ntraining images")
    handles = [Line2D([], [], linestyle="", color=colour, marker=mark, label=name) for name, (colour, mark) in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    note = "Filled: the step's winner; its number of wins above. Candidates that miss the budget are not evaluated."
    figure.suptitle(note, fontsize=8.5, color=style.MUTED)
    return figure


def _panel(axis: "Axes", repetitions: list[dict[str, Any]], looks: dict[str, tuple[str, str]]) -> None:
    """All slots of one step side by side."""
    names = [row["slot"] for row in repetitions[0]["slots"]]
    for place, name in enumerate(names):
        colour, mark = looks[name.rstrip("0123456789")]
        rows = [(next(row for row in item["slots"] if row["slot"] == name), item["winner"]) for item in repetitions]
        scored = [(row["score"], winner == name) for row, winner in rows if row["feasible"]]
        for i, (score, won) in enumerate(scored):
            x = place + 0.5 * ((i + 0.5) / len(scored) - 0.5)
            face = colour if won else "none"
            axis.plot(x, score, marker=mark, color=colour, markerfacecolor=face, markersize=5.5, linestyle="")
        if wins := sum(won for _, won in scored):
            axis.text(place, 1.01, str(wins), ha="center", transform=axis.get_xaxis_transform(), fontsize=8.5, color=colour)
    axis.set_xticks(range(len(names)), [name.replace("resolution", "r") for name in names], rotation=60, fontsize=8.5)
    axis.set_xlim(-0.6, len(names) - 0.4)
    axis.grid(visible=False, axis="x")


@stage(
    Config,
    files={
        "repeats": "greedy_network_enlarging/{scale}:repeats",
        "search": "greedy_network_enlarging/{scale}:{dataset}.search",
    },
)
def main(cfg: Config) -> None:
    """Write macs_shares-<scale> and ladder-<scale> to reports/pictures/greedy_network_enlarging, as .png and .svg."""
    from stages.lib import files
    from stages.papers.greedy_network_enlarging import ladder
    from stages.report.figures import style

    steps: list[list[dict[str, Any]]] = [[] for _ in range(cfg.search.steps)]
    nets: list[dict[str, Any]] = []
    for seed in cfg.seeds:
        repetitions = files.repetitions(seed, cfg.repeats)
        for k, found in enumerate(steps, start=1):
            found += ladder.read(ladder.place(k, cfg.scale, cfg.dataset, "choice", seed), repetitions)
        nets += ladder.read(ladder.trained(cfg.scale, cfg.dataset, seed) / "nets.json", repetitions)
    total = {arm: [sum(net["macs"].values()) for row in nets for net in row["arms"][arm]] for arm in TITLES}
    drawn = {
        "macs_shares": draw_shares(shares(nets), {arm: sum(values) / len(values) for arm, values in total.items()}),
        "ladder": draw_ladder(steps),
    }
    for name, figure in drawn.items():
        for path in style.save(figure, REPORTS / f"{name}-{cfg.scale}"):
            print(path, flush=True)


if __name__ == "__main__":
    main()
