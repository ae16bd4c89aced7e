"""SRS: the closed-form gradient against composed operations, and what it costs beside ReLU and SiLU."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib import runtime
from stages.papers.srs import classify, sweep
from stages.papers.srs.activation import composed, srs
from tests.bench.table import Row

SHAPE, PAIRS = (64, 64, 32, 32), 9
STEPS = 20


def seconds(run: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def rows() -> list[Row]:
    """Medians of interleaved pairs, CPU seconds of one thread."""
    runtime.prepare(1, "cpu", 0)
    return [*function_rows(), batched_row()]


def passes(function: Callable[..., Tensor], x: Tensor, *pair: Tensor) -> None:
    """Forward and backward."""
    function(x, *pair).sum().backward()


def kept(function: Callable[..., Tensor], x: Tensor, *pair: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward one, each tensor once, the input left out."""
    found: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        found[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        function(x * 1.0, *pair)
    return sum(found.values())


def function_rows() -> list[Row]:
    """SRS(5, 3) with trainable parameters on a feature map, against each reference."""
    x = torch.randn(SHAPE).requires_grad_()
    pair = [torch.tensor(value, requires_grad=True) for value in (5.0, 3.0)]
    forms: dict[str, tuple[Callable[..., Tensor], list[Tensor]]] = {
        "closed": (srs, pair), "composed": (composed, pair), "ReLU": (F.relu, []), "SiLU": (F.silu, []),
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(PAIRS):
        for name, (function, more) in forms.items():
            times[name].append(seconds(lambda f=function, m=more: passes(f, x, *m)))
    middle = {name: statistics.median(values) for name, values in times.items()}
    what = f"SRS on {list(SHAPE)}, forward and backward"
    made = [
        Row(f"{what}: closed-form gradient against {name}, CPU s", f"{middle['closed']:.3f}", f"{middle[name]:.3f}",
            statistics.median(a / b for a, b in zip(times["closed"], times[name], strict=True)), goal)
        for name, goal in (("composed", "<= 0.8"), ("ReLU", "<= 40"), ("SiLU", "<= 12"))
    ]  # fmt: skip
    own, other = (kept(forms[name][0], x, *pair) / 2**20 for name in ("closed", "composed"))
    made.append(
        Row(f"SRS on {list(SHAPE)}: kept for the backward pass, MiB", f"{own:.0f}", f"{other:.0f}", own / other, "<= 0.3")
    )
    return made


def batched_row() -> Row:
    """Nets of the sweep side by side against one after another: a few steps of arm srs from all initialisations."""
    params = dataclasses.replace(classify.main.configure(["scale=small", "dataset=digits", "seed=0"]).params, arms=["srs"])
    x, y = torch.randn(params.batch, 64), torch.arange(params.batch) % 10
    weights = sweep.initial(params, 64, 10, [0, 1, 2, 3, 4])
    count = len(weights[0])

    def steps(net: nn.Module, batch: Tensor) -> None:
        for _ in range(STEPS):
            logits = F.log_softmax(net(batch), 1)
            (-logits.gather(1, y.expand(len(logits), 1, -1)).mean((1, 2))).sum().backward()
            net.zero_grad()

    def nets(part: slice) -> nn.Module:
        return sweep.Nets([one[part].clone() for one in weights], ["srs"], params.activation, True)

    together, alone = nets(slice(0, count)), [nets(slice(i, i + 1)) for i in range(count)]
    times: dict[str, list[float]] = {"together": [], "alone": []}
    for _ in range(3):
        times["together"].append(seconds(lambda: steps(together, x.t().expand(count, -1, -1))))
        times["alone"].append(seconds(lambda: [steps(net, x.t()[None]) for net in alone]))
    ours, other = (statistics.median(values) for values in times.values())
    return Row(
        f"{count} nets of the initialisation sweep: side by side against a loop, speed-up",
        f"{ours:.1f} s", f"{other:.1f} s", other / ours, ">= 3",
    )  # fmt: skip
