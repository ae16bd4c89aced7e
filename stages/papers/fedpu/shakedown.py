"""Stage: the paper-scale federations run for two rounds of a few clients on noise of the true image shape."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.fedpu.settings import Federation, Scene

if TYPE_CHECKING:
    import torch

FACTS = Path("runs/shakedown/fedpu.json")


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    clients: int = field(help="clients")
    images: int = field(help="images of all clients together")
    rounds: int = field(help="rounds; each client takes a step in each")
    shapes: dict[str, list[int]] = field(default_factory=dict, help="channels, height, width by data set")
    arms: dict[str, list[str]] = field(default_factory=dict, help="arms that are run, by data set")


@dataclass
class Config:
    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    params: ShakedownParams = field(default_factory=ShakedownParams)
    mnist: Federation = field(default_factory=Federation)
    cifar10: Federation = field(default_factory=Federation)


def shortened(full: Federation, params: ShakedownParams) -> Federation:
    """The same nets, objectives and rates with a few clients and one step a round."""
    scene = Scene(classes_per_client=10, positives=[5, 5], label_rate=0.5, least=1, arms=[])
    few = {"clients": params.clients, "rounds": params.rounds, "early": 1, "epochs": 1, "images": None, "pool": None}
    return dataclasses.replace(full, **few, participation=1.0, scenes={"noise": scene},
                               prox=dataclasses.replace(full.prox, partial=0.0, mu=0.01))  # fmt: skip


def shake(name: str, full: Federation, params: ShakedownParams, device: "torch.device") -> dict[str, Any]:
    """Facts about one data set's federation: its arms go through, bytes are those of the state."""
    from stages.lib import data, macs
    from stages.lib.training import evaluate
    from stages.papers.fedpu import experiment, nets, rounds

    for what in ("shapes", "arms"):
        if not getattr(params, what).get(name):
            raise StageError(f"params.{what}: has none for {name}")
    split = data.noise(list(params.shapes[name]), 10, params.images)
    little, facts, lost = shortened(full, params), {}, {}
    for arm in params.arms[name]:
        job = experiment.make_job(split, little, "noise", arm, 0, device)
        net, progress = rounds.run(job, lambda own: evaluate(own, split, device))
        lost[arm] = len(progress.accuracies)
        facts = {"parameters": macs.parameters(net), "state_bytes": nets.state_bytes(net), "exchanged": sum(progress.exchanged)}
    if facts["exchanged"] != 2 * params.clients * params.rounds * facts["state_bytes"]:
        raise StageError(
            f"{name}: {facts['exchanged']} bytes were counted for {facts['state_bytes']} a state; report this as a bug"
        )
    return {**facts, "rounds": lost, "clients": params.clients, "clients_at_full_scale": full.clients,
            "rounds_at_full_scale": full.rounds, "gigabytes_at_full_scale":
            2 * max(int(full.participation * full.clients + 1e-9), 1) * full.rounds * facts["state_bytes"] / 1e9}  # fmt: skip


@stage(Config, paper="fedpu", section="shakedown", files={"mnist": "fedpu/{scale}:mnist", "cifar10": "fedpu/{scale}:cifar10"})
def main(cfg: Config) -> None:
    """Run the paper's own federations briefly, on noise: real nets, every objective, averages with batch normalisation.

    Writes runs/shakedown/fedpu.json: sizes, no measurement.
    """
    from stages.lib import artifacts, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    facts = {}
    for name, full in (("mnist", cfg.mnist), ("cifar10", cfg.cifar10)):
        facts[name] = shake(name, full, cfg.params, device)
        print(f"{name}: {facts[name]}", flush=True)
    artifacts.write_json(FACTS, {"federations": facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
