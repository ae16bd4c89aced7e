"""Stage: the paper's own nets and shapes run for a few steps on noise."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.srs.settings import Generation, Train, Translation

if TYPE_CHECKING:
    import torch

FACTS = Path("runs/shakedown/srs.json")


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    batch: int = field(help="images, sentence pairs or points a step")
    steps: int = field(help="steps of every net")
    nets: list[str] = field(default_factory=list, help="nets of nets.py")
    images: list[int] = field(default_factory=list, help="side of their images, one for each")
    classes: list[int] = field(default_factory=list, help="their classes, one for each")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    train: Train = field(default_factory=Train)
    translation: Translation = field(default_factory=Translation)
    flow: Generation = field(default_factory=Generation)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def shake_net(name: str, image: int, classes: int, cfg: Config, device: "torch.device") -> dict[str, Any]:
    """One classifier at full size: converted, stepped, and stored and read back."""
    import io

    import torch

    from stages.lib import data, macs
    from stages.papers.srs import conversion
    from stages.papers.srs.layer import SRS
    from stages.papers.srs.nets import paper_net

    noise = data.noise([3, image, image], classes, cfg.params.batch * cfg.params.steps)
    plain = paper_net(name, classes, image)
    net, sites = conversion.converted(plain, "srs", cfg.train, noise.x[:1])
    few = dataclasses.replace(cfg.train, epochs=1, batch=cfg.params.batch, pad=0, flip=False)
    conversion.fit(net.to(device), few, noise, 0, device, None, name)
    moved = [one for one in net.modules() if isinstance(one, SRS) and not torch.equal(one.alpha, torch.full_like(one.alpha, 5))]
    if len(moved) != len(sites):
        raise StageError(f"{name}: {len(sites) - len(moved)} of {len(sites)} alphas did not move; report this as a bug")
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    buffer.seek(0)
    net.load_state_dict(torch.load(buffer, weights_only=True))
    return {"image": [3, image, image], "sites": len(sites), "parameters": macs.parameters(net),
            "added": macs.parameters(net) - macs.parameters(plain), "batch": cfg.params.batch}  # fmt: skip


def shake_translation(cfg: Config, device: "torch.device") -> dict[str, Any]:
    """The Transformer of the paper's kind at full size: stepped, and a sentence decoded."""
    import torch

    from stages.lib import macs
    from stages.papers.srs.grammar import BEGIN
    from stages.papers.srs.translation import Translators

    amounts = dataclasses.replace(cfg.translation.grammar, train=cfg.params.batch * cfg.params.steps)
    few = dataclasses.replace(cfg.translation, grammar=amounts, epochs=1, batch=cfg.params.batch)
    found = Translators(few, [0]).to(device)
    for step in range(cfg.params.steps):
        found.loss(torch.arange(step * few.batch, (step + 1) * few.batch, device=device)).backward()
        found.after_step()
    decoded = found.net.greedy(found.for_arms(found.source[:, :1]), BEGIN, 3)
    return {"shape": dataclasses.asdict(few.net), "parameters": macs.parameters(found.net), "decoded": list(decoded.shape)}


def shake_flow(cfg: Config, device: "torch.device") -> dict[str, Any]:
    """The two-dimensional flow at full size: stepped and inverted."""
    import torch

    from stages.lib import macs
    from stages.papers.srs.generation import Flows

    few = dataclasses.replace(cfg.flow, train=cfg.params.batch * cfg.params.steps, epochs=1, batch=cfg.params.batch, test=8)
    found = Flows(few, "moons", [0]).to(device)
    for step in range(cfg.params.steps):
        found.loss(torch.arange(step * few.batch, (step + 1) * few.batch, device=device)).backward()
        found.after_step()
    error = max(values["inverse_error"] for values in found.measure("val").values())
    if not error < 1e-4:
        raise StageError(f"flow: the inverse misses by {error:.2g}; expected rounding only, report this as a bug")
    return {"blocks": few.blocks, "parameters": macs.parameters(found.net)}


@stage(
    Config, paper="srs", section="shakedown",
    files={"train": "srs/{scale}:cifar10.train", "translation": "srs/{scale}:grammar", "flow": "srs/{scale}:moons"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Run the paper's own nets briefly on noise of the true shape: classifiers with an SRS at every call site, the Transformer,
    the invertible net. Writes runs/shakedown/srs.json: shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, runtime

    little = cfg.params
    if not len(little.nets) == len(little.images) == len(little.classes):
        raise StageError("params.shakedown: expected as many images and classes as nets")
    device = runtime.prepare(cfg.threads, cfg.device, 0)
    facts = {}
    for name, image, classes in zip(little.nets, little.images, little.classes, strict=True):
        facts[name] = shake_net(name, image, classes, cfg, device)
        print(f"{name}: {facts[name]['sites']} call sites, {facts[name]['added']} parameters added", flush=True)
    facts |= {"translation": shake_translation(cfg, device), "flow": shake_flow(cfg, device)}
    artifacts.write_json(FACTS, {"facts": facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
