"""CLOSE's cell space: strings, classes of isomorphic cells, live edges, draws."""

import itertools
import random

import pytest

from stages.lib.darts import Genotype
from stages.lib.errors import StageError
from stages.lib.evolution import Evolution, evolve
from stages.papers.close import search, space

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|skip_connect~2|"


def test_strings_go_both_ways():
    found = space.parse(CELL)
    assert found == (3, 0, 1, 4, 2, 1) and space.text(found) == CELL
    generator = random.Random(0)
    for _ in range(50):
        architecture = tuple(generator.randrange(5) for _ in space.EDGES)
        assert space.parse(space.text(architecture)) == architecture


@pytest.mark.parametrize("string", ["", "none", CELL[:-1], CELL + "x", CELL.replace("~2", "~1"), "|none~0|" * 6])
def test_malformed_strings(string):
    with pytest.raises(StageError, match="malformed"):
        space.parse(string)


def test_unknown_operations():
    with pytest.raises(StageError, match="unknown operation conv_9x9"):
        space.parse(CELL.replace("nor_conv_3x3", "conv_9x9"))
    with pytest.raises(StageError, match="unknown operation conv_9x9"):
        space.searchable(["conv_9x9"])


def test_sizes_of_the_space():
    whole = space.architectures()
    assert len(whole) == 15625
    assert len(space.classes()) == 6466
    assert len({space.normal_form(item) for item in whole}) == 4930
    assert sum(map(space.has_live_convolution, whole)) == 13642
    assert len(space.searchable()) == 6321


def test_live_edges_by_hand():
    none, skip, conv = space.NONE, space.SKIP, space.CONV3
    assert space.live_edges((conv, none, none, none, none, none)) == ()  # leads nowhere
    assert space.live_edges((none, none, none, none, conv, none)) == ()  # comes from nowhere
    assert space.live_edges((conv, none, skip, none, none, conv)) == (0, 2, 5)
    assert not space.has_live_convolution((conv, none, none, skip, none, none))


def test_members_of_a_class_share_the_normal_form_and_liveness():
    for members in itertools.islice(space.classes().values(), 0, None, 50):
        assert len({space.normal_form(item) for item in members}) == 1
        assert len({space.has_live_convolution(item) for item in members}) == 1


def test_draws_are_seeded_and_different():
    first = space.sample(40, 3)
    assert first == space.sample(40, 3) != space.sample(40, 4) and len(set(first)) == 40
    only = space.sample(9, 0, ["none", "nor_conv_1x1"])
    assert {op for item in only for op in item} == {space.NONE, space.CONV1}


def test_an_empty_space_and_too_many_draws():
    with pytest.raises(StageError, match="no cell has a convolution"):
        space.searchable(["none", "skip_connect", "avg_pool_3x3"])
    with pytest.raises(StageError, match="expected 1 to 6321"):
        space.sample(6322, 0)


def test_evolution_finds_the_best_cell_of_a_simple_score():
    operators = search.cell_operators(space.searchable())
    found = evolve(operators, lambda cell: cell.count(space.CONV3), Evolution(30, 12, 8, 20, 5), random.Random(0))
    assert found.best.count(space.CONV3) >= 5 and all(map(space.has_live_convolution, found.fitness))


def test_genotype_operators_stay_in_the_space():
    operators, generator = search.genotype_operators(4), random.Random(0)
    first, second = operators.random(generator), operators.random(generator)
    for _ in range(50):
        changed = operators.mutate(first, generator)
        assert isinstance(changed, Genotype) and len(changed.normal) == 8
        crossed = operators.cross(first, second, generator)
        assert crossed.normal in (first.normal, second.normal) and crossed.reduce in (first.reduce, second.reduce)
        first = changed
