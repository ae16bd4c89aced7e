"""Stage: the paper-scale configurations run for a few steps on noise of the true shape."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.privacy_adversarial_features.settings import Attack, Compress

if TYPE_CHECKING:
    from stages.papers.privacy_adversarial_features.tables import Task

FACTS = Path("runs/shakedown/privacy_adversarial_features.json")


@dataclass
class ShakedownParams:
    """The section `shakedown`: true shapes, and how much less is done than at full scale."""

    features: int = field(help="D")
    utilities: int = field(help="C_u")
    secrets: int = field(help="C_s")
    samples: int = field(help="noise samples to train on, more than the Fourier features")
    steps: int = field(help="steps of every map")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    compress: Compress = field(default_factory=Compress)
    attack: Attack = field(default_factory=Attack)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def noise(params: ShakedownParams) -> "Task":
    """A task of Gaussian noise of the true shape."""
    import torch

    from stages.papers.privacy_adversarial_features.tables import Task

    random = torch.Generator().manual_seed(0)
    x = torch.randn(params.samples, params.features, generator=random)
    places = torch.arange(params.samples)
    u, s = places % params.utilities, places // params.utilities % params.secrets
    moments = torch.zeros(params.features, dtype=torch.float64), torch.ones(params.features, dtype=torch.float64)
    return Task(x, x, *moments, u, s, u, s, params.utilities, params.secrets, 0)


def shortened(full: Compress, params: ShakedownParams) -> Compress:
    """The same settings with a few steps."""
    trained = ("information", "filter", "adversarial")
    return dataclasses.replace(full, **{name: dataclasses.replace(getattr(full, name), steps=params.steps) for name in trained})


@stage(
    Config, paper="privacy_adversarial_features", section="shakedown",
    files={"compress": "privacy_adversarial_features/{scale}:uci_har.compress",
           "attack": "privacy_adversarial_features/{scale}:uci_har.attack"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Learn all maps of UCI HAR's shape briefly on noise, export one, attack it; write sizes, no measurement.

    Raises StageError where the exported map and the trained one differ.
    """
    import torch

    from stages.lib import artifacts, macs, runtime
    from stages.papers.privacy_adversarial_features import attackers, learning
    from stages.papers.privacy_adversarial_features.maps import DeviceMap, apply

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    task = noise(cfg.params).to(device)
    found = learning.learn(task, shortened(cfg.compress, cfg.params), 0)
    facts: dict[str, Any] = {}
    for arm in ("dca", "kdi_net"):
        exported = DeviceMap(found[arm][-1], task).to(device)
        gap = float((exported(task.train.double()) - apply(found[arm][-1], task.train)).detach().abs().max())
        if not gap < 1e-3:
            raise StageError(f"{arm}: exported and trained maps differ by {gap:.2g}; expected rounding only, this is a bug")
        facts[arm] = {"macs": macs.count(exported, task.train[:1].double()), "parameters": macs.parameters(exported)}
    few = dataclasses.replace(cfg.attack, epochs=1)
    sent = torch.stack([apply(found["kdi_net"][-1], task.train)])
    told = attackers.predictions(sent, sent, [(task.s, task.secrets)], few, 0)[0]
    facts["families"] = sorted(told)
    facts["maps"] = sum(map(len, found.values()))
    print(f"{facts['maps']} maps, {facts['dca']['macs']} MACs of a linear one", flush=True)
    artifacts.write_json(FACTS, {**facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
