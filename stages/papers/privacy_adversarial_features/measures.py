"""The figures of every arm: accuracies by family, leakage and utility beside the raw features, area, cost, information."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.lib import dependence, hsic
from stages.lib.runtime import derive_seed
from stages.papers.privacy_adversarial_features import attackers, frontier
from stages.papers.privacy_adversarial_features.arms import FREE
from stages.papers.privacy_adversarial_features.learning import Found
from stages.papers.privacy_adversarial_features.maps import apply, cost
from stages.papers.privacy_adversarial_features.settings import Attack
from stages.papers.privacy_adversarial_features.tables import Task

PERMUTATIONS = 3
SAMPLES = 500  # of which information is told
RIDGE = 1e-2  # of the information that is told, of standardised z with the width of the attackers' kernel


@dataclass(frozen=True)
class Judged:
    """One label's accuracies (P,) by family, and the balanced accuracy (P,) of the most accurate family."""

    families: dict[str, Tensor]
    balanced: Tensor

    @property
    def best(self) -> Tensor:
        """The most accurate family's (P,)."""
        return torch.stack(list(self.families.values())).amax(0)


def judge(z: Tensor, z_eval: Tensor, task: Task, params: Attack, repetition: int) -> tuple[Judged, Judged]:
    """Utility and secret, of what P maps send: (P, n, d) to train on and (P, m, d) to measure on."""
    targets = [(task.u, task.utilities), (task.s, task.secrets)]
    seed = derive_seed(repetition, "attack")
    told = attackers.predictions(z, z_eval, targets, params, seed)
    judged = []
    for predicted, y in zip(told, (task.u_eval, task.s_eval), strict=True):
        families = frontier.accuracies(predicted, y)
        most = torch.stack([families[name] for name in predicted]).argmax(0)
        each = torch.stack([frontier.balanced(one, y) for one in predicted.values()])
        judged.append(Judged(families, each.gather(0, most[None])[0]))
    return judged[0], judged[1]


def excess_information(z: Tensor, y: Tensor, classes: int, random: torch.Generator) -> float:
    """Exact KDI of some samples (n, d) about their labels (n,), beyond the mean over permuted labels, its bias."""
    some = torch.randperm(len(y), generator=random)[:SAMPLES].to(y.device)
    z, y = z[some].double(), y[some]
    kernel = hsic.gaussian_kernel(hsic.standardised(z), [(z.shape[1] / 2) ** 0.5])
    shuffled = [y[torch.randperm(len(y), generator=random).to(y.device)] for _ in range(PERMUTATIONS)]
    targets = torch.stack([dependence.balanced_labels(labels, classes) for labels in (y, *shuffled)])
    told = dependence.kernel_information(kernel, targets, RIDGE)
    return float(told[0] - told[1:].mean())


def measure(task: Task, found: Found, place: int, params: Attack, repetition: int) -> dict[str, dict[str, float]]:
    """Metrics by arm. Arms with prices are compared at the price of `place`; all prices give their curve and its area."""
    owners = [(arm, price) for arm, maps in found.items() for price in range(len(maps))]
    sent = [torch.stack([apply(found[arm][price], x) for arm, price in owners]) for x in (task.train, task.evaluation)]
    utility, secret = judge(*sent, task, params, repetition)
    raw_u, raw_s = judge(task.train[None], task.evaluation[None], task, params, repetition)
    scale = Scale(task, float(raw_u.best), float(raw_s.best))
    row = {owner: number for number, owner in enumerate(owners)}
    dims = sent[0].shape[-1]
    rows = {"raw": {**scale.figures(raw_u, raw_s, 0), **cost([task.train.shape[1]]), **scale.facts(),
                    **_excess(task, task.evaluation, repetition)}}  # fmt: skip
    rows["raw"]["area"] = frontier.area([(1.0, 1.0)])
    for arm, maps in found.items():
        own = min(place, len(maps) - 1)
        sizes = [task.train.shape[1], *([maps[own][0].shape[1]] if len(maps[own]) == 3 else []), dims]
        points = [scale.point(utility, secret, row[arm, price]) for price in range(len(maps))]
        at = row[arm, own]
        rows[arm] = {**scale.figures(utility, secret, at), **cost(sizes), **_excess(task, sent[1][at], repetition)}
        rows[arm]["area"] = frontier.area(points)
        if len(maps) > 1:
            for price in range(len(maps)):
                rows[arm][f"utility_{price}"] = float(utility.best[row[arm, price]])
                rows[arm][f"sensitive_{price}"] = float(secret.best[row[arm, price]])
    for arm, of in FREE.items():
        rows[arm] = {**scale.figures(utility, secret, row[of, 0]), **_excess(task, sent[1][row[of, 0]], repetition)}
    return rows


def _excess(task: Task, z: Tensor, repetition: int) -> dict[str, float]:
    random = torch.Generator().manual_seed(derive_seed(repetition, "permuted"))
    return {"excess_information": excess_information(z, task.s_eval, task.secrets, random)}


class Scale:
    """What accuracies mean on one task: majority rates, accuracies on the raw features."""

    def __init__(self, task: Task, raw_utility: float, raw_secret: float) -> None:
        self.task, self.raw = task, (raw_utility, raw_secret)
        self.chance = (majority(task.u, task.u_eval), majority(task.s, task.s_eval))

    def facts(self) -> dict[str, float]:
        """Majority rates of both labels, what u alone tells of s, features left out because they are constant."""
        return {"utility_chance": self.chance[0], "sensitive_chance": self.chance[1], "bayes_leak": self.task.bayes_leak,
                "constant_features": float(self.task.constant)}  # fmt: skip

    def point(self, utility: Judged, secret: Judged, at: int) -> tuple[float, float]:
        """(utility retained, leakage) of one map."""
        return (
            frontier.normalised(float(utility.best[at]), self.chance[0], self.raw[0]),
            frontier.normalised(float(secret.best[at]), self.chance[1], self.raw[1]),
        )

    def figures(self, utility: Judged, secret: Judged, at: int) -> dict[str, float]:
        """Accuracies of one map, by family and of the best one, and what they mean."""
        kept, leaked = self.point(utility, secret, at)
        values = {f"sensitive_{family}": float(one[at]) for family, one in secret.families.items()}
        values |= {f"utility_{family}": float(one[at]) for family, one in utility.families.items()}
        worst = float(secret.best[at])
        return {
            **values, "utility": float(utility.best[at]), "sensitive": worst, "retained": kept, "leakage": leaked,
            "beyond_linear": worst - values["sensitive_linear"],
            "utility_balanced": float(utility.balanced[at]), "sensitive_balanced": float(secret.balanced[at]),
        }  # fmt: skip


def majority(y: Tensor, measured: Tensor) -> float:
    """Accuracy on `measured` of always answering the class that is most frequent in y."""
    return float((measured == torch.bincount(y).argmax()).double().mean())
