"""The methods that prune a trained net, each by its paper's own code."""

import copy
import dataclasses
from typing import TYPE_CHECKING

import torch

from stages.compare.channel_pruning import nets
from stages.lib import criteria, macs, surgery
from stages.lib.data import Split
from stages.lib.dense import limited
from stages.lib.models import Net
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.dcp import pivots
from stages.papers.dcp.aux_training import train_jointly, weights_of
from stages.papers.dcp.heads import attach
from stages.papers.dcp.thinning import pruned_net
from stages.papers.discriminant_information_pruning.greedy import greedy

if TYPE_CHECKING:
    from stages.compare.channel_pruning.prune import Config


def thin(
    cfg: "Config", dense: Net, split: Split, share: float, repetition: int, device: torch.device
) -> tuple[Net, int]:  # fmt: skip
    """(thin net, passes over the training images that choosing it took) at `share` of the dense net's MACs."""
    if cfg.method == "dcp":
        return _dcp(cfg, dense, split, share, repetition, device), 1
    if cfg.method == "di":
        budget = int(share * macs.total(dense.record()).macs)
        params = dataclasses.replace(cfg.di, limit=0)  # of all images here, however many its own experiment takes
        return greedy(dense, split, budget, "di", params, repetition, device)[0], 0
    return _by_order(dense, share, cfg.method, repetition), 0


def _dcp(cfg: "Config", dense: Net, split: Split, share: float, repetition: int, device: torch.device) -> Net:
    """DCP's release: one pass of joint training with heads at the pivots, then its greedy selection."""
    seed_everything(derive_seed(repetition, "heads"))
    ends = pivots.resolve(len(dense.blocks), len(cfg.params.pivots), cfg.params.pivots)
    aux = attach(copy.deepcopy(dense), ends, len(split.classes), split.x.shape[1:]).to(device)
    train_jointly(
        aux, split, weights_of(aux), epochs=1, lr=cfg.aux.lr, batch=cfg.params.batch, weight_decay=cfg.params.weight_decay,
        seed=derive_seed(repetition, "aux"), device=device, label=f"aux {repetition}",
    )  # fmt: skip
    params = dataclasses.replace(cfg.dcp, ratio=nets.uniform_rate(dense, share), ratios={}, schedule="joint")
    chosen = limited(split, cfg.params.images, repetition).to(device)
    return pruned_net("dcp", params, aux, dense, split, chosen, repetition)[0]


def _by_order(dense: Net, share: float, order: str, repetition: int) -> Net:
    """The first channels of every site by the L1 norm of their filters, or of a random order; uniform widths."""
    kept = {}
    widths = surgery.kept_widths(dense, nets.uniform_rate(dense, share))
    for site in dense.sites():
        filters = dense.get_submodule(site.producer).weight
        generator = torch.Generator().manual_seed(derive_seed(repetition, site.name))
        found = criteria.l1_order(filters) if order == "l1" else criteria.random_order(len(filters), generator)
        kept[site.name] = found[: widths[site.name]].sort().values
    return surgery.cut(dense, kept)
