"""Stage: the cells that searches have found, as graphs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.stage import MISSING, field, stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stages.lib.darts import Genotype
    from stages.lib.darts.genotype import Edge

REPORTS = Path("reports/pictures/eoinas")
SHOWN = {"eoinas": "EoiNAS", "darts": "DARTS"}
SHORT = {
    "max_pool_3x3": "max", "avg_pool_3x3": "avg", "skip_connect": "skip", "sep_conv_3x3": "sep 3", "sep_conv_5x5": "sep 5",
    "dil_conv_3x3": "dil 3", "dil_conv_5x5": "dil 5",
}  # fmt: skip


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="the data set that was searched on")
    seeds: list[int] = MISSING
    repeats: int = field(help="repetitions of a matrix seed; the first of each is drawn")


def places(nodes: int) -> list[tuple[float, float]]:
    """Where the two inputs, the intermediate nodes and the output stand."""
    return [(0.0, 0.9), (0.0, -0.9), *((1.7 + 1.6 * i, 0.0) for i in range(nodes + 1))]


def bend(source: int, target: int) -> float:
    """How far an edge bows: straight to the next node, above from input 0 and its like, below from input 1."""
    if source < 2:
        return (-1 if source == 0 else 1) * min(0.16 * (target - 2), 0.22)
    return 0.0 if target == source + 1 else (-0.3 if source % 2 else 0.3)


def draw_edge(axes: "Axes", op: str, start: tuple[float, float], end: tuple[float, float], bow: float) -> None:
    """An arrow with its operation's name a little before the middle."""
    from matplotlib.patches import FancyArrowPatch

    from stages.report.figures import style

    colour = style.COLOURS[list(SHORT).index(op) % len(style.COLOURS)]
    shape = {"connectionstyle": f"arc3,rad={bow}", "arrowstyle": "-|>", "mutation_scale": 11, "shrinkA": 12, "shrinkB": 10}
    axes.add_patch(FancyArrowPatch(start, end, color=colour, linewidth=1.5, **shape))
    (x, y), width, height = start, end[0] - start[0], end[1] - start[1]
    spot = (x + 0.45 * width + 0.5 * bow * height, y + 0.45 * height - 0.5 * bow * width)  # on arc3's curve
    box = {"boxstyle": "round,pad=0.15", "facecolor": style.PAPER, "edgecolor": colour, "linewidth": 0.8}
    axes.text(*spot, SHORT[op], ha="center", va="center", fontsize=7.5, color=style.INK, bbox=box)


def draw_cell(axes: "Axes", pairs: tuple["Edge", ...], title: str) -> None:
    """One cell: an arrow an edge with its operation's name, thin lines to the concatenation."""
    from stages.report.figures import style

    nodes = len(pairs) // 2
    spots = places(nodes)
    for node in range(2, nodes + 2):
        bow = 0.0 if node == nodes + 1 else 0.45
        line = {"arrowstyle": "-", "color": style.LINE, "shrinkA": 10, "shrinkB": 10, "connectionstyle": f"arc3,rad={bow}"}
        axes.annotate("", spots[-1], spots[node], arrowprops=line)
    for index, (op, source) in enumerate(pairs):
        draw_edge(axes, op, spots[source], spots[index // 2 + 2], bend(source, index // 2 + 2))
    ring = {"boxstyle": "circle,pad=0.3", "facecolor": style.PAPER, "edgecolor": style.MUTED}
    for spot, name in zip(spots, ["in 1", "in 2", *map(str, range(nodes)), "out"], strict=True):
        axes.text(*spot, name, ha="center", va="center", fontsize=8, bbox=ring)
    axes.set(xlim=(-0.5, spots[-1][0] + 0.5), ylim=(-1.6, 1.6))
    axes.set_aspect("equal")
    axes.set_title(title, fontsize=9)
    axes.axis("off")


def figure(found: dict[int, dict[str, "Genotype"]]) -> "Figure":
    """A row a repetition; the normal and the reduction cell of every arm in SHOWN."""
    from matplotlib.figure import Figure

    from stages.lib.darts.genotype import CELLS
    from stages.report.figures import style

    style.apply()
    width = 2.2 + 0.9 * max(genotype.nodes for arms in found.values() for genotype in arms.values())
    columns = [(arm, cell) for arm in SHOWN for cell in CELLS]
    drawn = Figure(figsize=(width * len(columns), 2.3 * len(found)), layout="constrained")
    for line, (repetition, arms) in enumerate(found.items()):
        for place, (arm, cell) in enumerate(columns):
            axes = drawn.add_subplot(len(found), len(columns), line * len(columns) + place + 1)
            kind = "normal" if cell == "normal" else "reduction"
            draw_cell(axes, getattr(arms[arm], cell), f"{SHOWN[arm]}, {kind}, repetition {repetition}")
    return drawn


@stage(Config, files={"repeats": "eoinas/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Draw the cells that EoiNAS and the DARTS-style search found, the first repetition of every seed."""
    from stages.lib import files
    from stages.papers.eoinas import found
    from stages.report.figures import style

    cells = {}
    for seed in cfg.seeds:
        first = files.repetitions(seed, cfg.repeats)[0]
        folders = {arm: found.folder(cfg.scale, cfg.dataset, arm, seed) for arm in SHOWN}
        cells[first] = {arm: found.load(folder, [first])[0]["genotype"] for arm, folder in folders.items()}
    style.save(figure(cells), REPORTS / f"cells-{cfg.scale}")


if __name__ == "__main__":
    main()
