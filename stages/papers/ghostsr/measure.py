"""How good a net's enlarged images are, by test set, and what a few of them look like."""

import numpy
import torch
from torch import Tensor, nn

from stages.lib.errors import StageError
from stages.lib.restoration import degrade, quality, sets
from stages.lib.restoration.ensemble import self_ensemble
from stages.lib.restoration.sets import Pair
from stages.lib.restoration.tiles import tiled
from stages.papers.ghostsr.settings import Evaluation


class Bicubic(nn.Module):
    """Plain enlargement, the reference of every table: [B, 3, H, W] to [B, 3, H factor, W factor], rounded as published."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """The enlarged images."""
        return degrade.upscale(x, self.factor, quantise=True)


def test_pairs(split: sets.Prepared, factor: int, options: Evaluation) -> dict[str, list[Pair]]:
    """Pairs of each test set asked for, cut to their central part if asked for. Raises StageError for a set that is absent."""
    wanted = list(options.groups) or split.groups
    for name in wanted:
        if name not in split.groups:
            raise StageError(f"params.groups: {split.name} has no set {name}; there are {', '.join(split.groups)}")
    return {name: [central(pair, options.crop) for pair in split.scaled_pairs(factor, name)] for name in wanted}


def central(pair: Pair, side: int) -> Pair:
    """The middle of a pair, at most `side` low-resolution pixels high and wide; all of it for 0."""
    if not side:
        return pair
    height, width = (min(side, length) for length in pair.corrupted.shape[:2])
    top, left = (pair.corrupted.shape[0] - height) // 2, (pair.corrupted.shape[1] - width) // 2

    def cut(image: numpy.ndarray, factor: int) -> numpy.ndarray:
        return image[top * factor : (top + height) * factor, left * factor : (left + width) * factor]

    return Pair(pair.name, cut(pair.corrupted, 1), cut(pair.clean, pair.factor))


@torch.no_grad()
def enlarged(net: nn.Module, low: Tensor, factor: int, options: Evaluation) -> Tensor:
    """[3, H, W] in 0..255 to [3, H factor, W factor], as a whole or in tiles, with the self-ensemble if asked for."""

    def once(x: Tensor) -> Tensor:
        if not options.tile:
            return net(x.unsqueeze(0))[0]
        stride = options.tile - 2 * options.margin
        return tiled(net, x, tile=options.tile, stride=stride, margin=options.margin, factor=factor)

    return self_ensemble(once, low) if options.ensemble else once(low)


def figures(
    net: nn.Module, pairs: dict[str, list[Pair]], factor: int, options: Evaluation, device: torch.device
) -> tuple[dict[str, float], list[numpy.ndarray]]:
    """(PSNR in dB and SSIM over all images and by test set, the first images [H, W, 3]) of a net in eval mode.

    Luminance of 8-bit images without `factor` pixels at the border. Raises StageError for images that are not finite.
    """
    net = net.to(device).eval()
    found: dict[str, list[dict[str, float]]] = {}
    kept: list[numpy.ndarray] = []
    for name, group in pairs.items():
        found[name] = []
        for pair in group:
            made = enlarged(net, sets.tensor(pair.corrupted).to(device), factor, options).cpu()
            if not bool(made.isfinite().all()):
                raise StageError(f"{pair.name}: the net answers NaN or infinity; its training has diverged, lower lr")
            found[name].append(quality.measure(made, sets.tensor(pair.clean), factor))
            if len(kept) < options.pictures:
                kept.append(sets.pixels(made))
    values: dict[str, float] = {}
    for metric in ("psnr", "ssim"):
        values[metric] = _mean([one[metric] for group in found.values() for one in group])
        values |= {f"{metric}_{name}": _mean([one[metric] for one in group]) for name, group in found.items()}
    return values, kept


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
