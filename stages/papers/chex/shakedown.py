"""Stage: the paper-scale configurations run for a few steps on noise of the true image shape."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, field, stage
from stages.papers.chex.settings import Exploration, Net, Params, Sgd

if TYPE_CHECKING:
    import torch


FACTS = Path("runs/shakedown/chex.json")


@dataclass
class Detection:
    """A detector with its training and exploration."""

    detector: str = MISSING
    classes: int = MISSING
    image: int = MISSING
    gamma: float = MISSING
    sgd: Sgd = field(default_factory=Sgd)
    exploration: Exploration = field(default_factory=Exploration)


@dataclass
class Trial:
    """A classifier and what its exploration has of its own."""

    net: Net = field(default_factory=Net)
    sparsity: float = MISSING
    prune_downsample: bool = False


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    passes: int = field(help="passes over the few images; an exploration step follows each but the last")
    batch: int = field(help="images a step")
    images: int = field(help="images in all, for classifiers")
    sides: dict[str, int] = field(default_factory=dict, help="image sides of detectors, where smaller than at full scale")
    trials: dict[str, Trial] = field(help="classifiers to shake down")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    imagenet: Params = field(default_factory=Params)
    coco_ssd: Detection = field(default_factory=Detection)
    coco_mask: Detection = field(default_factory=Detection)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def shortened(sgd: Sgd, exploration: Exploration, params: ShakedownParams) -> tuple[Sgd, Exploration]:
    """The same settings with few small passes and an exploration step after each of them but the last."""
    few = dataclasses.replace(sgd, epochs=params.passes, warmup=0.0, batch=params.batch)
    return few, dataclasses.replace(exploration, ticks=1, interval=1, last=params.passes - 1)


def shake_classifier(trial: Trial, setting: Params, params: ShakedownParams, device: "torch.device") -> dict[str, Any]:
    """Facts about one classifier after training with exploration and surgery."""
    from stages.lib import data, models
    from stages.papers.chex import runs

    record = models.construct(trial.net.name, **trial.net.options).record()
    split = data.noise(record["input"], record["classes"], params.images)
    own = dataclasses.replace(setting.exploration, sparsity=trial.sparsity, prune_downsample=trial.prune_downsample)
    sgd, exploration = shortened(setting.sgd, own, params)
    net = runs.fresh(trial.net, split, 0)
    some = dataclasses.replace(setting, sgd=sgd, exploration=exploration)
    _, found = runs.explore(net, split, some, 0, device)
    return {
        "image": record["input"], "sparsity": own.sparsity, "prunable_layers": len(found["layers"]),
        "channels": [sum(layer["channels"] for layer in found["layers"]), sum(len(layer["kept"]) for layer in found["layers"])],
        "ever": sum(layer["ever"] for layer in found["layers"]), "macs": [found["dense_macs"], found["macs"]],
        "batch": params.batch, "batch_at_full_scale": setting.sgd.batch,
    }  # fmt: skip


def shake_detector(setting: Detection, params: ShakedownParams, device: "torch.device") -> dict[str, Any]:
    """Facts about one detector after a few steps with CHEX's masks, and after their removal from its backbone."""
    import torch

    from stages.lib import macs
    from stages.lib.runtime import derive_seed, seed_everything
    from stages.papers.chex import detectors, runs, shrink
    from stages.papers.chex.arms import find
    from stages.papers.chex.exploration import Explorer

    image = params.sides.get(setting.detector, setting.image)
    seed_everything(derive_seed(0, "init"))
    net = runs.scaled(detectors.detector(setting.detector, setting.classes, image), setting.gamma).to(device)
    sgd, exploration = shortened(setting.sgd, setting.exploration, params)
    explorer = Explorer(net, sgd, exploration, find("chex"), 1, 0, None)
    generator, losses = torch.Generator().manual_seed(0), {}
    for _ in range(params.passes):
        images, targets = zip(*(detectors.scene(setting.classes, image, generator) for _ in range(params.batch)))
        seen = [{name: value.to(device) for name, value in target.items()} for target in targets]
        losses = explorer(([picture.to(device) for picture in images]), seen)
        sum(losses.values()).backward()
        explorer.after_step()
    thin, probe = shrink.shrunk(net, explorer.layers, explorer.masks), torch.rand(1, 3, image, image, device=device)
    runs.surgery_gap(_first(net.backbone), _first(thin.backbone), probe)
    return {
        "image": [3, image, image], "image_at_full_scale": setting.image, "sparsity": exploration.sparsity,
        "prunable_layers": len(explorer.layers), "losses": sorted(losses),
        "channels": [sum(map(len, explorer.masks)), sum(int(mask.sum()) for mask in explorer.masks)],
        "ever": sum(int(mask.sum()) for mask in explorer.seen),
        "backbone_macs": [macs.count(found.backbone, probe) for found in (net, thin)],
        "batch": params.batch, "batch_at_full_scale": setting.sgd.batch,
    }  # fmt: skip


def _first(backbone: "torch.nn.Module") -> "torch.nn.Module":
    """The backbone as a module that answers with its first feature map."""
    import torch

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return next(iter(self.backbone(x).values()))

    return First()


@stage(
    Config, paper="chex", section="shakedown",
    files={name: f"chex/{{scale}}:{name}" for name in ("imagenet", "coco_ssd", "coco_mask")},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Run the paper's own configurations briefly, on noise of the true image shape.

    Each ImageNet ResNet and both detectors are built at full size, stepped with an exploration step after nearly
    every step, and cut. Only batches, numbers of steps and images, and the side of Mask R-CNN's images are smaller.
    Writes runs/shakedown/chex.json: shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    facts = {}
    for name, trial in cfg.params.trials.items():
        facts[name] = shake_classifier(trial, cfg.imagenet, cfg.params, device)
        print(f"{name}: {facts[name]['macs'][0]} -> {facts[name]['macs'][1]} MACs", flush=True)
    for setting in (cfg.coco_ssd, cfg.coco_mask):
        facts[setting.detector] = shake_detector(setting, cfg.params, device)
        before, after = facts[setting.detector]["backbone_macs"]
        print(f"{setting.detector}: backbone {before} -> {after} MACs", flush=True)
    artifacts.write_json(FACTS, {"nets": facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
