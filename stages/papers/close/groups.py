"""Sharing groups of spaces without topology (NDS): a stage's positions are split into ever smaller groups, a block each."""

from dataclasses import dataclass

from stages.lib.errors import StageError

CRITERIA = ("max", "pre")
Span = tuple[int, int, int]  # first position, first one beyond, block


@dataclass(frozen=True)
class Groups:
    """Spans that partition the positions 0 .. n - 1 of a stage, from left to right."""

    spans: tuple[Span, ...]

    @classmethod
    def whole(cls, positions: int) -> "Groups":
        """All positions share block 0."""
        if positions < 1:
            raise StageError(f"positions={positions}: expected 1 or more")
        return cls(((0, positions, 0),))

    def gate(self) -> tuple[int, ...]:
        """The block of each position; fixed, there is no gate module."""
        return tuple(block for left, right, block in self.spans for _ in range(left, right))

    def split(self, criteria: str) -> tuple["Groups", int]:
        """One more group, and the block that the new one inherits from.

        max: the largest group (the leftmost of equal ones); pre: the leftmost with more than one position. It is cut at
        m = (l + r) // 2: [l, m) keeps its block, [m, r) gets a new one. StageError where every group has one position.
        """
        if criteria not in CRITERIA:
            raise StageError(f"cl_criteria={criteria}: expected one of {', '.join(CRITERIA)}")
        sizes = [right - left for left, right, _ in self.spans]
        if max(sizes) == 1:
            raise StageError(f"{len(sizes)} groups of one position each: no group can be split; shorten the schedule")
        chosen = sizes.index(max(sizes)) if criteria == "max" else next(i for i, size in enumerate(sizes) if size > 1)
        left, right, block = self.spans[chosen]
        middle = (left + right) // 2
        parts = ((left, middle, block), (middle, right, len(sizes)))
        return Groups((*self.spans[:chosen], *parts, *self.spans[chosen + 1 :])), block


def grown(positions: int, count: int, criteria: str) -> Groups:
    """The groups after as many splits as give `count` of them."""
    groups = Groups.whole(positions)
    for _ in range(count - 1):
        groups, _ = groups.split(criteria)
    return groups
