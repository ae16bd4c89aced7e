"""WIT, the weight inheritance at the start of a level, on the parameters that the optimiser holds.

The official code replaces tensors of the gate's last layer, which its optimiser then no longer sees until it is built
afresh; here the same Parameter is edited in place. It also adds running statistics of BN, which do not exist here.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from stages.lib.errors import StageError
from stages.papers.close.gates import LearnedGate, Mlp

PARENTS = ("prev", "random")
GATE_RULES = ("inherit", "last", "mlp")


def parent_of(block: int, rule: str, generator: torch.Generator) -> int:
    """The block that a new one inherits from: the one before it, or any of the older ones."""
    if rule == "prev":
        return block - 1
    if rule == "random":
        return int(torch.randint(block, (1,), generator=generator))
    raise StageError(f"wit_from={rule}: expected one of {', '.join(PARENTS)}")


@torch.no_grad()
def inherit_blocks(stacks: Iterable[Sequence[nn.Parameter]], block: int, parent: int) -> None:
    """block <- block's own initial weights + parent's weights, in every stack of K equal-shaped parameters.

    The initial weights stay as a perturbation: mere copies would get equal gradients wherever gates agree.
    """
    for stack in stacks:
        stack[block].add_(stack[parent])


@torch.no_grad()
def inherit_gate(gate: nn.Module, block: int, parent: int, rule: str) -> None:
    """The gate at a new level; gates without weights stay as they are.

    inherit: a new block's row of the last layer gets the parent's added, so that both start about equally probable; last: the
    last layer starts afresh; mlp: all of the MLP does.
    """
    if rule not in GATE_RULES:
        raise StageError(f"gate_at_level={rule}: expected one of {', '.join(GATE_RULES)}")
    for part in gate.modules():
        if isinstance(part, LearnedGate) and rule == "inherit":
            add_rows(part.mlp, part.rows(block), part.rows(parent))
        elif isinstance(part, LearnedGate):
            for layer in [part.mlp.last] if rule == "last" else part.mlp:
                if isinstance(layer, nn.Linear):
                    layer.reset_parameters()


@torch.no_grad()
def add_rows(mlp: Mlp, new: list[int], old: list[int]) -> None:
    """Rows `new` of the last layer's weight and bias += rows `old`."""
    for item in (mlp.last.weight, mlp.last.bias):
        item[new] += item[old]
