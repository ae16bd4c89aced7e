"""Recall@K of triplets, greedy in the order of scores, image by image; and accuracy with boxes given."""

import dataclasses

import torch
from torch import Tensor

from stages.papers.hcvrd import boxes


@dataclasses.dataclass(frozen=True)
class Truth:
    """Relations of one image: label [n], boxes sub, obj [n, 4]."""

    label: Tensor
    sub: Tensor
    obj: Tensor


def listed(scores: Tensor, most: int, per_pair: int = 0) -> tuple[Tensor, Tensor]:
    """(pair, label) of the best predictions of an image's pairs [P, L], highest score first, equal ones in their order.

    per_pair > 0: only so many labels a pair. Labels at -inf are never predicted.
    """
    if per_pair:
        kept = scores.argsort(dim=1, descending=True, stable=True)[:, :per_pair]
        scores = torch.full_like(scores, float("-inf")).scatter(1, kept, scores.gather(1, kept))
    flat = scores.flatten()
    order = flat.argsort(dim=0, descending=True, stable=True)[:most]
    order = order[flat[order] > float("-inf")]
    return order // scores.shape[1], order % scores.shape[1]


def match(label: Tensor, sub: Tensor, obj: Tensor, truth: Truth, least: float, phrase: bool = False) -> list[int]:
    """For each relation of an image the place of the prediction that finds it, -1 if none does.

    Predictions (label [n], boxes [n, 4]) come in the order of their scores; each takes the relation not yet found with its
    label that overlaps most, by the smaller of both overlaps, or for phrases by the union boxes', if that is `least` or more.
    """
    found = [-1] * len(truth.label)
    for place in torch.isin(label, truth.label).nonzero().flatten().tolist():
        name = int(label[place])
        free = [i for i, own in enumerate(truth.label.tolist()) if own == name and found[i] < 0]
        if not free:
            continue
        own_sub, own_obj = truth.sub[free], truth.obj[free]
        if phrase:
            shared = boxes.overlap(boxes.union(sub[place], obj[place]), boxes.union(own_sub, own_obj))
        else:
            shared = torch.minimum(boxes.overlap(sub[place], own_sub), boxes.overlap(obj[place], own_obj))
        best = int(shared.argmax())
        if shared[best] >= least:
            found[free[best]] = place
    return found


def recall_at(places: Tensor, k: int) -> float:
    """Share of relations found among the first K predictions of their images; places [n] of `match`."""
    return float(((places >= 0) & (places < k)).double().mean())


def ranks(scores: Tensor, label: Tensor) -> Tensor:
    """How many labels score higher than the true one, int64 [n] of scores [n, L]; L where the true one cannot be named."""
    own = scores.gather(1, label.unsqueeze(1))
    above = (scores > own).sum(1)
    return torch.where(own[:, 0] > float("-inf"), above, scores.shape[1])


def macro(hits: Tensor, label: Tensor) -> float:
    """Mean over labels of the share of hits bool [n] among each label's relations."""
    return float(torch.stack([hits[label == name].double().mean() for name in label.unique()]).mean())
