"""Which unlabelled points join the labelled ones: by a score, under quotas for classes and in all (section 3.6)."""

import torch
from torch import Tensor


def grown(chosen: Tensor, scores: Tensor, labels: Tensor, ways: int, quota: int, most: int) -> Tensor:
    """The points chosen so far (T, n, bool) and those that one round adds.

    In the order of their scores, points are added whose pseudo-class has fewer than `quota` chosen ones, until there are
    `most` in all. Points keep their place whatever their labels become.
    """
    order = scores.sort(dim=1, descending=True, stable=True).indices
    hot = torch.nn.functional.one_hot(labels, ways)
    taken = (hot * chosen.unsqueeze(2)).sum(1)  # (T, N)
    waiting = torch.gather(~chosen, 1, order)
    classes = torch.gather(labels, 1, order)
    candidates = torch.nn.functional.one_hot(classes, ways) * waiting.unsqueeze(2)
    before = torch.gather(candidates.cumsum(1) - candidates, 2, classes.unsqueeze(2)).squeeze(2)
    allowed = waiting & (before + torch.gather(taken, 1, classes) < quota)
    room = most - chosen.sum(1, keepdim=True)
    allowed &= allowed.cumsum(1) <= room
    return chosen.scatter(1, order, torch.gather(chosen, 1, order) | allowed)
