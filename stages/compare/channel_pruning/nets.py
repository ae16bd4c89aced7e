"""The common net: its training, its uniform widths at a budget, and what is measured of what became of it."""

import bisect
from pathlib import Path

import torch

from stages.compare.channel_pruning.settings import Common
from stages.lib import macs, surgery, training
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.models import Net
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.manidp.nets import construct

STEPS = 1000  # resolution of the pruning rate that meets a budget


def fresh(common: Common, split: Split, repetition: int) -> Net:
    """The dense net with the repetition's random weights."""
    seed_everything(derive_seed(repetition, "init"))
    return construct(common.net.name, **common.net.options, classes=len(split.classes))


def fit(
    net: Net, split: Split, common: Common, repetition: int, device: torch.device, *, epochs: int, lr: float, state: Path,
    purpose: str,
) -> None:  # fmt: skip
    """Train the net in place; the order of the data follows from repetition and purpose."""
    training.train(
        net.to(device), split, epochs=epochs, lr=lr, batch=common.batch, weight_decay=common.weight_decay,
        seed=derive_seed(repetition, purpose), device=device, state=state, label=f"{purpose} {repetition}",
    )  # fmt: skip


def finetune(
    net: Net, split: Split, common: Common, repetition: int, device: torch.device, state: Path, spent: int = 0
) -> None:  # fmt: skip
    """The extra passes, less those that the method has spent."""
    fit(net, split, common, repetition, device, epochs=common.extra - spent, lr=common.extra_lr, state=state, purpose="extra")


def cost(net: Net, widths: dict[str, int]) -> int:
    """MACs of the net with these widths of its sites."""
    return macs.total(type(net).narrowed(net.record(), widths)).macs


def uniform_rate(net: Net, share: float) -> float:
    """The smallest pruning rate, the same in every layer, at which the net has at most `share` of its MACs."""
    target = share * macs.total(net.record()).macs
    fits = lambda step: cost(net, surgery.kept_widths(net, step / STEPS)) <= target  # noqa: E731  true from some step on
    step = bisect.bisect_left(range(STEPS), True, key=fits)
    if step == STEPS:
        raise StageError(f"no uniform width has {share:.0%} of the dense net's MACs: its shortcuts and stem alone have more")
    return step / STEPS


def measured(net: Net, dense: Net, held_out: Split, device: torch.device) -> dict[str, float]:
    """Accuracy, MACs, their share of the dense net's, and parameters of a net after surgery."""
    total = macs.total(net.record())
    return {
        "accuracy": training.evaluate(net, held_out, device),
        "macs": total.macs,
        "macs_ratio": total.macs / macs.total(dense.record()).macs,
        "parameters": total.params,
    }
