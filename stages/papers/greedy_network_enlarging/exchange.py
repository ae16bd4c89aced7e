"""Reallocation at a fixed budget: one stage gives a block or some channels, another grows to the same MACs."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stages.papers.greedy_network_enlarging.allocation import Allocation, Slot
from stages.papers.greedy_network_enlarging.growth import grow
from stages.papers.greedy_network_enlarging.settings import Search
from stages.papers.greedy_network_enlarging.space import Space

if TYPE_CHECKING:
    from stages.papers.greedy_network_enlarging.proxy import Evaluator


def shrunk(space: Space, net: Allocation, slot: Slot, search: Search) -> Allocation | None:
    """The net with one dimension a step smaller; None where nothing would be left or widths round back."""
    value = net.value(slot) - search.step.of(slot.dimension)
    if value < 1 or space.effective(slot, value) >= net.value(slot):
        return None
    return net.with_value(slot, space.effective(slot, value))


def moves(stages: int) -> Iterator[tuple[Slot, Slot]]:
    """(gives, takes): depth or width of every ordered pair of stages."""
    kinds = ("depth", "width")
    for giver in range(stages):
        for taker in range(stages):
            if giver != taker:
                yield from ((Slot(gives, giver), Slot(takes, taker)) for gives in kinds for takes in kinds)


def exchange_pass(
    space: Space, net: Allocation, score: float, search: Search, delta: float, evaluate: "Evaluator"
) -> tuple[Allocation, float, list[dict]]:
    """One pass over all exchanges at the net's own MACs; each that scores higher is taken up, and the next start from it.

    Returns the net, its score and what was tried. `delta` bounds the difference in MACs, as among candidates.
    """
    budget, tried = space.macs(net), []
    for gives, takes in moves(net.stages):
        smaller = shrunk(space, net, gives, search)
        other = grow(space, smaller, takes, budget, search) if smaller else None
        if other is None or other == net or abs(space.macs(other) - budget) > delta * budget:
            continue
        found = evaluate(other)
        tried.append({
            "gives": gives.name, "takes": takes.name, "net": other.record(), "macs": space.macs(other), "score": found,
            "trainings": len(evaluate.accuracies(other)), "spent": evaluate.spent(other),
        })  # fmt: skip
        if found > score:
            net, score = other, found
    return net, score, tried
