"""Figures of an arm: accuracy, sizes, and the diversity of its tokens before and after training."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.lib import macs
from stages.lib.data import Split
from stages.lib.training import evaluate
from stages.papers.augmented_shortcuts import diversity

if TYPE_CHECKING:
    from stages.papers.augmented_shortcuts.net import AugVit


def deep(profile: Tensor) -> dict[str, float]:
    """Mean of every measure over the second half of the blocks, from a profile [measures, L + 1]."""
    depth = profile.shape[-1] - 1
    means = profile[:, depth - depth // 2 + 1 :].mean(-1) if depth > 1 else profile[:, -1]
    return dict(zip(diversity.MEASURES, means.tolist(), strict=True))


class Probe:
    """A fixed batch of images on which nets are measured."""

    def __init__(self, split: Split, count: int, device: torch.device | str = "cpu") -> None:
        self.images = split.x[:count].to(device)

    def __call__(self, net: "AugVit", when: str) -> tuple[dict[str, float], Tensor]:
        """(figures, profile [measures, L + 1]) of a net; figures are those of the deeper half, named `<when>_<measure>`.

        `growth` is r there over r of the tokens that enter the first block.
        """
        profile = diversity.profile(net, self.images)
        values = {f"{when}_{name}": value for name, value in deep(profile).items()}
        values[f"{when}_growth"] = values[f"{when}_residual"] / float(profile[0, 0])
        values[f"{when}_path_ratio"] = diversity.path_ratio(net, self.images)
        return values, profile


def sizes(net: "AugVit") -> dict[str, float]:
    """Parameters, and MACs with circulant projections computed densely, by the closed form."""
    cost = macs.total(net.record())
    return {"parameters": cost.params, "macs": cost.macs}


def accuracies(net: "AugVit", fitted: Split, tested: Split, device: torch.device | str) -> dict[str, float]:
    """Share of images classified rightly, among those of the training and of the evaluation."""
    return {"accuracy": evaluate(net, tested, device), "accuracy_fitted": evaluate(net, fitted, device)}
