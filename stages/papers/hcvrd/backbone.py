"""The convolutional net whose maps all arms share: trained on annotated regions, then left as it is."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib import parallel
from stages.lib.adamw import AdamW
from stages.lib.runtime import derive_seed, seed_everything
from stages.lib.shares import shared_out
from stages.papers.hcvrd import boxes
from stages.papers.hcvrd.relations import Pairs, Relations

if TYPE_CHECKING:
    from stages.papers.hcvrd.settings import Backbone as Settings

CHUNK = 512


class Backbone(nn.Module):
    """Convolutions 3 x 3 with batch normalisation and ReLU: maps [n, D, H / s, W / s] of pixels uint8 or [0, 255]."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in zip((3, *channels), channels, strides, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers, self.channels = nn.Sequential(*layers), channels[-1]

    def forward(self, pixels: Tensor) -> Tensor:
        """Maps of images [n, 3, H, W]."""
        return self.layers(pixels.float() / 64.0 - 2.0)

    @torch.no_grad()
    def maps(self, pixels: Tensor) -> Tensor:
        """Maps of many images, in parts."""
        return torch.cat([self(part) for part in pixels.split(CHUNK)])


def regions(given: Relations, sub: Tensor, obj: Tensor, image: Tensor, size: int) -> Tensor:
    """Union boxes of pairs, resampled to size x size pixels: float32 [n, 3, size, size]."""
    return torch.cat([
        boxes.align(given.x.float(), part, place, size)
        for part, place in zip(boxes.union(sub, obj).split(CHUNK), image.split(CHUNK), strict=True)
    ])  # fmt: skip


def region_maps(net: Backbone, given: Relations, pairs: Pairs, size: int) -> Tensor:
    """Maps [K, D, h, w] of the pairs' union boxes."""
    device = next(net.parameters()).device
    return net.maps(regions(given, pairs.sub, pairs.obj, pairs.image, size).to(device))


def recolour(pixels: Tensor, palette: float, generator: torch.Generator) -> Tensor:
    """Each image's channels times 1 +- palette and shifted a little: the web has other colours."""
    shape = (len(pixels), 3, 1, 1)
    gain = 1 + palette * (2 * torch.rand(shape, generator=generator) - 1)
    shift = 32 * palette * (2 * torch.rand(shape, generator=generator) - 1)
    return (pixels * gain.to(pixels.device) + shift.to(pixels.device)).clamp(0, 255)


def train(
    pixels: Tensor, parts: Tensor, sizes: tuple[int, int, int], settings: "Settings", repetition: int, device: torch.device
) -> Backbone:
    """A net whose mean-pooled maps tell subject, predicate and object of regions [n, 3, S, S] with parts int64 [n, 3]."""
    seed_everything(derive_seed(repetition, "backbone"))
    net = Backbone(settings.channels, settings.strides).to(device)
    heads = nn.Linear(net.channels, sum(sizes)).to(device)
    generator = torch.Generator().manual_seed(derive_seed(repetition, "regions"))
    held = [*net.parameters(), *heads.parameters()]
    optimiser = AdamW([([p for p in held if p.ndim > 1], settings.weight_decay), ([p for p in held if p.ndim == 1], 0.0)])
    batches = max(len(pixels) // settings.batch, 1)
    total = settings.epochs * batches
    for step in range(total):
        if step % batches == 0:
            order = torch.randperm(len(pixels), generator=generator)
        chosen = order[step % batches * settings.batch :][: settings.batch]
        shown = recolour(pixels[chosen].to(device), settings.palette, generator)
        with shared_out(net):
            maps = net(shown)
        logits = heads(maps.mean((2, 3))).split(sizes, 1)
        loss = sum(F.cross_entropy(one, parts[chosen, i].to(device)) for i, one in enumerate(logits))
        loss.backward()
        parallel.average(held)
        optimiser.step(settings.lr * 0.5 * (1 + math.cos(math.pi * step / total)))
    return net.eval().requires_grad_(False)
