"""Joint training with auxiliary losses, of the net that will be pruned."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from stages.lib.data import Split
from stages.lib.dense import augmentation, falling
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.dcp import pivots
from stages.papers.dcp.aux_training import train_jointly, weights_of
from stages.papers.dcp.heads import Supervised, attach

if TYPE_CHECKING:
    from stages.papers.dcp.train import TrainParams


def auxiliary(
    net: nn.Module, params: "TrainParams", split: Split, repetition: int, device: torch.device, state: Path
) -> Supervised:
    """A copy of the dense net with heads at its pivots, after joint training with all P+1 losses."""
    seed_everything(derive_seed(repetition, "heads"))
    try:
        ends = pivots.resolve(len(net.blocks), params.aux.losses, params.aux.pivots)
    except ValueError as error:
        raise StageError(f"aux: {error}; correct the train section of the scale's params file") from error
    model = attach(copy.deepcopy(net), ends, len(split.classes), split.x.shape[1:])
    train_jointly(
        model.to(device), split, weights_of(model), epochs=params.aux.epochs, lr=params.aux.lr, batch=params.batch,
        weight_decay=params.weight_decay, seed=derive_seed(repetition, "aux"), device=device,
        schedule=falling(params.aux.milestones), milestones=params.aux.milestones,
        augment=augmentation(params.pad, params.flip), state=state, label=f"aux {repetition}",
    )  # fmt: skip
    return model
