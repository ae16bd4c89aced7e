"""Where the P auxiliary losses go, and how the release weighs them against each other.

A pivot is a number of residual blocks: pivot 7 sits behind the first seven. The last pivot is the end of the net,
where the net's own head and loss stand.
"""

from collections.abc import Sequence

GAMMA_FLOOR = 0.01  # the release's lower bound of a loss's weight


def pivot_blocks(blocks: int, losses: int) -> list[int]:
    """The release's rule (spec 3.2): `losses` pivots in a net of `blocks` blocks, ResNet-56 (27, 3) -> [7, 14, 21]."""
    if blocks < 2 or not 0 <= losses < blocks:
        raise ValueError(f"{losses} auxiliary losses do not fit a net of {blocks} blocks")
    step = blocks // (losses + 1) + 1
    return [min(step * (i + 1), blocks - 1) for i in range(losses)]


def resolve(blocks: int, losses: int, given: Sequence[int] = ()) -> list[int]:
    """Pivots of all P+1 losses, the end of the net included: `given` where it is not empty, else the rule."""
    chosen = list(given) or pivot_blocks(blocks, losses)
    ends = [*chosen, blocks]
    if any(b <= a for a, b in zip([0, *ends], ends)):
        raise ValueError(f"pivots {chosen} must rise strictly between 0 and {blocks}")
    return ends


def stage_of(block: int, ends: Sequence[int]) -> int:
    """Index p of the loss that judges `block` (counted from 0): the first pivot behind it."""
    return next(p for p, end in enumerate(ends) if block < end)


def gammas(ends: Sequence[int], convs_per_block: int) -> list[float]:
    """Weights of the P+1 losses, max(.01, (L_p / L_last)^2) with L_p = pivot * convs_per_block + 1 (spec 3.3)."""
    depth = [end * convs_per_block + 1 for end in ends]
    return [max(GAMMA_FLOOR, (d / depth[-1]) ** 2) for d in depth]


def stage_rates(weights: Sequence[float]) -> list[float]:
    """Learning-rate factor of stage i, 1 / sum_{j >= i} gamma_j: the stage is reached by the losses i..P only."""
    return [1.0 / sum(weights[i:]) for i in range(len(weights))]
