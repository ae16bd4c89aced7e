"""The dense net and the data that it and its gated descendants are trained on."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.lib import data, training
from stages.lib.data import Split
from stages.lib.dense import augmentation, limited
from stages.lib.errors import StageError
from stages.lib.models.base import Net
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.manidp.gated import refuse_ungateable
from stages.papers.manidp.levels import with_levels
from stages.papers.manidp.nets import construct

if TYPE_CHECKING:
    from stages.papers.manidp.train import DataParams, TrainParams


def training_split(dataset: str, params: "DataParams") -> Split:
    """The training images, with noise where the data section asks for it."""
    return limited(with_levels(data.load(dataset, "train"), params.noise, params.noise_seed)[0], params.limit, 0)


def held_out_split(dataset: str, name: str, params: "DataParams") -> tuple[Split, Tensor | None]:
    """(images to measure on, their noise levels [N] or None where there is no noise)."""
    split, levels = with_levels(data.load(dataset, name), params.noise, params.noise_seed)
    return split, levels if params.noise else None


def dense_net(params: "TrainParams", split: Split, repetition: int, device: torch.device, state: Path) -> Net:
    """The dense net after training; weights and order of the data follow from the repetition."""
    seed_everything(derive_seed(repetition, "init"))
    net = construct(params.net.name, **params.net.options, classes=len(split.classes))
    refuse_ungateable(net.record())
    if net.record()["input"] != list(split.x.shape[1:]):
        wanted, found = net.record()["input"], list(split.x.shape[1:])
        raise StageError(f"net.options: the net takes {wanted} images, the data are {found}; correct the params file")
    training.train(
        net, split, epochs=params.epochs, lr=params.lr, batch=params.batch, weight_decay=params.weight_decay,
        seed=derive_seed(repetition, "dense"), device=device, augment=augmentation(params.pad, params.flip), state=state,
        label=f"dense {repetition}",
    )  # fmt: skip
    return net
