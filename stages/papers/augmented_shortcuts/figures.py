"""Stage: diversity of the tokens over depth, by the paper's measure and relative to the norm, before and after training."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, field, stage

if TYPE_CHECKING:
    import numpy

REPORTS = Path("reports/pictures/augmented_shortcuts")
DATASET = "digits"
WHEN = ("initial weights", "trained")
ROWS = {"r(Z) over r of the first tokens": 0, "r(Z) over the norm of Z": 1}  # places in diversity.MEASURES
FLOOR = 1e-3


@dataclass
class Config:
    """Settings of the stage."""

    scale: str = field(help="smoke, small, medium")
    seeds: list[int] = MISSING
    arms: list[str] = field(default_factory=list, help="arms in the order of their colours")
    arm_titles: dict[str, Any] = field(default_factory=dict, help="arms as a reader meets them")


def profiles(scale: str, seeds: list[int]) -> dict[str, "numpy.ndarray"]:
    """By arm: profiles [repetitions, before and after, measures, L + 1]."""
    import numpy

    from stages.lib import artifacts
    from stages.papers.augmented_shortcuts.train import NETS

    found: dict[str, list] = {}
    for seed in seeds:
        folder = NETS / scale / DATASET / str(seed)
        artifacts.verify_manifest(folder / "manifest.json")
        with numpy.load(folder / "profiles.npz", allow_pickle=False) as arrays:
            for name in sorted(arrays.files):
                found.setdefault(name.rpartition("_")[0], []).append(arrays[name])
    return {arm: numpy.stack(several) for arm, several in found.items()}


def curves(profiles: dict[str, "numpy.ndarray"], arms: list[str], titles: dict[str, str]):
    """A row a measure, a column before and after training; an arm's mean and the range of its repetitions.

    Arms that were not trained stand on the left only; r below `FLOOR` is off the picture.
    """
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    figure, axes = pyplot.subplots(2, 2, figsize=(11.2, 8.6), sharex=True, sharey="row", layout="constrained")
    looks = style.arm_style(arms)
    shown = [arm for arm in arms if arm in profiles]
    for row, (label, place) in enumerate(ROWS.items()):
        for column, when in enumerate(WHEN):
            axis = axes[row][column]
            for arm in shown:
                found = profiles[arm]
                if column and (found[:, 0] == found[:, 1]).all():
                    continue
                values = found[:, column, place]
                values = values / values[:, :1] if place == 0 else values
                colour, marker = looks[arm]
                again = arms.index(arm) >= len(style.COLOURS)  # colours come round
                axis.plot(values.mean(0), color=colour, marker=marker, linestyle="--" if again else "-", linewidth=1.4,
                          markersize=4.5, label=titles[arm])  # fmt: skip
                axis.fill_between(range(values.shape[1]), values.min(0), values.max(0), color=colour, alpha=0.12, linewidth=0)
            if place == 0:
                axis.set_yscale("log")
                axis.set_ylim(bottom=FLOOR)
            axis.set(title=when, xlabel="blocks passed" if row else "", ylabel="" if column else label)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


@stage(
    Config, files={"arms": "augmented_shortcuts/claim:arms", "arm_titles": "augmented_shortcuts/claim:arm_titles"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Write diversity-<scale> as .png and .svg to reports/pictures/augmented_shortcuts/."""
    from stages.report.figures import style

    style.save(curves(profiles(cfg.scale, cfg.seeds), cfg.arms, cfg.arm_titles), REPORTS / f"diversity-{cfg.scale}")


if __name__ == "__main__":
    main()
