"""Block-circulant projections: the form chosen by width against the dense and the FFT form of the same map."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from stages.lib import runtime
from stages.papers.augmented_shortcuts.circulant import BlockCirculant
from tests.bench.table import Row

WIDTHS, BLOCKS, PATHS = (192, 384, 768), 4, 2
BATCH, TOKENS, PAIRS, CALLS = 8, 197, 9, 2
GOALS = {192: ">= 1", 384: ">= 1", 768: ">= 2.8"}


def seconds(run: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    for _ in range(CALLS):
        run()
    return (time.process_time() - start) / CALLS


def step(layer: nn.Module, x: Tensor, back: Tensor) -> None:
    """One pass forward and backward."""
    layer(x).backward(back)
    x.grad = None
    layer.zero_grad()


def compared(layers: dict[str, nn.Module], x: Tensor, training: bool) -> dict[str, list[float]]:
    """CPU seconds of all layers, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in layers}
    for layer in layers.values():
        layer.train(training)
    x = x.clone().requires_grad_(training)
    back = torch.randn(*x.shape[:-1], next(iter(layers.values())).outputs)
    with torch.set_grad_enabled(training):
        for turn in range(PAIRS + 1):
            for name, layer in layers.items():
                spent = seconds((lambda own=layer: step(own, x, back)) if training else (lambda own=layer: own(x)))
                if turn:  # the first warms up
                    times[name].append(spent)
    return times


def rows() -> list[Row]:
    """Medians over interleaved turns, CPU seconds of one thread."""
    runtime.prepare(1, "cpu", 0)
    made = []
    for width in WIDTHS:
        x = torch.randn(BATCH, TOKENS, width)
        for paths in (1, PATHS):
            wide = paths * width
            layers = {form: BlockCirculant(width, wide, BLOCKS, form) for form in ("auto", "dense", "fft")}
            radix = layers["auto"].radix
            if radix == 1:
                del layers["auto"]  # it is the dense form, and one measurement stands for both
            for training, what in ((False, "inference"), (True, "training step")):
                times = compared(layers, x, training)
                made += _rows(f"Block-circulant map {width} -> {wide}, b={BLOCKS}, {what}", radix, times, GOALS[width])
    return made


def _rows(what: str, radix: int, times: dict[str, list[float]], goal: str) -> list[Row]:
    """Speed-up of the chosen form (dense, or partial transform of so many points) over the dense and the FFT form."""
    chosen = times.get("auto", times["dense"])
    form = "dense" if radix == 1 else f"partial transform of {radix} points"
    found = []
    for other, aim in (("dense", goal), ("fft", ">= 1")):
        ratio = statistics.median(b / a for a, b in zip(chosen, times[other], strict=True))
        name = f"{what}: chosen ({form}) against {other} form, speed-up"
        found.append(Row(name, _middle(chosen), _middle(times[other]), ratio, aim))
    return found


def _middle(seconds: list[float]) -> str:
    """The median, in milliseconds."""
    return f"{1000 * statistics.median(seconds):.2f} ms"
