"""One-shot scores: the accuracy of each architecture's sub-network, with batch statistics and without dropout."""

from collections.abc import Sequence

import torch
from torch import nn

from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.papers.close.space import Architecture
from stages.papers.close.supernet import Supernet


@torch.no_grad()
def scores(
    net: Supernet, gate: nn.Module, architectures: Sequence[Architecture], split: Split, level: int,
    device: torch.device | str = "cpu", generator: torch.Generator | None = None, batch: int = 1000,
) -> list[float]:  # fmt: skip
    """Accuracies on held-out training images, in the order of the architectures; the modes are put back.

    The gate takes its most probable block, or with a generator draws one (official code). Batches are large, since BN uses
    the statistics of the batch. Raises StageError where a sub-network answers NaN.
    """
    modes = net.training, gate.training
    net.eval(), gate.eval()
    x, y, found = split.x.to(device), split.y.to(device), []
    for architecture in architectures:
        blocks = gate.decide(architecture, level, generator)
        logits = torch.cat([net(part, architecture, blocks) for part in x.split(batch)])
        if bool(logits.isnan().any()):
            raise StageError("a sub-network answers NaN; the supernet has diverged, lower supernet.lr")
        found.append(int((logits.argmax(1) == y).sum()) / len(y))
    net.train(modes[0]), gate.train(modes[1])
    return found
