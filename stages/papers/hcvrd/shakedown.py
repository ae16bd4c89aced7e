"""Stage: the paper-scale nets with the true numbers of labels, run for a few steps on noise."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.hcvrd.settings import Params

if TYPE_CHECKING:
    import torch

    from stages.papers.hcvrd.relations import Labels, Pairs
    from stages.papers.hcvrd.training import Learning

FACTS = Path("runs/shakedown/hcvrd.json")
SEEN, ALL = 9852, 28323  # the publisher's labels with training instances, and with the zero-shot ones
WORDS = (6, 927, 1824)  # subjects, predicates, objects


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    image: int = field(help="side of a region and of a web image in pixels")
    photograph: int = field(help="side of the image that the detector sees")
    proposals: int = field(help="regions that the detector classifies")
    steps: int = field(help="steps of the arms")
    bag: int = field(help="images of a bag")
    bags: int = field(help="bags a step")
    batch: int = field(help="annotated regions a step")
    pairs: int = field(help="pairs of boxes that are scored, and labels that they are asked for")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    full: Params = field(default_factory=Params)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def all_labels() -> "Labels":
    """As many labels and words as the publisher's, without their names."""
    import torch

    from stages.papers.hcvrd.relations import Labels

    place = torch.arange(ALL)
    triplets = torch.stack([place % WORDS[0], place % WORDS[1], place % WORDS[2]], 1)
    count = torch.where(place < SEEN, 1, 0)
    words = tuple([str(number) for number in range(size)] for size in WORDS)
    return Labels(triplets, torch.where(place < SEEN, 0, 2), count, words, 10)


def learning(cfg: Config, features: "torch.nn.Module", device: "torch.device") -> "Learning":
    """A few maps of noise that stand for all annotated regions and all web images; they are not copied."""
    import torch

    from stages.papers.hcvrd.context import word_vectors
    from stages.papers.hcvrd.training import Learning

    side, labels = cfg.params.image, all_labels()
    with torch.no_grad():
        maps = features(torch.randn(cfg.params.bag, 3, side, side, device=device))
    web = maps.expand(ALL, -1, -1, -1, -1)
    regions = maps[:1].expand(1, SEEN, -1, -1, -1)
    good = torch.ones(ALL, cfg.params.bag, dtype=torch.bool, device=device)
    words = tuple(word_vectors(labels.words[i], cfg.full.context.words).to(device) for i in (0, 2))
    geometry = torch.zeros(1, SEEN, 7, device=device)
    return Learning(regions, geometry, torch.arange(SEEN, device=device), web, good, labels, words)


def propose(cfg: Config, device: "torch.device") -> "tuple[Pairs, dict[str, Any]]":
    """Pairs of boxes of the real detector on noise, and what it is."""
    import torch

    from stages.lib import macs
    from stages.papers.hcvrd import detector
    from stages.papers.hcvrd.relations import Pairs

    side, count = cfg.params.photograph, cfg.params.pairs
    net = detector.faster_rcnn(side, cfg.params.proposals).to(device).eval()
    net.roi_heads.score_thresh = 0.0  # with random weights no class is sure
    with torch.no_grad():
        found = net([torch.rand(3, side, side, device=device)])[0]["boxes"]
    if len(found) < 2:
        raise StageError(f"the detector gave {len(found)} boxes; expected 2 or more, report this as a bug")
    one = torch.arange(count) % len(found)
    other = (torch.arange(count) + 1) % len(found)
    scores = [torch.zeros(count, size).log_softmax(1) for size in (WORDS[0], WORDS[2])]
    pairs = Pairs(
        torch.zeros(count, dtype=torch.int64), found[one].cpu(), found[other].cpu(), *scores, torch.full((count,), -1)
    )
    return pairs, {"detector_parameters": macs.parameters(net), "boxes": list(found.shape)}


def shake(cfg: Config, device: "torch.device") -> dict[str, Any]:
    """Facts about the full-size nets: boxes proposed, two arms stepped and asked."""
    import torch

    from stages.lib import macs
    from stages.papers.hcvrd import boxes, detector, recall, scoring
    from stages.papers.hcvrd.arms import ARMS

    little = cfg.params
    features = detector.conv5(detector.vgg16()).to(device).eval()
    given = learning(cfg, features, device)
    pairs, facts = propose(cfg, device)
    with torch.no_grad():
        whole = features(torch.randn(1, 3, little.photograph, little.photograph, device=device))
    union = boxes.union(pairs.sub, pairs.obj).to(device) / (little.photograph / whole.shape[-1])
    maps = boxes.align(whole, union, pairs.image.to(device), cfg.full.metric.cells)
    geometry = boxes.geometry(pairs.sub, pairs.obj, little.photograph).to(device)
    facts |= {"maps": list(maps.shape), "arms": {}}
    for name in ("full", "context"):
        net = stepped(name, given, cfg)
        few = some(given, little.pairs)
        if name == "full":
            asked = scoring.prototypes(net, ARMS[name], few, cfg.full.metric)
        else:
            scores = scoring.visual(net, ARMS[name], few, cfg.full.metric, maps, geometry, None)[0]
            asked = torch.stack(recall.listed(scores.cpu(), max(cfg.full.scoring.recall_at)))
        facts["arms"][name] = {"parameters": macs.parameters(net), "asked": list(asked.shape)}
    return facts | {"batch": little.batch, "batch_at_full_scale": cfg.full.descent.batch}


def some(given: "Learning", count: int) -> "Learning":
    """The first labels only: a step takes all of them, but asking each in turn is the same work 28323 times."""
    labels = given.labels
    cut = dataclasses.replace(labels, triplets=labels.triplets[:count], kind=labels.kind[:count], count=labels.count[:count])
    return dataclasses.replace(given, web=given.web[:count], good=given.good[:count], labels=cut)


def stepped(name: str, given: "Learning", cfg: Config) -> "torch.nn.Module":
    """An arm's net after a few steps."""
    from stages.papers.hcvrd import training

    descent = dataclasses.replace(cfg.full.descent, steps=cfg.params.steps, batch=cfg.params.batch)
    metric = dataclasses.replace(cfg.full.metric, bag=cfg.params.bag, bags=cfg.params.bags)
    return training.train(name, given, dataclasses.replace(cfg.full, descent=descent, metric=metric), 0, None)


@stage(
    Config, paper="hcvrd", section="shakedown", files={"full": "hcvrd/{scale}:hcvrd"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Run the paper's own configuration briefly, on noise of the true image shape.

    VGG-16 and Faster R-CNN are built at full size with random weights; the webly-supervised and the context-aware model are
    stepped with all 28323 labels. Writes runs/shakedown/hcvrd.json: shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    facts = shake(cfg, device)
    print(f"detector {facts['detector_parameters']} parameters, {facts['arms']}", flush=True)
    artifacts.write_json(FACTS, {**facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
