"""Stage: windows in every space, accuracies by arm and protocol, learning curves, confusion of the merged net."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter
from stages.papers.har_multistage.settings import Transforms

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stages.papers.har_multistage.results import Results

REPORTS = Path("reports/pictures/har_multistage")
SETS = {"activities": "Activities", "uci_har": "UCI HAR"}
WINDOW, CHANNEL = 30, 0  # of all windows; the channel that is drawn
TITLES = {"raw": "raw window", "spectrum": "spectrum", "gasf": "Gramian sum", "gadf": "Gramian difference",
          "rp": "recurrence plot", "mtf": "Markov field", "stft": "short-time spectrum"}  # fmt: skip
OVER_WINDOWS = "_windows"  # at the end of an arm's name: the paper's protocol
CURVES = {"combined": "merged, in stages", "joint": "merged, at once", "widened": "raw, widened"}


@dataclass
class Config:
    """Settings of the stage."""

    scale: str = parameter(help="smoke, small, medium")
    seeds: list[int] = MISSING
    arms: list[str] = field(default_factory=list, metadata={"help": "arms in the order of the picture"})
    arm_titles: dict[str, Any] = field(default_factory=dict, metadata={"help": "arms as a reader meets them"})
    transforms: Transforms = parameter(default_factory=Transforms, help="settings of the picture of windows")


def spaces(options: Transforms, names: dict[str, str]) -> "Figure":
    """One channel of one window of each set in every transformed space; `names` of the sets as a reader meets them."""
    import torch
    from matplotlib import pyplot

    from stages.lib.sensors import folds, windows
    from stages.papers.har_multistage.transforms import transform
    from stages.report.figures import style

    style.apply()
    forms = list(options.names)
    size = (2.1 * len(forms), 2.3 * len(names))
    figure, axes = pyplot.subplots(len(names), len(forms), figsize=size, layout="constrained", squeeze=False)
    for row, (dataset, title) in zip(axes, names.items(), strict=True):
        found = windows.load(dataset)
        place = min(WINDOW, len(found) - 1)
        scaled = folds.standardise(found.x[place : place + 1], *folds.moments(found.x))
        x = torch.from_numpy(scaled)[:, CHANNEL : CHANNEL + 1]
        for axis, name in zip(row, forms, strict=True):
            draw(axis, name, transform(name, x, options)[0, 0].numpy())
        activity = found.classes[found.y[place]].lower().replace("_", " ")
        row[0].set_ylabel(f"{title}\n{activity}, {found.channels[CHANNEL]}")
    for axis, name in zip(axes[0], forms, strict=True):
        axis.set_title(TITLES[name])
    return figure


def draw(axis: "Axes", name: str, shown: Any) -> None:
    """A curve, or an image whose first point is at the lower left."""
    from stages.report.figures import style

    if shown.ndim == 1:
        axis.plot(shown, color=style.COLOURS[0], linewidth=1.0)
        axis.set_xlabel("sample" if name == "raw" else "frequency bin")
        return
    axis.imshow(shown, cmap="viridis", origin="lower", aspect="auto", interpolation="nearest")
    axis.grid(False)
    axis.set_xlabel("point")


def bars(found: "dict[str, Results]", arms: list[str], titles: dict[str, str]) -> "Figure":
    """Accuracy with intervals, arms and single transformations below each other by both protocols, one panel a set."""
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    singles = [name for name in next(iter(found.values())).accuracies if name.startswith("only ")]
    order = [name for name in (*arms, *sorted(singles)) if not name.endswith(OVER_WINDOWS)]
    size = (3.6 + 3.2 * len(found), 0.34 * len(order) + 1.4)
    figure, axes = pyplot.subplots(1, len(found), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, (dataset, one) in zip(axes[0], found.items(), strict=True):
        for place, name in enumerate(order):
            for kind, key in enumerate((name, name + OVER_WINDOWS)):
                if key in one.accuracies:
                    mean, low, high = one.accuracies[key]
                    axis.errorbar(mean, place + 0.24 * kind, xerr=[[mean - low], [high - mean]], fmt="os"[kind], capsize=3,
                                  markersize=5, color=style.COLOURS[kind])  # fmt: skip
        axis.set(title=f"{dataset}: folds = {one.folds}", xlabel="accuracy", xlim=(0, 1))
    axes[0][0].set_yticks(range(len(order)), [label(name, titles) for name in order])
    axes[0][0].invert_yaxis()
    handles = [pyplot.Line2D([], [], color=style.COLOURS[i], marker="os"[i], linestyle="") for i in range(2)]
    figure.legend(handles, ["folds over subjects", "folds over windows"], loc="outside lower center", ncols=2)
    return figure


def label(name: str, titles: dict[str, str]) -> str:
    """An arm or a single transformation as a reader meets it."""
    return f"Only {TITLES[name.removeprefix('only ')]}" if name.startswith("only ") else titles[name]


def curves(found: "dict[str, Results]") -> "Figure":
    """Validation accuracy by pass over the training windows, means over grouped folds, one panel a set."""
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    figure, axes = pyplot.subplots(1, len(found), figsize=(4.6 * len(found), 3.6), squeeze=False, layout="constrained")
    for axis, (dataset, one) in zip(axes[0], found.items(), strict=True):
        singles = [name for name in one.curves if name not in CURVES]
        longest = max(len(one.curves[name]) for name in singles)
        for place, name in enumerate([*singles, *CURVES]):
            values = one.curves[name]
            first = 1 + longest * (name == "combined")
            axis.plot(range(first, first + len(values)), values, color=style.COLOURS[place % len(style.COLOURS)],
                      linestyle="-" if name in CURVES else ":", marker=style.MARKERS[place], markersize=3.5, linewidth=1.3,
                      label=CURVES.get(name, TITLES.get(name)))  # fmt: skip
        axis.set(title=dataset, xlabel="pass over the training windows", ylabel="validation accuracy", ylim=(0, 1))
        axis.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def origin(dataset: str) -> str:
    """Where the windows come from: the samples of sensor sets are generated."""
    from stages.lib.data import PREPARED
    from stages.lib.sensors import windows

    source = windows.read_manifest(PREPARED / dataset / "manifest.json")["source"]
    return "generated" if source == "sample" else source


def confusion(found: "dict[str, Results]") -> "Figure":
    """The combined net's answers to all test windows of grouped folds: shares of each true class, one panel a set."""
    import seaborn
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    figure, axes = pyplot.subplots(1, len(found), figsize=(5.4 * len(found), 4.8), squeeze=False, layout="constrained")
    for axis, (dataset, one) in zip(axes[0], found.items(), strict=True):
        shares = one.confusion / one.confusion.sum(1, keepdims=True).clip(1)
        names = [name.lower().replace("_", " ") for name in one.classes]
        seaborn.heatmap(shares, annot=True, fmt=".2f", cmap="Blues", vmin=0, vmax=1, cbar=False, square=True,
                        annot_kws={"size": 8}, xticklabels=names, yticklabels=names, ax=axis)  # fmt: skip
        axis.set(title=f"{dataset}: {int(one.confusion.sum())} windows", xlabel="answered", ylabel="true")
        axis.set_xticklabels(axis.get_xticklabels(), rotation=40, ha="right")
    return figure


@stage(
    Config, files={"arms": "har_multistage/claim:arms", "arm_titles": "har_multistage/claim:arm_titles",
                   "transforms": "har_multistage/{scale}:activities.transforms"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Write transforms, arms, curves and confusion, each -<scale> as .png and .svg, to reports/pictures/har_multistage/."""
    from stages.lib import runtime
    from stages.papers.har_multistage import results
    from stages.report.figures import style

    runtime.prepare(1, "cpu", 0)
    names = {dataset: f"{title} ({origin(dataset)})" for dataset, title in SETS.items()}
    found = {name: results.read(cfg.scale, dataset, cfg.seeds) for dataset, name in names.items()}
    style.save(spaces(cfg.transforms, names), REPORTS / f"transforms-{cfg.scale}")
    style.save(bars(found, cfg.arms, cfg.arm_titles), REPORTS / f"arms-{cfg.scale}")
    style.save(curves(found), REPORTS / f"curves-{cfg.scale}")
    style.save(confusion(found), REPORTS / f"confusion-{cfg.scale}")


if __name__ == "__main__":
    main()
