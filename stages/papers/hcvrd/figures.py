"""Stage: recall from head to tail, the zero-shot figures of all arms, attention on web images, scenes with predictions."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, field, stage

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from stages.papers.hcvrd.relations import World

REPORTS = Path("reports/pictures/hcvrd")
BINS, TOP = 8, 1
COMPARED = ("full", "no_web", "softmax", "factorised", "language", "frequency")  # in the picture of the long tail
METRICS = {
    "general_recall50": "zero-shot among all labels,\nRecall@50 of detected boxes",
    "general_top5": "zero-shot among all labels,\ntop-5 of given boxes",
    "zero_top5": "zero-shot labels alone,\ntop-5 of given boxes",
    "tail_macro_top5": "long tail, mean of labels,\ntop-5 of given boxes",
}
SCENES = 6


@dataclass
class Config:
    """Settings of the stage."""

    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="the section of the params file")
    seeds: list[int] = MISSING
    eval_split: str = MISSING
    repeats: int = field(help="repetitions of a matrix seed; the first is shown")
    arms: list[str] = field(default_factory=list, help="arms in the order of their colours")
    arm_titles: dict[str, Any] = field(default_factory=dict, help="arms as a reader meets them")


def models(cfg: Config, seed: int) -> list[Path]:
    """Evidence files of a matrix seed's repetitions. Raises StageError where the stage's folder was altered."""
    from stages.lib import artifacts, files

    folder = files.RUNS.joinpath("hcvrd", "models", cfg.scale, cfg.dataset, str(seed))
    artifacts.verify_manifest(folder / "manifest.json")
    repetitions = files.repetitions(seed, cfg.repeats)
    return [files.weights(folder, "arms", one, cfg.repeats).with_suffix(".npz") for one in repetitions]


def long_tail(cfg: Config, world: "World") -> "pandas.DataFrame":
    """Columns arm, place, hits: share of relations named first, by places of labels in order of frequency; the last place is
    that of zero-shot labels (-1 in `place`).
    """
    import numpy
    import pandas

    from stages.lib import artifacts

    labels, asked = world.labels, world.asked
    order = labels.count.argsort(descending=True, stable=True)
    rank = numpy.empty(len(order), dtype=int)
    rank[order.numpy()] = numpy.arange(len(order))
    seen = int(labels.seen.sum())
    place = numpy.where(labels.seen.numpy(), rank * BINS // seen, -1)[asked.label.numpy()]
    rows = []
    for seed in cfg.seeds:
        for path in models(cfg, seed):
            for arm in (name for name in COMPARED if name in cfg.arms):
                (found,) = artifacts.read_npz(path, f"rank_{arm}")
                known = found >= 0
                table = pandas.DataFrame({"place": place[known], "hits": found[known] < TOP})
                rows += [{"arm": arm, "place": int(at), "hits": part.hits.mean()} for at, part in table.groupby("place")]
    return pandas.DataFrame(rows)


def draw_tail(table: "pandas.DataFrame", cfg: Config, world: "World") -> "Figure":
    """Lines over the places of seen labels, and points for the zero-shot ones beside them."""
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    figure, axis = pyplot.subplots(figsize=(8.2, 4.6), layout="constrained")
    for arm, (colour, marker) in style.arm_style(cfg.arms).items():
        part = table[table.arm == arm].groupby("place").hits.mean()
        if not len(part):
            continue
        line = part[part.index >= 0]
        axis.plot(line.index, line, color=colour, marker=marker, label=cfg.arm_titles[arm])
        if -1 in part.index:
            axis.plot([BINS + 0.5], [part[-1]], color=colour, marker=marker, linestyle="none")
    counts = world.labels.count[world.labels.seen].sort(descending=True).values.tolist()
    edges = [counts[-(-place * len(counts) // BINS)] for place in range(BINS)]
    axis.axvline(BINS - 0.25, color=style.MUTED, linewidth=0.8, linestyle=":")
    axis.set_xticks([*range(BINS), BINS + 0.5], [*(f"{edge}" for edge in edges), "zero-shot\n(alone)"])
    axis.set(
        xlabel="most training instances of a label in the eighth, head to tail",
        ylabel="named first (top-1)",
        ylim=(-0.03, 1.03),
    )
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_arms(cfg: Config) -> "Figure":
    """Means and 95 % intervals of all arms, one panel a metric."""
    import pandas
    from matplotlib import pyplot

    from stages.lib import artifacts, files
    from stages.lib.statistics import mean_interval
    from stages.report.figures import style

    style.apply()
    folder = files.RUNS.joinpath("hcvrd", "metrics", cfg.scale, cfg.dataset)
    table = pandas.DataFrame([row for seed in cfg.seeds for row in artifacts.read_json(folder / f"{seed}.json")["rows"]])
    arms = [arm for arm in cfg.arms if arm in set(table.arm)]
    figure, axes = pyplot.subplots(1, len(METRICS), figsize=(13.5, 0.33 * len(arms) + 1.3), sharey=True, layout="constrained")
    for axis, (metric, name) in zip(axes, METRICS.items(), strict=True):
        for place, (arm, (colour, marker)) in enumerate(style.arm_style(arms).items()):
            values = table[(table.arm == arm) & (table.metric == metric)].sort_values("seed").value.tolist()
            if values:
                found = mean_interval(values)
                spread = None if found.n < 2 else [[found.mean - found.low], [found.high - found.mean]]
                axis.errorbar(found.mean, place, xerr=spread, color=colour, marker=marker, capsize=3, markersize=6)
        axis.set(xlabel=name, xlim=(-0.04, 1.04))
        axis.set_yticks(range(len(arms)), [cfg.arm_titles[arm] for arm in arms])
        axis.set_ylim(len(arms) - 0.5, -0.5)
    axes[0].set_title(f"{cfg.scale}, n = {table.seed.nunique()}")
    return figure


def draw_attention(path: Path, world: "World") -> "Figure":
    """Good and spoiled web images of labels from zero-shot to frequent, each beside the attention that it gets."""
    from matplotlib import pyplot

    from stages.lib import artifacts
    from stages.report.figures import style

    style.apply()
    (maps,) = artifacts.read_npz(path, "attention")
    chosen = world.labels.spread(len(maps))
    figure, axes = pyplot.subplots(len(maps), 8, figsize=(11.0, 1.5 * len(maps)), layout="constrained", squeeze=False)
    for row, label, own in zip(axes, chosen, maps, strict=True):
        good, times = world.web.good[label], int(world.labels.count[label])
        places = [*good.nonzero().flatten().tolist()[:2], *(~good).nonzero().flatten().tolist()[:2]]
        for axis in row:
            axis.axis("off")
        for i, place in enumerate(places):
            image = world.web.x[label, place].permute(1, 2, 0).numpy()
            row[2 * i].imshow(image)
            row[2 * i].set_title("shows it" if good[place] else "spoiled", fontsize=8)
            row[2 * i + 1].imshow(own[place], cmap="viridis", vmin=0.0, vmax=own.max())
        words = [own[i] for own, i in zip(world.labels.words, world.labels.triplets[label].tolist(), strict=True)]
        told = "\n".join([*words, f"({times or 'not'} annotated)"])
        row[0].text(-0.12, 0.5, told, transform=row[0].transAxes, ha="right", va="center", fontsize=8)
    return figure


def draw_scenes(path: Path, world: "World") -> "Figure":
    """Evaluated scenes with zero-shot relations: the truth above, the best labels of the true pair below."""
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    from stages.lib import artifacts
    from stages.papers.hcvrd.relations import ZERO_SHOT
    from stages.report.figures import style

    style.apply()
    truth, sub, obj, label, score = artifacts.read_npz(path, "pair_truth", "pair_sub", "pair_obj", "pair_label", "pair_score")
    asked, names = world.asked, world.labels.names()
    rows = [row for row, one in enumerate(truth.tolist()) if one >= 0 and asked.role[one] == ZERO_SHOT]
    rows = rows[:: max(len(rows) // SCENES, 1)][:SCENES]
    figure, axes = pyplot.subplots(1, SCENES, figsize=(2.35 * SCENES, 3.4), layout="constrained")
    for axis in axes:
        axis.axis("off")
    for axis, row in zip(axes, rows, strict=False):
        one = int(truth[row])
        axis.imshow(asked.x[asked.image[one]].permute(1, 2, 0).numpy(), extent=(0, asked.x.shape[3], asked.x.shape[2], 0))
        for box, colour in ((sub[row], style.COLOURS[0]), (obj[row], style.COLOURS[1])):
            axis.add_patch(Rectangle(box[:2], *(box[2:] - box[:2]), fill=False, edgecolor=colour, linewidth=1.6))
        axis.set_title(names[int(asked.label[one])], fontsize=9)
        told = [f"{'>' if int(name) == int(asked.label[one]) else ' '} {names[int(name)]} ({value:.1f})"
                for name, value in zip(label[row], score[row], strict=True)]  # fmt: skip
        axis.text(0.0, -0.04, "\n".join(told), transform=axis.transAxes, va="top", fontsize=8)
    return figure


@stage(
    Config, files={"repeats": "hcvrd/{scale}:repeats", "arms": "hcvrd/claim:arms", "arm_titles": "hcvrd/claim:arm_titles"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Write tail-, arms-, attention- and scenes-<scale> as .png and .svg to reports/pictures/hcvrd/."""
    from stages.papers.hcvrd import relations
    from stages.report.figures import style

    world = relations.read(cfg.eval_split)
    first = models(cfg, cfg.seeds[0])[0]
    made = {"tail": draw_tail(long_tail(cfg, world), cfg, world), "arms": draw_arms(cfg),
            "attention": draw_attention(first, world), "scenes": draw_scenes(first, world)}  # fmt: skip
    for name, figure in made.items():
        style.save(figure, REPORTS / f"{name}-{cfg.scale}")


if __name__ == "__main__":
    main()
