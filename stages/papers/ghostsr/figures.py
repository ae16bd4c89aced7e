"""Stage: what enlarged photographs look like, and how far each arm is from the dense net."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage

if TYPE_CHECKING:
    import numpy
    import pandas
    from matplotlib.figure import Figure

REPORTS = Path("reports/pictures/ghostsr")
SHOWN = {"bicubic": "bicubic", "full": "dense", "ghost": "GhostSR", "copy": "plain copies", "narrow": "narrow, equal size"}
SIDE = 96  # pixels of the part that is shown


@dataclass
class Config:
    """Settings of the stage."""

    scale: str = field(help="smoke, small, medium")
    seeds: list[int] = MISSING
    arms: list[str] = field(default_factory=list, help="arms in the order of their colours")
    arm_titles: dict[str, Any] = field(default_factory=dict, help="arms as a reader meets them")


def middle(image: "numpy.ndarray") -> "numpy.ndarray":
    """The central SIDE x SIDE pixels of [H, W, 3], less where there are fewer."""
    top, left = (max(0, (length - SIDE) // 2) for length in image.shape[:2])
    return image[top : top + SIDE, left : left + SIDE]


def photographs(place: Path, arms: list[str]) -> "Figure":
    """A row a photograph: enlarged by each of the arms, and the clean one."""
    from stages.lib import artifacts
    from stages.lib.restoration import grid, quality, sets
    from stages.report.figures import style

    (names,) = artifacts.read_npz(place, "names")
    rows, captions = [], []
    for i in range(len(names)):
        *made, clean = (middle(image) for image in artifacts.read_npz(place, *(f"{name}_{i}" for name in [*arms, "clean"])))
        found = [quality.measure(sets.tensor(image), sets.tensor(clean))["psnr"] for image in made]
        rows.append([*made, clean])
        captions.append([*(f"{value:.2f} dB" for value in found), ""])
    style.apply()
    return grid.picture_grid(rows, [*(SHOWN[name] for name in arms), "clean"], captions, names.tolist())


def gaps(metrics: list[Path]) -> "pandas.DataFrame":
    """PSNR of every arm less that of the dense net: columns arm, seed, gap. Raises StageError without the arm `full`."""
    import pandas

    from stages.lib import artifacts

    rows = [row for path in metrics for row in artifacts.read_json(path)["rows"] if row["metric"] == "psnr"]
    table = pandas.DataFrame(rows).pivot_table(index="seed", columns="arm", values="value")
    if "full" not in table:
        raise StageError(f"{metrics[0]}: has no arm full, which the others are compared with; add it to params.arms")
    return table.sub(table["full"], axis=0).melt(ignore_index=False, var_name="arm", value_name="gap").reset_index()


def distances(table: "pandas.DataFrame", arms: list[str], titles: dict[str, str], scale: str) -> "Figure":
    """One line an arm that was trained: a dot a repetition, the mean with its 95 % interval."""
    from matplotlib import pyplot

    from stages.lib.statistics import mean_interval
    from stages.report.figures import style

    style.apply()
    shown = [arm for arm in arms if arm in set(table.arm) - {"full", "bicubic"}]
    figure, axis = pyplot.subplots(figsize=(8.2, 0.42 * len(shown) + 1.2), layout="constrained")
    looks = style.arm_style(arms)
    for place, arm in enumerate(shown):
        values = table[table.arm == arm].gap.tolist()
        colour, marker = looks[arm]
        axis.scatter(values, [place + 0.17] * len(values), s=12, color=colour, alpha=0.45, linewidths=0)
        found = mean_interval(values)
        spread = [[found.mean - found.low], [found.high - found.mean]] if found.n > 1 else None
        axis.errorbar([found.mean], [place - 0.1], xerr=spread, color=colour, marker=marker, markersize=6, capsize=3)
    axis.axvline(0.0, color=style.MUTED, linewidth=1.0)
    axis.set_yticks(range(len(shown)), [titles[arm] for arm in shown])
    axis.invert_yaxis()
    axis.set(xlabel="PSNR less that of the dense net (dB)", title=f"{scale}: n = {table.seed.nunique()}")
    return figure


@stage(Config, files={"arms": "ghostsr/claim:arms", "arm_titles": "ghostsr/claim:arm_titles"})
def main(cfg: Config) -> None:
    """Write pictures-<scale> and gaps-<scale> as .png and .svg to reports/pictures/ghostsr/."""
    from stages.papers.ghostsr import folders
    from stages.report.figures import style

    if not cfg.seeds:
        raise StageError("seeds=[]: expected one or more")
    places = [folders.folder("evaluated", cfg.scale, seed) for seed in cfg.seeds]
    for place in places:
        folders.verified(place)
    table = gaps([folders.metrics(cfg.scale, seed) for seed in cfg.seeds])
    shown = [arm for arm in SHOWN if arm in set(table.arm)]
    style.save(photographs(places[0] / "pictures.npz", shown), REPORTS / f"pictures-{cfg.scale}")
    style.save(distances(table, cfg.arms, cfg.arm_titles, cfg.scale), REPORTS / f"gaps-{cfg.scale}")


if __name__ == "__main__":
    main()
