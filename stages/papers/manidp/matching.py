"""Thresholds for a given budget of MACs, so that arms are compared at equal realised cost, not at equal keep rate."""

import torch
from torch import Tensor

from stages.lib.errors import StageError
from stages.papers.manidp.cost import CostModel, cost_model
from stages.papers.manidp.gated import GatedNet
from stages.papers.manidp.thresholds import graded

HALVINGS = 12
BATCH = 500


def check_budget(budget: float, least: float) -> None:
    """StageError unless the share of the dense net's MACs is at most 1 and above what no gate can save."""
    if not least < budget <= 1.0:
        raise StageError(f"params.budget={budget}: expected a share of the dense MACs in ({least:.3f}, 1]; "
                         "stem, shortcuts, classifier and gates alone cost the lower end")  # fmt: skip


def freeze_at(net: GatedNet, budget: float) -> None:
    """One mask for all images from the mean saliencies of the gates, as open as the budget allows (static pruning)."""
    means, cost = [gate.average() for gate in net.gates], cost_model(net)
    check_budget(budget, cost.fixed / cost.dense)

    def share(opening: float) -> float:
        counts = torch.tensor([[int((mu >= graded(mu, opening)).sum()) for mu in means]])
        return float(cost.of_counts(counts, gates=False)) / cost.dense

    opening = _largest(share, budget)
    for gate, mu in zip(net.gates, means, strict=True):
        gate.mean.copy_(mu)
        gate.threshold.copy_(graded(mu, opening))
        gate.frozen.fill_(True)


@torch.no_grad()
def thresholds_at(net: GatedNet, x: Tensor, budget: float) -> list[Tensor]:
    """A threshold a gate so that images x [N, C, H, W] cost the budget on average; the net is left as it was.

    All layers open by the same share of their channels, ranked by the mean saliency over x under the present masks.
    """
    cost, present = cost_model(net), [gate.threshold.clone() for gate in net.gates]
    check_budget(budget, (cost.fixed + cost.gates) / cost.dense)
    means = mean_saliencies(net, x)

    def set_opening(opening: float) -> list[Tensor]:
        chosen = [graded(mu, opening) for mu in means]
        restore(net, chosen)
        return chosen

    def share(opening: float) -> float:
        set_opening(opening)
        return mean_share(net, x, cost)

    chosen = set_opening(_largest(share, budget))
    restore(net, present)
    return chosen


def _largest(share, budget: float) -> float:
    """The largest opening in [0, 1] whose share of MACs is within the budget, by bisection."""
    low, high = 0.0, 1.0
    if share(high) <= budget:
        return high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) <= budget else (low, middle)
    return low


def restore(net: GatedNet, chosen: list[Tensor]) -> None:
    """Set the gates' thresholds."""
    for gate, value in zip(net.gates, chosen, strict=True):
        gate.threshold.copy_(value)


@torch.no_grad()
def mean_saliencies(net: GatedNet, x: Tensor) -> list[Tensor]:
    """mu [channels] of each gate over the images x, in eval mode."""
    net.eval()
    parts = [net.trace(part)[1].saliencies for part in x.split(BATCH)]
    return [torch.cat(layer).mean(0) for layer in zip(*parts, strict=True)]


@torch.no_grad()
def mean_share(net: GatedNet, x: Tensor, cost: CostModel) -> float:
    """Mean MACs of the images x under the present thresholds, as a share of the dense net's."""
    net.eval()
    total = sum(int(cost.per_image(net.trace(part)[1]).sum()) for part in x.split(BATCH))
    return total / len(x) / cost.dense
