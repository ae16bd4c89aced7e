"""Greedy pruning under a budget of MACs, section 3.3: steps of equal cost, the layer chosen by held-out accuracy."""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stages.lib import surgery, training
from stages.lib.data import AnySplit, Split
from stages.lib.errors import StageError
from stages.lib.models import Net, Site
from stages.lib.runtime import derive_seed
from stages.papers.discriminant_information_pruning import information, maps, structure
from stages.papers.discriminant_information_pruning.criteria import Criterion, Information, Kept, criterion
from stages.papers.discriminant_information_pruning.division import divided

if TYPE_CHECKING:
    from stages.papers.discriminant_information_pruning.prune import PruneParams

TOLERANCE = 1e-3  # of the largest logit: masked and thin nets differ by rounding; more is a bug in the surgery
PROBE = 0.1  # share of a layer whose cost the linear estimate starts from


@dataclass
class Candidate:
    """One layer's next step: the channels that would stay, and the net's MACs then."""

    site: Site
    kept: Tensor
    macs: int
    worth: float = 0.0


@dataclass
class Pruning:
    """A net on its way to the budget: what is masked and what each step did."""

    net: Net  # masked
    kept: Kept
    budget: int
    params: "PruneParams"
    criterion: Criterion
    first: information.Layers | None  # DI of the net before the first step, where it chooses layers or scores
    steps: list[dict[str, Any]]

    @property
    def widths(self) -> structure.Widths:
        """Channels that every site keeps."""
        return {name: len(index) for name, index in self.kept.items()}

    @property
    def macs(self) -> int:
        """MACs of the structure so far."""
        return structure.cost(self.net.record(), self.widths)


def greedy(
    net: Net, split: AnySplit, budget_macs: int, score_name: str, params: "PruneParams", repetition: int, device: torch.device
) -> tuple[Net, dict[str, Any]]:  # fmt: skip
    """(thin net within `budget_macs`, JSON-able record) by the greedy loop with any score of `criteria.NAMES`.

    `split` is the whole training split: `params.holdout` images of it choose the layers, scores come from the others.
    With `params.layers` = information the layer that loses least DI for the MACs it saves is chosen instead. The given
    net stays as it is and should not have been trained on the hold-out (`division.divided` tells which images that is).
    """
    maps.check(net)
    images, held_out = divided(split.to(device), params.limit, params.holdout)
    batches = information.balanced_batches(images, params.batches, params.batch, repetition)
    masked = copy.deepcopy(net).to(device).eval()
    kept = {s.name: torch.arange(surgery.channels(net, s), device=device) for s in net.sites()}
    structure.check_budget(net.record(), {name: len(index) for name, index in kept.items()}, budget_macs)
    chosen = criterion(score_name, masked, batches, params, repetition)
    first = information.of_sites(masked, kept, batches, params) if params.layers == "information" else None
    run = Pruning(masked, kept, budget_macs, params, chosen, first, [])
    dense = run.macs
    while run.macs > budget_macs:
        _step(run, dense, batches, held_out)
        if params.interlude.epochs and len(run.steps) % params.interlude.every == 0 and run.macs > budget_macs:
            _interlude(run, images, repetition, device)
    return _finished(run, held_out, repetition)


def _step(run: Pruning, dense: int, batches: list[Split], held_out: Split) -> None:
    """One step: every layer proposes, the best proposal is masked."""
    run.criterion.refresh(run.net, run.kept)
    found = candidates(run, dense)
    if not found:
        raise StageError(
            f"budget of {run.budget} MACs: no structure meets it, every layer has lost {run.params.most:.0%} of its channels "
            f"at {run.macs}; raise the budget or params.most"
        )
    if run.first is not None:
        _by_information(run, found, batches)
    else:
        _by_accuracy(run, found, held_out)
    winner = max(found, key=lambda c: c.worth)  # the first on ties
    before = run.macs
    run.kept[winner.site.name] = winner.kept
    surgery.mask_(run.net, {winner.site.name: winner.kept})
    told = {"site": winner.site.name, "kept": len(winner.kept), "macs": run.macs, "saved": before - run.macs}
    run.steps.append({**told, "worth": winner.worth})


def candidates(run: Pruning, dense: int) -> list[Candidate]:
    """Each layer's step: dF is what 10 % more of the layer saves, and 0.1 p F_max / dF of it saves about p F_max.

    The last step is cut to what the budget still asks, and every step removes a channel or more.
    """
    found, present = [], run.macs
    for site in run.net.sites():
        active = run.kept[site.name]
        channels, width = surgery.channels(run.net, site), len(active)
        gone = 1 - width / channels
        if width == 1 or gone >= run.params.most:
            continue
        each = present - structure.cost(run.net.record(), run.widths | {site.name: width - 1})
        step = PROBE * run.params.delta * dense / (PROBE * channels * each)
        needed = -(-(present - run.budget) // each)
        keep = max(structure.keep_after(channels, min(1.0, gone + step)), width - needed, 1)
        keep = min(keep, width - 1)
        best = run.criterion.best(site, active, keep)
        found.append(Candidate(site, best, present - each * (width - keep)))
    return found


@torch.no_grad()
def _by_accuracy(run: Pruning, found: list[Candidate], held_out: Split) -> None:
    """Worth of a candidate: accuracy on the hold-out of the net with it masked, without any training."""
    net, inputs = run.net.eval(), [run.net.stem(held_out.x)]
    for block in range(len(net.blocks)):
        inputs.append(net.segment(inputs[-1], block, block + 1))
    for candidate in found:
        weight = net.get_submodule(candidate.site.consumer).weight
        whole, start = weight.detach().clone(), candidate.site.block
        gone = torch.ones(weight.shape[1], dtype=torch.bool, device=weight.device)
        gone[candidate.kept] = False
        weight[:, gone] = 0
        logits = net.head(net.segment(inputs[start], start))
        weight.copy_(whole)
        if bool(logits.isnan().any()):
            raise StageError("hold-out: the net answers NaN; its training has diverged, lower lr")
        candidate.worth = int((logits.argmax(1) == held_out.y).sum()) / len(held_out)


def _by_information(run: Pruning, found: list[Candidate], batches: list[Split]) -> None:
    """Worth of a candidate: minus the share of the dense layer's DI that it loses, for each of the MACs saved."""
    if isinstance(run.criterion, Information):
        now = run.criterion.layers
    else:
        now = information.of_sites(run.net, run.kept, batches, run.params)
    for candidate in found:
        name = candidate.site.name
        lost = now.value(name) - now.value_of(name, candidate.kept)
        candidate.worth = -lost / run.first.value(name) / (run.macs - candidate.macs)


def _interlude(run: Pruning, images: Split, repetition: int, device: torch.device) -> None:
    """Training between steps, the masks put back after each mini-batch; the learning rate is constant."""
    options, kept = run.params.interlude, dict(run.kept)
    training.train(
        run.net, images, epochs=options.epochs, lr=options.lr, batch=options.batch, weight_decay=options.weight_decay,
        schedule="constant", seed=derive_seed(repetition, "interlude", len(run.steps)), device=device,
        mask_hook=lambda model: surgery.mask_(model, kept), label=f"after step {len(run.steps)}",
    )  # fmt: skip
    run.net.eval()


def _finished(run: Pruning, held_out: Split, repetition: int) -> tuple[Net, dict[str, Any]]:
    thin = surgery.cut(run.net, run.kept).eval()
    gap = surgery_gap(run.net, thin, held_out.x[:200])
    shares = run.criterion.layers.shares() if isinstance(run.criterion, Information) and run.steps else {}
    for site, share in shares.items():
        if not information.INFORMATIVE[0] < share < information.INFORMATIVE[1]:
            print(f"{site}: DI is {share:.2f} of what it can be; scores are uncertain there, change rho or batch")
    return thin, {**record(run.net, run.kept, repetition, gap), "steps": run.steps, "information_share": shares}


@torch.no_grad()
def surgery_gap(masked: Net, thin: Net, x: Tensor) -> float:
    """Largest difference of the logits of the masked and the thin net, beside the largest logit where that is above 1.

    StageError where it is not rounding.
    """
    logits = masked.eval()(x)
    gap = float((logits - thin.eval()(x)).abs().max() / logits.abs().max().clamp(min=1))
    if not gap < TOLERANCE:
        raise StageError(f"surgery: masked and thin nets differ by {gap:.2g}; expected rounding only, report this as a bug")
    return gap


def record(net: Net, kept: Kept, repetition: int, gap: float) -> dict[str, Any]:
    """What every arm writes of its net: the repetition, channels kept by layer, the surgery's rounding error."""
    layers = [
        {"site": s.name, "channels": surgery.channels(net, s), "kept": sorted(kept[s.name].tolist())} for s in net.sites()
    ]
    return {"seed": repetition, "layers": layers, "surgery_gap": gap}
