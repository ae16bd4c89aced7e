"""Stage: the paper-scale configuration run for a few steps on random images of the true shape."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.dcp.finetune import FinetuneParams
from stages.papers.dcp.prune import PruneParams
from stages.papers.dcp.train import Net, TrainParams

if TYPE_CHECKING:
    import torch


FACTS = Path("runs/shakedown/dcp.json")
SCRATCH = Path("runs/.scratch/dcp/shakedown")


@dataclass
class Setting:
    """A data set's section of the paper's params file."""

    train: TrainParams = field(default_factory=TrainParams)
    prune: PruneParams = field(default_factory=PruneParams)
    finetune: FinetuneParams = field(default_factory=FinetuneParams)


@dataclass
class Trial:
    """A net, the data set whose settings it takes, its number of auxiliary losses P and the paper's eta for it."""

    dataset: str = MISSING
    net: Net = field(default_factory=Net)
    losses: int = MISSING
    ratio: float = MISSING


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    optimisation_steps: int = field(help="steps of the dense, the auxiliary and the final training")
    batch: int = field(help="images a step")
    images: int = field(help="selection images")
    greedy_steps: int = field(help="greedy steps a layer")
    trials: dict[str, Trial] = field(help="nets to shake down")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    cifar10: Setting = field(default_factory=Setting)
    imagenet: Setting = field(default_factory=Setting)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def reduced(setting: Setting, trial: Trial, params: ShakedownParams) -> Setting:
    """The setting with one short epoch of each training and few greedy steps; everything else is the paper's."""
    aux = dataclasses.replace(setting.train.aux, losses=trial.losses, epochs=1)
    train = dataclasses.replace(setting.train, net=trial.net, aux=aux, epochs=1, batch=params.batch)
    prune = dataclasses.replace(
        setting.prune, ratio=trial.ratio, ratios={}, steps=params.greedy_steps, batch=params.batch, schedule="joint"
    )
    return Setting(train, prune, dataclasses.replace(setting.finetune, epochs=1, batch=params.batch))


def settle(model: "torch.nn.Module", x: "torch.Tensor") -> None:
    """Set every BN's running statistics to those of the batch `x`.

    After two steps they are still near their initial values, and in eval mode the features of a deep net would grow
    from block to block until they overflow: a trained net has no such trouble, so it is not what is to be tested.
    """
    import torch

    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def shake(name: str, trial: Trial, setting: Setting, params: ShakedownParams, device: "torch.device") -> dict[str, Any]:
    """Facts about one net after training, auxiliary training, selection, surgery and fine-tuning, a few steps each."""
    from stages.lib import data, dense, models
    from stages.papers.dcp import auxiliary, measure, thinning

    record = models.construct(trial.net.name, **trial.net.options).record()
    split = data.noise(record["input"], record["classes"], params.batch * params.optimisation_steps)
    small = reduced(setting, trial, params)
    net = dense.dense(small.train, split, 0, device, SCRATCH / f"{name}-dense")
    aux = auxiliary.auxiliary(net, small.train, split, 0, device, SCRATCH / f"{name}-aux")
    chosen = split.take(slice(0, params.images)).to(device)
    settle(aux, split.x.to(device))
    thin, selection = thinning.pruned_net("dcp", small.prune, aux, net, split, chosen, 0)
    after = measure.finetuned(thin, "dcp", small.finetune, split, split, 0, device, SCRATCH / f"{name}-finetune")
    before, layers = measure.sizes(net), selection["layers"]
    return {
        "image": record["input"], "classes": record["classes"], "pivots": aux.ends, "blocks": len(net.blocks),
        "eta": small.prune.ratio, "pruned_layers": len(layers),
        "channels": [sum(layer["channels"] for layer in layers), sum(len(layer["kept"]) for layer in layers)],
        "parameters": [before["parameters"], after["parameters"]], "macs": [before["macs"], after["macs"]],
        "batch": params.batch, "batch_at_full_scale": setting.train.batch,
    }  # fmt: skip


@stage(
    Config, paper="dcp", section="shakedown",
    files={"cifar10": "dcp/{scale}:cifar10", "imagenet": "dcp/{scale}:imagenet"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Run every step of the paper's own configuration briefly, on noise of the true image shape.

    Each of the paper's nets is built at full size, trained for two steps without and two with the auxiliary losses,
    pruned in all layers with few greedy steps, cut and fine-tuned for two steps. Only the batch, the number of
    selection images and of steps are smaller. Writes runs/shakedown/dcp.json: shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    facts = {}
    for name, trial in cfg.params.trials.items():
        if trial.dataset not in ("cifar10", "imagenet"):
            raise StageError(f"shakedown.trials.{name}.dataset={trial.dataset}: expected cifar10 or imagenet")
        facts[name] = shake(name, trial, getattr(cfg, trial.dataset), cfg.params, device)
        print(f"{name}: {facts[name]['macs'][0]} -> {facts[name]['macs'][1]} MACs", flush=True)
    artifacts.write_json(FACTS, {"nets": facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
