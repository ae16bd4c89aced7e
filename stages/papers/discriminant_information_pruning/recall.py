"""Which of the generated channels each score keeps, and what a ridge classifier makes of them."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.lib import discriminant
from stages.lib.checks import at_least
from stages.lib.discriminant import Discriminant
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed
from stages.papers.discriminant_information_pruning import information
from stages.papers.discriminant_information_pruning.generator import Generated, generate

if TYPE_CHECKING:
    from stages.papers.discriminant_information_pruning.channels import ChannelParams

ARMS = ("di_exact", "di", "fisher", "variance", "l1", "random")


def recalls(params: "ChannelParams", repetition: int) -> dict[str, dict[str, float]]:
    """Arm -> {channel_recall, information_kept, ridge_accuracy}, means over `params.draws` problems."""
    at_least("draws", params.draws, 1)
    if params.ridge not in information.RIDGES:
        raise StageError(f"params.ridge={params.ridge}: expected one of {', '.join(information.RIDGES)}")
    total: dict[str, dict[str, float]] = {arm: {} for arm in ARMS}
    for draw in range(params.draws):
        problem = generate(params, derive_seed(repetition, "channels", draw))
        found = information.of_maps(problem.features, problem.labels, params.classes, params)
        for arm, order in orders(problem, found, params.classes, derive_seed(repetition, "random arm", draw)).items():
            kept = order[: params.informative].sort().values
            for name, value in measured(problem, found, kept, params).items():
                total[arm][name] = total[arm].get(name, 0.0) + value / params.draws
    return total


def orders(problem: Generated, found: Discriminant, classes: int, seed: int) -> dict[str, Tensor]:
    """Channels (C,) by falling worth, for every arm; `di_exact` takes them away one by one."""
    rows = found.rows
    falling = {
        "di": found.mask_gradient(),
        "fisher": fisher_ratios(rows, problem.labels, classes),
        "variance": rows.square().sum((0, 2)),
        "l1": problem.features.abs().sum((0, 2)),
        "random": torch.rand(rows.shape[1], generator=torch.Generator().manual_seed(seed)),
    }
    sorts = {arm: torch.sort(scores, descending=True, stable=True).indices for arm, scores in falling.items()}
    return {"di_exact": found.elimination_order(), **sorts}


def fisher_ratios(rows: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Between-class over within-class scatter of every channel by itself (C,); rows (N, C, P) are centred."""
    means = torch.stack([rows[labels == k].mean(0) for k in range(classes)])
    counts = labels.bincount(minlength=classes).to(rows).view(-1, 1, 1)
    between = (counts * means.square()).sum((0, 2))
    return between / (rows - means[labels]).square().sum((0, 2))


def measured(problem: Generated, found: Discriminant, kept: Tensor, params: "ChannelParams") -> dict[str, float]:
    """Share of the informative channels kept (a copy stands for its original), share of DI kept, accuracy on a new draw."""
    carried = problem.carries[kept].unique()
    small = discriminant.analyse(problem.features[:, kept], problem.labels, params.classes, found.rho)
    centre = problem.features[:, kept].mean(0)
    answers = (problem.test_features[:, kept] - centre).flatten(1) @ small.weights.flatten(0, 1)
    answers = answers + problem.labels.bincount(minlength=params.classes) / len(problem.labels)
    right = answers.argmax(1) == problem.test_labels
    return {
        "channel_recall": int((carried >= 0).sum()) / params.informative,
        "information_kept": small.value / found.value,
        "ridge_accuracy": int(right.sum()) / len(right),
    }
