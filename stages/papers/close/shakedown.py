"""Stage: the paper-scale supernets of all three spaces, run for a few steps on noise of the true image shape."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.stage import MISSING, field, stage
from stages.papers.close.settings import ShakedownParams, Supernets
from stages.papers.close.shape import DartsShape, GateShape, NdsShape, Shape

if TYPE_CHECKING:
    from torch import Tensor

FACTS = Path("runs/shakedown/close.json")
IMAGE, CLASSES = (3, 32, 32), 10


@dataclass
class Darts:
    """The section nb301."""

    net: DartsShape = field(default_factory=DartsShape)
    gate: GateShape = field(default_factory=GateShape)
    supernet: Supernets = field(default_factory=Supernets)


@dataclass
class Nds:
    """The section nds."""

    net: NdsShape = field(default_factory=NdsShape)
    supernet: Supernets = field(default_factory=Supernets)


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    params: ShakedownParams = field(default_factory=ShakedownParams)
    net: Shape = field(default_factory=Shape)
    gate: GateShape = field(default_factory=GateShape)
    supernet: Supernets = field(default_factory=Supernets)
    nb301: Darts = field(default_factory=Darts)
    nds: Nds = field(default_factory=Nds)


def noise(params: ShakedownParams) -> "tuple[Tensor, Tensor]":
    """Images of Gaussian noise and labels spread over the classes."""
    import torch

    images = torch.randn(params.images, *IMAGE, generator=torch.Generator().manual_seed(0))
    return images, torch.arange(params.images) * CLASSES // params.images


@stage(
    Config, paper="close", section="shakedown",
    files={name: f"close/{{scale}}:cifar10.{name}" for name in ("net", "gate", "supernet")}
    | {name: f"close/{{scale}}:{name}" for name in ("nb301", "nds")},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Build each real supernet, train two levels with inheritance, choose an architecture by evolution, extract its net.

    Only batches, steps and numbers of images and candidates are smaller than in the paper's runs. Writes
    runs/shakedown/close.json: shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, runtime
    from stages.lib.data import Split
    from stages.papers.close import trials

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    images, labels = (item.to(device) for item in noise(cfg.params))
    split = Split(images, labels, tuple(map(str, range(CLASSES))), (0.0,) * 3, (1.0,) * 3, "noise")
    facts = {
        "nb201": trials.nb201(cfg.net, cfg.gate, cfg.supernet, split, cfg.params),
        "nb301": trials.nb301(cfg.nb301.net, cfg.nb301.gate, cfg.nb301.supernet, split, cfg.params),
        "nds": trials.nds(cfg.nds.net, cfg.nds.supernet, split, cfg.params),
    }
    for name, found in facts.items():
        print(f"{name}: supernet of {found['parameters']} parameters, chosen {found['chosen']}", flush=True)
    artifacts.write_json(FACTS, {"spaces": facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
