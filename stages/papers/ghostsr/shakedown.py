"""Stage: the paper-scale nets converted, stepped and exported, on noise of the true patch shape."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.ghostsr.audit import AuditParams
from stages.papers.ghostsr.settings import Backbone, Ghost, Recipe

if TYPE_CHECKING:
    import torch

    from stages.lib.restoration.sets import Pair

FACTS = Path("runs/shakedown/ghostsr.json")
CHECKED = 24  # side of the image on which the exported net is compared


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    batch: int = field(help="patches a step")
    steps: int = field(help="steps of fine-tuning")
    nets: list[str] = field(default_factory=list, help="names of audit.nets to shake down")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    ghost: Ghost = field(default_factory=Ghost)
    finetune: Recipe = field(default_factory=Recipe)
    audit: AuditParams = field(default_factory=AuditParams)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def noise(patch: int, factor: int) -> "Pair":
    """One pair of noise, a little larger than a patch, so that patches are drawn at random."""
    import numpy

    from stages.lib.restoration.sets import Photograph, scaled_pair

    side = (patch + 2) * factor
    pixels = numpy.random.RandomState(0).randint(0, 256, (side, side, 3)).astype(numpy.uint8)
    return scaled_pair(Photograph("noise", pixels), factor)


def shake(name: str, cfg: Config, device: "torch.device") -> dict[str, Any]:
    """Facts about one net: clustered and converted at full size, stepped with learning offsets, exported and compared."""
    from stages.lib import files, macs
    from stages.lib.restoration import sets
    from stages.papers.ghostsr import conversion, experiment, training
    from stages.papers.ghostsr.arms import TRAINED

    if name not in cfg.audit.nets:
        raise StageError(f"params.nets: {name} is none of {', '.join(cfg.audit.nets)}")
    shape: Backbone = cfg.audit.nets[name].net
    recipe = dataclasses.replace(cfg.finetune, steps=cfg.params.steps, epoch=cfg.params.steps, batch=cfg.params.batch)
    form = experiment.form_of(TRAINED["ghost"], shape, cfg.ghost)
    net = experiment.start(TRAINED["ghost"], form, experiment.fresh(shape, 0, device), 0).to(device)
    pair = noise(recipe.patch, shape.factor)
    state = files.SCRATCH / "shakedown" / f"ghostsr-{shape.name}.state"
    training.fit(net, training.Data([pair], ""), recipe, cfg.ghost, 0, "finetune", device, state, name)
    low = sets.tensor(pair.corrupted)[:, :CHECKED, :CHECKED]
    sliced = experiment.checked_export(net.cpu(), low)
    found = experiment.costs(form, *low.shape[1:])
    if (found.parameters, found.macs) != (macs.parameters(sliced), macs.count(sliced, low.unsqueeze(0))):
        raise StageError(f"{name}: the exported net has other sizes than the closed form; report this as a bug")
    layers = conversion.sliced_layers(sliced)
    return {
        "patch": [3, recipe.patch, recipe.patch], "batch": recipe.batch, "batch_at_full_scale": cfg.finetune.batch,
        "converted_layers": len(layers), "parameters": found.parameters, "macs": found.macs,
        "off_centre": sum(pair != (0, 0) for module in layers.values() for pair in module.offsets),
    }  # fmt: skip


@stage(
    Config, paper="ghostsr", section="shakedown",
    files={"ghost": "ghostsr/{scale}:ghost", "finetune": "ghostsr/{scale}:finetune", "audit": "ghostsr/{scale}:audit"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Run the paper's own configurations briefly, on noise of the true patch shape.

    Each net is built at full size, its filters are clustered, it is stepped with learning offsets and exported. Writes
    runs/shakedown/ghostsr.json: shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    facts = {}
    for name in cfg.params.nets:
        facts[name] = shake(name, cfg, device)
        print(f"{name}: {facts[name]['converted_layers']} layers converted, {facts[name]['parameters']} parameters", flush=True)
    artifacts.write_json(FACTS, {"nets": facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
