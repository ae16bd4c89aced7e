"""Architecture search: what a supernet's step costs, what drawing an architecture costs, many nets trained at once."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional

from stages.lib import data, runtime
from stages.lib.adamw import AdamW, decay_groups
from stages.papers.close import benchmark
from stages.papers.close import space as cells
from stages.papers.close import truth as truth_stage
from stages.papers.focusformer import cost
from stages.papers.focusformer import space as spaces
from stages.papers.focusformer import train as focus_stage
from stages.papers.focusformer.sampler import Sampler
from stages.papers.focusformer.supernet import Supernet
from tests.bench.table import Row

BATCH, PAIRS, NETS = 4, 7, 60


def seconds(run: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def rows() -> list[Row]:
    """Medians of interleaved pairs, CPU seconds of one thread."""
    runtime.prepare(1, "cpu", 0)
    return [*supernet_rows(), *truth_rows()]


def supernet_rows() -> list[Row]:
    """AutoFormer-Ti's supernet: a step on the architecture of mean size against the same net alone; a draw against a step."""
    params = focus_stage.main.configure(["scale=paper", "dataset=imagenet", "supernet=focus", "seed=0"]).params
    canvas = cost.canvas(params.supernet, (3, 224, 224), 1000)
    supernet, found = Supernet(params.supernet, canvas), spaces.mean(params.space)
    alone = supernet.extract(found).train()
    images, labels = torch.randn(BATCH, 3, 224, 224), torch.arange(BATCH)
    sampler = Sampler(params.space, cost.budgets(params.space, canvas, params.budgets), params.sampler.hidden)
    budget = sampler.anchors[1:2]

    def step(net: torch.nn.Module, *architecture: object) -> None:
        optimiser = optimisers[net]
        functional.cross_entropy(net(images, *architecture), labels).backward()
        optimiser.step(1e-4)

    optimisers = {net: AdamW(decay_groups(net, 0.05)) for net in (supernet, alone)}
    supernet.train()
    times: dict[str, list[float]] = {"supernet": [], "alone": [], "uniform": [], "sampler": []}
    for _ in range(PAIRS):
        times["alone"].append(seconds(lambda: step(alone)))
        times["supernet"].append(seconds(lambda: step(supernet, found)))
        times["uniform"].append(seconds(lambda: [spaces.uniform(params.space, random) for _ in range(100)]) / 100)
        times["sampler"].append(seconds(lambda: sampler.draw(budget)))
    mean = {name: statistics.median(values) for name, values in times.items()}
    ratio = statistics.median(a / b for a, b in zip(times["supernet"], times["alone"], strict=True))
    what = f"AutoFormer-Ti, batch {BATCH}, 224 px"
    return [
        Row(f"{what}: supernet step against the net of mean size alone, CPU s", f"{mean['supernet']:.2f}", f"{mean['alone']:.2f}", ratio, "<= 1.02"),
        *(
            Row(f"{what}: one architecture drawn {how} against a step, CPU s", f"{mean[name]:.5f}", f"{mean['supernet']:.2f}",
                mean[name] / mean["supernet"], "<= 0.02")
            for name, how in (("uniform", "uniformly"), ("sampler", "by the sampler"))
        ),
    ]  # fmt: skip


def truth_rows() -> list[Row]:
    """CLOSE's table of truths at the small scale: nets trained side by side against one after another."""
    cfg = truth_stage.main.configure(["scale=small", "dataset=digits"])
    listed = cells.sample(NETS, cfg.space.seed, cfg.space.operations)
    split = data.noise([1, 8, 8], 10, cfg.data.train)
    params, device = cfg.params, torch.device("cpu")
    found: dict[str, list[float]] = {}
    times: dict[str, list[float]] = {"together": [], "one_by_one": []}
    for _ in range(3):
        for name, taken in times.items():
            start = time.process_time()
            found[name] = getattr(benchmark, name)(cfg.net, listed, split, split, params, 0, device)
            taken.append(time.process_time() - start)
    ours, other = (statistics.median(times[name]) for name in ("together", "one_by_one"))
    ratio = statistics.median(b / a for a, b in zip(times["together"], times["one_by_one"], strict=True))
    return [
        Row(
            f"{NETS} cells of NAS-Bench-201's kind trained alone: side by side against a loop, speed-up",
            f"{ours:.1f} s",
            f"{other:.1f} s",
            ratio,
            ">= 5",
        )
    ]
