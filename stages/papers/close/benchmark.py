"""The table of truths: stand-alone training of many architectures, in one process and many nets at once."""

from collections.abc import Sequence

import torch

from stages.lib import batched, training
from stages.lib.data import Split
from stages.lib.runtime import derive_seed
from stages.papers.close.settings import Truth
from stages.papers.close.shape import Shape
from stages.papers.close.space import Architecture
from stages.papers.close.standalone import StandAlone, Together


def fresh(shape: Shape, split: Split, architecture: Architecture, seed: int) -> StandAlone:
    """A net whose random weights follow from seed and architecture, not from its place in the table."""
    torch.manual_seed(derive_seed(seed, "truth", *architecture))
    return StandAlone(shape, tuple(split.x.shape[1:]), len(split.classes), architecture)


def together(
    shape: Shape, architectures: Sequence[Architecture], split: Split, held_out: Split, params: Truth, seed: int,
    device: torch.device,
) -> list[float]:  # fmt: skip
    """Test accuracy of each architecture after training, `params.together` nets at once; all see one order of the data."""
    found: list[float] = []
    for start in range(0, len(architectures), params.together):
        part = architectures[start : start + params.together]
        nets = Together([fresh(shape, split, architecture, seed) for architecture in part])
        _train(nets, split, params, seed, device, f"truth {seed}, nets {start + 1} to {start + len(part)}")
        found += batched.accuracies(nets, held_out, len(part), device)
    return found


def one_by_one(
    shape: Shape, architectures: Sequence[Architecture], split: Split, held_out: Split, params: Truth, seed: int,
    device: torch.device,
) -> list[float]:  # fmt: skip
    """What `together` gives, by a loop over plain nets: the control of tests and benchmarks."""
    found = []
    for architecture in architectures:
        net = fresh(shape, split, architecture, seed)
        _train(net, split, params, seed, device, f"truth {seed}")
        found.append(training.evaluate(net, held_out, device))
    return found


def _train(net, split: Split, params: Truth, seed: int, device: torch.device, label: str) -> None:
    training.train(
        net, split, epochs=params.epochs, lr=params.lr, batch=params.batch, weight_decay=params.weight_decay, nesterov=False,
        seed=derive_seed(seed, "truth"), device=device, loss=batched.cross_entropy, label=label,
    )  # fmt: skip
