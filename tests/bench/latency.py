"""What surgery buys: latency gain against MACs gain, the masked net as control."""

from __future__ import annotations

import torch

from stages.lib import latency, macs, runtime, surgery
from stages.lib.models import preresnet_cifar, resnet
from tests.bench.table import Row

RATIOS = (0.3, 0.5)


def rows() -> list[Row]:
    """ResNet-18 at 224 px and PreResNet-56 at 32 px, batch 1, one thread."""
    runtime.prepare(1, "cpu", 0)
    found = []
    for name, model, shape in (
        ("ResNet-18", resnet(18), (1, 3, 224, 224)),
        ("PreResNet-56", preresnet_cifar(56), (1, 3, 32, 32)),
    ):
        found += [row for ratio in RATIOS for row in compare(name, model.eval(), torch.randn(shape), ratio)]
    return found


def compare(name: str, model: torch.nn.Module, x: torch.Tensor, ratio: float) -> list[Row]:
    """Two rows: the cut net's latency gain over its MACs gain, and the masked net's latency gain."""
    kept = {
        site.name: torch.arange(surgery.kept_count(model.get_submodule(site.consumer).in_channels, ratio))
        for site in model.sites()
    }
    thin, masked = surgery.cut(model, kept), surgery.mask(model, kept)
    times = latency.compare({"dense": model, "thin": thin.eval(), "masked": masked.eval()}, x, repeats=15)
    gain = times["dense"].median / times["thin"].median
    less = macs.total(model.record()).macs / macs.total(thin.record()).macs
    control = times["dense"].median / times["masked"].median
    cut = f"{name} with {ratio:.0%} of channels cut, batch 1"
    return [
        Row(f"{cut}: latency gain over MACs gain", f"{gain:.2f}x", f"{less:.2f}x", gain / less, ">= 0.75"),
        Row(f"{cut}: the masked net's latency gain (control)", f"{control:.2f}x", "1x", control, "about 1"),
    ]
