"""Discriminant information in closed form against one solve for each channel left out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from stages.lib import runtime
from stages.lib.discriminant import analyse, centred_features, centred_labels, kernel
from tests.bench.table import Row

BATCH, CHANNELS, PIXELS, CLASSES, RHO = 300, 256, 4, 10, 10.0


def leave_one_out(rows: Tensor, labels: Tensor, rho: float) -> Tensor:
    """Exact removal losses (C,) of Z (B, C, P) and Y (B, K), by a solve in B for every channel."""
    whole, ridge = kernel(rows), rho * torch.eye(len(rows), dtype=rows.dtype)

    def information(system: Tensor) -> Tensor:
        return -rho * (labels * torch.linalg.solve(system + ridge, labels)).sum()

    losses = [information(whole) - information(whole - kernel(rows[:, c : c + 1])) for c in range(rows.shape[1])]
    return torch.stack(losses)


def timed(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """CPU seconds of a call, and its result."""
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


def rows() -> list[Row]:
    """Median of interleaved pairs at 256 channels, one thread; and the largest relative difference of the losses."""
    runtime.prepare(1, "cpu", 0)
    labels = torch.arange(BATCH) % CLASSES
    features = torch.randn(CLASSES, CHANNELS, PIXELS, dtype=torch.float64)[labels] * 0.3
    features = features + torch.randn(BATCH, CHANNELS, PIXELS, dtype=torch.float64)
    centred, hot = centred_features(features), centred_labels(labels, CLASSES)
    times: dict[str, list[float]] = {"closed": [], "solves": []}
    for _ in range(5):
        seconds, closed = timed(lambda: analyse(features, labels, CLASSES, RHO).removal_losses())
        times["closed"].append(seconds)
        seconds, solved = timed(lambda: leave_one_out(centred, hot, RHO))
        times["solves"].append(seconds)
    ours, other = (statistics.median(times[name]) for name in ("closed", "solves"))
    ratio = statistics.median(b / a for a, b in zip(times["closed"], times["solves"], strict=True))
    error = float(((closed - solved) / solved).abs().max())
    what = f"exact removal losses of DI at {CHANNELS} channels, batch {BATCH}"
    return [
        Row(f"{what}: one factor against a solve a channel, speed-up", f"{ours:.3f} s", f"{other:.2f} s", ratio, ">= 20"),
        Row(f"{what}: largest relative difference", "closed form", "solves", error, "<= 1e-4"),
    ]
