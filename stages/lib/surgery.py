"""Channel surgery: cut pruned channels out of a net, or mask them as a control.

Pruning a site removes INPUT channels of its consumer, hence the producer's filters (and bias) and the rows of the
normalisation between them. Widths that a shortcut sees never change. The masked net has the size of the dense one and,
in eval mode, the output of the thin one.
"""

import copy
import math
from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from stages.lib.errors import StageError
from stages.lib.models import Net, Site, family, rebuild

Kept = Mapping[str, Tensor]


def kept_count(channels: int, eta: float) -> int:
    """Channels kept of c at pruning rate `eta`: c - floor(eta c), with eta as the decimal that was written.

    (In floats floor(.29 * 100) is 28, not 29.)
    """
    if not 0 <= eta < 1:
        raise StageError(f"pruning rate eta: expected a number from 0 up to but without 1, got {eta}; correct the params file")
    return channels - math.floor(Fraction(repr(float(eta))) * channels)


def aligned(count: int, channels: int, multiple: int) -> int:
    """The multiple of `multiple` nearest to `count` (ties upward), at least one multiple and at most `channels`.

    Vector units work on blocks of 8 or 16 channels: a width in between costs as much as the next multiple.
    """
    if multiple < 1:
        raise StageError(f"multiple={multiple}: expected 1 or more; correct the params file")
    return min(channels, max(multiple, (2 * count + multiple) // (2 * multiple) * multiple))


def kept_widths(model: Net, eta: float, multiple: int = 1) -> dict[str, int]:
    """Site name -> channels kept when every site is pruned at the rate `eta`; widths are multiples of `multiple`."""
    widths = {site.name: channels(model, site) for site in model.sites()}
    return {name: aligned(kept_count(width, eta), width, multiple) for name, width in widths.items()}


def channels(model: Net, site: Site) -> int:
    """Width of a site: the input channels of its consumer."""
    return model.get_submodule(site.consumer).in_channels


def checked(model: Net, kept: Kept) -> dict[str, Tensor]:
    """`kept` with sorted index tensors on the model's device.

    StageError for an unknown site, no channel, a repeated or impossible one.
    """
    sites = {site.name: site for site in model.sites()}
    found = {}
    for name, index in kept.items():
        if name not in sites:
            raise StageError(f"pruning site {name!r}: the net has no such site; expected one of {', '.join(sites)}")
        found[name] = _checked_index(name, index, channels(model, sites[name])).to(next(model.parameters()).device)
    return found


def _checked_index(name: str, index: Tensor, width: int) -> Tensor:
    index = torch.as_tensor(index).cpu()
    if index.dtype == torch.bool or index.is_floating_point() or index.dim() != 1:
        raise StageError(
            f"pruning site {name!r}: expected a list of channel numbers, got a {index.dtype} tensor of shape "
            f"{list(index.shape)}"
        )
    index = index.long()
    unique = index.unique(sorted=True)
    if not len(index) or len(unique) != len(index) or unique[0] < 0 or unique[-1] >= width:
        raise StageError(
            f"pruning site {name!r}: expected at least one channel, each once and from 0 to {width - 1}, got "
            f"{index.tolist()[:20]}"
        )
    return unique


def cut(model: Net, kept: Kept) -> Net:
    """A new thin net with the channels `kept` (site name -> indices [k]) of the named sites.

    Other sites and the given net are untouched. Kept channels stay in their order. The training mode,
    device and type of the weights are the given net's.
    """
    kept = checked(model, kept)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    for site in model.sites():
        if site.name in kept:
            _slice(state, site, kept[site.name])
    record = family(model.record()).narrowed(model.record(), {name: len(index) for name, index in kept.items()})
    # Clones, since entries that were not sliced are still the given net's own memory.
    thin = rebuild(record, {name: tensor.clone() for name, tensor in state.items()})
    return thin.train(model.training)


def _slice(state: dict[str, Tensor], site: Site, index: Tensor) -> None:
    for key in (
        f"{site.producer}.weight",
        f"{site.producer}.bias",
        *(f"{site.norm}.{row}" for row in ("weight", "bias", "running_mean", "running_var")),
    ):
        if key in state:
            state[key] = state[key][index]
    state[f"{site.consumer}.weight"] = state[f"{site.consumer}.weight"][:, index]


def mask(model: Net, kept: Kept) -> Net:
    """A copy of the net in which the consumers' columns of all channels not `kept` are zero.

    The masked control, equal to `cut` in eval mode.
    """
    return mask_(copy.deepcopy(model), kept)


@torch.no_grad()
def mask_(model: Net, kept: Kept) -> Net:
    """Zero those columns in place and return the net.

    Also the hook after an optimiser step, since momentum revives pruned columns.
    """
    consumers = {site.name: site.consumer for site in model.sites()}
    for name, index in checked(model, kept).items():
        weight = model.get_submodule(consumers[name]).weight
        gone = torch.ones(weight.shape[1], dtype=torch.bool, device=weight.device)
        gone[index] = False
        weight[:, gone] = 0
    return model


def kept_channels(model: Net) -> dict[str, Tensor]:
    """What a masked net keeps: site name -> indices [k] of the consumer's columns that are not all zero.

    A site of which nothing is left has an empty tensor, which `cut` refuses.
    """
    return {
        site.name: model.get_submodule(site.consumer).weight.detach().abs().amax((0, 2, 3)).nonzero().flatten()
        for site in model.sites()
    }
