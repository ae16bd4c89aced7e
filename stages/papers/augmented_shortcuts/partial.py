"""Block-circulant products by a partial Fourier transform: matrix products only, no complex numbers.

A circulant map of length n = r m multiplies polynomials modulo x^n - 1, whose factors are x^m - w with the r-th roots of
unity w. Values are taken modulo each factor (an r-point transform of every r-th entry), multiplied there by small
matrices, and put together again. Conjugate factors are needed once; a complex product takes three real ones (Gauss). So
there are about 3 r / 2 products of matrices r times smaller on both sides, all in one batched call. r = 1 is the dense
form, r = n the whole Fourier transform.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

# Costs beside one multiply-add of a large product: of a product with the thin transform matrices, and of moving one
# number of input or output to its place. Fitted on a machine busy with other work; with less for moving, maps of 192
# columns were chosen that ran at .8 to .98 of the dense form's speed.
THIN, MOVE = 2.5, 80.0


def products(radix: int) -> int:
    """Number of real products S: one a real root of unity, three a pair of conjugate ones."""
    real = 2 - radix % 2
    return real + 3 * ((radix - real) // 2)


def best_radix(inputs: int, outputs: int, length: int) -> int:
    """The radix that should be fastest for blocks of `length`; 1 where the dense form is."""

    def cost(radix: int) -> float:
        if radix == 1:
            return float(inputs * outputs)
        count = products(radix)
        small = count * (inputs // radix) * (outputs // radix)
        return small + (THIN * count + MOVE) * (inputs + outputs)

    return min((radix for radix in range(1, length + 1) if length % radix == 0), key=cost)


@lru_cache
def matrices(radix: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(values modulo the factors [S, r], kernels [2 S, r], reconstruction [r, S]).

    The first S rows for kernels are those of w h, for the entries that wrap around modulo x^m - w; the others are those
    of h.
    """
    taken, plain, wrapped, back = [], [], [], []
    for k in range(radix // 2 + 1):
        root = [2 * math.pi * k * j / radix for j in range(radix + 1)]
        real, imaginary = [math.cos(a) for a in root], [-math.sin(a) for a in root]
        if k == 0 or 2 * k == radix:
            taken.append(real[:-1])
            plain.append(real[:-1])
            wrapped.append(real[1:])
            back.append([value / radix for value in real[:-1]])
            continue
        total = [a + b for a, b in zip(real, imaginary, strict=True)]
        less = [b - a for a, b in zip(real, imaginary, strict=True)]
        taken += [total[:-1], real[:-1], imaginary[:-1]]
        plain += [real[:-1], less[:-1], total[:-1]]
        wrapped += [real[1:], less[1:], total[1:]]
        # k1 = (x + iy's sum) A, k2 = x (B - A), k3 = y (A + B): real part k1 - k3, imaginary part k1 + k2.
        scaled = [(2 * a / radix, 2 * b / radix) for a, b in zip(real[:-1], imaginary[:-1], strict=True)]
        back += [[a + b for a, b in scaled], [b for _, b in scaled], [-a for a, _ in scaled]]
    made = (torch.tensor(rows, dtype=torch.float64).to(device, dtype) for rows in (taken, wrapped + plain, back))
    first, kernels, last = made
    return first, kernels, last.t().contiguous()


def small_matrices(weight: Tensor, radix: int) -> Tensor:
    """The matrices [S, b_in m, b_out m] of the products, from first columns [b_out, b_in, n]."""
    rows, columns, length = weight.shape
    size = length // radix
    _, kernels, _ = matrices(radix, weight.dtype, weight.device)
    parts = kernels @ weight.reshape(rows * columns, radix, size).transpose(0, 1).reshape(radix, -1)
    wrapped, plain = parts.view(2, -1, rows, columns, size)
    place = torch.arange(size, device=weight.device)
    index = size + place[None, :] - place[:, None]  # [q, p]: entry p of the result from entry q of the input
    entries = torch.cat([wrapped, plain], -1)[..., index]  # [S, b_out, b_in, q, p]
    return entries.permute(0, 2, 3, 1, 4).reshape(-1, columns * size, rows * size)


def multiply(x: Tensor, small: Tensor, radix: int, length: int) -> Tensor:
    """Rows [T, b_in n] times the block-circulant matrix whose `small_matrices` are given: [T, b_out n]."""
    first, _, last = matrices(radix, x.dtype, x.device)
    count, size = len(x), length // radix
    split = x.view(count, -1, radix, size).permute(2, 0, 1, 3).reshape(radix, -1)
    values = torch.bmm((first @ split).view(len(first), count, -1), small)
    joined = (last @ values.view(len(first), -1)).view(radix, count, -1, size)
    return joined.permute(1, 2, 0, 3).reshape(count, -1)
