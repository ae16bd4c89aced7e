"""Channel exploration: masks over a net in training, pruned and regrown at fixed times (section 3.4, Algorithm 1).

All that changes (masks, most-recently-used values, velocities, clock, record of the steps) are buffers of the module, so
that a stopped run resumes with them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stages.lib.criteria import l1_order
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed
from stages.papers.chex import allocation, leverage, regrowth
from stages.papers.chex.arms import Arm
from stages.papers.chex.descent import Trainee
from stages.papers.chex.prunable import STATISTICS, Prunable, entries, ownership, prunable_layers

if TYPE_CHECKING:
    from stages.papers.chex.settings import Exploration, Sgd

LOGGED = ("kept", "width", "residual", "entropy")  # of each layer at each exploration step


@dataclass(frozen=True)
class Budget:
    """MACs that every pruning aims at; `cost` takes the widths of the layers that have a consumer."""

    cost: allocation.Cost
    macs: float


class Explorer(Trainee):
    """A net whose channels are explored while `training.train` trains it.

    `budget` None leaves the widths to S alone. The draws of channels follow from `seed`.
    """

    def __init__(
        self, net: nn.Module, sgd: "Sgd", exploration: "Exploration", arm: Arm, steps: int, seed: int, budget: Budget | None
    ) -> None:
        super().__init__(net, sgd, steps, exploration, arm, seed, budget and budget.macs)
        self.exploration, self.arm, self.seed, self.budget = exploration, arm, seed, budget
        self.delta = exploration.delta if arm.regrow else 0.0
        self.events = _events(exploration, steps)
        self.layers = prunable_layers(net, exploration.prune_downsample)
        self.owned = ownership(net, self.layers)
        device = next(net.parameters()).device
        for i, mask in enumerate(self._first_masks()):
            self.register_buffer(f"mask{i}", mask.to(device))
            self.register_buffer(f"seen{i}", mask.to(device).clone())
        for i, name in enumerate(self.owned):
            self.register_buffer(f"mru{i}", self._tensor(name).detach().clone())
        self.register_buffer("log", torch.zeros(len(self.events), len(self.layers), len(LOGGED), dtype=torch.float64))
        self._apply_masks()

    # --- what it holds ----------------------------------------------------------------------------

    @property
    def masks(self) -> list[Tensor]:
        """bool [C] of every prunable layer: the channels that are active."""
        return [getattr(self, f"mask{i}") for i in range(len(self.layers))]

    @property
    def seen(self) -> list[Tensor]:
        """bool [C] of every prunable layer: the channels that have ever been active."""
        return [getattr(self, f"seen{i}") for i in range(len(self.layers))]

    def _tensor(self, name: str) -> Tensor:
        path, _, part = name.rpartition(".")
        return getattr(self.net.get_submodule(path), part)

    def _matrix(self, layer: Prunable) -> Tensor:
        return leverage.columns(self._tensor(f"{layer.producer}.weight"))

    def _entries(self, name: str, masks: Sequence[Tensor]) -> Tensor:
        row, col = self.owned[name]
        chosen = (None if i is None else masks[i] for i in (row, col))
        return entries(self._tensor(name), *chosen)

    # --- time -------------------------------------------------------------------------------------

    def after_step(self) -> None:
        """Update the weights, explore if it is time to, and put pruned weights back to zero."""
        super().after_step()
        if int(self.clock) in self.events:
            self.explore(int(self.clock))
        self._zero()

    def explore(self, step: int) -> None:
        """One exploration step: prune to K^l by the score, restore, regrow."""
        time = self.events[step]
        self._remember()
        scales = [self._tensor(f"{layer.norm}.weight") for layer in self.layers]
        # Both widths come from the scales before anything is pruned: afterwards those of pruned channels are zero.
        keep, grow = self._widths(scales, time)
        matrices = [self._matrix(layer) for layer in self.layers]
        if not all(bool(w.isfinite().all()) for w in matrices):
            raise StageError(f"step {step}: weights are not finite; lower sgd.lr, or look for NaN in the data")
        kept = [leverage.kept_columns(w, k, self.arm.score) for w, k in zip(matrices, keep, strict=True)]
        self._restore()
        chosen = [self._regrown(i, kept[i], grow[i], time) for i in range(len(self.layers))]
        if self.arm.restore == "zero":
            self._set([_mask(len(m), k) for m, k in zip(self.masks, kept, strict=True)])
        self._set([_mask(len(m), torch.cat([k, g])) for m, k, (g, _) in zip(self.masks, kept, chosen, strict=True)])
        rows = [
            (len(k), len(k) + len(g), leverage.residual_share(w, k), h)
            for k, (g, h), w in zip(kept, chosen, matrices, strict=True)
        ]
        self.log[list(self.events).index(step)] = torch.tensor(rows, dtype=torch.float64).to(self.log.device)

    def _widths(self, scales: list[Tensor], time: int) -> tuple[list[int], list[int]]:
        """(K^l, channels to regrow) of every layer at a time.

        With a budget, S is at each step the sparsity that brings the pruned net to its MACs.
        """
        settings, delta = self.exploration, regrowth.decayed(self.delta, time, self.exploration.last)
        sparsity = settings.sparsity
        if self.budget:
            sparsity = allocation.sparsity_at_cost(scales, self._cost, self.budget.macs)
        keep = allocation.widths(scales, sparsity)
        if settings.regrow_rule == "per_layer":
            return keep, [math.ceil(delta * len(scale)) for scale in scales]
        wider = allocation.widths(scales, sparsity - delta) if delta else keep
        return keep, [up - down for up, down in zip(wider, keep, strict=True)]

    def _cost(self, widths: Sequence[int]) -> int:
        cut = [width for width, layer in zip(widths, self.layers, strict=True) if layer.consumer]
        return self.budget.cost(cut)

    def _regrown(self, i: int, kept: Tensor, count: int, time: int) -> tuple[Tensor, float]:
        """(channels of layer i that come back, entropy of their distribution)."""
        free = (~_mask(len(self.masks[i]), kept)).nonzero().flatten()
        p = regrowth.probabilities(self._matrix(self.layers[i]), kept, free, self.arm.sampling)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "regrow", time, i))
        return regrowth.drawn(p, free, count, generator), regrowth.entropy(p)

    # --- masks ------------------------------------------------------------------------------------

    def _first_masks(self) -> list[Tensor]:
        """int(C (1 - (S - delta_0))) filters of largest L1 norm in every layer, at least one."""
        share = 1.0 - (self.exploration.sparsity - self.delta)
        masks = []
        for layer in self.layers:
            weight = self._tensor(f"{layer.producer}.weight")
            masks.append(_mask(len(weight), l1_order(weight.cpu())[: max(1, allocation.place(share, len(weight)))]))
        return masks

    @torch.no_grad()
    def _remember(self) -> None:
        """Most-recently-used values: those of all entries that are active now."""
        for i, name in enumerate(self.owned):
            store, value = getattr(self, f"mru{i}"), self._tensor(name)
            store.copy_(torch.where(self._entries(name, self.masks), value, store))

    @torch.no_grad()
    def _restore(self) -> None:
        """Give every inactive entry its most-recently-used value."""
        for i, name in enumerate(self.owned):
            self._tensor(name).copy_(getattr(self, f"mru{i}"))  # active entries were stored just before

    def _set(self, masks: list[Tensor]) -> None:
        for mask, seen, new in zip(self.masks, self.seen, masks, strict=True):
            mask.copy_(new)
            seen |= mask
        self._apply_masks()

    def _apply_masks(self) -> None:
        """Note which entries the masks leave, in the tensors' own types, and zero the others."""
        weights = [name for name in self.owned if name.rpartition(".")[2] not in STATISTICS]
        self.masked = [self._tensor(name) for name in weights]
        self.factors = [self._entries(name, self.masks).to(self._tensor(name).dtype) for name in weights]
        self._zero()

    @torch.no_grad()
    def _zero(self) -> None:
        torch._foreach_mul_(self.masked, self.factors)
        if self.exploration.mask_momentum:
            torch._foreach_mul_([self.velocity[id(tensor)] for tensor in self.masked], self.factors)

    def load_state_dict(self, *args: object, **options: object) -> object:
        """As of any module; the masks in use follow those that were loaded."""
        found = super().load_state_dict(*args, **options)
        self._apply_masks()
        return found


def _mask(channels: int, index: Tensor) -> Tensor:
    mask = torch.zeros(channels, dtype=torch.bool)
    mask[index.cpu()] = True
    return mask


def _events(exploration: "Exploration", steps: int) -> dict[int, int]:
    """Step after which each exploration step takes place -> its time t; StageError if ticks are shorter than steps."""
    if exploration.ticks > steps:
        raise StageError(f"params.exploration.ticks={exploration.ticks}: a pass has {steps} steps; lower ticks or sgd.batch")
    times = range(exploration.interval, exploration.last + 1, exploration.interval)
    return {time * steps // exploration.ticks: time for time in times}
