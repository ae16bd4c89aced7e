"""The strong baselines: the merged net from random weights, and a wider net of the raw windows, at equal passes."""

import dataclasses

import torch

from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.har_multistage import cost
from stages.papers.har_multistage.extractor import Extractor, FusionHead, SingleHead
from stages.papers.har_multistage.individual import fresh_branch
from stages.papers.har_multistage.learning import Trained
from stages.papers.har_multistage.merged import Merged
from stages.papers.har_multistage.multistage import Run
from stages.papers.har_multistage.settings import Schedule, Stages


def whole_schedule(stages: Stages) -> Schedule:
    """Stage 1's schedule with the passes of all stages of the combined option, at a rate of its own."""
    passes = stages.single.epochs + stages.head.epochs + stages.tune.epochs
    return dataclasses.replace(stages.single, epochs=passes, lr=stages.scratch_lr)


def joint(run: Run) -> tuple[Merged, Trained]:
    """The merged net trained at once; its extractors begin with the weights that stage 1 began with."""
    shapes, params, classes = run.problem.shapes, run.params, run.problem.classes
    branches = {name: fresh_branch(name, shape, params, classes, run.seed).branches[name] for name, shape in shapes.items()}
    seed_everything(derive_seed(run.seed, "fusion", len(branches)))
    net = Merged(branches, FusionHead(params.net, len(branches), classes))
    return net, run.learn(net, run.parts(*shapes), whole_schedule(params.stages), "joint", stay=False)


def widened(run: Run) -> tuple[Merged, Trained]:
    """The raw windows' extractor with about as many parameters as the merged net."""
    shapes, classes = run.problem.shapes, run.problem.classes
    name = "raw" if "raw" in shapes else next(iter(shapes))
    shape = shapes[name]
    wanted = cost.merged_parameters(shapes, run.params.net, classes)
    wide = cost.widened(shape, run.params.net, classes, wanted)
    seed_everything(derive_seed(run.seed, "init", "widened"))
    net = Merged({name: Extractor(shape, wide)}, SingleHead(wide, classes))
    return net, run.learn(net, run.parts(name), whole_schedule(run.params.stages), "widened", stay=False)


def late_average(logits: list[torch.Tensor]) -> torch.Tensor:
    """Log of the mean of several softmaxes [N, K]."""
    return torch.stack([one.softmax(1) for one in logits]).mean(0).log()
