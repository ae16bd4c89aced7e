"""What the processes of tests/lib/test_parallel.py run: `torchrun ... parallel_worker.py CASE,CASE... FOLDER [stop=STEP]`."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib import artifacts, parallel, runtime, training
from stages.lib.data import Split
from stages.lib.trainee import Trainee, fit

COUNT = 47  # neither a multiple of the batch nor of the processes


class Small(nn.Module):
    """Convolution, batch normalisation, a linear map; dropout if asked."""

    called = ("features",)

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.drop, self.linear = nn.Dropout(dropout), nn.Linear(8, 5)

    def features(self, x: Tensor) -> Tensor:
        """[B, 8] of images."""
        return F.relu(self.norm(self.conv(x))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 5] of images."""
        return self.linear(self.drop(self.features(x)))


class Remembering(Small):
    """Answers, besides rows, with a number of the whole batch."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and their mean."""
        logits = super().forward(x)
        return logits, logits.mean()


class Coupled(Remembering):
    """The same, and says so."""

    coupled = True


NETS = {"remembering": Remembering, "coupled": Coupled}


def images() -> Split:
    """Noise with labels."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(COUNT, 3, 8, 8, generator=generator)
    return Split(x, torch.randint(0, 5, (COUNT,), generator=generator), tuple("abcde"), (0.0,) * 3, (1.0,) * 3, "noise")


def compared(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy, a term over pairs of the batch, and one that does not pass through the net's forward."""
    logits = model(x)
    return F.cross_entropy(logits, y) + 0.1 * (logits @ logits.T).square().mean() + 0.01 * model.linear.weight.square().sum()


def by_method(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """A loss that calls a method of the net."""
    return F.cross_entropy(model.linear(model.features(x)), y)


def answered(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """A loss of a net that answers with a pair."""
    return F.cross_entropy(model(x)[0], y)


def stopping_after(steps: int) -> training.Loss:
    """`compared`, with a SIGTERM to the last process alone in one step."""
    seen = [0]

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seen[0] += 1
        if seen[0] == steps and parallel.rank() == parallel.world() - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return compared(model, x, y)

    return loss


def train(case: str, folder: Path, stop: int) -> tuple[nn.Module, list[float]]:
    """A case's net after training, and its losses."""
    device = runtime.prepare(1, "cpu+bfloat16" if case == "mixed" else "cpu", 0)
    torch.manual_seed(1 + parallel.rank())  # the first process's weights count
    net = NETS[case]() if case in NETS else Small(0.3 if case == "dropout" else 0.0)
    torch.manual_seed(1)
    if case == "adamw":
        trainee = Trainee(net, [(list(net.parameters()), 0.01)], lambda step: 0.01, clip=1.0)
        return net, fit(trainee, images(), epochs=4, batch=10, seed=3, loss=lambda model, x, y: compared(model.net, x, y))
    losses = {"method": by_method, "stop": stopping_after(stop), **dict.fromkeys(NETS, answered)}
    state = folder / "scratch.state" if case == "stop" else None
    loss = losses.get(case, compared)
    return net, training.train(net, images(), epochs=4, lr=0.1, batch=10, seed=3, device=device, loss=loss, state=state)


def run(case: str, folder: Path, stop: int) -> None:
    """Train one case; the first process writes losses, weights and answers, all check that they end alike."""
    net, history = train(case, folder, stop)
    flat = torch.cat([value.detach().double().reshape(-1) for value in net.state_dict().values()])
    drawn = torch.rand(1)  # generators go on together too
    everyone = parallel.gather(torch.cat([flat, drawn])[None], parallel.world())
    made = {"history": history, "weights": flat.tolist(), "alike": bool((everyone == everyone[0]).all())}
    logits = torch.zeros(1) if case in NETS else training.predict(net, images().x, batch=9)
    artifacts.write_json(folder / f"{case}.json", {**made, "logits": logits.tolist()})
    assert json.loads((folder / f"{case}.json").read_text())["history"] == history  # it is there for all


def main() -> None:
    """Run the cases one after the other."""
    cases, folder, *more = sys.argv[1:]
    for case in cases.split(","):
        run(case, Path(folder), int(dict(item.split("=") for item in more).get("stop", 0)))


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(getattr(error, "code", 1))
