"""Stage: the paper's own net stepped, reduced to one task, stepped again and used on an image, with noise for photographs."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.ipt.settings import Finetune, Measurement, Net, Peers, Pretrain

if TYPE_CHECKING:
    import numpy
    import torch

FACTS = Path("runs/shakedown/ipt.json")


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    batch: int = field(help="patches a step")
    steps: int = field(help="steps of pre-training and of fine-tuning")
    tokens: int = field(help="tokens of an image in the contrastive term")
    image: list[int] = field(default_factory=list, help="height and width of the image that is restored at the end")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    net: Net = field(default_factory=Net)
    peers: Peers = field(default_factory=Peers)
    pretrain: Pretrain = field(default_factory=Pretrain)
    finetune: Finetune = field(default_factory=Finetune)
    measure: Measurement = field(default_factory=Measurement)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def noise(height: int, width: int, seed: int) -> "numpy.ndarray":
    """uint8 [height, width, 3] of noise."""
    import numpy

    return numpy.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(numpy.uint8)


def pretrained(cfg: Config, device: "torch.device") -> "tuple[torch.nn.Module, list[str]]":
    """(the six-task net after some steps, the tasks that were drawn)."""
    from stages.lib.restoration.sets import Photograph
    from stages.papers.ipt import experiment, training
    from stages.papers.ipt.arms import PRETRAINED
    from stages.papers.ipt.pairs import Synthesis

    little, pretrain = cfg.params, cfg.pretrain
    largest = 4 * cfg.net.image
    pool = [Photograph(f"noise {seed}", noise(largest, largest, seed)) for seed in range(2)]
    batches = Synthesis(pool, pool, pretrain.tasks, cfg.net.image, 0)
    recipe = dataclasses.replace(pretrain.recipe, steps=little.steps, batch=little.batch)
    contrast = dataclasses.replace(pretrain.contrastive, max_tokens=little.tokens)
    net = experiment.fresh(PRETRAINED["ipt"], pretrain.tasks, cfg.net, cfg.peers, 0)
    training.fit(net, batches, recipe, recipe.lr, contrast, 0, device, None, "pre-training")
    return net, [batches.batch(step, 1)[0] for step in range(little.steps)]


def finetuned(cfg: Config, net: "torch.nn.Module", device: "torch.device") -> dict[str, Any]:
    """Facts about the first target's net: cut out, stepped, and used on an image of noise."""
    from stages.lib import macs
    from stages.lib.restoration.patches import PairedPatches
    from stages.lib.restoration.sets import Photograph, scaled_pair, tensor
    from stages.papers.ipt import experiment, inference, training
    from stages.papers.ipt.arms import PRETRAINED
    from stages.papers.ipt.pairs import Paired
    from stages.papers.ipt.tasks import task

    target, little, arm = cfg.finetune.targets[0], cfg.params, PRETRAINED["ipt"]
    wanted = task(target.task)
    tensors = {name: value.cpu() for name, value in net.state_dict().items()}
    one = experiment.one_task(arm, target, tensors, cfg.pretrain.tasks, cfg.net, cfg.peers)
    photograph = Photograph("noise", noise(wanted.scale * cfg.net.image, wanted.scale * cfg.net.image, 2))
    pairs = PairedPatches([scaled_pair(photograph, wanted.scale)], cfg.net.image)
    recipe = dataclasses.replace(cfg.finetune.recipe, steps=little.steps, batch=little.batch)
    training.fit(one, Paired(pairs, target.task, 0), recipe, recipe.lr, None, 0, device, None, "fine-tuning")
    image = tensor(noise(*little.image, 3)).to(device)
    restored = inference.restore(one, image, wanted, cfg.measure)
    if list(restored.shape[1:]) != [side * wanted.scale for side in little.image] or not bool(restored.isfinite().all()):
        raise StageError(f"{target.task}: restored image {list(restored.shape)}, or not finite; report this as a bug")
    return {"target": target.task, "parameters": macs.parameters(one), "restored": list(restored.shape)}


@stage(
    Config, paper="ipt", section="shakedown",
    files={name: f"ipt/{{scale}}:{name}" for name in ("net", "peers", "pretrain", "finetune", "measure")},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Run the paper's own configuration briefly, on noise of the true patch shapes.

    The net of 12 + 12 layers and six tasks is stepped with the contrastive term, cut down to one task, stepped again, and
    restores an image by tiles. Writes runs/shakedown/ipt.json: shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, macs, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    net, drawn = pretrained(cfg, device)
    facts = {"parameters": macs.parameters(net), "tasks_drawn": drawn, "finetuned": finetuned(cfg, net, device),
             "patch": [3, cfg.net.image, cfg.net.image], "batch": cfg.params.batch,
             "batch_at_full_scale": cfg.pretrain.recipe.batch}  # fmt: skip
    print(f"six tasks: {facts['parameters']} parameters; one task: {facts['finetuned']['parameters']}", flush=True)
    artifacts.write_json(FACTS, {**facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
