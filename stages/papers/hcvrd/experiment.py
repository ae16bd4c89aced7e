"""One repetition: shared features, all arms trained, and what each finds on the evaluation split."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.lib.runtime import derive_seed
from stages.papers.hcvrd import backbone, boxes, recall, relations, scoring, training
from stages.papers.hcvrd.arms import ARMS
from stages.papers.hcvrd.backbone import Backbone
from stages.papers.hcvrd.context import word_vectors
from stages.papers.hcvrd.nets import Net
from stages.papers.hcvrd.relations import Pairs, Relations, World
from stages.papers.hcvrd.training import Learning

if TYPE_CHECKING:
    from stages.papers.hcvrd.settings import Params

TOP = (1, 5, 10)


@dataclasses.dataclass(frozen=True)
class Proposals:
    """Pairs of boxes with the maps [K, D, h, w] of their unions and their geometry [K, 7]."""

    pairs: Pairs
    maps: Tensor
    geometry: Tensor


@dataclasses.dataclass(frozen=True)
class Scene:
    """An image of the evaluation split: its detected pairs and its relations, as places, and how well they fit [P, m], as
    relationships (False) and as phrases (True).
    """

    image: int
    pairs: Tensor
    relations: Tensor
    fit: dict[bool, Tensor]


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all arms of a repetition share."""

    world: World
    net: Backbone
    given: Learning
    annotated: Proposals  # the pair of every relation of the evaluation split, boxes as annotated
    detected: Proposals  # all pairs that a detector proposes
    scenes: list[Scene]
    params: "Params"
    repetition: int

    def label_sets(self) -> dict[str, Tensor]:
        """Admissible labels, bool [L]: seen, zero-shot alone (closed), both (general)."""
        labels = self.world.labels
        unseen = labels.zero_shot(self.world.split)
        return {"seen": labels.seen, "zero": unseen, "general": labels.seen | unseen}


def bench(world: World, params: "Params", repetition: int, device: torch.device) -> Bench:
    """Train the backbone on annotated regions, and look at everything with it once."""
    generator = torch.Generator().manual_seed(derive_seed(repetition, "detector"))
    train, labels, settings = world.train, world.labels, params.backbone
    side, versions, parts = train.x.shape[-1], [], labels.triplets[train.label]
    for _ in range(params.detector.versions):
        sub, obj = (boxes.jitter(one, params.detector.jitter, side, generator) for one in (train.sub_box, train.obj_box))
        cut = backbone.regions(train, sub, obj, train.image, settings.region)
        versions.append((cut, boxes.geometry(sub, obj, side)))
    pixels = torch.cat([cut for cut, _ in versions])
    sizes = tuple(len(words) for words in labels.words)
    net = backbone.train(pixels, parts.repeat(len(versions), 1), sizes, settings, repetition, device)
    maps = torch.stack([net.maps(cut.to(device)) for cut, _ in versions])
    web = net.maps(world.web.x.flatten(0, 1).to(device)).unflatten(0, world.web.x.shape[:2])
    words = tuple(word_vectors(labels.words[i], params.context.words).to(device) for i in (0, 2))
    geometry = torch.stack([one for _, one in versions]).to(device)
    given = Learning(maps, geometry, train.label.to(device), web, world.web.good.to(device), labels, words)
    proposals = []
    for detected in (False, True):
        pairs = relations.propose(world.asked, labels, params.detector, detected, generator)
        looks = backbone.region_maps(net, world.asked, pairs, settings.region)
        proposals.append(Proposals(pairs, looks, boxes.geometry(pairs.sub, pairs.obj, side).to(device)))
    return Bench(world, net, given, *proposals, scenes_of(world.asked, proposals[1].pairs), params, repetition)


def scenes_of(asked: Relations, pairs: Pairs) -> list[Scene]:
    """Images with relations, in order; all arms are measured on the same boxes."""
    found = []
    for image in asked.image.unique().tolist():
        near, own = ((place == image).nonzero().flatten() for place in (pairs.image, asked.image))
        given = (pairs.sub[near], pairs.obj[near], asked.sub_box[own], asked.obj_box[own])
        found.append(Scene(image, near, own, {phrase: recall.shared(*given, phrase) for phrase in (False, True)}))
    return found


@dataclasses.dataclass(frozen=True)
class Found:
    """What an arm leaves: figures by name; how many labels outscore the truth of each relation, among seen or zero-shot
    labels, int64 [R]; attention over the web images [L, M, h, w] of arms with such evidence; of the first arm also log scores
    of detected pairs [K, L] over seen and zero-shot labels together.
    """

    values: dict[str, float]
    ranks: Tensor
    attention: Tensor | None
    scores: Tensor | None


def measure(name: str, net: Net, on: Bench) -> Found:
    """Figures of a trained arm."""
    arm, asked, labels = ARMS[name], on.world.asked, on.world.labels
    points = scoring.prototypes(net, arm, on.given, on.params.metric)
    looks = {kind: scoring.visual(net, arm, on.given, on.params.metric, one.maps, one.geometry, points)
             for kind, one in (("annotated", on.annotated), ("detected", on.detected))}  # fmt: skip
    values, own = {}, torch.full((len(asked.label),), -1)
    for kind, admissible in on.label_sets().items():
        role = relations.SEEN if kind == "seen" else relations.ZERO_SHOT
        wanted = asked.role == role
        share = on.params.metric.seen_share
        scores = scoring.combined(arm, *looks["annotated"], labels, on.annotated.pairs, admissible, share).cpu()
        rank = recall.ranks(scores[wanted], asked.label[wanted])
        values |= recognition(kind, rank, asked.label[wanted], labels)
        if kind != "general":
            own[wanted] = rank
        scores = scoring.combined(arm, *looks["detected"], labels, on.detected.pairs, admissible, share).cpu()
        values |= detection(kind, scores, on, role)
    attention = None
    if arm.evidence:
        attention = torch.stack([net.web.attention.look(maps) for maps in on.given.web]).detach().cpu()
        values |= attended(attention, on)
    return Found(values, own, attention, scores if name == on.params.arms[0] else None)


def recognition(kind: str, rank: Tensor, label: Tensor, labels: relations.Labels) -> dict[str, float]:
    """Top-k accuracies with boxes given, [n] ranks of the true labels [n]; seen labels apart by their frequency."""
    found = {f"{kind}_top{k}": float((rank < k).double().mean()) for k in TOP}
    if kind == "seen":
        tail = labels.count[label] < labels.tail_below
        for name, part in (("frequent", ~tail), ("tail", tail)):
            if bool(part.any()):
                found |= {f"{name}_top{k}": float((rank[part] < k).double().mean()) for k in TOP}
        if bool(tail.any()):
            found |= {f"tail_macro_top{k}": recall.macro(rank[tail] < k, label[tail]) for k in TOP}
    return found | {f"{kind}_macro_top5": recall.macro(rank < TOP[1], label)}


def detection(kind: str, scores: Tensor, on: Bench, role: int) -> dict[str, float]:
    """Recall@K of relationships and phrases with detected boxes; zero-shot ones also on images outside train.txt, of seen
    ones also the mean over rare labels.
    """
    asked, settings = on.world.asked, on.params.scoring
    places: dict[bool, list[int]] = {False: [], True: []}
    clean, rows = [], []
    for one in on.scenes:
        chosen = asked.role[one.relations] == role
        own = one.relations[chosen]
        if len(own) == 0:
            continue
        which, label = recall.listed(scores[one.pairs], settings.recall_at[-1], settings.per_pair)
        for phrase, found in places.items():
            found += recall.match(label, one.fit[phrase][which][:, chosen], asked.label[own], settings.overlap)
        clean += [int(asked.listed[one.image]) != 1] * len(own)
        rows.append(own)
    label, found = asked.label[torch.cat(rows)], {}
    parts = {"clean_": torch.tensor(clean)} if role == relations.ZERO_SHOT else {}
    tail = on.world.labels.count[label] < on.world.labels.tail_below
    for phrase, name in ((False, "recall"), (True, "phrase")):
        for k in settings.recall_at:
            hits = recall.within(torch.tensor(places[phrase]), k)
            found[f"{kind}_{name}{k}"] = float(hits.double().mean())
            found |= {f"{kind}_{part}{name}{k}": float(hits[kept].double().mean()) for part, kept in parts.items() if any(kept)}
            if role == relations.SEEN and bool(tail.any()):
                found[f"tail_macro_{name}{k}"] = recall.macro(hits[tail], label[tail])
    return found


def attended(attention: Tensor, on: Bench) -> dict[str, float]:
    """How much denser attention [L, M, h, w] lies in the pair's box than elsewhere on average, of good and spoiled images."""
    web = on.world.web
    inside = box_share(web.box, web.x.shape[-1], attention.shape[-1])
    gain = (attention * inside).sum((2, 3)) / inside.mean((2, 3)).clamp(min=1e-9)
    found = {"attention_good": float(gain[web.good].mean())}
    return found | ({"attention_spoiled": float(gain[~web.good].mean())} if bool((~web.good).any()) else {})


def box_share(box: Tensor, side: int, cells: int) -> Tensor:
    """Share of each cell of a map that boxes [L, M, 4] cover, [L, M, cells, cells]."""
    edge = torch.arange(cells) * (side / cells)
    spans = [
        (torch.minimum(edge + side / cells, box[..., i + 2 : i + 3]) - torch.maximum(edge, box[..., i : i + 1])).clamp(min=0)
        for i in (0, 1)
    ]
    return spans[1].unsqueeze(-1) * spans[0].unsqueeze(-2) * (cells / side) ** 2


def learn(name: str, on: Bench, state: Path | None) -> Net:
    """An arm's net."""
    return training.train(name, on.given, on.params, on.repetition, state)


def chance(on: Bench) -> dict[str, float]:
    """Accuracy of guessing among zero-shot labels: what the figures without any evidence would be."""
    count = int(on.label_sets()["zero"].sum())
    return {f"zero_top{k}": min(1.0, k / count) for k in TOP}
