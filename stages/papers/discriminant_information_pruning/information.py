"""DI of a net's layers: class-balanced batches of training images, the ridge, scores summed over batches."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stages.lib import data, discriminant
from stages.lib.checks import at_least, one_of
from stages.lib.data import Split
from stages.lib.discriminant import Discriminant
from stages.lib.errors import StageError
from stages.lib.models import Net
from stages.lib.runtime import derive_seed
from stages.papers.discriminant_information_pruning import maps

RIDGES = ("relative", "absolute")
INFORMATIVE = (0.2, 0.95)  # outside, nearly all or nearly nothing is explained and scores are noise (specification, 10)


class Settings(Protocol):
    """How DI is measured; the stage's params."""

    hook: str
    ridge: str
    rho: float
    batches: int
    batch: int


def check(params: Settings) -> None:
    """StageError that names the key of a wrong setting."""
    for key, allowed in (("hook", maps.HOOKS), ("ridge", RIDGES)):
        one_of(key, getattr(params, key), allowed)
    for key in ("batches", "batch"):
        at_least(key, getattr(params, key), 1)
    if not 0 < params.rho < float("inf"):
        raise StageError(f"params.rho={params.rho}: expected a finite ridge above 0")


def balanced_batches(split: Split, batches: int, batch: int, repetition: int) -> list[Split]:
    """Disjoint class-balanced batches, the same for every arm of a repetition.

    StageError where the split has too few images.
    """
    if batches * batch > len(split):
        raise StageError(f"{batches} batches of {batch} images need {batches * batch}, there are {len(split)}; lower batch")
    parts = data.stratified(
        split.y.cpu().numpy(), {str(number): batch for number in range(batches)}, derive_seed(repetition, "selection") % 2**32
    )
    return [split.take(torch.from_numpy(index)) for index in parts.values()]


@dataclass
class Layers:
    """DI of every site on each batch, for the channels that are still there."""

    kept: dict[str, Tensor]
    batches: list[dict[str, Discriminant]]

    def scores(self, site: str, exact: bool) -> Tensor:
        """Sum over the batches of |dDI/dm_c|, or of the exact removal losses, by kept channel."""
        return sum(b[site].removal_losses() if exact else b[site].mask_gradient() for b in self.batches)

    def value(self, site: str) -> float:
        """DI of the site, summed over the batches."""
        return sum(b[site].value for b in self.batches)

    def value_of(self, site: str, chosen: Tensor) -> float:
        """DI with the channels `chosen` alone (channel numbers, all of them kept ones); same ridge."""
        inside = torch.isin(self.kept[site], chosen)
        return sum(_again(b[site], inside) for b in self.batches)

    def shares(self) -> dict[str, float]:
        """Mean over the batches of DI / tr(Y'Y), by site."""
        return {site: sum(b[site].share for b in self.batches) / len(self.batches) for site in self.kept}


def _again(found: Discriminant, inside: Tensor) -> float:
    rows = found.rows[:, inside]
    system = discriminant.kernel(rows) + found.rho * torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    return found.total - found.rho * float((found.labels * torch.linalg.solve(system, found.labels)).sum())


def of_maps(features: Tensor, labels: Tensor, classes: int, params: Settings) -> Discriminant:
    """DI of maps (B, C, H, W), with the ridge as it is (the authors' code) or times tr(K) / B."""
    rho = params.rho if params.ridge == "absolute" else discriminant.relative_ridge(features, params.rho)
    return discriminant.analyse(features, labels, classes, rho)


def of_sites(net: Net, kept: dict[str, Tensor], batches: list[Split], params: Settings) -> Layers:
    """DI of all sites of a net from which all channels but `kept` are masked."""
    found = []
    for batch in batches:
        sites = maps.site_maps(net, batch.x, params.hook)
        found.append(
            {name: of_maps(sites[name][:, index], batch.y, len(batch.classes), params) for name, index in kept.items()}
        )
    return Layers(kept, found)
