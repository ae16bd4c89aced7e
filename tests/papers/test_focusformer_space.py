"""FocusFormer's search spaces: sizes, costs, operators of the evolution, budgets."""

import random
from collections import Counter

import pytest

from stages.lib.errors import StageError
from stages.papers.focusformer import choosing, cost
from stages.papers.focusformer import space as spaces
from stages.papers.focusformer.settings import Search, Space, Supernet
from stages.papers.focusformer.space import Architecture

SPACE = Space([16, 24, 32], [1, 2, 4], [1, 2, 4], [2, 3, 4])
CANVAS = cost.Canvas(8, 1, 10, 2, 8, 3)
TI = Space([192, 216, 240], [3, 4], [3.5, 4], [12, 13, 14])


def test_the_space_is_as_large_as_its_enumeration():
    small = Space([4, 8], [1, 2], [1, 2], [1, 2])
    found = list(spaces.everything(small))
    assert len(found) == len(set(found)) == spaces.size(small) == 2 * (4 + 16)
    assert all(spaces.contains(small, one) for one in found)
    assert spaces.size(TI) == 1056964608


def test_codes_are_the_architecture():
    for seed in range(200):
        one = spaces.uniform(SPACE, random.Random(seed))
        codes = spaces.encode(SPACE, one)
        assert len(codes) == spaces.length(SPACE) == 10 and spaces.decode(SPACE, codes) == one
        assert [code == -1 for code in codes] == [False] * (2 + 2 * one.depth) + [True] * (8 - 2 * one.depth)
    with pytest.raises(StageError, match="not in the search space"):
        spaces.encode(SPACE, Architecture(17, (1, 1), (1, 1)))


def test_uniform_draws_every_decision_evenly():
    draw, many = random.Random(0), 6000
    found = [spaces.uniform(SPACE, draw) for _ in range(many)]
    for values in ([one.depth for one in found], [one.embed for one in found], [one.ratios[1] for one in found]):
        assert all(abs(count / many - 1 / 3) < 0.03 for count in Counter(values).values())


@pytest.mark.parametrize("kind", ["embed", "ratio", "heads", "depth"])
@pytest.mark.parametrize("seed", range(25))
def test_costs_grow_with_every_decision(seed, kind):
    one = spaces.uniform(SPACE, random.Random(seed))
    layer = seed % one.depth
    ratios, heads, embed = list(one.ratios), list(one.heads), one.embed
    if kind == "depth":
        ratios, heads = [*ratios, 1], [*heads, 1]
    elif kind == "embed":
        embed += 8
    elif kind == "ratio":
        ratios[layer] *= 2
    else:
        heads[layer] += 1
    bigger = Architecture(embed, tuple(ratios), tuple(heads))
    assert cost.macs(bigger, CANVAS) > cost.macs(one, CANVAS)
    assert cost.parameters(bigger, CANVAS) > cost.parameters(one, CANVAS)


@pytest.mark.parametrize("seed", range(100))
def test_mutants_and_crossings_stay_in_the_space(seed):
    draw = random.Random(seed)
    a, b = spaces.uniform(SPACE, draw), spaces.uniform(SPACE, draw)
    assert spaces.contains(SPACE, spaces.mutate(SPACE, a, draw, 0.4, 0.2))
    child = spaces.cross(a, b, draw)
    assert (child is None) == (a.depth != b.depth)
    if child is not None:
        assert spaces.contains(SPACE, child) and child.embed in (a.embed, b.embed)
        assert all(own in pair for own, *pair in zip(child.ratios, a.ratios, b.ratios, strict=True))
        assert all(own in pair for own, *pair in zip(child.heads, a.heads, b.heads, strict=True))


def test_mutation_rates():
    draw, parent, many = random.Random(0), Architecture(16, (1,) * 4, (1,) * 4), 4000
    found = [spaces.mutate(SPACE, parent, draw, 0.4, 0.2) for _ in range(many)]
    assert abs(sum(one.embed != 16 for one in found) / many - 0.4 * 2 / 3) < 0.03
    assert abs(sum(one.depth != 4 for one in found) / many - 0.4 * 2 / 3) < 0.03
    same = [one for one in found if one.depth == 4]
    assert abs(sum(one.heads[0] != 1 for one in same) / len(same) - 0.2 * 2 / 3) < 0.03
    assert spaces.mutate(SPACE, parent, draw, 0.0, 0.0) == parent


def test_evolution_stays_in_its_window():
    budget = cost.budgets(SPACE, CANVAS, [0.3])[0]
    operators = choosing.operators(SPACE, CANVAS, Search(0.8, depth_probability=0.4, layer_probability=0.2), budget)
    draw = random.Random(0)
    legal = [one for one in (spaces.uniform(SPACE, draw) for _ in range(500)) if operators.legal(one)]
    assert legal and all(0.8 * budget <= cost.macs(one, CANVAS) <= budget for one in legal)


def test_budgets_out_of_reach():
    least, most = (cost.macs(one, CANVAS) for one in (spaces.smallest(SPACE), spaces.largest(SPACE)))
    assert cost.budgets(SPACE, CANVAS, [1.0]) == [most]
    with pytest.raises(StageError, match=f"expected one from {least} to {most}, the reachable range"):
        cost.budgets(SPACE, CANVAS, [0.01])
    with pytest.raises(StageError, match="reachable range"):
        cost.check_budget(most + 1, least, most, "budget")


def test_images_that_patches_do_not_tile():
    shape = Supernet(32, 4, 4, 4, 8, 3, 3, "interleaved", 0.1, 0.0)
    with pytest.raises(StageError, match="does not divide"):
        cost.canvas(shape, (1, 8, 8), 10)
    with pytest.raises(StageError, match="square"):
        cost.canvas(shape, (1, 9, 6), 10)


def test_the_mean_architecture_is_about_the_mean_of_uniform_draws():
    draw, canvas = random.Random(0), cost.Canvas(224, 3, 1000, 16)
    drawn = [cost.macs(spaces.uniform(TI, draw), canvas) for _ in range(2000)]
    assert cost.macs(spaces.mean(TI), canvas) == pytest.approx(sum(drawn) / len(drawn), rel=0.02)
    assert spaces.contains(TI, spaces.mean(TI)) and spaces.contains(SPACE, spaces.mean(SPACE))
