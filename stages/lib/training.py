"""Deterministic training that can be stopped at any step and goes on to the same bytes.

The state (weights, velocities, generators, order of the epoch, place in it) goes to a scratch file outside
the stage's outputs, since both engines delete outputs before a retry. It is only taken up by the same run:
same settings, start weights, data and code.

Under `torchrun` (stages/lib/parallel.py) every process computes its share of each batch; the state is the same with any number
of them.
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

from stages.lib import parallel, resume, runtime
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.optim import Sgd
from stages.lib.optim import schedule as make_schedule
from stages.lib.runtime import derive_seed
from stages.lib.shares import shared_out

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
Augment = Callable[[Tensor, torch.Generator], Tensor]
SAVE_SHARE = 0.02  # at most this share of the time is spent on saving the state


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of model(x) [B, classes] against labels y [B]."""
    return nn.functional.cross_entropy(model(x), y)


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that stays the same while training."""

    split: Split  # on the device
    batch: int
    epochs: int
    rate: Callable[[int], float]  # learning rate by step
    augment: Augment | None
    loss: Loss
    mask_hook: Callable[[nn.Module], None] | None
    label: str

    @property
    def steps(self) -> int:
        """Steps of an epoch; the last batch may be smaller."""
        return -(-len(self.split) // self.batch)


@dataclasses.dataclass
class Run:
    """All that changes while training, generators of the process apart: saved and restored together."""

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
    settings = (epochs, lr, batch, seed, momentum, nesterov, weight_decay, schedule, tuple(milestones), str(device))
    settings = (*settings, "mixed") if runtime.mixed() else settings
    model.to(device).train()
    parallel.alike([*model.parameters(), *model.buffers()])
    started = resume.fingerprint(model, split, (*settings, label)) if state else ""
    steps = epochs * -(-len(split) // batch)
    rate = make_schedule(schedule, lr, steps, milestones)
    plan = Plan(split.to(device), batch, epochs, rate, augment, loss or cross_entropy, mask_hook, label)
    chosen = model.parameters() if parameters is None else parameters
    optimiser = Sgd(chosen, lr, momentum, weight_decay, nesterov)
    generator = torch.Generator().manual_seed(derive_seed(seed, "train"))
    run = Run(model, optimiser, generator, torch.arange(len(split)))
    keeper = resume.Keeper(Path(state), started, SAVE_SHARE) if state else None
    if keeper and parallel.agreed(keeper.restore(run), device, f"{state}: another process has not read the same state"):
        place = f"epoch {run.step // plan.steps + 1}/{epochs}, step {run.step % plan.steps}/{plan.steps}"
        print(f"{label}: resumed at {place}", flush=True)
    with _watch_for_stop() as stop, shared_out(model.net if hasattr(model, "after_step") else model):
        while run.step < steps:
            _epoch(run, plan, stop)
            _keep(run, plan, keeper, stop)
    if keeper:
        keeper.remove()
    return run.history


def _check(epochs: int, lr: float, batch: int, count: int) -> None:
    for name, value, least in (("epochs", epochs, 0), ("batch", batch, 1), ("training examples", count, 1)):
        if value < least:
            raise StageError(f"{name}={value}: expected {least} or more")
    if not 0 <= lr < float("inf"):
        raise StageError(f"lr={lr}: expected a finite number of 0 or more")


def _epoch(run: Run, plan: Plan, stop: threading.Event) -> None:
    """The rest of the present epoch, up to a stop; a fresh epoch draws its order first."""
    if run.step % plan.steps == 0:
        run.order, run.total = _order(plan.split, run.generator), 0.0
    # Summed on the device: reading the loss at each step would make a GPU wait.
    total = torch.tensor(run.total, dtype=torch.float64, device=plan.split.y.device)
    began, first = time.monotonic(), run.step
    with _bar(plan, run.step) as tick:
        for position in range(run.step % plan.steps, plan.steps):
            total += _step(run, plan, position, stop)
            tick()
            if stop.is_set():
                break
    run.total = _finite(float(total), plan, run.step)
    if run.step % plan.steps == 0:
        run.history.append(run.total / plan.steps)
        if not sys.stderr.isatty():
            pace = 1000 * (time.monotonic() - began) / (run.step - first)
            text = f"{plan.label}: epoch {len(run.history)}/{plan.epochs}  loss {run.history[-1]:.4f}"
            print(f"{text}  lr {run.optimiser.lr:.4g}  {pace:.1f} ms/step", flush=True)


def _order(split: Split, generator: torch.Generator) -> Tensor:
    """The examples of an epoch, int64 [N]; images that lie in shards say themselves what order suits their disk."""
    drawn = getattr(split.x, "order", None)
    return torch.randperm(len(split), generator=generator) if drawn is None else drawn(generator)


def _images(x: Tensor, index: Tensor) -> Tensor:
    """Images of an index; of several processes each decodes its share of those that are not in memory (lib/shards.py)."""
    if isinstance(x, Tensor):
        return x[index.to(x.device)]
    return parallel.gather(x[index[parallel.shares(len(index))[parallel.rank()]]], len(index))


def _step(run: Run, plan: Plan, position: int, stop: threading.Event) -> Tensor:
    """One update on the batch at a position of the epoch; returns its loss. All processes stop after the same step."""
    index = run.order[position * plan.batch : (position + 1) * plan.batch]
    x, y = _images(plan.split.x, index), plan.split.y[index.to(plan.split.y.device)]
    if plan.augment is not None:
        x = plan.augment(x, run.generator)
    run.optimiser.lr = plan.rate(run.step)
    run.optimiser.zero_grad()
    with runtime.precision(plan.split.y.device):
        value = plan.loss(run.model, x, y)
    value.backward()
    if parallel.average(run.model.parameters(), stop.is_set()):
        stop.set()
    run.optimiser.step()
    if plan.mask_hook is not None:
        plan.mask_hook(run.model)
    run.step += 1
    return value.detach()


def _finite(total: float, plan: Plan, step: int) -> float:
    if not abs(total) < float("inf"):
        epoch = (step - 1) // plan.steps + 1
        raise StageError(f"{plan.label}: the loss is not finite in epoch {epoch}; lower lr, or look for NaN in the data")
    return total


def _keep(run: Run, plan: Plan, keeper: resume.Keeper | None, stop: threading.Event) -> None:
    """Save the state of an unfinished run; after SIGTERM raise StageError (exit status 143)."""
    if run.step >= plan.epochs * plan.steps:
        return
    if keeper:
        keeper.save(run, now=stop.is_set())
    if stop.is_set():
        done = f"stopped by SIGTERM after {run.step} of {plan.epochs * plan.steps} steps"
        kept = f"state kept in {keeper.path}, the same command goes on from there" if keeper else "no state was asked for"
        parallel.barrier()  # the first process to end ends all
        raise StageError(f"{plan.label}: {done}; {kept}", code=143)


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
def _bar(plan: Plan, step: int) -> Iterator[Callable[[], object]]:
    """A progress bar on a terminal, nothing in a log (there one line is printed for each epoch)."""
    if not sys.stderr.isatty() or parallel.rank():
        yield lambda: None
        return
    from tqdm import tqdm

    epoch, start = step // plan.steps + 1, step % plan.steps
    title = f"{plan.label} {epoch}/{plan.epochs}"
    with tqdm(total=plan.steps, initial=start, desc=title, leave=epoch == plan.epochs) as bar:
        yield bar.update


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, device: torch.device | str = "cpu", batch: int = 500) -> Tensor:
    """Logits [N, classes] on the CPU, in eval mode; the model's mode is put back."""
    mode = model.training
    model.to(device).eval()
    whole = torch.arange(len(x))
    with shared_out(model):
        parts = [model(_images(x, index).to(device)).cpu() for index in whole.split(batch)]
    model.train(mode)
    return torch.cat(parts)


def evaluate(model: nn.Module, split: Split, device: torch.device | str = "cpu", batch: int = 500) -> float:
    """Share of the split's images that the model classifies rightly. Raises StageError for NaN logits."""
    logits = predict(model, split.x, device, batch)
    if bool(logits.isnan().any()):
        raise StageError(f"{split.name or 'split'}: the model answers NaN; its training has diverged, lower lr")
    return int((logits.argmax(1) == split.y.cpu()).sum()) / len(split)
