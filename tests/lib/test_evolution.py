"""Evolution under constraints: legality, no second scoring, monotone best, counts, reproducibility, exhausted spaces."""

import random

import numpy
import pytest

from stages.lib.errors import StageError
from stages.lib.evolution import Evolution, Operators, evolve, random_search

LENGTH = 12
AMOUNTS = Evolution(population=20, generations=10, parents=5, mutations=8, crossovers=8)


def bits(legal=lambda c: True) -> Operators:
    """Bit strings: mutation flips one, crossing takes either parent's, a zero head cannot be crossed with a one."""

    def draw(generator):
        return tuple(int(generator.random() < 0.5) for _ in range(LENGTH))

    def mutate(candidate, generator):
        place = int(generator.random() * LENGTH)
        return tuple(1 - bit if i == place else bit for i, bit in enumerate(candidate))

    def cross(a, b, generator):
        if a[0] != b[0]:
            return None
        return tuple(x if generator.random() < 0.5 else y for x, y in zip(a, b, strict=True))

    return Operators(draw, mutate, cross, legal)


def at_most(ones: int):
    return lambda candidate: sum(candidate) <= ones


@pytest.mark.parametrize("generator", [random.Random, numpy.random.default_rng])
@pytest.mark.parametrize("seed", range(5))
def test_candidates_are_legal_scored_once_and_the_best_never_falls(generator, seed):
    scored = []

    def fitness(candidate):
        assert sum(candidate) <= 8
        scored.append(candidate)
        return sum(bit * weight for weight, bit in enumerate(candidate, 1))

    found = evolve(bits(at_most(8)), fitness, AMOUNTS, generator(seed))
    assert len(scored) == len(set(scored)) == found.evaluations == 200
    assert list(found.fitness) == scored
    assert found.history == sorted(found.history) and len(found.history) == 10
    assert found.fitness[found.best] == found.history[-1] == max(found.fitness.values())


def test_evolution_beats_random_search_at_equal_cost():
    def fitness(candidate):
        return sum(candidate)

    many = [(evolve(bits(at_most(10)), fitness, AMOUNTS, random.Random(seed)).history[-1],
             random_search(bits(at_most(10)), fitness, 200, random.Random(seed)).history[-1]) for seed in range(10)]  # fmt: skip
    assert all(own == 10 for own, _ in many) and sum(other for _, other in many) < 100


def test_the_same_generator_gives_the_same_search():
    runs = [evolve(bits(), sum, AMOUNTS, random.Random(3)) for _ in range(2)]
    assert list(runs[0].fitness.items()) == list(runs[1].fitness.items())
    assert runs[0].fitness != evolve(bits(), sum, AMOUNTS, random.Random(4)).fitness


def test_equal_fitness_keeps_the_order_of_scoring():
    found = random_search(bits(), lambda _: 1.0, 30, random.Random(0))
    assert found.top(5) == list(found.fitness)[:5] and found.best == found.top(1)[0]


def test_parents_that_never_fit_are_replaced_by_random_candidates():
    base = bits()
    operators = Operators(base.random, base.mutate, lambda a, b, g: None, base.legal)
    found = evolve(operators, sum, Evolution(10, 5, parents=3, mutations=4, crossovers=6), random.Random(0))
    assert found.evaluations == 50


def test_children_come_from_the_best():
    parents = set()
    base = bits()

    def mutate(candidate, generator):
        parents.add(candidate)
        return base.mutate(candidate, generator)

    operators = Operators(base.random, mutate, base.cross, base.legal)
    found = evolve(operators, sum, Evolution(10, 2, parents=2, mutations=5, crossovers=0), random.Random(1))
    first = list(found.fitness)[:10]
    assert parents <= set(sorted(first, key=sum, reverse=True)[:2])


def test_a_whole_space_can_be_searched_but_not_more():
    small = Operators(lambda g: int(g.random() * 6), lambda c, g: (c + 1) % 6, lambda a, b, g: None, lambda c: c != 0)
    assert sorted(evolve(small, float, Evolution(5, 1, mutations=0, crossovers=0), random.Random(0)).fitness) == [1, 2, 3, 4, 5]
    with pytest.raises(StageError, match="after 5 of 6"):
        evolve(small, float, Evolution(3, 2, mutations=1, crossovers=1), random.Random(0))


def test_an_empty_space():
    with pytest.raises(StageError, match="no candidate meets the constraints"):
        evolve(bits(lambda c: False), sum, AMOUNTS, random.Random(0))


def test_a_fitness_that_is_nan():
    with pytest.raises(StageError, match="NaN"):
        evolve(bits(), lambda c: float("nan"), AMOUNTS, random.Random(0))


@pytest.mark.parametrize("name", ["population", "generations", "parents", "trials", "redraws", "random_trials"])
def test_impossible_amounts(name):
    amounts = Evolution(**{"mutations": 0, "crossovers": 0, name: 0})
    with pytest.raises(StageError, match=f"evolution.{name}=0"):
        evolve(bits(), sum, amounts, random.Random(0))


def test_more_children_than_the_population():
    with pytest.raises(StageError, match="evolution.population=10"):
        Evolution(10, mutations=6, crossovers=5).check()
