"""The supernets that are compared. All see the same images and architectures in the same order."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.close.gates import ArchitectureGate, FixedGate, GateShape, NodeGate, RandomGate
from stages.papers.close.settings import Supernets, known_arm
from stages.papers.close.shape import Shape
from stages.papers.close.space import EDGES
from stages.papers.close.supernet import Supernet

# vanilla: every edge owns its weights (a block an edge); glow_1: one block for all edges; glow_3: all blocks from the start.
GATES = {"close": NodeGate, "glow_3": NodeGate, "arch_gate": ArchitectureGate}


@dataclass
class Trainee:
    """A supernet with its gate and the epochs at which its levels start."""

    net: Supernet
    gate: nn.Module
    schedule: tuple[int, ...]


def schedule_of(arm: str, schedule: Sequence[int]) -> tuple[int, ...]:
    """Epochs at which the levels of an arm start. A repeated 1 starts several at once."""
    if arm in ("vanilla", "glow_3"):
        return (1,) * (len(EDGES) if arm == "vanilla" else len(schedule))
    return (1,) if arm == "glow_1" else tuple(schedule)


def build(arm: str, shape: Shape, gate: GateShape, params: Supernets, image: tuple[int, int, int], classes: int,
          repetition: int) -> Trainee:  # fmt: skip
    """The arm's net and gate with the repetition's random weights; StageError for an unknown arm."""
    schedule = schedule_of(known_arm(arm), params.schedule)
    seed_everything(derive_seed(repetition, "init"))
    first = Supernet(shape, image, classes, 1)
    net = Supernet(shape, image, classes, len(schedule))
    net.load_state_dict(first.state_dict(), strict=False)  # the first block and all that is not searched are every arm's
    seed_everything(derive_seed(repetition, "gate"))
    if arm in GATES:
        return Trainee(net, GATES[arm](gate, len(schedule)), schedule)
    if arm == "random_gate":
        return Trainee(net, RandomGate(), schedule)
    return Trainee(net, FixedGate(tuple(range(len(EDGES))) if arm == "vanilla" else (0,) * len(EDGES)), schedule)
