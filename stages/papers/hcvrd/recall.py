"""Recall@K of triplets, greedy in the order of scores, image by image; and accuracy with boxes given."""

import torch
from torch import Tensor

from stages.papers.hcvrd import boxes


def shared(sub: Tensor, obj: Tensor, own_sub: Tensor, own_obj: Tensor, phrase: bool = False) -> Tensor:
    """How well each pair of boxes [P, 4] fits each relation's [m, 4], float32 [P, m]: the smaller overlap of subject and
    object, or for phrases that of the union boxes.
    """
    if phrase:
        return boxes.overlap(boxes.union(sub, obj).unsqueeze(1), boxes.union(own_sub, own_obj))
    return torch.minimum(boxes.overlap(sub.unsqueeze(1), own_sub), boxes.overlap(obj.unsqueeze(1), own_obj))


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


def match(label: Tensor, fit: Tensor, wanted: Tensor, least: float) -> list[int]:
    """For each relation of an image, with labels `wanted` [m], the place of the prediction that finds it, -1 if none does.

    Predictions (label [n], fit [n, m] as `shared`) come in the order of their scores; each takes the relation not yet found
    with its label that it fits best, if that is `least` or more.
    """
    found, names = [-1] * len(wanted), wanted.tolist()
    places = torch.isin(label, wanted).nonzero().flatten()
    for place, name, row in zip(places.tolist(), label[places].tolist(), fit[places].tolist(), strict=True):
        free = [i for i, own in enumerate(names) if own == name and found[i] < 0 and row[i] >= least]
        if free:
            found[max(free, key=row.__getitem__)] = place
    return found


def within(places: Tensor, k: int) -> Tensor:
    """Which relations are among the first K predictions of their images, bool [n] of places [n]; Recall@K is their share."""
    return (places >= 0) & (places < k)


def ranks(scores: Tensor, label: Tensor) -> Tensor:
    """How many labels score higher than the true one, int64 [n] of scores [n, L]; L where the true one cannot be named."""
    own = scores.gather(1, label.unsqueeze(1))
    above = (scores > own).sum(1)
    return torch.where(own[:, 0] > float("-inf"), above, scores.shape[1])


def macro(hits: Tensor, label: Tensor) -> float:
    """Mean over labels of the share of hits bool [n] among each label's relations."""
    return float(torch.stack([hits[label == name].double().mean() for name in label.unique()]).mean())
