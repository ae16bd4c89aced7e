"""Measured latency: what the clock says, beside what the MACs promise.

Timings vary from run to run; they belong in benchmark files, never in an output that is hashed.
"""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

SHORTEST = 2e-3  # seconds: shorter samples drown in the clock and in the interpreter, so calls are grouped up to this

CALIBRATION = 5  # single calls that tell how many to group


@dataclass(frozen=True)
class Latency:
    """Seconds a forward pass of the whole batch takes: median and quartiles over `repeats` samples."""

    median: float
    first_quartile: float
    third_quartile: float
    repeats: int
    samples: tuple[float, ...] = field(repr=False, default=())


def _sync(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


def _sample(model: nn.Module, x: Tensor, calls: int) -> float:
    _sync(x)
    start = time.perf_counter()
    for _ in range(calls):
        model(x)
    _sync(x)
    return (time.perf_counter() - start) / calls


def _summary(samples: list[float]) -> Latency:
    quarters = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    first, median, third = torch.tensor(samples, dtype=torch.float64).quantile(quarters).tolist()
    return Latency(median, first, third, len(samples), tuple(samples))


@torch.inference_mode()
def compare(models: Mapping[str, nn.Module], x: Tensor, repeats: int = 30, warmup: int = 3) -> dict[str, Latency]:
    """Latency of several nets on the same batch `x` [N,...], in eval mode.

    The nets take turns, and the order turns too, so that other work on the machine disturbs all of them alike.
    """
    if not models or repeats < 1:
        raise ValueError("latency needs at least one net and one repeat")
    training = {name: model.training for name, model in models.items()}
    calls = {name: _calls(model.eval(), x, warmup) for name, model in models.items()}
    samples: dict[str, list[float]] = {name: [] for name in models}
    order = list(models)
    for turn in range(repeats):
        shift = turn % len(order)
        for name in order[shift:] + order[:shift]:
            samples[name].append(_sample(models[name], x, calls[name]))
    for name, model in models.items():
        model.train(training[name])
    return {name: _summary(values) for name, values in samples.items()}


def _calls(model: nn.Module, x: Tensor, warmup: int) -> int:
    for _ in range(warmup):
        model(x)
    fastest = min(_sample(model, x, 1) for _ in range(CALIBRATION))  # a single call may fall into a disturbed moment
    return max(1, round(SHORTEST / max(fastest, 1e-9)))


def measure(model: nn.Module, x: Tensor, repeats: int = 30, warmup: int = 3) -> Latency:
    """Latency of one net; use `compare` where two are to be set side by side."""
    return compare({"model": model}, x, repeats, warmup)["model"]


def speedup(slow: Latency, fast: Latency) -> float:
    """Median over the turns of one `compare` call of slow / fast: paired, so that a disturbed turn disturbs both."""
    return statistics.median(a / b for a, b in zip(slow.samples, fast.samples, strict=True))
