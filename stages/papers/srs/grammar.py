"""A generated language pair: short sentences whose translation follows fixed rules exactly.

A source is t_1 ... t_n. Its first token chooses one of several permutations of the vocabulary; the others, separators
apart, are mapped by it, and the order within every segment between separators is reversed. The first token is kept in front.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy

from stages.lib.runtime import derive_seed

if TYPE_CHECKING:
    from stages.papers.srs.settings import Grammar

PAD, BEGIN, END, SEPARATOR = range(4)
FIRST = 4  # the first ordinary token
RULES = 2003  # seed of the permutations, which are the language: the same for all repetitions


@dataclass(frozen=True)
class Pairs:
    """Sources [N, longest] and targets [N, longest + 2] between BEGIN and END, int64, padded with PAD."""

    source: numpy.ndarray
    target: numpy.ndarray


def permutations(grammar: "Grammar") -> numpy.ndarray:
    """[permutations, tokens]: where each ordinary token goes."""
    random = numpy.random.RandomState(RULES)
    return numpy.stack([random.permutation(grammar.tokens) for _ in range(grammar.permutations)])


def translate(source: list[int], table: numpy.ndarray) -> list[int]:
    """The only right translation of a source without padding."""
    rule = table[(source[0] - FIRST) % len(table)]
    found, segment = [source[0]], []
    for token in [*source[1:], SEPARATOR]:
        if token == SEPARATOR:
            found += [*segment[::-1], SEPARATOR]
            segment = []
        else:
            segment.append(FIRST + int(rule[token - FIRST]))
    return found[:-1]


def pairs(grammar: "Grammar", count: int, repetition: int, purpose: str) -> Pairs:
    """`count` sentence pairs; train, val and test of a repetition are drawn independently."""
    random = numpy.random.RandomState(derive_seed(repetition, "grammar", purpose) % 2**32)
    table = permutations(grammar)
    source = numpy.full((count, grammar.longest), PAD, dtype=numpy.int64)
    target = numpy.full((count, grammar.longest + 2), PAD, dtype=numpy.int64)
    for i in range(count):
        length = random.randint(grammar.shortest, grammar.longest + 1)
        tokens = random.randint(FIRST, FIRST + grammar.tokens, length)
        tokens[1:][random.random_sample(length - 1) < grammar.separator] = SEPARATOR
        source[i, :length] = tokens
        target[i, : length + 2] = [BEGIN, *translate(tokens.tolist(), table), END]
    return Pairs(source, target)


def vocabulary(grammar: "Grammar") -> int:
    """Ordinary tokens, separator and marks."""
    return FIRST + grammar.tokens
