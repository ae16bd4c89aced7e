"""From a trained arm to scores of labels for pairs of boxes: S = det(s) det(o) softmax(-d / tau) over the admissible labels."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.papers.hcvrd import metric
from stages.papers.hcvrd.arms import COMPOSED, Arm
from stages.papers.hcvrd.nets import Net
from stages.papers.hcvrd.relations import Labels, Pairs
from stages.papers.hcvrd.settings import Metric
from stages.papers.hcvrd.training import Learning

NEVER = float("-inf")


@torch.no_grad()
def prototypes(net: Net, arm: Arm, given: Learning, settings: Metric) -> Tensor | None:
    """P [L, k], None for arms without a metric; made anew from all that is known of each label: the mean of g over bags of its
    web images in their order, or without web images the mean of f, and for zero-shot labels what labels that share parts have
    in common.
    """
    labels = given.labels
    if arm.kind not in ("metric", "annotated"):
        return None
    if arm.kind == "annotated":
        f = torch.cat([F.normalize(net.region(*one), dim=1) for one in zip(given.maps, given.geometry, strict=True)])
        means = metric.class_means(f, given.label.repeat(len(given.maps)), len(labels.kind))
        device = means.device
        return metric.composed(means, labels.triplets.to(device), labels.seen.to(device))
    size, found = settings.bag if arm.grouped else 1, []
    for maps, good in zip(given.web, given.good, strict=True):
        maps = maps[good] if arm.clean else maps
        bags = maps[: max(len(maps) // size, 1) * size].unflatten(0, (-1, min(size, len(maps))))
        found.append(F.normalize(net.web(net.web.evidence(bags)).mean(0), dim=0))
    return torch.stack(found)


@torch.no_grad()
def visual(
    net: Net, arm: Arm, given: Learning, settings: Metric, maps: Tensor, geometry: Tensor, points: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """(scores [K, L], logits of seen labels [K, C] where an arm has them) of maps [K, D, h, w] and geometry [K, 7].

    `points` are the arm's `prototypes`. Scores are logits, or log probabilities of the predicate for arms of COMPOSED; -inf
    where an arm cannot name a label.
    """
    labels, device = given.labels, maps.device
    triplets, count = labels.triplets.to(device), len(labels.kind)
    if arm.kind in ("metric", "annotated"):
        f = net.region(maps, geometry)
        d = metric.distances(F.normalize(f, dim=1), points)
        return -d / settings.temperature, net.head(f)
    if arm.kind in ("web", "mixture"):
        return net.classifier(net.attention(maps)), None
    if arm.kind == "classifier":
        scores = torch.full((len(maps), count), NEVER, device=device)
        scores[:, labels.seen.to(device)] = net.region(maps, geometry)
        return scores, None
    if arm.kind == "frequency":
        return labels.count.to(device).float().log().expand(len(maps), -1), None
    if arm.kind == "factorised":
        return net.region(maps, geometry).log_softmax(1)[:, triplets[:, 1]], None
    return in_context(net, arm, given, maps, triplets), None


def in_context(net: Net, arm: Arm, given: Learning, maps: Tensor, triplets: Tensor) -> Tensor:
    """log p(predicate | words, region) [K, L], each label under its own subject and object."""
    scores = torch.full((len(maps), len(triplets)), NEVER, device=maps.device)
    for pair in triplets[:, [0, 2]].unique(dim=0).tolist():
        chosen = ((triplets[:, 0] == pair[0]) & (triplets[:, 2] == pair[1])).nonzero().flatten()
        if arm.kind == "context":
            words = torch.cat([given.words[0][pair[0]], given.words[1][pair[1]]])
            logits = net.context(maps, words.expand(len(maps), -1))
        else:
            sizes = [len(words) for words in given.labels.words]
            words = torch.zeros(sizes[0] + sizes[2], device=maps.device)
            words[pair[0]] = words[sizes[0] + pair[1]] = 1.0
            logits = net.words(words).expand(len(maps), -1)
        scores[:, chosen] = logits.log_softmax(1)[:, triplets[chosen, 1]]
    return scores


def combined(
    arm: Arm, scores: Tensor, head: Tensor | None, labels: Labels, pairs: Pairs, admissible: Tensor, seen_share: float
) -> Tensor:
    """log S [K, L] of pairs over a label set bool [L]; -inf outside it. The classifier of seen labels has its share of their
    mass, so that adding it moves nothing between seen and zero-shot labels.
    """
    device = scores.device
    inside, seen = admissible.to(device), labels.seen.to(device)
    found = scores.masked_fill(~inside, NEVER)
    if arm.kind not in COMPOSED:
        possible = found.isfinite().any(1, keepdim=True)
        found = torch.where(possible, found.log_softmax(1), found)
    if head is not None and seen_share and bool((inside & seen).any()):
        mass = found[:, seen].logsumexp(1, keepdim=True)
        own = head.masked_fill(~inside[seen], NEVER).log_softmax(1) + mass
        both = torch.stack([found[:, seen].exp() * (1 - seen_share), own.exp() * seen_share]).sum(0)
        found = found.clone()
        found[:, seen] = both.log()
    triplets = labels.triplets.to(device)
    return found + pairs.sub_score.to(device)[:, triplets[:, 0]] + pairs.obj_score.to(device)[:, triplets[:, 2]]
