"""Training of a dense net as a params file describes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from stages.lib import data, training
from stages.lib.data import AnySplit, Split
from stages.lib.errors import StageError
from stages.lib.models import construct
from stages.lib.runtime import derive_seed, seed_everything


class NetParams(Protocol):
    """A family of `stages.lib.models.CONSTRUCTORS` and its options (the classes come from the data)."""

    name: str
    options: dict[str, Any]


class TrainParams(Protocol):
    """Learning rate falls by cosine, or to a tenth at each milestone (a share of the run)."""

    net: NetParams
    epochs: int
    lr: float
    milestones: list[float]
    batch: int
    weight_decay: float
    pad: int
    flip: bool


def limited(split: AnySplit, count: int, seed: int) -> Split:
    """`count` images of a split, classes in equal shares, in a seeded order; the whole split for 0."""
    if count == 0:
        return split if isinstance(split, Split) else split.take(slice(None))
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


def dense(params: TrainParams, split: Split, repetition: int, device: torch.device, state: Path) -> nn.Module:
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
