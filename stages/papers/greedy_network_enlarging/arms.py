"""What is compared at equal MACs: the greedy net, compound scaling, one width for all stages, random allocations, the base."""

import dataclasses
import math
from statistics import variance
from typing import Any

from stages.lib.stage import StageError
from stages.papers.greedy_network_enlarging.allocation import Allocation, from_record
from stages.papers.greedy_network_enlarging.compound import matched
from stages.papers.greedy_network_enlarging.ladder import Finished
from stages.papers.greedy_network_enlarging.settings import Random, Uniform
from stages.papers.greedy_network_enlarging.space import Space

ARMS = ("greedy", "uniform", "uniform_width", "random_best", "random", "base")
MOVES = ("resolution_moves", "other_moves", "worst_other_moves")


def nets(
    space: Space, search: Finished, sample: dict[str, Any], uniform: Uniform, random: Random
) -> dict[str, list[Allocation]]:
    """The nets of every arm; several where an arm stands for a mean."""
    greedy = search.chain[-1]
    target = space.macs(greedy)
    draws = sample["draws"]
    best = max(draws, key=lambda row: row["score"])  # the first of equal ones
    found = {
        "greedy": [greedy],
        "uniform": [matched(space, uniform, target)],
        "uniform_width": [matched(space, dataclasses.replace(uniform, depth=1.0, resolution=1.0), target)],
        "random_best": [from_record(best["net"])],
        "random": [from_record(row["net"]) for row in draws[: random.trained]],
        "base": [space.base],
    }
    for arm in ARMS[:-1]:
        for net in found[arm]:
            if abs(space.macs(net) - target) > uniform.match * target:
                raise StageError(f"arm {arm}: {space.macs(net)} MACs, expected {target} within {uniform.match:g}")
    return found


def sizes(space: Space, nets: list[Allocation]) -> dict[str, float]:
    """MACs, parameters and the share of the MACs in stem, stages and head, means over an arm's nets."""
    found: dict[str, float] = {
        "macs": _mean([space.macs(net) for net in nets]),
        "parameters": _mean([space.parameters(net) for net in nets]),
        "depth": _mean([sum(net.depths) for net in nets]),
        "resolution": _mean([net.resolution for net in nets]),
    }
    groups = [space.group_macs(net) for net in nets]
    for name in groups[0]:
        key = f"macs_share_stage{name}" if name.isdigit() else f"macs_share_{name}"
        found[key] = _mean([group[name] / space.macs(net) for group, net in zip(groups, nets, strict=True)])
    return found


def records(space: Space, nets: dict[str, list[Allocation]]) -> dict[str, list[dict[str, Any]]]:
    """The nets of every arm as JSON holds them, with the MACs of stem, stages and head."""
    return {arm: [{**net.record(), "macs": space.group_macs(net)} for net in several] for arm, several in nets.items()}


def search_values(search: Finished, sample: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Scores and costs of the search by arm: greedy and random nets, children of the first winner, kinds of moves.

    Moves are compared within a step, where all have the same MACs: means over the steps that have a resolution move and
    another one.
    """
    draws, children = ([row["score"] for row in sample[kind]] for kind in ("draws", "children"))
    cost = {key: sum(row[key] for row in sample["draws"]) for key in ("trainings", "spent")}
    found = {
        "greedy": {
            "search_accuracy": search.steps[-1]["score"],
            "search_trainings": search.trainings,
            "search_macs": search.spent,
            **noise(search),
        },
        "random_best": {"search_accuracy": max(draws), "search_trainings": cost["trainings"], "search_macs": cost["spent"]},
        "random": {"search_accuracy": _mean(draws)},
        "children": {"search_accuracy": _mean(children)},
    }
    moves: dict[str, list[float]] = {name: [] for name in MOVES}
    for step in search.steps:
        scores = {row["slot"]: row["score"] for row in step["slots"] if row["feasible"]}
        resolution, others = scores.pop("resolution", None), list(scores.values())
        if resolution is not None and others:
            for name, value in zip(MOVES, (resolution, _mean(others), min(others)), strict=True):
                moves[name].append(value)
    return found | {name: {"search_accuracy": _mean(values)} for name, values in moves.items() if values}


def noise(search: Finished) -> dict[str, float]:
    """How sure the choices are: the standard error of a score, from its trainings, and by how much winners led."""
    slots = [[row for row in step["slots"] if row["feasible"]] for step in search.steps]
    errors = [variance(row["scores"]) / len(row["scores"]) for step in slots for row in step if len(row["scores"]) > 1]
    ordered = [sorted((row["score"] for row in step), reverse=True) for step in slots if len(step) > 1]
    leads = [best - second for best, second, *_ in ordered]
    found = {"proxy_error": math.sqrt(_mean(errors))} if errors else {}
    return found | ({"winning_lead": _mean(leads)} if leads else {})


def _mean(values: list) -> float:
    return sum(values) / len(values)
