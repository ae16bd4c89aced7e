"""Stage: slices with the outlines of truth and predictions, and what every arm reaches."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, field, stage
from stages.papers.covsegnet.settings import Settings

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from torch import Tensor

    from stages.papers.covsegnet.scans import Scan

REPORTS = Path("reports/pictures/covsegnet")
SHOWN = ("phase1", "median", "volume", "two_phase")  # arms in the picture of slices
ROWS = 4
METRICS = {"dice": "Dice", "dice_clean": "Dice without artefacts", "artefact": "artefacts taken for lesions",
           "hd95": "95 % Hausdorff distance, mm"}  # fmt: skip
TRUTH, FOUND = "#e8a33d", "#3fb6e8"


@dataclass
class Config:
    """Settings of the stage."""

    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="the section of the params file")
    seeds: list[int] = MISSING
    eval_split: str = MISSING
    repeats: int = field(help="repetitions of a matrix seed; the first is shown")
    settings: Settings = field(default_factory=Settings)
    arms: list[str] = field(default_factory=list, help="arms in the order of their colours")
    arm_titles: dict[str, Any] = field(default_factory=dict, help="arms as a reader meets them")


def look(cfg: Config) -> "list[tuple[Scan, int, dict[str, Tensor]]]":
    """(scan, slice, probabilities by arm) of the slices shown: those of the most lesion in different tested scans."""
    import torch

    from stages.lib import artifacts, files
    from stages.papers.covsegnet import division, experiment, scans

    repetition = files.repetitions(cfg.seeds[0], cfg.repeats)[0]
    folder = files.RUNS.joinpath("covsegnet", "nets", cfg.scale, cfg.dataset, str(cfg.seeds[0]))
    artifacts.verify_manifest(folder / "manifest.json")
    tested = division.divide(scans.load(cfg.dataset), cfg.eval_split, cfg.settings.scans, repetition).tested
    nets = experiment.load(folder, cfg.settings, repetition, cfg.repeats)
    bench = experiment.Bench(cfg.settings, nets, torch.device("cpu"))
    shown = []
    for i in range(ROWS):  # fewer scans than rows: the next best slices of the same ones
        scan = tested[i % len(tested)]
        order = scan.lesion.ne(0).sum((1, 2)).argsort(descending=True, stable=True)
        shown.append((scan, int(order[min(i // len(tested), len(order) - 1)])))
    answers = {scan.place: bench.probabilities(scan) for scan, _ in shown}
    return [(scan, z, answers[scan.place]) for scan, z in shown]


def outline(axis: Any, mask: "Tensor", colour: str) -> None:
    """The border of a mask [H, W], if it has one."""
    if bool(mask.any()):
        axis.contour(mask.numpy().astype(float), [0.5], colors=[colour], linewidths=1.2)


def gallery(shown: "list[tuple[Scan, int, dict[str, Tensor]]]", cfg: Config) -> "Figure":
    """A row a slice: the slice alone, then the outlines of the truth (orange) and of an arm's lesions (blue)."""
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    arms = [arm for arm in SHOWN if arm in shown[0][2]]
    figure, axes = pyplot.subplots(
        len(shown), 1 + len(arms), figsize=(2.0 * (1 + len(arms)), 2.05 * len(shown)), layout="constrained", squeeze=False
    )
    for (scan, z, answers), row in zip(shown, axes, strict=True):
        row[0].set_ylabel(f"case {scan.name}, slice {scan.first + z + 1}")
        for axis, arm in zip(row, ("", *arms), strict=True):
            axis.imshow(scan.image[z].numpy(), cmap="gray", vmin=0.0, vmax=1.0)
            if arm:
                outline(axis, scan.lesion[z].ne(0), TRUTH)
                outline(axis, answers[arm][z] >= cfg.settings.threshold, FOUND)
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
    for axis, title in zip(axes[0], ("Slice", *(cfg.arm_titles[arm] for arm in arms)), strict=True):
        axis.set_title("\n".join(wrapped(title)), fontsize=9, loc="center")
    return figure


def wrapped(title: str) -> list[str]:
    """A title in lines that fit above a panel."""
    import textwrap

    return textwrap.wrap(title, 22)


def measured(cfg: Config) -> "pandas.DataFrame":
    """All repetitions' figures: columns arm, metric, seed, value."""
    import pandas

    from stages.lib import artifacts, files

    folder = files.RUNS.joinpath("covsegnet", "metrics", cfg.scale, cfg.dataset)
    return pandas.DataFrame([row for seed in cfg.seeds for row in artifacts.read_json(folder / f"{seed}.json")["rows"]])


def comparison(table: "pandas.DataFrame", cfg: Config) -> "Figure":
    """Means and 95 % intervals of all arms, one panel a metric."""
    from matplotlib import pyplot

    from stages.lib.statistics import mean_interval
    from stages.report.figures import style

    style.apply()
    arms = [arm for arm in cfg.arms if arm in set(table.arm)]
    figure, axes = pyplot.subplots(1, len(METRICS), figsize=(12.5, 0.4 * len(arms) + 1.0), sharey=True, layout="constrained")
    for axis, (metric, name) in zip(axes, METRICS.items(), strict=True):
        for place, (arm, (colour, marker)) in enumerate(style.arm_style(arms).items()):
            found = mean_interval(table[(table.arm == arm) & (table.metric == metric)].sort_values("seed").value.tolist())
            spread = None if found.n < 2 else [[found.mean - found.low], [found.high - found.mean]]
            axis.errorbar(found.mean, place, xerr=spread, color=colour, marker=marker, capsize=3, markersize=6)
        axis.set(xlabel=name)
        axis.set_yticks(range(len(arms)), [cfg.arm_titles[arm] for arm in arms])
        axis.set_ylim(len(arms) - 0.5, -0.5)
    axes[0].set_title(f"{cfg.scale}, n = {table.seed.nunique()}")
    return figure


@stage(
    Config,
    files={"repeats": "covsegnet/{scale}:repeats", "settings": "covsegnet/{scale}:{dataset}",
           "arms": "covsegnet/claim:arms", "arm_titles": "covsegnet/claim:arm_titles"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Write slices-<scale> and arms-<scale> as .png and .svg to reports/pictures/covsegnet/."""
    from stages.lib import runtime
    from stages.report.figures import style

    runtime.prepare(1, "cpu", 0)
    table = measured(cfg)  # before the nets are asked, which takes longer
    style.save(gallery(look(cfg), cfg), REPORTS / f"slices-{cfg.scale}")
    style.save(comparison(table, cfg), REPORTS / f"arms-{cfg.scale}")


if __name__ == "__main__":
    main()
