"""Stage: the paper-scale configuration run for a few steps on noise of the true image shape."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, field, stage
from stages.papers.dependency_maximization_fsl.settings import Tasks, Training

if TYPE_CHECKING:
    import torch

FACTS = Path("runs/shakedown/dependency_maximization_fsl.json")
CLASSES, STORED = 64, 91  # base classes, and side of the stored images that crops are taken from


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    batch: int = field(help="images a step of the pre-training")
    steps: int = field(help="steps of the pre-training")
    images: int = field(help="images whose features are taken")
    tasks: int = field(help="tasks of every setting")
    fit_steps: int = field(help="steps of a fit")
    rounds: int = field(help="rounds of selection")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    training: Training = field(default_factory=Training)
    tasks: Tasks = field(default_factory=Tasks)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def shake_backbone(full: Training, params: ShakedownParams, device: "torch.device") -> dict[str, Any]:
    """Facts of the backbone: pre-trained for a few small batches, features of a few images."""
    from stages.lib import data, macs
    from stages.papers.dependency_maximization_fsl import augmentation, backbone, pretraining

    split = data.noise([3, STORED, STORED], CLASSES, params.batch * params.steps)
    split = dataclasses.replace(split, std=(1.0,) * 3)
    recipe = dataclasses.replace(full.recipe, epochs=1, batch=params.batch)
    net = pretraining.pretrain(dataclasses.replace(full, recipe=recipe), split, 0, device, None)
    found = backbone.extract(net, augmentation.centre(split.x[: params.images], full.net.side), device)
    return {"image": net.record()["input"], "parameters": macs.parameters(net), "features": found.shape[1],
            "batch": params.batch, "batch_at_full_scale": full.recipe.batch}  # fmt: skip


def shake_tasks(full: Tasks, params: ShakedownParams, width: int, device: "torch.device") -> dict[str, Any]:
    """For every setting at its full sizes: query images, unlabelled images and arms that went through."""
    import numpy
    import torch

    from stages.papers.dependency_maximization_fsl import experiment

    short = dataclasses.replace(
        full, tasks=params.tasks, at_once=params.tasks, fit=dataclasses.replace(full.fit, steps=params.fit_steps),
        rounds=dataclasses.replace(full.rounds, rounds=params.rounds),
    )  # fmt: skip
    labels = numpy.repeat(numpy.arange(full.ways), 100)
    features = torch.randn(len(labels), width, generator=torch.Generator().manual_seed(0)).abs() * 0.5
    facts = {}
    for name, setting in full.settings.items():
        drawn = experiment.draw(setting, short, labels, 0, name)
        scores = experiment.measure(features, drawn, setting, short, 0, device)
        facts[name] = {"query": drawn.query.shape[1], "pool": drawn.pool.shape[1], "arms": sorted(scores),
                       "rounds": max(len(one.pseudo) for one in scores.values())}  # fmt: skip
    return facts


@stage(
    Config, paper="dependency_maximization_fsl", section="shakedown",
    files={"training": "dependency_maximization_fsl/{scale}:mini_imagenet.training",
           "tasks": "dependency_maximization_fsl/{scale}:mini_imagenet.tasks"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Run the paper's own configuration briefly, on noise of the true image shape.

    The wide residual net is built at full size, stepped and used for features; every setting's tasks run at their full sizes.
    Writes runs/shakedown/dependency_maximization_fsl.json: shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    net = shake_backbone(cfg.training, cfg.params, device)
    print(f"backbone: {net['parameters']} parameters, {net['features']} features", flush=True)
    settings = shake_tasks(cfg.tasks, cfg.params, net["features"], device)
    for name, facts in settings.items():
        print(f"{name}: {facts['query']} query and {facts['pool']} pool images, {len(facts['arms'])} arms", flush=True)
    artifacts.write_json(FACTS, {"backbone": net, "settings": settings, "scale": cfg.scale})


if __name__ == "__main__":
    main()
