"""The search without trainings: budgets, moves, ties, oracles; compound scaling and random allocations."""

import itertools
import math

import pytest

from stages.lib.errors import StageError
from stages.papers.greedy_network_enlarging import compound, draws, exchange, growth
from stages.papers.greedy_network_enlarging.allocation import Allocation, Slot, slots
from stages.papers.greedy_network_enlarging.settings import Base, Search, Sizes, Uniform
from stages.papers.greedy_network_enlarging.space import Space, check_budget, space_of

UNIFORM = Uniform(1.2, 1.1, 1.15, 0.05)


def search(target: float = 8.0, steps: int = 3, delta: float = 0.12, **more) -> Search:
    settings = {"step": Sizes(1, 1, 1), "most": Sizes(8, 512, 24), "exchange": False, **more}
    return Search(target, steps, delta, **settings)


def plain(depths=(1, 1, 1), widths=(6, 8, 12), resolution: int = 8) -> Space:
    return space_of(Base("plain", list(depths), list(widths), resolution, {}), 1, 10)


def ghost() -> Space:
    options = {"generator": "large", "dropout": 0.0, "drop_path": 0.0}
    return space_of(Base("ghostnet", [1, 2, 2, 4, 2, 5], [16, 24, 40, 80, 112, 160], 224, options), 3, 1000)


# --- budgets and moves ----------------------------------------------------------------------------


def test_budgets_are_geometric_and_end_at_the_target():
    found = growth.budgets(1000, 8.0, 3)
    assert found == [pytest.approx(2000), pytest.approx(4000), 8000.0] and found[-1] == 1000 * 8.0
    long = growth.budgets(13944, 7.3, 9)
    ratios = [b / a for a, b in itertools.pairwise([13944, *long])]
    assert max(ratios) == pytest.approx(min(ratios)) and long[-1] == 13944 * 7.3


@pytest.mark.parametrize("space", [plain(), ghost()], ids=["plain", "ghost"])
def test_growing_changes_one_dimension_and_no_other_number_of_steps_is_nearer(space):
    steps = search(step=Sizes(1, space.divisor, 1), most=Sizes(90, 2000, 700))
    budget = 2.3 * space.macs(space.base)
    for slot in slots(space.base.stages):
        found = growth.grow(space, space.base, slot, budget, steps)
        step = steps.step.of(slot.dimension)
        tried = [space.base.with_value(slot, space.base.value(slot) + i * step) for i in range(150 if slot.stage < 0 else 80)]
        nearest = min(abs(space.macs(net) - budget) for net in tried)
        if found is None:
            assert nearest == abs(space.macs(space.base) - budget)
            continue
        assert abs(space.macs(found) - budget) == nearest
        assert found.contains(space.base) and found != space.base
        assert found == space.base.with_value(slot, found.value(slot))


def test_an_unchanged_net_is_no_candidate():
    """One block of a wide last stage costs more than the step: the base would come nearest and stall the search."""
    space = plain((1, 1), (4, 64), 8)
    budget = 1.2 * space.macs(space.base)
    assert growth.grow(space, space.base, Slot("depth", 1), budget, search()) is None
    step = growth.candidates(space, space.base, budget, search())
    assert all(candidate.net != space.base for candidate in step.feasible)
    assert {c.slot.name: c.net for c in step.candidates}["depth1"] is None


def test_widths_step_over_plateaus():
    """With steps of one channel and a divisor of four, several steps are the same net."""
    fine = growth.grow(ghost(), ghost().base, Slot("width", 3), 1.2 * ghost().macs(ghost().base), search(step=Sizes(1, 1, 1)))
    coarse = growth.grow(ghost(), ghost().base, Slot("width", 3), 1.2 * ghost().macs(ghost().base), search(step=Sizes(1, 4, 1)))
    assert fine == coarse and fine.widths[3] % 4 == 0 and fine.widths[3] > 80


def test_candidates_keep_within_delta_and_it_doubles_only_where_nothing_is_left():
    space = plain()
    step = growth.candidates(space, space.base, 2 * space.macs(space.base), search())
    assert step.delta == 0.12 and len(step.candidates) == 7
    assert all(abs(c.macs - step.budget) <= 0.12 * step.budget for c in step.feasible)
    rough = search(delta=0.001, step=Sizes(1, 5, 7), most=Sizes(8, 512, 24))
    step = growth.candidates(space, space.base, 1.37 * space.macs(space.base), rough)
    assert step.delta > 0.001 and math.log2(step.delta / 0.001) % 1 == pytest.approx(0)
    assert step.feasible and all(abs(c.macs - step.budget) > step.delta / 2 * step.budget for c in step.feasible)


def test_budgets_out_of_reach_and_empty_lists_of_candidates():
    space = plain()
    for target in (1.0, 0.5, math.inf, math.nan):
        with pytest.raises(StageError, match="search.target"):
            search(target).check()
    with pytest.raises(StageError, match="reach"):
        check_budget(space, search(1e9))
    with pytest.raises(StageError, match="the base .* is larger"):
        check_budget(space, search(most=Sizes(8, 10, 24)))
    with pytest.raises(StageError, match="candidate list is empty"):  # nothing may grow
        growth.candidates(space, space.base, 2 * space.macs(space.base), search(most=Sizes(1, 12, 8), step=Sizes(1, 50, 1)))
    with pytest.raises(StageError, match="candidate list is empty"):  # every move is far too large
        single = plain((1,), (6,), 8)
        growth.candidates(single, single.base, 4 * single.macs(single.base), search(step=Sizes(1, 500, 16)))
    with pytest.raises(StageError, match="candidate list is empty"):
        growth.choose(space, 1.0, [])


# --- the winner -----------------------------------------------------------------------------------


def test_ties_go_to_the_nearest_the_smallest_the_first():
    space, budget = plain(), 2.0 * plain().macs(plain().base)
    step = growth.candidates(space, space.base, budget, search())
    scored = [(c.slot, c.net, 0.5) for c in step.feasible]
    winners = {growth.choose(space, budget, order)[1] for order in itertools.permutations(scored)}
    assert len(winners) == 1
    assert abs(space.macs(winners.pop()) - budget) == min(abs(c.macs - budget) for c in step.feasible)
    net = space.base
    equal = [Slot("resolution"), Slot("width", 1), Slot("depth", 1), Slot("width", 0)]
    assert sorted(equal, key=lambda slot: growth.rank(space, budget, slot, net, 0.5)) == [
        Slot("width", 0), Slot("depth", 1), Slot("width", 1), Slot("resolution")
    ]  # fmt: skip
    small, large = plain((1, 1, 1), (6, 8, 12), 8).base, plain((1, 1, 1), (6, 8, 13), 8).base
    middle = (space.macs(small) + space.macs(large)) / 2
    assert growth.choose(space, middle, [(Slot("depth", 0), large, 0.1), (Slot("width", 2), small, 0.1)])[1] == small


def utility(weights: dict[str, float], space: Space):
    """An additive concave score: every dimension's relative growth brings its weight times the logarithm of it."""

    def score(net: Allocation) -> float:
        return sum(w * math.log(net.value(slot) / space.base.value(slot)) for slot, w in _named(space, weights))

    return score


def _named(space: Space, weights: dict[str, float]):
    return [(slot, weights[slot.name]) for slot in slots(space.base.stages) if slot.name in weights]


def test_an_oracle_search_finds_the_best_net_of_the_grid():
    """All nets whose dimensions are the base's or values met on the ladder, of the target's MACs: none scores higher."""
    space = plain((1, 1), (6, 8), 8)
    weights = {"width0": 1.0, "width1": 4.0, "depth0": 0.3, "depth1": 0.3, "resolution": 0.1}
    score, settings = utility(weights, space), search(4.0, 2, 0.1, most=Sizes(4, 64, 16))
    chain = growth.climb(space, settings, score)
    target = 4.0 * space.macs(space.base)
    grid = itertools.product((1, 2), (1, 2), range(6, 26), range(8, 64), (8, 11))
    nets = (Allocation((a, b), (c, d), r) for a, b, c, d, r in grid)
    best = max(score(net) for net in nets if abs(space.macs(net) - target) <= 0.02 * target)
    assert score(chain[-1]) >= best - 0.12  # the tolerance of the budgets
    assert chain[-1].widths[1] > 3 * chain[-1].widths[0]


def test_the_chain_is_nested_near_its_budgets_and_the_same_again():
    space, settings = plain(), search()
    score = utility({"width0": 1.0, "width1": 1.2, "width2": 1.1, "depth0": 0.2}, space)
    chain = growth.climb(space, settings, score)
    assert chain == growth.climb(space, settings, score) and len(chain) == 4
    for smaller, larger in itertools.pairwise(chain):
        assert larger.contains(smaller) and larger != smaller
    for net, budget in zip(chain[1:], growth.budgets(space.macs(space.base), 8.0, 3), strict=True):
        assert abs(space.macs(net) - budget) <= 0.12 * budget
    assert not chain[0].contains(chain[1]) and not chain[0].contains(plain((1,), (6,), 8).base)


# --- exchange -------------------------------------------------------------------------------------


class Oracle:
    """A score with the interface of an evaluator."""

    def __init__(self, score) -> None:
        self.score, self.asked = score, []

    def __call__(self, net: Allocation) -> float:
        self.asked.append(net)
        return self.score(net)

    def accuracies(self, net: Allocation) -> list[float]:
        return [self.score(net)]

    def spent(self, net: Allocation) -> int:
        return 1


def test_an_exchange_moves_macs_at_the_same_budget_and_never_scores_lower():
    space = plain(widths=(12, 16, 24))
    score = utility({"width0": -1.0, "width2": 2.0}, space)
    net, value, tried = exchange.exchange_pass(space, space.base, 0.0, search(), 0.12, Oracle(score))
    assert value == score(net) > 0 and net.widths[0] < 12 and net.widths[2] > 24
    assert abs(space.macs(net) - space.macs(space.base)) <= 0.3 * space.macs(space.base)
    assert tried and len(tried) <= len(list(exchange.moves(3))) == 24
    same = exchange.exchange_pass(space, space.base, 1e9, search(), 0.12, Oracle(score))
    assert same[:2] == (space.base, 1e9)


def test_nothing_is_taken_from_what_has_nothing():
    space = plain()
    assert exchange.shrunk(space, space.base, Slot("depth", 1), search()) is None
    assert exchange.shrunk(space, space.base, Slot("width", 1), search()).widths == (6, 7, 12)
    assert exchange.shrunk(ghost(), ghost().base, Slot("width", 1), search()) is None  # rounds back to 24


# --- baselines ------------------------------------------------------------------------------------


def test_uniform_scaling_starts_at_the_base_and_takes_the_published_points():
    for space in (plain(), ghost()):
        assert compound.compound(space, UNIFORM, 0.0) == space.base
        assert compound.matched(space, UNIFORM, space.macs(space.base)) == space.base
    base = Base("efficientnet", [1, 2, 2, 3, 3, 4, 1], [16, 24, 40, 80, 112, 192, 320], 224, {"dropout": 0.0, "drop_path": 0.0})
    space = space_of(base, 3, 1000)
    b4 = compound.scaled(space, 1.8, 1.4, 380 / 224)
    assert b4 == Allocation((2, 4, 4, 6, 6, 8, 2), (24, 32, 56, 112, 160, 272, 448), 380)
    assert space.macs(b4) == 4393771024


@pytest.mark.parametrize("factor", [1.1, 1.7, 2.9, 5.3, 8.0, 20.0])
def test_uniform_scaling_meets_any_target(factor):
    space = plain()
    target = round(factor * space.macs(space.base))
    for bases in (UNIFORM, Uniform(1.0, 1.1, 1.0, 0.05)):
        net = compound.matched(space, bases, target)
        assert abs(space.macs(net) - target) <= 0.05 * target
        if bases.depth == 1.0:
            assert net.depths == space.base.depths and net.resolution == 8


def test_the_specifications_uniform_net():
    space = plain()
    assert compound.matched(space, UNIFORM, 112298) == Allocation((2, 2, 2), (7, 9, 14), 10)


def test_uniform_scaling_out_of_reach():
    space = plain()
    with pytest.raises(StageError, match="fewer than the base"):
        compound.matched(space, UNIFORM, 100)
    with pytest.raises(StageError, match="expected a base above 1"):
        compound.matched(space, Uniform(1.0, 1.0, 1.0, 0.05), 10**6)
    with pytest.raises(StageError, match="further than uniform.match"):
        compound.matched(space, Uniform(1.2, 1.1, 1.15, 1e-7), 112299)


def test_one_stage_and_one_dimension_are_uniform_scaling():
    space = plain((1,), (6,), 8)
    settings = search(8.0, 3, 0.2, most=Sizes(1, 512, 8))
    chain = growth.climb(space, settings, lambda net: 0.0)
    assert chain[-1] == compound.matched(space, Uniform(1.0, 1.1, 1.0, 0.05), 8 * space.macs(space.base))


def test_random_allocations_meet_the_macs_contain_the_least_net_and_follow_the_seed():
    space, target = plain(), 112298
    least = space.base.with_value(Slot("width", 2), 40)
    for start in (space.base, least):
        found = draws.draw(space, start, target, 0.05, search(), 3, 12)
        assert found == draws.draw(space, start, target, 0.05, search(), 3, 12)
        assert found != draws.draw(space, start, target, 0.05, search(), 4, 12)
        assert len(set(found)) == 12
        assert all(net.contains(start) and abs(space.macs(net) - target) <= 0.05 * target for net in found)
    assert len({net.depths for net in found}) > 2 and len({net.resolution for net in found}) > 2
    with pytest.raises(StageError, match="0 of 2 within"):
        draws.draw(space, space.base, target, 0.05, search(most=Sizes(1, 12, 8)), 0, 2)
