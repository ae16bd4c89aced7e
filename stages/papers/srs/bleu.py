"""Corpus BLEU-4 (Papineni et al. 2002) of token sequences with one reference each, without smoothing."""

import math
from collections import Counter
from collections.abc import Sequence

ORDER = 4


def ngrams(tokens: Sequence[int], order: int) -> Counter:
    """How often every n-gram comes."""
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))


def bleu(found: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> float:
    """In [0, 1]: geometric mean of the clipped n-gram precisions of the corpus, times the brevity penalty.

    An order of which the corpus has no n-gram is left out; one without a match makes the result 0.
    """
    matches, totals = [0] * ORDER, [0] * ORDER
    for one, other in zip(found, wanted, strict=True):
        for n in range(ORDER):
            own, reference = ngrams(one, n + 1), ngrams(other, n + 1)
            matches[n] += sum((own & reference).values())
            totals[n] += sum(own.values())
    used = [n for n in range(ORDER) if totals[n]]
    if not used or any(matches[n] == 0 for n in used):
        return 0.0
    length, reference = sum(map(len, found)), sum(map(len, wanted))
    penalty = min(0.0, 1.0 - reference / length)
    return math.exp(penalty + sum(math.log(matches[n] / totals[n]) for n in used) / len(used))
