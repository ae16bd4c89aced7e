"""Feature maps of a net's layers, and the nets whose layers can be scored at all."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.lib.errors import StageError
from stages.lib.models import Net, Site

HOOKS = ("output", "activation")


def check(net: Net) -> None:
    """StageError unless every site is a plain convolution, a batch normalisation and a plain convolution."""
    if not net.sites():
        raise StageError(f"net {net.record()['kind']}: has no prunable layer")
    for site in net.sites():
        for name in (site.producer, site.consumer):
            layer = net.get_submodule(name)
            if not isinstance(layer, nn.Conv2d) or layer.groups != 1:
                what = f"a convolution of {layer.groups} groups" if isinstance(layer, nn.Conv2d) else type(layer).__name__
                raise StageError(f"{name}: {what}; expected a convolution without groups (depth-wise ones are not pruned)")
        if not isinstance(net.get_submodule(site.norm), nn.BatchNorm2d):
            raise StageError(f"{site.norm}: expected the batch normalisation of {site.producer}; layers without are not pruned")


@torch.no_grad()
def outputs(net: nn.Module, layers: Sequence[str], x: Tensor) -> dict[str, Tensor]:
    """Outputs (B, C, H, W) of the named layers for the images x, in eval mode; the net's mode is put back."""
    found: dict[str, Tensor] = {}
    handles = [
        net.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: found.__setitem__(name, out))
        for name in layers
    ]
    mode = net.training
    try:
        net.eval()(x)
    finally:
        net.train(mode)
        for handle in handles:
            handle.remove()
    return found


def site_maps(net: Net, x: Tensor, hook: str) -> dict[str, Tensor]:
    """Maps (B, C, H, W) by site: the producer's raw output (the authors' code), or what its BN and ReLU make of it."""
    place = (lambda site: site.producer) if hook == "output" else (lambda site: site.norm)
    sites: list[Site] = net.sites()
    found = outputs(net, [place(site) for site in sites], x)
    maps = {site.name: found[place(site)] for site in sites}
    return maps if hook == "output" else {name: each.relu() for name, each in maps.items()}
