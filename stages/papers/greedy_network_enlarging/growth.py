"""One step of the greedy search without its evaluations: budgets, moves, candidates of (almost) equal MACs, the winner.

The search of the paper was reconstructed from its abstract; only the nets that it found were released (specification,
section 3). Everything here is exact arithmetic on allocations, so every job of a fan-out derives the same candidates.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.lib.stage import StageError
from stages.papers.greedy_network_enlarging.allocation import DIMENSIONS, Allocation, Slot, slots
from stages.papers.greedy_network_enlarging.settings import Search
from stages.papers.greedy_network_enlarging.space import Space

WIDEST = 0.5  # a tolerance beyond which nets are no longer of comparable size


def budgets(base: int, target: float, steps: int) -> list[float]:
    """T_k = M_0 (T / M_0)^(k / N) for k = 1..N: equal ratios, the last one T exactly."""
    return [base * target ** (k / steps) if k < steps else base * target for k in range(1, steps + 1)]


def grow(space: Space, net: Allocation, slot: Slot, budget: float, search: Search) -> Allocation | None:
    """The net with one dimension enlarged, step by step, to the MACs nearest to the budget; no other one changes.

    None where the net as it is comes nearest (one block may overshoot): an unchanged net would win and stall the search.
    """
    value = net.value(slot)
    best, gap = net, abs(space.macs(net) - budget)
    while (value := _next(space, slot, value, search.step.of(slot.dimension))) <= search.most.of(slot.dimension):
        found = net.with_value(slot, value)
        cost = space.macs(found)
        if abs(cost - budget) < gap:
            best, gap = found, abs(cost - budget)
        if cost > budget:  # MACs only rise with every further step
            break
    return None if best == net else best


def _next(space: Space, slot: Slot, value: int, step: int) -> int:
    """The next size that differs from `value` once widths are rounded."""
    raised = value + step
    while space.effective(slot, raised) <= value:
        raised += step
    return space.effective(slot, raised)


@dataclass(frozen=True)
class Candidate:
    """What a slot gives at a step; `net` is None where it cannot come near the budget."""

    slot: Slot
    net: Allocation | None
    macs: int


@dataclass(frozen=True)
class Round:
    """The candidates of one step: all 2 S + 1 slots, in their order, at one budget and tolerance."""

    budget: float
    delta: float
    candidates: tuple[Candidate, ...]

    @property
    def feasible(self) -> list[Candidate]:
        """Those that are compared."""
        return [candidate for candidate in self.candidates if candidate.net is not None]


def candidates(space: Space, net: Allocation, budget: float, search: Search) -> Round:
    """All moves from `net` to the budget. Those further from it than delta are dropped; if that leaves none, delta doubles.

    StageError where there is still none at a tolerance of `WIDEST`.
    """
    grown = [(slot, grow(space, net, slot, budget, search)) for slot in slots(net.stages)]
    if not any(found for _, found in grown):
        raise StageError(
            f"no dimension can be enlarged from {space.macs(net)} towards {budget:.0f} MACs: the candidate list is empty; "
            "raise search.most, take smaller search.step, or fewer steps"
        )
    delta = search.delta
    while not any(found and _near(space, found, budget, delta) for _, found in grown):
        if delta >= WIDEST:
            raise StageError(
                f"no candidate comes within {WIDEST:.0%} of {budget:.0f} MACs: the candidate list is empty; "
                "take smaller search.step, or fewer steps"
            )
        delta = min(2.0 * delta, WIDEST)
    kept = (
        Candidate(slot, found if found and _near(space, found, budget, delta) else None, space.macs(found) if found else 0)
        for slot, found in grown
    )
    return Round(budget, delta, tuple(kept))


def _near(space: Space, net: Allocation, budget: float, delta: float) -> bool:
    return abs(space.macs(net) - budget) <= delta * budget


def rank(space: Space, budget: float, slot: Slot, net: Allocation, score: float) -> tuple:
    """Sorts the winner first: highest score; of equal ones nearest to the budget, fewest parameters, first stage, and
    depth before width before resolution.
    """
    stage = slot.stage if slot.stage >= 0 else net.stages
    gap = abs(space.macs(net) - budget)
    return (-score, gap, space.parameters(net), stage, DIMENSIONS.index(slot.dimension))


def choose(space: Space, budget: float, scored: Sequence[tuple[Slot, Allocation, float]]) -> tuple[Slot, Allocation, float]:
    """The winner among (slot, net, score) of one step; StageError where there is none."""
    if not scored:
        raise StageError("a step of the search without candidates: the candidate list is empty; widen search.delta")
    return min(scored, key=lambda item: rank(space, budget, *item))


def climb(space: Space, search: Search, evaluate: Callable[[Allocation], float]) -> list[Allocation]:
    """The chain alpha_0, ..., alpha_N of a whole search in one process; the stages do the same step by step."""
    chain = [space.base]
    for budget in budgets(space.macs(space.base), search.target, search.steps):
        step = candidates(space, chain[-1], budget, search)
        scored = [(candidate.slot, candidate.net, evaluate(candidate.net)) for candidate in step.feasible]
        chain.append(choose(space, budget, scored)[1])
    return chain
