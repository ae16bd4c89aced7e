"""Stage: the paper-scale configuration run for a few steps on noise."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.covsegnet.settings import Settings

if TYPE_CHECKING:
    import torch

FACTS = Path("runs/shakedown/covsegnet.json")


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    steps: int = field(help="updates of each net")
    size: list[int] = field(help="slices, rows and columns of a scan of noise, instead of some 50 x 512 x 512")
    patch: list[int] = field(help="a sub-volume, instead of 16 x 128 x 128")
    batch: int = field(help="slices a step")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    settings: Settings = field(default_factory=Settings)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def noise(size: list[int], count: int) -> list[Any]:
    """Scans of noise with a box for a lesion, each of a patient of its own."""
    import torch

    from stages.papers.covsegnet.scans import Scan

    generator, found = torch.Generator().manual_seed(0), []
    for i in range(count):
        box = torch.zeros(size, dtype=torch.uint8)
        box[: size[0] // 2, : size[1] // 4, : size[2] // 4] = 1
        image = torch.rand(size, generator=generator)
        found.append(Scan(i, i, str(i), str(i), 0, 0, image, box, torch.ones_like(box), torch.zeros_like(box), (1.0, 1.0, 1.0)))
    return found


def shake(cfg: Config, device: "torch.device") -> dict[str, Any]:
    """Facts about the full-size nets after both phases."""
    from stages.papers.covsegnet import experiment, phases, train
    from stages.papers.covsegnet.nets import parameters

    little, full = cfg.params, cfg.settings
    slices, volumes = full.slices, full.volumes
    short = dataclasses.replace(slices.fit, steps=little.steps, lesion=(little.batch + 1) // 2, other=little.batch // 2)
    settings = dataclasses.replace(
        full,
        arms=["two_phase", "phase1"],
        slices=dataclasses.replace(slices, fit=short, folds=2),
        volumes=dataclasses.replace(volumes, fit=dataclasses.replace(volumes.fit, steps=little.steps, lesion=1, other=1),
                                    patch=list(little.patch), window=list(little.patch)),
    )  # fmt: skip
    scans = noise(little.size, 2)
    nets, about = train.trained(phases.Job(settings, scans, 0, device, None))
    found = experiment.table(experiment.Bench(settings, nets, device), scans[:1])
    if not all(0.0 <= values["dice"] <= 1.0 for values in found.values()):
        raise StageError("a Dice is out of range; report this as a bug")
    return {
        "parameters": {name: parameters(net) for name, net in nets.items()}, "folds": about["folds"],
        "measures": sorted(found["two_phase"]), "batch": little.batch,
        "batch_at_full_scale": slices.fit.lesion + slices.fit.other,
    }  # fmt: skip


@stage(Config, paper="covsegnet", section="shakedown", files={"settings": "covsegnet/{scale}:ct_lesion"})
def main(cfg: Config) -> None:
    """Run the paper's own configuration briefly, on noise.

    Both phases with nets of full size, out-of-fold probabilities and sliding window included. Writes
    runs/shakedown/covsegnet.json: sizes and names, no measurement.
    """
    from stages.lib import artifacts, runtime

    facts = shake(cfg, runtime.prepare(cfg.threads, cfg.device, 0))
    print(f"parameters: {facts['parameters']}", flush=True)
    artifacts.write_json(FACTS, {**facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
