"""The paper's supernets for a few steps: two levels with inheritance between them, a small search, the chosen net."""

from collections.abc import Callable, Hashable
from random import Random
from typing import Any

import torch
from torch import nn

from stages.lib import macs, models
from stages.lib.darts import darts_record
from stages.lib.data import Split
from stages.lib.evolution import Evolution, Operators, evolve
from stages.lib.optim import Sgd
from stages.papers.close import curriculum, scoring, search, space, training
from stages.papers.close.arms import Trainee
from stages.papers.close.darts_net import DartsGate, DartsSupernet
from stages.papers.close.gates import NodeGate
from stages.papers.close.nds_net import NdsArchitecture, NdsGate, NdsSupernet
from stages.papers.close.settings import ShakedownParams, Supernets
from stages.papers.close.shape import DartsShape, GateShape, NdsShape, Shape
from stages.papers.close.standalone import StandAlone
from stages.papers.close.supernet import Supernet

EVALUATED = {"cells": 20, "channels": 36}  # the net that a found genotype is trained as on CIFAR-10


def nb201(shape: Shape, gate: GateShape, params: Supernets, split: Split, amounts: ShakedownParams) -> dict[str, Any]:
    """NAS-Bench-201: facts about the supernet and the stand-alone net of the chosen architecture."""
    blocks, image, classes = len(params.schedule), tuple(split.x.shape[1:]), len(split.classes)
    trainee = Trainee(Supernet(shape, image, classes, blocks), NodeGate(gate, blocks), tuple(params.schedule))
    operators = search.cell_operators(space.searchable())
    best, facts = _trial(trainee, operators, params, split, amounts)
    alone = StandAlone(shape, image, classes, best)
    return {**facts, "chosen": space.text(best), "chosen_parameters": macs.parameters(alone)}


def nb301(shape: DartsShape, gate: GateShape, params: Supernets, split: Split, amounts: ShakedownParams) -> dict[str, Any]:
    """The DARTS space: facts about the supernet and the net as which the chosen genotype is trained."""
    blocks, image, classes = len(params.schedule), tuple(split.x.shape[1:]), len(split.classes)
    net = DartsSupernet(shape, image, classes, blocks)
    trainee = Trainee(net, DartsGate(gate, shape.nodes, blocks), tuple(params.schedule))
    best, facts = _trial(trainee, search.genotype_operators(shape.nodes), params, split, amounts)
    with torch.device("meta"):
        alone = models.build(darts_record(best, image=list(image), classes=classes, **EVALUATED))
    return {**facts, "chosen": best.record(), "chosen_parameters": macs.parameters(alone)}


def nds(shape: NdsShape, params: Supernets, split: Split, amounts: ShakedownParams) -> dict[str, Any]:
    """ResNet of NDS: facts about the supernet; the first level has as many groups as the schedule has ones."""
    net = NdsSupernet(shape, tuple(split.x.shape[1:]), len(split.classes), len(params.schedule))
    trainee = Trainee(net, NdsGate(shape), tuple(params.schedule))

    def draw(generator: Random) -> NdsArchitecture:
        picks = [[generator.choice(choices) for _ in range(shape.stages)] for choices in (shape.depths, shape.widths)]
        return NdsArchitecture(*map(tuple, picks))

    operators = Operators(draw, lambda parent, generator: draw(generator), lambda a, b, generator: a, lambda candidate: True)
    best, facts = _trial(trainee, operators, params, split, amounts)
    return {**facts, "chosen": {"depths": list(best.depths), "widths": list(best.widths)}}


def _trial(
    trainee: Trainee, operators: Operators, params: Supernets, split: Split, amounts: ShakedownParams
) -> tuple[Hashable, dict[str, Any]]:
    """Steps at two levels, evolution by one-shot scores; (best candidate, facts)."""
    curriculum.check(trainee.schedule, params.epochs, trainee.net.blocks)
    model = training.Learner(trainee, 1, 1).to(split.x.device).train()
    run = training.Run(model, Sgd(model.parameters(), params.lr, params.momentum, params.weight_decay, nesterov=False))
    generator, noise = Random(0), torch.Generator().manual_seed(0)
    first = curriculum.level(trainee.schedule, 1)
    for level in (first, first + 1):
        if level > first:
            training.grow(model.net, model.gate, level - 1, params, noise)
        for _ in range(amounts.steps):
            index = torch.randperm(len(split), generator=noise)[: amounts.batch]
            x, y = split.x[index], split.y[index]
            training.step(run, operators.random(generator), x, y, level, noise, params.clip)
    score = _scorer(model.net, model.gate, split, first + 1)
    evolution = Evolution(population=amounts.scored // 2, generations=2, parents=1, mutations=1, crossovers=0)
    found = evolve(operators, score, evolution, generator)
    parts = {name: macs.parameters(part) for name, part in (("parameters", model.net), ("gate_parameters", model.gate))}
    parts |= {"batch": amounts.batch, "batch_at_full_scale": params.batch, "scored": found.evaluations}
    sizes = {"image": list(split.x.shape[1:]), "blocks": model.net.blocks, "levels": [first, first + 1]}
    return found.best, {**parts, **sizes}


def _scorer(net: nn.Module, gate: nn.Module, split: Split, level: int) -> Callable[[Hashable], float]:
    return lambda candidate: scoring.scores(net, gate, [candidate], split, level, split.x.device)[0]
