"""Multiplications of the FFT form, as the paper counts them. No torch here."""

import math


def fft_multiplications(width: int, blocks: int) -> float:
    """Real multiplications of one projection of one token: b forward and b inverse transforms, b^2 products of spectra.

    2 b n log2 n + b^2 n with n = d / b; a factor of two for real input is left aside on both sides.
    """
    length = width // blocks
    return 2 * blocks * length * math.log2(length) + blocks * blocks * length


def extra_multiplications(width: int, blocks: int, paths: int, depth: int, tokens: int) -> float:
    """Those of a whole net for one image: T projections in two modules of every block, for every token."""
    return 2 * depth * paths * tokens * fft_multiplications(width, blocks)
