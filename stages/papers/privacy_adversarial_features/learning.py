"""All maps of one task: closed forms, supervised and adversarial, paired by initial weights and order of the samples."""

import torch
from torch import Tensor

from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed
from stages.papers.privacy_adversarial_features import adversarial, closed, minimax_filter, supervised
from stages.papers.privacy_adversarial_features.arms import PLAYED, SUPERVISED
from stages.papers.privacy_adversarial_features.maps import Maps
from stages.papers.privacy_adversarial_features.settings import Compress
from stages.papers.privacy_adversarial_features.tables import Task

Found = dict[str, list[tuple[Tensor, ...]]]  # for each arm the tensors of its one map, or of its map at each price


def learn(task: Task, params: Compress, repetition: int) -> Found:
    """The maps of every arm but the raw features.

    StageError for more dimensions than there are features, and for so few samples that information saturates.
    """
    inputs, fourier = task.train.shape[1], params.information.fourier
    if params.dims > inputs:
        raise StageError(f"params.dims={params.dims}: expected at most the {inputs} features that vary")
    if len(task.u) <= fourier:
        raise StageError(f"params.information.fourier={fourier}: expected fewer than the {len(task.u)} samples to train on")
    found, start = closed_forms(task, params, repetition)
    for name, arm in SUPERVISED.items():
        seed = derive_seed(repetition, "supervised")
        maps = _fresh(task, params, arm.net, start, repetition)
        found[name] = _all(supervised.train(maps, task, arm, params.prices, params.information, seed), params)
    filters = minimax_filter.train(task, start, params.prices, params.filter)
    found["minimax_filter"] = [(one.float(),) for one in filters]
    for name, played in PLAYED.items():
        maps, seed = _fresh(task, params, played.net, start, repetition), derive_seed(repetition, "adversarial")
        game = adversarial.Game(maps, task, played, params.prices, params.adversarial, params.information, seed)
        found[name] = _all(adversarial.train(game), params)
    return found


def closed_forms(task: Task, params: Compress, repetition: int) -> tuple[Found, Tensor]:
    """Maps that need no training, and RUCA's (P, D, d), from which linear maps start at their price."""
    scatters, dims = closed.Scatters(task), params.dims
    rho = closed.choose_ridge(task, dims, params.closed.ridges)
    random = torch.Generator().manual_seed(derive_seed(repetition, "random"))
    drawn = torch.randn(task.train.shape[1], dims, generator=random, dtype=torch.float64)
    single = {
        "random": torch.linalg.qr(drawn).Q.to(task.train.device),
        "pca": closed.pca(scatters, dims),
        "pls": closed.pls(scatters, dims),
        "dca": closed.dca(scatters, dims, rho),
        "desensitised": closed.desensitised(scatters, dims, rho),
        "utility_privacy_lda": closed.utility_privacy_lda(scatters, dims, rho),
    }
    priced = closed.ruca(scatters, dims, (params.closed.numerator_ridge, rho), params.prices)
    found: Found = {name: [(weight.float(),)] for name, weight in single.items()}
    found["ruca"] = [(weight.float(),) for weight in priced]
    return found, torch.stack(priced).float()


def _fresh(task: Task, params: Compress, net: bool, start: Tensor, repetition: int) -> Maps:
    random = torch.Generator().manual_seed(derive_seed(repetition, "init"))
    maps = Maps(len(params.prices), task.train.shape[1], params.dims, params.hidden if net else 0, random)
    if not net:
        maps.begin_with(start.cpu())
    return maps.to(task.train.device)


def _all(maps: Maps, params: Compress) -> list[tuple[Tensor, ...]]:
    return [maps.one(place) for place in range(len(params.prices))]
