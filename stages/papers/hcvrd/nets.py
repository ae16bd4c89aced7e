"""The parts of the arms: the encoder of a region, the encoder of web bags, and the nets that they make up."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.papers.hcvrd import boxes
from stages.papers.hcvrd.arms import Arm
from stages.papers.hcvrd.attention import Attention, bag
from stages.papers.hcvrd.context import ContextLayer
from stages.papers.hcvrd.relations import Labels

if TYPE_CHECKING:
    from stages.papers.hcvrd.settings import Context, Metric


class RegionEncoder(nn.Module):
    """f: a region's map, averaged to cells x cells, and the pair's geometry to a point [n, k]; not normalised."""

    def __init__(self, channels: int, out: int, settings: "Metric") -> None:
        super().__init__()
        self.cells = settings.cells
        self.first = nn.Linear(channels * settings.cells**2 + boxes.GEOMETRY, settings.hidden)
        self.second = nn.Linear(settings.hidden, out)

    def forward(self, maps: Tensor, geometry: Tensor) -> Tensor:
        """Points of maps [n, D, h, w] and spatial vectors [n, 7]."""
        x = torch.cat([F.adaptive_avg_pool2d(maps, self.cells).flatten(1), geometry], 1)
        return self.second(F.relu(self.first(x)))


class WebEncoder(nn.Module):
    """u and g: attention over each image, a mean over the bag, and a projection [b, k] of it."""

    def __init__(self, channels: int, settings: "Metric", attention: bool) -> None:
        super().__init__()
        self.attention = Attention(channels, attention)
        self.first = nn.Linear(channels, settings.hidden)
        self.second = nn.Linear(settings.hidden, settings.width)

    def evidence(self, maps: Tensor) -> Tensor:
        """u [b, D] of bags of maps [b, B, D, h, w]."""
        return bag(self.attention(maps.flatten(0, 1)).unflatten(0, maps.shape[:2]))

    def forward(self, u: Tensor) -> Tensor:
        """g [b, k], of length 1."""
        return F.normalize(self.second(F.relu(self.first(u))), dim=1)


class Net(nn.Module):
    """What an arm learns; parts that it does not use are absent."""

    def __init__(self, arm: Arm, channels: int, labels: Labels, metric: "Metric", context: "Context") -> None:
        super().__init__()
        count, predicates = len(labels.kind), len(labels.words[1])
        seen, width = int(labels.seen.sum()), metric.width
        if arm.kind in ("metric", "annotated"):
            self.region = RegionEncoder(channels, width, metric)
            self.head = nn.Linear(width, seen)  # of seen labels, on f before it is normalised
        if arm.kind == "annotated":
            self.register_buffer("memory", torch.zeros(seen, width))  # running prototypes
        if arm.kind == "metric":
            self.web = WebEncoder(channels, metric, arm.attention)
            self.classifier = nn.Linear(channels, count)
        if arm.kind in ("web", "mixture"):
            self.attention = Attention(channels, arm.attention)
            self.classifier = nn.Linear(channels, count)
        if arm.kind in ("classifier", "factorised"):
            self.region = RegionEncoder(channels, seen if arm.kind == "classifier" else predicates, metric)
        if arm.kind == "context":
            self.context = ContextLayer(channels, predicates, context.words, context.rank)
        if arm.kind == "language":
            self.words = nn.Linear(len(labels.words[0]) + len(labels.words[2]), predicates)
