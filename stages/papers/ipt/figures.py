"""Stage: before and after of two photographs by all arms, and the gains of every arm and task."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage

if TYPE_CHECKING:
    import numpy
    import pandas
    from matplotlib.figure import Figure

REPORTS = Path("reports/pictures/ipt")
CLEAN = "clean"
SHOWN = ("input", "ipt_scratch", "ipt_scratch_long", "ipt", "edsr_pretrained")  # columns of the grid, clean ones last
SHORT = {"input": "Corrupted", "ipt_scratch": "IPT from scratch", "ipt_scratch_long": "From scratch, long",
         "ipt": "IPT, pre-trained", "edsr_pretrained": "EDSR, pre-trained", CLEAN: "Clean"}  # fmt: skip
TASKS = {"sr2": "Super-resolution x2", "denoise30": "Noise 30", "denoise70": "Noise 70, unseen", "derain": "Rain"}


@dataclass
class Config:
    """Settings of the stage."""

    scales: list[str] = MISSING
    seeds: list[int] = MISSING
    arms: list[str] = field(default_factory=list, help="arms in the order of their colours")
    arm_titles: dict[str, Any] = field(default_factory=dict, help="arms as a reader meets them")


def folders(scale: str, seed: int) -> list[Path]:
    """Where the trials of a seed are; their manifests hold the hashes of images and metrics."""
    from stages.lib import files
    from stages.papers.ipt.arms import PRETRAINED

    own = files.RUNS / "ipt"
    return [own / "scratch" / scale / str(seed), *(own / "finetune" / scale / arm / str(seed) for arm in PRETRAINED)]


def images(scale: str, seed: int) -> "dict[str, numpy.ndarray]":
    """The kept images of all arms of a seed, by "arm task name"."""
    import numpy

    found: dict[str, numpy.ndarray] = {}
    for folder in folders(scale, seed):
        with numpy.load(folder / "images.npz", allow_pickle=False) as archive:
            found |= {name: archive[name] for name in archive.files}
    return found


def grid(found: "dict[str, numpy.ndarray]") -> "Figure":
    """A row a task (its first photograph), a column an arm, the clean image last; PSNR below."""
    import torch

    from stages.lib.restoration.grid import picture_grid
    from stages.lib.restoration.quality import measure
    from stages.report.figures import style

    style.apply()
    columns, rows, captions, names = [*SHOWN, CLEAN], [], [], []
    for name, title in TASKS.items():
        photographs = sorted(key.split(" ", 2)[2] for key in found if key.startswith(f"{CLEAN} {name} "))
        if not photographs:
            raise StageError(f"figures: no kept image of task {name}; finetune.targets lacks it, or run the stages again")
        row = [found[f"{arm} {name} {photographs[0]}"] for arm in columns]
        tensors = [torch.from_numpy(image.transpose(2, 0, 1).astype("float32")) for image in row]
        border = 2 if name == "sr2" else 0
        told = [f"{measure(image, tensors[-1], border)['psnr']:.2f} dB" for image in tensors[:-1]]
        rows.append(row)
        captions.append([*told, ""])
        names.append(title)
    return picture_grid(rows, [SHORT[arm] for arm in columns], captions, names)


def gains(scale: str, seeds: list[int], arms: list[str]) -> "pandas.DataFrame":
    """One row an arm and task: mean gain over the repetitions with its 95 % interval."""
    import pandas

    from stages.lib import artifacts, files
    from stages.lib.statistics import mean_interval

    own, rows = files.RUNS / "ipt" / "metrics" / scale, []
    for dataset in ("benchmarks", "rain"):
        for arm in arms:
            rows += [row for seed in seeds for row in artifacts.read_json(own / dataset / arm / f"{seed}.json")["rows"]]
    table, made = pandas.DataFrame(rows), []
    for (arm, metric), part in table[table.metric.str.startswith("gain_")].groupby(["arm", "metric"], sort=True):
        found = mean_interval(part["value"].tolist())
        made.append({"arm": arm, "task": metric.removeprefix("gain_"), "mean": found.mean, "low": found.low,
                     "high": found.high, "n": found.n})  # fmt: skip
    return pandas.DataFrame(made)


def bars(panels: "dict[str, pandas.DataFrame]", arms: list[str], titles: dict[str, str]) -> "Figure":
    """A row of panels a scale, a panel a task, a bar an arm."""
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    shown = [arm for arm in arms if arm != "input"]
    size = (11.5, 2.7 * len(panels) + 0.4)
    figure, axes = pyplot.subplots(len(panels), len(TASKS), figsize=size, squeeze=False, sharey="row", layout="constrained")
    for line, (scale, table) in zip(axes, panels.items(), strict=True):
        for axis, (name, title) in zip(line, TASKS.items(), strict=True):
            part = table[table.task == name].set_index("arm")
            for place, arm in enumerate(reversed(shown)):
                if arm in part.index:
                    one = part.loc[arm]
                    spread = None if one.n < 2 else [[one["mean"] - one.low], [one.high - one["mean"]]]
                    axis.barh(place, one["mean"], xerr=spread, color=style.arm_style(shown)[arm][0], height=0.72,
                              error_kw={"capsize": 2.5, "elinewidth": 1.0, "ecolor": style.INK})  # fmt: skip
            axis.axvline(0.0, color=style.MUTED, linewidth=0.8)
            axis.set(title=title, yticks=range(len(shown)), yticklabels=[titles[arm] for arm in reversed(shown)])
            axis.tick_params(labelleft=axis is line[0])
            axis.grid(axis="y", visible=False)
        line[0].set_ylabel(f"{scale}, n = {int(table.n.max())}")
    figure.supxlabel("dB of PSNR over the corrupted image", fontsize="medium")
    return figure


@stage(
    Config, files={"arms": "ipt/claim:arms", "arm_titles": "ipt/claim:arm_titles"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Write pictures (of the last scale and the first seed) and gains as .png and .svg to reports/pictures/ipt/."""
    from stages.lib import artifacts
    from stages.report.figures import style

    scales = [scale for scale in cfg.scales if Path(f"params/ipt/{scale}.yaml").is_file() and scale != "paper"]
    if not scales or not cfg.seeds:
        raise StageError(f"scales={cfg.scales} seeds={cfg.seeds}: expected smoke, small or medium, and one seed or more")
    for folder in (folder for scale in scales for seed in cfg.seeds for folder in folders(scale, seed)):
        artifacts.verify_manifest(folder / "manifest.json")
    style.save(grid(images(scales[-1], cfg.seeds[0])), REPORTS / "pictures")
    style.save(bars({scale: gains(scale, cfg.seeds, cfg.arms) for scale in scales}, cfg.arms, cfg.arm_titles),
               REPORTS / "gains")  # fmt: skip


if __name__ == "__main__":
    main()
