"""The evaluator E of the search: the mean accuracy of short trainings, on held-out images of the training split."""

import dataclasses
from pathlib import Path

import torch

from stages.lib import data, files, runtime, training
from stages.lib.data import AnySplit, Split
from stages.lib.dense import limited
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.greedy_network_enlarging.allocation import Allocation
from stages.papers.greedy_network_enlarging.nets import resized
from stages.papers.greedy_network_enlarging.recipe import fit
from stages.papers.greedy_network_enlarging.settings import Proxy, SearchConfig
from stages.papers.greedy_network_enlarging.space import Space, check_budget, space_of


def subset(split: AnySplit, classes: int, seed: int) -> AnySplit:
    """The images of `classes` classes drawn by the seed, labelled 0, 1, ... anew; the split itself for 0."""
    if classes == 0:
        return split
    if not 2 <= classes <= len(split.classes):
        raise StageError(f"proxy.classes={classes}: expected 0 or 2 to {len(split.classes)}, the data set's classes")
    order = torch.randperm(len(split.classes), generator=torch.Generator().manual_seed(seed))
    chosen = order[:classes].sort().values
    names = tuple(split.classes[i] for i in chosen.tolist())
    mine = split.take(torch.isin(split.y, chosen))
    return dataclasses.replace(mine, y=torch.searchsorted(chosen, mine.y), classes=names)


def halves(split: AnySplit, proxy: Proxy, repetition: int) -> tuple[Split, Split]:
    """(search-train, search-val) of the training split, divided anew for each repetition; the test split plays no part."""
    seed = derive_seed(repetition, "search data")
    part = limited(subset(split, proxy.classes, seed), proxy.recipe.limit, seed)
    held = round(proxy.held_out * len(part))
    if held < len(part.classes) or len(part) - held < len(part.classes):
        raise StageError(
            f"proxy: {len(part)} images with {held} held out: expected one of each class on both sides; use more images"
        )
    index = data.stratified(part.y.numpy(), {"val": held, "train": len(part) - held}, seed % 2**32)
    train, val = (part.take(torch.from_numpy(index[name])) for name in ("train", "val"))
    return train, dataclasses.replace(val, name="search-val")


class Evaluator:
    """E(alpha), remembered by configuration. Every training starts from seeds of the repetition alone, so a remembered
    value is the one that a fresh evaluation gives, in any job and order.
    """

    def __init__(
        self, space: Space, split: AnySplit, proxy: Proxy, repetition: int, device: torch.device, scratch: Path | None = None
    ) -> None:
        self.proxy, self.repetition, self.device, self.scratch = proxy, repetition, device, scratch
        self.train, self.val = halves(split, proxy, repetition)
        self.space = dataclasses.replace(space, classes=len(self.train.classes))
        self.known: dict[Allocation, list[float]] = {}

    def accuracies(self, net: Allocation) -> list[float]:
        """Accuracy on search-val after each of the proxy trainings."""
        if net not in self.known:
            self.known[net] = [self._train(net, i) for i in range(self.proxy.trainings)]
        return self.known[net]

    def __call__(self, net: Allocation) -> float:
        """Their mean, the score of the search."""
        found = self.accuracies(net)
        return sum(found) / len(found)

    def spent(self, net: Allocation) -> int:
        """Multiply-adds of the forward passes of one evaluation, all its trainings together."""
        passes = self.proxy.trainings * self.proxy.recipe.epochs * len(self.train)
        return self.space.macs(net) * passes

    def _train(self, net: Allocation, number: int) -> float:
        seed_everything(derive_seed(self.repetition, "proxy", number))
        made = self.space.build(net)
        # Images are resized once, not at every step.
        train, val = (dataclasses.replace(part, x=resized(part.x, net.resolution)) for part in (self.train, self.val))
        state = self.scratch.with_name(f"{self.scratch.name}-{len(self.known)}-{number}.state") if self.scratch else None
        seed, label = derive_seed(self.repetition, "proxy order", number), f"proxy {number} of {self.repetition}"
        fit(made, train, self.proxy.recipe, seed, self.device, state, label)
        return training.evaluate(made, val, self.device)


def opened(cfg: SearchConfig, output: Path) -> tuple[Space, list[Evaluator]]:
    """The search space of a stage's data set, and an evaluator for each of its repetitions. `output` names scratch files."""
    device, repetitions = runtime.prepare(cfg.threads, cfg.device, cfg.seed), files.repetitions(cfg.seed, cfg.repeats)
    split = data.pixels(cfg.dataset, "train")
    space = space_of(cfg.net, split.x.shape[1], len(split.classes))
    check_budget(space, cfg.search)
    return space, [
        Evaluator(space, split, cfg.proxy, repetition, device, files.scratch(output, repetition, "proxy"))
        for repetition in repetitions
    ]
