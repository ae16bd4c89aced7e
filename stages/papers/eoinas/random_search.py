"""Random architectures, and random search: the strong baseline of differentiable search."""

import dataclasses
from pathlib import Path

import torch

from stages.lib import macs, training
from stages.lib.darts import Genotype
from stages.lib.darts.genotype import INPUTS, Edge
from stages.lib.data import Split
from stages.lib.runtime import derive_seed
from stages.papers.eoinas import descent, nets
from stages.papers.eoinas.settings import NetParams, RandomParams, SpaceParams, TrainParams


def draw(space: SpaceParams, generator: torch.Generator) -> Genotype:
    """A genotype of the space: every pair of predecessors and every operation but `none` alike likely."""
    return Genotype(*(_cell(space, generator) for _ in range(2)))


def _cell(space: SpaceParams, generator: torch.Generator) -> tuple[Edge, ...]:
    names = [name for name in space.operations if name != "none"]
    pairs: list[Edge] = []
    for node in range(space.nodes):
        for source in sorted(torch.randperm(node + INPUTS, generator=generator)[:2].tolist()):
            pairs.append((names[int(torch.randint(len(names), (1,), generator=generator))], source))
    return tuple(pairs)


def best(
    space: SpaceParams, net: NetParams, train: TrainParams, params: RandomParams, halves: tuple[Split, Split],
    budget: int, repetition: int, device: torch.device, state: Path,
) -> tuple[Genotype, int, list[dict]]:  # fmt: skip
    """(genotype, MACs spent, all draws): draws are trained on D_w until `budget` MACs are spent, the best on D_a wins."""
    params.check()
    weights, held_out = halves
    short = dataclasses.replace(train, epochs=params.epochs, lr=params.lr, drop_path=0.0, auxiliary=0.0)
    generator = torch.Generator().manual_seed(derive_seed(repetition, "random search"))
    spent, draws, chosen, reached = 0, [], None, -1.0
    while spent < budget:
        genotype = draw(space, generator)
        model = nets.fresh(genotype, net, weights, repetition, 0, auxiliary=False)
        seed, place = derive_seed(repetition, "draw", len(draws)), state.with_name(f"draw-{len(draws)}-{state.name}")
        descent.fit(model, weights, short, seed, device, place, f"draw {len(draws)}")
        accuracy = training.evaluate(model, held_out, device)
        spent += macs.total(model.record()).macs * (params.epochs * len(weights) + len(held_out))
        draws.append({"genotype": genotype.record(), "accuracy": accuracy})
        if accuracy > reached:
            chosen, reached = genotype, accuracy
    return chosen, spent, draws
