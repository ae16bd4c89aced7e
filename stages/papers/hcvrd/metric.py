"""The common space: squared distances, their losses, prototypes of labels and what they are without web images."""

import torch
from torch import Tensor
from torch.nn import functional as F


def distances(one: Tensor, other: Tensor) -> Tensor:
    """d = ||f - g||^2 [n, m] of points [n, k] and [m, k]; the encoders' last layer is the metric's linear map."""
    squares = one.square().sum(1, keepdim=True) + other.square().sum(1) - 2 * one @ other.T
    return squares.clamp(min=0.0)


def triplet(d: Tensor, target: Tensor, margin: float) -> Tensor:
    """Mean of max(0, m + d(f, g+) - d(f, g-)), g- the nearest negative that is farther than g+, or the nearest of all.

    d [n, m]; target int64 [n], the column of the positive.
    """
    positive = d.gather(1, target.unsqueeze(1))
    own = F.one_hot(target, d.shape[1]).bool()
    others = d.masked_fill(own, float("inf"))
    farther = others.masked_fill(others <= positive, float("inf")).min(1, keepdim=True).values
    negative = torch.where(farther.isfinite(), farther, others.min(1, keepdim=True).values)
    return (margin + positive - negative).clamp(min=0.0).mean()


def loss(d: Tensor, target: Tensor, kind: str, temperature: float, margin: float) -> Tensor:
    """Loss of distances [n, m] to the step's prototypes: cross entropy of -d / temperature, or triplet."""
    return triplet(d, target, margin) if kind == "triplet" else F.cross_entropy(-d / temperature, target)


def remembered(memory: Tensor, names: Tensor, g: Tensor, keep: float = 0.9) -> Tensor:
    """Prototypes [L, k] of all labels: g [b, k] for the step's own labels [b], running ones for the others, which no gradient
    reaches. The running ones are moved: P <- .9 P + .1 g, normalised.
    """
    found = memory.clone()
    found[names] = g
    memory[names] = F.normalize(keep * memory[names] + (1 - keep) * g.detach(), dim=1)
    return found


def class_means(points: Tensor, label: Tensor, count: int) -> Tensor:
    """Normalised means [count, k] of points [n, k] by label; 0 where a label has none."""
    totals = torch.zeros(count, points.shape[1], device=points.device)
    for number in label.unique().tolist():  # index_add_ is not deterministic everywhere
        totals[number] = points[label == number].mean(0)
    return F.normalize(totals, dim=1)


def composed(prototypes: Tensor, triplets: Tensor, seen: Tensor) -> Tensor:
    """Prototypes [L, k] in which labels that are not seen get what those sharing a part have in common.

    P = mean of the same subject + of the same predicate + of the same object - 2 mean of all, normalised; what can be said of
    an unseen label without any evidence of its own. triplets int64 [L, 3]; seen bool [L].
    """
    known, mean = prototypes[seen], prototypes[seen].mean(0)
    found = prototypes.clone()
    for place in (~seen).nonzero().flatten().tolist():
        same = [known[triplets[seen][:, part] == triplets[place, part]] for part in range(3)]
        parts = [rows.mean(0) if len(rows) else mean for rows in same]
        found[place] = F.normalize(parts[0] + parts[1] + parts[2] - 2 * mean, dim=0)
    return found
