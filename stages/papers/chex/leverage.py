"""Pruning inside a layer as column subset selection. Matrices are (d, C): one COLUMN per output channel.

Computed in float64 on the CPU: singular vectors of near-equal singular values must not depend on the device.
"""

import torch
from torch import Tensor

from stages.lib.criteria import l1_order


def columns(weight: Tensor) -> Tensor:
    """The matrix w^l [C_in k k, C_out] of a convolution's weight [C_out, C_in, k, k], float64 on the CPU (section 3.1)."""
    return weight.detach().flatten(1).T.double().cpu()


def leverage_scores(w: Tensor, k: int) -> Tensor:
    """Rank-k leverage scores psi [C] of the columns of w [d, C]: squared row norms of the first k right singular vectors.

    Each lies in [0, 1] and they sum to k (eq. for psi_j in section 3.1 of the paper).
    """
    right = torch.linalg.svd(w, full_matrices=False).Vh[:k]
    return right.square().sum(dim=0)


def kept_columns(w: Tensor, k: int, score: str = "leverage") -> Tensor:
    """Ascending indices [k] of the columns of w [d, C] to keep; equal scores go to the lower index.

    Where k exceeds the rank that w can have, leverage scores do not exist and the L1 norm decides, as in the official code.
    """
    if score == "l1" or k > min(w.shape):
        return l1_order(w.T)[:k].sort().values
    # Scores that are equal but for rounding must tie, or the order would hang on the last bit.
    psi = (leverage_scores(w, k) * 2.0**40).round()
    return torch.sort(psi, descending=True, stable=True).indices[:k].sort().values


def residuals(w: Tensor, kept: Tensor) -> Tensor:
    """eps_j = ||w_j - P w_j||^2 [C] with P the projector on the span of the columns `kept` of w [d, C] (section 3.3)."""
    left, sizes, _ = torch.linalg.svd(w[:, kept], full_matrices=False)
    largest = float(sizes[0]) if len(sizes) else 0.0
    # Columns that depend on one another span fewer directions; those of pure rounding would hide a residual.
    basis = left[:, sizes > largest * max(w.shape) * torch.finfo(w.dtype).eps]
    rest = w - basis @ (basis.T @ w)
    return rest.square().sum(dim=0)


def residual_share(w: Tensor, kept: Tensor) -> float:
    """||w - P w||_F^2 / ||w||_F^2: the share of a layer's weights that its kept columns cannot express; 0 for w = 0."""
    whole = float(w.square().sum())
    return float(residuals(w, kept).sum()) / whole if whole else 0.0
