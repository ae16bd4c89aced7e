"""Training of a net by one schedule: Adam, rate reduced on a plateau, early stop, the best validation epoch kept.

`stages.lib.training` gives the loop and resuming. What the schedule remembers is in the trainee's buffers, so that a
resumed run goes on with it; steps after an early stop are idle.
"""

import dataclasses
import hashlib
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib import trainee as trainees
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed
from stages.lib.trainee import Trainee
from stages.papers.har_multistage.settings import Schedule

EVALUATED = 500  # windows of an evaluation at a time


@dataclasses.dataclass(frozen=True)
class Examples:
    """Inputs, one tensor [N, ...] for each branch of a net, and labels int64 [N]."""

    inputs: tuple[Tensor, ...]
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training came to."""

    accuracy: float  # of the validation windows, at the kept epoch
    epoch: int  # that epoch, from 1; 0: as it began
    passes: int  # over the training windows, until the early stop
    curve: list[float]  # accuracy of the validation windows after each pass


class Learner(Trainee):
    """A net of several inputs under a schedule. It is called with places of training windows, int64 [B]."""

    best: Tensor
    curve: Tensor
    stale: Tensor
    done: Tensor

    def __init__(self, net: nn.Module, train: Examples, val: Examples, schedule: Schedule, steps: int, keep: float) -> None:
        about = dataclasses.astuple(schedule), steps, keep, digest(train), digest(val)
        super().__init__(net, [(list(net.parameters()), 0.0)], self.current_rate, *about)
        self.train_set, self.val_set, self.schedule, self.steps = train, val, schedule, steps
        self.idle = nn.Parameter(torch.zeros(()))
        self.register_buffer("best", torch.tensor([keep, -torch.inf], dtype=torch.float64))  # accuracy, minus the loss
        self.register_buffer("stale", torch.zeros((), dtype=torch.int64))
        self.register_buffer("done", torch.zeros(4, dtype=torch.int64))  # stopped, best epoch, passes, reductions
        self.register_buffer("curve", torch.zeros(schedule.epochs, dtype=torch.float64))
        for name, value in net.state_dict().items():
            self.register_buffer(key(name), value.clone())

    def current_rate(self, _: int) -> float:
        """The learning rate, after the reductions so far."""
        return self.schedule.lr * self.schedule.factor ** int(self.done[3])

    def loss(self, places: Tensor, y: Tensor) -> Tensor:
        """Cross entropy of a batch; 0 once training has stopped."""
        if int(self.done[0]):
            return self.idle * 0.0
        return F.cross_entropy(self.net([x[places] for x in self.train_set.inputs]), y)

    def after_step(self) -> None:
        """One update; after the last of a pass, what the schedule says."""
        if int(self.done[0]):
            self.clock += 1
            return
        super().after_step()
        if int(self.clock) % self.steps == 0:
            self.end_of_pass()

    def end_of_pass(self) -> None:
        """Measure on the validation windows, keep what is best, reduce the rate, stop."""
        self.done[2] += 1
        accuracy, loss = score(self.net, self.val_set)
        if not math.isfinite(loss):
            raise StageError(f"the loss of the validation windows is not finite after pass {int(self.done[2])}; lower lr")
        self.curve[self.done[2] - 1] = accuracy
        if (accuracy, -loss) > tuple(self.best.tolist()):
            self.best.copy_(torch.tensor([accuracy, -loss], dtype=torch.float64))
            self.stale.zero_()
            self.done[1] = self.done[2]
            for name, value in self.net.state_dict().items():
                self._buffers[key(name)].copy_(value)
            return
        self.stale += 1
        if int(self.stale) % self.schedule.patience == 0:
            self.done[3] += 1
        if int(self.stale) >= self.schedule.stop:
            self.done[0] = 1

    def restore_best(self) -> None:
        """Give the net the weights of its best epoch."""
        self.net.load_state_dict({name: self._buffers[key(name)] for name in self.net.state_dict()})


def key(name: str) -> str:
    """The buffer that keeps a tensor of the best epoch; a buffer's name has no dots."""
    return "kept_" + name.replace(".", "/")


def digest(examples: Examples) -> str:
    """SHA-256 of the data, so that a saved state is never taken up with other windows."""
    found = hashlib.sha256()
    for tensor in (*examples.inputs, examples.y):
        found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def learn(
    net: nn.Module, train: Examples, val: Examples, schedule: Schedule, *, batch: int, seed: int, label: str,
    state: Path | None = None, device: torch.device | str = "cpu", may_stay: bool = False,
) -> Trained:  # fmt: skip
    """Train the net in place; it ends with the weights of its best validation epoch, in eval mode.

    may_stay: the weights it began with count as epoch 0, and stay if no epoch is more accurate. Raises StageError where
    the loss is not finite.
    """
    net.to(device)
    train, val = (Examples(tuple(x.to(device) for x in e.inputs), e.y.to(device)) for e in (train, val))
    keep = score(net, val)[0] if may_stay else -1.0
    steps = -(-len(train) // batch)
    learner = Learner(net, train, val, schedule, steps, keep).to(device)
    places = torch.arange(len(train))
    split = Split(places, train.y.cpu(), (), (), (), "", label)
    trainees.fit(
        learner, split, epochs=schedule.epochs, batch=batch, seed=derive_seed(seed, "order"), device=device,
        loss=lambda model, x, y: model.loss(x, y), state=state, label=label,
    )  # fmt: skip
    learner.restore_best()
    net.eval()
    passes = int(learner.done[2])
    return Trained(float(learner.best[0]), int(learner.done[1]), passes, learner.curve[:passes].tolist())


@torch.no_grad()
def predict(net: nn.Module, examples: Examples) -> Tensor:
    """Logits [N, K] in eval mode, on the CPU; the mode is put back."""
    mode, device = net.training, next(net.parameters()).device
    net.eval()
    parts = [
        net([x[start : start + EVALUATED].to(device) for x in examples.inputs]).cpu()
        for start in range(0, len(examples), EVALUATED)
    ]
    net.train(mode)
    return torch.cat(parts)


def score(net: nn.Module, examples: Examples) -> tuple[float, float]:
    """(accuracy, mean cross entropy)."""
    logits, y = predict(net, examples), examples.y.cpu()
    return float((logits.argmax(1) == y).double().mean()), float(F.cross_entropy(logits, y))
