"""Stage: the paper-scale configurations run for a few steps on noise of the true image shape."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.greedy_network_enlarging.settings import Base, Proxy, Random, Recipe, Search, Uniform

if TYPE_CHECKING:
    import torch

    from stages.lib.data import Split

FACTS = Path("runs/shakedown/greedy_network_enlarging.json")
CHANNELS, CLASSES = 3, 1000


@dataclass
class Section:
    """One section of the paper's settings: a base with its search and recipes."""

    net: Base = field(default_factory=Base)
    search: Search = field(default_factory=Search)
    proxy: Proxy = field(default_factory=Proxy)
    uniform: Uniform = field(default_factory=Uniform)
    random: Random = field(default_factory=Random)
    final: Recipe = field(default_factory=Recipe)


@dataclass
class Views:
    """What is done to images of ImageNet."""

    autoaugment: bool = MISSING
    crop: float = MISSING


@dataclass
class Released:
    """A released or published net: its sizes, whose recipe it takes, how many images a step has here."""

    section: str = MISSING
    depths: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    resolution: int = MISSING
    batch: int = MISSING
    options: dict[str, Any] = field(default_factory=dict)  # where they differ from the section's


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    steps: int = field(help="optimisation steps of a net")
    searches: list[str] = field(default_factory=list, help="sections whose search takes its first step")
    released: dict[str, Released] = field(help="nets that are built and trained for these steps")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    imagenet_b1: Section = field(default_factory=Section)
    imagenet_b4: Section = field(default_factory=Section)
    imagenet_efficientnet: Section = field(default_factory=Section)
    views: Views = field(default_factory=Views)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def shortened(recipe: Recipe, batch: int) -> Recipe:
    """One pass in small batches at the rate where warm-up begins, as the first steps of the recipe are."""
    return dataclasses.replace(recipe, epochs=1, warmup=0.0, lr=recipe.warmup_lr, batch=batch, flip=False)


def section_of(cfg: Config, name: str) -> Section:
    """A section by its name; StageError for another one."""
    if name not in ("imagenet_b1", "imagenet_b4", "imagenet_efficientnet"):
        raise StageError(f"params/greedy_network_enlarging/{cfg.scale}.yaml: shakedown: there is no section {name!r}")
    return getattr(cfg, name)


def photographs(count: int, side: int, classes: int, views: Views) -> "Split":
    """`count` pictures of noise after the recipe's training view of that side, labels in turn."""
    import numpy
    import torch
    from PIL import Image

    from stages.lib.data import Split
    from stages.papers.greedy_network_enlarging.views import train_view

    random = numpy.random.RandomState(0)
    pictures = [Image.fromarray(random.randint(0, 256, (400, 500, 3)).astype(numpy.uint8)) for _ in range(count)]
    view = train_view(side, views.autoaugment)
    x = torch.stack([view(picture) for picture in pictures])
    plain = (0.0,) * CHANNELS
    return Split(x, torch.arange(count) % classes, tuple(map(str, range(classes))), plain, plain, "noise")


def shake_search(setting: Section, views: Views, device: "torch.device") -> dict[str, Any]:
    """Facts about the first step of a search: every feasible candidate built, stepped and scored on noise, one chosen."""
    from stages.papers.greedy_network_enlarging import growth
    from stages.papers.greedy_network_enlarging.compound import matched
    from stages.papers.greedy_network_enlarging.proxy import Evaluator
    from stages.papers.greedy_network_enlarging.space import check_budget, space_of

    space = space_of(setting.net, CHANNELS, CLASSES)
    check_budget(space, setting.search)
    budgets = growth.budgets(space.macs(space.base), setting.search.target, setting.search.steps)
    step = growth.candidates(space, space.base, budgets[0], setting.search)
    few = dataclasses.replace(setting.proxy, recipe=shortened(setting.proxy.recipe, 2), trainings=1, classes=0, held_out=0.5)
    score = Evaluator(space, photographs(4, setting.net.resolution, 2, views), few, 0, device)
    scored = [(candidate.slot, candidate.net, score(candidate.net)) for candidate in step.feasible]
    slot, net, _ = growth.choose(space, budgets[0], scored)
    return {
        "base_macs": space.macs(space.base), "budgets": [round(budget) for budget in budgets], "delta": step.delta,
        "candidates": {c.slot.name: c.macs for c in step.feasible}, "slots": len(step.candidates),
        "chosen": {"slot": slot.name, **net.record(), "macs": space.macs(net)},
        "uniform": {**(peer := matched(space, setting.uniform, space.macs(net))).record(), "macs": space.macs(peer)},
    }  # fmt: skip


def shake_released(net: Released, setting: Section, views: Views, steps: int, device: "torch.device") -> dict[str, Any]:
    """Facts about a net at its full size after a few steps of its recipe, with one picture through the evaluation's view."""
    import torch
    from PIL import Image

    from stages.lib.runtime import derive_seed, seed_everything
    from stages.papers.greedy_network_enlarging.recipe import fit
    from stages.papers.greedy_network_enlarging.space import space_of
    from stages.papers.greedy_network_enlarging.views import eval_view

    sizes = {"depths": net.depths, "widths": net.widths, "resolution": net.resolution}
    base = dataclasses.replace(setting.net, **sizes, options={**setting.net.options, **net.options})
    space = space_of(base, CHANNELS, CLASSES)
    seed_everything(derive_seed(0, "final"))
    split = photographs(steps * net.batch, net.resolution, CLASSES, views)
    made = fit(space.build(space.base), split, shortened(setting.final, net.batch), 0, device, None, "shakedown").eval()
    picture = eval_view(net.resolution, views.crop)(Image.new("RGB", (500, 400), (90, 120, 30)))
    with torch.no_grad():
        logits = made(picture[None].to(device))
    return {
        "image": list(picture.shape), "macs": space.macs(space.base), "parameters": space.parameters(space.base),
        "logits": list(logits.shape), "finite": bool(logits.isfinite().all()), "steps": steps, "batch": net.batch,
        "batch_at_full_scale": setting.final.batch,
        "enlarges_the_base": space.base.contains(setting.net.allocation()),
    }  # fmt: skip


@stage(
    Config, paper="greedy_network_enlarging", section="shakedown",
    files={
        name: f"greedy_network_enlarging/{{scale}}:{name}"
        for name in ("imagenet_b1", "imagenet_b4", "imagenet_efficientnet", "views")
    },
)  # fmt: skip
def main(cfg: Config) -> None:
    """Run the paper's own configurations briefly, on pictures of noise of the true shape.

    Each search takes its first step (all its candidates are built and stepped at their own resolutions), each released
    S-GhostNet and EfficientNet B0 to B4 is built at full size and stepped by its recipe. Only batches and numbers of steps
    and images are smaller. Writes runs/shakedown/greedy_network_enlarging.json: shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    searches, nets = {}, {}
    for name in cfg.params.searches:
        searches[name] = shake_search(section_of(cfg, name), cfg.views, device)
        print(f"{name}: {len(searches[name]['candidates'])} candidates, {searches[name]['chosen']['slot']}", flush=True)
    for name, net in cfg.params.released.items():
        nets[name] = shake_released(net, section_of(cfg, net.section), cfg.views, cfg.params.steps, device)
        print(f"{name}: {nets[name]['macs']} MACs, {nets[name]['parameters']} parameters", flush=True)
    artifacts.write_json(FACTS, {"nets": nets, "searches": searches, "scale": cfg.scale})


if __name__ == "__main__":
    main()
