"""GhostSR: the exported EDSR x2, whose shifts are slices, beside the dense one; one of its layers beside other cheap operations."""

from __future__ import annotations

import torch
from torch import nn

from stages.lib import latency, runtime
from stages.papers.ghostsr import evaluate
from stages.papers.ghostsr.conversion import converted, exported
from stages.papers.ghostsr.exported import SlicedGhost
from stages.papers.ghostsr.ghost import GhostModule, GhostOptions
from stages.papers.ghostsr.saved import Form
from tests.bench.table import Row

SIDE, REPEATS = 40, 5  # low-resolution pixels of the net's image
LAYER, LAYER_REPEATS = 96, 11  # of the single layer's


def rows() -> list[Row]:
    """Medians of turns on one thread."""
    runtime.prepare(1, "cpu", 0)
    return [net_row(), *layer_rows()]


def drawn(options: GhostOptions, net: nn.Module) -> nn.Module:
    """An exported ghost net with the random offsets that its logits start with, in the dense net's channel order."""
    return exported(converted(net, options, "random", "matched", 0))


def net_row() -> Row:
    """The whole net at the paper's size."""
    shape = evaluate.main.configure(["scale=paper", "seed=0"]).net
    torch.manual_seed(0)
    dense = Form(shape).build()
    times = latency.compare({"dense": dense, "ghost": drawn(GhostOptions(), dense)}, image(3, SIDE), REPEATS, 1)
    share = 1 / latency.speedup(times["dense"], times["ghost"])
    what = f"GhostSR: exported EDSR x2 against the dense net, {SIDE} x {SIDE} px, share of its latency"
    return row(what, times["ghost"], times["dense"], share, "<= 0.55")


def layer_rows() -> list[Row]:
    """One of its 3x3 convolutions alone."""
    torch.manual_seed(0)
    conv = nn.Conv2d(256, 256, 3, padding=1)
    half = nn.Conv2d(256, 128, 3, padding=1)
    ways = {"slices": GhostOptions(estimator="frozen"), "depthwise": GhostOptions(cheap="depthwise")}
    nets: dict[str, nn.Module] = {"dense": conv, "half": half}
    for name, options in ways.items():
        module = GhostModule(conv, options)
        module.order = None
        nets[name] = SlicedGhost(module.eval())
    times = latency.compare(nets, image(256, LAYER), LAYER_REPEATS, 1)
    what = f"GhostSR: 256 channels, {LAYER} x {LAYER} px"
    return [
        row(f"{what}: convolution and slices against the whole convolution", times["slices"], times["dense"],
            1 / latency.speedup(times["dense"], times["slices"]), "<= 0.55"),
        row(f"{what}: convolution and slices against the thin convolution alone", times["slices"], times["half"],
            1 / latency.speedup(times["half"], times["slices"]), "<= 1.1"),
        row(f"{what}: slices against a depth-wise convolution", times["slices"], times["depthwise"],
            1 / latency.speedup(times["depthwise"], times["slices"]), "<= 1"),
    ]  # fmt: skip


def image(channels: int, side: int) -> torch.Tensor:
    """One image of noise."""
    return torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(0)) * 255


def row(name: str, ours: latency.Latency, reference: latency.Latency, ratio: float, goal: str) -> Row:
    """A row in milliseconds; `ratio` is the median of paired turns."""
    return Row(name, f"{1000 * ours.median:.1f} ms", f"{1000 * reference.median:.1f} ms", ratio, goal)
