"""Fine-tuning of an arm's net, and what is measured of it before and after."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stages.lib import macs, training
from stages.lib.data import Split
from stages.lib.dense import augmentation, falling
from stages.lib.models import Net
from stages.lib.runtime import derive_seed
from stages.papers.discriminant_information_pruning import precision
from stages.papers.discriminant_information_pruning.arms import find
from stages.papers.discriminant_information_pruning.distillation import distillation_loss
from stages.papers.discriminant_information_pruning.recalibration import recalibrate

if TYPE_CHECKING:
    from stages.papers.discriminant_information_pruning.prune import FinetuneParams


def finetuned(
    net: Net, name: str, params: "FinetuneParams", record: dict[str, Any], dense: Net, images: Split, judged: Split,
    repetition: int, device: torch.device, state: Path,
) -> tuple[Net, dict[str, float]]:  # fmt: skip
    """(the arm's net after fine-tuning, its metrics); a net from scratch has no accuracy before training.

    `accuracy_before` is that of the net whose BN statistics were measured anew, `accuracy_raw` that of the quantised
    net as it is. Data order follows from the repetition alone, so arms of one repetition see the same batches. `dense` is the
    teacher where the arm distils, and what quantised weights start from.
    """
    arm, total = find(name), macs.total(net.record())
    values: dict[str, float] = {"macs": total.macs, "parameters": total.params}
    net, fresh = net.to(device), arm.structure == "fresh"
    bits = {layer: torch.tensor(each) for layer, each in record.get("bits", {}).items()}
    if bits:
        values["accuracy_raw"] = training.evaluate(net, judged, device)
        values["weight_bits"] = precision.mean_bits(bits)
        net = copy.deepcopy(dense).to(device).eval()  # weights before rounding, which training goes on from
        precision.attach(net, bits)
    if not fresh:
        recalibrate(net, images.x[: params.recalibration.images].to(device), params.recalibration.passes, params.batch)
        values["accuracy_before"] = training.evaluate(net, judged, device)
    options = params.distillation
    loss = distillation_loss(dense.to(device), options.temperature, options.logits, options.maps) if arm.distil else None
    training.train(
        net, images, epochs=params.scratch.epochs if fresh else params.epochs, lr=params.scratch.lr if fresh else params.lr,
        batch=params.batch, weight_decay=params.weight_decay, seed=derive_seed(repetition, "finetune"), device=device,
        schedule=falling(params.milestones), milestones=params.milestones,
        augment=augmentation(params.pad, params.flip), loss=loss, state=state, label=f"{name} {repetition}",
    )  # fmt: skip
    precision.bake(net, bits)
    values["accuracy_after"] = training.evaluate(net, judged, device)
    return net.eval(), values
