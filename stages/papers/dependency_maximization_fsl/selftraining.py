"""Rounds of fitting, scoring and selecting for T tasks side by side, then the last fit (section 3.6)."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stages.papers.dependency_maximization_fsl import classifier, instance, objective, selection
from stages.papers.dependency_maximization_fsl.arms import Arm
from stages.papers.dependency_maximization_fsl.classifier import Labelled, Unlabelled
from stages.papers.dependency_maximization_fsl.settings import Tasks

State = tuple[Tensor, Tensor]  # W (T, N, d) and b (T, N)


@dataclass(frozen=True)
class Batch:
    """Features of T tasks: support (T, N*K, d) with labels (T, N*K), query (T, n_q, d), unlabelled (T, n_u, d).

    `each` is the number of unlabelled points a class, the largest quota (k_ub). noise (T, rounds, n_u) are the numbers
    that random selection goes by.
    """

    support: Tensor
    labels: Tensor
    query: Tensor
    unlabelled: Tensor
    each: int
    noise: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its tensors on a device."""
        moved = {key: value.to(device) for key, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)


@dataclass
class Outcome:
    """What an arm made of a batch: query classes (T, n_q); after every round the pseudo-labels and the selected (T, n_u)."""

    predicted: Tensor
    labels: list[Tensor] = field(default_factory=list)
    chosen: list[Tensor] = field(default_factory=list)


class Solver:
    """All arms of a batch; kernels, projections and first fits that several arms share are computed once."""

    def __init__(self, batch: Batch, params: Tasks, temperature: float, transductive: bool) -> None:
        how = params.fit.feature_norm
        self.params, self.temperature, self.each, self.noise = params, temperature, batch.each, batch.noise
        query = classifier.normed(batch.query, how, batch.query)
        pool = query if transductive else classifier.normed(batch.unlabelled, how, batch.unlabelled)
        support = classifier.normed(batch.support, how, batch.query if transductive else batch.unlabelled)
        self.query, self.pool = query, pool
        self.support = Labelled(support, batch.labels, torch.ones_like(batch.labels, dtype=support.dtype))
        self._kernels: dict[int, Tensor] = {}
        self._first: dict[tuple[str, int], State] = {}
        self._axes: Tensor | None = None

    def run(self, arm: Arm) -> Outcome:
        """Query predictions of an arm, with its rounds."""
        last = "ce" if self._inductive and arm.selection != "none" else arm.loss
        if arm.loss == "none":
            return Outcome(self._classes(self.query, self._fit("ce", self.query, self.support, steps=0)))
        if arm.selection == "none":
            points = self.pool if self._inductive else self.query
            steps = self.params.fit.steps * (self.params.rounds.rounds + 1) if arm.all_steps else None
            state = self._fit(arm.loss, points, self.support, steps) if steps else self._opening(arm.loss, points)
            return Outcome(self._classes(self.query, state))
        outcome = self._rounds(arm)
        state = self._fit(last, self.query, self._enlarged(outcome.chosen[-1], outcome.labels[-1]))
        outcome.predicted = self._classes(self.query, state)
        return outcome

    def _rounds(self, arm: Arm) -> Outcome:
        rounds, ways = self.params.rounds, self.params.ways
        loss = self._selection_loss(arm.loss)
        outcome = Outcome(torch.empty(0))
        chosen = torch.zeros(self.pool.shape[:2], dtype=torch.bool, device=self.pool.device)
        labels = torch.zeros_like(chosen, dtype=torch.long)
        active = torch.ones(len(chosen), 1, dtype=torch.bool, device=chosen.device)
        for number in range(rounds.rounds):
            active = active & (chosen.sum(1, keepdim=True) < ways * self.each)
            if not bool(active.any()):
                break
            state = (
                self._opening(loss, self.pool) if number == 0 else self._fit(loss, self.pool, self._enlarged(chosen, labels))
            )
            answers = classifier.logits(self.pool, *state)
            found = torch.where(active, answers.argmax(2), labels)
            quota = min(rounds.increment * (number + 1), self.each)
            grown = selection.grown(chosen, self._scores(arm, answers, found, number), found, ways, quota, ways * quota)
            grown = torch.where(active, grown, chosen)
            active = active & ~self._stops(grown, chosen, found, labels, number)
            chosen, labels = grown, found
            outcome.chosen.append(chosen)
            outcome.labels.append(labels)
        return outcome

    def _stops(self, grown: Tensor, chosen: Tensor, found: Tensor, labels: Tensor, number: int) -> Tensor:
        """Which tasks have come to rest, (T, 1)."""
        still = (grown == chosen).all(1, keepdim=True)
        same = (found == labels).all(1, keepdim=True) & (number > 0)
        return {"grow": still, "stable_labels": same, "either": still | same}[self.params.rounds.stop]

    def _scores(self, arm: Arm, answers: Tensor, labels: Tensor, number: int) -> Tensor:
        """(T, n_u): larger is more credible."""
        if arm.selection == "random":
            return self.noise[:, number]
        if arm.selection == "confidence":
            return answers.softmax(2).amax(2)
        if self._axes is None:
            self._axes = instance.principal(self.pool, self.params.rounds.components)
        return instance.scores(self._axes, labels, self.params.ways, self.params.rounds.rho)

    def _selection_loss(self, name: str) -> str:
        limit = self.params.rounds.kernel_limit
        return "mi" if limit and self.pool.shape[1] > limit and name in ("dm", "hybrid") else name

    @property
    def _inductive(self) -> bool:
        return self.params.rounds.final_unlabelled == "none"

    def _enlarged(self, chosen: Tensor, labels: Tensor) -> Labelled:
        """Support and selected points, with the latest pseudo-labels of all of them."""
        own = self.support
        return Labelled(
            torch.cat((own.features, self.pool), 1), torch.cat((own.labels, labels), 1),
            torch.cat((own.weights, chosen.to(own.weights.dtype)), 1),
        )  # fmt: skip

    def _opening(self, loss: str, points: Tensor) -> State:
        """The fit to the support alone, which arms share."""
        key = (loss, id(points))
        if key not in self._first:
            self._first[key] = self._fit(loss, points, self.support)
        return self._first[key]

    def _fit(self, name: str, points: Tensor, labelled: Labelled, steps: int | None = None) -> State:
        loss = objective.choose(name, self.params.fit, points.shape[1])
        kernel = self._kernel(points) if loss.dm else None
        return classifier.fit(
            labelled, Unlabelled(points, kernel), self.params.ways, self.temperature, loss, self.params.fit, steps
        )

    def _kernel(self, points: Tensor) -> Tensor:
        if id(points) not in self._kernels:
            self._kernels[id(points)] = objective.feature_kernel(points, self.params.fit.sigma_x)
        return self._kernels[id(points)]

    @staticmethod
    def _classes(points: Tensor, state: State) -> Tensor:
        return classifier.logits(points, *state).argmax(2)
