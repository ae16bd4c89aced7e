"""Deterministic training that can be stopped at any step and goes on to the same bytes.

The state (weights, velocities, generators, order of the epoch, place in it) goes to a scratch file outside
the stage's outputs, since both engines delete outputs before a retry. It is only taken up by the same run:
same settings, start weights, data and code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.lib import resume
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.optim import Sgd, schedule as make_schedule
from stages.lib.runtime import derive_seed

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
Augment = Callable[[Tensor, torch.Generator], Tensor]
SAVE_SHARE = 0.02  # at most this share of the time is spent on saving the state


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of model(x) [B, classes] against labels y [B]."""
    return nn.functional.cross_entropy(model(x), y)


@dataclasses.dataclass
class Run:
    """All that changes while training, apart from the model: saved and restored together."""

    model: nn.Module
    optimiser: Sgd
    generator: torch.Generator  # draws the order and the augmentation
    order: Tensor  # int64 [N], the present epoch's
    step: int = 0  # over all epochs
    total: float = 0.0  # sum of the losses of this epoch's finished steps
    history: list[float] = dataclasses.field(default_factory=list)


def train(
    model: nn.Module,
    split: Split,
    *,
    epochs: int,
    lr: float,
    batch: int,
    seed: int,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 0.0,
    schedule: str = "cosine",
    milestones: Sequence[float] = (),
    device: torch.device | str = "cpu",
    augment: Augment | None = None,
    loss: Loss | None = None,
    mask_hook: Callable[[nn.Module], None] | None = None,
    parameters: Sequence[nn.Parameter] | None = None,
    state: Path | str | None = None,
    label: str = "train",
) -> list[float]:
    """Train in place with SGD and return the mean loss of each epoch.

    Every epoch visits all examples once in a seeded order (the last batch may be smaller). `mask_hook(model)`
    runs after each step, `parameters` restricts what is updated, `state` is the scratch file for resuming.
    The model ends on `device`, in train mode. Raises StageError for a loss that is not finite, for impossible
    settings, and (exit status 143, state saved) on SIGTERM.
    """
    _check(epochs, lr, batch, len(split))
    started = resume.fingerprint(model, split, (epochs, lr, batch, seed, momentum, nesterov, weight_decay, schedule,
                                                tuple(milestones), str(device), label)) if state else ""  # fmt: skip
    model.to(device).train()
    split = split.to(device)
    chosen = model.parameters() if parameters is None else parameters
    run = Run(
        model,
        Sgd(chosen, lr, momentum, weight_decay, nesterov),
        torch.Generator().manual_seed(derive_seed(seed, "train")),
        torch.arange(len(split)),
    )
    steps = -(-len(split) // batch)
    rate = make_schedule(schedule, lr, epochs * steps, milestones)
    keeper = resume.Keeper(Path(state), started, SAVE_SHARE) if state else None
    if keeper and keeper.restore(run):
        print(f"{label}: resumed at epoch {run.step // steps + 1}/{epochs}, step {run.step % steps}/{steps}", flush=True)
    with _watch_for_stop() as stop:
        while run.step < epochs * steps:
            _epoch(run, split, batch, steps, rate, augment, loss or cross_entropy, mask_hook, keeper, stop, label, epochs)
    if keeper:
        keeper.remove()
    return run.history


def _check(epochs: int, lr: float, batch: int, count: int) -> None:
    for name, value, least in (("epochs", epochs, 0), ("batch", batch, 1), ("training examples", count, 1)):
        if value < least:
            raise StageError(f"{name}={value}: expected {least} or more")
    if not 0 <= lr < float("inf"):
        raise StageError(f"lr={lr}: expected a finite number of 0 or more")


def _epoch(
    run: Run,
    split: Split,
    batch: int,
    steps: int,
    rate: Callable[[int], float],
    augment: Augment | None,
    loss: Loss,
    mask_hook: Callable[[nn.Module], None] | None,
    keeper: resume.Keeper | None,
    stop: threading.Event,
    label: str,
    epochs: int,
) -> None:
    """The rest of the present epoch; a fresh one draws its order first."""
    if run.step % steps == 0:
        run.order, run.total = torch.randperm(len(split), generator=run.generator), 0.0
    total = torch.tensor(run.total, dtype=torch.float64, device=split.x.device)
    began, first = time.monotonic(), run.step
    with _bar(label, run.step // steps, epochs, steps, run.step % steps) as tick:
        for position in range(run.step % steps, steps):
            index = run.order[position * batch : (position + 1) * batch].to(split.x.device)
            x, y = split.x[index], split.y[index]
            if augment is not None:
                x = augment(x, run.generator)
            run.optimiser.lr = rate(run.step)
            run.optimiser.zero_grad()
            value = loss(run.model, x, y)
            value.backward()
            run.optimiser.step()
            if mask_hook is not None:
                mask_hook(run.model)
            total += value.detach()
            run.step += 1
            tick()
            if stop.is_set():
                break
    run.total = _finite(total, label, run.step, steps)
    if run.step % steps == 0:
        run.history.append(run.total / steps)
        if not sys.stderr.isatty():
            pace = (time.monotonic() - began) / (run.step - first)
            text = f"{label}: epoch {len(run.history)}/{epochs}  loss {run.history[-1]:.4f}"
            print(f"{text}  lr {run.optimiser.lr:.4g}  {1000 * pace:.1f} ms/step", flush=True)
    if stop.is_set() and run.step < epochs * steps:
        _stopped(run, keeper, label, steps)
    if keeper and run.step < epochs * steps:
        keeper.save(run)


def _finite(total: Tensor, label: str, step: int, steps: int) -> float:
    value = float(total)
    if not abs(value) < float("inf"):
        raise StageError(
            f"{label}: the loss is not finite in epoch {(step - 1) // steps + 1}; lower lr, or look for NaN in the data"
        )
    return value


def _stopped(run: Run, keeper: resume.Keeper | None, label: str, steps: int) -> None:
    if keeper:
        keeper.save(run, now=True)
    kept = f"state kept in {keeper.path}, the same command goes on from there" if keeper else "no state was asked for"
    raise StageError(f"{label}: stopped by SIGTERM after step {run.step} ({run.step // steps} epochs); {kept}", code=143)


@contextlib.contextmanager
def _watch_for_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that the loop ends between two steps; the old handler comes back."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python delivers signals to the main thread only
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _bar(label: str, epoch: int, epochs: int, steps: int, start: int) -> Iterator[Callable[[], object]]:
    """A progress bar on a terminal, nothing in a log (there one line is printed for each epoch)."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from tqdm import tqdm

    with tqdm(total=steps, initial=start, desc=f"{label} {epoch + 1}/{epochs}", leave=epoch + 1 == epochs) as bar:
        yield bar.update


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, device: torch.device | str = "cpu", batch: int = 500) -> Tensor:
    """Logits [N, classes] on the CPU, in eval mode; the model's mode is put back."""
    mode = model.training
    model.to(device).eval()
    parts = [model(x[start : start + batch].to(device)).cpu() for start in range(0, len(x), batch)]
    model.train(mode)
    return torch.cat(parts)


def evaluate(model: nn.Module, split: Split, device: torch.device | str = "cpu", batch: int = 500) -> float:
    """Share of the split's images that the model classifies rightly. Raises StageError for NaN logits."""
    logits = predict(model, split.x, device, batch)
    if bool(logits.isnan().any()):
        raise StageError(f"{split.name or 'split'}: the model answers NaN; its training has diverged, lower lr")
    return int((logits.argmax(1) == split.y.cpu()).sum()) / len(split)
