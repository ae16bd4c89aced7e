"""The learning rate of pre-training, what decays, and rates that fall from layer to layer."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from stages.lib.adamw import AdamW

if TYPE_CHECKING:
    from stages.papers.milan.encoder import Classifier
    from stages.papers.milan.settings import Descent

Groups = list[tuple[list[nn.Parameter], float]]


def rate(descent: "Descent", steps: int) -> Callable[[int], float]:
    """Learning rate by step of a run with `steps` steps a pass: linear from 0 to lr in `warmup` passes, then cosine to 0."""

    def at(step: int) -> float:
        epoch = step / steps
        if epoch < descent.warmup:
            return descent.lr * epoch / descent.warmup
        return descent.lr * 0.5 * (1.0 + math.cos(math.pi * (epoch - descent.warmup) / (descent.epochs - descent.warmup)))

    return at


def groups(net: nn.Module, decay: float) -> Groups:
    """Parameters of two and more dimensions decay, vectors do not; frozen ones are left out."""
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    return [([p for p in trained if p.ndim > 1], decay), ([p for p in trained if p.ndim <= 1], 0.0)]


class LayerwiseAdamW(nn.Module):
    """AdamW whose rate falls by a factor from the head down: decay^(L + 1 - i), i = 0 for the stem, L + 1 for the head."""

    def __init__(self, net: "Classifier", weight_decay: float, layer_decay: float) -> None:
        super().__init__()
        layers = [net.encoder.stem, *net.encoder.blocks, nn.ModuleList([net.norm, net.head])]
        self.scales = [layer_decay ** (len(layers) - 1 - i) for i in range(len(layers))]
        self.parts = nn.ModuleList(AdamW(groups(layer, weight_decay)) for layer in layers)

    @property
    def held(self) -> list[nn.Parameter]:
        """All parameters."""
        return [parameter for part in self.parts for parameter in part.held]

    def step(self, lr: float) -> None:
        """One update; the gradients are dropped."""
        for part, scale in zip(self.parts, self.scales, strict=True):
            part.step(lr * scale)
