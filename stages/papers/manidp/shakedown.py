"""Stage: the paper-scale configuration run for a few steps on random images of the true shape."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.manidp.gate import GateParams
from stages.papers.manidp.train import DataParams, Net, TrainParams

if TYPE_CHECKING:
    import torch


FACTS = Path("runs/shakedown/manidp.json")
SCRATCH = Path("runs/.scratch/manidp/shakedown")


@dataclass
class Setting:
    """A data set's section of the paper's params file."""

    data: DataParams = field(default_factory=DataParams)
    train: TrainParams = field(default_factory=TrainParams)
    gate: GateParams = field(default_factory=GateParams)


@dataclass
class Trial:
    """A net and the data set whose settings it takes."""

    dataset: str = MISSING
    net: Net = field(default_factory=Net)


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    optimisation_steps: int = field(help="steps a pass")
    batch: int = field(help="images a step")
    epochs: int = field(help="gated passes: enough that thresholds are set")
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
    """The setting with short passes; everything else is the paper's."""
    train = dataclasses.replace(setting.train, net=trial.net, epochs=1, batch=params.batch)
    gate = dataclasses.replace(setting.gate, epochs=params.epochs, batch=params.batch)
    return Setting(setting.data, train, gate)


def shake(name: str, trial: Trial, setting: Setting, params: ShakedownParams, device: "torch.device") -> dict[str, Any]:
    """Facts about one net after dense training, gating, training and measurement, a few steps each."""
    from stages.lib import data
    from stages.papers.manidp import dense, experiment
    from stages.papers.manidp.cost import cost_model
    from stages.papers.manidp.nets import construct

    record = construct(trial.net.name, **trial.net.options).record()
    split = data.noise(record["input"], record["classes"], params.batch * params.optimisation_steps)
    small = reduced(setting, trial, params)
    net = dense.dense_net(small.train, split, 0, device, SCRATCH / f"{name}-dense")
    gated, facts = experiment.gate_and_train(net, split, small.gate, 0, device, "manidp", SCRATCH / f"{name}-gate")
    values = experiment.measure(gated, split, device)
    cost = cost_model(gated)
    return {
        "image": record["input"], "classes": record["classes"], "gates": len(facts["thresholds"]),
        "thresholds_set": sum(value > 0 for value in facts["thresholds"]), "macs_dense": cost.dense, "macs_gates": cost.gates,
        "fewer_macs": values["macs"] < cost.dense, "batch": params.batch, "batch_at_full_scale": setting.gate.batch,
    }  # fmt: skip


@stage(
    Config, paper="manidp", section="shakedown",
    files={"cifar10": "manidp/{scale}:cifar10", "imagenet": "manidp/{scale}:imagenet"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Run every step of the paper's own configuration briefly, on noise of the true image shape.

    Each net is built at full size, trained densely for a few steps, gated, trained with thresholds and measured. Only the
    batch and the number of steps and passes are smaller. Writes runs/shakedown/manidp.json: shapes and sizes, no
    measurement.
    """
    from stages.lib import artifacts, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    facts = {}
    for name, trial in cfg.params.trials.items():
        if trial.dataset not in ("cifar10", "imagenet"):
            raise StageError(f"shakedown.trials.{name}.dataset={trial.dataset}: expected cifar10 or imagenet")
        facts[name] = shake(name, trial, getattr(cfg, trial.dataset), cfg.params, device)
        print(f"{name}: {facts[name]['gates']} gates", flush=True)
    artifacts.write_json(FACTS, {"nets": facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
