"""Training of the net that will be pruned, without and with auxiliary losses."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from stages.lib import data, training
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.models import construct
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.dcp import pivots
from stages.papers.dcp.aux_training import train_jointly, weights_of
from stages.papers.dcp.heads import Supervised, attach

if TYPE_CHECKING:
    from stages.papers.dcp.train import TrainParams


def limited(split: Split, count: int, seed: int) -> Split:
    """`count` images of a split, classes in equal shares, in a seeded order; the whole split for 0."""
    if count == 0:
        return split
    if count < len(split.classes):
        raise StageError(f"{count} images of {split.name}: expected at least one for each of {len(split.classes)} classes")
    index = torch.from_numpy(data.stratified(split.y.numpy(), {"taken": count}, seed % 2**32)["taken"])
    shuffled = index[torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))]
    return split.take(shuffled)


def augmentation(pad: int, flip: bool) -> training.Augment | None:
    """Crop and mirror as asked; None leaves images as they are."""
    return data.pad_crop_flip(pad, flip) if pad or flip else None


def falling(milestones: Sequence[float]) -> str:
    """How the learning rate falls: in steps where there are milestones, else by cosine."""
    return "step" if milestones else "cosine"


def dense(params: "TrainParams", split: Split, repetition: int, device: torch.device, state: Path) -> nn.Module:
    """The dense net after training; weights and order of the data follow from the repetition."""
    seed_everything(derive_seed(repetition, "init"))
    net = construct(params.net.name, **params.net.options, classes=len(split.classes))
    if net.record()["input"] != list(split.x.shape[1:]):
        wanted, found = net.record()["input"], list(split.x.shape[1:])
        raise StageError(f"net.options: the net takes {wanted} images, the data are {found}; correct the params file")
    training.train(
        net.to(device), split, epochs=params.epochs, lr=params.lr, batch=params.batch, weight_decay=params.weight_decay,
        schedule=falling(params.milestones), milestones=params.milestones,
        seed=derive_seed(repetition, "dense"), device=device, augment=augmentation(params.pad, params.flip),
        state=state, label=f"dense {repetition}",
    )  # fmt: skip
    return net


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
