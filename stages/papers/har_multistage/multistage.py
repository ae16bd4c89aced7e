"""Stage 2: merging the extractors, combined or one by one (section 3.4)."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.har_multistage.extractor import FusionHead
from stages.papers.har_multistage.individual import Branch, ordered
from stages.papers.har_multistage.learning import Examples, Trained, learn, score
from stages.papers.har_multistage.merged import HeadOnly, Merged, Newest, features_of
from stages.papers.har_multistage.problem import Problem
from stages.papers.har_multistage.settings import Params, Schedule

FITTED = ("train", "val")


@dataclasses.dataclass(frozen=True)
class Run:
    """What all trainings of one repetition share."""

    problem: Problem
    params: Params
    seed: int
    device: torch.device
    state: Callable[[str], Path | None]  # the scratch file for a purpose
    label: str

    def learn(self, net: torch.nn.Module, parts: list[Examples], schedule: Schedule, purpose: str, stay: bool) -> Trained:
        """Train by a schedule with generators of the purpose's own."""
        seed_everything(derive_seed(self.seed, purpose))
        return learn(
            net, *parts, schedule, batch=self.params.batch, seed=self.seed, label=f"{self.label} {purpose}",
            state=self.state(purpose), device=self.device, may_stay=stay,
        )  # fmt: skip

    def parts(self, *names: str) -> list[Examples]:
        """Training and validation windows in some spaces."""
        return [self.problem.examples(part, *names) for part in FITTED]


@dataclasses.dataclass(frozen=True)
class Combined:
    """Option A: the net after its head was trained over frozen extractors, the net after all was tuned, passes of each."""

    frozen: Merged
    tuned: Merged
    frozen_passes: int
    passes: int
    curve: list[float]  # of the validation windows, in stages 2a and 2b


@dataclasses.dataclass(frozen=True)
class Sequential:
    """Option B: the net, which branches helped, passes of the first branch."""

    net: Merged
    kept: list[str]
    dropped: list[str]
    passes: int


def merge(branches: list[Branch], params: Params, classes: int, seed: int) -> Merged:
    """Copies of trained extractors under a new head with random weights."""
    seed_everything(derive_seed(seed, "fusion", len(branches)))
    head = FusionHead(params.net, len(branches), classes)
    return Merged({one.name: copy.deepcopy(one.extractor) for one in branches}, head)


def cached(net: Merged, run: Run) -> dict[str, Tensor]:
    """Features of all branches of the fitted parts, by part, as the frozen extractors give them."""
    net.to(run.device)
    found = {}
    for part in FITTED:
        inputs = run.problem.examples(part, *net.names).inputs
        pairs = zip(net.branches.values(), inputs, strict=True)
        found[part] = torch.cat([features_of(branch, x.to(run.device)).cpu() for branch, x in pairs], dim=1)
    return found


def train_head(net: Merged, run: Run, purpose: str) -> Trained:
    """Stage 2a: the head over frozen extractors, whose features are computed once."""
    features = cached(net, run)
    parts = [Examples((features[part],), run.problem.labels[part]) for part in FITTED]
    return run.learn(HeadOnly(net.head), parts, run.params.stages.head, purpose, stay=False)


def combined(branches: dict[str, Branch], run: Run) -> Combined:
    """Option A: 2a trains the head, 2b everything at a tenth of the rate, all normalisations in train mode."""
    net = merge(list(branches.values()), run.params, run.problem.classes, run.seed)
    head = train_head(net, run, "combined head")
    frozen = copy.deepcopy(net)
    tuned = run.learn(net, run.parts(*net.names), run.params.stages.tune, "combined tune", stay=True)
    single = max(one.trained.passes for one in branches.values())
    passes = single + head.passes
    return Combined(frozen.eval(), net, passes, passes + tuned.passes, head.curve + tuned.curve)


def sequential(branches: dict[str, Branch], run: Run) -> Sequential:
    """Option B: branches in the order of their accuracy; a branch that lowers the validation accuracy is left out."""
    first, *others = ordered(branches)
    net, kept, dropped = copy.deepcopy(branches[first].net), [first], []
    accuracy, passes = branches[first].trained.accuracy, branches[first].trained.passes
    for name in others:
        grown, reached = grow(net, branches[name], run)
        if reached >= accuracy:
            net, accuracy, kept = grown, reached, [*kept, name]
        else:
            dropped.append(name)
    if len(kept) > 1:
        last = run.learn(net, run.parts(*net.names), run.params.stages.last, "sequential last", stay=True)
        passes += last.passes
    return Sequential(net.eval(), kept, dropped, passes)


def grow(net: Merged, branch: Branch, run: Run) -> tuple[Merged, float]:
    """(the net with one branch more, its validation accuracy): a new head, then the head with the newest extractor."""
    count = len(net.branches) + 1
    seed_everything(derive_seed(run.seed, "fusion", branch.name, count))
    head = FusionHead(run.params.net, count, run.problem.classes)
    grown = Merged({**{name: copy.deepcopy(one) for name, one in net.branches.items()},
                    branch.name: copy.deepcopy(branch.extractor)}, head)  # fmt: skip
    train_head(grown, run, f"sequential head {branch.name}")
    older = Merged({name: grown.branches[name] for name in net.names}, head)
    features = cached(older, run)
    parts = [Examples((features[part], run.problem.spaces[part][branch.name]), run.problem.labels[part]) for part in FITTED]
    newest = Newest(grown.branches[branch.name], head)
    run.learn(newest, parts, run.params.stages.newest, f"sequential newest {branch.name}", stay=True)
    return grown.eval(), score(grown, run.problem.examples("val", *grown.names))[0]
