"""Stage: learning curves, what the initialisation does, and the function with its derivatives."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage

if TYPE_CHECKING:
    import numpy

REPORTS = Path("reports/pictures/srs")
DATASET = "digits"
SHOWN = ("relu", "elu", "swish", "tanh", "srs")  # of the curves; the others lie between
MODES = {"": "with BN", "plain_": "without BN"}


@dataclass
class Config:
    """Settings of the stage."""

    scales: list[str] = MISSING
    seeds: list[int] = MISSING
    arm_titles: dict[str, Any] = field(default_factory=dict, help="arms as a reader meets them")


def curves(scale: str, seeds: list[int]) -> tuple[dict[str, "numpy.ndarray"], list[str], list[float]]:
    """(arrays [epochs, arms, repetitions, initialisations] by name, arms, numeric initialisations) of all seeds of a scale.

    StageError where a folder is damaged or its seeds were run with other settings.
    """
    import numpy

    from stages.lib import artifacts, files

    found: dict[str, list[numpy.ndarray]] = {}
    settings = None
    for seed in seeds:
        folder = files.RUNS / "srs" / "classify" / scale / DATASET / str(seed)
        made = artifacts.verify_manifest(folder / "manifest.json")
        if settings not in (None, made["config"]["params"]):
            raise StageError(f"{folder}: other settings than those of seed {seeds[0]}; run the stage again")
        settings = made["config"]["params"]
        for mode in MODES:
            for name in ("accuracy", "loss"):
                found.setdefault(mode + name, []).append(artifacts.read_npz(folder / "curves.npz", mode + name)[0])
    return {name: numpy.concatenate(parts, 2) for name, parts in found.items()}, settings["arms"], settings["scales"]


def learning(panels: dict[str, tuple], titles: dict[str, str]):
    """Training loss by epoch at He's initialisation (the numeric one nearest to it), one row a scale, one column a mode."""
    from matplotlib import pyplot
    from matplotlib.ticker import FormatStrFormatter, MaxNLocator

    from stages.report.figures import style

    style.apply()
    figure, axes = pyplot.subplots(len(panels), 2, figsize=(10, 3.9 * len(panels)), squeeze=False, layout="constrained")
    for row, (scale, (arrays, arms, inits)) in zip(axes, panels.items(), strict=True):
        place = min(range(len(inits)), key=lambda i: abs(inits[i] - 2**0.5))
        for axis, (mode, told) in zip(row, MODES.items(), strict=True):
            for arm, (colour, marker) in style.arm_style(list(SHOWN)).items():
                if arm in arms:
                    own = arrays[f"{mode}loss"][:, arms.index(arm), :, place]
                    epochs = range(1, len(own) + 1)
                    axis.plot(epochs, own.mean(1), color=colour, marker=marker, markersize=4, linewidth=1.4, label=titles[arm])
                    axis.fill_between(epochs, own.min(1), own.max(1), color=colour, alpha=0.12, linewidth=0)
            axis.set(title=f"Digits, {scale}, {told}, s = {inits[place]:g}, n = {own.shape[1]}", xlabel="epoch")
            axis.set(ylabel="training loss", yscale="log")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            for ticks in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
                ticks(FormatStrFormatter("%.1f"))
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def initialisation(panels: dict[str, tuple], titles: dict[str, str]):
    """Final accuracy against the scale of the initial weights, one row a scale, one column a mode."""
    from matplotlib import pyplot

    from stages.report.figures import style

    style.apply()
    figure, axes = pyplot.subplots(
        len(panels), 2, figsize=(10, 3.9 * len(panels)), squeeze=False, sharey="row", layout="constrained"
    )
    for row, (scale, (arrays, arms, inits)) in zip(axes, panels.items(), strict=True):
        for axis, (mode, told) in zip(row, MODES.items(), strict=True):
            for arm, (colour, marker) in style.arm_style(list(SHOWN)).items():
                if arm in arms:
                    own = arrays[f"{mode}accuracy"][-1, arms.index(arm), :, : len(inits)]
                    axis.plot(inits, own.mean(0), color=colour, marker=marker, markersize=5, linewidth=1.4, label=titles[arm])
                    axis.fill_between(inits, own.min(0), own.max(0), color=colour, alpha=0.12, linewidth=0)
            axis.set(title=f"Digits, {scale}, {told}, n = {own.shape[0]}", xlabel="s, initial weights N(0, s² / fan-in)")
            axis.set(ylabel="accuracy", xscale="log", xticks=inits, xticklabels=[f"{one:.3g}" for one in inits])
            axis.minorticks_off()
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def function():
    """SRS at the three presets beside ReLU and swish, and the slopes."""
    import torch
    from matplotlib import pyplot

    from stages.papers.srs.activation import srs
    from stages.papers.srs.feasible import PRESETS
    from stages.report.figures import style

    style.apply()
    pairs = {f"SRS({a:g}, {b:g})": torch.tensor([a, b], dtype=torch.float64) for a, b in PRESETS.values()}
    shown = {"ReLU": torch.relu, "Swish": torch.nn.functional.silu}
    shown |= {name: lambda z, pair=pair: srs(z, *pair) for name, pair in pairs.items()}
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.9), layout="constrained")
    for (name, of), colour, dash in zip(shown.items(), style.COLOURS, ("-", "--", "-", "-.", ":"), strict=False):
        x = torch.linspace(-10, 10, 801, dtype=torch.float64).requires_grad_()
        value = of(x)
        (steep,) = torch.autograd.grad(value.sum(), x)
        for axis, y in zip(axes, (value, steep), strict=True):
            axis.plot(x.detach().numpy(), y.detach().numpy(), color=colour, linestyle=dash, linewidth=1.6, label=name)
    axes[0].set(title="Value", xlabel="x", ylim=(-3, 6))
    axes[1].set(title="Slope", xlabel="x")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


@stage(Config, files={"arm_titles": "srs/claim:arm_titles"})
def main(cfg: Config) -> None:
    """Write curves, initialisation and function as .png and .svg to reports/pictures/srs/."""
    from stages.report.figures import style

    scales = [scale for scale in cfg.scales if Path(f"params/srs/{scale}.yaml").is_file() and scale != "paper"]
    panels = {scale: curves(scale, cfg.seeds) for scale in scales}
    style.save(learning(panels, cfg.arm_titles), REPORTS / "curves")
    style.save(initialisation(panels, cfg.arm_titles), REPORTS / "initialisation")
    style.save(function(), REPORTS / "function")


if __name__ == "__main__":
    main()
