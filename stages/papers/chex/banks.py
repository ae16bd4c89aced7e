"""Generated filter banks with redundant filters, on which scores are compared without any training."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.lib.criteria import random_order
from stages.lib.runtime import derive_seed
from stages.papers.chex import leverage

if TYPE_CHECKING:
    from stages.papers.chex.columns import ColumnParams


def bank(params: "ColumnParams", repetition: int) -> Tensor:
    """A matrix [d, C]: `redundant` columns mixed from `directions` directions, the others each with one of its own.

    Redundant columns are `loudness` times as long on average, so that their norm speaks for them. Columns are shuffled.
    """
    generator = torch.Generator().manual_seed(derive_seed(repetition, "bank"))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    d, few, many = params.inputs, params.directions, params.redundant
    repeated = params.loudness * normal(d, few) @ normal(few, many) / few**0.5
    whole = torch.cat([repeated, normal(d, params.channels - many)], dim=1) + params.noise * normal(d, params.channels)
    return whole[:, torch.randperm(params.channels, generator=generator)]


def residual_shares(params: "ColumnParams", repetition: int) -> dict[str, float]:
    """||w - P w||^2 / ||w||^2 with the columns that leverage scores, L1 norms and chance keep, and the least possible."""
    w, k = bank(params, repetition), params.kept
    generator = torch.Generator().manual_seed(derive_seed(repetition, "chance"))
    chosen = {
        "chex": leverage.kept_columns(w, k),
        "l1": leverage.kept_columns(w, k, "l1"),
        "random": random_order(w.shape[1], generator)[:k],
    }
    found = {arm: leverage.residual_share(w, kept) for arm, kept in chosen.items()}
    tail = torch.linalg.svdvals(w)[k:].square().sum() / w.square().sum()
    return {**found, "bound": float(tail)}
