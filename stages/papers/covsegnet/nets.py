"""Nets from their settings, and saved ones from disk."""

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from stages.lib import artifacts
from stages.lib.errors import StageError
from stages.lib.runtime import seed_everything
from stages.papers.covsegnet.network import CovSegNet
from stages.papers.covsegnet.settings import Net
from stages.papers.covsegnet.unet import UNet

PRIOR = 0.02  # an untrained net's probability of a lesion, so that no step is spent on learning how rare they are

Record = dict[str, object]


def record(net: Net, nd: int, into: int, flat: bool = False) -> Record:
    """What a net is built from, as JSON."""
    return {"kind": net.kind, "nd": nd, "into": into, "channels": list(net.channels), "stages": net.stages,
            "norm": net.norm, "flat": flat}  # fmt: skip


def build(about: Record, seed: int | None = None) -> nn.Module:
    """The net of a record, with weights by a seed."""
    if seed is not None:
        seed_everything(seed)
    sizes = about["nd"], about["into"], about["channels"]
    net: nn.Module
    if about["kind"] == "unet":
        net = UNet(*sizes, about["norm"], about["flat"])  # type: ignore[arg-type]
    else:
        net = CovSegNet(*sizes, about["stages"], about["norm"], about["flat"])  # type: ignore[arg-type]
    nn.init.constant_(net.head.bias, math.log(PRIOR / (1 - PRIOR)))
    return net


def save(path: Path, net: nn.Module, about: Record) -> None:
    """Write weights and record."""
    artifacts.save_tensors(path, net.state_dict(), about)


def parameters(net: nn.Module) -> int:
    """Learnable numbers."""
    return sum(one.numel() for one in net.parameters())


@torch.no_grad()
def multiply_adds(net: nn.Module, x: Tensor) -> int:
    """Of convolutions, which is all that these nets have, for one item of x.

    As `stages.lib.macs.count`, which imports PyTorch's compiler: 1.5 s, a fifth of a small evaluation.
    """
    found = []

    def note(layer: _ConvNd, given: tuple[Tensor], made: Tensor) -> None:
        found.append((given[0] if layer.transposed else made)[0].numel() * layer.weight[0].numel())

    hooks = [one.register_forward_hook(note) for one in net.modules() if isinstance(one, _ConvNd)]
    net(x)
    for hook in hooks:
        hook.remove()
    return sum(found)


def load(path: Path, expected: Record) -> nn.Module:
    """The saved net. Raises StageError if the file is damaged or holds another net than `expected`."""
    tensors, about = artifacts.load_tensors(path)
    if about != expected:
        raise StageError(f"{path}: holds another net than the parameters describe; run train.py again")
    net = build(expected)
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise StageError(f"{path}: its weights do not fit its record; run train.py again") from error
    return net.eval()
