"""Mixed precision inside a layer: channels of more DI get more bits. The allocation is our interpretation (3.5)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.models import Net
from stages.papers.discriminant_information_pruning import information, maps

if TYPE_CHECKING:
    from stages.papers.discriminant_information_pruning.prune import PruneParams


def quantised(weight: Tensor, bits: Tensor) -> Tensor:
    """Symmetric quantisation of each output channel of a weight (n, ...) to its bits (n,); 0 bits prune the channel.

    s_c = max|W_c| / (2^(b-1) - 1), W_c = s_c round(W_c / s_c). The gradient passes straight through.
    """
    steps = (2.0 ** (bits.to(weight) - 1) - 1).clamp(min=0).view(-1, *[1] * (weight.dim() - 1))
    largest = weight.detach().abs().flatten(1).amax(1).view_as(steps)
    size = torch.where((steps > 0) & (largest > 0), largest / steps.clamp(min=1), torch.ones_like(steps))
    rounded = (weight.detach() / size).round().clamp(-steps, steps) * size
    return weight + (rounded - weight.detach())


def allocate(scores: Tensor, errors: Tensor, levels: Sequence[int], mean: float) -> Tensor:
    """Bits (n,) of a layer's channels: from the lowest level up, always where score times error drop by bit is largest.

    scores (n,), errors (n, levels): mean squared error of each channel at each level. Ends when the mean is reached, or
    no step fits any more (with even n and even levels it is reached exactly). Ties go to the lowest channel.
    """
    place = torch.zeros(len(scores), dtype=torch.long)
    spare = round(mean * len(scores)) - levels[0] * len(scores)
    while True:
        gains = [_gain(scores, errors, levels, place, c, spare) for c in range(len(scores))]
        best = max(range(len(gains)), key=gains.__getitem__)
        if gains[best] < 0:
            return torch.tensor(levels)[place]
        spare -= levels[place[best] + 1] - levels[place[best]]
        place[best] += 1


def _gain(scores: Tensor, errors: Tensor, levels: Sequence[int], place: Tensor, channel: int, spare: int) -> float:
    """Worth of the channel's next level by bit; -1 where there is none or it does not fit."""
    now = int(place[channel])
    if now + 1 == len(levels) or levels[now + 1] - levels[now] > spare:
        return -1.0
    drop = float(errors[channel, now] - errors[channel, now + 1])
    return max(0.0, float(scores[channel]) * drop / (levels[now + 1] - levels[now]))


def check(levels: Sequence[int], mean: float) -> None:
    """StageError for levels that do not rise, one bit (it has no symmetric grid) or a mean outside them."""
    if not levels or list(levels) != sorted(set(levels)) or levels[0] < 0 or 1 in levels or levels[-1] > 16:
        raise StageError(f"precision.levels={list(levels)}: expected rising numbers of bits from 0, 2, 3, ... 16")
    if not levels[0] <= mean <= levels[-1]:
        raise StageError(f"precision.mean={mean}: expected a mean within the levels {list(levels)}")


def layers(net: Net) -> list[str]:
    """The convolutions that are quantised: all but the first, which like the linear head keeps its precision."""
    return [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)][1:]


def bits_of(net: Net, score: str, batches: list[Split], params: "PruneParams") -> dict[str, Tensor]:
    """Bits by layer and output channel: `di` weighs errors by DI of the layer's outputs, `plain` does not.

    `uniform` gives the mean, a whole number, to every channel.
    """
    options, found = params.precision, {}
    check(options.levels, options.mean)
    names = layers(net)
    scored = _scores(net, names, batches, params) if score == "di" else {}
    for name in names:
        weight = net.get_submodule(name).weight.detach()
        if score == "uniform":
            if options.mean != int(options.mean) or options.mean == 1:
                raise StageError(f"precision.mean={options.mean}: the uniform arm needs a whole number of bits, not 1")
            found[name] = torch.full((len(weight),), int(options.mean))
            continue
        errors = torch.stack([_error(weight, level) for level in options.levels], 1)
        found[name] = allocate(scored.get(name, torch.ones(len(weight))).cpu(), errors.cpu(), options.levels, options.mean)
    return found


def _error(weight: Tensor, level: int) -> Tensor:
    """Mean squared error (n,) of each channel at that many bits."""
    return (weight - quantised(weight, torch.full((len(weight),), level))).square().flatten(1).mean(1)


def _scores(net: Net, names: list[str], batches: list[Split], params: "PruneParams") -> dict[str, Tensor]:
    total: dict[str, Tensor] = {}
    for batch in batches:
        for name, features in maps.outputs(net, names, batch.x).items():
            score = information.of_maps(features, batch.y, len(batch.classes), params).mask_gradient()
            total[name] = total.get(name, 0) + score
    return total


class Quantiser(nn.Module):
    """A weight's parametrisation: the layer sees it quantised, training moves the weight behind it."""

    def __init__(self, bits: Tensor) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        """The quantised weight."""
        return quantised(weight, self.bits.to(weight.device))


def attach(net: Net, bits: dict[str, Tensor]) -> None:
    """From now on those layers use quantised weights, in place."""
    for name, each in bits.items():
        parametrize.register_parametrization(net.get_submodule(name), "weight", Quantiser(each))


def bake(net: Net, bits: dict[str, Tensor]) -> None:
    """Ends `attach`: the quantised weights become the weights, in place."""
    for name in bits:
        parametrize.remove_parametrizations(net.get_submodule(name), "weight", leave_parametrized=True)


def mean_bits(bits: dict[str, Tensor]) -> float:
    """Mean bits of a channel, over all quantised layers."""
    return float(torch.cat(list(bits.values())).double().mean())
