"""Evolutionary search under constraints over any hashable candidates (the search of SPOS and AutoFormer, in general form).

What a candidate is, how it is drawn, mutated and crossed, and which ones are legal is told by callables; the search
itself only promises that every candidate it scores is legal and is scored once.
"""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from stages.lib.errors import StageError

Candidate = TypeVar("Candidate", bound=Hashable)


class Generator(Protocol):
    """What the search itself needs of a generator: random.Random and numpy.random.Generator both have it."""

    def random(self) -> float:
        """Uniform in [0, 1)."""


@dataclass(frozen=True)
class Operators(Generic[Candidate]):
    """How candidates come about. All draw from the generator that `evolve` was given, in a fixed order.

    random(generator) -> candidate; mutate(candidate, generator) -> candidate; cross(a, b, generator) -> candidate, or
    None where the two cannot be crossed; legal(candidate) -> bool. Illegal results are thrown away, not scored.
    """

    random: Callable[[Generator], Candidate]
    mutate: Callable[[Candidate, Generator], Candidate]
    cross: Callable[[Candidate, Candidate, Generator], Candidate | None]
    legal: Callable[[Candidate], bool]


@dataclass
class Evolution:
    """Amounts of a search; it scores exactly population * generations candidates."""

    population: int = 50
    generations: int = 20  # the first, random one included
    parents: int = 10
    mutations: int = 25  # children a generation; what they leave of the population is drawn at random
    crossovers: int = 25
    trials: int = 10  # attempts for each wanted mutant or crossing, those that fail are replaced by random ones
    redraws: int = 50  # pairs drawn for one attempt at a crossing
    random_trials: int = 1000  # attempts for each wanted random candidate

    def check(self) -> None:
        """StageError that names the first amount that cannot work."""
        least = {"population": 1, "generations": 1, "parents": 1, "mutations": 0, "crossovers": 0}
        for name, bound in {**least, "trials": 1, "redraws": 1, "random_trials": 1}.items():
            if getattr(self, name) < bound:
                raise StageError(f"evolution.{name}={getattr(self, name)}: expected {bound} or more")
        if self.mutations + self.crossovers > self.population:
            children = self.mutations + self.crossovers
            raise StageError(f"evolution.population={self.population}: expected at least the {children} mutants and crossings")


@dataclass
class Found(Generic[Candidate]):
    """The outcome: every scored candidate with its fitness, in order, and the best fitness after each generation."""

    fitness: dict[Candidate, float] = field(default_factory=dict)
    history: list[float] = field(default_factory=list)

    @property
    def evaluations(self) -> int:
        """How many candidates were scored."""
        return len(self.fitness)

    @property
    def best(self) -> Candidate:
        """The candidate of the highest fitness, the first of equal ones."""
        return max(self.fitness, key=self.fitness.__getitem__)

    def top(self, count: int) -> list[Candidate]:
        """The best `count` candidates, equal ones in the order of their scoring."""
        return sorted(self.fitness, key=self.fitness.__getitem__, reverse=True)[:count]


def evolve(
    operators: Operators[Candidate], fitness: Callable[[Candidate], float], amounts: Evolution, generator: Generator,
) -> Found[Candidate]:  # fmt: skip
    """Search for the legal candidate of highest fitness.

    The parents of a generation are the best of all candidates so far, so the best fitness never falls.

    Raises:
        StageError: Impossible amounts, a fitness that is NaN, no legal candidate at all, or fewer than the search scores.
    """
    amounts.check()
    search = _Search(operators, fitness, amounts, generator, Found())
    for _ in range(amounts.generations):
        search.generation()
    return search.found


def random_search(
    operators: Operators[Candidate], fitness: Callable[[Candidate], float], count: int, generator: Generator,
    random_trials: int = Evolution.random_trials,
) -> Found[Candidate]:  # fmt: skip
    """Score `count` different legal candidates drawn at random: evolution's control at equal cost. Raises as `evolve`."""
    amounts = Evolution(count, 1, mutations=0, crossovers=0, random_trials=random_trials)
    return evolve(operators, fitness, amounts, generator)


@dataclass
class _Search(Generic[Candidate]):
    operators: Operators[Candidate]
    score: Callable[[Candidate], float]
    amounts: Evolution
    generator: Generator
    found: Found[Candidate]

    def generation(self) -> None:
        """Score one population: mutants and crossings of the best so far, the rest drawn at random."""
        parents, before = self.found.top(self.amounts.parents), self.found.evaluations
        if parents:
            self._attempt(self.amounts.mutations, lambda: self.operators.mutate(self._one_of(parents), self.generator))
            self._attempt(self.amounts.crossovers, lambda: self._crossing(parents))
        self._fill(self.amounts.population - (self.found.evaluations - before))
        self.found.history.append(self.found.fitness[self.found.best])

    def _attempt(self, wanted: int, make: Callable[[], Candidate | None]) -> None:
        """Score up to `wanted` new candidates of `make` within a limited number of trials."""
        taken = 0
        for _ in range(self.amounts.trials * wanted):
            if taken == wanted:
                return
            taken += self._take(make())

    def _crossing(self, parents: list[Candidate]) -> Candidate | None:
        for _ in range(self.amounts.redraws):
            child = self.operators.cross(self._one_of(parents), self._one_of(parents), self.generator)
            if child is not None:
                return child
        return None

    def _fill(self, wanted: int) -> None:
        """Score `wanted` new random candidates, or raise StageError."""
        for _ in range(wanted):
            if not any(self._take(self.operators.random(self.generator)) for _ in range(self.amounts.random_trials)):
                self._give_up()

    def _give_up(self) -> None:
        reached, tries = self.found.evaluations, self.amounts.random_trials
        if not reached:
            raise StageError(f"search: no candidate meets the constraints in {tries} draws; widen them")
        wanted = self.amounts.population * self.amounts.generations
        raise StageError(
            f"search: {tries} draws gave no new legal candidate after {reached} of {wanted}; widen the constraints, "
            "or lower population or generations"
        )

    def _take(self, candidate: Candidate | None) -> bool:
        """Score a candidate if it is new and legal; whether it was."""
        if candidate is None or candidate in self.found.fitness or not self.operators.legal(candidate):
            return False
        value = float(self.score(candidate))
        if math.isnan(value):
            raise StageError("search: the fitness of a candidate is NaN; the net behind it has diverged")
        self.found.fitness[candidate] = value
        return True

    def _one_of(self, parents: list[Candidate]) -> Candidate:
        return parents[int(self.generator.random() * len(parents))]
