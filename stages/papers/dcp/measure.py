"""What is measured of a pruned net: accuracy before and after fine-tuning, MACs, parameters, widths."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from stages.lib import macs, training
from stages.lib.data import Split
from stages.lib.dense import augmentation, falling
from stages.lib.runtime import derive_seed
from stages.papers.dcp.arms import find
from stages.papers.dcp.kernels import freeze_zero_kernels, kernel_mask

if TYPE_CHECKING:
    from stages.papers.dcp.finetune import FinetuneParams


def finetuned(
    net: nn.Module, name: str, params: "FinetuneParams", split: Split, held_out: Split, repetition: int,
    device: torch.device, state: Path,
) -> dict[str, float]:  # fmt: skip
    """Fine-tunes `net` in place and returns its metrics; a net from scratch has no accuracy before training.

    Data order follows from the repetition alone, so arms of one repetition see the same batches.
    """
    arm, values = find(name), sizes(net)
    net.to(device)
    consumers = [net.get_submodule(site.consumer) for site in net.sites()]
    restore = freeze_zero_kernels(consumers) if arm.kernels else None
    fresh = arm.order == "fresh"
    if not fresh:
        values["accuracy_before"] = training.evaluate(net, held_out, device)
    training.train(
        net, split, epochs=params.scratch.epochs if fresh else params.epochs, lr=params.scratch.lr if fresh else params.lr,
        batch=params.batch, weight_decay=params.weight_decay, seed=derive_seed(repetition, "finetune"), device=device,
        schedule=falling(params.milestones), milestones=params.milestones,
        augment=augmentation(params.pad, params.flip), mask_hook=restore and (lambda _model: restore()), state=state,
        label=f"{name} {repetition}",
    )  # fmt: skip
    values["accuracy_after"] = training.evaluate(net, held_out, device)
    return values


def sizes(net: nn.Module) -> dict[str, float]:
    """MACs and parameters of one image; `macs_sparse` counts no kernel that is all zero (DKP leaves such kernels)."""
    total = macs.total(net.record())
    per_layer = {cost.name: cost.macs for cost in macs.closed_form(net.record())}
    saved = 0
    for site in net.sites():
        mask = kernel_mask(net.get_submodule(site.consumer).weight)
        saved += round(per_layer[site.consumer] * (1 - mask.double().mean().item()))
    return {"macs": total.macs, "macs_sparse": total.macs - saved, "parameters": total.params}
