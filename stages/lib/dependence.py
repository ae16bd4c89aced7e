"""How much features tell of labels, as criteria to train on: ridge and kernel discriminant information, their eigenvectors.

`stages.lib.discriminant` gives DI of a batch for scores of channels, in float64 and detached; here are the same algebra on
averaged scatters, so that batches of different size agree, with gradients and leading batch dimensions:

    DI_rho(Z, y) = tr((S/n + rho I)^-1 S_B/n),   S = Zc'Zc,   S_B = Zc' Y Y' Zc

with the balanced labels Y (n, C), Y_ic = 1/sqrt(n_c) for y_i = c, centred, so that |Y|^2 = C - 1 and S_B is the scatter of the
class means. It equals |Y|^2 - min_A {|Y - Zc A|^2 + n rho |A|^2}: DI is what the best ridge regression gains, a closed-form
adversary, and its gradient the envelope's (Danskin). `stages.lib.hsic` has the kernels and the criterion without inverse.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.lib import discriminant
from stages.lib.errors import StageError
from stages.lib.hsic import centred


def balanced_labels(labels: Tensor, classes: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Y (n, C): one-hot labels (n,) over the root of their class's size, centred; an absent class is a column of zeros.

    StageError for a batch of one class.
    """
    counts = torch.bincount(labels, minlength=classes).clamp_min(1)
    return (discriminant.centred_labels(labels, classes) / counts.double().sqrt()).to(dtype)


def scatter(z: Tensor) -> Tensor:
    """S/n (..., d, d) of features (..., n, d), about their mean."""
    shifted = z - z.mean(-2, keepdim=True)
    return shifted.transpose(-1, -2) @ shifted / z.shape[-2]


def between(z: Tensor, y: Tensor) -> Tensor:
    """S_B/n (..., d, d) of features (..., n, d) and balanced labels (n, C)."""
    cross = _cross(z, y)
    return cross @ cross.transpose(-1, -2) / z.shape[-2]


def _cross(z: Tensor, y: Tensor) -> Tensor:
    return (z - z.mean(-2, keepdim=True)).transpose(-1, -2) @ y  # y is centred, so it would do without; this rounds better


def information(z: Tensor, targets: Sequence[Tensor], rho: float) -> list[Tensor]:
    """DI_rho (...,) of features (..., n, d) about each of several balanced labels (n, C), each of which may have leading
    dimensions too, from one Cholesky factor.

    StageError for rho <= 0 or features that are not finite.
    """
    factor = ridge_factor(scatter(z), rho)
    solved = (torch.linalg.solve_triangular(factor, _cross(z, y), upper=False) for y in targets)
    return [part.square().sum((-2, -1)) / z.shape[-2] for part in solved]


def ridge_factor(matrix: Tensor, rho: float) -> Tensor:
    """L (..., d, d) with L L' = M + rho I of a scatter or kernel matrix M.

    StageError for rho <= 0 or a sum that is not positive definite.
    """
    if not 0 < rho < float("inf"):
        raise StageError(f"rho={rho}: expected a finite ridge above 0")
    ridge = rho * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    factor, info = torch.linalg.cholesky_ex(matrix + ridge)
    if bool(info.any()) or not bool(factor.isfinite().all()):
        raise StageError(f"rho={rho}: features are not finite, or too large beside it; lower the learning rate or raise rho")
    return factor


def kernel_information(kernel: Tensor, y: Tensor, rho: float) -> Tensor:
    """KDI (...,) = tr((K + n rho I)^-1 K Y Y') of a kernel (..., n, n), centred here, and balanced labels (n, C)."""
    whole = centred(kernel)
    explained = torch.cholesky_solve(whole @ y, ridge_factor(whole, rho * kernel.shape[-1]))
    return (explained * y).sum((-2, -1))


def fourier_draw(inputs: int, features: int, width: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Frequencies (inputs, M) ~ N(0, 1/width^2) and phases (M,) ~ U[0, 2 pi) of a Gaussian kernel (Rahimi and Recht, 2007)."""
    frequencies = torch.randn(inputs, features, generator=generator) / width
    return frequencies, 2.0 * torch.pi * torch.rand(features, generator=generator)


def fourier_features(z: Tensor, frequencies: Tensor, phases: Tensor) -> Tensor:
    """phi (..., n, M) = sqrt(2/M) cos(z Omega + b): inner products are the Gaussian kernel in expectation."""
    return (2.0 / len(phases)) ** 0.5 * (z @ frequencies + phases).cos()


def directions(numerator: Tensor, denominator: Tensor, count: int | None = None) -> Tensor:
    """W (D, count): generalised eigenvectors of largest w'Nw / w'Dw, with W' D W = I; all of them without `count`.

    Symmetric (D, D) in float64; the largest entry of each column is positive, so that the answer does not depend on the
    routine. StageError if the denominator is not positive definite.
    """
    size = len(denominator)
    if count is not None and not 1 <= count <= size:
        raise StageError(f"dims={count}: expected 1 to the {size} features there are")
    factor, info = torch.linalg.cholesky_ex(denominator)
    if int(info):
        raise StageError("the denominator of the Rayleigh quotient is singular; raise the ridge")
    half = torch.linalg.solve_triangular(factor, numerator, upper=False)
    whitened = torch.linalg.solve_triangular(factor, half.T, upper=False)
    vectors = torch.linalg.eigh((whitened + whitened.T) / 2).eigenvectors.flip(1)
    found = torch.linalg.solve_triangular(factor.T, vectors, upper=True)[:, :count]
    return found * found.gather(0, found.abs().argmax(0, keepdim=True)).sign()


def kernel_ridge(kernel: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """Dual coefficients (..., n, C) = (K + ridge I)^-1 T of a kernel (..., n, n) and targets (n, C)."""
    return torch.cholesky_solve(targets, ridge_factor(kernel, ridge))
