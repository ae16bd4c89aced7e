"""One arm from a dense net to its figures: what this paper's stages do, and what a comparison of methods may call."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib import macs, training
from stages.lib.checks import at_least, one_of
from stages.lib.data import Split
from stages.lib.dense import augmentation
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.manidp import gated
from stages.papers.manidp.arms import ARMS, find
from stages.papers.manidp.cost import cost_model
from stages.papers.manidp.gated import GatedNet
from stages.papers.manidp.losses import FORMS, similarity
from stages.papers.manidp.matching import restore, thresholds_at
from stages.papers.manidp.sliced import Sliced
from stages.papers.manidp.thresholds import check_rate
from stages.papers.manidp.training import train_gated

if TYPE_CHECKING:
    from stages.papers.manidp.gate import GateParams

SIMILARITY_BATCH = 100  # images whose similarities are compared with one another in a measurement
TOLERANCE = 1e-3  # sliced and masked logits may differ by rounding; more is a bug


def check(params: "GateParams") -> None:
    """StageError that names the first setting that cannot work."""
    check_rate(params.keep_rate, "params.keep_rate")
    for name, rate in params.keep_rates.items():
        find(name)
        check_rate(rate, f"params.keep_rates.{name}")
    one_of("form", params.form, FORMS)
    for key, least in (("epochs", 1), ("batch", 2), ("warmup", 0), ("hold", 0), ("every", 1), ("squeeze", 1), ("match", 0)):
        at_least(key, getattr(params, key), least)
    for key in ("lam", "gamma", "weight_decay", "easy", "exponent", "gate_scale"):
        at_least(key, getattr(params, key), 0)
    if not 0.0 < params.static_share < 1.0:
        raise StageError(f"params.static_share={params.static_share}: expected a share between 0 and 1")
    if not params.easy > 0.0:
        raise StageError("params.easy=0: expected a positive factor of the mean loss")


def gate_and_train(
    dense: nn.Module, split: Split, params: "GateParams", repetition: int, device: torch.device, arm: str = "manidp",
    state: Path | None = None,
) -> tuple[nn.Module, dict[str, Any]]:  # fmt: skip
    """(net, JSON-able record) of an arm after `params.epochs` passes from a copy of the dense net.

    The net is a `GatedNet` in eval mode, or the dense family for the arm `dense`. Order of the data and initial gates follow
    from the repetition alone, so arms of one repetition are paired. StageError for impossible settings.
    """
    chosen = find(arm)
    check(params)
    if not bool(split.x.isfinite().all()):
        raise StageError(f"{split.name or 'split'}: images hold NaN or infinity; prepare the data again")
    label, rate = f"{arm} {repetition}", params.keep_rates.get(arm, params.keep_rate)
    if not chosen.gated:
        net = copy.deepcopy(dense)
        training.train(
            net, split, epochs=params.epochs, lr=params.lr, batch=params.batch, weight_decay=params.weight_decay,
            seed=derive_seed(repetition, "gate"), device=device, augment=augmentation(params.pad, params.flip), state=state,
            label=label,
        )  # fmt: skip
        return net.eval(), {"seed": repetition, "arm": arm, "matched": []}
    seed_everything(derive_seed(repetition, "gates"))
    net = gated.gate(dense, params.squeeze, params.gate_scale).to(device)
    train_gated(net, split, params, chosen, rate, repetition, device, state, label)
    net.eval()
    record = {"seed": repetition, "arm": arm, "thresholds": [float(gate.threshold) for gate in net.gates], "matched": []}
    if not chosen.static and params.match:
        matched = thresholds_at(net, split.x[: params.match].to(device), params.budget)
        record["matched"] = [float(value) for value in matched]
    return net, record


@torch.no_grad()
def measure(
    net: nn.Module, split: Split, device: torch.device | str = "cpu", levels: Tensor | None = None,
    matched: list[float] | None = None,
) -> dict[str, float]:  # fmt: skip
    """Accuracy and mean MACs of a net on a split, and for a gated one how its cost follows difficulty.

    accuracy; macs, macs_ratio (mean over images, gates counted, share of the dense net's); parameters; similarity (L_sim,
    release's form); spearman_ce and, with the images' noise `levels` [N], spearman_noise: rank correlations of an image's
    MACs with its cross-entropy and level (0 where all images cost the same). With `matched` thresholds also
    accuracy_matched and macs_ratio_matched (else the same as without). StageError for NaN logits.
    """
    split = split.to(device)
    net.to(device).eval()
    if not isinstance(net, GatedNet):
        cost = macs.total(net.record())
        accuracy = training.evaluate(net, split, device)
        same = {"macs": cost.macs, "macs_ratio": 1.0, "parameters": cost.params}
        return {"accuracy": accuracy, **same, "accuracy_matched": accuracy, "macs_ratio_matched": 1.0}
    values, macs_each, losses = _dynamic(net, split)
    values["parameters"] = macs.parameters(net)
    values["spearman_ce"] = spearman(macs_each, losses)
    if levels is not None:
        values["spearman_noise"] = spearman(macs_each, levels)
    values["accuracy_matched"], values["macs_ratio_matched"] = values["accuracy"], values["macs_ratio"]
    if matched:
        present = [gate.threshold.clone() for gate in net.gates]
        restore(net, [torch.tensor(value) for value in matched])
        at_budget, macs_each, losses = _dynamic(net, split)
        values["accuracy_matched"], values["macs_ratio_matched"] = at_budget["accuracy"], at_budget["macs_ratio"]
        restore(net, present)
    return values


def _dynamic(net: GatedNet, split: Split) -> tuple[dict[str, float], Tensor, Tensor]:
    """(accuracy, MACs and L_sim; MACs [N]; cross-entropies [N]) of a gated net."""
    cost, logits, each, distance, batches = cost_model(net), [], [], 0.0, 0
    for x in split.x.split(SIMILARITY_BATCH):
        found, trace = net.trace(x)
        logits.append(found)
        each.append(_cost(cost, trace, net))
        if len(x) == SIMILARITY_BATCH or batches == 0:  # a smaller last batch would weigh its own diagonal more
            distance, batches = distance + float(similarity(trace.saliencies, trace.features)), batches + 1
    answers, spent = torch.cat(logits), torch.cat(each)
    if not bool(answers.isfinite().all()):
        raise StageError(f"{split.name or 'split'}: the gated net answers NaN; its training has diverged, lower lr")
    mean = float(spent.double().mean())
    values = {
        "accuracy": int((answers.argmax(1) == split.y).sum()) / len(split), "macs": mean, "macs_ratio": mean / cost.dense,
        "similarity": distance / batches,
    }  # fmt: skip
    return values, spent, F.cross_entropy(answers, split.y, reduction="none")


def _cost(cost, trace, net: GatedNet) -> Tensor:
    if not bool(net.gates[0].frozen):
        return cost.per_image(trace)
    counts = torch.stack([(mask > 0).sum(1) for mask in trace.masks], 1)
    return cost.of_counts(counts, gates=False)  # one mask for all images needs no gate


def spearman(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two vectors, ties at their mean rank; 0 where one of them is constant."""
    left, right = (torch.from_numpy(rankdata(v.cpu().double().numpy())) for v in (a, b))
    left, right = left - left.mean(), right - right.mean()
    scale = float(left.norm() * right.norm())
    return float(left @ right) / scale if scale else 0.0


@torch.no_grad()
def active_channels(net: GatedNet, x: Tensor) -> list[dict[str, Any]]:
    """One entry a gate: its name, channels, and mean number of channels active for the images x."""
    masks = net.eval().trace(x)[1].masks
    return [
        {"layer": f"gates.{i}", "channels": mask.shape[1], "kept": float((mask > 0).sum(1).double().mean())}
        for i, mask in enumerate(masks)
    ]


@torch.no_grad()
def sliced_gap(net: GatedNet, x: Tensor) -> float:
    """Median over the images x of the largest difference between masked and sliced logits; StageError if not rounding.

    The median, because a saliency within rounding of its threshold may fall on the other side in one of the two.
    """
    gap = float((net.eval()(x) - Sliced(net)(x.clone())).abs().amax(1).median())
    if not gap < TOLERANCE:
        raise StageError(f"sliced execution: logits differ from the masked ones by {gap:.2g}; report this as a bug")
    return gap


__all__ = ["ARMS", "active_channels", "check", "gate_and_train", "measure", "sliced_gap", "spearman"]
