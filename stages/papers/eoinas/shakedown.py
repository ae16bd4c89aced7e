"""Stage: the paper-scale configurations run for a few steps on noise of the true image shape."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, field, stage
from stages.papers.eoinas.settings import NetParams, SearchParams, SpaceParams, TrainParams

if TYPE_CHECKING:
    import torch

    from stages.lib.darts import Genotype

FACTS = Path("runs/shakedown/eoinas.json")


@dataclass
class Trial:
    """A search on pictures of a shape."""

    space: SpaceParams = field(default_factory=SpaceParams)
    search: SearchParams = field(default_factory=SearchParams)


@dataclass
class Training:
    """A net and its training."""

    net: NetParams = field(default_factory=NetParams)
    train: TrainParams = field(default_factory=TrainParams)


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    batch: int = field(help="pictures a step")
    steps: int = field(help="optimisation steps")
    shapes: dict[str, list[int]] = field(default_factory=dict, help="channels, height, width by data set")
    classes: dict[str, int] = field(default_factory=dict, help="classes by data set")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    cifar_space: SpaceParams = field(default_factory=SpaceParams)
    cifar_search: SearchParams = field(default_factory=SearchParams)
    cifar_net: NetParams = field(default_factory=NetParams)
    cifar_train: TrainParams = field(default_factory=TrainParams)
    imagenet: Training = field(default_factory=Training)
    cityscapes: Trial = field(default_factory=Trial)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def shake_search(
    trial: Trial, params: ShakedownParams, name: str, device: "torch.device", dense: bool
) -> tuple[dict[str, Any], "Genotype"]:
    """(facts, genotype) of a search with one epoch of a few steps before the first drop and none before the others."""
    from stages.lib import data, macs
    from stages.papers.eoinas.arms import searcher
    from stages.papers.eoinas.searching import Search, space_of

    count = params.batch * params.steps
    split = data.noise(params.shapes[name], params.classes[name], count)
    if dense:
        split = dataclasses.replace(split, y=split.y.view(-1, 1, 1).expand(-1, *params.shapes[name][1:]).contiguous())
    trial.search.check()
    trial.search.fits(trial.space)
    few = dataclasses.replace(trial.search, warmup=0, batch=params.batch)
    search = Search(space_of(split, trial.space, dense), few, searcher("eoinas"), 0, device)
    sizes = [(search.net.macs(), macs.parameters(search.net))]
    search.run_epoch(split, split)
    for _ in trial.search.prune:
        search.prune()
        sizes.append((search.net.macs(), macs.parameters(search.net)))
    genotype = search.genotype()
    facts = {
        "image": params.shapes[name], "batch": params.batch, "batch_at_full_scale": trial.search.batch,
        "edges": search.net.space.edges, "macs": [size[0] for size in sizes], "parameters": [size[1] for size in sizes],
        "genotype": genotype.record(),
    }  # fmt: skip
    return facts, genotype


def shake_training(
    genotype: "Genotype", net: NetParams, train: TrainParams, params: ShakedownParams, name: str, device: "torch.device"
) -> dict[str, Any]:
    """Facts about a found genotype's net at full size after a few steps with all of its regularisation."""
    from stages.lib import data, macs
    from stages.papers.eoinas import descent, nets

    split = data.noise(params.shapes[name], params.classes[name], params.batch * params.steps)
    few = dataclasses.replace(train, epochs=1, batch=params.batch)
    model = nets.fresh(genotype, net, split, 0, 0, train.auxiliary > 0)
    descent.fit(model, split, few, 0, device, None, name)
    cost = macs.total(model.record())
    return {
        "image": params.shapes[name], "batch": params.batch, "batch_at_full_scale": train.batch,
        "macs": cost.macs, "parameters": cost.params, "parameters_with_auxiliary": macs.parameters(model),
    }  # fmt: skip


@stage(
    Config, paper="eoinas", section="shakedown",
    files={
        "imagenet": "eoinas/{scale}:imagenet", "cityscapes": "eoinas/{scale}:cityscapes",
        **{f"cifar_{key}": f"eoinas/{{scale}}:cifar10.{key}" for key in ("space", "search", "net", "train")},
    },
)  # fmt: skip
def main(cfg: Config) -> None:
    """Run the paper's own configurations briefly, on noise of the true image shape.

    The CIFAR and Cityscapes supernets are stepped, pruned to one operation an edge and derived; the genotype found is
    trained for a few steps as CIFAR and ImageNet net. Batches and numbers of steps alone are smaller. Writes
    runs/shakedown/eoinas.json: shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    facts = {}
    trial = Trial(cfg.cifar_space, cfg.cifar_search)
    facts["cifar10 search"], genotype = shake_search(trial, cfg.params, "cifar10", device, dense=False)
    print(f"cifar10: supernet of {facts['cifar10 search']['macs'][0]} MACs, searched", flush=True)
    facts["cityscapes search"], _ = shake_search(cfg.cityscapes, cfg.params, "cityscapes", device, dense=True)
    print(f"cityscapes: supernet of {facts['cityscapes search']['macs'][0]} MACs, searched", flush=True)
    for name, net, train in (
        ("cifar10", cfg.cifar_net, cfg.cifar_train), ("imagenet", cfg.imagenet.net, cfg.imagenet.train)
    ):  # fmt: skip
        facts[f"{name} net"] = shake_training(genotype, net, train, cfg.params, name, device)
        print(f"{name}: net of {facts[f'{name} net']['macs']} MACs, stepped", flush=True)
    artifacts.write_json(FACTS, {"runs": facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
