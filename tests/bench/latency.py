"""What surgery buys: latency gain against MACs gain, beside torch-pruning's same cut, with the masked net as control."""

from __future__ import annotations

import copy

import torch

from stages.lib import latency, macs, runtime, surgery
from stages.lib.models import preresnet_cifar, resnet
from tests.bench.table import Row

RATIOS = (0.3, 0.5)
BLOCK = 16  # channels: what oneDNN packs together


def rows() -> list[Row]:
    """ResNet-18 and ResNet-50 at 224 px, PreResNet-56 at 32 px, batch 1, one thread."""
    runtime.prepare(1, "cpu", 0)
    found = []
    for name, model, shape in (
        ("ResNet-18", resnet(18), (1, 3, 224, 224)),
        ("ResNet-50", resnet(50), (1, 3, 224, 224)),
        ("PreResNet-56", preresnet_cifar(56), (1, 3, 32, 32)),
    ):
        found += [row for ratio in RATIOS for row in compare(name, model.eval(), torch.randn(shape), ratio)]
    return found


def first_channels(model: torch.nn.Module, ratio: float, multiple: int) -> dict[str, torch.Tensor]:
    """Every site's first channels, as many as stay at this ratio."""
    return {name: torch.arange(width) for name, width in surgery.kept_widths(model, ratio, multiple).items()}


def compare(name: str, model: torch.nn.Module, x: torch.Tensor, ratio: float) -> list[Row]:
    """Four rows: latency gain over MACs gain (exact and aligned widths), torch-pruning's net, the masked net."""
    kept = first_channels(model, ratio, 1)
    nets = {
        "dense": model,
        "thin": surgery.cut(model, kept),
        "aligned": surgery.cut(model, first_channels(model, ratio, BLOCK)),
        "peer": torch_pruned(model, kept, x),
        "masked": surgery.mask(model, kept),
    }
    torch.testing.assert_close(nets["thin"](x), nets["peer"](x), rtol=1e-3, atol=1e-4)
    times = latency.compare(nets, x, repeats=15)
    gain = {other: latency.speedup(times["dense"], times[other]) for other in nets}
    dense = macs.total(model.record()).macs
    less = {other: dense / macs.total(nets[other].record()).macs for other in ("thin", "aligned")}
    cut = f"{name} with {ratio:.0%} of channels cut, batch 1"
    return [
        _over(f"{cut}: latency gain over MACs gain", gain["thin"], less["thin"], ">= 0.9"),
        _over(
            f"{cut}, widths in multiples of {BLOCK}: latency gain over MACs gain", gain["aligned"], less["aligned"], ">= 0.9"
        ),
        Row(
            f"{cut}: latency gain against torch-pruning's same cut",
            f"{gain['thin']:.2f}x",
            f"{gain['peer']:.2f}x",
            gain["thin"] / gain["peer"],
            "about 1",
        ),
        Row(f"{cut}: the masked net's latency gain (control)", f"{gain['masked']:.2f}x", "1x", gain["masked"], "about 1"),
    ]


def _over(name: str, gain: float, less: float, goal: str) -> Row:
    return Row(name, f"{gain:.2f}x", f"{less:.2f}x", gain / less, goal)


def torch_pruned(model: torch.nn.Module, kept: dict[str, torch.Tensor], x: torch.Tensor) -> torch.nn.Module:
    """The same channels cut by torch-pruning."""
    import torch_pruning

    peer = copy.deepcopy(model)
    graph = torch_pruning.DependencyGraph().build_dependency(peer, example_inputs=x)
    for site in peer.sites():
        producer = peer.get_submodule(site.producer)
        gone = sorted(set(range(producer.out_channels)) - set(kept[site.name].tolist()))
        graph.get_pruning_group(producer, torch_pruning.prune_conv_out_channels, idxs=gone).prune()
    return peer.eval()
