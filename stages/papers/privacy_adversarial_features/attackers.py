"""Attackers and users of what is sent: classifiers of four families, fitted afresh; the most accurate one counts."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stages.lib import dependence
from stages.lib.adamw import AdamW
from stages.papers.privacy_adversarial_features import logistic
from stages.papers.privacy_adversarial_features.adversarial import Heads, losses
from stages.papers.privacy_adversarial_features.settings import Attack
from stages.papers.privacy_adversarial_features.supervised import falling

FAMILIES = ("linear", "rbf", "mlp", "neighbours")
HELD_OUT = 5  # one training sample in so many chooses width and ridge of the kernel machine

Target = tuple[Tensor, int]  # training labels (n,) and number of classes


def scaled(z: Tensor, z_eval: Tensor) -> tuple[Tensor, Tensor]:
    """Both (P, n, d) and (P, m, d) by the training samples' moments, in float64; what does not vary becomes 0."""
    z, z_eval = z.double(), z_eval.double()
    count = z.shape[-2]
    both = torch.cat((z, z_eval), -2) - z.mean(-2, keepdim=True)
    deviation = z.std(-2, correction=0, keepdim=True)
    both = both / torch.where(deviation > 1e-9, deviation, torch.inf)
    return both[..., :count, :], both[..., count:, :]


def predictions(z: Tensor, z_eval: Tensor, targets: Sequence[Target], params: Attack, seed: int) -> list[dict[str, Tensor]]:
    """For each target the labels (P, m) that each family predicts from z_eval (P, m, d), fitted to z (P, n, d)."""
    z, z_eval = scaled(z, z_eval)
    found = [{"linear": linear(z, z_eval, target, params), "mlp": mlp(z, z_eval, target, params, seed)} for target in targets]
    for name, values in by_distance(z, z_eval, targets, params).items():
        for place, value in enumerate(values):
            found[place][name] = value
    return found


def linear(z: Tensor, z_eval: Tensor, target: Target, params: Attack) -> Tensor:
    """Multinomial logistic regression."""
    weights = logistic.fit(z, *target, params.steps, params.decay)
    return (logistic.with_offset(z_eval) @ weights).argmax(-1)


def mlp(z: Tensor, z_eval: Tensor, target: Target, params: Attack, seed: int) -> Tensor:
    """A net of one hidden layer for each map, all trained at once on the same batches."""
    order, starts = (torch.Generator().manual_seed(seed + place) for place in range(2))
    z, z_eval, (y, classes) = z.float(), z_eval.float(), target
    nets = Heads(len(z), 1, z.shape[-1], params.hidden, classes, starts).to(z.device)
    optimiser = AdamW([(list(nets.weights), params.weight_decay), (list(nets.biases), 0.0)]).to(z.device)
    batches = -(-len(y) // params.batch)
    for step in range(params.epochs * batches):
        if step % batches == 0:
            places = torch.randperm(len(y), generator=order).to(y.device).split(params.batch)
        index = places[step % batches]
        losses(nets(z[:, index]), y[index]).sum().backward()
        optimiser.step(falling(params.lr, step, params.epochs * batches))
    with torch.no_grad():
        return nets(z_eval)[:, 0].argmax(-1)


def by_distance(z: Tensor, z_eval: Tensor, targets: Sequence[Target], params: Attack) -> dict[str, list[Tensor]]:
    """The kernel machine and the nearest neighbours, map by map: distances serve all targets."""
    rows: dict[str, list[list[Tensor]]] = {"rbf": [[] for _ in targets], "neighbours": [[] for _ in targets]}
    for own, others in zip(z, z_eval, strict=True):
        across = torch.cdist(others, own, compute_mode="donot_use_mm_for_euclid_dist").square()
        among = torch.cdist(own, own, compute_mode="donot_use_mm_for_euclid_dist").square()
        near = across.topk(min(params.neighbours, len(own)), largest=False).indices
        for place, (y, classes) in enumerate(targets):
            rows["neighbours"][place].append(functional.one_hot(y[near], classes).sum(1).argmax(-1))
        for place, found in enumerate(kernel_machine(among, across, targets, own.shape[-1], params)):
            rows["rbf"][place].append(found)
    return {name: [torch.stack(one) for one in values] for name, values in rows.items()}


def kernel_machine(among: Tensor, across: Tensor, targets: Sequence[Target], dims: int, params: Attack) -> list[Tensor]:
    """Labels (m,) for each target by a least-squares support vector machine with a Gaussian kernel.

    among, across: squared distances (n, n) of training samples and (m, n) to them. A width of 1 is exp(-|x - x'|^2 / d), as
    scikit-learn's SVC has by default. Where there is more than one width or ridge, one training sample in five chooses.
    """
    options = [(width, ridge) for width in params.widths for ridge in params.ridges]
    held = torch.arange(len(among), device=among.device) % HELD_OUT == 0
    chosen = [options[0]] * len(targets)
    if len(options) > 1:
        scores = torch.zeros(len(options), len(targets))
        for row, option in enumerate(options):
            told = _machine(among[~held][:, ~held], among[held][:, ~held], [(y[~held], c) for y, c in targets], dims, option)
            scores[row] = torch.tensor(
                [float((one == y[held]).double().mean()) for one, (y, _) in zip(told, targets, strict=True)]
            )
        chosen = [options[place] for place in scores.argmax(0).tolist()]
    found = {option: _machine(among, across, targets, dims, option) for option in dict.fromkeys(chosen)}
    return [found[option][place] for place, option in enumerate(chosen)]


def _machine(among: Tensor, across: Tensor, targets: Sequence[Target], dims: int, option: tuple[float, float]) -> list[Tensor]:
    scale = -1.0 / (dims * option[0] ** 2)
    hot = [functional.one_hot(y, classes).double() for y, classes in targets]
    means = [one.mean(0) for one in hot]
    joined = torch.cat([one - mean for one, mean in zip(hot, means, strict=True)], 1)
    told = (across * scale).exp() @ dependence.kernel_ridge((among * scale).exp(), joined, option[1])
    parts = told.split([classes for _, classes in targets], 1)
    return [(part + mean).argmax(1) for part, mean in zip(parts, means, strict=True)]
