"""Physical removal of masked channels from any net, for those that `stages.lib.surgery` has no record of."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.papers.chex.prunable import Prunable, ownership


def shrunk(net: nn.Module, layers: Sequence[Prunable], masks: Sequence[Tensor]) -> nn.Module:
    """A copy of the net without the channels that are off in `masks` (bool [C] a layer).

    Layers without a consumer keep their width: their zero rows add nothing to the residual stream.
    """
    cut = [layer for layer in layers if layer.consumer]
    chosen = [mask for layer, mask in zip(layers, masks, strict=True) if layer.consumer]
    thin = copy.deepcopy(net)
    for name, (row, col) in ownership(net, cut).items():
        path, _, part = name.rpartition(".")
        module = thin.get_submodule(path)
        value = getattr(module, part).detach()
        value = value if row is None else value[chosen[row]]
        value = value if col is None else value[:, chosen[col]]
        trainable = isinstance(getattr(module, part), nn.Parameter)
        setattr(module, part, nn.Parameter(value.clone()) if trainable else value.clone())
        _resize(module)
    return thin


def _resize(module: nn.Module) -> None:
    """Bring the widths that a module tells about itself in line with its tensors."""
    if isinstance(module, nn.Conv2d):
        module.out_channels, module.in_channels = module.weight.shape[:2]
    else:
        module.num_features = len(module.weight)


def zero_share(net: nn.Module) -> dict[str, float]:
    """Share of zero weights of every convolution, by which the official code scales its FLOPs."""
    convs = {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    return {name: float((conv.weight == 0).to(torch.float64).mean()) for name, conv in convs.items()}
