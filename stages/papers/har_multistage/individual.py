"""Stage 1: an extractor with a head of its own in every transformed space (section 3.4)."""

import dataclasses
from pathlib import Path

import torch

from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.har_multistage.extractor import Extractor, SingleHead
from stages.papers.har_multistage.learning import Trained, learn
from stages.papers.har_multistage.merged import Merged
from stages.papers.har_multistage.problem import Problem
from stages.papers.har_multistage.settings import REGISTRY, Params


@dataclasses.dataclass(frozen=True)
class Branch:
    """A trained extractor with the head that it was trained with."""

    name: str
    net: Merged
    trained: Trained

    @property
    def extractor(self) -> Extractor:
        """The extractor alone."""
        return self.net.branches[self.name]


def fresh_branch(name: str, shape: tuple[int, ...], params: Params, classes: int, seed: int) -> Merged:
    """A branch with its random weights, the same for every arm of a repetition."""
    seed_everything(derive_seed(seed, "init", name))
    return Merged({name: Extractor(shape, params.net)}, SingleHead(params.net, classes))


def train_branch(
    name: str, problem: Problem, params: Params, seed: int, device: torch.device, state: Path | None, label: str
) -> Branch:
    """Stage 1 in one transformed space; the extractor of the best validation epoch is kept."""
    net = fresh_branch(name, problem.shapes[name], params, problem.classes, seed)
    parts = problem.examples("train", name), problem.examples("val", name)
    seed_everything(derive_seed(seed, "single", name))
    told = learn(net, *parts, params.stages.single, batch=params.batch, seed=seed, label=label, state=state, device=device)
    return Branch(name, net, told)


def ordered(branches: dict[str, Branch]) -> list[str]:
    """Names by falling validation accuracy of stage 1; ties in the registry's order."""
    return sorted(branches, key=lambda name: (-branches[name].trained.accuracy, REGISTRY.index(name)))
