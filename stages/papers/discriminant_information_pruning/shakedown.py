"""Stage: the paper-scale configuration run for a few steps on random images of the true shape."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.discriminant_information_pruning.prune import FinetuneParams, PruneParams
from stages.papers.discriminant_information_pruning.train import SLUG, Net, TrainParams

if TYPE_CHECKING:
    import torch


FACTS = Path(f"runs/shakedown/{SLUG}.json")
DATASETS = ("cifar10", "imagenet")
SCRATCH = Path(f"runs/.scratch/{SLUG}/shakedown")


@dataclass
class Setting:
    """A data set's section of the paper's params file."""

    train: TrainParams = field(default_factory=TrainParams)
    prune: PruneParams = field(default_factory=PruneParams)
    finetune: FinetuneParams = field(default_factory=FinetuneParams)


@dataclass
class Trial:
    """A net, and the data set whose settings it takes."""

    dataset: str = MISSING
    net: Net = field(default_factory=Net)


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    images: int = field(help="random images, half of them the hold-out")
    labels: int = field(help="classes among them, instead of all that the net tells apart")
    batch: int = field(help="images a step, and of each batch that DI is measured on")
    greedy_steps: int = field(help="greedy steps, with training between them as in the paper")
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


def reduced(setting: Setting, params: ShakedownParams) -> Setting:
    """The setting with one short epoch of each training and few greedy steps; everything else is the paper's."""
    half = params.images // 2
    interlude = dataclasses.replace(setting.prune.interlude, batch=params.batch, every=1)
    prune = dataclasses.replace(
        setting.prune, batch=params.batch, batches=half // params.batch, limit=half, holdout=half, interlude=interlude
    )
    train = dataclasses.replace(setting.train, epochs=1, batch=params.batch, limit=half, holdout=half)
    finetune = dataclasses.replace(setting.finetune, epochs=1, batch=params.batch, limit=half, holdout=half)
    return Setting(train, prune, finetune)


def shake(name: str, trial: Trial, setting: Setting, params: ShakedownParams, device: "torch.device") -> dict[str, Any]:
    """Facts about one net after training, greedy steps with training between, surgery and fine-tuning, a little of each."""
    import torch

    from stages.lib import data, macs, models, runtime, training
    from stages.papers.discriminant_information_pruning import measure, structure
    from stages.papers.discriminant_information_pruning.division import divided
    from stages.papers.discriminant_information_pruning.greedy import greedy
    from stages.papers.discriminant_information_pruning.recalibration import recalibrate

    runtime.seed_everything(0)
    net, small = models.construct(trial.net.name, **trial.net.options), reduced(setting, params)
    record = net.record()
    split = data.noise(record["input"], params.labels, params.images)
    split = dataclasses.replace(split, y=torch.arange(params.images) % params.labels)  # both halves hold all classes
    images, _ = divided(split, small.train.limit, small.train.holdout)
    training.train(
        net, images, epochs=1, lr=small.train.lr, batch=params.batch, weight_decay=small.train.weight_decay, seed=0,
        device=device, label=name,
    )  # fmt: skip
    # After few steps the statistics are still near their initial values, and features of a deep net would overflow.
    recalibrate(net, images.x.to(device), 1, params.batch)
    dense = macs.total(record)
    budget = structure.budget_of(record, 1 - params.greedy_steps * small.prune.delta)
    thin, told = greedy(net.eval(), split, budget, "di", small.prune, 0, device)
    state = SCRATCH / f"{name}.state"
    thin, after = measure.finetuned(thin, "di", small.finetune, told, net, images, images, 0, device, state)
    return {
        "image": record["input"], "classes": record["classes"], "steps": told["steps"],
        "parameters": [dense.params, after["parameters"]], "macs": [dense.macs, after["macs"]],
        "channels": [sum(x["channels"] for x in told["layers"]), sum(len(x["kept"]) for x in told["layers"])],
        "batch": params.batch, "batch_at_full_scale": setting.train.batch,
    }  # fmt: skip


@stage(Config, paper=SLUG, section="shakedown", files={name: f"{SLUG}/{{scale}}:{name}" for name in DATASETS})
def main(cfg: Config) -> None:
    """Run every step of the paper's own configuration briefly, on noise of the true image shape.

    Each net is built at full size, trained for a few steps, pruned by a few greedy steps with training between them,
    cut and fine-tuned for a few steps. Writes runs/shakedown/<paper>.json: shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    facts = {}
    for name, trial in cfg.params.trials.items():
        if trial.dataset not in DATASETS:
            raise StageError(f"shakedown.trials.{name}.dataset={trial.dataset}: expected cifar10 or imagenet")
        facts[name] = shake(name, trial, getattr(cfg, trial.dataset), cfg.params, device)
        print(f"{name}: {facts[name]['macs'][0]} -> {facts[name]['macs'][1]} MACs", flush=True)
    artifacts.write_json(FACTS, {"nets": facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
