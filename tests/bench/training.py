"""The training loop against a bare loop over the same net and data."""

from __future__ import annotations

import statistics
import time

import torch

from stages.lib import runtime, training
from stages.lib.data import Split
from stages.lib.models import preresnet
from tests.bench.table import Row

PASSES, IMAGES, BATCH = 2, 2000, 100


def net() -> torch.nn.Module:
    """The small experiment's net."""
    return preresnet(blocks=[2, 2, 2], widths=[8, 16, 32], classes=10, in_channels=3, image=32, stem={"kernel": 5, "stride": 4})


def bare(x: torch.Tensor, y: torch.Tensor) -> None:
    """What one would write by hand."""
    model = net().train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for _ in range(PASSES):
        order = torch.randperm(len(x))
        for first in range(0, len(x), BATCH):
            index = order[first : first + BATCH]
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(x[index]), y[index]).backward()
            optimiser.step()


def ours(split: Split) -> None:
    """The same by the project's loop."""
    training.train(net(), split, epochs=PASSES, lr=0.1, batch=BATCH, weight_decay=5e-4, seed=0, label="bench")


def rows() -> list[Row]:
    """Median of interleaved pairs, CPU seconds of one thread."""
    runtime.prepare(1, "cpu", 0)
    x, y = torch.randn(IMAGES, 3, 32, 32), torch.randint(10, (IMAGES,))
    split = Split(x=x, y=y, classes=[str(c) for c in range(10)], mean=[0.0] * 3, std=[1.0] * 3, source="sample")
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(9):
        for name, run in (("bare", lambda: bare(x, y)), ("ours", lambda: ours(split))):
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    ratio = statistics.median(a / b for a, b in zip(times["ours"], times["bare"], strict=True))
    mine, other = (statistics.median(times[name]) for name in ("ours", "bare"))
    return [Row("training loop against a bare torch loop, CPU s", f"{mine:.2f}", f"{other:.2f}", ratio, "<= 1.05")]
