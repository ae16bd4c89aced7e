"""Discriminant information (DI) of features about labels, in closed form (Hou and Kung, arXiv 2005.13796; KDI: Kung).

    DI(Z) = tr((S + rho I)^-1 Z'Y Y'Z)               primal, S = Z'Z of size (C P, C P)
          = tr(Y' K (K + rho I)^-1 Y)                dual, K = Z Z' of size (B, B)
          = tr(Y'Y) - min_W {|Y - Z W|^2 + rho |W|^2}   what a ridge classifier explains of the labels

Z (B, C P) are the features of B examples in C channels of P numbers each, Y (B, K) one-hot labels, both centred. All is
computed in float64 from ONE Cholesky factor of K + rho I: the value, the derivative by a channel's mask and the exact
loss when a channel is removed. Taking channels away never raises DI.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stages.lib.errors import StageError


def centred_features(features: Tensor) -> Tensor:
    """Z (B, C, P) in float64, minus its mean over the batch, of features (B, C, ...).

    StageError for features that are not finite or have no channel axis.
    """
    if features.dim() < 2 or features.numel() == 0:
        raise StageError(f"features: expected a batch of channels [B, C, ...], got {list(features.shape)}")
    rows = features.detach().reshape(*features.shape[:2], -1).double()
    if not bool(rows.isfinite().all()):
        raise StageError("features: NaN or infinity among them; the net has diverged, or the data hold such values")
    return rows - rows.mean(0)


def centred_labels(labels: Tensor, classes: int) -> Tensor:
    """Y (B, K) in float64: one-hot rows of labels (B,) minus their mean. StageError for a batch of one class."""
    if len(labels.unique()) < 2:
        raise StageError("labels: the batch holds one class only; expected two or more, raise the batch")
    hot = torch.nn.functional.one_hot(labels.long(), classes).double()
    return hot - hot.mean(0)


def kernel(rows: Tensor) -> Tensor:
    """K = Z Z' (B, B) of Z (B, C, P)."""
    flat = rows.flatten(1)
    return flat @ flat.T


def relative_ridge(features: Tensor, share: float) -> float:
    """rho = share tr(K) / B, a ridge that follows the scale of the features (B, C, ...)."""
    _check_ridge(share)
    rows = centred_features(features)
    mean = float(rows.square().sum()) / len(rows)
    if mean == 0:
        raise StageError("features: every one is constant over the batch, so there is no scale for the ridge rho")
    return share * mean


def _check_ridge(rho: float) -> None:
    if not 0 < rho < float("inf"):
        raise StageError(f"rho={rho}: expected a finite ridge above 0")


@dataclass(frozen=True)
class Discriminant:
    """DI of a batch; made by `analyse`.

    rows: Z (B, C, P); labels: Y (B, K); rho: the ridge; factor: L (B, B) with L L' = K + rho I.
    """

    rows: Tensor
    labels: Tensor
    rho: float
    factor: Tensor

    @property
    def total(self) -> float:
        """tr(Y'Y), which DI cannot exceed."""
        return float(self.labels.square().sum())

    @cached_property
    def coefficients(self) -> Tensor:
        """A = (K + rho I)^-1 Y (B, K), the dual coefficients of the ridge classifier."""
        return torch.cholesky_solve(self.labels, self.factor)

    @property
    def inverse_trace(self) -> float:
        """T = tr(Y Y' (K + rho I)^-1), what the authors' code differentiates; DI = tr(Y'Y) - rho T."""
        return float((self.labels * self.coefficients).sum())

    @property
    def value(self) -> float:
        """DI."""
        return self.total - self.rho * self.inverse_trace

    @property
    def share(self) -> float:
        """DI / tr(Y'Y), in [0, 1]. Near 1 the ridge interpolates and scores are rounding noise: raise rho or B."""
        return self.value / self.total

    @cached_property
    def weights(self) -> Tensor:
        """W (C, P, K), the ridge classifier by channel: W_c = Z_c' A."""
        return torch.einsum("bcp,bk->cpk", self.rows, self.coefficients)

    def mask_gradient(self) -> Tensor:
        """dDI/dm_c = 2 rho |W_c|^2 (C,) at m = 1, where m_c multiplies channel c."""
        return 2 * self.rho * self.weights.square().sum((1, 2))

    def removal_losses(self) -> Tensor:
        """DI minus DI without channel c, exactly, for every c (C,): tr(W_c' (G_cc)^-1 W_c), G = (S + rho I)^-1.

        By Woodbury G_cc = (I - V_c' V_c) / rho with V = L^-1 Z, a system of P unknowns; where P > B the same identity
        once more makes it one of B.
        """
        batch, channels, pixels = self.rows.shape
        flat = torch.linalg.solve_triangular(self.factor, self.rows.reshape(batch, -1), upper=False)
        whitened = flat.view(batch, channels, pixels).permute(1, 0, 2)  # (C, B, P)
        size = min(batch, pixels)
        if pixels <= batch:
            seen, gram = self.weights, whitened.transpose(1, 2) @ whitened
        else:
            seen, gram = whitened @ self.weights, whitened @ whitened.transpose(1, 2)
        identity = torch.eye(size, dtype=gram.dtype, device=gram.device)
        factor = torch.linalg.cholesky(identity - gram)
        energy = torch.linalg.solve_triangular(factor, seen, upper=False).square().sum((1, 2))
        return self.rho * (energy if pixels <= batch else energy + self.weights.square().sum((1, 2)))

    def elimination_order(self) -> Tensor:
        """Channels (C,), the one most worth keeping first: each time the one of least exact loss goes.

        After a removal G and W follow by the Schur complement (a sweep), so no system in B is solved again; of two
        copies of a channel one goes early and the other then counts in full.
        """
        channels, pixels = self.rows.shape[1:]
        flat = torch.linalg.solve_triangular(self.factor, self.rows.flatten(1), upper=False)
        gram, weights = flat.T @ flat, self.weights.flatten(0, 1).clone()
        identity = torch.eye(pixels, dtype=gram.dtype, device=gram.device)
        alive, gone = list(range(channels)), []
        while len(alive) > 1:
            blocks = gram.view(channels, pixels, channels, pixels)[alive, :, alive]
            seen = weights.view(channels, pixels, -1)[alive]
            losses = (seen * torch.linalg.solve(identity - blocks, seen)).sum((1, 2))
            worst = alive.pop(int(losses.argmin()))
            here = slice(worst * pixels, (worst + 1) * pixels)
            update = torch.linalg.solve(identity - gram[here, here], torch.cat((gram[here], weights[here]), 1))
            column = gram[:, here].clone()
            gram, weights = gram + column @ update[:, : len(gram)], weights + column @ update[:, len(gram) :]
            gone.append(worst)
        return torch.tensor([*alive, *reversed(gone)], device=self.rows.device)


def analyse(features: Tensor, labels: Tensor, classes: int, rho: float) -> Discriminant:
    """The Discriminant of features (B, C, ...) and labels (B,) with the ridge rho.

    StageError for rho <= 0, features that are not finite, one class only or unequal lengths.
    """
    _check_ridge(rho)
    if len(features) != len(labels):
        raise StageError(f"features of {len(features)} examples, {len(labels)} labels; expected as many")
    rows, hot = centred_features(features), centred_labels(labels, classes)
    ridge = rho * torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    try:
        factor = torch.linalg.cholesky(kernel(rows) + ridge)
    except torch.linalg.LinAlgError as error:
        raise StageError(f"rho={rho}: too small beside the features for double precision; raise rho") from error
    return Discriminant(rows, hot, rho, factor)


def primal(rows: Tensor, labels: Tensor, rho: float) -> float:
    """DI by its definition, tr((S + rho I)^-1 Z'Y Y'Z), of centred Z (B, C, P) and Y (B, K); for few features."""
    _check_ridge(rho)
    flat = rows.flatten(1)
    cross = flat.T @ labels
    ridge = rho * torch.eye(flat.shape[1], dtype=flat.dtype, device=flat.device)
    return float((cross * torch.linalg.solve(flat.T @ flat + ridge, cross)).sum())


def ridge_gap(rows: Tensor, labels: Tensor, rho: float) -> float:
    """DI as what ridge regression of the centred Y (B, K) on the centred Z (B, C, P) leaves of tr(Y'Y).

    Solved as least squares on rows extended by sqrt(rho) I, so it shares no step with the other forms.
    """
    _check_ridge(rho)
    flat = rows.flatten(1)
    features = flat.shape[1]
    padded = torch.cat((flat, rho**0.5 * torch.eye(features, dtype=flat.dtype)))
    target = torch.cat((labels, torch.zeros(features, labels.shape[1], dtype=labels.dtype)))
    residual = target - padded @ torch.linalg.lstsq(padded, target).solution
    return float(labels.square().sum() - residual.square().sum())
