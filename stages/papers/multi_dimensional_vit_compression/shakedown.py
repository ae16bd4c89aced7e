"""Stage: the paper-scale configurations run for a few steps on noise of the true image shape."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.lib.vit.settings import Recipe
from stages.papers.multi_dimensional_vit_compression.audit import AuditParams, known
from stages.papers.multi_dimensional_vit_compression.settings import Compress, Train

if TYPE_CHECKING:
    import torch

FACTS = Path("runs/shakedown/multi_dimensional_vit_compression.json")


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    batch: int = field(help="images a step")
    steps: int = field(help="steps of training, before the search and after")
    ranked: int = field(help="images that heads and neurons are ranked on")
    held_out: int = field(help="images that a candidate is scored on")
    initial: int = field(help="random policies")
    searched: int = field(help="policies by expected improvement")
    pool: int = field(help="feasible policies among which one is chosen")
    nets: list[str] = field(default_factory=list, help="names of audit.nets to shake down")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    train: Train = field(default_factory=Train)
    compress: Compress = field(default_factory=Compress)
    finetune: Recipe = field(default_factory=Recipe)
    audit: AuditParams = field(default_factory=AuditParams)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def shake(name: str, cfg: Config, device: "torch.device") -> dict[str, Any]:
    """Facts about one net: trained, ranked, searched, cut out and fine-tuned at full size."""
    from stages.lib import data, macs
    from stages.lib.vit.training import train
    from stages.papers.multi_dimensional_vit_compression import cost, experiment, ranking, searching, surgery
    from stages.papers.multi_dimensional_vit_compression import space as spaces
    from stages.papers.multi_dimensional_vit_compression.gated import Gated, dense_shape

    little, own = cfg.params, cfg.audit.nets[known(name, cfg.audit.nets, "nets")]
    size = [3, cfg.audit.image, cfg.audit.image]
    split = data.noise(size, cfg.audit.classes, little.steps * little.batch)
    held_out = data.noise(size, cfg.audit.classes, little.held_out)
    settings = dataclasses.replace(
        cfg.train, net=dataclasses.replace(cfg.train.net, embed=own.embed, heads=own.heads, hidden=own.hidden)
    )
    options = dataclasses.replace(cfg.compress.search, initial=little.initial, steps=little.searched, pool=little.pool)
    once = dataclasses.replace(cfg.finetune, epochs=1, warmup=0, batch=little.batch)
    net = experiment.fresh(settings, split, 0)
    train(net, split, once, 0, device, None, f"{name} dense")
    shape, gated = dense_shape(net.eval().record(), options.reduce), Gated(net, options.reduce)
    order = ranking.orders(net, split.x[: little.ranked].to(device), cfg.compress.ranking, 0)["dependency"]
    score = experiment.Evaluator(gated, order, held_out.to(device), device)
    trials = searching.search(spaces.make(shape, options, options.tight), score, options, 0, guided=True)
    found = searching.best(trials).policy
    made = surgery.cut(net, order.kept(found), found.sparsity, tuple(options.reduce), settings.net.drop_path)
    gated.set(order.kept(found), found.sparsity)
    gap = surgery.difference(gated, made, held_out.x.to(device))
    if not gap < 1e-3:
        raise StageError(f"{name}: gated and cut nets differ by {gap:.2g}; expected rounding only, report this as a bug")
    train(made, split, once, 0, device, None, f"{name} compressed")
    return {
        "image": size, "dense_macs": macs.total(net.record()).macs, "compressed_macs": macs.total(made.record()).macs,
        "dense_parameters": macs.parameters(net), "compressed_parameters": macs.parameters(made),
        "policy": found.record(), "evaluations": len(trials),
        "tokens": cost.token_counts(shape, found.sparsity, True)[1][0].tolist(),
        "batch": little.batch, "batch_at_full_scale": cfg.train.recipe.batch,
    }  # fmt: skip


@stage(
    Config, paper="multi_dimensional_vit_compression", section="shakedown",
    files={"train": "multi_dimensional_vit_compression/{scale}:imagenet.train",
           "compress": "multi_dimensional_vit_compression/{scale}:imagenet.compress",
           "finetune": "multi_dimensional_vit_compression/{scale}:imagenet.finetune",
           "audit": "multi_dimensional_vit_compression/{scale}:audit"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Run the paper's own configurations briefly, on noise of the true image shape.

    Each net is built at full size, stepped, ranked, searched, cut and stepped again. Writes
    runs/shakedown/multi_dimensional_vit_compression.json: shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    facts = {}
    for name in cfg.params.nets:
        facts[name] = shake(name, cfg, device)
        print(f"{name}: {facts[name]['dense_macs']} -> {facts[name]['compressed_macs']} MACs", flush=True)
    artifacts.write_json(FACTS, {"nets": facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
