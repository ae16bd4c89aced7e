"""Stage: scenes as teacher and student see them, and what few labels make of every arm."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, field, stage
from stages.papers.milan.settings import Scenes as Images
from stages.papers.milan.settings import Student

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from torch import Tensor

    from stages.papers.milan.sampling import Division
    from stages.papers.milan.scenes import Scenes

REPORTS = Path("reports/pictures/milan")
SHOWN = 6  # scenes in the picture
COLUMNS = ("scene", "teacher's attention", "semantic sampling", "random")
METRICS = {"fine_tuned": "fine-tuned accuracy", "probe_class": "linear probe, accuracy", "foreground_iou": "foreground IoU"}


@dataclass
class Config:
    """Settings of the stage."""

    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="the section of the params file")
    seeds: list[int] = MISSING
    repeats: int = field(help="repetitions of a matrix seed; the first is shown")
    images: Images = field(default_factory=Images)
    student: Student = field(default_factory=Student)
    arms: list[str] = field(default_factory=list, help="arms in the order of their colours")
    arm_titles: dict[str, Any] = field(default_factory=dict, help="arms as a reader meets them")


def look(cfg: Config) -> "tuple[Scenes, Tensor, Division, Division]":
    """Scenes for pre-training, the teacher's weights [n, N] of their patches, and both divisions of them."""
    from stages.lib import artifacts, data, files
    from stages.lib.runtime import derive_seed, seed_everything
    from stages.papers.milan import checkpoint, sampling, scenes, tower

    seed, ratio = cfg.seeds[0], cfg.student.mask_ratio
    repetition = files.repetitions(seed, cfg.repeats)[0]
    folder = files.RUNS.joinpath("milan", "teachers", cfg.scale, cfg.dataset, str(seed))
    artifacts.verify_manifest(folder / "manifest.json")
    teacher = checkpoint.load(files.weights(folder, "language", repetition, cfg.repeats))
    originals = scenes.divide(data.pixels("digits", "train"), cfg.images.originals)["student"]
    shown = scenes.compose(originals, max(SHOWN, len(originals.classes)), cfg.images, repetition, "picture")
    importance = tower.importance(teacher.targets(shown.x)[1])
    drawn = []
    for weights in (importance, None):
        seed_everything(derive_seed(repetition, "picture"))
        drawn.append(sampling.draw(len(shown), importance.shape[1], ratio, weights))
    return shown, importance, *drawn


def gallery(shown: "Scenes", importance: "Tensor", semantic: "Division", random: "Division") -> "Figure":
    """One row of panels a scene: the scene with its caption, the attention, and what both samplings leave visible."""
    from matplotlib import pyplot

    from stages.papers.milan.scenes import VOCABULARY
    from stages.report.figures import style

    style.apply()
    side = shown.x.shape[2]
    grid = round(importance.shape[1] ** 0.5)
    figure, axes = pyplot.subplots(SHOWN, len(COLUMNS), figsize=(7.2, 1.75 * SHOWN), layout="constrained")
    for i, row in enumerate(axes):
        image = shown.x[i, 0].numpy()
        row[0].imshow(image, cmap="gray")
        row[0].set_ylabel(
            "\n".join(VOCABULARY[word] for word in shown.captions[i].tolist()), rotation=0, ha="right", va="center"
        )
        row[1].imshow(importance[i].view(grid, grid).numpy(), cmap="viridis", extent=(-0.5, side - 0.5, side - 0.5, -0.5))
        for axis, division in zip(row[2:], (semantic, random), strict=True):
            hidden = division.mask()[i].view(grid, grid).repeat_interleave(side // grid, 0).repeat_interleave(side // grid, 1)
            axis.imshow(image, cmap="gray", alpha=(1.0 - 0.9 * hidden).numpy())
        for axis, name in zip(row, COLUMNS, strict=True):
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            if i == 0:
                axis.set_title(name)
    return figure


def figures_of(scale: str, dataset: str, seeds: list[int]) -> "pandas.DataFrame":
    """All repetitions' figures: columns arm, metric, seed, value."""
    import pandas

    from stages.lib import artifacts, files

    folder = files.RUNS.joinpath("milan", "metrics", scale, dataset)
    return pandas.DataFrame([row for seed in seeds for row in artifacts.read_json(folder / f"{seed}.json")["rows"]])


def comparison(table: "pandas.DataFrame", scale: str, arms: list[str], titles: dict[str, str]) -> "Figure":
    """Means and 95 % intervals of all arms, one panel a metric."""
    from matplotlib import pyplot

    from stages.lib.statistics import mean_interval
    from stages.report.figures import style

    style.apply()
    arms = [arm for arm in arms if arm in set(table.arm)]
    size = (11.5, 0.36 * len(arms) + 1.0)
    figure, axes = pyplot.subplots(1, len(METRICS), figsize=size, sharey=True, layout="constrained")
    for axis, (metric, name) in zip(axes, METRICS.items(), strict=True):
        for place, (arm, (colour, marker)) in enumerate(style.arm_style(arms).items()):
            values = table[(table.arm == arm) & (table.metric == metric)].sort_values("seed").value.tolist()
            if not values:
                continue
            found = mean_interval(values)
            spread = None if found.n < 2 else [[found.mean - found.low], [found.high - found.mean]]
            axis.errorbar(found.mean, place, xerr=spread, color=colour, marker=marker, capsize=3, markersize=6)
        axis.set(xlabel=name)
        axis.set_yticks(range(len(arms)), [titles[arm] for arm in arms])
        axis.set_ylim(len(arms) - 0.5, -0.5)
    axes[0].set_title(f"{scale}, n = {table.seed.nunique()}")
    return figure


@stage(
    Config,
    files={"repeats": "milan/{scale}:repeats", "images": "milan/{scale}:{dataset}.images",
           "student": "milan/{scale}:{dataset}.student", "arms": "milan/claim:arms", "arm_titles": "milan/claim:arm_titles"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Write scenes-<scale> and arms-<scale> as .png and .svg to reports/pictures/milan/."""
    from stages.lib import runtime
    from stages.report.figures import style

    runtime.prepare(1, "cpu", 0)
    style.save(gallery(*look(cfg)), REPORTS / f"scenes-{cfg.scale}")
    table = figures_of(cfg.scale, cfg.dataset, cfg.seeds)
    style.save(comparison(table, cfg.scale, cfg.arms, cfg.arm_titles), REPORTS / f"arms-{cfg.scale}")


if __name__ == "__main__":
    main()
