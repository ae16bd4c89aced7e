"""Stage: the paper-scale configurations run for a few steps on noise of the true image shape."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.evolution import Evolution
from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.focusformer.audit import AuditParams
from stages.papers.focusformer.settings import Params, Search

if TYPE_CHECKING:
    import torch

    from stages.lib.data import Split

FACTS = Path("runs/shakedown/focusformer.json")


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    batch: int = field(help="images a step")
    steps: int = field(help="steps of the supernet; the sampler has an update before the first")
    images: int = field(help="images that one architecture is scored on")
    held_out: int = field(help="held-out images in all")
    evaluations: int = field(help="architectures of the one generation of evolution")
    spaces: list[str] = field(default_factory=list, help="names of audit.spaces to shake down")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    supernet: Params = field(default_factory=Params)
    search: Search = field(default_factory=Search)
    audit: AuditParams = field(default_factory=AuditParams)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def noise(image: int, classes: int, count: int) -> "Split":
    """`count` colour images of Gaussian noise, with labels spread over the classes."""
    import torch

    from stages.lib.data import Split

    x = torch.randn(count, 3, image, image, generator=torch.Generator().manual_seed(0))
    plain = (0.0, 0.0, 0.0)
    return Split(x, torch.arange(count) * classes // count, tuple(map(str, range(classes))), plain, plain, "noise")


def shortened(full: Params, params: ShakedownParams) -> Params:
    """The same settings with one pass of a few small batches, the sampler at work from the first step."""
    few = dataclasses.replace(full.recipe, epochs=1, warmup=0, batch=params.batch)
    sampler = dataclasses.replace(full.sampler, warmup=0.0, images=params.images, scored=2)
    return dataclasses.replace(full, recipe=few, sampler=sampler, held_out=params.held_out)


def shake(name: str, cfg: Config, device: "torch.device") -> dict[str, Any]:
    """Facts about one space: trained, searched and extracted at full size."""
    import torch

    from stages.lib import macs
    from stages.papers.focusformer import choosing, cost, deployment, training
    from stages.papers.focusformer import space as spaces

    if name not in cfg.audit.spaces:
        raise StageError(f"params.spaces: {name} is none of {', '.join(cfg.audit.spaces)}")
    figures, little = cfg.audit.spaces[name], cfg.params
    full = dataclasses.replace(cfg.supernet, space=figures.space, supernet=figures.supernet)
    params = shortened(full, little)
    split = noise(cfg.audit.image, cfg.audit.classes, little.steps * little.batch)
    held_out = noise(cfg.audit.image, cfg.audit.classes, little.held_out)
    trained = training.train_supernet(params, split, held_out, True, 0, device, None, name)
    net, sampler = trained.net.eval(), trained.sampler.cpu()
    budgets = cost.budgets(params.space, net.canvas, params.budgets)
    one = little.evaluations
    amounts = Evolution(one, 1, mutations=0, crossovers=0, random_trials=cfg.search.evolution.random_trials)
    search = dataclasses.replace(cfg.search, evolution=amounts)
    found = choosing.search(net, params.space, held_out.to(device), search, budgets[-1], 0, evolution=True)
    decoded = deployment.deploy(sampler, net.canvas, budgets[-1], 1) or spaces.smallest(params.space)
    thin, x = net.extract(decoded).to(device), held_out.x[:1].to(device)
    with torch.no_grad():
        gap = float((thin(x) - net(x, decoded)).abs().max())
    if not gap < 1e-4:
        raise StageError(f"{name}: extracted and sliced nets differ by {gap:.2g}; expected rounding only, report this as a bug")
    return {
        "image": [3, cfg.audit.image, cfg.audit.image], "supernet_parameters": macs.parameters(net),
        "drawn_macs": trained.costs.tolist(), "evaluations": found.evaluations, "budgets": budgets,
        "decoded": [decoded.depth, decoded.embed, cost.macs(decoded, net.canvas), macs.parameters(thin)],
        "batch": little.batch, "batch_at_full_scale": full.recipe.batch,
    }  # fmt: skip


@stage(
    Config, paper="focusformer", section="shakedown",
    files={"supernet": "focusformer/{scale}:imagenet.supernet", "search": "focusformer/{scale}:imagenet.search",
           "audit": "focusformer/{scale}:audit"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Run the paper's own configurations briefly, on noise of the true image shape.

    Each space's supernet is built at full size and stepped beside its sampler; one generation of evolution and one decode
    follow, and the decoded net is cut out. Writes runs/shakedown/focusformer.json: shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    facts = {}
    for name in cfg.params.spaces:
        facts[name] = shake(name, cfg, device)
        print(f"{name}: {facts[name]['supernet_parameters']} parameters, drew {facts[name]['drawn_macs']} MACs", flush=True)
    artifacts.write_json(FACTS, {"spaces": facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
