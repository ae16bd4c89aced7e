"""What multi-dimensional compression buys: latency gain of the cut net against its MACs gain, the gated net as control."""

from __future__ import annotations

import statistics

import torch
from torch import nn

from stages.lib import latency, macs, runtime
from stages.lib.vit.net import VisionTransformer
from stages.papers.multi_dimensional_vit_compression import audit, surgery
from stages.papers.multi_dimensional_vit_compression.gated import Gated
from stages.papers.multi_dimensional_vit_compression.ranking import Kept
from tests.bench.table import Row

NET, POLICY, BATCH, REPEATS = "DeiT-S", "DeiT-S, searched policy", 4, 7


def nets() -> dict[str, nn.Module]:
    """DeiT-S, its net by the published policy, and the same gated, with random weights at full size."""
    params = audit.main.configure([]).params
    found = params.policies[POLICY]
    dense = VisionTransformer(audit.record_of(params.nets[NET], params)).eval()
    kept = Kept(tuple(tuple(range(count)) for count in found.heads), tuple(tuple(range(count)) for count in found.neurons))
    gated = Gated(dense, params.reduce)
    gated.set(kept, found.sparsity)
    return {"dense": dense, "cut": surgery.cut(dense, kept, found.sparsity, tuple(params.reduce)), "gated": gated.eval()}


def rows() -> list[Row]:
    """Two rows: the cut net's latency gain over its MACs gain, and the gated net's latency gain."""
    runtime.prepare(1, "cpu", 0)
    made, x = nets(), torch.randn(BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    times = latency.compare(made, x, repeats=REPEATS)
    gain = {name: latency.speedup(times["dense"], times[name]) for name in ("cut", "gated")}
    less = macs.count(made["dense"], x[:1]) / macs.count(made["cut"], x[:1])
    told = {name: f"{1000 * statistics.median(times[name].samples):.0f} ms" for name in times}
    what = f"DeiT-S by the published policy, batch {BATCH}"
    return [
        Row(f"{what}: latency gain over MACs gain", f"{gain['cut']:.2f}x ({told['cut']})", f"{less:.2f}x MACs",
            gain["cut"] / less, ">= 0.8"),
        Row(f"{what}: the gated net's latency gain (control: tokens alone are fewer)", f"{gain['gated']:.2f}x ({told['gated']})",
            f"1x ({told['dense']})", gain["gated"], "below the cut net's"),
    ]  # fmt: skip
