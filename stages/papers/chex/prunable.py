"""Which convolutions of a net are prunable, and which entries of its tensors belong to a channel."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.lib.errors import StageError
from stages.lib.models import Net

STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Prunable:
    """Output channels of `producer`, scaled by `norm`, read by `consumer` (module paths).

    Without a consumer the channels run into the residual stream: their rows are masked and nothing is cut behind them.
    """

    name: str
    producer: str
    norm: str
    consumer: str | None = None


def prunable_layers(net: nn.Module, downsample: bool = False) -> list[Prunable]:
    """The prunable convolutions of a lib net (its sites) or of any net with residual blocks in torchvision's layout.

    Those are the outputs of conv1 (and conv2 of a bottleneck), with `downsample` also those of the shortcuts' 1x1
    convolutions. Raises StageError where there is none, for a convolution without BN after it, and for grouped or
    depth-wise ones.
    """
    sites = net.sites() if isinstance(net, Net) else None
    found = [Prunable(s.name, s.producer, s.norm, s.consumer) for s in sites] if sites is not None else _blocks(net)
    if downsample:
        found += [Prunable(f"{name}.0", f"{name}.0", f"{name}.1") for name in _shortcuts(net)]
    if not found:
        raise StageError(f"{type(net).__name__}: expected a net with prunable convolutions, found none")
    for layer in found:
        _check(net, layer)
    return found


def _blocks(net: nn.Module) -> list[Prunable]:
    """conv1 -> bn1 -> conv2 (-> bn2 -> conv3) of every module that has them, in the order of the modules."""
    found = []
    for name, module in net.named_modules():
        for i in (1, 2):
            if all(hasattr(module, part) for part in (f"conv{i}", f"bn{i}", f"conv{i + 1}")):
                at = f"{name}." if name else ""
                consumer = f"{at}conv{i + 1}"
                found.append(Prunable(consumer, f"{at}conv{i}", f"{at}bn{i}", consumer))
    return found


def _shortcuts(net: nn.Module) -> list[str]:
    paths = [name for name, module in net.named_modules() if name.endswith("downsample") and module is not None]
    for path in paths:
        module = net.get_submodule(path)
        if not isinstance(module, nn.Sequential) or len(module) < 2:
            raise StageError(f"{path}: prune_downsample needs a BN after the shortcut's convolution; set it to false")
    return paths


def _check(net: nn.Module, layer: Prunable) -> None:
    producer, norm, consumer = (_module(net, path) for path in (layer.producer, layer.norm, layer.consumer))
    for path, conv in ((layer.producer, producer), (layer.consumer, consumer)):
        if path and (not isinstance(conv, nn.Conv2d) or conv.groups != 1):
            kind = f"groups={conv.groups}" if isinstance(conv, nn.Conv2d) else type(conv).__name__
            raise StageError(f"{path}: expected a convolution with groups=1, got {kind}; CHEX does not prune such layers")
    if not isinstance(norm, nn.BatchNorm2d) or not norm.affine or norm.num_features != producer.out_channels:
        raise StageError(f"{layer.norm}: expected the BN of {layer.producer}'s {producer.out_channels} channels; none is there")
    if consumer is not None and consumer.in_channels != producer.out_channels:
        raise StageError(f"{layer.consumer}: expected {producer.out_channels} input channels, got {consumer.in_channels}")


def _module(net: nn.Module, path: str | None) -> nn.Module | None:
    try:
        return net.get_submodule(path) if path else None
    except AttributeError as error:
        raise StageError(f"{path}: the net has no such layer; a prunable convolution needs a BN and a consumer") from error


def ownership(net: nn.Module, layers: list[Prunable]) -> dict[str, tuple[int | None, int | None]]:
    """Tensor name -> (layer whose channels are its rows, layer whose channels are its columns), for all that a mask touches."""
    rows: dict[str, int] = {}
    cols: dict[str, int] = {}
    names = dict(net.named_parameters()) | dict(net.named_buffers())
    for i, layer in enumerate(layers):
        parts = [f"{layer.producer}.{part}" for part in ("weight", "bias")]
        parts += [f"{layer.norm}.{part}" for part in ("weight", "bias", *STATISTICS)]
        rows |= {part: i for part in parts if part in names}
        if layer.consumer:
            cols[f"{layer.consumer}.weight"] = i
    return {name: (rows.get(name), cols.get(name)) for name in names if name in rows or name in cols}


def entries(tensor: Tensor, row: Tensor | None, col: Tensor | None) -> Tensor:
    """The mask [*tensor.shape] whose entries are on where their row's and their column's channel are on."""
    on = torch.ones_like(tensor, dtype=torch.bool)
    if row is not None:
        on &= row.view(-1, *[1] * (tensor.dim() - 1))
    if col is not None:
        on &= col.view(1, -1, *[1] * (tensor.dim() - 2))
    return on
