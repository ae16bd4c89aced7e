"""Corruptions of clean images: MATLAB-like bicubic scaling by a whole factor, Gaussian noise, rain.

The cubic kernel (Keys 1981, a = -1/2) has rational values at the distances that a whole factor needs, so its weights
are kept as whole numbers over a common denominator. On 8-bit images every sum is then exact in float64, whatever its
order, and a scaled image has the same bytes on every machine. Columns come before rows and 8-bit results are rounded
after each, as MATLAB's imresize does: its published low-resolution images are reproduced bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.lib.errors import StageError

WHITE = 255.0
COLUMNS_THEN_ROWS = (-2, -1)


def cubic(p: int, q: int) -> int:
    """2 q^3 times the cubic kernel (a = -1/2) at distance p / q >= 0."""
    if p <= q:
        return 3 * p**3 - 5 * p**2 * q + 2 * q**3
    return -(p**3) + 5 * p**2 * q - 8 * p * q**2 + 4 * q**3 if p < 2 * q else 0


def down_weights(factor: int) -> tuple[int, list[int], int]:
    """(first, weights, denominator): output i is the sum of weights[t] * input[i * factor + first + t], over denominator.

    The kernel is stretched by the factor, which is the antialiasing.
    """
    reach = 2 * factor
    first = -((2 * reach - factor) // 2)  # least j with 2 |j - (factor - 1) / 2| < 2 reach
    count = 2 * reach if factor % 2 == 0 else 2 * reach - 1
    weights = [cubic(abs(2 * j - (factor - 1)), reach) for j in range(first, first + count)]
    return first, weights, 16 * factor**4


def up_weights(factor: int) -> tuple[list[list[int]], int]:
    """(weights [phase][tap], denominator): output i * factor + s is the sum of weights[s][t] * input[i + t - 2]."""
    phases = [[cubic(abs(2 * factor * j - (2 * s + 1 - factor)), 2 * factor) for j in range(-2, 3)] for s in range(factor)]
    return phases, 16 * factor**3


def downscale(x: Tensor, factor: int, quantise: bool = True) -> Tensor:
    """Bicubic reduction of [..., H, W] to [..., H / factor, W / factor], antialiased, border indices clamped.

    Args:
        x: Values in 0..255, uint8 or floating.
        factor: 1 or more; H and W must be multiples of it.
        quantise: Clip and round to whole numbers in 0..255 after either axis, as for the published 8-bit images.

    Returns:
        A tensor of the dtype of x.

    Raises:
        StageError: H or W is no multiple of the factor, or uint8 is asked for without rounding.
    """
    _check(x, factor, quantise)
    height, width = x.shape[-2:]
    if height % factor or width % factor:
        raise StageError(f"an image of {width} x {height} pixels is no multiple of {factor}; crop it first (crop_to_multiple)")
    if factor == 1:
        return x.clone()
    first, weights, denominator = down_weights(factor)
    values = x.double()
    for axis in COLUMNS_THEN_ROWS:
        count = values.shape[axis] // factor
        values = _clamped(values, axis, -first, len(weights) + first - factor)
        values = _weighted(values, axis, weights, factor, count) / denominator
        values = to_8bit(values) if quantise else values
    return values.to(x.dtype)


def upscale(x: Tensor, factor: int, quantise: bool = False) -> Tensor:
    """Bicubic enlargement of [..., H, W] to [..., H factor, W factor], border indices clamped.

    Args and errors as for `downscale`, save that any H and W will do. Without rounding the values may leave 0..255.
    """
    _check(x, factor, quantise)
    if factor == 1:
        return x.clone()
    phases, denominator = up_weights(factor)
    values = x.double()
    for axis in COLUMNS_THEN_ROWS:
        count = values.shape[axis]
        values = _clamped(values, axis, 2, 2)
        parts = [_weighted(values, axis, weights, 1, count) / denominator for weights in phases]
        values = torch.stack(parts, axis).flatten(axis - 1, axis)  # the phases interleave
        values = to_8bit(values) if quantise else values
    return values.to(x.dtype)


def crop_to_multiple(x: Tensor, factor: int) -> Tensor:
    """[..., H, W] without the last rows and columns beyond a multiple of the factor. Raises StageError if none are left."""
    height, width = (size // factor * factor for size in x.shape[-2:])
    if not height or not width:
        raise StageError(f"an image of {x.shape[-1]} x {x.shape[-2]} pixels is smaller than the factor {factor}; leave it out")
    return x[..., :height, :width]


def to_8bit(x: Tensor) -> Tensor:
    """Clip to 0..255 and round halves up, as MATLAB does; the dtype stays."""
    return x.clamp(0, WHITE).add(0.5).floor()


def add_noise(x: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """clip(x + sigma N(0, 1), 0, 255), drawn for every value and not rounded. sigma is in grey levels; 0 changes nothing.

    x is floating; the generator is a CPU one, so that every device gets the same draws.
    """
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    return (x + sigma * noise).clamp(0, WHITE)


def add_rain(x: Tensor, streaks: Tensor) -> Tensor:
    """clip(x + streaks, 0, 255): the same grey streaks [..., H, W] on the three channels of x [..., 3, H, W]."""
    return (x + streaks.to(x.dtype).unsqueeze(-3)).clamp(0, WHITE)


def _check(x: Tensor, factor: int, quantise: bool) -> None:
    if factor < 1:
        raise StageError(f"scale factor {factor}: expected 1 or more")
    if not quantise and not x.is_floating_point():
        raise StageError(f"scaling {x.dtype} without rounding: expected floating values")


def _clamped(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    """x with its first and last entries along an axis repeated."""
    count = x.shape[axis]
    places = torch.arange(-before, count + after, device=x.device).clamp(0, count - 1)
    return x.index_select(axis, places)


def _weighted(x: Tensor, axis: int, weights: Sequence[int], step: int, count: int) -> Tensor:
    """sum over t of weights[t] x[i step + t] along an axis, for i below `count`."""
    every = (..., slice(None, None, step), *[slice(None)] * (-1 - axis))
    taps = [x.narrow(axis, tap, step * (count - 1) + 1)[every] for tap in range(len(weights))]
    total = taps[0] * weights[0]
    for tap, weight in zip(taps[1:], weights[1:]):
        total = total.add(tap, alpha=weight)
    return total
