"""What an operation is worth: how much worse the supernet answers held-out pictures without it (section 7)."""

import torch
from torch import Tensor, nn

from stages.lib.darts.genotype import CELLS
from stages.lib.data import Split
from stages.papers.eoinas.supernet import Supernet

Weights = dict[str, Tensor]


def without(weights: Weights, cell: str, edge: int, position: int) -> Weights:
    """The mixing weights [edges, operations] with one at 0 and the others of its edge raised to sum to 1 again."""
    changed = weights[cell].clone()
    changed[edge, position] = 0.0
    changed[edge] /= changed[edge].sum()
    return {**weights, cell: changed}


@torch.no_grad()
def answers(net: Supernet, weights: Weights, split: Split, device: torch.device, batch: int = 500) -> tuple[float, float]:
    """(accuracy, mean cross-entropy) of the supernet in eval mode."""
    net.eval()
    right, loss = 0, 0.0
    for start in range(0, len(split), batch):
        x, y = split.x[start : start + batch].to(device), split.y[start : start + batch].to(device)
        logits = net(x, weights)
        right += int((logits.argmax(1) == y).sum())
        loss += float(nn.functional.cross_entropy(logits, y, reduction="sum").double())
    return right / len(split), loss / len(split)


def worths(net: Supernet, weights: Weights, split: Split, device: torch.device) -> dict[str, list[float]]:
    """For every operation left on every edge, in order: the drop of accuracy and the rise of the loss without it."""
    accuracy, loss = answers(net, weights, split, device)
    found: dict[str, list[float]] = {"accuracy": [], "loss": []}
    for cell in CELLS:
        for edge, names in enumerate(net.kept[cell]):
            for position in range(len(names)):
                other = answers(net, without(weights, cell, edge, position), split, device)
                found["accuracy"].append(accuracy - other[0])
                found["loss"].append(other[1] - loss)
    return found
