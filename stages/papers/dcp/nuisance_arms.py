"""The arms of the generated demonstration: half of the channels stay, chosen by each loss, by L1 norm or by chance."""

from typing import TYPE_CHECKING

import torch

from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed
from stages.papers.dcp.nuisance_net import Generated, generate, train_head
from stages.papers.dcp.problem import LayerProblem, Objective, Solver
from stages.papers.dcp.selection import ChannelGroups, Limits, select

if TYPE_CHECKING:
    from stages.papers.dcp.nuisance import NuisanceParams

OBJECTIVES = {"dcp": Objective(1.0, 1.0), "reconstruction": Objective(1.0, 0.0), "cross_entropy": Objective(0.0, 1.0)}


def recalls(params: "NuisanceParams", repetition: int) -> dict[str, dict[str, float]]:
    """Arm -> {signal_recall, accuracy}: the share of signal channels among the C/2 kept, accuracy with those alone."""
    if params.channels < 2 or params.channels % 2:
        raise StageError(f"params.channels={params.channels}: expected an even number of 2 or more")
    net = generate(
        derive_seed(repetition, "nuisance"), channels=params.channels, outputs=params.outputs, classes=params.classes,
        images=params.images, side=params.side, signal=params.signal, noise=params.noise, nuisance=params.nuisance,
    )  # fmt: skip
    train_head(net, params.head_steps, params.head_lr, params.head_batch)
    whole, keep = net.layer.weight.detach().clone(), params.channels // 2
    with torch.no_grad():
        targets = net.layer(net.features)
    orders = {"l1": whole.abs().sum(dim=(0, 2, 3)), "random": torch.rand(params.channels)}
    found = {}
    for arm, objective in OBJECTIVES.items():
        net.layer.weight.data.copy_(whole)
        problem = LayerProblem(net.layer, net.run, net.features, targets, net.labels, objective)
        found[arm] = select(
            problem, ChannelGroups(), Limits(keep), Solver(params.lr, batch=params.batch, passes=params.passes)
        ).chosen
        found[arm] = _measured(net, found[arm])
    for arm, scores in orders.items():
        chosen = torch.zeros(params.channels, dtype=torch.bool)
        chosen[torch.sort(scores, descending=True, stable=True).indices[:keep]] = True
        net.layer.weight.data.copy_(whole * chosen[None, :, None, None])
        found[arm] = _measured(net, chosen)
    return found


def _measured(net: Generated, chosen: torch.Tensor) -> dict[str, float]:
    recall = int((chosen & net.signal).sum()) / int(net.signal.sum())
    return {"signal_recall": recall, "accuracy": net.accuracy()}
