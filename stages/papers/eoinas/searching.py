"""The search: weights and architecture parameters in turn, operations given up on the way (sections 3.1 to 3.5)."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from stages.lib import parallel
from stages.lib.darts import Genotype
from stages.lib.darts.genotype import CELLS
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.gumbel import gumbel_softmax
from stages.lib.optim import Sgd
from stages.lib.runtime import derive_seed, seed_everything
from stages.lib.shares import shared_out
from stages.papers.eoinas.adam import Adam
from stages.papers.eoinas.arms import Searcher
from stages.papers.eoinas.importance import Statistics, columns_without, derive, indicator, least, remaining, strongest
from stages.papers.eoinas.settings import SearchParams
from stages.papers.eoinas.supernet import Space, Supernet


def temperature(params: SearchParams, epoch: int) -> float:
    """tau in epoch 0, 1, ...: constant while warming up, then falling by a factor an epoch."""
    return params.temperature * params.temperature_decay ** max(0, epoch - params.warmup)


def skip_dropout(params: SearchParams, epoch: int) -> float:
    """Dropout of skip connections: falls linearly while warming up, then exponentially."""
    if epoch < params.warmup:
        return params.dropout * (params.epochs - epoch - 1) / params.epochs
    return params.dropout * math.exp(-params.dropout_decay * (epoch - params.warmup))


def weight_rate(params: SearchParams, epoch: int) -> float:
    """Learning rate of the weights: cosine from lr to 0, constant within an epoch."""
    return params.lr * 0.5 * (1.0 + math.cos(math.pi * epoch / params.epochs))


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean over pictures, or over all pixels [N, classes, H, W]: in one list, since that is deterministic on a GPU too."""
    return nn.functional.cross_entropy(logits.movedim(1, -1).flatten(0, -2), y.flatten())


class Search:
    """A supernet in search.

    alphas: float32 [edges, operations left] by cell type. statistics: the same. cost: MACs of a picture's forward pass now.
    spent: those of all forward passes so far. events: one entry a drop, of plain values.
    """

    def __init__(self, space: Space, params: SearchParams, searcher: Searcher, repetition: int, device: torch.device) -> None:
        self.params, self.searcher, self.device, self.repetition = params, searcher, device, repetition
        seed_everything(derive_seed(repetition, "supernet"))
        self.net = Supernet(space).to(device)
        shape = (space.edges, len(space.operations))
        generator = torch.Generator().manual_seed(derive_seed(repetition, "alpha"))
        draws = {name: torch.randn(shape, generator=generator) for name in CELLS}
        self.alphas = {name: (params.alpha_init * draw).to(device).requires_grad_() for name, draw in draws.items()}
        self.statistics = {name: Statistics(*shape, params.accuracy) for name in CELLS}
        self.optimiser, self.adam, self.cost = self._fresh_sgd(), self._fresh_adam(), self.net.macs()
        self.noise = torch.Generator().manual_seed(derive_seed(repetition, "gumbel"))
        self.order = torch.Generator().manual_seed(derive_seed(repetition, "order"))
        self.epoch, self.spent = 0, 0
        self.losses: list[float] = []
        self.events: list[dict[str, Any]] = []
        self.strengths: dict[str, list[float]] = {}

    def _fresh_sgd(self) -> Sgd:
        params = self.params
        return Sgd(self.net.parameters(), params.lr, params.momentum, params.weight_decay, nesterov=False)

    def _fresh_adam(self) -> Adam:
        betas = (self.params.alpha_betas[0], self.params.alpha_betas[1])
        return Adam(list(self.alphas.values()), self.params.alpha_lr, betas, self.params.alpha_decay)

    # --- steps --------------------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """Mixing weights by cell type, one draw for all cells of a type; with gradients to the alphas."""
        if not self.searcher.gumbel:
            return {name: torch.softmax(alpha, -1) for name, alpha in self.alphas.items()}
        tau = temperature(self.params, self.epoch)
        return {name: gumbel_softmax(alpha, tau, self.noise) for name, alpha in self.alphas.items()}

    def weight_step(self, x: Tensor, y: Tensor) -> Tensor:
        """One SGD step of the net's weights on a batch of D_w; the alphas are left alone. Returns the loss."""
        mixing = {name: value.detach() for name, value in self.weights().items()}
        self.optimiser.zero_grad()
        loss = cross_entropy(self.net(x, mixing), y)
        loss.backward()
        parallel.average(self.net.parameters())
        nn.utils.clip_grad_norm_(self.optimiser.parameters, self.params.clip)
        self.optimiser.step()
        self.spent += len(x) * self.cost
        if self.epoch >= self.params.warmup:
            for name, statistics in self.statistics.items():
                statistics.drawn(mixing[name])
        return loss.detach()

    def alpha_step(self, x: Tensor, y: Tensor) -> None:
        """One Adam step of the alphas on a batch of D_a (first order); the weights are left alone."""
        mixing = self.weights()
        logits = self.net(x, mixing)
        values = list(self.alphas.values())
        gradients = torch.autograd.grad(cross_entropy(logits, y), values)
        parallel.mean(gradients)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        scale = float((self.params.clip / (norm + 1e-6)).clamp(max=1.0))
        self.adam.step([gradient * scale for gradient in gradients])
        self.spent += len(x) * self.cost
        percent = 100.0 * float((logits.argmax(1) == y).double().mean())
        for name, statistics in self.statistics.items():
            statistics.reached(mixing[name], percent)

    def run_epoch(self, train: Split, held_out: Split) -> None:
        """One pass over D_w; after warm-up each weight step is followed by an alpha step on a batch of D_a."""
        params, size = self.params, self.params.batch
        self.net.train()
        self.net.dropout = skip_dropout(params, self.epoch)
        self.optimiser.lr = weight_rate(params, self.epoch)
        seed_everything(derive_seed(self.repetition, "dropout", self.epoch))
        order = torch.randperm(len(train), generator=self.order)
        other = torch.randperm(len(held_out), generator=self.order)
        total, steps = torch.zeros((), dtype=torch.float64, device=self.device), range(0, len(train), size)
        with shared_out(self.net):
            for start in steps:
                index = order[start : start + size]
                total += self.weight_step(train.x[index].to(self.device), train.y[index].to(self.device))
                if self.epoch >= params.warmup:
                    index = other[start : start + size]
                    self.alpha_step(held_out.x[index].to(self.device), held_out.y[index].to(self.device))
        self.losses.append(self._finite(float(total) / len(steps)))
        self.epoch += 1

    def _finite(self, loss: float) -> float:
        if not math.isfinite(loss) or not all(bool(alpha.isfinite().all()) for alpha in self.alphas.values()):
            raise StageError(f"search: the loss is not finite in epoch {self.epoch + 1}; lower search.lr or search.alpha_lr")
        return loss

    # --- giving up operations -------------------------------------------------------------------------

    def importance(self) -> dict[str, Tensor]:
        """Importance [edges, operations left] (float64, CPU) by cell type, as the arm defines it."""
        weight = self.params.indicator if self.searcher.indicator else 0.0
        return {
            name: indicator(alpha.detach().cpu().double(), self.statistics[name].accuracy, self.statistics[name].count, weight)
            for name, alpha in self.alphas.items()
        }

    def prune(self) -> None:
        """Every edge gives up its least important operation; all other weights, velocities and alphas are inherited."""
        importance = self.importance()
        dropped = {name: least(self.net.kept[name], importance[name]) for name in CELLS}
        self.events.append({
            "epoch": self.epoch, "dropped": dropped, "macs_before": self.cost,
            "importance": {name: value.tolist() for name, value in importance.items()},
            "count": {name: value.count.tolist() for name, value in self.statistics.items()},
            "accuracy": {name: value.accuracy.tolist() for name, value in self.statistics.items()},
        })  # fmt: skip
        if len(self.net.kept[CELLS[0]][0]) == 2:  # later the softmax over what is left is 1 on every edge
            self.strengths = {name: remaining(self.net.kept[name], dropped[name], importance[name]).tolist() for name in CELLS}
        columns = {name: columns_without(self.net.kept[name], dropped[name]) for name in CELLS}
        self.net.drop(dropped)
        with torch.no_grad():
            self.alphas = {
                name: alpha.gather(1, columns[name].to(alpha.device)).requires_grad_() for name, alpha in self.alphas.items()
            }
        for name, statistics in self.statistics.items():
            statistics.keep(columns[name])
        self.renew()
        self.events[-1]["macs_after"] = self.cost

    def renew(self) -> None:
        """A fresh Adam, and an SGD without the parameters that are gone; the others keep their velocities."""
        old = {id(p): v for p, v in zip(self.optimiser.parameters, self.optimiser.velocity, strict=True)}
        fresh = self._fresh_sgd()
        fresh.velocity = [old.get(id(p), v) for p, v in zip(fresh.parameters, fresh.velocity, strict=True)]
        self.optimiser, self.adam, self.cost = fresh, self._fresh_adam(), self.net.macs()

    def genotype(self) -> Genotype:
        """The cells that are left: one operation an edge, two edges a node."""
        nodes, cells = self.net.space.nodes, {}
        for name, importance in self.importance().items():
            if self.searcher.prune:
                operations, strengths = [edge[0] for edge in self.net.kept[name]], self.strengths[name]
            else:
                operations, strengths = strongest(self.net.kept[name], importance)
            cells[name] = derive(nodes, operations, strengths)
        return Genotype(**cells)


def space_of(split: Split, params: Any, dense: bool = False) -> Space:
    """The space that `settings.SpaceParams` describe, for the pictures of a split."""
    params.check()
    return Space(
        tuple(split.x.shape[1:]), len(split.classes), tuple(params.operations), params.nodes, params.cells, params.channels,
        params.stem, dense,
    )  # fmt: skip


def planted(space: Space, replaced: str, name: str) -> Space:
    """The space in which the operation `name` stands in the place of another one on every edge."""
    if replaced not in space.operations:
        raise StageError(f"planted.replaced={replaced}: expected one of {', '.join(space.operations)}")
    return dataclasses.replace(space, operations=tuple(name if op == replaced else op for op in space.operations))
