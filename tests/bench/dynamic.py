"""What dynamic pruning buys at batch 1: latency gain of sliced execution against its MACs gain, masked execution as control."""

from __future__ import annotations

import copy
import itertools

import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stages.lib import latency, models, runtime
from stages.papers.manidp import gated, nets
from stages.papers.manidp.cost import cost_model
from stages.papers.manidp.gated import GatedNet
from stages.papers.manidp.sliced import Sliced
from stages.papers.manidp.thresholds import threshold
from tests.bench.table import Row

KEEP_RATE = 0.5
IMAGES = 8
NEAR_ONE = 0.1  # scale of the gates' weights: trained gates answer near 1 too


def rows() -> list[Row]:
    """ResNet-34 at 224 px and ResNet-56 at 32 px, batch 1, one thread, a new image (and new masks) at every call."""
    runtime.prepare(1, "cpu", 0)
    found = []
    for name, net, image in (("ResNet-34", models.resnet(34), 224), ("ResNet-56", nets.resnet_cifar(56), 32)):
        images = torch.randn(IMAGES, 3, image, image)
        found += compare(name, calibrated(net, images), images)
    return found


@torch.no_grad()
def calibrated(net: torch.nn.Module, images: torch.Tensor) -> torch.nn.Module:
    """The net in eval mode with the images' own statistics: with those of a fresh net, features grow from block to block."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches seen
    net.train()(images)
    return net.eval()


class EachInTurn(torch.nn.Module):
    """Calls a net with the next of the images at every call, so that no call finds the masks of the one before."""

    def __init__(self, net: torch.nn.Module, images: torch.Tensor) -> None:
        super().__init__()
        self.net, self.images = net, itertools.cycle(images.split(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the next image; `x` is not looked at."""
        return self.net(next(self.images))


@torch.no_grad()
def at_keep_rate(net: torch.nn.Module, images: torch.Tensor) -> GatedNet:
    """A gated net with thresholds at KEEP_RATE of the images' mean saliencies, layer by layer."""
    model = gated.gate(net, 2, NEAR_ONE).eval()
    for index, gate in enumerate(model.gates):  # a layer's thresholds change what the later ones see
        saliencies = model.trace(images)[1].saliencies[index]
        gate.threshold.copy_(threshold(saliencies.mean(0), KEEP_RATE))
    return model


def compare(name: str, net: torch.nn.Module, images: torch.Tensor) -> list[Row]:
    """Three rows: the sliced net's latency gain over its MACs gain, the same against a dense net with folded
    normalisations, and the masked net's latency gain."""
    model = at_keep_rate(net, images)
    cost = cost_model(model)
    with torch.no_grad():
        less = cost.dense / float(cost.per_image(model.trace(images)[1]).double().mean())
    competitors = {"dense": net, "folded": with_folded_norms(net), "sliced": Sliced(model), "masked": model}
    turns = {key: EachInTurn(item, images) for key, item in competitors.items()}
    times = latency.compare(turns, images[:1], repeats=5)
    gain, folded, control = (latency.speedup(times[a], times[b]) for a, b in
                             (("dense", "sliced"), ("folded", "sliced"), ("dense", "masked")))  # fmt: skip
    said = f"{name} with gates at keep rate {KEEP_RATE}, batch 1"
    return [
        Row(f"{said}: latency gain over MACs gain", f"{gain:.2f}x", f"{less:.2f}x", gain / less, ">= 0.7"),
        Row(
            f"{said}: the same, against the dense net with folded BN", f"{folded:.2f}x", f"{less:.2f}x", folded / less, ">= 0.7"
        ),
        Row(f"{said}: the masked net's latency gain (control)", f"{control:.2f}x", "1x", control, "at most 1"),
    ]


def with_folded_norms(net: torch.nn.Module) -> torch.nn.Module:
    """A copy of a dense ResNet whose normalisations are folded into its convolutions: the best that a dense net does."""
    thin = copy.deepcopy(net)
    parts = [(thin.stem, "0", "1")]
    for block in thin.blocks:
        parts += [(block, "conv1", "bn1"), (block, "conv2", "bn2")]
        if block.downsample is not None and len(block.downsample) > 1:
            parts.append((block.downsample, "0", "1"))
    for module, conv, norm in parts:
        setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
        setattr(module, norm, torch.nn.Identity())
    return thin.eval()
