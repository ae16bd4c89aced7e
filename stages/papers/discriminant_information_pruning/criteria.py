"""Scores by which a channel stays: DI, and what it is compared with. All are larger for channels worth keeping."""

import torch
from torch import Tensor, nn

from stages.lib.criteria import l1_order
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.models import Net, Site
from stages.lib.runtime import derive_seed
from stages.papers.discriminant_information_pruning import information

Kept = dict[str, Tensor]


class Criterion:
    """Scores of one net's channels. `refresh` is called before each step, with the masked net and what it keeps."""

    net: Net

    def refresh(self, net: Net, kept: Kept) -> None:
        """Look at the net as it is now."""
        self.net = net

    def scores(self, site: Site, active: Tensor, keep: int) -> Tensor:
        """Scores (n,) of the channels `active` (n,) of a site, of which `keep` are to stay."""
        raise NotImplementedError

    def best(self, site: Site, active: Tensor, keep: int) -> Tensor:
        """The `keep` best of the active channels, in channel order; ties go to the lowest number."""
        order = torch.sort(self.scores(site, active, keep), descending=True, stable=True).indices
        return active[order[:keep].to(active.device)].sort().values


class Information(Criterion):
    """DI: the derivative by a channel's mask, or the exact loss without the channel."""

    def __init__(self, batches: list[Split], params: information.Settings, exact: bool) -> None:
        self.batches, self.params, self.exact = batches, params, exact

    def refresh(self, net: Net, kept: Kept) -> None:
        """Measures DI of the masked net's layers."""
        super().refresh(net, kept)
        self.layers = information.of_sites(net, kept, self.batches, self.params)
        self.sums = {name: self.layers.scores(name, self.exact) for name in kept}

    def scores(self, site: Site, active: Tensor, keep: int) -> Tensor:
        """Scores of the kept channels, which `active` must be."""
        return self.sums[site.name]


class FilterNorm(Criterion):
    """L1 norm of the filter that makes the channel (Li et al., 2017)."""

    def scores(self, site: Site, active: Tensor, keep: int) -> Tensor:
        """Ranks, the strongest filter's the highest."""
        order = l1_order(self.net.get_submodule(site.producer).weight[active])
        return torch.empty(len(active)).index_copy_(0, order.cpu(), torch.arange(len(active), 0, -1.0))


class Chance(Criterion):
    """A random order, drawn once for each repetition and layer."""

    def __init__(self, repetition: int) -> None:
        self.repetition = repetition

    def scores(self, site: Site, active: Tensor, keep: int) -> Tensor:
        """Uniform numbers that belong to the channels."""
        generator = torch.Generator().manual_seed(derive_seed(self.repetition, "random arm", site.name))
        return torch.rand(self.net.get_submodule(site.producer).out_channels, generator=generator)[active.cpu()]


class Scale(Criterion):
    """|gamma| of the batch normalisation behind the channel (Liu et al., 2017)."""

    def scores(self, site: Site, active: Tensor, keep: int) -> Tensor:
        """Absolute scales."""
        return self.net.get_submodule(site.norm).weight.detach()[active].abs()


def leverage_scores(filters: Tensor, rank: int) -> Tensor:
    """Rank-k leverage score of each filter (C,): its squared row norm in the k leading left singular vectors (CHEX)."""
    left = torch.linalg.svd(filters.detach().double().flatten(1), full_matrices=False).U
    return left[:, :rank].square().sum(1)


class Leverage(Criterion):
    """Leverage scores of the active filters, at the rank that is to stay."""

    def scores(self, site: Site, active: Tensor, keep: int) -> Tensor:
        """Scores in [0, 1]."""
        return leverage_scores(self.net.get_submodule(site.producer).weight[active], keep)


class LossGradient(Criterion):
    """DCP's score (Zhuang et al., 2018, first greedy step): at an empty layer, the norms of the gradient of the joint loss.

    The joint loss is the reconstruction error of the consumer's output plus the net's own cross-entropy; auxiliary
    losses at pivots need a training of their own and are left out here.
    """

    def __init__(self, dense: Net, batches: list[Split]) -> None:
        self.found = {site.name: sum(_empty_gradient(dense, site, b) for b in batches) for site in dense.sites()}

    def scores(self, site: Site, active: Tensor, keep: int) -> Tensor:
        """Sums over output channels of the norms of the gradient's kernels."""
        return self.found[site.name][active]


def _empty_gradient(net: Net, site: Site, batch: Split) -> Tensor:
    """sum_j |G_jk| (C,) of the joint loss's gradient G at a consumer weight of zero; the net stays as it is."""
    layer, seen = net.get_submodule(site.consumer), []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    whole, mode = layer.weight.detach().clone(), net.training
    try:
        with torch.no_grad():
            net.eval()(batch.x)
            layer.weight.zero_()
        logits = net(batch.x)
        loss = nn.functional.mse_loss(seen[1], seen[0]) + nn.functional.cross_entropy(logits, batch.y)
        (gradient,) = torch.autograd.grad(loss, [layer.weight])
    finally:
        handle.remove()
        net.train(mode)
        with torch.no_grad():
            layer.weight.copy_(whole)
    return gradient.flatten(2).norm(dim=2).sum(0)


NAMES = ("di", "di_exact", "l1", "random", "leverage", "dcp", "bn_scale")


def criterion(name: str, dense: Net, batches: list[Split], params: information.Settings, repetition: int) -> Criterion:
    """The criterion of that name; StageError that lists the names where there is none."""
    makers = {
        "di": lambda: Information(batches, params, exact=False), "di_exact": lambda: Information(batches, params, exact=True),
        "l1": FilterNorm, "random": lambda: Chance(repetition), "leverage": Leverage,
        "dcp": lambda: LossGradient(dense, batches), "bn_scale": Scale,
    }  # fmt: skip
    if name not in makers:
        raise StageError(f"score {name}: there is no such score; choose one of {', '.join(NAMES)}")
    return makers[name]()
