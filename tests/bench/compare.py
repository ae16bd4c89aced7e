"""What the compared pruning methods cost: core-seconds of their stages and latency of their nets, after a pipeline run."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path

import torch

from stages.lib import latency, runtime, weights
from stages.papers.manidp.gated import GatedNet
from stages.papers.manidp.sliced import Sliced

NETS = Path("runs/compare/channel_pruning/nets")
STAGES = {"dense": "train", "chex": "explore", "thin_scratch": "explore", "manidp": "gate"}
COLUMNS = ["scale", "dataset", "budget", "method", "core_seconds", "latency_ms", "latency_gain"]
ABOUT = """# Channel pruning: what the methods cost

Measured by `make bench` after a run, on one machine; timings vary. Core-seconds are the mean over seeds of the method's own
stage; methods that start from a trained net need the dense net's besides, whose row holds its extra passes too. Latency is
the median of one image on one thread; its gain is the paired median against the dense net in the same run. ManiDP's nets
run their active channels only.
"""


def core_seconds(costs: Path, scale: str, dataset: str, method: str, budget: str) -> float:
    """Mean processor seconds of one cell's stage over seeds; nan where none was noted."""
    stage = STAGES.get(method, "prune")
    named = {"train": "", "gate": f"-{budget}"}.get(stage, f"-{method}-{budget}")
    pattern = f"stages_compare_channel_pruning_dvc.yaml:{stage}@{scale}-{dataset}{named}-*.json"
    found = [json.loads(path.read_text())["core_seconds"] for path in costs.glob(pattern)]
    return statistics.mean(found) if found else float("nan")


def executable(net: torch.nn.Module) -> torch.nn.Module:
    """The net as it would be used: a gated one computes its active channels only."""
    return Sliced(net.eval()) if isinstance(net, GatedNet) else net.eval()


def rows_of(folder: Path, costs: Path) -> list[dict]:
    """One row a method and budget of one scale and data set."""
    first = {path.parent: path for path in sorted(folder.glob("*/*/*/model*.safetensors"), reverse=True)}
    cells = {tuple(path.parts[-4:-2]): path for path in sorted(first.values(), reverse=True)}
    nets = {cell: weights.load_model(path) for cell, path in sorted(cells.items())}
    x = torch.randn(1, *nets["dense", "all"].record()["input"])
    times = latency.compare({str(cell): executable(net) for cell, net in nets.items()}, x, repeats=9)
    whole = times[str(("dense", "all"))]
    scale, dataset = folder.parts[-2:]
    return [
        {"scale": scale, "dataset": dataset, "budget": budget, "method": method,
         "core_seconds": f"{core_seconds(costs, scale, dataset, method, budget):.2f}",
         "latency_ms": f"{1000 * times[str((method, budget))].median:.3f}",
         "latency_gain": f"{latency.speedup(whole, times[str((method, budget))]):.2f}"}
        for method, budget in nets
    ]  # fmt: skip


def write(reports: Path) -> None:
    """Measure every scale and data set that was run, into compare/channel_pruning_costs.{csv,md}."""
    runtime.prepare(1, "cpu", 0)
    rows = [row for folder in sorted(NETS.glob("*/*")) for row in rows_of(folder, Path("runs/.costs"))]
    if not rows:
        print("no nets to compare; run the pipeline first")
        return
    path = reports / "compare/channel_pruning_costs.csv"
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS), *(" | ".join(row.values()) for row in rows)]
    path.with_suffix(".md").write_text(ABOUT + "\n" + "".join(f"| {line} |\n" for line in lines))
